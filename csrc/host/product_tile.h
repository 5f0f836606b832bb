// What the host knows of the tiles that device/block_product.cuh multiplies.
#pragma once

constexpr int kProductStep = 8;  // k of one shared-memory stage
constexpr int kProductPad = 4;   // elements after each k of a stage: transposing stores then hit 32 banks

// Whether the totals of a tile lie in shared memory: two sets of 64 words and the fragments are more than 255 registers.
constexpr bool product_totals_are_shared(int thread_rows, int thread_columns, int accumulator_bytes) {
    return thread_rows * thread_columns * accumulator_bytes >= 64 * 4;
}

// Bytes of shared memory: the two stages of both operands, and the tile of results, which takes their place where it
// holds no totals.
constexpr int product_shared_bytes(int rows, int columns, int thread_rows, int thread_columns, int accumulator_bytes) {
    const int stages = 2 * kProductStep * (rows + columns + 2 * kProductPad), results = rows * columns;
    const bool both = product_totals_are_shared(thread_rows, thread_columns, accumulator_bytes);
    return (both ? stages + results : stages > results ? stages : results) * accumulator_bytes;
}
