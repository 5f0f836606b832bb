#include "../bindings/array_view.h"
#include "reduction.h"

void register_reduction(py::module_& m) {
    py::class_<ColumnSumConfig>(m, "ColumnSumConfig", py::module_local())  // _cuda and _emulated may both be loaded
        .def(py::init([](int splits) { return ColumnSumConfig{splits}; }), py::arg("splits"))
        .def_readonly("splits", &ColumnSumConfig::splits)
        .def("__repr__", &ColumnSumConfig::to_string);
    m.def("column_sum_config", [](int64_t rows, int64_t cols) { return column_sum_config(rows, cols, current_device()); },
          py::arg("rows"), py::arg("cols"));
    m.def("column_sum", [](ArrayView out, ArrayView x, ArrayView workspace, const ColumnSumConfig& config, Stream stream) {
        py::gil_scoped_release release;
        column_sum(out.data, out.dtype, x.data, x.dtype, x.shape[0], x.shape[1], x.strides[0], workspace.data, config, as_stream(stream));
    }, py::arg("out"), py::arg("x"), py::arg("workspace"), py::arg("config"), py::arg("stream"));
}
