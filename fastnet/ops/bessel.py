"""Bessel and Airy functions, on scipy.special or CuPy's copy of it; and functions of the normal, gamma and zeta kinds
that come from there too.

Where PyTorch has no derivative (Airy's, Bessel's of the first and second kinds, the modified ones by their longer
names), results have none here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.ops._numeric import rounded, wide
from fastnet.ops._operands import cast, check_tensor, operands
from fastnet.ops.arithmetic import binary
from fastnet.ops.elementwise import unary
from fastnet.ops.special import _floating_binary, _gammaln, _i0, _i1, _scipy

_i0e, _i1e = _scipy("i0e"), _scipy("i1e")
_ndtr, _ndtri, _log_ndtr = _scipy("ndtr"), _scipy("ndtri"), _scipy("log_ndtr")
_entr, _erfcx, _xlog1py, _zeta = _scipy("entr"), _scipy("erfcx"), _scipy("xlog1py"), _scipy("zeta")
_gammainc, _gammaincc = _scipy("gammainc"), _scipy("gammaincc")
ROOT_TWO_PI, TWO_OVER_ROOT_PI = math.sqrt(2 * math.pi), 2 / math.sqrt(math.pi)


def _ratio(value: Any, x: Any, at_zero: float) -> Any:
    """value / x, continued to 0."""
    xp = namespace(x)
    return xp.where(x == 0, at_zero, value / xp.where(x == 0, 1, x))


# ---- modified Bessel functions of the first kind -------------------------------------------------------------------

i0e = unary(
    "i0e",
    _i0e,
    lambda g, x, r: g * (_i1e(x) - np.sign(x) * r),
    "exp(-|x|) times the modified Bessel function.",
    saves="xr",
)
i1 = unary(
    "i1",
    _i1,
    lambda g, x, r: g * (_i0(x) - _ratio(r, x, 0.5)),
    "The modified Bessel function of the first kind of order 1.",
    saves="xr",
)
i1e = unary(
    "i1e",
    _i1e,
    lambda g, x, r: g * (_i0e(x) - r * np.sign(x) - _ratio(r, x, 0.5)),
    "exp(-|x|) times the modified Bessel function of the first kind of order 1.",
    saves="xr",
)

# ---- the normal distribution and entropy ---------------------------------------------------------------------------

ndtr = unary(
    "ndtr",
    _ndtr,
    lambda g, x, r: g * np.exp(-0.5 * x * x) / ROOT_TWO_PI,
    "The distribution function of the standard normal distribution.",
)
ndtri = unary(
    "ndtri", _ndtri, lambda g, x, r: g * ROOT_TWO_PI * np.exp(0.5 * r * r), "The inverse of ``ndtr``.", saves="r"
)
log_ndtr = unary(
    "log_ndtr",
    _log_ndtr,
    lambda g, x, r: g * math.sqrt(2 / math.pi) / _erfcx(x * -math.sqrt(0.5)),
    "The logarithm of ``ndtr``, exact far below zero too.",
)
entr = unary("entr", _entr, lambda g, x, r: g * (-1 - np.log(x)), "-x log(x), 0 at 0, minus infinity below.")
erfcx = unary(
    "erfcx",
    _erfcx,
    lambda g, x, r: g * (2 * x * r - TWO_OVER_ROOT_PI),
    "exp(x^2) erfc(x), the scaled complementary error function.",
    saves="xr",
)

# ---- of two operands -----------------------------------------------------------------------------------------------


def _no_derivative(name: str, argument: str) -> Callable:
    def refuse(g: Any, a: Any, b: Any, r: Any) -> Any:
        raise NotImplementedError(f"the derivative for '{name}: {argument}' is not implemented.")

    return refuse


def _log1p_left(g: Any, a: Any, b: Any, r: Any) -> Any:
    xp = namespace(g)
    return xp.where((a == 0) & (b <= -1), 0, g * xp.log1p(b)).astype(g.dtype)


def _gamma_density(a: Any, x: Any) -> Any:
    return np.exp((a - 1) * np.log(x) - x - _gammaln(a))


_XLog1py = binary("Xlog1py", _xlog1py, _log1p_left, lambda g, a, b, r: g * a / (b + 1))
_Zeta = binary(
    "Zeta", _zeta, _no_derivative("zeta", "self"), lambda g, a, b, r: (g * -a * _zeta(a + 1, b)).astype(g.dtype)
)
_GammaInc = binary(
    "Igamma",
    _gammainc,
    _no_derivative("igamma", "input"),
    lambda g, a, b, r: (g * _gamma_density(a, b)).astype(g.dtype),
)
_GammaIncC = binary(
    "Igammac",
    _gammaincc,
    _no_derivative("igammac", "input"),
    lambda g, a, b, r: (-g * _gamma_density(a, b)).astype(g.dtype),
)
xlog1py = _floating_binary("xlog1py", _XLog1py, "``input * log1p(other)``, 0 where input is 0.", scalars=True)
zeta = _floating_binary(
    "zeta", _Zeta, "Hurwitz's zeta function: the sum of (k + other)^-input, k from 0.", scalars=True
)


def _incomplete(name: str, function: Any, doc: str) -> Callable:
    def operation(input: Tensor, other: Tensor) -> Tensor:
        check_tensor(name, input)
        check_tensor(name, other, "other")
        if not (input.dtype.is_floating_point and other.dtype.is_floating_point):
            raise NotImplementedError(f"{name}: not implemented for {input.dtype} and {other.dtype}")
        a, b, dtype = operands(name, input, other)
        with np.errstate(all="ignore"):
            return function.apply(a, b, dtype)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


igamma = _incomplete("igamma", _GammaInc, "The regularised lower incomplete gamma function P(input, other).")
igammac = _incomplete("igammac", _GammaIncC, "The regularised upper incomplete gamma function Q(input, other).")


# ---- without derivatives -------------------------------------------------------------------------------------------


def _plain(name: str, function: Callable, doc: str) -> Callable:
    def operation(input: Tensor) -> Tensor:
        check_tensor(name, input)
        if not input.dtype.is_floating_point:
            input = cast(input, _dtypes.get_default_dtype())
        x = input._data
        with np.errstate(all="ignore"):
            return Tensor._wrap(rounded(namespace(x).asarray(function(wide(x))), x.dtype))

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


def _sine_ratio(x: Any) -> Any:
    xp = namespace(x)
    return xp.where(xp.isinf(x), 0, _ratio(xp.sin(x), x, 1.0))


_airy = _scipy("airy")
airy_ai = _plain("airy_ai", lambda x: _airy(x)[0], "Airy's function Ai.")
bessel_j0 = _plain("bessel_j0", _scipy("j0"), "The Bessel function of the first kind of order 0.")
bessel_j1 = _plain("bessel_j1", _scipy("j1"), "The Bessel function of the first kind of order 1.")
bessel_y0 = _plain("bessel_y0", _scipy("y0"), "The Bessel function of the second kind of order 0.")
bessel_y1 = _plain("bessel_y1", _scipy("y1"), "The Bessel function of the second kind of order 1.")
modified_bessel_i0 = _plain("modified_bessel_i0", _i0, "The modified Bessel function of the first kind of order 0.")
modified_bessel_i1 = _plain("modified_bessel_i1", _i1, "The modified Bessel function of the first kind of order 1.")
modified_bessel_k0 = _plain(
    "modified_bessel_k0", _scipy("k0"), "The modified Bessel function of the second kind of order 0."
)
modified_bessel_k1 = _plain(
    "modified_bessel_k1", _scipy("k1"), "The modified Bessel function of the second kind of order 1."
)
scaled_modified_bessel_k0 = _plain("scaled_modified_bessel_k0", _scipy("k0e"), "exp(x) times ``modified_bessel_k0``.")
scaled_modified_bessel_k1 = _plain("scaled_modified_bessel_k1", _scipy("k1e"), "exp(x) times ``modified_bessel_k1``.")
spherical_bessel_j0 = _plain(
    "spherical_bessel_j0", _sine_ratio, "The spherical Bessel function of order 0: sin(x) / x."
)
