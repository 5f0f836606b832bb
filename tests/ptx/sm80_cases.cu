#include "cases.h"

namespace {

// ---- cp.async ---------------------------------------------------------------------------------------------------

template <int kBytes, bool kCg, bool kAll>
__global__ void cp_async_kernel(unsigned char* out, const unsigned char* in) {
    GPU_SHARED(shared);  // (32, 16)
    const int t = int(threadIdx.x), valid = t % (kBytes + 1);
    for (int i = 0; i < 16; ++i) shared[t * 16 + i] = 0xEE;
    if (kBytes == 4) ptx::cp_async_4(shared + t * 16, in + t * 16, valid);
    else if (kBytes == 8) ptx::cp_async_8(shared + t * 16, in + t * 16, valid);
    else if (kCg) ptx::cp_async_16_cg(shared + t * 16, in + t * 16, valid);
    else ptx::cp_async_16(shared + t * 16, in + t * 16, valid);
    if (kAll) {
        ptx::cp_async_wait_all();
    } else {
        ptx::cp_async_commit();
        ptx::cp_async_commit();  // an empty group
        ptx::cp_async_wait_group<1>();
    }
    for (int i = 0; i < 16; ++i) out[t * 16 + i] = shared[t * 16 + i];
}

template <int kBytes, bool kCg, bool kAll>
void cp_async() {
    std::vector<unsigned char> in(512), want(512);
    for (int i = 0; i < 512; ++i) in[std::size_t(i)] = (unsigned char)(i * 7 + 1);
    for (int i = 0; i < 512; ++i) {
        const int valid = i / 16 % (kBytes + 1), at = i % 16;
        want[std::size_t(i)] = at >= kBytes ? 0xEE : at < valid ? in[std::size_t(i)] : 0;
    }
    Array<unsigned char> from(in), out(std::vector<unsigned char>(512));
    gpu::launch<cp_async_kernel<kBytes, kCg, kAll>>(dim3(1), dim3(32), 512, kNoStream, out.data(), from.data());
    expect_equal(out.read(), want, "shared byte");
}
const Test cp_async_tests[] = {
    {"cp_async_4", cp_async<4, false, false>},        {"cp_async_8", cp_async<8, false, false>},
    {"cp_async_16", cp_async<16, false, false>},      {"cp_async_16_cg", cp_async<16, true, false>},
    {"cp_async_wait_all", cp_async<16, false, true>},
};

// ---- ldmatrix, stmatrix -------------------------------------------------------------------------------------------

template <int kCount, bool kTrans>
__global__ void ldmatrix_kernel(uint32_t* out, const uint16_t* in) {
    GPU_SHARED(shared);
    auto* m = reinterpret_cast<uint16_t*>(shared);  // (32 rows, 24), rows 48 bytes apart
    for (int i = int(threadIdx.x); i < 32 * 24; i += 32) m[i] = in[i];
    __syncthreads();
    uint32_t r[kCount];
    const uint16_t* row = m + threadIdx.x * 24;
    if constexpr (kCount == 1) kTrans ? ptx::ldmatrix_x1_trans(r, row) : ptx::ldmatrix_x1(r, row);
    if constexpr (kCount == 2) kTrans ? ptx::ldmatrix_x2_trans(r, row) : ptx::ldmatrix_x2(r, row);
    if constexpr (kCount == 4) kTrans ? ptx::ldmatrix_x4_trans(r, row) : ptx::ldmatrix_x4(r, row);
    for (int j = 0; j < kCount; ++j) out[threadIdx.x * kCount + j] = r[j];
}

template <int kCount, bool kTrans>
__global__ void stmatrix_kernel(uint16_t* out, const uint32_t* in) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    GPU_SHARED(shared);
    auto* m = reinterpret_cast<uint16_t*>(shared);
    for (int i = int(threadIdx.x); i < 32 * 24; i += 32) m[i] = 0xEEEE;
    __syncthreads();
    uint32_t r[kCount];
    for (int j = 0; j < kCount; ++j) r[j] = in[threadIdx.x * kCount + j];
    uint16_t* row = m + threadIdx.x * 24;
    if constexpr (kCount == 1) kTrans ? ptx::stmatrix_x1_trans(row, r) : ptx::stmatrix_x1(row, r);
    if constexpr (kCount == 2) kTrans ? ptx::stmatrix_x2_trans(row, r) : ptx::stmatrix_x2(row, r);
    if constexpr (kCount == 4) kTrans ? ptx::stmatrix_x4_trans(row, r) : ptx::stmatrix_x4(row, r);
    __syncthreads();
    for (int i = int(threadIdx.x); i < 32 * 24; i += 32) out[i] = m[i];
#endif
}

