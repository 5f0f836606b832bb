// Clusters, multicast, and TMA from shared to global memory.
#include "cases.h"

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SM90A 1
#endif

namespace {

using ptx::Element;
using ptx::Swizzle;

// ---- clusters ------------------------------------------------------------------------------------------------------

// out: (blocks, 3 + 64): rank, size, arrivals of the others seen at a barrier, what the next block of the cluster has
// written
__global__ void cluster_kernel(int* out) {
#ifdef SM90A
    GPU_SHARED(shared);
    auto* bar = reinterpret_cast<uint64_t*>(shared);
    auto* value = reinterpret_cast<int*>(shared + 16);
    auto* from_below = value + 64;
    const int t = int(threadIdx.x), block = int(blockIdx.x + gridDim.x * blockIdx.y);
    const uint32_t rank = ptx::cluster_rank(), size = ptx::cluster_size(), next = (rank + 1) % size;
    if (t == 0) {
        ptx::mbarrier_init(bar, size);
        ptx::fence_mbarrier_init();
    }
    value[t] = block * 100 + t;
    ptx::cluster_sync();
    out[block * 67 + 3 + t] = ptx::cluster_map(value, next)[t];
    ptx::cluster_map(from_below, next)[t] = int(rank);
    ptx::cluster_sync();  // all of this block's stores to the next have been done
    if (t == 0)
        for (uint32_t r = 0; r < size; ++r) ptx::mbarrier_arrive_cluster(bar, r);
    ptx::mbarrier_wait(bar, 0);
    if (t == 0) out[block * 67] = int(rank), out[block * 67 + 1] = int(size), out[block * 67 + 2] = from_below[63];
    ptx::cluster_sync();  // nobody arrives at the barrier of a block that has ended
#endif
}

void cluster(dim3 shape, dim3 grid) {
    const int blocks = int(grid.x * grid.y), size = int(shape.x * shape.y);
    std::vector<int> want(static_cast<std::size_t>(blocks * 67));
    for (int b = 0; b < blocks; ++b) {
        const int x = b % int(grid.x), y = b / int(grid.x);
        const int rank = x % int(shape.x) + y % int(shape.y) * int(shape.x), next = (rank + 1) % size;
        const int next_x = x / int(shape.x) * int(shape.x) + next % int(shape.x),
                  next_y = y / int(shape.y) * int(shape.y) + next / int(shape.x);
        int* to = &want[static_cast<std::size_t>(b * 67)];
        to[0] = rank, to[1] = size, to[2] = (rank + size - 1) % size;
        for (int t = 0; t < 64; ++t) to[3 + t] = (next_x + next_y * int(grid.x)) * 100 + t;
    }
    Array<int> out(std::vector<int>(want.size()));
    gpu::launch_cluster<cluster_kernel>(shape, grid, dim3(64), 16 + 2 * 64 * 4, kNoStream, out.data());
    expect_equal(out.read(), want, "cluster");
}
const Test cluster_tests[] = {
    {"cluster_of_2", [] { cluster(dim3(2), dim3(6)); }},
    {"cluster_of_2x2", [] { cluster(dim3(2, 2), dim3(4, 4)); }},
    {"cluster_of_8", [] { cluster(dim3(8), dim3(16)); }},
};

// ---- multicast -----------------------------------------------------------------------------------------------------

struct Corner { int c[5]; };

// Each of two blocks loads the box from its own corner into both. out: (blocks, 2, bytes)
template <int kRank>
__global__ void multicast_kernel(const __grid_constant__ ptx::TensorMap map, unsigned char* out, Corner first,
                                 Corner second, int bytes) {
#ifdef SM90A
    GPU_SHARED(shared);  // two boxes, each from a multiple of 1024
    const int room = (bytes + 1023) / 1024 * 1024;
    auto* bar = reinterpret_cast<uint64_t*>(shared + 2 * room);
    const int rank = int(ptx::cluster_rank());
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(bar, 1);
        ptx::fence_mbarrier_init();
        ptx::mbarrier_arrive_expect_tx(bar, uint32_t(2 * bytes));
    }
    ptx::cluster_sync();
    if (threadIdx.x == 0) {
        const Corner at = rank ? second : first;
        unsigned char* to = shared + rank * room;
        if constexpr (kRank == 1) ptx::tma_load_1d_multicast(to, &map, bar, 3, at.c[0]);
        if constexpr (kRank == 2) ptx::tma_load_2d_multicast(to, &map, bar, 3, at.c[0], at.c[1]);
        if constexpr (kRank == 3) ptx::tma_load_3d_multicast(to, &map, bar, 3, at.c[0], at.c[1], at.c[2]);
        if constexpr (kRank == 4) ptx::tma_load_4d_multicast(to, &map, bar, 3, at.c[0], at.c[1], at.c[2], at.c[3]);
        if constexpr (kRank == 5)
            ptx::tma_load_5d_multicast(to, &map, bar, 3, at.c[0], at.c[1], at.c[2], at.c[3], at.c[4]);
    }
    ptx::mbarrier_wait(bar, 0);
    for (int i = int(threadIdx.x); i < 2 * bytes; i += 32)
        out[int(blockIdx.x) * 2 * bytes + i] = shared[i / bytes * room + i % bytes];
    ptx::cluster_sync();
#endif
}

