// Emulated sm_90 instructions. Layouts: PTX ISA manual, "Asynchronous warpgroup level matrix instructions"; tests/ptx
// derives them a second time.
#include "../ptx/sm90.h"

#include "ptx_common.h"

#include <algorithm>
#include <map>
#include <memory>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ptx {

using namespace emu;

// ---- mbarrier ---------------------------------------------------------------------------------------------------

namespace {
constexpr int64_t kMost = (1 << 20) - 1;  // arrivals and bytes
struct Mbarrier {
    uint32_t phase = 0;
    int64_t expected = 0, pending = 0;  // arrivals of a phase; those still to come in this one
    int64_t bytes = 0;                  // that were expected and have not come; below 0 when they come first
};
std::unordered_map<const uint64_t*, Mbarrier> mbarriers;
// In shared memory lies a mark, so that a barrier never initialised, or overwritten, is noticed.
constexpr uint64_t kMark = 0x6D62617272696572;

Mbarrier& mbarrier(const uint64_t* bar) {
    check_aligned("mbarrier", bar, 8);
    const uint32_t offset = shared_offset(bar);
    auto found = mbarriers.find(bar);
    if (found == mbarriers.end()) fail("mbarrier at shared offset %u is used before mbarrier_init", offset);
    if (*bar != (kMark ^ offset)) fail("mbarrier at shared offset %u has been overwritten", offset);
    return found->second;
}
void end_phase_if_due(uint64_t* bar, Mbarrier& m) {
    if (m.pending || m.bytes) return;
    m.phase ^= 1;
    m.pending = m.expected;
    wake(bar);
}
// Whether the phase of that parity has ended.
bool ended(uint64_t* bar, uint32_t parity) {
    if (parity > 1) fail("mbarrier: parity %u", parity);
    Quiet quiet;
    return mbarrier(bar).phase != parity;
}
}  // namespace

void mbarrier_init(uint64_t* bar, uint32_t arrivals) {
    check_aligned("mbarrier", bar, 8);
    const uint32_t offset = shared_offset(bar);
    if (!arrivals || arrivals > kMost) fail("mbarrier_init: %u arrivals; expected 1 to 2^20 - 1", arrivals);
    note_write(bar, 8, __builtin_return_address(0));
    Quiet quiet;
    auto [at, fresh] = mbarriers.insert_or_assign(bar, Mbarrier{0, arrivals, arrivals, 0});
    if (!fresh && *bar == (kMark ^ offset))
        fail("mbarrier at shared offset %u is initialised again without mbarrier_inval", offset);
    *bar = kMark ^ offset;
}
void mbarrier_inval(uint64_t* bar) {
    Quiet quiet;
    mbarrier(bar);
    mbarriers.erase(bar);
    std::memset(bar, kPoison, 8);
}
void mbarrier_arrive(uint64_t* bar) { mbarrier_arrive_expect_tx(bar, 0); }
void mbarrier_arrive_expect_tx(uint64_t* bar, uint32_t bytes) {
    sync_release(bar);
    Quiet quiet;
    Mbarrier& m = mbarrier(bar);
    if (!m.pending) fail("mbarrier at shared offset %u: more arrivals than it was initialised for", shared_offset(bar));
    if (m.bytes + int64_t(bytes) > kMost) fail("mbarrier: more than 2^20 - 1 bytes are expected");
    m.bytes += bytes;
    --m.pending;
    end_phase_if_due(bar, m);
}
bool mbarrier_test(uint64_t* bar, uint32_t parity) {
    const bool done = ended(bar, parity);
    if (done) sync_acquire(bar);
    else yield("mbarrier_test");  // so that a loop around it ends
    return done;
}
bool mbarrier_try_wait(uint64_t* bar, uint32_t parity) { return mbarrier_test(bar, parity); }
void mbarrier_wait(uint64_t* bar, uint32_t parity) {
    ++stats.mbarrier_waits;
    while (!ended(bar, parity)) sleep_on(bar, "mbarrier_wait");
    sync_acquire(bar);
}

// ---- clusters -----------------------------------------------------------------------------------------------------

