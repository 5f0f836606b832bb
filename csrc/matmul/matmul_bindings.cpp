#include "../bindings/array_view.h"
#include "matmul.h"
#include "matmul_cost.h"

namespace {

MatmulFamily family_from_name(const std::string& name) {
    for (int i = 0; i < int(std::size(kMatmulFamilies)); ++i)
        if (name == kMatmulFamilies[i]) return MatmulFamily(i);
    throw py::value_error("MatmulConfig: family is \"" + name + "\", expected general, sm80 or sm90");
}

MatmulMajor major_from_name(const std::string& name) {
    if (name == "k") return MatmulMajor::k;
    if (name == "outer") return MatmulMajor::outer;
    if (name == "none") return MatmulMajor::none;
    throw py::value_error("MatmulProblem: major is \"" + name + "\", expected k, outer or none");
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

// x: (batch..., rows, columns), an operand whose k is its last axis or the one before.
MatmulOperand layout(const ArrayView& x, bool k_is_last) {
    const int rank = x.ndim() - 2, k = rank + k_is_last, outer = rank + !k_is_last;
    std::vector<int64_t> batch;
    for (int d = 0; d < rank; ++d)
        if (x.shape[d] > 1) batch.push_back(x.strides[d]);
    return matmul_operand(reinterpret_cast<uintptr_t>(x.data), x.shape[outer], x.shape[k], x.strides[outer], x.strides[k],
                          batch.data(), int(batch.size()), matmul_item_bytes(x.dtype));
}

void check_ranks(const ArrayView& a, const ArrayView& b) {
    if (a.ndim() < 2 || a.ndim() > kMatmulBatchRank + 2 || b.ndim() != a.ndim())
        throw py::value_error("matmul: operands need the same rank, from 2 to " + std::to_string(kMatmulBatchRank + 2));
}

const DeviceProperties& device_from_name(const std::string& name) { return name.empty() ? current_device() : known_device(name); }

}  // namespace

void register_matmul(py::module_& m) {
    // Rows and columns name a tile of the family; what is 0 of k_step, stages, warps and fold is the family's own.
    py::class_<MatmulConfig>(m, "MatmulConfig", py::module_local())  // _cuda and _emulated may both be loaded
        .def(py::init([](const std::string& family, int rows, int columns, int k_step, int stages, std::pair<int, int> warps,
                         int split, bool stream_k, int cluster, int fold, int max_blocks) {
            return matmul_complete({family_from_name(family), rows, columns, k_step, stages, warps.first, warps.second, split,
                                    stream_k, cluster, fold, max_blocks});
        }), py::arg("family"), py::arg("rows"), py::arg("columns"), py::kw_only(), py::arg("k_step") = 0, py::arg("stages") = 0,
            py::arg("warps") = std::pair(0, 0), py::arg("split") = 1, py::arg("stream_k") = false, py::arg("cluster") = 1,
            py::arg("fold") = 0, py::arg("max_blocks") = MatmulConfig{}.max_blocks)
        .def_property_readonly("family", [](const MatmulConfig& c) { return kMatmulFamilies[int(c.family)]; })
        .def_readonly("rows", &MatmulConfig::rows)
        .def_readonly("columns", &MatmulConfig::columns)
        .def_readonly("k_step", &MatmulConfig::k_step)
        .def_readonly("stages", &MatmulConfig::stages)
        .def_property_readonly("warps", [](const MatmulConfig& c) { return std::pair(c.warps_down, c.warps_across); })
        .def_readonly("split", &MatmulConfig::split)
        .def_readonly("stream_k", &MatmulConfig::stream_k)
        .def_readonly("cluster", &MatmulConfig::cluster)
        .def_readonly("fold", &MatmulConfig::fold)
        .def_readonly("max_blocks", &MatmulConfig::max_blocks)
        .def("__repr__", &MatmulConfig::to_string);
    // What dispatch sees of a product. Made by matmul_problem() from arrays, or here for one that nobody holds.
    py::class_<MatmulProblem>(m, "MatmulProblem", py::module_local())
        .def(py::init([](int64_t m_, int64_t n, int64_t k, const std::string& dtype, int64_t batch, const std::string& out_dtype,
                         const std::string& a_major, const std::string& b_major, int a_alignment, int b_alignment, bool tf32, bool row_sums) {
            const DType type = dtype_from_name(dtype);
            return MatmulProblem{batch, m_, n, k, type, out_dtype.empty() ? type : dtype_from_name(out_dtype),
                                 {major_from_name(a_major), a_alignment}, {major_from_name(b_major), b_alignment}, tf32, row_sums};
        }), py::arg("m"), py::arg("n"), py::arg("k"), py::arg("dtype"), py::kw_only(), py::arg("batch") = 1, py::arg("out_dtype") = "",
            py::arg("a_major") = "k", py::arg("b_major") = "outer", py::arg("a_alignment") = 16, py::arg("b_alignment") = 16,
            py::arg("tf32") = false, py::arg("row_sums") = false)
        .def_readonly("batch", &MatmulProblem::batch)
        .def_readonly("m", &MatmulProblem::m)
        .def_readonly("n", &MatmulProblem::n)
        .def_readonly("k", &MatmulProblem::k)
        .def_property_readonly("a_alignment", [](const MatmulProblem& p) { return p.a.alignment; })
        .def_property_readonly("b_alignment", [](const MatmulProblem& p) { return p.b.alignment; });
    m.def("known_devices", [] {
        py::dict devices;                // name: bytes of shared memory a block may have
        for (const DeviceProperties& d : known_devices()) devices[d.name.c_str()] = d.shared_per_block;
        return devices;
    });
    m.def("matmul_problem", [](const ArrayView& out, const ArrayView& a, const ArrayView& b, bool tf32, bool row_sums) {
        check_ranks(a, b);
        const int rank = a.ndim() - 2;
        MatmulProblem p{1, a.shape[rank], b.shape[rank + 1], a.shape[rank + 1], a.dtype, out.dtype, layout(a, true), layout(b, false), tf32, row_sums};
        for (int d = 0; d < rank; ++d) p.batch *= a.shape[d];
        return p;
    }, py::arg("out"), py::arg("a"), py::arg("b"), py::arg("tf32") = false, py::arg("row_sums") = false);
    m.def("matmul_config", [](const MatmulProblem& p, const std::string& device) { return matmul_config(p, device_from_name(device)); },
          py::arg("problem"), py::arg("device") = "");
    m.def("matmul_candidates", [](const MatmulProblem& p, const std::string& device) {
        std::vector<MatmulConfig> found;
        matmul_candidates(p, device_from_name(device), [&](const MatmulConfig& c) { found.push_back(c); });
        return found;
    }, py::arg("problem"), py::arg("device") = "");
    m.def("matmul_estimate", [](const MatmulConfig& c, const MatmulProblem& p, const std::string& device) {
        const MatmulEstimate e = matmul_estimate(c, p, device_from_name(device));
        const MatmulLoop loop = matmul_loop(c, p, device_from_name(device));
        py::dict found;
        found["microseconds"] = e.seconds * 1e6;
        found["compute_microseconds"] = e.compute * 1e6;
        found["memory_microseconds"] = e.memory * 1e6;
        found["overhead_microseconds"] = e.overhead * 1e6;
        found["blocks"] = e.blocks;
        found["waves"] = e.waves;
        found["memory_bytes"] = e.memory_bytes;
        found["bound"] = e.bound;
        found["threads"] = loop.threads;         // of a block
        found["registers"] = loop.registers;     // of a thread, at most
        return found;
    }, py::arg("config"), py::arg("problem"), py::arg("device") = "");
    m.def("matmul_check", [](const MatmulConfig& c, const MatmulProblem& p, const std::string& device) {
        matmul_check(c, p, device_from_name(device));
    }, py::arg("config"), py::arg("problem"), py::arg("device") = "");
    m.def("matmul_shared_bytes", &matmul_shared_bytes, py::arg("config"), py::arg("problem"));
    m.def("matmul_workspace_bytes", &matmul_workspace_bytes, py::arg("config"), py::arg("problem"));
    // a: (batch..., m, k), b: (batch..., k, n) with the same batch dimensions, at most kMatmulBatchRank of them; validated
    // in fastnet/kernels/matmul.py, the config by matmul_check.
    m.def("matmul", [](ArrayView out, ArrayView preactivation, ArrayView a, ArrayView b, ArrayView bias, ArrayView c, ArrayView residual,
                       ArrayView row_sums, ArrayView workspace, double alpha, double beta, const std::string& activation, double parameter, bool tf32,
                       const MatmulConfig& config, Stream stream) {
        check_ranks(a, b);
        MatmulArguments x{};
        x.out = out.data, x.preactivation = preactivation.data, x.a = a.data, x.b = b.data, x.bias = bias.data;
        x.row_sums = row_sums.data, x.workspace = workspace.data, x.tf32 = tf32;
        const int rank = a.ndim() - 2;
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
       py::arg("residual"), py::arg("row_sums"), py::arg("workspace"), py::arg("alpha"), py::arg("beta"), py::arg("activation"), py::arg("parameter"),
       py::arg("tf32"), py::arg("config"), py::arg("stream"));
}
