#include "../bindings/array_view.h"
#include "optim.h"

namespace {

using Views = std::vector<ArrayView>;

// lists: params, gradients and states, each as long as the first or empty. One of step_arrays and steps is, too. narrow:
// empty, or the 16-bit params of master weights, which then stand in the place of params.
std::vector<OptimArray> arrays_of(const std::vector<const Views*>& lists, const Views& narrow, const Views& step_arrays,
                                  const std::vector<double>& steps) {
    std::vector<OptimArray> arrays(lists[0]->size());
    for (size_t i = 0; i < arrays.size(); ++i) {
        for (size_t j = 0; j < lists.size(); ++j)
            arrays[i].pointers[j] = lists[j]->empty() ? nullptr : lists[j]->at(i).data;
        arrays[i].master = !narrow.empty();
        arrays[i].pointers[lists.size()] = narrow.empty() ? nullptr : narrow.at(i).data;
        arrays[i].size = lists[0]->at(i).size();
        arrays[i].step_array = step_arrays.empty() ? nullptr : step_arrays.at(i).as<float>();
        arrays[i].step = steps.empty() ? 0 : steps.at(i);
    }
    return arrays;
}

LearningRate rate_of(double number, const ArrayView& array) {
    return {number, array.data, array.dtype == DType::float64};
}

}  // namespace

