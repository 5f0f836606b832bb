// Whole recurrent sequences. A block owns some units of some rows of the batch: in each step it multiplies what the step
// before left of all units (the states; backward the gates' gradients) with the weights of its own, applies the step's
// formulas to the sums, and lets the other blocks of its group know. An element of the states belongs to the same thread
// in every step: what is not multiplied (cell states, carried gradients) needs no exchange.
#include "rnn_cell.cuh"
#include "rnn_sequence.cuh"
#include "rnn_sequence.h"

namespace {

// The rows of step t; none where there is no such step.
struct Step {
    int64_t start = 0, rows = 0;
    Step() = default;
    __device__ Step(const RnnSequenceShape& s, int64_t t) {
        if (t < 0 || t >= s.steps) return;
        start = s.starts ? s.starts[t] : t * s.batch;
        rows = s.starts ? s.starts[t + 1] - start : s.batch;
    }
};

template <class Tile>
__device__ bool is_aligned(const void* p, int64_t pitch) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0 && pitch % Tile::kVector == 0;
}

// What the two kernels share: this block's place, its weights, and the loop over its tiles.
template <class Tile>
struct Walk {
    using T = typename Tile::T;
    SequenceGroup group;
    SequenceWeights<Tile> weights;
    const RnnSequenceConfig& config;
    unsigned char* shared;
    T* columns;  // behind the warps' parts: the weights, whole tiles or a stage a warp
    int64_t unit_tiles, kept_pitch;

    __device__ Walk(const RnnSequenceShape& shape, const RnnSequenceConfig& c, uint32_t* arrived, unsigned char* memory,
                    bool backward)
        : group(c, arrived),
          config(c),
          shared(memory),
          columns(reinterpret_cast<T*>(memory + kSequenceWarps * Tile::kWarpBytes)) {
        const int gates = shape.gates, units = backward ? Tile::kColumns : Tile::kColumns / gates;
        const int64_t terms = backward ? gates * shape.hidden : shape.hidden;
        weights = {nullptr, shape.hidden, terms, gates, units, backward, false};
        unit_tiles = (shape.hidden + units - 1) / units;
        kept_pitch = (terms + Tile::kChunk - 1) / Tile::kChunk * Tile::kChunk + Tile::kVector;
    }

    // Sets the direction's weights, and keeps this block's if the config says so.
    __device__ void use(const void* weight) {
        weights.weight = static_cast<const T*>(weight);
        weights.aligned = is_aligned<Tile>(weight, weights.hidden);
        if (!config.persistent) return;
        T* to = columns;
        for (int64_t tile = group.unit_group; tile < unit_tiles; tile += config.unit_groups) {
            for (int64_t term = 0; term < weights.terms; term += Tile::kChunk)
                for (int i = threadIdx.x; i < SequenceWeights<Tile>::kCount; i += kSequenceThreads)
                    weights.put(to + term, kept_pitch, i, weights.fetch(i, tile * weights.units, term));
            to += Tile::kColumns * kept_pitch;
        }
        __syncthreads();
    }

    __device__ bool takes_part(int64_t rows) const { return int64_t(group.row_group) * kSequenceRows < rows; }

    // One step of `rows` rows. row(r): the terms of row r, or null. load(i, r, unit) for this thread's i-th element of a tile
    // before its product, finish(i, r, unit, sum) after it; sum(gate) is the product.
    template <class Row, class Load, class Finish>
    __device__ void step(int64_t rows, bool rows_aligned, Row&& row, Load&& load, Finish&& finish) {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        bool waits = true;
        const T* kept = config.persistent ? columns : nullptr;
        for (int64_t tile = group.unit_group; tile < unit_tiles; tile += config.unit_groups) {
            const int64_t first_unit = tile * weights.units;
            for (int64_t first_row = int64_t(group.row_group) * kSequenceRows; first_row < rows;
                 first_row += int64_t(config.row_groups) * kSequenceRows) {
                const auto each_element = [&](auto f) {
#pragma unroll
                    for (int i = 0; i < Tile::kElements; ++i) {
                        const int e = threadIdx.x + i * kSequenceThreads, r = e / weights.units, u = e % weights.units;
                        if (r < kSequenceRows && first_row + r < rows && first_unit + u < weights.hidden) f(i, r, u);
                    }
                };
                each_element([&](int i, int r, int u) { load(i, first_row + r, first_unit + u); });
                if (waits) group.wait();
                waits = false;
                const T* lane_rows[Tile::kLaneRows];
#pragma unroll
                for (int i = 0; i < Tile::kLaneRows; ++i) {
                    const int64_t r = first_row + (lane + 32 * i) / Tile::kVectors;
                    lane_rows[i] = r < rows ? row(r) : nullptr;
                }
                multiply_tile<Tile>(shared + warp * Tile::kWarpBytes, columns + warp * Tile::kColumns * Tile::kPitch,
                                    lane_rows, rows_aligned, weights, first_unit, kept, kept_pitch);
                __syncthreads();
                each_element([&](int i, int r, int u) {
                    finish(i, first_row + r, first_unit + u,
                           [&](int gate) { return sum_at<Tile>(shared, r, gate * weights.units + u); });
                });
                __syncthreads();
            }
            if (kept) kept += Tile::kColumns * kept_pitch;
        }
        group.arrive();
    }
};

