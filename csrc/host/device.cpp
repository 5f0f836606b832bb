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
        found = devices
                    .emplace(index, DeviceProperties{p.name, p.major, p.minor, p.multiProcessorCount,
                                                     int(p.sharedMemPerBlockOptin), int(p.sharedMemPerMultiprocessor),
                                                     p.l2CacheSize})
                    .first;
    }
    return found->second;
}

int resident_sm_count() { return current_device().sm_count; }
