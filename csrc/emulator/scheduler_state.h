// What the emulator knows of the launch that runs: its threads, warps, blocks and clusters, and who runs now. For
// scheduler.cc (who runs next), launch.cc (blocks and grids) and rendezvous.cc (what emulated instructions are built
// from) alone.
#pragma once
#include "faults.h"
#include "fiber.h"
#include "scheduler.h"
#include "shared_memory.h"

#include <bit>
#include <cstdarg>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace emu::scheduling {

// The same sequence on every platform (xorshift64*), unlike the standard library's distributions.
struct Random {
    std::uint64_t state;
    explicit Random(unsigned seed) : state((seed + 1ull) * 0x9E3779B97F4A7C15ull) {
        for (int i = 0; i < 4; ++i) (*this)();
    }
    std::uint32_t operator()() {
        state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
        return std::uint32_t(state * 0x2545F4914F6CDD1Dull >> 32);
    }
};

struct Block;
struct Warp;

struct Thread {
    uint3 index{};
    int lane = 0;
    Warp* warp = nullptr;
    Fiber* fiber = nullptr;           // null until it first runs
    const char* waits_for = nullptr;  // for the report of a deadlock
    bool in_cluster_barrier = false;  // has arrived and not waited yet
    unsigned cluster_phase = 0;       // of its last arrival
    void* arg = nullptr;              // what it brought to a warp rendezvous
    void* tsan = nullptr;
};

struct Warp {
    Block* block = nullptr;
    int number = 0;
    Thread* lanes[32] = {};
    unsigned present = 0, alive = 0, arrived = 0;  // lanes that exist; have not exited; wait at a rendezvous
    unsigned mask[32] = {};
    const char* name[32] = {};
};

struct Barrier {
    int arrived = 0, expected = 0, truths = 0;  // expected 0: all threads still running
    bool counting = false;
    Count result{};
    std::vector<Thread*> sleepers;

    void reset() {
        arrived = expected = truths = 0;
        sleepers.clear();
    }
};

// Which threads of a block can run.
struct Ready {
    unsigned warps = 0, lanes[32] = {};  // bit masks
    int priority[32];                    // Order::random: warps, most eager first

    void reset(Random& random) {
        warps = 0;
        for (int i = 0; i < 32; ++i) lanes[i] = 0, priority[i] = i;
        for (unsigned i = 31; i > 0; --i) std::swap(priority[i], priority[random() % (i + 1)]);
    }
    void add(int warp, unsigned mask) {
        lanes[warp] |= mask;
        if (lanes[warp]) warps |= 1u << warp;
    }
    // Takes a lane of the leading warp; `turn` hands the lead round.
    std::pair<int, int> take(Order order, Random& random, unsigned turn) {
        int w, l;
        if (order == Order::forward) {
            w = int((unsigned(std::countr_zero(std::rotr(warps, int(turn & 31)))) + turn) & 31);
            l = std::countr_zero(lanes[w]);
        } else if (order == Order::reverse) {
            w = int((31 - unsigned(std::countl_zero(std::rotl(warps, int(turn & 31)))) - turn) & 31);
            l = 31 - std::countl_zero(lanes[w]);
        } else {
            const std::uint32_t r = random();
            if (r % 32 == 0) std::swap(priority[r >> 5 & 31], priority[r >> 10 & 31]);
            unsigned i = turn;
            while (!(warps >> priority[i & 31] & 1)) ++i;
            w = priority[i & 31];
            l = int(r >> 15 & 31);
            l = (l + std::countr_zero(std::rotr(lanes[w], l))) & 31;
        }
        lanes[w] &= ~(1u << l);
        if (!lanes[w]) warps &= ~(1u << w);
        return {w, l};
    }
};

struct Cluster {
    std::vector<Block*> blocks;  // by rank
    int alive = 0, arrived = 0;  // threads that have not exited; those of them at the barrier
    unsigned phase = 0;
    std::vector<Thread*> sleepers;
};

struct Block {
    std::size_t slot = 0;  // in `blocks`
    Cluster* cluster = nullptr;
    unsigned rank = 0;
    int unread = 0;
    uint3 index{};
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    Ready ready;
    int alive = 0;
    Barrier barriers[16];
    unsigned for_all = 0;  // bit mask: barriers that wait for all threads still running
    SharedMemory shared;
};

struct InFlight {
    std::function<void()> work;
    Thread* issuer;
};

// Everything one launch uses.
extern void (*kernel)(void*);
extern void* closure;
extern std::string kernel_name;
extern Options how;  // the options as they were when the launch began
extern Random shuffle;
extern std::vector<std::unique_ptr<Block>> blocks;      // reused from launch to launch
extern std::vector<Block*> live;                        // in the order in which they lead
extern std::vector<std::unique_ptr<Cluster>> clusters;  // of `live`
extern std::vector<std::function<void()>> last_work;
extern std::unordered_map<const void*, std::vector<Thread*>> sleepers;
extern std::vector<Thread*> yielded;
extern std::vector<InFlight> in_flight;
extern std::string error;
extern int yields_in_a_row;
extern unsigned picks;   // since a thread ended or a barrier opened
extern long long ticks;  // clock64
extern std::optional<Watch> watch;

extern Fiber main_fiber;
extern std::vector<std::unique_ptr<Fiber>> fibers;
extern std::vector<Fiber*> idle;
#ifdef EMU_TSAN
// ThreadSanitizer takes a stack that another thread of the launch had before for memory that both share: a stack serves
// one thread a launch.
extern std::vector<Fiber*> used;
#endif
extern Fiber* current;
extern Thread* self;
extern Block* here;  // self's, or the one that deferred the work that runs now
#ifdef EMU_TSAN
extern void* os_thread_tsan;
extern std::vector<void*> tsan_fibers;  // by thread
extern void* agent_tsan;                // stands for hardware acting on its own
extern char started, ended;             // what they order: a block's start and the end of its threads
#endif

extern constinit thread_local bool launching;  // this OS thread runs a kernel

inline void enter(Block* b) {
    if (here == b) return;
    here = b;
    if (b) blockIdx = b->index;
}
void become(Thread* t);  // the thread whose code runs from here on; null: none's
void go(Fiber* to);      // leaves the current stack until somebody comes back to it

// ---- errors ---------------------------------------------------------------------------------------------

std::string text(const char* format, va_list args);
std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));
void report(const Thread* culprit, const Block* block, const std::string& what);
[[noreturn]] void give_up();  // leaves the kernel for good; nobody resumes a failed block
void abandon();               // a signal handler puts this in the place of the thread's code
std::string stuck_report();   // who waits where

// ---- who runs -------------------------------------------------------------------------------------------

inline void make_ready(Thread* t) { t->warp->block->ready.add(t->warp->number, 1u << t->lane); }
Thread* pick();  // the next thread to run, or null when none ever can
Fiber* fresh_fiber();
void fiber_main();                // runs one thread to its end, then starts another
void suspend(const char* what);   // others run until the current thread is made ready; inside Quiet
void open(Block& block, int id);  // a barrier: all who sleep there go on
void open_cluster_barrier_if_due(Cluster& c);

}  // namespace emu::scheduling
