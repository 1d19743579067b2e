# The CUDA backend. CMAKE_CUDA_ARCHITECTURES: of the GPUs to build for; their PTX goes along for
# sm_80 and sm_90a, so that later GPUs can run the former.
set(CMAKE_CUDA_ARCHITECTURES 80 90a CACHE STRING "GPU architectures")
set(CMAKE_CUDA_RUNTIME_LIBRARY None)
enable_language(CUDA)
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # Debian 12's CMake does not know it
find_package(CUDAToolkit REQUIRED)

file(GLOB cuda_sources CONFIGURE_DEPENDS kernels/cuda/*.cu kernels/cuda/*.cpp)
list(FILTER cuda_sources EXCLUDE REGEX "/cublaslt_loader\\.cpp$")
add_library(lathe_cuda OBJECT ${cuda_sources})
target_include_directories(lathe_cuda PUBLIC include kernels/cuda)
target_include_directories(lathe_cuda SYSTEM PUBLIC ${CUDAToolkit_INCLUDE_DIRS})
target_compile_options(lathe_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo -Xfatbin=-compress=false $<$<BOOL:${LATHE_WERROR}>:-Werror=all-warnings>
    -Xcompiler=-Wall,-Wextra,-Wshadow$<$<BOOL:${LATHE_WERROR}>:,-Werror>>
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow $<$<BOOL:${LATHE_WERROR}>:-Werror>>)
target_link_libraries(lathe_cuda PRIVATE fmt::fmt nlohmann_json::nlohmann_json)

# The real runtime: of CUDA's libraries only the runtime is linked, cuBLASLt is loaded when a GPU is
# used, from the library path or else from where the toolkit had it.
add_library(lathe_cuda_runtime OBJECT kernels/cuda/cublaslt_loader.cpp)
target_link_libraries(lathe_cuda_runtime
  PUBLIC CUDA::cudart_static ${CMAKE_DL_LIBS}
  PRIVATE lathe_warnings)
target_link_options(lathe_cuda_runtime INTERFACE -Wl,-rpath,${CUDAToolkit_LIBRARY_DIR})
