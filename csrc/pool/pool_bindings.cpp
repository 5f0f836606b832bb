#include "../bindings/array_view.h"
#include "pool.h"
#include <array>

namespace {

// (size, out, kernel, stride, padding, dilation) of each dimension of the image; images and results are contiguous
// (N, H, W, C), checked in fastnet/kernels/pool.py.
using Numbers = std::array<int, 6>;

PoolAxis axis(const Numbers& n, bool adaptive) { return {n[0], n[1], n[2], n[3], n[4], n[5], adaptive}; }

PoolProblem problem(const ArrayView& images, const Numbers& rows, const Numbers& columns, bool adaptive) {
    if (images.ndim() != 4) throw py::value_error("pool: images need 4 dimensions");
    return {images.shape[0], images.shape[3], axis(rows, adaptive), axis(columns, adaptive)};
}

}  // namespace

void register_pool(py::module_& m) {
    py::class_<PoolConfig>(m, "PoolConfig", py::module_local())  // _cuda and _emulated may both be loaded
        .def(py::init([](int vector, int lanes, int blocks) {
                 if (vector != 1 && vector != 2 && vector != 4 && vector != 8)
                     throw py::value_error("PoolConfig: vector is " + std::to_string(vector) +
                                           ", expected 1 or what fills 16 bytes (2, 4, 8)");
                 if (lanes < 1 || lanes > kPoolThreads || (lanes & (lanes - 1)))
                     throw py::value_error("PoolConfig: lanes is " + std::to_string(lanes) +
                                           ", expected a power of two up to 256");
                 if (blocks < 1)
                     throw py::value_error("PoolConfig: blocks is " + std::to_string(blocks) + ", expected at least 1");
                 return PoolConfig{vector, lanes, blocks};
             }),
             py::arg("vector"), py::arg("lanes"), py::arg("blocks"))
        .def_readonly("vector", &PoolConfig::vector)
        .def_readonly("lanes", &PoolConfig::lanes)
        .def_readonly("blocks", &PoolConfig::blocks)
        .def("__repr__", &PoolConfig::to_string);
    m.def(
        "pool_config",
        [](int64_t pixels, int64_t channels, int itemsize, bool vectors_fit, const std::string& device) {
            return pool_config(pixels, channels, itemsize, vectors_fit,
                               device.empty() ? current_device() : known_device(device));
        },
        py::arg("pixels"), py::arg("channels"), py::arg("itemsize"), py::arg("vectors_fit"), py::arg("device") = "");
    m.def(
        "max_pool",
        [](ArrayView out, ArrayView indices, ArrayView x, const Numbers& rows, const Numbers& columns, bool adaptive,
           const PoolConfig& config, Stream stream) {
            const PoolProblem p = problem(x, rows, columns, adaptive);
            py::gil_scoped_release release;
            max_pool(out.data, indices.as<int32_t>(), x.data, x.dtype, p, config, as_stream(stream));
        },
        py::arg("out"), py::arg("indices"), py::arg("x"), py::arg("rows"), py::arg("columns"), py::arg("adaptive"),
        py::arg("config"), py::arg("stream"));
    m.def(
        "max_pool_backward",
        [](ArrayView out, ArrayView grad, ArrayView x, ArrayView indices, const Numbers& rows, const Numbers& columns,
           bool adaptive, const PoolConfig& config, Stream stream) {
            const PoolProblem p = problem(out, rows, columns, adaptive);
            py::gil_scoped_release release;
            max_pool_backward(out.data, grad.data, x.data, indices.as<int32_t>(), grad.dtype, p, config,
                              as_stream(stream));
        },
        py::arg("out"), py::arg("grad"), py::arg("x"), py::arg("indices"), py::arg("rows"), py::arg("columns"),
        py::arg("adaptive"), py::arg("config"), py::arg("stream"));
    m.def(
        "avg_pool",
        [](ArrayView out, ArrayView x, const Numbers& rows, const Numbers& columns, bool adaptive, bool include_pad,
           int divisor, const PoolConfig& config, Stream stream) {
            const PoolProblem p = problem(x, rows, columns, adaptive);
            py::gil_scoped_release release;
            avg_pool(out.data, x.data, x.dtype, p, {include_pad, divisor}, config, as_stream(stream));
        },
        py::arg("out"), py::arg("x"), py::arg("rows"), py::arg("columns"), py::arg("adaptive"), py::arg("include_pad"),
        py::arg("divisor"), py::arg("config"), py::arg("stream"));
    m.def(
        "avg_pool_backward",
        [](ArrayView out, ArrayView grad, const Numbers& rows, const Numbers& columns, bool adaptive, bool include_pad,
           int divisor, const PoolConfig& config, Stream stream) {
            const PoolProblem p = problem(out, rows, columns, adaptive);
            py::gil_scoped_release release;
            avg_pool_backward(out.data, grad.data, grad.dtype, p, {include_pad, divisor}, config, as_stream(stream));
        },
        py::arg("out"), py::arg("grad"), py::arg("rows"), py::arg("columns"), py::arg("adaptive"),
        py::arg("include_pad"), py::arg("divisor"), py::arg("config"), py::arg("stream"));
}
