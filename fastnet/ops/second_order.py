"""Backward in terms of operations that are recorded, where the array code of an operation's backward will not do: what
runs in kernels, and what keeps arrays computed on the way. See ``fastnet.autograd.recorded``.

A rule takes what was kept and the gradients of the results, tensors, and returns those of the arguments. Most need what
was kept and little else. Where the kernels keep statistics, the operation is composed anew of others (``_composed``).
Operations that have no rule here and whose backward is no array code raise, by their names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction, enable_grad, engine
from fastnet.autograd.copy_slices import CopySlices
from fastnet.autograd.recorded import Recorded, linked
from fastnet.kernels._runtime import implementation
from fastnet.ops import (
    attention,
    conv,
    conv3d,
    cumulative,
    dropout,
    embedding,
    in_place,
    indexing,
    interpolate,
    linalg,
    losses,
    matmul,
    norm,
    padding,
    pointwise,
    pool,
    pool3d,
    rearrange,
    reductions,
    scatter,
    shape,
    softmax,
    special,
    unfold,
)
from fastnet.ops.creation import zeros
from fastnet.reference.pointwise import ACTIVATIONS

RULES: dict[type, Callable] = {}
_Rule = Callable[..., Any]


def _rule(*classes: type) -> Callable[[_Rule], _Rule]:
    def decorate(function: _Rule) -> _Rule:
        RULES.update(dict.fromkeys(classes, function))
        return function

    return decorate


def _composed(function: Callable, inputs: list[Tensor | None], grad: Tensor) -> list[Tensor | None]:
    """The gradients of ``inputs`` through ``function``, which is built of operations that are recorded."""
    with enable_grad():
        # One tensor may stand for two arguments: each gets a node of its own.
        own = [None if t is None or not t.requires_grad else t.view_as(t) for t in inputs]
        result = function(*[t if o is None else o for t, o in zip(inputs, own, strict=True)])
        wanted = [o for o in own if o is not None]
        found = iter(engine.grad(result, wanted, grad, create_graph=True, allow_unused=True) if wanted else ())
    return [None if o is None else next(found) for o in own]


def _sum_to(x: Tensor, wanted: tuple[int, ...]) -> Tensor:
    return x if x._data.shape == tuple(wanted) else x.sum_to_size(*wanted)


class Transposed(ArrayFunction):
    """The gradient of an operation that is linear in one argument: ``kept`` is its context, ``forward_again`` the
    operation itself, of that argument alone."""

    @staticmethod
    def forward(ctx: Any, grad: Any, kept: Any, place: int, forward_again: Callable) -> Any:
        ctx.forward_again = forward_again
        found = kept._function.backward(kept, grad)
        return (found if isinstance(found, tuple) else (found,))[place]

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return ctx.forward_again(Tensor._wrap(grad))._data, None, None, None


@_rule(Transposed)
def _transposed(kept: Any, grad: Tensor) -> tuple:
    return kept.raw("forward_again")(grad), None, None, None


def _linear_in(place: int, *classes: type) -> None:
    """The rule of operations that are linear in one argument and have no other tensors."""

    def rule(kept: Any, grad: Tensor, *_: Any) -> tuple:
        ctx = kept._ctx
        statics = ctx._statics

        def forward_again(x: Tensor) -> Tensor:
            return ctx._function.apply(*statics[:place], x, *statics[place + 1 :])

        found: list[Any] = [None] * len(statics)
        found[place] = Transposed.apply(grad, ctx, place, forward_again)
        return tuple(found)

    for cls in classes:
        RULES[cls] = rule


_linear_in(
    0,
    shape.Diagonal,
    cumulative.CumSum,
    dropout.Dropout,
    indexing.Index,
    indexing.BasicIndex,
    indexing.Gather,
    padding.PadAxis,
    pool.AvgPool2d,
    conv3d.DepthOverlap,
    conv3d.DepthWindows,
    interpolate.AreaMean,
    interpolate.Resample,
    pool3d.AxisMean,
    rearrange.AsStrided,
    rearrange.Unfold,
    unfold.Fold,
    unfold.Unfold,
)
_linear_in(1, embedding.Embedding)


@_rule(padding.Pad)
def _pad(kept: Any, grad: Tensor) -> tuple:
    widths = kept.static(1)
    return Transposed.apply(grad, kept._ctx, 0, lambda x: padding.Pad.apply(x, widths, 0.0)), None, None


@_rule(indexing.SetIndex)
def _set_index(kept: Any, grad: Tensor) -> tuple:
    index, wanted = kept.raw("index"), kept.raw("shape")
    of_x = of_value = None
    if kept.needs_input_grad[2]:
        taken = indexing.Index.apply(grad, index, False)
        short = wanted
        while len(short) > taken.ndim:
            short = short[1:]
        of_value = _sum_to(taken, short).reshape(wanted)
    if kept.needs_input_grad[0]:
        of_x = indexing.SetIndex.apply(grad, index, 0)
    return of_x, None, of_value


@_rule(indexing.Scatter)
def _scatter(kept: Any, grad: Tensor) -> tuple:
    coordinates = kept.raw("coordinates")
    of_x = grad if kept.raw("add") else indexing.SetIndex.apply(grad, coordinates, 0)
    of_src = None
    if kept.needs_input_grad[3]:
        taken, wanted = indexing.Index.apply(grad, coordinates, False), kept.raw("shape")
        for dim, (n, size) in enumerate(zip(taken.shape, wanted, strict=True)):
            if n < size:
                taken = shape.cat([taken, zeros(*taken.shape[:dim], size - n, *taken.shape[dim + 1 :]).to(taken)], dim)
        of_src = taken
    return of_x if kept.needs_input_grad[0] else None, None, None, of_src, None


@_rule(scatter.IndexAdd)
def _index_add(kept: Any, grad: Tensor) -> tuple:
    of_values = None
    if kept.needs_input_grad[2]:
        of_values = _sum_to(indexing.Index.apply(grad, kept.raw("index"), False), kept.raw("shape"))
    return grad, None, of_values


@_rule(in_place.Fill)
def _fill(kept: Any, grad: Tensor) -> Tensor:
    return grad.detach() * 0


@_rule(CopySlices)
def _copy_slices(kept: Any, grad: Tensor) -> tuple:
    steps = kept.raw("steps")
    of_base = of_part = None
    if kept.needs_input_grad[2]:
        of_part = grad
        for function, arguments in steps:
            of_part = function.apply(of_part, *arguments)
    if kept.needs_input_grad[0]:
        of_base = Transposed.apply(grad, _OutsidePart(kept._ctx), 0, lambda u: _outside(u, kept._ctx))
    return of_base, None, of_part


class _OutsidePart:
    """What ``Transposed`` asks of a context: zeros where the part was written, which is its own transpose."""

    def __init__(self, ctx: Any):
        self._function, self.steps, self.needs_input_grad = CopySlices, ctx.steps, (True, False, False)


def _outside(x: Tensor, ctx: Any) -> Tensor:
    return Transposed.apply(x, _OutsidePart(ctx), 0, lambda u: _outside(u, ctx))


@_rule(pointwise.Activate)
def _activate(kept: Any, grad: Tensor) -> tuple:
    (x,) = kept.tensors
    activation, parameter = kept.raw("activation"), kept.raw("parameter")
    if activation == "gelu":
        slope = 0.5 * (1 + special.erf(x / math.sqrt(2))) + x * (-0.5 * x * x).exp() / math.sqrt(2 * math.pi)
    else:
        slope = ACTIVATIONS[activation][1](Recorded(x), ACTIVATIONS[activation][2] if parameter is None else parameter)
        slope = slope.tensor if isinstance(slope, Recorded) else slope
    return grad * slope, None, None


@_rule(shape.Repeat)
def _repeat(kept: Any, grad: Tensor) -> tuple:
    counts, before = kept.raw("counts"), kept.raw("shape")
    sizes = (1,) * (len(counts) - len(before)) + before
    split = [n for pair in zip(counts, sizes, strict=True) for n in pair]
    return grad.reshape(split).sum(tuple(range(0, len(split), 2))).reshape(before) if split else grad, None


# ---- products ------------------------------------------------------------------------------------------------------


@_rule(matmul.Matmul)
def _matmul(kept: Any, grad: Tensor) -> tuple:
    a, b = kept.tensors
    left = a.unsqueeze(0) if a.ndim == 1 else a
    right = b.unsqueeze(1) if b.ndim == 1 else b
    if b.ndim == 1:
        grad = grad.unsqueeze(-1)
    if a.ndim == 1:
        grad = grad.unsqueeze(-2)
    of_a = of_b = None
    if kept.needs_input_grad[0]:
        of_a = _sum_to(grad @ right.transpose(-1, -2), left.shape).reshape(a.shape)
    if kept.needs_input_grad[1]:
        of_b = _sum_to(left.transpose(-1, -2) @ grad, right.shape).reshape(b.shape)
    return of_a, of_b


@_rule(matmul.Linear)
def _linear(kept: Any, grad: Tensor) -> tuple:
    x, weight = kept.tensors
    need = kept.needs_input_grad
    rows = grad.reshape(-1, grad.shape[-1])
    of_weight = rows.t() @ x.reshape(-1, x.shape[-1]) if need[1] else None
    return grad @ weight if need[0] else None, of_weight, rows.sum(0) if need[2] else None


@_rule(matmul.Addmm)
def _addmm(kept: Any, grad: Tensor) -> tuple:
    a, b = kept.tensors
    need, alpha = kept.needs_input_grad, kept.raw("alpha")
    of_input = _sum_to(grad, kept.raw("shape")) * kept.raw("beta") if need[0] else None
    of_a = (grad @ b.t()) * alpha if need[1] else None
    return of_input, of_a, (a.t() @ grad) * alpha if need[2] else None, None, None


# ---- convolutions: each of the three products of a convolution has the other two for its gradients -------------------


class ConvWeightGradient(ArrayFunction):
    """The gradient of a convolution's filters, of the result's gradient and the images."""

    @staticmethod
    def forward(ctx: Any, grad: Any, x: Any, g: Any) -> Any:
        grad, x = conv._images(grad), conv._images(x)
        ctx.save(grad, x)
        return implementation(grad).conv2d_weight_grad(grad, x, g.kernel, **conv._options(g))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        result, x = (Tensor._wrap(a) for a in ctx.saved)
        g, v = ctx._statics[2], Tensor._wrap(grad)
        return _windows(x, v, g, result)._data, conv.ConvTranspose2d.apply(result, v, None, g)._data, None


def _windows(x: Tensor, weight: Tensor, g: Any, like: Tensor) -> Tensor:
    """The convolution, without windows beyond those of ``like``."""
    return conv.Conv2d.apply(x, weight, None, g)[:, :, : like.shape[2], : like.shape[3]]


@_rule(ConvWeightGradient)
def _conv_weight_gradient(kept: Any, grad: Tensor) -> tuple:
    result, x = (kept.input(i, array) for i, array in enumerate(kept.arrays))
    g = kept.static(2)
    return _windows(x, grad, g, result), conv.ConvTranspose2d.apply(result, grad, None, g), None


@_rule(conv.Conv2d)
def _conv(kept: Any, grad: Tensor) -> tuple:
    x, weight = (kept.input(i, array) for i, array in enumerate(kept.arrays))
    g, need = kept.static(3), kept.needs_input_grad
    of_x = conv.ConvTranspose2d.apply(grad, weight, None, g) if need[0] else None
    of_weight = ConvWeightGradient.apply(grad, x, g) if need[1] else None
    return of_x, of_weight, grad.sum((0, 2, 3)) if need[2] else None, None


@_rule(conv.ConvTranspose2d)
def _conv_transpose(kept: Any, grad: Tensor) -> tuple:
    x, weight = (kept.input(i, array) for i, array in enumerate(kept.arrays))
    g, need = kept.static(3), kept.needs_input_grad
    of_x = _windows(grad, weight, g, x) if need[0] else None
    of_weight = ConvWeightGradient.apply(x, grad, g) if need[1] else None
    return of_x, of_weight, grad.sum((0, 2, 3)) if need[2] else None, None


@_rule(pool.MaxPool2d)
def _max_pool(kept: Any, grad: Tensor, _: Any = None) -> tuple:
    x, indices = kept.arrays
    if indices is None:
        indices = implementation(x).max_pool2d(x, with_indices=True, **kept.raw("options"))[1]
    height, width = kept.raw("image")
    where = Tensor._wrap(indices.reshape(*indices.shape[:2], -1).astype(np.int64))
    flat = zeros(*grad.shape[:2], height * width, dtype=grad.dtype, device=grad.device)
    out = flat.scatter_add(2, where, grad.reshape(*grad.shape[:2], -1))
    return out.reshape(*grad.shape[:2], height, width), None, None, None


# ---- reductions ----------------------------------------------------------------------------------------------------


def _spread(x: Tensor, sizes: tuple[int, ...], axes: tuple[int, ...], keepdim: bool) -> Tensor:
    if not keepdim:
        x = x.reshape([1 if i in axes else n for i, n in enumerate(sizes)])
    return x.expand(*sizes)


def _centred(kept: Any) -> Tensor:
    """x less its mean over the axes, with x's history."""
    (array,) = kept.arrays
    axes = kept.raw("axes")
    return linked(array, [kept.edges[0]], lambda u: (u - u.mean(axes, keepdim=True),)).to(Tensor._wrap(array).dtype)


