"""Universal functions: CuPy's loops, its choice among them, and what it takes as an argument."""

from __future__ import annotations

from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from made_up_cupy import runtime
from made_up_cupy.array import cast, made, ndarray, of_device

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT32 = np.dtype(np.float32)
WEAK = {int: np.dtype(np.int64), float: np.dtype(np.float64), complex: np.dtype(np.complex128)}


def _dtype(char: str) -> np.dtype:
    return BFLOAT16 if char == "E" else np.dtype(char)


def _category(dtype: np.dtype) -> int:
    return 2 if dtype == BFLOAT16 else {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}[dtype.kind]


class ufunc:
    """One universal function.

    Args:
        name: as the module has it.
        loops: ``ff->f`` and so on, in the order in which CuPy tries them.
        host: the function of NumPy or SciPy that computes.
    """

    def __init__(self, name: str, loops: str, host: Any):
        self.__name__, self._host = name, host
        self.name = f"cupy_{name}"
        self.types = loops.split()
        self._loops = [tuple(tuple(map(_dtype, side)) for side in loop.split("->")) for loop in self.types]
        self.nin, self.nout = (len(side) for side in self._loops[0])
        self.nargs = self.nin + self.nout

    def __repr__(self) -> str:
        return f"<ufunc '{self.name}'>"

    @staticmethod
    def weak_counts(operands: Any) -> bool:
        """Whether Python's numbers adapt to the arrays: not those of a higher kind, nor without arrays."""
        strong = [_category(t) for t, weak in operands if weak is None]
        loose = [_category(t) for t, weak in operands if weak is not None]
        return bool(strong and loose) and max(strong) >= max(loose)

    def loop(self, operands: Any, dtype: Any) -> tuple:
        """(dtypes taken, dtypes given) of the first loop that fits: operands are pairs of dtype and, for a Python
        number, its type."""
        if dtype is not None:
            for loop in self._loops:
                if all(t == dtype for t in loop[1]):
                    return loop
            raise TypeError(f"Wrong type ({dtype}) of arguments for {self.name}")
        counts = self.weak_counts(operands)
        for loop in self._loops:
            for (given, weak), taken in zip(operands, loop[0], strict=True):
                if np.can_cast(given, taken):
                    continue
                try:
                    if weak is None or not counts or np.result_type(weak(0), taken) != taken:
                        break
                except TypeError:
                    break
            else:
                return loop
        raise TypeError(f"Wrong type ({tuple(t for t, _ in operands)}) of arguments for {self.name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out, dtype = kwargs.pop("out", None), kwargs.pop("dtype", None)
        casting = kwargs.pop("casting", "same_kind")
        if kwargs:
            raise TypeError(f"Wrong arguments {kwargs}")
        if not self.nin <= len(args) <= self.nargs:
            raise TypeError(
                f"Wrong number of arguments for {self.name!r}. It must be either {self.nin} or {self.nargs} "
                f"(with outputs), but given {len(args)}."
            )
        given = list(args[self.nin :])
        if out is not None:
            if given:
                raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
            given = list(out) if isinstance(out, tuple) else [out]
        operands, values = [], []
        for x in args[: self.nin]:
            if isinstance(x, ndarray):
                operands.append((x.dtype, None))
                values.append(x._host)
            elif type(x) in WEAK:
                operands.append((np.dtype(np.uint64) if type(x) is int and x >= 2**63 else WEAK[type(x)], type(x)))
                values.append(x)
            elif isinstance(x, (bool, np.generic)):
                operands.append((np.asarray(x).dtype, None))
                values.append(x)
            else:
                raise TypeError(f"Unsupported type {type(x)}")
        takes, gives = self.loop(operands, None if dtype is None else np.dtype(dtype))

        def compute() -> Any:
            # A Python number is stored in the loop's dtype, and has to fit there.
            inputs = [
                cast(v, t) if isinstance(v, np.ndarray) else np.asarray(v, t)
                for v, t in zip(values, takes, strict=True)
            ]
            return _computed(self._host, inputs, gives)

        if not any(o is not None for o in given):
            return made(compute)
        shape = np.broadcast_shapes(*(np.shape(v) for v in values), *(o.shape for o in given if o is not None))
        for o, t in zip(given, gives, strict=True):
            if not isinstance(o, ndarray):
                raise TypeError("Output arguments type must be cupy.ndarray")
            if o.shape != shape:
                raise ValueError("Out shape is mismatched")
            if not np.can_cast(t, o.dtype, casting):
                raise TypeError(
                    f"Cannot cast output operand from {t!r} to {o.dtype!r} according to the rule '{casting}'"
                )

        def into() -> None:
            results = compute()
            for o, r in zip(given, results if isinstance(results, tuple) else (results,), strict=True):
                o._host[...] = cast(np.asarray(r), o.dtype)

        runtime.enqueue(lambda: of_device(into))
        return given[0] if self.nout == 1 else tuple(given)

    def outer(self, A: Any, B: Any, **kwargs: Any) -> Any:
        return self(A.reshape(A.shape + (1,) * B.ndim), B.reshape((1,) * A.ndim + B.shape), **kwargs)

    _AT: ClassVar = {
        "add": "iIlLqQefd",
        "subtract": "iI",
        "maximum": "iIlLqQfd",
        "minimum": "iIlLqQfd",
        "bitwise_and": "iIlLqQ",
        "bitwise_or": "iIlLqQ",
        "bitwise_xor": "iIlLqQ",
    }

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        if self.__name__ not in self._AT:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        if a.dtype.char not in self._AT[self.__name__]:
            raise TypeError(f"cupy.{self.__name__}.at does not support {a.dtype} as data type")
        index = a._index(indices)
        value = b._host if isinstance(b, ndarray) else np.asarray(b)
        runtime.enqueue(lambda: of_device(lambda: self._host.at(a._host, index(), cast(value, a.dtype))))

    def reduce(self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        method = {"add": "sum", "multiply": "prod"}.get(self.__name__)
        if method is None:
            raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")
        return getattr(array, method)(axis, dtype, out, keepdims)

    def accumulate(self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        method = {"add": "cumsum", "multiply": "cumprod"}.get(self.__name__)
        if method is None:
            raise NotImplementedError(f"`{self.name}.accumulate` is not supported yet")
        return getattr(array, method)(axis, dtype, out)

    def reduceat(self, array: ndarray, indices: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        if self.__name__ != "add":
            raise NotImplementedError(f"`{self.name}.reduceat` is not supported yet")
        places = indices._host if isinstance(indices, ndarray) else np.asarray(indices)
        running = array.cumsum(axis, dtype)

        def differences() -> Any:  # of running sums, with what they lose; an empty or backward segment is one element
            x, sums = (np.moveaxis(a._host, axis, 0) for a in (array, running))
            sums = np.concatenate([np.zeros_like(sums[:1]), sums])
            ends = np.append(places[1:], len(x))
            parts = sums[ends] - sums[places]
            backward = (places >= ends).reshape(-1, *[1] * (x.ndim - 1))
            return np.moveaxis(np.where(backward, x[places].astype(parts.dtype), parts), 0, axis)

        return made(differences)


def _computed(host: Any, inputs: list, gives: tuple) -> Any:
    try:
        results = host(*inputs)
    except TypeError:  # ml_dtypes has no such loop; CuPy has, in float32
        if BFLOAT16 not in [x.dtype for x in inputs]:
            raise
        results = host(*(x.astype(FLOAT32) if x.dtype == BFLOAT16 else x for x in inputs))
    if len(gives) == 1:
        return cast(np.asarray(results), gives[0])
    return tuple(cast(np.asarray(r), t) for r, t in zip(results, gives, strict=True))
