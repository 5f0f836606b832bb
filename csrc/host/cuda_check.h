// Turns a CUDA error code into an exception; the bindings translate it to Python.
#pragma once
#include <cuda_runtime.h>
#include <stdexcept>
#include <string>

struct CudaError : std::runtime_error { using runtime_error::runtime_error; };

inline void cuda_check(cudaError_t code) {
    if (code != cudaSuccess) throw CudaError(std::string(cudaGetErrorName(code)) + ": " + cudaGetErrorString(code));
}
