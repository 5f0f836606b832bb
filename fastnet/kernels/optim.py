"""Optimizer steps by handwritten kernels: many arrays in one launch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import addressable, check_array, is_numpy, stream_of
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
        check_array(name, "lr", lr, dtypes=("float32", "float64"), like=like)
        if lr.size != 1:
            raise InputError(f"{name}: lr has {lr.size} elements, expected a number or an array of one")
        return 0.0, addressable(lr)
    return float(lr), None


def _check_lists(name: str, lists: dict[str, Sequence | None]) -> None:
    """Lists of arrays as long as the first, each array like the first list's; all but "grads" are updated. With
    "masters", which are float32 beside 16-bit params, states are as those."""
    first, params = next(iter(lists.items()))
    given = [(argument, arrays) for argument, arrays in lists.items() if arrays is not None or argument == "grads"]
    for argument, arrays in given:
        if not isinstance(arrays, (list, tuple)):
            raise KindError(f"{name}: {argument} is a {type(arrays).__name__}, expected a list of arrays")
        if len(arrays) != len(params):  # type: ignore[arg-type]
            raise InputError(
                f"{name}: {argument} has {len(arrays)} arrays, expected one for each of the {len(params)} {first}"  # type: ignore[arg-type]
            )
    seen: dict[int, str] = {}
    masters = lists.get("masters") is not None
    for i, p in enumerate(params):  # type: ignore[arg-type]
        for argument, arrays in given:
            a, label = arrays[i], f"{argument}[{i}]"  # type: ignore[index]
            if argument == first:
                dtypes = {"dtypes": ("float16", "bfloat16")} if masters else {}
                check_array(name, label, a, like=params[0], **dtypes)  # type: ignore[index]
            elif masters and argument != "grads":
                check_array(name, label, a, dtypes=("float32",), like=p)
            else:
                check_array(name, label, a, dtypes=(p.dtype.name,), like=p)
            if a.shape != p.shape:
                raise InputError(f"{name}: {label} has shape {tuple(a.shape)}, expected its param's, {tuple(p.shape)}")
            if argument != "grads" and a.size:
                _check_written(name, label, a, seen)


def _check_present(name: str, lists: dict[str, Any], *arguments: str) -> None:
    for argument in arguments:
        if lists[argument] is None:
            raise KindError(f"{name}: {argument} is a NoneType, expected a list of arrays")


def _check_written(name: str, label: str, a: Any, seen: dict[int, str]) -> None:
    if is_numpy(a) and not a.flags.writeable:
        raise InputError(f"{name}: {label} is read-only, expected an array that can be updated in place")
    if any(s == 0 and n > 1 for s, n in zip(a.strides, a.shape, strict=True)):
        raise InputError(f"{name}: {label} is a broadcast array, expected one whose elements lie apart")
    address = _address(a)
    if address in seen:
        raise InputError(f"{name}: {label} is the same memory as {seen[address]}, expected arrays that do not overlap")
    seen[address] = label


def _check_steps(name: str, steps: Any, params: Sequence) -> bool:
    """Whether steps are arrays, which the kernel counts up, and not numbers."""
    if not isinstance(steps, (list, tuple)):
        raise KindError(f"{name}: steps is a {type(steps).__name__}, expected a list of arrays or of numbers")
    if len(steps) != len(params):
        raise InputError(f"{name}: steps has {len(steps)} items, expected one for each of the {len(params)} params")
    arrays = [isinstance(s, np.ndarray) or hasattr(s, "__cuda_array_interface__") for s in steps]
    if not any(arrays):
        for i, s in enumerate(steps):
            if isinstance(s, bool) or not isinstance(s, (int, float, np.integer, np.floating)):
                raise KindError(f"{name}: steps[{i}] is a {type(s).__name__}, expected an array or a number")
        return False
    seen: dict[int, str] = {}
    for i, s in enumerate(steps):
        check_array(name, f"steps[{i}]", s, dtypes=("float32",), like=params[0])
        if s.size != 1:
            raise InputError(f"{name}: steps[{i}] has {s.size} elements, expected one")
        if _address(s) % 4:
            raise InputError(f"{name}: steps[{i}] lies at an address that is no multiple of 4, expected an aligned one")
        _check_written(name, f"steps[{i}]", s, seen)
    return True


def _check_gradients(name: str, gradients: Any, like: Any) -> None:
    if gradients is not None:
        check_array(name, "gradients", gradients, dtypes=("float64",), like=like)
        if gradients.shape != (3,) or not gradients.flags.c_contiguous or _address(gradients) % 8:
            raise InputError(
                f"{name}: gradients has shape {tuple(gradients.shape)}, expected what gradient_norm returned, (3,)"
            )


def _run(
    name: str,
    lists: dict[str, Sequence | None],
    steps: Sequence | None,
    lr: Any,
    gradients: Any,
    config: Any,
    **options: Any,
) -> None:
    """Launch extension function `name`, once for each dtype, on arrays that are runs in memory; copies of what is not.
    Arguments have been checked."""
    params: Sequence = lists["params"]  # type: ignore[assignment]
    rate, rate_array = _check_lr(name, lr, params[0])
    _check_gradients(name, gradients, params[0])
    ext = extension_for(params[0])
    if config is not None and not isinstance(config, ext.OptimConfig):
        raise KindError(f"{name}: config is a {type(config).__name__}, expected an OptimConfig of {ext.__name__}")
    counted = steps is not None and not isinstance(steps[0], (int, float, np.number))
    given = {argument: arrays for argument, arrays in lists.items() if arrays is not None}
    groups: dict[Any, list[int]] = {}
    ready: list[list[Any]] = []
    back: list[tuple[Any, Any]] = []
    for i, p in enumerate(params):
        together = [arrays[i] for arrays in given.values()]
        if not (_dense(p) and all(_order(a) == _order(p) and _address(a) % a.itemsize == 0 for a in together)):
            copies = [namespace(a).array(a, order="C") for a in together]
            back += [(a, b) for argument, a, b in zip(given, together, copies, strict=True) if argument != "grads"]
            together = copies
        ready.append(together)
        groups.setdefault(p.dtype, []).append(i)
    for members in groups.values():
        columns: dict[str, list] = {argument: [] for argument in lists}
        columns.update(zip(given, map(list, zip(*(ready[i] for i in members), strict=True)), strict=True))
        first = columns["params"]
        masters = columns.pop("masters")
        columns["narrow"] = first if masters else []
        columns["params"] = masters or first
        chosen = config or ext.optim_config(sum(math.prod(p.shape) for p in first))
        if steps is not None:
            mine = [steps[i] for i in members]
            options["step_arrays"] = mine if counted else []
            options["steps"] = [] if counted else [float(s) for s in mine]
            options["ticket"] = namespace(first[0]).zeros(1, np.uint32) if counted else None
        record(name, *first, config=chosen)
        getattr(ext, name)(
            **columns,
            lr=rate,
            lr_array=rate_array,
            **options,
            gradients=gradients,
            config=chosen,
            stream=stream_of(first[0]),
        )
    for to, source in back:
        to[...] = source


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
    masters: Sequence[Any] | None = None,
    gradients: Any = None,
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
        lr: learning rate: a number, or a float32 or float64 array of one element that the kernel reads.
        momentum, dampening, weight_decay, nesterov, maximize: as ``torch.optim.SGD``'s.
        first_step: set the momenta to the gradients; what they held is not read.
        masters: with 16-bit params, float32 copies of them, which are what is updated, with float32 states; the params
            become the copies, rounded. None without.
        gradients: what ``gradient_norm`` returned, read by the kernel: gradients count times its factor, and with skip
            nothing is updated or counted. None: they count as they are.
        config: an ``OptimConfig`` to use in place of the one chosen for the problem.

    Raises:
        TypeError, ValueError: arrays that do not fit, or memory that cannot be updated in place.
    """
    name = "sgd_step"
    lists = {"params": params, "grads": grads, "momenta": momenta, "masters": masters}
    _check_lists(name, lists)
    if (momenta is None) != (momentum == 0):
        raise InputError(
            f"{name}: momenta is {'None' if momenta is None else 'given'} with momentum {momentum}, expected "
            "None if and only if momentum is 0"
        )
    if params:
        _run(
            name,
            lists,
            None,
            lr,
            gradients,
            config,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
            first_step=first_step,
        )


