"""Attention and its gradients in array code, with the matrix of scores in memory: the specification."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastnet._array_code import greatest
from fastnet._device import namespace
from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import check_array
from fastnet.reference.dropout import dropout_mask, scale_of
from fastnet.reference.matmul import check_precision

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
        raise InputError(f"{name}: k has shape {tuple(k.shape)}, expected q's batch {batch} and head dimension {d}")
    if v.shape[:3] != k.shape[:3]:
        raise InputError(
            f"{name}: v has shape {tuple(v.shape)}, expected k's batch, heads and length {tuple(k.shape[:3])}"
        )
    if d == 0:
        raise InputError(f"{name}: the head dimension of q is 0, expected at least 1")
    if (k.shape[1] == 0 and heads) or (k.shape[1] and heads % k.shape[1]):
        raise InputError(f"{name}: k has {k.shape[1]} heads, expected a divisor of q's {heads}")
    if causal not in CAUSAL:
        raise InputError(f"{name}: causal is {causal!r}, expected one of {', '.join(CAUSAL)}")
    if mask is not None:
        check_array(name, "mask", mask, dtypes=tuple({"bool", q.dtype.name, accumulator(q).name}), ndim=4, like=q)
        wanted = (batch, heads, queries, k.shape[2])
        if any(m not in (1, n) for m, n in zip(mask.shape, wanted, strict=True)):
            raise InputError(f"{name}: mask has shape {tuple(mask.shape)}, expected one that broadcasts to {wanted}")
    if isinstance(dropout_p, bool) or not isinstance(dropout_p, (int, float, np.floating)):
        raise KindError(f"{name}: dropout_p is a {type(dropout_p).__name__}, expected a number")
    if not 0 <= dropout_p <= 1:
        raise InputError(f"{name}: dropout_p is {dropout_p}, expected a number between 0 and 1")
    if dropout_p > 0:
        check_array(name, "state", state, dtypes=("uint64",), ndim=1, like=q)
    return 1 / math.sqrt(d) if scale is None else float(scale)


def check_backward(name: str, grad: Any, q: Any, v: Any, out: Any, lse: Any) -> None:
    """grad, out and lse have the shapes and dtypes of what ``attention`` returns."""
    shape = (*q.shape[:3], v.shape[3])
    for argument, x in (("grad", grad), ("out", out)):
        check_array(name, argument, x, dtypes=(q.dtype.name,), like=q)
        if x.shape != shape:
            raise InputError(f"{name}: {argument} has shape {tuple(x.shape)}, expected {shape}")
    check_array(name, "lse", lse, dtypes=(accumulator(q).name,), like=q)
    if lse.shape != q.shape[:3]:
        raise InputError(f"{name}: lse has shape {tuple(lse.shape)}, expected {tuple(q.shape[:3])}")


def check_mask_gradient(name: str, mask: Any, mask_gradient: bool) -> None:
    """Only what is added to scores has a gradient."""
    if mask_gradient and (mask is None or mask.dtype == bool):
        raise InputError(f"{name}: mask_gradient needs an additive mask, mask is {'None' if mask is None else 'bool'}")


@dataclass(frozen=True)
class Features:
    """What is done to scores beside scaling and masking, as kernels take it."""

    window: tuple[int, int] = (-1, -1)  # keys before and after its own place that a query attends to; -1: all
    softcap: float = 0.0
    slopes: Any = None  # (B, H) float32 or None

    def part(self, batch: int) -> Features:
        """Those of one sequence of the batch."""
        return self if self.slopes is None else replace(self, slopes=self.slopes[batch : batch + 1])


def check_features(
    name: str, q: Any, shape: tuple[int, ...], window_size: Any, softcap: Any, alibi_slopes: Any
) -> Features:
    """Features from arguments, for (batch, heads); ValueError or TypeError for those that do not fit."""
    batch, heads = shape
    if not isinstance(window_size, (tuple, list)) or any(
        isinstance(w, bool) or not isinstance(w, (int, np.integer)) for w in window_size
    ):
        raise KindError(f"{name}: window_size is {window_size!r}, expected two ints (left, right)")
    if len(window_size) != 2:
        raise InputError(f"{name}: window_size is {tuple(window_size)}, expected two ints (left, right)")
    left, right = (-1 if w < 0 else min(int(w), 2**40) for w in window_size)
    if isinstance(softcap, bool) or not isinstance(softcap, (int, float, np.floating)):
        raise KindError(f"{name}: softcap is a {type(softcap).__name__}, expected a number")
    if not 0 <= softcap < math.inf:
        raise InputError(f"{name}: softcap is {softcap}, expected a finite number, 0 for none")
    if alibi_slopes is not None:
        check_array(name, "alibi_slopes", alibi_slopes, dtypes=("float32",), like=q)
        if alibi_slopes.shape not in ((heads,), (batch, heads)):
            raise InputError(
                f"{name}: alibi_slopes has shape {tuple(alibi_slopes.shape)}, expected ({heads},) or ({batch}, {heads})"
            )
        alibi_slopes = namespace(q).broadcast_to(alibi_slopes, (batch, heads))
    return Features((left, right), float(softcap), alibi_slopes)


BAD_LENGTHS = "cu_seqlens_q or cu_seqlens_k decreases, passes the tokens there are, or has a sequence above the maximum"


def check_packed(
    name: str, q: Any, k: Any, v: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, max_seqlen_q: Any, max_seqlen_k: Any
) -> tuple[int, int]:
    """The longest sequences, at most all tokens; ValueError or TypeError for arguments that do not fit."""
    for argument, x in (("q", q), ("k", k), ("v", v)):
        check_array(name, argument, x, ndim=3)
    for argument, x in (("cu_seqlens_q", cu_seqlens_q), ("cu_seqlens_k", cu_seqlens_k)):
        check_array(name, argument, x, dtypes=("int32",), ndim=1, like=q)
        if x.size < 1 or x.shape != cu_seqlens_q.shape:
            raise InputError(
                f"{name}: {argument} has shape {tuple(x.shape)}, expected one number more than there are sequences, "
                "the same for queries and keys"
            )
    longest = []
    for argument, n, tokens in (("max_seqlen_q", max_seqlen_q, len(q)), ("max_seqlen_k", max_seqlen_k, len(k))):
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
            raise KindError(f"{name}: {argument} is a {type(n).__name__}, expected an int")
        if n < 0:
            raise InputError(f"{name}: {argument} is {n}, expected a length")
        longest.append(min(int(n), tokens))
    return longest[0], longest[1]


def as_heads(x: Any) -> Any:
    """Tokens (T, H, D) as a batch of one (1, H, T, D)."""
    return x.transpose(1, 0, 2)[None]


def check_packed_backward(name: str, grad: Any, q: Any, v: Any, out: Any, lse: Any) -> None:
    """grad, out and lse have the shapes and dtypes of what ``attention_varlen`` returns."""
    for argument, x in (("grad", grad), ("out", out)):
        check_array(name, argument, x, ndim=3, like=q)
    check_array(name, "lse", lse, dtypes=(accumulator(q).name,), ndim=2, like=q)
    check_backward(name, as_heads(grad), as_heads(q), as_heads(v), as_heads(out), lse[None])


# ---- the definition ------------------------------------------------------------------------------------------------


def _repeated(x: Any, heads: int) -> Any:
    """Keys or values (B, key heads, T, D) for every query head, in the dtype of sums."""
    x = x.astype(accumulator(x), copy=False)
    if x.shape[1] == heads:
        return x
    return namespace(x).repeat(x, heads // x.shape[1], axis=1)


def _scores(q: Any, k: Any, mask: Any, causal: str, scale: float, features: Features) -> tuple[Any, Any]:
    """Scores (B, H, Tq, Tk), -inf where nothing may be attended to, and their derivatives by scale * q k^T."""
    xp, acc = namespace(q), accumulator(q)
    scores = xp.matmul(q.astype(acc, copy=False) * acc.type(scale), _repeated(k, q.shape[1]).swapaxes(-1, -2))
    slope: Any = acc.type(1)
    if features.softcap:
        t = xp.tanh(scores / acc.type(features.softcap))
        scores, slope = acc.type(features.softcap) * t, 1 - t * t
    queries, keys = scores.shape[-2:]
    shift = 0 if causal == "top_left" else keys - queries
    place = xp.arange(queries)[:, None] + shift - xp.arange(keys)[None, :]  # of a query, after the key's
    if features.slopes is not None:
        scores = scores - features.slopes.astype(acc)[:, :, None, None] * abs(place).astype(acc)
    if mask is not None:
        scores = xp.where(mask, scores, acc.type(-np.inf)) if mask.dtype == bool else scores + mask.astype(acc)
    left, right = features.window
    if causal != "none":
        right = 0
    if left >= 0 or right >= 0:
        seen = (place <= left if left >= 0 else True) & (place >= -right if right >= 0 else True)
        scores = xp.where(seen, scores, acc.type(-np.inf))
    return scores, slope


def _keep(shape: tuple[int, ...], acc: Any, dropout_p: float, state: Any, offset: int) -> Any:
    """What dropout multiplies probabilities by, or None."""
    if dropout_p == 0:
        return None
    return dropout_mask(shape, dropout_p, state, offset) * acc.type(scale_of(dropout_p))


def _attend(q: Any, k: Any, v: Any, keep: Any, *how: Any) -> tuple[Any, Any]:
    """The result and the log of each row's sum; ``how`` is what scores depend on."""
    xp, acc = namespace(q), accumulator(q)
    with np.errstate(all="ignore"):
        scores, _ = _scores(q, k, *how)
        high = greatest(scores, (scores.ndim - 1,))
        p = xp.exp(scores - xp.where(high == -np.inf, acc.type(0), high))
        total = p.sum(axis=-1, keepdims=True)
        lse = (xp.log(total) + xp.where(total == 0, acc.type(0), high))[..., 0]
        p /= xp.where(total == 0, acc.type(1), total)
        if keep is not None:
            p *= keep
        return xp.matmul(p, _repeated(v, q.shape[1])).astype(q.dtype, copy=False), lse


