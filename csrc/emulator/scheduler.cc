// Which thread runs next. Compiled without ThreadSanitizer instrumentation, as all of the emulator.
//
// Each CUDA thread runs on a fiber. A thread that ends starts the next one on its own stack, so a kernel in which
// nobody waits never switches. Nothing here runs in parallel: one launch at a time, on the OS thread that asked for it.
#include "scheduler_state.h"

#include "hooks.h"

#include <cstdio>
#include <cstdlib>
#include <map>

// A section of their own, so that the counters can tell them from global memory.
#define EMU_VAR __attribute__((section("emu_vars")))
EMU_VAR uint3 threadIdx{}, blockIdx{};
EMU_VAR dim3 blockDim{}, gridDim{};

namespace emu {

Stats stats;

namespace scheduling {

// So many yields in a row, with nothing else happening, are a livelock: some 50 ms.
constexpr int kYieldLimit = 1'000'000;
// A warp that has led for so many switches, without any thread ending and any barrier opening, lets the next one lead:
// it may be waiting for that one.
constexpr int kPatience = 1 << 16;

// What scheduler_state.h declares.
void (*kernel)(void*);
void* closure;
std::string kernel_name;
Options how;
Random shuffle(1);
std::vector<std::unique_ptr<Block>> blocks;
std::vector<Block*> live;
std::vector<std::unique_ptr<Cluster>> clusters;
std::vector<std::function<void()>> last_work;
std::unordered_map<const void*, std::vector<Thread*>> sleepers;
std::vector<Thread*> yielded;
std::vector<InFlight> in_flight;
std::string error;
int yields_in_a_row;
unsigned picks;
long long ticks;
std::optional<Watch> watch;

Fiber main_fiber;
std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber*> idle;
#ifdef EMU_TSAN
std::vector<Fiber*> used;
#endif
Fiber* current = &main_fiber;
Thread* self = nullptr;
Block* here = nullptr;
#ifdef EMU_TSAN
void* os_thread_tsan;
std::vector<void*> tsan_fibers;
void* agent_tsan;
char started, ended;
#endif

constinit thread_local bool launching = false;

void become(Thread* t) {
    self = t;
    if (t) {
        threadIdx = t->index;
        enter(t->warp->block);
    }
#ifdef EMU_TSAN
    __tsan_switch_to_fiber(t ? t->tsan : os_thread_tsan, 1);  // 1: a switch orders nothing
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

static std::string indices(uint3 i) { return text("(%u,%u,%u)", i.x, i.y, i.z); }

void report(const Thread* culprit, const Block* block, const std::string& what) {
    if (!error.empty()) return;  // the first mistake is the one to report
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

static std::string describe(const FaultReport& fault) {
    switch (fault.kind) {
        case Fault::stack_overflow: return text("the thread's stack overflows (%zu KB)", kStackBytes / 1024);
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
    struct Group {
        int count = 0;
        std::string first;
    };
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

static void land_one() {
    std::size_t i = how.order == Order::forward   ? 0
                    : how.order == Order::reverse ? in_flight.size() - 1
                                                  : shuffle() % in_flight.size();
    InFlight next = std::move(in_flight[i]);
    in_flight.erase(in_flight.begin() + std::ptrdiff_t(i));
    yields_in_a_row = 0;
    Thread* me = self;  // a mistake is the issuer's
    Block* before = here;
    self = next.issuer;
    enter(next.issuer->warp->block);
    next.work();
    self = me;
    enter(before);
}

static Block* leading_block() {
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

[[noreturn]] static void livelock(const std::string& why) {
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
                                  ? " (blocks that wait for one another need gpu::launch_resident)"
                                  : ""));
            if (!in_flight.empty() && yields_in_a_row > int(yielded.size())) land_one();  // all wait, again
            for (Thread* t : yielded) make_ready(t);
            yielded.clear();
        } else if (!in_flight.empty()) {
            land_one();
        } else {
            return nullptr;
        }
    }
}

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
        if (!t) give_up();  // deadlock: run() reports it
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

static void finished(Thread* t) {
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
    for (unsigned ids = block.for_all; ids; ids &= ids - 1)  // for which exited threads no longer count
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
        } catch (const std::exception& e) { report(self, here, std::string("exception: ") + e.what()); } catch (...) {
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

}  // namespace scheduling
}  // namespace emu
