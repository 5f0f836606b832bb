"""Pooling that takes places along: its inverse, and windows drawn at random."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._faults import note
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import rounded, wide
from fastnet.ops._operands import check_tensor
from fastnet.ops.indexing import add_at


class Unpool(ArrayFunction):
    """x (N, C, places) written to ``index`` of (N, C, size) zeros; of elements for one place the last counts."""

    @staticmethod
    def forward(ctx: Any, x: Any, index: Any, size: int) -> Any:
        xp = namespace(x)
        ctx.index = index
        out = xp.zeros((*x.shape[:2], size), x.dtype)
        out[xp.arange(x.shape[0])[:, None, None], xp.arange(x.shape[1])[:, None], index] = x
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return namespace(grad).take_along_axis(grad, ctx.index, axis=2), None, None


class Picked(ArrayFunction):
    """The elements of x (N, C, size) at ``index`` (N, C, places), which may name one several times."""

    @staticmethod
    def forward(ctx: Any, x: Any, index: Any) -> Any:
        ctx.shape, ctx.index = x.shape, index
        return namespace(x).take_along_axis(x, index, axis=2)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        xp = namespace(grad)
        n, c, size = ctx.shape
        out = xp.zeros((n * c, size), wide(grad[:0]).dtype)
        add_at(
            out,
            (xp.arange(n * c)[:, None], ctx.index.reshape(n * c, grad.shape[2])),
            wide(grad).reshape(n * c, grad.shape[2]),
        )
        return rounded(out, grad.dtype).reshape(ctx.shape), None


# ---- the inverse of max_pool ---------------------------------------------------------------------------------------


def _entries(name: str, argument: str, x: Any, dims: int) -> list[int]:
    values = list(x) if isinstance(x, (tuple, list)) else [x] * dims
    values = values * dims if len(values) == 1 else values
    if len(values) != dims:
        raise InputError(f"{name}: {argument} has {len(values)} entries, expected one or {dims}")
    return [int(n) for n in values]


def _unpooled_size(
    name: str, image: tuple, kernel_size: Any, stride: Any, padding: Any, output_size: Any, dims: int
) -> list[int]:
    kernel, pads = _entries(name, "kernel_size", kernel_size, dims), _entries(name, "padding", padding, dims)
    strides = kernel if stride in (None, (), []) else _entries(name, "stride", stride, dims)
    if min(strides) < 1:
        raise InputError(f"{name}: strides should be greater than zero, but got stride {strides}")
    default = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(image, strides, pads, kernel, strict=True)]
    if output_size is None:
        return default
    wanted = [int(n) for n in output_size]
    wanted = wanted[2:] if len(wanted) == dims + 2 else wanted
    if len(wanted) != dims:
        raise InputError(f"{name}: output_size has {len(wanted)} entries, expected {dims} or {dims + 2}")
    low = [d - s for d, s in zip(default, strides, strict=True)]
    high = [d + s for d, s in zip(default, strides, strict=True)]
    if not all(a < n < b for a, n, b in zip(low, wanted, high, strict=True)):
        raise InputError(f"{name}: output_size is {wanted}, expected between {low} and {high}, which are left out")
    return wanted


def _unpool(
    name: str, input: Tensor, indices: Tensor, kernel_size: Any, stride: Any, padding: Any, output_size: Any, dims: int
) -> Tensor:
    check_tensor(name, input)
    check_tensor(name, indices, "indices")
    if input.dim() not in (dims + 1, dims + 2):
        raise InputError(f"{name}: input has {input.dim()} dimensions, expected {dims + 1} or {dims + 2}")
    if indices.dtype.name != "int64":
        raise KindError(f"{name}: indices have dtype {indices.dtype}, expected int64")
    if tuple(indices.shape) != tuple(input.shape):
        raise InputError(f"{name}: indices have shape {list(indices.shape)}, expected input's {list(input.shape)}")
    size = _unpooled_size(name, input.shape[-dims:], kernel_size, stride, padding, output_size, dims)
    if min(size) < 0 or 0 in input.shape[input.dim() - dims - 1 :]:
        raise InputError(f"{name}: input of shape {list(input.shape)} and a result of {size}: expected no empty sizes")
    where, places = indices._data, math.prod(size)
    if not isinstance(where, np.ndarray):
        text = f"found an invalid max index, expected indices from 0 to {places - 1}"
        note(name, text, (where < 0) | (where >= places), InputError)
    elif where.size and not (where.min() >= 0 and where.max() < places):
        raise InputError(f"{name}: found an invalid max index, expected indices from 0 to {places - 1}")
    batch = input.shape[0] if input.dim() == dims + 2 else 1
    channels, inside = input.shape[-dims - 1], math.prod(input.shape[-dims:])
    out = Unpool.apply(input.reshape(batch, channels, inside), where.reshape(batch, channels, inside), places)
    return out.reshape(*input.shape[:-dims], *size)


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """The inverse of ``max_pool1d``: its results where they came from, zeros elsewhere. (N, C, L) or (C, L).

    >>> import fastnet
    >>> F = fastnet.nn.functional
    >>> F.max_unpool1d(*F.max_pool1d(fastnet.tensor([[1., 3., 2., 0.]]), 2, return_indices=True), 2)
    tensor([[0., 3., 2., 0.]])
    """
    return _unpool("max_unpool1d", input, indices, kernel_size, stride, padding, output_size, 1)


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """The inverse of ``max_pool2d`` (Zeiler et al. 2011): its results where they came from, zeros elsewhere.

    Args:
        input: (N, C, P, Q) or (C, P, Q).
        indices: of its shape, int64, as ``max_pool2d`` returns them.
        kernel_size, stride, padding: those of the pooling.
        output_size: of the result, where several sizes pool to input's; at most a stride from the least.

    >>> import fastnet
    >>> fastnet.nn.functional.max_unpool2d(fastnet.ones(1, 1, 1), fastnet.tensor([[[3]]]), 2)
    tensor([[[0., 0.],
             [0., 1.]]])
    """
    return _unpool("max_unpool2d", input, indices, kernel_size, stride, padding, output_size, 2)


def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """The inverse of ``max_pool3d``; arguments as ``max_unpool2d``'s.

    >>> import fastnet
    >>> fastnet.nn.functional.max_unpool3d(fastnet.ones(1, 1, 1, 1), fastnet.tensor([[[[3]]]]), 2).sum().item()
    1.0
    """
    return _unpool("max_unpool3d", input, indices, kernel_size, stride, padding, output_size, 3)


# ---- fractional pooling --------------------------------------------------------------------------------------------


def _starts(samples: np.ndarray, size: int, out: int, kernel: int) -> np.ndarray:
    """Where windows begin, (N, C, out): steps of two sizes in an order that the samples (N, C) choose."""
    if out == 1:
        return np.full((*samples.shape, 1), size - kernel, np.int64)
    step = (size - kernel) / (out - 1)
    at = np.arange(out, dtype=samples.dtype)
    begin = ((at + samples[..., None]) * samples.dtype.type(step)).astype(np.int64)
    begin -= (samples[..., None] * samples.dtype.type(step)).astype(np.int64)
    begin[..., -1] = size - kernel
    return begin


def _fractional(
    name: str,
    input: Tensor,
    kernel_size: Any,
    output_size: Any,
    output_ratio: Any,
    return_indices: bool,
    random_samples: Tensor | None,
    dims: int,
) -> Any:
    check_tensor(name, input)
    if output_size is None and output_ratio is None:
        raise InputError(f"{name} requires specifying either an output_size or an output_ratio")
    if input.dim() not in (dims + 1, dims + 2):
        raise InputError(f"{name}: input has {input.dim()} dimensions, expected {dims + 1} or {dims + 2}")
    image = input.shape[-dims:]
    if output_size is None:
        ratios = list(output_ratio) if isinstance(output_ratio, (tuple, list)) else [output_ratio] * dims
        size = [int(n * r) for n, r in zip(image, ratios, strict=True)]
    else:
        size = _entries(name, "output_size", output_size, dims)
    kernel = _entries(name, "kernel_size", kernel_size, dims)
    for n, k, p in zip(image, kernel, size, strict=True):
        if k < 1 or p < 1 or p + k - 1 > n:
            raise InputError(f"{name}: a window of {k} and {p} results do not fit a size of {n}")
    x = input if input.dim() == dims + 2 else input.unsqueeze(0)
    n, c = x.shape[:2]
    if random_samples is None:
        from fastnet.ops.random import rand

        random_samples = rand(n, c, dims, dtype=x.dtype, device=x.device)
    check_tensor(name, random_samples, "_random_samples")
    if tuple(random_samples.shape) != (n, c, dims) or random_samples.dtype is not x.dtype:
        raise KindError(
            f"{name}: _random_samples are {list(random_samples.shape)} of {random_samples.dtype}, expected "
            f"{[n, c, dims]} of {x.dtype}"
        )
    samples = wide(random_samples.detach().cpu()._data)
    xp = namespace(x._data)
    # The samples are in the order of the last dimensions: width first.
    order = range(dims) if dims == 3 else (1, 0)
    flat: Any = 0  # (N, C, results..., places of a window...)
    for axis, sample in enumerate(order):
        begin = _starts(samples[..., sample], image[axis], size[axis], kernel[axis])
        shape = [n, c] + [1] * (2 * dims)
        shape[2 + axis], shape[2 + dims + axis] = size[axis], kernel[axis]
        places = (begin[..., None] + np.arange(kernel[axis])).reshape(shape)
        flat = flat * image[axis] + places
    flat = xp.asarray(flat.reshape(n, c, math.prod(size) * math.prod(kernel)))
    whole = x.reshape(n, c, math.prod(image))
    values = xp.take_along_axis(whole._data, flat, axis=2).reshape(n, c, math.prod(size), math.prod(kernel))
    # Of equals the first counts, of NaN the last.
    missing, best = xp.isnan(values), xp.argmax(wide(values), axis=3)
    last = values.shape[3] - 1 - xp.argmax(missing[..., ::-1], axis=3)
    best = xp.where(missing.any(axis=3), last, best)[..., None]
    index = xp.take_along_axis(flat.reshape(values.shape), best, axis=3)[..., 0]
    out = Picked.apply(whole, index).reshape(*input.shape[:-dims], *size)
    return (out, Tensor._wrap(index.reshape(tuple(out.shape)))) if return_indices else out


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """The largest values of windows whose places are drawn at random (Graham 2014), in array code.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: of the windows, an int or two.
        output_size: of the result, an int or two; or
        output_ratio: of the result to the image, a number from (0, 1) or two.
        return_indices: whether to return where the largest values were too, as indices into H * W.
        _random_samples: (N, C, 2) numbers from [0, 1) of input's dtype in place of random ones.

    >>> import fastnet
    >>> fastnet.nn.functional.fractional_max_pool2d(fastnet.ones(1, 1, 8, 8), 2, output_ratio=0.75).shape
    fastnet.Size([1, 1, 6, 6])
    """
    name = "fractional_max_pool2d"
    return _fractional(name, input, kernel_size, output_size, output_ratio, return_indices, _random_samples, 2)


def fractional_max_pool3d(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """As ``fractional_max_pool2d``, for volumes (N, C, D, H, W) or (C, D, H, W) and samples (N, C, 3).

    >>> import fastnet
    >>> fastnet.nn.functional.fractional_max_pool3d(fastnet.ones(1, 6, 6, 6), 2, output_size=3).shape
    fastnet.Size([1, 3, 3, 3])
    """
    name = "fractional_max_pool3d"
    return _fractional(name, input, kernel_size, output_size, output_ratio, return_indices, _random_samples, 3)
