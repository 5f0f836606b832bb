"""Less usual elementwise functions: error and gamma functions, angles, signs, logarithms of sums, shifts of bits.

As in ``fastnet.ops.elementwise``, a differentiable function stands as one row: its value and its derivative.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.errors import InputError, KindError
from fastnet.ops import _operands, arithmetic, comparisons, elementwise, in_place, selection
from fastnet.ops._numeric import rounded, wide
from fastnet.ops._operands import cast, check_tensor, operands, result_type
from fastnet.ops.arithmetic import binary
from fastnet.ops.comparisons import plain_binary, predicate
from fastnet.ops.elementwise import unary


def _scipy(name: str) -> Callable:
    """A function of scipy.special, or of CuPy's copy of it, imported when first used."""

    def call(*arrays: Any) -> Any:
        array = next(a for a in arrays if hasattr(a, "dtype"))
        module = "scipy.special" if isinstance(array, (np.ndarray, np.generic)) else "cupyx.scipy.special"
        function = getattr(importlib.import_module(module), name, None)
        if function is None:
            raise NotImplementedError(f"{name}: {module} has no such function")
        return function(*arrays)

    return call


_erf, _erfc, _erfinv, _gammaln, _psi = (_scipy(n) for n in ("erf", "erfc", "erfinv", "gammaln", "psi"))
_i0, _i1 = _scipy("i0"), _scipy("i1")
_polygamma = _scipy("polygamma")
TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)

# ---- one operand ---------------------------------------------------------------------------------------------------

erf = unary("erf", _erf, lambda g, x, r: g * TWO_OVER_ROOT_PI * np.exp(-x * x), "The error function.")
erfc = unary("erfc", _erfc, lambda g, x, r: -g * TWO_OVER_ROOT_PI * np.exp(-x * x), "1 - erf(x).")
erfinv = unary(
    "erfinv", _erfinv, lambda g, x, r: g / TWO_OVER_ROOT_PI * np.exp(r * r), "The inverse of erf.", saves="r"
)


def _log_gamma(x: Any) -> Any:
    return namespace(x).where(np.isneginf(x), math.inf, _gammaln(x)).astype(x.dtype)


def _digamma(x: Any) -> Any:
    out = _psi(x)
    xp = namespace(x)
    # At the poles: -inf and +inf by the sign of zero, NaN at negative integers, as PyTorch.
    out = xp.where(x == 0, xp.copysign(math.inf, -x), out)
    return xp.where((x < 0) & (x == xp.floor(x)), math.nan, out).astype(x.dtype)


lgamma = unary("lgamma", _log_gamma, lambda g, x, r: g * _psi(x), "The logarithm of the absolute gamma function.")
digamma = unary("digamma", _digamma, lambda g, x, r: g * _polygamma(1, x).astype(g.dtype), "The derivative of lgamma.")
asinh = unary("asinh", np.arcsinh, lambda g, x, r: g / np.sqrt(x * x + 1), "The inverse hyperbolic sine.")
acosh = unary("acosh", np.arccosh, lambda g, x, r: g / np.sqrt(x * x - 1), "The inverse hyperbolic cosine.")
atanh = unary("atanh", np.arctanh, lambda g, x, r: g / (1 - x * x), "The inverse hyperbolic tangent.")
deg2rad = unary("deg2rad", np.deg2rad, lambda g, x, r: g * (math.pi / 180), "Degrees as radians.", saves="")
rad2deg = unary("rad2deg", np.rad2deg, lambda g, x, r: g * (180 / math.pi), "Radians as degrees.", saves="")
i0 = unary("i0", _i0, lambda g, x, r: g * _i1(x), "The modified Bessel function of the first kind of order 0.")
_frac = unary("frac", lambda x: x - np.trunc(x), lambda g, x, r: g, "", saves="")