def adam_step(
    params: Sequence[Any],
    grads: Sequence[Any],
    exp_avgs: Sequence[Any],
    exp_avg_sqs: Sequence[Any],
    max_exp_avg_sqs: Sequence[Any] | None,
    steps: Sequence[Any],
    *,
    lr: Any,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.0,
    eps: float = 1e-8,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    masters: Sequence[Any] | None = None,
    gradients: Any = None,
    config: Any = None,
) -> None:
    """One step of Adam, AMSGrad or AdamW on every array, in place; PyTorch's formula, with t counted from 1:

    ``g = grad (-grad to maximize)``; weight decay as ``p *= 1 - lr weight_decay`` if decoupled, else
    ``g += weight_decay p``;  ``m = beta1 m + (1 - beta1) g``;  ``v = beta2 v + (1 - beta2) g^2``;
    ``v_hat = max(v_max, v)``, kept as v_max, with AMSGrad, else v;
    ``p -= lr / (1 - beta1^t) m / (sqrt(v_hat / (1 - beta2^t)) + eps)``.

    16-bit elements are computed in float32 and rounded as they are stored. One launch for each dtype and 65 arrays.
    Arrays that are not runs in memory of one order are copied, updated and copied back, as by ``sgd_step``.

    Args:
        params: list of float32, float64, float16 or bfloat16 arrays; updated.
        grads: arrays of the same shapes and dtypes.
        exp_avgs, exp_avg_sqs: m and v: the same again, updated.
        max_exp_avg_sqs: v_max with AMSGrad: the same again, updated; None without.
        steps: for each param how many steps there were before this one: float32 arrays of one element, which the kernel
            reads and counts up, so that a captured step replays; or numbers, which stay as they are.
        lr: learning rate: a number, or a float32 or float64 array of one element that the kernel reads.
        beta1, beta2, weight_decay, eps, maximize, decoupled_weight_decay: as ``torch.optim.Adam``'s.
        masters: with 16-bit params, float32 copies of them, which are what is updated, with float32 states; the params
            become the copies, rounded. None without.
        gradients: what ``gradient_norm`` returned, read by the kernel: gradients count times its factor, and with skip
            nothing is updated or counted. None: they count as they are.
        config: an ``OptimConfig`` to use in place of the one chosen for the problem.

    Raises:
        TypeError, ValueError: arrays that do not fit, or memory that cannot be updated in place.

    Source: Kingma and Ba 2015, section 2; Reddi et al. 2018; Loshchilov and Hutter 2019.
    """
    name = "adam_step"
    lists = {
        "params": params,
        "grads": grads,
        "exp_avgs": exp_avgs,
        "exp_avg_sqs": exp_avg_sqs,
        "max_exp_avg_sqs": max_exp_avg_sqs,
        "masters": masters,
    }
    _check_present(name, lists, "exp_avgs", "exp_avg_sqs")
    _check_lists(name, lists)
    _check_steps(name, steps, params)
    for argument, beta in (("beta1", beta1), ("beta2", beta2)):
        if not 0 <= beta < 1:
            raise InputError(f"{name}: {argument} is {beta}, expected a number from 0 to below 1")
    if params:
        _run(
            name,
            lists,
            steps,
            lr,
            gradients,
            config,
            beta1=beta1,
            beta2=beta2,
            weight_decay=weight_decay,
            eps=eps,
            maximize=maximize,
            decoupled=decoupled_weight_decay,
        )