def _attend_backward(
    grad: Any, q: Any, k: Any, v: Any, out: Any, lse: Any, keep: Any, *how: Any
) -> tuple[Any, Any, Any, Any]:
    """Gradients of q, k, v and of scores before anything but the mask was added."""
    xp, acc, scale = namespace(q), accumulator(q), how[2]
    with np.errstate(all="ignore"):
        scores, slope = _scores(q, k, *how)
        p = xp.exp(scores - xp.where(lse == -np.inf, acc.type(0), lse)[..., None])
        g = grad.astype(acc, copy=False)
        dp = xp.matmul(g, _repeated(v, q.shape[1]).swapaxes(-1, -2))
        kept = p
        if keep is not None:
            kept, dp = p * keep, dp * keep
        dp -= (g * out.astype(acc, copy=False)).sum(axis=-1, keepdims=True)
        ds = xp.where(scores == -np.inf, acc.type(0), p * dp)
        of_product = ds * slope
        dq = xp.matmul(of_product, _repeated(k, q.shape[1])) * acc.type(scale)
        dk = xp.matmul(of_product.swapaxes(-1, -2), q.astype(acc, copy=False)) * acc.type(scale)
        dv = xp.matmul(kept.swapaxes(-1, -2), g)
        dk, dv = (_grouped(x, k.shape[1]) for x in (dk, dv))
        return (*(x.astype(q.dtype, copy=False) for x in (dq, dk, dv)), ds)


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
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    precision: str | None = None,
    config: Any = None,
) -> tuple[Any, Any]:
    """``dropout(softmax(scale * q k^T + mask)) v`` and the log of each row's sum; rows with nothing to attend to are 0.

    Arguments and results as ``fastnet.kernels.attention``.
    """
    name = "attention"
    scale = check_attention(name, q, k, v, mask, causal, scale, dropout_p, state)
    if precision is not None:
        check_precision(name, precision)
    features = check_features(name, q, q.shape[:2], window_size, softcap, alibi_slopes)
    keep = _keep((*q.shape[:3], k.shape[2]), accumulator(q), dropout_p, state, offset)
    return _attend(q, k, v, keep, mask, causal, scale, features)


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
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    mask_gradient: bool = False,
    precision: str | None = None,
    config: Any = None,
) -> tuple[Any, Any, Any, Any]:
    """Gradients of q, k, v and an additive mask; as ``fastnet.kernels.attention_backward``."""
    name = "attention_backward"
    scale = check_attention(name, q, k, v, mask, causal, scale, dropout_p, state)
    if precision is not None:
        check_precision(name, precision)
    features = check_features(name, q, q.shape[:2], window_size, softcap, alibi_slopes)
    check_backward(name, grad, q, v, out, lse)
    check_mask_gradient(name, mask, mask_gradient)
    keep = _keep((*q.shape[:3], k.shape[2]), accumulator(q), dropout_p, state, offset)
    *gradients, ds = _attend_backward(grad, q, k, v, out, lse, keep, mask, causal, scale, features)
    return *gradients, sum_to_mask(ds, mask) if mask_gradient else None


