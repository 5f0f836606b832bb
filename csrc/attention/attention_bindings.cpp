#include "../bindings/array_view.h"
#include "attention.h"
#include "attention_cache.h"

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

AttentionFamily family_from_name(const std::string& name) {
    for (int i = 0; i < int(std::size(kAttentionFamilies)); ++i)
        if (name == kAttentionFamilies[i]) return AttentionFamily(i);
    throw py::value_error("AttentionConfig: family is \"" + name + "\", expected general, sm80 or sm90");
}

// What dropout needs, as Python gives it.
struct Dropout {
    ArrayView state;
    uint64_t offset;
    uint32_t threshold;
    double scale;
};

// What AttentionFeatures is made of, as Python gives it. With q_starts, arrays are (1, heads, tokens, d).
struct Features {
    int64_t window_left, window_right;
    double softcap;
    ArrayView slopes, q_starts, k_starts;
    int64_t longest_q, longest_k;
    ArrayView fault;
};

void add_features(AttentionProblem& p, const Features& given) {
    AttentionFeatures& f = p.features;
    f.window_left = given.window_left, f.window_right = given.window_right, f.softcap = given.softcap;
    if (given.slopes.present) {
        f.slopes = given.slopes.as<const float>();
        f.slope_batch = given.slopes.strides[0], f.slope_head = given.slopes.strides[1];
    }
    if (!given.q_starts.present) return;
    f.q_starts = given.q_starts.as<const int32_t>(), f.k_starts = given.k_starts.as<const int32_t>();
    f.query_tokens = p.queries, f.key_tokens = p.keys, f.fault = given.fault.as<int>();
    p.batch = given.q_starts.size() - 1, p.queries = given.longest_q, p.keys = given.longest_k;
}

AttentionProblem problem_of(const ArrayView& q, const ArrayView& k, const ArrayView& v, const ArrayView& mask,
                            double scale, const std::string& causal, const Dropout& dropout, const Features& features,
                            bool tf32 = false) {
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
    add_features(p, features);
    p.tf32 = tf32;
    return p;
}

}  // namespace

