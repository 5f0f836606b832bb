"""Loss scaling for float16, as ``torch.amp.GradScaler``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.kernels._runtime import implementation


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
        scaler.step(optimizer, max_norm=1.0)  # divides, clips and updates in one, or leaves it all out
        scaler.update()

    or, as in PyTorch, ``unscale_``, ``clip_grad_norm_``, ``step``. Nothing of it waits for the device with fastnet's
    optimizers but Muon.
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
        self._init_scale, self._init_tracker = float(init_scale), 0
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval = growth_interval
        # (1,) float32 and int32 where the first loss was: nothing that a step does waits for their values.
        self._scale: Any = None
        self._tracker: Any = None
        # By id of the optimizer: what gradient_norm found of its gradients, whether they are unscaled, whether it
        # stepped.
        self._optimizers: dict[int, dict[str, Any]] = {}

    def _start(self, like: Any) -> None:
        """Put factor and count beside an array."""
        if self._scale is None:
            xp = namespace(like)
            self._scale = xp.full(1, self._init_scale, np.float32)
            self._tracker = xp.full(1, self._init_tracker, np.int32)

    def is_enabled(self) -> bool:
        return self._enabled

    def scale(self, outputs: Any) -> Any:
        """A tensor times the factor; of an iterable, each."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            self._start(outputs._data)
            return outputs * Tensor._wrap(self._scale.reshape(()))
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
        self._refuse_float16(optimizer)
        params = [p for group in optimizer.param_groups for p in group["params"]]
        grads = {id(p.grad): p.grad._data for p in params if p.grad is not None}
        state["unscaled"] = True
        if grads:
            arrays = list(grads.values())
            self._start(arrays[0])
            module = implementation(arrays[0])
            found = module.gradient_norm(arrays, scale=self._scale)
            module.scale_gradients(arrays, found)
            found[1] = 1  # what is left to multiply by
            state["found"] = found

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """``optimizer.step(...)``, unless the unscaled gradients hold an infinity or a NaN; what it returns."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        state = self._optimizers.setdefault(id(optimizer), {})
        if state.get("stepped"):
            raise RuntimeError("step() has already been called since the last update().")
        state["stepped"] = True
        if not getattr(optimizer, "_step_supports_amp_scaling", False):
            if not state.get("unscaled"):
                state["stepped"] = False
                self.unscale_(optimizer)
                state["stepped"] = True
            if "found" in state and bool(state["found"][2] != 0):  # waits: this optimizer cannot ask for itself
                return None
            return optimizer.step(*args, **kwargs)
        if state.get("unscaled"):
            optimizer._found = state.get("found")
            scale = None if self._scale is None else namespace(self._scale).ones_like(self._scale)
        else:
            self._refuse_float16(optimizer)
            scale = self._scale
        if scale is None:
            return optimizer.step(*args, **kwargs)
        optimizer.grad_scale = Tensor._wrap(scale)
        try:
            return optimizer.step(*args, **kwargs)
        finally:
            del optimizer.grad_scale
            if optimizer._found is not None:
                state["found"], optimizer._found = optimizer._found, None

    @staticmethod
    def _refuse_float16(optimizer: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.grad.dtype.name == "float16" and p.dtype.name == "float16":
                    raise ValueError("Attempting to unscale FP16 gradients.")

    def update(self, new_scale: Any = None) -> None:
        """Grow or shrink the factor by what the steps since the last update met, or set it."""
        if not self._enabled:
            return
        if new_scale is not None:
            if self._scale is None:
                self._init_scale = float(new_scale)
            else:
                self._scale[...] = new_scale._data if isinstance(new_scale, Tensor) else float(new_scale)
        else:
            found = [s["found"] for s in self._optimizers.values() if "found" in s]
            if not found:
                raise AssertionError("No inf checks were recorded prior to update.")
            implementation(self._scale).update_loss_scale(
                self._scale,
                self._tracker,
                found[0] if len(found) == 1 else sum(found[1:], found[0]),  # any of them skips
                growth_factor=self._growth_factor,
                backoff_factor=self._backoff_factor,
                growth_interval=self._growth_interval,
            )
        self._optimizers.clear()

    def get_scale(self) -> float:
        """The factor; 1 if disabled. Waits for the device."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else float(self._scale[0])

    def get_scale_array(self) -> Any:
        """The factor as an array (1,) beside the losses, once one was scaled; does not wait for the device."""
        return self._scale

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
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._init_tracker if self._tracker is None else int(self._tracker[0]),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from ``state_dict()``."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled instance of GradScaler."
            )
        self._init_scale, self._init_tracker = float(state_dict["scale"]), int(state_dict["_growth_tracker"])
        if self._scale is not None:
            self._scale[...], self._tracker[...] = self._init_scale, self._init_tracker
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
