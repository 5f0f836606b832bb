"""Gradients against central differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.autograd import grad_mode
from fastnet.autograd.engine import _as_list, grad

_Tensor: Any = None  # set by fastnet._tensor


def _on_host(array: Any) -> np.ndarray:
    return np.asarray(array) if isinstance(array, np.ndarray) else array.get()


def gradcheck(
    function: Callable, inputs: Iterable[Any], *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3
) -> bool:
    """Compare gradients with central differences in float64.

    Args:
        function: takes the tensors of ``inputs``, returns a tensor or a tuple of tensors.
        inputs: tensors; those that require gradients must be float64.
        eps: step of the differences: their error is about eps^2 + 2^-53 / eps, some 1e-10 of the values' size.
        atol, rtol: what a gradient may differ by.

    Raises:
        AssertionError: naming the input, the element and both values.
    """
    inputs = list(inputs)
    wanted = [t for t in inputs if isinstance(t, _Tensor) and t.requires_grad]
    if not wanted or any(t.dtype.name != "float64" for t in wanted):
        raise ValueError("gradcheck: needs inputs that require gradients, all of them float64")
    outputs = [o for o in _as_list(function(*inputs)) if isinstance(o, _Tensor) and o.requires_grad]
    for o, out in enumerate(outputs):
        rng = np.random.default_rng(o)
        upstream = rng.standard_normal(out._data.shape)
        like = namespace(out._data).asarray(upstream)
        got = grad(out, wanted, _Tensor._wrap(like), retain_graph=True, allow_unused=True)
        for n, t in enumerate(wanted):
            data = t._data
            numeric = np.zeros(data.shape)
            for index in np.ndindex(*data.shape):
                before = data[index].copy()
                values = []
                for step in (eps, -eps):
                    data[index] = before + step
                    with grad_mode.no_grad():
                        results = [
                            r
                            for r in _as_list(function(*inputs))
                            if isinstance(r, _Tensor) and r.dtype.is_floating_point
                        ]
                    values.append(np.sum(_on_host(results[o]._data) * upstream))
                data[index] = before
                numeric[index] = (values[0] - values[1]) / (2 * eps)
            analytic = np.zeros(data.shape) if got[n] is None else _on_host(got[n]._data)
            wrong = ~(np.abs(analytic - numeric) <= atol + rtol * np.abs(numeric))
            if wrong.any():
                where = tuple(int(i) for i in np.argwhere(wrong)[0])
                raise AssertionError(
                    f"gradcheck: output {o}, input {n}, element {where}: gradient {analytic[where]!r}, "
                    f"differences give {numeric[where]!r}"
                )
    return True
