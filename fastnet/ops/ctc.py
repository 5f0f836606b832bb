"""Connectionist temporal classification."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import rounded, wide
from fastnet.ops._operands import check_tensor
from fastnet.ops.indexing import add_at
from fastnet.ops.selection import where


def _log_add(xp: Any, *terms: Any) -> Any:
    """log of the sum of exp, minus infinities included."""
    out = terms[0]
    for t in terms[1:]:
        out = xp.logaddexp(out, t)
    return out


def _skips(xp: Any, labels: Any, blank: int) -> Any:
    """Where a path may come from two places before: at a label other than blank and than the label before it."""
    skip = xp.zeros(labels.shape, bool)
    skip[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    return skip


def _shifted(xp: Any, x: Any, by: int) -> Any:
    out = xp.full_like(x, -np.inf)
    out[:, by:] = x[:, :-by] if by < x.shape[1] else x[:, :0]
    return out


class CTC(ArrayFunction):
    """The negative log-likelihood of each target (Graves et al. 2006, section 4): forward and backward variables in
    logarithms, a vector operation a time step over the batch and the positions of the targets with blanks between.

    The gradient is that of log-probabilities that came from a softmax: it takes the probabilities' part along, which
    a softmax's own gradient leaves as it is."""

    @staticmethod
    def forward(ctx: Any, log_probs: Any, labels: Any, lengths: Any, label_lengths: Any, blank: int) -> Any:
        xp, x = namespace(log_probs), wide(log_probs)
        steps, n = x.shape[:2]
        s = labels.shape[1]  # 2 * longest target + 1
        ctx.shape, ctx.labels = x.shape, labels
        skip = _skips(xp, labels, blank)
        rows = xp.arange(n)
        emit = xp.take_along_axis(x, xp.broadcast_to(labels, (steps, n, s)), axis=2) if steps else x[:, :, :0]
        ends = 2 * label_lengths
        alpha = xp.full((max(steps, 1), n, s), -np.inf, x.dtype)
        alpha[0, :, 0] = emit[0, :, 0] if steps else 0
        if s > 1 and steps:
            alpha[0, :, 1] = xp.where(label_lengths > 0, emit[0, :, 1], -np.inf)
        for t in range(1, steps):
            a = alpha[t - 1]
            from_two = xp.where(skip, _shifted(xp, a, 2), -np.inf)
            alpha[t] = _log_add(xp, a, _shifted(xp, a, 1), from_two) + emit[t]
        last = xp.maximum(lengths - 1, 0)
        final, before = alpha[last, rows, ends], alpha[last, rows, xp.maximum(ends - 1, 0)]
        loss = -xp.where(label_lengths > 0, xp.logaddexp(final, before), final)
        # Without a time step only the empty target has a path.
        loss = xp.where(lengths > 0, loss, xp.where(label_lengths > 0, np.inf, 0)).astype(x.dtype)
        if ctx.needs_input_grad[0]:
            ctx.save(log_probs)
            ctx.parts = alpha, emit, skip, lengths, label_lengths, ends, loss
        return rounded(loss, log_probs.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (log_probs,) = ctx.saved
        alpha, emit, skip, lengths, label_lengths, ends, loss = ctx.parts
        xp, x = namespace(grad), wide(log_probs)
        steps, n, _ = ctx.shape
        s = ctx.labels.shape[1]
        position = xp.arange(s)
        at_end = (position == ends[:, None]) | ((position == ends[:, None] - 1) & (label_lengths > 0)[:, None])
        can_skip = xp.zeros_like(skip)  # from a position to the one two further on
        can_skip[:, :-2] = skip[:, 2:]
        beyond = position > ends[:, None]
        beta = xp.full((n, s), -np.inf, x.dtype)
        of_x = xp.zeros(ctx.shape, x.dtype)
        g = wide(grad)
        index = (xp.arange(n)[:, None], ctx.labels)
        for t in reversed(range(steps)):
            ahead = xp.full((2, n, s), -np.inf, x.dtype)
            ahead[0, :, :-1], ahead[1, :, :-2] = beta[:, 1:], beta[:, 2:]
            beta = _log_add(xp, beta, ahead[0], xp.where(can_skip, ahead[1], -np.inf)) + emit[t]
            beta = xp.where(beyond, -np.inf, beta)
            start = (lengths - 1 == t)[:, None]
            beta = xp.where(start, xp.where(at_end, emit[t], -np.inf), beta)
            paths = xp.exp(alpha[t] + beta - emit[t] + loss[:, None])
            paths = xp.where(xp.isnan(paths) & xp.isneginf(emit[t]), 0, paths)
            occupied = xp.zeros((n, ctx.shape[2]), x.dtype)
            add_at(occupied, index, xp.where(xp.isneginf(alpha[t] + beta), 0, paths))
            row = (xp.exp(x[t]) - occupied) * g[:, None]
            row = xp.where(xp.isinf(loss)[:, None], xp.where(g == 0, 0, np.nan)[:, None], row)
            of_x[t] = xp.where((t < lengths)[:, None], row, 0)
        return rounded(of_x, log_probs.dtype), None, None, None, None


def _lengths(name: str, argument: str, value: Any, n: int) -> np.ndarray:
    if isinstance(value, Tensor):
        if value.dtype.is_floating_point:
            raise KindError(f"{name}: {argument} must be integral, got {value.dtype}")
        value = value.tolist()
    found = np.atleast_1d(np.asarray(value, np.int64))
    if found.shape != (n,):
        raise InputError(f"{name}: {argument} has shape {list(found.shape)}, expected [{n}]: one for each sequence")
    return found


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Connectionist temporal classification: minus the log of the probability of all paths that spell a target, in
    array code.

    Args:
        log_probs: (T, N, C) or (T, C): logarithms of probabilities (``log_softmax``).
        targets: (N, S), (S,) or, one after another, (sum of target_lengths,): integers but ``blank``.
        input_lengths, target_lengths: (N,), tensors or sequences of ints, or without N one number.
        blank: the class of no label.
        reduction: "mean" (over the batch, of losses divided by their targets' lengths), "sum" or "none".
        zero_infinity: whether losses of targets that no path is long enough for, and their gradients, count as zero.

    >>> import fastnet
    >>> even = fastnet.full((2, 1, 2), 0.5).log()
    >>> fastnet.nn.functional.ctc_loss(even, fastnet.tensor([[1]]), [2], [1]).exp()  # 3 of 4 paths
    tensor(1.3333)
    """
    name = "ctc_loss"
    check_tensor(name, log_probs, "log_probs")
    check_tensor(name, targets, "targets")
    if reduction not in ("none", "mean", "sum"):
        raise InputError(f"{name}: {reduction!r} is not a valid value for reduction, expected 'none', 'mean' or 'sum'")
    if not log_probs.dtype.is_floating_point or log_probs.dim() not in (2, 3):
        raise KindError(
            f"{name}: log_probs are {log_probs.dtype} {list(log_probs.shape)}, expected floating-point numbers "
            "(T, N, C) or (T, C)"
        )
    if targets.dtype.name not in ("int64", "int32"):
        raise KindError(f"{name}: targets have dtype {targets.dtype}, expected int64 or int32")
    batched = log_probs.dim() == 3
    x = log_probs if batched else log_probs.unsqueeze(1)
    steps, n, classes = x.shape
    if n == 0:
        raise InputError(f"{name}: expected at least one sequence, got log_probs {list(log_probs.shape)}")
    if not 0 <= blank < classes:
        raise InputError(f"{name}: blank is {blank}, expected a label from 0 to {classes - 1}")
    inputs, wanted = (
        _lengths(name, "input_lengths", input_lengths, n),
        _lengths(name, "target_lengths", target_lengths, n),
    )
    if inputs.max() > steps or inputs.min() < 0:
        raise InputError(f"{name}: input_lengths are {inputs.tolist()}, expected from 0 to {steps}")
    if wanted.min() < 0:
        raise InputError(f"{name}: target_lengths are {wanted.tolist()}, expected none below 0")
    given = targets.detach().cpu()._data.astype(np.int64)
    longest = int(wanted.max())
    labels = np.full((n, 2 * longest + 1), blank, np.int64)
    if given.ndim == 2:
        if given.shape[0] != n or given.shape[1] < longest:
            raise InputError(f"{name}: targets have shape {list(given.shape)}, expected ({n}, at least {longest})")
        rows = [given[i, : wanted[i]] for i in range(n)]
    elif given.ndim == 1:
        if given.size != wanted.sum():
            raise InputError(f"{name}: targets have {given.size} elements, expected the {wanted.sum()} of all lengths")
        rows = np.split(given, np.cumsum(wanted)[:-1])
    else:
        raise InputError(f"{name}: targets have {given.ndim} dimensions, expected 1 or 2")
    for i, row in enumerate(rows):
        if row.size and not (row.min() >= 0 and row.max() < classes):
            raise InputError(f"{name}: targets hold {row.tolist()}, expected classes from 0 to {classes - 1}")
        labels[i, 1 : 2 * len(row) : 2] = row
    xp = namespace(x._data)
    losses = CTC.apply(x, *(xp.asarray(a) for a in (labels, inputs, wanted)), int(blank))
    if zero_infinity:
        from fastnet.ops.comparisons import isinf

        losses = where(isinf(losses), 0.0, losses)
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        return (losses / Tensor._wrap(xp.asarray(np.maximum(wanted, 1).astype(wide(x._data[:0]).dtype)))).mean()
    return losses if batched else losses.squeeze(0)
