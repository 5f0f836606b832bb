// Fibers, scheduling, barriers and warp rendezvous. Compiled without ThreadSanitizer instrumentation.
#include "emulator.h"
#include "fiber.h"
#include "hooks.h"
#include "counters.h"
#include <algorithm>
#include <bit>
#include <cstdarg>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <unordered_map>

// A section of their own, so that the counters can tell them from global memory.
#define EMU_VAR __attribute__((section("emu_vars")))
EMU_VAR uint3 threadIdx{}, blockIdx{};
EMU_VAR dim3 blockDim{}, gridDim{};

namespace ptx { void reset_block(); }

namespace emu {

Stats stats;

namespace {

struct Warp;

struct Thread {
    uint3 index{};
    int lane = 0;
    Warp* warp = nullptr;
    Fiber* fiber = nullptr;              // null until it first runs
    const char* waits_for = nullptr;     // for the report of a deadlock
    void* arg = nullptr;                 // what it brought to a warp rendezvous
    void* tsan = nullptr;
};

struct Warp {
    Thread* lanes[32] = {};
    unsigned present = 0, alive = 0, arrived = 0;          // lanes: that exist, that have not exited, that wait at a rendezvous
    unsigned mask[32] = {};
    const char* name[32] = {};
};

struct Barrier { int arrived = 0; std::vector<Thread*> sleepers; };

// Which threads can run. Every order lets one warp run ahead of the others as far as it can, because that is
// where missing synchronisation shows; they differ in which.
struct Ready {
    unsigned warps = 0, lanes[32] = {};  // bit masks
    int priority[32];                    // Order::random: warps, most eager first
    void reset(std::mt19937& rng) {
        warps = 0;
        for (int i = 0; i < 32; ++i) lanes[i] = 0, priority[i] = i;
        std::shuffle(priority, priority + 32, rng);
    }
    void add(int warp, unsigned mask) {
        lanes[warp] |= mask;
        if (lanes[warp]) warps |= 1u << warp;
    }
    std::pair<int, int> take(Order order, std::mt19937& rng) {           // warp, lane
        int w, l;
        if (order == Order::forward) w = std::countr_zero(warps), l = std::countr_zero(lanes[w]);
        else if (order == Order::reverse) w = 31 - std::countl_zero(warps), l = 31 - std::countl_zero(lanes[w]);
        else {
            std::uint32_t r = std::uint32_t(rng());
            if (r % 32 == 0) std::swap(priority[r >> 5 & 31], priority[r >> 10 & 31]);
            int i = 0;
            while (!(warps >> priority[i] & 1)) ++i;
            w = priority[i];
            l = int(r >> 15 & 31);
            unsigned from_l = std::rotr(lanes[w], l);
            l = (l + std::countr_zero(from_l)) & 31;
        }
        lanes[w] &= ~(1u << l);
        if (!lanes[w]) warps &= ~(1u << w);
        return {w, l};
    }
};

// Shared memory ends at an unmapped page, so running past its end faults.
struct SharedMemory {
    static constexpr std::size_t kMax = 228 * 1024;
    char* pages = nullptr;
    unsigned char* base = nullptr;
    std::size_t bytes = 0;
    void reset(std::size_t n) {
        if (n > kMax) fail("%zu bytes of shared memory asked for; no GPU has more than %zu", n, kMax);
        if (!pages) {
            pages = static_cast<char*>(mmap(nullptr, kMax + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
            mprotect(pages + kMax, 4096, PROT_NONE);
        }
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(pages, kMax);
#endif
        bytes = n;
        base = reinterpret_cast<unsigned char*>(pages) + kMax - ((n + 1023) & ~std::size_t{1023});
        std::memset(base, 0xFF, kMax - std::size_t(base - reinterpret_cast<unsigned char*>(pages)));   // NaN in every floating-point format
#if defined(__SANITIZE_ADDRESS__)
        __asan_poison_memory_region(base + n, ((n + 1023) & ~std::size_t{1023}) - n);
        __asan_poison_memory_region(pages, std::size_t(base - reinterpret_cast<unsigned char*>(pages)));
#endif
    }
};

// Everything one run of run_grid() uses.
void (*kernel)(void*);
void* closure;
std::vector<Thread> threads;
std::vector<Warp> warps;
Ready ready;
int alive;
Barrier barriers[16];
std::unordered_map<const void*, std::vector<Thread*>> sleepers;
std::vector<std::function<void()>> in_flight;
SharedMemory shared;
Options how;                             // options() as they were when the run began
std::mt19937 rng;
std::string error;

Fiber main_fiber;
std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber*> idle;
Fiber* current = &main_fiber;
Thread* self = nullptr;
#ifdef EMU_TSAN
std::vector<void*> tsan_fibers;          // by thread
void* agent_tsan;                        // stands for hardware acting on its own
#endif

void make_ready(Thread* t) { ready.add(int(t->warp - warps.data()), 1u << t->lane); }

void become(Thread* t) {
    self = t;
    if (t) threadIdx = t->index;
#ifdef EMU_TSAN
    static void* os_thread = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(t ? t->tsan : os_thread, 1);      // 1: a switch orders nothing
#endif
}

void go(Fiber* to) {
    ++stats.switches;
    Fiber* from = current;
    current = to;
    switch_to(*from, *to);
}

void land_one() {
    std::size_t i = how.order == Order::forward ? 0
                  : how.order == Order::reverse ? in_flight.size() - 1 : rng() % in_flight.size();
    auto work = std::move(in_flight[i]);
    in_flight.erase(in_flight.begin() + std::ptrdiff_t(i));
    work();
}

Thread* pick() {
    if (how.order == Order::random && !in_flight.empty() && rng() % 8 == 0) land_one();
    while (!ready.warps && !in_flight.empty()) land_one();
    if (!ready.warps) return nullptr;
    auto [w, l] = ready.take(how.order, rng);
    return warps[std::size_t(w)].lanes[l];
}

void fiber_main();

Fiber* fresh_fiber() {
    if (idle.empty()) {
        fibers.push_back(std::make_unique<Fiber>());
        prepare(*fibers.back(), fiber_main);
        return fibers.back().get();
    }
    Fiber* f = idle.back();
    idle.pop_back();
    return f;
}

// The current thread cannot go on: run others until it is made ready again.
void suspend(const char* what) {
    Thread* me = self;
    me->waits_for = what;
    Thread* t = pick();
    if (t == me) return;
    if (!t) { become(nullptr); go(&main_fiber); return; }    // deadlock: run_block reports it and never comes back
    if (!t->fiber) t->fiber = fresh_fiber();
    become(t);
    go(t->fiber);
}

void release(Barrier& b) {
    for (Thread* t : b.sleepers) make_ready(t);
    b.sleepers.clear();
    b.arrived = 0;
}

void finished(Thread* t) {
    t->warp->alive &= ~(1u << t->lane);
    --alive;
    if (barriers[0].arrived && barriers[0].arrived == alive) release(barriers[0]);   // exited threads count as arrived
    if (alive == 0 && !in_flight.empty()) error = "the block ended before its asynchronous copies did";
#ifdef EMU_TSAN
    __tsan_release(&alive);
#endif
}

// A fiber runs one thread to its end, then starts another on the same stack; a kernel in which nobody
// waits therefore never switches.
void fiber_main() {
    arrived(*current);
    for (;;) {
        kernel(closure);
        Thread* t;
        {
            Quiet quiet;
            finished(self);
            t = pick();
            if (!t || t->fiber) idle.push_back(current);
            else t->fiber = current;
        }
        become(t);
        if (!t || t->fiber != current) go(t ? t->fiber : &main_fiber);
    }
}

std::string stuck_report() {
    std::map<std::string, std::string> who;
    std::map<std::string, int> count;
    for (Thread& t : threads) {
        if (!(t.warp->alive >> t.lane & 1)) continue;
        std::string what = t.waits_for ? t.waits_for : "?";
        int n = int(&t - threads.data());
        if (count[what]++ < 4) who[what] += " " + std::to_string(n);
    }
    std::string s;
    for (auto& [what, list] : who)
        s += "\n  " + std::to_string(count[what]) + " thread(s) in " + what + ", first:" + list;
    return s;
}

void run_block(dim3 block, std::size_t shared_bytes) {
    Quiet quiet;
    std::size_t n = std::size_t(block.x) * block.y * block.z;
    shared.reset(shared_bytes);
    ready.reset(rng);
    threads.resize(n);
    warps.assign((n + 31) / 32, Warp{});
    for (Barrier& b : barriers) b = Barrier{};
    sleepers.clear();
    in_flight.clear();
    ptx::reset_block();
    alive = int(n);
    for (std::size_t i = 0; i < n; ++i) {
        Thread& t = threads[i];
        t = Thread{};
        t.index = uint3{unsigned(i % block.x), unsigned(i / block.x % block.y), unsigned(i / block.x / block.y)};
        t.lane = int(i % 32);
        t.warp = &warps[i / 32];
        t.warp->lanes[t.lane] = &t;
        t.warp->alive = t.warp->present |= 1u << t.lane;
        make_ready(&t);
#ifdef EMU_TSAN
        if (tsan_fibers.size() <= i) tsan_fibers.push_back(__tsan_create_fiber(0));
        t.tsan = tsan_fibers[i];
#endif
    }
#ifdef EMU_TSAN
    static int start;                    // everything before this block happened before each of its threads
    if (!agent_tsan) agent_tsan = __tsan_create_fiber(0);
    __tsan_acquire(&alive);
    __tsan_release(&start);
    for (Thread& t : threads) { become(&t); __tsan_acquire(&start); }
    __tsan_switch_to_fiber(agent_tsan, 1); __tsan_acquire(&start);
    become(nullptr);
#endif
    Thread* t = pick();
    t->fiber = fresh_fiber();
    become(t);
    go(t->fiber);                        // comes back when nothing can run
    if (error.empty() && alive > 0) error = "deadlock: " + std::to_string(alive) + " thread(s) wait for ever" + stuck_report();
    count_block_end();
#ifdef EMU_TSAN
    __tsan_acquire(&alive);
#endif
}

}  // namespace

Options& options() {
    static Options o = [] {
        Options o;
        if (const char* s = std::getenv("EMU_ORDER")) {
            std::string v = s;
            if (v == "reverse") o.order = Order::reverse;
            if (v.starts_with("random")) {
                o.order = Order::random;
                if (auto colon = v.find(':'); colon != v.npos) o.seed = unsigned(std::stoul(v.substr(colon + 1)));
            }
        }
        if (const char* s = std::getenv("EMU_ASYNC")) o.late = std::string(s) == "late";
        return o;
    }();
    return o;
}

void run_grid([[maybe_unused]] const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, void (*call)(void*), void* arg) {
    static std::mutex one_at_a_time;
    std::lock_guard lock(one_at_a_time);
    if (std::size_t(block.x) * block.y * block.z > 1024 || !block.x || !block.y || !block.z)
        throw Error("a block has 1 to 1024 threads");
    kernel = call;
    closure = arg;
    blockDim = block;
    gridDim = grid;
    error.clear();
    how = options();
    rng.seed(how.seed);
    std::size_t blocks = std::size_t(grid.x) * grid.y * grid.z;
    for (std::size_t i = 0; i < blocks && error.empty(); ++i) {
        std::size_t b = how.order == Order::forward ? i : blocks - 1 - i;
        blockIdx = uint3{unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y)};
        run_block(block, shared_bytes);
    }
    if (!error.empty()) {                // threads were left in the middle: start over with their stacks
        idle.clear();
        for (auto& f : fibers) { prepare(*f, fiber_main); idle.push_back(f.get()); }
        throw Error(error);
    }
}

void fail(const char* format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    std::vsnprintf(text, sizeof text, format, args);
    va_end(args);
    error = text;
    if (!self) throw Error(error);
    char where[128];
    std::snprintf(where, sizeof where, " [block (%u,%u,%u) thread (%u,%u,%u)]", blockIdx.x, blockIdx.y, blockIdx.z,
                  threadIdx.x, threadIdx.y, threadIdx.z);
    error += where;
    become(nullptr);
    go(&main_fiber);
    std::abort();                        // nobody resumes a failed block
}

unsigned char* shared_memory() { return shared.base; }
unsigned char* shared_pointer(std::uint32_t offset) {
    if (offset < 1024 || offset - 1024 >= shared.bytes) fail("shared offset %u is outside the block's %zu bytes", offset, shared.bytes);
    return shared.base + (offset - 1024);
}
std::uint32_t shared_offset(const void* p) {
    auto d = static_cast<const unsigned char*>(p) - shared.base;
    if (d < 0 || std::size_t(d) >= shared.bytes) fail("%p does not lie in shared memory", p);
    return std::uint32_t(d) + 1024;      // sm_90 keeps the first 1 KB for itself
}
bool late() { return how.late; }
int lane() { return self->lane; }
const void* thread_key() { return self; }
std::size_t thread_number() { return std::size_t(self - threads.data()); }
bool on_fiber_stack(const void* p) { return !self || (p >= current->stack && p < current->stack + current->size); }
bool in_shared_memory(const void* p) { return p >= shared.base && p < shared.base + shared.bytes; }
int warp_in_block() { return int(self->warp - warps.data()); }

void barrier(int id, int count, bool wait) {
    Quiet quiet;
    Barrier& b = barriers[id];
    ++stats.block_barriers;
    sync_release(&b);
    if (++b.arrived == (count ? count : alive)) release(b);
    else if (wait) { b.sleepers.push_back(self); suspend(id == 0 ? "__syncthreads" : "a named barrier"); }
    if (wait) sync_acquire(&b);
}

void collective(const char* name, unsigned mask, void* arg, Compute compute, const void* extra) {
    Quiet quiet;
    Thread* me = self;
    Warp& w = *me->warp;
    unsigned bit = 1u << me->lane;
    mask &= w.present;                   // a block whose size is not a multiple of 32
    if (!(mask & bit)) fail("%s: lane %d is not in its own mask %08x", name, me->lane, mask);
    if (mask & ~w.alive) fail("%s: mask %08x names lanes that have exited (alive: %08x)", name, mask, w.alive);
    w.arrived |= bit;
    w.mask[me->lane] = mask;
    w.name[me->lane] = name;
    me->arg = arg;
    if ((w.arrived & mask) != mask) { suspend(name); return; }
    void* args[32] = {};
    for (int i = 0; i < 32; ++i) {
        if (!(mask >> i & 1)) continue;
        if (w.mask[i] != mask || w.name[i] != name)
            fail("lanes of one warp disagree: lane %d is at %s mask %08x, lane %d at %s mask %08x",
                 me->lane, name, mask, i, w.name[i], w.mask[i]);
        args[i] = w.lanes[i]->arg;
    }
    ++stats.collectives;
    w.arrived &= ~mask;
    compute(args, extra);
    ready.add(warp_in_block(), mask & ~bit);
}

void sync_warp(unsigned mask) {
    Warp* w = self->warp;
    sync_release(w);
    collective("__syncwarp", mask, nullptr, [](void* const*, const void*) {});
    sync_acquire(w);
}

void sleep_on(const void* address, const char* what) {
    Quiet quiet;
    sleepers[address].push_back(self);
    suspend(what);
}
void wake(const void* address) {
    Quiet quiet;
    auto it = sleepers.find(address);
    if (it == sleepers.end()) return;
    for (Thread* t : it->second) make_ready(t);
    it->second.clear();
}

void defer(std::function<void()> work) {
    static char token;
    sync_release(&token);
    Quiet quiet;
    auto run = [work = std::move(work)] {
#ifdef EMU_TSAN
        Thread* me = self;
        __tsan_switch_to_fiber(agent_tsan, 1);
        __tsan_acquire(&token);
        work();
        __tsan_switch_to_fiber(me->tsan, 1);
#else
        work();
#endif
    };
    if (late()) in_flight.push_back(std::move(run));
    else run();
}

}  // namespace emu
