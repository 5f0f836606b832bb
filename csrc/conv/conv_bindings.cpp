#include "../bindings/array_view.h"
#include "conv.h"
#include <array>

namespace {

// (image, out, window, stride, padding, dilation) of one dimension; validated in fastnet/reference/conv.py.
using Numbers = std::array<int, 6>;

ConvAxis axis(const Numbers& n) { return {n[0], n[1], n[2], n[3], n[4], n[5]}; }

ConvDirection direction_from_name(const std::string& name) {
    if (name == "forward") return ConvDirection::forward;
    if (name == "input_grad") return ConvDirection::input_grad;
    if (name == "weight_grad") return ConvDirection::weight_grad;
    throw py::value_error("conv_config: direction is \"" + name + "\", expected forward, input_grad or weight_grad");
}

ConvFamily family_from_name(const std::string& name) {
    for (int i = 0; i < int(std::size(kConvFamilies)); ++i)
        if (name == kConvFamilies[i]) return ConvFamily(i);
    throw py::value_error("ConvConfig: family is \"" + name +
                          "\", expected general, sm80, depthwise, sm90 or few_channels");
}

ConvConfig
make_config(const std::string& family, int rows, int columns, int stages, int fold, int splits, int max_blocks) {
    const auto refuse = [](const std::string& name, int got, const std::string& expected) {
        throw py::value_error("ConvConfig: " + name + " is " + std::to_string(got) + ", expected " + expected);
    };
    ConvConfig c{family_from_name(family), rows, columns, stages, fold, splits, max_blocks};
    if (c.family == ConvFamily::general) {
        if (rows != kConvSmall && rows != kConvMedium) refuse("rows", rows, "32 or 64");
        if (columns != rows) refuse("columns", columns, "as rows");
        if (stages) refuse("stages", stages, "0: the general family has none");
        if (fold == 0) c.fold = kConvFold;
        if (c.fold < 8 || c.fold % 8) refuse("fold", fold, "a positive multiple of 8");
    } else if (c.family == ConvFamily::depthwise) {
        if (columns < 1 || columns > 32 || columns & (columns - 1))
            refuse("columns", columns, "a power of two up to 32");
        if (rows != kConvDepthwiseThreads / columns) refuse("rows", rows, "128 / columns");
        if (stages) refuse("stages", stages, "0: the depthwise family has none");
        if (fold) refuse("fold", fold, "0: the depthwise family has none");
    } else if (c.family == ConvFamily::sm90) {
        if (!conv_sm90_tile(rows, columns))
            throw py::value_error("ConvConfig: the tile is " + std::to_string(rows) + "x" + std::to_string(columns) +
                                  ", expected one of sm90's: " + conv_sm90_tiles());
        if (stages == 0) c.stages = matmul_sm90_stages(rows, columns);
        if (c.stages < kMatmulSm90MinStages || c.stages > kMatmulSm90MaxStages) refuse("stages", stages, "3 to 8");
        if (fold) refuse("fold", fold, "0: the sm90 family has none");
    } else if (c.family == ConvFamily::few_channels) {
        if (rows < 1 || rows > kConvFewChannelsPixels) refuse("rows", rows, "1 to 256");
        if (columns < 1 || columns > kConvFewChannelsPixels / rows) refuse("columns", columns, "1 to 256 / rows");
        if (stages) refuse("stages", stages, "0: the few_channels family always has two");
        if (fold == 0) c.fold = kConvFold;
        if (c.fold < 8 || c.fold % 8) refuse("fold", fold, "a positive multiple of 8");
    } else {
        if (!conv_sm80_tile(rows, columns, DType::float16) && !conv_sm80_tile(rows, columns, DType::float32))
            throw py::value_error("ConvConfig: the tile is " + std::to_string(rows) + "x" + std::to_string(columns) +
                                  ", expected 128x128, 128x64 or 64x64");
        if (stages == 0) c.stages = 3;
        if (c.stages < 2 || c.stages > kMmaMaxStages) refuse("stages", stages, "2 to 6");
        if (fold == 0) c.fold = kMmaStep;
        if (c.fold < kMmaStep || c.fold % kMmaStep) refuse("fold", fold, "a positive multiple of 32");
    }
    if (splits < 1 || splits > 65535) refuse("splits", splits, "1 to 65535");
    if (max_blocks < 1) refuse("max_blocks", max_blocks, "at least 1");
    return c;
}

ConvProblem problem(const std::string& direction, DType dtype, const std::array<int64_t, 4>& sizes, const Numbers& rows,
                    const Numbers& columns) {
    return {direction_from_name(direction), dtype, {sizes[0], sizes[1], sizes[2], sizes[3], axis(rows), axis(columns)}};
}

}  // namespace

