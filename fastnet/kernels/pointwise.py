"""Bias, activation and residual, and gated units, by handwritten kernels."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import check_array, empty, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.reference.pointwise import ACTIVATIONS, check_gated


def check_activation(function: str, activation: str, parameter: float | None) -> float:
    """The parameter as the extension takes it: NaN stands for the activation's default."""
    if activation not in ACTIVATIONS:
        raise InputError(f"{function}: activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    if parameter is not None and not isinstance(parameter, (int, float)):
        raise KindError(f"{function}: parameter is a {type(parameter).__name__}, expected a number or None")
    return math.nan if parameter is None else float(parameter)


def check_operands(function: str, x: Any, name: str = "x", /, **others: Any) -> tuple[Any, dict[str, Any], int, int]:
    """x and the arrays beside it as contiguous memory, and (rows, cols).

    Memory in any other order is copied: the elements' places in C order decide what is drawn for them.
    """
    check_array(function, name, x)
    cols = x.shape[-1] if x.ndim else 1
    rows = x.size // cols if cols else 0
    out = {}
    for argument, a in others.items():
        if a is not None:
            check_array(function, argument, a, dtypes=(x.dtype.name,), like=x)
            wanted = (cols,) if argument == "bias" else tuple(x.shape)
            if tuple(a.shape) != wanted:
                raise InputError(f"{function}: {argument} has shape {tuple(a.shape)}, expected {wanted}")
            a = contiguous(a)
        out[argument] = a
    return contiguous(x), out, rows, cols


def contiguous(x: Any) -> Any:
    """x itself if its memory is in C order and its pointer a multiple of its item size, else a copy."""
    if x.flags.c_contiguous and address(x) % x.itemsize == 0:
        return x
    return x.copy(order="C")


def other_order(x: Any, *others: Any) -> tuple[int, ...] | None:
    """The axes in which x's memory, dense but not in C order, is walked from end to end (channels-last images); None
    where it is no such array, or the others are not of its shape."""
    if not hasattr(x, "strides") or x.ndim < 2 or x.flags.c_contiguous:
        return None
    axes = tuple(sorted(range(x.ndim), key=lambda i: (-x.strides[i], -x.shape[i])))
    same = all(a is None or getattr(a, "shape", None) == x.shape for a in others)
    return axes if same and x.transpose(axes).flags.c_contiguous else None


def in_order(function: Any, axes: tuple[int, ...], *arrays: Any, **options: Any) -> Any:
    """function of the arrays with their axes in this order, and its result with them back in place."""
    moved = [None if a is None else a.transpose(axes) for a in arrays]
    return function(*moved, **options).transpose(tuple(axes.index(i) for i in range(len(axes))))


def address(x: Any) -> int:
    return x.__array_interface__["data"][0] if isinstance(x, np.ndarray) else x.data.ptr


def choose(extension: Any, config: Any, x: Any, cols: int, *arrays: Any, bias: Any = None) -> Any:
    """The config for these arrays: vectors where all pointers and, with a bias, the row length allow them."""
    vector = max(4, 16 // x.itemsize)
    fits = x.size % vector == 0 and (bias is None or cols % vector == 0)
    fits = fits and all(address(a) % (vector * x.itemsize) == 0 for a in (x, *arrays, bias) if a is not None)
    if config is None:
        return extension.pointwise_config(x.size, x.itemsize, fits)
    check_config(extension, config)
    if config.vector != 1 and not fits:
        raise InputError(f"config {config}: these arrays' alignment or sizes allow only vector=1")
    return config


def check_config(extension: Any, config: Any) -> None:
    if not isinstance(config, extension.PointwiseConfig):
        raise KindError(f"config is a {type(config).__name__}, expected a PointwiseConfig")
    if config.blocks < 1:
        raise InputError(f"config {config}: blocks must be at least 1")


def bias_activation(
    x: Any,
    bias: Any = None,
    *,
    activation: str = "none",
    parameter: float | None = None,
    residual: Any = None,
    config: Any = None,
) -> Any:
    """``residual + activation(x + bias)`` in one pass.

    Args:
        x: (..., cols) float32, float64, float16 or bfloat16.
        bias: (cols,) of x's dtype, or None.
        activation: a name from ``fastnet.reference.pointwise.ACTIVATIONS``.
        parameter: the activation's number (slope, alpha, beta), None for its default.
        residual: of x's shape and dtype, or None.
        config: a ``PointwiseConfig`` to use in place of the one chosen for the problem.

    Returns:
        An array of x's shape and dtype, computed in float32 (float64 for float64) and rounded once; without a bias in
        the order that x has in memory.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    number = check_activation("bias_activation", activation, parameter)
    if bias is None and (axes := other_order(x, residual)):
        return in_order(
            lambda x, residual: bias_activation(
                x, activation=activation, parameter=parameter, residual=residual, config=config
            ),
            axes,
            x,
            residual,
        )
    x, others, rows, cols = check_operands("bias_activation", x, bias=bias, residual=residual)
    ext = extension_for(x)
    out = empty(x, x.shape)
    config = choose(ext, config, x, cols, out, others["residual"], bias=others["bias"])
    record("bias_activation", x, config=config)
    ext.bias_activation(
        out, x, others["bias"], others["residual"], rows, cols, activation, number, config, stream_of(x)
    )
    return out


def bias_activation_backward(
    grad: Any, x: Any, bias: Any = None, *, activation: str, parameter: float | None = None, config: Any = None
) -> Any:
    """``grad * activation'(x + bias)``: the gradient of x, and by columns that of the bias.

    Args:
        grad: of x's shape and dtype.
        x, bias, activation, parameter, config: as in ``bias_activation``.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    number = check_activation("bias_activation_backward", activation, parameter)
    if bias is None and grad is not None and (axes := other_order(x, grad)):
        return in_order(
            lambda grad, x: bias_activation_backward(
                grad, x, activation=activation, parameter=parameter, config=config
            ),
            axes,
            grad,
            x,
        )
    x, others, rows, cols = check_operands("bias_activation_backward", x, grad=grad, bias=bias)
    if others["grad"] is None:
        raise KindError("bias_activation_backward: grad is None, expected an array")
    ext = extension_for(x)
    out = empty(x, x.shape)
    config = choose(ext, config, x, cols, out, others["grad"], bias=others["bias"])
    record("bias_activation_backward", x, config=config)
    ext.bias_activation_backward(
        out, others["grad"], x, others["bias"], rows, cols, activation, number, config, stream_of(x)
    )
    return out


def _rows(x: Any) -> Any:
    """x (..., cols) as (rows, cols) with neighbouring columns and rows evenly apart: itself, or a copy."""
    cols = x.shape[-1]
    if address(x) % x.itemsize == 0 and not any(s % x.itemsize for s in x.strides) and x.strides[-1] == x.itemsize:
        if x.flags.c_contiguous:
            return x.reshape(-1, cols)
        kept = [(n, s) for n, s in zip(x.shape[:-1], x.strides[:-1], strict=True) if n != 1]
        inner = kept[-1][1] if kept else cols * x.itemsize
        together = all(s == n * t for (_, s), (n, t) in itertools.pairwise(kept))
        if together and inner >= cols * x.itemsize:
            return _strided(x, (x.size // cols, cols), (inner, x.itemsize))
    return x.copy(order="C").reshape(-1, cols)


def _strided(x: Any, shape: tuple[int, int], strides: tuple[int, int]) -> Any:
    return namespace(x).lib.stride_tricks.as_strided(x, shape, strides)


def _gated_config(ext: Any, config: Any, *arrays: Any) -> Any:
    """The config for rows of these arrays: vectors where pointers, columns and strides allow them."""
    x = arrays[0]
    vector = max(4, 16 // x.itemsize)
    parts = [x.shape[1], *(s // x.itemsize for a in arrays for s in a.strides[:1])]
    fits = not any(n % vector for n in parts) and not any(address(a) % (vector * x.itemsize) for a in arrays)
    if config is None:
        return ext.pointwise_config(x.size, x.itemsize, fits)
    check_config(ext, config)
    if config.vector != 1 and not fits:
        raise InputError(f"config {config}: these arrays' alignment or sizes allow only vector=1")
    return config


def _as_one_row(*arrays: Any) -> list[Any]:
    """Contiguous arrays (rows, cols) as (1, elements), so that no thread divides; others as they are."""
    if all(a.flags.c_contiguous for a in arrays):
        return [a.reshape(1, -1) for a in arrays]
    return list(arrays)


def gated_activation(
    gate: Any, up: Any, *, activation: str = "silu", parameter: float | None = None, config: Any = None
) -> Any:
    """``activation(gate) * up`` in one pass: SwiGLU with "silu", GEGLU with "gelu", GLU with "sigmoid" (Shazeer 2020).

    Args:
        gate: (..., cols) float32, float64, float16 or bfloat16, at least one dimension. Halves of longer rows are read
            where they lie.
        up: of gate's shape and dtype.
        activation, parameter: as in ``bias_activation``.
        config: a ``PointwiseConfig`` to use in place of the one chosen for the problem.

    Returns:
        A contiguous array of gate's shape and dtype, computed in float32 (float64 for float64) and rounded once.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    name = "gated_activation"
    number = check_activation(name, activation, parameter)
    check_gated(name, gate, up=up)
    ext = extension_for(gate)
    out = empty(gate, gate.shape)
    if out.size:
        arrays = _as_one_row(*(_rows(x) for x in (gate, up, out)))
        config = _gated_config(ext, config, *arrays)
        record(name, gate, up, config=config)
        ext.gated_activation(arrays[2], *arrays[:2], activation, number, config, stream_of(gate))
    return out


def gated_activation_backward(
    grad: Any,
    gate: Any,
    up: Any,
    *,
    activation: str = "silu",
    parameter: float | None = None,
    together: bool = False,
    config: Any = None,
) -> Any:
    """Gradients of ``gated_activation``: ``grad * up * activation'(gate)`` and ``grad * activation(gate)``.

    Args:
        grad: of gate's shape and dtype.
        gate, up, activation, parameter, config: as in ``gated_activation``.
        together: return both in one array, gate's before up's in each row.

    Returns:
        Gradients of gate and up, of their shape and dtype; (..., 2 cols) where together.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    name = "gated_activation_backward"
    number = check_activation(name, activation, parameter)
    check_gated(name, gate, up=up, grad=grad)
    ext = extension_for(gate)
    cols = gate.shape[-1]
    if together:
        both = empty(gate, (*gate.shape[:-1], 2 * cols))
        outs = both[..., :cols], both[..., cols:]
    else:
        outs = both = empty(gate, gate.shape), empty(gate, gate.shape)
    if gate.size:
        arrays = _as_one_row(*(_rows(x) for x in (*outs, grad, gate, up)))
        config = _gated_config(ext, config, *arrays)
        record(name, grad, gate, up, config=config)
        ext.gated_activation_backward(*arrays, activation, number, config, stream_of(gate))
    return both
