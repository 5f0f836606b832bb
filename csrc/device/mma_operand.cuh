// Copies of a matrix's rows from global into shared memory by cp.async, laid out as device/mma_product.cuh reads them:
// what lies outside the matrix is filled with zeros, rows of any alignment and stride are taken.
#pragma once
#include "mma_product.cuh"

namespace mma_product {

// An operand as rows of neighbours, which is how a stage holds it.
template <class T>
struct Operand {
    const T* data;
    int64_t rows, columns;              // columns are neighbours
    int64_t row_stride, column_stride;  // column_stride is 1 unless copy is 0
    int copy;                           // bytes that may be copied at once: 16, 8 or 4; 0: single elements
};

// Rows row0 to row0 + kRows - 1 and the columns from column0 into a stage, by all threads of the block.
template <class T, int kRows, int kRowBytes, bool kOuter, int kThreads>
__device__ __forceinline__ void
load_tile(unsigned char* to, const Operand<T>& from, const T* data, int64_t row0, int64_t column0) {
    constexpr int kChunks = kRowBytes / 16, kPer = 16 / int(sizeof(T)), kAll = kRows * kChunks;
    if (from.copy == 16) {
        // The addresses of four copies and more would be held through the loop, for which there are no registers.
        constexpr bool kMany = kAll / kThreads >= 4;
        const int thread = kMany ? ptx::opaque(int(threadIdx.x)) : int(threadIdx.x);
#pragma unroll
        for (int i = 0; i < (kAll + kThreads - 1) / kThreads; ++i) {
            const int index = i * kThreads + thread, row = index / kChunks, chunk = index % kChunks;
            if (kAll % kThreads && index >= kAll) break;
            const int64_t left = from.columns - column0 - chunk * kPer;
            const bool inside = row0 + row < from.rows && left > 0;
            const T* const source = data + (row0 + row) * from.row_stride + column0 + chunk * kPer;
            ptx::cp_async_16_cg(to + chunk_offset<T, kRowBytes, kOuter>(row, chunk), inside ? source : data,
                                !inside       ? 0
                                : left < kPer ? int(left) * int(sizeof(T))
                                              : 16);
        }
        return;
    }
#pragma unroll 1
    for (int index = ptx::opaque(int(threadIdx.x)); index < kAll; index += kThreads) {
        const int row = index / kChunks, chunk = index % kChunks;
        const int64_t all = from.columns - column0 - chunk * kPer;
        const int left = row0 + row < from.rows && all > 0 ? int(all < kPer ? all : kPer) : 0;
        const T* const source = data + (row0 + row) * from.row_stride + (column0 + chunk * kPer) * from.column_stride;
        unsigned char* const target = to + chunk_offset<T, kRowBytes, kOuter>(row, chunk);
        if (from.copy) {
            for (int at = 0; at < 16; at += from.copy) {
                const int bytes = min(max(left * int(sizeof(T)) - at, 0), from.copy);
                const void* const piece = bytes ? reinterpret_cast<const unsigned char*>(source) + at
                                                : reinterpret_cast<const unsigned char*>(data);
                if (from.copy == 8) ptx::cp_async_8(target + at, piece, bytes);
                else ptx::cp_async_4(target + at, piece, bytes);
            }
        } else {
            Vector<T, kPer> v;
#pragma unroll
            for (int i = 0; i < kPer; ++i) v[i] = i < left ? source[i * from.column_stride] : T(0.0f);
            store_vector(reinterpret_cast<T*>(target), v);
        }
    }
}

}  // namespace mma_product
