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
    double clock = 0;             // Hz under load
    double memory_bandwidth = 0;  // bytes/s of device memory, as the datasheet says
    int threads_per_sm = 2048;
    int registers_per_sm = 65536;

    bool has_sm90a() const { return major == 9; }  // wgmma and TMA as sm_90a code uses them

    // Dense operations (a multiply-add is two) of one SM in one clock, sums in float32: datasheets' peaks over SMs and
    // clock. GeForce parts halve 16-bit products when they sum in float32. tf32 runs at half of the 16-bit rate everywhere.
    double tensor_flops_per_clock() const { return major == 9 ? 4096 : major == 8 && minor == 0 ? 2048 : 512; }
    double float32_flops_per_clock() const { return major == 8 && minor == 0 ? 128 : 256; }
    double float64_flops_per_clock() const { return major == 9 ? 128 : major == 8 && minor == 0 ? 64 : 4; }

    double per_second(double per_clock) const { return per_clock * sm_count * clock; }

    // Bytes/s that copies reach, read + written: 4.3 of 4.8 TB/s were seen on an H200.
    double copy_bandwidth() const { return 0.9 * memory_bandwidth; }
    // From one kernel's end to the next one's first instruction, and its own end: an estimate.
    static constexpr double kLaunchSeconds = 2e-6;
};

// Published properties (CUDA programming guide, compute capabilities; vendors' datasheets). The clock is the one at which
// the datasheet's peak is reached.
inline const std::vector<DeviceProperties>& known_devices() {
    static const std::vector<DeviceProperties> devices = {
        {"H200", 9, 0, 132, 227 * 1024, 228 * 1024, 60ll << 20, 1.83e9, 4.8e12, 2048},
        {"H100", 9, 0, 132, 227 * 1024, 228 * 1024, 50ll << 20, 1.83e9, 3.35e12, 2048},
        {"A100", 8, 0, 108, 163 * 1024, 164 * 1024, 40ll << 20, 1.41e9, 2e12, 2048},
        {"RTX 3090", 8, 6, 82, 99 * 1024, 100 * 1024, 6ll << 20, 1.695e9, 0.936e12, 1536},
        {"RTX 4090", 8, 9, 128, 99 * 1024, 100 * 1024, 72ll << 20, 2.52e9, 1.008e12, 1536},
        {"RTX 5090", 12, 0, 170, 99 * 1024, 100 * 1024, 96ll << 20, 2.407e9, 1.792e12, 1536},
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
