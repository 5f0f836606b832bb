"""Memory shared with other libraries by DLPack, bfloat16 included, which NumPy's own functions refuse.

NumPy exports and imports everything else. A bfloat16 array goes through it as uint16, and the one byte of the
capsule's header that says so is set: to bfloat16 on the way out, to uint16 on the way in.

Source: the structures of dlpack.h, version 1.0 (DLTensor, DLManagedTensor, DLManagedTensorVersioned).
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import array_module

_UINT, _BFLOAT, _BOOL = 1, 4, 6
_CPU = 1
_NAMES = {b"dltensor": 0, b"dltensor_versioned": 32}  # capsule: where its DLTensor begins
_DTYPE = 20  # offset of DLDataType in a DLTensor: code (1 byte), bits (1), lanes (2)

_api = ctypes.pythonapi
_is_valid = _api.PyCapsule_IsValid
_is_valid.argtypes, _is_valid.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_int
_get_pointer = _api.PyCapsule_GetPointer
_get_pointer.argtypes, _get_pointer.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_void_p


def _dtype_of(capsule: Any) -> Any:
    """The bytes [code, bits] of a capsule's element type, to be read and written."""
    for name, start in _NAMES.items():
        if _is_valid(capsule, name):
            return (ctypes.c_uint8 * 2).from_address(_get_pointer(capsule, name) + start + _DTYPE)
    raise BufferError("from_dlpack: the capsule is no DLPack tensor, or has been used already")


def export(array: Any, **options: Any) -> Any:
    """A capsule of a NumPy or CuPy array."""
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        # What fastnet makes read-only is its own (expanded tensors); the other library sees the same memory.
        array = writeable_view(array)
    if array.dtype != _dtypes.bfloat16.numpy:
        return array.__dlpack__(**options)
    capsule = array.view(np.uint16).__dlpack__(**options)
    _dtype_of(capsule)[0] = _BFLOAT
    return capsule


def writeable_view(array: np.ndarray) -> np.ndarray:
    """The same memory as an array that may be written."""
    interface = {**array.__array_interface__, "strides": array.strides}
    interface["data"] = (interface["data"][0], False)
    interface.pop("descr", None)
    dtype = array.dtype
    interface["typestr"] = np.dtype(f"u{dtype.itemsize}").str
    holder = type("Memory", (), {"__array_interface__": interface, "keeps": array})()
    return np.asarray(holder).view(dtype)


class _Capsule:
    """A capsule as an object that NumPy's and CuPy's from_dlpack take."""

    def __init__(self, capsule: Any, device: tuple[int, int]):
        self._capsule, self._device = capsule, device

    def __dlpack__(self, **options: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device


def take(external: Any) -> Any:
    """The NumPy or CuPy array that shares the memory of a capsule, or of an object with ``__dlpack__``."""
    if type(external).__name__ == "PyCapsule":
        capsule, device = external, (_CPU, 0)
        for name, start in _NAMES.items():
            if _is_valid(capsule, name):
                kind, index = (ctypes.c_int32 * 2).from_address(_get_pointer(capsule, name) + start + 8)
                device = (kind, index)
    elif hasattr(external, "__dlpack__") and hasattr(external, "__dlpack_device__"):
        device = tuple(external.__dlpack_device__())
        try:
            capsule = external.__dlpack__(max_version=(1, 0))
        except TypeError:  # an exporter from before versions
            capsule = external.__dlpack__()
    else:
        raise TypeError(f"from_dlpack: expected an object with __dlpack__, got {type(external).__name__}")
    dtype = _dtype_of(capsule)
    code, bits = dtype
    short = (code, bits) == (_BFLOAT, 16)
    if short:
        dtype[0] = _UINT
    try:
        holder = _Capsule(capsule, device)
        array = np.from_dlpack(holder) if device[0] == _CPU else array_module("cuda").from_dlpack(holder)
    except (RuntimeError, BufferError) as error:
        raise TypeError(f"from_dlpack: {error}") from None
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        array = writeable_view(array)
    if short:
        array = array.view(_dtypes.bfloat16.numpy)
    _dtypes.of_array(array)
    return array
