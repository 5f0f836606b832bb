// Which launch serves a whole recurrent sequence: a pure function of the problem, printable, tested without a GPU.
//
// The state of every step depends on all of the step before: the blocks of one launch walk the steps together and wait for
// one another after each. A tile is 16 rows of the batch by 32 or 8 columns: the gates of 8 or 2 units of an LSTM, the units
// themselves of a plain network; in backward always the units. Columns are multiplied along `terms`: the state forward,
// the gradients of all gates backward. Blocks are told apart by direction, by group of rows and by group of units:
// only blocks of the same direction and rows exchange anything, so only they wait for one another.
//
// Persistent: a block keeps the weights of all its columns in shared memory from the first step to the last. Streamed: it
// reads them anew in every step, from the L2 where they fit.
#pragma once
#include "../host/device.h"
#include <algorithm>
#include <cstdint>
#include <string>

enum class RnnCell { tanh, relu, lstm, gru };
constexpr int rnn_gates(RnnCell cell) { return cell == RnnCell::lstm ? 4 : cell == RnnCell::gru ? 3 : 1; }

constexpr int kSequenceWarps = 8, kSequenceThreads = 32 * kSequenceWarps;
constexpr int kSequenceRows = 16;                       // of a tile
constexpr int kSequenceWide = 32, kSequenceNarrow = 8;  // its columns
constexpr int kSequenceCounters = 32;                   // words from one group's counter to the next: a line of the L2

// Terms that a warp multiplies at a time, and the distance in elements between the rows of what it multiplies: 16 bytes more,
// so that 8 rows' 16 bytes lie in all 32 banks.
constexpr int sequence_chunk(int itemsize) { return itemsize == 8 ? 16 : 32; }
constexpr int sequence_pitch(int itemsize) { return sequence_chunk(itemsize) + 16 / itemsize; }
// Shared bytes of a warp: rows of the state, then its part of the sums, 8 columns wider so that rows lie in other banks.
constexpr int sequence_warp_bytes(int itemsize, int columns) {
    const int rows = kSequenceRows * sequence_pitch(itemsize) * itemsize;
    const int sums = kSequenceRows * (columns + 8) * (itemsize == 8 ? 8 : 4);
    return rows > sums ? rows : sums;
}

struct RnnSequenceProblem {
    RnnCell cell = RnnCell::tanh;
    bool backward = false;
    int itemsize = 4;
    int64_t batch = 0, hidden = 0;
    int directions = 1;

    int64_t terms() const { return backward ? rnn_gates(cell) * hidden : hidden; }
    int units(int columns) const { return backward ? columns : columns / rnn_gates(cell); }  // of a tile
    int64_t unit_tiles(int columns) const { return (hidden + units(columns) - 1) / units(columns); }
    int64_t row_tiles() const { return (batch + kSequenceRows - 1) / kSequenceRows; }
};

struct RnnSequenceConfig {
    bool persistent = false;
    int columns = kSequenceWide;
    int unit_groups = 1, row_groups = 1;  // of blocks, which take further tiles in turn

    std::string to_string() const {
        return std::string("rnn(") + (persistent ? "persistent" : "streamed") + ", columns=" + std::to_string(columns) +
               ", unit_groups=" + std::to_string(unit_groups) + ", row_groups=" + std::to_string(row_groups) + ")";
    }
};

// A column's weights in shared memory, whole.
inline int64_t sequence_weight_pitch(const RnnSequenceProblem& p) {
    const int64_t chunk = sequence_chunk(p.itemsize);
    return (p.terms() + chunk - 1) / chunk * chunk + 16 / p.itemsize;
}

inline int64_t sequence_shared_bytes(const RnnSequenceProblem& p, const RnnSequenceConfig& c) {
    const int64_t tiles = (p.unit_tiles(c.columns) + c.unit_groups - 1) / c.unit_groups;
    const int64_t weights = c.persistent ? tiles * c.columns * sequence_weight_pitch(p)
                                         : int64_t(kSequenceWarps) * c.columns * sequence_pitch(p.itemsize);
    return kSequenceWarps * sequence_warp_bytes(p.itemsize, c.columns) + weights * p.itemsize;
}

