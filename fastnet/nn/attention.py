"""Multi-head attention."""

from __future__ import annotations

import math
from typing import Any

from fastnet._tensor import Tensor
from fastnet.errors import InputError
from fastnet.nn import functional as F
from fastnet.nn import init
from fastnet.nn.attention_backends import SDPBackend as SDPBackend
from fastnet.nn.attention_backends import sdpa_kernel as sdpa_kernel
from fastnet.nn.linear import NonDynamicallyQuantizableLinear
from fastnet.nn.module import Module
from fastnet.nn.parameter import Parameter
from fastnet.ops.creation import empty, zeros
from fastnet.ops.padding import pad
from fastnet.ops.shape import cat


def _additive(mask: Tensor | None, name: str, dtype: Any) -> Tensor | None:
    """A mask as numbers to add to scores: a bool mask forbids where it is True."""
    if mask is None:
        return None
    if mask.dtype.name == "bool":
        return zeros(*mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -math.inf)
    if not mask.dtype.is_floating_point:
        raise InputError(f"only bool and floating types of {name} are supported")
    return mask.to(dtype)


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """What ``MultiheadAttention`` computes; arguments as ``torch.nn.functional.multi_head_attention_forward``'s.

    Args:
        query, key, value: (L, N, E), (S, N, Ek), (S, N, Ev), or without N.
        key_padding_mask: (N, S) or (S,): keys that nobody attends to (bool, True), or numbers added to their scores.
        attn_mask: (L, S) or (N * num_heads, L, S): likewise for pairs.
        need_weights: whether to return the probabilities, for which the matrix of scores is made.
        is_causal: says that attn_mask is causal; without need_weights and key_padding_mask it is then not read.

    Returns:
        (L, N, E) or (L, E); probabilities (N, L, S), their mean over the heads, or (N, num_heads, L, S), or None.
    """
    batched = query.dim() == 3
    if query.dim() not in (2, 3) or key.dim() != query.dim() or value.dim() != query.dim():
        raise InputError(
            f"query should be unbatched 2D or batched 3D tensor and key and value alike, but received {query.dim()}-D, "
            f"{key.dim()}-D and {value.dim()}-D tensors"
        )
    if not batched:
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))
        if key_padding_mask is not None:
            key_padding_mask = key_padding_mask.unsqueeze(0)
    length, batch, embed_dim = query.shape
    if embed_dim != embed_dim_to_check:
        raise InputError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {embed_dim}")
    head_dim = embed_dim // num_heads
    if head_dim * num_heads != embed_dim:
        raise InputError(f"embed_dim {embed_dim} not divisible by num_heads {num_heads}")
    if key.shape[:2] != value.shape[:2]:
        raise InputError(f"key's sequence and batch dims {key.shape[:2]} do not match value's {value.shape[:2]}")
    if is_causal and attn_mask is None:
        raise InputError("Need attn_mask if specifying the is_causal hint.")

    q, k, v = _projected(
        query,
        key,
        value,
        [q_proj_weight, k_proj_weight, v_proj_weight] if use_separate_proj_weight else in_proj_weight,
        in_proj_bias,
    )
    causal = is_causal and key_padding_mask is None and not need_weights
    mask = None if causal else _merged_mask(attn_mask, key_padding_mask, num_heads, (length, batch, key.shape[0]), q)
    if bias_k is not None and bias_v is not None:
        k, v = cat([k, bias_k.repeat(1, batch, 1)]), cat([v, bias_v.repeat(1, batch, 1)])
        mask = None if mask is None else pad(mask, (0, 1))
    # (N, heads, L, head_dim)
    q = q.reshape(length, batch, num_heads, head_dim).permute(1, 2, 0, 3)
    k = _heads(k, batch, num_heads, head_dim) if static_k is None else static_k.reshape(batch, num_heads, -1, head_dim)
    v = _heads(v, batch, num_heads, head_dim) if static_v is None else static_v.reshape(batch, num_heads, -1, head_dim)
    if add_zero_attn:
        nothing = zeros(batch, num_heads, 1, head_dim, dtype=k.dtype, device=k.device)
        k, v = cat([k, nothing], dim=2), cat([v, nothing], dim=2)
        mask = None if mask is None else pad(mask, (0, 1))
    if not training:
        dropout_p = 0.0

    weights = None
    if need_weights:
        scores = (q * (1 / math.sqrt(head_dim))) @ k.transpose(-2, -1)
        weights = F.softmax(scores if mask is None else scores + mask, dim=-1)
        if dropout_p > 0:
            weights = F.dropout(weights, dropout_p)
        out = weights @ v
        weights = weights.mean(dim=1) if average_attn_weights else weights
        if not batched:
            weights = weights.squeeze(0)
    else:
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout_p, causal)
    out = F.linear(out.permute(2, 0, 1, 3).reshape(length * batch, embed_dim), out_proj_weight, out_proj_bias)
    out = out.reshape(length, batch, out.shape[1])
    return (out if batched else out.squeeze(1)), weights


