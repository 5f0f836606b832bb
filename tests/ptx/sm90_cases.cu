#include "cases.h"

#include <algorithm>

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SM90A 1
#endif

namespace {

int span_bits(ptx::Swizzle s) {
    return s == ptx::Swizzle::span128 ? 3 : s == ptx::Swizzle::span64 ? 2 : s == ptx::Swizzle::span32 ? 1 : 0;
}

// ---- mbarrier ------------------------------------------------------------------------------------------------------

__global__ void mbarrier_kernel(int* out) {
#ifdef SM90A
    GPU_SHARED(shared);
    auto* bar = reinterpret_cast<uint64_t*>(shared);
    const int t = int(threadIdx.x);
    if (t == 0) {
        ptx::mbarrier_init(bar, 64);
        ptx::fence_mbarrier_init();
        out[0] = ptx::mbarrier_test(bar, 1);  // the phase before the first counts as ended
        out[1] = ptx::mbarrier_test(bar, 0);
    }
    __syncthreads();
    auto* value = reinterpret_cast<int*>(shared + 16);
    for (int phase = 0; phase < 4; ++phase) {
        if (t < 64) {
            value[t] = phase * 100 + t;
            ptx::mbarrier_arrive(bar);
        } else {
            if (phase % 2) {
                ptx::mbarrier_wait(bar, uint32_t(phase % 2));
            } else {
                while (!ptx::mbarrier_try_wait(bar, uint32_t(phase % 2))) {}
            }
            out[2 + phase * 64 + t - 64] = value[127 - t];
        }
        __syncthreads();
    }
    if (t == 0) {
        ptx::mbarrier_inval(bar);
        ptx::mbarrier_init(bar, 1);
        ptx::mbarrier_arrive_expect_tx(bar, 0);
        out[258] = ptx::mbarrier_try_wait(bar, 0);
    }
#endif
}

void mbarrier() {
    std::vector<int> want(259);
    want[0] = 1, want[1] = 0, want[258] = 1;
    for (int p = 0; p < 4; ++p)
        for (int i = 0; i < 64; ++i) want[std::size_t(2 + p * 64 + i)] = p * 100 + 63 - i;
    Array<int> out(std::vector<int>(259));
    gpu::launch<mbarrier_kernel>(dim3(1), dim3(128), 16 + 256, kNoStream, out.data());
    expect_equal(out.read(), want, "value");
}
const Test mbarrier_test("mbarrier", mbarrier);

__global__ void elect_kernel(int* out) {
#ifdef SM90A
    const unsigned elected = __ballot_sync(~0u, ptx::elect_sync());
    int n = 0;
    for (int i = 0; i < 32; ++i) n += int(elected >> i & 1);
    out[threadIdx.x] = n;
#endif
}
const Test elect_test("elect_sync", [] {
    Array<int> out(std::vector<int>(64));
    gpu::launch<elect_kernel>(dim3(1), dim3(64), 0, kNoStream, out.data());
    expect_equal(out.read(), std::vector<int>(64, 1), "elected lanes");
});

__global__ void __launch_bounds__(256, 1) setmaxnreg_kernel(int* out) {
#ifdef SM90A
    if (threadIdx.x < 128) ptx::setmaxnreg_dec<40>();
    else ptx::setmaxnreg_inc<200>();
    out[threadIdx.x] = int(threadIdx.x);
#endif
}
const Test setmaxnreg_test("setmaxnreg", [] {
    std::vector<int> want(256);
    for (int i = 0; i < 256; ++i) want[std::size_t(i)] = i;
    Array<int> out(std::vector<int>(256));
    gpu::launch<setmaxnreg_kernel>(dim3(1), dim3(256), 0, kNoStream, out.data());
    expect_equal(out.read(), want, "thread");
});

// ---- TMA -----------------------------------------------------------------------------------------------------------

struct Corner { int c[5]; };

template <int kRank>
__global__ void tma_kernel(const __grid_constant__ ptx::TensorMap map, unsigned char* out, Corner at, int bytes) {
#ifdef SM90A
    GPU_SHARED(shared);
    auto* bar = reinterpret_cast<uint64_t*>(shared + (bytes + 127) / 128 * 128);
    if (threadIdx.x == 0) {
        ptx::prefetch_tensor_map(&map);
        ptx::mbarrier_init(bar, 1);
        ptx::fence_mbarrier_init();
        ptx::fence_proxy_async();
        ptx::mbarrier_arrive_expect_tx(bar, uint32_t(bytes));
        if constexpr (kRank == 1) ptx::tma_load_1d(shared, &map, bar, at.c[0]);
        if constexpr (kRank == 2) ptx::tma_load_2d(shared, &map, bar, at.c[0], at.c[1]);
        if constexpr (kRank == 3) ptx::tma_load_3d(shared, &map, bar, at.c[0], at.c[1], at.c[2]);
        if constexpr (kRank == 4) ptx::tma_load_4d(shared, &map, bar, at.c[0], at.c[1], at.c[2], at.c[3]);
        if constexpr (kRank == 5) ptx::tma_load_5d(shared, &map, bar, at.c[0], at.c[1], at.c[2], at.c[3], at.c[4]);
    }
    __syncthreads();
    ptx::mbarrier_wait(bar, 0);
    for (int i = int(threadIdx.x); i < bytes; i += 32) out[i] = shared[i];
#endif
}

// A tensor of random bytes, one box of it from `at`, partly outside where the corner says so.
template <int kRank>
void tma(ptx::Element element, ptx::Swizzle swizzle, std::vector<int> box, Corner at) {
    const int width = int(ptx::element_bytes(element));
    ptx::TensorLayout t;
    t.element = element, t.rank = kRank, t.swizzle = swizzle;
    uint64_t bytes = 0;
    for (int i = 0; i < kRank; ++i) {
        t.sizes[i] = uint64_t(i ? 5 + i : 300 / width);
        t.strides[i] = i == 0 ? uint64_t(width) : i == 1 ? 320u : t.strides[i - 1] * t.sizes[i - 1] + 16;
        t.box[i] = uint32_t(box[std::size_t(i)]);
        bytes = i == 0 ? 320 : t.strides[i] * t.sizes[i];
    }
    std::vector<unsigned char> in(bytes);
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = (unsigned char)(i * 131 >> 3 ^ i);
    if (element == ptx::Element::tf32)  // numbers that are tf32 already
        for (std::size_t i = 0; i < in.size() / 4; ++i) {
            const float x = float(small_integer(int(i), 1));
            std::memcpy(&in[4 * i], &x, 4);
        }
    Array<unsigned char> from(in);
    t.base = from.data();
    const int total = int(ptx::box_bytes(t));
    std::vector<unsigned char> want(static_cast<std::size_t>(total));
    for (int i = 0; i < total / width; ++i) {
        int rest = i;
        bool inside = true;
        uint64_t source = 0;
        for (int j = 0; j < kRank; ++j) {
            const int x = at.c[j] + rest % box[std::size_t(j)];
            rest /= box[std::size_t(j)];
            inside = inside && x >= 0 && x < int(t.sizes[j]);
            source += uint64_t(x) * t.strides[j];
        }
        for (int b = 0; b < width && inside; ++b)
            want[std::size_t(swizzle_functor(span_bits(swizzle), i * width + b))] = in[source + uint64_t(b)];
    }
    Array<unsigned char> out(std::vector<unsigned char>(static_cast<std::size_t>(total), 0xEE));
    gpu::launch<tma_kernel<kRank>>(dim3(1), dim3(32), unsigned((total + 127) / 128 * 128 + 16), kNoStream,
                                   ptx::tensor_map(t), out.data(), at, total);
    expect_equal(out.read(), want, "shared byte");
}

using ptx::Element;
using ptx::Swizzle;
const Test tma_tests[] = {
    {"tma_1d",
     [] { tma<1>(Element::fp32, Swizzle::none, {64}, {{-4}}), tma<1>(Element::uint8, Swizzle::none, {256}, {{100}}); }},
    {"tma_2d_plain", [] { tma<2>(Element::fp16, Swizzle::none, {24, 9}, {{-3, -2}}); }},
    {"tma_2d_swizzle32", [] { tma<2>(Element::bf16, Swizzle::span32, {16, 17}, {{140, 1}}); }},
    {"tma_2d_swizzle64", [] { tma<2>(Element::bf16, Swizzle::span64, {32, 19}, {{-5, 0}}); }},
    {"tma_2d_swizzle128", [] { tma<2>(Element::bf16, Swizzle::span128, {64, 21}, {{64, -4}}); }},
    {"tma_3d", [] { tma<3>(Element::fp32, Swizzle::span128, {32, 3, 5}, {{50, 1, 4}}); }},
    {"tma_4d", [] { tma<4>(Element::uint8, Swizzle::span64, {64, 3, 2, 4}, {{250, -1, 2, 5}}); }},
    {"tma_5d", [] { tma<5>(Element::fp64, Swizzle::none, {6, 2, 3, 2, 3}, {{-1, 5, 1, 7, 8}}); }},
    {"tma_elements",
     [] {
         for (Element e : {Element::uint8, Element::uint16, Element::uint32, Element::int32, Element::uint64,
                           Element::int64, Element::fp16, Element::fp32, Element::fp64, Element::bf16, Element::tf32}) {
             const int row = 128 / int(ptx::element_bytes(e));
             tma<2>(e, Swizzle::span128, {row, 8}, {{row + 1, 2}});
         }
     }},
    {"tensor_map_refusals",
     [] {
         Array<unsigned char> memory(std::vector<unsigned char>(4096));
         ptx::TensorLayout good;
         good.element = Element::bf16, good.base = memory.data(), good.rank = 2, good.swizzle = Swizzle::span128;
         good.sizes[0] = 64, good.sizes[1] = 16, good.strides[1] = 128, good.box[0] = 64, good.box[1] = 8;
         ptx::tensor_map(good);
         const std::function<void(ptx::TensorLayout&)> bad[] = {
             [](auto& t) { t.base = static_cast<const char*>(t.base) + 8; },
             [](auto& t) { t.strides[1] = 120; },
             [](auto& t) { t.box[0] = 32; },
             [](auto& t) { t.box[1] = 257; },
             [](auto& t) { t.sizes[1] = 0; },
             [](auto& t) { t.rank = 6; },
             [](auto& t) { t.swizzle = Swizzle::none, t.box[0] = 4; }};
         int number = 0;
         for (const auto& spoil : bad) {
             ptx::TensorLayout t = good;
             spoil(t);
             bool refused = false;
             try {
                 ptx::tensor_map(t);
             } catch (const std::invalid_argument&) { refused = true; }
             if (!refused) throw Mismatch("a bad tensor map was accepted: number " + std::to_string(number));
             ++number;
         }
     }},
};

// ---- wgmma ---------------------------------------------------------------------------------------------------------

constexpr int kStartB = 32 * 1024;  // A's image lies below, B's from here
constexpr int kImage = 64 * 1024;

// One product of 16 along K, or, accumulated, of 16 with the old d kept.
template <int kN, int kTransA, int kTransB, bool kBf16, bool kRegisters>
__global__ void __launch_bounds__(128, 1)
wgmma_kernel(float* d, const uint4* image, const uint32_t* a, uint64_t a_rest, uint64_t b_rest, int keep) {
#ifdef SM90A
    GPU_SHARED(shared);
    const int t = int(threadIdx.x);
    for (int i = t; i < kImage / 16; i += 128) reinterpret_cast<uint4*>(shared)[i] = image[i];
    ptx::fence_proxy_async();
    __syncthreads();
    float sums[kN / 2];
    uint32_t ra[4];
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) sums[i] = d[t * (kN / 2) + i];
#pragma unroll
    for (int i = 0; i < 4; ++i) ra[i] = a[t * 4 + i];
    // The rest of a descriptor is the host's, the start address is only known here.
    const uint64_t da = a_rest | ptx::matrix_descriptor(ptx::shared_offset(shared), 0, 0, Swizzle::none);
    const uint64_t db = b_rest | ptx::matrix_descriptor(ptx::shared_offset(shared + kStartB), 0, 0, Swizzle::none);
    ptx::wgmma_registers(sums);
    ptx::wgmma_fence();
    if constexpr (kRegisters) {
        if constexpr (kBf16) ptx::wgmma_bf16<kN, kTransB>(sums, ra, db, keep);
        else ptx::wgmma_fp16<kN, kTransB>(sums, ra, db, keep);
    } else {
        if constexpr (kBf16) ptx::wgmma_bf16<kN, kTransA, kTransB>(sums, da, db, keep);
        else ptx::wgmma_fp16<kN, kTransA, kTransB>(sums, da, db, keep);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait_group<0>();
    ptx::wgmma_registers(sums);
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) d[t * (kN / 2) + i] = sums[i];
#endif
}

