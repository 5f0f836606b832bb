"""``cupy.ndarray``: what it has, what it refuses, and when it waits."""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
from numpy.lib.stride_tricks import as_strided

from made_up_cupy import runtime

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SUPPORTED = "?bhilqBHILQefdFD"


def check_dtype(dtype: Any) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype.byteorder == ">":
        raise ValueError(f"Unsupported dtype {dtype} with big-endian byte-order")
    if dtype.char not in SUPPORTED and dtype != BFLOAT16:
        raise ValueError(f"Unsupported dtype {dtype}")
    return dtype


def of_device(compute: Callable[[], Any]) -> Any:
    """Arithmetic as a device has it: without warnings."""
    with np.errstate(all="ignore"):
        return compute()


def cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Conversion as a device has it: from floating point to integers it saturates, and NaN is 0."""
    if x.dtype == dtype:
        return x
    if dtype.kind in "iu" and (x.dtype.kind == "f" or x.dtype == BFLOAT16):
        wide = x.astype(np.float64)
        # Integers below 32 bits are the low bytes of one of 32.
        word = np.dtype(f"{dtype.kind}{max(dtype.itemsize, 4)}")
        limits = np.iinfo(word)
        low, high = float(limits.min), float(limits.max)
        inside = np.where(np.isnan(wide) | (wide >= high) | (wide <= low), 0, wide).astype(word)
        return np.where(wide >= high, limits.max, np.where(wide <= low, limits.min, inside)).astype(word).astype(dtype)
    return x.astype(dtype)


def made(compute: Callable[[], Any], order: str = "C") -> Any:
    """New device arrays of what ``compute`` gives, which a capture computes anew in each replay. In C order: CuPy does
    not keep its inputs'."""

    def run() -> Any:
        found = of_device(compute)
        return found if isinstance(found, tuple) else (found,)

    first = of_device(compute)
    results = tuple(new_array(np.asarray(r), order) for r in (first if isinstance(first, tuple) else (first,)))
    if runtime.is_capturing():

        def again() -> None:
            for into, r in zip(results, run(), strict=True):
                into._host[...] = r

        runtime.enqueue(again)
    return results if isinstance(first, tuple) else results[0]


def new_array(values: np.ndarray, order: str = "C") -> ndarray:
    """A device array of these values."""
    out = ndarray(values.shape, values.dtype, order=_order(values, order))
    if order == "K" and values.ndim > 1:
        axes = sorted(range(values.ndim), key=lambda a: (-abs(values.strides[a]), a))
        out._host = np.moveaxis(out._host.reshape([values.shape[a] for a in axes]), range(values.ndim), axes)
        out._host = as_strided(out._host, values.shape, out._host.strides)
    out._host[...] = values
    return out


def _order(values: np.ndarray, order: str) -> str:
    return ("F" if values.flags.fnc else "C") if order in "AF" and order != "F" else ("F" if order == "F" else "C")


def view_of(base: ndarray, host: np.ndarray) -> ndarray:
    """A view of a device array's memory."""
    memory = base._memory
    if not host.flags.writeable:  # NumPy's care for what it has broadcast, which CuPy does not take
        offset = host.__array_interface__["data"][0] - memory.ptr if host.size else 0
        host = np.ndarray(host.shape, host.dtype, memory.bytes if host.size else None, offset, host.strides)
    out = ndarray.__new__(ndarray)
    out._host, out._memory = host, memory
    out.base = base if base.base is None else base.base
    return out


class Flags:
    """No more flags than these: device memory is never read-only."""

    def __init__(self, array: ndarray):
        f = array._host.flags
        self.c_contiguous, self.f_contiguous, self.owndata = f.c_contiguous, f.f_contiguous, array.base is None
        self.fnc, self.forc = f.fnc, f.forc

    def __getitem__(self, name: str) -> bool:
        names = {"C_CONTIGUOUS": self.c_contiguous, "F_CONTIGUOUS": self.f_contiguous, "OWNDATA": self.owndata}
        if name not in names:
            raise KeyError(f"{name} is not defined for cupy.ndarray.flags")
        return names[name]


