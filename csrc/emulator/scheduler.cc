// Threads, blocks, barriers and warp rendezvous. Compiled without ThreadSanitizer instrumentation.
//
// Each CUDA thread runs on a fiber. A thread that ends starts the next one on its own stack, so a kernel in which
// nobody waits never switches. Blocks run one after another, or, when resident, side by side. Nothing here runs in
// parallel: one launch at a time, on the OS thread that asked for it.
#include "scheduler.h"

#include "counters.h"
#include "device.h"
#include "faults.h"
#include "fiber.h"
#include "hooks.h"
#include "shared_memory.h"

#include <algorithm>
#include <bit>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <pthread.h>

// A section of their own, so that the counters can tell them from global memory.
#define EMU_VAR __attribute__((section("emu_vars")))
EMU_VAR uint3 threadIdx{}, blockIdx{};
EMU_VAR dim3 blockDim{}, gridDim{};

namespace ptx { void reset_block(); }

namespace emu {

Stats stats;

namespace {

// So many yields in a row, with nothing else happening, are a livelock: some 50 ms.
constexpr int kYieldLimit = 1'000'000;
// A warp that has led for so many switches, without any thread ending and any barrier opening, lets the next one lead:
// it may be waiting for that one.
constexpr int kPatience = 1 << 16;

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
    Fiber* fiber = nullptr;              // null until it first runs
    const char* waits_for = nullptr;     // for the report of a deadlock
    bool in_cluster_barrier = false;     // has arrived and not waited yet
    unsigned cluster_phase = 0;          // of its last arrival
    void* arg = nullptr;                 // what it brought to a warp rendezvous
    void* tsan = nullptr;
};

struct Warp {
    Block* block = nullptr;
    int number = 0;
    Thread* lanes[32] = {};
    unsigned present = 0, alive = 0, arrived = 0;          // lanes that exist; have not exited; wait at a rendezvous
    unsigned mask[32] = {};
    const char* name[32] = {};
};

struct Barrier {
    int arrived = 0, expected = 0, truths = 0;             // expected 0: all threads still running
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
    unsigned warps = 0, lanes[32] = {};                    // bit masks
    int priority[32];                                      // Order::random: warps, most eager first

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
    std::vector<Block*> blocks;          // by rank
    int alive = 0, arrived = 0;          // threads that have not exited; those of them at the barrier
    unsigned phase = 0;
    std::vector<Thread*> sleepers;
};

struct Block {
    std::size_t slot = 0;                // in `blocks`
    Cluster* cluster = nullptr;
    unsigned rank = 0;
    int unread = 0;
    uint3 index{};
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    Ready ready;
    int alive = 0;
    Barrier barriers[16];
    unsigned for_all = 0;                // bit mask: barriers that wait for all threads still running
    SharedMemory shared;
};

struct InFlight {
    std::function<void()> work;
    Thread* issuer;
};

// Everything one launch uses.
void (*kernel)(void*);
void* closure;
std::string kernel_name;
Options how;                             // the options as they were when the launch began
Random shuffle(1);
std::vector<std::unique_ptr<Block>> blocks;                // reused from launch to launch
std::vector<Block*> live;                                  // in the order in which they lead
std::vector<std::unique_ptr<Cluster>> clusters;            // of `live`
std::vector<std::function<void()>> last_work;
std::unordered_map<const void*, std::vector<Thread*>> sleepers;
std::vector<Thread*> yielded;
std::vector<InFlight> in_flight;
std::string error;
int yields_in_a_row;
unsigned picks;                          // since a thread ended or a barrier opened
long long ticks;                         // clock64
std::optional<Watch> watch;

Fiber main_fiber;
std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber*> idle;
#ifdef EMU_TSAN
// ThreadSanitizer takes a stack that another thread of the launch had before for memory that both share: a stack serves one
// thread a launch.
std::vector<Fiber*> used;
#endif
Fiber* current = &main_fiber;
Thread* self = nullptr;
Block* here = nullptr;                   // self's, or the one that deferred the work that runs now
#ifdef EMU_TSAN
void* os_thread_tsan;
std::vector<void*> tsan_fibers;          // by thread
void* agent_tsan;                        // stands for hardware acting on its own
char started, ended;                     // what they order: a block's start and the end of its threads
#endif

thread_local bool launching = false;     // this OS thread runs a kernel

void enter(Block* b) {
    if (here == b) return;
    here = b;
    if (b) blockIdx = b->index;
}

void become(Thread* t) {
    self = t;
    if (t) {
        threadIdx = t->index;
        enter(t->warp->block);
    }
#ifdef EMU_TSAN
    __tsan_switch_to_fiber(t ? t->tsan : os_thread_tsan, 1);                // 1: a switch orders nothing
#endif
}

void go(Fiber* to) {
    ++stats.switches;
    Fiber* from = current;
    current = to;
    switch_to(*from, *to);
}

// ---- errors -----------------------------------------------------------------------------------------

std::string text(const char* format, va_list args) {
    char buffer[1024];
    std::vsnprintf(buffer, sizeof buffer, format, args);
    return buffer;
}
__attribute__((format(printf, 1, 2))) std::string text(const char* format, ...) {
    va_list args;
    va_start(args, format);
    std::string s = text(format, args);
    va_end(args);
    return s;
}

std::string indices(uint3 i) { return text("(%u,%u,%u)", i.x, i.y, i.z); }

void report(const Thread* culprit, const Block* block, const std::string& what) {
    if (!error.empty()) return;          // the first mistake is the one to report
    error = kernel_name;
    if (block) error += ", block " + indices(block->index);
    if (culprit) error += ", thread " + indices(culprit->index);
    error += ": " + what;
}

// Leaves the kernel for good; nobody resumes a failed block.
[[noreturn]] void give_up() {
    in_emulator = true;
    become(nullptr);
    go(&main_fiber);
    std::abort();
}

std::string describe(const FaultReport& fault) {
    switch (fault.kind) {
        case Fault::stack_overflow:
            return text("the thread's stack overflows (%zu KB)", kStackBytes / 1024);
        case Fault::arithmetic: return "integer division by zero, or its quotient does not fit";
        case Fault::illegal_instruction: return "illegal instruction";
        case Fault::endless_loop:
            return text("livelock: no thread ended in %g s of CPU time, and this one was running",
                        how.watchdog_seconds);
        default: break;
    }
    if (here->shared.near(fault.address)) {
        const std::ptrdiff_t at = fault.address - here->shared.base();
        if (at < 0) return text("shared memory accessed %td bytes before its start", -at);
        return text("shared memory accessed at byte %td; the block has %zu", at, here->shared.bytes());
    }
    return text("illegal memory access at %p", static_cast<const void*>(fault.address));
}

// A signal handler has put this in the place of the thread's code.
void abandon() {
    in_emulator = true;
    report(self, here, describe(watch->report()));
    give_up();
}

// Who waits where.
std::string stuck_report() {
    struct Group { int count = 0; std::string first; };
    std::map<std::string, Group> groups;
    for (Block* b : live)
        for (Thread& t : b->threads) {
            if (!(t.warp->alive >> t.lane & 1)) continue;
            Group& g = groups[t.waits_for ? t.waits_for : "no call that waits"];
            if (g.count++ < 4)
                g.first += (live.size() > 1 ? " block " + indices(b->index) + " thread " : " ") + indices(t.index);
        }
    std::string s;
    for (auto& [what, g] : groups)
        s += text("\n  %d thread%s in %s:", g.count, g.count == 1 ? "" : "s", what.c_str()) + g.first +
             (g.count > 4 ? " ..." : "");
    return s;
}

// ---- who runs ---------------------------------------------------------------------------------------

void make_ready(Thread* t) { t->warp->block->ready.add(t->warp->number, 1u << t->lane); }

void land_one() {
    std::size_t i = how.order == Order::forward   ? 0
                    : how.order == Order::reverse ? in_flight.size() - 1
                                                  : shuffle() % in_flight.size();
    InFlight next = std::move(in_flight[i]);
    in_flight.erase(in_flight.begin() + std::ptrdiff_t(i));
    yields_in_a_row = 0;
    Thread* me = self;                   // a mistake is the issuer's
    Block* before = here;
    self = next.issuer;
    enter(next.issuer->warp->block);
    next.work();
    self = me;
    enter(before);
}

Block* leading_block() {
    const std::size_t n = live.size();
    if (n == 1) return live[0]->ready.warps ? live[0] : nullptr;
    if (how.order == Order::random && shuffle() % 32 == 0) {
        const std::size_t i = shuffle() % n, j = shuffle() % n;
        std::swap(live[i], live[j]);
    }
    for (std::size_t i = 0; i < n; ++i)
        if (Block* b = live[(i + picks / kPatience) % n]; b->ready.warps) return b;
    return nullptr;
}

[[noreturn]] void livelock(const std::string& why) {
    report(nullptr, live.size() == 1 ? here : nullptr, "livelock: " + why + stuck_report());
    give_up();
}

// The next thread to run, or null when none ever can.
Thread* pick() {
    if (watch->expired()) livelock(text("no thread ended in %g s of CPU time", how.watchdog_seconds));
    ++picks;
    if (how.order == Order::random && !in_flight.empty() && shuffle() % 8 == 0) land_one();
    for (;;) {
        if (Block* b = leading_block()) {
            auto [w, l] = b->ready.take(how.order, shuffle, picks / kPatience);
            return b->warps[std::size_t(w)].lanes[l];
        }
        if (!yielded.empty()) {
            if (yields_in_a_row > kYieldLimit)
                livelock(text("threads yield %d times in a row and nothing else happens%s", kYieldLimit,
                              live.size() == 1 && gridDim.x * std::uint64_t(gridDim.y) * gridDim.z > 1
                                  ? " (blocks that wait for one another need gpu::launch_resident)" : ""));
            if (!in_flight.empty() && yields_in_a_row > int(yielded.size())) land_one();      // all wait, again
            for (Thread* t : yielded) make_ready(t);
            yielded.clear();
        } else if (!in_flight.empty()) {
            land_one();
        } else {
            return nullptr;
        }
    }
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

// The current thread cannot go on: others run until it is made ready again. Called inside Quiet.
void suspend(const char* what) {
    Thread* me = self;
    me->waits_for = what;
    Thread* t = pick();
    if (t != me) {
        if (!t) give_up();               // deadlock: run() reports it
        if (!t->fiber) t->fiber = fresh_fiber();
        become(t);
        go(t->fiber);
    }
    me->waits_for = nullptr;
}

void open(Block& block, int id) {
    Barrier& b = block.barriers[id];
    block.for_all &= ~(1u << id);
    b.result = {b.truths, b.arrived};
    for (Thread* t : b.sleepers) make_ready(t);
    b.sleepers.clear();
    b.arrived = b.truths = 0;
    yields_in_a_row = 0;
    picks = 0;
}

void open_cluster_barrier_if_due(Cluster& c) {
    if (!c.arrived || c.arrived != c.alive) return;
    c.arrived = 0;
    ++c.phase;
    for (Thread* t : c.sleepers) make_ready(t);
    c.sleepers.clear();
    yields_in_a_row = 0;
    picks = 0;
}

void finished(Thread* t) {
    Warp& w = *t->warp;
    Block& block = *w.block;
    const unsigned bit = 1u << t->lane;
    w.alive &= ~bit;
    --block.alive;
    yields_in_a_row = 0;
    picks = 0;
    watch->progress();
    for (unsigned waiting = w.arrived; waiting; waiting &= waiting - 1)
        if (int l = std::countr_zero(waiting); w.mask[l] & bit)
            fail("%s: lane %d waits for lane %d (mask %08x), which exits instead", w.name[l], l, t->lane, w.mask[l]);
    for (unsigned ids = block.for_all; ids; ids &= ids - 1)                  // for which exited threads no longer count
        if (int id = std::countr_zero(ids); block.barriers[id].arrived == block.alive) open(block, id);
    Cluster& cluster = *block.cluster;
    --cluster.alive;
    if (t->in_cluster_barrier && t->cluster_phase == cluster.phase) --cluster.arrived;
    open_cluster_barrier_if_due(cluster);
    if (block.alive == 0 && block.unread > 0)
        fail("the block ended and nobody has waited until its TMA stores had read shared memory");
    if (block.alive == 0)
        for (InFlight& f : in_flight)
            if (f.issuer->warp->block == &block) {
                self = f.issuer;
                fail("the block ended before this thread's asynchronous copy did");
            }
#ifdef EMU_TSAN
    __tsan_release(&ended);
#endif
}

// A fiber runs one thread to its end, then starts another on the same stack.
void fiber_main() {
    arrived(*current);
    for (;;) {
        in_emulator = false;
        try {
            kernel(closure);
        } catch (const std::exception& e) {
            report(self, here, std::string("exception: ") + e.what());
        } catch (...) {
            report(self, here, "exception");
        }
        in_emulator = true;
        if (!error.empty()) give_up();
        Thread* t;
        {
            Quiet quiet;
            finished(self);
            t = pick();
#ifdef EMU_TSAN
            used.push_back(current);
            if (t && !t->fiber) t->fiber = fresh_fiber();
#else
            if (!t || t->fiber) idle.push_back(current);
            else t->fiber = current;
#endif
        }
        become(t);
        if (!t || t->fiber != current) go(t ? t->fiber : &main_fiber);
    }
}

// ---- blocks and grids ----------------------------------------------------------------------------------

void set_up(Block& b, uint3 index, dim3 shape) {
    Quiet quiet;
    const std::size_t n = std::size_t(shape.x) * shape.y * shape.z;
    b.index = index;
    b.shared.poison();
    b.ready.reset(shuffle);
    b.alive = int(n);
    b.unread = 0;
    b.cluster->alive += int(n);
    for (Barrier& x : b.barriers) x.reset();
    b.for_all = 0;
    b.threads.resize(n);
    b.warps.assign((n + 31) / 32, Warp{});
    for (std::size_t i = 0; i < n; ++i) {
        Thread& t = b.threads[i];
        Warp& w = b.warps[i / 32];
        t = Thread{};
        t.index = uint3{unsigned(i % shape.x), unsigned(i / shape.x % shape.y), unsigned(i / shape.x / shape.y)};
        t.lane = int(i % 32);
        t.warp = &w;
        w.block = &b;
        w.number = int(i / 32);
        w.lanes[t.lane] = &t;
        w.alive = w.present |= 1u << t.lane;
        make_ready(&t);
    }
    stats.threads += n;
    ++stats.blocks;
}

// Runs the blocks of `live`, which are set up, to their end.
void run() {
    Quiet quiet;
    sleepers.clear();
    yielded.clear();
    in_flight.clear();
    last_work.clear();
    yields_in_a_row = 0;
    picks = 0;
    here = nullptr;
    ptx::reset_block();
#ifdef EMU_TSAN
    std::size_t n = 0;
    for (Block* b : live)
        for (Thread& t : b->threads) {
            if (tsan_fibers.size() <= n) tsan_fibers.push_back(__tsan_create_fiber(0));
            t.tsan = tsan_fibers[n++];
        }
    if (!agent_tsan) agent_tsan = __tsan_create_fiber(0);
    __tsan_acquire(&ended);              // everything before now happened before each of these threads
    __tsan_release(&started);
    for (Block* b : live)
        for (Thread& t : b->threads) {
            become(&t);
            __tsan_acquire(&started);
        }
    __tsan_switch_to_fiber(agent_tsan, 1);
    __tsan_acquire(&started);
    become(nullptr);
#endif
    Thread* t = pick();
    t->fiber = fresh_fiber();
    become(t);
    go(t->fiber);                        // comes back when nothing can run
    int alive = 0;
    for (Block* b : live) alive += b->alive;
    if (error.empty() && alive > 0) {
        report(nullptr, live.size() == 1 ? live[0] : nullptr,
               text("deadlock: %d thread%s wait%s for ever", alive, alive == 1 ? "" : "s", alive == 1 ? "s" : "") +
                   stuck_report());
    }
    if (error.empty()) {
        for (auto& work : last_work) work();
        last_work.clear();
    }
    for (Block* b : live)
        if (std::ptrdiff_t at = b->shared.trespass())
            report(nullptr, b,
                   at < 0 ? text("shared memory written %td bytes before its start", -at)
                          : text("shared memory written at byte %td; the block has %zu", at, b->shared.bytes()));
    count_block_end();
#ifdef EMU_TSAN
    __tsan_acquire(&ended);
    idle.insert(idle.end(), used.begin(), used.end());
    used.clear();
#endif
}

// The i-th of n blocks in a pseudo-random order: four Feistel rounds on an even number of bits, walked until inside.
std::uint64_t permuted(std::uint64_t i, std::uint64_t n, unsigned seed) {
    const int half = std::max(1, (int(std::bit_width(n - 1)) + 1) / 2);
    const std::uint64_t low = (1ull << half) - 1;
    do {
        std::uint64_t a = i >> half, b = i & low;
        for (std::uint64_t round = 0; round < 4; ++round) {
            std::uint64_t h = (b + (round << 32) + (std::uint64_t(seed) << 34)) * 0x9E3779B97F4A7C15ull;
            h = (h ^ h >> 29) * 0xBF58476D1CE4E5B9ull;
            a ^= h >> 31 & low;
            std::swap(a, b);
        }
        i = a << half | b;
    } while (i >= n);
    return i;
}

// `gpu::kernel_name() [... kKernel = {anonymous}::row_sum_kernel<float>]` -> `row_sum_kernel<float>`
std::string readable(std::string_view name) {
    if (auto start = name.find("kKernel = "); start != name.npos) {
        name.remove_prefix(start + 10);
        if (auto end = name.find_last_of("];"); end != name.npos) name = name.substr(0, end);
    }
    if (name.starts_with('&')) name.remove_prefix(1);
    std::string s(name);
    for (std::string_view noise : {"{anonymous}::", "(anonymous namespace)::", "<unnamed>::"})
        for (std::size_t at; (at = s.find(noise)) != s.npos;) s.erase(at, noise.size());
    return s.empty() ? "kernel" : s;
}

void check_launch(dim3 grid, dim3 block, std::size_t shared_bytes, const Together& together) {
    auto require = [](bool ok, const std::string& what) {
        if (!ok) throw Error(kernel_name + ": cannot be launched: " + what);
    };
    const std::uint64_t threads = std::uint64_t(block.x) * block.y * block.z,
                        n = std::uint64_t(grid.x) * grid.y * grid.z;
    auto shape = [](dim3 d) { return text("(%u, %u, %u)", d.x, d.y, d.z); };
    require(threads >= 1, "a block of " + shape(block) + " has no threads");
    require(block.x <= 1024 && block.y <= 1024 && block.z <= 64 && threads <= 1024,
            "a block of " + shape(block) + " exceeds (1024, 1024, 64) or 1024 threads");
    require(n >= 1, "a grid of " + shape(grid) + " has no blocks");
    require(grid.x <= 0x7FFFFFFF && grid.y <= 65535 && grid.z <= 65535,
            "a grid of " + shape(grid) + " exceeds (2147483647, 65535, 65535)");
    const DeviceProperties& device = posed_device();
    require(shared_bytes <= std::size_t(device.shared_per_block),
            text("%zu bytes of shared memory; a block of %s has at most %d", shared_bytes, device.name.c_str(),
                 device.shared_per_block));
    if (together.clustered) {
        const dim3 c = together.cluster;
        const std::uint64_t size = std::uint64_t(c.x) * c.y * c.z;
        require(device.major >= 9, "clusters need compute capability 9.0; " + device.name + " has " +
                                       text("%d.%d", device.major, device.minor));
        require(size >= 1 && size <= 8, "a cluster of " + shape(c) + " does not have 1 to 8 blocks");
        require(grid.x % c.x == 0 && grid.y % c.y == 0 && grid.z % c.z == 0,
                "a grid of " + shape(grid) + " is not made of clusters of " + shape(c));
    }
    if (together.resident)
        require(
            n <= std::uint64_t(max_resident_blocks(block, shared_bytes)),
            text("%llu resident blocks of %llu threads and %zu bytes of shared memory; %d fit", (unsigned long long)n,
                 (unsigned long long)threads, shared_bytes, max_resident_blocks(block, shared_bytes)));
}

// After a mistake, threads were left in the middle of things: all stacks start over.
void start_over() {
    idle.clear();
    for (auto& f : fibers) {
        prepare(*f, fiber_main);
        idle.push_back(f.get());
    }
    in_flight.clear();
    sleepers.clear();
    yielded.clear();
#ifdef EMU_TSAN
    used.clear();
    for (void* f : tsan_fibers) __tsan_destroy_fiber(f);   // each may be ignoring accesses
    tsan_fibers.clear();
    if (agent_tsan) __tsan_destroy_fiber(agent_tsan);
    agent_tsan = nullptr;
#endif
}

// While kernels run on this OS thread.
struct Running {
    Running() { watch.emplace(how.watchdog_seconds, &current, abandon), launching = true; }
    ~Running() { watch.reset(), launching = false; }
};

uint3 coordinates(std::uint64_t i, dim3 grid) {
    return uint3{unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y)};
}

// One launch at a time. A process that forks waits for the launch that is running, so that the child finds it over.
std::mutex& launch_mutex() {
    static std::mutex mutex;
    static const int registered = pthread_atfork([] { if (!launching) launch_mutex().lock(); },
                                                 [] { if (!launching) launch_mutex().unlock(); },
                                                 [] { if (!launching) launch_mutex().unlock(); });
    (void)registered;
    return mutex;
}

Options from_environment() {
    Options o;
    if (const char* s = std::getenv("EMU_ORDER")) {
        const std::string v = s;
        if (v == "reverse") o.order = Order::reverse;
        if (v.starts_with("random")) {
            o.order = Order::random;
            if (auto colon = v.find(':'); colon != v.npos)
                o.seed = unsigned(std::strtoul(v.c_str() + colon + 1, nullptr, 10));
        }
    }
    if (const char* s = std::getenv("EMU_ASYNC")) o.late = std::string(s) == "late";
    return o;
}
Options& next_options() {
    static Options o = from_environment();
    return o;
}

}  // namespace

