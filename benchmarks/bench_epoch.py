"""A training epoch of a fully connected network on the CPU: loader, forward, backward and optimizer, by fastnet's array
code and by PyTorch, each with its own default number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import fastnet
import fastnet.utils.data

from .cases import OURS, Case, Implementation, load_torch


def _epoch(lib: Any, x: np.ndarray, y: np.ndarray, sizes: Sequence[int], batch: int, dropout: float) -> Callable:
    n = lib.nn
    layers: list[Any] = [n.Flatten()]
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [n.Linear(inputs, outputs), n.ReLU()]
        if dropout:
            layers.append(n.Dropout(dropout))
    model = n.Sequential(*layers, n.Linear(sizes[-2], sizes[-1]))
    loss_of = n.CrossEntropyLoss()
    optimizer = lib.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
    data = lib.utils.data
    loader = data.DataLoader(data.TensorDataset(lib.from_numpy(x), lib.from_numpy(y)), batch, shuffle=True)

    def epoch() -> None:
        for a, b in loader:
            loss = loss_of(model(a), b)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def _case(name: str, rows: int, sizes: tuple[int, ...], batch: int, dropout: float) -> Case:
    rng = np.random.default_rng(0)
    x, y = rng.random((rows, sizes[0]), np.float32), rng.integers(0, sizes[-1], rows)
    found = [Implementation(OURS, _epoch(fastnet, x, y, sizes, batch, dropout), "host")]
    torch = load_torch()
    if not isinstance(torch, str):
        import torch.utils.data

        found.append(Implementation("PyTorch", _epoch(torch, x, y, sizes, batch, dropout), "host"))
    products = [2 * rows * a * b for a, b in pairwise(sizes)]
    flops = 3 * sum(products) - products[0]  # no gradient of the input
    shape = f"{rows}/{batch} {'-'.join(map(str, sizes))}"
    return Case(name, shape, "float32", lambda source: (), found, flops=flops, ceiling="", host=True)


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """On the CPU, whatever the sets and dtypes: the digits with the mlp recipe's network, and MNIST's sizes."""
    yield _case("mlp epoch", 1257, (64, 128, 64, 10), 64, 0.2)
    yield _case("mlp epoch", 10_000, (784, 256, 128, 10), 128, 0.0)