template <class T, int kColumns>
__global__ void __launch_bounds__(kSequenceThreads)
rnn_sequence_kernel(const __grid_constant__ RnnSequence a, const __grid_constant__ RnnSequenceConfig config) {
    using Tile = SequenceTile<T, kColumns>;
    using A = typename Tile::Sum;
    GPU_SHARED(memory);
    const RnnSequenceShape& shape = a.shape;
    Walk<Tile> walk(shape, config, a.arrived, memory, false);
    const int d = walk.group.direction;
    const RnnSequence::Direction& own = a.direction[d];
    const int64_t hidden = shape.hidden, width = shape.directions * hidden, of_direction = d * shape.batch * hidden;
    const int gates = shape.gates;
    const bool lstm = shape.cell == RnnCell::lstm, gru = shape.cell == RnnCell::gru;
    const T *const x = static_cast<const T*>(own.x), *const bias = static_cast<const T*>(own.bias);
    T *const out = static_cast<T*>(a.out) + d * hidden, *const saved = static_cast<T*>(own.saved);
    const T* const h0 = static_cast<const T*>(a.h0) + of_direction;
    T* const h_last = static_cast<T*>(a.h_last) + of_direction;
    const A* const c0 = static_cast<const A*>(a.c0) + (lstm ? of_direction : 0);
    A *const c_last = static_cast<A*>(a.c_last) + (lstm ? of_direction : 0), *const cells = static_cast<A*>(own.cells);
    const bool aligned = is_aligned<Tile>(out, width) && is_aligned<Tile>(h0, hidden);
    walk.use(own.weight);

    A given[Tile::kElements][4], before_of[Tile::kElements];
    Step before;
    for (int64_t i = 0; i < shape.steps; ++i) {
        const int64_t t = d ? shape.steps - 1 - i : i;
        const Step now(shape, t), after(shape, d ? t - 1 : t + 1);
        if (walk.takes_part(now.rows))
            walk.step(
                now.rows, aligned,
                [&](int64_t r) { return r < before.rows ? out + (before.start + r) * width : h0 + r * hidden; },
                [&](int e, int64_t r, int64_t unit) {
                    const T* const at = x + (now.start + r) * gates * hidden + unit;
#pragma unroll
                    for (int g = 0; g < 4; ++g)
                        if (g < gates) given[e][g] = convert<A>(at[g * hidden]);
                    if (lstm)
                        before_of[e] =
                            r < before.rows ? cells[(before.start + r) * hidden + unit] : c0[r * hidden + unit];
                    if (gru)
                        before_of[e] = convert<A>(r < before.rows ? out[(before.start + r) * width + unit]
                                                                  : h0[r * hidden + unit]);
                },
                [&](int e, int64_t r, int64_t unit, auto sum) {
                    const auto product = [&](int g) {
                        return sum(g) + (bias ? convert<A>(bias[g * hidden + unit]) : A(0));
                    };
                    const int64_t at = (now.start + r) * hidden + unit;
                    T* const keep = saved + (now.start + r) * 4 * hidden + unit;
                    A h;
                    if (lstm) {
                        const LstmElement<A> s =
                            lstm_element(given[e][0] + product(0), given[e][1] + product(1), given[e][2] + product(2),
                                         given[e][3] + product(3), before_of[e]);
                        keep[0] = convert<T>(s.in), keep[hidden] = convert<T>(s.forget);
                        keep[2 * hidden] = convert<T>(s.cell), keep[3 * hidden] = convert<T>(s.out);
                        cells[at] = s.c;
                        if (r >= after.rows) c_last[r * hidden + unit] = s.c;
                        h = s.h;
                    } else if (gru) {
                        const GruElement<A> s = gru_element(given[e][0] + product(0), given[e][1] + product(1),
                                                            given[e][2], product(2), before_of[e]);
                        keep[0] = convert<T>(s.reset), keep[hidden] = convert<T>(s.update);
                        keep[2 * hidden] = convert<T>(s.fresh), keep[3 * hidden] = convert<T>(s.of_state);
                        h = s.h;
                    } else {
                        h = activate(shape.cell == RnnCell::relu ? Activation::relu : Activation::tanh,
                                     given[e][0] + product(0), A(0));
                    }
                    out[(now.start + r) * width + unit] = convert<T>(h);
                    if (r >= after.rows) h_last[r * hidden + unit] = convert<T>(h);
                });
        before = now;
    }
}

