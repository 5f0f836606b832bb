"""Array code that is not the same word in NumPy and in CuPy: what CuPy's functions lack, for arrays of either."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._device import namespace


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b: arrays, or NumPy's scalars, of one dtype. CuPy's has no bfloat16 and would
    give float32, so there the bits are chosen."""
    if a.dtype.name == "bfloat16" and not isinstance(condition, np.ndarray):
        return namespace(condition).where(condition, a.view(np.uint16), b.view(np.uint16)).view(a.dtype)
    return namespace(condition).where(condition, a, b)


def triangle(x: Any, diagonal: int, upper: bool) -> Any:
    """``triu`` or ``tril`` in x's dtype, for which CuPy's have ``where``."""
    function = getattr(namespace(x), "triu" if upper else "tril")
    if x.dtype.name == "bfloat16" and not isinstance(x, np.ndarray):
        return function(x.view(np.uint16), diagonal).view(x.dtype)
    return function(x, diagonal)


def accumulate(function: np.ufunc, x: Any, axis: int) -> Any:
    """``function.accumulate(x, axis)`` of an associative function, which CuPy has of sums and products only: there in
    log2(n) passes, each combining every element with the one 2**i before."""
    if isinstance(x, np.ndarray):
        return function.accumulate(x, axis=axis)
    out = namespace(x).moveaxis(x, axis, -1).copy()
    reach = 1
    while reach < out.shape[-1]:
        out[..., reach:] = function(out[..., :-reach], out[..., reach:])  # a new array: nothing is read after it is set
        reach *= 2
    return namespace(x).moveaxis(out, -1, axis)


def greatest(x: Any, axes: tuple[int, ...]) -> Any:
    """The maximum over axes, kept with length 1; minus infinity of no elements."""
    if all(x.shape[a] for a in axes):
        return x.max(axis=axes, keepdims=True)
    return namespace(x).full([1 if i in axes else n for i, n in enumerate(x.shape)], -np.inf, x.dtype)
