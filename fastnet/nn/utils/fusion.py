"""Batch norm of evaluation folded into the convolution or linear layer before it; torch.nn.utils.fusion."""

from __future__ import annotations

import copy
from typing import Any

from fastnet._tensor import Tensor
from fastnet.nn.module import Module
from fastnet.nn.parameter import Parameter
from fastnet.ops.creation import ones_like, zeros, zeros_like

__all__ = ["fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights"]


def _fused(
    weight: Tensor, bias: Any, mean: Tensor, var: Tensor, eps: float, bn_weight: Any, bn_bias: Any, outputs: int
) -> tuple[Parameter, Parameter]:
    """Weight and bias; ``outputs`` is the dimension of weight that holds the channels of batch norm."""
    bias = zeros_like(mean) if bias is None else bias
    bn_weight = ones_like(mean) if bn_weight is None else bn_weight
    bn_bias = zeros_like(mean) if bn_bias is None else bn_bias
    scale = bn_weight * (var + eps).rsqrt()
    shape = [1] * weight.ndim
    shape[outputs] = -1
    fused = (weight * scale.reshape(shape)).to(weight.dtype)
    return (
        Parameter(fused.detach(), requires_grad=weight.requires_grad),
        Parameter(((bias - mean) * scale + bn_bias).to(bias.dtype).detach(), requires_grad=bias.requires_grad),
    )


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """Weight and bias of a convolution that does what one followed by batch norm does in evaluation.

    Args:
        conv_w, conv_b: of the convolution.
        bn_rm, bn_rv: running mean and variance.
        bn_eps, bn_w, bn_b: of the batch norm.
        transpose: whether the convolution is a transposed one.
    """
    return _fused(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 1 if transpose else 0)


def fuse_linear_bn_weights(
    linear_w: Tensor,
    linear_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
) -> tuple[Parameter, Parameter]:
    """As ``fuse_conv_bn_weights``, of a linear layer."""
    if linear_b is None:
        linear_b = zeros(len(linear_w), dtype=linear_w.dtype, device=linear_w.device)
    return _fused(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 0)


def _in_evaluation(layer: Module, bn: Any) -> None:
    if layer.training or bn.training:
        raise AssertionError("Fusion only for eval!")
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError("bn.running_mean and bn.running_var must not be None")


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A convolution that does what ``conv`` followed by ``bn`` does; both are left as they are.

    Raises:
        AssertionError: one of them is in training, or the batch norm keeps no running statistics.

    >>> import fastnet
    >>> conv, bn = fastnet.nn.Conv2d(2, 3, 1).eval(), fastnet.nn.BatchNorm2d(3).eval()
    >>> x = fastnet.randn(1, 2, 4, 4)
    >>> bool(fastnet.allclose(fuse_conv_bn_eval(conv, bn)(x), bn(conv(x)), atol=1e-6))
    True
    """
    _in_evaluation(conv, bn)
    fused = copy.deepcopy(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias, transpose
    )
    return fused


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """As ``fuse_conv_bn_eval``, of a linear layer.

    Raises:
        AssertionError: as there, or the batch norm has neither one feature nor as many as the layer's outputs.
    """
    _in_evaluation(linear, bn)
    if bn.num_features not in (linear.out_features, 1):
        raise AssertionError("To fuse, linear.out_features == bn.num_features or bn.num_features == 1")
    fused = copy.deepcopy(linear)
    fused.weight, fused.bias = fuse_linear_bn_weights(
        fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    return fused
