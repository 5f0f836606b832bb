"""What every learning-rate schedule is, and how it writes rates and momentum into an optimizer's groups."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from typing import Any

from fastnet._tensor import Tensor
from fastnet.optim.optimizer import Optimizer, _as_array, _is_tensor

_EPOCH_WARNING = (
    "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where possible. Please use "
    "`scheduler.step()` to step the scheduler. If epoch is given, the closed form of the schedule is used where there "
    "is one."
)


def _number(lr: Any) -> Any:
    """A copy of a learning rate that later steps do not change."""
    return lr.clone() if isinstance(lr, Tensor) else lr


def _set(group: dict[str, Any], lr: Any) -> None:
    """The group's rate; a tensor's is written where it is, so that a captured step sees it."""
    if isinstance(group["lr"], Tensor):
        group["lr"]._data[...] = lr._data if isinstance(lr, Tensor) else lr
    else:
        group["lr"] = float(lr) if isinstance(lr, Tensor) else lr


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    """The group's momentum or, where it has betas, the first of them."""
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum


def _for_each_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        value = [value] * groups
    elif len(value) != groups:
        raise ValueError(
            f"{name} must have the same length as optimizer.param_groups. {name} has {len(value)} values, "
            f"param_groups has {groups}."
        )
    return [_number(v) for v in value]


def _check_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")


def _start_momentum(schedule: Any, base: Any, most: Any, last_epoch: int) -> tuple[list[Any], list[Any]]:
    """Every group's base_momentum and max_momentum, written into the group, and the latter put in force."""
    optimizer = schedule.optimizer
    if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
        raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
    schedule.use_beta1 = "betas" in optimizer.defaults
    bases = _for_each_group("base_momentum", optimizer, base)
    mosts = _for_each_group("max_momentum", optimizer, most)
    if last_epoch == -1:
        for group, low, high in zip(optimizer.param_groups, bases, mosts, strict=True):
            _set_momentum(group, high)
            group["max_momentum"], group["base_momentum"] = high, low
    return bases, mosts


def _ours(value: Any) -> Any:
    """A value of a state_dict: PyTorch's tensors, which are rates, become ours."""
    if isinstance(value, list):
        return [_ours(v) for v in value]
    if _is_tensor(value) and not isinstance(value, Tensor):
        return Tensor._wrap(_as_array(value).copy())
    return value


def _attributes(function: Any) -> dict[str, Any] | None:
    """What a state keeps of a function: the attributes of callable objects."""
    return None if function is None or isinstance(function, types.FunctionType) else function.__dict__.copy()


class LRScheduler:
    """Base of all schedules.

    Args:
        optimizer: whose rates to set.
        last_epoch: the number of steps taken before; -1 at the start, otherwise the groups must hold "initial_lr".

    Raises:
        TypeError: no optimizer.
        KeyError: last_epoch is given and a group has no "initial_lr".
    """

    _get_lr_called_within_step = False
    _is_initial = False

    # What is not part of PyTorch's state.
    _PRIVATE: tuple[str, ...] = ("optimizer", "_step_seen")

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        _check_optimizer(optimizer)
        self.optimizer = optimizer
        if last_epoch == -1:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", _number(group["lr"]))
        else:
            for i, group in enumerate(optimizer.param_groups):
                if "initial_lr" not in group:
                    raise KeyError(
                        f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with "
                        f"last_epoch >= 0: load the optimizer's state first, or leave last_epoch at -1"
                    )
        self.base_lrs: list[Any] = [_number(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        # How often the optimizer was stepped before its first schedule, and what step was then.
        optimizer.__dict__.setdefault("_steps_unscheduled", optimizer._step_calls)
        self._step_seen = optimizer.__dict__.get("step")
        self._last_lr: list[Any] = []
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_last_lr(self) -> list[Any]:
        """The rates in force, one for each group."""
        return self._last_lr

    def get_lr(self) -> list[Any]:
        """The rates of step ``last_epoch``, from those in force."""
        raise NotImplementedError

    def _rates(self) -> list[Any]:
        return [_number(group["lr"]) for group in self.optimizer.param_groups]

    def _scaled(self, factor: float) -> list[Any]:
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def _within_step(self) -> None:
        """get_lr continues from the rates in force, which only step then replaces."""
        if not self._get_lr_called_within_step:
            warnings.warn(
                "To get the last learning rate computed by the scheduler, please use `get_last_lr()`.", stacklevel=3
            )

    def step(self, epoch: int | None = None) -> None:
        """Go to the next step, or to ``epoch`` (deprecated), and set the rates."""
        if self._step_count == 1:
            if self.optimizer.__dict__.get("step") is not self._step_seen:
                warnings.warn(
                    "Seems like `optimizer.step()` has been overridden after learning rate scheduler initialization. "
                    "Please, make sure to call `optimizer.step()` before `lr_scheduler.step()`.",
                    stacklevel=2,
                )
            elif self.optimizer._step_calls == self.optimizer.__dict__.get("_steps_unscheduled"):
                warnings.warn(
                    "Detected call of `lr_scheduler.step()` before `optimizer.step()`. Call them in the opposite "
                    "order: otherwise the first value of the learning rate schedule is skipped.",
                    stacklevel=2,
                )
        self._step_count += 1
        if epoch is not None:
            warnings.warn(_EPOCH_WARNING, stacklevel=2)
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        closed = None if epoch is None else getattr(self, "_get_closed_form_lr", None)
        self._put_in_force(closed or self.get_lr)

    def _put_in_force(self, rates: Callable[[], list[Any]]) -> None:
        self._get_lr_called_within_step = True
        try:
            values = rates()
        finally:
            self._get_lr_called_within_step = False
        for group, lr in zip(self.optimizer.param_groups, values, strict=True):
            _set(group, lr)
        self._last_lr = self._rates()

    def state_dict(self) -> dict[str, Any]:
        """All attributes but the optimizer."""
        return {key: value for key, value in self.__dict__.items() if key not in self._PRIVATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what ``state_dict`` returned, here or in PyTorch. The optimizer's rates are not touched: its own state
        has them."""
        self.__dict__.update({k: _ours(v) for k, v in state_dict.items() if k not in self._PRIVATE})