// ---- TMA stores ----------------------------------------------------------------------------------------------------

// Every block stores (adds) its image, of which element i is image[i] as it lies in shared memory.
template <int kRank>
__global__ void tma_store_kernel(const __grid_constant__ ptx::TensorMap map, const unsigned char* image, Corner at,
                                 int bytes, bool add) {
#ifdef SM90A
    GPU_SHARED(shared);
    for (int i = int(threadIdx.x); i < bytes; i += 32) shared[i] = image[i];
    ptx::fence_proxy_async();
    __syncthreads();
    if (threadIdx.x == 0) {
        if constexpr (kRank == 1)
            add ? ptx::tma_reduce_add_1d(&map, shared, at.c[0]) : ptx::tma_store_1d(&map, shared, at.c[0]);
        if constexpr (kRank == 2)
            add ? ptx::tma_reduce_add_2d(&map, shared, at.c[0], at.c[1])
                : ptx::tma_store_2d(&map, shared, at.c[0], at.c[1]);
        if constexpr (kRank == 3)
            add ? ptx::tma_reduce_add_3d(&map, shared, at.c[0], at.c[1], at.c[2])
                : ptx::tma_store_3d(&map, shared, at.c[0], at.c[1], at.c[2]);
        if constexpr (kRank == 4)
            add ? ptx::tma_reduce_add_4d(&map, shared, at.c[0], at.c[1], at.c[2], at.c[3])
                : ptx::tma_store_4d(&map, shared, at.c[0], at.c[1], at.c[2], at.c[3]);
        if constexpr (kRank == 5)
            add ? ptx::tma_reduce_add_5d(&map, shared, at.c[0], at.c[1], at.c[2], at.c[3], at.c[4])
                : ptx::tma_store_5d(&map, shared, at.c[0], at.c[1], at.c[2], at.c[3], at.c[4]);
        ptx::tma_store_commit();
        ptx::tma_store_wait_read<0>();
    }
#endif
}