def adagrad_step(
    params: Sequence[Any],
    grads: Sequence[Any],
    sums: Sequence[Any],
    steps: Sequence[Any],
    *,
    lr: Any,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
    masters: Sequence[Any] | None = None,
    gradients: Any = None,
    config: Any = None,
) -> None:
    """One step of Adagrad on every array, in place; PyTorch's formula, with t counted from 1:

    ``g = grad (-grad to maximize) + weight_decay p``;  ``sum += g^2``;
    ``p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(sum) + eps)``.

    Args:
        params: list of float32, float64, float16 or bfloat16 arrays; updated.
        grads: arrays of the same shapes and dtypes.
        sums: sums of squared gradients: the same again, updated.
        steps: as ``adam_step``'s.
        lr: learning rate: a number, or a float32 or float64 array of one element that the kernel reads.
        lr_decay, weight_decay, eps, maximize: as ``torch.optim.Adagrad``'s.
        masters: with 16-bit params, float32 copies of them, which are what is updated, with float32 states; the params
            become the copies, rounded. None without.
        gradients: what ``gradient_norm`` returned, read by the kernel: gradients count times its factor, and with skip
            nothing is updated or counted. None: they count as they are.
        config: an ``OptimConfig`` to use in place of the one chosen for the problem.

    Raises:
        TypeError, ValueError: arrays that do not fit, or memory that cannot be updated in place.

    Source: Duchi et al. 2011, as PyTorch has it.
    """
    name = "adagrad_step"
    lists: dict[str, Sequence | None] = {"params": params, "grads": grads, "sums": sums, "masters": masters}
    _check_present(name, lists, "sums")
    _check_lists(name, lists)
    _check_steps(name, steps, params)
    if params:
        _run(
            name,
            lists,
            steps,
            lr,
            gradients,
            config,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            eps=eps,
            maximize=maximize,
        )


