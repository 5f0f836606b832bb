"""Attention as a differentiable operation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._random import default_generator
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction, is_grad_enabled
from fastnet.errors import InputError, KindError
from fastnet.kernels._runtime import implementation
from fastnet.kernels.dropout import check_probability
from fastnet.ops._operands import check_tensor
from fastnet.ops.pointwise import check_floating
from fastnet.ops.shape import expand, reshape


class Attention(ArrayFunction):
    """dropout(softmax(scale * q k^T + mask)) v; probabilities and dropout's mask are computed again in backward."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Any,
        k: Any,
        v: Any,
        mask: Any,
        causal: str,
        scale: float | None,
        dropout_p: float,
        state: Any,
        offset: int,
        features: dict[str, Any],
    ) -> Any:
        ctx.options = {"causal": causal, "scale": scale, "dropout_p": dropout_p, "state": state, "offset": offset}
        ctx.options |= features
        out, lse = implementation(q).attention(q, k, v, mask=mask, **ctx.options)
        ctx.save(q, k, v, mask, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        q, k, v, mask, out, lse = ctx.saved
        gradients = implementation(grad).attention_backward(
            grad, q, k, v, out, lse, mask=mask, mask_gradient=ctx.needs_input_grad[3], **ctx.options
        )
        return *gradients, None, None, None, None, None, None


class AttentionVarlen(ArrayFunction):
    """Attention of each of several packed sequences; ``lengths`` are cumulative lengths and maxima."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, lengths: tuple, options: dict[str, Any]) -> Any:
        out, lse = implementation(q).attention_varlen(q, k, v, *lengths, **options)
        ctx.save(q, k, v, out, lse)
        ctx.lengths, ctx.options = lengths, options
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        saved = ctx.saved
        gradients = implementation(grad).attention_varlen_backward(grad, *saved, *ctx.lengths, **ctx.options)
        return *gradients, None, None


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``dropout(softmax(scale * query key^T + attn_mask)) value`` (Vaswani et al. 2017), without a matrix of scores in
    memory (Dao et al. 2022).

    Args:
        query: (..., H, L, E) floating-point tensor; without H, one head.
        key, value: (..., H, S, E) and (..., H, S, Ev) of query's dtype; with ``enable_gqa`` a divisor of H heads.
        attn_mask: broadcasts to (..., H, L, S). bool: True where a query may attend; else added to the scores.
        dropout_p: the probability that a probability is dropped. Applied whenever it is not 0.
        is_causal: query i attends to keys up to i.
        scale: None for 1 / sqrt(E).
        enable_gqa: let heads of queries share heads of keys and values.

    Returns:
        (..., H, L, Ev); rows that may attend to nothing are 0.

    Raises:
        RuntimeError, ValueError, TypeError: arguments that do not fit.
    """
    name = "scaled_dot_product_attention"
    for argument, x in (("query", query), ("key", key), ("value", value)):
        check_floating(name, x)
        if x.dim() < 2:
            raise InputError(f"{name}: {argument} has {x.dim()} dimensions, expected at least 2 (L, E)")
        if x.dtype is not query.dtype:
            raise KindError(
                f"{name}: expected query, key and value to have the same dtype, but got {query.dtype}, {key.dtype} "
                f"and {value.dtype}"
            )
    p = check_probability(name, dropout_p)
    if is_causal and attn_mask is not None:
        raise InputError(f"{name}: explicit attn_mask should not be set when is_causal=True")
    heads = [x.shape[-3] if x.dim() > 2 else 1 for x in (query, key, value)]
    if not enable_gqa and len(set(heads)) > 1 and 1 not in heads:
        raise InputError(f"{name}: query, key and value have {heads} heads; enable_gqa=True lets them differ")
    leading = _broadcast([tuple(x.shape[:-3]) for x in (query, key, value)], name)
    batch = math.prod(leading)
    if not enable_gqa:
        heads = [max(heads)] * 3
    q, k, v = (
        reshape(_expanded(x, (*leading, h, *x.shape[-2:])), (batch, h, *x.shape[-2:]))
        for x, h in zip((query, key, value), heads, strict=True)
    )
    if enable_gqa and heads[1] != heads[2]:
        raise InputError(f"{name}: key has {heads[1]} heads, value {heads[2]}, expected the same number")
    mask = _mask(name, attn_mask, leading, (batch, heads[0], q.shape[2], k.shape[2]), query)
    out = Attention.apply(q, k, v, mask, "top_left" if is_causal else "none", scale, *_draw(p, query), {})
    shape = (*leading, heads[0], *out.shape[-2:]) if query.dim() > 2 or max(heads) > 1 else tuple(out.shape[-2:])
    return reshape(out, shape)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    causal: bool = False,
    softmax_scale: float | None = None,
    *,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
) -> Tensor:
    """Attention with what ``scaled_dot_product_attention`` has no arguments for, under FlashAttention's names.

    Query i stands at key i + S - L: ``causal`` and the window are aligned with the last query and key.

    Args:
        query: (B, H, L, E) floating-point tensor.
        key, value: (B, Hk, S, E) and (B, Hk, S, Ev) of its dtype, Hk a divisor of H.
        attn_mask: with four dimensions, broadcast to (B, H, L, S). bool: True where a query may attend; else added.
        dropout_p: the probability that a probability is dropped. Applied whenever it is not 0.
        causal: no query attends to keys after its own place.
        softmax_scale: None for 1 / sqrt(E).
        window_size: how many keys before and after its own place a query attends to; -1: all (Beltagy, Peters and
            Cohan 2020).
        softcap: scores become softcap * tanh(score / softcap) before anything is added; 0 for no cap (Gemma 2, 2024).
        alibi_slopes: (H,) or (B, H) float32: slope times the distance to a query's own place is subtracted from scores
            (Press, Smith and Lewis 2022). Constants: they get no gradient.

    Returns:
        (B, H, L, Ev); rows that may attend to nothing are 0.

    Raises:
        ValueError, TypeError: arguments that do not fit.

    >>> import fastnet
    >>> x = fastnet.ones(1, 2, 5, 4)
    >>> attention(x, x, x, causal=True, window_size=(2, 0)).shape
    fastnet.Size([1, 2, 5, 4])
    """
    name = "attention"
    for x in (query, key, value):
        check_floating(name, x)
    p = check_probability(name, dropout_p)
    if attn_mask is not None:
        check_tensor(name, attn_mask, "attn_mask")
    features = {"window_size": window_size, "softcap": softcap, "alibi_slopes": _slopes(name, alibi_slopes)}
    how = "bottom_right" if causal else "none"
    return Attention.apply(query, key, value, attn_mask, how, softmax_scale, *_draw(p, query), features)


