#include "../bindings/array_view.h"
#include "softmax.h"

namespace {

SoftmaxStrides strides_of(const ArrayView& a) { return {a.strides[0], a.strides[1], a.strides[2]}; }

SoftmaxLayout layout_of(const ArrayView& out, const ArrayView& x, const ArrayView& y) {
    return {x.shape[0], x.shape[1], x.shape[2], strides_of(out), strides_of(x), strides_of(y)};
}

}  // namespace

void register_softmax(py::module_& m) {
    py::class_<SoftmaxConfig>(m, "SoftmaxConfig", py::module_local())
        .def(py::init([](bool columns, int team, int block) {
                 SoftmaxConfig config{columns, team, block};
                 check(config);
                 return config;
             }),
             py::arg("columns"), py::arg("team"), py::arg("block"))
        .def_readonly("columns", &SoftmaxConfig::columns)
        .def_readonly("team", &SoftmaxConfig::team)
        .def_readonly("block", &SoftmaxConfig::block)
        .def("__repr__", &SoftmaxConfig::to_string);
    m.def(
        "softmax_config",
        [](int64_t outer, int64_t length, int64_t inner) {
            return softmax_config(outer, length, inner, current_device());
        },
        py::arg("outer"), py::arg("length"), py::arg("inner"));
    m.def(
        "softmax",
        [](ArrayView out, ArrayView x, bool log, const SoftmaxConfig& config, Stream stream) {
            py::gil_scoped_release release;
            softmax(out.data, x.data, x.dtype, layout_of(out, x, x), log, config, as_stream(stream));
        },
        py::arg("out"), py::arg("x"), py::arg("log"), py::arg("config"), py::arg("stream"));
    m.def(
        "softmax_backward",
        [](ArrayView out, ArrayView grad, ArrayView y, bool log, const SoftmaxConfig& config, Stream stream) {
            py::gil_scoped_release release;
            softmax_backward(out.data, grad.data, y.data, y.dtype, layout_of(out, grad, y), log, config,
                             as_stream(stream));
        },
        py::arg("out"), py::arg("grad"), py::arg("y"), py::arg("log"), py::arg("config"), py::arg("stream"));
    m.def(
        "cross_entropy",
        [](ArrayView loss, ArrayView gradient, ArrayView logits, ArrayView target, ArrayView weight, ArrayView fault,
           int64_t ignore_index, double label_smoothing, const SoftmaxConfig& config, Stream stream) {
            py::gil_scoped_release release;
            cross_entropy(
                {loss.data, gradient.data, logits.data, target.data, weight.data, fault.as<int>(), logits.shape[0],
                 logits.shape[1], logits.strides[0], logits.strides[1], ignore_index, label_smoothing},
                logits.dtype, target.dtype, config, as_stream(stream));
        },
        py::arg("loss"), py::arg("gradient"), py::arg("logits"), py::arg("target"), py::arg("weight"), py::arg("fault"),
        py::arg("ignore_index"), py::arg("label_smoothing"), py::arg("config"), py::arg("stream"));
}
