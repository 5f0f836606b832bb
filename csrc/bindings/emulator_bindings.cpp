// The emulator's options as Python sees them (fastnet.kernels.use).
#include "array_view.h"
#include "../emulator/device.h"
#include "../emulator/emulator.h"

void register_emulator(py::module_& m) {
    py::register_exception<emu::Error>(m, "EmulatorError", PyExc_RuntimeError);
    m.def("set_schedule", [](const std::string& order, unsigned seed, const std::string& copies) {
        emu::Options o;
        o.order = order == "reverse" ? emu::Order::reverse : order == "random" ? emu::Order::random : emu::Order::forward;
        o.seed = seed;
        o.late = copies == "late";
        emu::options() = o;
    }, py::arg("order"), py::arg("seed"), py::arg("copies"));
    m.def("set_device", [](const std::string& name) { emu::posed_device() = known_device(name); }, py::arg("name"));
}
