// One time step of LSTM and GRU after the products, and the gradients of one step of LSTM, GRU and the plain network.
//
// All arrays are contiguous: states (batch, hidden), gates (batch, gates * hidden), gates in PyTorch's order (LSTM: input,
// forget, cell, output; GRU: reset, update, new). Of dtype `dtype`, but for the cell states of LSTM and their gradients,
// which are of the type of sums (float32, float64 for float64): a cell state lives through the whole sequence. Any
// alignment; outputs are overwritten and overlap nothing.
#pragma once
#include "../host/dtype.h"
#include "rnn_config.h"

struct RnnShape { int64_t batch, hidden; };

// gates: before their activations. h = o tanh(c), c = f c_before + i g; activated: the four after theirs.
struct LstmCell {
    void *h, *c, *activated;       // (batch, hidden), (batch, hidden), (batch, 4 hidden)
    const void *gates, *c_before;  // (batch, 4 hidden), (batch, hidden)
    RnnShape shape;
};
void lstm_cell(const LstmCell& arguments, DType dtype, const RnnConfig& config, cudaStream_t stream);

// of_gates: gradients of gates; of_c_before: of c_before, given those of h and c.
struct LstmCellBackward {
    void *of_gates, *of_c_before;
    const void *of_h, *of_c, *activated, *c, *c_before;
    RnnShape shape;
};
void lstm_cell_backward(const LstmCellBackward& arguments, DType dtype, const RnnConfig& config, cudaStream_t stream);

// gates_x and gates_h: the products of input and state, biases included. r, z = sigmoid(x + h); n = tanh(x + r h);
// h = (1 - z) n + z h_before. saved: r, z, n and the new gate's part of gates_h.
struct GruCell {
    void *h, *saved;  // (batch, hidden), (batch, 4 hidden)
    const void *gates_x, *gates_h, *h_before;
    RnnShape shape;
};
void gru_cell(const GruCell& arguments, DType dtype, const RnnConfig& config, cudaStream_t stream);

// of_h_before: what reaches h_before past the gates alone.
struct GruCellBackward {
    void *of_gates_x, *of_gates_h, *of_h_before;
    const void *of_h, *saved, *h_before;
    RnnShape shape;
};
void gru_cell_backward(const GruCellBackward& arguments, DType dtype, const RnnConfig& config, cudaStream_t stream);

// of_gates = of_h times the derivative at the step's result h: 1 - h^2 for tanh, 1 or 0 for relu.
struct RnnCellBackward {
    void* of_gates;  // (batch, hidden)
    const void *of_h, *h;
    RnnShape shape;
    bool relu;
};
void rnn_cell_backward(const RnnCellBackward& arguments, DType dtype, const RnnConfig& config, cudaStream_t stream);