Options options() {
    std::lock_guard lock(launch_mutex());
    return next_options();
}
void set_options(const Options& o) {
    std::lock_guard lock(launch_mutex());
    next_options() = o;
}
Stats read_stats() {
    std::lock_guard lock(launch_mutex());
    return stats;
}
void reset_stats() {
    std::lock_guard lock(launch_mutex());
    stats = Stats{};
}

int max_resident_blocks(dim3 block, std::size_t shared_bytes) {
    const DeviceProperties& device = posed_device();
    const int threads = int(block.x * block.y * block.z + 31) / 32 * 32;
    // Threads and blocks that an SM holds: CUDA programming guide, compute capabilities.
    const bool big = device.minor == 0 && device.major < 12;
    const int by_threads = (big ? 2048 : 1536) / std::max(threads, 32);
    const int by_shared = device.shared_per_sm / (int(shared_bytes) + 1024);           // the system keeps 1 KB a block
    return resident_sm_count() * std::min({by_threads, by_shared, big ? 32 : 16});
}

void run_grid(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, const Together& together,
              void (*call)(void*), void* arg) {
    if (launching) fail("a kernel cannot launch a kernel");
    std::lock_guard lock(launch_mutex());
    kernel_name = readable(name);
    check_launch(grid, block, shared_bytes, together);

    kernel = call;
    closure = arg;
    blockDim = block;
    gridDim = grid;
    error.clear();
    how = next_options();
    shuffle = Random(how.seed);
    ticks = 0;
    ++stats.launches;
    main_fiber = Fiber{};                // of this OS thread
    current = &main_fiber;
#ifdef EMU_TSAN
    os_thread_tsan = __tsan_get_current_fiber();
#endif

    const dim3 cluster = together.cluster, across(grid.x / cluster.x, grid.y / cluster.y, grid.z / cluster.z);
    const std::size_t size = std::size_t(cluster.x) * cluster.y * cluster.z;
    const std::uint64_t count = std::uint64_t(across.x) * across.y * across.z;             // clusters
    const std::size_t at_once = together.resident ? std::size_t(count) : 1;
    while (blocks.size() < at_once * size) {
        blocks.push_back(std::make_unique<Block>());
        blocks.back()->slot = blocks.size() - 1;
    }
    for (std::size_t i = 0; i < at_once * size; ++i) blocks[i]->shared.resize(shared_bytes);
    auto in_order = [&](std::uint64_t i, std::uint64_t n) {
        return how.order == Order::forward   ? i
               : how.order == Order::reverse ? n - 1 - i
                                             : permuted(i, n, how.seed);
    };
    auto set_up_cluster = [&](std::size_t slot, std::uint64_t number) {
        clusters.push_back(std::make_unique<Cluster>());
        Cluster& c = *clusters.back();
        c.blocks.resize(size);
        const uint3 first = coordinates(number, across);
        for (std::size_t i = 0; i < size; ++i) {           // in the order in which they lead
            Block& b = *blocks[slot * size + i];
            b.cluster = &c;
            b.rank = unsigned(in_order(i, size));
            c.blocks[b.rank] = &b;
            live.push_back(&b);
            const uint3 at = coordinates(b.rank, cluster);
            set_up(b, uint3{first.x * cluster.x + at.x, first.y * cluster.y + at.y, first.z * cluster.z + at.z}, block);
        }
    };
    {
        Running running;
        for (std::uint64_t i = 0; i < count && error.empty(); i += at_once) {
            live.clear();
            clusters.clear();
            for (std::size_t j = 0; j < at_once; ++j) set_up_cluster(j, in_order(i + j, count));
            run();
        }
    }
    if (!error.empty()) {
        start_over();
        throw Error(error);
    }
}

