// What every kernel file includes first: CUDA under nvcc, the emulator under a host compiler.
//
//   gpu::launch<kernel<T, kTile>>(grid, block, shared_bytes, stream, arguments...);
//   GPU_SHARED(name);    the block's dynamic shared memory, 1024-byte aligned (static __shared__ is banned:
//                        the emulator can neither poison nor bounds-check it)
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#ifdef __CUDACC__

#include "host/cuda_check.h"

#define GPU_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]

namespace gpu {

template <auto kKernel, class... P, class... A>
void launch_as(void (*)(P...), dim3 grid, dim3 block, unsigned shared_bytes, cudaStream_t stream, A&&... arguments) {
    if (shared_bytes > 48 * 1024)
        cuda_check(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)));
    kKernel<<<grid, block, shared_bytes, stream>>>(static_cast<P>(arguments)...);
    cuda_check(cudaGetLastError());
}

template <auto kKernel, class... A>
void launch(dim3 grid, dim3 block, unsigned shared_bytes, cudaStream_t stream, A&&... arguments) {
    launch_as<kKernel>(kKernel, grid, block, shared_bytes, stream, static_cast<A&&>(arguments)...);
}

}  // namespace gpu

#else

#include "emulator/emulator.h"
#include "emulator/intrinsics.h"

#define GPU_SHARED(name) unsigned char* const name = emu::shared_memory()

namespace gpu {

// The name of kKernel with its template arguments, for error messages.
template <auto kKernel>
constexpr const char* kernel_name() { return __PRETTY_FUNCTION__; }

template <class... P, class... A>
void launch_as(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, unsigned shared_bytes, A&&... arguments) {
    emu::launch(name, grid, block, shared_bytes, [&] { kernel(static_cast<P>(arguments)...); });
}

template <auto kKernel, class... A>
void launch(dim3 grid, dim3 block, unsigned shared_bytes, cudaStream_t, A&&... arguments) {
    launch_as(kernel_name<kKernel>(), kKernel, grid, block, shared_bytes, static_cast<A&&>(arguments)...);
}

}  // namespace gpu

#endif
