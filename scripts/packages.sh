# The Debian packages that Lathe needs; sourced by the other scripts.
# CMake's search for oneDNN looks for OpenCL too, which libdnnl-dev only recommends.
build_packages=(
  g++ cmake ninja-build
  libfmt-dev libdnnl-dev ocl-icd-opencl-dev opencl-c-headers
  nlohmann-json3-dev libtomlplusplus-dev libxxhash-dev
)

# libomp-dev is clang's omp.h: clang-tidy does not find g++'s.
test_packages=(libgtest-dev clang-format-14 clang-tidy-14 libomp-dev python3 curl)

# For scripts/fuzz.sh: libFuzzer comes with clang's runtime.
fuzz_packages=(clang-14 libclang-rt-14-dev libomp-dev)