// Empty where the config serves the problem, or why it does not. One block an SM: 256 threads of up to 255 registers and
// the shared memory that is checked here always fit one, so that a grid of no more blocks than SMs is resident.
inline std::string
sequence_refusal(const RnnSequenceProblem& p, const RnnSequenceConfig& c, const DeviceProperties& device, int sms) {
    const auto text = [](int64_t n) { return std::to_string(n); };
    if (c.columns != kSequenceWide && c.columns != kSequenceNarrow)
        return "columns is " + text(c.columns) + ", expected 32 or 8";
    if (c.unit_groups < 1 || c.unit_groups > p.unit_tiles(c.columns))
        return "unit_groups is " + text(c.unit_groups) + ", expected 1 to " + text(p.unit_tiles(c.columns)) +
               ", the tiles";
    if (c.row_groups < 1 || c.row_groups > p.row_tiles())
        return "row_groups is " + text(c.row_groups) + ", expected 1 to " + text(p.row_tiles()) + ", the tiles";
    const int64_t blocks = int64_t(c.unit_groups) * c.row_groups * p.directions;
    if (blocks > sms)
        return text(blocks) + " blocks (unit_groups x row_groups x directions), expected no more than the " +
               text(sms) + " that are resident at once";
    if (sequence_shared_bytes(p, c) > device.shared_per_block)
        return text(sequence_shared_bytes(p, c)) + " bytes of shared memory a block, and " + device.name + " has " +
               text(device.shared_per_block);
    return "";
}

// Clocks that a step takes, for choosing: estimates, to be measured. A multiply-add instruction of a warp holds an SM for a
// clock in four, and its 16-byte reads of shared memory for one; a tensor core's product of 16x8x16 for two.
inline double sequence_step_clocks(const RnnSequenceProblem& p, const RnnSequenceConfig& c) {
    constexpr double kBarrier = 2000, kTile = 600,
                     kBytes = 48;  // clocks, clocks, bytes an SM fetches from the L2 in one
    const int groups = c.columns / 8;
    const double a_term =
        p.itemsize == 2 ? (4 + 2 * groups) / 16.0 : std::max(4 * groups, 4 + groups) * p.itemsize / 16.0;
    const double fetched = p.itemsize * (kSequenceRows + (c.persistent ? 0 : c.columns)) / kBytes;
    const int64_t tiles = ((p.unit_tiles(c.columns) + c.unit_groups - 1) / c.unit_groups) *
                          ((p.row_tiles() + c.row_groups - 1) / c.row_groups);
    return (c.unit_groups > 1 ? kBarrier : 0) + double(tiles) * (kTile + double(p.terms()) * std::max(a_term, fetched));
}

// The config of fewest clocks a step, of those the device serves with `sms` resident blocks; where two need the same, the
// one with fewer blocks.
inline RnnSequenceConfig rnn_sequence_config(const RnnSequenceProblem& p, const DeviceProperties& device, int sms) {
    RnnSequenceConfig best;
    double fewest = -1;
    const int64_t blocks = std::max(1, sms / p.directions);
    for (const bool persistent : {true, false})
        for (const int columns : {kSequenceWide, kSequenceNarrow})
            for (int64_t rows = 1; rows <= std::min(blocks, p.row_tiles()); ++rows) {
                const int64_t units = std::min(blocks / rows, p.unit_tiles(columns));
                const int64_t each = (p.unit_tiles(columns) + units - 1) / units;
                const RnnSequenceConfig c{persistent, columns, int((p.unit_tiles(columns) + each - 1) / each),
                                          int(rows)};
                if (!sequence_refusal(p, c, device, sms).empty()) continue;
                const double clocks = sequence_step_clocks(p, c);
                if (fewest < 0 || clocks < fewest) best = c, fewest = clocks;
            }
    return best;
}