// ---- what emulated instructions are built from ------------------------------------------------------------

void fail(const char* format, ...) {
    va_list args;
    va_start(args, format);
    std::string what = text(format, args);
    va_end(args);
    if (!launching) throw Error(what);
    in_emulator = true;
    report(self, here, what);
    give_up();
}

bool late() { return how.late; }
unsigned char* shared_memory() { return here->shared.base(); }
unsigned char* shared_pointer(std::uint32_t offset) {
    const SharedMemory& s = here->shared;
    if (offset < 1024 || offset - 1024 >= s.bytes())
        fail("shared offset %u is outside the block's %zu bytes", offset, s.bytes());
    return s.base() + (offset - 1024);
}
std::uint32_t shared_offset(const void* p) {
    const SharedMemory& s = here->shared;
    if (!s.contains(p))
        fail("%p does not lie in shared memory (%zu bytes from %p)", p, s.bytes(), static_cast<void*>(s.base()));
    return std::uint32_t(static_cast<const unsigned char*>(p) - s.base()) +
           1024;    // sm_90 keeps the first 1 KB for itself
}

unsigned char* async_view(std::uint32_t offset) {
    shared_pointer(offset);
    Quiet quiet;
    return here->shared.async_view() + (offset - 1024);
}
void fence_async_view() {
    for (Block* b : here->cluster->blocks) b->shared.fenced();
}

