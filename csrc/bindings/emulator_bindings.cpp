// The emulator's options as Python sees them (fastnet.kernels.use).
#include "array_view.h"
#include "../emulator/device.h"
#include "../emulator/emulator.h"
#ifdef EMU_COUNT
#include "../emulator/counters.h"
#endif

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
#ifdef EMU_COUNT
    m.def("take_counts", [] {
        py::list rows;
        for (const emu::SiteCount& c : emu::take_counts()) {
            py::dict row;
            row["shared"] = c.shared;
            row["write"] = c.write;
            row["access_bytes"] = c.access_bytes;
            row["requests"] = c.requests;
            row["bytes"] = c.bytes;
            row["sectors"] = c.sectors;
            row["wavefronts"] = c.wavefronts;
            row["ideal"] = c.ideal;
            rows.append(row);
        }
        return rows;
    });
#endif
}