# ---- sequences of different lengths, packed ------------------------------------------------------------------------


def _sequences(
    name: str, q: Any, k: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, longest: tuple[int, int]
) -> list[tuple[int, slice, slice]]:
    """Number, queries and keys of each sequence; IndexError where the lengths do not fit."""
    parts = []
    for starts, tokens, most in ((cu_seqlens_q, len(q), longest[0]), (cu_seqlens_k, len(k), longest[1])):
        numbers = starts.tolist()
        pairs = list(itertools.pairwise(numbers))
        if any(not 0 <= a <= b <= min(tokens, a + most) for a, b in pairs):
            raise IndexError(f"{name}: {BAD_LENGTHS}")
        parts.append([slice(a, b) for a, b in pairs])
    return [(i, *pair) for i, pair in enumerate(zip(*parts, strict=True))]


def attention_varlen(
    q: Any,
    k: Any,
    v: Any,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any,
    max_seqlen_q: int,
    max_seqlen_k: int,
    *,
    causal: str = "none",
    scale: float | None = None,
    dropout_p: float = 0.0,
    state: Any = None,
    offset: int = 0,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    precision: str | None = None,
    config: Any = None,
) -> tuple[Any, Any]:
    """``attention`` of each of several sequences, one after another; as ``fastnet.kernels.attention_varlen``."""
    name = "attention_varlen"
    longest = check_packed(name, q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    q4, k4, v4 = (as_heads(x) for x in (q, k, v))
    scale = check_attention(name, q4, k4, v4, None, causal, scale, dropout_p, state)
    batch, heads, xp = cu_seqlens_q.size - 1, q.shape[1], namespace(q)
    if precision is not None:
        check_precision(name, precision)
    features = check_features(name, q, (batch, heads), window_size, softcap, alibi_slopes)
    keep = _keep((batch, heads, *longest), accumulator(q), dropout_p, state, offset)
    out = xp.zeros((len(q), heads, v.shape[2]), q.dtype)
    lse = xp.full((heads, len(q)), -np.inf, accumulator(q))
    for i, at_q, at_k in _sequences(name, q, k, cu_seqlens_q, cu_seqlens_k, longest):
        kept = None if keep is None else keep[i : i + 1, :, : at_q.stop - at_q.start, : at_k.stop - at_k.start]
        operands = q4[:, :, at_q], k4[:, :, at_k], v4[:, :, at_k]
        of_one, lse_of_one = _attend(*operands, kept, None, causal, scale, features.part(i))
        out[at_q], lse[:, at_q] = of_one[0].transpose(1, 0, 2), lse_of_one[0]
    return out, lse


def attention_varlen_backward(
    grad: Any,
    q: Any,
    k: Any,
    v: Any,
    out: Any,
    lse: Any,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any,
    max_seqlen_q: int,
    max_seqlen_k: int,
    *,
    causal: str = "none",
    scale: float | None = None,
    dropout_p: float = 0.0,
    state: Any = None,
    offset: int = 0,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    precision: str | None = None,
    config: Any = None,
) -> tuple[Any, Any, Any]:
    """Gradients of q, k and v; as ``fastnet.kernels.attention_varlen_backward``."""
    name = "attention_varlen_backward"
    longest = check_packed(name, q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    check_packed_backward(name, grad, q, v, out, lse)
    q4, k4, v4, grad4, out4 = (as_heads(x) for x in (q, k, v, grad, out))
    scale = check_attention(name, q4, k4, v4, None, causal, scale, dropout_p, state)
    batch, heads, xp = cu_seqlens_q.size - 1, q.shape[1], namespace(q)
    if precision is not None:
        check_precision(name, precision)
    features = check_features(name, q, (batch, heads), window_size, softcap, alibi_slopes)
    keep = _keep((batch, heads, *longest), accumulator(q), dropout_p, state, offset)
    dq, dk, dv = (xp.zeros(x.shape, x.dtype) for x in (q, k, v))
    for i, at_q, at_k in _sequences(name, q, k, cu_seqlens_q, cu_seqlens_k, longest):
        kept = None if keep is None else keep[i : i + 1, :, : at_q.stop - at_q.start, : at_k.stop - at_k.start]
        operands = grad4[:, :, at_q], q4[:, :, at_q], k4[:, :, at_k], v4[:, :, at_k], out4[:, :, at_q]
        found = _attend_backward(*operands, lse[None, :, at_q], kept, None, causal, scale, features.part(i))
        for to, at, x in zip((dq, dk, dv), (at_q, at_k, at_k), found[:3], strict=True):
            to[at] = x[0].transpose(1, 0, 2)
    return dq, dk, dv


# ---- a cache of keys and values ------------------------------------------------------------------------------------

NO_ROOM = "a sequence has no room for its new tokens, or a negative length"


def check_cache(name: str, q: Any, k_cache: Any, v_cache: Any, cache_seqlens: Any, k: Any, v: Any) -> None:
    """ValueError or TypeError for what ``attention`` does not check of a cache and what is put into it."""
    if q.shape[1] < 1 or q.shape[2] < 1:
        raise InputError(f"{name}: q has shape {tuple(q.shape)}, expected at least one head and one query")
    check_array(name, "cache_seqlens", cache_seqlens, dtypes=("int32",), ndim=1, like=q)
    if cache_seqlens.shape[0] != q.shape[0]:
        raise InputError(
            f"{name}: cache_seqlens has {cache_seqlens.shape[0]} elements, expected one for each of the {q.shape[0]} "
            "sequences"
        )
    for argument, cache in (("k_cache", k_cache), ("v_cache", v_cache)):
        if isinstance(cache, np.ndarray) and not cache.flags.writeable:
            raise InputError(f"{name}: {argument} is read-only, expected an array to write to")
    if all(x is None for x in (k, v)):
        return
    for argument, x, cache in (("k", k, k_cache), ("v", v, v_cache)):
        check_array(name, argument, x, dtypes=(q.dtype.name,), ndim=4, like=q)
        if (*x.shape[:2], x.shape[3]) != (*cache.shape[:2], cache.shape[3]) or x.shape[2] != k.shape[2]:
            raise InputError(
                f"{name}: {argument} has shape {tuple(x.shape)}, expected {tuple(cache.shape)} with the new tokens, as "
                "many of values as of keys, in the place of all"
            )
        if any(namespace(q).may_share_memory(x, c) for c in (k_cache, v_cache)):
            raise InputError(f"{name}: {argument} shares memory with the cache, expected an array of its own")


def attention_with_kvcache(
    q: Any,
    k_cache: Any,
    v_cache: Any,
    cache_seqlens: Any,
    k: Any = None,
    v: Any = None,
    *,
    causal: str = "bottom_right",
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    config: Any = None,
) -> tuple[Any, Any]:
    """Append k and v to what is kept and attend to all of it; as ``fastnet.kernels.attention_with_kvcache``."""
    name = "attention_with_kvcache"
    scale = check_attention(name, q, k_cache, v_cache, None, causal, scale, 0.0, None)
    check_cache(name, q, k_cache, v_cache, cache_seqlens, k, v)
    features = check_features(name, q, q.shape[:2], window_size, softcap, alibi_slopes)
    lengths, added, xp = cache_seqlens.tolist(), 0 if k is None else k.shape[2], namespace(q)
    if any(not 0 <= held <= k_cache.shape[2] - added for held in lengths):
        raise IndexError(f"{name}: {NO_ROOM}")
    out = xp.zeros((*q.shape[:3], v_cache.shape[3]), q.dtype)
    lse = xp.full(q.shape[:3], -np.inf, accumulator(q))
    for i, held in enumerate(lengths):
        one, end = slice(i, i + 1), held + added
        if k is not None:
            k_cache[i, :, held:end], v_cache[i, :, held:end] = k[i], v[i]
        out[one], lse[one] = _attend(
            q[one], k_cache[one, :, :end], v_cache[one, :, :end], None, None, causal, scale, features.part(i)
        )
    return out, lse


def _grouped(x: Any, key_heads: int) -> Any:
    """The sum over the query heads of each key head."""
    if x.shape[1] == key_heads:
        return x
    return x.reshape(x.shape[0], key_heads, x.shape[1] // key_heads, *x.shape[2:]).sum(axis=2)


def sum_to_mask(ds: Any, mask: Any) -> Any:
    """Gradients of scores as that of a mask which was broadcast to them."""
    axes = tuple(i for i, (m, n) in enumerate(zip(mask.shape, ds.shape, strict=True)) if m == 1 and n != 1)
    total = ds.sum(axis=axes, keepdims=True) if axes else ds
    return total.reshape(mask.shape).astype(mask.dtype, copy=False)
