"""A network looked at from inside: learned filters and feature maps, gradients by time step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import fastnet
from fastnet import nn
from fastnet._tensor import Tensor
from fastnet.nn.rnn import RNNBase
from fastnet.nn.utils.rnn import PackedSequence

MAPS = 4  # convolutions whose feature maps are shown: the first, the last, and others between them


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def first_filters(model: nn.Module) -> tuple[str, np.ndarray] | None:
    """The name and the weights (filters, channels, height, width) of the first convolution of images, or None."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module.weight.detach().float().numpy(force=True)
    return None


def feature_maps(model: nn.Module, images: Tensor) -> dict[str, np.ndarray]:
    """What the convolutions of a model make of the first of some images (N, C, H, W), in evaluation mode: (channels,
    height, width) by name, of four of them at most. Convolutions are taken in the order in which they run."""
    maps: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            maps[name] = output[0].detach().float().numpy(force=True)

        return hook

    convolutions = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    handles = [m.register_forward_hook(keep(n)) for n, m in convolutions]
    try:
        with evaluating(model), fastnet.no_grad():
            model(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    names = list(maps)
    chosen = np.unique(np.linspace(0, len(names) - 1, MAPS).round().astype(int)) if names else []
    return {names[i]: maps[names[i]] for i in chosen}


def recurrent_layer(model: nn.Module) -> RNNBase | None:
    """The first recurrent layer of a model, or None."""
    return next((m for m in model.modules() if isinstance(m, RNNBase)), None)


def gradients_by_time(layer: RNNBase, loss: Callable[[], Tensor]) -> np.ndarray:
    """How much of a loss's gradient arrives how many steps before a series' end.

    Args:
        layer: recurrent; ``loss()`` runs it once.
        loss: the sum of what each series' last step gives.

    Returns:
        (longest series,) float64: of the gradient by the layer's input at so many steps before the last, the Euclidean
        norm, as the mean over the series that are so long. Gradients of parameters are left as they are.
    """
    given: list[Any] = []

    def watch(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        series, *states = inputs
        packed = isinstance(series, PackedSequence)
        leaf = (series.data if packed else series).detach().requires_grad_()
        given[:] = [leaf, series]
        return (PackedSequence(leaf, *series[1:]) if packed else leaf, *states)

    handle = layer.register_forward_pre_hook(watch)
    try:
        value = loss()
    finally:
        handle.remove()
    (gradient,) = fastnet.autograd.grad(value, [given[0]])
    norms = np.linalg.norm(gradient.double().numpy(force=True), axis=-1)
    if not isinstance(given[1], PackedSequence):
        by_time = norms.reshape(len(norms), -1) if norms.ndim == 1 or not layer.batch_first else norms.T
        return by_time.mean(1)[::-1].copy()
    # A packed series' rows lie a step apart: step t has the series that are longer than t, the longest first.
    sizes = given[1].batch_sizes.numpy()
    lengths = (sizes[:, None] > np.arange(sizes[0])).sum(0)
    steps, series = np.repeat(np.arange(len(sizes)), sizes), np.concatenate([np.arange(n) for n in sizes])
    distance = lengths[series] - 1 - steps
    return np.bincount(distance, norms) / np.bincount(distance)
