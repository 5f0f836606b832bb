#include "../bindings/array_view.h"
#include "rnn.h"
#include "rnn_sequence.h"

namespace {

RnnCell cell_from_name(const std::string& name) {
    static const std::pair<const char*, RnnCell> table[] = {
        {"tanh", RnnCell::tanh}, {"relu", RnnCell::relu}, {"lstm", RnnCell::lstm}, {"gru", RnnCell::gru}};
    for (auto& [text, cell] : table)
        if (name == text) return cell;
    throw py::value_error("no recurrent cell is called " + name);
}

using Arrays = std::vector<ArrayView>;  // one a direction, or none

void* of_direction(const Arrays& arrays, std::size_t direction) {
    return direction < arrays.size() ? arrays[direction].data : nullptr;
}

RnnSequenceShape shape_of(const std::string& cell, const ArrayView& h0, const ArrayView& starts, int64_t steps) {
    return {h0.shape[1],
            h0.shape[2],
            steps,
            int(h0.shape[0]),
            starts.as<const int64_t>(),
            cell_from_name(cell),
            rnn_gates(cell_from_name(cell))};
}

void register_sequences(py::module_& m) {
    py::class_<RnnSequenceConfig>(m, "RnnSequenceConfig", py::module_local())
        .def(py::init([](bool persistent, int columns, int unit_groups, int row_groups) {
                 return RnnSequenceConfig{persistent, columns, unit_groups, row_groups};
             }),
             py::arg("persistent"), py::arg("columns"), py::arg("unit_groups"), py::arg("row_groups"))
        .def_readonly("persistent", &RnnSequenceConfig::persistent)
        .def_readonly("columns", &RnnSequenceConfig::columns)
        .def_readonly("unit_groups", &RnnSequenceConfig::unit_groups)
        .def_readonly("row_groups", &RnnSequenceConfig::row_groups)
        .def("__repr__", &RnnSequenceConfig::to_string);
    const auto problem_of = [](const std::string& cell, bool backward, int itemsize, int64_t batch, int64_t hidden,
                               int directions) {
        return RnnSequenceProblem{cell_from_name(cell), backward, itemsize, batch, hidden, directions};
    };
    m.def(
        "rnn_sequence_config",
        [problem_of](const std::string& cell, bool backward, int itemsize, int64_t batch, int64_t hidden,
                     int directions, std::optional<int> sms) {
            return rnn_sequence_config(problem_of(cell, backward, itemsize, batch, hidden, directions),
                                       current_device(), sms ? *sms : resident_sm_count());
        },
        py::arg("cell"), py::arg("backward"), py::arg("itemsize"), py::arg("batch"), py::arg("hidden"),
        py::arg("directions"), py::arg("sms") = py::none());
    m.def(
        "rnn_sequence_refusal",
        [problem_of](const std::string& cell, bool backward, int itemsize, int64_t batch, int64_t hidden,
                     int directions, const RnnSequenceConfig& config, std::optional<int> sms) {
            return sequence_refusal(problem_of(cell, backward, itemsize, batch, hidden, directions), config,
                                    current_device(), sms ? *sms : resident_sm_count());
        },
        py::arg("cell"), py::arg("backward"), py::arg("itemsize"), py::arg("batch"), py::arg("hidden"),
        py::arg("directions"), py::arg("config"), py::arg("sms") = py::none());
    m.def(
        "rnn_sequence",
        [](const std::string& cell, ArrayView out, ArrayView h_last, ArrayView c_last, Arrays saved, Arrays cells,
           Arrays x, ArrayView h0, ArrayView c0, Arrays weight, Arrays bias, ArrayView starts, int64_t steps,
           ArrayView arrived, const RnnSequenceConfig& config, Stream stream) {
            RnnSequence a{};
            for (std::size_t d = 0; d < 2; ++d)
                a.direction[d] = {of_direction(x, d), of_direction(weight, d), of_direction(bias, d),
                                  of_direction(saved, d), of_direction(cells, d)};
            a.out = out.data, a.h_last = h_last.data, a.c_last = c_last.data, a.h0 = h0.data, a.c0 = c0.data;
            a.arrived = arrived.as<uint32_t>(), a.shape = shape_of(cell, h0, starts, steps);
            py::gil_scoped_release release;
            rnn_sequence(a, h0.dtype, config, as_stream(stream));
        },
        py::arg("cell"), py::arg("out"), py::arg("h_last"), py::arg("c_last"), py::arg("saved"), py::arg("cells"),
        py::arg("x"), py::arg("h0"), py::arg("c0"), py::arg("weight"), py::arg("bias"), py::arg("starts"),
        py::arg("steps"), py::arg("arrived"), py::arg("config"), py::arg("stream"));
    m.def(
        "rnn_sequence_backward",
        [](const std::string& cell, Arrays of_x, Arrays of_products, ArrayView of_h0, ArrayView carry, ArrayView of_out,
           ArrayView of_h_last, ArrayView of_c_last, ArrayView out, Arrays saved, Arrays cells, ArrayView h0,
           ArrayView c0, Arrays weight, ArrayView starts, int64_t steps, ArrayView arrived,
           const RnnSequenceConfig& config, Stream stream) {
            RnnSequenceBackward a{};
            for (std::size_t d = 0; d < 2; ++d)
                a.direction[d] = {of_direction(weight, d), of_direction(saved, d), of_direction(cells, d),
                                  of_direction(of_x, d), of_direction(of_products, d)};
            a.of_h0 = of_h0.data, a.carry = carry.data, a.of_out = of_out.data, a.of_h_last = of_h_last.data;
            a.of_c_last = of_c_last.data, a.out = out.data, a.h0 = h0.data, a.c0 = c0.data;
            a.arrived = arrived.as<uint32_t>(), a.shape = shape_of(cell, of_h0, starts, steps);
            py::gil_scoped_release release;
            rnn_sequence_backward(a, of_h0.dtype, config, as_stream(stream));
        },
        py::arg("cell"), py::arg("of_x"), py::arg("of_products"), py::arg("of_h0"), py::arg("carry"), py::arg("of_out"),
        py::arg("of_h_last"), py::arg("of_c_last"), py::arg("out"), py::arg("saved"), py::arg("cells"), py::arg("h0"),
        py::arg("c0"), py::arg("weight"), py::arg("starts"), py::arg("steps"), py::arg("arrived"), py::arg("config"),
        py::arg("stream"));
}

}  // namespace

