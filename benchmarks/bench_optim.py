"""Optimizer steps: one launch for all parameters of a model, against PyTorch's fused and multi-tensor ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnet import cuda, kernels, reference

from . import shapes
from .cases import EPSILON, Case, Source, dtype_of, load_torch, ours, peers

MOMENTUM, LR = 0.9, 2.0**-10


def _gpt2_parameters(width: int = 768, layers: int = 12) -> list[tuple[int, ...]]:
    """The parameters of GPT-2 124M, its embeddings first."""
    block = [(width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,), (width,), (width,),
             (4 * width, width), (4 * width,), (width, 4 * width), (width,)]  # fmt: skip
    return [(50304, width), (1024, width), *(block * layers), (width,), (width,)]


def _models(sets: list[str]) -> Iterator[tuple[str, list[tuple[int, ...]]]]:
    for r, c in shapes.rows([s for s in sets if s != "gpt2"]):
        yield f"{r}x{c}", [(r, c)]
    if "gpt2" in sets:
        yield "GPT-2 124M", _gpt2_parameters()


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """SGD with momentum, AdamW, and AdamW of gradients clipped to a norm."""
    torch = load_torch()
    on_gpu = cuda.is_available()

    def sgd(p: list, g: list, v: list, *, by: Any = kernels) -> None:
        by.sgd_step(p, g, v, lr=LR, momentum=MOMENTUM)

    def torch_sgd(p: list, g: list, v: list) -> None:
        torch._foreach_mul_(v, MOMENTUM)
        torch._foreach_add_(v, g)
        torch._foreach_add_(p, v, alpha=-LR)

    def adamw(p: list, g: list, m: list, v: list, steps: list, *, by: Any = kernels) -> None:
        by.adam_step(p, g, m, v, None, steps, lr=LR, weight_decay=0.01, decoupled_weight_decay=True)

    def torch_adamw(p: list, g: list, m: list, v: list, steps: list) -> None:
        torch.optim._functional.adamw(
            p, g, m, v, [], steps, foreach=None, fused=True, amsgrad=False, beta1=0.9, beta2=0.999, lr=LR,
            weight_decay=0.01, eps=1e-8, maximize=False,
        )  # fmt: skip

    def clipped(p: list, g: list, m: list, v: list, steps: list, *, by: Any = kernels) -> None:
        gradients = by.gradient_norm(g, max_norm=1.0)
        by.adam_step(
            p, g, m, v, None, steps, lr=LR, weight_decay=0.01, decoupled_weight_decay=True, gradients=gradients
        )

    def torch_clipped(p: list, g: list, m: list, v: list, steps: list) -> None:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(g)))
        torch_adamw(p, torch._foreach_mul(g, (1 / (norm + 1e-6)).clamp(max=1.0)), m, v, steps)

    for dtype in dtypes:
        size = dtype_of(dtype).itemsize
        for name, arrays in _models(sets):
            elements = sum(r[0] * (r[1] if len(r) > 1 else 1) for r in arrays)

            def lists(source: Source, states: int, arrays: Any = arrays, dtype: str = dtype) -> tuple:
                first = tuple([source.normal(s, dtype) for s in arrays] for _ in range(2))
                return (*first, *([source.zeros(s, dtype) for s in arrays] for _ in range(states)))

            def lists_and_steps(source: Source, arrays: Any = arrays, lists: Any = lists) -> tuple:
                return (*lists(source, 2), [source.zeros((1,)) for _ in arrays])

            notes: list[str] = []
            common: dict[str, Any] = {
                "config": lambda e, n=elements: e.optim_config(n),
                "kernels": ("optim", "sgd", "adam"),
                # PyTorch in eager mode rounds to the arrays' dtype after every operation, we once: three roundings of
                # numbers below 8.
                "absolute": 3 * 8 * EPSILON[dtype],
                "relative": 2 * EPSILON[dtype],
                "written": (0, 2),
                "notes": notes,
            }
            yield Case(
                "sgd_momentum",
                name,
                dtype,
                lambda source, lists=lists: lists(source, 1),
                ours(sgd) + peers(lambda *x: sgd(*x, by=reference), torch_sgd, wanted, notes),
                spec=lambda *x: sgd(*x, by=reference),
                bytes=5 * size * elements,
                counted="sgd_step",
                **common,
            )
            # Without a GPU PyTorch's fused AdamW takes no bfloat16 states of this kind: its time there proves nothing.
            yield Case(
                "adamw",
                name,
                dtype,
                lists_and_steps,
                ours(adamw) + peers(lambda *x: adamw(*x, by=reference), torch_adamw if on_gpu else None, wanted, notes),
                spec=lambda *x: adamw(*x, by=reference),
                bytes=7 * size * elements,
                counted="adam_step",
                **{**common, "written": (0, 2, 3)},
            )
            yield Case(
                "adamw_clipped",
                name,
                dtype,
                lists_and_steps,
                ours(clipped)
                + peers(lambda *x: clipped(*x, by=reference), torch_clipped if on_gpu else None, wanted, notes),
                spec=lambda *x: clipped(*x, by=reference),
                bytes=8 * size * elements,  # the gradients twice
                counted="adam_step",
                **{**common, "kernels": ("optim", "squares", "adam"), "written": (0, 2, 3)},
            )
