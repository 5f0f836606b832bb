"""The functions of ``cupy``: those whose rules differ from NumPy's one by one, and all others by NumPy, with the names
and arguments that CuPy has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from made_up_cupy import runtime
from made_up_cupy.array import (
    BFLOAT16,
    check_dtype,
    made,
    ndarray,
    new_array,
    of_device,
    view_of,
)

# Answers of the host's, about arrays' shapes, dtypes and places.
OF_THE_HOST = {
    "broadcast_shapes",
    "can_cast",
    "common_type",
    "iscomplexobj",
    "isfortran",
    "isrealobj",
    "isscalar",
    "issubdtype",
    "may_share_memory",
    "min_scalar_type",
    "mintypecode",
    "ndim",
    "promote_types",
    "result_type",
    "shape",
    "shares_memory",
    "size",
}
# Shapes of results, or whether there is one, depend on data.
WAITING = {
    "argwhere",
    "bincount",
    "compress",
    "extract",
    "flatnonzero",
    "histogram",
    "in1d",
    "isin",
    "setdiff1d",
    "union1d",
    "unique",
    "linalg.cholesky",
    "linalg.eigh",
    "linalg.eigvalsh",
    "linalg.inv",
    "linalg.lstsq",
    "linalg.matrix_rank",
    "linalg.pinv",
    "linalg.qr",
    "linalg.solve",
    "linalg.svd",
    "linalg.tensorinv",
    "linalg.tensorsolve",
}
# By the array's method of that name.
METHODS = {
    **{
        name: name
        for name in ("all any argmax argmin argsort argpartition cumprod cumsum diagonal max mean min").split()
    },
    **{name: name for name in ("nonzero prod ptp ravel repeat reshape squeeze std sum swapaxes take trace").split()},
    **{"amax": "max", "amin": "min", "var": "var", "around": "round", "round": "round", "put": "put"},
    **{"permute_dims": "transpose", "transpose": "transpose"},
}
ARRAYS_FIRST = {"flip", "broadcast_to", "moveaxis", "roll", "rot90", "expand_dims", "take_along_axis", "count_nonzero"}


def host_of(x: Any, name: str) -> Any:
    """Arguments as NumPy takes them; the host's arrays are refused."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {np.ndarray} (an argument of cupy.{name})")
    if isinstance(x, (list, tuple)):
        return type(x)(host_of(e, name) for e in x) if type(x) in (list, tuple) else x
    return x


def arrays_in(x: Any) -> list[ndarray]:
    if isinstance(x, ndarray):
        return [x]
    if isinstance(x, (list, tuple)):
        return [a for e in x for a in arrays_in(e)]
    return []


def by_numpy(name: str, signature: inspect.Signature, host: Callable) -> Callable:
    """A function of CuPy's signature that NumPy's computes."""

    def call(*args: Any, **kwargs: Any) -> Any:
        signature.bind(*args, **kwargs)  # TypeError for what CuPy does not take
        out = kwargs.pop("out", None)
        given = arrays_in([*args, *kwargs.values()])
        if name in ARRAYS_FIRST and not isinstance(args[0], ndarray):
            raise TypeError(f"Unsupported type {type(args[0])} (the first argument of cupy.{name})")
        if name in ("unique", "isin", "in1d", "union1d", "setdiff1d") and BFLOAT16 in [a.dtype for a in given]:
            raise NotImplementedError(f"Sorting arrays with dtype '{BFLOAT16}' is not supported")
        if name == "unique" and kwargs.get("axis") is not None and given[0].dtype == bool:
            raise TypeError("cupy boolean subtract is not supported")  # by which it compares rows
        if name == "linalg.solve" and [a.shape[:-1] for a in given] != [given[0].shape[:-1]] * 2 and given[-1].ndim > 1:
            raise ValueError("a must have (..., M, M) shape and b must have (..., M, K) for multidimensional b")
        if name.startswith("linalg."):
            for a in given:
                if a.dtype.char in "eE":
                    raise TypeError(f"Array data type {a.dtype} is unsupported in linalg")
        if name in WAITING:
            runtime.wait(f"cupy.{name}")

        def compute() -> Any:
            return host(*host_of(list(args), name), **{k: host_of(v, name) for k, v in kwargs.items()})

        found = of_device(compute)
        if out is not None:
            out._write(lambda: np.asarray(compute()))
            return out
        return wrapped(found, given, compute)

    return call


