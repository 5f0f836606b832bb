"""torch.cuda.amp's names: autocast and GradScaler for the GPU."""

from __future__ import annotations

from typing import Any

from fastnet import _dtypes, amp

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd"]


class autocast(amp.autocast):
    """``fastnet.amp.autocast("cuda", ...)``."""

    def __init__(self, enabled: bool = True, dtype: _dtypes.dtype = _dtypes.float16, cache_enabled: bool = True):
        super().__init__("cuda", dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """``fastnet.amp.GradScaler("cuda", ...)``."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__("cuda", *args, **kwargs)


def custom_fwd(fwd: Any = None, *, cast_inputs: _dtypes.dtype | None = None) -> Any:
    """``fastnet.amp.custom_fwd`` for the GPU."""
    return amp.custom_fwd(fwd, device_type="cuda", cast_inputs=cast_inputs)


def custom_bwd(bwd: Any = None) -> Any:
    """``fastnet.amp.custom_bwd`` for the GPU."""
    return amp.custom_bwd(bwd, device_type="cuda")
