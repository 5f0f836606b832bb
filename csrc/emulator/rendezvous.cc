// What emulated instructions are built from: errors, shared memory, clusters, barriers, warp rendezvous, waiting, and
// work in flight.
#include "scheduler_state.h"

#include "hooks.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace emu {

using namespace scheduling;

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
           1024;  // sm_90 keeps the first 1 KB for itself
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
    return here->barriers[0].result;  // the next phase cannot end before this thread arrives
}

void collective(const char* name, unsigned mask, void* arg, Compute compute, const void* extra) {
    Quiet quiet;
    Thread* me = self;
    Warp& w = *me->warp;
    const unsigned bit = 1u << me->lane;
    mask &= w.present;  // a block whose size is not a multiple of 32
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
extern "C" __attribute__((visibility("hidden"), noreturn)) void
__assert_fail(const char* condition, const char* file, unsigned line, const char* function) {
    if (emu::scheduling::launching) emu::fail("assertion failed: %s, %s:%u", condition, file, line);
    std::fprintf(stderr, "%s:%u: %s: assertion failed: %s\n", file, line, function, condition);
    std::abort();
}
