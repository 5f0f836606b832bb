"""Parameters and buffers: tensors that a module registers when they are assigned to it."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor


def _tensor_of(name: str, data: Any) -> Tensor:
    if data is None:
        from fastnet.ops.creation import empty

        return empty(0)
    if not isinstance(data, Tensor):
        raise TypeError(f"{name}: data is a {type(data).__name__}, expected a Tensor")
    return data


class Parameter(Tensor):
    """A tensor that requires a gradient and that a Module registers when it is assigned to one."""

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Parameter:
        return object.__new__(cls)

    def __init__(self, data: Any = None, requires_grad: bool = True):
        data = _tensor_of("Parameter", data)
        self._initialise(data._data)
        self._version_counter = data._version_counter
        self.requires_grad = requires_grad

    def __deepcopy__(self, memo: dict) -> Parameter:
        if id(self) not in memo:
            memo[id(self)] = type(self)(Tensor._wrap(self._data.copy()), self.requires_grad)
        return memo[id(self)]

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class Buffer(Tensor):
    """A tensor that a Module registers as a buffer when it is assigned to one."""

    def __new__(cls, data: Any = None, *, persistent: bool = True) -> Buffer:
        return object.__new__(cls)

    def __init__(self, data: Any = None, *, persistent: bool = True):
        data = _tensor_of("Buffer", data)
        self._initialise(data._data)
        self._version_counter = data._version_counter
        self.persistent = persistent

    def __deepcopy__(self, memo: dict) -> Buffer:
        if id(self) not in memo:
            memo[id(self)] = type(self)(Tensor._wrap(self._data.copy()), persistent=self.persistent)
        return memo[id(self)]
