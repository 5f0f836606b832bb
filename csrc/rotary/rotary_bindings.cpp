#include "../bindings/array_view.h"
#include "rotary.h"

void register_rotary(py::module_& m) {
    py::class_<RotaryConfig>(m, "RotaryConfig", py::module_local())
        .def(py::init([](int team, int heads, int rows) {
                 RotaryConfig config{team, heads, rows};
                 check(config);
                 return config;
             }),
             py::arg("team"), py::arg("heads"), py::arg("rows"))
        .def_readonly("team", &RotaryConfig::team)
        .def_readonly("heads", &RotaryConfig::heads)
        .def_readonly("rows", &RotaryConfig::rows)
        .def("__repr__", &RotaryConfig::to_string);
    m.def(
        "rotary_config",
        [](int64_t batch, int64_t heads, int64_t length, int64_t half) {
            return rotary_config(batch, heads, length, half, current_device());
        },
        py::arg("batch"), py::arg("heads"), py::arg("length"), py::arg("half"));
    m.def(
        "rotary_embedding",
        [](ArrayView out, ArrayView x, ArrayView cos, ArrayView sin, ArrayView positions, int64_t offset, bool count,
           bool interleaved, bool inverse, ArrayView fault, const RotaryConfig& config, Stream stream) {
            RotaryProblem p{x.shape[0],
                            x.shape[1],
                            x.shape[2],
                            x.shape[3],
                            cos.shape[1],
                            cos.shape[0],
                            {x.strides[0], x.strides[1], x.strides[2], x.strides[3]},
                            positions.as<int64_t>(),
                            positions.present ? positions.strides[0] : 0,
                            positions.present ? positions.strides[1] : 0,
                            offset,
                            count,
                            interleaved,
                            inverse,
                            fault.as<int>()};
            py::gil_scoped_release release;
            rotary_embedding(out.data, x.data, cos.data, sin.data, x.dtype, p, config, as_stream(stream));
        },
        py::arg("out"), py::arg("x"), py::arg("cos"), py::arg("sin"), py::arg("positions"), py::arg("offset"),
        py::arg("count"), py::arg("interleaved"), py::arg("inverse"), py::arg("fault"), py::arg("config"),
        py::arg("stream"));
}