unsigned cluster_rank() { return here->rank; }
unsigned cluster_size() { return unsigned(here->cluster->blocks.size()); }
namespace {
Block* peer(unsigned rank) {
    if (rank >= cluster_size()) fail("block %u of a cluster of %u", rank, cluster_size());
    Block* b = here->cluster->blocks[rank];
    if (!b->alive) fail("block %u of the cluster has ended, and so has its shared memory", rank);
    return b;
}
}  // namespace
unsigned char* in_peer(const void* p, unsigned rank) { return peer(rank)->shared.base() + (shared_offset(p) - 1024); }
AsPeer::AsPeer(unsigned rank) : before_(here) { enter(peer(rank)); }
AsPeer::~AsPeer() { enter(static_cast<Block*>(before_)); }

// Not counted with __syncthreads: threads may do other things between the two halves.
void cluster_arrive() {
    Quiet quiet;
    Cluster& c = *here->cluster;
    if (self->in_cluster_barrier) fail("cluster_arrive twice without cluster_wait in between");
    self->in_cluster_barrier = true;
    self->cluster_phase = c.phase;
    ++c.arrived;
    sync_release(&c);
    open_cluster_barrier_if_due(c);
}
void cluster_wait() {
    Quiet quiet;
    Cluster& c = *here->cluster;
    if (!self->in_cluster_barrier) fail("cluster_wait without cluster_arrive");
    if (c.phase == self->cluster_phase) {
        c.sleepers.push_back(self);
        suspend("cluster_wait");
    }
    self->in_cluster_barrier = false;
    sync_acquire(&c);
}

