# Sets FASTNET_NVCC (empty without one), FASTNET_CUDA_ROOT and FASTNET_CUDA_INCLUDE (the folder with cuda_bf16.h).
find_program(FASTNET_NVCC nvcc PATHS /usr/local/cuda/bin)
if(FASTNET_NVCC)
  file(REAL_PATH /usr/local/cuda FASTNET_CUDA_ROOT)
endif()
find_path(FASTNET_CUDA_INCLUDE cuda_bf16.h PATHS ${FASTNET_CUDA_ROOT}/include NO_DEFAULT_PATH)
