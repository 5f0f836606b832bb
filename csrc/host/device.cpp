// The current CUDA device's properties, read once a device.
#include "device.h"
#include "cuda_check.h"
#include <map>
#include <mutex>

const DeviceProperties& current_device() {
    static std::mutex mutex;
    static std::map<int, DeviceProperties> devices;
    int index = 0;
    cuda_check(cudaGetDevice(&index));
    std::lock_guard lock(mutex);
    auto found = devices.find(index);
    if (found == devices.end()) {
        cudaDeviceProp p{};
        cuda_check(cudaGetDeviceProperties(&p, index));
        const auto kilohertz = [index](cudaDeviceAttr attribute) {
            int value = 0;
            cuda_check(cudaDeviceGetAttribute(&value, attribute, index));
            return value * 1e3;
        };
        found = devices
                    .emplace(index, DeviceProperties{p.name, p.major, p.minor, p.multiProcessorCount,
                                                     int(p.sharedMemPerBlockOptin), int(p.sharedMemPerMultiprocessor),
                                                     p.l2CacheSize, kilohertz(cudaDevAttrClockRate),
                                                     2 * kilohertz(cudaDevAttrMemoryClockRate) * p.memoryBusWidth /
                                                         8,  // two transfers a clock
                                                     p.maxThreadsPerMultiProcessor, p.regsPerMultiprocessor})
                    .first;
    }
    return found->second;
}

int resident_sm_count() { return current_device().sm_count; }
