// What a config costs on a problem: an estimate of its time from published figures alone, the candidates that every family
// offers, and the choice, the candidate with the least estimate. Pure functions, printable and tested for every known
// device on a machine without a GPU.
//
// The model: blocks run in waves, as many at once as shared memory, registers and threads of the SMs allow. A step of k
// takes a block what the slowest of its parts takes: multiply-adds, shared memory, fetches through the L2, or, where few
// steps are in flight, the latency of memory. Every tile adds a fill of the pipeline and the way of its results out. Beside
// all waves stands the traffic of device memory; behind them, for a split k, partial sums and a second launch.
//
// Every number that is not a datasheet's is an estimate until benchmarks.gpu has measured it, and says where it comes from.
#pragma once
#include "matmul_general_config.h"
#include "matmul_sm80_config.h"
#include "matmul_sm90_config.h"

#include <iterator>
#include <vector>

// Clocks from a load's issue to its data, between the L2's some 250 and device memory's some 700.
constexpr double kMatmulLatency = 600;
// Bytes an SM gets from the L2 in a clock. Published products on Hopper (128x256 tiles, 49 KB a step of 64, no multicast)
// reach 704 of 989 TFLOP/s, which is 34, and clusters then help, so that this is nearly all; of consumer parts some 5 TB/s
// are told, for 128 SMs at 2.5 GHz.
constexpr double matmul_l2_bytes_per_clock(const DeviceProperties& device) {
    return device.major == 9 || (device.major == 8 && device.minor == 0) ? 36 : 16;
}
// Compute and device memory overlap, but not wholly: so much of the shorter stays in sight. Of configs that memory bounds
// alike it prefers the one with less to compute.
constexpr double kMatmulInSight = 0.1;
// Bytes an SM's shared memory gives in a clock: 32 banks of 4.
constexpr double kMatmulSharedBytesPerClock = 128;
// Bytes of results that an SM writes in a clock, through shared memory, in whole sectors.
constexpr double kMatmulStoreBytesPerClock = 32;
// Blocks of one SM beside each other, at most: 16 to 32 by generation.
constexpr int kMatmulMostResident = 16;
// Tile rows that neighbouring blocks take by turns (matmul_position), so that they share operands in the L2.
constexpr double kMatmulGroup = 8;

// The main loop of one block, as its family describes it.
struct MatmulLoop {
    int threads = 0;
    int registers = 0;         // of a thread
    double step_clocks = 0;    // that the units which multiply need for a step, when nothing is in their way
    double shared_bytes = 0;   // read from shared memory in a step; 0 where step_clocks has that in it
    double fetched_bytes = 0;  // through the L2 in a step
    double in_flight = 1;      // steps fetched ahead
};

struct MatmulEstimate {
    double seconds = 0;         // all of it
    double compute = 0;         // seconds of all waves
    double memory = 0;          // seconds that device memory needs beside them
    double overhead = 0;        // launches, and passing partial sums on
    int64_t blocks = 0;         // jobs: tiles x split, or the blocks of stream-K
    double waves = 0;           // jobs / those that run at once
    double memory_bytes = 0;
    const char* bound = "";     // compute, latency, memory or launch: which of them decides
};

constexpr double matmul_divide_up(double a, double b) { return double(int64_t((a + b - 1) / b)); }

// Bytes of both operands that a block fetches in a step: what lies outside of the matrices is not. Where rows do not allow
// 16 bytes at once the same takes more instructions, and they are the limit: it counts as so many times the bytes.
inline double matmul_fetched_bytes(const MatmulConfig& c, const MatmulProblem& p, double shared_by_cluster = 1) {
    const double a = double(std::min<int64_t>(c.rows, p.m)) * 16 / p.a.alignment;
    const double b = double(std::min<int64_t>(c.columns, p.n)) * 16 / p.b.alignment;
    return (a + b / shared_by_cluster) * double(std::min<int64_t>(c.k_step, p.k)) * matmul_item_bytes(p.dtype);
}

// ---- general: ordinary multiply-adds --------------------------------------------------------------------------------

