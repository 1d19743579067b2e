# The CUDA backend: machine code for the GPUs of LATHE_GPU_ARCHITECTURES, and always the PTX of sm_80,
# which later GPUs can run, and of sm_90a.
set(LATHE_GPU_ARCHITECTURES auto CACHE STRING
  "auto (the GPUs of this machine, or 80 and 90a), all, or a list of 80 86 89 90a 100 120")
set(architectures ${LATHE_GPU_ARCHITECTURES})
if(architectures STREQUAL "all")
  set(architectures 80 86 89 90a 100 120)
elseif(architectures STREQUAL "auto")
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
    OUTPUT_VARIABLE architectures ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  string(REPLACE "." "" architectures "${architectures}")
  string(REPLACE "\n" ";" architectures "${architectures}")
  list(TRANSFORM architectures REPLACE "^90$" "90a")
  list(REMOVE_DUPLICATES architectures)
  if(NOT architectures MATCHES "^[0-9a;]+$")  # no GPU, or no driver that knows
    set(architectures 80 90a)
  endif()
endif()
message(STATUS "CUDA backend for sm_${architectures}")
set(lathe_gencode)
foreach(architecture ${architectures})
  list(APPEND lathe_gencode -gencode=arch=compute_${architecture},code=sm_${architecture})
endforeach()
foreach(architecture 80 90a)
  list(APPEND lathe_gencode -gencode=arch=compute_${architecture},code=compute_${architecture})
endforeach()

set(CMAKE_CUDA_ARCHITECTURES OFF)
set(CMAKE_CUDA_RUNTIME_LIBRARY None)
enable_language(CUDA)
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # Debian 12's CMake does not know it
find_package(CUDAToolkit REQUIRED)

file(GLOB cuda_sources CONFIGURE_DEPENDS kernels/cuda/*.cu kernels/cuda/*.cpp)
list(FILTER cuda_sources EXCLUDE REGEX "/(cublaslt|nccl)_loader\\.cpp$")
# Only NCCL's header is needed: the library is loaded when GPUs meet.
find_path(LATHE_NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
set(loader_sources kernels/cuda/cublaslt_loader.cpp)
if(LATHE_NCCL_INCLUDE_DIR)
  file(GLOB nccl_sources CONFIGURE_DEPENDS kernels/cuda/nccl/*.cpp)
  list(APPEND loader_sources kernels/cuda/nccl_loader.cpp)
else()
  file(GLOB nccl_sources CONFIGURE_DEPENDS kernels/no_nccl/*.cpp)
  message(STATUS "No nccl.h: several GPUs are neither built nor tested")
endif()
list(APPEND cuda_sources ${nccl_sources})
add_library(lathe_cuda OBJECT ${cuda_sources})
target_include_directories(lathe_cuda PUBLIC include kernels/cuda PRIVATE src)
target_include_directories(lathe_cuda SYSTEM PUBLIC ${CUDAToolkit_INCLUDE_DIRS})
if(LATHE_NCCL_INCLUDE_DIR)
  target_include_directories(lathe_cuda SYSTEM PUBLIC ${LATHE_NCCL_INCLUDE_DIR})
endif()
target_compile_options(lathe_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:${lathe_gencode} --expt-relaxed-constexpr -lineinfo -Xfatbin=-compress=false -Xcompiler=-Wall,-Wextra,-Wshadow>
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow>)
if(LATHE_WARNINGS_AS_ERRORS)
  target_compile_options(lathe_cuda PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings -Xcompiler=-Werror>
    $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
target_link_libraries(lathe_cuda PRIVATE fmt::fmt nlohmann_json::nlohmann_json)

# The real runtime: of CUDA's libraries only the runtime is linked, cuBLASLt and NCCL are loaded when
# they are first used, from the library path or else from where the toolkit had them.
add_library(lathe_cuda_runtime OBJECT ${loader_sources})
if(LATHE_NCCL_INCLUDE_DIR)
  target_include_directories(lathe_cuda_runtime SYSTEM PRIVATE
    ${CUDAToolkit_INCLUDE_DIRS} ${LATHE_NCCL_INCLUDE_DIR})
endif()
target_link_libraries(lathe_cuda_runtime
  PUBLIC CUDA::cudart_static ${CMAKE_DL_LIBS}
  PRIVATE lathe_warnings)
target_link_options(lathe_cuda_runtime INTERFACE -Wl,-rpath,${CUDAToolkit_LIBRARY_DIR})