// Where element (r, k) of an operand of 16-bit elements lies, from canonical atoms (GMMA::Layout_K_SW128_Atom and its
// like):
// K-major (8, span), MN-major (span, 8), atoms following one another first along rows, then along K.
int place(ptx::Swizzle swizzle, bool mn_major, int rows, int r, int k) {
    const int span = int(uint32_t(swizzle)) / 2;  // elements
    const int atom_r = mn_major ? span : 8, atom_k = mn_major ? 8 : span;
    const int down = (rows + atom_r - 1) / atom_r;  // atoms
    const Layout atom{mn_major ? std::vector<std::pair<int, int>>{{span, 1}, {8, span}}
                               : std::vector<std::pair<int, int>>{{8, span}, {span, 1}}};
    const int number = r / atom_r + down * (k / atom_k);
    return swizzle_functor(span_bits(swizzle), 2 * (number * 8 * span + atom(r % atom_r + atom_r * (k % atom_k))));
}
uint64_t rest_of_descriptor(ptx::Swizzle swizzle, bool mn_major, int rows) {
    const uint32_t atom = 8 * uint32_t(swizzle), span = uint32_t(swizzle) / 2;
    const uint32_t column = atom * uint32_t((rows + int(mn_major ? span : 8) - 1) / int(mn_major ? span : 8));
    if (swizzle == Swizzle::none)
        return mn_major ? ptx::mn_major_plain_descriptor(0, atom, column)
                        : ptx::k_major_plain_descriptor(0, column, atom);
    if (swizzle == Swizzle::span128)
        return mn_major ? ptx::mn_major_descriptor<Swizzle::span128>(0, atom, column)
                        : ptx::k_major_descriptor<Swizzle::span128>(0);
    if (swizzle == Swizzle::span64)
        return mn_major ? ptx::mn_major_descriptor<Swizzle::span64>(0, atom, column)
                        : ptx::k_major_descriptor<Swizzle::span64>(0);
    return mn_major ? ptx::mn_major_descriptor<Swizzle::span32>(0, atom, column)
                    : ptx::k_major_descriptor<Swizzle::span32>(0);
}

