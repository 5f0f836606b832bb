"""What a run says of its health: gradient norms by layer, where NaN arose, overfitting, gradients that vanish or
explode."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnet import nn
from fastnet._device import namespace
from fastnet._tensor import Tensor

# Overfitting is said after this many epochs without a better validation loss, once it is this much above the best.
OVERFITTING_EPOCHS, OVERFITTING_GAP = 3, 0.1
# The gradient of the first layer, root mean square by element, against the last's.
VANISHED, EXPLODED = 1e-3, 1e3


def layers_of(model: nn.Module) -> dict[str, Tensor]:
    """The weights whose gradients are watched: trainable parameters of two dimensions or more, by layer, in order."""
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad and p.dim() > 1}
    return {n.removesuffix(".weight"): p for n, p in weights.items()}


def gradient_norms(parameters: Sequence[Tensor]) -> np.ndarray:
    """(len(parameters),) float64: the Euclidean norm of each gradient, 0 without one; squares are added in float32 at
    least. Waits for the device once."""
    norms: list[Any] = []
    for p in parameters:
        if p.grad is None:
            norms.append(np.zeros((), np.float32))
            continue
        g = p.grad._data
        wide = g if g.dtype.itemsize > 2 else g.astype(np.float32)
        flat = wide.reshape(-1)
        norms.append(namespace(flat).sqrt(namespace(flat).vdot(flat, flat)))
    on_device = [n for n in norms if not isinstance(n, (np.ndarray, np.generic))]
    if on_device:
        xp = namespace(on_device[0])
        return xp.stack([xp.asarray(n, np.float64) for n in norms]).get()
    return np.array(norms, np.float64)


def overfitting(epochs: Sequence[Any]) -> str | None:
    """A warning where training still gains and validation has not for some epochs; None otherwise."""
    if not epochs:
        return None
    best, last = min(epochs, key=lambda e: e.validation_loss), epochs[-1]
    if last.epoch - best.epoch < OVERFITTING_EPOCHS or last.train_loss >= best.train_loss:
        return None
    if last.validation_loss <= (1 + OVERFITTING_GAP) * best.validation_loss:
        return None
    return (
        f"overfitting: since epoch {best.epoch} the loss has fallen from {best.train_loss:.4f} to "
        f"{last.train_loss:.4f} in training and risen from {best.validation_loss:.4f} to {last.validation_loss:.4f} in "
        "validation; more data, augmentation, dropout, weight decay or early stopping (--patience) help"
    )


def first_layers(names: Sequence[str], sizes: Sequence[int], norms: np.ndarray) -> str | None:
    """A warning where the first layer's gradients are far smaller or larger than the last's; None otherwise.

    Args:
        names, sizes: of the layers, and how many weights each has.
        norms: (steps, layers): gradient norms of some steps.
    """
    if len(names) < 2 or not len(norms):
        return None
    by_element = np.median(norms, 0) / np.sqrt(np.array(sizes))
    first, last = float(by_element[0]), float(by_element[-1])
    if last == 0 or not (math.isfinite(first) and math.isfinite(last)):
        return None
    ratio = first / last
    if VANISHED <= ratio <= EXPLODED:
        return None
    what, remedy = (
        ("vanish", "other activations, normalisation, shortcuts or another initialisation help")
        if ratio < VANISHED
        else ("explode", "clipping (--max-norm), normalisation or another initialisation help")
    )
    return (
        f"gradients {what}: the first layer's ({names[0]}) are {ratio:.1e} times the last's ({names[-1]}), by element; "
        + remedy
    )


def _finite(x: Any) -> bool:
    if isinstance(x, Tensor):
        data = x._data
        return data.dtype.kind not in "fV" or bool(namespace(data).isfinite(data).all())
    if isinstance(x, (list, tuple)):
        return all(map(_finite, x))
    return _finite(x.data) if isinstance(getattr(x, "data", None), Tensor) else True


def _tensors(x: Any) -> list[Tensor]:
    if isinstance(x, Tensor):
        return [x]
    return [t for y in x for t in _tensors(y)] if isinstance(x, (list, tuple)) else []


def where_not_finite(model: nn.Module, batch: Any, run: Callable[[], Tensor]) -> str | None:
    """Where the first NaN or infinity arises: in the batch, the weights, a layer's output, the loss, or a gradient.

    Args:
        model: its layers are watched.
        batch: what the model is given.
        run: computes the loss of the same step again, from the same random numbers.

    Returns:
        Words that say so, or None if all of it is finite this time.
    """
    if not _finite(batch):
        return "in the batch itself"
    for name, p in model.named_parameters():
        if not _finite(p):
            return f"in the weights {name!r}, which an earlier step made so"
    forward: list[str] = []
    backward: list[str] = []

    def watch(name: str) -> Callable:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not _finite(output):
                forward.append(name)
            for t in _tensors(output):
                if t.requires_grad:
                    t.register_hook(lambda g: None if _finite(g) else backward.append(name))

        return hook

    handles = [m.register_forward_hook(watch(n or type(model).__name__)) for n, m in model.named_modules()]
    try:
        with np.errstate(all="ignore"):
            model.zero_grad()
            loss = run()
            if forward:
                return f"first in the output of layer {forward[0]!r}"
            if not _finite(loss):
                return "in the loss, of finite outputs"
            loss.backward()
    finally:
        for handle in handles:
            handle.remove()
    if backward:
        return f"first in the gradient of the output of layer {backward[0]!r}"
    for name, p in reversed(list(model.named_parameters())):
        if p.grad is not None and not _finite(p.grad):
            return f"in the gradient of {name!r}"
    return None
