"""Attention and its gradients by handwritten kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._faults import check_faults
from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import addressable, empty, fault_flag, is_numpy, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.kernels.matmul import get_float32_matmul_precision
from fastnet.kernels.random import check_state
from fastnet.reference.attention import (
    BAD_LENGTHS,
    NO_ROOM,
    Features,
    accumulator,
    as_heads,
    check_attention,
    check_backward,
    check_cache,
    check_features,
    check_mask_gradient,
    check_packed,
    check_packed_backward,
    sum_to_mask,
)
from fastnet.reference.dropout import scale_of, threshold_of
from fastnet.reference.matmul import check_precision


def _broadcast(mask: Any, shape: tuple[int, ...]) -> Any:
    """mask with repeated dimensions at stride 0."""
    if mask is None:
        return None
    mask = addressable(mask)
    if isinstance(mask, np.ndarray):
        return np.broadcast_to(mask, shape)
    import cupy

    return cupy.broadcast_to(mask, shape)


def _draw(name: str, ext: Any, dropout_p: float, state: Any, offset: int) -> tuple[Any, int, int, float]:
    """State, offset, threshold and scale of the dropout as kernels take them."""
    if dropout_p == 0:
        return None, 0, 0, 1.0
    offset = check_state(name, state, offset)
    if extension_for(state) is not ext:
        raise InputError(f"{name}: state and q are on different devices")
    return state, offset, threshold_of(dropout_p), scale_of(dropout_p)


def _features(features: Features, *packed: Any) -> tuple[Any, ...]:
    """Features as the extension takes them; packed: cumulative lengths, longest sequences and the flag for faults."""
    return *features.window, features.softcap, features.slopes, *(packed or (None, None, 0, 0, None))


def _tf32(name: str, precision: str | None) -> bool:
    """Whether operands of float32 may be rounded to TF32."""
    if precision is None:
        precision = get_float32_matmul_precision()
    check_precision(name, precision)
    return precision != "highest"


def _config(ext: Any, name: str, config: Any, q: Any, v: Any, tiles: tuple[Any, ...] = ()) -> Any:
    """tiles: every array that TMA would have to bring or take, where the problem is one that the sm90 family serves."""
    if config is None:
        backward = name.endswith("_backward")
        tma = bool(tiles) and all(ext.attention_rows_by_tma(x) for x in tiles)
        return ext.attention_config(q.shape[3], v.shape[3], q.dtype.name, backward, tma=tma)
    if not isinstance(config, ext.AttentionConfig):
        raise KindError(f"{name}: config is a {type(config).__name__}, expected an AttentionConfig of {ext.__name__}")
    return config


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
    """``dropout(softmax(scale * q k^T + mask)) v`` without a matrix of scores in memory (Dao et al. 2022).

    Args:
        q: (B, H, Tq, D) float32, float64, float16 or bfloat16, any strides.
        k, v: (B, Hk, Tk, D) and (B, Hk, Tk, Dv) of q's dtype. H is a multiple of Hk (grouped-query attention): head
            h of the queries reads head h // (H // Hk) of the keys.
        mask: broadcasts to (B, H, Tq, Tk), with four dimensions. bool: True where a query may attend to a key. Of q's
            dtype or the sums': added to the scores.
        causal: ``"top_left"``: query i attends to keys up to i, PyTorch's ``is_causal``. ``"bottom_right"``: the last
            query attends to all keys. ``"none"``.
        scale: of the scores; None for 1 / sqrt(D).
        dropout_p: the probability that a probability is dropped.
        state: (2,) uint64, seed and base offset of the draws, beside q; needed where dropout_p is not 0.
        offset: added to the base.
        window_size: how many keys before and after its own place a query attends to besides; -1: all. Query i stands at
            key i where causal is "top_left" and at key i + Tk - Tq elsewhere.
        softcap: scores are softcap * tanh(scale * q k^T / softcap) before anything is added; 0 for no cap.
        alibi_slopes: (H,) or (B, H) float32, times the distance of query and key subtracted from scores (Press, Smith
            and Lewis 2022), or None; constants.
        precision: of float32's products, as in ``matmul``. With ``"highest"``, three products of TF32 numbers on tensor
            cores, an infinity in q, k or v gives NaN.
        config: an ``AttentionConfig`` to use in place of the one chosen for the problem.

    Returns:
        (B, H, Tq, Dv) of q's dtype, 0 in rows that attend to nothing; the log of each row's sum of exponentials
        (B, H, Tq), float64 for float64 and else float32, -inf in those rows.

    Raises:
        TypeError, ValueError: arguments that do not fit.

    >>> import numpy as np
    >>> from fastnet import kernels
    >>> x = np.ones((1, 1, 2, 4), np.float32)
    >>> with kernels.use("emulated"):
    ...     kernels.attention(x, x, x, causal="top_left")[0][0, 0, 1]
    array([1., 1., 1., 1.], dtype=float32)
    """
    name = "attention"
    scale = check_attention(name, q, k, v, mask, causal, scale, dropout_p, state)
    features = check_features(name, q, q.shape[:2], window_size, softcap, alibi_slopes)
    ext = extension_for(q)
    draw = _draw(name, ext, dropout_p, state, offset)
    out = empty(q, (*q.shape[:3], v.shape[3]))
    lse = empty(q, q.shape[:3], accumulator(q))
    operands = [addressable(x) for x in (q, k, v)]
    config = _config(ext, name, config, q, v, (*operands, out))
    if lse.size:
        record(name, q, k, v, mask, config=config)
        ext.attention(
            out,
            lse,
            *operands,
            _broadcast(mask, (*q.shape[:3], k.shape[2])),
            scale,
            causal,
            *draw,
            *_features(features),
            _tf32(name, precision),
            config,
            stream_of(q),
        )
    return out, lse


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
    """Gradients of ``attention``'s q, k, v and additive mask. Probabilities and dropout's mask are computed again.

    Args:
        grad: gradient of the result; its shape and dtype.
        q, k, v, mask, causal, scale, dropout_p, state, offset, window_size, softcap, alibi_slopes, precision, config:
            as given to ``attention``.
        out, lse: as it returned them.
        mask_gradient: whether to return the gradient of the mask; an array of all scores is then written.

    Returns:
        Gradients of q, k and v, of their shapes and dtype; of the mask, of its shape and dtype, or None.

    Raises:
        TypeError, ValueError: arguments that do not fit.
    """
    name = "attention_backward"
    scale = check_attention(name, q, k, v, mask, causal, scale, dropout_p, state)
    features = check_features(name, q, q.shape[:2], window_size, softcap, alibi_slopes)
    check_backward(name, grad, q, v, out, lse)
    check_mask_gradient(name, mask, mask_gradient)
    ext = extension_for(q)
    draw = _draw(name, ext, dropout_p, state, offset)
    dq, dk, dv = (empty(x, x.shape) for x in (q, k, v))
    scores = (*q.shape[:3], k.shape[2])
    ds = empty(q, scores, accumulator(q)) if mask_gradient else None
    operands = [addressable(x) for x in (grad, q, k, v, out)]
    lse = lse if lse.flags.c_contiguous else lse.copy()
    served = not (mask_gradient and features.softcap)  # by the sm90 family
    tiles = (*operands[:4], dq, dk, dv, lse.reshape(1, 1, 1, -1)) if served else ()
    config = _config(ext, name, config, q, v, tiles)
    if dq.size + dk.size + dv.size:
        record(name, grad, q, k, v, mask, config=config)
        ext.attention_backward(
            dq,
            dk,
            dv,
            ds,
            empty(q, q.shape[:3], accumulator(q)),
            *operands,
            lse,
            _broadcast(mask, scores),
            scale,
            causal,
            *draw,
            *_features(features),
            _tf32(name, precision),
            config,
            stream_of(q),
        )
    return dq, dk, dv, sum_to_mask(ds, mask) if mask_gradient else None


def _contiguous(x: Any) -> Any:
    """Lengths as kernels read them."""
    x = addressable(x)
    return x if x.flags.c_contiguous else x.copy()


def _zeros(like: Any, shape: tuple[int, ...]) -> Any:
    """An array of zeros: what lies in no sequence is not written."""
    out = empty(like, shape)
    out[...] = 0
    return out


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
    """``attention`` of each of several sequences that lie one after another, without padding.

    Args:
        q: (tokens, H, D) float32, float64, float16 or bfloat16, any strides.
        k, v: (key tokens, Hk, D) and (key tokens, Hk, Dv) of q's dtype.
        cu_seqlens_q, cu_seqlens_k: (B + 1,) int32 beside q: sequence b has queries cu_seqlens_q[b] up to
            cu_seqlens_q[b + 1], and keys likewise.
        max_seqlen_q, max_seqlen_k: the lengths of the longest sequences, or more.
        causal, scale, dropout_p, state, offset, window_size, softcap, alibi_slopes, precision, config: as in
            ``attention``, for each sequence by its own lengths. Dropout draws for (B, H, max_seqlen_q, max_seqlen_k),
            each maximum at most the number of tokens.

    Returns:
        (tokens, H, Dv) of q's dtype, 0 in rows that attend to nothing or are in no sequence; the log of each row's sum
        of exponentials (H, tokens), -inf in those rows.

    Raises:
        TypeError, ValueError: arguments that do not fit.
        IndexError: lengths that decrease, pass the tokens there are or exceed the maximum; on the GPU at the next
            synchronising call (such a sequence gives zeros until then).
    """
    name = "attention_varlen"
    longest = check_packed(name, q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    operands = as_heads(q), as_heads(k), as_heads(v)
    scale = check_attention(name, *operands, None, causal, scale, dropout_p, state)
    batch, heads = cu_seqlens_q.size - 1, q.shape[1]
    features = check_features(name, q, (batch, heads), window_size, softcap, alibi_slopes)
    ext = extension_for(q)
    draw = _draw(name, ext, dropout_p, state, offset)
    out = _zeros(q, (len(q), heads, v.shape[2]))
    lse = empty(q, (heads, len(q)), accumulator(q))
    lse[...] = -np.inf
    operands = [addressable(x) for x in operands]
    config = _config(ext, name, config, operands[0], operands[2], (*operands, as_heads(out)))
    if lse.size and batch:
        flag = fault_flag(q, name, BAD_LENGTHS)
        record(name, q, k, v, cu_seqlens_q, cu_seqlens_k, config=config)
        ext.attention(
            as_heads(out),
            lse,
            *operands,
            None,
            scale,
            causal,
            *draw,
            *_features(features, _contiguous(cu_seqlens_q), _contiguous(cu_seqlens_k), *longest, flag),
            _tf32(name, precision),
            config,
            stream_of(q),
        )
        if is_numpy(q):
            check_faults(name)
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
    """Gradients of ``attention_varlen``'s q, k and v, of their shapes and dtype.

    Args:
        grad: gradient of the result; its shape and dtype.
        out, lse: as it returned them.
        The others: as given to ``attention_varlen``.

    Raises:
        TypeError, ValueError, IndexError: as ``attention_varlen``.
    """
    name = "attention_varlen_backward"
    longest = check_packed(name, q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    operands = as_heads(q), as_heads(k), as_heads(v)
    scale = check_attention(name, *operands, None, causal, scale, dropout_p, state)
    check_packed_backward(name, grad, q, v, out, lse)
    batch, heads = cu_seqlens_q.size - 1, q.shape[1]
    features = check_features(name, q, (batch, heads), window_size, softcap, alibi_slopes)
    ext = extension_for(q)
    draw = _draw(name, ext, dropout_p, state, offset)
    dq, dk, dv = (_zeros(x, x.shape) for x in (q, k, v))
    gradients = [as_heads(x) for x in (dq, dk, dv)]
    operands = [addressable(x) for x in (as_heads(grad), *operands, as_heads(out))]
    lse = lse if lse.flags.c_contiguous else lse.copy()
    tiles = (*operands[:4], *gradients, lse.reshape(1, 1, 1, -1))
    config = _config(ext, name, config, operands[1], operands[3], tiles)
    if dq.size + dk.size + dv.size and batch and heads:
        flag = fault_flag(q, name, BAD_LENGTHS)
        record(name, grad, q, k, v, cu_seqlens_q, cu_seqlens_k, config=config)
        ext.attention_backward(
            *gradients,
            None,
            empty(q, (heads, len(q)), accumulator(q)),
            *operands,
            lse,
            None,
            scale,
            causal,
            *draw,
            *_features(features, _contiguous(cu_seqlens_q), _contiguous(cu_seqlens_k), *longest, flag),
            _tf32(name, precision),
            config,
            stream_of(q),
        )
        if is_numpy(q):
            check_faults(name)
    return dq, dk, dv


def _cache_config(ext: Any, name: str, config: Any, q: Any, k_cache: Any) -> Any:
    batch, heads, queries, _ = q.shape
    if config is None:
        return ext.attention_cache_config(
            batch, k_cache.shape[1], heads // k_cache.shape[1] * queries, k_cache.shape[2]
        )
    if not isinstance(config, ext.AttentionCacheConfig):
        raise KindError(
            f"{name}: config is a {type(config).__name__}, expected an AttentionCacheConfig of {ext.__name__}"
        )
    return config


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
    """Put new keys and values after those kept of each sequence and attend to all of them, in one launch: a step of
    decoding. With several splits the keys are shared out among blocks, and a second pass joins their parts in order.

    Args:
        q: (B, H, Tq, D) float32, float64, float16 or bfloat16, any strides; H and Tq at least 1.
        k_cache, v_cache: (B, Hk, capacity, D) and (B, Hk, capacity, Dv) of q's dtype, changed in place.
        cache_seqlens: (B,) int32 beside q, how many tokens of each sequence the cache holds; left as it is.
        k, v: (B, Hk, T, D) and (B, Hk, T, Dv) to put after them, not part of the cache's memory; or both None.
        causal, scale, window_size, softcap, alibi_slopes: as in ``attention``, with the tokens held and T as keys.
        config: an ``AttentionCacheConfig`` to use in place of the one chosen for the problem.

    Returns:
        (B, H, Tq, Dv) of q's dtype, 0 in rows that attend to nothing; the log of each row's sum of exponentials
        (B, H, Tq).

    Raises:
        TypeError, ValueError: arguments that do not fit.
        IndexError: a sequence with no room for its new tokens, or of a negative length; on the GPU at the next
            synchronising call (its cache is left alone and its result is 0 until then).

    >>> import numpy as np
    >>> from fastnet import kernels
    >>> keys, values = np.zeros((1, 1, 4, 2), np.float32), np.zeros((1, 1, 4, 2), np.float32)
    >>> one, held = np.ones((1, 1, 1, 2), np.float32), np.array([1], np.int32)
    >>> with kernels.use("emulated"):
    ...     kernels.attention_with_kvcache(one, keys, values, held, one, one)[0].shape
    (1, 1, 1, 2)
    >>> keys[0, 0, :, 0]
    array([0., 1., 0., 0.], dtype=float32)
    """
    name = "attention_with_kvcache"
    scale = check_attention(name, q, k_cache, v_cache, None, causal, scale, 0.0, None)
    check_cache(name, q, k_cache, v_cache, cache_seqlens, k, v)
    features = check_features(name, q, q.shape[:2], window_size, softcap, alibi_slopes)
    ext = extension_for(q)
    batch, heads, queries, _ = q.shape
    sums, dv = accumulator(q), v_cache.shape[3]
    out, lse = empty(q, (batch, heads, queries, dv)), empty(q, (batch, heads, queries), sums)
    config = _cache_config(ext, name, config, q, k_cache)
    if lse.size:
        used = [addressable(x) for x in (k_cache, v_cache)]
        parts = (config.splits, batch, heads, queries)
        record(name, q, k_cache, v_cache, k, v, config=config)
        ext.attention_with_kvcache(
            out,
            lse,
            addressable(q),
            *used,
            *(None if x is None else addressable(x) for x in (k, v)),
            _contiguous(cache_seqlens),
            *((empty(q, (*parts, dv), sums), empty(q, (*parts, 2), sums)) if config.splits > 1 else (None, None)),
            scale,
            causal,
            *features.window,
            features.softcap,
            features.slopes,
            fault_flag(q, name, NO_ROOM),
            config,
            stream_of(q),
        )
        for cache, changed in zip((k_cache, v_cache), used, strict=True):
            if changed is not cache:
                cache[...] = changed
        if is_numpy(q):
            check_faults(name)
    return out, lse