// cute/atom/copy_traits_sm75.hpp, 16-bit elements of an 8x8 matrix as row + 8 * column.
const Fragment kPlain{{{{4, 16}, {8, 1}}}, {{{2, 8}}}}, kTransposed{{{{4, 2}, {8, 8}}}, {{{2, 1}}}};

template <int kCount, bool kTrans>
void matrices() {
    const Fragment& f = kTrans ? kTransposed : kPlain;
    std::vector<uint16_t> tile(32 * 24), stored(32 * 24, 0xEEEE);
    for (std::size_t i = 0; i < tile.size(); ++i) tile[i] = uint16_t(i + 1);
    std::vector<uint32_t> registers(32 * kCount);
    for (int l = 0; l < 32; ++l)
        for (int v = 0; v < 2 * kCount; ++v) {
            const int at = f(l, v % 2), index = (v / 2 * 8 + at % 8) * 24 + at / 8;
            registers[std::size_t(l * kCount + v / 2)] |= uint32_t(tile[std::size_t(index)]) << 16 * (v % 2);
            stored[std::size_t(index)] = tile[std::size_t(index)];
        }
    Array<uint16_t> in(tile), out(std::vector<uint16_t>(tile.size()));
    Array<uint32_t> r(std::vector<uint32_t>(32 * kCount));
    gpu::launch<ldmatrix_kernel<kCount, kTrans>>(dim3(1), dim3(32), 32 * 48, kNoStream, r.data(), in.data());
    expect_equal(r.read(), registers, "ldmatrix register");
    gpu::launch<stmatrix_kernel<kCount, kTrans>>(dim3(1), dim3(32), 32 * 48, kNoStream, out.data(), r.data());
    expect_equal(out.read(), stored, "stmatrix element");
}
const Test matrix_tests[] = {
    {"matrix_x1", matrices<1, false>}, {"matrix_x1_trans", matrices<1, true>},
    {"matrix_x2", matrices<2, false>}, {"matrix_x2_trans", matrices<2, true>},
    {"matrix_x4", matrices<4, false>}, {"matrix_x4_trans", matrices<4, true>},
};

// ---- mma.sync ------------------------------------------------------------------------------------------------------

enum class Kind { fp16, bf16, tf32, s8, u8, fp16_k8, bf16_k8, fp16_sums };

template <Kind kKind>
__global__ void mma_kernel(uint32_t* d, const uint32_t* a, const uint32_t* b) {
    const int l = int(threadIdx.x);
    constexpr bool kShort = kKind == Kind::fp16_k8 || kKind == Kind::bf16_k8;
    constexpr int kA = kShort ? 2 : 4, kB = kShort ? 1 : 2, kD = kKind == Kind::fp16_sums ? 2 : 4;
    uint32_t ra[kA], rb[kB];
    for (int i = 0; i < kA; ++i) ra[i] = a[l * kA + i];
    for (int i = 0; i < kB; ++i) rb[i] = b[l * kB + i];
    uint32_t bits[kD];
    if constexpr (kKind == Kind::fp16_sums) {
        for (int i = 0; i < kD; ++i) bits[i] = d[l * kD + i];
        ptx::mma_m16n8k16_fp16_fp16(bits, ra, rb);
    } else if constexpr (kKind == Kind::s8 || kKind == Kind::u8) {
        int32_t sums[4];
        for (int i = 0; i < kD; ++i) sums[i] = int32_t(d[l * kD + i]);
        if constexpr (kKind == Kind::s8) ptx::mma_m16n8k32_s8(sums, ra, rb);
        else ptx::mma_m16n8k32_u8(sums, ra, rb);
        for (int i = 0; i < kD; ++i) bits[i] = uint32_t(sums[i]);
    } else {
        float sums[4];
        memcpy(sums, d + l * kD, sizeof sums);
        if constexpr (kKind == Kind::fp16) ptx::mma_m16n8k16_fp16(sums, ra, rb);
        if constexpr (kKind == Kind::bf16) ptx::mma_m16n8k16_bf16(sums, ra, rb);
        if constexpr (kKind == Kind::tf32) ptx::mma_m16n8k8_tf32(sums, ra, rb);
        if constexpr (kKind == Kind::fp16_k8) ptx::mma_m16n8k8_fp16(sums, ra, rb);
        if constexpr (kKind == Kind::bf16_k8) ptx::mma_m16n8k8_bf16(sums, ra, rb);
        memcpy(bits, sums, sizeof sums);
    }
    for (int i = 0; i < kD; ++i) d[l * kD + i] = bits[i];
}

// Elements of `bits` width packed into registers, lane by lane.
void put(std::vector<uint32_t>& registers, int index, int bits, uint32_t element) {
    const int per = 32 / bits;
    registers[std::size_t(index / per)] |= (bits == 32 ? element : element & ((1u << bits) - 1))
                                           << bits * (index % per);
}
uint32_t float_bits(float x) {
    uint32_t u;
    std::memcpy(&u, &x, 4);
    return u;
}

