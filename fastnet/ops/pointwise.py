"""Activations and their fusion with bias and residual, on the pointwise kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.autograd.views import recorded_in_place
from fastnet.errors import InputError, KindError
from fastnet.kernels._runtime import implementation
from fastnet.ops._numeric import unbroadcast
from fastnet.ops._operands import cast, check_tensor
from fastnet.ops.in_place import assign, old_value


class Activate(ArrayFunction):
    """activation(x)."""

    @classmethod
    def _node_name(cls, ctx: Any) -> str:
        return "".join(word.capitalize() for word in ctx.activation.split("_")) + "Backward0"

    @staticmethod
    def forward(ctx: Any, x: Any, activation: str, parameter: float | None) -> Any:
        ctx.save(x)
        ctx.activation, ctx.parameter = activation, parameter
        return implementation(x).bias_activation(x, activation=activation, parameter=parameter)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved
        return (
            implementation(x).bias_activation_backward(grad, x, activation=ctx.activation, parameter=ctx.parameter),
            None,
            None,
        )


class BiasActivation(ArrayFunction):
    """residual + activation(x + bias)."""

    @staticmethod
    def forward(ctx: Any, x: Any, bias: Any, residual: Any, activation: str, parameter: float | None) -> Any:
        ctx.save(x, bias)
        ctx.activation, ctx.parameter = activation, parameter
        return implementation(x).bias_activation(x, bias, activation=activation, parameter=parameter, residual=residual)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, bias = ctx.saved
        of_x: Any = None
        of_bias = None
        kernels = implementation(grad)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            of_x = kernels.bias_activation_backward(grad, x, bias, activation=ctx.activation, parameter=ctx.parameter)
        if ctx.needs_input_grad[1]:
            of_bias = kernels.column_sum(of_x.reshape(-1, of_x.shape[-1]))
        return of_x, of_bias, grad if ctx.needs_input_grad[2] else None, None, None


def check_floating(name: str, input: Any) -> None:
    """Raise unless input is a floating-point tensor."""
    check_tensor(name, input)
    if not input.dtype.is_floating_point:
        raise KindError(f"{name}: not implemented for {input.dtype.name}, expected a floating-point tensor")


def _apply(name: str, input: Any, activation: str, parameter: float | None, inplace: bool) -> Tensor:
    check_floating(name, input)
    if inplace:
        recorded = recorded_in_place(input)
        return assign(input, Activate.apply(old_value(input, recorded), activation, parameter), name)
    return Activate.apply(input, activation, parameter)


def _plain(name: str, doc: str) -> Callable:
    def operation(input: Tensor, inplace: bool = False) -> Tensor:
        return _apply(name, input, name, None, inplace)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


silu = _plain("silu", "x * sigmoid(x) (Elfwing et al. 2017).")
mish = _plain("mish", "x * tanh(softplus(x)) (Misra 2019).")
hardswish = _plain("hardswish", "x * min(max(x + 3, 0), 6) / 6 (Howard et al. 2019).")


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0); NaN stays NaN. Integers too.

    >>> import fastnet
    >>> fastnet.relu(fastnet.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    check_tensor("relu", input)
    if not input.dtype.is_floating_point:
        if input.dtype.name == "bool":
            raise KindError("Boolean inputs not supported for relu")
        from fastnet.ops.selection import clamp

        return assign(input, clamp(input, 0), "relu_") if inplace else clamp(input, 0)
    return _apply("relu", input, "relu", None, inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where positive, else negative_slope * x."""
    return _apply("leaky_relu", input, "leaky_relu", float(negative_slope), inplace)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where positive, else alpha * (exp(x) - 1) (Clevert et al. 2015)."""
    return _apply("elu", input, "elu", float(alpha), inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x * Phi(x) (Hendrycks and Gimpel 2016), Phi exact or, with ``approximate="tanh"``, by a tanh."""
    if approximate not in ("none", "tanh"):
        raise InputError("approximate argument must be either none or tanh.")
    return _apply("gelu", input, "gelu" if approximate == "none" else "gelu_tanh", None, False)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold."""
    if threshold != 20:
        check_floating("softplus", input)
        from fastnet.ops.elementwise import exp, log1p
        from fastnet.ops.selection import clamp, where

        scaled = input * beta
        return where(scaled > threshold, input, log1p(exp(clamp(scaled, max=threshold))) / beta)
    return _apply("softplus", input, "softplus", float(beta), False)


def _to_floating(input: Tensor) -> Tensor:
    from fastnet._dtypes import get_default_dtype

    return input if input.dtype.is_floating_point else cast(input, get_default_dtype())


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    check_tensor("sigmoid", input)
    return Activate.apply(_to_floating(input), "sigmoid", None)


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    check_tensor("tanh", input)
    return Activate.apply(_to_floating(input), "tanh", None)


class PReLU(ArrayFunction):
    """x where positive, else weight * x, one weight a channel."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any) -> Any:
        ctx.save(x, weight)
        return (x * (x > 0) + weight * (x * (x <= 0))).astype(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight = ctx.saved
        negative = x <= 0
        of_x = (grad * (x > 0) + grad * weight * negative).astype(grad.dtype) if ctx.needs_input_grad[0] else None
        of_weight = (
            unbroadcast(grad * x * negative, weight.shape).astype(grad.dtype) if ctx.needs_input_grad[1] else None
        )
        return of_x, of_weight


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where positive, else weight * x; weight has one element, or one a channel (dimension 1)."""
    check_floating("prelu", input)
    check_tensor("prelu", weight, "weight")
    n = weight.numel()
    if weight.dim() > 1 or (n != 1 and (input.dim() < 2 or input.shape[1] != n)):
        raise InputError(
            f"prelu: weight has {n} elements, expected 1 or as many as input has channels, {list(input.shape)}"
        )
    from fastnet.ops.shape import reshape

    shape = (1, n) + (1,) * (input.dim() - 2) if n != 1 else (1,)
    return PReLU.apply(input, reshape(weight, shape) if input.dim() else reshape(weight, ()))


def bias_activation(
    input: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str = "none",
    parameter: float | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """``residual + activation(input + bias)`` in one pass over memory; see ``fastnet.kernels.bias_activation``."""
    check_floating("bias_activation", input)
    from fastnet.kernels.pointwise import check_activation

    check_activation("bias_activation", activation, parameter)
    for name, t, shape in (("bias", bias, input.shape[-1:]), ("residual", residual, input.shape)):
        if t is not None:
            check_tensor("bias_activation", t, name)
            if tuple(t.shape) != tuple(shape) or t.dtype is not input.dtype or t.is_cuda != input.is_cuda:
                raise InputError(
                    f"bias_activation: {name} is {t.dtype.name} {tuple(t.shape)} on {t.device}, expected "
                    f"{input.dtype.name} {tuple(shape)} on {input.device}"
                )
    return BiasActivation.apply(input, bias, residual, activation, parameter)


class GatedActivation(ArrayFunction):
    """activation(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: Any, up: Any, activation: str, parameter: float | None) -> Any:
        ctx.save(gate, up)
        ctx.how = {"activation": activation, "parameter": parameter}
        return implementation(gate).gated_activation(gate, up, **ctx.how)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        gate, up = ctx.saved
        return (*implementation(grad).gated_activation_backward(grad, gate, up, **ctx.how), None, None)


class GatedHalves(ArrayFunction):
    """activation of the first half of each row times the second half; one gradient for both."""

    @staticmethod
    def _halves(x: Any) -> tuple[Any, Any]:
        cols = x.shape[-1] // 2
        return x[..., :cols], x[..., cols:]

    @staticmethod
    def forward(ctx: Any, x: Any, activation: str, parameter: float | None) -> Any:
        ctx.save(x)
        ctx.how = {"activation": activation, "parameter": parameter}
        return implementation(x).gated_activation(*GatedHalves._halves(x), **ctx.how)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved
        halves = GatedHalves._halves(x)
        return implementation(grad).gated_activation_backward(grad, *halves, **ctx.how, together=True), None, None


def gated_activation(
    gate: Tensor, up: Tensor | None = None, *, activation: str = "silu", parameter: float | None = None
) -> Tensor:
    """``activation(gate) * up`` in one pass over memory, and one for both gradients (Shazeer 2020).

    Args:
        gate: (..., cols) floating-point tensor; (..., 2 cols) with gate and up side by side, as one wide linear layer
            gives them, where up is None.
        up: of gate's shape and dtype.
        activation: "silu" for SwiGLU, "gelu" or "gelu_tanh" for GEGLU, "relu" for ReGLU, "sigmoid" for GLU, or
            another name of ``bias_activation``'s.
        parameter: the activation's number, None for its default.

    Returns:
        (..., cols) of gate's dtype.

    Raises:
        ValueError, TypeError: arguments that do not fit.

    >>> import fastnet
    >>> gated_activation(fastnet.tensor([-1.0, 2.0]), fastnet.tensor([5.0, 3.0]), activation="relu")
    tensor([0., 6.])
    """
    return _gated("gated_activation", gate, up, activation, parameter)


def _gated(name: str, gate: Tensor, up: Tensor | None, activation: str, parameter: float | None) -> Tensor:
    from fastnet.kernels.pointwise import check_activation

    check_floating(name, gate)
    check_activation(name, activation, parameter)
    if not gate.dim():
        raise InputError(f"{name}: gate has no dimensions, expected at least one")
    if up is None:
        if gate.shape[-1] % 2:
            raise InputError(f"{name}: gate has {gate.shape[-1]} columns, expected an even number where up is None")
        return GatedHalves.apply(gate, activation, parameter)
    check_tensor(name, up, "up")
    if tuple(up.shape) != tuple(gate.shape) or up.dtype is not gate.dtype or up.is_cuda != gate.is_cuda:
        raise InputError(
            f"{name}: up is {up.dtype.name} {tuple(up.shape)} on {up.device}, expected {gate.dtype.name} "
            f"{tuple(gate.shape)} on {gate.device}"
        )
    return GatedActivation.apply(gate, up, activation, parameter)


def swiglu(gate: Tensor, up: Tensor | None = None) -> Tensor:
    """``silu(gate) * up``, the gated unit of Llama's perceptrons (Shazeer 2020), in one pass over memory.

    Args:
        gate: (..., cols) floating-point tensor; (..., 2 cols) with both side by side where up is None.
        up: of gate's shape and dtype.

    Raises:
        ValueError, TypeError: arguments that do not fit.

    >>> import fastnet
    >>> swiglu(fastnet.zeros(2, 3), fastnet.ones(2, 3)).shape
    fastnet.Size([2, 3])
    """
    return _gated("swiglu", gate, up, "silu", None)