@_rule(reductions.Var)
def _var(kept: Any, grad: Tensor) -> tuple:
    centred, axes = _centred(kept), kept.raw("axes")
    wide = _spread(grad.to(centred.dtype), centred._data.shape, axes, kept.raw("keepdim"))
    return wide * centred * (2 / float(kept.raw("divisor"))), None, None, None


@_rule(reductions.Std)
def _std(kept: Any, grad: Tensor) -> tuple:
    centred, axes, keepdim = _centred(kept), kept.raw("axes"), kept.raw("keepdim")
    divisor = float(kept.raw("divisor"))
    root = ((centred * centred).sum(axes, keepdim=keepdim) / divisor).sqrt()
    half = (grad.to(root.dtype) / (2 * root)).masked_fill(root == 0, 0)
    return _spread(half, centred._data.shape, axes, keepdim) * centred * (2 / divisor), None, None, None


@_rule(reductions.Norm2)
def _norm2(kept: Any, grad: Tensor) -> tuple:
    (x,) = kept.tensors
    axes, keepdim = kept.raw("axes"), kept.raw("keepdim")
    size = (x * x).sum(axes or None, keepdim=keepdim).sqrt()
    zero = size == 0
    scale = (grad / size.masked_fill(zero, 1)).masked_fill(zero, 0)
    return _spread(scale, x._data.shape, axes, keepdim) * x, None, None


