#include "../bindings/array_view.h"
#include "norm.h"

namespace {

// Arrays come as (n, c, s) views; absent ones have no strides.
NormStrides strides_of(const ArrayView& a) {
    return a.present ? NormStrides{a.strides[0], a.strides[1], a.strides[2]} : NormStrides{};
}
NormShape shape_of(const ArrayView& a, bool channels_last) {
    return {a.shape[0], a.shape[1], a.shape[2], channels_last};
}
NormParameter parameter_of(const ArrayView& p, DType dtype) { return {p.data, p.present && p.dtype != dtype}; }

BatchNorm batch_of(const ArrayView& y, const ArrayView& x, const ArrayView& residual, const ArrayView& weight,
                   const ArrayView& bias, const ArrayView& mean, const ArrayView& rstd, const ArrayView& running_mean,
                   const ArrayView& running_var, bool channels_last, double eps, bool relu) {
    BatchNorm p{};
    p.y = y.data, p.x = x.data, p.residual = residual.data;
    p.weight = parameter_of(weight, x.dtype), p.bias = parameter_of(bias, x.dtype);
    p.mean = mean.data, p.rstd = rstd.data, p.running_mean = running_mean.data, p.running_var = running_var.data;
    p.running = running_mean.present ? running_mean.dtype : running_var.dtype;
    p.shape = shape_of(x, channels_last);
    p.y_strides = strides_of(y), p.x_strides = strides_of(x), p.residual_strides = strides_of(residual);
    p.eps = eps, p.relu = relu;
    return p;
}

}  // namespace

