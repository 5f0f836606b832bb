# _cuda: the kernels compiled by nvcc for sm_80 (and, as PTX that the driver compiles once, whatever comes later), for
# Hopper's own instructions (sm_90a) and for consumer Blackwell (sm_120).
set(FASTNET_CUDA_ARCHITECTURES "80-real;80-virtual;90a-real;120-real" CACHE STRING "Architectures of _cuda")
set(CMAKE_CUDA_ARCHITECTURES ${FASTNET_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_COMPILER ${FASTNET_NVCC})
# The wheels have lib/ where nvcc's own profile says lib64.
if(NOT EXISTS "${FASTNET_CUDA_ROOT}/lib64")
  string(APPEND CMAKE_CUDA_FLAGS " -L${FASTNET_CUDA_ROOT}/lib")
endif()
# Static: the extension then needs no CUDA library at all, and imports on a machine without a driver.
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
enable_language(CUDA)

file(GLOB FASTNET_HOST CONFIGURE_DEPENDS csrc/host/*.cpp)
pybind11_add_module(_cuda MODULE NO_EXTRAS ${FASTNET_KERNELS} ${FASTNET_BINDINGS} ${FASTNET_HOST})
target_compile_definitions(_cuda PRIVATE FASTNET_MODULE=_cuda)
set_target_properties(_cuda PROPERTIES CUDA_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden)
target_compile_options(_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:-O3 -lineinfo --threads=0 -Xfatbin=-compress-all>
  $<$<COMPILE_LANGUAGE:CXX>:-O2 -Wall -Wextra>)
target_include_directories(_cuda SYSTEM PRIVATE ${FASTNET_CUDA_INCLUDE})
install(TARGETS _cuda LIBRARY DESTINATION fastnet)
fastnet_type_stub(_cuda)
