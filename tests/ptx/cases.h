// Micro-tests of csrc/ptx that run the same on the emulator and on a GPU. A case launches a kernel around one
// instruction and compares what it leaves, element by element, with what layout algebra on the host says.
//
// The expected layouts are shapes and strides as NVIDIA publishes them in CUTLASS (cute/atom/mma_traits_sm80.hpp,
// mma_traits_sm90_gmma.hpp), evaluated here; the emulator's formulas come from the PTX manual and are not used.
#pragma once
#include "ptx/sm90.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

// Throws at the first element that differs; what() names it.
struct Mismatch : std::runtime_error { using runtime_error::runtime_error; };

using Case = std::function<void()>;
struct Cases {
    std::map<std::string, Case> tests;    // must pass
    std::map<std::string, Case> planted;  // hold one mistake each
};
Cases& cases();
struct Test {
    Test(const std::string& name, Case run) { cases().tests[name] = std::move(run); }
};
struct Planted {
    Planted(const std::string& name, Case run) { cases().planted[name] = std::move(run); }
};

template <class T>
void expect_equal(const std::vector<T>& got, const std::vector<T>& want, const char* what) {
    for (std::size_t i = 0; i < want.size(); ++i)
        if (std::memcmp(&got[i], &want[i], sizeof(T)) && !(got[i] == want[i]))
            throw Mismatch(std::string(what) + "[" + std::to_string(i) + "]: got " + std::to_string(got[i]) +
                           ", expected " + std::to_string(want[i]));
}

// An array that kernels see, 128-byte aligned.
template <class T>
class Array {
  public:
    explicit Array(const std::vector<T>& values) : count_(values.size()) {
#ifdef __CUDACC__
        cuda_check(cudaMalloc(reinterpret_cast<void**>(&data_), bytes()));
        cuda_check(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice));
#else
        data_ = static_cast<T*>(::operator new(bytes(), std::align_val_t(128)));
        std::memcpy(static_cast<void*>(data_), values.data(), bytes());
#endif
    }
    ~Array() {
#ifdef __CUDACC__
        cudaFree(data_);
#else
        ::operator delete(data_, std::align_val_t(128));
#endif
    }
    Array(const Array&) = delete;
    T* data() const { return data_; }
    std::vector<T> read() const {
        std::vector<T> values(count_);
#ifdef __CUDACC__
        cuda_check(cudaDeviceSynchronize());
        cuda_check(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost));
#else
        std::memcpy(static_cast<void*>(values.data()), data_, bytes());
#endif
        return values;
    }

  private:
    std::size_t bytes() const { return count_ * sizeof(T); }
    T* data_ = nullptr;
    std::size_t count_;
};

// A layout: index -> sum of digit times stride, digits taken from the lowest mode up.
struct Layout {
    std::vector<std::pair<int, int>> modes;  // (shape, stride)
    int operator()(int index) const {
        int at = 0;
        for (auto [shape, stride] : modes) at += index % shape * stride, index /= shape;
        return at;
    }
};
// Where element v of thread t lies, as row + rows * column.
struct Fragment {
    Layout threads, values;
    int operator()(int thread, int value) const { return threads(thread) + values(value); }
};

// Swizzle<bits, 4, 3>
inline int swizzle_functor(int bits, int x) { return x ^ ((x & (((1 << bits) - 1) << 7)) >> 3); }

// Small integers: exact in every type, their products and sums too.
inline int small_integer(int i, int seed) {
    unsigned h = unsigned(i) * 2654435761u + unsigned(seed) * 40503u;
    return int((h ^ h >> 13) * 2246822519u >> 29) - 3;  // -3 to 4
}
inline uint16_t bits16(int x, bool bf16) {
    if (bf16) return __nv_bfloat16_raw(__float2bfloat16_rn(float(x))).x;
    return __half_raw(__float2half_rn(float(x))).x;
}

inline constexpr cudaStream_t kNoStream = nullptr;
