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

}  // namespace

void register_conv(py::module_& m) {
    py::class_<ConvConfig>(m, "ConvConfig", py::module_local())  // _cuda and _emulated may both be loaded
        .def(py::init([](int tile, int fold, int splits, int max_blocks) {
                 if (tile != kConvSmall && tile != kConvMedium)
                     throw py::value_error("ConvConfig: tile is " + std::to_string(tile) + ", expected 32 or 64");
                 if (fold < 8 || fold % 8)
                     throw py::value_error("ConvConfig: fold is " + std::to_string(fold) +
                                           ", expected a positive multiple of 8");
                 if (splits < 1 || splits > 65535)
                     throw py::value_error("ConvConfig: splits is " + std::to_string(splits) + ", expected 1 to 65535");
                 if (max_blocks < 1)
                     throw py::value_error("ConvConfig: max_blocks is " + std::to_string(max_blocks) +
                                           ", expected at least 1");
                 return ConvConfig{tile, fold, splits, max_blocks};
             }),
             py::arg("tile"), py::arg("fold") = ConvConfig{}.fold, py::arg("splits") = 1,
             py::arg("max_blocks") = ConvConfig{}.max_blocks)
        .def_readonly("tile", &ConvConfig::tile)
        .def_readonly("fold", &ConvConfig::fold)
        .def_readonly("splits", &ConvConfig::splits)
        .def_readonly("max_blocks", &ConvConfig::max_blocks)
        .def("__repr__", &ConvConfig::to_string);
    m.def(
        "conv_config",
        [](const std::string& direction, int64_t rows, int64_t columns, int64_t terms, int64_t products,
           const std::string& device) {
            return conv_config({direction_from_name(direction), rows, columns, terms, products},
                               device.empty() ? current_device() : known_device(device));
        },
        py::arg("direction"), py::arg("rows"), py::arg("columns"), py::arg("terms"), py::arg("products"),
        py::arg("device") = "");
    const auto gather = [](auto function) {
        return [function](ArrayView out, ArrayView preactivation, ArrayView source, ArrayView weight, ArrayView bias,
                          ArrayView residual, const std::array<int64_t, 4>& sizes, const Numbers& rows,
                          const Numbers& columns, const std::string& activation, double parameter,
                          const ConvConfig& config, Stream stream) {
            const ConvShape shape{sizes[0], sizes[1], sizes[2], sizes[3], axis(rows), axis(columns)};
            const ConvEpilogue epilogue{bias.data, residual.data, preactivation.data,
                                        activation_from_name(activation, parameter)};
            py::gil_scoped_release release;
            function(out.data, source.data, weight.data, epilogue, source.dtype, shape, config, as_stream(stream));
        };
    };
    // sizes: (batch, channels, filters, groups).
    m.def("conv_forward", gather(&conv_forward), py::arg("out"), py::arg("preactivation"), py::arg("x"),
          py::arg("weight"), py::arg("bias"), py::arg("residual"), py::arg("sizes"), py::arg("rows"),
          py::arg("columns"), py::arg("activation"), py::arg("parameter"), py::arg("config"), py::arg("stream"));
    m.def("conv_input_grad", gather(&conv_input_grad), py::arg("out"), py::arg("preactivation"), py::arg("grad"),
          py::arg("weight"), py::arg("bias"), py::arg("residual"), py::arg("sizes"), py::arg("rows"),
          py::arg("columns"), py::arg("activation"), py::arg("parameter"), py::arg("config"), py::arg("stream"));
    m.def(
        "conv_weight_grad",
        [](ArrayView out, ArrayView grad, ArrayView x, ArrayView workspace, const std::array<int64_t, 4>& sizes,
           const Numbers& rows, const Numbers& columns, const ConvConfig& config, Stream stream) {
            const ConvShape shape{sizes[0], sizes[1], sizes[2], sizes[3], axis(rows), axis(columns)};
            if (config.splits > 1 && !workspace.present)
                throw py::value_error("conv_weight_grad: splits above 1 need a workspace");
            py::gil_scoped_release release;
            conv_weight_grad(out.data, grad.data, x.data, workspace.data, x.dtype, shape, config, as_stream(stream));
        },
        py::arg("out"), py::arg("grad"), py::arg("x"), py::arg("workspace"), py::arg("sizes"), py::arg("rows"),
        py::arg("columns"), py::arg("config"), py::arg("stream"));
}