def _heads(x: Tensor, batch: int, num_heads: int, head_dim: int) -> Tensor:
    return x.reshape(x.shape[0], batch, num_heads, head_dim).permute(1, 2, 0, 3)


def _projected(query: Tensor, key: Tensor, value: Tensor, weights: Any, bias: Tensor | None) -> list[Tensor]:
    """Queries, keys and values: one product where they come from the same tensor."""
    biases = [None] * 3 if bias is None else list(bias.chunk(3))
    if isinstance(weights, list):
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]
    if query is key and key is value:
        return list(F.linear(query, weights, bias).chunk(3, dim=-1))
    parts = zip((query, key, value), weights.chunk(3), biases, strict=True)
    return [F.linear(x, w, b) for x, w, b in parts]


def _merged_mask(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, num_heads: int, sizes: tuple[int, int, int], q: Tensor
) -> Tensor | None:
    """Both masks as numbers to add, shaped to broadcast to (N, heads, L, S)."""
    length, batch, source = sizes
    mask = _additive(attn_mask, "attn_mask", q.dtype)
    if mask is not None:
        wanted = (length, source) if mask.dim() == 2 else (batch * num_heads, length, source)
        if tuple(mask.shape) != wanted:
            raise InputError(
                f"The shape of the {mask.dim()}D attn_mask is {tuple(mask.shape)}, but should be {wanted}."
            )
        mask = mask.reshape(batch, num_heads, length, source) if mask.dim() == 3 else mask[None, None]
    padding = _additive(key_padding_mask, "key_padding_mask", q.dtype)
    if padding is None:
        return mask
    if tuple(padding.shape) != (batch, source):
        raise InputError(f"expecting key_padding_mask shape of {(batch, source)}, but got {tuple(padding.shape)}")
    padding = padding[:, None, None, :]
    return padding if mask is None else mask + padding


class MultiheadAttention(Module):
    """Attention of several heads, each with its own projections (Vaswani et al. 2017, section 3.2.2).

    Args:
        embed_dim: size of the queries and the result; num_heads heads share it.
        num_heads: a divisor of embed_dim.
        dropout: probability that a probability is dropped in training.
        bias: whether the projections have biases.
        add_bias_kv: whether a learned key and value are appended.
        add_zero_attn: whether a key and value of zeros are appended.
        kdim, vdim: sizes of keys and values; None for embed_dim.
        batch_first: whether tensors are (N, L, E) rather than (L, N, E).
        device, dtype: of the parameters.

    >>> import fastnet
    >>> attention = fastnet.nn.MultiheadAttention(8, 2, batch_first=True)
    >>> x = fastnet.ones(3, 5, 8)
    >>> [tuple(y.shape) for y in attention(x, x, x)]
    [(3, 5, 8), (3, 5, 5)]
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise InputError(
                f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and num_heads={num_heads} "
                "instead"
            )
        if embed_dim % num_heads:
            raise InputError("embed_dim must be divisible by num_heads")
        made: Any = {"device": device, "dtype": dtype}
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        if self._qkv_same_embed_dim:
            self.in_proj_weight = Parameter(empty(3 * embed_dim, embed_dim, **made))
            for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
                self.register_parameter(name, None)
        else:
            self.q_proj_weight = Parameter(empty(embed_dim, embed_dim, **made))
            self.k_proj_weight = Parameter(empty(embed_dim, self.kdim, **made))
            self.v_proj_weight = Parameter(empty(embed_dim, self.vdim, **made))
            self.register_parameter("in_proj_weight", None)
        self.register_parameter("in_proj_bias", Parameter(empty(3 * embed_dim, **made)) if bias else None)
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias=bias, **made)
        self.bias_k = Parameter(empty(1, 1, embed_dim, **made)) if add_bias_kv else None
        self.bias_v = Parameter(empty(1, 1, embed_dim, **made)) if add_bias_kv else None
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for learned in (self.bias_k, self.bias_v):
            if learned is not None:
                init.xavier_normal_(learned)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The result and the probabilities (None unless ``need_weights``); see ``multi_head_attention_forward``."""
        flip = self.batch_first and query.dim() == 3
        if flip:
            if query is key and key is value:
                query = key = value = query.transpose(0, 1)
            else:
                query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        out, weights = multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim,
            q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return (out.transpose(0, 1) if flip else out), weights
