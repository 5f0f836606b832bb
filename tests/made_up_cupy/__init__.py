"""A stand-in for CuPy on machines without a GPU: device arrays in the host's memory, under CuPy's rules.

``install()`` puts modules ``cupy`` and ``cupyx`` where imports find them, and the emulated kernels where fastnet looks
for those of a GPU, so that everything fastnet does on ``device="cuda"`` runs on any machine: array code by this
package, kernels by the emulator on the same memory. What the stand-in says is believed of CuPy 14.2, not seen on a GPU:
``benchmarks/PENDING.md``. Names, arguments and ufunc loops were read from CuPy itself (``table.py``).

The rules, and where they are written:

- Arrays are a class of their own. ``__array__`` raises TypeError, NumPy's ufuncs and functions reach CuPy's of the same
  name, a NumPy array among the arguments is refused; Python's and NumPy's numbers are welcome. (User guide,
  "Interoperability"; "Differences between CuPy and NumPy: Universal functions only work with CuPy array or scalar".)
- Names and arguments that CuPy lacks are missing: ``where=`` of ufuncs, ``initial=`` of reductions, ``mode=`` of
  ``take``, ``accumulate`` but of ``add`` and ``multiply``, ``reduceat`` but of ``add`` (where it is differences of
  running sums), ``at`` but for seven functions and few dtypes, ``kind`` of sorts but "stable". (Reference,
  "Comparison Table"; ``cupy.ufunc``.)
- Loops are chosen as CuPy does. Some functions have none for bfloat16: ``where``, ``clip``, ``tril`` give float32;
  ``argmax``, sorts, products of matrices and ``linalg`` refuse it.
- No dtypes but numbers; no big-endian ones. ("Differences: Data types".)
- Reductions give arrays without dimensions. ("Zero-dimensional array".) There is no ``__index__`` and no
  ``__contains__``.
- Indices out of range wrap around. ("Out-of-bounds indices".)
- Of several values assigned to one element any may stay, which is the first here and NumPy's last. ("Duplicate values
  in indices".)
- Assignment takes NumPy arrays where an index array says where, and refuses others but scalars.
- Floating point becomes an integer by saturation; NaN becomes 0. ("Cast behavior from float to integer".)
- Results are in C order, whatever the operands' is, but for ``astype`` and ``*_like``. ("Contiguity / Strides".)
- No array is read-only; ``flags`` has no ``writeable`` and no ``aligned``.
- What reads from the device waits for it, and is noted in ``waits``: ``get``, ``item``, ``bool``, ``int``, ``float``,
  boolean indices, ``nonzero``, ``unique``, most of ``linalg``, ``synchronize``.
- A stream that is captured does nothing but note work; there what waits and what copies from the host raises. A
  graph does its work again, on the memory it was captured with. (``Stream.begin_capture``; memory.pyx.)

The order of work in streams is not modelled: everything is done when it is given.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from made_up_cupy import dlpack, routines, runtime, table
from made_up_cupy.array import ndarray
from made_up_cupy.ufuncs import ufunc

waits = runtime.waits


class _Slices:
    """``cupy.ogrid`` and its kin."""

    def __init__(self, host: Any):
        self._host = host

    def __getitem__(self, key: Any) -> Any:
        return routines.wrapped(self._host[key], [], lambda: self._host[key])


def _power(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind in "iu":  # a negative exponent gives 0 (or 1 and -1 of 1 and -1), where NumPy raises
        found = np.power(a, np.maximum(b, 0))
        return np.where(b < 0, np.where(a == 1, 1, np.where(a == -1, np.where(b % 2, -1, 1), 0)), found).astype(a.dtype)
    return np.power(a, b)


def _host_ufunc(name: str) -> Any:
    import scipy.special

    special = {
        "clip": np.clip,
        "where": np.where,
        "power": _power,
        "float_power": np.float_power,
        "psi": scipy.special.psi,
    }
    return special.get(name) or getattr(np, name, None) or getattr(scipy.special, name, None)


def _module(name: str, read: dict[str, Any]) -> types.ModuleType:
    """A module with the names that CuPy's has. Those that the stand-in cannot compute are missing, and say so."""
    import scipy.special

    module = types.ModuleType(name, f"The made-up {name}.")
    inside = name.partition(".")[2]
    host: Any = np
    for part in [] if name.startswith("cupyx") else inside.split(".") if inside else []:
        host = getattr(host, part)
    if name == "cupyx.scipy.special":
        host = scipy.special
    for key, loops in read["ufuncs"][name].items():
        if _host_ufunc(key) is not None:
            setattr(module, key, ufunc(key, loops, _host_ufunc(key)))
    for key, signature in read["functions"][name].items():
        if name == "cupy" and key in routines.SPECIFIC:
            function = _bound(key, signature, routines.SPECIFIC[key])
        elif name == "cupy" and key in routines.METHODS:
            function = _by_method(key, signature, routines.METHODS[key])
        elif name != "cupyx" and callable(getattr(host, key, None)):
            of_host = getattr(host, key)
            whole = f"{inside}.{key}" if inside else key
            if name == "cupy" and key in routines.OF_THE_HOST:
                function = _of_the_host(key, of_host)
            else:
                function = routines.by_numpy(whole, _signature(signature), of_host)
        else:
            continue
        function.__name__ = function.__qualname__ = key
        function.__module__ = name
        setattr(module, key, function)
    for key in read["values"][name]:
        value = getattr(np, key, None)
        number = (
            value is None or isinstance(value, float) or (isinstance(value, type) and issubclass(value, np.generic))
        )
        if number and not hasattr(module, key):
            setattr(module, key, value)
    module.__getattr__ = lambda key: _missing(name, key, read)  # type: ignore[method-assign]
    return module


