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

# Overfitting is said once the validation loss of so many epochs in a row lies above the least one, by more than a share
# of it and more than the rise's own standard error explains, and accuracy in training above that in validation by more
# than chance explains. Of 180 digits told apart to 98 %, one that turns wrong moves the loss by tens of percent: a rise
# of up to 2 errors and a gap of 2 where nothing is wrong. The lab ``overfitting`` ends with 2.3 to 4 and at least 5.
OVERFITTING_EPOCHS, RISE, RISE_ERRORS, GAP_ERRORS = 5, 0.1, 2.0, 3.0
# The gradient of the first layer, root mean square by element, against the last's.
VANISHED, EXPLODED = 1e-3, 1e3


def layers_of(model: nn.Module) -> dict[str, Tensor]:
    """The weights whose gradients are watched: trainable parameters of two dimensions or more, by layer, in order."""
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad and p.dim() > 1}
    return {n.removesuffix(".weight"): p for n, p in weights.items()}


def gradient_norms(parameters: Sequence[Tensor]) -> list[Any]:
    """The Euclidean norm of each gradient, an array of one element beside it, or 0.0 where there is none; squares are
    added in float32 at least. Does not wait for the device."""
    norms: list[Any] = []
    for p in parameters:
        if p.grad is None:
            norms.append(0.0)
            continue
        g = p.grad._data
        wide = g if g.dtype.itemsize > 2 else g.astype(np.float32)
        flat = wide.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            norms.append(namespace(flat).sqrt(namespace(flat).vdot(flat, flat)))
    return norms


def standard_error(values: np.ndarray) -> float:
    """Of the mean of independent values; infinite of a single one, which says nothing of it."""
    return math.inf if len(values) < 2 else float(values.std(ddof=1) / math.sqrt(len(values)))


def overfitting(epochs: Sequence[Any], targets: int) -> str | None:
    """A warning where training still gains while validation loses, and not by chance; None otherwise.

    Args:
        epochs: rows as ``fastnet.train.trainer.Epoch``.
        targets: how many validation has.
    """
    best, recent = min(epochs, key=lambda e: e.validation_loss, default=None), epochs[-OVERFITTING_EPOCHS:]
    if best is None or epochs[-1].epoch - best.epoch < OVERFITTING_EPOCHS:
        return None
    for e in recent:
        rise, gap = e.validation_loss - best.validation_loss, e.train_accuracy - e.validation_accuracy
        by_chance = math.sqrt(e.validation_accuracy * (1 - e.validation_accuracy) / targets)
        if rise <= max(RISE * best.validation_loss, RISE_ERRORS * e.validation_rise_error):
            return None
        if gap <= GAP_ERRORS * by_chance or e.train_loss >= best.train_loss:
            return None
    last = recent[-1]
    return (
        f"overfitting: since epoch {best.epoch} the loss has fallen from {best.train_loss:.4f} to "
        f"{last.train_loss:.4f} in training and risen from {best.validation_loss:.4f} to {last.validation_loss:.4f} in "
        f"validation, where {last.validation_accuracy:.1%} are right against {last.train_accuracy:.1%}; more data, "
        "augmentation, dropout, weight decay or early stopping (--patience) help"
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