void register_norm(py::module_& m) {
    py::class_<NormConfig>(m, "NormConfig", py::module_local())
        .def(py::init([](int team, int block, int blocks, int columns, int splits) {
                 NormConfig config{team, block, blocks, columns, splits};
                 check(config);
                 return config;
             }),
             py::arg("team") = NormConfig{}.team, py::arg("block") = NormConfig{}.block, py::arg("blocks") = 0,
             py::arg("columns") = NormConfig{}.columns, py::arg("splits") = NormConfig{}.splits)
        .def_readonly("team", &NormConfig::team)
        .def_readonly("block", &NormConfig::block)
        .def_readonly("blocks", &NormConfig::blocks)
        .def_readonly("columns", &NormConfig::columns)
        .def_readonly("splits", &NormConfig::splits)
        .def("workspace", &norm_workspace, py::arg("channels"))
        .def("__repr__", &NormConfig::to_string);
    m.def(
        "norm_config",
        [](int64_t n, int64_t c, int64_t s, int64_t groups, bool channels_last, int accumulator_bytes) {
            return norm_config(n, c, s, groups, channels_last, accumulator_bytes, current_device());
        },
        py::arg("n"), py::arg("c"), py::arg("s"), py::arg("groups"), py::arg("channels_last"),
        py::arg("accumulator_bytes"));
    m.def(
        "group_norm",
        [](ArrayView y, ArrayView x, ArrayView weight, ArrayView bias, ArrayView mean, ArrayView rstd, int64_t groups,
           bool channels_last, double eps, ArrayView residual, ArrayView sum, ArrayView state, uint64_t offset,
           uint32_t threshold, double scale, const NormConfig& config, Stream stream) {
            const GroupNorm p{y.data,
                              x.data,
                              parameter_of(weight, x.dtype),
                              parameter_of(bias, x.dtype),
                              mean.data,
                              rstd.data,
                              shape_of(x, channels_last),
                              strides_of(y),
                              strides_of(x),
                              groups,
                              eps,
                              {residual.data, sum.data, {state.as<const uint64_t>(), offset, threshold, scale}}};
            py::gil_scoped_release release;
            group_norm(p, x.dtype, config, as_stream(stream));
        },
        py::arg("y"), py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("mean"), py::arg("rstd"),
        py::arg("groups"), py::arg("channels_last"), py::arg("eps"), py::arg("residual"), py::arg("sum"),
        py::arg("state"), py::arg("offset"), py::arg("threshold"), py::arg("scale"), py::arg("config"),
        py::arg("stream"));
    m.def(
        "group_norm_backward",
        [](ArrayView dx, ArrayView of_weight, ArrayView of_bias, ArrayView grad, ArrayView x, ArrayView weight,
           ArrayView mean, ArrayView rstd, ArrayView workspace, int64_t groups, bool channels_last, ArrayView of_sum,
           ArrayView dropped, ArrayView state, uint64_t offset, uint32_t threshold, double scale,
           const NormConfig& config, Stream stream) {
            const GroupNormBackward p{dx.data,
                                      grad.data,
                                      x.data,
                                      parameter_of(weight, x.dtype),
                                      parameter_of(of_weight, x.dtype),
                                      parameter_of(of_bias, x.dtype),
                                      mean.data,
                                      rstd.data,
                                      workspace.data,
                                      shape_of(x, channels_last),
                                      strides_of(dx),
                                      strides_of(grad),
                                      strides_of(x),
                                      groups,
                                      of_sum.data,
                                      dropped.data,
                                      {state.as<const uint64_t>(), offset, threshold, scale}};
            py::gil_scoped_release release;
            group_norm_backward(p, x.dtype, config, as_stream(stream));
        },
        py::arg("dx"), py::arg("of_weight"), py::arg("of_bias"), py::arg("grad"), py::arg("x"), py::arg("weight"),
        py::arg("mean"), py::arg("rstd"), py::arg("workspace"), py::arg("groups"), py::arg("channels_last"),
        py::arg("of_sum"), py::arg("dropped"), py::arg("state"), py::arg("offset"), py::arg("threshold"),
        py::arg("scale"), py::arg("config"), py::arg("stream"));
    m.def(
        "batch_norm",
        [](ArrayView y, ArrayView x, ArrayView residual, ArrayView weight, ArrayView bias, ArrayView mean,
           ArrayView rstd, ArrayView running_mean, ArrayView running_var, ArrayView workspace, ArrayView moments,
           bool channels_last, double eps, double momentum, bool relu, const NormConfig& config, Stream stream) {
            BatchNorm p =
                batch_of(y, x, residual, weight, bias, mean, rstd, running_mean, running_var, channels_last, eps, relu);
            p.workspace = workspace.data, p.momentum = momentum;
            if (moments.present) p.moments = moments.data, p.moment_parts = moments.shape[0];
            py::gil_scoped_release release;
            batch_norm(p, x.dtype, config, as_stream(stream));
        },
        py::arg("y"), py::arg("x"), py::arg("residual"), py::arg("weight"), py::arg("bias"), py::arg("mean"),
        py::arg("rstd"), py::arg("running_mean"), py::arg("running_var"), py::arg("workspace"), py::arg("moments"),
        py::arg("channels_last"), py::arg("eps"), py::arg("momentum"), py::arg("relu"), py::arg("config"),
        py::arg("stream"));
    m.def(
        "batch_norm_inference",
        [](ArrayView y, ArrayView x, ArrayView residual, ArrayView weight, ArrayView bias, ArrayView mean,
           ArrayView rstd, ArrayView running_mean, ArrayView running_var, bool channels_last, double eps, bool relu,
           const NormConfig& config, Stream stream) {
            const BatchNorm p =
                batch_of(y, x, residual, weight, bias, mean, rstd, running_mean, running_var, channels_last, eps, relu);
            py::gil_scoped_release release;
            batch_norm_inference(p, x.dtype, config, as_stream(stream));
        },
        py::arg("y"), py::arg("x"), py::arg("residual"), py::arg("weight"), py::arg("bias"), py::arg("mean"),
        py::arg("rstd"), py::arg("running_mean"), py::arg("running_var"), py::arg("channels_last"), py::arg("eps"),
        py::arg("relu"), py::arg("config"), py::arg("stream"));
    m.def(
        "batch_norm_backward",
        [](ArrayView dx, ArrayView of_residual, ArrayView of_weight, ArrayView of_bias, ArrayView grad, ArrayView x,
           ArrayView y, ArrayView weight, ArrayView mean, ArrayView rstd, ArrayView workspace, bool channels_last,
           bool batch_statistics, const NormConfig& config, Stream stream) {
            const BatchNormBackward p{dx.data,
                                      of_residual.data,
                                      grad.data,
                                      x.data,
                                      y.data,
                                      parameter_of(weight, x.dtype),
                                      parameter_of(of_weight, x.dtype),
                                      parameter_of(of_bias, x.dtype),
                                      mean.data,
                                      rstd.data,
                                      workspace.data,
                                      shape_of(x, channels_last),
                                      strides_of(dx),
                                      strides_of(of_residual),
                                      strides_of(grad),
                                      strides_of(x),
                                      strides_of(y),
                                      batch_statistics};
            py::gil_scoped_release release;
            batch_norm_backward(p, x.dtype, config, as_stream(stream));
        },
        py::arg("dx"), py::arg("of_residual"), py::arg("of_weight"), py::arg("of_bias"), py::arg("grad"), py::arg("x"),
        py::arg("y"), py::arg("weight"), py::arg("mean"), py::arg("rstd"), py::arg("workspace"),
        py::arg("channels_last"), py::arg("batch_statistics"), py::arg("config"), py::arg("stream"));
}