void register_optim(py::module_& m) {
    py::class_<OptimConfig>(m, "OptimConfig", py::module_local())
        .def(py::init([](int chunk) {
                 OptimConfig config{chunk};
                 check(config);
                 return config;
             }),
             py::arg("chunk"))
        .def_readonly("chunk", &OptimConfig::chunk)
        .def("__repr__", &OptimConfig::to_string);
    m.def(
        "optim_config", [](int64_t elements) { return optim_config(elements, current_device()); }, py::arg("elements"));
    m.def(
        "sgd_step",
        [](const Views& params, const Views& grads, const Views& momenta, double lr, ArrayView lr_array,
           double momentum, double dampening, double weight_decay, bool nesterov, bool maximize, bool first_step,
           const Views& narrow, ArrayView gradients, const OptimConfig& config, Stream stream) {
            if (params.empty()) return;
            const auto arrays = arrays_of({&params, &grads, &momenta}, narrow, {}, {});
            py::gil_scoped_release release;
            sgd_step(arrays, grads[0].dtype,
                     {rate_of(lr, lr_array), momentum, dampening, weight_decay, nesterov, maximize, first_step},
                     {nullptr, gradients.as<double>()}, config, as_stream(stream));
        },
        py::arg("params"), py::arg("grads"), py::arg("momenta"), py::arg("lr"), py::arg("lr_array"),
        py::arg("momentum"), py::arg("dampening"), py::arg("weight_decay"), py::arg("nesterov"), py::arg("maximize"),
        py::arg("first_step"), py::arg("narrow"), py::arg("gradients"), py::arg("config"), py::arg("stream"));
    m.def(
        "adam_step",
        [](const Views& params, const Views& grads, const Views& exp_avgs, const Views& exp_avg_sqs,
           const Views& max_exp_avg_sqs, const Views& step_arrays, const std::vector<double>& steps, ArrayView ticket,
           double lr, ArrayView lr_array, double beta1, double beta2, double weight_decay, double eps, bool maximize,
           bool decoupled, const Views& narrow, ArrayView gradients, const OptimConfig& config, Stream stream) {
            if (params.empty()) return;
            const auto arrays =
                arrays_of({&params, &grads, &exp_avgs, &exp_avg_sqs, &max_exp_avg_sqs}, narrow, step_arrays, steps);
            py::gil_scoped_release release;
            adam_step(arrays, grads[0].dtype,
                      {rate_of(lr, lr_array), beta1, beta2, weight_decay, eps, maximize, decoupled},
                      {ticket.as<unsigned>(), gradients.as<double>()}, config, as_stream(stream));
        },
        py::arg("params"), py::arg("grads"), py::arg("exp_avgs"), py::arg("exp_avg_sqs"), py::arg("max_exp_avg_sqs"),
        py::arg("step_arrays"), py::arg("steps"), py::arg("ticket"), py::arg("lr"), py::arg("lr_array"),
        py::arg("beta1"), py::arg("beta2"), py::arg("weight_decay"), py::arg("eps"), py::arg("maximize"),
        py::arg("decoupled"), py::arg("narrow"), py::arg("gradients"), py::arg("config"), py::arg("stream"));
    m.def(
        "adagrad_step",
        [](const Views& params, const Views& grads, const Views& sums, const Views& step_arrays,
           const std::vector<double>& steps, ArrayView ticket, double lr, ArrayView lr_array, double lr_decay,
           double weight_decay, double eps, bool maximize, const Views& narrow, ArrayView gradients,
           const OptimConfig& config, Stream stream) {
            if (params.empty()) return;
            const auto arrays = arrays_of({&params, &grads, &sums}, narrow, step_arrays, steps);
            py::gil_scoped_release release;
            adagrad_step(arrays, grads[0].dtype, {rate_of(lr, lr_array), lr_decay, weight_decay, eps, maximize},
                         {ticket.as<unsigned>(), gradients.as<double>()}, config, as_stream(stream));
        },
        py::arg("params"), py::arg("grads"), py::arg("sums"), py::arg("step_arrays"), py::arg("steps"),
        py::arg("ticket"), py::arg("lr"), py::arg("lr_array"), py::arg("lr_decay"), py::arg("weight_decay"),
        py::arg("eps"), py::arg("maximize"), py::arg("narrow"), py::arg("gradients"), py::arg("config"),
        py::arg("stream"));
    m.def(
        "rmsprop_step",
        [](const Views& params, const Views& grads, const Views& square_avgs, const Views& momenta,
           const Views& grad_avgs, const Views& step_arrays, const std::vector<double>& steps, ArrayView ticket,
           double lr, ArrayView lr_array, double alpha, double eps, double weight_decay, double momentum, bool maximize,
           const Views& narrow, ArrayView gradients, const OptimConfig& config, Stream stream) {
            if (params.empty()) return;
            const auto arrays =
                arrays_of({&params, &grads, &square_avgs, &momenta, &grad_avgs}, narrow, step_arrays, steps);
            py::gil_scoped_release release;
            rmsprop_step(
                arrays, grads[0].dtype,
                {rate_of(lr, lr_array), alpha, eps, weight_decay, momentum, maximize, /*centered=*/!grad_avgs.empty()},
                {ticket.as<unsigned>(), gradients.as<double>()}, config, as_stream(stream));
        },
        py::arg("params"), py::arg("grads"), py::arg("square_avgs"), py::arg("momenta"), py::arg("grad_avgs"),
        py::arg("step_arrays"), py::arg("steps"), py::arg("ticket"), py::arg("lr"), py::arg("lr_array"),
        py::arg("alpha"), py::arg("eps"), py::arg("weight_decay"), py::arg("momentum"), py::arg("maximize"),
        py::arg("narrow"), py::arg("gradients"), py::arg("config"), py::arg("stream"));
    m.def(
        "gradient_squares",
        [](const Views& grads, ArrayView partials, int64_t first, const OptimConfig& config, Stream stream) {
            if (grads.empty()) return int64_t(0);
            const auto arrays = arrays_of({&grads}, {}, {}, {});
            const int64_t rows = gradient_norm_blocks(arrays, config);
            if (first < 0 || partials.shape.at(0) < first + rows)
                throw std::invalid_argument("gradient_squares: partials has too few rows");
            py::gil_scoped_release release;
            gradient_squares(arrays, grads[0].dtype, partials.as<double>() + 2 * first, config, as_stream(stream));
            return rows;
        },
        py::arg("grads"), py::arg("partials"), py::arg("first"), py::arg("config"), py::arg("stream"));
    m.def(
        "gradient_state",
        [](ArrayView partials, ArrayView scale, double max_norm, ArrayView state, Stream stream) {
            py::gil_scoped_release release;
            gradient_state(partials.as<double>(), partials.shape.at(0), scale.as<float>(), max_norm, state.as<double>(),
                           as_stream(stream));
        },
        py::arg("partials"), py::arg("scale"), py::arg("max_norm"), py::arg("state"), py::arg("stream"));
    m.def(
        "scale_gradients",
        [](const Views& grads, ArrayView state, const OptimConfig& config, Stream stream) {
            if (grads.empty()) return;
            const auto arrays = arrays_of({&grads}, {}, {}, {});
            py::gil_scoped_release release;
            scale_gradients(arrays, grads[0].dtype, state.as<double>(), config, as_stream(stream));
        },
        py::arg("grads"), py::arg("state"), py::arg("config"), py::arg("stream"));
    m.def(
        "update_loss_scale",
        [](ArrayView scale, ArrayView tracker, ArrayView state, double growth, double backoff, int interval,
           Stream stream) {
            py::gil_scoped_release release;
            update_loss_scale(scale.as<float>(), tracker.as<int>(), state.as<double>(), growth, backoff, interval,
                              as_stream(stream));
        },
        py::arg("scale"), py::arg("tracker"), py::arg("state"), py::arg("growth"), py::arg("backoff"),
        py::arg("interval"), py::arg("stream"));
}
