// Configs of matrix products: their check, their choice, and the launch of the family that a config names.
#include "matmul.h"
#include "matmul_cost.h"
#include "matmul_general_config.h"

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

void check(const MatmulConfig& c, const MatmulProblem* problem) {
    if (c.max_blocks < 1) refuse(c, "has max_blocks below 1");
    switch (c.family) {
        case MatmulFamily::general: return check_general(c, problem);
        default: refuse(c, "is of a family that this build has no kernels of");
    }
}

}  // namespace

MatmulConfig matmul_complete(MatmulConfig c) {
    if (c.family == MatmulFamily::general) {
        if (!c.k_step) c.k_step = kMatmulStep;
        if (!c.stages) c.stages = 2;
        if (!c.fold) c.fold = kMatmulFold;
    }
    check(c, nullptr);
    return c;
}

void matmul_check(const MatmulConfig& config, const MatmulProblem& problem, const DeviceProperties& device) {
    check(config, &problem);
    const int bytes = matmul_shared_bytes(config, problem);
    if (bytes > device.shared_per_block)
        refuse(config, "needs " + std::to_string(bytes) + " bytes of shared memory, a block has " +
                           std::to_string(device.shared_per_block));
}

int matmul_shared_bytes(const MatmulConfig& config, const MatmulProblem& problem) {
    switch (config.family) {
        case MatmulFamily::general:
            return matmul_general_shared_bytes(*matmul_general_tile(config), matmul_general_accumulator_bytes(problem.dtype));
        default: refuse(config, "is of a family that this build has no kernels of");
    }
}

int64_t matmul_workspace_bytes(const MatmulConfig&, const MatmulProblem&) { return 0; }

MatmulConfig matmul_config(const MatmulProblem& problem, const DeviceProperties& device) {
    return matmul_cheapest(problem, device);
}

void matmul(const MatmulArguments& arguments, DType dtype, const MatmulConfig& config, cudaStream_t stream) {
    switch (config.family) {
        case MatmulFamily::general: return matmul_general(arguments, dtype, config, stream);
        default: refuse(config, "is of a family that this build has no kernels of");
    }
}
