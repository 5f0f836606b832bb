// Mistakes that are errors in every schedule. Without the planted mistake each kernel ends, and every case says so.
#include "planted.h"

namespace {

// ---- waiting for ever -----------------------------------------------------------------------------------

__global__ void deadlock_kernel(bool planted) {
    if (threadIdx.x < 32 && planted) emu::barrier(1, 64, true);
    __syncthreads();
}
CASE(deadlock) {
    gpu::launch<deadlock_kernel>(dim3(2), dim3(64), 0, kNoStream, planted);
    return true;
}

__global__ void sleep_kernel(char* address, bool planted) {
    if (threadIdx.x == 0) emu::sleep_on(address, "a letter");
    else if (!planted) emu::wake(address);
}
CASE(deadlock_asleep) {  // in the orders in which thread 0 sleeps before the other wakes it
    char address;
    emu::Options o = emu::options();
    o.order = emu::Order::forward;
    emu::set_options(o);
    gpu::launch<sleep_kernel>(dim3(1), dim3(2), 0, kNoStream, &address, planted);
    return true;
}

__global__ void spin_kernel(volatile int* flag, int* done) {
    while (*flag == 0) {}
    *done = 1;
}
CASE(livelock_unseen) {
    int flag = !planted, done = 0;
    gpu::launch<spin_kernel>(dim3(1), dim3(32), 0, kNoStream, &flag, &done);
    return done == 1;
}

__global__ void spin_in_library_kernel(volatile float* value, int* done) {
    while (*value == 0) *value = fmodf(*value, 3.0f) * expf(*value);
    *done = 1;
}
CASE(livelock_in_library) {
    float value = planted ? 0.0f : 1.0f;
    int done = 0;
    gpu::launch<spin_in_library_kernel>(dim3(1), dim3(32), 0, kNoStream, &value, &done);
    return done == 1;
}

__global__ void yielding_kernel(volatile int* flag) {
    while (*flag == 0) gpu::yield();
}
CASE(livelock_yielding) {
    int flag = !planted;
    gpu::launch<yielding_kernel>(dim3(1), dim3(64), 0, kNoStream, &flag);
    return true;
}
CASE(livelock_resident) {
    int flag = !planted;
    gpu::launch_resident<yielding_kernel>(dim3(4), dim3(64), 0, kNoStream, &flag);
    return true;
}

__global__ void barrier_loop_kernel(volatile int* flag) {
    do __syncthreads();
    while (*flag == 0);
}
CASE(livelock_at_barriers) {
    int flag = !planted;
    gpu::launch<barrier_loop_kernel>(dim3(1), dim3(64), 0, kNoStream, &flag);
    return true;
}

// ---- out of bounds --------------------------------------------------------------------------------------

__global__ void shared_write_kernel(std::ptrdiff_t at) {
    GPU_SHARED(shared);
    if (threadIdx.x == 37) static_cast<volatile unsigned char*>(shared)[at] = 1;
}
__global__ void shared_read_kernel(std::ptrdiff_t at, unsigned char* out) {
    GPU_SHARED(shared);
    if (threadIdx.x == 37) *out = static_cast<volatile unsigned char*>(shared)[at];
}
bool write_shared(unsigned bytes, std::ptrdiff_t at) {
    gpu::launch<shared_write_kernel>(dim3(2, 3), dim3(64), bytes, kNoStream, at);
    return true;
}
CASE(shared_just_past) { return write_shared(1000, planted ? 1000 : 999); }
CASE(shared_just_before) { return write_shared(1000, planted ? -1 : 0); }
CASE(shared_past) { return write_shared(5120, planted ? 5120 : 5119); }
CASE(shared_before) { return write_shared(4096, planted ? -1 : 0); }
CASE(shared_far_past) { return write_shared(1000, planted ? 700'000 : 500); }
CASE(shared_far_before) { return write_shared(1000, planted ? -700'000 : 500); }
CASE(shared_none) { return write_shared(planted ? 0 : 16, 0); }
CASE(shared_read_past) {
    unsigned char out = 0;
    gpu::launch<shared_read_kernel>(dim3(2), dim3(64), 2048, kNoStream, planted ? 2048 : 2047, &out);
    return out == 0xFF;  // poison
}

__global__ void offset_kernel(int past) {
    GPU_SHARED(shared);
    emu::shared_pointer(emu::shared_offset(shared + past));
}
CASE(shared_offset) {
    gpu::launch<offset_kernel>(dim3(1), dim3(1), 64, kNoStream, planted ? 64 : 63);
    return true;
}

__global__ void null_kernel(volatile int* p) { *p = 1; }
CASE(null_pointer) {
    int there;
    gpu::launch<null_kernel>(dim3(1), dim3(1), 0, kNoStream, planted ? nullptr : &there);
    return true;
}

__global__ void instruction_kernel(int* to, const int* from) {  // as an emulated copy instruction does it
    if (threadIdx.x != 6) return;
    emu::defer([=] {
        emu::Quiet quiet;
        emu::kernel_copy(to, from, 4);
        emu::wake(to);
    });
    while (*to == 0) emu::sleep_on(to, "a copy");
}
CASE(instruction_reads_nowhere) {
    int to = 0, from = 5;
    gpu::launch<instruction_kernel>(dim3(1), dim3(32), 0, kNoStream, &to, planted ? nullptr : &from);
    return to == 5;
}

__attribute__((noinline)) int recurse(volatile int* out, int depth) {
    volatile int local[64];
    local[depth & 63] = *out;
    return depth == 0 ? local[0] : recurse(out, depth - 1) ^ local[1];
}
__global__ void recursion_kernel(int* out, int depth) {
    if (threadIdx.x == 5) *out = recurse(out, depth) != 0 ? 1 : 1;
}
CASE(stack_overflow) {
    int out = 0;
    gpu::launch<recursion_kernel>(dim3(1), dim3(32), 0, kNoStream, &out, planted ? 1 << 30 : 100);
    return out == 1;
}
__global__ void big_frame_kernel(volatile char* out, bool planted) {
    if (!planted) return;
    volatile char local[150 * 1024];
    local[int(*out)] = 1;
    *out = local[int(*out)];
}
CASE(stack_overflow_by_one_frame) {
    char out = 0;
    gpu::launch<big_frame_kernel>(dim3(1), dim3(32), 0, kNoStream, &out, planted);
    return true;
}

// ---- arithmetic, assertions, exceptions -------------------------------------------------------------------

__global__ void divide_kernel(volatile int* out, int by) { *out = *out / by; }
CASE(division_by_zero) {
    int out = 7;
    gpu::launch<divide_kernel>(dim3(1), dim3(1), 0, kNoStream, &out, planted ? 0 : 7);
    return out == 1;
}
__global__ void assert_kernel(int x) { assert(x == int(threadIdx.x) / 64); }
CASE(assertion) {
    gpu::launch<assert_kernel>(dim3(1), dim3(64), 0, kNoStream, planted ? 1 : 0);
    return true;
}
__global__ void trap_kernel(bool planted) {
    if (planted && threadIdx.x == 3) __trap();
}
CASE(trap) {
    gpu::launch<trap_kernel>(dim3(1), dim3(64), 0, kNoStream, planted);
    return true;
}
__global__ void throw_kernel(bool planted) {
    if (planted && threadIdx.x == 3) throw std::runtime_error("thrown by hand");
    __syncthreads();
}
CASE(exception) {
    gpu::launch<throw_kernel>(dim3(1), dim3(64), 0, kNoStream, planted);
    return true;
}

// ---- barriers ---------------------------------------------------------------------------------------------

__global__ void barrier_kernel(int id, int threads) { emu::barrier(id, threads, true); }
bool use_barrier(int id, int threads) {
    gpu::launch<barrier_kernel>(dim3(1), dim3(64), 0, kNoStream, id, threads);
    return true;
}
CASE(barrier_id) { return use_barrier(planted ? 16 : 15, 64); }
CASE(barrier_negative_id) { return use_barrier(planted ? -1 : 0, 64); }
CASE(barrier_odd_count) { return use_barrier(1, planted ? 33 : 32); }
CASE(barrier_too_many) { return use_barrier(1, planted ? 96 : 64); }

__global__ void counts_kernel(bool planted) { emu::barrier(2, planted && threadIdx.x >= 32 ? 32 : 64, true); }
CASE(barrier_counts_differ) {
    gpu::launch<counts_kernel>(dim3(1), dim3(64), 0, kNoStream, planted);
    return true;
}
__global__ void exited_kernel(bool planted) {
    if (planted && threadIdx.x >= 32) return;
    emu::barrier(1, 64, true);
}
CASE(barrier_after_exit) {
    gpu::launch<exited_kernel>(dim3(1), dim3(64), 0, kNoStream, planted);
    return true;
}
__global__ void mixed_barrier_kernel(bool planted) {
    if (planted && threadIdx.x == 0) __syncthreads();
    else __syncthreads_or(1);
}
CASE(barrier_kinds_differ) {
    gpu::launch<mixed_barrier_kernel>(dim3(1), dim3(64), 0, kNoStream, planted);
    return true;
}

// ---- warps --------------------------------------------------------------------------------------------------

__global__ void early_exit_kernel(bool planted, int* out) {
    if (planted && threadIdx.x % 32 == 0) return;
    atomicAdd(out, __shfl_xor_sync(~0u, 1, 1));
}
CASE(mask_of_exited_lane) {
    int out = 0;
    gpu::launch<early_exit_kernel>(dim3(1), dim3(64), 0, kNoStream, planted, &out);
    return out == 64;
}
__global__ void own_mask_kernel(bool planted) { __syncwarp(planted && threadIdx.x == 9 ? ~(1u << 9) : ~0u); }
CASE(mask_without_itself) {
    gpu::launch<own_mask_kernel>(dim3(1), dim3(32), 0, kNoStream, planted);
    return true;
}
__global__ void divergence_kernel(bool planted) {
    if (planted && threadIdx.x < 16) __syncwarp();
    else __shfl_xor_sync(~0u, 1, 1);
}
CASE(divergence) {
    gpu::launch<divergence_kernel>(dim3(1), dim3(32), 0, kNoStream, planted);
    return true;
}
__global__ void masks_kernel(bool planted) {
    const unsigned half = threadIdx.x < 16 ? 0x0000FFFFu : 0xFFFF0000u;
    __shfl_xor_sync(planted && threadIdx.x == 20 ? ~0u : half, 1, 1);
}
CASE(masks_differ) {
    gpu::launch<masks_kernel>(dim3(1), dim3(32), 0, kNoStream, planted);
    return true;
}
__global__ void source_kernel(bool planted) {
    if (threadIdx.x < 16) __shfl_sync(0xFFFFu, 1, planted ? 16 : 15);
}
CASE(source_outside_mask) {
    gpu::launch<source_kernel>(dim3(1), dim3(32), 0, kNoStream, planted);
    return true;
}
__global__ void width_kernel(int width) { __shfl_sync(~0u, 1, 0, width); }
CASE(shuffle_width) {
    gpu::launch<width_kernel>(dim3(1), dim3(32), 0, kNoStream, planted ? 12 : 16);
    return true;
}

// ---- launches -------------------------------------------------------------------------------------------------

__global__ void empty_kernel() {}
bool launch_empty(dim3 grid, dim3 block, unsigned shared_bytes = 0) {
    gpu::launch<empty_kernel>(grid, block, shared_bytes, kNoStream);
    return true;
}
CASE(launch_no_blocks) { return launch_empty(dim3(planted ? 0 : 1), dim3(32)); }
CASE(launch_no_threads) { return launch_empty(dim3(1), dim3(32, planted ? 0 : 1)); }
CASE(launch_large_block) { return launch_empty(dim3(1), dim3(1024, planted ? 2 : 1)); }
CASE(launch_deep_block) { return launch_empty(dim3(1), dim3(1, 1, planted ? 65 : 64)); }
CASE(launch_tall_grid) { return launch_empty(dim3(1, planted ? 65536 : 65535), dim3(1)); }
CASE(launch_deep_grid) { return launch_empty(dim3(1, 1, planted ? 65536 : 2), dim3(1)); }
CASE(launch_shared) { return launch_empty(dim3(1), dim3(1), planted ? 227 * 1024 + 1 : 227 * 1024); }
CASE(launch_resident_too_many) {
    const int fit = gpu::max_resident_blocks<empty_kernel>(dim3(1024), 0);
    gpu::launch_resident<empty_kernel>(dim3(unsigned(fit + planted)), dim3(1024), 0, kNoStream);
    return fit == 8;  // 4 SMs of 2048 threads
}
__global__ void nested_kernel(bool planted) {
    if (planted) gpu::launch<empty_kernel>(dim3(1), dim3(1), 0, kNoStream);
}
CASE(launch_from_kernel) {
    gpu::launch<nested_kernel>(dim3(1), dim3(1), 0, kNoStream, planted);
    return true;
}

}  // namespace
