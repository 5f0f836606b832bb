"""Attention, full and causal: forward, and forward with the gradients of queries, keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnet import kernels, reference

from . import shapes
from .cases import EPSILON, Case, Source, dtype_of, load_torch, ours, peers

CAUSAL = {False: "none", True: "top_left"}


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """Self-attention of the sets' sizes."""
    for dtype in dtypes:
        for heads in shapes.attention(sets):
            for causal in (False, True):
                yield from _cases(heads, causal, dtype, wanted)


def _cases(heads: shapes.Heads, causal: bool, dtype: str, wanted: tuple[str, ...]) -> Iterator[Case]:
    torch, shape = load_torch(), tuple(heads)
    size = dtype_of(dtype).itemsize
    elements = heads.batch * heads.heads * heads.tokens * heads.width
    products = 4 * elements * heads.tokens / (2 if causal else 1)  # q k^T and p v

    def forward(q: Any, k: Any, v: Any, *, by: Any = kernels) -> Any:
        return by.attention(q, k, v, causal=CAUSAL[causal])[0]

    def training(q: Any, k: Any, v: Any, g: Any, *, by: Any = kernels) -> Any:
        out, lse = by.attention(q, k, v, causal=CAUSAL[causal])
        return (out, *by.attention_backward(g, q, k, v, out, lse, causal=CAUSAL[causal])[:3])

    def forward_in_torch(q: Any, k: Any, v: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    def training_in_torch(q: Any, k: Any, v: Any, g: Any) -> Any:
        leaves = [x.detach().requires_grad_() for x in (q, k, v)]
        out = forward_in_torch(*leaves)
        return (out, *torch.autograd.grad(out, leaves, g))

    def inputs(count: int) -> Any:
        return lambda source: _inputs(source, count, shape, dtype)

    notes: list[str] = []
    common: dict[str, Any] = {
        "relative": 2 * EPSILON[dtype],
        "ceiling": "matmul",
        "notes": notes,
    }
    name = "causal_attention" if causal else "attention"
    yield Case(
        name,
        str(heads),
        dtype,
        inputs(3),
        ours(forward) + peers(lambda *x: forward(*x, by=reference), forward_in_torch, wanted, notes),
        spec=lambda *x: forward(*x, by=reference),
        flops=products,
        bytes=4 * size * elements,
        # A result is a mean of values below 6; probabilities are rounded to the operands' dtype before the second
        # product, or not.
        absolute=4 * EPSILON[dtype] + 64 * EPSILON["float32"],
        config=lambda e: e.attention_config(heads.width, heads.width, dtype),
        kernels=("attention_",),
        counted="attention",
        **common,
    )
    yield Case(
        f"{name}_training",
        str(heads),
        dtype,
        inputs(4),
        ours(training) + peers(lambda *x: training(*x, by=reference), training_in_torch, wanted, []),
        spec=lambda *x: training(*x, by=reference),
        flops=3.5 * products,  # five more products of the same size
        bytes=12 * size * elements,
        # The first keys of a causal product gather gradients, with weights that sum to the logarithm of its length.
        absolute=24 * EPSILON[dtype] + 256 * EPSILON["float32"],
        config=lambda e: e.attention_config(heads.width, heads.width, dtype, True),
        kernels=("attention_",),
        counted="attention_backward",
        **common,
    )


def _inputs(source: Source, count: int, shape: tuple[int, ...], dtype: str) -> tuple:
    return tuple(source.normal(shape, dtype) for _ in range(count))
