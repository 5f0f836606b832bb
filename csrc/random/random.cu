// Philox draws as arrays. Four elements a Philox call; a fill writes whatever its width, memory is its only cost on a GPU.
#include "../device/convert.cuh"
#include "../device/philox.cuh"
#include "../device/vector.cuh"
#include "random.h"

namespace {

struct Bits {
    using Value = uint32_t;
    __device__ void operator()(uint4 w, uint32_t (&out)[4]) const {
        out[0] = w.x, out[1] = w.y, out[2] = w.z, out[3] = w.w;
    }
};

// The same roundings in every implementation: no contraction to a fused multiply-add.
__device__ __forceinline__ float scaled(float u, float low, float range) { return __fadd_rn(low, __fmul_rn(range, u)); }
__device__ __forceinline__ double scaled(double u, double low, double range) {
    return __dadd_rn(low, __dmul_rn(range, u));
}

template <class T>
struct Uniform {
    using Value = accumulator_t<T>;
    Value low, range;
    __device__ void operator()(uint4 w, Value (&out)[4]) const {
#pragma unroll
        for (int e = 0; e < 4; ++e) out[e] = scaled(Value(uniform_from(word(w, e))), low, range);
    }
};

template <class T>
struct Normal {
    using Value = double;
    double mean, std;
    __device__ void operator()(uint4 w, double (&out)[4]) const {
#pragma unroll
        for (int e = 0; e < 4; e += 2) {
            double u1 = double((word(w, e) >> 8) + 1) * double(kTwoToMinus24);  // (0, 1]: its logarithm is finite
            double u2 = double(word(w, e + 1) >> 8) * double(kTwoToMinus24);
            double radius = sqrt(-2 * log(u1));
            double sine, cosine;
            sincospi(2 * u2, &sine, &cosine);  // cos(2 pi u2) would keep a table for huge angles in local memory
            out[e] = scaled(radius * cosine, mean, std);
            out[e + 1] = scaled(radius * sine, mean, std);
        }
    }
};

// Narrowing from double goes through float, as the reference's does.
template <class T> __device__ __forceinline__ T narrow(double x) { return convert<T>(float(x)); }
template <> __device__ __forceinline__ double narrow<double>(double x) { return x; }
template <class T> __device__ __forceinline__ T narrow(float x) { return convert<T>(x); }
template <class T> __device__ __forceinline__ T narrow(uint32_t x) { return x; }

template <class T, class Draw, bool kVector>
__global__ void __launch_bounds__(kPointwiseThreads)
random_kernel(T* out, int64_t n, const uint64_t* state, uint64_t offset, Draw draw) {
    const uint64_t seed = state[0], position = state[1] + offset;
    const int64_t stride = int64_t(gridDim.x) * kPointwiseThreads * 4;
    for (int64_t i = (int64_t(blockIdx.x) * kPointwiseThreads + threadIdx.x) * 4; i < n; i += stride) {
        typename Draw::Value value[4];
        draw(philox(seed, uint64_t(i) >> 2, position), value);
        if (kVector && i + 4 <= n) {
            Vector<T, 4> y;
#pragma unroll
            for (int e = 0; e < 4; ++e) y[e] = narrow<T>(value[e]);
            store_vector(out + i, y);
        } else {
            for (int e = 0; e < 4 && i + e < n; ++e) out[i + e] = narrow<T>(value[e]);
        }
    }
}

template <class T, class Draw>
void fill(T* out, int64_t n, const uint64_t* state, uint64_t offset, Draw draw, const RandomConfig& config,
          cudaStream_t stream) {
    if (n == 0) return;
    dim3 grid{config.grid(n)}, block{kPointwiseThreads};
    if (aligned_for<4>(out))
        gpu::launch<random_kernel<T, Draw, true>>(grid, block, 0, stream, out, n, state, offset, draw);
    else gpu::launch<random_kernel<T, Draw, false>>(grid, block, 0, stream, out, n, state, offset, draw);
}

}  // namespace

void random_bits(uint32_t* out, int64_t n, const uint64_t* state, uint64_t offset, const RandomConfig& config,
                 cudaStream_t stream) {
    fill(out, n, state, offset, Bits{}, config, stream);
}

void random_uniform(void* out, DType dtype, int64_t n, const uint64_t* state, uint64_t offset, double low, double high,
                    const RandomConfig& config, cudaStream_t stream) {
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using Value = accumulator_t<T>;
        fill(static_cast<T*>(out), n, state, offset, Uniform<T>{Value(low), Value(high - low)}, config, stream);
    });
}

void random_normal(void* out, DType dtype, int64_t n, const uint64_t* state, uint64_t offset, double mean, double std,
                   const RandomConfig& config, cudaStream_t stream) {
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        fill(static_cast<T*>(out), n, state, offset, Normal<T>{mean, std}, config, stream);
    });
}
