"""torch.nn.parallel's wrapper, for training files that carry it: fastnet uses one GPU."""

from __future__ import annotations

from typing import Any

from fastnet.nn.module import Module

__all__ = ["DataParallel"]


class DataParallel(Module):
    """The module on its one device, as ``torch.nn.DataParallel`` on one: ``state_dict`` keys begin with ``module.``.

    Args:
        module: what is called.
        device_ids: at most one.
        output_device, dim: accepted for compatibility.

    Raises:
        ValueError: more than one device.
    """

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0):
        super().__init__()
        if device_ids is not None and len(device_ids) > 1:
            raise ValueError(f"DataParallel: device_ids is {device_ids}, expected at most one device")
        self.module, self.dim, self.device_ids = module, dim, list(device_ids or [])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)