int lane() { return self->lane; }
int warp_in_block() { return self->warp->number; }
const void* thread_key() { return self; }
const void* warp_key() { return self->warp; }
const void* block_key() { return here; }
unsigned lanes_present() { return self->warp->present; }
unsigned lanes_alive() { return self->warp->alive; }
long long clock() { return ++ticks; }

// For the counters.
std::size_t thread_number() { return std::size_t(self - here->threads.data()) + here->slot * 1024; }
bool on_fiber_stack(const void* p) { return !self || (p >= current->stack && p < current->stack + current->size); }
bool in_shared_memory(const void* p) {
    return std::any_of(live.begin(), live.end(), [&](Block* b) { return b->shared.contains(p); });
}

namespace {
void arrive(int id, int count, bool wait, bool counting, bool truth) {
    Block& block = *here;
    if (id < 0 || id > 15) fail("barrier %d: a block has barriers 0 to 15", id);
    Barrier& b = block.barriers[id];
    if (count < 0 || count % 32) fail("barrier %d: %d threads is not a multiple of the warp size", id, count);
    if (count > int(block.warps.size()) * 32)
        fail("barrier %d: %d threads in a block of %zu", id, count, block.threads.size());
    if (b.arrived && b.expected != count)
        fail("barrier %d: this thread expects %d threads, those already here %d (0: all)", id, count, b.expected);
    if (b.arrived && b.counting != counting)
        fail("__syncthreads and __syncthreads_count, _and or _or meet at one barrier");
    b.expected = count;
    b.counting = counting;
    b.truths += truth;
    if (!count) block.for_all |= 1u << id;
    ++stats.block_barriers;
    sync_release(&b);
    if (++b.arrived == (count ? count : block.alive)) {
        open(block, id);
    } else if (wait) {
        b.sleepers.push_back(self);
        suspend(id == 0 ? "__syncthreads" : "a named barrier");
    }
    if (wait) sync_acquire(&b);
}
}  // namespace