def attention_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    *,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
) -> Tensor:
    """``attention`` of sequences of different lengths that lie one after another, without padding; names and shapes are
    FlashAttention's.

    Args:
        query: (tokens, H, E) floating-point tensor.
        key, value: (key tokens, Hk, E) and (key tokens, Hk, Ev) of its dtype, Hk a divisor of H.
        cu_seqlens_q, cu_seqlens_k: (B + 1,) int32: sequence b has the queries from cu_seqlens_q[b] up to the next
            number, and keys likewise.
        max_seqlen_q, max_seqlen_k: lengths of the longest sequences, or more.
        The others: as in ``attention``, for each sequence by itself.

    Returns:
        (tokens, H, Ev); rows that may attend to nothing, or belong to no sequence, are 0.

    Raises:
        ValueError, TypeError: arguments that do not fit.
        IndexError: lengths that do not fit; for tensors on the GPU at the next synchronising call.

    >>> import fastnet
    >>> x, starts = fastnet.ones(5, 2, 4), fastnet.tensor([0, 2, 5], dtype=fastnet.int32)
    >>> attention_varlen(x, x, x, starts, starts, 3, 3, causal=True).shape
    fastnet.Size([5, 2, 4])
    """
    name = "attention_varlen"
    for x in (query, key, value):
        check_floating(name, x)
    p = check_probability(name, dropout_p)
    for argument, x in (("cu_seqlens_q", cu_seqlens_q), ("cu_seqlens_k", cu_seqlens_k)):
        check_tensor(name, x, argument)
    drawn = dict(zip(("dropout_p", "state", "offset"), _draw(p, query), strict=True))
    options = {"causal": "bottom_right" if causal else "none", "scale": softmax_scale, **drawn}
    options |= {"window_size": window_size, "softcap": softcap, "alibi_slopes": _slopes(name, alibi_slopes)}
    lengths = (cu_seqlens_q._data, cu_seqlens_k._data, max_seqlen_q, max_seqlen_k)
    return AttentionVarlen.apply(query, key, value, lengths, options)