def _sinc_gradient(g: Any, x: Any, r: Any) -> Any:
    xp = namespace(x)
    y = xp.where(x == 0, 1, math.pi * x)
    return xp.where(x == 0, 0, g * math.pi * (y * xp.cos(y) - xp.sin(y)) / (y * y)).astype(g.dtype)


sinc = unary("sinc", np.sinc, _sinc_gradient, "sin(pi x) / (pi x), 1 at 0.")


def sgn(input: Tensor) -> Tensor:
    """As ``sign``."""
    return elementwise.sign(input)


def frac(input: Tensor) -> Tensor:
    """The part after the point."""
    check_tensor("frac", input)
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"frac: not implemented for {input.dtype}")
    return _frac(input)


isposinf = predicate("isposinf", np.isposinf, "Which elements are positive infinity.")
isneginf = predicate("isneginf", np.isneginf, "Which elements are negative infinity.")
isreal = predicate("isreal", lambda x: namespace(x).ones(x.shape, bool), "True everywhere: no dtype is complex.")
_sign_bit = predicate("signbit", np.signbit, "")


def signbit(input: Tensor) -> Tensor:
    """Where the sign bit is set: negative numbers, -0.0 too."""
    check_tensor("signbit", input)
    if input.dtype is _dtypes.bool_:
        return Tensor._wrap(namespace(input._data).zeros(input._data.shape, bool))
    return _sign_bit(input)


def positive(input: Tensor) -> Tensor:
    """The tensor itself, which may not be bool."""
    check_tensor("positive", input)
    if input.dtype is _dtypes.bool_:
        raise KindError("The `+` operator, on a bool tensor is not supported.")
    return input


def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), x limited to [eps, 1 - eps] where eps is given."""
    check_tensor("logit", input)
    x = input if input.dtype.is_floating_point else cast(input, _dtypes.get_default_dtype())
    if eps is not None:
        x = selection.clamp(x, eps, 1 - eps)
    return _logit(x)


def _logit_gradient(g: Any, x: Any, r: Any) -> Any:
    return namespace(x).where((x < 0) | (x > 1), math.nan, g / (x * (1 - x))).astype(g.dtype)


_logit = unary("logit", lambda x: np.log(x / (1 - x)), _logit_gradient, "")


def nan_to_num(
    input: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """NaN replaced by ``nan`` (0), the infinities by the dtype's greatest and lowest numbers or by those given."""
    check_tensor("nan_to_num", input)
    if not input.dtype.is_floating_point:
        return _operands.cast(input, input.dtype).clone()
    limits = _dtypes.finfo(input.dtype)
    out = selection.where(comparisons.isnan(input), 0.0 if nan is None else float(nan), input)
    out = selection.where(isposinf(input), limits.max if posinf is None else float(posinf), out)
    return selection.where(isneginf(input), limits.min if neginf is None else float(neginf), out)


def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of ``digamma``."""
    check_tensor("polygamma", input)
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise KindError(f"polygamma(): argument 'n' must be int, not {type(n).__name__}")
    if n < 0:
        raise InputError("polygamma(n, x) does not support negative n.")
    if n == 0:
        return digamma(input)
    return unary(
        "polygamma",
        lambda x: _polygamma(n, x).astype(x.dtype),
        lambda g, x, r: g * _polygamma(n + 1, x).astype(g.dtype),
        "",
    )(input)


def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The logarithm of the multivariate gamma function of dimension p, from 1 to 10,000."""
    check_tensor("mvlgamma", input)
    if isinstance(p, bool) or not isinstance(p, (int, np.integer)):
        raise KindError(f"mvlgamma(): argument 'p' must be int, not {type(p).__name__}")
    if not 1 <= p <= 10_000:  # it takes p evaluations of lgamma
        raise InputError(f"mvlgamma: p is {p}, expected 1 to 10000")
    out: Any = p * (p - 1) / 4 * math.log(math.pi)
    for j in range(p):
        out = lgamma(input - j / 2) + out
    return out


