"""Schedules that rise and fall: cycles, one cycle, a cosine with restarts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnet.optim.lr_scheduler.base import (
    LRScheduler,
    _attributes,
    _check_optimizer,
    _for_each_group,
    _set,
    _set_momentum,
    _start_momentum,
)
from fastnet.optim.optimizer import Optimizer


class CosineAnnealingWarmRestarts(LRScheduler):
    """``lr = eta_min + (initial_lr - eta_min) (1 + cos(pi T_cur / T_i)) / 2``: cycles of T_0 epochs, each T_mult times
    as long as the one before; T_cur counts epochs, whole or not, from the last restart (Loshchilov and Hutter 2017).

    Raises:
        ValueError: a T_0 or T_mult that is no integer of at least 1, or an eta_min that is no number.

    >>> import fastnet
    >>> from fastnet import optim
    >>> optimizer = optim.SGD([fastnet.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2)
    >>> rates = []
    >>> for _ in range(4):
    ...     optimizer.step(); schedule.step(); rates.append(round(schedule.get_last_lr()[0], 6))
    >>> rates
    [0.5, 1.0, 0.5, 1.0]
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1):
        if T_0 <= 0 or not isinstance(T_0, int):
            raise ValueError(f"Expected positive integer T_0, but got {T_0}")
        if T_mult < 1 or not isinstance(T_mult, int):
            raise ValueError(f"Expected integer T_mult >= 1, but got {T_mult}")
        if not isinstance(eta_min, (float, int)):
            raise ValueError(f"Expected float or int eta_min, but got {eta_min} of type {type(eta_min)}")
        self.T_0, self.T_i, self.T_mult, self.eta_min = T_0, T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        self._within_step()
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:  # type: ignore[override]
        """Go to the next epoch, or to ``epoch``, which may be a fraction: ``step(epoch + batch / batches)``."""
        if epoch is None and self.last_epoch >= 0:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            epoch = 0 if epoch is None else epoch
            if epoch < 0:
                raise ValueError(f"Expected non-negative epoch, but got {epoch}")
            if epoch < self.T_0:
                self.T_i, self.T_cur = self.T_0, epoch
            elif self.T_mult == 1:
                self.T_cur = epoch % self.T_0
            else:  # T_0 (T_mult^n - 1) / (T_mult - 1) epochs lie before cycle n
                n = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
                self.T_cur = epoch - self.T_0 * (self.T_mult**n - 1) / (self.T_mult - 1)
                self.T_i = self.T_0 * self.T_mult**n
        self.last_epoch = math.floor(epoch)
        self._put_in_force(self.get_lr)


