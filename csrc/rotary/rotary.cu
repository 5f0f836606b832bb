// Rotary position embedding. Memory-bound: a team of threads has the rows of one place, of several heads one after another,
// and keeps the angles in registers between them.
#include "../device/convert.cuh"
#include "../device/vector.cuh"
#include "rotary.h"
#include <limits>

namespace {

// (a, b) turned by the angle of this cosine and sine.
template <class Acc>
__device__ __forceinline__ void turn(Acc& a, Acc& b, Acc cosine, Acc sine) {
    const Acc before = a;
    a = before * cosine - b * sine;
    b = b * cosine + before * sine;
}

// kPairs pairs of a row from pair `pair` on, whose halves are 2 * kPairs neighbours if interleaved, else kPairs in either
// half of the row. kVectors: each run of neighbours is one access.
template <class T, int kPairs, bool kVectors, bool kInterleaved>
struct Pairs {
    static constexpr int kRun = kInterleaved ? 2 * kPairs : kPairs, kRuns = 2 * kPairs / kRun;
    int64_t first[kRuns];  // elements of the row

    __device__ __forceinline__ Pairs(int64_t pair, int64_t half) {
        first[0] = kInterleaved ? 2 * pair : pair;
        if constexpr (!kInterleaved) first[1] = half + pair;
    }

