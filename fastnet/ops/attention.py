"""Attention as a differentiable operation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._random import default_generator
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.kernels._runtime import implementation
from fastnet.kernels.dropout import check_probability
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
    ) -> Any:
        ctx.options = {"causal": causal, "scale": scale, "dropout_p": dropout_p, "state": state, "offset": offset}
        out, lse = implementation(q).attention(q, k, v, mask=mask, **ctx.options)
        ctx.save(q, k, v, mask, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        q, k, v, mask, out, lse = ctx.saved
        gradients = implementation(grad).attention_backward(
            grad, q, k, v, out, lse, mask=mask, mask_gradient=ctx.needs_input_grad[3], **ctx.options
        )
        return *gradients, None, None, None, None, None


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
            raise RuntimeError(f"{name}: {argument} has {x.dim()} dimensions, expected at least 2 (L, E)")
        if x.dtype is not query.dtype:
            raise RuntimeError(
                f"{name}: expected query, key and value to have the same dtype, but got {query.dtype}, {key.dtype} "
                f"and {value.dtype}"
            )
    p = check_probability(name, dropout_p)
    if is_causal and attn_mask is not None:
        raise RuntimeError(f"{name}: explicit attn_mask should not be set when is_causal=True")
    heads = [x.shape[-3] if x.dim() > 2 else 1 for x in (query, key, value)]
    if not enable_gqa and len(set(heads)) > 1 and 1 not in heads:
        raise RuntimeError(f"{name}: query, key and value have {heads} heads; enable_gqa=True lets them differ")
    leading = _broadcast([tuple(x.shape[:-3]) for x in (query, key, value)], name)
    batch = math.prod(leading)
    if not enable_gqa:
        heads = [max(heads)] * 3
    q, k, v = (
        reshape(_expanded(x, (*leading, h, *x.shape[-2:])), (batch, h, *x.shape[-2:]))
        for x, h in zip((query, key, value), heads, strict=True)
    )
    if enable_gqa and heads[1] != heads[2]:
        raise RuntimeError(f"{name}: key has {heads[1]} heads, value {heads[2]}, expected the same number")
    mask = _mask(name, attn_mask, leading, (batch, heads[0], q.shape[2], k.shape[2]), query)
    state = default_generator.state_array(namespace(query._data)) if p else None
    out = Attention.apply(
        q,
        k,
        v,
        mask,
        "top_left" if is_causal else "none",
        scale,
        p,
        state,
        default_generator.next_offset() if p else 0,
    )
    shape = (*leading, heads[0], *out.shape[-2:]) if query.dim() > 2 or max(heads) > 1 else tuple(out.shape[-2:])
    return reshape(out, shape)


def _broadcast(shapes: list[tuple[int, ...]], name: str) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise RuntimeError(f"{name}: the batch dimensions of query, key and value do not fit: {shapes}") from None


def _expanded(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if tuple(x.shape) == shape else expand(x, shape)


def _mask(
    name: str, mask: Tensor | None, leading: tuple[int, ...], scores: tuple[int, ...], query: Tensor
) -> Tensor | None:
    """attn_mask with four dimensions, those that are repeated left as one where that needs no copy."""
    if mask is None:
        return None
    if mask.dtype.name != "bool" and not mask.dtype.is_floating_point:
        raise RuntimeError(f"{name}: attn_mask has dtype {mask.dtype}, expected bool or query's {query.dtype}")
    if mask.dtype.is_floating_point and mask.dtype is not query.dtype and mask.dtype.name != "float32":
        raise RuntimeError(f"{name}: attn_mask has dtype {mask.dtype}, expected bool or query's {query.dtype}")
    wanted = (*leading, *scores[1:])
    shape = tuple(mask.shape)
    full = (1,) * (len(wanted) - len(shape)) + shape
    if len(full) != len(wanted) or any(m not in (1, n) for m, n in zip(full, wanted, strict=True)):
        raise RuntimeError(f"{name}: attn_mask has shape {list(shape)}, expected one that broadcasts to {list(wanted)}")
    front, rest = full[:-3], full[-3:]
    if all(n == 1 for n in front):
        return reshape(mask, (1, *rest))
    return reshape(_expanded(reshape(mask, full), (*leading, *rest)), (scores[0], *rest))
