"""Dropout on the dropout kernels: the mask is drawn again in backward, never stored."""

from __future__ import annotations

from typing import Any

from fastnet._device import namespace
from fastnet._random import default_generator
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.kernels._runtime import implementation
from fastnet.kernels.dropout import check_probability
from fastnet.ops.arithmetic import assign, old_value
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
    device.

    Raises:
        ValueError: p is not between 0 and 1.
    """
    check_floating("dropout", input)
    p = check_probability("dropout", p)
    if not training:
        return input
    source = old_value(input) if inplace else input
    result = Dropout.apply(
        source, p, default_generator.state_array(namespace(input._data)), default_generator.next_offset()
    )
    return assign(input, result, "dropout_") if inplace else result


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """As ``dropout``, by whole channels of (N, C, ...) (Tompson et al. 2015)."""
    check_floating("dropout2d", input)
    p = check_probability("dropout2d", p)
    if not training:
        return input
    if input.dim() < 2:
        raise ValueError(f"dropout2d: input has shape {tuple(input.shape)}, expected at least (N, C)")
    xp = namespace(input._data)
    channels = Tensor._wrap(xp.ones((*input.shape[:2], *[1] * (input.dim() - 2)), input._data.dtype))
    return (input.mul_ if inplace else input.__mul__)(dropout(channels, p))
