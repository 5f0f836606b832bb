// Which launch serves which column sum: a pure function of the problem, printable, tested without a GPU.
#pragma once
#include "../host/device.h"
#include <algorithm>
#include <cstdint>
#include <string>

constexpr int kColumnsAcross = 32, kColumnsAlong = 8;

struct ColumnSumConfig {
    int splits = 1;                // groups of rows summed apart, then added in order by a second pass
    int columns = kColumnsAcross;  // columns a block; 8 where the rows, not the columns, are neighbours in memory

    std::string to_string() const {
        return "column_sum(splits=" + std::to_string(splits) + ", columns=" + std::to_string(columns) + ")";
    }
};

inline ColumnSumConfig
column_sum_config(int64_t rows, int64_t cols, bool rows_contiguous, const DeviceProperties& device) {
    constexpr int64_t kRowsWorthABlock = 256;
    const int64_t columns = rows_contiguous ? kColumnsAlong : kColumnsAcross;
    const int64_t column_blocks = std::max<int64_t>(1, (cols + columns - 1) / columns);
    const int64_t wanted = (4 * device.sm_count + column_blocks - 1) / column_blocks;  // four blocks an SM hide latency
    return {int(std::clamp<int64_t>(std::min(wanted, rows / kRowsWorthABlock), 1, 1024)), int(columns)};
}