void register_rnn(py::module_& m) {
    register_sequences(m);
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
    const auto state_shape = [](const ArrayView& state) { return RnnShape{state.shape[0], state.shape[1]}; };
    m.def(
        "lstm_cell",
        [state_shape](ArrayView h, ArrayView c, ArrayView activated, ArrayView gates, ArrayView c_before,
                      const RnnConfig& config, Stream stream) {
            py::gil_scoped_release release;
            lstm_cell({h.data, c.data, activated.data, gates.data, c_before.data, state_shape(h)}, gates.dtype, config,
                      as_stream(stream));
        },
        py::arg("h"), py::arg("c"), py::arg("activated"), py::arg("gates"), py::arg("c_before"), py::arg("config"),
        py::arg("stream"));
    m.def(
        "lstm_cell_backward",
        [state_shape](ArrayView of_gates, ArrayView of_c_before, ArrayView of_h, ArrayView of_c, ArrayView activated,
                      ArrayView c, ArrayView c_before, const RnnConfig& config, Stream stream) {
            py::gil_scoped_release release;
            lstm_cell_backward({of_gates.data, of_c_before.data, of_h.data, of_c.data, activated.data, c.data,
                                c_before.data, state_shape(of_h)},
                               of_h.dtype, config, as_stream(stream));
        },
        py::arg("of_gates"), py::arg("of_c_before"), py::arg("of_h"), py::arg("of_c"), py::arg("activated"),
        py::arg("c"), py::arg("c_before"), py::arg("config"), py::arg("stream"));
    m.def(
        "gru_cell",
        [state_shape](ArrayView h, ArrayView saved, ArrayView gates_x, ArrayView gates_h, ArrayView h_before,
                      const RnnConfig& config, Stream stream) {
            py::gil_scoped_release release;
            gru_cell({h.data, saved.data, gates_x.data, gates_h.data, h_before.data, state_shape(h)}, h.dtype, config,
                     as_stream(stream));
        },
        py::arg("h"), py::arg("saved"), py::arg("gates_x"), py::arg("gates_h"), py::arg("h_before"), py::arg("config"),
        py::arg("stream"));
    m.def(
        "gru_cell_backward",
        [state_shape](ArrayView of_gates_x, ArrayView of_gates_h, ArrayView of_h_before, ArrayView of_h,
                      ArrayView saved, ArrayView h_before, const RnnConfig& config, Stream stream) {
            py::gil_scoped_release release;
            gru_cell_backward({of_gates_x.data, of_gates_h.data, of_h_before.data, of_h.data, saved.data, h_before.data,
                               state_shape(of_h)},
                              of_h.dtype, config, as_stream(stream));
        },
        py::arg("of_gates_x"), py::arg("of_gates_h"), py::arg("of_h_before"), py::arg("of_h"), py::arg("saved"),
        py::arg("h_before"), py::arg("config"), py::arg("stream"));
    m.def(
        "rnn_cell_backward",
        [state_shape](ArrayView of_gates, ArrayView of_h, ArrayView h, bool relu, const RnnConfig& config,
                      Stream stream) {
            py::gil_scoped_release release;
            rnn_cell_backward({of_gates.data, of_h.data, h.data, state_shape(h), relu}, h.dtype, config,
                              as_stream(stream));
        },
        py::arg("of_gates"), py::arg("of_h"), py::arg("h"), py::arg("relu"), py::arg("config"), py::arg("stream"));
}