// A tensor of fp32, or another type as bytes, padded so that a write outside it shows.
struct Tensor {
    ptx::TensorLayout t;
    std::vector<unsigned char> bytes;
    Tensor(int rank, Element element, Swizzle swizzle, const std::vector<int>& box) {
        const int width = int(ptx::element_bytes(element));
        t.element = element, t.rank = rank, t.swizzle = swizzle;
        uint64_t size = 0;
        for (int i = 0; i < rank; ++i) {
            t.sizes[i] = uint64_t(i ? 5 + i : 300 / width);
            t.strides[i] = i == 0 ? uint64_t(width) : i == 1 ? 320u : t.strides[i - 1] * t.sizes[i - 1] + 16;
            t.box[i] = uint32_t(box[std::size_t(i)]);
            size = i == 0 ? 320 : t.strides[i] * t.sizes[i];
        }
        bytes.resize(size);
        if (element == Element::fp32)
            for (std::size_t i = 0; i < size / 4; ++i) {
                const float x = float(small_integer(int(i), 1));
                std::memcpy(&bytes[4 * i], &x, 4);
            }
        else
            for (std::size_t i = 0; i < size; ++i) bytes[i] = (unsigned char)(i * 131 >> 3 ^ i);
    }
    int box_elements() const { return int(ptx::box_bytes(t) / ptx::element_bytes(t.element)); }
    // The byte at which element i of the box at `at` begins, or -1 outside the tensor.
    int64_t place(int i, const Corner& at) const {
        int64_t source = 0;
        for (int j = 0; j < t.rank; ++j) {
            const int x = at.c[j] + i % int(t.box[j]);
            i /= int(t.box[j]);
            if (x < 0 || x >= int(t.sizes[j])) return -1;
            source += int64_t(x) * int64_t(t.strides[j]);
        }
        return source;
    }
    int place_shared(int i) const {
        const int bits = t.swizzle == Swizzle::span128  ? 3
                         : t.swizzle == Swizzle::span64 ? 2
                         : t.swizzle == Swizzle::span32 ? 1
                                                        : 0;
        return swizzle_functor(bits, i * int(ptx::element_bytes(t.element)));
    }
};

template <int kRank>
void multicast(Element element, Swizzle swizzle, const std::vector<int>& box, Corner first, Corner second) {
    Tensor x(kRank, element, swizzle, box);
    const int width = int(ptx::element_bytes(element)), n = int(ptx::box_bytes(x.t));
    std::vector<unsigned char> want(static_cast<std::size_t>(4 * n));
    for (int block = 0; block < 2; ++block)
        for (int source = 0; source < 2; ++source)
            for (int i = 0; i < x.box_elements(); ++i)
                if (const int64_t from = x.place(i, source ? second : first); from >= 0)
                    std::memcpy(&want[std::size_t((block * 2 + source) * n + x.place_shared(i))],
                                &x.bytes[std::size_t(from)], std::size_t(width));
    Array<unsigned char> in(x.bytes), out(std::vector<unsigned char>(want.size(), 0xEE));
    x.t.base = in.data();
    gpu::launch_cluster<multicast_kernel<kRank>>(dim3(2), dim3(2), dim3(32),
                                                 unsigned(2 * ((n + 1023) / 1024 * 1024) + 16), kNoStream,
                                                 ptx::tensor_map(x.t), out.data(), first, second, n);
    expect_equal(out.read(), want, "shared byte");
}
const Test multicast_tests[] = {
    {"tma_multicast_1d", [] { multicast<1>(Element::fp32, Swizzle::none, {64}, {{-4}}, {{50}}); }},
    {"tma_multicast_2d", [] { multicast<2>(Element::bf16, Swizzle::span128, {64, 21}, {{64, -4}}, {{100, 2}}); }},
    {"tma_multicast_3d", [] { multicast<3>(Element::fp32, Swizzle::span128, {32, 3, 5}, {{50, 1, 4}}, {{0, 0, 0}}); }},
    {"tma_multicast_4d",
     [] { multicast<4>(Element::uint8, Swizzle::span64, {64, 3, 2, 4}, {{250, -1, 2, 5}}, {{0, 0, 1, 0}}); }},
    {"tma_multicast_5d",
     [] { multicast<5>(Element::bf16, Swizzle::span32, {16, 2, 3, 2, 2}, {{0, 1, 2, 3, 4}}, {{140, 1, 0, 2, 8}}); }},
};

