"""Padding: constants around a tensor, or its own elements mirrored, repeated or going round."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError
from fastnet.ops._numeric import rounded, wide
from fastnet.ops._operands import check_tensor
from fastnet.ops.indexing import add_at
from fastnet.ops.shape import clone


def _source(mode: str, n: int, before: int, after: int) -> np.ndarray:
    """Which of n elements each element of a padded axis is."""
    at = np.arange(n + before + after) - before
    if mode == "circular":  # what is left after negative padding goes round
        left = n + min(before, 0) + min(after, 0)
        return (np.arange(at.size) - max(before, 0)) % max(left, 1) + max(-before, 0)
    if mode == "reflect":
        at = np.abs(at)
        at = np.where(at > n - 1, 2 * (n - 1) - at, at)
    return np.clip(at, 0, n - 1)


class Pad(ArrayFunction):
    """Constants added around (positive) or elements taken from (negative) each axis."""

    @staticmethod
    def forward(ctx: Any, x: Any, widths: tuple[tuple[int, int], ...], value: float) -> Any:
        inner = tuple(slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(x.shape, widths, strict=True))
        grown = [(max(0, a), max(0, b)) for a, b in widths]
        ctx.shape, ctx.inner, ctx.grown = x.shape, inner, grown
        return namespace(x).pad(x[inner], grown, constant_values=x.dtype.type(value))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        out = namespace(grad).zeros(ctx.shape, grad.dtype)
        out[ctx.inner] = grad[tuple(slice(a, n - b) for n, (a, b) in zip(grad.shape, ctx.grown, strict=True))]
        return out, None, None


class PadAxis(ArrayFunction):
    """One axis made of copies of its elements: ``source`` says of which."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int, source: np.ndarray) -> Any:
        ctx.size, ctx.axis, ctx.source = x.shape[axis], axis, source
        return namespace(x).take(x, namespace(x).asarray(source), axis=axis)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        xp = namespace(grad)
        moved = xp.moveaxis(wide(grad), ctx.axis, 0)
        folded = xp.zeros((ctx.size, *moved.shape[1:]), moved.dtype)
        add_at(folded, (xp.asarray(ctx.source),), moved)
        return rounded(xp.ascontiguousarray(xp.moveaxis(folded, 0, ctx.axis)), grad.dtype), None, None


def pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """Elements added around the last dimensions: ``pad`` is (before last, after last, before second last, ...);
    negative numbers take away. ``mode`` is constant, reflect, replicate or circular."""
    check_tensor("pad", input)
    n = input._data.ndim
    if len(pad) % 2 or len(pad) // 2 > n:
        raise InputError(
            "pad: padding length must be even and at most twice the number of dimensions of the input, got "
            f"{len(pad)} for {n}"
        )
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if mode != "constant":
        if value is not None:
            raise InputError(f'Padding mode "{mode}" doesn\'t take in value argument')
        if len(pad) > 6 or n - len(pad) // 2 not in (1, 2):
            raise NotImplementedError(
                f"pad: mode {mode} takes 2, 4 or 6 paddings for an input with one or two dimensions more than half as "
                f"many, got {len(pad)} for {n} dimensions"
            )
    widths = [(0, 0)] * n
    for i in range(len(pad) // 2):
        widths[n - 1 - i] = (int(pad[2 * i]), int(pad[2 * i + 1]))
    for size, (a, b) in zip(input._data.shape, widths, strict=True):
        empty = mode != "constant" and (a, b) != (0, 0) and size + a + b < 1
        reach = size if mode == "reflect" else size + 1 if mode == "circular" else max(a, b) + 1
        if size + a + b < 0 or empty or ((a, b) != (0, 0) and max(a, b) >= reach):
            raise InputError(f"pad: padding ({a}, {b}) does not fit a dimension of size {size} in mode {mode}")
    if mode == "constant":
        return Pad.apply(input, tuple(widths), 0.0 if value is None else value)
    if any(size == 0 and a != (0, 0) for size, a in zip(input._data.shape, widths, strict=True)):
        raise InputError(f"pad: mode {mode} cannot extend a dimension of size 0, input is {list(input.shape)}")
    out = input
    for axis, (a, b) in enumerate(widths):
        if (a, b) != (0, 0):
            out = PadAxis.apply(out, axis, _source(mode, input._data.shape[axis], a, b))
    return clone(input) if out is input else out
