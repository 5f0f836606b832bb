// Tensor maps of windows: two dimensions with the stride of rows, the base before the array, so that a box ends where a part
// of the rows does (csrc/attention/attention_sm90.cuh).
#include "cases.h"

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SM90A 1
#endif

namespace {

constexpr int kHeads = 2, kTokens = 13, kColumns = 64, kBox = 8;

// `in` and `out`: (kTokens, kHeads, kColumns). The first `inside` of a box's rows are the rows from `token` on.
struct Part { int token, inside, head; };

__global__ void window_kernel(const __grid_constant__ ptx::TensorMap in, const __grid_constant__ ptx::TensorMap out,
                              Part from, Part to) {
#ifdef SM90A
    GPU_SHARED(shared);
    auto* bar = reinterpret_cast<uint64_t*>(shared + kBox * kColumns * 2);
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(bar, 1);
        ptx::fence_mbarrier_init();
        ptx::fence_proxy_async();
        ptx::mbarrier_arrive_expect_tx(bar, kBox * kColumns * 2);
        ptx::tma_load_4d(shared, &in, bar, 0, kBox - from.inside, from.token + from.inside, from.head);
        ptx::mbarrier_wait(bar, 0);
        ptx::tma_store_4d(&out, shared, 0, kBox - to.inside, to.token + to.inside, to.head);
        ptx::tma_store_commit();
        ptx::tma_store_wait_read<0>();
    }
#endif
}

ptx::TensorMap map_of(const unsigned short* data) {
    ptx::TensorLayout t;
    t.element = ptx::Element::bf16, t.rank = 4, t.swizzle = ptx::Swizzle::span128;
    const uint64_t row = kHeads * kColumns * 2;
    t.base = reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(data) - kBox * row);
    t.sizes[0] = kColumns, t.sizes[1] = kBox, t.sizes[2] = kTokens + 1, t.sizes[3] = kHeads;
    t.strides[1] = t.strides[2] = row, t.strides[3] = kColumns * 2;
    t.box[0] = kColumns, t.box[1] = kBox;
    return ptx::tensor_map(t);
}

void window(Part from, Part to) {
    std::vector<unsigned short> in(kTokens * kHeads * kColumns), want(in.size(), 0xEEEE);
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = (unsigned short)(i * 131 >> 3 ^ i);
    const auto place = [](const Part& p, int row) {
        return std::size_t(((p.token + row) * kHeads + p.head) * kColumns);
    };
    for (int row = 0; row < to.inside; ++row)
        for (std::size_t c = 0; c < kColumns; ++c)
            want[place(to, row) + c] = row < from.inside ? in[place(from, row) + c] : 0;
    Array<unsigned short> source(in), target(std::vector<unsigned short>(in.size(), 0xEEEE));
    gpu::launch<window_kernel>(dim3(1), dim3(32), unsigned(kBox * kColumns * 2 + 16), kNoStream, map_of(source.data()),
                               map_of(target.data()), from, to);
    expect_equal(target.read(), want, "element");
}
const Test window_tests[] = {
    {"tma_window_whole", [] { window({0, 8, 0}, {5, 8, 1}); }},
    {"tma_window_loads_a_part", [] { window({0, 3, 1}, {0, 8, 0}), window({12, 1, 0}, {5, 8, 1}); }},
    {"tma_window_stores_a_part", [] { window({5, 8, 0}, {0, 5, 1}), window({3, 8, 1}, {12, 1, 0}); }},
    {"tma_window_of_none", [] { window({4, 0, 1}, {2, 6, 0}), window({4, 8, 1}, {7, 0, 0}); }},
};

}  // namespace
