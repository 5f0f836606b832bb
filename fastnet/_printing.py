"""How a tensor prints: as PyTorch's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnet import _dtypes


@dataclass
class _Options:
    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_PROFILES = {"default": (4, 1000, 3, 80), "short": (2, 1000, 2, 80), "full": (4, math.inf, 3, 80)}
_options = _Options()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """How tensors print from here on.

    Args:
        precision: digits after the point (4).
        threshold: more elements than this are summarised (1000).
        edgeitems: how many a summary shows at each end of a dimension (3).
        linewidth: characters a line (80).
        profile: "default", "short" or "full": values for all of these.
        sci_mode: powers of ten always (True), never (False) or where the numbers ask for them (None).
    """
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(f"set_printoptions: profile is {profile!r}, expected one of {', '.join(_PROFILES)}")
        _options.precision, _options.threshold, _options.edgeitems, _options.linewidth = _PROFILES[profile]
    for name, value in (("precision", precision), ("edgeitems", edgeitems), ("linewidth", linewidth)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise TypeError(f"set_printoptions: {name} is {value!r}, expected a non-negative int or None")
    if threshold is not None and not isinstance(threshold, (int, float)):
        raise TypeError(f"set_printoptions: threshold is {threshold!r}, expected a number or None")
    if sci_mode is not None and not isinstance(sci_mode, bool):
        raise TypeError(f"set_printoptions: sci_mode is {sci_mode!r}, expected a bool or None")
    if precision is not None:
        _options.precision = precision
    if threshold is not None:
        _options.threshold = threshold
    if edgeitems is not None:
        _options.edgeitems = edgeitems
    if linewidth is not None:
        _options.linewidth = linewidth
    _options.sci_mode = sci_mode


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
        self.scientific = high / low > 1000.0 or high > 1.0e8 or low < 1.0e-4
        if _options.sci_mode is not None:
            self.scientific = _options.sci_mode
        self.width = max(len(self(v, False)) for v in kept)

    def __call__(self, value: Any, pad: bool = True) -> str:
        if not self.floating:
            text = str(value)
        elif self.scientific:
            text = f"{value:.{_options.precision}e}"
        elif self.integral:
            text = f"{value:.0f}" + ("." if math.isfinite(value) else "")
        else:
            text = f"{value:.{_options.precision}f}"
        return text.rjust(self.width) if pad else text


def _shown(x: np.ndarray) -> np.ndarray:
    """The elements that will be printed, flat."""
    edge = _options.edgeitems
    for axis, n in enumerate(x.shape):
        if n > 2 * edge:
            x = np.concatenate([np.take(x, range(edge), axis), np.take(x, range(n - edge, n), axis)], axis)
    return x.reshape(-1)


def _text(x: np.ndarray, indent: int, number: _Numbers, short: bool) -> str:
    if x.ndim == 0:
        return number(x.item())
    n, edge = len(x), _options.edgeitems
    if x.ndim == 1:
        per_line = max(1, (_options.linewidth - indent) // (number.width + 2))
        if short and not edge:
            items = ["..."]
        elif short and n > 2 * edge:
            items = [number(v) for v in x[:edge].tolist()] + [" ..."] + [number(v) for v in x[-edge:].tolist()]
        else:
            items = [number(v) for v in x.tolist()]
        lines = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    cut = short and n > 2 * edge
    rows = [_text(x[i], indent + 1, number, short) for i in range(edge if cut else n)]
    if cut:
        rows += ["..."] + [_text(x[i], indent + 1, number, short) for i in range(n - edge, n)]
    return "[" + ("," + "\n" * (x.ndim - 1) + " " * (indent + 1)).join(rows) + "]"


def _with_suffixes(text: str, suffixes: list[str], indent: int) -> str:
    """What follows the values, on a new line where the last one has no room."""
    used = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if used + len(suffix) + 2 > _options.linewidth:
            text += ",\n" + " " * indent + suffix
            used = indent + len(suffix)
        else:
            text += ", " + suffix
            used += len(suffix) + 2
    return text + ")"


def tensor_text(t: Any) -> str:
    """The text of a tensor."""
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
        short = data.size > _options.threshold
        number = _Numbers(_shown(data) if short else data.reshape(-1), dtype.is_floating_point)
        body = _text(data, len(prefix), number, short)
    if t.grad_fn is not None:
        suffixes.append(f"grad_fn={t.grad_fn!r}")
    elif t.requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes(prefix + body, suffixes, len(prefix))
