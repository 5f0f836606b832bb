"""Activations that no kernel has, in array code: one Function and a table of formulas. Those that kernels have are in
fastnet/ops/pointwise.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops import random
from fastnet.ops._numeric import axis_of, rounded, wide
from fastnet.ops._operands import check_tensor
from fastnet.ops.elementwise import abs as absolute
from fastnet.ops.in_place import assign, old_value
from fastnet.ops.pointwise import check_floating, leaky_relu, relu, tanh
from fastnet.ops.selection import clamp, where
from fastnet.ops.softmax import softmax

# Klambauer et al.: Self-Normalizing Neural Networks (2017), the fixed point for mean 0 and variance 1.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@dataclass(frozen=True)
class Formula:
    """An activation of x, elementwise, and its derivative. p is what else it depends on."""

    value: Callable[[Any, Any, Any], Any]  # (array module, x, p)
    derivative: Callable[[Any, Any, Any], Any]


def _celu(xp: Any, x: Any, alpha: float) -> Any:
    return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0) / alpha))


def _celu_derivative(xp: Any, x: Any, alpha: float) -> Any:
    return xp.where(x > 0, 1, xp.exp(xp.minimum(x, 0) / alpha))


FORMULAS = {
    "celu": Formula(_celu, _celu_derivative),
    "selu": Formula(
        lambda xp, x, p: SELU_SCALE * xp.where(x > 0, x, SELU_ALPHA * xp.expm1(xp.minimum(x, 0))),
        lambda xp, x, p: SELU_SCALE * xp.where(x > 0, 1, SELU_ALPHA * xp.exp(xp.minimum(x, 0))),
    ),
    "hardsigmoid": Formula(
        lambda xp, x, p: xp.clip(x + 3, 0, 6) / 6, lambda xp, x, p: xp.where((x > -3) & (x < 3), 1 / 6, 0)
    ),
    "hardtanh": Formula(
        lambda xp, x, p: xp.clip(x, *p), lambda xp, x, p: xp.where((x > p[0]) & (x < p[1]), 1, 0).astype(x.dtype)
    ),
    "logsigmoid": Formula(
        lambda xp, x, p: xp.minimum(x, 0) - xp.log1p(xp.exp(-xp.abs(x))),
        lambda xp, x, p: xp.where(x < 0, 1, xp.exp(-xp.abs(x))) / (1 + xp.exp(-xp.abs(x))),
    ),
    "softsign": Formula(lambda xp, x, p: x / (1 + xp.abs(x)), lambda xp, x, p: 1 / xp.square(1 + xp.abs(x))),
    "tanhshrink": Formula(lambda xp, x, p: x - xp.tanh(x), lambda xp, x, p: xp.square(xp.tanh(x))),
    "threshold": Formula(lambda xp, x, p: xp.where(x <= p[0], x.dtype.type(p[1]), x), lambda xp, x, p: ~(x <= p[0])),
    "hardshrink": Formula(lambda xp, x, p: xp.where(xp.abs(x) <= p, 0, x), lambda xp, x, p: ~(xp.abs(x) <= p)),
    "softshrink": Formula(
        lambda xp, x, p: xp.where(xp.abs(x) <= p, 0, x - p * xp.sign(x)), lambda xp, x, p: ~(xp.abs(x) <= p)
    ),
}


class Elementwise(ArrayFunction):
    """formula(x); 16-bit types are computed in float32."""

    @staticmethod
    def forward(ctx: Any, x: Any, name: str, p: Any) -> Any:
        ctx.formula, ctx.p = name, p
        ctx.save(x)
        with np.errstate(all="ignore"):
            w = wide(x)
            return rounded(namespace(x).asarray(FORMULAS[name].value(namespace(x), w, p)), x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved
        with np.errstate(all="ignore"):
            slope = FORMULAS[ctx.formula].derivative(namespace(x), wide(x), ctx.p)
            return rounded(namespace(x).asarray(wide(grad) * slope), grad.dtype), None, None


def _apply(name: str, input: Any, p: Any = None, inplace: bool = False) -> Tensor:
    check_floating(name, input)
    if inplace:
        return assign(input, Elementwise.apply(old_value(input), name, p), f"{name}_")
    return Elementwise.apply(input, name, p)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to [min_val, max_val]; the derivative at the limits is 0. Integers too."""
    check_tensor("hardtanh", input)
    if min_val > max_val:
        raise InputError(f"hardtanh: min_val is {min_val}, expected at most max_val, {max_val}")
    if not input.dtype.is_floating_point:
        if input.dtype.name == "bool":
            raise KindError("Bool inputs not supported for hardtanh")
        result = clamp(input, int(min_val), int(max_val))
        return assign(input, result, "hardtanh_") if inplace else result
    return _apply("hardtanh", input, (float(min_val), float(max_val)), inplace)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6) (Krizhevsky 2010)."""
    return hardtanh(input, 0.0, 6.0, inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6 (Howard et al. 2019)."""
    return _apply("hardsigmoid", input, None, inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where positive, else alpha * (exp(x / alpha) - 1) (Barron 2017)."""
    if alpha == 0:
        raise InputError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return _apply("celu", input, float(alpha), inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """scale * (x where positive, else alpha * (exp(x) - 1)), the constants of Klambauer et al. 2017.

    >>> import fastnet
    >>> selu(fastnet.tensor([1.0, 0.0]))
    tensor([1.0507, 0.0000])
    """
    return _apply("selu", input, None, inplace)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), without overflow."""
    return _apply("logsigmoid", input)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    check_tensor("softsign", input)
    return _apply("softsign", input) if input.dtype.is_floating_point else input / (absolute(input) + 1)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    check_tensor("tanhshrink", input)
    return _apply("tanhshrink", input) if input.dtype.is_floating_point else input - tanh(input)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where above the threshold, else the value. Integers too."""
    check_tensor("threshold", input)
    if not input.dtype.is_floating_point:
        if input.dtype.name == "bool":
            raise KindError("threshold: not implemented for bool, expected numbers")
        result = where(input <= threshold, int(value), input)
        return assign(input, result, "threshold_") if inplace else result
    return _apply("threshold", input, (float(threshold), float(value)), inplace)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, else 0."""
    return _apply("hardshrink", input, float(lambd))


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x - lambd * sign(x) where |x| > lambd, else 0."""
    if not lambd >= 0:
        raise InputError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return _apply("softshrink", input, float(lambd))


class Gated(ArrayFunction):
    """a * sigmoid(b) of the halves a and b of x along an axis."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int) -> Any:
        ctx.axis = axis
        ctx.save(x)
        a, b = namespace(x).split(wide(x), 2, axis)
        with np.errstate(over="ignore"):
            return rounded(a / (1 + namespace(x).exp(-b)), x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved
        xp = namespace(x)
        a, b = xp.split(wide(x), 2, ctx.axis)
        with np.errstate(over="ignore"):
            gate = 1 / (1 + xp.exp(-b))
        g = wide(grad) * gate
        return rounded(xp.concatenate([g, g * a * (1 - gate)], ctx.axis), grad.dtype), None


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a * sigmoid(b), a and b the halves of ``input`` along ``dim`` (Dauphin et al. 2016)."""
    check_floating("glu", input)
    if input.ndim == 0:
        raise InputError("glu does not support scalars because halving size must be even")
    axis = axis_of(dim, input.ndim, "glu")
    if input.shape[axis] % 2:
        raise InputError(f"Halving dimension must be even, but dimension {axis} is size {input.shape[axis]}")
    return Gated.apply(input, axis)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax(-x)."""
    check_tensor("softmin", input)
    return softmax(-input, dim, dtype=dtype)


def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """x where positive, else a * x, a drawn for each element from [lower, upper) in training, their mean otherwise
    (Xu et al. 2015)."""
    check_floating("rrelu", input)
    if not lower <= upper:
        raise InputError(f"Lower bound should be less than or equal to the upper bound, got {lower} and {upper}")
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    slope = random.rand_like(input) * (upper - lower) + lower
    source = old_value(input) if inplace else input
    result = where(source <= 0, source * slope, source)
    return assign(input, result, "rrelu_") if inplace else result


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """A sample of the relaxed one-hot distribution of these logits: softmax((logits + Gumbel noise) / tau).

    ``hard``: one-hot forward, the gradient of the soft sample backward. Jang et al. 2016; Maddison et al. 2016.
    """
    check_floating("gumbel_softmax", logits)
    # -log of an exponential variable is a standard Gumbel one.
    noise = -random.exponential_(Tensor._wrap(namespace(logits._data).empty_like(logits._data))).log()
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    index = soft.max(dim, keepdim=True)[1]
    one_hot = Tensor._wrap(namespace(soft._data).zeros_like(soft._data)).scatter(dim, index, 1.0)
    return one_hot - soft.detach() + soft


def _in_place(function: Callable) -> Callable:
    def operation(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return function(input, *args, **kwargs, inplace=True)

    operation.__name__ = operation.__qualname__ = f"{function.__name__}_"
    operation.__doc__ = f"In-place form of ``{function.__name__}``."
    return operation


def _pointwise_in_place() -> dict[str, Callable]:
    from fastnet.ops.pointwise import elu

    return {f"{f.__name__}_": _in_place(f) for f in (celu, elu, hardtanh, leaky_relu, relu, rrelu, selu, threshold)}


IN_PLACE = _pointwise_in_place()
