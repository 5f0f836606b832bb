// A recurrent layer over a whole packed sequence in one launch, one direction or both, and its gradients.
//
// Rows: step t of the sequence has rows(t) of them, which never grow from one step to the next; they follow those of step
// t - 1, `total` in all. Row r of a step belongs to sequence r of the batch. Direction 0 walks from the first step to the
// last, direction 1 back, each sequence from its own end. D: directions, G: gates (LSTM 4, GRU 3, else 1) in PyTorch's order.
//
// All arrays are contiguous, of dtype `dtype` but for cell states and `carry`, which are of the type of sums. Any alignment;
// outputs are overwritten and overlap nothing. The products with the input have been made for all steps; the gradients of
// weights are left to one product of of_products (else of_x) with the states before each step.
//
// Deterministic: no sum depends on which block comes first.
#pragma once
#include "../host/dtype.h"
#include "rnn_sequence_config.h"

struct RnnSequenceShape {
    int64_t batch, hidden, steps;
    int directions;
    const int64_t*
        starts;  // (steps + 1), the row at which each step starts, in device memory; null: all have `batch` rows
    RnnCell cell;
    int gates;  // rnn_gates(cell)
};

struct RnnSequence {
    struct Direction {
        const void *x, *weight, *bias;  // (total, G hidden), (G hidden, hidden), (G hidden) or null
        void *saved, *cells;  // LSTM, GRU: (total, 4 hidden) for backward, as single steps do; LSTM: (total, hidden)
    } direction[2];
    void *out, *h_last, *c_last;  // (total, D hidden); (D, batch, hidden) after each sequence's last step
    const void *h0, *c0;          // (D, batch, hidden)
    uint32_t* arrived;            // (D, row_groups, kSequenceCounters) zeros
    RnnSequenceShape shape;
};
// Throws std::invalid_argument where the config does not serve the problem.
void rnn_sequence(const RnnSequence& arguments, DType dtype, const RnnSequenceConfig& config, cudaStream_t stream);

struct RnnSequenceBackward {
    struct Direction {
        const void *weight, *saved, *cells;
        void *of_x, *of_products;  // (total, G hidden); GRU: of the products with the state, biases included; else null
    } direction[2];
    void *of_h0, *carry;  // (D, batch, hidden); LSTM: carry is left with the gradient of c0; GRU: workspace; else null
    const void *of_out, *of_h_last, *of_c_last, *out, *h0, *c0;
    uint32_t* arrived;
    RnnSequenceShape shape;
};
void rnn_sequence_backward(const RnnSequenceBackward& arguments, DType dtype, const RnnSequenceConfig& config,
                           cudaStream_t stream);
