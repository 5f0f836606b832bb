"""Loss scaling for float16, as ``torch.amp.GradScaler``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._tensor import Tensor


class GradScaler:
    """Multiplies the loss so that small gradients do not vanish in float16, divides gradients before the step, and
    skips steps whose gradients hold infinities or NaN.

    Args:
        device: accepted as PyTorch's; gradients are unscaled where they are.
        init_scale: the first factor.
        growth_factor: what it grows by after ``growth_interval`` steps without an infinity.
        backoff_factor: what it shrinks by after a skipped step.
        growth_interval: see above.
        enabled: False to do nothing.

    Use::

        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)      # before clipping; step does it otherwise
        scaler.step(optimizer)
        scaler.update()
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        self._enabled = enabled
        if enabled:
            if growth_factor <= 1.0:
                raise AssertionError("The growth factor must be > 1.0.")
            if backoff_factor >= 1.0:
                raise AssertionError("The backoff factor must be < 1.0.")
        self._scale = float(init_scale)
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval, self._growth_tracker = growth_interval, 0
        # By id of the optimizer: whether its gradients are unscaled, whether they hold an infinity, whether it stepped.
        self._optimizers: dict[int, dict[str, bool]] = {}

    def is_enabled(self) -> bool:
        return self._enabled

    def scale(self, outputs: Any) -> Any:
        """A tensor times the factor; of an iterable, each."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * self._scale
        if isinstance(outputs, Iterable):
            scaled = [self.scale(x) for x in outputs]
            return scaled if isinstance(outputs, list) else tuple(scaled)
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimizer's parameters by the factor, in place; once a step."""
        if not self._enabled:
            return
        state = self._optimizers.setdefault(id(optimizer), {})
        if state.get("stepped"):
            raise RuntimeError("unscale_() is being called after step().")
        if state.get("unscaled"):
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        inverse, infinite = 1.0 / self._scale, False
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.dtype.name == "float16" and p.dtype.name == "float16":
                    raise ValueError("Attempting to unscale FP16 gradients.")
                g = p.grad._data
                g *= g.dtype.type(inverse)
                infinite |= not bool(namespace(g).isfinite(g).all())
        state["unscaled"], state["infinite"] = True, infinite

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """``optimizer.step(...)``, unless the unscaled gradients hold an infinity or a NaN; what it returns."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        state = self._optimizers.setdefault(id(optimizer), {})
        if state.get("stepped"):
            raise RuntimeError("step() has already been called since the last update().")
        if not state.get("unscaled"):
            self.unscale_(optimizer)
        state["stepped"] = True
        return None if state["infinite"] else optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Grow or shrink the factor by what the steps since the last update met, or set it."""
        if not self._enabled:
            return
        if new_scale is not None:
            self._scale = float(new_scale)
        else:
            met = [s["infinite"] for s in self._optimizers.values() if "infinite" in s]
            if not met:
                raise AssertionError("No inf checks were recorded prior to update.")
            if any(met):
                self._scale *= self._backoff_factor
                self._growth_tracker = 0
            else:
                self._growth_tracker += 1
                if self._growth_tracker == self._growth_interval:
                    grown = float(np.float32(self._scale * self._growth_factor))
                    if np.isfinite(grown):
                        self._scale = grown
                    self._growth_tracker = 0
        self._optimizers.clear()

    def get_scale(self) -> float:
        """The factor; 1 if disabled."""
        return self._scale if self._enabled else 1.0

    def get_growth_factor(self) -> float:
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        self._growth_interval = new_interval

    def state_dict(self) -> dict[str, Any]:
        """The factor and its rules, PyTorch's keys; empty if disabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self._scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from ``state_dict()``."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled instance of GradScaler."
            )
        self._scale = float(state_dict["scale"])
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._growth_tracker = int(state_dict["_growth_tracker"])
