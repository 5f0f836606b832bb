// What every kernel file includes first: CUDA under nvcc, the emulator under a host compiler.
//
//   gpu::launch<kernel<T, kTile>>(grid, block, shared_bytes, stream, arguments...);
//   gpu::launch_resident<kernel<T>>(...);    the same for kernels whose blocks wait for one another: all blocks run at
//                        once, at most gpu::max_resident_blocks<kernel<T>>(block, shared_bytes) of them, and every loop
//                        that waits for another block calls gpu::yield()
//   gpu::launch_cluster<kernel<T>>(cluster, grid, block, ...);    blocks in clusters (sm_90): they run at once and reach one
//                        another's shared memory; ptx/sm90.h has the instructions
//   GPU_SHARED(name);    the block's dynamic shared memory, 1024-byte aligned (static __shared__ is banned:
//                        the emulator can neither poison nor bounds-check it)
//   GPU_NOINLINE         before a device function: one copy of its code, however often it is called
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#ifdef __CUDACC__

#include "host/cuda_check.h"
#include "host/device.h"
#include <tuple>
#include <type_traits>

#define GPU_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#define GPU_NOINLINE __noinline__

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

template <auto kKernel, class... P, class... A>
void launch_cluster_as(void (*)(P...), dim3 cluster, dim3 grid, dim3 block, unsigned shared_bytes, cudaStream_t stream,
                       A&&... arguments) {
    if (shared_bytes > 48 * 1024)
        cuda_check(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)));
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = cluster.x, attribute.val.clusterDim.y = cluster.y, attribute.val.clusterDim.z = cluster.z;
    cudaLaunchConfig_t config{};
    config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared_bytes, config.stream = stream;
    config.attrs = &attribute, config.numAttrs = 1;
    cuda_check(cudaLaunchKernelEx(&config, kKernel, static_cast<P>(arguments)...));
}

template <auto kKernel, class... A>
void launch_cluster(dim3 cluster, dim3 grid, dim3 block, unsigned shared_bytes, cudaStream_t stream, A&&... arguments) {
    launch_cluster_as<kKernel>(kKernel, cluster, grid, block, shared_bytes, stream, static_cast<A&&>(arguments)...);
}

template <auto kKernel, class... P, class... A>
void launch_resident_as(void (*)(P...), dim3 grid, dim3 block, unsigned shared_bytes, cudaStream_t stream,
                        A&&... arguments) {
    if (shared_bytes > 48 * 1024)
        cuda_check(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)));
    std::tuple<std::remove_cv_t<P>...> values(static_cast<P>(arguments)...);
    std::apply([&](auto&... value) {
        void* pointers[] = {const_cast<void*>(static_cast<const void*>(&value))..., nullptr};
        cuda_check(cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(kKernel), grid, block, pointers,
                                               shared_bytes, stream));
    }, values);
}

template <auto kKernel, class... A>
void launch_resident(dim3 grid, dim3 block, unsigned shared_bytes, cudaStream_t stream, A&&... arguments) {
    launch_resident_as<kKernel>(kKernel, grid, block, shared_bytes, stream, static_cast<A&&>(arguments)...);
}

template <auto kKernel>
int max_resident_blocks(dim3 block, unsigned shared_bytes) {
    if (shared_bytes > 48 * 1024)
        cuda_check(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)));
    int per_sm = 0;
    cuda_check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, kKernel, int(block.x * block.y * block.z),
                                                             shared_bytes));
    return per_sm * resident_sm_count();
}

__device__ __forceinline__ void yield() {
#if defined(__CUDA_ARCH__)
    __nanosleep(20);
#endif
}

}  // namespace gpu

#else

#include "emulator/emulator.h"
#include "emulator/intrinsics.h"

#define GPU_SHARED(name) unsigned char* const name = emu::shared_memory()
#define GPU_NOINLINE [[gnu::noinline]]

namespace gpu {

// The name of kKernel with its template arguments, for error messages.
template <auto kKernel>
constexpr const char* kernel_name() { return __PRETTY_FUNCTION__; }

template <class... P, class... A>
void launch_as(const emu::Together& together, const char* name, void (*kernel)(P...), dim3 grid, dim3 block,
               unsigned shared_bytes, A&&... arguments) {
    emu::launch(name, grid, block, shared_bytes, [&] { kernel(static_cast<P>(arguments)...); }, together);
}

template <auto kKernel, class... A>
void launch(dim3 grid, dim3 block, unsigned shared_bytes, cudaStream_t, A&&... arguments) {
    launch_as({}, kernel_name<kKernel>(), kKernel, grid, block, shared_bytes, static_cast<A&&>(arguments)...);
}

template <auto kKernel, class... A>
void launch_cluster(dim3 cluster, dim3 grid, dim3 block, unsigned shared_bytes, cudaStream_t, A&&... arguments) {
    const emu::Together together{.clustered = true, .cluster = cluster};
    launch_as(together, kernel_name<kKernel>(), kKernel, grid, block, shared_bytes, static_cast<A&&>(arguments)...);
}

template <auto kKernel, class... A>
void launch_resident(dim3 grid, dim3 block, unsigned shared_bytes, cudaStream_t, A&&... arguments) {
    const emu::Together together{.resident = true};
    launch_as(together, kernel_name<kKernel>(), kKernel, grid, block, shared_bytes, static_cast<A&&>(arguments)...);
}

template <auto kKernel>
int max_resident_blocks(dim3 block, unsigned shared_bytes) { return emu::max_resident_blocks(block, shared_bytes); }

inline void yield() { emu::yield("gpu::yield"); }

}  // namespace gpu

#endif
