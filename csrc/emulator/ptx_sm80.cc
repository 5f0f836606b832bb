// Emulated sm_80 instructions. Layouts: PTX ISA manual, "Matrix fragments"; tests/ptx derives them a second time.
#include "../ptx/sm80.h"

#include "ptx_common.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ptx {

using namespace emu;

// ---- cp.async ------------------------------------------------------------------------------------------------

namespace {
struct Copy {
    void* to;
    const void* from;
    int bytes, valid;
};
struct ThreadCopies {
    std::vector<Copy> open;
    std::vector<std::vector<Copy>> groups;
};
std::unordered_map<const void*, ThreadCopies> copies;  // by thread; late mode only

void land(const Copy& c) {
    {
        Loud loud;  // a fault here is the kernel's
        std::memcpy(c.to, c.from, std::size_t(c.valid));
    }
    std::memset(static_cast<char*>(c.to) + c.valid, 0, std::size_t(c.bytes - c.valid));
}

void copy(void* to, const void* from, int bytes, int valid, const void* site) {
    check_aligned("cp.async: shared address", to, unsigned(bytes));
    check_aligned("cp.async: global address", from, unsigned(bytes));
    shared_offset(to);
    if (valid < 0 || valid > bytes) fail("cp.async: %d valid bytes of %d", valid, bytes);
    note_read(from, std::size_t(valid), site);
    note_write(to, std::size_t(bytes), site);
    stats.cp_async_bytes += unsigned(valid);
    Quiet quiet;
    const Copy c{to, from, bytes, valid};
    if (!late()) return land(c);
    std::memset(to, kPoison, std::size_t(bytes));
    copies[thread_key()].open.push_back(c);
}
}  // namespace

void cp_async_4(void* to, const void* from, int valid) { copy(to, from, 4, valid, __builtin_return_address(0)); }
void cp_async_8(void* to, const void* from, int valid) { copy(to, from, 8, valid, __builtin_return_address(0)); }
void cp_async_16(void* to, const void* from, int valid) { copy(to, from, 16, valid, __builtin_return_address(0)); }
void cp_async_16_cg(void* to, const void* from, int valid) { copy(to, from, 16, valid, __builtin_return_address(0)); }

void cp_async_commit() {
    if (!late()) return;
    Quiet quiet;
    ThreadCopies& t = copies[thread_key()];
    t.groups.push_back(std::move(t.open));
    t.open.clear();
}
void emulated_cp_async_wait(int pending) {
    if (!late()) return;
    Quiet quiet;
    ThreadCopies& t = copies[thread_key()];
    const auto done = std::ptrdiff_t(t.groups.size()) - pending;
    for (std::ptrdiff_t i = 0; i < done; ++i)
        for (const Copy& c : t.groups[std::size_t(i)]) land(c);
    if (done > 0) t.groups.erase(t.groups.begin(), t.groups.begin() + done);
}
void cp_async_wait_all() {
    cp_async_commit();
    emulated_cp_async_wait(0);
}
void reset_sm80() { copies.clear(); }

// ---- ldmatrix, stmatrix -----------------------------------------------------------------------------------------

namespace {
struct MatrixMove {
    uint32_t* r;
    unsigned char* row;
};

// Register j of lane l is (l / 4, l % 4 * 2) and its right neighbour in matrix j, or the same of its transpose.
template <int kCount, bool kTrans, bool kStore>
void move_matrices(void* const* lanes, const void*) {
    uint16_t m[kCount][8][8];  // matrix, row, column
    auto element = [&](int j, int l, int half) -> uint16_t& {
        const int x = l / 4, y = l % 4 * 2 + half;
        return kTrans ? m[j][y][x] : m[j][x][y];
    };
    auto row = [&](int i) { return static_cast<MatrixMove*>(lanes[i])->row; };
    if (!kStore)
        for (int i = 0; i < 8 * kCount; ++i) std::memcpy(m[i / 8][i % 8], row(i), 16);
    for (int l = 0; l < 32; ++l)
        for (int j = 0; j < kCount; ++j) {
            uint32_t& r = static_cast<MatrixMove*>(lanes[l])->r[j];
            if (kStore) element(j, l, 0) = half_of(r, 0), element(j, l, 1) = half_of(r, 1);
            else r = element(j, l, 0) | uint32_t(element(j, l, 1)) << 16;
        }
    if (kStore)
        for (int i = 0; i < 8 * kCount; ++i) std::memcpy(row(i), m[i / 8][i % 8], 16);
}

template <int kCount, bool kTrans, bool kStore>
void matrix(const char* name, uint32_t* r, const void* row, const void* site) {
    if (lanes_present() != ~0u) fail("%s needs a warp of 32 lanes", name);
    if (lane() < 8 * kCount) {  // the other lanes' addresses are not read
        check_aligned(name, row, 16);
        shared_offset(row);
        kStore ? note_write(row, 16, site) : note_read(row, 16, site);
    }
    MatrixMove move{r, static_cast<unsigned char*>(const_cast<void*>(row))};
    collective(name, ~0u, &move, move_matrices<kCount, kTrans, kStore>);
}
}  // namespace

