// Shuffles, votes, matches and reductions of a warp. Every lane of the mask comes to emu::collective(), the last one
// computes for all; results of lanes outside the mask are never read (CUDA leaves them undefined, here that is an
// error).
#pragma once
#include "scheduler.h"

#include <bit>
#include <cstdint>
#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace emu {

template <class T>
inline constexpr bool kShuffles =
    (std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8)) || std::is_same_v<T, __half> ||
    std::is_same_v<T, __half2> || std::is_same_v<T, __nv_bfloat16> || std::is_same_v<T, __nv_bfloat162>;

template <class T>
struct Shuffle {
    T value, result;
    int source;
};

// The value that lane `source` brought.
template <class T>
T shuffle(const char* name, unsigned mask, T value, int source) {
    static_assert(kShuffles<T>, "shuffles take 32- and 64-bit numbers, half, bfloat16 and pairs of them");
    Shuffle<T> mine{value, value, source};
    collective(name, mask, &mine, [](void* const* lanes, const void*) {
        for (int i = 0; i < 32; ++i) {
            if (!lanes[i]) continue;
            auto* to = static_cast<Shuffle<T>*>(lanes[i]);
            if (!lanes[to->source]) fail("shuffle: lane %d reads lane %d, which is not in the mask", i, to->source);
            to->result = static_cast<Shuffle<T>*>(lanes[to->source])->value;
        }
    });
    return mine.result;
}

// The lanes of a warp are divided into segments of `width`; none reads beyond its own segment's end.
inline int segment_start(const char* name, int width) {
    if (width < 1 || width > 32 || (width & (width - 1)))
        fail("%s: width %d is not a power of two up to 32", name, width);
    return lane() & ~(width - 1);
}

template <class T>
struct Reduction {
    T value, result;
};

// Combines the values of all lanes in lane order; every lane gets the result.
template <class T>
T lanes_reduce(const char* name, unsigned mask, T value, T (*combine)(T, T)) {
    Reduction<T> mine{value, value};
    collective(name, mask, &mine, [](void* const* lanes, const void* f) {
        auto combine = reinterpret_cast<T (*)(T, T)>(const_cast<void*>(f));
        bool first = true;
        T total{};
        for (int i = 0; i < 32; ++i) {
            if (!lanes[i]) continue;
            T v = static_cast<Reduction<T>*>(lanes[i])->value;
            total = first ? v : combine(total, v);
            first = false;
        }
        for (int i = 0; i < 32; ++i)
            if (lanes[i]) static_cast<Reduction<T>*>(lanes[i])->result = total;
    }, reinterpret_cast<const void*>(combine));
    return mine.result;
}

struct Match {
    std::uint64_t bits;
    unsigned equal;
};

// The lanes that brought the same bits as this one.
template <class T>
unsigned match(const char* name, unsigned mask, T value) {
    static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "match takes 32- and 64-bit numbers");
    Match mine{0, 0};
    std::memcpy(&mine.bits, &value, sizeof value);
    collective(name, mask, &mine, [](void* const* lanes, const void*) {
        for (int i = 0; i < 32; ++i)
            for (int j = 0; j < 32 && lanes[i]; ++j)
                if (lanes[j] && static_cast<Match*>(lanes[i])->bits == static_cast<Match*>(lanes[j])->bits)
                    static_cast<Match*>(lanes[i])->equal |= 1u << j;
    });
    return mine.equal;
}

}  // namespace emu

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    int start = emu::segment_start("__shfl_sync", width);
    return emu::shuffle("__shfl_sync", mask, value, start | (source & (width - 1)));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    int start = emu::segment_start("__shfl_up_sync", width), source = emu::lane() - int(delta & 31);
    return emu::shuffle("__shfl_up_sync", mask, value, source < start ? emu::lane() : source);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    int end = emu::segment_start("__shfl_down_sync", width) + width, source = emu::lane() + int(delta & 31);
    return emu::shuffle("__shfl_down_sync", mask, value, source >= end ? emu::lane() : source);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {       // may read an earlier segment
    int end = emu::segment_start("__shfl_xor_sync", width) + width, source = emu::lane() ^ (with & 31);
    return emu::shuffle("__shfl_xor_sync", mask, value, source >= end ? emu::lane() : source);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    unsigned bit = predicate ? 1u << emu::lane() : 0u;
    return emu::lanes_reduce<unsigned>("__ballot_sync", mask, bit, [](unsigned a, unsigned b) { return a | b; });
}
inline int __any_sync(unsigned mask, int predicate) {
    return emu::lanes_reduce<int>("__any_sync", mask, predicate != 0, [](int a, int b) { return a | b; });
}
inline int __all_sync(unsigned mask, int predicate) {
    return emu::lanes_reduce<int>("__all_sync", mask, predicate != 0, [](int a, int b) { return a & b; });
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
    return emu::match("__match_any_sync", mask, value);
}
template <class T>
unsigned __match_all_sync(unsigned mask, T value, int* predicate) {
    unsigned lanes = mask & emu::lanes_present(), equal = emu::match("__match_all_sync", mask, value);
    *predicate = equal == lanes;
    return *predicate ? lanes : 0;
}

template <class T>
T __reduce_add_sync(unsigned mask, T value) {
    static_assert(sizeof(T) == 4 && std::is_integral_v<T>);
    auto add = [](unsigned a, unsigned b) { return a + b; };
    return T(emu::lanes_reduce<unsigned>("__reduce_add_sync", mask, unsigned(value), add));
}
template <class T>
T __reduce_min_sync(unsigned mask, T value) {
    static_assert(sizeof(T) == 4 && std::is_integral_v<T>);
    return emu::lanes_reduce<T>("__reduce_min_sync", mask, value, [](T a, T b) { return b < a ? b : a; });
}
template <class T>
T __reduce_max_sync(unsigned mask, T value) {
    static_assert(sizeof(T) == 4 && std::is_integral_v<T>);
    return emu::lanes_reduce<T>("__reduce_max_sync", mask, value, [](T a, T b) { return a < b ? b : a; });
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value) {
    return emu::lanes_reduce<unsigned>("__reduce_and_sync", mask, value, [](unsigned a, unsigned b) { return a & b; });
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value) {
    return emu::lanes_reduce<unsigned>("__reduce_or_sync", mask, value, [](unsigned a, unsigned b) { return a | b; });
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value) {
    return emu::lanes_reduce<unsigned>("__reduce_xor_sync", mask, value, [](unsigned a, unsigned b) { return a ^ b; });
}