@_rule(reductions.NormP)
def _norm_p(kept: Any, grad: Tensor) -> tuple:
    (x,) = kept.tensors
    axes, keepdim, p = kept.raw("axes"), kept.raw("keepdim"), kept.raw("p")
    zero = x == 0
    size = x.abs().masked_fill(zero, 1)
    total = (size**p).masked_fill(zero, 0).sum(axes, keepdim=keepdim)
    nothing = total == 0
    scale = (grad * total.masked_fill(nothing, 1) ** (1 / p - 1)).masked_fill(nothing, 0)
    slope = (size ** (p - 1)).masked_fill(zero, 0) * x.sign()
    return _spread(scale, x._data.shape, axes, keepdim) * slope, None, None, None


@_rule(reductions.LogSumExp)
def _logsumexp(kept: Any, grad: Tensor) -> tuple:
    (x,) = kept.tensors
    axes, keepdim = kept.raw("axes"), kept.raw("keepdim")
    total = reductions.logsumexp(x, axes, keepdim=True)
    return _spread(grad, x._data.shape, axes, keepdim) * (x - total).exp(), None, None


@_rule(reductions.Prod)
def _prod(kept: Any, grad: Tensor) -> tuple:
    """The product of all others is that of what stands before and of what stands after, right where factors are 0."""
    (x,) = kept.tensors
    axis, keepdim = kept.raw("axis"), kept.raw("keepdim")
    line = x.reshape(-1) if axis is None else x.movedim(axis, -1)
    parts = line.unbind(-1)
    before, after = [line[..., 0].detach() * 0 + 1], [line[..., 0].detach() * 0 + 1]
    for part in parts[:-1]:
        before.append(before[-1] * part)
    for part in reversed(parts[1:]):
        after.append(after[-1] * part)
    others = shape.stack([b * a for b, a in zip(before, reversed(after), strict=True)], -1)
    others = others.reshape(x.shape) if axis is None else others.movedim(-1, axis)
    axes = tuple(range(x.ndim)) if axis is None else (axis,)
    return _spread(grad, x._data.shape, axes, keepdim) * others, None, None


