// The emulator's options as Python sees them (fastnet.kernels.use).
#include "array_view.h"
#include "../emulator/device.h"
#include "../emulator/emulator.h"
#ifdef EMU_COUNT
#include "../emulator/counters.h"
#endif

void register_emulator(py::module_& m) {
    py::register_exception<emu::Error>(m, "EmulatorError", PyExc_RuntimeError);
    m.def(
        "set_schedule",
        [](const std::string& order, unsigned seed, const std::string& copies) {
            py::gil_scoped_release release;  // waits for a launch in another thread
            emu::Options o = emu::options();
            o.order = order == "reverse"  ? emu::Order::reverse
                      : order == "random" ? emu::Order::random
                                          : emu::Order::forward;
            o.seed = seed;
            o.late = copies == "late";
            emu::set_options(o);
        },
        py::arg("order"), py::arg("seed"), py::arg("copies"));
    // A launch in which no thread ends for so many seconds of CPU time is in an endless loop. Returns the limit before.
    m.def(
        "set_watchdog",
        [](double seconds) {
            if (!(seconds > 0 && seconds < 1e6))
                throw py::value_error("set_watchdog: seconds must be between 0 and 1e6");
            py::gil_scoped_release release;
            emu::Options o = emu::options();
            const double before = o.watchdog_seconds;
            o.watchdog_seconds = seconds;
            emu::set_options(o);
            return before;
        },
        py::arg("seconds"));
    // What the emulator has done since reset_stats().
    m.def("stats", [] {
        emu::Stats s;
        {
            py::gil_scoped_release release;
            s = emu::read_stats();
        }
        py::dict d;
        d["launches"] = s.launches;
        d["blocks"] = s.blocks;
        d["threads"] = s.threads;
        d["switches"] = s.switches;
        d["yields"] = s.yields;
        d["block_barriers"] = s.block_barriers;
        d["collectives"] = s.collectives;
        d["mbarrier_waits"] = s.mbarrier_waits;
        d["mma_flops"] = s.mma_flops;
        d["cp_async_bytes"] = s.cp_async_bytes;
        d["tma_bytes"] = s.tma_bytes;
        d["tma_store_bytes"] = s.tma_store_bytes;
        return d;
    });
    m.def("reset_stats", &emu::reset_stats, py::call_guard<py::gil_scoped_release>());
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
            row["conflicts"] = c.conflicts;
            rows.append(row);
        }
        return rows;
    });
#endif
}
