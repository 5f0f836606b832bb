#include "../bindings/array_view.h"
#include "augment.h"

void register_augment(py::module_& m) {
    py::class_<AugmentConfig>(m, "AugmentConfig", py::module_local())
        .def(py::init([](int parts, int blocks) {
                 if (parts < 1 || parts > 1024)
                     throw py::value_error("AugmentConfig: parts is " + std::to_string(parts) + ", expected 1 to 1024");
                 if (blocks < 1)
                     throw py::value_error("AugmentConfig: blocks is " + std::to_string(blocks) +
                                           ", expected at least 1");
                 return AugmentConfig{parts, blocks};
             }),
             py::arg("parts"), py::arg("blocks"))
        .def_readonly("parts", &AugmentConfig::parts)
        .def_readonly("blocks", &AugmentConfig::blocks)
        .def("__repr__", &AugmentConfig::to_string);
    m.def(
        "augment_config",
        [](int64_t images, int64_t elements, const std::string& device) {
            return augment_config(images, elements, device.empty() ? current_device() : known_device(device));
        },
        py::arg("images"), py::arg("elements"), py::arg("device") = "");
    m.def(
        "augment",
        [](ArrayView out, ArrayView x, ArrayView scale_shift, std::pair<int, int> padding, uint32_t flip_threshold,
           std::optional<std::pair<float, float>> degrees, std::optional<std::pair<float, float>> brightness,
           std::optional<std::pair<float, float>> contrast, ArrayView state, uint64_t offset,
           const AugmentConfig& config, Stream stream) {
            auto range = [](const std::optional<std::pair<float, float>>& r) {
                return r ? Range{r->first, r->second} : Range{0, 0};
            };
            Augmentation how{x.shape[0],
                             int(x.shape[1]),
                             int(x.shape[2]),
                             int(x.shape[3]),
                             int(out.shape[1]),
                             int(out.shape[2]),
                             padding.first,
                             padding.second,
                             flip_threshold,
                             degrees.has_value(),
                             brightness.has_value(),
                             contrast.has_value(),
                             range(degrees),
                             range(brightness),
                             range(contrast),
                             state.as<uint64_t>(),
                             offset};
            py::gil_scoped_release release;
            augment(out.as<float>(), x.as<uint8_t>(), scale_shift.as<float>(), how, config, as_stream(stream));
        },
        py::arg("out"), py::arg("x"), py::arg("scale_shift"), py::arg("padding"), py::arg("flip_threshold"),
        py::arg("degrees"), py::arg("brightness"), py::arg("contrast"), py::arg("state"), py::arg("offset"),
        py::arg("config"), py::arg("stream"));
}
