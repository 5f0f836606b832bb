"""Batches on their way to a GPU: pinned memory, and copies that run beside the work on the batch before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastnet._device import array_module
from fastnet._device import device as Device
from fastnet._tensor import Tensor
from fastnet.utils.data.collate import rebuilt


def pin_memory(data: Any) -> Any:
    """The tensors in nested containers copied to page-locked memory; objects with a method ``pin_memory`` do it
    themselves."""
    if isinstance(data, Tensor):
        if data.is_cuda:
            return data
        import cupyx

        pinned = cupyx.empty_pinned(data._data.shape, data._data.dtype)
        pinned[...] = data._data
        return Tensor._wrap(pinned)
    if hasattr(data, "pin_memory"):
        return data.pin_memory()
    if not isinstance(data, (str, bytes)) and isinstance(data, (Mapping, Sequence)):
        return rebuilt(data, pin_memory)
    return data


def _moved(data: Any, where: Device) -> Any:
    if isinstance(data, Tensor):
        return data.to(where)
    if not isinstance(data, (str, bytes)) and isinstance(data, (Mapping, Sequence)):
        return rebuilt(data, lambda value: _moved(value, where))
    return data


class DevicePrefetcher:
    """The batches of a loader on a device, each copied there while the one before is worked on.

    Use it with ``pin_memory=True``. On the CPU it hands the batches on.

    Args:
        loader: an iterable of batches: tensors in nested containers.
        device: where to.

    >>> import fastnet
    >>> [x.sum().item() for x in DevicePrefetcher([fastnet.ones(2), fastnet.ones(3)], "cpu")]
    [2.0, 3.0]
    """

    def __init__(self, loader: Any, device: Any):
        self.loader, self.device = loader, Device(device)
        array_module(self.device.type)  # RuntimeError now if there is no such device

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        if self.device.type == "cpu":
            for batch in self.loader:
                yield _moved(batch, self.device)
            return
        import cupy

        with cupy.cuda.Device(self.device.index):
            copies = cupy.cuda.Stream(non_blocking=True)
        ahead: Any = None
        for host in self.loader:
            # A copy goes into memory that a batch given back may have held: everything that was asked of the batches so
            # far comes first.
            copies.wait_event(cupy.cuda.get_current_stream().record())
            with copies:
                there = _moved(host, self.device)
            done = copies.record()
            if ahead is not None:
                batch, copied, _ = ahead
                ahead = None
                cupy.cuda.get_current_stream().wait_event(copied)
                yield batch
                del batch
            ahead = (there, done, host)  # the host's memory is needed until the copy is done
            del there
        if ahead is not None:
            cupy.cuda.get_current_stream().wait_event(ahead[1])
            yield ahead[0]
