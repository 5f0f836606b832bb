#include "../bindings/array_view.h"
#include "embedding.h"

void register_embedding(py::module_& m) {
    py::class_<EmbeddingConfig>(m, "EmbeddingConfig", py::module_local())
        .def(py::init([](int team, int chunk) {
                 EmbeddingConfig config{team, chunk};
                 check(config);
                 return config;
             }),
             py::arg("team"), py::arg("chunk"))
        .def_readonly("team", &EmbeddingConfig::team)
        .def_readonly("chunk", &EmbeddingConfig::chunk)
        .def("__repr__", &EmbeddingConfig::to_string);
    m.def("embedding_config", &embedding_config, py::arg("row_bytes"));
    m.def(
        "embedding",
        [](ArrayView out, ArrayView weight, ArrayView index, int64_t itemsize, ArrayView fault,
           const EmbeddingConfig& config, Stream stream) {
            py::gil_scoped_release release;
            embedding(out.data, weight.data, index.as<int64_t>(), itemsize, index.shape[0], weight.shape[0],
                      weight.shape[1], weight.strides[0], fault.as<int>(), config, as_stream(stream));
        },
        py::arg("out"), py::arg("weight"), py::arg("index"), py::arg("itemsize"), py::arg("fault"), py::arg("config"),
        py::arg("stream"));
    m.def(
        "embedding_backward",
        [](ArrayView weight_grad, ArrayView grad, ArrayView order, ArrayView sorted, int64_t padding_idx,
           ArrayView workspace, const EmbeddingConfig& config, Stream stream) {
            py::gil_scoped_release release;
            embedding_backward(weight_grad.data, grad.data, grad.dtype, order.as<int64_t>(), sorted.as<int64_t>(),
                               order.shape[0], weight_grad.shape[0], weight_grad.shape[1], padding_idx, workspace.data,
                               config, as_stream(stream));
        },
        py::arg("weight_grad"), py::arg("grad"), py::arg("order"), py::arg("sorted"), py::arg("padding_idx"),
        py::arg("workspace"), py::arg("config"), py::arg("stream"));
}