void register_conv(py::module_& m) {
    py::class_<ConvConfig>(m, "ConvConfig", py::module_local())  // _cuda and _emulated may both be loaded
        .def(py::init(&make_config), py::arg("family"), py::arg("rows"), py::arg("columns"), py::kw_only(),
             py::arg("stages") = 0, py::arg("fold") = 0, py::arg("splits") = 1,
             py::arg("max_blocks") = ConvConfig{}.max_blocks)
        .def_property_readonly("family", [](const ConvConfig& c) { return kConvFamilies[int(c.family)]; })
        .def_readonly("rows", &ConvConfig::rows)
        .def_readonly("columns", &ConvConfig::columns)
        .def_readonly("stages", &ConvConfig::stages)
        .def_readonly("fold", &ConvConfig::fold)
        .def_readonly("splits", &ConvConfig::splits)
        .def_readonly("max_blocks", &ConvConfig::max_blocks)
        .def("__repr__", &ConvConfig::to_string);
    // sizes: (batch, channels, filters, groups).
    m.def(
        "conv_config",
        [](const std::string& direction, const std::string& dtype, const std::array<int64_t, 4>& sizes,
           const Numbers& rows, const Numbers& columns, const std::string& device) {
            return conv_config(problem(direction, dtype_from_name(dtype), sizes, rows, columns),
                               device.empty() ? current_device() : known_device(device));
        },
        py::arg("direction"), py::arg("dtype"), py::arg("sizes"), py::arg("rows"), py::arg("columns"),
        py::arg("device") = "");
    m.def(
        "conv_check",
        [](const ConvConfig& config, const std::string& direction, const std::string& dtype,
           const std::array<int64_t, 4>& sizes, const Numbers& rows, const Numbers& columns) {
            const std::string fault =
                conv_fault(config, problem(direction, dtype_from_name(dtype), sizes, rows, columns), current_device());
            if (!fault.empty()) throw py::value_error("config " + config.to_string() + " " + fault);
        },
        py::arg("config"), py::arg("direction"), py::arg("dtype"), py::arg("sizes"), py::arg("rows"),
        py::arg("columns"));
    m.def(
        "conv_moment_parts",
        [](const ConvConfig& config, const std::array<int64_t, 4>& sizes, const Numbers& rows, const Numbers& columns) {
            return conv_moment_parts(config, {sizes[0], sizes[1], sizes[2], sizes[3], axis(rows), axis(columns)});
        },
        py::arg("config"), py::arg("sizes"), py::arg("rows"), py::arg("columns"));
    m.def(
        "conv_weight_grad_parts",
        [](const ConvConfig& config, const std::array<int64_t, 4>& sizes, const Numbers& rows, const Numbers& columns) {
            return conv_weight_grad_parts(config, {sizes[0], sizes[1], sizes[2], sizes[3], axis(rows), axis(columns)});
        },
        py::arg("config"), py::arg("sizes"), py::arg("rows"), py::arg("columns"));
    const auto gather = [](auto function) {
        return [function](ArrayView out, ArrayView preactivation, ArrayView moments, ArrayView source, ArrayView weight,
                          ArrayView bias, ArrayView residual, const std::array<int64_t, 4>& sizes, const Numbers& rows,
                          const Numbers& columns, const std::string& activation, double parameter,
                          const ConvConfig& config, Stream stream) {
            const ConvShape shape{sizes[0], sizes[1], sizes[2], sizes[3], axis(rows), axis(columns)};
            const ConvEpilogue epilogue{bias.data, residual.data, preactivation.data,
                                        activation_from_name(activation, parameter), moments.data};
            py::gil_scoped_release release;
            function(out.data, source.data, weight.data, epilogue, source.dtype, shape, config, as_stream(stream));
        };
    };
    m.def("conv_forward", gather(&conv_forward), py::arg("out"), py::arg("preactivation"), py::arg("moments"),
          py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("residual"), py::arg("sizes"), py::arg("rows"),
          py::arg("columns"), py::arg("activation"), py::arg("parameter"), py::arg("config"), py::arg("stream"));
    m.def("conv_input_grad", gather(&conv_input_grad), py::arg("out"), py::arg("preactivation"), py::arg("moments"),
          py::arg("grad"), py::arg("weight"), py::arg("bias"), py::arg("residual"), py::arg("sizes"), py::arg("rows"),
          py::arg("columns"), py::arg("activation"), py::arg("parameter"), py::arg("config"), py::arg("stream"));
    m.def(
        "conv_weight_grad",
        [](ArrayView out, ArrayView grad, ArrayView x, ArrayView workspace, const std::array<int64_t, 4>& sizes,
           const Numbers& rows, const Numbers& columns, const ConvConfig& config, Stream stream) {
            const ConvShape shape{sizes[0], sizes[1], sizes[2], sizes[3], axis(rows), axis(columns)};
            if (conv_weight_grad_parts(config, shape) && !workspace.present)
                throw py::value_error("conv_weight_grad: these parts need a workspace");
            py::gil_scoped_release release;
            conv_weight_grad(out.data, grad.data, x.data, workspace.data, x.dtype, shape, config, as_stream(stream));
        },
        py::arg("out"), py::arg("grad"), py::arg("x"), py::arg("workspace"), py::arg("sizes"), py::arg("rows"),
        py::arg("columns"), py::arg("config"), py::arg("stream"));
}