#define FASTNET_MATRIX(count, suffix, trans) \
    void ldmatrix_x##count##suffix(uint32_t (&r)[count], const void* row) { \
        matrix<count, trans, false>("ldmatrix.x" #count #suffix, r, row, __builtin_return_address(0)); \
    } \
    void stmatrix_x##count##suffix(void* row, const uint32_t (&r)[count]) { \
        matrix<count, trans, true>("stmatrix.x" #count #suffix, const_cast<uint32_t*>(r), row, \
                                   __builtin_return_address(0)); \
    }
FASTNET_MATRIX(1, , false)
FASTNET_MATRIX(1, _trans, true)
FASTNET_MATRIX(2, , false)
FASTNET_MATRIX(2, _trans, true)
FASTNET_MATRIX(4, , false)
FASTNET_MATRIX(4, _trans, true)
#undef FASTNET_MATRIX

// ---- mma.sync ---------------------------------------------------------------------------------------------------

namespace {
// How the elements of A and B lie in registers: kPer of them in each, so that 4 * kPer make a run along K.
struct Fp16 {
    static constexpr int kPer = 2;
    static float value(uint32_t r, int i) { return fp16_value(half_of(r, i)); }
};
struct Bf16 {
    static constexpr int kPer = 2;
    static float value(uint32_t r, int i) { return bf16_value(half_of(r, i)); }
};
struct Tf32 {  // the low 13 bits are not read
    static constexpr int kPer = 1;
    static float value(uint32_t r, int) { return std::bit_cast<float>(r & ~0x1FFFu); }
};
struct S8 {
    static constexpr int kPer = 4;
    static int32_t value(uint32_t r, int i) { return int8_t(r >> 8 * i); }
};
struct U8 {
    static constexpr int kPer = 4;
    static int32_t value(uint32_t r, int i) { return uint8_t(r >> 8 * i); }
};

struct Mma {
    void* d;
    const uint32_t *a, *b;
};

template <class D>
struct Sums {  // D elements of one lane
    static D get(const void* d, int v) { return static_cast<const D*>(d)[v]; }
    static void set(void* d, int v, D x) { static_cast<D*>(d)[v] = x; }
};
struct HalfSums {
    static float get(const void* d, int v) { return fp16_value(static_cast<const uint16_t*>(d)[v]); }
    static void set(void* d, int v, float x) { static_cast<uint16_t*>(d)[v] = fp16_bits(x); }
};

// How tensor cores add: products are exact, a run of kRun of them and the sum so far are aligned to the largest of
// them, cut off below one bit more than float32 has, added, and the result is cut off again, all towards zero. That is
// what an A100 was found to do (Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ CS
// 2021; Li and others, "FTTN", 2024: runs of 8 for 16-bit types and 4 for TF32); Hopper keeps a bit more. Without it no
// test would see that sums must be promoted.
template <int kRun>
float truncated_sum(float d, const float* a, const float* b, int stride) {
    double terms[kRun + 1] = {d};  // exact: a product of two has at most 22 bits
    double largest = std::fabs(terms[0]);
    for (int i = 0; i < kRun; ++i) {
        terms[i + 1] = double(a[i]) * double(b[i * stride]);
        largest = std::max(largest, std::fabs(terms[i + 1]));
    }
    float plain = d;  // infinities and NaN have no place in an alignment
    for (int i = 0; i < kRun; ++i) plain += a[i] * b[i * stride];
    if (!(largest <= std::numeric_limits<double>::max()) || !std::isfinite(plain)) return plain;
    if (largest < std::numeric_limits<float>::min()) return plain;
    const int exponent = int(std::bit_cast<uint64_t>(largest) >> 52) - 1023;
    const double unit = std::bit_cast<double>(uint64_t(exponent - 24 + 1023) << 52), per_unit = 1 / unit;
    int64_t sum = 0;
    for (double term : terms) sum += int64_t(term * per_unit);
    const double exact = double(sum) * unit;
    float result = float(exact);
    if (std::fabs(double(result)) > std::fabs(exact)) result = std::nextafter(result, 0.0f);
    return result;
}

template <class T, class S, int kK>
void multiply(void* const* lanes, const void*) {
    constexpr int kRun = 4 * T::kPer;  // elements along K that one register of four lanes holds
    using Value = decltype(T::value(0, 0));
    Value a[16][kK], b[kK][8], d[16][8];
    for (int l = 0; l < 32; ++l) {
        const Mma& m = *static_cast<Mma*>(lanes[l]);
        const int g = l / 4, t = l % 4;
        for (int run = 0; run < kK / kRun; ++run)
            for (int e = 0; e < T::kPer; ++e) {
                const int k = run * kRun + t * T::kPer + e;
                a[g][k] = T::value(m.a[2 * run], e);
                a[g + 8][k] = T::value(m.a[2 * run + 1], e);
                b[k][g] = T::value(m.b[run], e);
            }
        for (int v = 0; v < 4; ++v) d[g + 8 * (v / 2)][2 * t + v % 2] = S::get(m.d, v);
    }
    if constexpr (std::is_same_v<Value, float>) {
        for (int i = 0; i < 16; ++i)
            for (int j = 0; j < 8; ++j)
                for (int k = 0; k < kK; k += kRun) d[i][j] = truncated_sum<kRun>(d[i][j], a[i] + k, b[k] + j, 8);
    } else {
        for (int i = 0; i < 16; ++i)
            for (int k = 0; k < kK; ++k)
                for (int j = 0; j < 8; ++j) d[i][j] += a[i][k] * b[k][j];
    }
    for (int l = 0; l < 32; ++l)
        for (int v = 0; v < 4; ++v)
            S::set(static_cast<Mma*>(lanes[l])->d, v, d[l / 4 + 8 * (v / 2)][l % 4 * 2 + v % 2]);
    stats.mma_flops += 2 * 16 * 8 * kK;
}

template <class T, class S, int kK>
void mma(const char* name, void* d, const uint32_t* a, const uint32_t* b) {
    if (lanes_present() != ~0u) fail("%s needs a warp of 32 lanes", name);
    Mma m{d, a, b};
    collective(name, ~0u, &m, multiply<T, S, kK>);
}
}  // namespace