void cluster_arrive() {
    collective("barrier.cluster.arrive", ~0u, nullptr, [](void* const*, const void*) {});
    emu::cluster_arrive();
}
void cluster_wait() {
    collective("barrier.cluster.wait", ~0u, nullptr, [](void* const*, const void*) {});
    emu::cluster_wait();
}
void mbarrier_arrive_cluster(uint64_t* bar, uint32_t rank) {
    auto* there = reinterpret_cast<uint64_t*>(in_peer(bar, rank));
    AsPeer peer(rank);
    mbarrier_arrive(there);
}

// ---- TMA ---------------------------------------------------------------------------------------------------------

namespace {
// Swizzling exchanges 16-byte units: bits 4.. of the shared address are XORed with bits 7...
uint32_t swizzled(uint32_t address, uint32_t span) { return address ^ (address >> 3 & (span - 1) & ~15u); }

struct Coordinates {
    int c[5] = {};
    explicit Coordinates(std::initializer_list<int> at) { std::copy(at.begin(), at.end(), c); }
};

// 16 bytes of shared memory as TMA and wgmma find them. What threads wrote there since the last fence_proxy_async may
// or may not have arrived: either they are wrong now or they may be.
void read_unit(void* to, uint32_t offset, const char* who) {
    const unsigned char* p = shared_pointer(offset);
    std::memcpy(to, p, 16);
    if (std::memcmp(async_view(offset), p, 16))
        fail(
            "%s reads shared offset %u, which was written without a fence_proxy_async before this, or is being "
            "overwritten",
            who, offset);
}
void write_unit(uint32_t offset, const void* from) {
    std::memcpy(shared_pointer(offset), from, 16);
    std::memcpy(async_view(offset), from, 16);
}

// Where row r of the box lies in global memory, null if outside, and which of its elements [low, high) do.
struct Row {
    char* first;
    int64_t low, high;
};
Row box_row(const TensorLayout& t, const Coordinates& at, uint32_t r) {
    char* from = static_cast<char*>(const_cast<void*>(t.base));
    for (uint32_t i = 1, rest = r; i < uint32_t(t.rank); rest /= t.box[i], ++i) {  // packed, innermost first
        const int64_t x = at.c[i] + int64_t(rest % t.box[i]);
        if (x < 0 || x >= int64_t(t.sizes[i])) return {};
        from += uint64_t(x) * t.strides[i];
    }
    const int64_t low = std::max<int64_t>(0, -int64_t(at.c[0]));
    const int64_t high = std::min<int64_t>(t.box[0], int64_t(t.sizes[0]) - at.c[0]);
    if (low >= high) return {};
    return {from + (at.c[0] + low) * int64_t(element_bytes(t.element)), low, high};
}

void store_box(const TensorLayout& t, uint32_t start, const Coordinates& at) {
    const uint32_t width = element_bytes(t.element), row_bytes = t.box[0] * width, rows = box_bytes(t) / row_bytes;
    std::vector<unsigned char> row(row_bytes);
    for (uint32_t r = 0; r < rows; ++r) {
        std::fill(row.begin(), row.end(), 0);
        if (const Row from = box_row(t, at, r); from.first) {
            const std::size_t bytes = std::size_t(from.high - from.low) * width;
            Loud loud;  // a fault here is the kernel's
            note_read(from.first, bytes, nullptr);
            std::memcpy(row.data() + from.low * width, from.first, bytes);
        }
        if (t.element == Element::tf32)  // the copy rounds: to nearest is what this emulator takes it to be
            for (uint32_t i = 0; i < row_bytes; i += 4) {
                float x;
                std::memcpy(&x, &row[i], 4);
                const uint32_t bits = cvt_rna_tf32(x);
                std::memcpy(&row[i], &bits, 4);
            }
        for (uint32_t i = 0; i < row_bytes; i += 16)
            write_unit(swizzled(start + r * row_bytes + i, uint32_t(t.swizzle)), &row[i]);
    }
}

// What both directions ask of their operands: the tensor's layout.
TensorLayout check_tma(const char* name, int rank, const void* shared, const TensorMap* map) {
    check_aligned("TMA: shared address", shared, 128);
    check_aligned("TMA: tensor map", map, 64);
    const TensorLayout t = map->layout;
    if (t.rank != rank) fail("%s_%dd: the tensor map has %d dimensions", name, rank, t.rank);
    shared_offset(static_cast<const char*>(shared) + box_bytes(t) - 1);
    return t;
}

// The box comes to `to`, in the block that is current, and its bytes are taken from what `bar` expects.
void arrive_box(const TensorLayout& t, void* to, uint64_t* bar, const Coordinates& at) {
    const uint32_t bytes = box_bytes(t);
    note_write(to, bytes, nullptr);
    {
        Quiet quiet;
        store_box(t, shared_offset(to), at);
    }
    sync_release(bar);
    Quiet quiet;
    Mbarrier& m = mbarrier(bar);
    m.bytes -= bytes;
    if (m.bytes < -kMost) fail("mbarrier: 2^20 bytes have come that nobody expected");
    if (!m.pending && m.bytes < 0)
        fail("mbarrier at shared offset %u: %lld bytes more than expected have come", shared_offset(bar),
             (long long)-m.bytes);
    end_phase_if_due(bar, m);
}

struct Store {  // from shared memory
    TensorLayout t;
    uint32_t start;
    Coordinates at;
    TmaKind kind;
    std::vector<unsigned char> data;  // the packed box, once read
    bool read = false, written = false;

    void take() {
        if (read) return;
        read = true;
        data.resize(box_bytes(t));
        for (uint32_t i = 0; i < data.size(); i += 16) {
            const uint32_t offset = swizzled(start + i, uint32_t(t.swizzle));
            {
                Loud loud;
                note_read(shared_pointer(offset), 16, nullptr);
            }
            read_unit(&data[i], offset, "a TMA store");
        }
    }
    template <class F>
    void for_rows(F f) {
        const uint32_t row_bytes = t.box[0] * element_bytes(t.element);
        for (uint32_t r = 0; r < box_bytes(t) / row_bytes; ++r)
            if (const Row to = box_row(t, at, r); to.first) f(to, r * row_bytes);
    }
    void put() {
        if (written) return;
        written = true;
        const uint32_t width = element_bytes(t.element);
        for_rows([&](const Row& to, uint32_t row) {
            const unsigned char* from = data.data() + row + to.low * width;
            const std::size_t count = std::size_t(to.high - to.low);
            if (kind == TmaKind::store) kernel_copy(to.first, from, count * width);
            else
                for (std::size_t i = 0; i < count; ++i) add(to.first + i * width, from + i * width);
        });
    }
    void add(char* to, const unsigned char* from) const {
        auto sum = [&](auto zero) {
            decltype(zero) x, y;
            kernel_copy(&x, to, sizeof x);
            std::memcpy(&y, from, sizeof y);
            x = decltype(zero)(x + y);
            kernel_copy(to, &x, sizeof x);
        };
        switch (t.element) {
            case Element::fp32: return sum(0.0f);
            case Element::uint32:
            case Element::int32: return sum(uint32_t(0));
            case Element::fp16: return sum(__half());
            case Element::bf16: return sum(__nv_bfloat16());
            default: fail("tma_reduce_add: this element type is not emulated");
        }
    }
};
struct ThreadStores {
    std::vector<std::shared_ptr<Store>> open;
    std::vector<std::vector<std::shared_ptr<Store>>> groups;  // committed and not waited for
    std::size_t groups_read = 0;                              // waited for with wait_read
};
std::unordered_map<const void*, ThreadStores> stores;  // by thread
}  // namespace

void emulated_tma_load(int rank, void* to, const TensorMap* map, uint64_t* bar, bool multicast, uint32_t targets,
                       std::initializer_list<int> coordinates) {
    const TensorLayout t = check_tma("tma_load", rank, to, map);
    const Coordinates at(coordinates);
    const uint32_t bytes = box_bytes(t);
    Quiet quiet;
    stats.tma_bytes += bytes;
    if (!multicast) {
        mbarrier(bar);
        if (late()) std::memset(to, kPoison, bytes);
        defer([=] { arrive_box(t, to, bar, at); });
        return;
    }
    if (!targets || targets >> cluster_size())
        fail("tma_load_%dd_multicast: blocks are %#x in a cluster of %u", rank, targets, cluster_size());
    for (uint32_t r = 0; r < cluster_size(); ++r) {  // each copy arrives when it likes
        if (!(targets >> r & 1)) continue;
        auto* to_there = in_peer(to, r);
        auto* bar_there = reinterpret_cast<uint64_t*>(in_peer(bar, r));
        {
            AsPeer peer(r);
            mbarrier(bar_there);
        }
        if (late()) std::memset(to_there, kPoison, bytes);
        defer([=] {
            AsPeer peer(r);
            arrive_box(t, to_there, bar_there, at);
        });
    }
}

void emulated_tma_store(int rank, TmaKind kind, const TensorMap* map, const void* from,
                        std::initializer_list<int> coordinates) {
    const TensorLayout t = check_tma(kind == TmaKind::store ? "tma_store" : "tma_reduce_add", rank, from, map);
    Quiet quiet;
    auto store = std::make_shared<Store>(Store{t, shared_offset(from), Coordinates(coordinates), kind, {}});
    stats.tma_store_bytes += box_bytes(t);
    if (kind == TmaKind::store)  // a race detector takes the writes for the issuing thread's
        store->for_rows([&](const Row& to, uint32_t) {
            Loud loud;
            note_write(to.first, std::size_t(to.high - to.low) * element_bytes(t.element), nullptr);
        });
    if (!late()) store->take(), store->put();
    add_unread(1);
    stores[thread_key()].open.push_back(store);
    at_end([store] { store->put(); });
}
void tma_store_commit() {
    Quiet quiet;
    ThreadStores& s = stores[thread_key()];
    s.groups.push_back(std::move(s.open));
    s.open.clear();
}
void emulated_tma_store_wait(int pending, bool written) {
    Quiet quiet;
    ThreadStores& s = stores[thread_key()];
    const std::size_t done = s.groups.size() - std::min(s.groups.size(), std::size_t(pending));
    for (; s.groups_read < done; ++s.groups_read)
        for (auto& store : s.groups[s.groups_read]) store->take(), add_unread(-1);
    if (!written) return;
    for (std::size_t i = 0; i < done; ++i)
        for (auto& store : s.groups[i]) store->put();
    s.groups.erase(s.groups.begin(), s.groups.begin() + std::ptrdiff_t(done));
    s.groups_read -= done;
}

bool elect_sync() {
    collective("elect.sync", ~0u, nullptr, [](void* const*, const void*) {});
    return lane() == 0;
}

// ---- wgmma -------------------------------------------------------------------------------------------------------

namespace {

struct Operand {  // a matrix descriptor, decoded
    uint32_t start, lead, stride, span;
    bool mn_major, bf16;
    Operand(uint64_t d, bool mn, bool bf16)
        : start(uint32_t(d & 0x3FFF) << 4),
          lead(uint32_t(d >> 16 & 0x3FFF) << 4),
          stride(uint32_t(d >> 32 & 0x3FFF) << 4),
          span(16u << ((4 - (d >> 62)) & 3)),
          mn_major(mn),
          bf16(bf16) {
        if (d >> 49 & 7) fail("wgmma: a matrix base offset other than 0 is not emulated");
        if (span > 16 && start % (8 * span) >= span)  // the hardware would need a base offset
            fail("wgmma: the operand's swizzle pattern must start at a multiple of %u bytes", 8 * span);
    }
    // set(r, k, value) for 16 k, r along M or N from `from`. Canonical layouts of the PTX ISA, in bytes, before
    // swizzling:
    //   K-major   ((8,m),(16,2)) : ((span,SBO),(1, 16 or, unswizzled, LBO))
    //   MN-major  ((span,m),(8,2)) : ((1,LBO),(span,SBO)); unswizzled, LBO and SBO change places
    template <class Set>
    void read(uint32_t from, uint32_t rows, Set set) const {
        for (uint32_t u = 0; u < rows * 2; ++u) {  // units of 16 bytes: 8 elements along the major dimension
            const uint32_t r = mn_major ? u / 16 * 8 : u / 2, k = mn_major ? u % 16 : u % 2 * 8, byte = (from + r) * 2;
            const uint32_t next_mn = span == 16 ? stride : lead, next_k = span == 16 ? lead : stride;
            const uint32_t offset =
                mn_major ? byte % span + byte / span * next_mn + k % 8 * span + k / 8 * next_k
                         : (from + r) % 8 * span + (from + r) / 8 * stride + k / 8 * (span == 16 ? lead : 16);
            uint16_t unit[8];
            const uint32_t place = swizzled(start + offset, span);
            {
                Loud loud;
                note_read(shared_pointer(place), 16, nullptr);
            }
            read_unit(unit, place, "wgmma");
            for (uint32_t e = 0; e < 8; ++e) {
                const float x = bf16 ? bf16_value(unit[e]) : fp16_value(unit[e]);
                mn_major ? set(r + e, k, x) : set(r, k + e, x);
            }
        }
    }
};

struct Accumulator {  // one warp's 16 rows, while wgmmas on it are in flight
    float* lanes[32];
    int n, users = 0;
    std::vector<float> d;  // (16, n)
    // Register v of a lane, as an element of d.
    float& at(int lane, int v) {
        return d[std::size_t((lane / 4 + v % 4 / 2 * 8) * n + v / 4 * 8 + lane % 4 * 2 + v % 2)];
    }
};

struct Wgmma {
    std::shared_ptr<Accumulator> acc;
    WgmmaRequest request;
    std::vector<float> a;  // (16, 16), of A in registers
    std::size_t number;    // in its warp's sequence
    bool computed = false;
};

struct Group {  // a warpgroup: what its warps have issued, in order
    struct Entry {
        WgmmaRequest request;
        int warps = 0;
    };
    std::vector<Entry> sequence;
};

struct WarpState {
    bool fenced = false;
    char done = 0;  // its address stands for the shared memory that ended wgmmas have read
    std::size_t issued = 0;
    std::map<float*, std::weak_ptr<Accumulator>> busy;  // by lane 0's registers
    std::vector<Wgmma> open;
    std::vector<std::vector<Wgmma>> groups;
};
std::unordered_map<const void*, WarpState> warps;     // by warp_key()
std::map<std::pair<const void*, int>, Group> groups;  // by block and warpgroup

WarpState& warp_state() { return warps[warp_key()]; }
Group& group_state() { return groups[{block_key(), warp_in_block() / 4}]; }

bool same(const WgmmaRequest& x, const WgmmaRequest& y) {
    auto key = [](const WgmmaRequest& r) {
        return std::make_tuple(r.bf16, r.n, r.trans_a, r.trans_b, r.scale_d, r.a, r.b, r.a_in_registers);
    };
    return key(x) == key(y);
}

void compute(Wgmma& w) {
    const WgmmaRequest& q = w.request;
    const int n = w.acc->n;
    float a[16][16], b[16][256];
    if (q.a_in_registers) std::memcpy(a, w.a.data(), sizeof a);
    else
        Operand(q.a, q.trans_a, q.bf16)
            .read(uint32_t(warp_in_block() % 4 * 16), 16, [&](uint32_t r, uint32_t k, float x) { a[r][k] = x; });
    Operand(q.b, q.trans_b, q.bf16).read(0, uint32_t(n), [&](uint32_t r, uint32_t k, float x) { b[k][r] = x; });
    std::vector<float>& d = w.acc->d;
    if (!q.scale_d) std::fill(d.begin(), d.end(), 0.0f);
    for (int i = 0; i < 16; ++i)
        for (int k = 0; k < 16; ++k)
            for (int j = 0; j < n; ++j) d[std::size_t(i * n + j)] += a[i][k] * b[k][j];
    w.computed = true;
    {
        Loud loud;
        sync_release(&warp_state().done);
    }
    stats.mma_flops += unsigned(2 * 16 * n * 16);
}

void retire(Wgmma& w) {
    if (!w.computed) compute(w);
    if (--w.acc->users) return;  // a later wgmma still owns the registers
    for (int l = 0; l < 32; ++l)
        for (int v = 0; v < w.acc->n / 2; ++v) {
            float& to = w.acc->lanes[l][v];
            if (std::bit_cast<uint32_t>(to) != 0xFFFFFFFFu)
                fail("wgmma: lane %d changed accumulator %d before wgmma_wait_group", l, v);
            to = w.acc->at(l, v);
        }
}

void issue(void* const* lanes, const void*) {
    auto request = [&](int l) -> const WgmmaRequest& { return *static_cast<const WgmmaRequest*>(lanes[l]); };
    const WgmmaRequest& first = request(0);
    WarpState& w = warp_state();
    if (!w.fenced) fail("wgmma without wgmma_fence since the last wgmma_wait_group");
    for (int l = 1; l < 32; ++l)
        if (!same(request(l), first)) fail("wgmma: lanes 0 and %d give different descriptors, shapes or flags", l);
    Group& g = group_state();
    if (w.issued == g.sequence.size()) g.sequence.push_back({first, 0});
    Group::Entry& entry = g.sequence[w.issued];
    if (!same(entry.request, first))
        fail("wgmma: the warps of one warpgroup give different descriptors, shapes or flags (their wgmma number %zu)",
             w.issued);
    if (++entry.warps == 4) wake(&g);

    auto acc = w.busy[first.d].lock();
    if (acc && acc->n != first.n)
        fail("wgmma: n = %d and n = %d on one accumulator without a wait in between", acc->n, first.n);
    if (!acc) {
        acc = std::make_shared<Accumulator>();
        acc->n = first.n;
        acc->d.resize(std::size_t(16 * first.n));
        for (int l = 0; l < 32; ++l) {
            acc->lanes[l] = request(l).d;
            for (int v = 0; v < first.n / 2; ++v) acc->at(l, v) = acc->lanes[l][v];
            std::memset(acc->lanes[l], kPoison, std::size_t(first.n) * 2);  // unreadable until waited for
        }
        w.busy[first.d] = acc;
    }
    ++acc->users;
    Wgmma op{acc, first, {}, w.issued++};
    if (first.a_in_registers) {
        op.a.resize(16 * 16);
        for (int l = 0; l < 32; ++l)
            for (int v = 0; v < 8; ++v) {
                const uint16_t bits = half_of(request(l).a_registers[v / 2], v % 2);
                op.a[std::size_t((l / 4 + v / 2 % 2 * 8) * 16 + l % 4 * 2 + v % 2 + v / 4 * 8)] =
                    first.bf16 ? bf16_value(bits) : fp16_value(bits);
            }
    }
    if (!late()) compute(op);
    w.open.push_back(std::move(op));
}

void commit(void* const*, const void*) {
    WarpState& w = warp_state();
    w.groups.push_back(std::move(w.open));
    w.open.clear();
}

void wait(void* const*, const void* pending) {
    WarpState& w = warp_state();
    const auto done = std::ptrdiff_t(w.groups.size()) - *static_cast<const int*>(pending);
    for (std::ptrdiff_t i = 0; i < done; ++i)
        for (Wgmma& op : w.groups[std::size_t(i)]) retire(op);
    if (done > 0) w.groups.erase(w.groups.begin(), w.groups.begin() + done);
    w.fenced = false;
}

// Instructions of a whole warpgroup: its four warps must exist.
void require_warpgroup(const char* name) {
    const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    if (threads < unsigned(warp_in_block() / 4 + 1) * 128)
        fail("%s: the block's %u threads end inside this warpgroup", name, threads);
}
}  // namespace

