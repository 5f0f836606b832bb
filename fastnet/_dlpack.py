"""Memory shared with other libraries by DLPack, bfloat16 included, which NumPy's own functions refuse.

NumPy exports and imports everything else. A bfloat16 array goes through it as uint16, and the one byte of the
capsule's header that says so is set: to bfloat16 on the way out, to uint16 on the way in.

``for_any_library`` lets a function on NumPy and CuPy arrays take tensors of other libraries, where they are.

Source: the structures of dlpack.h, version 1.0 (DLTensor, DLManagedTensor, DLManagedTensorVersioned).
"""

from __future__ import annotations

import ctypes
import inspect
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from fastnet import _dtypes
from fastnet._device import array_module

_UINT, _BFLOAT, _BOOL = 1, 4, 6
_CPU, _CUDA = 1, 2
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


class _Exporter:
    """An array as an object that another library's from_dlpack takes, of any dtype."""

    def __init__(self, array: Any):
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return export(self._array, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


def take(external: Any) -> Any:
    """The NumPy or CuPy array that shares the memory of a capsule, or of an object with ``__dlpack__``.

    Raises:
        TypeError: no such object, a device that is neither CPU nor CUDA, or a dtype that tensors do not have.
    """
    array = _share(external)
    _dtypes.of_array(array)
    return array


def _share(external: Any) -> Any:
    """``take``, of dtypes that only arrays have too."""
    if type(external).__name__ == "PyCapsule":
        capsule, device = external, (_CPU, 0)
        for name, start in _NAMES.items():
            if _is_valid(capsule, name):
                kind, index = (ctypes.c_int32 * 2).from_address(_get_pointer(capsule, name) + start + 8)
                device = (kind, index)
    elif hasattr(external, "__dlpack__") and hasattr(external, "__dlpack_device__"):
        device = tuple(external.__dlpack_device__())
        options = {}
        if device[0] == _CUDA:  # what the exporter has queued is done before what comes next on CuPy's stream
            options["stream"] = array_module("cuda").cuda.get_current_stream().ptr or 1  # 1: the legacy default stream
        try:
            capsule = external.__dlpack__(max_version=(1, 0), **options)
        except TypeError:  # an exporter from before versions
            capsule = external.__dlpack__(**options)
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
    return array


class _OfOtherLibraries(dict):
    """Whether instances of a type are tensors of another library: found out once a type."""

    def __missing__(self, kind: type) -> bool:
        arrays = issubclass(kind, np.ndarray) or kind.__module__.partition(".")[0] == "cupy"
        self[kind] = hasattr(kind, "__dlpack__") and not arrays
        return self[kind]


_foreign = _OfOtherLibraries()


def _first_foreign(arguments: tuple) -> Any:
    """The first tensor of another library, alone or at the head of a list; else None."""
    for x in arguments:
        if isinstance(x, (list, tuple)):
            x = next((e for e in x if e is not None), None)
        if _foreign[type(x)]:
            return x
    return None


class _Borrowed:
    """Arrays in place of another library's tensors while a function runs, and tensors in place of its results."""

    def __init__(self, function: Callable, like: Any):
        self.function = function
        self.library = sys.modules.get(type(like).__module__.partition(".")[0])
        self.tensors: dict[int, tuple[Any, Any]] = {}

    def arrays(self, name: str, x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return [self.arrays(name, e) for e in x]
        if not _foreign[type(x)]:
            return x
        try:
            array = _share(x)
        except (TypeError, ValueError, RuntimeError, BufferError) as error:  # it requires a gradient, for one
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{self.function.__name__}: {name}: {error}") from None
        self.tensors[id(array)] = array, x
        return array

    def results(self, x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return type(x)(self.results(e) for e in x)
        if id(x) in self.tensors:
            return self.tensors[id(x)][1]
        if isinstance(x, np.ndarray) or hasattr(x, "__cuda_array_interface__"):
            return getattr(self.library, "from_dlpack", lambda exporter: x)(_Exporter(x))
        return x


Function = TypeVar("Function", bound=Callable)


def for_any_library(function: Function) -> Function:
    """A function on NumPy and CuPy arrays that takes what has ``__dlpack__`` too: PyTorch's tensors, fastnet's, and
    others.

    They are shared, not copied: what the function changes in place is changed in them. Results are then tensors of
    the first one's library, if that has a ``from_dlpack`` (those of ``torch``, ``fastnet``), and else arrays. On a GPU
    the function runs on CuPy's current stream, after what the tensors' own streams hold.
    """

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        like = _first_foreign(args)
        if like is None and kwargs:
            like = _first_foreign(tuple(kwargs.values()))
        if like is None:
            return function(*args, **kwargs)
        borrowed = _Borrowed(function, like)
        try:
            given = inspect.signature(function).bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # which says so with its name
        for name, x in given.arguments.items():
            given.arguments[name] = borrowed.arrays(name, x)
        return borrowed.results(function(*given.args, **given.kwargs))

    return cast(Function, call)
