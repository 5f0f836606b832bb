"""Attention and its gradients in array code, with the matrix of scores in memory: the specification."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.kernels._arrays import check_array
from fastnet.reference.dropout import dropout_mask, scale_of

CAUSAL = ("none", "top_left", "bottom_right")


def accumulator(x: Any) -> Any:
    """The dtype of scores, sums and statistics."""
    return np.dtype(np.float64 if x.dtype == np.float64 else np.float32)


# ---- checks of arguments, which the kernels share ------------------------------------------------------------------


def check_attention(
    name: str, q: Any, k: Any, v: Any, mask: Any, causal: str, scale: Any, dropout_p: Any, state: Any
) -> float:
    """The scale; ValueError or TypeError for arguments that do not fit."""
    check_array(name, "q", q, ndim=4)
    check_array(name, "k", k, dtypes=(q.dtype.name,), ndim=4, like=q)
    check_array(name, "v", v, dtypes=(q.dtype.name,), ndim=4, like=q)
    batch, heads, queries, d = q.shape
    if k.shape[0] != batch or k.shape[3] != d:
        raise ValueError(f"{name}: k has shape {tuple(k.shape)}, expected q's batch {batch} and head dimension {d}")
    if v.shape[:3] != k.shape[:3]:
        raise ValueError(
            f"{name}: v has shape {tuple(v.shape)}, expected k's batch, heads and length {tuple(k.shape[:3])}"
        )
    if d == 0:
        raise ValueError(f"{name}: the head dimension of q is 0, expected at least 1")
    if (k.shape[1] == 0 and heads) or (k.shape[1] and heads % k.shape[1]):
        raise ValueError(f"{name}: k has {k.shape[1]} heads, expected a divisor of q's {heads}")
    if causal not in CAUSAL:
        raise ValueError(f"{name}: causal is {causal!r}, expected one of {', '.join(CAUSAL)}")
    if mask is not None:
        check_array(name, "mask", mask, dtypes=tuple({"bool", q.dtype.name, accumulator(q).name}), ndim=4, like=q)
        wanted = (batch, heads, queries, k.shape[2])
        if any(m not in (1, n) for m, n in zip(mask.shape, wanted, strict=True)):
            raise ValueError(f"{name}: mask has shape {tuple(mask.shape)}, expected one that broadcasts to {wanted}")
    if isinstance(dropout_p, bool) or not isinstance(dropout_p, (int, float, np.floating)):
        raise TypeError(f"{name}: dropout_p is a {type(dropout_p).__name__}, expected a number")
    if not 0 <= dropout_p <= 1:
        raise ValueError(f"{name}: dropout_p is {dropout_p}, expected a number between 0 and 1")
    if dropout_p > 0:
        check_array(name, "state", state, dtypes=("uint64",), ndim=1, like=q)
    return 1 / math.sqrt(d) if scale is None else float(scale)


def check_backward(name: str, grad: Any, q: Any, v: Any, out: Any, lse: Any) -> None:
    """grad, out and lse have the shapes and dtypes of what ``attention`` returns."""
    shape = (*q.shape[:3], v.shape[3])
    for argument, x in (("grad", grad), ("out", out)):
        check_array(name, argument, x, dtypes=(q.dtype.name,), like=q)
        if x.shape != shape:
            raise ValueError(f"{name}: {argument} has shape {tuple(x.shape)}, expected {shape}")
    check_array(name, "lse", lse, dtypes=(accumulator(q).name,), like=q)
    if lse.shape != q.shape[:3]:
        raise ValueError(f"{name}: lse has shape {tuple(lse.shape)}, expected {tuple(q.shape[:3])}")


def check_mask_gradient(name: str, mask: Any, mask_gradient: bool) -> None:
    """Only what is added to scores has a gradient."""
    if mask_gradient and (mask is None or mask.dtype == bool):
        raise ValueError(f"{name}: mask_gradient needs an additive mask, mask is {'None' if mask is None else 'bool'}")


# ---- the definition ------------------------------------------------------------------------------------------------


def _repeated(x: Any, heads: int) -> Any:
    """Keys or values (B, key heads, T, D) for every query head, in the dtype of sums."""
    x = x.astype(accumulator(x), copy=False)
    if x.shape[1] == heads:
        return x
    return namespace(x).repeat(x, heads // x.shape[1], axis=1)


def _scores(q: Any, k: Any, mask: Any, causal: str, scale: float) -> Any:
    """scale * q k^T + mask, -inf where nothing may be attended to: (B, H, Tq, Tk)."""
    xp, acc = namespace(q), accumulator(q)
    scores = xp.matmul(q.astype(acc, copy=False) * acc.type(scale), _repeated(k, q.shape[1]).swapaxes(-1, -2))
    if mask is not None:
        scores = xp.where(mask, scores, acc.type(-np.inf)) if mask.dtype == bool else scores + mask.astype(acc)
    if causal != "none":
        queries, keys = scores.shape[-2:]
        shift = keys - queries if causal == "bottom_right" else 0
        seen = xp.arange(keys)[None, :] <= xp.arange(queries)[:, None] + shift
        scores = xp.where(seen, scores, acc.type(-np.inf))
    return scores


def _keep(q: Any, keys: int, dropout_p: float, state: Any, offset: int) -> Any:
    """What dropout multiplies probabilities by."""
    acc = accumulator(q)
    kept = dropout_mask((*q.shape[:3], keys), dropout_p, state, offset)
    return kept * acc.type(scale_of(dropout_p))


def attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    mask: Any = None,
    causal: str = "none",
    scale: float | None = None,
    dropout_p: float = 0.0,
    state: Any = None,
    offset: int = 0,
    config: Any = None,
) -> tuple[Any, Any]:
    """``dropout(softmax(scale * q k^T + mask)) v`` and the log of each row's sum; rows with nothing to attend to are 0.

    Arguments and results as ``fastnet.kernels.attention``.
    """
    scale = check_attention("attention", q, k, v, mask, causal, scale, dropout_p, state)
    xp, acc = namespace(q), accumulator(q)
    with np.errstate(all="ignore"):
        scores = _scores(q, k, mask, causal, scale)
        high = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        p = xp.exp(scores - xp.where(high == -np.inf, acc.type(0), high))
        total = p.sum(axis=-1, keepdims=True)
        lse = (xp.log(total) + xp.where(total == 0, acc.type(0), high))[..., 0]
        p /= xp.where(total == 0, acc.type(1), total)
        if dropout_p > 0:
            p *= _keep(q, k.shape[2], dropout_p, state, offset)
        return xp.matmul(p, _repeated(v, q.shape[1])).astype(q.dtype, copy=False), lse


def attention_backward(
    grad: Any,
    q: Any,
    k: Any,
    v: Any,
    out: Any,
    lse: Any,
    *,
    mask: Any = None,
    causal: str = "none",
    scale: float | None = None,
    dropout_p: float = 0.0,
    state: Any = None,
    offset: int = 0,
    mask_gradient: bool = False,
    config: Any = None,
) -> tuple[Any, Any, Any, Any]:
    """Gradients of q, k, v and an additive mask; as ``fastnet.kernels.attention_backward``."""
    name = "attention_backward"
    scale = check_attention(name, q, k, v, mask, causal, scale, dropout_p, state)
    check_backward(name, grad, q, v, out, lse)
    check_mask_gradient(name, mask, mask_gradient)
    xp, acc = namespace(q), accumulator(q)
    with np.errstate(all="ignore"):
        scores = _scores(q, k, mask, causal, scale)
        p = xp.exp(scores - xp.where(lse == -np.inf, acc.type(0), lse)[..., None])
        g = grad.astype(acc, copy=False)
        dp = xp.matmul(g, _repeated(v, q.shape[1]).swapaxes(-1, -2))
        kept = p
        if dropout_p > 0:
            keep = _keep(q, k.shape[2], dropout_p, state, offset)
            kept, dp = p * keep, dp * keep
        dp -= (g * out.astype(acc, copy=False)).sum(axis=-1, keepdims=True)
        ds = p * dp
        ds = xp.where(scores == -np.inf, acc.type(0), ds)
        dq = xp.matmul(ds, _repeated(k, q.shape[1])) * acc.type(scale)
        dk = xp.matmul(ds.swapaxes(-1, -2), q.astype(acc, copy=False)) * acc.type(scale)
        dv = xp.matmul(kept.swapaxes(-1, -2), g)
        dk, dv = (_grouped(x, k.shape[1]) for x in (dk, dv))
        dmask = sum_to_mask(ds, mask) if mask_gradient else None
        return (*(x.astype(q.dtype, copy=False) for x in (dq, dk, dv)), dmask)


def _grouped(x: Any, key_heads: int) -> Any:
    """The sum over the query heads of each key head."""
    if x.shape[1] == key_heads:
        return x
    return x.reshape(x.shape[0], key_heads, -1, *x.shape[2:]).sum(axis=2)


def sum_to_mask(ds: Any, mask: Any) -> Any:
    """Gradients of scores as that of a mask which was broadcast to them."""
    axes = tuple(i for i, (m, n) in enumerate(zip(mask.shape, ds.shape, strict=True)) if m == 1 and n != 1)
    total = ds.sum(axis=axes, keepdims=True) if axes else ds
    return total.reshape(mask.shape).astype(mask.dtype, copy=False)
