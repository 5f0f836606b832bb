// The CUDA execution model on one OS thread: how a grid is run, and what emulated instructions are built from.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <type_traits>

#include <cuda_runtime.h>

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace emu {

// ---- how to run -------------------------------------------------------------------------------------

// Which runnable thread goes next. In every order one warp runs ahead of the others as far as it can, because that is
// where missing synchronisation shows; they differ in which warp, in the order of lanes and in the order of blocks.
enum class Order { forward, reverse, random };

struct Options {
    Order order = Order::forward;
    unsigned seed = 1;
    bool late = false;                   // asynchronous copies and products: done at issue, or as late as allowed
    // A launch in which no thread ends for so many seconds of CPU time is in an endless loop. An honest block of the
    // library's tests ends within a second; sanitizers cost a factor of 20; the rest is room for other people's
    // kernels.
    double watchdog_seconds = 60;
};

// Initially from EMU_ORDER=forward|reverse|random[:seed] and EMU_ASYNC=early|late.
Options options();
void set_options(const Options&);

// A rule that a kernel broke. The message begins with the kernel and, where one thread is to blame, its indices.
struct Error : std::runtime_error { using runtime_error::runtime_error; };

// Which blocks are alive at once. By default they run one after another.
struct Together {
    bool resident = false;               // all of them, for kernels whose blocks wait for one another
    bool clustered = false;              // those of a cluster
    dim3 cluster = {1, 1, 1};
};

// Runs `call(closure)` once for every thread of the grid.
void run_grid(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, const Together& together,
              void (*call)(void*), void* closure);

template <class F>
void launch(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, F&& body,
            const Together& together = {}) {
    using Body = std::remove_reference_t<F>;
    run_grid(name, grid, block, shared_bytes, together, [](void* f) { (*static_cast<Body*>(f))(); },
             const_cast<std::remove_const_t<Body>*>(&body));
}

// The largest grid that launch(..., resident) accepts, from the posed device's limits and resident_sm_count() SMs.
int max_resident_blocks(dim3 block, std::size_t shared_bytes);

// ---- what emulated instructions are built from --------------------------------------------------------

// The current thread broke a rule: ends the launch with an Error that names kernel, block and thread.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

bool late();                                       // Options::late of this launch
unsigned char* shared_memory();                    // of the current block
std::uint32_t shared_offset(const void* p);        // address in the shared window; fails if p is not in it
unsigned char* shared_pointer(std::uint32_t offset);

// What TMA and wgmma see of the block's shared memory: what they wrote themselves, and of what threads wrote only what
// was there at a fence_proxy_async. What they write goes both here and into shared memory.
unsigned char* async_view(std::uint32_t offset);
void fence_async_view();

// Clusters. A launch without has clusters of one block.
unsigned cluster_rank();
unsigned cluster_size();
// The same place in the shared memory of the cluster's block `rank`, which must not have ended.
unsigned char* in_peer(const void* shared, unsigned rank);
// While it lives, instructions act on the shared memory of the cluster's block `rank`.
class AsPeer {
public:
    explicit AsPeer(unsigned rank);
    ~AsPeer();
    AsPeer(const AsPeer&) = delete;

private:
    void* before_;
};
void cluster_arrive();
void cluster_wait();

int lane();
int warp_in_block();
const void* thread_key();                          // identifies the current thread among all that are alive
const void* warp_key();                            // identifies its warp: two resident blocks have two warps 0
const void* block_key();
unsigned lanes_present();                          // lanes of the warp that exist
unsigned lanes_alive();                            // and that have not exited
long long clock();

// All lanes of `mask` meet here; the last one to come runs `compute` with every lane's argument
// (null for lanes not in the mask), then all go on.
using Compute = void (*)(void* const* lanes, const void* extra);
void collective(const char* name, unsigned mask, void* arg, Compute compute, const void* extra = nullptr);
void sync_warp(unsigned mask);                     // a collective that also orders memory

// Barrier `id` of the block opens when `threads` have arrived; 0 stands for all threads still running.
void barrier(int id, int threads, bool wait);
struct Count { int truths, arrived; };
Count barrier_count(bool predicate);               // barrier(0, 0, true), and how many brought true

// A thread sleeps on an address until something wakes that address.
void sleep_on(const void* address, const char* what);
void wake(const void* address);
// For loops that wait for a value in memory: all other threads go first. Too many yields in a row in which nothing
// else happens are a livelock.
void yield(const char* what);

// Work in flight outside any thread: performed when nothing can run (late), at random, or at once (early). It runs as
// the block that deferred it.
void defer(std::function<void()> work);
// Work done when all blocks that are alive now have ended.
void at_end(std::function<void()> work);
// Asynchronous reads of the block's shared memory that no thread has waited for: at its end there may be none.
void add_unread(int count);

struct Stats {
    std::uint64_t launches = 0, blocks = 0, threads = 0, switches = 0, yields = 0;
    std::uint64_t block_barriers = 0, collectives = 0, mbarrier_waits = 0;
    std::uint64_t mma_flops = 0, cp_async_bytes = 0, tma_bytes = 0, tma_store_bytes = 0;
};
extern Stats stats;
Stats read_stats();                                // outside kernels, from any OS thread
void reset_stats();

}  // namespace emu
