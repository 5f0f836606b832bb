"""Parametrizations: a parameter computed anew, whenever it is read, from others; torch.nn.utils.parametrize.

The computed name is a property of a class made for the module; what it is computed from stands in
``module.parametrizations.<name>.original`` (or ``original0``, ``original1``, ...), as in PyTorch's state_dicts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastnet._tensor import Tensor
from fastnet.autograd import no_grad
from fastnet.errors import InputError
from fastnet.nn.containers import ModuleDict, ModuleList
from fastnet.nn.module import Module
from fastnet.nn.parameter import Parameter

_cache: dict[tuple[int, str], Any] | None = None


@contextmanager
def cached() -> Iterator[None]:
    """Inside, every parametrized tensor is computed once only."""
    global _cache
    before, _cache = _cache, {} if _cache is None else _cache
    try:
        yield
    finally:
        _cache = before


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor and what it is computed from."""

    def __init__(self, modules: list[Module], original: Tensor, unsafe: bool = False):
        super().__init__(modules)
        value: Any = original
        with no_grad():
            for module in reversed(modules):
                if hasattr(module, "right_inverse"):
                    value = module.right_inverse(value)
        self.is_tensor = isinstance(value, Tensor)
        self.ntensors = 1 if self.is_tensor else len(value)
        self.unsafe = unsafe
        if self.is_tensor:
            if isinstance(original, Parameter):
                original.data = value.detach()
                self.original = original
            else:
                self.register_buffer("original", value)
            return
        for i, part in enumerate(value):
            if isinstance(original, Parameter):
                setattr(self, f"original{i}", Parameter(part.detach().clone(), original.requires_grad))
            else:
                self.register_buffer(f"original{i}", part)

    def forward(self) -> Tensor:
        if self.is_tensor:
            value = self[0](self.original)
        else:
            value = self[0](*(getattr(self, f"original{i}") for i in range(self.ntensors)))
        for module in list(self)[1:]:
            value = module(value)
        return value

    def right_inverse(self, value: Tensor) -> None:
        """Set the originals so that the parametrized tensor becomes ``value``."""
        with no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
                value = module.right_inverse(value)
            if self.is_tensor:
                self.original.data = value.detach().clone()
            else:
                for i, part in enumerate(value):
                    getattr(self, f"original{i}").data = part.detach().clone()


def _property(name: str) -> property:
    def get(module: Module) -> Tensor:
        if _cache is None:
            return module.parametrizations[name]()
        key = id(module), name
        if key not in _cache:
            _cache[key] = module.parametrizations[name]()
        return _cache[key]

    def set(module: Module, value: Tensor) -> None:
        module.parametrizations[name].right_inverse(value)

    return property(get, set)


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a module has a parametrization, of ``tensor_name`` if that is given."""
    register = module.__dict__["_modules"].get("parametrizations")
    return isinstance(register, ModuleDict) and (len(register) > 0 if tensor_name is None else tensor_name in register)


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Let ``module.<tensor_name>`` be ``parametrization(original)``, with its gradient.

    Args:
        module: has the parameter or buffer.
        parametrization: a module; with ``right_inverse`` it also says what an assigned value comes from, and the first
            value is kept; ``right_inverse`` may return several tensors, which forward then takes.
        unsafe: allow results of another shape or dtype.

    Raises:
        ValueError: there is no such parameter or buffer, or the result has another shape or dtype.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        done = module.parametrizations[tensor_name]
        with no_grad():
            value = getattr(module, tensor_name)
            if hasattr(parametrization, "right_inverse"):
                done.right_inverse(parametrization.right_inverse(value))
        done.append(parametrization)
        return module
    original = module._parameters.get(tensor_name)
    original = module._buffers.get(tensor_name) if original is None else original
    if original is None:
        raise InputError(
            f"Module '{type(module).__name__}' does not have a parameter, a buffer, or a parametrized element with "
            f"name '{tensor_name}'"
        )
    shape, dtype = tuple(original.shape), original.dtype
    parametrizations = ParametrizationList([parametrization], original, unsafe)
    with no_grad():
        result = parametrizations()
    if not unsafe and (not isinstance(result, Tensor) or tuple(result.shape) != shape or result.dtype is not dtype):
        raise InputError(
            f"Registering a parametrization may not change the shape or dtype of the tensor: {tensor_name} has shape "
            f"{shape} and dtype {dtype.name}; unsafe=True allows it"
        )
    delattr(module, tensor_name)
    if not is_parametrized(module):
        base = type(module)
        module.__class__ = type(f"Parametrized{base.__name__}", (base,), {"__module__": base.__module__})
        module.parametrizations = ModuleDict()
    setattr(type(module), tensor_name, _property(tensor_name))
    module.parametrizations[tensor_name] = parametrizations
    return module


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make ``module.<tensor_name>`` a parameter again: its present value, or the original if it is one tensor."""
    if not is_parametrized(module, tensor_name):
        raise InputError(f"Module {type(module).__name__} does not have a parametrization on {tensor_name}")
    parametrizations = module.parametrizations[tensor_name]
    trained = any(isinstance(p, Parameter) for p in parametrizations._parameters.values())
    if leave_parametrized:
        with no_grad():
            value = getattr(module, tensor_name).detach().clone()
    elif parametrizations.is_tensor:
        value = parametrizations.original
    else:
        raise InputError("Cannot leave unparametrized (`leave_parametrized=False`) a tensor of several originals")
    if parametrizations.is_tensor and isinstance(parametrizations.original, Parameter):
        original = parametrizations.original  # optimizers hold this very parameter
        original.data = value.detach()
        value = original
    elif trained:
        value = Parameter(value)
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    if isinstance(value, Parameter):
        module.register_parameter(tensor_name, value)
    else:
        module.register_buffer(tensor_name, value)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class of a module as it was before its first parametrization."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Module:
    """Give a module another's parametrizations, and share with it what they are computed from.

    Args:
        from_module: whose they are; without parametrizations nothing happens.
        to_module: it is changed and returned; a parameter that it lacks is made.
        tensor_name: of the one parameter to transfer; None: all.
    """
    if not is_parametrized(from_module):
        return to_module
    for name in list(from_module.parametrizations) if tensor_name is None else [tensor_name]:
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach()))
        given = from_module.parametrizations[name]
        for parametrization in given:
            register_parametrization(to_module, name, parametrization)
        taken = to_module.parametrizations[name]
        for original in ["original"] if given.is_tensor else [f"original{i}" for i in range(given.ntensors)]:
            setattr(taken, original, getattr(given, original))
    return to_module