template <Kind kKind>
void mma() {
    const Layout lanes_c{{{4, 32}, {8, 1}}};
    const Fragment c{lanes_c, {{{2, 16}, {2, 8}}}};
    Fragment a, b;
    int k = 16, width = 16;
    if (kKind == Kind::tf32) {
        k = 8, width = 32;
        a = {{{{4, 16}, {8, 1}}}, {{{2, 8}, {2, 64}}}}, b = {{{{4, 8}, {8, 1}}}, {{{2, 32}}}};
    } else if (kKind == Kind::s8 || kKind == Kind::u8) {
        k = 32, width = 8;
        a = {{{{4, 64}, {8, 1}}}, {{{4, 16}, {2, 8}, {2, 256}}}}, b = {{{{4, 32}, {8, 1}}}, {{{4, 8}, {2, 128}}}};
    } else if (kKind == Kind::fp16_k8 || kKind == Kind::bf16_k8) {
        k = 8;
        a = {{{{4, 32}, {8, 1}}}, {{{2, 16}, {2, 8}}}}, b = {{{{4, 16}, {8, 1}}}, {{{2, 8}}}};
    } else {
        a = {{{{4, 32}, {8, 1}}}, {{{2, 16}, {2, 8}, {2, 128}}}}, b = {{{{4, 16}, {8, 1}}}, {{{2, 8}, {2, 64}}}};
    }
    auto value = [](int i, int seed) {
        return kKind == Kind::u8 ? small_integer(i, seed) + 200 : small_integer(i, seed);
    };
    auto encode = [&](int x) -> uint32_t {
        // The bits below tf32 are not read: they are set here.
        if (kKind == Kind::tf32) return float_bits(float(x)) | (x ? 0x1FFFu : 0);
        if (width == 8) return uint32_t(x) & 0xFF;
        return bits16(x, kKind == Kind::bf16 || kKind == Kind::bf16_k8);
    };
    const int da = 16 * k / 32, db = 8 * k / 32;  // elements a lane
    std::vector<uint32_t> ra(std::size_t(32 * da * width / 32)), rb(std::size_t(32 * db * width / 32));
    for (int l = 0; l < 32; ++l) {
        for (int v = 0; v < da; ++v) put(ra, l * da + v, width, encode(value(a(l, v), 1)));
        for (int v = 0; v < db; ++v) put(rb, l * db + v, width, encode(value(b(l, v), 2)));
    }
    const bool half = kKind == Kind::fp16_sums, whole = width == 8;
    auto sum_bits = [&](int x) { return half ? bits16(x, false) : whole ? uint32_t(x) : float_bits(float(x)); };
    std::vector<uint32_t> before(half ? 64 : 128), want(half ? 64 : 128);
    for (int l = 0; l < 32; ++l)
        for (int v = 0; v < 4; ++v) {
            const int at = c(l, v), m = at % 16, n = at / 16;
            int sum = small_integer(at, 3);
            put(before, l * 4 + v, half ? 16 : 32, sum_bits(sum));
            for (int i = 0; i < k; ++i) sum += value(m + 16 * i, 1) * value(n + 8 * i, 2);
            put(want, l * 4 + v, half ? 16 : 32, sum_bits(sum));
        }
    Array<uint32_t> d(before), pa(ra), pb(rb);
    gpu::launch<mma_kernel<kKind>>(dim3(1), dim3(32), 0, kNoStream, d.data(), pa.data(), pb.data());
    expect_equal(d.read(), want, "register of d");
}
const Test mma_tests[] = {
    {"mma_m16n8k16_fp16", mma<Kind::fp16>},   {"mma_m16n8k16_bf16", mma<Kind::bf16>},
    {"mma_m16n8k8_tf32", mma<Kind::tf32>},    {"mma_m16n8k32_s8", mma<Kind::s8>},
    {"mma_m16n8k32_u8", mma<Kind::u8>},       {"mma_m16n8k8_fp16", mma<Kind::fp16_k8>},
    {"mma_m16n8k8_bf16", mma<Kind::bf16_k8>}, {"mma_m16n8k16_fp16_fp16", mma<Kind::fp16_sums>},
};

// ---- cvt.rna.tf32 ---------------------------------------------------------------------------------------------------

__global__ void tf32_kernel(uint32_t* out, const float* in) { out[threadIdx.x] = ptx::cvt_rna_tf32(in[threadIdx.x]); }