# ---- two operands --------------------------------------------------------------------------------------------------

_Hypot = binary(
    "Hypot",
    np.hypot,
    lambda g, a, b, r: g * (a / r),
    lambda g, a, b, r: g * (b / r),
    left_saves="abr",
    right_saves="abr",
)


def _copysign_gradient(g: Any, a: Any, b: Any, r: Any) -> Any:
    xp = namespace(g)
    return xp.where(a == 0, 0, g * xp.sign(a) * xp.copysign(1, b)).astype(g.dtype)


_Copysign = binary("Copysign", np.copysign, _copysign_gradient, lambda g, a, b, r: 0 * g)
_LogAddExp = binary(
    "Logaddexp",
    np.logaddexp,
    lambda g, a, b, r: g * np.exp(a - r),
    lambda g, a, b, r: g * np.exp(b - r),
    left_saves="abr",
    right_saves="abr",
)
_LogAddExp2 = binary(
    "Logaddexp2",
    np.logaddexp2,
    lambda g, a, b, r: g * np.exp2(a - r),
    lambda g, a, b, r: g * np.exp2(b - r),
    left_saves="abr",
    right_saves="abr",
)


def _xlogy(a: Any, b: Any) -> Any:
    xp = namespace(a if hasattr(a, "ndim") and not np.isscalar(a) else b)
    return xp.where(xp.isnan(b), math.nan, xp.where(a == 0, 0, a * xp.log(b))).astype(xp.result_type(a, b))


def _xlogy_left(g: Any, a: Any, b: Any, r: Any) -> Any:
    xp = namespace(g)
    return xp.where((a == 0) & (b <= 0), 0, g * xp.log(b)).astype(g.dtype)


_XLogY = binary("Xlogy", _xlogy, _xlogy_left, lambda g, a, b, r: g * a / b)
_Fmax = binary(
    "Fmax",
    np.fmax,
    lambda g, a, b, r: _fm(g, (a >= b) | np.isnan(b)),
    lambda g, a, b, r: _fm(g, ~((a >= b) | np.isnan(b))),
)
_Fmin = binary(
    "Fmin",
    np.fmin,
    lambda g, a, b, r: _fm(g, (a <= b) | np.isnan(b)),
    lambda g, a, b, r: _fm(g, ~((a <= b) | np.isnan(b))),
)


def _fm(g: Any, chosen: Any) -> Any:
    return (g * chosen).astype(g.dtype)


def _floating_binary(name: str, function: Any, doc: str, *, scalars: bool = False) -> Callable:
    """A function of two tensors in a floating-point dtype; ``scalars``: either may be a number."""

    def operation(input: Any, other: Any) -> Tensor:
        check_tensor(
            name, input if name == "copysign" or not scalars else other if isinstance(other, Tensor) else input
        )
        if not scalars:
            check_tensor(name, other, "other")
        a, b, dtype = operands(name, input, other, floating=True)
        with np.errstate(all="ignore"):
            return function.apply(a, b, dtype)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


copysign = _floating_binary("copysign", _Copysign, "``input`` with the sign of ``other``.", scalars=True)
xlogy = _floating_binary("xlogy", _XLogY, "``input * log(other)``, 0 where input is 0.", scalars=True)


def _same_floating(name: str, function: Any, doc: str) -> Callable:
    def operation(input: Tensor, other: Tensor) -> Tensor:
        check_tensor(name, input)
        check_tensor(name, other, "other")
        if not result_type(input, other).is_floating_point:
            raise KindError(f"{name}: not implemented for integers, got {input.dtype} and {other.dtype}")
        a, b, dtype = operands(name, input, other)
        with np.errstate(all="ignore"):
            return function.apply(a, b, dtype)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


