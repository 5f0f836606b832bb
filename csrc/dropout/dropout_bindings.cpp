#include "../bindings/array_view.h"
#include "dropout.h"

static DropoutDraw draw_of(const ArrayView& state, uint64_t offset, uint32_t threshold, double scale) {
    return {state.as<uint64_t>(), offset, threshold, scale};
}

void register_dropout(py::module_& m) {
    m.def(
        "dropout",
        [](ArrayView out, ArrayView x, ArrayView bias, ArrayView residual, int64_t rows, int64_t cols, ArrayView state,
           uint64_t offset, uint32_t threshold, double scale, const std::string& activation, double parameter,
           const DropoutConfig& config, Stream stream) {
            auto choice = activation_from_name(activation, parameter);
            py::gil_scoped_release release;
            dropout(out.data, x.data, bias.data, residual.data, x.dtype, rows, cols,
                    draw_of(state, offset, threshold, scale), choice, config, as_stream(stream));
        },
        py::arg("out"), py::arg("x"), py::arg("bias"), py::arg("residual"), py::arg("rows"), py::arg("cols"),
        py::arg("state"), py::arg("offset"), py::arg("threshold"), py::arg("scale"), py::arg("activation"),
        py::arg("parameter"), py::arg("config"), py::arg("stream"));
    m.def(
        "dropout_backward",
        [](ArrayView out, ArrayView grad, ArrayView x, ArrayView bias, int64_t rows, int64_t cols, ArrayView state,
           uint64_t offset, uint32_t threshold, double scale, const std::string& activation, double parameter,
           const DropoutConfig& config, Stream stream) {
            auto choice = activation_from_name(activation, parameter);
            py::gil_scoped_release release;
            dropout_backward(out.data, grad.data, x.data, bias.data, grad.dtype, rows, cols,
                             draw_of(state, offset, threshold, scale), choice, config, as_stream(stream));
        },
        py::arg("out"), py::arg("grad"), py::arg("x"), py::arg("bias"), py::arg("rows"), py::arg("cols"),
        py::arg("state"), py::arg("offset"), py::arg("threshold"), py::arg("scale"), py::arg("activation"),
        py::arg("parameter"), py::arg("config"), py::arg("stream"));
    m.def(
        "dropout_mask",
        [](ArrayView out, ArrayView state, uint64_t offset, uint32_t threshold, const DropoutConfig& config,
           Stream stream) {
            py::gil_scoped_release release;
            dropout_mask(out.as<bool>(), out.size(), draw_of(state, offset, threshold, 1), config, as_stream(stream));
        },
        py::arg("out"), py::arg("state"), py::arg("offset"), py::arg("threshold"), py::arg("config"),
        py::arg("stream"));
}
