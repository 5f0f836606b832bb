"""What the host does before a kernel runs: one small eager operation against the array library's own call, and a
training step of the mlp recipe's network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastnet
from fastnet import cuda
from fastnet.models import MLP

from .cases import OURS, Case, Implementation, Source, load_torch


def _device() -> str:
    return "cuda" if cuda.is_available() else "cpu"


def _eager() -> Iterator[Case]:
    where = _device()
    x = fastnet.ones(10, device=where)
    g = fastnet.ones(10, device=where, requires_grad=True)
    a = Source().zeros((10,)) + 1
    xp: Any = Source().xp
    torch = load_torch()
    t: Any = None if isinstance(torch, str) else torch.ones(10, device=where)
    r: Any = None if isinstance(torch, str) else torch.ones(10, device=where, requires_grad=True)
    calls: dict[str, tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]] = {
        "add": (lambda: x + x, lambda: xp.add(a, a), lambda: t + t),
        "add recorded": (lambda: g + x, lambda: xp.add(a, a), lambda: r + t),
        "mul recorded": (lambda: g * x, lambda: xp.multiply(a, a), lambda: r * t),
        "relu recorded": (lambda: fastnet.relu(g), lambda: xp.maximum(a, 0), lambda: torch.relu(r)),  # type: ignore[union-attr]
        "sum recorded": (lambda: g.sum(), lambda: a.sum(), lambda: r.sum()),
    }
    for name, (ours, in_array_library, theirs) in calls.items():
        found = [
            Implementation(OURS, ours, "host"),
            Implementation("NumPy" if xp is np else "CuPy", in_array_library, "host"),
        ]
        if t is not None:
            found.append(Implementation("PyTorch", theirs, "host"))
        yield Case(f"eager {name}", "10", "float32", lambda source: (), found, ceiling="", host=True)


def _step(lib: Any, model: Any) -> Callable[[], None]:
    optimizer = lib.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, y = lib.randn(32, 64, device=_device()), lib.randint(0, 10, (32,), device=_device())

    def step() -> None:
        loss = lib.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if _device() == "cuda":
            loss.item()  # waits: the step's time, not that of giving it to the GPU

    return step


def _mlp() -> Iterator[Case]:
    torch = load_torch()
    found = [Implementation(OURS, _step(fastnet, MLP(64, 10, hidden=(128, 64), dropout=0.2).to(_device())), "host")]
    if not isinstance(torch, str):
        n: Any = torch.nn
        layers = [n.Linear(64, 128), n.ReLU(), n.Dropout(0.2), n.Linear(128, 64), n.ReLU(), n.Dropout(0.2)]
        found.append(
            Implementation("PyTorch", _step(torch, n.Sequential(*layers, n.Linear(64, 10)).to(_device())), "host")
        )
    forward = 2 * 32 * (64 * 128 + 128 * 64 + 64 * 10)
    flops = 3 * forward - 2 * 32 * 64 * 128  # no gradient of the input
    yield Case("mlp step", "32x64-128-64-10", "float32", lambda source: (), found, flops=flops, ceiling="", host=True)


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """Whatever the sets and dtypes: the host's own time is the same for all of them."""
    yield from _eager()
    yield from _mlp()