template <int kN, int kTransA, int kTransB, bool kBf16, bool kRegisters = false>
void wgmma(Swizzle swizzle, bool keep) {
    const Layout lanes{{{4, 128}, {8, 1}, {4, 16}}};
    const Fragment d{lanes, {{{2, 64}, {2, 8}, {kN / 8, 512}}}}, a{lanes, {{{2, 64}, {2, 8}, {2, 512}}}};
    std::vector<unsigned char> image(kImage, 0xFF);
    auto put = [&](int at, int x) {
        const uint16_t bits = bits16(x, kBf16);
        std::memcpy(&image[std::size_t(at)], &bits, 2);
    };
    for (int k = 0; k < 16; ++k) {
        for (int m = 0; m < 64; ++m) put(place(swizzle, kTransA, 64, m, k), small_integer(m + 64 * k, 1));
        for (int n = 0; n < kN; ++n) put(kStartB + place(swizzle, kTransB, kN, n, k), small_integer(n + 256 * k, 2));
    }
    std::vector<uint4> image16(kImage / 16);
    std::memcpy(static_cast<void*>(image16.data()), image.data(), kImage);
    std::vector<uint32_t> registers(128 * 4);
    std::vector<float> before(128 * kN / 2), want(128 * kN / 2);
    for (int t = 0; t < 128; ++t) {
        for (int v = 0; v < 8; ++v)
            registers[std::size_t(t * 4 + v / 2)] |= uint32_t(bits16(small_integer(a(t, v), 1), kBf16)) << 16 * (v % 2);
        for (int v = 0; v < kN / 2; ++v) {
            const int m = d(t, v) % 64, n = d(t, v) / 64, i = t * kN / 2 + v;
            int sum = small_integer(d(t, v), 3);
            before[std::size_t(i)] = float(sum);
            if (!keep) sum = 0;
            for (int k = 0; k < 16; ++k) sum += small_integer(m + 64 * k, 1) * small_integer(n + 256 * k, 2);
            want[std::size_t(i)] = float(sum);
        }
    }
    Array<float> out(before);
    Array<uint4> in(image16);
    Array<uint32_t> ra(registers);
    gpu::launch<wgmma_kernel<kN, kTransA, kTransB, kBf16, kRegisters>>(
        dim3(1), dim3(128), kImage, kNoStream, out.data(), in.data(), ra.data(),
        rest_of_descriptor(swizzle, kTransA, 64), rest_of_descriptor(swizzle, kTransB, kN), int(keep));
    expect_equal(out.read(), want, "register of d");
}