def wrapped(found: Any, given: list[ndarray], compute: Callable[[], Any]) -> Any:
    """Results on the device: views of what was given, or new arrays that a capture computes again."""
    leaves: list[Any] = []

    def wrap(x: Any) -> Any:
        if isinstance(x, tuple) and hasattr(x, "_fields"):
            return type(x)(*(wrap(e) for e in x))
        if isinstance(x, (list, tuple)):
            return type(x)(wrap(e) for e in x)
        if not isinstance(x, (np.ndarray, np.generic, bool, int, float)):
            return x
        x = np.asarray(x)
        for a in given:
            if x.size and np.may_share_memory(x, a._host):
                leaves.append(None)
                return view_of(a, x)
        leaves.append(new_array(x))
        return leaves[-1]

    result = wrap(found)
    if runtime.is_capturing() and any(leaf is not None for leaf in leaves):

        def again() -> None:
            fresh: list[np.ndarray] = []

            def flatten(x: Any) -> None:
                if isinstance(x, (list, tuple)):
                    for e in x:
                        flatten(e)
                else:
                    fresh.append(np.asarray(x))

            flatten(of_device(compute))
            for leaf, values in zip(leaves, fresh, strict=True):
                if leaf is not None:
                    leaf._host[...] = values

        runtime.enqueue(again)
    return result


# ---- making arrays ---------------------------------------------------------------------------------------------------


def array(
    obj: Any,
    dtype: Any = None,
    copy: Any = True,
    order: str = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    if subok:
        raise NotImplementedError
    order = order or "K"
    if isinstance(obj, ndarray):
        wanted = obj.dtype if dtype is None else check_dtype(dtype)
        if obj._memory.device_id != runtime.Device().id:
            out = obj.astype(wanted, order)
        elif not copy and wanted == obj.dtype and (order == "K" or obj._host.flags[f"{order}_CONTIGUOUS"]):
            out = obj
        elif copy is False:
            raise ValueError("Unable to avoid copy while creating an array as requested.")
        else:
            out = obj.astype(wanted, order)
    elif isinstance(obj, (list, tuple)) and arrays_in(obj):
        if len(arrays_in(obj)) != len(list(_flat(obj))):
            raise TypeError("Implicit conversion to a NumPy array is not allowed. (a sequence of arrays and others)")
        out = made(lambda: np.array(host_of(obj, "array"), dtype))
    else:
        host = np.asarray(obj, dtype)
        check_dtype(host.dtype)
        if host.ndim:
            runtime.copy_to_device("cupy.array")
        out = new_array(host, order)
    return out if out.ndim >= ndmin else out.reshape((1,) * (ndmin - out.ndim) + out.shape)


def _flat(x: Any) -> Any:
    if isinstance(x, (list, tuple)):
        for e in x:
            yield from _flat(e)
    else:
        yield x


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False) -> ndarray:
    return array(a, dtype, copy, order or "K", blocking=blocking)


def _contiguous(order: str) -> Callable:
    def ascontiguous(a: ndarray, dtype: Any = None) -> ndarray:
        if not isinstance(a, ndarray):
            raise TypeError(f"Argument 'a' has incorrect type (expected cupy.ndarray, got {type(a).__name__})")
        out = a if a.ndim else a.reshape(1)
        return array(out, dtype, None, order)

    return ascontiguous


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> np.ndarray:
    return a.get(stream, order, out, blocking) if isinstance(a, ndarray) else np.asarray(a, order=order)


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype, order=order)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    if dtype is None:
        dtype = fill_value.dtype if isinstance(fill_value, ndarray) else np.asarray(fill_value).dtype
    out = ndarray(shape, dtype, order=order)
    if isinstance(fill_value, ndarray) and fill_value.ndim:
        out[...] = fill_value
    else:
        out.fill(fill_value)
    return out


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return full(shape, 0, dtype or float, order)


