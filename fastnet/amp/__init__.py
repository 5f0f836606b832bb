"""Mixed precision: ``autocast`` runs matrix products and convolutions in 16 bits, ``GradScaler`` keeps small float16
gradients from vanishing (Micikevicius et al.: Mixed precision training, ICLR 2018)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from fastnet import _autocast, _dtypes
from fastnet._tensor import Tensor
from fastnet.amp.grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]


def is_autocast_available(device_type: str) -> bool:
    """Whether autocast knows this type of device: cpu and cuda."""
    return device_type in ("cpu", "cuda")


def get_autocast_dtype(device_type: str) -> _dtypes.dtype:
    """The dtype that autocast uses by default: float16 on the GPU, bfloat16 on the CPU."""
    _check(device_type)
    return _autocast.get(device_type) or (_dtypes.float16 if device_type == "cuda" else _dtypes.bfloat16)


def is_autocast_enabled(device_type: str | None = None) -> bool:
    """Whether autocast is in force on a type of device, by default the GPU."""
    return _autocast.get("cuda" if device_type is None else device_type) is not None


def get_autocast_gpu_dtype() -> _dtypes.dtype:
    """``get_autocast_dtype("cuda")`` by its older name."""
    return get_autocast_dtype("cuda")


def get_autocast_cpu_dtype() -> _dtypes.dtype:
    """``get_autocast_dtype("cpu")`` by its older name."""
    return get_autocast_dtype("cpu")


def is_autocast_cpu_enabled() -> bool:
    """``is_autocast_enabled("cpu")`` by its older name."""
    return is_autocast_enabled("cpu")


def _check(device_type: Any) -> None:
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if not is_autocast_available(device_type):
        raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")


class autocast:
    """Run what gains from tensor cores in 16 bits and what needs it in float32, inside a block or a function.

    Casts arguments of public functions (lists in ``fastnet/_autocast.py``, which are PyTorch's); parameters stay as
    they are and get gradients of their own dtype. Backward belongs outside.

    Args:
        device_type: ``"cpu"`` or ``"cuda"``.
        dtype: float16 or bfloat16; None for bfloat16 on the CPU, float16 on the GPU.
        enabled: False to switch it off inside a block.
        cache_enabled: whether a parameter is cast once for the whole block.

    >>> import fastnet
    >>> with fastnet.autocast("cpu"):
    ...     (fastnet.ones(2, 2) @ fastnet.ones(2, 2)).dtype
    fastnet.bfloat16
    """

    def __init__(
        self,
        device_type: str,
        dtype: _dtypes.dtype | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ):
        _check(device_type)
        self.device, self._enabled = device_type, enabled
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else _dtypes.as_dtype(dtype)
        if enabled and self.fast_dtype not in (_dtypes.float16, _dtypes.bfloat16):
            raise ValueError(f"autocast: dtype is {self.fast_dtype}, expected float16 or bfloat16")
        self._cache = cache_enabled is not False
        self._before: list[tuple] = []

    def __enter__(self) -> autocast:
        self._before.append(_autocast.set(self.device, self.fast_dtype if self._enabled else None, self._cache))
        return self

    def __exit__(self, *exception: object) -> None:
        _autocast.restore(self._before.pop())

    def __call__(self, function: Callable) -> Callable:
        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return inside


def custom_fwd(fwd: Callable | None = None, *, device_type: str, cast_inputs: _dtypes.dtype | None = None) -> Callable:
    """Decorates ``forward`` of an ``autograd.Function``: with ``cast_inputs``, floating-point tensors come in that
    dtype and autocast is off inside; without, forward runs as the block does that calls it."""
    if fwd is None:
        return lambda f: custom_fwd(f, device_type=device_type, cast_inputs=cast_inputs)
    _check(device_type)

    @wraps(fwd)
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        here = _autocast.get(device_type)
        ctx._autocast_dtype = here if cast_inputs is None else None
        if cast_inputs is None or here is None:
            return fwd(ctx, *args, **kwargs)
        with autocast(device_type, enabled=False):
            cast = [_cast(a, cast_inputs) for a in args]
            return fwd(ctx, *cast, **{k: _cast(v, cast_inputs) for k, v in kwargs.items()})

    return forward


def custom_bwd(bwd: Callable | None = None, *, device_type: str) -> Callable:
    """Decorates ``backward`` where ``forward`` has ``custom_fwd``: autocast is as it was there."""
    if bwd is None:
        return lambda f: custom_bwd(f, device_type=device_type)
    _check(device_type)

    @wraps(bwd)
    def backward(ctx: Any, *grads: Any) -> Any:
        dtype = getattr(ctx, "_autocast_dtype", None)
        with autocast(device_type, dtype, enabled=dtype is not None):
            return bwd(ctx, *grads)

    return backward


def _cast(x: Any, dtype: _dtypes.dtype) -> Any:
    return x.to(dtype) if isinstance(x, Tensor) and x.dtype.is_floating_point else x
