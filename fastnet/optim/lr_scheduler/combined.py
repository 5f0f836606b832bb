"""Schedules made of others: one after another, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

from fastnet.optim.lr_scheduler.base import LRScheduler, _set
from fastnet.optim.lr_scheduler.plateau import ReduceLROnPlateau
from fastnet.optim.optimizer import Optimizer


class _OfSchedules(LRScheduler):
    """A schedule made of others over the same optimizer."""

    _PRIVATE = ("optimizer", "_step_seen", "_schedulers")

    def _take(self, schedulers: Any, optimizer: Optimizer) -> None:
        name = type(self).__name__
        for i, schedule in enumerate(schedulers):
            if not hasattr(schedule, "optimizer"):
                raise TypeError(f"{name} at index {i} should have `optimizer` as its attribute.")
            if isinstance(schedule, ReduceLROnPlateau):
                raise ValueError(
                    f"{name} does not support `ReduceLROnPlateau` scheduler as it requires additional kwargs to be "
                    f"specified when calling `step`, but got one at index {i} in the given schedulers sequence."
                )
            if optimizer is not schedule.optimizer:
                raise ValueError(
                    f"{name} expects all schedulers to belong to the same optimizer, but got scheduler "
                    f"{type(schedule).__name__} at index {i} has {schedule.optimizer}, which is different from "
                    f"{type(optimizer).__name__}."
                )
        self._schedulers = schedulers
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        """As the base's, with a list of the others' states."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        states = state_dict["_schedulers"]
        super().load_state_dict(state_dict)
        for schedule, state in zip(self._schedulers, states, strict=True):
            schedule.load_state_dict(state)


class SequentialLR(_OfSchedules):
    """One schedule after another: ``schedulers[i]`` from epoch ``milestones[i - 1]`` on, where it starts at its own
    epoch 0.

    Raises:
        TypeError, ValueError: no schedules, schedules of other optimizers or ReduceLROnPlateau among them, or not one
            milestone less than schedules.

    >>> import fastnet
    >>> from fastnet import optim
    >>> optimizer = optim.SGD([fastnet.zeros(1, requires_grad=True)], lr=1.0)
    >>> warmup = optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
    >>> decay = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> schedule = optim.lr_scheduler.SequentialLR(optimizer, [warmup, decay], milestones=[2])
    >>> rates = schedule.get_last_lr()
    >>> for _ in range(3):
    ...     optimizer.step(); schedule.step(); rates = rates + schedule.get_last_lr()
    >>> rates
    [0.5, 0.5, 1.0, 0.5]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ):
        if len(schedulers) < 1:
            raise ValueError(f"{type(self).__name__} expects at least one scheduler, but got no scheduler.")
        self._take(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                "Sequential Schedulers expects number of schedulers provided to be one more than the number of "
                f"milestone points, but got number of schedulers {len(schedulers)} and the number of milestones to be "
                f"equal to {len(milestones)}"
            )
        self._milestones = milestones
        self.last_epoch = last_epoch + 1
        # Each schedule has taken its first step when it was made: back to where they all began, and again the first's.
        for group in optimizer.param_groups:
            _set(group, group["initial_lr"])
        _take_back(self)
        first = schedulers[bisect_right(milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:  # type: ignore[override]
        """Go to the next epoch."""
        self.last_epoch += 1
        i = bisect_right(self._milestones, self.last_epoch)
        schedule = self._schedulers[i]
        if i > 0 and self._milestones[i - 1] == self.last_epoch:
            schedule._update_lr(0)
        else:
            schedule.step()
        self._last_lr = schedule.get_last_lr()


def _take_back(schedule: LRScheduler) -> None:
    """One step back for every schedule that is not made of others."""
    if isinstance(schedule, _OfSchedules):
        for s in schedule._schedulers:
            _take_back(s)
    elif hasattr(schedule, "last_epoch"):
        schedule.last_epoch -= 1


class ChainedScheduler(_OfSchedules):
    """All the schedules at every step, one on top of another.

    Raises:
        TypeError, ValueError: no schedules, or schedules of other optimizers or ReduceLROnPlateau among them.
    """

    def __init__(self, schedulers: Iterable[LRScheduler], optimizer: Optimizer | None = None):
        if len(schedulers) < 1:  # type: ignore[arg-type]
            raise ValueError(
                f"{type(self).__name__} expects at least one scheduler to be chained, but got no scheduler."
            )
        self._take(schedulers, optimizer or schedulers[0].optimizer)  # type: ignore[index]
        self._last_lr = self._rates()

    def step(self) -> None:  # type: ignore[override]
        """Step every schedule."""
        for schedule in self._schedulers:
            schedule.step()
        self._last_lr = self._rates()
