"""Energy that a GPU has taken, by NVML, the driver's management library, where it is present."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any


def _load() -> Any:
    return ctypes.CDLL("libnvidia-ml.so.1")


class EnergyMeter:
    """Joules that a GPU takes from here on.

    NVML counts since the driver was loaded, in millijoules, on Volta and later. ``why`` says why there is no reading
    where there is none.

    Args:
        bus_id: PCI address of the GPU, as CUDA writes it; None for the first.
        load: gives the library.
    """

    def __init__(self, bus_id: str | None = None, load: Callable[[], Any] = _load):
        self.why: str | None = None
        self._library: Any = None
        self._device = ctypes.c_void_p()
        try:
            self._library = load()
            self._call("nvmlInit_v2")
            if bus_id is None:
                self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(0), ctypes.byref(self._device))
            else:
                self._call("nvmlDeviceGetHandleByPciBusId_v2", bus_id.encode(), ctypes.byref(self._device))
            self._start = self._millijoules()
        except (OSError, AttributeError, RuntimeError) as error:
            self.why, self._library = f"NVML gives no energy: {error}", None

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name} returned {status}")

    def _millijoules(self) -> int:
        value = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._device, ctypes.byref(value))  # since the driver's start
        return value.value

    def joules(self) -> float | None:
        """Since the meter was made; None without a reading."""
        if self._library is None:
            return None
        try:
            return (self._millijoules() - self._start) / 1e3
        except RuntimeError as error:
            self.why = f"NVML gives no energy: {error}"
            return None


def meter_for(device: Any) -> EnergyMeter | None:
    """The meter of a GPU that runs work on ``device``; None for the CPU, whose energy nothing portable tells."""
    if not str(device).startswith("cuda"):
        return None
    import cupy

    index = str(device).partition(":")[2]
    return EnergyMeter(cupy.cuda.runtime.deviceGetPCIBusId(int(index) if index else cupy.cuda.Device().id))
