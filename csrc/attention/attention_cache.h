// Attention to keys and values that are kept from call to call, while new ones are put after them: what a step of
// generating text does.
//
// Cache: k_cache (batch, key_heads, capacity, d), v_cache (batch, key_heads, capacity, dv), of which sequence b holds
// lengths[b] tokens; k (batch, key_heads, added, d) and v (batch, key_heads, added, dv) are written after them, and q
// (batch, heads, queries, d) attends to all of them, as attention.h defines it with keys = lengths[b] + added. The
// lengths are read from device memory and left as they are. All of dtype `dtype`, any strides in elements, any
// alignment; k and v overlap neither cache. A sequence whose tokens do not fit sets *fault, gives zeros and leaves its
// cache alone.
//
// One launch appends and attends; with more than one split each block has a part of the keys, and a second launch joins
// the parts in order. Sums in float32 (float64 for float64), their order a matter of shapes, lengths and config alone.
#pragma once
#include "attention.h"
#include <algorithm>

// How many parts the keys are taken in.
struct AttentionCacheConfig {
    int splits = 1;

    std::string to_string() const { return "attention_cache(splits=" + std::to_string(splits) + ")"; }
};

constexpr int kAttentionCacheRows = 8;  // query rows a block has: heads that share keys, and their queries
constexpr int kAttentionCacheMaxSplits = 256;

struct AttentionCache {
    // keys: the capacity, k and v the cache; without mask, dropout and packed sequences.
    AttentionProblem problem;
    const void *k, *v;  // to append, or null where `added` is 0
    AttentionStrides k_strides, v_strides;
    int64_t added;
    const int32_t* lengths;  // (batch,)
    void* out;               // (batch, heads, queries, dv)
    AttentionStrides out_strides;
    void* lse;         // (batch, heads, queries), contiguous, of the sums' type
    void* part;        // workspace (splits, batch, heads, queries, dv) of the sums' type, or null for one split
    void* statistics;  // workspace (splits, batch, heads, queries, 2), or null for one split
    int* fault;
};
void attention_with_kvcache(const AttentionCache& arguments, DType dtype, const AttentionCacheConfig& config,
                            cudaStream_t stream);

inline void check(const AttentionCacheConfig& c) {
    if (c.splits < 1 || c.splits > kAttentionCacheMaxSplits)
        throw std::invalid_argument(c.to_string() + ": expected 1 to " + std::to_string(kAttentionCacheMaxSplits) +
                                    " splits");
}

// rows: queries and the heads that share a key head, together.
inline AttentionCacheConfig attention_cache_config(int64_t batch, int64_t key_heads, int64_t rows, int64_t capacity,
                                                   const DeviceProperties& device) {
    // Two blocks an SM keep memory busy; a part of fewer than 128 keys costs more to join than it saves.
    const int64_t chunks = (rows + kAttentionCacheRows - 1) / kAttentionCacheRows;
    const int64_t blocks = std::max<int64_t>(1, batch * key_heads * chunks);
    const int64_t wanted = (2 * int64_t(device.sm_count) + blocks - 1) / blocks;
    return {int(std::clamp<int64_t>(std::min(wanted, capacity / 128), 1, kAttentionCacheMaxSplits))};
}
