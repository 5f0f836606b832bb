// Matrix descriptors of wgmma and what a tensor map is made of: the same for the GPU and the emulator.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include <cuda_runtime.h>

namespace ptx {

// The span, in bytes, inside which 16-byte units of shared memory change places:
// address ^= (address >> 7 & (span / 16 - 1)) << 4. A pattern repeats every 8 spans.
enum class Swizzle : uint32_t { none = 16, span32 = 32, span64 = 64, span128 = 128 };

// ---- wgmma operands in shared memory --------------------------------------------------------------------------

// `start`: shared offset. With a swizzle, the 8-row pattern must begin at a multiple of 8 spans.
__host__ __device__ __forceinline__ constexpr uint64_t matrix_descriptor(uint32_t start, uint32_t leading_bytes, uint32_t stride_bytes,
                                                                Swizzle swizzle) {
    const uint64_t mode = swizzle == Swizzle::span128 ? 1 : swizzle == Swizzle::span64 ? 2 : swizzle == Swizzle::span32 ? 3 : 0;
    return uint64_t((start & 0x3FFFF) >> 4) | uint64_t((leading_bytes & 0x3FFFF) >> 4) << 16 |
           uint64_t((stride_bytes & 0x3FFFF) >> 4) << 32 | mode << 62;
}

// K-major, swizzled: rows of one span, as a TMA box leaves them; `stride_bytes` from one group of 8 rows to the next.
// The next 16 elements of K: start + 32, inside the span.
template <Swizzle kSwizzle>
__host__ __device__ __forceinline__ constexpr uint64_t k_major_descriptor(uint32_t start, uint32_t stride_bytes = 8 * uint32_t(kSwizzle)) {
    static_assert(kSwizzle != Swizzle::none, "without a swizzle: k_major_plain_descriptor");
    return matrix_descriptor(start, 16, stride_bytes, kSwizzle);
}
// K-major, not swizzled: packed 8 x 16 byte matrices, `k_bytes` from one to the next along K, `row_bytes` along rows.
// The next 16 elements of K: start + 2 k_bytes.
__host__ __device__ __forceinline__ constexpr uint64_t k_major_plain_descriptor(uint32_t start, uint32_t k_bytes, uint32_t row_bytes) {
    return matrix_descriptor(start, k_bytes, row_bytes, Swizzle::none);
}
// M- or N-major, swizzled: along K, rows of one span of M (N); 8 of them are a pattern. `span_bytes` from one span of
// M (N) to the next; `k_bytes` from 8 rows of K to the next 8. The next 16 elements of K: start + 2 k_bytes.
template <Swizzle kSwizzle>
__host__ __device__ __forceinline__ constexpr uint64_t mn_major_descriptor(uint32_t start, uint32_t span_bytes,
                                                                  uint32_t k_bytes = 8 * uint32_t(kSwizzle)) {
    static_assert(kSwizzle != Swizzle::none, "without a swizzle: mn_major_plain_descriptor");
    return matrix_descriptor(start, span_bytes, k_bytes, kSwizzle);
}
// M- or N-major, not swizzled: packed matrices of 8 along K by 16 bytes. The two strides change places in the descriptor.
__host__ __device__ __forceinline__ constexpr uint64_t mn_major_plain_descriptor(uint32_t start, uint32_t mn_bytes, uint32_t k_bytes) {
    return matrix_descriptor(start, k_bytes, mn_bytes, Swizzle::none);
}

// ---- tensor maps -----------------------------------------------------------------------------------------------

// tf32 rounds fp32 on the way; the others are copied as they are.
enum class Element { uint8, uint16, uint32, int32, uint64, int64, fp16, fp32, fp64, bf16, tf32 };

constexpr uint32_t element_bytes(Element e) {
    switch (e) {
        case Element::uint8: return 1;
        case Element::uint16: case Element::fp16: case Element::bf16: return 2;
        case Element::uint32: case Element::int32: case Element::fp32: case Element::tf32: return 4;
        default: return 8;
    }
}

// A tensor in global memory and the box of it that one load brings; innermost dimension first. Elements outside the
// tensor arrive as zeros.
struct TensorLayout {
    Element element = Element::bf16;
    const void* base = nullptr;          // a multiple of 16
    int rank = 1;                        // 1 to 5
    uint64_t sizes[5] = {1, 1, 1, 1, 1};
    uint64_t strides[5] = {};            // bytes, multiples of 16; [0] is not read: the innermost is packed
    uint32_t box[5] = {1, 1, 1, 1, 1};   // at most 256 each; box[0] elements are one span where swizzled
    Swizzle swizzle = Swizzle::none;
};

// Throws std::invalid_argument where the hardware would refuse, and for boxes narrower than their swizzle's span,
// whose place in shared memory no manual states.
inline void check(const TensorLayout& t) {
    auto require = [](bool ok, const char* what) {
        if (!ok) throw std::invalid_argument(std::string("tensor map: ") + what);
    };
    require(t.rank >= 1 && t.rank <= 5, "the rank is 1 to 5");
    require(t.base && reinterpret_cast<uintptr_t>(t.base) % 16 == 0, "the address is a multiple of 16, and not null");
    const uint64_t row = uint64_t(t.box[0]) * element_bytes(t.element);
    for (int i = 0; i < t.rank; ++i) {
        require(t.sizes[i] >= 1 && t.sizes[i] <= 1ull << 32, "sizes are 1 to 2^32");
        require(t.box[i] >= 1 && t.box[i] <= 256, "box sizes are 1 to 256");
        require(i == 0 || (t.strides[i] % 16 == 0 && t.strides[i] < 1ull << 40), "strides are multiples of 16 and below 2^40");
    }
    require(row % 16 == 0, "a box row is a multiple of 16 bytes");
    require(t.swizzle == Swizzle::none || row == uint32_t(t.swizzle), "a swizzled box row is one span");
}

inline uint32_t box_bytes(const TensorLayout& t) {
    uint32_t n = element_bytes(t.element);
    for (int i = 0; i < t.rank; ++i) n *= t.box[i];
    return n;
}

}  // namespace ptx