hypot = _same_floating("hypot", _Hypot, "sqrt(input^2 + other^2), without overflow.")
logaddexp = _same_floating("logaddexp", _LogAddExp, "log(exp(input) + exp(other)), without overflow.")
logaddexp2 = _same_floating("logaddexp2", _LogAddExp2, "log2(2^input + 2^other), without overflow.")


def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The greater of two tensors, elementwise; the other one where either is NaN."""
    check_tensor("fmax", input)
    check_tensor("fmax", other, "other")
    return _Fmax.apply(*operands("fmax", input, other))


def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two tensors, elementwise; the other one where either is NaN."""
    check_tensor("fmin", input)
    check_tensor("fmin", other, "other")
    return _Fmin.apply(*operands("fmin", input, other))


def float_power(input: Any, exponent: Any) -> Tensor:
    """``input`` to the power ``exponent`` in float64."""
    input, exponent = (cast(x, _dtypes.float64) if isinstance(x, Tensor) else x for x in (input, exponent))
    return arithmetic.pow(input, float(exponent) if not isinstance(exponent, Tensor) else exponent)


def rsub(input: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    """``other - alpha * input``."""
    check_tensor("rsub", input)
    return arithmetic.sub(other, input, alpha=alpha)


def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """``input * 2 ** other``."""
    check_tensor("ldexp", input)
    common = result_type(input, other)
    common = common if common.is_floating_point else _dtypes.get_default_dtype()
    return cast(arithmetic.mul(input, arithmetic.pow(2.0, other)), common)


def frexp(input: Tensor) -> Any:
    """Mantissa (from [0.5, 1)) and exponent (int32) of each element: ``input = mantissa * 2 ** exponent``."""
    from fastnet.ops._results import result

    check_tensor("frexp", input)
    if not input.dtype.is_floating_point:
        raise KindError("fastnet.frexp() only supports floating-point dtypes")
    mantissa, exponent = np.frexp(wide(input._data))
    return result("frexp", "mantissa exponent")(
        Tensor._wrap(rounded(mantissa, input._data.dtype)), Tensor._wrap(exponent.astype(np.int32))
    )


def nextafter(input: Tensor, other: Tensor) -> Tensor:
    """The next representable number after ``input`` towards ``other``."""
    check_tensor("nextafter", input)
    check_tensor("nextafter", other, "other")
    a, b, dtype = operands("nextafter", input, other)
    if not dtype.kind == "f" or dtype.itemsize == 2:
        raise KindError(f"nextafter: not implemented for {dtype}")
    return Tensor._wrap(np.nextafter(a._data, b._data))


def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 where negative, 1 where positive, ``values`` where zero."""
    check_tensor("heaviside", input)
    check_tensor("heaviside", values, "values")
    if input.dtype is not values.dtype:
        raise KindError("heaviside is not yet implemented for tensors with different dtypes.")
    a, b, dtype = operands("heaviside", input, values)
    x, v = wide(a._data), wide(b._data)
    xp = namespace(x)
    out = xp.where(x == 0, v, (x > 0).astype(x.dtype))
    if dtype.kind in "fV":
        out = xp.where(xp.isnan(x), 0, out)
    return Tensor._wrap(out.astype(dtype))


def _integers(name: str, function: Callable, doc: str, *, scalars: bool = False) -> Callable:
    plain = plain_binary(name, function, doc)

    def operation(input: Any, other: Any) -> Tensor:
        if not scalars:
            check_tensor(name, input)
            check_tensor(name, other, "other")
        if result_type(input, other).category != 1:
            raise InputError(f"{name}: expected integers, got {result_type(input, other)}")
        return plain(input, other)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


gcd = _integers("gcd", np.gcd, "The greatest common divisor.")
lcm = _integers("lcm", np.lcm, "The least common multiple.")


def _shift(left: bool) -> Callable:
    def call(a: Any, b: Any) -> Any:
        xp = namespace(a if getattr(a, "ndim", None) is not None and not np.isscalar(a) else b)
        a, b = xp.asarray(a), xp.asarray(b)
        bits = 8 * a.dtype.itemsize
        outside = (b < 0) | (b >= bits)
        b = xp.where(outside, 0, b).astype(a.dtype)
        if left:
            return xp.where(outside, 0, xp.left_shift(a, b)).astype(a.dtype)
        # Past all bits only the sign is left.
        return xp.where(
            outside, xp.right_shift(a, a.dtype.type(bits - 1)) if a.dtype.kind == "i" else 0, xp.right_shift(a, b)
        ).astype(a.dtype)

    return call


bitwise_left_shift = _integers("bitwise_left_shift", _shift(True), "``input << other``.", scalars=True)
bitwise_right_shift = _integers("bitwise_right_shift", _shift(False), "``input >> other``.", scalars=True)


def _as_bool(input: Tensor, limit: Any) -> Tensor:
    return limit if isinstance(limit, Tensor) else Tensor._wrap(namespace(input._data).asarray(bool(limit)))


def clamp_min(input: Tensor, min: Any) -> Tensor:
    """Each element no smaller than ``min``."""
    if input.dtype is _dtypes.bool_:
        return arithmetic.maximum(input, _as_bool(input, min))
    return selection.clamp(input, min=min)


def clamp_max(input: Tensor, max: Any) -> Tensor:
    """Each element no greater than ``max``."""
    if input.dtype is _dtypes.bool_:
        return arithmetic.minimum(input, _as_bool(input, max))
    return selection.clamp(input, max=max)


def real(input: Tensor) -> Tensor:
    """The tensor itself: no dtype is complex."""
    check_tensor("real", input)
    return input


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """``input`` where it is greater than ``threshold``, else ``value``."""
    check_tensor("threshold", input)
    out = selection.where(input <= threshold, value, input)
    return in_place.assign(input, cast(out, input.dtype), "threshold_") if inplace else cast(out, input.dtype)


def angle(input: Tensor) -> Tensor:
    """The angle of every number in the complex plane: 0 for positive ones, pi for negative ones, NaN for NaN."""
    check_tensor("angle", input)
    x = input if input.dtype.is_floating_point else cast(input, _dtypes.get_default_dtype())
    return selection.where(x < 0, math.pi, x * 0)


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Which elements occur among ``test_elements``."""
    if not isinstance(elements, Tensor) and not isinstance(test_elements, Tensor):
        raise KindError("isin(): at least one of the arguments must be a Tensor")
    xp = namespace(elements._data if isinstance(elements, Tensor) else test_elements._data)
    a, b = (x if isinstance(x, Tensor) else Tensor._wrap(xp.asarray(x)) for x in (elements, test_elements))
    if _dtypes.bool_ in (a.dtype, b.dtype):
        raise KindError("isin: not implemented for bool")
    return Tensor._wrap(
        xp.asarray(xp.isin(wide(a._data), wide(b._data).reshape(-1), invert=invert)).reshape(a._data.shape)
    )


def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of ``input - other``."""
    from fastnet.ops.reductions import norm

    return norm(arithmetic.sub(input, other), p)


def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype is a floating-point one."""
    check_tensor("is_floating_point", input)
    return input.dtype.is_floating_point


def is_complex(input: Tensor) -> bool:
    """False: no dtype is complex."""
    check_tensor("is_complex", input)
    return False


def is_nonzero(input: Tensor) -> bool:
    """The truth of a tensor of one element."""
    check_tensor("is_nonzero", input)
    return bool(input)


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether both have one shape."""
    check_tensor("is_same_size", input)
    check_tensor("is_same_size", other, "other")
    return input._data.shape == other._data.shape


def is_signed(input: Tensor) -> bool:
    """Whether the dtype has negative numbers."""
    check_tensor("is_signed", input)
    return input.dtype.is_signed


def numel(input: Tensor) -> int:
    """The number of elements."""
    check_tensor("numel", input)
    return input._data.size
