"""Convolutions by handwritten kernels: implicit matrix products on channels-last images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import empty, packed, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.kernels.reduction import column_sum, loadable
from fastnet.reference.conv import (
    ConvGeometry,
    channels_last,
    check_conv2d,
    check_conv2d_input_grad,
    check_conv2d_weight_grad,
    check_moments,
)


def _images(x: Any) -> Any:
    """(N, C, H, W) as contiguous (N, H, W, C) elements at multiples of their size."""
    return loadable(channels_last(x))


def _numbers(g: ConvGeometry) -> tuple[tuple[int, ...], ...]:
    """What the extension takes of the geometry."""
    axes = [(g.image[i], g.out[i], g.kernel[i], g.stride[i], g.padding[i][0], g.dilation[i]) for i in (0, 1)]
    return (g.batch, g.channels, g.filters, g.groups), axes[0], axes[1]


def _config(function: str, ext: Any, config: Any, direction: str, dtype: Any, g: ConvGeometry) -> Any:
    problem = (direction, dtype.name, *_numbers(g))
    if config is None:
        return ext.conv_config(*problem)
    if not isinstance(config, ext.ConvConfig):
        raise KindError(f"{function}: config is a {type(config).__name__}, expected a ConvConfig of {ext.__name__}")
    try:
        ext.conv_check(config, *problem)
    except ValueError as e:
        raise InputError(f"{function}: {e}") from None
    return config


def _gather(
    function: str,
    launch: Any,
    source: Any,
    weight: Any,
    shape: tuple[int, ...],
    g: ConvGeometry,
    bias: Any,
    activation: str,
    parameter: float | None,
    residual: Any,
    keep_preactivation: bool,
    config: Any,
    moments: Any = None,
) -> Any:
    """Forward or input gradient: source (N, C, H, W), weight as the kernel takes it, a result of (N, H, W, C)."""
    out = empty(source, shape, source.dtype)
    preactivation = empty(source, shape, source.dtype) if keep_preactivation else None
    if out.size:
        record(function, source, weight, config=config)
        launch(
            out,
            preactivation,
            moments,
            _images(source),
            weight,
            None if bias is None else loadable(namespace(bias).ascontiguousarray(bias)),
            None if residual is None else _images(residual),
            *_numbers(g),
            activation,
            math.nan if parameter is None else float(parameter),
            config,
            stream_of(source),
        )
    out = out.transpose(0, 3, 1, 2)
    return out if preactivation is None else (out, preactivation.transpose(0, 3, 1, 2))


def conv2d(
    x: Any,
    weight: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    bias: Any = None,
    activation: str = "none",
    parameter: float | None = None,
    residual: Any = None,
    keep_preactivation: bool = False,
    keep_moments: bool = False,
    config: Any = None,
) -> Any:
    """Cross-correlation with all that follows it: ``activation(conv(x, weight) + bias + residual)``.

    16-bit and float32 inputs are summed in float32, float64 in float64; the result is rounded once.

    Args:
        x: (N, C, H, W) float32, float64, float16 or bfloat16; channels-last memory is not copied.
        weight: (K, C / groups, R, S) of x's dtype; channels-last memory is not copied.
        stride, dilation: an int or two, for height and width.
        padding: an int or two, two pairs (before, after), ``'same'`` (stride 1 only) or ``'valid'``.
        groups: channels and filters are divided into so many groups, convolved apart.
        bias: (K,) of x's dtype, or None.
        activation: a name from ``fastnet.reference.pointwise.ACTIVATIONS``.
        parameter: the activation's number (leaky_relu: slope 0.01, elu: alpha 1, softplus: beta 1), None: its default.
        residual: of the result's shape and x's dtype, or None.
        keep_preactivation: return what the activation was applied to as well.
        keep_moments: return the moments of each channel of the result as well, which ``batch_norm`` takes in the place
            of a pass over it; not with activation, residual and preactivation.
        config: a ``ConvConfig`` to use in place of the one chosen for the problem.

    Returns:
        (N, K, P, Q) beside x, channels-last in memory; with ``keep_preactivation`` a pair of such arrays. With
        ``keep_moments`` a pair of it and (parts, 3, K) of the sums' dtype, the count, mean and sum of squared
        deviations of parts of the pixels; None where there are no pixels.

    Raises:
        TypeError, ValueError: arguments of another dtype, shape or device, or numbers out of range.

    >>> import numpy as np, fastnet
    >>> with fastnet.kernels.use("emulated"):
    ...     fastnet.kernels.conv2d(np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32))[0, 0]
    array([[4., 4.],
           [4., 4.]], dtype=float32)
    """
    g = check_conv2d(x, weight, stride, padding, dilation, groups, bias, activation, parameter, residual)
    check_moments(keep_moments, activation, residual, keep_preactivation)
    ext = extension_for(x)
    config = _config("conv2d", ext, config, "forward", x.dtype, g)
    filters = weight.transpose(0, 2, 3, 1)  # (K, R, S, C / groups)
    filters = loadable(filters) if filters.flags.c_contiguous else packed(filters)
    moments = None
    if keep_moments and (parts := ext.conv_moment_parts(config, *_numbers(g))):
        moments = empty(x, (parts, 3, g.filters), np.float64 if x.dtype == np.float64 else np.float32)
    out = _gather(
        "conv2d",
        ext.conv_forward,
        x,
        filters,
        (g.batch, *g.out, g.filters),
        g,
        bias,
        activation,
        parameter,
        residual,
        keep_preactivation,
        config,
        moments,
    )
    return (out, moments) if keep_moments else out


def conv2d_input_grad(
    grad: Any,
    weight: Any,
    input_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    bias: Any = None,
    activation: str = "none",
    parameter: float | None = None,
    residual: Any = None,
    keep_preactivation: bool = False,
    config: Any = None,
) -> Any:
    """The gradient of ``conv2d``'s input; with bias, activation and residual, a transposed convolution.

    Args:
        grad: (N, K, P, Q); P and Q may be less than the windows that fit, which then count as zero.
        weight: (K, C / groups, R, S) of grad's dtype.
        input_size: (H, W), or one number for both.
        bias: (C,) or None; residual: (N, C, H, W) or None. They and the others: as ``conv2d``.

    Returns:
        (N, C, H, W) beside grad, channels-last in memory; with ``keep_preactivation`` a pair of such arrays.

    Raises:
        TypeError, ValueError: as ``conv2d``.
    """
    function = "conv2d_input_grad"
    g = check_conv2d_input_grad(
        grad, weight, input_size, stride, padding, dilation, groups, bias, activation, parameter, residual
    )
    ext = extension_for(grad)
    config = _config(function, ext, config, "input_grad", grad.dtype, g)
    # (groups, C / groups, R, S, K / groups)
    filters = weight.reshape(g.groups, g.filters // g.groups, *weight.shape[1:]).transpose(0, 2, 3, 4, 1)
    filters = loadable(filters) if filters.flags.c_contiguous else packed(filters)
    return _gather(
        function,
        ext.conv_input_grad,
        grad,
        filters,
        (g.batch, *g.image, g.channels),
        g,
        bias,
        activation,
        parameter,
        residual,
        keep_preactivation,
        config,
    )


def conv2d_weight_grad(
    grad: Any,
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    config: Any = None,
) -> Any:
    """The gradient of ``conv2d``'s weight: sums over all pixels, in parts that are added in order.

    Args:
        grad: (N, K, P, Q); P and Q may be less than the windows that fit, which then count as zero.
        x: (N, C, H, W) of grad's dtype.
        kernel_size: (R, S), or one number for both.
        stride, padding, dilation, groups, config: as ``conv2d``.

    Returns:
        (K, C / groups, R, S) beside grad, contiguous.

    Raises:
        TypeError, ValueError: as ``conv2d``.
    """
    function = "conv2d_weight_grad"
    g = check_conv2d_weight_grad(grad, x, kernel_size, stride, padding, dilation, groups)
    ext = extension_for(x)
    config = _config(function, ext, config, "weight_grad", x.dtype, g)
    out = empty(x, (g.filters, g.channels // g.groups, *g.kernel), x.dtype)
    if not out.size:
        return out
    if not grad.size:
        out[...] = 0
        return out
    parts = min(config.splits, -(-g.batch * math.prod(g.out) // 8))  # none without a step of pixels
    if parts < config.splits:
        config = ext.ConvConfig(
            config.family,
            config.rows,
            config.columns,
            stages=config.stages,
            fold=config.fold,
            splits=parts,
            max_blocks=config.max_blocks,
        )
    workspace = None
    if parts := ext.conv_weight_grad_parts(config, *_numbers(g)):
        accumulator = np.float64 if x.dtype == np.float64 else np.float32
        workspace = empty(x, (parts, out.size), accumulator)
    record(function, grad, x, config=config)
    ext.conv_weight_grad(out, _images(grad), _images(x), workspace, *_numbers(g), config, stream_of(x))
    if workspace is None or config.family in ("sm80", "sm90"):  # which add the parts themselves
        return out
    return column_sum(workspace, out_dtype=x.dtype).reshape(out.shape)
