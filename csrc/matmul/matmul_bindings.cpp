#include "../bindings/array_view.h"
#include "matmul.h"

namespace {

MatmulTile tile_from_name(const std::string& name) {
    if (name == "small") return MatmulTile::small;
    if (name == "medium") return MatmulTile::medium;
    if (name == "large") return MatmulTile::large;
    throw py::value_error("MatmulConfig: tile is \"" + name + "\", expected small, medium or large");
}

bool is_floating(DType dtype) {
    return dtype == DType::float32 || dtype == DType::float64 || dtype == DType::float16 || dtype == DType::bfloat16;
}

// x: (batch..., m, n) with a's batch dimensions, or None.
MatmulAddend addend(const ArrayView& x, const ArrayView& a) {
    MatmulAddend to{};
    if (!x.present) return to;
    if (x.ndim() != a.ndim()) throw py::value_error("matmul: c and residual need the operands' rank");
    const int rank = a.ndim() - 2;
    to.data = x.data, to.row = x.strides[rank], to.column = x.strides[rank + 1], to.wide = x.dtype != a.dtype;
    for (int d = 0; d < rank; ++d) to.batch[d] = x.strides[d];
    return to;
}

}  // namespace

void register_matmul(py::module_& m) {
    py::class_<MatmulConfig>(m, "MatmulConfig", py::module_local())  // _cuda and _emulated may both be loaded
        .def(py::init([](const std::string& tile, int fold, int max_blocks) {
            if (fold < kMatmulStep || fold % kMatmulStep)
                throw py::value_error("MatmulConfig: fold is " + std::to_string(fold) + ", expected a positive multiple of 8");
            if (max_blocks < 1) throw py::value_error("MatmulConfig: max_blocks is " + std::to_string(max_blocks) + ", expected at least 1");
            return MatmulConfig{tile_from_name(tile), fold, max_blocks};
        }), py::arg("tile"), py::arg("fold") = MatmulConfig{}.fold, py::arg("max_blocks") = MatmulConfig{}.max_blocks)
        .def_property_readonly("tile", [](const MatmulConfig& c) {
            return c.tile == MatmulTile::small ? "small" : c.tile == MatmulTile::medium ? "medium" : "large";
        })
        .def_readonly("fold", &MatmulConfig::fold)
        .def_property_readonly("shape", [](const MatmulConfig& c) {
            const MatmulTileShape s = matmul_tile_shape(c.tile);
            return py::make_tuple(s.rows, s.columns);
        })
        .def("shared_bytes", [](const MatmulConfig& c, int accumulator_bytes) {
            return matmul_shared_bytes(matmul_tile_shape(c.tile), accumulator_bytes);
        }, py::arg("accumulator_bytes"))
        .def("__repr__", &MatmulConfig::to_string);
    m.def("known_devices", [] {
        py::dict devices;                // name: bytes of shared memory a block may have
        for (const DeviceProperties& d : known_devices()) devices[d.name.c_str()] = d.shared_per_block;
        return devices;
    });
    m.def("matmul_config", [](int64_t batch, int64_t m_, int64_t n, int64_t k, const std::string& dtype, const std::string& device) {
        const bool narrow = dtype == "float32" || dtype == "float16" || dtype == "bfloat16";
        return matmul_config({batch, m_, n, k, narrow}, device.empty() ? current_device() : known_device(device));
    }, py::arg("batch"), py::arg("m"), py::arg("n"), py::arg("k"), py::arg("dtype"), py::arg("device") = "");
    // a: (batch..., m, k), b: (batch..., k, n) with the same batch dimensions, at most kMatmulBatchRank of them; validated
    // in fastnet/kernels/matmul.py.
    m.def("matmul", [](ArrayView out, ArrayView preactivation, ArrayView a, ArrayView b, ArrayView bias, ArrayView c, ArrayView residual,
                       double alpha, double beta, const std::string& activation, double parameter, const MatmulConfig& config, Stream stream) {
        MatmulArguments x{};
        x.out = out.data, x.preactivation = preactivation.data, x.a = a.data, x.b = b.data, x.bias = bias.data;
        const int rank = a.ndim() - 2;
        if (rank < 0 || rank > kMatmulBatchRank || b.ndim() != a.ndim())
            throw py::value_error("matmul: operands need the same rank, from 2 to " + std::to_string(kMatmulBatchRank + 2));
        x.m = a.shape[rank], x.k = a.shape[rank + 1], x.n = b.shape[rank + 1];
        x.a_row = a.strides[rank], x.a_k = a.strides[rank + 1], x.b_k = b.strides[rank], x.b_column = b.strides[rank + 1];
        if (bias.present) x.bias_stride = bias.strides[0];
        x.batch_rank = rank;
        for (int d = 0; d < rank; ++d)
            x.batch_shape[d] = a.shape[d], x.a_batch[d] = a.strides[d], x.b_batch[d] = b.strides[d];
        x.wide_out = out.dtype != a.dtype;
        x.alpha = alpha, x.beta = beta;
        if (!is_floating(a.dtype)) x.integer_alpha = int64_t(alpha), x.integer_beta = int64_t(beta);
        x.c = addend(c, a), x.residual = addend(residual, a);
        x.activation = activation_from_name(activation, parameter);
        py::gil_scoped_release release;
        matmul(x, a.dtype, config, as_stream(stream));
    }, py::arg("out"), py::arg("preactivation"), py::arg("a"), py::arg("b"), py::arg("bias"), py::arg("c"),
       py::arg("residual"), py::arg("alpha"), py::arg("beta"), py::arg("activation"), py::arg("parameter"), py::arg("config"), py::arg("stream"));
}
