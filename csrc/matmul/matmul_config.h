// Which kernel serves which matrix product: pure functions of the problem and the device, printable, tested without a GPU.
//
// Every family of kernels has a file matmul_<family>_config.h with its tiles, its limits and what it costs. Here they
// meet: the config that any of them obeys, the one check of a config against a problem, and the choice.
#pragma once
#include "../host/device.h"
#include "../host/dtype.h"
#include <cstdint>
#include <limits>
#include <string>

// general: ordinary multiply-adds, every dtype and layout.
// sm80: mma.sync fed by cp.async and ldmatrix: 16-bit types and float32, on Ampere and all that came after.
// sm90: wgmma fed by TMA: 16-bit types, on Hopper alone.
enum class MatmulFamily { general, sm80, sm90 };
constexpr const char* kMatmulFamilies[] = {"general", "sm80", "sm90"};

// How an operand lies in memory. Its outer dimension is the one that is not k: the rows of a, the columns of b.
enum class MatmulMajor { k, outer, none };                 // the dimension whose elements are neighbours
struct MatmulOperand {
    MatmulMajor major = MatmulMajor::k;
    int alignment = 16;                  // bytes, a power of two up to 16 that divides the address and every other stride
};

struct MatmulProblem {
    int64_t batch = 1, m = 0, n = 0, k = 0;
    DType dtype = DType::float32, out_dtype = DType::float32;
    MatmulOperand a, b;
    bool tf32 = false;                   // float32 operands may be rounded to TF32
    bool row_sums = false;               // the sums of a's rows are asked for too
};

struct MatmulConfig {
    MatmulFamily family = MatmulFamily::general;
    int rows = 0, columns = 0, k_step = 0;                 // a block's tile, and what of k it takes at once
    int stages = 0;                      // of shared memory, each a k_step of both operands
    int warps_down = 0, warps_across = 0;                  // that share the tile
    int split = 1;                       // parts of k, summed in order by a second pass
    bool stream_k = false;               // max_blocks blocks share all steps of all tiles evenly instead
    int cluster = 1;                     // blocks that share operands by multicast
    // Terms after which a running sum is added to its total, a multiple of k_step; 0: never.
    int fold = 0;
    int max_blocks = std::numeric_limits<int>::max();      // blocks take further tiles in turn

    std::string to_string() const {
        std::string s = std::string("matmul(") + kMatmulFamilies[int(family)] + " " + std::to_string(rows) + "x" +
                        std::to_string(columns) + "x" + std::to_string(k_step);
        const auto add = [&](const char* name, int value) { s += std::string(", ") + name + "=" + std::to_string(value); };
        if (stages) add("stages", stages);
        if (warps_down) s += ", warps=" + std::to_string(warps_down) + "x" + std::to_string(warps_across);
        if (split != 1) add("split", split);
        if (stream_k) s += ", stream_k";
        if (cluster != 1) add("cluster", cluster);
        if (fold) add("fold", fold);
        if (max_blocks != std::numeric_limits<int>::max()) add("max_blocks", max_blocks);
        return s + ")";
    }
};

constexpr int matmul_item_bytes(DType dtype) {
    return dtype == DType::float16 || dtype == DType::bfloat16 ? 2 : dtype == DType::uint8 ? 1
           : dtype == DType::float32 || dtype == DType::int32 ? 4 : 8;
}

// Layout of an operand with these strides in elements; `batch_strides` are those of batch dimensions longer than one.
inline MatmulOperand matmul_operand(uintptr_t address, int64_t outer, int64_t k, int64_t outer_stride, int64_t k_stride,
                                    const int64_t* batch_strides, int batch_rank, int item_bytes) {
    // A dimension of size one has no neighbours, whatever its stride says.
    const bool k_unit = k_stride == 1 || k <= 1, outer_unit = outer_stride == 1 || outer <= 1;
    MatmulOperand o;
    o.major = outer_unit && (!k_unit || (k <= 1 && outer > 1)) ? MatmulMajor::outer : k_unit ? MatmulMajor::k : MatmulMajor::none;
    o.alignment = item_bytes;
    if (o.major == MatmulMajor::none) return o;
    const int64_t rows = o.major == MatmulMajor::k ? outer : k, stride = o.major == MatmulMajor::k ? outer_stride : k_stride;
    uintptr_t bits = address | 16;
    if (rows > 1) bits |= uintptr_t(stride * item_bytes);
    for (int d = 0; d < batch_rank; ++d) bits |= uintptr_t(batch_strides[d] * item_bytes);
    o.alignment = int(bits & -bits);
    return o;
}

// The tile that rows and columns name in full, by its family; std::invalid_argument where there is none.
MatmulConfig matmul_complete(MatmulConfig config);

// std::invalid_argument where the config cannot serve the problem on the device.
void matmul_check(const MatmulConfig& config, const MatmulProblem& problem, const DeviceProperties& device);

// Bytes of shared memory a block takes.
int matmul_shared_bytes(const MatmulConfig& config, const MatmulProblem& problem);

// Bytes of workspace, uninitialised and 256-byte aligned, that a launch needs: partial sums of a split k.
int64_t matmul_workspace_bytes(const MatmulConfig& config, const MatmulProblem& problem);

MatmulConfig matmul_config(const MatmulProblem& problem, const DeviceProperties& device);
