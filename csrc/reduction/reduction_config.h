// Which launch serves which column sum: a pure function of the problem, printable, tested without a GPU.
#pragma once
#include "../host/device.h"
#include <algorithm>
#include <cstdint>
#include <string>

struct ColumnSumConfig {
    int splits = 1;                      // groups of rows summed apart, then added in order by a second pass

    std::string to_string() const { return "column_sum(splits=" + std::to_string(splits) + ")"; }
};

inline ColumnSumConfig column_sum_config(int64_t rows, int64_t cols, const DeviceProperties& device) {
    constexpr int64_t kColumnsPerBlock = 32, kRowsWorthABlock = 256;
    int64_t column_blocks = std::max<int64_t>(1, (cols + kColumnsPerBlock - 1) / kColumnsPerBlock);
    int64_t wanted = (4 * device.sm_count + column_blocks - 1) / column_blocks;      // four blocks an SM hide latency
    return {int(std::clamp<int64_t>(std::min(wanted, rows / kRowsWorthABlock), 1, 1024))};
}
