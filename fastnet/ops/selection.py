"""Elements limited, chosen or replaced: clamp, where, masked_fill."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._array_code import where as array_where
from fastnet._device import namespace
from fastnet._dtypes import bool_
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import rounded, unbroadcast, wide
from fastnet.ops._operands import (
    cast,
    check_broadcast,
    check_same_device,
    check_tensor,
    compute,
    number,
    operands,
    priority,
    shape_of,
    wrapped,
)


class Clamp(ArrayFunction):
    """Limited to [low, high]; the gradient passes where nothing was cut."""

    node_name = "ClampBackward1"

    @staticmethod
    def forward(ctx: Any, x: Any, low: Any, high: Any) -> Any:
        ctx.save(x)
        ctx.low, ctx.high = low, high
        out = x
        if low is not None:
            out = compute(np.maximum, x.dtype, out, low)
        if high is not None:
            out = compute(np.minimum, x.dtype, out, high)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved
        keep = namespace(x).ones(x.shape, bool)
        if ctx.low is not None:
            keep &= x >= ctx.low
        if ctx.high is not None:
            keep &= x <= ctx.high
        return grad * keep, None, None


class ClampBetween(ArrayFunction):
    """Limited to [low, high], which are tensors of x's dtype, or None."""

    @staticmethod
    def forward(ctx: Any, x: Any, low: Any, high: Any) -> Any:
        ctx.save(x, low, high)
        out = wide(x)
        if low is not None:
            out = np.maximum(out, wide(low))
        if high is not None:
            out = np.minimum(out, wide(high))
        return rounded(namespace(x).asarray(out), x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, low, high = sources = ctx.saved
        under = x < low if low is not None else None
        over = x > high if high is not None else None
        if low is not None and high is not None:
            over = over | (high < low)
            under = under & (low < high)
        kept = namespace(grad).ones(grad.shape, bool)
        for cut in (under, over):
            if cut is not None:
                kept = kept & ~cut
        need = ctx.needs_input_grad
        return tuple(
            unbroadcast(grad * chosen, source.shape) if wanted else None
            for wanted, chosen, source in zip(need, (kept, under, over), sources, strict=True)
        )


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Each element limited to [min, max]; either may be None, a number or, if both given are, a tensor."""
    check_tensor("clamp", input)
    min, max = number(min), number(max)
    limits = [x for x in (min, max) if x is not None]
    if not limits:
        raise InputError("clamp: At least one of 'min' or 'max' must not be None")
    if len(limits) == 2 and isinstance(min, Tensor) is not isinstance(max, Tensor):
        # A number beside a tensor: the tensor must be a number too.
        min, max = (x.item() if isinstance(x, Tensor) and not x._data.ndim else x for x in (min, max))
        if isinstance(min, Tensor) or isinstance(max, Tensor):
            raise KindError("clamp: min and max must both be numbers or both tensors")
        limits = [min, max]
    common = _dtypes.result_type_of([priority(x) for x in (input, *limits)])
    if common is bool_:
        raise NotImplementedError("clamp: not implemented for bool")
    input = cast(input, common)
    if not isinstance(limits[0], Tensor):
        if common.category == 1:
            min, max = (None if x is None else wrapped(x, common) for x in (min, max))
        return Clamp.apply(input, min, max)
    for x in limits:
        check_same_device("clamp", input, x)
    low, high = (None if x is None else cast(x, common) for x in (min, max))
    shape = np.broadcast_shapes(*[x._data.shape for x in (input, *limits)])
    if input._data.shape != shape:
        from fastnet.ops.shape import expand

        input = expand(input, *shape)
    return ClampBetween.apply(input, low, high)


class Where(ArrayFunction):
    """a where the condition holds, else b."""

    @staticmethod
    def forward(ctx: Any, condition: Any, a: Any, b: Any, dtype: Any) -> Any:
        ctx.save(condition)
        ctx.shapes = shape_of(a), shape_of(b)
        a, b = (x if hasattr(x, "dtype") else dtype.type(x) for x in (a, b))
        return array_where(condition, a, b)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (condition,) = ctx.saved
        zero = grad.dtype.type(0)
        _, need_a, need_b, _ = ctx.needs_input_grad
        return (
            None,
            unbroadcast(array_where(condition, grad, zero), ctx.shapes[0]) if need_a else None,
            unbroadcast(array_where(condition, zero, grad), ctx.shapes[1]) if need_b else None,
            None,
        )


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """``input`` where the condition holds, else ``other``; with the condition alone, the indices where it holds."""
    check_tensor("where", condition, "condition")
    if input is None and other is None:
        return tuple(Tensor._wrap(i) for i in condition._data.nonzero())
    if condition._data.dtype not in (np.bool_, np.uint8):
        raise KindError(
            f"where expected condition to be a boolean tensor, but got a tensor with dtype {condition.dtype}"
        )
    if not isinstance(input, Tensor) and not isinstance(other, Tensor):
        input, other = number(input), number(other)
        common = _dtypes.result_type_of([priority(input), priority(other)])
        a, b, dtype = input, other, common.numpy
    else:
        a, b, dtype = operands("where", input, other)
    for x in (a, b):
        if isinstance(x, Tensor):
            check_broadcast("where", condition._data.shape, x._data.shape)
    condition = condition if condition._data.dtype == np.bool_ else cast(condition, bool_)
    return Where.apply(condition, a, b, dtype)


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """``input`` with ``value`` wherever the mask is true."""
    check_tensor("masked_fill", input)
    check_tensor("masked_fill", mask, "mask")
    if mask._data.dtype != np.bool_:
        raise KindError(f"masked_fill_ only supports boolean masks, but got mask with dtype {mask.dtype}")
    if isinstance(value, Tensor):
        if value._data.ndim:
            raise InputError(
                f"masked_fill_ only supports a 0-dimensional value tensor, but got tensor with {value._data.ndim} "
                "dimension(s)."
            )
        value = cast(value, input.dtype)
    value = number(value)
    check_broadcast("masked_fill", input._data.shape, mask._data.shape)
    return MaskedFill.apply(mask, value, input, input._data.dtype)


class MaskedFill(Where):
    """A value where the mask is true, else x."""
