"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnet import _dtypes
from fastnet._tensor import Tensor
from fastnet.errors import InputError
from fastnet.nn import functional as F
from fastnet.nn import init
from fastnet.nn._hooks import is_plain
from fastnet.nn.conv import Conv2d
from fastnet.nn.module import Module
from fastnet.nn.parameter import Parameter
from fastnet.ops.creation import empty, ones, tensor, zeros


class _RunningNorm(Module):
    """What batch and instance norms share: a weight and a bias a channel, running statistics."""

    _dimensions: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        for name, there in (("weight", affine), ("bias", affine and bias)):
            self.register_parameter(name, Parameter(empty(num_features, device=device, dtype=dtype)) if there else None)
        if track_running_stats:
            self.register_buffer("running_mean", zeros(num_features, device=device, dtype=dtype))
            self.register_buffer("running_var", ones(num_features, device=device, dtype=dtype))
            self.register_buffer("num_batches_tracked", tensor(0, dtype=_dtypes.int64, device=device))
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Means 0, variances 1, no batch seen."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Weights 1, biases 0, running statistics anew."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            if self.bias is not None:
                init.zeros_(self.bias)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in self._dimensions:
            wanted = " or ".join(f"{d}D" for d in self._dimensions)
            raise InputError(f"expected {wanted} input (got {input.dim()}D input)")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_RunningNorm):
    def forward(self, input: Tensor) -> Tensor:
        return self.fused(input)

    def fused(self, input: Tensor, activation: str = "none", residual: Tensor | None = None) -> Tensor:
        """``activation(forward(input) + residual)`` in the passes over memory of ``forward`` alone."""
        self._check_input_dim(input)
        return F.batch_norm_activation(
            input, weight=self.weight, bias=self.bias, **self._statistics(), activation=activation, residual=residual
        )

    def _uses_batch(self) -> bool:
        return self.training or (self.running_mean is None and self.running_var is None)

    def _statistics(self) -> dict[str, Any]:
        """What the operation takes of them, this batch being counted."""
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # the plain average of all batches
                momentum = 1.0 / float(self.num_batches_tracked)
        keep = not self.training or self.track_running_stats
        return {
            "running_mean": self.running_mean if keep else None,
            "running_var": self.running_var if keep else None,
            "training": self._uses_batch(),
            "momentum": momentum,
            "eps": self.eps,
        }


class BatchNorm1d(_BatchNorm):
    """Each channel of (N, C) or (N, C, L) normalised over the batch (Ioffe and Szegedy 2015).

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: what part of the running statistics a batch replaces; None for the average of all batches.
        affine: whether there are weight and bias, (C,).
        track_running_stats: whether running statistics are kept, and used in evaluation.
        device, dtype: of parameters and buffers.
        bias: whether there is a bias, if affine.
    """

    _dimensions = (2, 3)


class BatchNorm2d(_BatchNorm):
    """As ``BatchNorm1d``, for (N, C, H, W)."""

    _dimensions = (4,)

    def after(self, conv: Module, input: Tensor, activation: str = "none", residual: Tensor | None = None) -> Tensor:
        """``activation(forward(conv(input)) + residual)``; where the statistics are the batch's and neither module has
        something of its own (a hook, a parametrization, a subclass), a ``Conv2d``'s kernel collects them."""
        together = is_plain(conv, Conv2d) and is_plain(self, BatchNorm2d) and self._uses_batch()
        if not together or conv.padding_mode != "zeros" or not isinstance(input, Tensor) or input.dim() != 4:
            return self.fused(conv(input), activation, residual)
        return F.conv_norm_activation(
            input,
            conv.weight,
            conv.bias,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            norm_weight=self.weight,
            norm_bias=self.bias,
            **self._statistics(),
            activation=activation,
            residual=residual,
        )


class BatchNorm3d(_BatchNorm):
    """As ``BatchNorm1d``, for (N, C, D, H, W)."""

    _dimensions = (5,)


class SyncBatchNorm(_BatchNorm):
    """Batch norm over all processes of a group: here there is one, so as ``BatchNorm1d``, for (N, C, ...).

    Args:
        num_features, eps, momentum, affine, track_running_stats, device, dtype, bias: as ``BatchNorm1d``'s.
        process_group: accepted for compatibility.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise InputError(f"expected at least 2D input (got {input.dim()}D input)")

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """The module with a ``SyncBatchNorm`` in place of each batch norm, which shares its parameters and buffers."""
        result = module
        if isinstance(module, _BatchNorm):
            result = SyncBatchNorm(
                module.num_features,
                module.eps,
                module.momentum,
                module.affine,
                module.track_running_stats,
                process_group,
                bias=module.bias is not None,
            )
            result._parameters.update(module._parameters)
            result._buffers.update(module._buffers)
            result.training = module.training
        for name, child in module.named_children():
            result.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return result


class _InstanceNorm(_RunningNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        single = input.dim() == self._dimensions[0]  # one sample, without its dimension
        if input.shape[0 if single else 1] != self.num_features and self.affine:
            raise InputError(
                f"expected input's size at dim={0 if single else 1} to match num_features ({self.num_features}), but "
                f"got: {input.shape[0 if single else 1]}."
            )
        out = F.instance_norm(
            input.unsqueeze(0) if single else input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return out.squeeze(0) if single else out


class InstanceNorm1d(_InstanceNorm):
    """Each channel of each sample of (N, C, L) or (C, L) normalised (Ulyanov et al. 2016). Arguments as
    ``BatchNorm1d``'s."""

    _dimensions = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """As ``InstanceNorm1d``, for (N, C, H, W) or (C, H, W)."""

    _dimensions = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """As ``InstanceNorm1d``, for (N, C, D, H, W) or (C, D, H, W)."""

    _dimensions = (4, 5)


class LayerNorm(Module):
    """The last dimensions normalised together (Ba, Kiros and Hinton 2016).

    Args:
        normalized_shape: their sizes, or one size.
        eps: added to the variance.
        elementwise_affine: whether there are weight and bias of that shape.
        bias: whether there is a bias.
        device, dtype: of the parameters.

    >>> import fastnet
    >>> fastnet.nn.LayerNorm(4)(fastnet.ones(2, 4)).shape
    fastnet.Size([2, 4])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        for name, there in (("weight", elementwise_affine), ("bias", elementwise_affine and bias)):
            self.register_parameter(
                name, Parameter(empty(*self.normalized_shape, device=device, dtype=dtype)) if there else None
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights 1, biases 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """The last dimensions divided by their root mean square (Zhang and Sennrich 2019).

    Args:
        normalized_shape: their sizes, or one size.
        eps: added to the mean square; None for the dtype's epsilon.
        elementwise_affine: whether there is a weight of that shape.
        device, dtype: of the weight.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.register_parameter(
            "weight",
            Parameter(empty(*self.normalized_shape, device=device, dtype=dtype)) if elementwise_affine else None,
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Groups of channels of (N, C, ...) normalised together, sample by sample (Wu and He 2018).

    Args:
        num_groups: a divisor of C.
        num_channels: C.
        eps: added to the variance.
        affine: whether there are weight and bias, (C,).
        device, dtype: of the parameters.
        bias: whether there is a bias, if affine.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        if num_channels % num_groups:
            raise InputError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        for name, there in (("weight", affine), ("bias", affine and bias)):
            self.register_parameter(name, Parameter(empty(num_channels, device=device, dtype=dtype)) if there else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights 1, biases 0."""
        if self.affine:
            init.ones_(self.weight)
            if self.bias is not None:
                init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )
