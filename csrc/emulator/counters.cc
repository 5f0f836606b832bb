// Counts what kernels do to memory, warp by warp. Kernels are compiled with -fsanitize=thread, which makes the
// compiler report every load and store; this file stands in for the ThreadSanitizer runtime.
#include "counters.h"
#include "emulator.h"
#include "hooks.h"
#include <algorithm>
#include <array>
#include <map>
#include <unordered_map>

extern "C" char __start_emu_vars[], __stop_emu_vars[];

namespace emu {
namespace {

// One instruction as a warp executes it: the n-th time each lane comes to the same place in the code.
struct Request {
    std::array<std::uint64_t, 32> address;
    unsigned lanes = 0, bytes = 0;
};
struct SiteKey {
    const void* site;
    bool write;
    bool operator==(const SiteKey&) const = default;
};
struct Hash {
    std::size_t operator()(const SiteKey& k) const { return std::hash<const void*>()(k.site) * 2 + k.write; }
};
struct Log {  // of one site, in one block
    std::vector<std::vector<Request>> warps;
    std::vector<unsigned> visits;  // by thread
};
std::unordered_map<SiteKey, Log, Hash> logs;
std::map<std::pair<const void*, bool>, SiteCount> totals;

unsigned distinct(const Request& r, unsigned unit) {  // aligned units of that many bytes the request touches
    std::uint64_t u[32 * 8];
    unsigned n = 0;
    for (int i = 0; i < 32; ++i)
        if (r.lanes >> i & 1)
            for (std::uint64_t a = r.address[std::size_t(i)] / unit;
                 a <= (r.address[std::size_t(i)] + r.bytes - 1) / unit; ++a)
                u[n++] = a;
    std::sort(u, u + n);
    return unsigned(std::unique(u, u + n) - u);
}
struct Passes { unsigned wavefronts = 0, conflicts = 0; };
// Shared memory serves one 4-byte word of each of 32 banks in a wavefront, to all lanes that ask for it, and returns at
// most 128 bytes: 8- and 16-byte accesses go in phases, by half and quarter warps (CUDA C++ Programming Guide, Compute
// Capability 5.x and later, Shared Memory). A phase takes a wavefront even where its lanes ask for one word; what it
// takes beyond that are bank conflicts. Two phases that ask for few words can share a wavefront on some devices; that
// is not counted on.
Passes passes(const Request& r) {
    const unsigned phase = r.bytes <= 4 ? 32 : 128 / r.bytes;
    Passes total;
    for (unsigned first = 0; first < 32; first += phase) {
        std::vector<std::uint64_t> bank[32];
        unsigned worst = 0;
        for (unsigned i = first; i < first + phase; ++i) {
            if (!(r.lanes >> i & 1)) continue;
            for (std::uint64_t w = r.address[i] / 4; w <= (r.address[i] + r.bytes - 1) / 4; ++w) {
                auto& b = bank[w % 32];
                if (std::find(b.begin(), b.end(), w) == b.end()) b.push_back(w);
                worst = std::max(worst, unsigned(b.size()));
            }
        }
        total.wavefronts += worst;
        total.conflicts += worst ? worst - 1 : 0;
    }
    return total;
}

void access(const void* p, std::size_t bytes, bool write, const void* site) {
    auto a = reinterpret_cast<std::uint64_t>(p);
    if (!site || !bytes || bytes > 16) return;
    if (p >= static_cast<void*>(__start_emu_vars) && p < static_cast<void*>(__stop_emu_vars))
        return;                     // threadIdx and its like
    if (on_fiber_stack(p)) return;  // host code, or registers and local memory
    if (bytes & (bytes - 1)) {      // a struct of three words: no instruction takes them at once
        const std::size_t piece = bytes % 4 == 0 ? 4 : 1;
        for (std::size_t i = 0; i < bytes; i += piece) access(static_cast<const char*>(p) + i, piece, write, site);
        return;
    }
    std::size_t thread = thread_number();
    Log& log = logs[{site, write}];
    if (log.visits.size() <= thread) {
        log.visits.resize(thread + 1);
        log.warps.resize(thread / 32 + 1);
    }
    unsigned n = log.visits[thread]++;
    auto& requests = log.warps[thread / 32];
    if (requests.size() <= n) requests.resize(n + 1);
    Request& r = requests[n];
    r.address[thread % 32] = a;
    r.lanes |= 1u << thread % 32;
    r.bytes = unsigned(bytes);
}
}  // namespace

void note_read(const void* p, std::size_t bytes, const void* site) { access(p, bytes, false, site); }
void note_write(const void* p, std::size_t bytes, const void* site) { access(p, bytes, true, site); }

void count_block_end() {
    for (auto& [key, log] : logs)
        for (auto& requests : log.warps)
            for (auto& r : requests) {
                if (!r.lanes) continue;
                SiteCount& s = totals[{key.site, key.write}];
                s.site = key.site, s.write = key.write, s.access_bytes = r.bytes;
                s.shared =
                    in_shared_memory(reinterpret_cast<const void*>(r.address[std::size_t(__builtin_ctz(r.lanes))]));
                ++s.requests;
                s.bytes += std::uint64_t(__builtin_popcount(r.lanes)) * r.bytes;
                s.sectors += s.shared ? 0 : distinct(r, 32);
                const Passes p = s.shared ? passes(r) : Passes{};
                s.wavefronts += p.wavefronts;
                s.conflicts += p.conflicts;
                s.ideal +=
                    s.shared ? (distinct(r, 4) + 31) / 32 : (std::uint64_t(distinct(r, r.bytes)) * r.bytes + 31) / 32;
            }
    logs.clear();
}

std::vector<SiteCount> take_counts() {
    std::vector<SiteCount> v;
    for (auto& [k, s] : totals) v.push_back(s);
    totals.clear();
    return v;
}

}  // namespace emu

#define HERE __builtin_return_address(0)
extern "C" {
#define SIZED(n) \
    void __tsan_read##n(void* p) { emu::access(p, n, false, HERE); } \
    void __tsan_write##n(void* p) { emu::access(p, n, true, HERE); } \
    void __tsan_unaligned_read##n(void* p) { emu::access(p, n, false, HERE); } \
    void __tsan_unaligned_write##n(void* p) { emu::access(p, n, true, HERE); }
SIZED(1) SIZED(2) SIZED(4) SIZED(8) SIZED(16) void __tsan_read_range(void* p, unsigned long n) {
    emu::access(p, n, false, HERE);
}
void __tsan_write_range(void* p, unsigned long n) { emu::access(p, n, true, HERE); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_atomic_signal_fence(int) {}  // what __threadfence() is: no access
void __tsan_atomic_thread_fence(int) {}
}
