# The Debian packages that Lathe needs; sourced by the other scripts.
# CMake's search for oneDNN looks for OpenCL too, which libdnnl-dev only recommends.
build_packages=(
  g++ cmake ninja-build
  libfmt-dev libdnnl-dev ocl-icd-opencl-dev opencl-c-headers
  nlohmann-json3-dev libtomlplusplus-dev libxxhash-dev libmd-dev libisal-dev libopenmpi-dev
)

# clang-tidy comes from PyPI (scripts/lint.sh).
test_packages=(libgtest-dev clang-format-14 python3 python3-venv curl strace valgrind openmpi-bin)

# For scripts/fuzz.sh: libFuzzer comes with clang's runtime, and omp.h is clang's own.
fuzz_packages=(clang-14 libclang-rt-14-dev libomp-dev)

# For tests/transformers_test.py alone. PyTorch's BLAS is a recommendation only.
transformers_packages=(python3-torch libopenblas0-pthread python3-venv)
