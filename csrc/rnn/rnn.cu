// Recurrent steps, element by element: a thread has one element of the state and its gates, which lie `hidden` apart.
// Neighbouring threads take neighbouring elements of every array.
#include "../device/convert.cuh"
#include "rnn.h"
#include "rnn_cell.cuh"

namespace {

// Calls f(element, gate): the element's place in a state, and in gates of `count` its first gate's.
template <class F>
__device__ __forceinline__ void elements(const RnnShape& shape, int count, F f) {
    const int64_t all = shape.batch * shape.hidden, step = gridDim.x * int64_t(blockDim.x);
    for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < all; i += step) {
        const int64_t row = i / shape.hidden;
        f(i, row * (count - 1) * shape.hidden + i);
    }
}

template <class T>
__global__ void __launch_bounds__(kRnnThreads) lstm_cell_kernel(const __grid_constant__ LstmCell a) {
    using A = accumulator_t<T>;
    const int64_t hidden = a.shape.hidden;
    const T* const gates = static_cast<const T*>(a.gates);
    T* const activated = static_cast<T*>(a.activated);
    elements(a.shape, 4, [&](int64_t i, int64_t gate) {
        const auto at = [&](int g) { return convert<A>(gates[gate + g * hidden]); };
        const LstmElement<A> e = lstm_element(at(0), at(1), at(2), at(3), static_cast<const A*>(a.c_before)[i]);
        static_cast<A*>(a.c)[i] = e.c;
        static_cast<T*>(a.h)[i] = convert<T>(e.h);
        activated[gate] = convert<T>(e.in), activated[gate + hidden] = convert<T>(e.forget);
        activated[gate + 2 * hidden] = convert<T>(e.cell), activated[gate + 3 * hidden] = convert<T>(e.out);
    });
}

template <class T>
__global__ void __launch_bounds__(kRnnThreads) lstm_cell_backward_kernel(const __grid_constant__ LstmCellBackward a) {
    using A = accumulator_t<T>;
    const int64_t hidden = a.shape.hidden;
    const T* const activated = static_cast<const T*>(a.activated);
    T* const of_gates = static_cast<T*>(a.of_gates);
    elements(a.shape, 4, [&](int64_t i, int64_t gate) {
        const auto at = [&](int g) { return convert<A>(activated[gate + g * hidden]); };
        const LstmElement<A> e{at(0), at(1), at(2), at(3), static_cast<const A*>(a.c)[i], A(0)};
        const LstmGradient<A> d =
            lstm_gradient(e, static_cast<const A*>(a.c_before)[i], convert<A>(static_cast<const T*>(a.of_h)[i]),
                          static_cast<const A*>(a.of_c)[i]);
        static_cast<A*>(a.of_c_before)[i] = d.c_before;
        of_gates[gate] = convert<T>(d.in), of_gates[gate + hidden] = convert<T>(d.forget);
        of_gates[gate + 2 * hidden] = convert<T>(d.cell), of_gates[gate + 3 * hidden] = convert<T>(d.out);
    });
}

template <class T>
__global__ void __launch_bounds__(kRnnThreads) gru_cell_kernel(const __grid_constant__ GruCell a) {
    using A = accumulator_t<T>;
    const int64_t hidden = a.shape.hidden;
    const T *const x = static_cast<const T*>(a.gates_x), *const h = static_cast<const T*>(a.gates_h);
    T* const saved = static_cast<T*>(a.saved);
    elements(a.shape, 3, [&](int64_t i, int64_t gate) {
        const auto sum = [&](int64_t at) { return convert<A>(x[at]) + convert<A>(h[at]); };
        const T of_state = h[gate + 2 * hidden];
        const GruElement<A> e = gru_element(sum(gate), sum(gate + hidden), convert<A>(x[gate + 2 * hidden]),
                                            convert<A>(of_state), convert<A>(static_cast<const T*>(a.h_before)[i]));
        static_cast<T*>(a.h)[i] = convert<T>(e.h);
        const int64_t four = gate + gate / (3 * hidden) * hidden;
        saved[four] = convert<T>(e.reset), saved[four + hidden] = convert<T>(e.update);
        saved[four + 2 * hidden] = convert<T>(e.fresh), saved[four + 3 * hidden] = of_state;
    });
}

