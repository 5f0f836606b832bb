#include "../bindings/array_view.h"
#include "optim.h"

void register_optim(py::module_& m) {
    py::class_<OptimConfig>(m, "OptimConfig", py::module_local())
        .def(py::init([](int chunk) {
            OptimConfig config{chunk};
            check(config);
            return config;
        }), py::arg("chunk"))
        .def_readonly("chunk", &OptimConfig::chunk)
        .def("__repr__", &OptimConfig::to_string);
    m.def("optim_config", [](int64_t elements) { return optim_config(elements, current_device()); }, py::arg("elements"));
    m.def("sgd_step", [](const std::vector<ArrayView>& params, const std::vector<ArrayView>& grads, const std::vector<ArrayView>& momenta,
                         double lr, ArrayView lr_array, double momentum, double dampening, double weight_decay, bool nesterov, bool maximize,
                         bool first_step, const OptimConfig& config, Stream stream) {
        if (params.empty()) return;
        std::vector<OptimArray> arrays;
        for (size_t i = 0; i < params.size(); ++i)
            arrays.push_back({params[i].data, grads[i].data, momenta.empty() ? nullptr : momenta[i].data, params[i].size()});
        py::gil_scoped_release release;
        sgd_step(arrays, params[0].dtype, {lr, lr_array.as<float>(), momentum, dampening, weight_decay, nesterov, maximize, first_step},
                 config, as_stream(stream));
    }, py::arg("params"), py::arg("grads"), py::arg("momenta"), py::arg("lr"), py::arg("lr_array"), py::arg("momentum"), py::arg("dampening"),
       py::arg("weight_decay"), py::arg("nesterov"), py::arg("maximize"), py::arg("first_step"), py::arg("config"), py::arg("stream"));
}
