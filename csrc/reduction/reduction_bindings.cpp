#include "../bindings/array_view.h"
#include "reduction.h"

void register_reduction(py::module_& m) {
    py::class_<ColumnSumConfig>(m, "ColumnSumConfig", py::module_local())  // _cuda and _emulated may both be loaded
        .def(py::init([](int splits, int columns) {
                 if (splits < 1 || splits > 65535)
                     throw py::value_error("ColumnSumConfig: splits is " + std::to_string(splits) +
                                           ", expected 1 to 65535");
                 if (columns != kColumnsAcross && columns != kColumnsAlong)
                     throw py::value_error("ColumnSumConfig: columns is " + std::to_string(columns) +
                                           ", expected 32 or 8");
                 return ColumnSumConfig{splits, columns};
             }),
             py::arg("splits"), py::arg("columns") = kColumnsAcross)
        .def_readonly("splits", &ColumnSumConfig::splits)
        .def_readonly("columns", &ColumnSumConfig::columns)
        .def("__repr__", &ColumnSumConfig::to_string);
    m.def(
        "column_sum_config",
        [](int64_t rows, int64_t cols, bool rows_contiguous, const std::string& device) {
            return column_sum_config(rows, cols, rows_contiguous,
                                     device.empty() ? current_device() : known_device(device));
        },
        py::arg("rows"), py::arg("cols"), py::arg("rows_contiguous") = false, py::arg("device") = "");
    m.def(
        "column_sum",
        [](ArrayView out, ArrayView x, ArrayView workspace, const ColumnSumConfig& config, Stream stream) {
            py::gil_scoped_release release;
            column_sum(out.data, out.dtype, x.data, x.dtype, x.shape[0], x.shape[1], x.strides[0], x.strides[1],
                       workspace.data, config, as_stream(stream));
        },
        py::arg("out"), py::arg("x"), py::arg("workspace"), py::arg("config"), py::arg("stream"));
}
