"""Window functions, as ``torch.signal.windows``.

All take M, the number of points, and after it by keyword what shapes the window; ``sym`` (whether the last point
mirrors the first, for filters, or the one after it would, for spectra), ``dtype`` (the default dtype), ``device`` and
``requires_grad``. They are computed in float64 and rounded once. Harris (1978) compares them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._tensor import Tensor
from fastnet.errors import InputError, KindError
from fastnet.ops.creation import tensor

__all__ = [
    "bartlett",
    "blackman",
    "cosine",
    "exponential",
    "gaussian",
    "general_cosine",
    "general_hamming",
    "hamming",
    "hann",
    "kaiser",
    "nuttall",
]


def _made(name: str, M: int, values: Any, dtype: Any, layout: Any, device: Any, requires_grad: bool) -> Tensor:
    """The window of ``values(M)``: nothing where M is 0."""
    if isinstance(M, bool) or not hasattr(M, "__index__"):
        raise KindError(f"{name}: M is a {type(M).__name__}, expected an int")
    if M < 0:
        raise InputError(f"{name} requires non-negative window length, got M={M}")
    if layout not in (None, "strided"):
        raise InputError(f"{name} is implemented for strided tensors only, got: {layout}")
    dtype = _dtypes.get_default_dtype() if dtype is None else _dtypes.as_dtype(dtype)
    if dtype not in (_dtypes.float32, _dtypes.float64):
        raise InputError(f"{name} expects float32 or float64 dtypes, got: {dtype}")
    points = np.asarray(values(int(M)) if M else [], np.float64)
    return tensor(points.tolist(), dtype=dtype, device=device, requires_grad=requires_grad)


def _period(M: int, sym: bool) -> int:
    """By how many points the window repeats."""
    return M - 1 if sym and M > 1 else M


def bartlett(
    M: int,
    *,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A triangle that begins (and with ``sym`` ends) at zero.

    >>> bartlett(5)
    tensor([0.0000, 0.5000, 1.0000, 0.5000, 0.0000])
    """

    def values(n: int) -> Any:
        return 1 - np.abs(np.arange(n) * 2 / _period(n, sym) - 1) if n > 1 else [1.0]

    return _made("bartlett", M, values, dtype, layout, device, requires_grad)


def general_cosine(
    M: int,
    *,
    a: Iterable[float],
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The sum of (-1)^i a[i] cos(2 pi i n / period).

    >>> general_cosine(3, a=[0.5, 0.5])
    tensor([0., 1., 0.])
    """
    if not isinstance(a, Iterable):
        raise KindError("general_cosine: coefficients must be a list/tuple")
    weights = list(a)
    if not weights:
        raise InputError("general_cosine: coefficients cannot be empty")

    def values(n: int) -> Any:
        if n == 1:
            return [1.0]
        angle = 2 * math.pi * np.arange(n) / _period(n, sym)
        return sum((-1) ** i * w * np.cos(i * angle) for i, w in enumerate(weights))

    return _made("general_cosine", M, values, dtype, layout, device, requires_grad)


def general_hamming(M: int, *, alpha: float = 0.54, **options: Any) -> Tensor:
    """``alpha - (1 - alpha) cos(2 pi n / period)``; options as ``general_cosine``'s."""
    return general_cosine(M, a=[alpha, 1.0 - alpha], **options)


def hamming(M: int, **options: Any) -> Tensor:
    """``general_hamming`` with alpha 0.54."""
    return general_hamming(M, **options)


def hann(M: int, **options: Any) -> Tensor:
    """``general_hamming`` with alpha 0.5: a cosine raised to [0, 1].

    >>> hann(4, sym=False)
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    return general_hamming(M, alpha=0.5, **options)


def blackman(M: int, **options: Any) -> Tensor:
    """``general_cosine`` with 0.42, 0.5 and 0.08."""
    return general_cosine(M, a=[0.42, 0.5, 0.08], **options)


def nuttall(M: int, **options: Any) -> Tensor:
    """``general_cosine`` with the minimal 4-term coefficients of Nuttall (1981)."""
    return general_cosine(M, a=[0.3635819, 0.4891775, 0.1365995, 0.0106411], **options)


def cosine(
    M: int,
    *,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Half a wave: sin(pi (n + 1/2) / M)."""

    def values(n: int) -> Any:
        return np.sin(math.pi * (np.arange(n) + 0.5) / (n + 1 if not sym and n > 1 else n))

    return _made("cosine", M, values, dtype, layout, device, requires_grad)


def _centre(n: int, sym: bool) -> float:
    return (n if not sym and n > 1 else n - 1) / 2


def exponential(
    M: int,
    *,
    center: float | None = None,
    tau: float = 1.0,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """exp(-|n - center| / tau); ``center``, for windows that are not symmetric, is the middle unless it is given."""
    if tau <= 0:
        raise InputError(f"exponential: Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise InputError("exponential: Center must be None for symmetric windows")

    def values(n: int) -> Any:
        return np.exp(-np.abs(np.arange(n) - (_centre(n, sym) if center is None else center)) / tau)

    return _made("exponential", M, values, dtype, layout, device, requires_grad)


def gaussian(
    M: int,
    *,
    std: float = 1.0,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A bell of standard deviation ``std`` points."""
    if std <= 0:
        raise InputError(f"gaussian: Standard deviation must be positive, got: {std} instead.")

    def values(n: int) -> Any:
        return np.exp(-0.5 * ((np.arange(n) - _centre(n, sym)) / std) ** 2)

    return _made("gaussian", M, values, dtype, layout, device, requires_grad)


def kaiser(
    M: int,
    *,
    beta: float = 12.0,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """I0(beta sqrt(1 - t^2)) / I0(beta), t from -1 to 1 (Kaiser 1974)."""
    if beta < 0:
        raise InputError(f"kaiser: beta must be non-negative, got: {beta} instead.")

    def values(n: int) -> Any:
        if n == 1:
            return [1.0]
        t = np.minimum(np.arange(n) * 2 / _period(n, sym) - 1, 1)
        return np.i0(beta * np.sqrt(np.maximum(1 - t * t, 0))) / np.i0(beta)

    return _made("kaiser", M, values, dtype, layout, device, requires_grad)