template <class T>
__global__ void __launch_bounds__(kRnnThreads) gru_cell_backward_kernel(const __grid_constant__ GruCellBackward a) {
    using A = accumulator_t<T>;
    const int64_t hidden = a.shape.hidden;
    const T* const saved = static_cast<const T*>(a.saved);
    T *const of_x = static_cast<T*>(a.of_gates_x), *const of_h = static_cast<T*>(a.of_gates_h);
    elements(a.shape, 3, [&](int64_t i, int64_t gate) {
        const int64_t four = gate + gate / (3 * hidden) * hidden;
        const auto at = [&](int g) { return convert<A>(saved[four + g * hidden]); };
        const GruGradient<A> d = gru_gradient(GruElement<A>{at(0), at(1), at(2), at(3), A(0)},
                                              convert<A>(static_cast<const T*>(a.h_before)[i]),
                                              convert<A>(static_cast<const T*>(a.of_h)[i]));
        of_x[gate] = of_h[gate] = convert<T>(d.reset);
        of_x[gate + hidden] = of_h[gate + hidden] = convert<T>(d.update);
        of_x[gate + 2 * hidden] = convert<T>(d.fresh);
        of_h[gate + 2 * hidden] = convert<T>(d.of_state);
        static_cast<T*>(a.of_h_before)[i] = convert<T>(d.before);
    });
}

template <class T>
__global__ void __launch_bounds__(kRnnThreads) rnn_cell_backward_kernel(const __grid_constant__ RnnCellBackward a) {
    using A = accumulator_t<T>;
    elements(a.shape, 1, [&](int64_t i, int64_t) {
        const A g = convert<A>(static_cast<const T*>(a.of_h)[i]), h = convert<A>(static_cast<const T*>(a.h)[i]);
        static_cast<T*>(a.of_gates)[i] = convert<T>(rnn_gradient(a.relu, h, g));
    });
}

// No more blocks than find work.
unsigned blocks_for(const RnnShape& shape, const RnnConfig& config) {
    const int64_t wanted = (shape.batch * shape.hidden + kRnnThreads - 1) / kRnnThreads;
    return unsigned(std::min<int64_t>(config.blocks, wanted));
}

// Launches kKernel<T> on the type that dtype names.
#define FASTNET_LAUNCH_STEP(kernel) \
    if (a.shape.batch * a.shape.hidden == 0) return; \
    dispatch_floating(dtype, [&](auto tag) { \
        using T = typename decltype(tag)::type; \
        gpu::launch<kernel<T>>(dim3(blocks_for(a.shape, config)), dim3(kRnnThreads), 0, stream, a); \
    })

}  // namespace

void lstm_cell(const LstmCell& a, DType dtype, const RnnConfig& config, cudaStream_t stream) {
    FASTNET_LAUNCH_STEP(lstm_cell_kernel);
}
void lstm_cell_backward(const LstmCellBackward& a, DType dtype, const RnnConfig& config, cudaStream_t stream) {
    FASTNET_LAUNCH_STEP(lstm_cell_backward_kernel);
}
void gru_cell(const GruCell& a, DType dtype, const RnnConfig& config, cudaStream_t stream) {
    FASTNET_LAUNCH_STEP(gru_cell_kernel);
}
void gru_cell_backward(const GruCellBackward& a, DType dtype, const RnnConfig& config, cudaStream_t stream) {
    FASTNET_LAUNCH_STEP(gru_cell_backward_kernel);
}
void rnn_cell_backward(const RnnCellBackward& a, DType dtype, const RnnConfig& config, cudaStream_t stream) {
    FASTNET_LAUNCH_STEP(rnn_cell_backward_kernel);
}