template <int kRank>
void tma_store(Element element, Swizzle swizzle, const std::vector<int>& box, Corner at, bool add = false,
               int blocks = 1) {
    Tensor x(kRank, element, swizzle, box);
    const std::size_t width = ptx::element_bytes(element);
    std::vector<unsigned char> image(ptx::box_bytes(x.t)), want = x.bytes;
    for (int i = 0; i < x.box_elements(); ++i) {
        unsigned char* from = &image[std::size_t(x.place_shared(i))];
        const float value = float(small_integer(i, 2));
        if (element == Element::fp32) std::memcpy(from, &value, 4);
        else
            for (std::size_t b = 0; b < width; ++b) from[b] = (unsigned char)(std::size_t(i) * width + b) ^ 0x5A;
        const int64_t to = x.place(i, at);
        if (to < 0) continue;
        float sum;
        std::memcpy(&sum, &want[std::size_t(to)], width < 4 ? width : 4);
        sum += float(blocks) * value;
        std::memcpy(&want[std::size_t(to)], add ? reinterpret_cast<unsigned char*>(&sum) : from, width);
    }
    Array<unsigned char> in(image), out(x.bytes);
    x.t.base = out.data();
    gpu::launch<tma_store_kernel<kRank>>(dim3(unsigned(blocks)), dim3(32), unsigned(image.size()), kNoStream,
                                         ptx::tensor_map(x.t), in.data(), at, int(image.size()), add);
    expect_equal(out.read(), want, "byte of the tensor");
}
const Test tma_store_tests[] = {
    {"tma_store_1d",
     [] {
         tma_store<1>(Element::uint8, Swizzle::none, {256}, {{100}}),
             tma_store<1>(Element::fp32, Swizzle::none, {64}, {{-4}});
     }},
    {"tma_store_2d_plain", [] { tma_store<2>(Element::fp16, Swizzle::none, {24, 9}, {{-3, -2}}); }},
    {"tma_store_2d_swizzle32", [] { tma_store<2>(Element::bf16, Swizzle::span32, {16, 17}, {{140, 1}}); }},
    {"tma_store_2d_swizzle64", [] { tma_store<2>(Element::bf16, Swizzle::span64, {32, 19}, {{-5, 0}}); }},
    {"tma_store_2d_swizzle128", [] { tma_store<2>(Element::bf16, Swizzle::span128, {64, 21}, {{64, -4}}); }},
    {"tma_store_3d", [] { tma_store<3>(Element::fp32, Swizzle::span128, {32, 3, 5}, {{50, 1, 4}}); }},
    {"tma_store_4d", [] { tma_store<4>(Element::uint8, Swizzle::span64, {64, 3, 2, 4}, {{250, -1, 2, 5}}); }},
    {"tma_store_5d", [] { tma_store<5>(Element::bf16, Swizzle::span32, {16, 2, 3, 2, 2}, {{140, 1, 0, 2, 8}}); }},
    {"tma_reduce_add_1d", [] { tma_store<1>(Element::fp32, Swizzle::none, {64}, {{-4}}, true, 3); }},
    {"tma_reduce_add_2d", [] { tma_store<2>(Element::fp32, Swizzle::span128, {32, 6}, {{60, 2}}, true, 3); }},
    {"tma_reduce_add_3d", [] { tma_store<3>(Element::fp32, Swizzle::span64, {16, 3, 5}, {{50, 1, 4}}, true, 2); }},
    {"tma_reduce_add_4d", [] { tma_store<4>(Element::fp32, Swizzle::span32, {8, 3, 2, 4}, {{-2, -1, 2, 5}}, true); }},
    {"tma_reduce_add_5d",
     [] { tma_store<5>(Element::fp32, Swizzle::none, {8, 2, 3, 2, 2}, {{70, 1, 0, 2, 8}}, true, 2); }},
};

}  // namespace
