"""A training epoch on the CPU: loader, forward, backward and optimizer, by fastnet's array code and by PyTorch, each
with its own default number of threads. A fully connected network, a convolutional one (as the cnn recipe), recurrent
ones of series of differing lengths (as the rnn recipe) and of characters, the state carried from chunk to chunk (as the
lstm recipe)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import fastnet
import fastnet.utils.data

from .cases import OURS, Case, Implementation, load_torch


def _mlp(lib: Any, sizes: Sequence[int], dropout: float) -> Any:
    n = lib.nn
    layers: list[Any] = [n.Flatten()]
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [n.Linear(inputs, outputs), n.ReLU()]
        if dropout:
            layers.append(n.Dropout(dropout))
    return n.Sequential(*layers, n.Linear(sizes[-2], sizes[-1]))


def _convnet(lib: Any, size: int, channels: Sequence[int], hidden: int, classes: int, dropout: float) -> Any:
    """``fastnet.models.ConvNet`` for images of one channel, from either library's layers."""
    n = lib.nn
    layers: list[Any] = []
    for inputs, outputs in pairwise([1, *channels]):
        layers += [n.Conv2d(inputs, outputs, 3, padding=1), n.ReLU(), n.MaxPool2d(2)]
        size //= 2
    layers += [n.Flatten(), n.Linear(channels[-1] * size * size, hidden), n.ReLU(), n.Dropout(dropout)]
    return n.Sequential(*layers, n.Linear(hidden, classes))


def _epoch(lib: Any, model: Any, x: np.ndarray, y: np.ndarray, batch: int) -> Callable:
    loss_of = lib.nn.CrossEntropyLoss()
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


def _series_epoch(
    lib: Any, series: list[np.ndarray], labels: np.ndarray, layer: str, hidden: int, batch: int
) -> Callable:
    size, classes = series[0].shape[1], int(labels.max()) + 1
    recurrent, output = getattr(lib.nn, layer)(size, hidden), lib.nn.Linear(hidden, classes)
    loss_of = lib.nn.CrossEntropyLoss()
    parameters = [*recurrent.parameters(), *output.parameters()]
    optimizer = lib.optim.Adam(parameters, lr=2e-3)
    items = [(lib.from_numpy(x), lib.tensor(int(y))) for x, y in zip(series, labels, strict=True)]

    def packed(batch: list) -> tuple:
        x, y = zip(*batch, strict=True)
        return lib.nn.utils.rnn.pack_sequence(list(x), enforce_sorted=False), lib.stack(list(y))

    loader = lib.utils.data.DataLoader(items, batch, shuffle=True, collate_fn=packed)

    def epoch() -> None:
        for x, y in loader:
            state = recurrent(x)[1]
            loss = loss_of(output((state[0] if layer == "LSTM" else state)[-1]), y)
            optimizer.zero_grad()
            loss.backward()
            lib.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()

    return epoch


def _character_epoch(lib: Any, text: np.ndarray, layer: str, hidden: int, batch: int, length: int) -> Callable:
    characters = int(text.max()) + 1
    n = lib.nn
    embedding, output = n.Embedding(characters, 48), n.Linear(hidden, characters)
    recurrent = getattr(n, layer)(48, hidden, batch_first=True)
    parameters = [p for module in (embedding, recurrent, output) for p in module.parameters()]
    optimizer, loss_of = lib.optim.Adam(parameters, lr=4e-3), n.CrossEntropyLoss()
    strips = lib.from_numpy(text[: len(text) // batch * batch].reshape(batch, -1))

    def epoch() -> None:
        state = None
        for at in range(0, strips.shape[1] - length, length):
            x, y = strips[:, at : at + length], strips[:, at + 1 : at + length + 1]
            out, state = recurrent(embedding(x), state)
            state = tuple(s.detach() for s in state) if layer == "LSTM" else state.detach()
            loss = loss_of(output(out).reshape(-1, characters), y.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            lib.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()

    return epoch


def _epoch_case(name: str, shape: str, epoch_of: Callable[[Any], Callable], flops: int) -> Case:
    found = [Implementation(OURS, epoch_of(fastnet), "host")]
    torch = load_torch()
    if not isinstance(torch, str):
        import torch.utils.data

        found.append(Implementation("PyTorch", epoch_of(torch), "host"))
    return Case(name, shape, "float32", lambda source: (), found, flops=flops, ceiling="", host=True)


def _recurrent_cases() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    series = [rng.standard_normal((int(t), 4), np.float32) for t in rng.integers(12, 41, 320)]
    labels = rng.integers(0, 8, len(series))
    steps, hidden = sum(map(len, series)), 64
    text, wide, size = rng.integers(0, 90, 8_000), 192, 48
    for layer, gates in (("RNN", 1), ("LSTM", 4), ("GRU", 3)):
        yield _epoch_case(
            f"{layer.lower()} epoch",
            f"series {len(series)}/16 12-40x4-{hidden}-8",
            lambda lib, layer=layer: _series_epoch(lib, series, labels, layer, hidden, 16),
            6 * steps * gates * hidden * (4 + hidden),
        )
        if layer == "GRU":  # PyTorch's takes seconds, and no recipe has one
            continue
        yield _epoch_case(
            f"{layer.lower()} epoch",
            f"characters {len(text)}/32x{size} {size}-{wide}-90",
            lambda lib, layer=layer: _character_epoch(lib, text, layer, wide, 32, size),
            6 * len(text) * wide * (gates * (size + wide) + 90),
        )


def _mlp_case(rows: int, sizes: tuple[int, ...], batch: int, dropout: float) -> Case:
    rng = np.random.default_rng(0)
    x, y = rng.random((rows, sizes[0]), np.float32), rng.integers(0, sizes[-1], rows)
    products = [2 * rows * a * b for a, b in pairwise(sizes)]
    return _epoch_case(
        "mlp epoch",
        f"{rows}/{batch} {'-'.join(map(str, sizes))}",
        lambda lib: _epoch(lib, _mlp(lib, sizes, dropout), x, y, batch),
        3 * sum(products) - products[0],  # no gradient of the input
    )


def _convnet_case(rows: int, size: int, batch: int) -> Case:
    rng = np.random.default_rng(0)
    x, y = rng.random((rows, 1, size, size), np.float32), rng.integers(0, 10, rows)
    channels, hidden, classes = (32, 64), 128, 10
    products = [2 * 9 * a * b * (size >> i) ** 2 for i, (a, b) in enumerate(pairwise([1, *channels]))]
    products += [2 * channels[-1] * (size >> len(channels)) ** 2 * hidden, 2 * hidden * classes]
    return _epoch_case(
        "cnn epoch",
        f"{rows}/{batch} 1x{size}x{size}",
        lambda lib: _epoch(lib, _convnet(lib, size, channels, hidden, classes, 0.25), x, y, batch),
        rows * (3 * sum(products) - products[0]),
    )


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """On the CPU, whatever the sets and dtypes: the digits with the networks of the mlp and cnn recipes, MNIST's sizes,
    recurrent networks."""
    yield _mlp_case(1257, (64, 128, 64, 10), 64, 0.2)
    yield _mlp_case(10_000, (784, 256, 128, 10), 128, 0.0)
    yield _convnet_case(1257, 8, 32)
    yield _convnet_case(2_000, 28, 32)
    yield from _recurrent_cases()