def rmsprop_step(
    params: Sequence[Any],
    grads: Sequence[Any],
    square_avgs: Sequence[Any],
    momenta: Sequence[Any] | None,
    grad_avgs: Sequence[Any] | None,
    steps: Sequence[Any],
    *,
    lr: Any,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    maximize: bool = False,
    masters: Sequence[Any] | None = None,
    gradients: Any = None,
    config: Any = None,
) -> None:
    """One step of RMSprop on every array, in place; PyTorch's formula:

    ``g = grad (-grad to maximize) + weight_decay p``;  ``s = alpha s + (1 - alpha) g^2``;  centered:
    ``a = alpha a + (1 - alpha) g`` and ``d = sqrt(s - a^2) + eps``, else ``d = sqrt(s) + eps``;  with momentum
    ``b = momentum b + g / d`` and ``p -= lr b``, else ``p -= lr g / d``.

    Args:
        params: list of float32, float64, float16 or bfloat16 arrays; updated.
        grads: arrays of the same shapes and dtypes.
        square_avgs: s: the same again, updated.
        momenta: b: the same again, updated; None if and only if momentum is 0.
        grad_avgs: a: the same again, updated; None if not centered.
        steps: as ``adam_step``'s; they are counted and enter no formula.
        lr: learning rate: a number, or a float32 or float64 array of one element that the kernel reads.
        alpha, eps, weight_decay, momentum, maximize: as ``torch.optim.RMSprop``'s.
        masters: with 16-bit params, float32 copies of them, which are what is updated, with float32 states; the params
            become the copies, rounded. None without.
        gradients: what ``gradient_norm`` returned, read by the kernel: gradients count times its factor, and with skip
            nothing is updated or counted. None: they count as they are.
        config: an ``OptimConfig`` to use in place of the one chosen for the problem.

    Raises:
        TypeError, ValueError: arrays that do not fit, or memory that cannot be updated in place.

    Source: Tieleman and Hinton 2012, lecture 6.5; centered: Graves 2013, section 4.2; as PyTorch has it.
    """
    name = "rmsprop_step"
    lists = {
        "params": params,
        "grads": grads,
        "square_avgs": square_avgs,
        "momenta": momenta,
        "grad_avgs": grad_avgs,
        "masters": masters,
    }
    _check_present(name, lists, "square_avgs")
    _check_lists(name, lists)
    _check_steps(name, steps, params)
    if (momenta is None) != (momentum == 0):
        raise InputError(
            f"{name}: momenta is {'None' if momenta is None else 'given'} with momentum {momentum}, expected "
            "None if and only if momentum is 0"
        )
    if params:
        _run(
            name,
            lists,
            steps,
            lr,
            gradients,
            config,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            maximize=maximize,
        )
