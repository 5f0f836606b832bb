// Configs of matrix products: their check, their choice, and the launch of the family that a config names.
#include "matmul.h"
#include "matmul_cost.h"
#include "matmul_general_config.h"
#include "matmul_sm80_config.h"
#include "matmul_sm90_config.h"

namespace {

[[noreturn]] void refuse(const MatmulConfig& config, const std::string& why) {
    throw std::invalid_argument("matmul: config " + config.to_string() + " " + why);
}

void check_general(const MatmulConfig& c, const MatmulProblem* problem) {
    const MatmulTileShape* tile = matmul_general_tile(c);
    if (!tile) refuse(c, "has no such tile; the general family has 32x32, 64x64 and 128x128");
    if (c.k_step != kMatmulStep || c.stages != 2 || c.warps_down || c.warps_across || c.split != 1 || c.stream_k || c.cluster != 1)
        refuse(c, "is not the general family's, which has k_step=8, stages=2 and neither warps, split, stream_k nor cluster");
    if (c.fold < kMatmulStep || c.fold % kMatmulStep) refuse(c, "has a fold that is no positive multiple of 8");
    if (problem && tile == &kMatmulTiles[int(MatmulTile::large)] && !matmul_general_has_large(problem->dtype))
        refuse(c, "has the 128x128 tile, which float32, float16 and bfloat16 alone have");
}

void check_sm80(const MatmulConfig& c, const MatmulProblem* problem) {
    const MatmulSm80Tile* tile = matmul_sm80_tile(c.rows, c.columns);
    if (!tile) refuse(c, "has no such tile; the sm80 family has 128x256, 128x128, 128x64, 64x64, 16x128 and 128x16");
    if (c.k_step != kMatmulSm80Step || c.warps_down || c.warps_across || c.cluster != 1)
        refuse(c, "is not the sm80 family's, which has k_step=32 and neither warps nor cluster");
    if (c.stages < 2 || c.stages > kMatmulSm80MaxStages) refuse(c, "has stages outside of 2 to 6");
    if (c.fold < kMatmulSm80Step || c.fold % kMatmulSm80Step) refuse(c, "has a fold that is no positive multiple of 32");
    if (c.split > 1 && c.stream_k) refuse(c, "has both a split and stream_k");
    if (c.stream_k && c.max_blocks == std::numeric_limits<int>::max()) refuse(c, "has stream_k without max_blocks");
    if (!problem) return;
    if (!matmul_sm80_has(problem->dtype)) refuse(c, "is of the sm80 family, which has float32, float16 and bfloat16");
    if (!(problem->dtype == DType::float32 ? tile->for_float32 : tile->for_16_bit))
        refuse(c, "has a tile that float32, or 16-bit types, do not have: 128x128 and 128x256 are theirs, 128x64 is float32's");
    if (!matmul_sm80_serves(c, *problem)) refuse(c, "has more tiles or parts than 2^31 - 1");
}

void check_sm90(const MatmulConfig& c, const MatmulProblem* problem) {
    if (!matmul_sm90_tile(c.rows, c.columns))
        refuse(c, "has no such tile; the sm90 family has 128x256, 128x192, 128x128, 128x64, 64x256, 64x128 and 64x64");
    if (c.k_step != kMatmulSm90Step || c.warps_down || c.warps_across || c.fold)
        refuse(c, "is not the sm90 family's, which has k_step=64 and neither warps nor fold");
    if (c.stages < kMatmulSm90MinStages || c.stages > kMatmulSm90MaxStages) refuse(c, "has stages outside of 3 to 8");
    if (c.cluster != 1 && c.cluster != 2) refuse(c, "has a cluster of neither 1 nor 2");
    if (c.split > 1 && c.stream_k) refuse(c, "has both a split and stream_k");
    if (c.stream_k && c.max_blocks == std::numeric_limits<int>::max()) refuse(c, "has stream_k without max_blocks");
    if (!problem) return;
    if (!matmul_sm90_has(problem->dtype)) refuse(c, "is of the sm90 family, which has float16 and bfloat16");
    if (!matmul_sm90_can(*problem, c)) refuse(c, "is of the sm90 family, which counts in 32 bits");
}

void check(const MatmulConfig& c, const MatmulProblem* problem) {
    if (c.max_blocks < 1) refuse(c, "has max_blocks below 1");
    if (c.split < 1) refuse(c, "has a split below 1");
    switch (c.family) {
        case MatmulFamily::general: return check_general(c, problem);
        case MatmulFamily::sm80: return check_sm80(c, problem);
        case MatmulFamily::sm90: return check_sm90(c, problem);
        default: refuse(c, "is of a family that this build has no kernels of");
    }
}

}  // namespace

