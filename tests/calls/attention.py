"""Attention and transformers."""

from __future__ import annotations

from typing import Any

from calls import Call, Inputs


def _sdpa(t: Any) -> Any:
    return t.nn.functional.scaled_dot_product_attention


def _qkv(I: Inputs, batch: int = 2, heads: int = 2, queries: int = 3, keys: int = 4, d: int = 5) -> tuple:
    return I(batch, heads, queries, d), I(batch, heads, keys, d), I(batch, heads, keys, d)


def _module(t: Any, I: Inputs, module: Any, *args: Any, **kwargs: Any) -> Any:
    """The result of a module without dropout whose parameters are small numbers, the same for both libraries."""
    module = module.to(getattr(t, I.dtype)).eval()
    for n, p in enumerate(module.parameters()):
        values = (t.arange(p.numel()) * 7 + n * 3) % 11
        p.data = ((values.to(getattr(t, I.dtype)) - 5) / 16).reshape(p.shape)
    out = module(*args, **kwargs)
    return out[0] if isinstance(out, tuple) else out


def _attend(
    t: Any, I: Inputs, *shapes: tuple, weights: bool = False, options: dict | None = None, **kwargs: Any
) -> Any:
    """MultiheadAttention of one tensor with itself, or of three."""
    inputs = [I(*s) for s in shapes]
    inputs = inputs * 3 if len(inputs) == 1 else inputs
    kwargs["need_weights"] = weights
    return _module(t, I, t.nn.MultiheadAttention(4, 2, **(options or {})), *inputs, **kwargs)


def _causal(t: Any, n: int) -> Any:
    return t.triu(t.ones(n, n), diagonal=1).bool()


def _encoder(t: Any, I: Inputs, **options: Any) -> Any:
    return t.nn.TransformerEncoderLayer(4, 2, 6, **options)


def _decoder(t: Any, I: Inputs, **options: Any) -> Any:
    return t.nn.TransformerDecoderLayer(4, 2, 6, **options)


DIFFERENTIABLE: dict[str, Call] = {
    "sdpa": lambda t, I: _sdpa(t)(*_qkv(I)),
    "sdpa three dimensions": lambda t, I: _sdpa(t)(I(2, 3, 5), I(2, 4, 5), I(2, 4, 6)),
    "sdpa causal": lambda t, I: _sdpa(t)(*_qkv(I, queries=5, keys=5), is_causal=True),
    "sdpa causal oblong": lambda t, I: _sdpa(t)(*_qkv(I, queries=5, keys=3), is_causal=True),
    "sdpa bool mask": lambda t, I: _sdpa(t)(*_qkv(I), attn_mask=t.tensor([[True, False, True, True]] * 3)),
    "sdpa mask by batch": lambda t, I: _sdpa(t)(*_qkv(I), I.mask(2, 1, 1, 4) | t.tensor([True, False, False, False])),
    "sdpa additive mask": lambda t, I: _sdpa(t)(*_qkv(I), I(3, 4)),
    "sdpa additive mask by head": lambda t, I: _sdpa(t)(*_qkv(I), attn_mask=I(2, 1, 4)),
    "sdpa scale": lambda t, I: _sdpa(t)(*_qkv(I), scale=0.7),
    "sdpa grouped heads": lambda t, I: _sdpa(t)(I(1, 4, 3, 5), I(1, 2, 4, 5), I(1, 2, 4, 5), enable_gqa=True),
    "sdpa five dimensions": lambda t, I: _sdpa(t)(I(2, 1, 2, 3, 4), I(2, 1, 2, 3, 4), I(2, 1, 2, 3, 4)),
    "MultiheadAttention": lambda t, I: _attend(t, I, (3, 2, 4)),
    "MultiheadAttention weights": lambda t, I: _attend(t, I, (3, 2, 4), weights=True),
    "MultiheadAttention three": lambda t, I: _attend(t, I, (3, 2, 4), (5, 2, 4), (5, 2, 4)),
    "MultiheadAttention unbatched": lambda t, I: _attend(t, I, (3, 4)),
    "MultiheadAttention batch first": lambda t, I: _attend(t, I, (2, 3, 4), options={"batch_first": True}),
    "MultiheadAttention kdim": lambda t, I: _attend(
        t, I, (3, 2, 4), (5, 2, 3), (5, 2, 6), options={"kdim": 3, "vdim": 6}
    ),
    "MultiheadAttention no bias": lambda t, I: _attend(t, I, (3, 2, 4), options={"bias": False}),
    "MultiheadAttention bias_kv": lambda t, I: _attend(t, I, (3, 2, 4), options={"add_bias_kv": True}),
    "MultiheadAttention zero": lambda t, I: _attend(t, I, (3, 2, 4), options={"add_zero_attn": True}),
    "MultiheadAttention mask": lambda t, I: _attend(t, I, (3, 2, 4), attn_mask=_causal(t, 3)),
    "MultiheadAttention causal": lambda t, I: _attend(t, I, (3, 2, 4), attn_mask=_causal(t, 3), is_causal=True),
    "MultiheadAttention mask by head": lambda t, I: _attend(
        t, I, (3, 2, 4), weights=True, attn_mask=_causal(t, 3).expand(4, 3, 3)
    ),
    "MultiheadAttention padding": lambda t, I: _attend(
        t, I, (3, 2, 4), key_padding_mask=t.tensor([[False, False, True], [False, True, True]])
    ),
    "MultiheadAttention both": lambda t, I: _attend(
        t, I, (3, 2, 4), weights=True, attn_mask=_causal(t, 3), key_padding_mask=t.tensor([[False, False, True]] * 2)
    ),
    "TransformerEncoderLayer": lambda t, I: _module(t, I, _encoder(t, I), I(3, 2, 4)),
    "TransformerEncoderLayer gelu": lambda t, I: _module(t, I, _encoder(t, I, activation="gelu"), I(3, 2, 4)),
    "TransformerEncoderLayer first": lambda t, I: _module(
        t, I, _encoder(t, I, norm_first=True, batch_first=True), I(2, 3, 4)
    ),
    "TransformerEncoderLayer causal": lambda t, I: _module(
        t, I, _encoder(t, I), I(3, 2, 4), src_mask=t.nn.Transformer.generate_square_subsequent_mask(3)
    ),
    "TransformerEncoderLayer no bias": lambda t, I: _module(t, I, _encoder(t, I, bias=False), I(3, 2, 4)),
    "TransformerEncoder": lambda t, I: _module(
        t, I, t.nn.TransformerEncoder(_encoder(t, I), 2, t.nn.LayerNorm(4), enable_nested_tensor=False), I(3, 2, 4)
    ),
    "TransformerDecoderLayer": lambda t, I: _module(t, I, _decoder(t, I), I(3, 2, 4), I(5, 2, 4)),
    "TransformerDecoderLayer first": lambda t, I: _module(
        t, I, _decoder(t, I, norm_first=True), I(3, 2, 4), I(5, 2, 4), tgt_mask=_causal(t, 3)
    ),
    "Transformer": lambda t, I: _module(
        t, I, t.nn.Transformer(4, 2, 1, 1, 6, batch_first=True), I(2, 3, 4), I(2, 5, 4)
    ),
}