void tf32_rounding() {
    std::vector<float> in;
    std::vector<uint32_t> want;
    for (float scale : {1.0f, -1.0f, 1e-30f, 3e30f})
        for (int i = 0; i < 8; ++i) {
            const float x = scale * (1.0f + float(i) * 0x1p-12f + (i % 2 ? 0x1p-23f : 0.0f));
            // 11 bits of significand: to the nearest multiple of the unit, halves away from zero, in double.
            int exponent;
            const double fraction = std::frexp(double(x), &exponent);
            in.push_back(x);
            want.push_back(float_bits(float(std::ldexp(std::round(std::ldexp(fraction, 11)), exponent - 11))));
        }
    Array<float> from(in);
    Array<uint32_t> out(std::vector<uint32_t>(32));
    gpu::launch<tf32_kernel>(dim3(1), dim3(32), 0, kNoStream, out.data(), from.data());
    expect_equal(out.read(), want, "bits");
}
const Test tf32_test("cvt_rna_tf32", tf32_rounding);

// ---- ex2.approx.ftz -------------------------------------------------------------------------------------------------

__global__ void ex2_kernel(float* out, const float* in) { out[threadIdx.x] = ptx::ex2_approx_ftz(in[threadIdx.x]); }

void powers_of_two() {
    const float infinity = INFINITY;
    std::vector<float> in = {0.0f, 1.0f, -1.0f, 127.0f, -126.0f, -infinity, infinity, 128.0f, -127.5f, -1000.0f};
    const size_t exact = in.size();  // what must come out to the bit, then what may be off by 2^-22
    while (in.size() < 32) in.push_back(float(in.size()) * 1.37f - 40.0f);
    Array<float> from(in), out(std::vector<float>(32));
    gpu::launch<ex2_kernel>(dim3(1), dim3(32), 0, kNoStream, out.data(), from.data());
    std::vector<float> got = out.read(), want;
    for (size_t i = 0; i < in.size(); ++i) {
        const double power = in[i] < -126.0f ? 0.0 : std::exp2(double(in[i]));
        want.push_back(i >= exact && std::abs(got[i] - power) <= power * 0x1p-22 ? got[i] : float(power));
    }
    expect_equal(got, want, "power");
}
const Test ex2_test("ex2_approx_ftz", powers_of_two);

// ---- named barriers ------------------------------------------------------------------------------------------------

// Warps 0 and 1 write and arrive; warps 2 and 3 wait at a barrier of all 128 and read.
__global__ void named_barrier_kernel(int* out) {
    GPU_SHARED(shared);
    auto* value = reinterpret_cast<int*>(shared);
    const int t = int(threadIdx.x);
    if (t < 64) {
        value[t] = 3 * t;
        ptx::bar_arrive(5, 128);
    } else {
        ptx::bar_sync(5, 128);
        out[t - 64] = value[127 - t];
    }
}

void named_barrier() {
    std::vector<int> want(64);
    for (int i = 0; i < 64; ++i) want[std::size_t(i)] = 3 * (63 - i);
    Array<int> out(std::vector<int>(64));
    gpu::launch<named_barrier_kernel>(dim3(1), dim3(128), 256, kNoStream, out.data());
    expect_equal(out.read(), want, "value");
}
const Test named_barrier_test("named_barrier", named_barrier);

// ---- a counter that blocks share ------------------------------------------------------------------------------------

// Each of the grid's blocks writes its 32 values and adds to the counter; when all have, it reads the next block's.
// Rounds write to rows of their own.
__global__ void counter_kernel(uint32_t* arrived, int* values, int* out, int rounds) {
    const int blocks = int(gridDim.x), block = int(blockIdx.x), t = int(threadIdx.x);
    for (int round = 0; round < rounds; ++round) {
        values[(round * blocks + block) * 32 + t] = 1000 * round + 32 * block + t;
        __syncthreads();
        if (t == 0) {
            ptx::add_release(arrived, 2);
            while (ptx::load_acquire(arrived) < uint32_t(2 * blocks * (round + 1))) gpu::yield();
        }
        __syncthreads();
        out[(round * blocks + block) * 32 + t] = values[(round * blocks + (block + 1) % blocks) * 32 + 31 - t];
    }
}

void counter() {
    const int blocks = 4, rounds = 3;
    std::vector<int> want;
    for (int round = 0; round < rounds; ++round)
        for (int block = 0; block < blocks; ++block)
            for (int t = 0; t < 32; ++t) want.push_back(1000 * round + 32 * ((block + 1) % blocks) + 31 - t);
    Array<uint32_t> arrived(std::vector<uint32_t>(1));
    Array<int> values(std::vector<int>(want.size(), -1)), out(std::vector<int>(want.size()));
    gpu::launch_resident<counter_kernel>(dim3(blocks), dim3(32), 0, kNoStream, arrived.data(), values.data(),
                                         out.data(), rounds);
    expect_equal(out.read(), want, "value");
    expect_equal(arrived.read(), {uint32_t(2 * blocks * rounds)}, "counter");
}
const Test counter_test("add_release_load_acquire", counter);

}  // namespace