template <int kTransA, int kTransB, bool kBf16>
void wgmma_layouts(Swizzle swizzle) {
    wgmma<64, kTransA, kTransB, kBf16>(swizzle, true);
    wgmma<128, kTransA, kTransB, kBf16>(swizzle, false);
}
template <int... kEighths>
void wgmma_sizes(std::integer_sequence<int, kEighths...>) {
    (wgmma<8 * (kEighths + 1), 0, 0, true>(Swizzle::span128, true), ...);
    (wgmma<8 * (kEighths + 1), 0, 0, true, true>(Swizzle::none, true), ...);
}
const std::pair<const char*, Swizzle> kSwizzles[] = {{"plain", Swizzle::none},
                                                     {"swizzle32", Swizzle::span32},
                                                     {"swizzle64", Swizzle::span64},
                                                     {"swizzle128", Swizzle::span128}};

const bool wgmma_registered = [] {
    for (auto [name, swizzle] : kSwizzles) {
        const std::string s = name;
        const Swizzle w = swizzle;
        Test("wgmma_bf16_kk_" + s, [w] { wgmma_layouts<0, 0, true>(w); });
        Test("wgmma_bf16_km_" + s, [w] { wgmma_layouts<0, 1, true>(w); });
        Test("wgmma_bf16_mk_" + s, [w] { wgmma_layouts<1, 0, true>(w); });
        Test("wgmma_bf16_mm_" + s, [w] { wgmma_layouts<1, 1, true>(w); });
        Test("wgmma_fp16_km_" + s, [w] { wgmma_layouts<0, 1, false>(w); });
        Test("wgmma_registers_bf16_" + s,
             [w] { wgmma<64, 0, 1, true, true>(w, true), wgmma<64, 0, 0, true, true>(w, false); });
        Test("wgmma_registers_fp16_" + s,
             [w] { wgmma<64, 0, 1, false, true>(w, true), wgmma<64, 0, 0, false, true>(w, false); });
    }
    Test("wgmma_every_n", [] { wgmma_sizes(std::make_integer_sequence<int, 32>()); });
    return true;
}();

}  // namespace
