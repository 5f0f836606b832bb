#include "../bindings/array_view.h"
#include "attention.h"

namespace {

AttentionStrides strides_of(const ArrayView& a) {
    return a.present ? AttentionStrides{a.strides[0], a.strides[1], a.strides[2], a.strides[3]} : AttentionStrides{};
}

AttentionCausal causal_from_name(const std::string& name) {
    if (name == "none") return AttentionCausal::none;
    if (name == "top_left") return AttentionCausal::top_left;
    if (name == "bottom_right") return AttentionCausal::bottom_right;
    throw py::value_error("attention: causal is \"" + name + "\", expected none, top_left or bottom_right");
}

// What dropout needs, as Python gives it.
struct Dropout {
    ArrayView state;
    uint64_t offset;
    uint32_t threshold;
    double scale;
};

AttentionProblem problem_of(const ArrayView& q, const ArrayView& k, const ArrayView& v, const ArrayView& mask,
                            double scale, const std::string& causal, const Dropout& dropout) {
    AttentionProblem p{};
    p.batch = q.shape[0], p.heads = q.shape[1], p.queries = q.shape[2], p.d = q.shape[3];
    p.key_heads = k.shape[1], p.keys = k.shape[2], p.dv = v.shape[3];
    p.q = q.data, p.k = k.data, p.v = v.data;
    p.q_strides = strides_of(q), p.k_strides = strides_of(k), p.v_strides = strides_of(v);
    p.scale = scale, p.causal = causal_from_name(causal);
    p.mask = mask.data, p.mask_strides = strides_of(mask);
    p.mask_kind = !mask.present                ? AttentionMask::none
                  : mask.dtype == DType::bool_ ? AttentionMask::boolean
                  : mask.dtype == q.dtype      ? AttentionMask::additive
                                               : AttentionMask::additive_wide;
    p.state = dropout.state.as<const uint64_t>(), p.offset = dropout.offset, p.threshold = dropout.threshold;
    p.keep_scale = dropout.scale;
    return p;
}

}  // namespace

void register_attention(py::module_& m) {
    py::class_<AttentionConfig>(m, "AttentionConfig", py::module_local())
        .def(py::init([](int max_blocks) {
                 if (max_blocks < 1)
                     throw py::value_error("AttentionConfig: max_blocks is " + std::to_string(max_blocks) +
                                           ", expected at least 1");
                 return AttentionConfig{max_blocks};
             }),
             py::arg("max_blocks") = AttentionConfig{}.max_blocks)
        .def_readonly("max_blocks", &AttentionConfig::max_blocks)
        .def("__repr__", &AttentionConfig::to_string);
    m.def(
        "attention_config",
        [](int64_t queries, int64_t keys, int64_t d, int64_t dv) {
            return attention_config(queries, keys, d, dv, current_device());
        },
        py::arg("queries"), py::arg("keys"), py::arg("d"), py::arg("dv"));
    m.def("attention_shared_bytes", &attention_shared_bytes, py::arg("d"), py::arg("dv"), py::arg("backward"),
          py::arg("accumulator_bytes"));
    m.def(
        "attention",
        [](ArrayView out, ArrayView lse, ArrayView q, ArrayView k, ArrayView v, ArrayView mask, double scale,
           const std::string& causal, ArrayView state, uint64_t offset, uint32_t threshold, double keep_scale,
           const AttentionConfig& config, Stream stream) {
            const AttentionForward a{problem_of(q, k, v, mask, scale, causal, {state, offset, threshold, keep_scale}),
                                     out.data, strides_of(out), lse.data};
            py::gil_scoped_release release;
            attention(a, q.dtype, config, as_stream(stream));
        },
        py::arg("out"), py::arg("lse"), py::arg("q"), py::arg("k"), py::arg("v"), py::arg("mask"), py::arg("scale"),
        py::arg("causal"), py::arg("state"), py::arg("offset"), py::arg("threshold"), py::arg("keep_scale"),
        py::arg("config"), py::arg("stream"));
    m.def(
        "attention_backward",
        [](ArrayView dq, ArrayView dk, ArrayView dv, ArrayView ds, ArrayView delta, ArrayView grad, ArrayView q,
           ArrayView k, ArrayView v, ArrayView out, ArrayView lse, ArrayView mask, double scale,
           const std::string& causal, ArrayView state, uint64_t offset, uint32_t threshold, double keep_scale,
           const AttentionConfig& config, Stream stream) {
            const AttentionBackward a{problem_of(q, k, v, mask, scale, causal, {state, offset, threshold, keep_scale}),
                                      grad.data,
                                      out.data,
                                      strides_of(grad),
                                      strides_of(out),
                                      lse.data,
                                      delta.data,
                                      dq.data,
                                      dk.data,
                                      dv.data,
                                      strides_of(dq),
                                      strides_of(dk),
                                      strides_of(dv),
                                      ds.data};
            py::gil_scoped_release release;
            attention_backward(a, q.dtype, config, as_stream(stream));
        },
        py::arg("dq"), py::arg("dk"), py::arg("dv"), py::arg("ds"), py::arg("delta"), py::arg("grad"), py::arg("q"),
        py::arg("k"), py::arg("v"), py::arg("out"), py::arg("lse"), py::arg("mask"), py::arg("scale"),
        py::arg("causal"), py::arg("state"), py::arg("offset"), py::arg("threshold"), py::arg("keep_scale"),
        py::arg("config"), py::arg("stream"));
}
