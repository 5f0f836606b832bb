"""How a tensor prints: as PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet import _dtypes

THRESHOLD, EDGE, WIDTH, PRECISION = 1000, 3, 80, 4


class _Numbers:
    """One format for all elements, chosen from those that are shown."""

    def __init__(self, shown: np.ndarray, floating: bool):
        self.floating = floating
        self.integral, self.scientific = True, False
        self.width = 1
        if not floating:
            self.width = max([len(str(v)) for v in shown.tolist()] or [1])
            return
        # What is neither 0 nor NaN nor infinite decides the format and the width, as in PyTorch.
        kept = [v for v in shown.tolist() if math.isfinite(v) and v != 0]
        if not kept:
            return
        low, high = min(map(abs, kept)), max(map(abs, kept))
        self.integral = all(v == math.ceil(v) for v in kept)
        self.scientific = high / low > 1000.0 or high > 1.0e8 or (not self.integral and low < 1.0e-4)
        self.width = max(len(self(v, False)) for v in kept)

    def __call__(self, value: Any, pad: bool = True) -> str:
        if not self.floating:
            text = str(value)
        elif self.scientific and math.isfinite(value):
            text = f"{value:.{PRECISION}e}"
        elif self.integral and math.isfinite(value):
            text = f"{value:.0f}."
        else:
            text = f"{value:.{PRECISION}f}"
        return text.rjust(self.width) if pad else text


def _shown(x: np.ndarray) -> np.ndarray:
    """The elements that will be printed, flat."""
    for axis, n in enumerate(x.shape):
        if n > 2 * EDGE:
            x = np.concatenate([np.take(x, range(EDGE), axis), np.take(x, range(n - EDGE, n), axis)], axis)
    return x.reshape(-1)


def _text(x: np.ndarray, indent: int, number: _Numbers, short: bool) -> str:
    if x.ndim == 0:
        return number(x.item())
    n = len(x)
    if x.ndim == 1:
        per_line = max(1, (WIDTH - indent) // (number.width + 2))
        items = (
            [number(v) for v in x.tolist()]
            if not short or n <= 2 * EDGE
            else ([number(v) for v in x[:EDGE].tolist()] + [" ..."] + [number(v) for v in x[-EDGE:].tolist()])
        )
        lines = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    rows = [_text(x[i], indent + 1, number, short) for i in (range(n) if not short or n <= 2 * EDGE else range(EDGE))]
    if short and n > 2 * EDGE:
        rows += ["..."] + [_text(x[i], indent + 1, number, short) for i in range(n - EDGE, n)]
    return "[" + ("," + "\n" * (x.ndim - 1) + " " * (indent + 1)).join(rows) + "]"


def tensor_text(t: Any) -> str:
    prefix = "tensor("
    dtype = t.dtype
    data = t.detach()._host()
    if dtype in (_dtypes.bfloat16, _dtypes.float16):
        data = data.astype(np.float32)
    suffixes = []
    if t.is_cuda:
        suffixes.append(f"device='{t.device}'")
    if data.size == 0:
        body = "[]"
        if data.ndim != 1:
            suffixes.append(f"size={tuple(data.shape)}")
        if dtype is not _dtypes.get_default_dtype():
            suffixes.append(f"dtype={dtype}")
    else:
        if dtype not in (_dtypes.get_default_dtype(), _dtypes.int64, _dtypes.bool_):
            suffixes.append(f"dtype={dtype}")
        short = data.size > THRESHOLD
        number = _Numbers(_shown(data) if short else data.reshape(-1), dtype.is_floating_point)
        body = _text(data, len(prefix), number, short)
    if t.grad_fn is not None:
        suffixes.append(f"grad_fn={t.grad_fn!r}")
    elif t.requires_grad:
        suffixes.append("requires_grad=True")
    return prefix + ", ".join([body, *suffixes]) + ")"
