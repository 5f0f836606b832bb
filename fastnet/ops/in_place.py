"""Operations in place: writing a result, and its history, into a tensor that is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction, is_grad_enabled
from fastnet.autograd.views import check_overlap, rebase, recorded_in_place
from fastnet.errors import InputError, KindError
from fastnet.ops._operands import cast, check_broadcast


def assign(target: Tensor, result: Tensor, name: str) -> Tensor:
    """Write ``result`` into ``target``'s memory and give it result's history: the end of every operation in place.

    Raises:
        RuntimeError: a leaf that requires a gradient, or a view of one, is modified while operations are recorded; or
            the result has a dtype that the target cannot hold.
        ValueError: the result does not have the target's shape.
    """
    data = target._data
    if result._data.shape != data.shape:
        raise InputError(
            f"{name}: output with shape {list(data.shape)} doesn't match the broadcast shape {list(result._data.shape)}"
        )
    if result._data.dtype != data.dtype:
        if result.dtype.category > target.dtype.category:
            raise KindError(
                f"result type {result.dtype.name} can't be cast to the desired output type {target.dtype.name}"
            )
        result = cast(result, target.dtype)
    recorded = recorded_in_place(target, result)
    if recorded and not result.requires_grad:  # a constant: the history goes on, but no gradient passes
        history = Fill.apply(target)
        history._data = result._data
        result = history
    writeable(target)[...] = result._data
    target._version_counter[0] += 1
    if recorded:
        rebase(target, result, name)
    return target


def writeable(target: Tensor) -> Any:
    """The tensor's array, to be written; RuntimeError where several elements are one place in memory."""
    data = target._data
    if not data.flags.writeable if isinstance(data, np.ndarray) else 0 in data.strides:
        check_overlap(target)
        if isinstance(data, np.ndarray):
            from fastnet._dlpack import writeable_view

            data = writeable_view(data)
    return data


def old_value(target: Tensor, recorded: bool | None = None) -> Tensor:
    """What an operation in place reads: the tensor itself, or when recorded a copy with its history, since what
    backward needs of the old value would be overwritten."""
    if recorded is None:
        recorded = is_grad_enabled() and target.requires_grad
    if not recorded:
        return target
    requires_grad = target.requires_grad  # brings the history of a view up to date
    copy = Tensor._wrap(target._data.copy())
    copy._node, copy._output_index, copy._requires_grad = target._node, target._output_index, requires_grad
    return copy


def in_place(function: Callable, name: str) -> Callable:
    """The in-place form of an operation."""

    def operation(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        recorded = recorded_in_place(self, *args, *kwargs.values())
        return assign(self, function(old_value(self, recorded), *args, **kwargs), name)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = f"In-place form of ``{function.__name__}``."
    return operation


def copy_(self: Tensor, source: Any, non_blocking: bool = False) -> Tensor:
    """Copy ``source``, broadcast and converted, into this tensor."""
    if not isinstance(source, Tensor):
        raise KindError(f"copy_(): argument 'other' must be Tensor, not {type(source).__name__}")
    from fastnet.ops.shape import clone, expand

    moved = cast(source.to(self.device) if source.is_cuda != self.is_cuda else source, self.dtype)
    check_broadcast("copy_", self._data.shape, moved._data.shape)
    if moved._data.shape != self._data.shape:
        moved = expand(moved, *self._data.shape)
    # A leaf must not become this tensor's history itself: the copy is an operation of its own.
    return assign(self, clone(moved) if moved.requires_grad and is_grad_enabled() else moved, "copy_")


def fill_(self: Tensor, value: Any) -> Tensor:
    """Set every element to ``value``."""
    if isinstance(value, Tensor):
        if value._data.ndim:
            raise InputError(
                f"fill_ only supports 0-dimension value tensor but got tensor with {value._data.ndim} dimensions."
            )
        return copy_(self, value)
    _dtypes.of_scalar(value)
    recorded = recorded_in_place(self)
    with np.errstate(all="ignore"):
        data = writeable(self)
        data.fill(np.asarray(value).astype(data.dtype) if isinstance(data, np.ndarray) else value)
    self._version_counter[0] += 1
    if recorded:
        rebase(self, Fill.apply(old_value(self, True)), "fill_")
    return self


class Fill(ArrayFunction):
    """The history of a tensor all of whose elements were replaced: no gradient goes on."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return namespace(grad).zeros_like(grad)


def zero_(self: Tensor) -> Tensor:
    """Set every element to 0."""
    return fill_(self, 0)
