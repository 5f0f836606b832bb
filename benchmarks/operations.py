"""The cases of every operation: our kernels, the array library's or the reference, and PyTorch where it is
installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnet import cuda, kernels, reference

from .harness import Case, rotating
from .shapes import MATMUL, ROWS

try:
    import torch
except ImportError:
    torch = None


def _arrays(rng: np.random.Generator, *shapes: tuple[int, ...], dtype: Any = np.float32) -> tuple:
    xs = tuple(rng.standard_normal(s).astype(dtype) for s in shapes)
    if cuda.is_available():
        import cupy

        return tuple(cupy.asarray(x) for x in xs)
    return xs


def _case(
    operation: str,
    shape: Any,
    make: Callable[[], tuple],
    ours: Callable,
    spec: Callable,
    theirs: Callable | None,
    nbytes: float,
    flops: float = 0.0,
) -> Case:
    on_gpu = cuda.is_available()
    run: dict[str, Callable[[], Any]] = {}
    if on_gpu:
        run["fastnet native"] = rotating(make, ours, nbytes, on_gpu)
    run["CuPy" if on_gpu else "fastnet reference"] = rotating(make, spec, nbytes, on_gpu)
    if torch is not None and theirs is not None:
        run["PyTorch"] = rotating(lambda: tuple(torch.from_dlpack(x) for x in make()), theirs, nbytes, on_gpu)
    return Case(operation, "x".join(map(str, shape)), "float32", run, flops, nbytes)


def matmul(sets: list[str]) -> Iterator[Case]:
    """Plain products."""
    rng = np.random.default_rng(0)
    for m, n, k in [s for name in sets for s in MATMUL.get(name, [])]:
        yield _case(
            "matmul",
            (m, n, k),
            lambda m=m, n=n, k=k: _arrays(rng, (m, k), (k, n)),
            kernels.matmul,
            reference.matmul,
            lambda a, b: a @ b,
            4 * (m * k + k * n + m * n),
            2 * m * n * k,
        )


def _rows(sets: list[str]) -> list[tuple[int, int]]:
    return [s for name in sets for s in ROWS.get(name, [])]


def pointwise(sets: list[str]) -> Iterator[Case]:
    """Bias and GELU in one pass."""
    rng = np.random.default_rng(0)
    for r, c in _rows(sets):

        def theirs(x: Any, b: Any) -> Any:
            return torch.nn.functional.gelu(x + b)

        yield _case(
            "bias_gelu",
            (r, c),
            lambda r=r, c=c: _arrays(rng, (r, c), (c,)),
            lambda x, b: kernels.bias_activation(x, b, activation="gelu"),
            lambda x, b: reference.bias_activation(x, b, activation="gelu"),
            theirs,
            8 * r * c,
        )


def dropout(sets: list[str]) -> Iterator[Case]:
    """Dropout, p = 0.5."""
    rng = np.random.default_rng(0)
    state = _arrays(rng, (2,))[0].astype(np.uint64)
    for r, c in _rows(sets):

        def theirs(x: Any) -> Any:
            return torch.nn.functional.dropout(x, 0.5)

        yield _case(
            "dropout",
            (r, c),
            lambda r=r, c=c: _arrays(rng, (r, c)),
            lambda x: kernels.dropout(x, 0.5, state),
            lambda x: reference.dropout(x, 0.5, state),
            theirs,
            8 * r * c,
        )


def softmax(sets: list[str]) -> Iterator[Case]:
    """Softmax over rows."""
    rng = np.random.default_rng(0)
    for r, c in _rows(sets):

        def theirs(x: Any) -> Any:
            return torch.softmax(x, 1)

        yield _case(
            "softmax",
            (r, c),
            lambda r=r, c=c: _arrays(rng, (r, c)),
            kernels.softmax,
            reference.softmax,
            theirs,
            8 * r * c,
        )


def reduction(sets: list[str]) -> Iterator[Case]:
    """Column sums."""
    rng = np.random.default_rng(0)
    for r, c in _rows(sets):
        yield _case(
            "column_sum",
            (r, c),
            lambda r=r, c=c: _arrays(rng, (r, c)),
            kernels.column_sum,
            reference.column_sum,
            lambda x: x.sum(0),
            4 * r * c,
        )


def optim(sets: list[str]) -> Iterator[Case]:
    """SGD with momentum on one array; PyTorch's by its fused multi-tensor operations."""
    rng = np.random.default_rng(0)
    for r, c in _rows(sets):

        def step(implementation: Any) -> Callable:
            return lambda p, g, v: implementation.sgd_step([p], [g], [v], lr=1e-6, momentum=0.9)

        def theirs(p: Any, g: Any, v: Any) -> None:
            v.mul_(0.9).add_(g)
            p.add_(v, alpha=-1e-6)

        yield _case(
            "sgd_momentum",
            (r, c),
            lambda r=r, c=c: _arrays(rng, (r, c), (r, c), (r, c)),
            step(kernels),
            step(reference),
            theirs,
            20 * r * c,
        )


def overhead(sets: list[str]) -> Iterator[Case]:
    """What one small eager operation costs beyond the array library's call."""
    import fastnet

    x = fastnet.ones(10)
    g = fastnet.ones(10, requires_grad=True)
    a = x._data
    xp = np
    calls: dict[str, tuple[Callable, Callable]] = {
        "add": (lambda: x + x, lambda: xp.add(a, a)),
        "add recorded": (lambda: g + x, lambda: xp.add(a, a)),
        "mul recorded": (lambda: g * x, lambda: xp.multiply(a, a)),
        "relu recorded": (lambda: fastnet.relu(g), lambda: xp.maximum(a, 0)),
        "sum recorded": (lambda: g.sum(), lambda: a.sum()),
    }
    for name, (ours, theirs) in calls.items():
        yield Case(f"eager {name}", "10", "float32", {"fastnet": ours, "NumPy": theirs})


def mlp(sets: list[str]) -> Iterator[Case]:
    """One training step of the mlp recipe's network: forward, backward, SGD."""
    import fastnet
    from fastnet.models import MLP

    def steps(lib: Any, model: Any) -> Callable:
        optimizer = lib.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        x, y = lib.randn(32, 64), lib.randint(0, 10, (32,))

        def step() -> None:
            loss = lib.nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    run = {"fastnet": steps(fastnet, MLP(64, 10, hidden=(128, 64), dropout=0.2))}
    if torch is not None:
        n = torch.nn
        run["PyTorch"] = steps(
            torch,
            n.Sequential(
                n.Linear(64, 128),
                n.ReLU(),
                n.Dropout(0.2),
                n.Linear(128, 64),
                n.ReLU(),
                n.Dropout(0.2),
                n.Linear(64, 10),
            ),
        )
    forward = 2 * 32 * (64 * 128 + 128 * 64 + 64 * 10)
    yield Case("mlp step", "32x64-128-64-10", "float32", run, flops=3 * forward - 2 * 32 * 64 * 128)


OPERATIONS: dict[str, Callable[[list[str]], Iterator[Case]]] = {
    "dropout": dropout,
    "matmul": matmul,
    "mlp": mlp,
    "optim": optim,
    "overhead": overhead,
    "pointwise": pointwise,
    "reduction": reduction,
    "softmax": softmax,
}