void register_attention(py::module_& m) {
    py::class_<AttentionConfig>(m, "AttentionConfig", py::module_local())
        .def(py::init([](int max_blocks, const std::string& family, int stages) {
                 if (max_blocks < 1)
                     throw py::value_error("AttentionConfig: max_blocks is " + std::to_string(max_blocks) +
                                           ", expected at least 1");
                 if (stages < 2 || stages > kMmaMaxStages)
                     throw py::value_error("AttentionConfig: stages is " + std::to_string(stages) + ", expected 2 to " +
                                           std::to_string(kMmaMaxStages));
                 return AttentionConfig{max_blocks, family_from_name(family), stages};
             }),
             py::arg("max_blocks") = AttentionConfig{}.max_blocks, py::arg("family") = "general",
             py::arg("stages") = AttentionConfig{}.stages)
        .def_readonly("max_blocks", &AttentionConfig::max_blocks)
        .def_property_readonly("family", [](const AttentionConfig& c) { return kAttentionFamilies[int(c.family)]; })
        .def_readonly("stages", &AttentionConfig::stages)
        .def("__repr__", &AttentionConfig::to_string);
    m.def(
        "attention_config",
        [](int64_t d, int64_t dv, const std::string& dtype, bool backward, const std::string& device, bool tma) {
            return attention_config(d, dv, dtype_from_name(dtype), backward, tma,
                                    device.empty() ? current_device() : known_device(device));
        },
        py::arg("d"), py::arg("dv"), py::arg("dtype"), py::arg("backward") = false, py::arg("device") = "",
        py::arg("tma") = true);
    m.def(
        "attention_rows_by_tma",
        [](const ArrayView& x) {
            const auto& n = x.shape;
            return attention_rows_by_tma(x.data, strides_of(x), n[0], n[1], n[2], n[3]);
        },
        py::arg("x"));
    m.def("attention_shared_bytes", &attention_shared_bytes, py::arg("d"), py::arg("dv"), py::arg("backward"),
          py::arg("accumulator_bytes"));
    m.def(
        "attention",
        [](ArrayView out, ArrayView lse, ArrayView q, ArrayView k, ArrayView v, ArrayView mask, double scale,
           const std::string& causal, ArrayView state, uint64_t offset, uint32_t threshold, double keep_scale,
           int64_t window_left, int64_t window_right, double softcap, ArrayView slopes, ArrayView q_starts,
           ArrayView k_starts, int64_t longest_q, int64_t longest_k, ArrayView fault, bool tf32,
           const AttentionConfig& config, Stream stream) {
            const Features features{window_left, window_right, softcap,   slopes, q_starts,
                                    k_starts,    longest_q,    longest_k, fault};
            const AttentionForward a{
                problem_of(q, k, v, mask, scale, causal, {state, offset, threshold, keep_scale}, features, tf32),
                out.data, strides_of(out), lse.data};
            py::gil_scoped_release release;
            attention(a, q.dtype, config, as_stream(stream));
        },
        py::arg("out"), py::arg("lse"), py::arg("q"), py::arg("k"), py::arg("v"), py::arg("mask"), py::arg("scale"),
        py::arg("causal"), py::arg("state"), py::arg("offset"), py::arg("threshold"), py::arg("keep_scale"),
        py::arg("window_left"), py::arg("window_right"), py::arg("softcap"), py::arg("slopes"), py::arg("q_starts"),
        py::arg("k_starts"), py::arg("longest_q"), py::arg("longest_k"), py::arg("fault"), py::arg("tf32"),
        py::arg("config"), py::arg("stream"));
    m.def(
        "attention_backward",
        [](ArrayView dq, ArrayView dk, ArrayView dv, ArrayView ds, ArrayView delta, ArrayView grad, ArrayView q,
           ArrayView k, ArrayView v, ArrayView out, ArrayView lse, ArrayView mask, double scale,
           const std::string& causal, ArrayView state, uint64_t offset, uint32_t threshold, double keep_scale,
           int64_t window_left, int64_t window_right, double softcap, ArrayView slopes, ArrayView q_starts,
           ArrayView k_starts, int64_t longest_q, int64_t longest_k, ArrayView fault, bool tf32,
           const AttentionConfig& config, Stream stream) {
            const Features features{window_left, window_right, softcap,   slopes, q_starts,
                                    k_starts,    longest_q,    longest_k, fault};
            const AttentionBackward a{
                problem_of(q, k, v, mask, scale, causal, {state, offset, threshold, keep_scale}, features, tf32),
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
        py::arg("window_left"), py::arg("window_right"), py::arg("softcap"), py::arg("slopes"), py::arg("q_starts"),
        py::arg("k_starts"), py::arg("longest_q"), py::arg("longest_k"), py::arg("fault"), py::arg("tf32"),
        py::arg("config"), py::arg("stream"));
    py::class_<AttentionCacheConfig>(m, "AttentionCacheConfig", py::module_local())
        .def(py::init([](int splits) {
                 const AttentionCacheConfig config{splits};
                 check(config);
                 return config;
             }),
             py::arg("splits") = AttentionCacheConfig{}.splits)
        .def_readonly("splits", &AttentionCacheConfig::splits)
        .def("__repr__", &AttentionCacheConfig::to_string);
    m.def(
        "attention_cache_config",
        [](int64_t batch, int64_t key_heads, int64_t rows, int64_t capacity) {
            return attention_cache_config(batch, key_heads, rows, capacity, current_device());
        },
        py::arg("batch"), py::arg("key_heads"), py::arg("rows"), py::arg("capacity"));
    m.def(
        "attention_with_kvcache",
        [](ArrayView out, ArrayView lse, ArrayView q, ArrayView k_cache, ArrayView v_cache, ArrayView k, ArrayView v,
           ArrayView lengths, ArrayView part, ArrayView statistics, double scale, const std::string& causal,
           int64_t window_left, int64_t window_right, double softcap, ArrayView slopes, ArrayView fault,
           const AttentionCacheConfig& config, Stream stream) {
            const Features features{window_left, window_right, softcap, slopes, {}, {}, 0, 0, {}};
            AttentionCache a{problem_of(q, k_cache, v_cache, {}, scale, causal, {{}, 0, 0, 1}, features)};
            a.k = k.data, a.v = v.data, a.k_strides = strides_of(k), a.v_strides = strides_of(v);
            a.added = k.present ? k.shape[2] : 0, a.lengths = lengths.as<const int32_t>();
            a.out = out.data, a.out_strides = strides_of(out), a.lse = lse.data;
            a.part = part.data, a.statistics = statistics.data, a.fault = fault.as<int>();
            py::gil_scoped_release release;
            attention_with_kvcache(a, q.dtype, config, as_stream(stream));
        },
        py::arg("out"), py::arg("lse"), py::arg("q"), py::arg("k_cache"), py::arg("v_cache"), py::arg("k"),
        py::arg("v"), py::arg("lengths"), py::arg("part"), py::arg("statistics"), py::arg("scale"), py::arg("causal"),
        py::arg("window_left"), py::arg("window_right"), py::arg("softcap"), py::arg("slopes"), py::arg("fault"),
        py::arg("config"), py::arg("stream"));
}
