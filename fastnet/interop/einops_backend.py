"""fastnet's tensors in einops: what its functions do with them."""

from __future__ import annotations

import importlib
from typing import Any

from einops._backends import AbstractBackend

import fastnet


class FastnetBackend(AbstractBackend):
    """Found by einops among the subclasses of its base, once fastnet is imported."""

    framework_name = "fastnet"

    def is_appropriate_type(self, tensor: Any) -> bool:
        return isinstance(tensor, fastnet.Tensor)

    def from_numpy(self, x: Any) -> Any:
        return fastnet.from_numpy(x)

    def to_numpy(self, x: Any) -> Any:
        return x.detach().cpu().numpy()

    def arange(self, start: int, stop: int) -> Any:
        return fastnet.arange(start, stop)

    def shape(self, x: Any) -> tuple[int, ...]:
        return tuple(x.shape)

    def transpose(self, x: Any, axes: Any) -> Any:
        return x.permute(*axes)

    def reduce(self, x: Any, operation: str, axes: Any) -> Any:
        if operation in ("prod", "any", "all"):  # one dimension at a time, the last first
            for axis in sorted(axes, reverse=True):
                x = getattr(x, operation)(axis)
            return x
        # Ties of a maximum share the gradient.
        return getattr(x, {"min": "amin", "max": "amax"}.get(operation, operation))(tuple(axes))

    def stack_on_zeroth_dimension(self, tensors: list) -> Any:
        return fastnet.stack(tensors)

    def add_axis(self, x: Any, new_position: int) -> Any:
        return x.unsqueeze(new_position)

    def add_axes(self, x: Any, n_axes: int, pos2len: dict[int, int]) -> Any:
        for position in sorted(pos2len):
            x = x.unsqueeze(position)
        return x.expand(*(pos2len.get(axis, -1) for axis in range(n_axes)))

    def tile(self, x: Any, repeats: Any) -> Any:
        return x.repeat(*repeats)

    def concat(self, tensors: list, axis: int) -> Any:
        return fastnet.cat(tensors, axis)

    def is_float_type(self, x: Any) -> bool:
        return x.is_floating_point()

    def einsum(self, pattern: str, *x: Any) -> Any:
        return fastnet.einsum(pattern, *x)

    def layers(self) -> Any:
        return importlib.import_module("einops.layers.fastnet")
