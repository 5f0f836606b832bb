// CUDA as a kernel sees it, for host compilers. gpu.h includes this off the GPU; the files around it are
//   scheduler.h      what emulated instructions are built from: fail, barrier, collective, sleep_on, defer, ...
//   warp.h  atomics.h  intrinsics.h    device functions that the CUDA headers have only for nvcc
//   fiber.h          a stack and the place where it stopped: one for each CUDA thread that had to wait
//   shared_memory.h  a block's window between guard pages
//   faults.h         the signals by which a kernel's fault or endless loop becomes an exception
//   hooks.h          what a race detector or the counters are told
#pragma once
#include "scheduler.h"
// After scheduler.h: kernels see their own meaning of these words.
#include "atomics.h"
#include "intrinsics.h"
#include "warp.h"

#include <cassert>

#undef __shared__
#undef __launch_bounds__
#undef __grid_constant__
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static_assert(false, "static shared memory cannot be poisoned or bounds-checked: use GPU_SHARED");

// In kernels a failed assert is an exception, in whatever build.
#undef assert
#define assert(condition) \
    ((condition) ? void() : emu::fail("assertion failed: %s, %s:%d", #condition, __FILE__, __LINE__))

inline constexpr int warpSize = 32;

inline void __syncthreads() { emu::barrier(0, 0, true); }
inline int __syncthreads_count(int predicate) { return emu::barrier_count(predicate != 0).truths; }
inline int __syncthreads_or(int predicate) { return emu::barrier_count(predicate != 0).truths != 0; }
inline int __syncthreads_and(int predicate) {
    auto [truths, arrived] = emu::barrier_count(predicate != 0);
    return truths == arrived;
}
inline void __syncwarp(unsigned mask = ~0u) { emu::sync_warp(mask); }
inline unsigned __activemask() { return emu::lanes_present() & emu::lanes_alive(); }

// One OS thread runs everything in program order; the compiler must not move accesses across a fence all the same.
// A race detector is told that what precedes one thread's fence comes before what follows a later fence of another.
namespace emu {
inline char fence_token;
inline void fence() {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    sync_release(&fence_token);
    sync_acquire(&fence_token);
}
}  // namespace emu
inline void __threadfence() { emu::fence(); }
inline void __threadfence_block() { emu::fence(); }
inline void __threadfence_system() { emu::fence(); }

inline void __nanosleep(unsigned) { emu::yield("__nanosleep"); }
[[noreturn]] inline void __trap() { emu::fail("__trap"); }
inline void __brkpt() {}

// Grows from call to call, and is the same in every run.
inline long long clock64() { return emu::clock(); }