template <class T, int kColumns>
__global__ void __launch_bounds__(kSequenceThreads)
rnn_sequence_backward_kernel(const __grid_constant__ RnnSequenceBackward a,
                             const __grid_constant__ RnnSequenceConfig config) {
    using Tile = SequenceTile<T, kColumns>;
    using A = typename Tile::Sum;
    GPU_SHARED(memory);
    const RnnSequenceShape& shape = a.shape;
    Walk<Tile> walk(shape, config, a.arrived, memory, true);
    const int d = walk.group.direction;
    const RnnSequenceBackward::Direction& own = a.direction[d];
    const int64_t hidden = shape.hidden, width = shape.directions * hidden, of_direction = d * shape.batch * hidden;
    const int64_t terms = walk.weights.terms;
    const bool lstm = shape.cell == RnnCell::lstm, gru = shape.cell == RnnCell::gru;
    const T *const saved = static_cast<const T*>(own.saved), *const out = static_cast<const T*>(a.out) + d * hidden;
    const T* const of_out = static_cast<const T*>(a.of_out) + d * hidden;
    const T* const of_h_last = static_cast<const T*>(a.of_h_last) + of_direction;
    const T* const h0 = static_cast<const T*>(a.h0) + (gru ? of_direction : 0);
    const A* const cells = static_cast<const A*>(own.cells);
    const A* const c0 = static_cast<const A*>(a.c0) + (lstm ? of_direction : 0);
    const A* const of_c_last = static_cast<const A*>(a.of_c_last) + (lstm ? of_direction : 0);
    T *const of_x = static_cast<T*>(own.of_x), *const of_h0 = static_cast<T*>(a.of_h0) + of_direction;
    T* const of_products = gru ? static_cast<T*>(own.of_products) : of_x;
    A* const carry = static_cast<A*>(a.carry) + (lstm || gru ? of_direction : 0);
    const bool aligned = is_aligned<Tile>(of_products, terms);
    walk.use(own.weight);

    A grad[Tile::kElements], carried[Tile::kElements], before_of[Tile::kElements], kept[Tile::kElements][5];
    // `later`: the step that the walk has been to before this one. Its gradients reach the states before it, which are
    // this step's or, for sequences that begin with it, the initial ones. The walk ends one step beyond the last.
    Step later;
    for (int64_t i = 0; i <= shape.steps; ++i) {
        const int64_t t = d ? i : shape.steps - 1 - i;
        const Step now(shape, t), before(shape, d ? t + 1 : t - 1);
        const int64_t rows = now.rows > later.rows ? now.rows : later.rows;
        if (walk.takes_part(rows))
            walk.step(
                rows, aligned,
                [&](int64_t r) -> const T* {
                    return r < later.rows ? of_products + (later.start + r) * terms : nullptr;
                },
                [&](int e, int64_t r, int64_t unit) {
                    const int64_t state = r * hidden + unit, at = (now.start + r) * hidden + unit;
                    const bool ends = r >= later.rows;
                    carried[e] = 0;
                    if (lstm) carried[e] = ends ? of_c_last[state] : carry[state];
                    if (gru && !ends) carried[e] = carry[state];
                    if (r >= now.rows) return;
                    grad[e] = convert<A>(of_out[(now.start + r) * width + unit]) +
                              (ends ? convert<A>(of_h_last[state]) : A(0));
                    if (lstm || gru)
#pragma unroll
                        for (int g = 0; g < 4; ++g)
                            kept[e][g] = convert<A>(saved[(now.start + r) * 4 * hidden + g * hidden + unit]);
                    if (lstm) {
                        kept[e][4] = cells[at];
                        before_of[e] = r < before.rows ? cells[(before.start + r) * hidden + unit] : c0[state];
                    } else if (gru) {
                        before_of[e] = convert<A>(r < before.rows ? out[(before.start + r) * width + unit] : h0[state]);
                    } else {
                        kept[e][0] = convert<A>(out[(now.start + r) * width + unit]);
                    }
                },
                [&](int e, int64_t r, int64_t unit, auto sum) {
                    const int64_t state = r * hidden + unit;
                    const A reached = sum(0) + (gru ? carried[e] : A(0));
                    if (r >= now.rows) {
                        of_h0[state] = convert<T>(reached);
                        return;
                    }
                    const A of_h = grad[e] + reached;
                    T* const to = of_x + (now.start + r) * terms + unit;
                    if (lstm) {
                        const LstmElement<A> s{kept[e][0], kept[e][1], kept[e][2], kept[e][3], kept[e][4], A(0)};
                        const LstmGradient<A> g = lstm_gradient(s, before_of[e], of_h, carried[e]);
                        to[0] = convert<T>(g.in), to[hidden] = convert<T>(g.forget);
                        to[2 * hidden] = convert<T>(g.cell), to[3 * hidden] = convert<T>(g.out);
                        carry[state] = g.c_before;
                    } else if (gru) {
                        const GruElement<A> s{kept[e][0], kept[e][1], kept[e][2], kept[e][3], A(0)};
                        const GruGradient<A> g = gru_gradient(s, before_of[e], of_h);
                        T* const product = of_products + (now.start + r) * terms + unit;
                        to[0] = product[0] = convert<T>(g.reset);
                        to[hidden] = product[hidden] = convert<T>(g.update);
                        to[2 * hidden] = convert<T>(g.fresh), product[2 * hidden] = convert<T>(g.of_state);
                        carry[state] = g.before;
                    } else {
                        to[0] = convert<T>(rnn_gradient(shape.cell == RnnCell::relu, kept[e][0], of_h));
                    }
                });
        later = now;
    }
}

