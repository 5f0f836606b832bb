#include "../bindings/array_view.h"
#include "random.h"

void register_random(py::module_& m) {
    m.def(
        "random_bits",
        [](ArrayView out, ArrayView state, uint64_t offset, const RandomConfig& config, Stream stream) {
            py::gil_scoped_release release;
            random_bits(out.as<uint32_t>(), out.size(), state.as<uint64_t>(), offset, config, as_stream(stream));
        },
        py::arg("out"), py::arg("state"), py::arg("offset"), py::arg("config"), py::arg("stream"));
    m.def(
        "uniform",
        [](ArrayView out, ArrayView state, uint64_t offset, double low, double high, const RandomConfig& config,
           Stream stream) {
            py::gil_scoped_release release;
            random_uniform(out.data, out.dtype, out.size(), state.as<uint64_t>(), offset, low, high, config,
                           as_stream(stream));
        },
        py::arg("out"), py::arg("state"), py::arg("offset"), py::arg("low"), py::arg("high"), py::arg("config"),
        py::arg("stream"));
    m.def(
        "normal",
        [](ArrayView out, ArrayView state, uint64_t offset, double mean, double std, const RandomConfig& config,
           Stream stream) {
            py::gil_scoped_release release;
            random_normal(out.data, out.dtype, out.size(), state.as<uint64_t>(), offset, mean, std, config,
                          as_stream(stream));
        },
        py::arg("out"), py::arg("state"), py::arg("offset"), py::arg("mean"), py::arg("std"), py::arg("config"),
        py::arg("stream"));
}
