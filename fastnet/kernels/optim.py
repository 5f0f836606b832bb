"""Optimizer steps by handwritten kernels: many arrays in one launch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.kernels._arrays import check_array, is_numpy, stream_of
from fastnet.kernels._runtime import extension_for, record


def _dense(x: Any) -> bool:
    """Whether x is a permutation of a C-contiguous array, so that its elements are one run in memory."""
    if x.flags.c_contiguous or x.flags.f_contiguous:
        return True
    expected = x.itemsize
    for stride, size in sorted(zip(x.strides, x.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def _address(x: Any) -> int:
    return x.__array_interface__["data"][0] if is_numpy(x) else x.data.ptr


def _order(x: Any) -> tuple[int, ...]:
    """The strides that decide where elements lie: those of dimensions of one element do not."""
    return tuple(s for s, n in zip(x.strides, x.shape, strict=True) if n != 1)


def _check_lr(name: str, lr: Any, like: Any) -> tuple[float, Any]:
    """(number, None) or (0, array)."""
    if isinstance(lr, np.ndarray) or hasattr(lr, "__cuda_array_interface__"):
        check_array(name, "lr", lr, dtypes=("float32",), like=like)
        if lr.size != 1:
            raise ValueError(f"{name}: lr has {lr.size} elements, expected a number or an array of one")
        return 0.0, lr
    return float(lr), None


def _check_lists(name: str, params: Sequence, grads: Sequence, momenta: Sequence | None) -> None:
    lists = [("params", params, True), ("grads", grads, False)] + (
        [] if momenta is None else [("momenta", momenta, True)]
    )
    for argument, arrays, _ in lists:
        if not isinstance(arrays, (list, tuple)):
            raise TypeError(f"{name}: {argument} is a {type(arrays).__name__}, expected a list of arrays")
        if len(arrays) != len(params):
            raise ValueError(
                f"{name}: {argument} has {len(arrays)} arrays, expected one for each of the {len(params)} params"
            )
    seen: dict[int, str] = {}
    for i, p in enumerate(params):
        for argument, arrays, written in lists:
            a, label = arrays[i], f"{argument}[{i}]"
            if argument == "params":
                check_array(name, label, a, like=params[0])
            else:
                check_array(name, label, a, dtypes=(p.dtype.name,), like=p)
            if a.shape != p.shape:
                raise ValueError(f"{name}: {label} has shape {tuple(a.shape)}, expected its param's, {tuple(p.shape)}")
            if not written or not a.size:
                continue
            if is_numpy(a) and not a.flags.writeable:
                raise ValueError(f"{name}: {label} is read-only, expected an array that can be updated in place")
            if any(s == 0 and n > 1 for s, n in zip(a.strides, a.shape, strict=True)):
                raise ValueError(f"{name}: {label} is a broadcast array, expected one whose elements lie apart")
            address = _address(a)
            if address in seen:
                raise ValueError(
                    f"{name}: {label} is the same memory as {seen[address]}, expected arrays that do not overlap"
                )
            seen[address] = label


def sgd_step(
    params: Sequence[Any],
    grads: Sequence[Any],
    momenta: Sequence[Any] | None,
    *,
    lr: Any,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    first_step: bool = False,
    config: Any = None,
) -> None:
    """One step of stochastic gradient descent on every array, in place; PyTorch's formula:

    ``g = grad (-grad to maximize) + weight_decay p``;  ``buf = g`` on the first step, else
    ``momentum buf + (1 - dampening) g``;  ``p -= lr (g + momentum buf if nesterov else buf)``, or ``p -= lr g`` without
    momentum. 16-bit elements are computed in float32 and rounded as they are stored.

    One launch for each dtype and 88 arrays. A param, its gradient and its momentum are updated where they are when all
    three have the same strides and fill their memory. Otherwise (a sliced param, a gradient in another memory order, an
    address that is no multiple of the item size) they are copied to C order, updated there, and copied back.

    Args:
        params: list of float32, float64, float16 or bfloat16 arrays; updated.
        grads: arrays of the same shapes and dtypes.
        momenta: the same again, updated; None if and only if momentum is 0.
        lr: learning rate: a number, or a float32 array of one element that the kernel reads.
        momentum, dampening, weight_decay, nesterov, maximize: as ``torch.optim.SGD``'s.
        first_step: set the momenta to the gradients; what they held is not read.
        config: an ``OptimConfig`` to use in place of the one chosen for the problem.

    Raises:
        TypeError, ValueError: arrays that do not fit, or memory that cannot be updated in place.
    """
    name = "sgd_step"
    _check_lists(name, params, grads, momenta)
    if (momenta is None) != (momentum == 0):
        raise ValueError(
            f"{name}: momenta is {'None' if momenta is None else 'given'} with momentum {momentum}, expected "
            "None if and only if momentum is 0"
        )
    if not params:
        return
    rate, rate_array = _check_lr(name, lr, params[0])
    ext = extension_for(params[0])
    groups: dict[Any, list[tuple[Any, Any, Any]]] = {}
    back: list[tuple[Any, Any]] = []
    for i, p in enumerate(params):
        three = [p, grads[i]] + ([momenta[i]] if momenta is not None else [])
        in_place = _dense(p) and all(_order(a) == _order(p) and _address(a) % a.itemsize == 0 for a in three)
        if not in_place:
            three = [namespace(a).array(a, order="C") for a in three]
            back.append((p, three[0]))
            if momenta is not None:
                back.append((momenta[i], three[2]))
        groups.setdefault(p.dtype, []).append((three[0], three[1], three[2] if momenta is not None else None))
    for group in groups.values():
        ps, gs, ms = (list(column) for column in zip(*group, strict=True))
        chosen = config or ext.optim_config(sum(math.prod(p.shape) for p in ps))
        record(name, *ps, config=chosen)
        ext.sgd_step(
            ps,
            gs,
            ms if momenta is not None else [],
            rate,
            rate_array,
            momentum,
            dampening,
            weight_decay,
            nesterov,
            maximize,
            first_step,
            chosen,
            stream_of(ps[0]),
        )
    for to, source in back:
        to[...] = source
