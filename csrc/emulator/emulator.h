// The CUDA execution model on one OS thread: what a kernel sees of it, and the hooks the emulated
// instructions in emulator/ptx.cc are built from. Kernels include gpu.h, which includes this off the GPU.
#pragma once
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <utility>
#include <vector>
#include <cuda_runtime.h>

#undef __shared__
#undef __launch_bounds__
#undef __grid_constant__
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static_assert(false, "static shared memory cannot be poisoned or bounds-checked: use GPU_SHARED");

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

namespace emu {

// ---- how to run -------------------------------------------------------------------------------------
enum class Order { forward, reverse, random };     // which runnable thread goes next
struct Options {
    Order order = Order::forward;
    unsigned seed = 1;
    bool late = false;                   // asynchronous copies and wgmma: done at issue, or as late as allowed
};
Options& options();                      // initially from EMU_ORDER=forward|reverse|random[:seed], EMU_ASYNC=early|late

struct Error : std::runtime_error { using runtime_error::runtime_error; };

// Runs every block of the grid; throws Error when the kernel breaks a rule the emulator checks.
void run_grid(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, void (*call)(void*), void* closure);

template <class F>
void launch(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, F&& body) {
    run_grid(name, grid, block, shared_bytes, [](void* f) { (*static_cast<std::remove_reference_t<F>*>(f))(); }, &body);
}

// ---- what emulated instructions are built from --------------------------------------------------------
bool late();
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
unsigned char* shared_memory();
std::uint32_t shared_offset(const void* p);        // address in the shared window; fails if p is not in it
unsigned char* shared_pointer(std::uint32_t offset);
int lane();
const void* thread_key();             // identifies the current thread within its block
int warp_in_block();

// All lanes of `mask` meet here; the last one to come runs `compute` with every lane's argument
// (null for lanes not in the mask), then all go on.
using Compute = void (*)(void* const* lanes, const void* extra);
void collective(const char* name, unsigned mask, void* arg, Compute compute, const void* extra = nullptr);
void sync_warp(unsigned mask);                     // a collective that also orders memory

void barrier(int id, int threads, bool wait);      // threads = 0: all threads of the block still running

// A thread sleeps on an address until something wakes that address.
void sleep_on(const void* address, const char* what);
void wake(const void* address);
// Work in flight outside any thread: performed when nothing can run (late), at random, or at once (early).
void defer(std::function<void()> work);


struct Stats {
    std::uint64_t switches = 0, block_barriers = 0, collectives = 0, mbarrier_waits = 0;
    std::uint64_t mma_flops = 0, cp_async_bytes = 0, tma_bytes = 0;
};
extern Stats stats;

}  // namespace emu

// ---- CUDA builtins --------------------------------------------------------------------------------------
inline void __syncthreads() { emu::barrier(0, 0, true); }
inline void __syncwarp(unsigned mask = ~0u) { emu::sync_warp(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace emu {
template <class T>
struct Shuffle { T value; T result; int source; };

template <class T>
T shuffle(const char* name, unsigned mask, T value, int source) {     // source: lane, already resolved
    Shuffle<T> s{value, value, source};
    collective(name, mask, &s, [](void* const* lanes, const void*) {
        for (int i = 0; i < 32; ++i) {
            if (!lanes[i]) continue;
            auto* me = static_cast<Shuffle<T>*>(lanes[i]);
            if (!lanes[me->source]) fail("shuffle: lane %d reads lane %d, which is not in the mask", i, me->source);
            me->result = static_cast<Shuffle<T>*>(lanes[me->source])->value;
        }
    });
    return s.result;
}
template <class T>
T lanes_reduce(const char* name, unsigned mask, T value, T (*op)(T, T)) {
    struct A { T value, result; } a{value, value};
    collective(name, mask, &a, [](void* const* lanes, const void* f) {
        auto op = reinterpret_cast<T (*)(T, T)>(const_cast<void*>(f));
        bool first = true; T r{};
        for (int i = 0; i < 32; ++i) if (lanes[i]) { T v = static_cast<A*>(lanes[i])->value; r = first ? v : op(r, v); first = false; }
        for (int i = 0; i < 32; ++i) if (lanes[i]) static_cast<A*>(lanes[i])->result = r;
    }, reinterpret_cast<const void*>(op));
    return a.result;
}
}  // namespace emu

template <class T> T __shfl_sync(unsigned mask, T v, int src, int width = 32) {
    int l = emu::lane(); return emu::shuffle("__shfl_sync", mask, v, (l & ~(width - 1)) | (src & (width - 1)));
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int x, int width = 32) {
    int l = emu::lane(), s = l ^ x; return emu::shuffle("__shfl_xor_sync", mask, v, (s & ~(width - 1)) <= (l & ~(width - 1)) ? s : l);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned d, int width = 32) {
    int l = emu::lane(), s = l - int(d); return emu::shuffle("__shfl_up_sync", mask, v, s < (l & ~(width - 1)) ? l : s);
}
template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned d, int width = 32) {
    int l = emu::lane(), s = l + int(d); return emu::shuffle("__shfl_down_sync", mask, v, s > (l | (width - 1)) ? l : s);
}
inline unsigned __ballot_sync(unsigned mask, int p) {
    return emu::lanes_reduce<unsigned>("__ballot_sync", mask, p ? 1u << emu::lane() : 0u, [](unsigned a, unsigned b) { return a | b; });
}
inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, p) == mask; }

// One OS thread runs everything, so a plain read-modify-write is atomic.
template <class T, class U> T atomicAdd(T* p, U v) { T old = *p; *p = T(old + T(v)); return old; }
template <class T, class U> T atomicMax(T* p, U v) { T old = *p; if (T(v) > old) *p = T(v); return old; }
template <class T, class U> T atomicMin(T* p, U v) { T old = *p; if (T(v) < old) *p = T(v); return old; }
template <class T, class U> T atomicExch(T* p, U v) { T old = *p; *p = T(v); return old; }
template <class T, class U, class V> T atomicCAS(T* p, U cmp, V v) { T old = *p; if (old == T(cmp)) *p = T(v); return old; }
