// What dispatch needs to know of a GPU. A pure value, so that configs can be chosen, printed and tested for every
// generation on a machine without one; the emulator poses as any of those listed.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

struct DeviceProperties {
    std::string name;
    int major = 0, minor = 0;
    int sm_count = 0;
    int shared_per_block = 0;  // bytes, with the opt-in
    int shared_per_sm = 0;     // bytes
    int64_t l2_bytes = 0;

    bool has_sm90a() const { return major == 9; }  // wgmma and TMA as sm_90a code uses them
};

// Published properties (CUDA programming guide, compute capabilities; vendors' datasheets).
inline const std::vector<DeviceProperties>& known_devices() {
    static const std::vector<DeviceProperties> devices = {
        {"H200", 9, 0, 132, 227 * 1024, 228 * 1024, 60ll << 20},
        {"H100", 9, 0, 132, 227 * 1024, 228 * 1024, 50ll << 20},
        {"A100", 8, 0, 108, 163 * 1024, 164 * 1024, 40ll << 20},
        {"RTX 3090", 8, 6, 82, 99 * 1024, 100 * 1024, 6ll << 20},
        {"RTX 4090", 8, 9, 128, 99 * 1024, 100 * 1024, 72ll << 20},
        {"RTX 5090", 12, 0, 170, 99 * 1024, 100 * 1024, 96ll << 20},
    };
    return devices;
}

inline const DeviceProperties& known_device(const std::string& name) {
    std::string names;
    for (const DeviceProperties& d : known_devices()) {
        if (d.name == name) return d;
        names += (names.empty() ? "" : ", ") + d.name;
    }
    throw std::invalid_argument("unknown device \"" + name + "\"; known are " + names);
}

// The device that kernels run on now: the current CUDA device, or the one the emulator poses as.
const DeviceProperties& current_device();

// SMs that hold the blocks of gpu::launch_resident: all of the device's, few under the emulator, which keeps every
// thread of such a grid in memory.
int resident_sm_count();
