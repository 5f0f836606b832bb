// Recurrent steps, element by element: a thread has one element of the state and its gates, which lie `hidden` apart.
// Neighbouring threads take neighbouring elements of every array.
#include "../device/activation.cuh"
#include "../device/convert.cuh"
#include "rnn.h"

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

template <class T, class A>
__device__ __forceinline__ A sigmoid_of(T x) {
    return activate(Activation::sigmoid, convert<A>(x), A(0));
}
template <class T, class A>
__device__ __forceinline__ A tanh_of(T x) {
    return activate(Activation::tanh, convert<A>(x), A(0));
}

template <class T>
__global__ void __launch_bounds__(kRnnThreads) lstm_cell_kernel(const __grid_constant__ LstmCell a) {
    using A = accumulator_t<T>;
    const int64_t hidden = a.shape.hidden;
    const T* const gates = static_cast<const T*>(a.gates);
    T* const activated = static_cast<T*>(a.activated);
    elements(a.shape, 4, [&](int64_t i, int64_t gate) {
        const A in = sigmoid_of<T, A>(gates[gate]), forget = sigmoid_of<T, A>(gates[gate + hidden]);
        const A cell = tanh_of<T, A>(gates[gate + 2 * hidden]), out = sigmoid_of<T, A>(gates[gate + 3 * hidden]);
        const A c = forget * static_cast<const A*>(a.c_before)[i] + in * cell;
        static_cast<A*>(a.c)[i] = c;
        static_cast<T*>(a.h)[i] = convert<T>(out * tanh_of<A, A>(c));
        activated[gate] = convert<T>(in), activated[gate + hidden] = convert<T>(forget);
        activated[gate + 2 * hidden] = convert<T>(cell), activated[gate + 3 * hidden] = convert<T>(out);
    });
}

template <class T>
__global__ void __launch_bounds__(kRnnThreads) lstm_cell_backward_kernel(const __grid_constant__ LstmCellBackward a) {
    using A = accumulator_t<T>;
    const int64_t hidden = a.shape.hidden;
    const T* const activated = static_cast<const T*>(a.activated);
    T* const of_gates = static_cast<T*>(a.of_gates);
    elements(a.shape, 4, [&](int64_t i, int64_t gate) {
        const A in = convert<A>(activated[gate]), forget = convert<A>(activated[gate + hidden]);
        const A cell = convert<A>(activated[gate + 2 * hidden]), out = convert<A>(activated[gate + 3 * hidden]);
        const A of_h = convert<A>(static_cast<const T*>(a.of_h)[i]),
                squashed = tanh_of<A, A>(static_cast<const A*>(a.c)[i]);
        const A of_c = static_cast<const A*>(a.of_c)[i] + of_h * out * (1 - squashed * squashed);
        static_cast<A*>(a.of_c_before)[i] = of_c * forget;
        of_gates[gate] = convert<T>(of_c * cell * in * (1 - in));
        of_gates[gate + hidden] = convert<T>(of_c * static_cast<const A*>(a.c_before)[i] * forget * (1 - forget));
        of_gates[gate + 2 * hidden] = convert<T>(of_c * in * (1 - cell * cell));
        of_gates[gate + 3 * hidden] = convert<T>(of_h * squashed * out * (1 - out));
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
        const A reset = sigmoid_of<A, A>(sum(gate)), update = sigmoid_of<A, A>(sum(gate + hidden));
        const T of_state = h[gate + 2 * hidden];
        const A fresh = tanh_of<A, A>(convert<A>(x[gate + 2 * hidden]) + reset * convert<A>(of_state));
        const A before = convert<A>(static_cast<const T*>(a.h_before)[i]);
        static_cast<T*>(a.h)[i] = convert<T>((1 - update) * fresh + update * before);
        const int64_t four = gate + gate / (3 * hidden) * hidden;
        saved[four] = convert<T>(reset), saved[four + hidden] = convert<T>(update);
        saved[four + 2 * hidden] = convert<T>(fresh), saved[four + 3 * hidden] = of_state;
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
        const A reset = convert<A>(saved[four]), update = convert<A>(saved[four + hidden]);
        const A fresh = convert<A>(saved[four + 2 * hidden]), of_state = convert<A>(saved[four + 3 * hidden]);
        const A g = convert<A>(static_cast<const T*>(a.of_h)[i]),
                before = convert<A>(static_cast<const T*>(a.h_before)[i]);
        const A of_fresh = g * (1 - update) * (1 - fresh * fresh);
        const A of_reset = of_fresh * of_state * reset * (1 - reset),
                of_update = g * (before - fresh) * update * (1 - update);
        of_x[gate] = of_h[gate] = convert<T>(of_reset);
        of_x[gate + hidden] = of_h[gate + hidden] = convert<T>(of_update);
        of_x[gate + 2 * hidden] = convert<T>(of_fresh);
        of_h[gate + 2 * hidden] = convert<T>(of_fresh * reset);
        static_cast<T*>(a.of_h_before)[i] = convert<T>(g * update);
    });
}

template <class T>
__global__ void __launch_bounds__(kRnnThreads) rnn_cell_backward_kernel(const __grid_constant__ RnnCellBackward a) {
    using A = accumulator_t<T>;
    elements(a.shape, 1, [&](int64_t i, int64_t) {
        const A g = convert<A>(static_cast<const T*>(a.of_h)[i]), h = convert<A>(static_cast<const T*>(a.h)[i]);
        static_cast<T*>(a.of_gates)[i] = convert<T>(a.relu ? (h > 0 ? g : A(0)) : g * (1 - h * h));
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
