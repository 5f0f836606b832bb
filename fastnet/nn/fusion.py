"""fuse: sequences of modules that one kernel computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastnet._tensor import Tensor
from fastnet.errors import KindError
from fastnet.nn import activation as activations
from fastnet.nn import functional as F
from fastnet.nn._hooks import is_plain
from fastnet.nn.containers import Sequential
from fastnet.nn.conv import Conv2d
from fastnet.nn.linear import Linear
from fastnet.nn.module import Module
from fastnet.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d

M = TypeVar("M", bound=Module)

# What the kernels call an activation, and its number.
_ACTIVATIONS: dict[type, Callable[[Any], tuple[str, float | None]]] = {
    activations.ReLU: lambda m: ("relu", None),
    activations.LeakyReLU: lambda m: ("leaky_relu", m.negative_slope),
    activations.ELU: lambda m: ("elu", m.alpha),
    activations.GELU: lambda m: ("gelu_tanh" if m.approximate == "tanh" else "gelu", None),
    activations.SiLU: lambda m: ("silu", None),
    activations.Mish: lambda m: ("mish", None),
    activations.Sigmoid: lambda m: ("sigmoid", None),
    activations.Tanh: lambda m: ("tanh", None),
    activations.Hardswish: lambda m: ("hardswish", None),
    activations.Softplus: lambda m: ("softplus" if m.threshold == 20 else "", m.beta),
}
_BATCH_NORMS = (BatchNorm1d, BatchNorm2d, BatchNorm3d)


def _normed(conv: Module, norm: Module, third: Module | None, input: Any) -> tuple[Tensor, int] | None:
    """norm(conv(input)) in training, with a ReLU behind it where there is one: the result, and how many modules that
    was; None where no operation has them together."""
    if not (is_plain(conv, Conv2d) and is_plain(norm, BatchNorm2d) and norm.training):
        return None
    relu = third is not None and is_plain(third, activations.ReLU)
    return norm.after(conv, input, "relu" if relu else "none"), 3 if relu else 2


def _fused(first: Module, second: Module, input: Any) -> Tensor | None:
    """second(first(input)) by one operation, or None where there is none."""
    if not is_plain(second, *_ACTIVATIONS) or not isinstance(input, Tensor):
        return None
    name, parameter = _ACTIVATIONS[type(second)](second)
    if not name:  # no kernel has it with these numbers
        return None
    if is_plain(first, Linear) and input.dtype.is_floating_point:
        return F.linear_activation(input, first.weight, first.bias, name, parameter)
    if is_plain(first, Conv2d) and first.padding_mode == "zeros" and input.dim() == 4:
        return F.conv2d_activation(
            input,
            first.weight,
            first.bias,
            first.stride,
            first.padding,
            first.dilation,
            first.groups,
            name,
            parameter,
        )
    if is_plain(first, *_BATCH_NORMS) and name == "relu":
        return first.fused(input, name)
    return None


class FusedSequential(Sequential):
    """A ``Sequential`` that computes neighbours by one operation where there is one; what ``fuse`` makes of it."""

    def forward(self, input: Any) -> Any:
        modules = [*self]
        i = 0
        while i < len(modules):
            here = modules[i : i + 3]
            normed = _normed(here[0], here[1], here[2] if len(here) > 2 else None, input) if len(here) > 1 else None
            if normed is not None:
                input, i = normed[0], i + normed[1]
                continue
            fused = _fused(here[0], here[1], input) if len(here) > 1 else None
            input, i = (here[0](input), i + 1) if fused is None else (fused, i + 2)
        return input


def fuse(model: M) -> M:
    """Rewrite known sequences of modules to fused operations, in place.

    In every ``nn.Sequential`` within the model, ``Linear`` or ``Conv2d`` and the activation after it become one kernel,
    which applies the activation to the sums before they are rounded or written, and so do a batch norm and the ``ReLU``
    after it; in training a ``Conv2d`` collects the statistics of a ``BatchNorm2d`` after it. Modules, parameters and
    the state_dict's keys stay as they are. Modules with hooks, parametrized ones and subclasses are called as before;
    sequences that a ``forward`` of the model's own calls one by one are not seen.

    Args:
        model: a module.

    Returns:
        the model.

    Raises:
        TypeError: model is no module.

    >>> import fastnet
    >>> model = fastnet.fuse(fastnet.nn.Sequential(fastnet.nn.Linear(4, 8), fastnet.nn.ReLU(), fastnet.nn.Linear(8, 2)))
    >>> with fastnet.kernels.use("emulated"), fastnet.kernels.trace() as ran:
    ...     model(fastnet.ones(3, 4)).shape
    fastnet.Size([3, 2])
    >>> ran.names
    ['matmul', 'matmul']
    """
    if not isinstance(model, Module):
        raise KindError(f"fuse: model is a {type(model).__name__}, expected a Module")
    for module in model.modules():
        if type(module) is Sequential:
            module.__class__ = FusedSequential
    return model