def attention_with_kvcache(
    query: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    *,
    cache_seqlens: Tensor | int,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
) -> Tensor:
    """A step of decoding: put key and value after those in the cache, in place, and attend to all of them in one launch
    (FlashAttention's flash_attn_with_kvcache; the splits over keys are those of Flash-Decoding, Dao et al. 2023).

    Args:
        query: (B, H, L, E) floating-point tensor.
        k_cache, v_cache: (B, Hk, capacity, E) and (B, Hk, capacity, Ev) of its dtype.
        key, value: (B, Hk, T, E) and (B, Hk, T, Ev), or both None.
        cache_seqlens: (B,) int32, the tokens each sequence has in the cache before this call, or one number for all.
            The caller adds T.
        The others: as in ``attention``, with the tokens held and the new ones as keys.

    Returns:
        (B, H, L, Ev), without a gradient.

    Raises:
        RuntimeError: gradients are on and an argument needs one.
        ValueError, TypeError: arguments that do not fit.
        IndexError: no room; for tensors on the GPU at the next synchronising call.

    >>> import fastnet
    >>> cache, x = fastnet.zeros(1, 2, 8, 4), fastnet.ones(1, 2, 1, 4)
    >>> attention_with_kvcache(x, cache, cache.clone(), x, x, cache_seqlens=3).shape
    fastnet.Size([1, 2, 1, 4])
    >>> cache[0, 0, :, 0]
    tensor([0., 0., 0., 1., 0., 0., 0., 0.])
    """
    name = "attention_with_kvcache"
    given = {"query": query, "k_cache": k_cache, "v_cache": v_cache, "key": key, "value": value}
    for argument, x in given.items():
        if x is not None or argument in ("query", "k_cache", "v_cache"):
            check_tensor(name, x, argument)
            assert x is not None
            if is_grad_enabled() and x.requires_grad:
                raise RuntimeError(f"{name}: {argument} requires a gradient, which a step of decoding does not have")
    check_floating(name, query)
    q = query._data
    if isinstance(cache_seqlens, Tensor):
        lengths = cache_seqlens._data
    elif isinstance(cache_seqlens, bool) or not isinstance(cache_seqlens, (int, np.integer)):
        raise KindError(f"{name}: cache_seqlens is a {type(cache_seqlens).__name__}, expected a Tensor or an int")
    else:
        if not 0 <= cache_seqlens < 2**31:
            raise InputError(f"{name}: cache_seqlens is {cache_seqlens}, expected a length")
        lengths = namespace(q).full(query.shape[:1], cache_seqlens, np.int32)
    out, _ = implementation(q).attention_with_kvcache(
        q,
        k_cache._data,
        v_cache._data,
        lengths,
        None if key is None else key._data,
        None if value is None else value._data,
        causal="bottom_right" if causal else "none",
        scale=softmax_scale,
        window_size=window_size,
        softcap=softcap,
        alibi_slopes=_slopes(name, alibi_slopes),
    )
    for cache in (k_cache, v_cache):
        cache._version_counter[0] += 1
    return Tensor._wrap(out)


def _slopes(name: str, slopes: Tensor | None) -> Any:
    if slopes is None:
        return None
    check_tensor(name, slopes, "alibi_slopes")
    return slopes._data


def _draw(p: float, like: Tensor) -> tuple[float, Any, int]:
    """Probability, state and offset of a dropout: nothing is drawn at 0."""
    if not p:
        return p, None, 0
    return p, default_generator.state_array(namespace(like._data)), default_generator.next_offset()


def _broadcast(shapes: list[tuple[int, ...]], name: str) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise InputError(f"{name}: the batch dimensions of query, key and value do not fit: {shapes}") from None


def _expanded(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if tuple(x.shape) == shape else expand(x, shape)


def _mask(
    name: str, mask: Tensor | None, leading: tuple[int, ...], scores: tuple[int, ...], query: Tensor
) -> Tensor | None:
    """attn_mask with four dimensions, those that are repeated left as one where that needs no copy."""
    if mask is None:
        return None
    if mask.dtype.name != "bool" and not mask.dtype.is_floating_point:
        raise KindError(f"{name}: attn_mask has dtype {mask.dtype}, expected bool or query's {query.dtype}")
    if mask.dtype.is_floating_point and mask.dtype is not query.dtype and mask.dtype.name != "float32":
        raise KindError(f"{name}: attn_mask has dtype {mask.dtype}, expected bool or query's {query.dtype}")
    wanted = (*leading, *scores[1:])
    shape = tuple(mask.shape)
    full = (1,) * (len(wanted) - len(shape)) + shape
    if len(full) != len(wanted) or any(m not in (1, n) for m, n in zip(full, wanted, strict=True)):
        raise InputError(f"{name}: attn_mask has shape {list(shape)}, expected one that broadcasts to {list(wanted)}")
    front, rest = full[:-3], full[-3:]
    if all(n == 1 for n in front):
        return reshape(mask, (1, *rest))
    return reshape(_expanded(reshape(mask, full), (*leading, *rest)), (scores[0], *rest))
