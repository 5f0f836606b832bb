#include "../bindings/array_view.h"
#include "rnn.h"

void register_rnn(py::module_& m) {
    py::class_<RnnConfig>(m, "RnnConfig", py::module_local())
        .def(py::init([](int blocks) {
                 if (blocks < 1)
                     throw py::value_error("RnnConfig: blocks is " + std::to_string(blocks) + ", expected at least 1");
                 return RnnConfig{blocks};
             }),
             py::arg("blocks"))
        .def_readonly("blocks", &RnnConfig::blocks)
        .def("__repr__", &RnnConfig::to_string);
    m.def(
        "rnn_config", [](int64_t batch, int64_t hidden) { return rnn_config(batch, hidden, current_device()); },
        py::arg("batch"), py::arg("hidden"));
    const auto shape_of = [](const ArrayView& state) { return RnnShape{state.shape[0], state.shape[1]}; };
    m.def(
        "lstm_cell",
        [shape_of](ArrayView h, ArrayView c, ArrayView activated, ArrayView gates, ArrayView c_before,
                   const RnnConfig& config, Stream stream) {
            py::gil_scoped_release release;
            lstm_cell({h.data, c.data, activated.data, gates.data, c_before.data, shape_of(h)}, gates.dtype, config,
                      as_stream(stream));
        },
        py::arg("h"), py::arg("c"), py::arg("activated"), py::arg("gates"), py::arg("c_before"), py::arg("config"),
        py::arg("stream"));
    m.def(
        "lstm_cell_backward",
        [shape_of](ArrayView of_gates, ArrayView of_c_before, ArrayView of_h, ArrayView of_c, ArrayView activated,
                   ArrayView c, ArrayView c_before, const RnnConfig& config, Stream stream) {
            py::gil_scoped_release release;
            lstm_cell_backward({of_gates.data, of_c_before.data, of_h.data, of_c.data, activated.data, c.data,
                                c_before.data, shape_of(of_h)},
                               of_h.dtype, config, as_stream(stream));
        },
        py::arg("of_gates"), py::arg("of_c_before"), py::arg("of_h"), py::arg("of_c"), py::arg("activated"),
        py::arg("c"), py::arg("c_before"), py::arg("config"), py::arg("stream"));
    m.def(
        "gru_cell",
        [shape_of](ArrayView h, ArrayView saved, ArrayView gates_x, ArrayView gates_h, ArrayView h_before,
                   const RnnConfig& config, Stream stream) {
            py::gil_scoped_release release;
            gru_cell({h.data, saved.data, gates_x.data, gates_h.data, h_before.data, shape_of(h)}, h.dtype, config,
                     as_stream(stream));
        },
        py::arg("h"), py::arg("saved"), py::arg("gates_x"), py::arg("gates_h"), py::arg("h_before"), py::arg("config"),
        py::arg("stream"));
    m.def(
        "gru_cell_backward",
        [shape_of](ArrayView of_gates_x, ArrayView of_gates_h, ArrayView of_h_before, ArrayView of_h, ArrayView saved,
                   ArrayView h_before, const RnnConfig& config, Stream stream) {
            py::gil_scoped_release release;
            gru_cell_backward({of_gates_x.data, of_gates_h.data, of_h_before.data, of_h.data, saved.data, h_before.data,
                               shape_of(of_h)},
                              of_h.dtype, config, as_stream(stream));
        },
        py::arg("of_gates_x"), py::arg("of_gates_h"), py::arg("of_h_before"), py::arg("of_h"), py::arg("saved"),
        py::arg("h_before"), py::arg("config"), py::arg("stream"));
    m.def(
        "rnn_cell_backward",
        [shape_of](ArrayView of_gates, ArrayView of_h, ArrayView h, bool relu, const RnnConfig& config, Stream stream) {
            py::gil_scoped_release release;
            rnn_cell_backward({of_gates.data, of_h.data, h.data, shape_of(h), relu}, h.dtype, config,
                              as_stream(stream));
        },
        py::arg("of_gates"), py::arg("of_h"), py::arg("h"), py::arg("relu"), py::arg("config"), py::arg("stream"));
}
