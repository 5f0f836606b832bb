"""Attention and its gradients by handwritten kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet.kernels._arrays import addressable, empty, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.kernels.random import check_state
from fastnet.reference.attention import accumulator, check_attention, check_backward, check_mask_gradient, sum_to_mask
from fastnet.reference.dropout import scale_of, threshold_of


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
        raise ValueError(f"{name}: state and q are on different devices")
    return state, offset, threshold_of(dropout_p), scale_of(dropout_p)


def _config(ext: Any, name: str, config: Any, q: Any, k: Any, v: Any) -> Any:
    if config is None:
        return ext.attention_config(q.shape[2], k.shape[2], q.shape[3], v.shape[3])
    if not isinstance(config, ext.AttentionConfig):
        raise TypeError(f"{name}: config is a {type(config).__name__}, expected an AttentionConfig of {ext.__name__}")
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
    ext = extension_for(q)
    draw = _draw(name, ext, dropout_p, state, offset)
    out = empty(q, (*q.shape[:3], v.shape[3]))
    lse = empty(q, q.shape[:3], accumulator(q))
    config = _config(ext, name, config, q, k, v)
    if lse.size:
        record(name, q, k, v, mask, config=config)
        ext.attention(
            out,
            lse,
            *(addressable(x) for x in (q, k, v)),
            _broadcast(mask, (*q.shape[:3], k.shape[2])),
            scale,
            causal,
            *draw,
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
    mask_gradient: bool = False,
    config: Any = None,
) -> tuple[Any, Any, Any, Any]:
    """Gradients of ``attention``'s q, k, v and additive mask. Probabilities and dropout's mask are computed again.

    Args:
        grad: gradient of the result; its shape and dtype.
        q, k, v, mask, causal, scale, dropout_p, state, offset, config: as given to ``attention``.
        out, lse: as it returned them.
        mask_gradient: whether to return the gradient of the mask; an array of all scores is then written.

    Returns:
        Gradients of q, k and v, of their shapes and dtype; of the mask, of its shape and dtype, or None.

    Raises:
        TypeError, ValueError: arguments that do not fit.
    """
    name = "attention_backward"
    scale = check_attention(name, q, k, v, mask, causal, scale, dropout_p, state)
    check_backward(name, grad, q, v, out, lse)
    check_mask_gradient(name, mask, mask_gradient)
    ext = extension_for(q)
    draw = _draw(name, ext, dropout_p, state, offset)
    dq, dk, dv = (empty(x, x.shape) for x in (q, k, v))
    scores = (*q.shape[:3], k.shape[2])
    ds = empty(q, scores, accumulator(q)) if mask_gradient else None
    config = _config(ext, name, config, q, k, v)
    if dq.size + dk.size + dv.size:
        record(name, grad, q, k, v, mask, config=config)
        ext.attention_backward(
            dq,
            dk,
            dv,
            ds,
            empty(q, q.shape[:3], accumulator(q)),
            *(addressable(x) for x in (grad, q, k, v, out)),
            lse if lse.flags.c_contiguous else lse.copy(),
            _broadcast(mask, scores),
            scale,
            causal,
            *draw,
            config,
            stream_of(q),
        )
    return dq, dk, dv, sum_to_mask(ds, mask) if mask_gradient else None
