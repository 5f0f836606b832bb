// How many blocks augment a batch: a pure function of the problem.
#pragma once
#include "../host/device.h"
#include <algorithm>
#include <cstdint>
#include <string>

constexpr int kAugmentThreads = 256;

struct AugmentConfig {
    int parts = 1;   // blocks that share an image's pixels; each sums the whole image where contrast needs its mean
    int blocks = 1;  // at most; they stride over the parts of all images

    unsigned grid(int64_t images) const { return unsigned(std::clamp<int64_t>(images * parts, 1, blocks)); }
    std::string to_string() const {
        return "augment(parts=" + std::to_string(parts) + ", blocks=" + std::to_string(blocks) + ")";
    }
};

// `elements`: of one image of the result.
inline AugmentConfig augment_config(int64_t images, int64_t elements, const DeviceProperties& device) {
    constexpr int64_t kElementsWorthABlock = 8 * kAugmentThreads;
    const int64_t wanted = (8 * device.sm_count + images - 1) / std::max<int64_t>(1, images);
    const int64_t parts = std::clamp<int64_t>(std::min(wanted, elements / kElementsWorthABlock), 1, 1024);
    return {int(parts), int(std::clamp<int64_t>(images * parts, 1, int64_t(device.sm_count) * 32))};
}
