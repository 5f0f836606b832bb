// The formulas of one element of a recurrent step and of its gradient: single steps and whole sequences compute the same.
#pragma once
#include "../device/activation.cuh"

template <class A> __device__ __forceinline__ A sigmoid_of(A x) { return activate(Activation::sigmoid, x, A(0)); }
template <class A> __device__ __forceinline__ A tanh_of(A x) { return activate(Activation::tanh, x, A(0)); }

// The gates after their activations, and the states.
template <class A> struct LstmElement { A in, forget, cell, out, c, h; };

// in, forget, cell, out: before their activations.
template <class A>
__device__ __forceinline__ LstmElement<A> lstm_element(A in, A forget, A cell, A out, A c_before) {
    LstmElement<A> e;
    e.in = sigmoid_of(in), e.forget = sigmoid_of(forget), e.cell = tanh_of(cell), e.out = sigmoid_of(out);
    e.c = e.forget * c_before + e.in * e.cell;
    e.h = e.out * tanh_of(e.c);
    return e;
}

// Of the four gates before their activations and of the cell state before the step.
template <class A> struct LstmGradient { A in, forget, cell, out, c_before; };

// e: gates after their activations, and c; of_c: what reaches c but through h.
template <class A>
__device__ __forceinline__ LstmGradient<A> lstm_gradient(const LstmElement<A>& e, A c_before, A of_h, A of_c) {
    const A squashed = tanh_of(e.c), total = of_c + of_h * e.out * (1 - squashed * squashed);
    return {total * e.cell * e.in * (1 - e.in), total * c_before * e.forget * (1 - e.forget),
            total * e.in * (1 - e.cell * e.cell), of_h * squashed * e.out * (1 - e.out), total * e.forget};
}

// of_state: the new gate's product with the state, its bias included.
template <class A> struct GruElement { A reset, update, fresh, of_state, h; };

// reset, update: both products' sums; fresh: the product with the input.
template <class A>
__device__ __forceinline__ GruElement<A> gru_element(A reset, A update, A fresh, A of_state, A before) {
    GruElement<A> e;
    e.reset = sigmoid_of(reset), e.update = sigmoid_of(update);
    e.fresh = tanh_of(fresh + e.reset * of_state), e.of_state = of_state;
    e.h = (1 - e.update) * e.fresh + e.update * before;
    return e;
}

// Of the gates before their activations, the new one's product with the input (fresh) and with the state apart; before:
// what reaches the state before the step past the gates.
template <class A> struct GruGradient { A reset, update, fresh, of_state, before; };

template <class A>
__device__ __forceinline__ GruGradient<A> gru_gradient(const GruElement<A>& e, A before, A of_h) {
    const A of_fresh = of_h * (1 - e.update) * (1 - e.fresh * e.fresh);
    return {of_fresh * e.of_state * e.reset * (1 - e.reset), of_h * (before - e.fresh) * e.update * (1 - e.update),
            of_fresh, of_fresh * e.reset, of_h * e.update};
}

// Of the argument of the plain step's activation, from the step's result h.
template <class A>
__device__ __forceinline__ A rnn_gradient(bool relu, A h, A of_h) {
    return relu ? (h > 0 ? of_h : A(0)) : of_h * (1 - h * h);
}
