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


# What may be asked of a parameter without a shape, as PyTorch has it.
_ALLOWED = frozenset(
    "bfloat16 cpu cuda data detach device double dtype float get_device grad grad_fn half int is_complex is_cuda "
    "is_floating_point is_leaf long materialize persistent requires_grad requires_grad_ to".split()
)


class _Uninitialized:
    """What uninitialised parameters and buffers share. Any other attribute raises, so that no operation takes their
    absent values for an empty tensor."""

    cls_to_become: type

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in _ALLOWED or name == "cls_to_become":
            return object.__getattribute__(self, name)
        if name == "shape":
            raise RuntimeError(
                "Can't access the shape of an uninitialized parameter or buffer. This error usually happens in "
                "`load_state_dict` when trying to load an uninitialized parameter into an initialized one. Call "
                "`forward` to initialize the parameters before accessing their attributes."
            )
        if name == "share_memory_":
            raise RuntimeError("Can't share memory on an uninitialized parameter or buffer: call `forward` before.")
        raise ValueError(
            f"Attempted to use {name} of an uninitialized parameter. This error happens when you are using a lazy "
            f"module or explicitly manipulating `fastnet.nn.parameter.{type(self).__name__}` objects. When using lazy "
            "modules call `forward` with a batch to initialize the parameters before anything else"
        )

    def materialize(self: Any, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Take a shape, and so become an ordinary parameter or buffer, with values that mean nothing."""
        from fastnet.ops.creation import empty

        made = empty(*shape, device=device or self.device, dtype=dtype or self.dtype)
        self.data = made
        self.__class__ = self.cls_to_become

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class UninitializedParameter(_Uninitialized, Parameter):
    """A parameter whose shape is not known yet: ``materialize`` gives it one."""

    cls_to_become = Parameter

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> UninitializedParameter:
        return object.__new__(cls)

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None):
        from fastnet.ops.creation import empty

        Parameter.__init__(self, empty(0, device=device, dtype=dtype), requires_grad)

    def __deepcopy__(self, memo: dict) -> UninitializedParameter:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, self.device, self.dtype)
        return memo[id(self)]


class UninitializedBuffer(_Uninitialized, Buffer):
    """A buffer whose shape is not known yet: ``materialize`` gives it one."""

    cls_to_become = Buffer

    def __new__(
        cls, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True
    ) -> UninitializedBuffer:
        return object.__new__(cls)

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True):
        from fastnet.ops.creation import empty

        Buffer.__init__(self, empty(0, device=device, dtype=dtype), persistent=persistent)

    def __deepcopy__(self, memo: dict) -> UninitializedBuffer:
        if id(self) not in memo:
            memo[id(self)] = type(self)(False, self.device, self.dtype, self.persistent)
        return memo[id(self)]


def is_lazy(value: Any) -> bool:
    """Whether a parameter or buffer has no shape yet."""
    return isinstance(value, _Uninitialized)