class _Type(type):
    __module__ = "cupy"


class ndarray(metaclass=_Type):
    """An array on the made-up device.

    Attributes:
        _host: the NumPy array of its memory.
        _memory: the allocation.
    """

    __slots__ = ("__weakref__", "_host", "_memory", "base")
    __array_priority__ = 100

    def __init__(self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C"):
        dtype = check_dtype(float if dtype is None else dtype)
        shape = (int(shape),) if np.ndim(shape) == 0 else tuple(int(n) for n in shape)
        if any(n < 0 for n in shape):
            raise ValueError("Negative dimensions are not allowed")
        nbytes = math.prod(shape) * dtype.itemsize
        pointer = runtime.allocate(nbytes) if memptr is None else memptr
        self._memory, self.base = pointer.mem, None
        raw = pointer.mem.bytes[pointer.ptr - pointer.mem.ptr :]
        if strides is None:
            self._host = raw[:nbytes].view(dtype).reshape(shape, order="F" if order == "F" else "C")
        else:
            self._host = np.ndarray(shape, dtype, raw, 0, strides)

    # ---- what it is --------------------------------------------------------------------------------------------------

    dtype = property(lambda self: self._host.dtype)
    strides = property(lambda self: self._host.strides)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    flags = property(Flags)
    device = property(lambda self: runtime.Device(self._memory.device_id))
    T = property(lambda self: view_of(self, self._host.T))
    real = property(lambda self: self)

    @property
    def data(self) -> runtime.MemoryPointer:
        return runtime.MemoryPointer(self._memory, self._host.__array_interface__["data"][0] - self._memory.ptr)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._host.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        changed = self._host.reshape(shape)
        if changed.size and not np.may_share_memory(changed, self._host):
            raise AttributeError("Incompatible shape for in-place modification.")
        self._host = changed

    @property
    def mT(self) -> ndarray:
        if self.ndim < 2:
            raise ValueError("matrix transpose with ndim < 2 is undefined")
        return view_of(self, self._host.swapaxes(-1, -2))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "version": 3,
            "strides": None if self._host.flags.c_contiguous else self.strides,
            "data": (self.data.ptr, False),
            "stream": 1,
        }

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[ndarray]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    __hash__ = None  # type: ignore[assignment]

    # ---- to the host, which waits ------------------------------------------------------------------------------------

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        if self.size:
            runtime.wait("ndarray.get")
        if out is None:
            return np.array(self._host, order=_order(self._host, order))
        if not isinstance(out, np.ndarray) or out.dtype != self.dtype:
            raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
        if out.shape != self.shape:
            raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}")
        out[...] = self._host
        return out

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self._host.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        runtime.copy_to_device("ndarray.set")
        self._host[...] = arr

    def item(self) -> Any:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self.get().tobytes(order)

    def __bool__(self) -> bool:
        if self.size == 0:
            warnings.warn("The truth value of an empty array is ambiguous.", DeprecationWarning, stacklevel=2)
            return False
        if self.size > 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous.")
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __str__(self) -> str:
        return str(self.get())

    def __format__(self, spec: str) -> str:
        return format(self.get(), spec)

    def __array__(self, dtype: Any = None) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
            "explicitly."
        )

    def __reduce__(self) -> tuple:
        import cupy  # type: ignore[import-not-found]

        return cupy.array, (self.get(order="A"),)

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: dict) -> ndarray:
        return self.copy()

    # ---- DLPack ------------------------------------------------------------------------------------------------------

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None
    ) -> Any:
        from made_up_cupy import dlpack

        return dlpack.export(self, stream, max_version, dl_device, copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, self._memory.device_id)

    # ---- NumPy's functions, which are CuPy's of the same name --------------------------------------------------------

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        import cupy
        import cupyx.scipy.special  # type: ignore[import-not-found]

        inout = inputs
        if "out" in kwargs:
            if len(kwargs["out"]) != 1:
                raise ValueError("The 'out' parameter must have exactly one array value")
            inout += kwargs["out"]
            kwargs["out"] = kwargs["out"][0]
        name = function.__name__
        found = getattr(cupy, name, None) or getattr(cupyx.scipy.special, name, None)
        if method != "__call__":
            found = getattr(found, method, None)
        if found is None:
            return NotImplemented
        for x in inout:
            if not isinstance(x, (bool, int, float, complex, np.generic, np.ndarray, ndarray)):
                return NotImplemented
        if name in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"):
            inputs = tuple(x.item() if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in inputs)
        return found(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        import cupy

        try:
            module = functools.reduce(getattr, function.__module__.split(".")[1:], cupy)
            found = getattr(module, function.__name__)
        except AttributeError:
            return NotImplemented
        if found is function or not all(issubclass(t, (ndarray, np.ndarray)) for t in types):
            return NotImplemented
        return found(*args, **kwargs)

    # ---- shapes, which are views -------------------------------------------------------------------------------------

    def _reshaped(self, host: Callable[[np.ndarray], np.ndarray]) -> ndarray:
        """A view where NumPy's is one, and else a copy."""
        changed = host(self._host)
        if changed.size == 0 or np.may_share_memory(changed, self._host):
            return view_of(self, changed)
        return made(lambda: host(self._host))

    def reshape(self, *shape: Any, order: str = "C", copy: Any = None) -> ndarray:
        wanted = shape[0] if len(shape) == 1 else shape
        wanted = tuple(int(n) for n in wanted) if isinstance(wanted, (list, tuple)) else int(wanted)
        return self._reshaped(lambda h: h.reshape(wanted, order=order))

    def transpose(self, *axes: Any) -> ndarray:
        if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (list, tuple))):
            axes = () if axes[0] is None else tuple(axes[0])
        return view_of(self, self._host.transpose(*axes))

    def swapaxes(self, axis1: int, axis2: int) -> ndarray:
        return view_of(self, self._host.swapaxes(axis1, axis2))

    def squeeze(self, axis: Any = None) -> ndarray:
        return view_of(self, self._host.squeeze(axis))

    def ravel(self, order: str = "C") -> ndarray:
        return self._reshaped(lambda h: h.ravel(order))

    def flatten(self, order: str = "C") -> ndarray:
        return made(lambda: self._host.flatten(order))

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ndarray:
        return view_of(self, self._host.diagonal(offset, axis1, axis2))

    def view(self, dtype: Any = None, type: Any = None) -> ndarray:
        return view_of(self, self._host.view() if dtype is None else self._host.view(check_dtype(dtype)))

    def reduced_view(self, dtype: Any = None) -> ndarray:
        return view_of(self, self._host)

    # ---- copies ------------------------------------------------------------------------------------------------------

    def copy(self, order: str = "C") -> ndarray:
        return made(lambda: self._host, order)

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True
    ) -> ndarray:
        if casting is not None or subok is not None:
            raise TypeError(f"{'casting' if casting is not None else 'subok'} is not supported yet")
        dtype = check_dtype(dtype)
        host = self._host
        fits = order == "K" or (order == "C" and host.flags.c_contiguous) or (order == "F" and host.flags.f_contiguous)
        if dtype == self.dtype and not copy and fits:
            return self
        return made(lambda: cast(self._host, dtype), order)

    def fill(self, value: Any) -> None:
        if isinstance(value, ndarray):
            if value.shape != ():
                raise ValueError("non-scalar cupy.ndarray cannot be used for fill")
            host = value._host
        else:
            host = np.asarray(value, dtype=self.dtype)  # a number has to fit
            if host.shape != ():
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            host = host.copy()
        self._write(lambda: cast(host, self.dtype))

    def _write(self, compute: Callable[[], Any], at: Any = ...) -> None:
        def write() -> None:
            self._host[at() if callable(at) else at] = compute()

        runtime.enqueue(lambda: of_device(write))

    # ---- indexing ----------------------------------------------------------------------------------------------------

    def _index(self, index: Any) -> Callable[[], Any]:
        """() -> what NumPy indexes with: arrays wrap around instead of running over. Checks what needs no data."""
        items = list(index) if isinstance(index, tuple) else [index]
        for i, s in enumerate(items):
            if s is None or s is Ellipsis or isinstance(s, (slice, ndarray)):
                continue
            if np.isscalar(s) and not isinstance(s, (bool, np.bool_)):
                items[i] = int(s)
                continue
            found = np.asarray(s)
            if isinstance(s, (list, tuple)) and found.size == 0:
                found = found.astype(np.int32)
            if found.dtype.kind not in "biu":
                raise IndexError(f"arrays used as indices must be of integer or boolean type (actual: {found.dtype})")
            if found.ndim:
                runtime.copy_to_device("an index array of the host's")
            items[i] = new_array(found)
        taken = sum(
            (s.ndim if s.dtype.kind == "b" else 1) if isinstance(s, ndarray) else s is not None and s is not Ellipsis
            for s in items
        )
        if sum(s is Ellipsis for s in items) > 1:
            raise IndexError("an index can only have a single ellipsis ('...')")
        if taken > self.ndim:
            raise IndexError(f"too many indices for array: array is {self.ndim}-dimensional, but {taken} were indexed")
        axis, places = 0, []
        for s in items:
            places.append(axis)
            if s is Ellipsis:
                axis += self.ndim - taken
            elif isinstance(s, ndarray):
                if s.dtype.kind not in "biu":
                    raise IndexError(
                        f"arrays used as indices must be of integer or boolean type. (actual: {s.dtype.type})"
                    )
                if s.dtype.kind == "b" and s.shape != self.shape[axis : axis + s.ndim]:
                    raise IndexError("boolean index did not match indexed array")
                axis += s.ndim if s.dtype.kind == "b" else 1
            elif s is not None:
                axis += 1

        def host() -> Any:
            out: list[Any] = []
            for s, a in zip(items, places, strict=True):
                if isinstance(s, ndarray):
                    whole = s._host
                    out.append(whole if s.dtype.kind == "b" or not self.shape[a] else _wrapped(whole, self.shape[a]))
                else:
                    out.append(s)
            return tuple(out)

        host.arrays = [s for s in items if isinstance(s, ndarray)]  # type: ignore[attr-defined]
        return host

    def __getitem__(self, index: Any) -> ndarray:
        host = self._index(index)
        arrays = host.arrays  # type: ignore[attr-defined]
        if not arrays:
            found = self._host[host()]
            if isinstance(found, np.ndarray):
                return view_of(self, found)
            return view_of(self, self._host[(*host(), ...)])
        if any(s.dtype.kind == "b" for s in arrays):
            runtime.wait("a boolean index, whose result's shape is on the device")
        return made(lambda: self._host[host()])

    def __setitem__(self, index: Any, value: Any) -> None:
        host = self._index(index)
        arrays = host.arrays  # type: ignore[attr-defined]
        if len(arrays) > 1 and any(s.dtype.kind == "b" for s in arrays):
            runtime.wait("a boolean index among others")
        if not arrays and not isinstance(value, ndarray):
            found = self._host[(*host(), ...)] if ... not in _plain(index) else self._host[host()]
            view_of(self, found).fill(value)  # refuses the host's arrays
            return
        if isinstance(value, ndarray):
            source = value._host
        else:
            source = np.asarray(value, self.dtype)
            if source.ndim:
                runtime.copy_to_device("values of the host's")
        if arrays and not all(s.dtype.kind == "b" for s in arrays) and runtime.is_capturing() is False:
            np.broadcast_shapes(self._host[host()].shape, _squeezed(source).shape)
        items = index if isinstance(index, tuple) else (index,)
        if arrays and len(arrays) == len(items) and all(s.dtype.kind != "b" for s in arrays):
            self._write_last_first(lambda: cast(_squeezed(source), self.dtype), host)
        else:
            self._write(lambda: cast(_squeezed(source), self.dtype), host)

    def _write_last_first(self, compute: Callable[[], Any], host: Callable[[], Any]) -> None:
        """Assignment at index arrays alone. Which of several values for one element stays is CuPy's secret: here it is
        the first, NumPy's is the last."""

        def write() -> None:
            at = np.broadcast_arrays(*host())
            rest = self.shape[len(at) :]
            values = np.broadcast_to(compute(), (*at[0].shape, *rest)).reshape(at[0].size, *rest)
            self._host[tuple(a.reshape(-1)[::-1] for a in at)] = values[::-1]

        runtime.enqueue(lambda: of_device(write))

    # ---- order and selection -----------------------------------------------------------------------------------------

    def take(self, indices: Any, axis: Any = None, out: Any = None) -> ndarray:
        if not isinstance(indices, ndarray):
            indices = int(indices) if np.isscalar(indices) else _sent(np.asarray(indices, int))
        length = self.size if axis is None else self.shape[axis]

        def compute() -> Any:
            at = indices._host if isinstance(indices, ndarray) else np.asarray(indices)
            if at.size and not length:
                raise IndexError("cannot do a non-empty take from an empty axes.")
            return np.take(self._host, _wrapped(at, length) if length else at.astype(np.int64), axis)

        return made(compute) if out is None else _into(out, compute, same=True)

    def put(self, indices: Any, values: Any, mode: str = "wrap") -> None:
        at = indices if isinstance(indices, ndarray) else _sent(np.asarray(indices))
        source = values if isinstance(values, ndarray) else _sent(np.asarray(values, self.dtype))
        runtime.enqueue(lambda: of_device(lambda: np.put(self._host, at._host, cast(source._host, self.dtype), mode)))

    def repeat(self, repeats: Any, axis: Any = None) -> ndarray:
        if isinstance(repeats, np.ndarray):
            raise TypeError("'repeats' does not accept numpy.ndarray")
        if isinstance(repeats, ndarray):
            runtime.wait("ndarray.repeat")
        return made(lambda: self._host.repeat(repeats._host if isinstance(repeats, ndarray) else repeats, axis))

    def nonzero(self) -> tuple[ndarray, ...]:
        if self.ndim == 0:
            raise ValueError("Calling nonzero on 0d arrays is not allowed.")
        if self.size:
            runtime.wait("ndarray.nonzero")
        return tuple(new_array(i) for i in self._host.nonzero())

    def _check_sort(self, kind: Any) -> None:
        if kind is not None and kind != "stable":
            raise ValueError("kind can only be None or 'stable'")
        if self.dtype == BFLOAT16:
            raise NotImplementedError(f"Sorting arrays with dtype '{self.dtype}' is not supported")

    def sort(self, axis: int = -1, kind: Any = None) -> None:
        self._check_sort(kind)
        if self.ndim == 0:
            raise np.exceptions.AxisError("Sorting arrays with the rank of zero is not supported")
        if not self._host.flags.c_contiguous:
            raise NotImplementedError("Sorting non-contiguous array is not supported.")
        self._write(lambda: np.sort(self._host, axis, kind="stable"))

    def argsort(self, axis: Any = -1, kind: Any = None) -> ndarray:
        self._check_sort(kind)
        return made(lambda: np.argsort(np.atleast_1d(self._host), axis, kind="stable"))

    def searchsorted(self, v: Any, side: str = "left", sorter: Any = None) -> ndarray:
        import cupy

        return cupy.searchsorted(self, v, side, sorter)

    # ---- reductions, which give arrays -------------------------------------------------------------------------------

    def _reduced(self, name: str, out: Any, types: str, *args: Any, **kwargs: Any) -> ndarray:
        """A reduction by NumPy; 16-bit numbers in float32. ``types``: of dtypes that CuPy's has loops for."""
        if self.dtype.char not in types:
            raise TypeError(f"Wrong type ({self.dtype}) of arguments for cupy_{name}")
        short = self.dtype.char in "eE"
        wanted = kwargs.get("dtype")
        kwargs = {k: v for k, v in kwargs.items() if v is not None or k == "axis"}
        if "dtype" in kwargs:
            wanted = kwargs["dtype"] = check_dtype(kwargs["dtype"])
            if wanted.char in "eE":
                kwargs["dtype"] = np.dtype(np.float32)

        def compute() -> Any:
            x = self._host.astype(np.float32) if short else self._host
            found = np.asarray(getattr(np, name)(x, *args, **kwargs))
            target = wanted or (self.dtype if short and found.dtype == np.float32 else found.dtype)
            return cast(found, target)

        return made(compute) if out is None else _into(out, compute)

    def sum(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduced("sum", out, SUPPORTED + "E", axis=axis, dtype=dtype, keepdims=keepdims)

    def prod(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = None) -> ndarray:
        return self._reduced("prod", out, SUPPORTED + "E", axis=axis, dtype=dtype, keepdims=bool(keepdims))

    def mean(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduced("mean", out, SUPPORTED.replace("b", "") + "E", axis=axis, dtype=dtype, keepdims=keepdims)

    def var(
        self, axis: Any = None, dtype: Any = None, out: Any = None, ddof: int = 0, keepdims: bool = False
    ) -> ndarray:
        return self._reduced("var", out, SUPPORTED + "E", axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims)

    def std(
        self, axis: Any = None, dtype: Any = None, out: Any = None, ddof: int = 0, keepdims: bool = False
    ) -> ndarray:
        return self._reduced("std", out, SUPPORTED + "E", axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims)

    def max(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduced("max", out, SUPPORTED + "E", axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduced("min", out, SUPPORTED + "E", axis=axis, keepdims=keepdims)

    def ptp(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduced("ptp", out, SUPPORTED + "E", axis=axis, keepdims=keepdims)

    def all(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduced("all", out, SUPPORTED + "E", axis=axis, keepdims=keepdims)

    def any(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduced("any", out, SUPPORTED + "E", axis=axis, keepdims=keepdims)

    def argmax(self, axis: Any = None, out: Any = None, dtype: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduced("argmax", out, SUPPORTED, axis=axis, keepdims=keepdims)

    def argmin(self, axis: Any = None, out: Any = None, dtype: Any = None, keepdims: bool = False) -> ndarray:
        return self._reduced("argmin", out, SUPPORTED, axis=axis, keepdims=keepdims)

    def cumsum(self, axis: Any = None, dtype: Any = None, out: Any = None) -> ndarray:
        return self._reduced("cumsum", out, SUPPORTED, axis=axis, dtype=dtype)

    def cumprod(self, axis: Any = None, dtype: Any = None, out: Any = None) -> ndarray:
        return self._reduced("cumprod", out, SUPPORTED, axis=axis, dtype=dtype)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> ndarray:
        return self.diagonal(offset, axis1, axis2).sum(-1, dtype, out)

    def clip(self, min: Any = None, max: Any = None, out: Any = None) -> ndarray:
        import cupy

        return cupy.clip(self, min, max, out)

    def round(self, decimals: int = 0, out: Any = None) -> ndarray:
        return (
            made(lambda: self._host.round(decimals)) if out is None else _into(out, lambda: self._host.round(decimals))
        )

    def dot(self, b: ndarray, out: Any = None) -> ndarray:
        import cupy

        return cupy.dot(self, b, out)

    # ---- operators ---------------------------------------------------------------------------------------------------

    def __pow__(self, other: Any) -> Any:
        import cupy

        fast = {2: cupy.square, 0.5: cupy.sqrt, -1.0: cupy.reciprocal}
        if type(other) in (int, float) and other in fast and (other == 2 or type(other) is float):
            kinds = "ifc" if type(other) is int else "fc"
            plain = self.dtype.kind in kinds
            return fast[other](self, dtype=None if plain else cupy.result_type(self.dtype, other))
        return _binary("power")[0](self, other)


def _plain(index: Any) -> list:
    return [s for s in (index if isinstance(index, tuple) else (index,)) if s is Ellipsis]


def _squeezed(values: np.ndarray) -> np.ndarray:
    lead = len(list(itertools.takewhile(lambda n: n == 1, values.shape)))
    return values.reshape(values.shape[lead:])


def _wrapped(index: np.ndarray, length: int) -> np.ndarray:
    return index.astype(np.int64) % length


def _sent(host: np.ndarray) -> ndarray:
    if host.ndim:
        runtime.copy_to_device("an array of the host's")
    return new_array(host)


def _into(out: ndarray, compute: Callable[[], Any], same: bool = False) -> ndarray:
    if same and out.dtype != of_device(compute).dtype:
        raise TypeError("Output dtype mismatch")
    out._write(lambda: cast(np.asarray(compute()), out.dtype))
    return out


def _leaves(x: ndarray, other: Any) -> bool:
    """Whether x leaves an operation to the other operand."""
    if hasattr(other, "__array_ufunc__"):
        return other.__array_ufunc__ is None
    return x.__array_priority__ < getattr(other, "__array_priority__", 0)


def _binary(name: str) -> tuple[Callable, Callable, Callable]:
    def forward(self: ndarray, other: Any) -> Any:
        import cupy

        if isinstance(other, ndarray):
            return getattr(cupy, name)(self, other)
        return NotImplemented if _leaves(self, other) else getattr(np, name)(self, other)

    def backward(self: ndarray, other: Any) -> Any:
        return NotImplemented if _leaves(self, other) else getattr(np, name)(other, self)

    def in_place(self: ndarray, other: Any) -> Any:
        import cupy

        return getattr(cupy, name)(self, other, self)

    return forward, backward, in_place


for _name, _function in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "matmul": "matmul",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "lshift": "left_shift",
    "rshift": "right_shift",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
}.items():
    _forward, _backward, _in_place = _binary(_function)
    if _name != "pow":
        setattr(ndarray, f"__{_name}__", _forward)
    setattr(ndarray, f"__r{_name}__", _backward)
    if _name != "matmul":  # CuPy has none: x @= y is x = x @ y
        setattr(ndarray, f"__i{_name}__", _in_place)


def _comparison(name: str) -> Callable:
    def compare(self: ndarray, other: Any) -> Any:
        import cupy

        if isinstance(other, ndarray):
            return getattr(cupy, name)(self, other)
        if _leaves(self, other):
            return NotImplemented
        if name in ("equal", "not_equal") and (other is None or type(other).__eq__ is object.__eq__):
            return cupy.full(self.shape, name == "not_equal", bool)
        return getattr(np, name)(self, other)

    return compare


for _name, _function in {
    "lt": "less",
    "le": "less_equal",
    "eq": "equal",
    "ne": "not_equal",
    "gt": "greater",
    "ge": "greater_equal",
}.items():
    setattr(ndarray, f"__{_name}__", _comparison(_function))


def _unary(name: str) -> Callable:
    def operate(self: ndarray) -> Any:
        import cupy

        return getattr(cupy, name)(self)

    return operate


for _name, _function in {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}.items():
    setattr(ndarray, f"__{_name}__", _unary(_function))