MatmulConfig matmul_complete(MatmulConfig c) {
    if (c.family == MatmulFamily::general) {
        if (!c.k_step) c.k_step = kMatmulStep;
        if (!c.stages) c.stages = 2;
        if (!c.fold) c.fold = kMatmulFold;
    } else if (c.family == MatmulFamily::sm80) {
        if (!c.k_step) c.k_step = kMatmulSm80Step;
        if (!c.stages) c.stages = 3;
        if (!c.fold) c.fold = kMatmulSm80Step;
    } else if (c.family == MatmulFamily::sm90 && matmul_sm90_tile(c.rows, c.columns)) {
        if (!c.k_step) c.k_step = kMatmulSm90Step;
        if (!c.stages) c.stages = matmul_sm90_stages(c.rows, c.columns);
    }
    check(c, nullptr);
    return c;
}

void matmul_check(const MatmulConfig& config, const MatmulProblem& problem, const DeviceProperties& device) {
    check(config, &problem);
    if (config.family == MatmulFamily::sm80 && device.major < 8) refuse(config, "needs a GPU of compute capability 8.0 or later");
    if (config.family == MatmulFamily::sm90 && !device.has_sm90a()) refuse(config, "needs a Hopper GPU");
    const int bytes = matmul_shared_bytes(config, problem);
    if (bytes > device.shared_per_block)
        refuse(config, "needs " + std::to_string(bytes) + " bytes of shared memory, a block has " +
                           std::to_string(device.shared_per_block));
}

int matmul_shared_bytes(const MatmulConfig& config, const MatmulProblem& problem) {
    switch (config.family) {
        case MatmulFamily::general:
            return matmul_general_shared_bytes(*matmul_general_tile(config), matmul_general_accumulator_bytes(problem.dtype));
        case MatmulFamily::sm80: return matmul_sm80_shared_bytes(config, problem.dtype);
        case MatmulFamily::sm90: return matmul_sm90_shared_bytes(config);
        default: refuse(config, "is of a family that this build has no kernels of");
    }
}

int64_t matmul_workspace_bytes(const MatmulConfig& config, const MatmulProblem& problem) {
    switch (config.family) {
        case MatmulFamily::general: return 0;
        case MatmulFamily::sm80: return matmul_sm80_workspace_bytes(config, problem);
        case MatmulFamily::sm90: return matmul_sm90_workspace_bytes(config, problem);
    }
    return 0;
}

MatmulConfig matmul_config(const MatmulProblem& problem, const DeviceProperties& device) {
    return matmul_cheapest(problem, device);
}

void matmul(const MatmulArguments& arguments, DType dtype, const MatmulConfig& config, cudaStream_t stream) {
    switch (config.family) {
        case MatmulFamily::general: return matmul_general(arguments, dtype, config, stream);
        case MatmulFamily::sm80:
            return dtype == DType::float32   ? matmul_sm80_fp32(arguments, config, stream)
                   : dtype == DType::float16 ? matmul_sm80_fp16(arguments, config, stream)
                                             : matmul_sm80_bf16(arguments, config, stream);
        case MatmulFamily::sm90:
            return dtype == DType::float16 ? matmul_sm90_fp16(arguments, config, stream)
                                           : matmul_sm90_bf16(arguments, config, stream);
        default: refuse(config, "is of a family that this build has no kernels of");
    }
}
