// The shared memory of device/mma_product.cuh, for those who launch it.
#pragma once
#include <algorithm>

constexpr int kMmaStep = 32;  // k of a stage: rows of 64 bytes, 128 for float32
constexpr int kMmaMaxStages = 6;

// Rows of results that pass through shared memory at once: all of the tile, or half where that is more than 64 KiB.
constexpr int mma_staged_rows(int rows, int columns) { return rows * columns * 4 > 65536 ? rows / 2 : rows; }

constexpr int mma_shared_bytes(int rows, int columns, int stages, int item_bytes) {
    return std::max(stages * (rows + columns) * kMmaStep * item_bytes, mma_staged_rows(rows, columns) * columns * 4);
}