PLAIN: dict[str, Call] = {
    "sdpa row of nothing": lambda t, I: (
        _sdpa(t)(*_qkv(I), attn_mask=t.tensor([[True] * 4, [False] * 4, [True, False, False, True]])) != 0
    ),
    "sdpa no keys": lambda t, I: _sdpa(t)(I(1, 1, 2, 4), I(1, 1, 0, 4), I(1, 1, 0, 4)),
    "subsequent mask": lambda t, I: t.nn.Transformer.generate_square_subsequent_mask(4),
    "attention weights": lambda t, I: (
        [m.eval()(x, x, x)[1].shape for m in [t.nn.MultiheadAttention(4, 2)] for x in [I(3, 2, 4)]] and t.ones(1)
    ),
    "Transformer keys": lambda t, I: t.tensor([len(t.nn.Transformer(4, 2, 2, 2, 6).state_dict())]),
}

REFUSED: dict[str, Call] = {
    "sdpa mask and causal": lambda t, I: _sdpa(t)(*_qkv(I), attn_mask=I(3, 4), is_causal=True),
    "sdpa head dimension": lambda t, I: _sdpa(t)(I(1, 1, 2, 4), I(1, 1, 2, 5), I(1, 1, 2, 5)),
    "sdpa dtypes": lambda t, I: _sdpa(t)(I(1, 1, 2, 4), I(1, 1, 2, 4).double(), I(1, 1, 2, 4)),
    "sdpa mask shape": lambda t, I: _sdpa(t)(*_qkv(I), attn_mask=I(2, 4)),
    "sdpa mask dtype": lambda t, I: _sdpa(t)(*_qkv(I), attn_mask=t.ones(3, 4, dtype=t.int64)),
    "sdpa dropout": lambda t, I: _sdpa(t)(*_qkv(I), dropout_p=1.5),
    "sdpa grouped heads": lambda t, I: _sdpa(t)(I(1, 4, 3, 5), I(1, 3, 4, 5), I(1, 3, 4, 5), enable_gqa=True),
    "MultiheadAttention heads": lambda t, I: t.nn.MultiheadAttention(5, 2),
    "MultiheadAttention none": lambda t, I: t.nn.MultiheadAttention(0, 2),
    "MultiheadAttention size": lambda t, I: t.nn.MultiheadAttention(4, 2)(I(3, 2, 6), I(3, 2, 6), I(3, 2, 6)),
    "MultiheadAttention mask shape": lambda t, I: _attend(t, I, (3, 2, 4), attn_mask=_causal(t, 2)),
    "Transformer sizes": lambda t, I: t.nn.Transformer(4, 2, 1, 1, 6, batch_first=True)(I(3, 2, 4), I(3, 2, 6)),
    "Transformer batch": lambda t, I: t.nn.Transformer(4, 2, 1, 1, 6, batch_first=True)(I(3, 2, 4), I(1, 2, 4)),
    "Transformer activation": lambda t, I: t.nn.TransformerEncoderLayer(4, 2, activation="tanh"),
}
