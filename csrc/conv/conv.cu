// Configs of convolutions: their check, their choice, and the launch of the family that a config names.
#include "conv.h"
#include "conv_few_channels.h"
#include "conv_gather.cuh"
#include <stdexcept>

namespace {

// The matrix product that a direction comes to, for one group (and one phase of the input's gradient).
struct Product {
    double rows, columns, terms;  // of the result; of each sum
    double products;              // groups, times phases
};

Product product(const ConvProblem& p) {
    const ConvShape& s = p.shape;
    const double places = double(s.rows.window) * s.columns.window;
    const double channels = double(s.channels) / double(s.groups), filters = double(s.filters) / double(s.groups);
    const double pixels = double(s.batch) * s.rows.out * s.columns.out;
    if (p.direction == ConvDirection::forward) return {pixels, filters, places * channels, double(s.groups)};
    if (p.direction == ConvDirection::weight_grad) return {filters, places * channels, pixels, double(s.groups)};
    const double phases = double(std::min(s.rows.stride, std::max(s.rows.image, 1))) *
                          std::min(s.columns.stride, std::max(s.columns.image, 1));
    return {std::ceil(double(s.batch) * s.rows.image * s.columns.image / phases), channels,
            std::ceil(places / phases) * filters, double(s.groups) * phases};
}

// What an SM needs for a step of one block's tile, and how many blocks it holds.
struct Loop {
    double step, step_clocks;  // terms; clocks when nothing is in their way
    double in_flight;          // steps fetched ahead
    int resident;
};

// What the copies of both operands take of an SM's instructions: some twelve a piece, of 16 bytes unless the neighbours
// in memory, the channels or filters of a group, are fewer; 32 pieces an instruction, four instructions a clock.
double copy_clocks(const ConvConfig& c, const ConvProblem& p, int step) {
    const ConvShape& s = p.shape;
    const int64_t neighbours =
        (p.direction == ConvDirection::input_grad ? s.filters : s.channels) / std::max<int64_t>(s.groups, 1);
    const int64_t bits = neighbours * conv_item_bytes(p.dtype) | 16;
    return double(c.rows + c.columns) * step * conv_item_bytes(p.dtype) / double(bits & -bits) * 12 / (32 * 4);
}

Loop loop(const ConvConfig& c, const ConvProblem& p, const DeviceProperties& device) {
    const double products = 2.0 * c.rows * c.columns;
    if (c.family == ConvFamily::general) {
        // As matmul's: how near the loop comes to the peak, by its ratio of products to loads from shared memory.
        const double efficiency = c.rows == kConvMedium ? 0.7 : 0.5;
        const double flops =
            p.dtype == DType::float64 ? device.float64_flops_per_clock() : device.float32_flops_per_clock();
        return {8, products * 8 / (flops * efficiency), 1, 2};
    }
    if (c.family == ConvFamily::sm90) {
        const double efficiency = matmul_sm90_efficiency(*matmul_sm90_tile(c.rows, c.columns));
        const double clocks = products * kMatmulSm90Step / (device.tensor_flops_per_clock() * efficiency);
        return {double(kMatmulSm90Step), std::max(clocks, copy_clocks(c, p, kMatmulSm90Step)),
                double(std::min(c.stages - 2, 4)), 1};
    }
    const ConvSm80Tile& t = *conv_sm80_tile(c.rows, c.columns, p.dtype);
    // mma.sync reaches 62 to 65 % of Hopper's peak (seen on a PCIe part); elsewhere it is what the peak was stated for.
    const double flops = device.tensor_flops_per_clock() * t.efficiency * (device.major == 9 ? 0.7 : 1) /
                         (p.dtype == DType::float32 ? 6 : 1);
    const int bytes = mma_shared_bytes(c.rows, c.columns, c.stages, conv_item_bytes(p.dtype));
    const int threads = t.warps_down * t.warps_across * 32;
    const int resident = std::min(device.shared_per_sm / (bytes + 1024), device.registers_per_sm / (threads * 224));
    return {double(kMmaStep), std::max(products * kMmaStep / flops, copy_clocks(c, p, kMmaStep)), double(c.stages - 1),
            std::max(resident, 1)};
}

// Clocks of a launch, and the parts of its sums that make them fewest: an estimate.
double estimate(ConvConfig& c, const ConvProblem& p, const DeviceProperties& device) {
    constexpr double kLatency = 600;  // clocks from a load's issue to its data; also of a tile's beginning and end
    const Product m = product(p);
    const Loop l = loop(c, p, device);
    const double tiles = m.products * std::ceil(m.rows / c.rows) * std::ceil(m.columns / c.columns);
    const double terms = std::max(m.terms, 1.0);
    if (p.direction == ConvDirection::weight_grad) {
        // Few results and long sums: enough parts for all blocks that the SMs hold, none shorter than 256 terms.
        const double wanted = double(l.resident) * device.sm_count / std::max(tiles, 1.0);
        double parts = std::clamp<double>(std::floor(std::min(wanted, terms / 256)), 1, 256);
        if (c.family != ConvFamily::general && conv_is_16_bit(p.dtype))
            parts = std::max(parts, std::min(std::ceil(terms / kConvSm80Terms), 65535.0));
        c.splits = int(parts);
    }
    const double steps = std::ceil(terms / c.splits / l.step);
    const auto wave = [&](double side) {
        return steps * std::max(side * l.step_clocks, kLatency / l.in_flight) + kLatency;
    };
    const double jobs = tiles * c.splits, at_once = double(l.resident) * device.sm_count;
    const double full = std::floor(jobs / at_once), rest = jobs - full * at_once;
    return full * wave(l.resident) + (rest > 0 ? wave(std::ceil(rest / device.sm_count)) : 0);
}

GatherArguments gather_arguments(void* out, const void* source, const void* weight, const ConvEpilogue& epilogue,
                                 const ConvShape& shape) {
    GatherArguments x{};
    x.out = out, x.preactivation = epilogue.preactivation, x.source = source, x.weight = weight;
    x.bias = epilogue.bias, x.residual = epilogue.residual, x.activation = epilogue.activation;
    x.moments = epilogue.moments;
    x.batch = shape.batch, x.groups = shape.groups;
    return x;
}

int gcd(int a, int b) { return b ? gcd(b, a % b) : a; }

void gather(const GatherArguments& x, DType dtype, const ConvConfig& config, cudaStream_t stream) {
    if (config.family == ConvFamily::general) return conv_general_gather(x, dtype, config, stream);
    if (config.family == ConvFamily::depthwise) return conv_depthwise_gather(x, dtype, config, stream);
    if (config.family == ConvFamily::sm90)
        return dtype == DType::float16 ? conv_sm90_gather_fp16(x, config, stream)
                                       : conv_sm90_gather_bf16(x, config, stream);
    if (config.family == ConvFamily::few_channels) return conv_few_channels_gather(x, dtype, config, stream);
    if (dtype == DType::float16) return conv_sm80_gather_fp16(x, config, stream);
    if (dtype == DType::bfloat16) return conv_sm80_gather_bf16(x, config, stream);
    conv_sm80_gather_fp32(x, config, stream);
}

}  // namespace