@_rule(reductions.ExtremeAlong)
def _extreme_along(kept: Any, grad: Tensor, _: Any) -> tuple:
    sizes, axis = kept.raw("shape"), kept.raw("axis")
    if not sizes:
        return grad, None, None, None
    where = Tensor._wrap(kept.raw("index").astype(np.int64))
    flat = zeros(*sizes, dtype=grad.dtype, device=grad.device)
    return flat.scatter_add(axis, where, grad if kept.raw("keepdim") else grad.unsqueeze(axis)), None, None, None


# ---- softmax and losses --------------------------------------------------------------------------------------------


@_rule(softmax.Softmax)
def _softmax(kept: Any, grad: Tensor) -> tuple:
    (y,) = kept.tensors
    return y * (grad - (grad * y).sum(kept.axis, keepdim=True)), None


@_rule(softmax.LogSoftmax)
def _log_softmax(kept: Any, grad: Tensor) -> tuple:
    (y,) = kept.tensors
    return grad - y.exp() * grad.sum(kept.axis, keepdim=True), None


def _as_input(rows: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Rows of scores in the order of the input that they were taken from."""
    if len(sizes) <= 2:
        return rows.reshape(sizes)
    return rows.reshape(sizes[0], *sizes[2:], sizes[1]).movedim(-1, 1)


@_rule(softmax.CrossEntropy)
def _cross_entropy(kept: Any, grad: Tensor) -> tuple:
    """The gradient that was kept is ``p * sum(q) - q`` of each row: q are the target's weights on the classes, p the
    probabilities. Its own gradient is ``sum(q) * (p * u - p * (p . u))``."""
    (array,) = kept.arrays
    target, weight, ignore_index, smoothing = kept.raw("how")
    classes = array.shape[1]
    t = Tensor._wrap(target.reshape(-1).astype(np.int64))
    ignored = (t == ignore_index).unsqueeze(1)
    one = Tensor._wrap(array).detach() * 0
    scale = one[0] + 1 if weight is None else Tensor._wrap(weight).to(one.dtype)
    hard = one.scatter(1, t.masked_fill(t == ignore_index, 0).unsqueeze(1), 1.0)
    q = ((1 - smoothing) * hard * scale + smoothing / classes * scale).masked_fill(ignored, 0)
    total = q.sum(1, keepdim=True)
    shown = total.masked_fill(total == 0, 1)

    def probabilities(gradient: Tensor) -> Tensor:
        return (gradient + q) / shown

    def again(u: Tensor) -> tuple:
        p = probabilities(gradient)
        return (_as_input(total * (p * u - p * (p * u).sum(1, keepdim=True)), kept.raw("shape")),)

    gradient = linked(array, [kept.edges[0]], again)
    mass = kept.raw("mass")
    if mass is not None:
        grad = grad / float(mass)
    if kept.raw("reduction") == "none":
        grad = grad.reshape(-1, 1)
    return _as_input(gradient * grad, kept.raw("shape")), None, None, None, None, None


@_rule(softmax.NLL)
def _nll(kept: Any, grad: Tensor) -> tuple:
    mass, weight = kept.raw("mass"), Tensor._wrap(kept.raw("weight"))
    if mass is not None:
        grad = grad / float(mass)
    each = -weight * (grad.reshape(-1) if kept.raw("reduction") == "none" else grad)
    flat = zeros(weight.shape[0], kept.raw("classes"), dtype=each.dtype, device=each.device)
    out = flat.scatter(1, Tensor._wrap(kept.raw("target")).unsqueeze(1), each.unsqueeze(1))
    return _as_input(out, kept.raw("shape")), None, None, None, None


@_rule(losses.PointwiseLoss)
def _pointwise_loss(kept: Any, grad: Tensor) -> tuple:
    x, y = kept.tensors
    weight, parameter, name = (kept.raw(n) for n in ("weight", "parameter", "formula"))
    scale = grad / kept.raw("count") if kept.raw("reduction") == "mean" else grad
    if weight is not None:
        scale = scale * Tensor._wrap(weight)
    formula: Any = losses.FORMULAS[name]
    out: list[Any] = [None] * 6
    given = [Recorded(x), Recorded(y)]
    for i, derivative in enumerate((formula.input_gradient, formula.target_gradient)):
        if kept.needs_input_grad[i]:
            slope = derivative(given[0].recorded_module, *given, parameter)
            out[i] = _sum_to(slope.tensor * scale, (x, y)[i]._data.shape)
    return tuple(out)


# ---- what the kernels compute with statistics: composed ------------------------------------------------------------


@_rule(norm.LayerNorm)
def _layer_norm(kept: Any, grad: Tensor) -> tuple:
    x, _, _, weight = kept.arrays
    sizes, eps = kept.raw("shape"), kept.static(4)
    dims = tuple(range(-len(sizes), 0))

    def normalised(x: Tensor, weight: Tensor | None) -> Tensor:
        centred = x - x.mean(dims, keepdim=True)
        y = centred * ((centred * centred).mean(dims, keepdim=True) + eps).rsqrt()
        return y if weight is None else y * weight

    tensors: list[Tensor | None] = [kept.input(0, x), None if weight is None else kept.input(1, weight)]
    of_bias = _sum_to(grad, sizes) if kept.needs_input_grad[2] else None
    return *_composed(normalised, tensors, grad), of_bias, None, None


@_rule(norm.RMSNorm)
def _rms_norm(kept: Any, grad: Tensor) -> tuple:
    x, _, weight = kept.arrays
    eps, dims = kept.static(3), tuple(range(-len(kept.raw("shape")), 0))

    def normalised(x: Tensor, weight: Tensor | None) -> Tensor:
        y = x * ((x * x).mean(dims, keepdim=True) + eps).rsqrt()
        return y if weight is None else y * weight

    tensors: list[Tensor | None] = [kept.input(0, x), None if weight is None else kept.input(1, weight)]
    return *_composed(normalised, tensors, grad), None, None


def _by_channel(p: Tensor, ndim: int) -> Tensor:
    return p.reshape(1, -1, *(1,) * (ndim - 2))


@_rule(norm.GroupNorm)
def _group_norm(kept: Any, grad: Tensor) -> tuple:
    x, _, _, weight = kept.arrays
    groups, eps = kept.raw("groups"), kept.static(4)

    def normalised(x: Tensor, weight: Tensor | None) -> Tensor:
        parts = x.reshape(x.shape[0], groups, -1)
        centred = parts - parts.mean(2, keepdim=True)
        y = (centred * ((centred * centred).mean(2, keepdim=True) + eps).rsqrt()).reshape(x.shape)
        return y if weight is None else y * _by_channel(weight, x.ndim)

    tensors: list[Tensor | None] = [kept.input(0, x), None if weight is None else kept.input(1, weight)]
    others = tuple(i for i in range(grad.ndim) if i != 1)
    of_bias = grad.sum(others) if kept.needs_input_grad[2] else None
    return *_composed(normalised, tensors, grad), of_bias, None, None


@_rule(norm.BatchNorm, norm.BatchNormInference)
def _batch_norm(kept: Any, grad: Tensor) -> tuple:
    x, mean, rstd, weight, y = kept.arrays
    batch_statistics = kept._ctx._function is norm.BatchNorm
    eps = kept.static(7)
    if y is not None:  # relu's result
        grad = grad * (Tensor._wrap(y) > 0)
    others = tuple(i for i in range(grad.ndim) if i != 1)

    def normalised(x: Tensor, weight: Tensor | None) -> Tensor:
        if batch_statistics:
            centred = x - x.mean(others, keepdim=True)
            out = centred * ((centred * centred).mean(others, keepdim=True) + eps).rsqrt()
        else:
            out = (x - _by_channel(Tensor._wrap(mean), x.ndim)) * _by_channel(Tensor._wrap(rstd), x.ndim)
        return out if weight is None else out * _by_channel(weight, x.ndim)

    tensors: list[Tensor | None] = [kept.input(0, x), None if weight is None else kept.input(1, weight)]
    need = kept.needs_input_grad
    found = _composed(normalised, tensors, grad)
    return *found, grad.sum(others) if need[2] else None, grad if need[3] else None


@_rule(attention.Attention)
def _attention(kept: Any, grad: Tensor) -> tuple:
    q, k, v, mask = kept.arrays[:4]
    options = kept.raw("options")
    plain = {"causal", "scale", "dropout_p", "state", "offset"}
    if options["dropout_p"] or any(value is not None for key, value in options.items() if key not in plain):
        raise RuntimeError(
            "attention: create_graph=True has no derivative for dropout or for features beyond masks and causal order"
        )
    tensors = [None if a is None else kept.input(i, a) for i, a in enumerate((q, k, v, mask))]

    def composed(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        groups = q.shape[1] // k.shape[1]
        if groups > 1:
            k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        scale = 1 / math.sqrt(q.shape[-1]) if options["scale"] is None else options["scale"]
        scores = q @ k.transpose(-1, -2) * scale
        if mask is not None:
            scores = scores.masked_fill(mask == 0, -math.inf) if mask.dtype.category == 0 else scores + mask
        if options["causal"] != "none":
            place = 0 if options["causal"] == "top_left" else k.shape[2] - q.shape[2]
            above = (scores.detach() * 0 + 1).triu(place + 1) > 0
            scores = scores.masked_fill(above, -math.inf)
        weights = scores.softmax(-1)
        nothing = (scores == -math.inf).all(-1, keepdim=True)
        return weights.masked_fill(nothing, 0) @ v

    return *_composed(composed, tensors, grad), None, None, None, None, None, None


@_rule(pointwise.GatedActivation)
def _gated(kept: Any, grad: Tensor) -> tuple:
    gate, up = kept.tensors
    how = kept.raw("how")
    found = _composed(
        lambda g, u: pointwise.Activate.apply(g, how["activation"], how["parameter"]) * u, [gate, up], grad
    )
    return *found, None, None


# ---- matrices ------------------------------------------------------------------------------------------------------


@_rule(linalg.Inverse)
def _inverse(kept: Any, grad: Tensor) -> Tensor:
    (out,) = kept.tensors
    across = out.transpose(-1, -2)
    return -(across @ grad @ across)


@_rule(linalg.Solve)
def _solve(kept: Any, grad: Tensor) -> tuple:
    a, x = kept.tensors
    of_b = linalg.Solve.apply(a.transpose(-1, -2), grad)
    return _sum_to(-(of_b @ x.transpose(-1, -2)), a._data.shape), of_b


@_rule(linalg.Determinant)
def _determinant(kept: Any, grad: Tensor) -> Tensor:
    a, out = kept.tensors
    return (grad * out).unsqueeze(-1).unsqueeze(-1) * linalg.Inverse.apply(a).transpose(-1, -2)
