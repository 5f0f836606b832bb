"""Capsules of device memory: NumPy's, whose header says that the memory is CUDA's."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from made_up_cupy import runtime
from made_up_cupy.array import BFLOAT16, ndarray

CPU, CUDA = 1, 2
_api = ctypes.pythonapi
_valid, _pointer = _api.PyCapsule_IsValid, _api.PyCapsule_GetPointer
_valid.argtypes, _valid.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_int
_pointer.argtypes, _pointer.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_void_p


def _device_of(capsule: Any) -> Any:
    """[kind, index], to be read and written. The tensor begins with its address; versioned ones after a header."""
    for name, start in ((b"dltensor", 0), (b"dltensor_versioned", 32)):
        if _valid(capsule, name):
            return (ctypes.c_int32 * 2).from_address(_pointer(capsule, name) + start + 8)
    raise BufferError("the capsule is no DLPack tensor, or has been used already")


def export(array: ndarray, stream: Any, max_version: Any, dl_device: Any, copy: Any) -> Any:
    if dl_device is not None and tuple(dl_device) != array.__dlpack_device__():
        if dl_device[0] != CPU:
            raise BufferError("unsupported device requested.")
        return array.get().__dlpack__(max_version=max_version)
    if array.dtype == BFLOAT16:
        raise TypeError("this stand-in leaves bfloat16 to those who export it as uint16")
    host = array._host
    capsule = host.__dlpack__() if max_version is None else host.__dlpack__(max_version=max_version)
    device = _device_of(capsule)
    device[0], device[1] = array.__dlpack_device__()
    return capsule


class _Holder:
    def __init__(self, capsule: Any):
        self._capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (CPU, 0)


class _Foreign:
    """Memory that another library's tensor holds."""

    def __init__(self, host: np.ndarray, device_id: int):
        low, high = np.lib.array_utils.byte_bounds(host)
        self.ptr, self.size, self.device_id, self.keeps = low, high - low, device_id, host
        self.bytes = np.ctypeslib.as_array((ctypes.c_uint8 * self.size).from_address(low))


def from_dlpack(array: Any, device: Any = None, copy: Any = None) -> ndarray:
    kind, index = array.__dlpack_device__()
    if kind != CUDA:
        raise TypeError(f"CuPy takes CUDA's memory, got device type {kind}")
    stream = runtime.get_current_stream().ptr or 1
    try:
        capsule = array.__dlpack__(stream=stream, max_version=(1, 0))
    except TypeError:
        capsule = array.__dlpack__(stream=stream)
    where = _device_of(capsule)
    where[0], where[1] = CPU, 0
    host = np.from_dlpack(_Holder(capsule))
    out = ndarray.__new__(ndarray)
    out._memory, out.base = _Foreign(host, index), None  # type: ignore[assignment]
    offset = host.__array_interface__["data"][0] - out._memory.ptr
    out._host = np.ndarray(host.shape, host.dtype, out._memory.bytes, offset, host.strides)
    return out
