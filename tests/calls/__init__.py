"""Tables of calls that PyTorch and fastnet must answer alike. Each row: what it covers, and a function of (library,
inputs). A module of this package holds the rows of one part of the surface:

- ``DIFFERENTIABLE``: values and gradients must agree, in several dtypes.
- ``PLAIN``: values and dtypes must agree.
- ``REFUSED``: both must raise; ours is a ValueError or TypeError, and caught by what catches PyTorch's.

``I`` is where inputs come from: the same NumPy arrays as tensors of either library.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np


class Inputs:
    """Inputs of one call, drawn in order from one seed."""

    def __init__(self, library: Any, dtype: str, grad: bool):
        self.lib, self.dtype, self.grad = library, dtype, grad
        self.rng = np.random.default_rng(7)
        self.made: list[Any] = []

    def _tensor(self, array: np.ndarray, grad: bool) -> Any:
        t = self.lib.tensor(
            array.tolist(), dtype=getattr(self.lib, self.dtype if grad is not None else str(array.dtype))
        )
        t = t.reshape(array.shape)
        if grad and self.grad:
            t = t.detach().requires_grad_(True)
            self.made.append(t)
        return t

    def __call__(self, *shape: int) -> Any:
        """Normal numbers, differentiable."""
        return self._tensor(self.rng.standard_normal(shape), True)

    def positive(self, *shape: int) -> Any:
        return self._tensor(self.rng.random(shape) + 0.5, True)

    def unit(self, *shape: int) -> Any:
        return self._tensor(self.rng.random(shape) * 1.8 - 0.9, True)

    def ints(self, *shape: int, low: int = 0, high: int = 5) -> Any:
        return self.lib.tensor(self.rng.integers(low, high, shape).tolist(), dtype=self.lib.int64).reshape(shape)

    def mask(self, *shape: int) -> Any:
        return self.lib.tensor((self.rng.random(shape) > 0.5).tolist(), dtype=self.lib.bool).reshape(shape)


Call = Callable[[Any, Inputs], Any]
DIFFERENTIABLE: dict[str, Call] = {}
PLAIN: dict[str, Call] = {}
REFUSED: dict[str, Call] = {}

for _found in pkgutil.iter_modules(__path__):
    _module = importlib.import_module(f"calls.{_found.name}")
    for _table, _rows in (("DIFFERENTIABLE", DIFFERENTIABLE), ("PLAIN", PLAIN), ("REFUSED", REFUSED)):
        _more = getattr(_module, _table, {})
        assert not set(_more) & set(_rows), f"{_found.name}: rows that another module has too"
        _rows.update(_more)
