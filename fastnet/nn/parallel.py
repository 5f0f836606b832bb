"""torch.nn.parallel's wrappers, for training files that carry them: fastnet uses one GPU, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastnet.errors import InputError
from fastnet.nn.module import Module

__all__ = ["DataParallel", "DistributedDataParallel"]


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
            raise InputError(f"DataParallel: device_ids is {device_ids}, expected at most one device")
        self.module, self.dim, self.device_ids = module, dim, list(device_ids or [])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


class DistributedDataParallel(DataParallel):
    """The module on its one device in the one process, as ``torch.nn.parallel.DistributedDataParallel`` in a group of
    one: there is nobody to exchange gradients with.

    Args:
        module, device_ids, output_device, dim: as ``DataParallel``'s.
        options: of the exchange; accepted for compatibility.
    """

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0, **options: Any):
        super().__init__(module, device_ids, output_device, dim)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """A block without exchange of gradients, as any other here."""
        yield
