"""What happens to gradients between backward and the step, by handwritten kernels. Nothing waits for the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import check_array, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.kernels.optim import _address, _check_written, _dense

STATE = 3  # elements of what gradient_norm returns


def _check_grads(name: str, grads: Any, written: bool) -> None:
    if not isinstance(grads, (list, tuple)):
        raise KindError(f"{name}: grads is a {type(grads).__name__}, expected a list of arrays")
    if not grads:
        raise InputError(f"{name}: grads is empty, expected at least one array")
    seen: dict[int, str] = {}
    for i, g in enumerate(grads):
        check_array(name, f"grads[{i}]", g, like=grads[0])
        if written and g.size:
            _check_written(name, f"grads[{i}]", g, seen)


def _check_state(name: str, state: Any, like: Any) -> None:
    check_array(name, "state", state, dtypes=("float64",), like=like)
    if state.shape != (STATE,) or not state.flags.c_contiguous or _address(state) % 8:
        raise InputError(
            f"{name}: state has shape {tuple(state.shape)}, expected what gradient_norm returned, ({STATE},)"
        )


def _check_one(name: str, argument: str, x: Any, dtype: str, like: Any) -> None:
    check_array(name, argument, x, dtypes=(dtype,), like=like)
    if x.size != 1 or _address(x) % 4:
        raise InputError(
            f"{name}: {argument} has {x.size} elements, expected one, at an address that is a multiple of 4"
        )


def _config(name: str, ext: Any, config: Any, grads: Sequence[Any]) -> Any:
    if config is None:
        return ext.optim_config(sum(g.size for g in grads))
    if not isinstance(config, ext.OptimConfig):
        raise KindError(f"{name}: config is a {type(config).__name__}, expected an OptimConfig of {ext.__name__}")
    return config


def _by_dtype(grads: Sequence[Any]) -> list[tuple[list[int], list[Any]]]:
    """Places and arrays of each dtype; copies of arrays that are no runs in memory."""
    groups: dict[Any, list[int]] = {}
    for i, g in enumerate(grads):
        groups.setdefault(g.dtype, []).append(i)
    result = []
    for members in groups.values():
        arrays = [grads[i] for i in members]
        ready = [g if _dense(g) and _address(g) % g.itemsize == 0 else namespace(g).array(g, order="C") for g in arrays]
        result.append((members, ready))
    return result


def gradient_norm(grads: Sequence[Any], *, scale: Any = None, max_norm: float | None = None, config: Any = None) -> Any:
    """The norm of all gradients as one vector, and what a step is to do with them, left in device memory.

    ``norm = sqrt(sum g^2) / scale``;  ``factor = min(1, max_norm / (norm + 1e-6)) / scale``;  ``skip = 1`` where there
    is a scale and an element that is infinite or NaN, else 0.

    One launch for each dtype and as many arrays as a launch takes, and one of a single block, which adds up in a fixed
    order. Squares are added in float32 within a thread (float64 for float64), in float64 beyond.

    Args:
        grads: list of float32, float64, float16 or bfloat16 arrays, at least one.
        scale: what the loss was multiplied by: a float32 array of one element, or None.
        max_norm: what the norm is to be at most; None for no limit.
        config: an ``OptimConfig`` to use in place of the one chosen for the problem.

    Returns:
        (3,) float64: norm, factor, skip, as the optimizer steps take them.

    Raises:
        TypeError, ValueError: arrays of other dtypes or on other devices, no arrays, or a negative max_norm.

    Source: Pascanu et al. 2013, algorithm 1.
    """
    name = "gradient_norm"
    _check_grads(name, grads, False)
    if scale is not None:
        _check_one(name, "scale", scale, "float32", grads[0])
    if max_norm is not None and not max_norm >= 0:
        raise InputError(f"{name}: max_norm is {max_norm}, expected a number from 0 on, or None")
    ext = extension_for(grads[0])
    chosen = _config(name, ext, config, grads)
    xp, stream = namespace(grads[0]), stream_of(grads[0])
    rows = sum(-(-g.size // chosen.chunk) for g in grads)
    partials, state = xp.empty((rows, 2), np.float64), xp.empty(STATE, np.float64)
    record(name, *grads, config=chosen)
    first = 0
    for _, arrays in _by_dtype(grads):
        first += ext.gradient_squares(grads=arrays, partials=partials, first=first, config=chosen, stream=stream)
    limit = -1.0 if max_norm is None else float(max_norm)
    ext.gradient_state(partials=partials, scale=scale, max_norm=limit, state=state, stream=stream)
    return state


def scale_gradients(grads: Sequence[Any], state: Any, *, config: Any = None) -> None:
    """Multiply gradients by the factor in a state, in place.

    Args:
        grads: list of float32, float64, float16 or bfloat16 arrays, at least one; updated.
        state: (3,) float64, what ``gradient_norm`` returned.
        config: an ``OptimConfig`` to use in place of the one chosen for the problem.

    Raises:
        TypeError, ValueError: arrays that do not fit, or memory that cannot be updated in place.
    """
    name = "scale_gradients"
    _check_grads(name, grads, True)
    _check_state(name, state, grads[0])
    ext = extension_for(grads[0])
    chosen = _config(name, ext, config, grads)
    record(name, *grads, config=chosen)
    for members, arrays in _by_dtype(grads):
        ext.scale_gradients(grads=arrays, state=state, config=chosen, stream=stream_of(grads[0]))
        for i, g in zip(members, arrays, strict=True):
            if g is not grads[i]:
                grads[i][...] = g


def update_loss_scale(
    scale: Any, tracker: Any, state: Any, *, growth_factor: float, backoff_factor: float, growth_interval: int
) -> None:
    """What a loss is multiplied by from here on, by what a step met.

    With skip in the state ``scale *= backoff_factor`` and ``tracker = 0``. Without, ``tracker += 1``, and when it
    reaches the interval, ``scale *= growth_factor``, if that is finite, and ``tracker = 0``.

    Args:
        scale: float32 array of one element; updated.
        tracker: int32 array of one element: steps since the scale last changed; updated.
        state: (3,) float64, what ``gradient_norm`` returned.
        growth_factor, backoff_factor, growth_interval: see above.

    Raises:
        TypeError, ValueError: arrays that do not fit.

    Source: Micikevicius et al. 2018, section 3.2.
    """
    name = "update_loss_scale"
    _check_one(name, "scale", scale, "float32", scale)
    _check_one(name, "tracker", tracker, "int32", scale)
    for argument, array in (("scale", scale), ("tracker", tracker)):
        _check_written(name, argument, array, {})
    _check_state(name, state, scale)
    if not isinstance(growth_interval, int) or not 0 < growth_interval < 2**31:
        raise InputError(f"{name}: growth_interval is {growth_interval!r}, expected a positive integer of 32 bits")
    record(name, scale)
    extension_for(scale).update_loss_scale(
        scale=scale,
        tracker=tracker,
        state=state,
        growth=float(growth_factor),
        backoff=float(backoff_factor),
        interval=growth_interval,
        stream=stream_of(scale),
    )
