// Blocks and grids: a launch is checked, its blocks are set up and run, one after another or, when resident, side by
// side.
#include "scheduler_state.h"

#include "counters.h"
#include "device.h"
#include "hooks.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <string_view>

#include <pthread.h>

namespace ptx { void reset_block(); }

namespace emu {

using namespace scheduling;

namespace {

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
    __tsan_acquire(&ended);  // everything before now happened before each of these threads
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
    go(t->fiber);  // comes back when nothing can run
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
    for (void* f : tsan_fibers) __tsan_destroy_fiber(f);  // each may be ignoring accesses
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
    static const int registered = pthread_atfork(
        [] {
            if (!launching) launch_mutex().lock();
        },
        [] {
            if (!launching) launch_mutex().unlock();
        },
        [] {
            if (!launching) launch_mutex().unlock();
        });
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
    const int by_shared = device.shared_per_sm / (int(shared_bytes) + 1024);  // the system keeps 1 KB a block
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
    main_fiber = Fiber{};  // of this OS thread
    current = &main_fiber;
#ifdef EMU_TSAN
    os_thread_tsan = __tsan_get_current_fiber();
#endif

    const dim3 cluster = together.cluster, across(grid.x / cluster.x, grid.y / cluster.y, grid.z / cluster.z);
    const std::size_t size = std::size_t(cluster.x) * cluster.y * cluster.z;
    const std::uint64_t count = std::uint64_t(across.x) * across.y * across.z;  // clusters
    const std::size_t at_once = together.resident ? std::size_t(count) : 1;
    while (blocks.size() < at_once * size) {
        blocks.push_back(std::make_unique<Block>());
        blocks.back()->slot = blocks.size() - 1;
    }
    for (std::size_t i = 0; i < at_once * size; ++i) blocks[i]->shared.resize(shared_bytes);
    auto in_order = [&](std::uint64_t i, std::uint64_t n) {
        return how.order == Order::forward ? i : how.order == Order::reverse ? n - 1 - i : permuted(i, n, how.seed);
    };
    auto set_up_cluster = [&](std::size_t slot, std::uint64_t number) {
        clusters.push_back(std::make_unique<Cluster>());
        Cluster& c = *clusters.back();
        c.blocks.resize(size);
        const uint3 first = coordinates(number, across);
        for (std::size_t i = 0; i < size; ++i) {  // in the order in which they lead
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

}  // namespace emu
