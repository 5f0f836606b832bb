"""Parameters: tensors that a module trains."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor


class Parameter(Tensor):
    """A tensor that requires a gradient and that a Module registers when it is assigned to one."""

    __slots__ = ()

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Parameter:
        return object.__new__(cls)

    def __init__(self, data: Any = None, requires_grad: bool = True):
        if data is None:
            from fastnet.ops.creation import empty

            data = empty(0)
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter: data is a {type(data).__name__}, expected a Tensor")
        self._initialise(data._data)
        self._version_counter = data._version_counter
        self.requires_grad = requires_grad

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class Buffer(Tensor):
    """A tensor that a Module registers as a buffer when it is assigned to one."""

    __slots__ = ("persistent",)

    def __new__(cls, data: Any = None, *, persistent: bool = True) -> Buffer:
        return object.__new__(cls)

    def __init__(self, data: Any, *, persistent: bool = True):
        self._initialise(data._data)
        self.persistent = persistent