void wgmma_fence() {
    require_warpgroup("wgmma_fence");
    collective("wgmma.fence", ~0u, nullptr, [](void* const*, const void*) { warp_state().fenced = true; });
}
void emulated_wgmma(const WgmmaRequest& request) {
    require_warpgroup("wgmma");
    WgmmaRequest mine = request;
    collective("wgmma", ~0u, &mine, issue);
}
void wgmma_commit() { collective("wgmma.commit_group", ~0u, nullptr, commit); }
void emulated_wgmma_wait(int pending) {
    // A product needs all four warps: it cannot have ended before the last of them has issued it.
    auto joined = [&] {
        Quiet quiet;
        WarpState& w = warp_state();
        const Group& g = group_state();
        for (std::ptrdiff_t i = 0; i < std::ptrdiff_t(w.groups.size()) - pending; ++i)
            for (const Wgmma& op : w.groups[std::size_t(i)])
                if (g.sequence[op.number].warps < 4) return false;
        return true;
    };
    while (!joined())
        sleep_on(&group_state(), "wgmma_wait_group, for the other warps of the warpgroup to issue the same wgmma");
    collective("wgmma.wait_group", ~0u, nullptr, wait, &pending);
    sync_acquire(&warp_state().done);
}

void emulated_setmaxnreg(int) {
    require_warpgroup("setmaxnreg");
    collective("setmaxnreg", ~0u, nullptr, [](void* const*, const void*) {});
}

void reset_sm90() {
    mbarriers.clear();
    stores.clear();
    warps.clear();
    groups.clear();
}

void reset_block() {
    reset_sm80();
    reset_sm90();
}

}  // namespace ptx