def _missing(module: str, key: str, read: dict[str, Any]) -> Any:
    raise AttributeError(f"module {module!r} has no attribute {key!r}")


def _signature(text: str) -> inspect.Signature:
    return inspect.signature(eval(f"lambda {text[1:-1]}: None"))


def _bound(name: str, signature: str, function: Any) -> Any:
    takes = _signature(signature)

    def call(*args: Any, **kwargs: Any) -> Any:
        takes.bind(*args, **kwargs)
        return function(*args, **kwargs)

    return call


def _by_method(name: str, signature: str, method: str) -> Any:
    takes = _signature(signature)

    def call(*args: Any, **kwargs: Any) -> Any:
        given = takes.bind(*args, **kwargs)
        array, *rest = given.args
        if not isinstance(array, ndarray):
            raise TypeError(f"Unsupported type {type(array)} (the first argument of cupy.{name})")
        names = list(takes.parameters)[1 : len(rest) + 1]
        if any(p.kind is p.VAR_POSITIONAL for p in takes.parameters.values()):
            return getattr(array, method)(*rest, **given.kwargs)
        options = dict(zip(names, rest, strict=True)) | given.kwargs
        if method in ("reshape", "transpose"):
            first = options.pop(names[0], None) if names else None
            return getattr(array, method)(first, **{k: v for k, v in options.items() if v is not None})
        return getattr(array, method)(**options)

    return call