std::string conv_fault(const ConvConfig& c, const ConvProblem& p, const DeviceProperties& device) {
    if (c.family == ConvFamily::general) return "";
    const auto needs = [&](int64_t bytes) -> std::string {
        if (bytes <= device.shared_per_block) return "";
        return "needs " + std::to_string(bytes) + " bytes of shared memory, a block has " +
               std::to_string(device.shared_per_block);
    };
    if (c.family == ConvFamily::depthwise) {
        if (!conv_depthwise_serves(p)) return "is of the depthwise family: as many groups as channels, more than one";
        return needs(conv_depthwise_shared_bytes(p, c.columns));
    }
    if (c.family == ConvFamily::sm90) {
        if (!device.has_sm90a()) return "is of the sm90 family, which needs a GPU of compute capability 9.0";
        if (!conv_sm90_serves(p))
            return "is of the sm90 family: float16, bfloat16, windows of up to 32 x 32, sizes below 2^30";
        const ConvSm90Tile* const t = conv_sm90_tile(c.rows, c.columns);
        if (!(p.direction == ConvDirection::weight_grad ? t->for_weight_grad : t->for_gather))
            return "has no such tile in this direction: " + conv_sm90_tiles();
        return needs(conv_sm90_shared_bytes(c));
    }
    if (c.family == ConvFamily::few_channels) {
        if (!few_channels_serves(p))
            return "is of the few_channels family: forward or weight_grad of 1 to 4 channels in one group, up to 256 "
                   "places times channels";
        return needs(few_channels_plan(p, c.rows, c.columns).shared_bytes);
    }
    if (device.major < 8) return "is of the sm80 family, which needs a GPU of compute capability 8.0 or later";
    if (!conv_sm80_serves(p))
        return "is of the sm80 family: float32, float16, bfloat16, windows of up to 32 x 32, sizes below 2^30";
    if (!conv_sm80_tile(c.rows, c.columns, p.dtype))
        return "has no such tile: 16-bit types have 128x128, 128x64 and 64x64, float32 128x64 and 64x64";
    return needs(mma_shared_bytes(c.rows, c.columns, c.stages, conv_item_bytes(p.dtype)));
}

namespace {

// Threads along channels while they have some, and weights fit the shared memory; parts of a gradient's sums for four
// blocks an SM, none shorter than 64 pixels a thread.
ConvConfig depthwise_config(const ConvProblem& p, const DeviceProperties& device) {
    const ConvShape& s = p.shape;
    const int64_t all = p.direction == ConvDirection::input_grad ? s.channels : s.filters;
    const int64_t vector = s.filters == s.channels ? 16 / conv_item_bytes(p.dtype) : 1;
    ConvConfig c;
    c.family = ConvFamily::depthwise, c.columns = 1, c.fold = 0;
    while (c.columns < 32 && c.columns * vector < all &&
           conv_depthwise_shared_bytes(p, 2 * c.columns) <= device.shared_per_block)
        c.columns *= 2;
    c.rows = kConvDepthwiseThreads / c.columns;
    if (p.direction == ConvDirection::weight_grad) {
        const double pixels = double(s.batch) * s.rows.out * s.columns.out;
        const double chunks = std::ceil(double(all) / double(c.columns * vector));
        c.splits = int(std::clamp<double>(std::min(4.0 * device.sm_count / chunks, pixels / (64.0 * c.rows)), 1, 1024));
    }
    return c;
}

}  // namespace

