// Missing barriers: the value of a result depends on who runs first.
#include "planted.h"

namespace {

// Every thread reads what the thread `step` further on wrote. Poisoned memory makes a read that comes first a NaN.
template <bool kBarrier>
__global__ void read_kernel(float* out, int step) {
    GPU_SHARED(shared);
    auto* value = reinterpret_cast<float*>(shared);  // (blockDim.x)
    value[threadIdx.x] = float(threadIdx.x);
    if (kBarrier) __syncthreads();
    const int from = int(threadIdx.x) + step;
    out[threadIdx.x] = from >= 0 && from < int(blockDim.x) ? value[from] : 0.0f;
}

bool read_neighbour(bool planted, int step) {
    std::vector<float> out(256);
    if (planted) gpu::launch<read_kernel<false>>(dim3(1), dim3(256), 256 * 4, kNoStream, out.data(), step);
    else gpu::launch<read_kernel<true>>(dim3(1), dim3(256), 256 * 4, kNoStream, out.data(), step);
    for (int i = 0; i < 256; ++i) {
        const int from = i + step;
        if (out[std::size_t(i)] != (from >= 0 && from < 256 ? float(from) : 0.0f)) return false;
    }
    return true;
}

CASE(read_before_barrier_ahead) { return read_neighbour(planted, 32); }
CASE(read_before_barrier_behind) { return read_neighbour(planted, -32); }

// Sums of rows by 8 warps. Without the last barrier a fast warp overwrites `part` of a row that a slow one still reads.
template <bool kBarrier>
__global__ void row_sums_kernel(float* out, int rows) {
    GPU_SHARED(shared);
    auto* part = reinterpret_cast<float*>(shared);  // (8)
    for (int r = 0; r < rows; ++r) {
        float s = float(r + 1);
        for (int d = 16; d; d /= 2) s += __shfl_xor_sync(~0u, s, d);
        if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = s;
        __syncthreads();
        float total = 0;
        for (int w = 0; w < 8; ++w) total += part[w];
        out[r * int(blockDim.x) + int(threadIdx.x)] = total;
        if (kBarrier) __syncthreads();
    }
}

CASE(overwrite_before_barrier) {
    const int rows = 6;
    std::vector<float> out(rows * 256);
    if (planted) gpu::launch<row_sums_kernel<false>>(dim3(1), dim3(256), 32, kNoStream, out.data(), rows);
    else gpu::launch<row_sums_kernel<true>>(dim3(1), dim3(256), 32, kNoStream, out.data(), rows);
    for (int r = 0; r < rows; ++r)
        for (int t = 0; t < 256; ++t)
            if (out[std::size_t(r * 256 + t)] != 256.0f * float(r + 1)) return false;
    return true;
}

// Lanes of one warp exchange values through shared memory: order within the warp.
template <bool kSync>
__global__ void exchange_kernel(float* out) {
    GPU_SHARED(shared);
    auto* value = reinterpret_cast<float*>(shared);  // (32)
    value[threadIdx.x] = float(threadIdx.x);
    if (kSync) __syncwarp();
    out[threadIdx.x] = value[threadIdx.x ^ 1];
}

CASE(exchange_in_warp) {
    std::vector<float> out(32);
    if (planted) gpu::launch<exchange_kernel<false>>(dim3(1), dim3(32), 128, kNoStream, out.data());
    else gpu::launch<exchange_kernel<true>>(dim3(1), dim3(32), 128, kNoStream, out.data());
    for (int i = 0; i < 32; ++i)
        if (out[std::size_t(i)] != float(i ^ 1)) return false;
    return true;
}

// Shared memory that nobody wrote is not zero.
template <bool kInitialise>
__global__ void accumulate_kernel(float* out) {
    GPU_SHARED(shared);
    auto* sum = reinterpret_cast<float*>(shared);  // (32)
    if (kInitialise) sum[threadIdx.x] = 0;
    sum[threadIdx.x] += 1;
    out[threadIdx.x] = sum[threadIdx.x];
}

CASE(uninitialised_shared) {
    std::vector<float> out(32);
    for (int block = 0; block < 2; ++block) {  // the second launch must not see what the first left
        if (planted) gpu::launch<accumulate_kernel<false>>(dim3(2), dim3(32), 128, kNoStream, out.data());
        else gpu::launch<accumulate_kernel<true>>(dim3(2), dim3(32), 128, kNoStream, out.data());
    }
    return out[0] == 1 && out[31] == 1;
}

// Blocks that wait for one another in turn: block b adds after block b - 1. Without gpu::launch_resident the first
// block to run must be block 0.
__global__ void turnstile_kernel(volatile int* turn, float* sum, float* per_block) {
    GPU_SHARED(shared);
    auto* mine = reinterpret_cast<float*>(shared);
    mine[threadIdx.x] = float(blockIdx.x + 1);
    __syncthreads();
    if (threadIdx.x == 0) {
        float block_sum = 0;
        for (unsigned i = 0; i < blockDim.x; ++i) block_sum += mine[i];
        while (*turn != int(blockIdx.x)) gpu::yield();
        __threadfence();
        *sum = *sum * 0.5f + block_sum;  // the order shows
        __threadfence();
        *turn = int(blockIdx.x) + 1;
    }
    __syncthreads();
    per_block[blockIdx.x * blockDim.x + threadIdx.x] = mine[blockDim.x - 1 - threadIdx.x];
}

CASE(turnstile) {
    const int blocks = 6, threads = 96;
    int turn = 0;
    float sum = 0, want = 0;
    std::vector<float> per_block(blocks * threads);
    if (planted)
        gpu::launch<turnstile_kernel>(dim3(blocks), dim3(threads), threads * 4, kNoStream, &turn, &sum,
                                      per_block.data());
    else
        gpu::launch_resident<turnstile_kernel>(dim3(blocks), dim3(threads), threads * 4, kNoStream, &turn, &sum,
                                               per_block.data());
    for (int b = 0; b < blocks; ++b) want = want * 0.5f + float((b + 1) * threads);
    for (int i = 0; i < blocks * threads; ++i)
        if (per_block[std::size_t(i)] != float(i / threads + 1)) return false;
    return sum == want && turn == blocks;
}

// All blocks arrive, then all go on: a grid barrier, several times over.
__global__ void grid_barrier_kernel(unsigned* arrived, int* failures, int rounds, int lost) {
    const unsigned blocks = gridDim.x * gridDim.y;
    for (int round = 1; round <= rounds; ++round) {
        __syncthreads();
        if (threadIdx.x == 0) {
            if (int(blockIdx.x) != lost) atomicAdd(arrived, 1u);
            while (*static_cast<volatile unsigned*>(arrived) < blocks * unsigned(round)) gpu::yield();
            if (*static_cast<volatile unsigned*>(arrived) > blocks * unsigned(round + 1)) atomicAdd(failures, 1);
        }
        __syncthreads();
    }
}

CASE(grid_barrier) {  // planted: a block that does not count itself
    unsigned arrived = 0;
    int failures = 0;
    gpu::launch_resident<grid_barrier_kernel>(dim3(4, 2), dim3(64), 0, kNoStream, &arrived, &failures, 5,
                                              planted ? 3 : -1);
    return failures == 0 && arrived == 40;
}

// One warp waits for another by what the scheduler sees, without being told to yield: it must not lead for ever.
__global__ void patient_kernel(volatile int* flag, int setter) {
    if (int(threadIdx.x / 32) == setter) *flag = 1;
    else
        while (__any_sync(~0u, *flag == 0)) {}
}

CASE(warp_waits_for_warp) {
    for (int setter = 0; setter < 3; ++setter) {
        int flag = 0;
        gpu::launch<patient_kernel>(dim3(1), dim3(96), 0, kNoStream, &flag, setter);
    }
    return true;
}

}  // namespace
