// Device functions against what CUDA specifies, and the order in which threads run. Nothing is planted here.
#include "planted.h"

#include <cmath>

namespace {

// Says which expectation failed, as the kernel's error.
#define EXPECT(condition) ((condition) ? void() : emu::fail("%s, line %d", #condition, __LINE__))

__global__ void warp_kernel() {
    const int lane = int(threadIdx.x) % 32;
    for (int width : {1, 2, 4, 8, 16, 32}) {
        const int start = lane / width * width;
        for (int x = 0; x < 34; ++x) {
            EXPECT(__shfl_sync(~0u, lane, x, width) == start + x % width);
            // PTX, shfl: the operand's low five bits count; out of the segment a lane keeps its own value.
            const int d = x % 32;
            EXPECT(__shfl_up_sync(~0u, lane, unsigned(x), width) == (lane - d < start ? lane : lane - d));
            EXPECT(__shfl_down_sync(~0u, lane, unsigned(x), width) == (lane + d >= start + width ? lane : lane + d));
            EXPECT(__shfl_xor_sync(~0u, lane, x, width) == ((lane ^ d) >= start + width ? lane : lane ^ d));
        }
    }
    EXPECT(__shfl_xor_sync(~0u, 0.5 * lane, 1) == 0.5 * (lane ^ 1));
    EXPECT(__shfl_xor_sync(~0u, (unsigned long long)lane << 40, 1) == (unsigned long long)(lane ^ 1) << 40);
    EXPECT(__half2float(__shfl_xor_sync(~0u, __float2half(float(lane)), 3)) == float(lane ^ 3));
    EXPECT(__bfloat162float(__shfl_xor_sync(~0u, __float2bfloat16(float(lane)), 3)) == float(lane ^ 3));
    EXPECT(__low2float(__shfl_xor_sync(~0u, __floats2half2_rn(float(lane), 1), 3)) == float(lane ^ 3));

    EXPECT(__ballot_sync(~0u, lane % 3 == 0) == 0x49249249u);
    EXPECT(__any_sync(~0u, lane == 31) && !__any_sync(~0u, lane == 32));
    EXPECT(__all_sync(~0u, lane < 32) && !__all_sync(~0u, lane < 31));
    EXPECT(__activemask() == ~0u);
    EXPECT(__match_any_sync(~0u, lane % 4) == 0x11111111u << lane % 4);
    int all;
    EXPECT(__match_all_sync(~0u, 7, &all) == ~0u && all);
    EXPECT(__match_all_sync(~0u, lane / 31, &all) == 0 && !all);
    EXPECT(__reduce_add_sync(~0u, lane) == 496 && __reduce_add_sync(~0u, unsigned(lane)) == 496u);
    EXPECT(__reduce_min_sync(~0u, lane - 5) == -5 && __reduce_max_sync(~0u, lane - 40) == -9);
    EXPECT(__reduce_min_sync(~0u, unsigned(lane - 5)) == 0u && __reduce_max_sync(~0u, unsigned(lane - 5)) == ~0u);
    EXPECT(__reduce_or_sync(~0u, 1u << lane) == ~0u && __reduce_and_sync(~0u, ~(1u << lane)) == 0);
    EXPECT(__reduce_xor_sync(~0u, 1u << lane / 2) == 0);
    if (lane % 2) EXPECT(__reduce_add_sync(0xAAAAAAAAu, lane) == 256);
    const long long now = clock64();
    EXPECT(clock64() > now);
}
CASE(warp_functions) {
    gpu::launch<warp_kernel>(dim3(2), dim3(64), 0, kNoStream);
    return true;
}

__global__ void partial_warp_kernel(int* out) {  // 40 threads: the second warp has 8 lanes
    EXPECT(__ballot_sync(~0u, 1) == (threadIdx.x < 32 ? ~0u : 0xFFu));
    EXPECT(__all_sync(~0u, 1));
    int all;
    EXPECT(__match_all_sync(~0u, 1, &all) && all);
    EXPECT(__syncthreads_count(threadIdx.x < 35) == 35);
    EXPECT(__syncthreads_and(threadIdx.x < 40) && !__syncthreads_and(threadIdx.x < 39));
    EXPECT(__syncthreads_or(threadIdx.x == 39) && !__syncthreads_or(threadIdx.x == 40));
    if (threadIdx.x % 2) return;  // who has exited no longer counts
    EXPECT(__syncthreads_count(1) == 20);
    if (threadIdx.x % 4) return;
    __syncthreads();
    atomicAdd(out, 1);
}
CASE(partial_warp) {
    int out = 0;
    gpu::launch<partial_warp_kernel>(dim3(1), dim3(40), 0, kNoStream, &out);
    return out == 10;
}

__global__ void atomics_kernel(int* i, unsigned* u, unsigned long long* l, float* f, double* d, unsigned* wrap) {
    const int t = int(threadIdx.x);
    atomicAdd(i, t);
    atomicMax(i + 1, t), atomicMin(i + 2, -t), atomicSub(i + 3, 1), atomicXor(i + 4, 1 << t % 31);
    atomicOr(u, 1u << t % 32), atomicAnd(u + 1, ~(1u << t % 32));
    atomicAdd(l, 1ull << 33);
    atomicAdd(f, 0.5f), atomicAdd(d, 0.25);
    atomicInc(wrap, 9u), atomicDec(wrap + 1, 9u);
    int seen, old = i[5];  // an addition by compare and swap
    do seen = old;
    while ((old = atomicCAS(i + 5, seen, seen + 2)) != seen);
    if (t == 5) atomicExch(i + 6, 17);
}
CASE(atomic_functions) {
    int i[7] = {};
    unsigned u[2] = {0, ~0u}, wrap[2] = {0, 0};
    unsigned long long l = 0;
    float f = 0;
    double d = 0;
    gpu::launch<atomics_kernel>(dim3(1), dim3(64), 0, kNoStream, i, u, &l, &f, &d, wrap);
    return i[0] == 2016 && i[1] == 63 && i[2] == -63 && i[3] == -64 && i[5] == 128 && i[6] == 17 && u[0] == ~0u &&
           u[1] == 0 && l == 64ull << 33 && f == 32 && d == 16 && wrap[0] == 4 && wrap[1] == 6;
}

__global__ void arithmetic_kernel() {
    const float nan = NAN, inf = INFINITY;
    EXPECT(min(nan, 1.0f) == 1 && max(1.0f, nan) == 1 && min(2, 3u) == 2 && max(-1, 3u) == ~0u && max(1.0f, 2.0) == 2);
    EXPECT(__popc(0xF0F0u) == 8 && __popcll(~0ull) == 64 && __clz(1) == 31 && __clz(0) == 32 && __clzll(1) == 63);
    EXPECT(__ffs(0) == 0 && __ffs(8) == 4 && __ffsll(1ll << 40) == 41);
    EXPECT(__brev(1u) == 0x80000000u && __brev(0x12345678u) == 0x1E6A2C48u && __brevll(1) == 1ull << 63);
    EXPECT(__byte_perm(0x33221100u, 0x77665544u, 0x7160u) == 0x77116600u);
    EXPECT(__funnelshift_l(0x80000000u, 1u, 1) == 3u && __funnelshift_r(2u, 1u, 1) == 0x80000001u);
    EXPECT(__umulhi(~0u, ~0u) == 0xFFFFFFFEu && __mulhi(-1, 1) == -1);
    EXPECT(__mul64hi(-1, 1) == -1 && __umul64hi(~0ull, 2) == 1);
    EXPECT(__mul24(0x800001, 2) == -0xFFFFFE && __umul24(0xFF000002u, 3) == 6);
    EXPECT(__hadd(-3, 2) == -1 && __rhadd(3, 2) == 3 && __sad(-1, 2, 10u) == 13u);
    EXPECT(__dp4a(0x01FF0203, 0x01010101, 10) == 15 && __dp4a(0xFF000001u, 0x02000003u, 1u) == 514u);
    EXPECT(__float2int_rz(3e9f) == 2147483647 && __float2int_rn(-3e9f) == -2147483647 - 1 && __float2int_rn(nan) == 0);
    EXPECT(__float2int_rn(2.5f) == 2 && __float2int_rd(-0.5f) == -1 && __float2int_ru(0.5f) == 1 &&
           __float2uint_rz(-5.0f) == 0);
    EXPECT(__double2ll_rn(1e30) == 9223372036854775807ll && __float2uint_rn(4294967040.0f) == 4294967040u);
    EXPECT(__double2hiint(-1.5) == int(0xBFF80000u) && __hiloint2double(0x3FF00000, 1) == std::nextafter(1.0, 2.0));
    EXPECT(__float_as_uint(1.0f) == 0x3F800000u && __int_as_float(0x40000000) == 2.0f);
    EXPECT(rsqrtf(4.0f) == 0.5f && rsqrt(16.0) == 0.25 && __frcp_rn(8.0f) == 0.125f && __fdividef(1, 4) == 0.25f);
    EXPECT(__saturatef(nan) == 0 && __saturatef(2) == 1 && __saturatef(0.25f) == 0.25f);
    EXPECT(__expf(0) == 1 && __log2f(8) == 3 && __powf(2, 10) == 1024 && __expf(-inf) == 0);
    EXPECT(sinpif(0.5f) == 1 && cospif(1.0f) == -1 && normcdff(0) == 0.5f);
    float value = 3;
    __stcs(&value, __ldg(&value) + __ldcs(&value));
    EXPECT(__ldcg(&value) == 6);
}
CASE(arithmetic_functions) {
    gpu::launch<arithmetic_kernel>(dim3(1), dim3(1), 0, kNoStream);
    return true;
}

__global__ void half_kernel() {
    const auto h = [](float x) { return __float2half(x); };
    const auto b = [](float x) { return __float2bfloat16(x); };
    EXPECT(__half2float(__hfma(h(2), h(3), h(4))) == 10);
    EXPECT(__bfloat162float(__hfma(b(2), b(3), b(4))) == 10);
    // One rounding, not two: 259 lies in the middle of two bfloat16 and 2049 of two half numbers; something far smaller
    // than float's last place decides.
    EXPECT(__bfloat162float(__hfma(b(7), b(37), b(-std::ldexp(1.0f, -40)))) == 258);
    EXPECT(__bfloat162float(__hfma(b(7), b(37), b(0))) == 260);
    EXPECT(__half2float(__hfma(h(3), h(683), h(std::ldexp(1.0f, -24)))) == 2050);
    EXPECT(__half2float(__hfma(h(3), h(683), h(0))) == 2048);
    EXPECT(__half2float(__hfma_relu(h(-1), h(1), h(0))) == 0 && __half2float(__hfma_sat(h(3), h(1), h(0))) == 1);
    EXPECT(__low2float(__hfma2(__floats2half2_rn(1, 2), __floats2half2_rn(3, 4), __floats2half2_rn(5, 6))) == 8);
    EXPECT(__half2float(hexp(h(0))) == 1 && __half2float(hsqrt(h(9))) == 3 && __half2float(hrcp(h(4))) == 0.25f);
    EXPECT(__bfloat162float(hrsqrt(b(4))) == 0.5f && __bfloat162float(htanh(b(0))) == 0 &&
           __half2float(hfloor(h(-0.5f))) == -1);
    EXPECT(__half2int_rn(h(2.5f)) == 2 && __half2int_ru(h(2.5f)) == 3 && __bfloat162int_rd(b(-0.5f)) == -1);
    EXPECT(__half2float(__hmax(h(NAN), h(1))) == 1 && __half2float(__hadd(h(1), h(2))) == 3);
}
CASE(half_functions) {
    gpu::launch<half_kernel>(dim3(1), dim3(1), 0, kNoStream);
    return true;
}

// The order in which threads start.
struct Order { std::vector<int> at; };
__global__ void order_kernel(Order* order) { order->at.push_back(int(blockIdx.x * blockDim.x + threadIdx.x)); }
CASE(order) {
    const auto run = [] {
        Order order;
        order.at.reserve(5 * 96);
        gpu::launch<order_kernel>(dim3(5), dim3(96), 0, kNoStream, &order);
        return order.at;
    };
    const std::vector<int> at = run();
    if (run() != at || at.size() != 5 * 96) return false;  // a schedule is the same every time
    std::vector<bool> seen(at.size());
    for (int i : at) seen[std::size_t(i)] = true;
    for (bool s : seen)
        if (!s) return false;
    const int last = int(at.size()) - 1;
    int forward = 0, reverse = 0;
    for (int i = 0; i <= last; ++i) forward += at[std::size_t(i)] == i, reverse += at[std::size_t(i)] == last - i;
    switch (emu::options().order) {
        case emu::Order::forward: return forward == last + 1;
        case emu::Order::reverse: return reverse == last + 1;
        default: {
            int in_place = 0;  // blocks in neither order, nor the threads within
            for (int b = 0; b < 5; ++b) in_place += at[std::size_t(b * 96)] / 96 == b;
            return forward < last / 4 && reverse < last / 4 && in_place < 5;
        }
    }
}

// Deferred work: at issue when early, when nothing else can run when late.
__global__ void defer_kernel(int* value, int* seen) {
    emu::defer([=] {
        *value = 1;
        emu::wake(value);
    });
    *seen = *value;
    while (*value == 0) emu::sleep_on(value, "a copy");
}
CASE(deferred_work) {
    int value = 0, seen = -1;
    gpu::launch<defer_kernel>(dim3(1), dim3(1), 0, kNoStream, &value, &seen);
    return value == 1 && seen == !emu::options().late;
}
__global__ void abandoned_copy_kernel(int* value, bool planted) {
    if (threadIdx.x != 2) return;
    emu::defer([=] {
        *value = 1;
        emu::wake(value);
    });
    while (!planted && *value == 0) gpu::yield();
}
CASE(copy_outlives_block) {  // noticed where copies are late
    int value = 0;
    gpu::launch<abandoned_copy_kernel>(dim3(1), dim3(32), 0, kNoStream, &value, planted);
    return true;
}

// Deferred work acts on the shared memory of the block that issued it, whichever runs when it lands.
__global__ void resident_copy_kernel(float* out) {
    GPU_SHARED(shared);
    auto* value = reinterpret_cast<float*>(shared);
    const std::uint32_t offset = emu::shared_offset(shared);
    if (threadIdx.x == 0) {
        const float mine = float(blockIdx.x + 1);
        emu::defer([=] {
            *reinterpret_cast<float*>(emu::shared_pointer(offset)) = mine;
            emu::wake(emu::shared_pointer(offset));
        });
        while (!(*static_cast<volatile float*>(value) > 0)) emu::sleep_on(shared, "a copy");
    }
    __syncthreads();
    out[blockIdx.x * blockDim.x + threadIdx.x] = value[0];
}
CASE(resident_copies) {
    std::vector<float> out(5 * 64);
    gpu::launch_resident<resident_copy_kernel>(dim3(5), dim3(64), 64, kNoStream, out.data());
    for (int i = 0; i < 5 * 64; ++i)
        if (out[std::size_t(i)] != float(i / 64 + 1)) return false;
    return true;
}

__global__ void saxpy_kernel(float a, const float* x, float* y, int n) {
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] = a * x[i] + y[i];
}
CASE(no_barrier_no_switch) {
    std::vector<float> x(10000, 1.0f), y(x);
    const auto before = emu::read_stats();
    gpu::launch<saxpy_kernel>(dim3(40), dim3(256), 0, kNoStream, 2.0f, x.data(), y.data(), 10000);
    const auto after = emu::read_stats();
    // There and back again once a block.
    return y[9999] == 3 && after.switches - before.switches == 80 && after.threads - before.threads == 10240;
}

}  // namespace