void barrier(int id, int count, bool wait) {
    Quiet quiet;
    arrive(id, count, wait, false, false);
}
Count barrier_count(bool predicate) {
    Quiet quiet;
    arrive(0, 0, true, true, predicate);
    return here->barriers[0].result;     // the next phase cannot end before this thread arrives
}

void collective(const char* name, unsigned mask, void* arg, Compute compute, const void* extra) {
    Quiet quiet;
    Thread* me = self;
    Warp& w = *me->warp;
    const unsigned bit = 1u << me->lane;
    mask &= w.present;                   // a block whose size is not a multiple of 32
    if (!(mask & bit)) fail("%s: lane %d is not in its own mask %08x", name, me->lane, mask);
    if (mask & ~w.alive) fail("%s: mask %08x names lanes that have exited (alive: %08x)", name, mask, w.alive);
    w.arrived |= bit;
    w.mask[me->lane] = mask;
    w.name[me->lane] = name;
    me->arg = arg;
    if ((w.arrived & mask) != mask) {
        suspend(name);
        return;
    }
    void* args[32] = {};
    for (int i = 0; i < 32; ++i) {
        if (!(mask >> i & 1)) continue;
        if (w.mask[i] != mask || (w.name[i] != name && std::strcmp(w.name[i], name)))
            fail("lanes of one warp disagree: lane %d is at %s mask %08x, lane %d at %s mask %08x", me->lane, name,
                 mask, i, w.name[i], w.mask[i]);
        args[i] = w.lanes[i]->arg;
    }
    ++stats.collectives;
    yields_in_a_row = 0;
    w.arrived &= ~mask;
    compute(args, extra);
    w.block->ready.add(w.number, mask & ~bit);
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
    auto found = sleepers.find(address);
    if (found == sleepers.end() || found->second.empty()) return;
    for (Thread* t : found->second) make_ready(t);
    found->second.clear();
    yields_in_a_row = 0;
}
void yield(const char* what) {
    Quiet quiet;
    ++stats.yields;
    ++yields_in_a_row;
    yielded.push_back(self);
    suspend(what);
}

void at_end(std::function<void()> work) { last_work.push_back(std::move(work)); }
void add_unread(int count) { here->unread += count; }

void defer(std::function<void()> work) {
    static char token;
    sync_release(&token);
    Quiet quiet;
    auto run = [work = std::move(work)] {
#ifdef EMU_TSAN
        void* me = __tsan_get_current_fiber();
        __tsan_switch_to_fiber(agent_tsan, 1);
        __tsan_acquire(&token);
        work();
        __tsan_switch_to_fiber(me, 1);
#else
        work();
#endif
    };
    if (late()) in_flight.push_back({std::move(run), self});
    else run();
}

}  // namespace emu

// A failed assert of a kernel that did not see emulator.h's macro. Hidden: for this library alone.
extern "C" __attribute__((visibility("hidden"), noreturn)) void __assert_fail(const char* condition, const char* file,
                                                                               unsigned line, const char* function) {
    if (emu::launching) emu::fail("assertion failed: %s, %s:%u", condition, file, line);
    std::fprintf(stderr, "%s:%u: %s: assertion failed: %s\n", file, line, function, condition);
    std::abort();
}
