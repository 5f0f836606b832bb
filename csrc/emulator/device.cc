// The device the emulator poses as.
#include "device.h"

namespace emu {
DeviceProperties& posed_device() {
    static DeviceProperties device = known_device("H200");
    return device;
}
}  // namespace emu

const DeviceProperties& current_device() { return emu::posed_device(); }

int resident_sm_count() { return 4; }
