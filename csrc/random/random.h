// Philox draws as arrays: bits, uniforms, normals. Element i of the flat output is the draw of index i (philox.cuh).
//
// Pointers: out has n contiguous elements, overwritten; `state` is two uint64 in device memory, seed and base offset, which
// the kernel reads; `offset` is added to the base.
#pragma once
#include "../host/dtype.h"
#include "random_config.h"

void random_bits(uint32_t* out, int64_t n, const uint64_t* state, uint64_t offset, const RandomConfig& config,
                 cudaStream_t stream);

// low + (high - low) * u, u in [0, 1) in steps of 2^-24; rounded as written, in float32 (float64 for float64).
void random_uniform(void* out, DType dtype, int64_t n, const uint64_t* state, uint64_t offset, double low, double high,
                    const RandomConfig& config, cudaStream_t stream);

// mean + std * z, z by Box and Muller (1958) from pairs of words, computed in float64: (u1, u2) gives elements 2k and 2k + 1.
void random_normal(void* out, DType dtype, int64_t n, const uint64_t* state, uint64_t offset, double mean, double std,
                   const RandomConfig& config, cudaStream_t stream);
