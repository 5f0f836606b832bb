// What dispatch knows of the device, for benchmarks and tests.
#include "../host/device.h"
#include "array_view.h"

void register_device(py::module_& m) {
    m.def(
        "device_properties",
        [](const std::string& name) {
            const DeviceProperties& d = name.empty() ? current_device() : known_device(name);
            py::dict peaks;  // dtype: operations a second
            peaks["float16"] = d.per_second(d.tensor_flops_per_clock());
            peaks["bfloat16"] = d.per_second(d.tensor_flops_per_clock());
            peaks["tf32"] = d.per_second(d.tensor_flops_per_clock() / 2);
            peaks["float32"] = d.per_second(d.float32_flops_per_clock());
            peaks["float64"] = d.per_second(d.float64_flops_per_clock());
            py::dict found;
            found["name"] = d.name;
            found["major"] = d.major;
            found["minor"] = d.minor;
            found["sm_count"] = d.sm_count;
            found["shared_per_block"] = d.shared_per_block;
            found["shared_per_sm"] = d.shared_per_sm;
            found["registers_per_sm"] = d.registers_per_sm;
            found["threads_per_sm"] = d.threads_per_sm;
            found["l2_bytes"] = d.l2_bytes;
            found["clock"] = d.clock;                        // Hz
            found["memory_bandwidth"] = d.memory_bandwidth;  // bytes/s
            found["copy_bandwidth"] = d.copy_bandwidth();
            found["launch_seconds"] = double(d.kLaunchSeconds);
            found["peaks"] = peaks;
            return found;
        },
        py::arg("name") = "");
}
