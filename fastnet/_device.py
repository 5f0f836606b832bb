"""Devices: what there is, what is current, and waiting for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet.errors import KindError

_why: str | bool | None = False  # False: not asked yet


def why_no_cuda() -> str | None:
    """Why no GPU can be used, or None when one can. Asked once."""
    global _why
    if _why is False:
        try:
            import cupy
        except ImportError as error:
            _why = f"CuPy is not installed ({error}): pip install 'fastnet[cuda]'"
        else:
            try:
                _why = None if cupy.cuda.runtime.getDeviceCount() else "the driver reports no GPU"
            except Exception as error:  # CUDARuntimeError, but its module needs a driver to name it
                _why = f"no usable GPU or driver: {error}"
    return _why  # type: ignore[return-value]


_entered: list = []


class device:
    """A device, as ``torch.device``: ``device("cpu")``, ``device("cuda")``, ``device("cuda:1")``, ``device("cuda",
    1)``."""

    __slots__ = ("index", "type")

    def __init__(self, type: Any, index: int | None = None):
        if isinstance(type, device):
            self.type, self.index = type.type, type.index
            return
        if isinstance(type, int) and not isinstance(type, bool):
            type, index = "cuda", type
        if not isinstance(type, str):
            raise KindError(f"device: expected a string such as 'cpu' or 'cuda:0', got {type!r}")
        kind, colon, number = type.partition(":")
        if colon:
            if index is not None or not number.isdigit():
                raise KindError(f"Invalid device string: '{type}'")
            index = int(number)
        if kind not in ("cpu", "cuda"):
            raise KindError(f"Expected one of cpu, cuda device type at start of device string: {kind}")
        self.type, self.index = kind, index

    @classmethod
    def of_array(cls, array: Any) -> device:
        return CPU if isinstance(array, np.ndarray) else cls("cuda", array.device.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __enter__(self) -> device:
        """``with device("cuda"): ...`` makes tensors there that name no device."""
        _entered.append(_default)
        set_default_device(self)
        return self

    def __exit__(self, *exception: object) -> None:
        set_default_device(_entered.pop())

    def __reduce__(self) -> tuple:
        return (device, (self.type,) if self.index is None else (self.type, self.index))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"


CPU = device("cpu")
_default: device = CPU


def get_default_device() -> device:
    """Where tensors are made that name no device."""
    return _default


def set_default_device(where: Any) -> None:
    """Make tensors that name no device on this one; None is the CPU."""
    global _default
    chosen = CPU if where is None else device(where)
    array_module(chosen)
    _default = chosen


def array_module(where: Any) -> Any:
    """numpy for the CPU, cupy for the current GPU; RuntimeError, saying why, if there is none or another is meant."""
    if where is None:
        where = _default
    chosen = device(where)
    if chosen.type == "cpu":
        return np
    why = why_no_cuda()
    if why:
        raise RuntimeError(f"device {where}: {why}")
    import cupy

    if chosen.index is not None and chosen.index != cupy.cuda.Device().id:  # where what is made would be
        raise RuntimeError(f"device {chosen} is not the current GPU: fastnet.cuda.set_device({chosen.index}) first")
    return cupy


def namespace(x: Any) -> Any:
    """numpy or cupy, whichever holds the array x."""
    if isinstance(x, np.ndarray):
        return np
    if not hasattr(x, "__cuda_array_interface__"):
        if hasattr(x, "recorded_module"):  # a stand-in for an array, in a backward that is recorded
            return x.recorded_module
        raise KindError(f"expected a tensor or an array, got {type(x).__name__}")
    import cupy

    return cupy


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    from fastnet import _capture

    _capture.refuse("synchronize")
    if why_no_cuda() is None:
        import cupy

        cupy.cuda.get_current_stream().synchronize()
        check_faults()


def check_faults() -> None:
    """Raise IndexError, naming the function, if a kernel on a GPU met an index out of range since the last check. Waits
    for the kernels that came before; every call that waits anyway makes it."""
    from fastnet import _faults

    _faults.check_faults()