// Launches kernel<T, columns> on the type that dtype names, if the config serves the problem.
template <class F>
void launch_sequence(const RnnSequenceShape& shape, bool backward, DType dtype, const RnnSequenceConfig& config,
                     F&& f) {
    if (shape.batch * shape.hidden * shape.steps == 0) return;
    dispatch_floating(dtype, [&](auto tag) {
        const RnnSequenceProblem problem{shape.cell,  backward,     int(sizeof(typename decltype(tag)::type)),
                                         shape.batch, shape.hidden, shape.directions};
        const std::string why = sequence_refusal(problem, config, current_device(), resident_sm_count());
        if (!why.empty()) throw std::invalid_argument("RnnSequenceConfig: " + why);
        const dim3 grid(unsigned(config.unit_groups * config.row_groups * shape.directions)), block(kSequenceThreads);
        f(tag, grid, block, unsigned(sequence_shared_bytes(problem, config)));
    });
}

}  // namespace

void rnn_sequence(const RnnSequence& a, DType dtype, const RnnSequenceConfig& config, cudaStream_t stream) {
    launch_sequence(a.shape, false, dtype, config, [&](auto tag, dim3 grid, dim3 block, unsigned shared) {
        using T = typename decltype(tag)::type;
        if (config.columns == kSequenceWide)
            gpu::launch_resident<rnn_sequence_kernel<T, kSequenceWide>>(grid, block, shared, stream, a, config);
        else gpu::launch_resident<rnn_sequence_kernel<T, kSequenceNarrow>>(grid, block, shared, stream, a, config);
    });
}

void rnn_sequence_backward(const RnnSequenceBackward& a, DType dtype, const RnnSequenceConfig& config,
                           cudaStream_t stream) {
    launch_sequence(a.shape, true, dtype, config, [&](auto tag, dim3 grid, dim3 block, unsigned shared) {
        using T = typename decltype(tag)::type;
        if (config.columns == kSequenceWide)
            gpu::launch_resident<rnn_sequence_backward_kernel<T, kSequenceWide>>(grid, block, shared, stream, a,
                                                                                 config);
        else
            gpu::launch_resident<rnn_sequence_backward_kernel<T, kSequenceNarrow>>(grid, block, shared, stream, a,
                                                                                   config);
    });
}
