"""Comparing tensors in tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._tensor import Tensor
from fastnet.ops.creation import as_tensor

__all__ = ["assert_allclose", "assert_close", "make_tensor"]

# torch.testing's: relative and absolute, exact for the rest.
_TOLERANCES = {
    _dtypes.float16: (1e-3, 1e-5),
    _dtypes.bfloat16: (1.6e-2, 1e-5),
    _dtypes.float32: (1.3e-6, 1e-5),
    _dtypes.float64: (1e-7, 1e-7),
}


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: str | Callable[[str], str] | None = None,
) -> None:
    """Raise unless ``|actual - expected| <= atol + rtol * |expected|`` everywhere.

    Args:
        actual, expected: tensors, arrays or numbers, or sequences or mappings of them.
        allow_subclasses: whether a subclass of Tensor may be compared with another.
        rtol, atol: None for the dtype's: float16 1e-3 and 1e-5, bfloat16 1.6e-2 and 1e-5, float32 1.3e-6 and 1e-5,
            float64 1e-7 and 1e-7, others 0; the greater of two dtypes'. Both or neither.
        equal_nan: whether NaN is close to NaN.
        check_device, check_dtype: whether these must be the same.
        check_layout: there is one layout.
        check_stride: whether strides must be the same.
        msg: what the error says, or a function of what it would say.

    Raises:
        AssertionError: with the number of elements that differ and the greatest differences.
        TypeError: what cannot be compared.
        ValueError: one of rtol and atol without the other.

    >>> import fastnet
    >>> fastnet.testing.assert_close(fastnet.ones(2), fastnet.tensor([1.0, 1.0 + 1e-7]))
    """
    if (rtol is None) != (atol is None):
        raise ValueError(f"rtol and atol must both be specified or both be unspecified, got rtol={rtol}, atol={atol}")
    rules = {
        "allow_subclasses": allow_subclasses,
        "tolerances": None if rtol is None else (rtol, atol),
        "equal_nan": equal_nan,
        "check_device": check_device,
        "check_dtype": check_dtype,
        "check_stride": check_stride,
    }
    wrong = _difference(actual, expected, "", **rules)
    if wrong:
        raise AssertionError(wrong if msg is None else msg(wrong) if callable(msg) else msg)


def _difference(actual: Any, expected: Any, where: str, **rules: Any) -> str | None:
    """What is wrong, in words; ``where``: the place within a container."""
    place = f"\n\nThe failure occurred for item {where}" if where else ""
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if actual.keys() != expected.keys():
            return f"The keys of the mappings do not match: {set(actual) ^ set(expected)} in one alone{place}"
        pairs: Any = [(key, actual[key], expected[key]) for key in actual]
    elif _is_sequence(actual) and _is_sequence(expected):
        if len(actual) != len(expected):
            return f"The length of the sequences mismatch: {len(actual)} != {len(expected)}{place}"
        pairs = [(i, a, e) for i, (a, e) in enumerate(zip(actual, expected, strict=True))]
    else:
        return _leaf(actual, expected, place, **rules)
    for key, a, e in pairs:
        if wrong := _difference(a, e, f"{where}[{key!r}]", **rules):
            return wrong
    return None


def _is_sequence(x: Any) -> bool:
    return isinstance(x, Sequence) and not isinstance(x, (str, bytes))


def _leaf(
    actual: Any,
    expected: Any,
    place: str,
    *,
    allow_subclasses: bool,
    tolerances: tuple[float, float] | None,
    equal_nan: bool,
    check_device: bool,
    check_dtype: bool,
    check_stride: bool,
) -> str | None:
    if actual is None or expected is None:
        return None if actual is expected else f"None mismatch: {actual} is not {expected}{place}"
    for x in (actual, expected):
        if not isinstance(x, (Tensor, np.ndarray, Number)):
            raise TypeError(f"assert_close: no way to compare {type(actual).__name__} with {type(expected).__name__}")
    both = isinstance(actual, Tensor), isinstance(expected, Tensor)
    if both[0] != both[1] or (not allow_subclasses and type(actual) is not type(expected)):
        raise TypeError(f"assert_close: a {type(actual).__name__} beside a {type(expected).__name__}")
    kind = "Scalars" if isinstance(actual, Number) and isinstance(expected, Number) else "Tensor-likes"
    a, e = (x if isinstance(x, Tensor) else as_tensor(np.asarray(x)) for x in (actual, expected))
    if a.shape != e.shape:
        return f"The values for attribute 'shape' do not match: {a.shape} != {e.shape}.{place}"
    if check_device and a.device != e.device:
        return f"The values for attribute 'device' do not match: {a.device} != {e.device}.{place}"
    if check_dtype and a.dtype is not e.dtype:
        return f"The values for attribute 'dtype' do not match: {a.dtype} != {e.dtype}.{place}"
    if check_stride and a.stride() != e.stride():
        return f"The values for attribute 'stride()' do not match: {a.stride()} != {e.stride()}.{place}"
    rtol, atol = tolerances or (
        max(_TOLERANCES.get(x.dtype, (0.0, 0.0))[0] for x in (a, e)),
        max(_TOLERANCES.get(x.dtype, (0.0, 0.0))[1] for x in (a, e)),
    )
    floating = a.dtype.is_floating_point or e.dtype.is_floating_point
    a, e = (x.detach().cpu().to(_dtypes.float64 if floating else _dtypes.int64).numpy() for x in (a, e))
    with np.errstate(all="ignore"):
        apart = np.abs(a - e)
        near = (a == e) | (np.isfinite(a) & np.isfinite(e) & (apart <= atol + rtol * np.abs(e)))
        if equal_nan:
            near |= np.isnan(a) & np.isnan(e)
        if near.all():
            return None
        apart = np.where(near, 0, apart)
        relative = np.where(near, 0, apart / np.abs(e))
    at = tuple(int(i) for i in np.unravel_index(np.argmax(np.where(np.isnan(apart), np.inf, apart)), apart.shape))
    return (
        f"{kind} are not close!\n\nMismatched elements: {int((~near).sum())} / {near.size} "
        f"({100 * float((~near).mean()):.1f}%)\n"
        f"Greatest absolute difference: {float(apart[at])} at index {at} (up to {atol} allowed)\n"
        f"Greatest relative difference: {float(relative[at])} at index {at} (up to {rtol} allowed){place}"
    )


def assert_allclose(
    actual: Any,
    expected: Any,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = True,
    msg: str = "",
) -> None:
    """The older form of ``assert_close``: dtypes may differ, and what is no tensor is made one."""
    actual = actual if isinstance(actual, Tensor) else as_tensor(actual)
    expected = expected if isinstance(expected, Tensor) else as_tensor(expected, dtype=actual.dtype)
    if rtol is None and atol is None:
        rtol, atol = max(_OLDER_TOLERANCES.get(t.dtype, (0.0, 0.0)) for t in (actual, expected))
    assert_close(
        actual,
        expected,
        rtol=rtol,
        atol=atol,
        equal_nan=equal_nan,
        check_device=True,
        check_dtype=False,
        check_stride=False,
        msg=msg or None,
    )


_OLDER_TOLERANCES = {
    _dtypes.float16: (1e-3, 1e-3),
    _dtypes.float32: (1e-4, 1e-5),
    _dtypes.float64: (1e-5, 1e-8),
}


def make_tensor(
    *shape: Any,
    dtype: Any,
    device: Any,
    low: float | None = None,
    high: float | None = None,
    requires_grad: bool = False,
    noncontiguous: bool = False,
    exclude_zero: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """A tensor of random numbers from [low, high): by default [-9, 9) for floats, [-9, 10) for signed and [0, 10) for
    unsigned integers, [0, 2) for bools.

    Args:
        noncontiguous: every second element of memory is left out.
        exclude_zero: zeros become the smallest positive number, or 1.

    >>> import fastnet
    >>> make_tensor((2, 3), dtype=fastnet.float32, device="cpu").shape
    fastnet.Size([2, 3])
    """
    from fastnet.ops import random

    sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    least, most = {0: (0, 2), 1: (-9 if dtype.is_signed else 0, 10), 2: (-9, 9)}[dtype.category]
    low, high = least if low is None else low, most if high is None else high
    if low != low or high != high:
        raise ValueError(f"make_tensor: low and high cannot be NaN, got {low} and {high}")
    if not low < high:
        raise ValueError(f"make_tensor: low must be less than high, got {low} >= {high}")
    if requires_grad and not dtype.is_floating_point:
        raise ValueError(f"make_tensor: requires_grad must be False for dtype {dtype}")
    if noncontiguous and memory_format is not None:
        raise ValueError("make_tensor: noncontiguous and memory_format are mutually exclusive")
    if noncontiguous and sizes:
        sizes = (*sizes[:-1], 2 * sizes[-1])
    if dtype.is_floating_point:
        wide = _dtypes.float64 if dtype is _dtypes.float64 else _dtypes.float32
        values = random.uniform_(as_tensor(np.empty(sizes, wide.numpy), device=device), low, high).to(dtype)
    else:
        values = random.randint(int(low), int(high), sizes, dtype=dtype, device=device)
    if exclude_zero:
        values[values == 0] = _dtypes.finfo(dtype).tiny if dtype.is_floating_point else 1
    if noncontiguous and sizes:
        values = values[..., ::2]
    return values.requires_grad_() if requires_grad else values
