#include "../bindings/array_view.h"
#include "pointwise.h"

void register_pointwise(py::module_& m) {
    py::class_<PointwiseConfig>(m, "PointwiseConfig", py::module_local())
        .def(py::init([](int vector, int blocks) { return PointwiseConfig{vector, blocks}; }), py::arg("vector"),
             py::arg("blocks"))
        .def_readonly("vector", &PointwiseConfig::vector)
        .def_readonly("blocks", &PointwiseConfig::blocks)
        .def("__repr__", &PointwiseConfig::to_string);
    m.def(
        "pointwise_config",
        [](int64_t elements, int itemsize, bool vectors_fit) {
            return pointwise_config(elements, itemsize, vectors_fit, current_device());
        },
        py::arg("elements"), py::arg("itemsize"), py::arg("vectors_fit"));
    m.def(
        "bias_activation",
        [](ArrayView out, ArrayView x, ArrayView bias, ArrayView residual, int64_t rows, int64_t cols,
           const std::string& activation, double parameter, const PointwiseConfig& config, Stream stream) {
            auto choice = activation_from_name(activation, parameter);
            py::gil_scoped_release release;
            bias_activation(out.data, x.data, bias.data, residual.data, x.dtype, rows, cols, choice, config,
                            as_stream(stream));
        },
        py::arg("out"), py::arg("x"), py::arg("bias"), py::arg("residual"), py::arg("rows"), py::arg("cols"),
        py::arg("activation"), py::arg("parameter"), py::arg("config"), py::arg("stream"));
    m.def(
        "bias_activation_backward",
        [](ArrayView out, ArrayView grad, ArrayView x, ArrayView bias, int64_t rows, int64_t cols,
           const std::string& activation, double parameter, const PointwiseConfig& config, Stream stream) {
            auto choice = activation_from_name(activation, parameter);
            py::gil_scoped_release release;
            bias_activation_backward(out.data, grad.data, x.data, bias.data, x.dtype, rows, cols, choice, config,
                                     as_stream(stream));
        },
        py::arg("out"), py::arg("grad"), py::arg("x"), py::arg("bias"), py::arg("rows"), py::arg("cols"),
        py::arg("activation"), py::arg("parameter"), py::arg("config"), py::arg("stream"));
    const auto rows_apart = [](const ArrayView& x) { return x.strides[0]; };
    m.def(
        "gated_activation",
        [=](ArrayView out, ArrayView gate, ArrayView up, const std::string& activation, double parameter,
            const PointwiseConfig& config, Stream stream) {
            auto choice = activation_from_name(activation, parameter);
            GatedStrides strides{rows_apart(gate), rows_apart(up), 0, rows_apart(out), 0, 0};
            py::gil_scoped_release release;
            gated_activation(out.data, gate.data, up.data, gate.dtype, gate.shape[0], gate.shape[1], strides, choice,
                             config, as_stream(stream));
        },
        py::arg("out"), py::arg("gate"), py::arg("up"), py::arg("activation"), py::arg("parameter"), py::arg("config"),
        py::arg("stream"));
    m.def(
        "gated_activation_backward",
        [=](ArrayView gate_grad, ArrayView up_grad, ArrayView grad, ArrayView gate, ArrayView up,
            const std::string& activation, double parameter, const PointwiseConfig& config, Stream stream) {
            auto choice = activation_from_name(activation, parameter);
            GatedStrides strides{rows_apart(gate),      rows_apart(up),     rows_apart(grad), 0,
                                 rows_apart(gate_grad), rows_apart(up_grad)};
            py::gil_scoped_release release;
            gated_activation_backward(gate_grad.data, up_grad.data, grad.data, gate.data, up.data, gate.dtype,
                                      gate.shape[0], gate.shape[1], strides, choice, config, as_stream(stream));
        },
        py::arg("gate_grad"), py::arg("up_grad"), py::arg("grad"), py::arg("gate"), py::arg("up"),
        py::arg("activation"), py::arg("parameter"), py::arg("config"), py::arg("stream"));
}
