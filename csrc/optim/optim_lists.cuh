// Many arrays in one launch: how they reach the kernel, and how a block finds the array its chunk belongs to.
#pragma once
#include "../device/convert.cuh"
#include "../device/vector.cuh"
#include "optim.h"

constexpr int kOptimThreads = 256;
constexpr int kOptimOptions = 192;  // bytes of a kernel's parameters that are not the list

// Runs of `size` elements, kPointers of them to an entry. The list is as long as 4 KB of parameters allow.
template <int kPointers>
struct OptimList {
    struct Entry {
        void* pointers[kPointers];
        int64_t size;
        union {
            float* array;   // how many steps there were, in device memory; or
            double number;  // the number itself, or whatever else an entry has of its own
        } step;
    };
    static constexpr int kMost = (4096 - kOptimOptions) / int(sizeof(Entry) + sizeof(unsigned));
    Entry entries[kMost];
    unsigned first_block[kMost];  // ascending; the blocks of entry i start here
    int count;

    // The last entry whose first block is at or before this one. Entries have at least one block each.
    __device__ __forceinline__ int find(unsigned block) const {
        int low = 0, high = count - 1;
        while (low < high) {
            const int middle = (low + high + 1) / 2;
            if (first_block[middle] <= block) low = middle;
            else high = middle - 1;
        }
        return low;
    }
};

__device__ __forceinline__ bool aligned16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// Calls launch(list, blocks) for as many lists as the arrays need. An array without elements has a block only if it
// has a step to count.
template <int kPointers, class Launch>
void for_each_list(const std::vector<OptimArray>& arrays, int chunk, Launch&& launch) {
    constexpr int64_t kMaxBlocks = 1ll << 30;
    OptimList<kPointers> list;
    int64_t blocks = 0;
    list.count = 0;
    auto flush = [&] {
        if (list.count) launch(list, unsigned(blocks));
        list.count = 0, blocks = 0;
    };
    for (const OptimArray& array : arrays) {
        if (array.size == 0 && !array.step_array) continue;
        const int64_t mine = std::max<int64_t>((array.size + chunk - 1) / chunk, 1);
        if (list.count == OptimList<kPointers>::kMost || blocks + mine > kMaxBlocks) flush();
        auto& entry = list.entries[list.count];
        for (int i = 0; i < kPointers; ++i) entry.pointers[i] = array.pointers[i];
        entry.size = array.size;
        if (array.step_array) entry.step.array = array.step_array;
        else entry.step.number = array.step;
        list.first_block[list.count++] = unsigned(blocks);
        blocks += mine;
    }
    flush();
}
