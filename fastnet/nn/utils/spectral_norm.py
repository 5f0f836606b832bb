"""Spectral norm by a hook before forward, with the parameter ``weight_orig``; torch.nn.utils.spectral_norm.

``parametrizations.spectral_norm`` is the same as a parametrization.
"""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.autograd import no_grad
from fastnet.errors import InputError
from fastnet.nn import functional as F
from fastnet.nn.module import Module
from fastnet.nn.parameter import Parameter
from fastnet.nn.utils._pre_hooks import refuse_second, remove
from fastnet.nn.utils.parametrizations import default_output_dim, matrix_of
from fastnet.ops.random import randn

__all__ = ["SpectralNorm", "remove_spectral_norm", "spectral_norm"]


class SpectralNorm:
    """The hook: ``module.<name>`` becomes ``<name>_orig`` over its largest singular value."""

    def __init__(self, name: str = "weight", n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12):
        if n_power_iterations <= 0:
            raise InputError(
                f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}"
            )
        self.name, self.n_power_iterations, self.dim, self.eps = name, n_power_iterations, dim, eps

    def compute_weight(self, module: Module, do_power_iteration: bool) -> Tensor:
        """The weight; in training the singular vectors follow it, ``n_power_iterations`` steps at a time."""
        weight, u, v = (getattr(module, f"{self.name}_{end}") for end in ("orig", "u", "v"))
        matrix = matrix_of(weight, self.dim)
        if do_power_iteration:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    v.copy_(F.normalize(matrix.t().mv(u), dim=0, eps=self.eps))
                    u.copy_(F.normalize(matrix.mv(v), dim=0, eps=self.eps))
            u, v = u.clone(), v.clone()  # the next forward overwrites what backward of this one reads
        return weight / (u * matrix.mv(v)).sum()

    def remove(self, module: Module) -> None:
        """Make the present weight a parameter again."""
        with no_grad():
            weight = self.compute_weight(module, False)
        for end in ("", "_u", "_v", "_orig"):
            delattr(module, self.name + end)
        module.register_parameter(self.name, Parameter(weight.detach()))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, module.training))


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Divide a parameter by its largest singular value before each forward (Miyato et al. 2018).

    Args:
        module: the layer; it is changed and returned. The trained parameter is ``<name>_orig``; ``<name>_u`` and
            ``<name>_v`` are buffers.
        name: of the parameter.
        n_power_iterations: steps of the power method each time in training.
        eps: norms count as at least this.
        dim: the dimension of outputs; by default 0, and 1 for transposed convolutions.

    Raises:
        RuntimeError: the parameter has spectral norm already.
        ValueError: there is no such parameter, or n_power_iterations is not positive.

    >>> import fastnet
    >>> list(spectral_norm(fastnet.nn.Linear(4, 3)).state_dict())
    ['bias', 'weight_orig', 'weight_u', 'weight_v']
    """
    refuse_second(module, SpectralNorm, name, "spectral_norm")
    hook = SpectralNorm(name, n_power_iterations, default_output_dim(module) if dim is None else dim, eps)
    weight = module._parameters.get(name)
    if weight is None:
        raise InputError(f"`SpectralNorm` cannot be applied as parameter `{name}` is None")
    del module._parameters[name]
    module.register_parameter(f"{name}_orig", weight)
    setattr(module, name, weight.detach())
    with no_grad():
        matrix = matrix_of(weight, hook.dim)
        for end, size in zip("uv", matrix.shape, strict=True):
            start = randn(size, dtype=weight.dtype, device=weight.device)
            module.register_buffer(f"{name}_{end}", F.normalize(start, dim=0, eps=eps))
    module.register_forward_pre_hook(hook)
    return module


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Make the parameter one of its own again, at its present value.

    Raises:
        ValueError: it has no spectral norm.
    """
    return remove(module, SpectralNorm, name, "spectral_norm")
