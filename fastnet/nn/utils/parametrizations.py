"""Spectral norm and weight norm as parametrizations; torch.nn.utils.parametrizations."""

from __future__ import annotations

from fastnet._tensor import Tensor
from fastnet.autograd import no_grad
from fastnet.errors import InputError
from fastnet.nn import functional as F
from fastnet.nn.module import Module
from fastnet.nn.utils.parametrize import register_parametrization
from fastnet.ops import random


def default_output_dim(module: Module) -> int:
    """The dimension of a layer's weight that holds its outputs."""
    return 1 if type(module).__name__.startswith("ConvTranspose") else 0


def matrix_of(weight: Tensor, dim: int) -> Tensor:
    """weight as a matrix whose rows are its dimension ``dim``."""
    if dim:
        weight = weight.permute(dim, *(d for d in range(weight.ndim) if d != dim))
    return weight.flatten(1)


class _SpectralNorm(Module):
    """weight over its largest singular value, which the power method follows in training (Miyato et al. 2018)."""

    def __init__(self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12):
        super().__init__()
        ndim = weight.ndim
        if dim >= ndim or dim < -ndim:
            raise IndexError(f"Dimension out of range (expected to be in range of [-{ndim}, {ndim - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise InputError(
                f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}"
            )
        self.dim, self.eps = dim if dim >= 0 else dim + ndim, eps
        if ndim > 1:
            self.n_power_iterations = n_power_iterations
            with no_grad():
                matrix = matrix_of(weight, self.dim)
                for name, size in (("_u", matrix.shape[0]), ("_v", matrix.shape[1])):
                    start = random.randn(size, dtype=weight.dtype, device=weight.device)
                    self.register_buffer(name, F.normalize(start, dim=0, eps=eps))
                self._power_method(matrix, 15)

    def _power_method(self, matrix: Tensor, n: int) -> None:
        with no_grad():
            for _ in range(n):
                self._u = F.normalize(matrix.mv(self._v), dim=0, eps=self.eps)
                self._v = F.normalize(matrix.t().mv(self._u), dim=0, eps=self.eps)

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = matrix_of(weight, self.dim)
        if self.training:
            self._power_method(matrix.detach(), self.n_power_iterations)
        return weight / (self._u * matrix.mv(self._v)).sum()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Divide a parameter by its largest singular value, whenever it is read (Miyato et al. 2018).

    Args:
        module: the layer; it is changed and returned.
        name: of the parameter.
        n_power_iterations: steps of the power method each time in training.
        eps: norms count as at least this.
        dim: the dimension of outputs; by default 0, and 1 for transposed convolutions.

    >>> import fastnet
    >>> layer = spectral_norm(fastnet.nn.Linear(4, 3))
    >>> [k for k in layer.state_dict()][1:]
    ['parametrizations.weight.original', 'parametrizations.weight.0._u', 'parametrizations.weight.0._v']
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise InputError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if dim is None:
        dim = default_output_dim(module)
    register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))
    return module


def norm_except(v: Tensor, dim: int) -> Tensor:
    """The norm of v over all dimensions but dim, which are kept; dim -1: over all, which are not."""
    return v.norm() if dim == -1 else v.norm(2, [d for d in range(v.ndim) if d != dim % v.ndim], keepdim=True)


def magnitude_and_direction(g: Tensor, v: Tensor, dim: int) -> Tensor:
    """``g v / |v|``."""
    return v * (g / norm_except(v, dim))


class _WeightNorm(Module):
    """g * v / |v|, the norm over all dimensions but one (Salimans and Kingma 2016)."""

    def __init__(self, dim: int | None = 0):
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return magnitude_and_direction(weight_g, weight_v, self.dim)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return norm_except(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Train a parameter as a magnitude (original0) and a direction (original1) (Salimans and Kingma 2016).

    Args:
        module: the layer; it is changed and returned.
        name: of the parameter.
        dim: the dimension along which magnitudes differ; None: one for all.
    """
    if getattr(module, name, None) is None:
        raise InputError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)
    return module


__all__ = ["spectral_norm", "weight_norm"]