    template <class Acc>
    __device__ __forceinline__ void turned(T* __restrict__ out, const T* __restrict__ x, int64_t step,
                                           const Vector<Acc, kPairs>& cosine, const Vector<Acc, kPairs>& sine) const {
        constexpr int kStep = kInterleaved ? 2 : 1, kOther = kInterleaved ? 1 : kPairs;
        Acc value[2 * kPairs];
#pragma unroll
        for (int run = 0; run < kRuns; ++run) {
            Vector<T, kRun> v;
            if constexpr (kVectors) {
                v = load_vector<kRun>(x + first[run]);
            } else {
#pragma unroll
                for (int e = 0; e < kRun; ++e) v[e] = x[(first[run] + e) * step];
            }
#pragma unroll
            for (int e = 0; e < kRun; ++e) value[run * kRun + e] = convert<Acc>(v[e]);
        }
#pragma unroll
        for (int e = 0; e < kPairs; ++e) turn(value[e * kStep], value[e * kStep + kOther], cosine[e], sine[e]);
#pragma unroll
        for (int run = 0; run < kRuns; ++run) {
            Vector<T, kRun> v;
#pragma unroll
            for (int e = 0; e < kRun; ++e) v[e] = convert<T>(value[run * kRun + e]);
            if constexpr (kVectors) {
                store_vector(out + first[run], v);
            } else {
#pragma unroll
                for (int e = 0; e < kRun; ++e) out[first[run] + e] = v[e];
            }
        }
    }
};

// The rows of one place, of some heads: to and from are the first's.
template <class T, bool kVectors, bool kInterleaved>
__device__ __forceinline__ void
turn_heads(T* __restrict__ to, const T* __restrict__ from, const accumulator_t<T>* __restrict__ cos,
           const accumulator_t<T>* __restrict__ sin, const RotaryProblem& p, int64_t place, int heads, int team,
           int lane) {
    using Acc = accumulator_t<T>;
    // What fills 16 bytes of angles or, interleaved, of elements in the type of sums.
    constexpr int kPairs = !kVectors ? 1 : 16 / int(sizeof(Acc)) / (kInterleaved ? 2 : 1);
    const int64_t apart = p.length * p.d;
    if (place < 0 || place >= p.places) {
        if (lane == 0) atomicExch(p.fault, 1);
        for (int h = 0; h < heads; ++h)
            for (int64_t c = lane; c < p.d; c += team) to[h * apart + c] = convert<T>(Acc(0));
        return;
    }
    for (int64_t pair = lane * kPairs; pair < p.half; pair += team * kPairs) {
        const Pairs<T, kPairs, kVectors, kInterleaved> pairs(pair, p.half);
        const auto cosine = load_vector<kPairs>(cos + place * p.half + pair);
        auto sine = load_vector<kPairs>(sin + place * p.half + pair);
#pragma unroll
        for (int e = 0; e < kPairs; ++e) sine[e] = p.inverse ? -sine[e] : sine[e];
#pragma unroll 2
        for (int h = 0; h < heads; ++h)
            pairs.turned(to + h * apart, from + h * p.strides.head, p.strides.column, cosine, sine);
    }
    for (int h = 0; h < heads; ++h)
        for (int64_t c = 2 * p.half + lane; c < p.d; c += team)
            to[h * apart + c] = from[h * p.strides.head + c * p.strides.column];
}

template <class T, bool kVectors>
__global__ void __launch_bounds__(kRotaryThreads, 2)
rotary_embedding_kernel(T* __restrict__ out, const T* __restrict__ x, const accumulator_t<T>* __restrict__ cos,
                        const accumulator_t<T>* __restrict__ sin, const __grid_constant__ RotaryProblem p,
                        const RotaryConfig config) {
    const int team = config.team, lane = int(threadIdx.x) % team, which = int(threadIdx.x) / team;
    const int across = kRotaryThreads / team / config.rows;  // parts of the heads, side by side
    const int64_t row0 = int64_t(blockIdx.x) * config.rows + which % config.rows;
    const int64_t part0 = int64_t(blockIdx.y) * across + which / config.rows;
    const int64_t row_step = int64_t(gridDim.x) * config.rows;
    const int64_t head_step = int64_t(gridDim.y) * across * config.heads;
    for (int64_t batch = blockIdx.z; batch < p.batch; batch += gridDim.z)
        for (int64_t head = part0 * config.heads; head < p.heads; head += head_step)
            for (int64_t row = row0; row < p.length; row += row_step) {
                int64_t place = p.offset + (p.count ? row : 0);
                if (p.positions) place += p.positions[batch * p.position_batch + row * p.position_row];
                T* const to = out + ((batch * p.heads + head) * p.length + row) * p.d;
                const T* const from = x + batch * p.strides.batch + head * p.strides.head + row * p.strides.row;
                const int heads = int(min(int64_t(config.heads), p.heads - head));
                if (p.interleaved) turn_heads<T, kVectors, true>(to, from, cos, sin, p, place, heads, team, lane);
                else turn_heads<T, kVectors, false>(to, from, cos, sin, p, place, heads, team, lane);
            }
}

template <class T, bool kVectors>
void launch(T* out, const T* x, const accumulator_t<T>* cos, const accumulator_t<T>* sin, const RotaryProblem& p,
            const RotaryConfig& config, cudaStream_t stream) {
    const auto blocks = [](int64_t n, int64_t each, int64_t most) {
        return unsigned(std::min((n - 1) / each + 1, most));
    };
    const int64_t heads = int64_t(config.teams() / config.rows) * config.heads;
    const dim3 grid(blocks(p.length, config.rows, std::numeric_limits<int32_t>::max()), blocks(p.heads, heads, 65535),
                    blocks(p.batch, 1, 65535));
    gpu::launch<rotary_embedding_kernel<T, kVectors>>(grid, dim3(kRotaryThreads), 0, stream, out, x, cos, sin, p,
                                                      config);
}

}  // namespace

void rotary_embedding(void* out, const void* x, const void* cos, const void* sin, DType dtype, const RotaryProblem& p,
                      const RotaryConfig& config, cudaStream_t stream) {
    if (p.batch == 0 || p.heads == 0 || p.length == 0 || p.d == 0) return;
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using Acc = accumulator_t<T>;
        constexpr int kN = 16 / sizeof(Acc);  // what fills 16 bytes of angles
        T* const to = static_cast<T*>(out);
        const T* const from = static_cast<const T*>(x);
        const auto *c = static_cast<const Acc*>(cos), *s = static_cast<const Acc*>(sin);
        const int64_t sizes = p.d | p.half | p.strides.batch | p.strides.head | p.strides.row;
        if (p.strides.column == 1 && sizes % kN == 0 && aligned_for<kN>(to) && aligned_for<kN>(from) &&
            aligned_for<kN>(c) && aligned_for<kN>(s))
            launch<T, true>(to, from, c, s, p, config, stream);
        else launch<T, false>(to, from, c, s, p, config, stream);
    });
}