def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return full(shape, 1, dtype or float, order)


def empty_like(a: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> ndarray:
    if subok is not None:
        raise TypeError("subok is not supported yet")
    if shape is None:
        return new_array(np.full_like(a._host, 0, check_dtype(dtype or a.dtype), subok=False), order)
    return ndarray(shape, dtype or a.dtype)


def _like(value: int) -> Callable:
    def like(a: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> ndarray:
        out = empty_like(a, dtype, order, subok, shape)
        out.fill(value)
        return out

    return like


def full_like(
    a: ndarray, fill_value: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    out = empty_like(a, dtype, order, subok, shape)
    out.fill(fill_value)
    return out


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> ndarray:
    for x in (start, stop, step):
        if isinstance(x, ndarray):
            raise TypeError("arange: CuPy's numbers of elements are the host's")
    return made(lambda: np.arange(start, dtype=dtype) if stop is None else np.arange(start, stop, step, dtype))


# ---- selection and order ---------------------------------------------------------------------------------------------


def _mask_of(condition: Any) -> ndarray:
    if not isinstance(condition, ndarray):
        raise AttributeError(f"{type(condition).__name__!r} object has no attribute 'astype' (cupy.where's condition)")
    return condition.astype("?", copy=False)


def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    import cupy  # type: ignore[import-not-found]

    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    return condition.nonzero() if x is None else cupy._where_ufunc(_mask_of(condition), x, y)


def clip(a: Any, a_min: Any, a_max: Any, out: Any = None) -> Any:
    import cupy

    if a_min is None and a_max is None:
        raise ValueError("array_clip: must set either max or min")
    if a.dtype == BFLOAT16 and out is None:  # no loop of its own
        a = a.astype(np.float32)
    if a_min is None or a_max is None:
        # The missing end is the dtype's own.
        limits = np.iinfo(a.dtype) if a.dtype.kind in "iu" else None
        low, high = (limits.min, limits.max) if limits else (-np.inf, np.inf)
        a_min, a_max = a.dtype.type(low) if a_min is None else a_min, a.dtype.type(high) if a_max is None else a_max
    return cupy._clip_ufunc(a, a_min, a_max, out=out)


def sort(a: ndarray, axis: Any = -1, kind: Any = None) -> ndarray:
    out = a.flatten() if axis is None else a.copy()
    out.sort(-1 if axis is None else axis, kind)
    return out


def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> ndarray:
    if not isinstance(a, ndarray):
        raise NotImplementedError("Only int or ndarray are supported for a")
    if not isinstance(v, ndarray):
        if not isinstance(v, (int, float)):
            raise NotImplementedError("Only python scalars or ndarrays are supported for v")
        v = asarray(v)
    if a.ndim != 1:
        raise ValueError("object too deep for desired array")
    order = None if sorter is None else sorter._host
    return made(lambda: np.searchsorted(a._host, v._host, side, order))


def take_along_axis(a: ndarray, indices: ndarray, axis: Any) -> ndarray:
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    n = a.size if axis is None else a.shape[axis]
    return made(lambda: np.take_along_axis(a._host, indices._host.astype(np.int64) % max(n, 1), axis))


def put_along_axis(arr: ndarray, indices: ndarray, values: Any, axis: Any) -> None:
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    n = arr.size if axis is None else arr.shape[axis]
    source = host_of(values, "put_along_axis")
    runtime.enqueue(lambda: np.put_along_axis(arr._host, indices._host.astype(np.int64) % max(n, 1), source, axis))


def copyto(dst: ndarray, src: Any, casting: str = "same_kind", where: Any = None) -> None:
    if isinstance(src, np.ndarray):
        if src.size != 1:
            raise ValueError("non-scalar numpy.ndarray cannot be used for copyto")
        src = src.squeeze()[()]
    source = src._host if isinstance(src, ndarray) else src
    if isinstance(where, np.ndarray):
        raise TypeError(f"Unsupported type {np.ndarray}")
    if isinstance(src, ndarray) and not np.can_cast(src.dtype, dst.dtype, casting):
        raise TypeError(f"Cannot cast {src.dtype} to {dst.dtype} in {casting} casting mode")
    if not isinstance(src, ndarray):
        np.copyto(np.empty((), dst.dtype), src, casting=casting)
    mask = True if where is None else where._host if isinstance(where, ndarray) else where

    runtime.enqueue(lambda: of_device(lambda: np.copyto(dst._host, source, casting=casting, where=mask)))


def concatenate(tup: Any, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> ndarray:
    tup = list(tup)
    for a in tup:
        if not isinstance(a, ndarray):
            raise TypeError("Only cupy arrays can be concatenated")
    compute = lambda: np.concatenate([a._host for a in tup], axis, dtype=dtype, casting=casting)  # noqa: E731
    if out is None:
        return made(compute)
    out._write(compute)
    return out


def stack(tup: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> ndarray:
    tup = list(tup)
    for a in tup:
        if not isinstance(a, ndarray):
            raise TypeError("Only cupy arrays can be concatenated")
    compute = lambda: np.stack([a._host for a in tup], axis, dtype=dtype, casting=casting)  # noqa: E731
    if out is None:
        return made(compute)
    out._write(compute)
    return out


def tril(m: Any, k: int = 0) -> ndarray:
    m = asarray(m)
    return where(made(lambda: np.tri(*m.shape[-2:], k=k, dtype=bool)), m, m.dtype.type(0))


def triu(m: Any, k: int = 0) -> ndarray:
    m = asarray(m)
    return where(made(lambda: np.tri(*m.shape[-2:], k=k - 1, dtype=bool)), m.dtype.type(0), m)


def _product(name: str, host: Callable) -> Callable:
    def product(a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        for x in (a, b):
            if not isinstance(x, ndarray):
                raise TypeError(f"Unsupported type {type(x)} (an argument of cupy.{name})")
            if x.dtype == BFLOAT16:  # cuBLAS by way of CuPy takes efdFD, and a kernel of CuPy's integers
                raise TypeError(f"cupy.{name}: dtype is not supported: {x.dtype}")
        wide = [np.float32 if x.dtype == np.float16 else x.dtype for x in (a, b)]
        result = np.promote_types(a.dtype, b.dtype)

        def compute() -> Any:
            found = host(a._host.astype(wide[0]), b._host.astype(wide[1]), *args, **kwargs)
            return np.asarray(found).astype(result) if result == np.float16 else found

        if out is None:
            return made(compute)
        out._write(compute)
        return out

    return product


matmul, dot, vdot, inner, outer, tensordot, kron = (
    _product(name, getattr(np, name)) for name in ("matmul", "dot", "vdot", "inner", "outer", "tensordot", "kron")
)


def as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
    return view_of(x, np.lib.stride_tricks.as_strided(x._host, shape, strides))


class broadcast:
    """The arrays as views of one shape."""

    def __init__(self, *arrays: Any):
        self.shape = np.broadcast_shapes(*(np.shape(host_of(a, "broadcast")) for a in arrays))
        self.nd, self.size = len(self.shape), int(np.prod(self.shape))
        self.values = tuple(view_of(a, np.broadcast_to(a._host, self.shape)) for a in arrays if isinstance(a, ndarray))


def may_share_memory(a: Any, b: Any, max_work: Any = None) -> bool:
    return np.may_share_memory(host_of(a, "may_share_memory"), host_of(b, "may_share_memory"))


def copy(a: ndarray, order: str = "K") -> ndarray:
    return a.copy(order)


SPECIFIC = {
    f.__name__: f
    for f in (
        *(array, asarray, asnumpy, empty, full, zeros, ones, empty_like, full_like, arange, copy),
        *(where, clip, sort, searchsorted, take_along_axis, put_along_axis, copyto, concatenate, stack, tril, triu),
        may_share_memory,
    )
} | {
    "asanyarray": asarray,
    "ascontiguousarray": _contiguous("C"),
    "asfortranarray": _contiguous("F"),
    "concat": concatenate,
    "zeros_like": _like(0),
    "ones_like": _like(1),
    **{"matmul": matmul, "dot": dot, "vdot": vdot, "inner": inner, "outer": outer, "tensordot": tensordot},
}
