// Kernels with one planted mistake each, and the same kernels without it: what every sanitizer must and must not report.
// usage: cases NAME, prints "done" when the kernel ran to its end.
#include "gpu.h"
#include "ptx/sm80.h"
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

__global__ void copy_kernel(const float* in, float* out, int n) {
    if (int(threadIdx.x) < n) out[threadIdx.x] = in[threadIdx.x];
}

__global__ void shared_store_kernel(int shift) {
    GPU_SHARED(shared);
    shared[threadIdx.x + shift] = 1;
}

__global__ void vector_load_kernel(const float* in, float4* out, int shift) {
    *out = *reinterpret_cast<const float4*>(in + shift);
}

__global__ void local_array_kernel(float* out, int index) {
    float a[4] = {};
    a[index] = 1;
    __syncthreads();
    out[0] = a[threadIdx.x & 3];
}

// Neighbours exchange values through shared memory.
template <bool kSynchronised>
__global__ void exchange_kernel(float* out) {
    GPU_SHARED(shared);
    auto* value = reinterpret_cast<float*>(shared);
    value[threadIdx.x] = float(threadIdx.x);
    if (kSynchronised) __syncthreads();
    out[threadIdx.x] = value[threadIdx.x ^ 32];
}

// Two blocks add to one element without an atomic.
__global__ void global_race_kernel(float* out, int stride) { out[threadIdx.x * stride] += 1; }

// Resident blocks exchange values through global memory and tell one another by a counter. An atomic sum alone orders
// nothing but itself.
template <bool kOrdered>
__global__ void counter_kernel(uint32_t* arrived, float* value, float* out) {
    const unsigned blocks = gridDim.x, at = blockIdx.x * blockDim.x + threadIdx.x;
    value[at] = float(at);
    __syncthreads();
    if (threadIdx.x == 0) {
        if (kOrdered) ptx::add_release(arrived, 1);
        else atomicAdd(arrived, 1u);
        while ((kOrdered ? ptx::load_acquire(arrived) : atomicAdd(arrived, 0u)) < blocks) gpu::yield();
    }
    __syncthreads();
    out[at] = value[(at + blockDim.x) % (blocks * blockDim.x)];
}

// A column of a 32 x (32 + padding) tile: every lane in one bank without padding.
__global__ void column_kernel(float* out, int row) {
    GPU_SHARED(shared);
    auto* tile = reinterpret_cast<float*>(shared);
    for (int r = 0; r < 32; ++r) tile[r * row + threadIdx.x] = float(r);
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x * row];
}

// Lanes read elements `stride` apart.
__global__ void strided_kernel(const float* in, float* out, int stride) { out[threadIdx.x] = in[threadIdx.x * stride]; }

// Lane i of the first `lanes` writes, then reads, the vector at i / sharers * stride bytes.
template <class Vector>
__global__ void access_kernel(float* out, int stride, int sharers, int lanes) {
    GPU_SHARED(shared);
    const int lane = int(threadIdx.x);
    auto* vector = reinterpret_cast<Vector*>(shared + lane / sharers * stride);
    if (lane < lanes) *vector = Vector{};
    __syncwarp();
    if (lane < lanes) reinterpret_cast<Vector*>(out)[lane % 2] = *vector;
}

}  // namespace

void run(const std::string& name) {
    auto* in = static_cast<float*>(std::aligned_alloc(256, 64 * 64 * sizeof(float)));
    auto* out = static_cast<float*>(std::aligned_alloc(256, 256));
    for (int i = 0; i < 64 * 64; ++i) in[i] = 1;
    auto* exact = static_cast<float*>(std::malloc(64 * sizeof(float)));  // ends where its allocation ends
    for (int i = 0; i < 64; ++i) exact[i] = 1;
    const cudaStream_t none = nullptr;
    if (name == "global") gpu::launch<copy_kernel>(dim3(1), dim3(64), 0, none, exact, out, 64);
    else if (name == "global_past") gpu::launch<copy_kernel>(dim3(1), dim3(96), 0, none, exact, in, 65);
    else if (name == "shared") gpu::launch<shared_store_kernel>(dim3(1), dim3(64), 100, none, 36);
    else if (name == "shared_past") gpu::launch<shared_store_kernel>(dim3(1), dim3(64), 100, none, 40);
    else if (name == "vector")
        gpu::launch<vector_load_kernel>(dim3(1), dim3(1), 0, none, in, reinterpret_cast<float4*>(out), 4);
    else if (name == "vector_misaligned")
        gpu::launch<vector_load_kernel>(dim3(1), dim3(1), 0, none, in, reinterpret_cast<float4*>(out), 1);
    else if (name == "local") gpu::launch<local_array_kernel>(dim3(1), dim3(1), 0, none, out, 3);
    else if (name == "local_past") gpu::launch<local_array_kernel>(dim3(1), dim3(1), 0, none, out, 5);
    else if (name == "exchange") gpu::launch<exchange_kernel<true>>(dim3(1), dim3(64), 64 * 4, none, out);
    else if (name == "exchange_unsynchronised")
        gpu::launch<exchange_kernel<false>>(dim3(1), dim3(64), 64 * 4, none, out);
    else if (name == "distinct") gpu::launch<global_race_kernel>(dim3(1), dim3(64), 0, none, out, 1);
    else if (name == "race") gpu::launch<global_race_kernel>(dim3(1), dim3(64), 0, none, out, 0);
    else if (name == "counter" || name == "counter_unordered") {
        auto* arrived = reinterpret_cast<uint32_t*>(out);
        *arrived = 0;
        if (name == "counter")
            gpu::launch_resident<counter_kernel<true>>(dim3(3), dim3(32), 0, none, arrived, in, in + 96);
        else gpu::launch_resident<counter_kernel<false>>(dim3(3), dim3(32), 0, none, arrived, in, in + 96);
    } else if (name == "column") gpu::launch<column_kernel>(dim3(1), dim3(32), 32 * 33 * 4, none, out, 33);
    else if (name == "column_conflict") gpu::launch<column_kernel>(dim3(1), dim3(32), 32 * 33 * 4, none, out, 32);
    else if (name == "coalesced") gpu::launch<strided_kernel>(dim3(1), dim3(32), 0, none, in, out, 1);
    else if (name == "uncoalesced") gpu::launch<strided_kernel>(dim3(1), dim3(32), 0, none, in, out, 8);
    else if (int bytes, stride, sharers, lanes;
             std::sscanf(name.c_str(), "access %d %d %d %d", &bytes, &stride, &sharers, &lanes) == 4) {
        const auto launch = [&](auto vector) {
            gpu::launch<access_kernel<decltype(vector)>>(dim3(1), dim3(32), 32 * 128, none, out, stride, sharers,
                                                         lanes);
        };
        if (bytes == 2) launch(ushort1{});
        else if (bytes == 4) launch(uint1{});
        else if (bytes == 8) launch(uint2{});
        else launch(uint4{});
    } else throw std::invalid_argument("no case " + name);
    std::free(exact);
    std::free(out);
    std::free(in);
}

#ifdef EMU_COUNT
#include "emulator/counters.h"
#endif

int main(int, char** argv) {
    run(argv[1]);
#ifdef EMU_COUNT
    for (const emu::SiteCount& c : emu::take_counts())
        std::printf("%s %s %llu %llu %llu\n", c.shared ? "shared" : "global", c.write ? "write" : "read",
                    (unsigned long long)(c.shared ? c.wavefronts : c.sectors), (unsigned long long)c.ideal,
                    (unsigned long long)c.conflicts);
#endif
    std::puts("done");
}
