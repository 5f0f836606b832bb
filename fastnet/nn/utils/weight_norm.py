"""Weight norm by a hook before forward, with the parameters ``weight_g`` and ``weight_v``; torch.nn.utils.weight_norm.

``parametrizations.weight_norm`` is the same as a parametrization.
"""

from __future__ import annotations

import warnings
from typing import Any

from fastnet._tensor import Tensor
from fastnet.errors import InputError
from fastnet.nn.module import Module
from fastnet.nn.parameter import Parameter, UninitializedParameter
from fastnet.nn.utils._pre_hooks import refuse_second, remove
from fastnet.nn.utils.parametrizations import magnitude_and_direction, norm_except

__all__ = ["WeightNorm", "remove_weight_norm", "weight_norm"]


class WeightNorm:
    """The hook: ``module.<name>`` becomes ``g v / |v|``."""

    def __init__(self, name: str, dim: int | None):
        self.name, self.dim = name, -1 if dim is None else dim

    def compute_weight(self, module: Module) -> Tensor:
        g, v = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        return magnitude_and_direction(g, v, self.dim)

    def remove(self, module: Module) -> None:
        """Make the present weight a parameter again."""
        weight = self.compute_weight(module)
        for name in (self.name, f"{self.name}_g", f"{self.name}_v"):
            delattr(module, name)
        module.register_parameter(self.name, Parameter(weight.detach()))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Train a parameter as a magnitude ``<name>_g`` and a direction ``<name>_v`` (Salimans and Kingma 2016); the
    parameter itself is computed before each forward.

    Args:
        module: the layer; it is changed and returned.
        name: of the parameter.
        dim: the dimension along which magnitudes differ; None: one for all.

    Raises:
        RuntimeError: the parameter has weight norm already.
        ValueError: a lazy layer's parameter.

    >>> import warnings, fastnet
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # PyTorch has deprecated it, too
    ...     layer = weight_norm(fastnet.nn.Linear(4, 3))
    >>> list(layer.state_dict())
    ['bias', 'weight_g', 'weight_v']
    """
    warnings.warn(
        "weight_norm is deprecated in favor of nn.utils.parametrizations.weight_norm.", FutureWarning, stacklevel=2
    )
    refuse_second(module, WeightNorm, name, "weight_norm")
    weight = getattr(module, name)
    if isinstance(weight, UninitializedParameter):
        raise InputError("weight_norm: run a forward of a lazy layer before weight norm is applied")
    hook = WeightNorm(name, dim)
    del module._parameters[name]
    module.register_parameter(f"{name}_g", Parameter(norm_except(weight, hook.dim).detach()))
    module.register_parameter(f"{name}_v", Parameter(weight.detach()))
    setattr(module, name, hook.compute_weight(module))
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Make the parameter what it was before ``weight_norm``, at its present value.

    Raises:
        ValueError: it has no weight norm.
    """
    return remove(module, WeightNorm, name, "weight_norm")