#define FASTNET_MMA(name, T, S, k, D, counts_d, counts_a, counts_b) \
    void name(D(&d)[counts_d], const uint32_t (&a)[counts_a], const uint32_t (&b)[counts_b]) { \
        mma<T, S, k>(#name, d, a, b); \
    }
FASTNET_MMA(mma_m16n8k16_fp16, Fp16, Sums<float>, 16, float, 4, 4, 2)
FASTNET_MMA(mma_m16n8k16_bf16, Bf16, Sums<float>, 16, float, 4, 4, 2)
FASTNET_MMA(mma_m16n8k8_tf32, Tf32, Sums<float>, 8, float, 4, 4, 2)
FASTNET_MMA(mma_m16n8k32_s8, S8, Sums<int32_t>, 32, int32_t, 4, 4, 2)
FASTNET_MMA(mma_m16n8k32_u8, U8, Sums<int32_t>, 32, int32_t, 4, 4, 2)
FASTNET_MMA(mma_m16n8k8_fp16, Fp16, Sums<float>, 8, float, 4, 2, 1)
FASTNET_MMA(mma_m16n8k8_bf16, Bf16, Sums<float>, 8, float, 4, 2, 1)
FASTNET_MMA(mma_m16n8k16_fp16_fp16, Fp16, HalfSums, 16, uint32_t, 2, 4, 2)
#undef FASTNET_MMA

uint32_t cvt_rna_tf32(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    if ((bits & 0x7F800000u) == 0x7F800000u) return bits & 0x7FFFFFu ? 0x7FFFFFFFu : bits;
    return (bits + 0x1000u) & ~0x1FFFu;  // a carry into the exponent is the right one
}

float ex2_approx_ftz(float x) {
    const float r = std::exp2(x);
    return r < 0x1p-126f ? 0.0f : r;  // NaN stays
}

// ---- named barriers ---------------------------------------------------------------------------------------------

namespace {
void check_named(const char* name, int id, int threads) {
    if (threads <= 0 || threads % 32) fail("%s: %d threads; expected a positive multiple of 32", name, threads);
    if (id < 0 || id > 15) fail("%s: barrier %d; a block has barriers 0 to 15", name, id);
}
}  // namespace

void bar_sync(int id, int threads) {
    check_named("bar.sync", id, threads);
    barrier(id, threads, true);
}
void bar_arrive(int id, int threads) {
    check_named("bar.arrive", id, threads);
    barrier(id, threads, false);
}

// ---- a counter that blocks share --------------------------------------------------------------------------------
// One OS thread runs all: what is left is to tell a race detector what orders what.

void add_release(uint32_t* p, uint32_t value) {
    check_aligned("red.release", p, 4);
    sync_release(p);
    *p += value;
}
uint32_t load_acquire(const uint32_t* p) {
    check_aligned("ld.acquire", p, 4);
    const uint32_t value = *p;
    sync_acquire(p);
    return value;
}

}  // namespace ptx