inline MatmulLoop matmul_general_loop(const MatmulConfig& c, const MatmulProblem& p, const DeviceProperties& device) {
    const MatmulTileShape& s = *matmul_general_tile(c);
    const int tile = int(&s - kMatmulTiles);
    const bool wide = matmul_general_accumulator_bytes(p.dtype) == 8;
    // The most that ptxas gave on any architecture (matmul_general_config.h).
    constexpr int kRegisters[][2] = {{137, 184}, {172, 224}, {209, 209}};
    // How near the loop comes to the peak, from its ratio of products to shared-memory loads: 16 to 2, 32 to 3, 64 to 4.
    constexpr double kEfficiency[] = {0.5, 0.7, 0.9};
    double flops = device.float32_flops_per_clock();
    if (p.dtype == DType::float64) flops = device.float64_flops_per_clock();
    if (p.dtype == DType::int32 || p.dtype == DType::uint8) flops = 128;  // 64 multiply-adds a clock since sm_80
    if (p.dtype == DType::int64) flops = 32;                              // of four multiply-adds each
    MatmulLoop loop;
    loop.threads = s.rows / s.thread_rows * (s.columns / s.thread_columns);
    loop.registers = kRegisters[tile][wide];
    loop.step_clocks = 2.0 * s.rows * s.columns * kMatmulStep / (flops * kEfficiency[tile]);
    loop.fetched_bytes = matmul_fetched_bytes(c, p);
    return loop;
}

template <class F>
void matmul_general_candidates(const MatmulProblem& p, F&& offer) {
    for (const MatmulTile tile : {MatmulTile::large, MatmulTile::medium, MatmulTile::small})
        if (tile != MatmulTile::large || matmul_general_has_large(p.dtype)) offer(matmul_general_config(tile));
}

// ---- sm80: mma.sync -------------------------------------------------------------------------------------------------

inline MatmulLoop matmul_sm80_loop(const MatmulConfig& c, const MatmulProblem& p, const DeviceProperties& device) {
    const MatmulSm80Tile& t = *matmul_sm80_tile(c.rows, c.columns);
    const bool single = p.dtype == DType::float32, thrice = single && !p.tf32;
    // mma.sync reaches 62 to 65 % of Hopper's peak (seen on a PCIe part); elsewhere it is what the peak was stated for.
    const double flops = device.tensor_flops_per_clock() * t.efficiency * (device.major == 9 ? 0.7 : 1) / (single ? 2 : 1) / (thrice ? 3 : 1);
    const int item = matmul_item_bytes(p.dtype), warps = t.warps_down * t.warps_across;
    MatmulLoop loop;
    loop.threads = warps * 32;
    loop.registers = t.registers;
    loop.step_clocks = 2.0 * c.rows * c.columns * c.k_step / flops;
    // Copies in, and every warp's fragments: its rows and its columns, twice where small and big halves go apart.
    const double fragments = double(warps) * (c.rows / t.warps_down + c.columns / t.warps_across);
    loop.shared_bytes = (c.rows + c.columns + fragments * (thrice ? 2 : 1)) * c.k_step * item;
    loop.fetched_bytes = matmul_fetched_bytes(c, p);
    loop.in_flight = c.stages - 1;
    return loop;
}

template <class F>
void matmul_sm80_candidates(const MatmulProblem& p, const DeviceProperties& device, F&& offer) {
    if (!matmul_sm80_has(p.dtype) || device.major < 8) return;
    const int64_t steps = (p.k + kMatmulSm80Step - 1) / kMatmulSm80Step;
    for (int i = int(std::size(kMatmulSm80Tiles)) - 1; i >= 0; --i) {    // the least first: of equals that is taken
        const MatmulSm80Tile& t = kMatmulSm80Tiles[i];
        if (!(p.dtype == DType::float32 ? t.for_float32 : t.for_16_bit)) continue;
        MatmulConfig c = matmul_sm80_config(t, p.dtype);
        for (; c.split == 1 || (c.split <= 16 && c.split * 4 <= steps); c.split *= 2)
            if (matmul_sm80_serves(c, p)) offer(c);
        c.split = 1, c.stream_k = true, c.max_blocks = device.sm_count;
        if (steps >= 8 && matmul_sm80_serves(c, p)) offer(c);
    }
}