class CyclicLR(LRScheduler):
    """The rate goes from base_lr to max_lr in ``step_size_up`` steps and back in ``step_size_down``, again and again
    (Smith 2017); momentum, or the first of the betas, the other way.

    Args:
        optimizer: whose rates to set.
        base_lr, max_lr: bounds, one for all groups or one for each.
        step_size_up, step_size_down: steps of each half of a cycle; None: as the other.
        mode: the height of the cycles: "triangular" keeps it, "triangular2" halves it every cycle, "exp_range"
            multiplies it by gamma every step.
        gamma: of "exp_range".
        scale_fn: a function to take the place of mode.
        scale_mode: whether scale_fn is called with the number of the cycle ("cycle") or of the step ("iterations").
        cycle_momentum: whether momentum goes from max_momentum to base_momentum and back.
        base_momentum, max_momentum: its bounds.
        last_epoch: the number of steps taken before.

    Raises:
        TypeError, ValueError: no optimizer, an unknown mode, lists of another length than the groups, or cycle_momentum
            with an optimizer without momentum.
    """

    _PRIVATE = ("optimizer", "_step_seen", "_scale_fn_custom")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
        last_epoch: int = -1,
    ):
        _check_optimizer(optimizer)
        self.optimizer = optimizer
        base_lrs = _for_each_group("base_lr", optimizer, base_lr)
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, base_lrs, strict=True):
                _set(group, lr)
        self.max_lrs = _for_each_group("max_lr", optimizer, max_lr)
        up = float(step_size_up)
        down = up if step_size_down is None else float(step_size_down)
        self.total_size = up + down
        self.step_ratio = up / self.total_size
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError("mode is invalid and scale_fn is None")
        self.mode, self.gamma = mode, gamma
        self._scale_fn_custom = scale_fn
        self.scale_mode = scale_mode
        if scale_fn is None:
            self.scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.base_momentums, self.max_momentums = _start_momentum(self, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """The height of cycle or step x, as a part of the first one's."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "triangular2":
            return 0.5 ** (x - 1)
        return self.gamma**x if self.mode == "exp_range" else 1.0

    def get_lr(self) -> list[Any]:
        """The rates of step ``last_epoch``. Sets momentum, too."""
        self._within_step()
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle  # in [0, 1): where in its cycle this step is
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for group, low, high in zip(
                self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True
            ):
                _set_momentum(group, high - (high - low) * height * scale)
        return [low + (high - low) * height * scale for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """As the base's; of scale_fn only the attributes of a callable object."""
        return {**super().state_dict(), "_scale_fn_custom": _attributes(self._scale_fn_custom)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        attributes = state_dict["_scale_fn_custom"]
        super().load_state_dict(state_dict)
        if attributes is not None:
            self._scale_fn_custom.__dict__.update(attributes)


class OneCycleLR(LRScheduler):
    """One cycle over the whole training (Smith and Topin 2018): the rate rises from ``max_lr / div_factor`` to max_lr
    in the first part pct_start of the steps and then falls to ``max_lr / div_factor / final_div_factor``; momentum, or
    the first of the betas, falls from max_momentum to base_momentum and rises again.

    Args:
        optimizer: whose rates to set.
        max_lr: the highest rate, one for all groups or one for each.
        total_steps: the number of steps; or
        epochs, steps_per_epoch: its factors.
        pct_start: the rising part.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: whether momentum changes.
        base_momentum, max_momentum: its bounds, one for all groups or one for each.
        div_factor, final_div_factor: as above.
        three_phase: fall to the initial rate in as many steps as the rise took, and only then further.
        last_epoch: the number of steps taken before.

    Raises:
        TypeError, ValueError: no optimizer, no number of steps or a wrong one, a pct_start that is no float in [0, 1],
            an unknown strategy, lists of another length than the groups, or cycle_momentum with an optimizer without
            momentum; and at step() beyond total_steps.

    >>> import fastnet
    >>> from fastnet import optim
    >>> optimizer = optim.SGD([fastnet.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = optim.lr_scheduler.OneCycleLR(
    ...     optimizer, 1.0, total_steps=5, pct_start=0.6, anneal_strategy="linear", div_factor=4, cycle_momentum=False
    ... )
    >>> rates = schedule.get_last_lr()
    >>> for _ in range(3):
    ...     optimizer.step(); schedule.step(); rates += schedule.get_last_lr()
    >>> [round(lr, 3) for lr in rates]
    [0.25, 0.625, 1.0, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        _check_optimizer(optimizer)
        self.optimizer = optimizer
        if total_steps is not None:
            if total_steps <= 0 or not isinstance(total_steps, int):
                raise ValueError(f"Expected positive integer total_steps, but got {total_steps}")
            self.total_steps = total_steps
        elif epochs is not None and steps_per_epoch is not None:
            for name, count in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
                if not isinstance(count, int) or count <= 0:
                    raise ValueError(f"Expected positive integer {name}, but got {count}")
            self.total_steps = epochs * steps_per_epoch
        else:
            raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")

        def phase(end: float, rates: tuple[str, str], momentums: tuple[str, str]) -> dict[str, Any]:
            return {
                "end_step": end,
                **{f"{side}_lr": f"{which}_lr" for side, which in zip(("start", "end"), rates, strict=True)},
                **{
                    f"{side}_momentum": f"{which}_momentum"
                    for side, which in zip(("start", "end"), momentums, strict=True)
                },
            }

        last = self.total_steps - 1
        rise = phase(float(pct_start * self.total_steps) - 1, ("initial", "max"), ("max", "base"))
        if three_phase:
            self._schedule_phases = [
                rise,
                phase(float(2 * pct_start * self.total_steps) - 2, ("max", "initial"), ("base", "max")),
                phase(last, ("initial", "min"), ("max", "max")),
            ]
        else:
            self._schedule_phases = [rise, phase(last, ("max", "min"), ("base", "max"))]
        if pct_start < 0 or pct_start > 1 or not isinstance(pct_start, float):
            raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        self._anneal_func_type = anneal_strategy
        max_lrs = _for_each_group("max_lr", optimizer, max_lr)
        if last_epoch == -1:
            for group, most in zip(optimizer.param_groups, max_lrs, strict=True):
                group["initial_lr"] = most / div_factor
                group["max_lr"] = most
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            _start_momentum(self, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def _anneal(self, start: Any, end: Any, part: float) -> Any:
        if self._anneal_func_type == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)

    def get_lr(self) -> list[Any]:
        """The rates of step ``last_epoch``. Sets momentum, too."""
        self._within_step()
        if self.last_epoch > self.total_steps:
            raise ValueError(
                f"Tried to step {self.last_epoch} times. The specified number of total steps is {self.total_steps}"
            )
        start, (*earlier, phase) = 0.0, self._schedule_phases
        for one in earlier:
            if self.last_epoch <= one["end_step"]:
                phase = one
                break
            start = one["end_step"]
        part = (self.last_epoch - start) / (phase["end_step"] - start)
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._anneal(group[phase["start_lr"]], group[phase["end_lr"]], part))
            if self.cycle_momentum:
                low, high = group[phase["start_momentum"]], group[phase["end_momentum"]]
                _set_momentum(group, self._anneal(low, high, part))
        return rates
