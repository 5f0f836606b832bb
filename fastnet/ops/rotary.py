"""Rotary position embedding as a differentiable operation."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.kernels._runtime import implementation
from fastnet.ops._operands import check_tensor
from fastnet.ops.pointwise import check_floating
from fastnet.ops.shape import reshape


class RotaryEmbedding(ArrayFunction):
    """Pairs of elements turned by the angles of their place. The gradient turns back."""

    @staticmethod
    def forward(ctx: Any, x: Any, cos: Any, sin: Any, how: dict[str, Any]) -> Any:
        ctx.tables, ctx.how = (cos, sin), how
        return implementation(x).rotary_embedding(x, cos, sin, **how)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return implementation(grad).rotary_embedding(grad, *ctx.tables, **ctx.how, inverse=True), None, None, None


def rotary_embedding(
    input: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    offset: int | Tensor = 0,
    positions: Tensor | None = None,
    interleaved: bool = False,
) -> Tensor:
    """Queries or keys with their places turned into them (Su et al. 2021): pair (a, b) of elements of the row at place
    p becomes (a cos - b sin, b cos + a sin), with cos[p] and sin[p] of the pair.

    Args:
        input: (B, H, T, D), (H, T, D) or (T, D) floating-point tensor, as attention takes it.
        cos, sin: (places, R / 2), R at most D: of every place's angles; constants, they get no gradient. 16-bit input
            is computed with them in float32.
        offset: the place of the first row: how many tokens a cache holds. An int, or (B,) int64 or int32.
        positions: (T,) or (B, T) int64 or int32: the place of each row, in place of counting from the offset.
        interleaved: whether pair p is elements 2 p and 2 p + 1 (the paper, GPT-J) rather than p and R / 2 + p
            (GPT-NeoX, Llama). Elements from R on stay as they are.

    Returns:
        A tensor of input's shape and dtype.

    Raises:
        ValueError, TypeError: arguments that do not fit.
        IndexError: a place that the tables do not have; for tensors on the GPU at the next synchronising call.

    >>> import fastnet
    >>> angles = fastnet.arange(4.0)[:, None]
    >>> x = fastnet.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> rotary_embedding(x, angles.cos(), angles.sin(), offset=2)
    tensor([[-0.4161,  0.9093],
            [-0.9900,  0.1411]])
    """
    name = "rotary_embedding"
    check_floating(name, input)
    for argument, table in (("cos", cos), ("sin", sin)):
        check_tensor(name, table, argument)
        if not table.dtype.is_floating_point:
            raise KindError(f"{name}: {argument} has dtype {table.dtype.name}, expected a floating-point tensor")
    if not 2 <= input.dim() <= 4:
        raise InputError(f"{name}: input has shape {tuple(input.shape)}, expected (B, H, T, D), (H, T, D) or (T, D)")
    x = reshape(input, ((1,) * (4 - input.dim()) + tuple(input.shape)))
    how: dict[str, Any] = {"offset": 0, "count": positions is None, "interleaved": bool(interleaved)}
    if positions is not None:
        if isinstance(offset, Tensor) or offset != 0:
            raise InputError(f"{name}: both offset and positions are given, expected one of them")
        check_tensor(name, positions, "positions")
        if positions.dim() not in (1, 2):
            raise InputError(f"{name}: positions has shape {tuple(positions.shape)}, expected (T,) or (B, T)")
        how["positions"] = positions._data if positions.dim() == 2 else positions._data[None]
    elif isinstance(offset, Tensor):
        if offset.dim() != 1:
            raise InputError(f"{name}: offset has shape {tuple(offset.shape)}, expected an int or (B,)")
        how["positions"] = offset._data[:, None]
    else:
        how["offset"] = offset
    acc = np.dtype(np.float64 if x._data.dtype == np.float64 else np.float32)
    tables = [namespace(t._data).ascontiguousarray(t._data.astype(acc, copy=False)) for t in (cos, sin)]
    return reshape(RotaryEmbedding.apply(x, *tables, how), tuple(input.shape))