// ---- sm90: wgmma fed by TMA -----------------------------------------------------------------------------------------

inline MatmulLoop matmul_sm90_loop(const MatmulConfig& c, const MatmulProblem& p, const DeviceProperties& device) {
    const MatmulSm90Tile& t = *matmul_sm90_tile(c.rows, c.columns);
    const double efficiency = matmul_sm90_efficiency(t);
    MatmulLoop loop;
    loop.threads = 128 * (t.down * t.across + 1);
    loop.registers = 168;                        // by ptxas, before warpgroups exchange them
    loop.step_clocks = 2.0 * c.rows * c.columns * kMatmulSm90Step / (device.tensor_flops_per_clock() * efficiency);
    // Every warpgroup reads its 64 rows of a and its columns of b.
    loop.shared_bytes = t.down * t.across * (64.0 + double(c.columns) / t.across) * kMatmulSm90Step * 2;
    loop.fetched_bytes = matmul_fetched_bytes(c, p, p.b.alignment == 16 ? c.cluster : 1);
    loop.in_flight = c.stages - 1;
    return loop;
}

template <class F>
void matmul_sm90_candidates(const MatmulProblem& p, const DeviceProperties& device, F&& offer) {
    if (!device.has_sm90a()) return;
    for (const MatmulSm90Tile& t : kMatmulSm90Tiles)
        for (int cluster = 1; cluster <= 2; ++cluster) {
            MatmulConfig c;
            c.family = MatmulFamily::sm90, c.rows = t.rows, c.columns = t.columns, c.k_step = kMatmulSm90Step;
            c.stages = matmul_sm90_stages(t.rows, t.columns), c.cluster = cluster, c.max_blocks = device.sm_count;
            if (!matmul_sm90_can(p, c)) continue;
            offer(c);
            // Few tiles leave SMs idle: parts of k, of at least four steps.
            const int64_t tiles = matmul_sm90_units(c, p.batch, p.m, p.n) * cluster, steps = p.k / kMatmulSm90Step;
            for (const int split : {2, 3, 4, 6, 8, 12, 16, 24, 32}) {
                if (steps < 4 * split || tiles * split > 2 * device.sm_count) break;
                c.split = split;
                offer(c);
            }
            // Or the steps of all tiles in equal shares, where the last wave would be a small one.
            if (c.split = 1, tiles > device.sm_count && tiles < 8 * device.sm_count && steps >= 16)
                c.stream_k = true, offer(c);
        }
}

// ---- all families ---------------------------------------------------------------------------------------------------

inline MatmulLoop matmul_loop(const MatmulConfig& c, const MatmulProblem& p, const DeviceProperties& device) {
    switch (c.family) {
        case MatmulFamily::sm80: return matmul_sm80_loop(c, p, device);
        case MatmulFamily::sm90: return matmul_sm90_loop(c, p, device);
        default: return matmul_general_loop(c, p, device);
    }
}

// Calls offer(config) for every config worth considering, in a fixed order; each of them can serve the problem.
template <class F>
void matmul_candidates(const MatmulProblem& p, const DeviceProperties& device, F&& offer) {
    matmul_general_candidates(p, offer);
    matmul_sm80_candidates(p, device, offer);
    matmul_sm90_candidates(p, device, offer);
}

// Blocks of a config that an SM holds at once, at least 1.
inline int matmul_resident_blocks(const MatmulLoop& loop, int shared_bytes, const DeviceProperties& device) {
    const int registers = (loop.registers + 7) / 8 * 8 * loop.threads;
    const int shared = device.shared_per_sm / (shared_bytes + 1024);  // the system keeps 1 KiB of every block's
    return std::clamp(std::min({shared, device.registers_per_sm / registers, device.threads_per_sm / loop.threads}), 1,
                      kMatmulMostResident);
}

