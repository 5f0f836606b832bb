// Rotary position embedding (Su et al. 2021): pairs of elements of a row are turned by angles that grow with its place.
//
//   out[a] = x[a] cos - x[b] sin,  out[b] = x[b] cos + x[a] sin
//
// Shapes: x (batch, heads, length, d) of dtype `dtype`, any strides in elements, any alignment; out likewise and contiguous,
// overwritten, of x's shape, no part of its memory. cos and sin (places, half), contiguous, of the type of sums: float32,
// float64 for float64; 2 * half <= d. Pair p of a row is (p, half + p) or, interleaved, (2 p, 2 p + 1), and is turned by
// the angle whose cosine and sine stand at [place, p]; `inverse` turns it back, which is the gradient. Elements from
// 2 * half on are copied.
// The place of row t of sequence b is offset + positions[b, t] + (count ? t : 0), without the positions where they are
// null. One outside [0, places) gives a row of zeros and sets *fault, an int on the device.
#pragma once
#include "../host/dtype.h"
#include "rotary_config.h"

struct RotaryStrides { int64_t batch, head, row, column; };

struct RotaryProblem {
    int64_t batch, heads, length, d, half, places;
    RotaryStrides strides;  // of x
    const int64_t* positions;
    int64_t position_batch, position_row;  // strides
    int64_t offset;
    bool count, interleaved, inverse;
    int* fault;
};

void rotary_embedding(void* out, const void* x, const void* cos, const void* sin, DType dtype,
                      const RotaryProblem& problem, const RotaryConfig& config, cudaStream_t stream);
