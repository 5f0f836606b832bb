"""Softmax, its gradient, and cross-entropy with its gradient in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnet import kernels, reference

from . import shapes
from .cases import EPSILON, Case, dtype_of, load_torch, ours, peers


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """Rows of scores."""
    torch = load_torch()

    def softmax(x: Any) -> Any:
        return torch.softmax(x, 1)

    def softmax_backward(g: Any, y: Any) -> Any:
        return torch.ops.aten._softmax_backward_data(g, y, 1, y.dtype)

    def cross_entropy(x: Any, t: Any) -> Any:
        # Loss and gradient, as our one pass gives them. In eager mode 16-bit losses would be rounded: log-softmax wide.
        logp = torch.log_softmax(x.float(), 1)
        loss = torch.nn.functional.nll_loss(logp, t, reduction="none")
        gradient = logp.exp()
        gradient.scatter_add_(1, t[:, None], torch.full_like(gradient[:, :1], -1.0))
        return loss, gradient.to(x.dtype)

    for dtype in dtypes:
        size = dtype_of(dtype).itemsize
        for r, c in shapes.rows(sets):
            notes: list[str] = []
            common: dict[str, Any] = {
                "config": lambda e, r=r, c=c: e.softmax_config(r, c, 1),
                # Of numbers up to 1: a sum of c exponentials, each within a few units in the last place of float32, and
                # their arguments, up to 16, as far off.
                "absolute": 32 * EPSILON["float32"],
                "relative": 2 * EPSILON[dtype] + (32 + c**0.5) * EPSILON["float32"],
                "notes": notes,
            }
            yield Case(
                "softmax",
                f"{r}x{c}",
                dtype,
                lambda source, r=r, c=c, dtype=dtype: (source.normal((r, c), dtype),),
                ours(kernels.softmax) + peers(reference.softmax, softmax, wanted, notes),
                spec=reference.softmax,
                bytes=2 * size * r * c,
                kernels=("softmax_forward", "softmax_kernel"),
                counted="softmax",
                **common,
            )
            yield Case(
                "softmax_backward",
                f"{r}x{c}",
                dtype,
                lambda source, r=r, c=c, dtype=dtype: (
                    source.normal((r, c), dtype),
                    reference.softmax(source.normal((r, c), dtype)),
                ),
                ours(kernels.softmax_backward) + peers(reference.softmax_backward, softmax_backward, wanted, []),
                spec=reference.softmax_backward,
                bytes=3 * size * r * c,
                kernels=("softmax_backward",),
                counted="softmax_backward",
                **common,
            )
            yield Case(
                "cross_entropy",
                f"{r}x{c}",
                dtype,
                lambda source, r=r, c=c, dtype=dtype: (source.normal((r, c), dtype), source.integers(c, (r,))),
                ours(lambda x, t: kernels.cross_entropy(x, t, with_gradient=True))
                + peers(lambda x, t: reference.cross_entropy(x, t, with_gradient=True), cross_entropy, wanted, []),
                spec=lambda x, t: reference.cross_entropy(x, t, with_gradient=True),
                bytes=2 * size * r * c + 12 * r,
                kernels=("cross_entropy",),
                counted="cross_entropy",
                **common,
            )