inline MatmulEstimate matmul_estimate(const MatmulConfig& c, const MatmulProblem& p, const DeviceProperties& device) {
    MatmulEstimate e;
    if (p.batch == 0 || p.m == 0 || p.n == 0) return e;
    const MatmulLoop loop = matmul_loop(c, p, device);
    const double down = c.cluster * matmul_divide_up(double(p.m), double(c.rows) * c.cluster), across = matmul_divide_up(double(p.n), c.columns);
    const double tiles = double(p.batch) * down * across, steps = matmul_divide_up(double(p.k), c.k_step);
    const double l2_bytes_per_clock = matmul_l2_bytes_per_clock(device);
    const int resident = matmul_resident_blocks(loop, matmul_shared_bytes(c, p), device);

    const double split = std::max(1.0, std::min(double(c.split), steps));
    double jobs = tiles * split, job_steps = matmul_divide_up(steps, split), job_tiles = 1;
    if (c.stream_k) {
        jobs = std::max(1.0, std::min(double(c.max_blocks), tiles * steps));
        job_steps = matmul_divide_up(tiles * steps, jobs);
        job_tiles = matmul_divide_up(tiles, jobs);
    }

    // Clocks of `side` blocks on one SM, from their first step to their last store.
    bool by_latency = false;
    const auto wave = [&](double side) {
        const double latency = kMatmulLatency / loop.in_flight;
        const double busy = side * std::max({loop.step_clocks, loop.shared_bytes / kMatmulSharedBytesPerClock,
                                             loop.fetched_bytes / l2_bytes_per_clock});
        by_latency = latency > busy;
        const double stored = double(c.rows) * c.columns * matmul_item_bytes(p.out_dtype);
        return job_steps * std::max(busy, latency) +
               job_tiles * (kMatmulLatency + side * stored / kMatmulStoreBytesPerClock);
    };
    const double at_once = std::min(double(c.max_blocks), double(device.sm_count) * resident);
    const double full = double(int64_t(jobs / at_once)), rest = jobs - full * at_once;
    double clocks = full > 0 ? full * wave(resident) : 0;
    if (rest > 0) clocks += wave(matmul_divide_up(rest, device.sm_count));
    e.compute = clocks / device.clock;

    // Operands come from device memory once where the L2 holds them; else again for every wave, whose tiles are some
    // kMatmulGroup rows high.
    const double item = matmul_item_bytes(p.dtype), k_bytes = double(p.k) * item;
    const double once = double(p.batch) * double(p.m + p.n) * k_bytes;
    double operands = once;
    if (once > double(device.l2_bytes) / 2) {
        const double high = std::min(kMatmulGroup, down), together = std::min(tiles, at_once);
        const double wide = std::min(across, std::max(1.0, together / high));
        operands = std::max(once, tiles / (high * wide) * (high * c.rows + wide * c.columns) * k_bytes);
    }
    e.memory_bytes = operands + double(p.batch) * double(p.m) * double(p.n) * matmul_item_bytes(p.out_dtype);

    e.overhead = device.kLaunchSeconds;
    if (const double partial = double(matmul_workspace_bytes(c, p)); partial > 0) {
        // Written, and read again by a second pass, in the L2 where they fit.
        const bool cached = partial < double(device.l2_bytes) / 2;
        if (cached) e.overhead += 2 * partial / (l2_bytes_per_clock * device.clock * device.sm_count);
        else e.memory_bytes += 2 * partial;
        e.overhead += device.kLaunchSeconds;
    }
    e.memory = e.memory_bytes / device.copy_bandwidth();

    e.seconds = std::max(e.compute, e.memory) + kMatmulInSight * std::min(e.compute, e.memory) + e.overhead;
    e.blocks = int64_t(jobs), e.waves = jobs / at_once;
    e.bound = e.overhead > std::max(e.compute, e.memory) ? "launch"
              : e.memory > e.compute                     ? "memory"
              : by_latency                               ? "latency"
                                                         : "compute";
    return e;
}

// The candidate with the least estimate; of equals the first.
inline MatmulConfig matmul_cheapest(const MatmulProblem& p, const DeviceProperties& device) {
    MatmulConfig best;
    double least = -1;
    matmul_candidates(p, device, [&](const MatmulConfig& c) {
        const double seconds = matmul_estimate(c, p, device).seconds;
        if (least < 0 || seconds < least) least = seconds, best = c;
    });
    return best;
}
