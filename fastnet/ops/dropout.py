"""Dropout on the dropout kernels: the mask is drawn again in backward, never stored."""

from __future__ import annotations

import warnings
from typing import Any

from fastnet._device import namespace
from fastnet._random import default_generator
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError
from fastnet.kernels._runtime import implementation
from fastnet.kernels.dropout import check_probability
from fastnet.ops._operands import check_tensor
from fastnet.ops.activations import SELU_ALPHA, SELU_SCALE
from fastnet.ops.in_place import assign, old_value
from fastnet.ops.pointwise import check_floating


class Dropout(ArrayFunction):
    """x with elements dropped and the others scaled."""

    @staticmethod
    def forward(ctx: Any, x: Any, p: float, state: Any, offset: int) -> Any:
        ctx.how = p, state, offset
        return implementation(x).dropout(x, p, state, offset)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return implementation(grad).dropout_backward(grad, *ctx.how), None, None, None


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element zeroed with probability ``p`` and the others scaled by 1 / (1 - p), in training only.

    Srivastava et al.: Dropout (JMLR 2014). The mask comes from the default generator: same seed, same mask, on every
    device. Nothing is drawn for p of 0 (the input itself is returned) or 1.

    Raises:
        ValueError: p is not between 0 and 1.
    """
    p = check_probability("dropout", p)
    check_tensor("dropout", input)
    if not training or p == 0 or not input.numel():
        return input  # and takes no place in the generator's stream
    check_floating("dropout", input)
    if p == 1:
        return input.mul_(0) if inplace else input * 0  # what is no number stays so
    source = old_value(input) if inplace else input
    result = Dropout.apply(
        source, p, default_generator.state_array(namespace(input._data)), default_generator.next_offset()
    )
    return assign(input, result, "dropout_") if inplace else result


def _by_channels(name: str, input: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    p = check_probability(name, p)
    check_tensor(name, input)
    if not training or p == 0 or not input.numel():
        return input
    check_floating(name, input)
    if input.dim() < 2:
        raise InputError(
            f"Feature dropout requires at least 2 dimensions in the input: {name} got {tuple(input.shape)}"
        )
    mask = dropout(_channels(input), p)
    return input.mul_(mask) if inplace else input * mask


def _channels(input: Tensor) -> Tensor:
    """Ones, one a channel of (N, C, ...)."""
    shape = (*input.shape[:2], *[1] * (input.dim() - 2))
    return Tensor._wrap(namespace(input._data).ones(shape, input._data.dtype))


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """As ``dropout``, by whole channels of (N, C, L) or (C, L)."""
    check_tensor("dropout1d", input)
    if input.dim() not in (2, 3):
        raise InputError(
            f"dropout1d: Expected 2D or 3D input, but received a {input.dim()}D input. Channel-wise dropout takes one "
            "spatial dimension, a channel dimension and an optional batch dimension"
        )
    return _maybe_batched("dropout1d", input, 2, p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """As ``dropout``, by whole channels of (N, C, H, W), or of (N, C, L) (Tompson et al. 2015)."""
    check_tensor("dropout2d", input)
    if input.dim() not in (3, 4):
        _warn("dropout2d", input, "dropout")
    elif input.dim() == 3:
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior is "
            "desired - input is interpreted as shape (N, C, L), where C is the channel dim. Please use dropout1d "
            "instead.",
            stacklevel=2,
        )
    return _by_channels("dropout2d", input, p, training, inplace)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """As ``dropout``, by whole channels of (N, C, D, H, W) or (C, D, H, W)."""
    check_tensor("dropout3d", input)
    if input.dim() not in (4, 5):
        _warn("dropout3d", input, "dropout")
    return _maybe_batched("dropout3d", input, 4, p, training, inplace)


def _warn(name: str, input: Tensor, other: str) -> None:
    warnings.warn(
        f"{name}: Received a {input.dim()}-D input to {name}, which is deprecated; use {other} for inputs of other "
        "shapes.",
        stacklevel=3,
    )


def _maybe_batched(name: str, input: Tensor, unbatched: int, p: float, training: bool, inplace: bool) -> Tensor:
    if input.dim() != unbatched:
        return _by_channels(name, input, p, training, inplace)
    p = check_probability(name, p)
    if not training or p == 0 or not input.numel():
        return input
    check_floating(name, input)
    mask = dropout(_channels(Tensor._wrap(input._data[None])), p)
    mask = Tensor._wrap(mask._data[0])
    return input.mul_(mask) if inplace else input * mask


def _alpha(name: str, input: Tensor, p: float, training: bool, inplace: bool, noise: Any) -> Tensor:
    """Dropped elements become SELU's negative limit -L; then a x + b restores mean 0 and variance 1."""
    p = check_probability(name, p)
    check_tensor(name, input)
    if not training or p == 0 or not input.numel():
        return input
    check_floating(name, input)
    kept = noise()
    limit = SELU_ALPHA * SELU_SCALE
    scale = ((1 - p) * (1 + p * limit**2)) ** -0.5 if p < 1 else 0.0
    shift = limit * scale
    # kept is 0 or 1: a x for what is kept, -a L for what is not, and a L p for all.
    offset = (kept - 1) * shift + shift * p
    source = old_value(input) if inplace else input
    result = source * (kept * scale) + offset
    return assign(input, result, name) if inplace else result


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout to SELU's negative limit, after which mean and variance are as before (Klambauer et al. 2017)."""
    return _alpha(
        "alpha_dropout",
        input,
        p,
        training,
        inplace,
        lambda: (dropout(Tensor._wrap(namespace(input._data).ones_like(input._data)), p) != 0).to(input.dtype),
    )


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """As ``alpha_dropout``, by whole channels of (N, C, ...)."""
    check_tensor("feature_alpha_dropout", input)
    if training and input.dim() < 2:
        raise InputError(
            "Feature dropout requires at least 2 dimensions in the input: feature_alpha_dropout got "
            f"{tuple(input.shape)}"
        )
    return _alpha(
        "feature_alpha_dropout",
        input,
        p,
        training,
        inplace,
        lambda: (dropout(_channels(input), p) != 0).to(input.dtype),
    )
