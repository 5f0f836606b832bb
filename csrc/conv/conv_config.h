// Which launch serves which convolution: a pure function of the problem and the device, printable, tested without a GPU.
#pragma once
#include "../host/device.h"
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

enum class ConvDirection { forward, input_grad, weight_grad };

// The matrix product that a direction comes to, for one group (and one phase of the input's gradient).
struct ConvProblem {
    ConvDirection direction = ConvDirection::forward;
    int64_t rows = 0, columns = 0, terms = 0;  // of the result; of each sum
    int64_t products = 1;                      // groups, times phases
};

// Sides of the square tile of results that a block computes, with one thread for 16 or 32 of them.
//
// Registers a thread, by ptxas 13.0 (float32, 16-bit, float64), and no local memory:
//                       sm_80           sm_90a          sm_120
//   gather, 32         140, 142, 198   145, 143, 202   153, 153, 184
//   gather, 64         172, 172, 218   177, 177, 218   177, 179, 222
//   weight_grad, 32    134, 134, 192   133, 133, 192   161, 161, 194
//   weight_grad, 64    168, 166, 214   167, 167, 210   191, 191, 234
constexpr int kConvSmall = 32, kConvMedium = 64;

struct ConvConfig {
    int tile = kConvMedium;
    // Terms after which a running sum is added to its total, a multiple of 8: as matmul's.
    int fold = 16;
    int splits = 1;  // of the weight gradient's sums over pixels, added in order by a second pass
    int max_blocks = std::numeric_limits<int>::max();  // blocks take further tiles in turn

    std::string to_string() const {
        const std::string side = std::to_string(tile);
        return "conv(tile=" + side + "x" + side + ", fold=" + std::to_string(fold) +
               ", splits=" + std::to_string(splits) + ")";
    }
};

inline ConvConfig conv_config(const ConvProblem& p, const DeviceProperties& device) {
    ConvConfig best;
    double best_time = 0;
    // Time ~ waves of blocks x work of one block / how near that tile comes to the peak, as matmul's estimate.
    const std::pair<int, double> candidates[] = {{kConvMedium, 0.7}, {kConvSmall, 0.5}};
    for (auto [side, efficiency] : candidates) {
        const double tiles =
            double(p.products) * double((p.rows + side - 1) / side) * double((p.columns + side - 1) / side);
        ConvConfig c;
        c.tile = side;
        double terms = double(std::max<int64_t>(p.terms, 1));
        if (p.direction == ConvDirection::weight_grad) {
            // Few results and long sums: enough parts for two blocks an SM, none shorter than 256 terms.
            const double wanted = 2.0 * device.sm_count / std::max(tiles, 1.0);
            c.splits = int(std::clamp<double>(std::min(wanted, terms / 256), 1, 256));
            terms /= c.splits;
        }
        const double waves = std::max(1.0, std::ceil(tiles * c.splits / device.sm_count));
        const double time = waves * side * side * terms / efficiency;
        if (best_time == 0 || time < best_time) best_time = time, best = c;
    }
    return best;
}