def _of_the_host(name: str, function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        plain = [a.dtype if name in ("result_type", "can_cast") and isinstance(a, ndarray) else a for a in args]
        return function(*routines.host_of(plain, name), **kwargs)

    return call


def modules() -> dict[str, types.ModuleType]:
    """``cupy``, ``cupyx`` and their submodules, anew."""
    read = table.load()
    made = {name: _module(name, read) for name in read["functions"]}
    cupy, cupyx = made["cupy"], made["cupyx"]
    ndarray.__module__ = "cupy"
    cupy.ndarray, cupy.ufunc, cupy.__version__ = ndarray, ufunc, read["version"]  # type: ignore[attr-defined]
    cupy.ogrid, cupy.mgrid = _Slices(np.ogrid), _Slices(np.mgrid)  # type: ignore[attr-defined]
    cupy.r_, cupy.c_ = _Slices(np.r_), _Slices(np.c_)  # type: ignore[attr-defined]
    behind = read["ufuncs"]["behind functions"]
    cupy._where_ufunc = ufunc("where", behind["where"], np.where)  # type: ignore[attr-defined]
    cupy._clip_ufunc = ufunc("clip", behind["clip"], np.clip)  # type: ignore[attr-defined]
    cupy.broadcast, cupy.dtype = routines.broadcast, np.dtype  # type: ignore[attr-defined]
    cupy.from_dlpack = dlpack.from_dlpack  # type: ignore[attr-defined]
    cupy.get_default_memory_pool = lambda: runtime.default_pool  # type: ignore[attr-defined]
    cupy.linalg, cupyx.scipy = made["cupy.linalg"], types.ModuleType("cupyx.scipy")  # type: ignore[attr-defined]
    cupyx.scipy.special = made["cupyx.scipy.special"]
    cupyx.scipy.__path__ = []
    cupyx.empty_pinned = lambda shape, dtype=float, order="C": np.empty(shape, dtype, order)  # type: ignore[attr-defined]
    lib = types.ModuleType("cupy.lib")
    lib.stride_tricks = made["cupy.lib.stride_tricks"]  # type: ignore[attr-defined]
    lib.stride_tricks.as_strided = routines.as_strided
    cupy.lib = lib  # type: ignore[attr-defined]
    cuda = types.ModuleType("cupy.cuda")
    for name in ("Device", "Event", "Stream", "Graph", "MemoryPool", "MemoryPointer", "using_allocator"):
        setattr(cuda, name, getattr(runtime, name))
    cuda.get_current_stream, cuda.get_elapsed_time = runtime.get_current_stream, runtime.get_elapsed_time  # type: ignore[attr-defined]
    cuda.runtime = types.ModuleType("cupy.cuda.runtime")  # type: ignore[attr-defined]
    cuda.runtime.CUDARuntimeError = runtime.CUDARuntimeError
    cuda.runtime.getDeviceCount = lambda: runtime.COUNT
    cuda.runtime.getDevice = lambda: runtime.Device().id
    cuda.runtime.getDeviceProperties = runtime.properties
    cuda.runtime.memGetInfo = lambda: runtime.Device().mem_info
    cuda.runtime.runtimeGetVersion = lambda: 13000
    cuda.runtime.driverGetVersion = lambda: 13000
    cuda.runtime.deviceGetPCIBusId = lambda device: f"0000:0{device}:00.0"
    cupy.cuda = cuda  # type: ignore[attr-defined]
    for module in (cupy, cupyx, lib):
        module.__path__ = []  # type: ignore[attr-defined]
    made |= {"cupy.lib": lib, "cupy.cuda": cuda, "cupyx.scipy": cupyx.scipy, "cupy.cuda.runtime": cuda.runtime}
    return made


@contextmanager
def install() -> Iterator[types.ModuleType]:
    """A block in which there are GPUs: imports find ``cupy``, and arrays there go to the emulated kernels."""
    from fastnet import _device, _faults
    from fastnet.kernels import _runtime

    made = modules()
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in ("cupy", "cupyx")}
    extensions, why, flags = dict(_runtime._extensions), _device._why, dict(_faults._flags)
    sys.modules.update(made)
    _runtime._extension("_emulated")
    _runtime._extensions["_cuda"] = _Kernels(_runtime._extensions["_emulated"])  # type: ignore[assignment]
    _device._why = None
    waits.clear()
    try:
        yield made["cupy"]
    finally:
        for name in made:
            sys.modules.pop(name, None)
        sys.modules.update(kept)
        _runtime._extensions.clear()
        _runtime._extensions.update(extensions)
        _device._why = why
        for key in [k for k in _faults._flags if k not in flags]:
            del _faults._flags[key]


class _Kernels:
    """The emulated extension as a GPU's: launches join a capture, and arrays that kernels get are the device's."""

    def __init__(self, emulated: Any):
        self._emulated = emulated

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._emulated, name)
        if not callable(found) or isinstance(found, type):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            given = [a for x in (*args, *kwargs.values()) for a in (x if isinstance(x, (list, tuple)) else [x])]
            for a in given:
                if isinstance(a, np.ndarray):
                    raise TypeError(f"_cuda.{name}: a NumPy array among the arguments: a kernel cannot read it")
            launches = found.__doc__.splitlines()[0].endswith("-> None")
            if not launches or not any(isinstance(a, ndarray) for a in given):
                # A config, a property; or the number of parts of gradient_squares, which are launched besides.
                if name == "gradient_squares" and runtime.is_capturing():
                    runtime.enqueue(lambda: found(*args, **kwargs))
                return found(*args, **kwargs)
            return runtime.enqueue(lambda: found(*args, **kwargs))

        return call
