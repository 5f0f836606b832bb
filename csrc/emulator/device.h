// The device the emulator poses as: dispatch sees its properties.
#pragma once
#include "../host/device.h"

namespace emu {
DeviceProperties& posed_device();
}  // namespace emu
