"""Averages of a model's weights over training, as ``torch.optim.swa_utils``: equal (stochastic weight averaging) or
exponential."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any

import fastnet
from fastnet import nn
from fastnet._tensor import Tensor
from fastnet.nn.norm import _BatchNorm
from fastnet.optim.lr_scheduler.base import LRScheduler, _for_each_group
from fastnet.optim.optimizer import Optimizer

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def get_ema_avg_fn(decay: float = 0.999) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """The function ``decay average + (1 - decay) weight`` of one tensor.

    Raises:
        ValueError: decay outside [0, 1].
    """
    _check_decay(decay)

    @fastnet.no_grad()
    def ema_update(average: Tensor, weight: Tensor, n_averaged: Any) -> Tensor:
        return decay * average + (1 - decay) * weight

    return ema_update


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]:
    """As ``get_ema_avg_fn``, of lists of tensors, in place.

    Raises:
        ValueError: decay outside [0, 1].
    """
    _check_decay(decay)

    @fastnet.no_grad()
    def ema_update(averages: Sequence[Tensor], weights: Sequence[Tensor], n_averaged: Any) -> None:
        for average, weight in zip(averages, weights, strict=True):
            if average.dtype.is_floating_point:
                average.lerp_(weight, 1 - decay)
            else:
                average.copy_(average * decay + weight * (1 - decay))

    return ema_update


def get_swa_avg_fn() -> Callable[[Tensor, Tensor, Any], Tensor]:
    """The function ``average + (weight - average) / (n + 1)`` of one tensor: the mean of n + 1 weights."""

    @fastnet.no_grad()
    def swa_update(average: Tensor, weight: Tensor, n_averaged: Any) -> Tensor:
        return average + (weight - average) / (n_averaged + 1)

    return swa_update


def get_swa_multi_avg_fn() -> Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]:
    """As ``get_swa_avg_fn``, of lists of tensors, in place."""

    @fastnet.no_grad()
    def swa_update(averages: Sequence[Tensor], weights: Sequence[Tensor], n_averaged: Any) -> None:
        for average, weight in zip(averages, weights, strict=True):
            if average.dtype.is_floating_point:
                average.lerp_(weight, 1 / (int(n_averaged) + 1))
            else:
                average.add_((weight - average) * (1.0 / (int(n_averaged) + 1)))

    return swa_update


class AveragedModel(nn.Module):
    """A copy of a model whose weights are the average of the model's over the calls of ``update_parameters``.

    The first call copies; later ones average, by default with equal weights. Buffers (running statistics) are averaged
    too with ``use_buffers``, else copied.

    Args:
        model: what to average; this one's ``module`` starts as a copy of it.
        device: where the copy lies; default: where the model does.
        avg_fn: (average, weight, n_averaged) -> new average, tensor by tensor.
        multi_avg_fn: (averages, weights, n_averaged), lists, in place.
        use_buffers: see above.

    Source: Izmailov et al. 2018; Polyak and Juditsky 1992.

    >>> import fastnet
    >>> model = fastnet.nn.Linear(1, 1)
    >>> ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    >>> for value in (1.0, 2.0):
    ...     _ = fastnet.nn.init.constant_(model.bias, value)
    ...     ema.update_parameters(model)
    >>> ema.module.bias.detach()
    tensor([1.1000])
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: nn.Module,
        device: Any = None,
        avg_fn: Callable[[Tensor, Tensor, Any], Tensor] | None = None,
        multi_avg_fn: Callable[[Sequence[Tensor], Sequence[Tensor], Any], None] | None = None,
        use_buffers: bool = False,
    ):
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", fastnet.tensor(0, dtype=fastnet.int64, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers
        self._begun: tuple[int, int] | None = None  # n_averaged, its version, when it was last seen not to be 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def _averaged_tensors(self, model: nn.Module) -> list[Tensor]:
        buffers = model.buffers() if self.use_buffers else ()
        return [t.detach() for t in itertools.chain(model.parameters(), buffers)]

    @fastnet.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the model's weights of now into the average."""
        averages = self._averaged_tensors(self.module)
        weights = [w.to(a.device) for w, a in zip(self._averaged_tensors(model), averages, strict=True)]
        # Reading n_averaged waits for the device: not again while nobody else has changed it.
        if self._begun != (id(self.n_averaged), self.n_averaged._version) and int(self.n_averaged) == 0:
            for average, weight in zip(averages, weights, strict=True):
                average.copy_(weight)
        elif self.multi_avg_fn is not None:
            for like in {(a.device, a.dtype): None for a in averages}:
                alike = [i for i, a in enumerate(averages) if (a.device, a.dtype) == like]
                self.multi_avg_fn([averages[i] for i in alike], [weights[i] for i in alike], self.n_averaged)
        else:
            average_of = get_swa_avg_fn() if self.avg_fn is None else self.avg_fn
            for average, weight in zip(averages, weights, strict=True):
                average.copy_(average_of(average, weight, self.n_averaged.to(average.device)))
        if not self.use_buffers:
            for mine, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
                mine.copy_(theirs.to(mine.device))
        self.n_averaged += 1
        self._begun = id(self.n_averaged), self.n_averaged._version


@fastnet.no_grad()
def update_bn(loader: Iterable[Any], model: nn.Module, device: Any = None) -> None:
    """Set the running statistics of a model's batch normalisations to their means over a loader's batches.

    Args:
        loader: of tensors, or of lists and tuples whose first item is what the model takes.
        model: run once on every batch, in training mode; afterwards it is in the mode it was in.
        device: where batches go.
    """
    momenta = {}
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
            momenta[module] = module.momentum
    if not momenta:
        return
    was_training = model.training
    model.train()
    for module in momenta:
        module.momentum = None  # a mean of all batches
    for batch in loader:
        x = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(x if device is None else x.to(device))
    for module, momentum in momenta.items():
        module.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """Moves every group's rate to ``swa_lr`` within ``anneal_epochs`` steps, along a cosine or a line, and keeps it.

    Raises:
        ValueError: another strategy than "cos" or "linear", negative anneal_epochs, or not one swa_lr a group.
    """

    _PRIVATE = ("optimizer", "_step_seen", "anneal_func")

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: Any,
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ):
        for rate, group in zip(_for_each_group("swa_lr", optimizer, swa_lr), optimizer.param_groups, strict=True):
            group["swa_lr"] = rate
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        self._anneal_strategy = anneal_strategy
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, step: int) -> float:
        """How far the rates have come at a step, from 0 to 1."""
        t = max(0, min(1, step / max(1, self.anneal_epochs)))
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[Any]:
        self._within_step()
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._share(step - 1), self._share(step)
        rates = []
        for group in self.optimizer.param_groups:
            lr, target = group["lr"], group["swa_lr"]
            start = target if before == 1 else (lr - before * target) / (1 - before)
            rates.append(target * now + start * (1 - now))
        return rates