ConvConfig conv_config(const ConvProblem& p, const DeviceProperties& device) {
    if (conv_depthwise_serves(p)) {
        const ConvConfig c = depthwise_config(p, device);
        if (conv_fault(c, p, device).empty()) return c;  // windows may be too large
    }
    if (few_channels_serves(p)) {
        const ConvConfig c = few_channels_config(p, device);
        if (conv_fault(c, p, device).empty()) return c;  // windows may be spread too far
    }
    ConvConfig best;
    double best_time = std::numeric_limits<double>::infinity();
    const auto offer = [&](ConvConfig c) {
        if (const double time = estimate(c, p, device); time < best_time) best_time = time, best = c;
    };
    for (const int side : {kConvMedium, kConvSmall}) {
        ConvConfig c;
        c.rows = c.columns = side;
        offer(c);
    }
    for (const ConvSm80Tile& t : kConvSm80Tiles) {
        if (!(conv_is_16_bit(p.dtype) ? t.for_16_bit : t.for_float32)) continue;
        ConvConfig c;
        c.family = ConvFamily::sm80, c.rows = t.rows, c.columns = t.columns, c.stages = 4, c.fold = kMmaStep;
        if (conv_fault(c, p, device).empty()) offer(c);
    }
    for (const ConvSm90Tile& t : kConvSm90Tiles) {
        if (!(p.direction == ConvDirection::weight_grad ? t.for_weight_grad : t.for_gather)) continue;
        ConvConfig c;
        c.family = ConvFamily::sm90, c.rows = t.rows, c.columns = t.columns, c.fold = 0;
        c.stages = matmul_sm90_stages(t.rows, t.columns), c.max_blocks = device.sm_count;
        if (conv_fault(c, p, device).empty()) offer(c);
    }
    return best;
}

void conv_forward(void* out, const void* x, const void* weight, const ConvEpilogue& epilogue, DType dtype,
                  const ConvShape& shape, const ConvConfig& config, cudaStream_t stream) {
    GatherArguments a = gather_arguments(out, x, weight, epilogue, shape);
    const auto axis = [](const ConvAxis& s) {
        return GatherAxis{s.image, s.out, s.window, s.stride, s.padding, s.dilation, 1, 1};
    };
    a.each_in = shape.channels / shape.groups, a.each_out = shape.filters / shape.groups;
    a.rows = axis(shape.rows), a.columns = axis(shape.columns);
    gather(a, dtype, config, stream);
}

void conv_input_grad(void* out, const void* grad, const void* weight, const ConvEpilogue& epilogue, DType dtype,
                     const ConvShape& shape, const ConvConfig& config, cudaStream_t stream) {
    GatherArguments a = gather_arguments(out, grad, weight, epilogue, shape);
    const auto axis = [](const ConvAxis& s) {
        return GatherAxis{s.out,
                          s.image,
                          s.window,
                          s.stride,
                          s.padding,
                          s.dilation,
                          std::min(s.stride, s.image),
                          s.stride / gcd(s.stride, s.dilation)};
    };
    a.each_in = shape.filters / shape.groups, a.each_out = shape.channels / shape.groups;
    a.rows = axis(shape.rows), a.columns = axis(shape.columns), a.backward = true;
    gather(a, dtype, config, stream);
}

void conv_weight_grad(void* out, const void* grad, const void* x, void* workspace, DType dtype, const ConvShape& shape,
                      const ConvConfig& config, cudaStream_t stream) {
    const WeightGradArguments a{out, conv_weight_grad_parts(config, shape) ? workspace : nullptr, grad, x, shape};
    if (config.family == ConvFamily::general) return conv_general_weight_grad(a, dtype, config, stream);
    if (config.family == ConvFamily::depthwise) return conv_depthwise_weight_grad(a, dtype, config, stream);
    if (config.family == ConvFamily::sm90)
        return dtype == DType::float16 ? conv_sm90_weight_grad_fp16(a, config, stream)
                                       : conv_sm90_weight_grad_bf16(a, config, stream);
    if (config.family == ConvFamily::few_channels) return conv_few_channels_weight_grad(a, dtype, config, stream);
    if (dtype == DType::float16) return conv_sm80_weight_grad_fp16(a, config, stream);
    if (dtype == DType::bfloat16) return conv_sm80_weight_grad_bf16(a, config, stream);
    conv_sm80_weight_grad_fp32(a, config, stream);
}
