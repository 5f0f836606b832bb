"""Convolutions and transposed convolutions of one and two dimensions, and their gradients: three products that are each
other's gradients."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.kernels._runtime import implementation
from fastnet.kernels.pointwise import check_activation
from fastnet.ops._operands import check_tensor
from fastnet.ops.norm import batch_norm_activation, check_parameters
from fastnet.reference.conv import ConvGeometry, channels_last, check_pair, conv_geometry


def _images(x: Any) -> Any:
    """x (N, C, H, W) in channels-last memory: converted once, before it is used forward and backward."""
    return channels_last(x).transpose(0, 3, 1, 2)


def _options(g: ConvGeometry) -> dict[str, Any]:
    return {"stride": g.stride, "padding": g.padding, "dilation": g.dilation, "groups": g.groups}


def _bias_grad(grad: Any) -> Any:
    return implementation(grad).column_sum(channels_last(grad).reshape(-1, grad.shape[1]))


def _conv2d_backward(ctx: Any, grad: Any, x: Any, weight: Any, g: ConvGeometry) -> tuple[Any, Any, Any]:
    of_x = of_weight = of_bias = None
    run, grad = implementation(grad), _images(grad)
    if ctx.needs_input_grad[0]:
        of_x = run.conv2d_input_grad(grad, weight, g.image, **_options(g))
    if ctx.needs_input_grad[1]:
        of_weight = run.conv2d_weight_grad(grad, x, g.kernel, **_options(g))
    if ctx.needs_input_grad[2]:
        of_bias = _bias_grad(grad)
    return of_x, of_weight, of_bias


class Conv2d(ArrayFunction):
    """Convolution of images with filters, plus bias."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, g: ConvGeometry) -> Any:
        x = _images(x)
        ctx.save(x, weight)
        ctx.geometry = g
        return implementation(x).conv2d(x, weight, bias=bias, **_options(g))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight = ctx.saved
        return *_conv2d_backward(ctx, grad, x, weight, ctx.geometry), None


class Conv2dActivation(ArrayFunction):
    """activation(convolution + bias + residual); what the activation was applied to is kept for its gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Any, weight: Any, bias: Any, residual: Any, g: ConvGeometry, activation: str, parameter: Any
    ) -> Any:
        x = _images(x)
        options = {**_options(g), "bias": bias, "residual": residual, "activation": activation, "parameter": parameter}
        if not any(ctx.needs_input_grad):
            return implementation(x).conv2d(x, weight, **options)
        out, preactivation = implementation(x).conv2d(x, weight, keep_preactivation=True, **options)
        ctx.save(x, weight, preactivation)
        ctx.geometry, ctx.activation = g, (activation, parameter)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight, preactivation = ctx.saved
        activation, parameter = ctx.activation
        grad = (
            implementation(grad)
            .bias_activation_backward(
                channels_last(grad), channels_last(preactivation), activation=activation, parameter=parameter
            )
            .transpose(0, 3, 1, 2)
        )
        of_residual = grad if ctx.needs_input_grad[3] else None
        return *_conv2d_backward(ctx, grad, x, weight, ctx.geometry), of_residual, None, None, None


class Conv2dBatchNorm(ArrayFunction):
    """activation(batch norm of a convolution + residual), the batch's statistics from the convolution's own kernel."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Any,
        weight: Any,
        bias: Any,
        norm_weight: Any,
        norm_bias: Any,
        residual: Any,
        g: ConvGeometry,
        running: tuple[Any, Any],
        momentum: float,
        eps: float,
        activation: str,
    ) -> Any:
        x = _images(x)
        run = implementation(x)
        out, moments = run.conv2d(x, weight, bias=bias, keep_moments=True, **_options(g))
        y, mean, rstd = run.batch_norm(
            out,
            norm_weight,
            norm_bias,
            eps=eps,
            running_mean=running[0],
            running_var=running[1],
            momentum=momentum,
            activation=activation,
            residual=residual,
            moments=moments,
        )
        ctx.save(x, weight, out, mean, rstd, norm_weight, None if activation == "none" else y)
        ctx.geometry = g
        return y

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight, out, mean, rstd, norm_weight, y = ctx.saved
        of_out, of_norm_weight, of_norm_bias, of_residual = implementation(grad).batch_norm_backward(
            grad, out, mean, rstd, norm_weight, y=y, residual_gradient=ctx.needs_input_grad[5]
        )
        of_conv = _conv2d_backward(ctx, of_out, x, weight, ctx.geometry)
        return *of_conv, of_norm_weight, of_norm_bias, of_residual, *[None] * 5


class ConvTranspose2d(ArrayFunction):
    """The gradient of a convolution's input as an operation of its own, plus bias. ``g`` is that convolution's."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, g: ConvGeometry) -> Any:
        x = _images(x)
        ctx.save(x, weight)
        ctx.geometry = g
        return implementation(x).conv2d_input_grad(x, weight, g.image, bias=bias, **_options(g))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight = ctx.saved
        g, run, grad = ctx.geometry, implementation(grad), _images(grad)
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            # More windows may fit than x had pixels: those gave nothing.
            of_x = run.conv2d(grad, weight, **_options(g))[:, :, : x.shape[2], : x.shape[3]]
        if ctx.needs_input_grad[1]:
            of_weight = run.conv2d_weight_grad(x, grad, g.kernel, **_options(g))
        if ctx.needs_input_grad[2]:
            of_bias = _bias_grad(grad)
        return of_x, of_weight, of_bias, None


# ---- arguments -----------------------------------------------------------------------------------------------------


def _check_tensors(function: str, input: Any, weight: Any, bias: Any, dims: int) -> None:
    """Ranks, dtypes and devices."""
    check_tensor(function, input, "input")
    check_tensor(function, weight, "weight")
    if weight.dim() != dims + 2:
        raise InputError(f"{function}: weight has {weight.dim()} dimensions {tuple(weight.shape)}, expected {dims + 2}")
    if input.dim() not in (dims + 1, dims + 2):
        raise InputError(
            f"{function}: input has {input.dim()} dimensions {tuple(input.shape)}, expected {dims + 2} or, without a "
            f"batch, {dims + 1}"
        )
    if not input.dtype.is_floating_point:
        raise KindError(f"{function}: input has dtype {input.dtype}, expected a floating-point dtype")
    tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    for name, t in tensors.items():
        check_tensor(function, t, name)
        if t.dtype is not input.dtype:
            raise KindError(
                f"{function}: expected input and {name} to have the same dtype, got {input.dtype} and {t.dtype}"
            )
        if t.is_cuda is not input.is_cuda:
            raise InputError(
                f"{function}: expected all tensors to be on the same device, got {input.device} and {t.device}"
            )
    if bias is not None and bias.dim() != 1:
        raise InputError(f"{function}: bias has {bias.dim()} dimensions {tuple(bias.shape)}, expected 1")


def _check_bias(function: str, bias: Any, filters: int) -> None:
    if bias is not None and bias.shape[0] != filters:
        raise InputError(f"{function}: bias has shape {tuple(bias.shape)}, expected ({filters},)")


def _one(function: str, argument: str, x: Any, least: int) -> int:
    """An int, or a sequence of one."""
    if isinstance(x, (tuple, list)) and len(x) != 1:
        raise InputError(f"{function}: {argument} has {len(x)} entries, expected one")
    return check_pair(function, argument, x, least)[0]


def _planar(function: str, **numbers: Any) -> dict[str, Any]:
    """The arguments of a convolution along one dimension as those of one along the second of two."""
    out: dict[str, Any] = {}
    for argument, x in numbers.items():
        if isinstance(x, str):
            out[argument] = x
        elif "padding" in argument:
            out[argument] = (0, _one(function, argument, x, 0))
        else:
            out[argument] = (1, _one(function, argument, x, 1))
    return out


def _geometry(
    function: str, input: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any, groups: Any
) -> ConvGeometry:
    """Of a convolution of input (N, C, H, W) with weight (K, C / groups, R, S)."""
    channels, image = input.shape[1], input.shape[2:]
    g = conv_geometry(
        function,
        input.shape[0],
        channels,
        (image[0], image[1]),
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        stride,
        padding,
        dilation,
        groups,
    )
    if weight.shape[1] * g.groups != channels:
        raise InputError(
            f"{function}: weight has {weight.shape[1]} input channels per group, input has {channels} "
            f"({channels} / groups={g.groups} = {channels // g.groups} expected)"
        )
    if not g.filters:
        raise InputError(f"{function}: weight has no filters, shape {tuple(weight.shape)}")
    return g


def _transposed_geometry(
    function: str,
    input: Tensor,
    weight: Tensor,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> ConvGeometry:
    """Of the convolution whose input's gradient is the transposed convolution of input (N, K, P, Q) with weight
    (K, C / groups, R, S)."""
    strides, dilations = check_pair(function, "stride", stride, 1), check_pair(function, "dilation", dilation, 1)
    pads, extra = check_pair(function, "padding", padding, 0), check_pair(function, "output_padding", output_padding, 0)
    if isinstance(groups, bool) or not hasattr(groups, "__index__"):
        raise KindError(f"{function}: groups is a {type(groups).__name__}, expected an int")
    if weight.shape[0] != input.shape[1]:
        raise InputError(f"{function}: weight takes {weight.shape[0]} channels, input has {input.shape[1]}")
    image = []
    for size, k, s, p, d, e in zip(input.shape[2:], weight.shape[2:], strides, pads, dilations, extra, strict=True):
        if e >= s and e >= d:
            raise InputError(
                f"{function}: output_padding is {e}, expected less than the stride {s} or the dilation {d}"
            )
        image.append((size - 1) * s - 2 * p + d * (k - 1) + e + 1)
    if min(image) < 1:
        raise InputError(f"{function}: the result would have {image[0]} x {image[1]} pixels, expected at least 1 x 1")
    return conv_geometry(
        function,
        input.shape[0],
        weight.shape[1] * int(groups),
        (image[0], image[1]),
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        strides,
        pads,
        dilations,
        groups,
    )


# ---- public functions ----------------------------------------------------------------------------------------------


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of images with filters, as ``torch.nn.functional.conv2d``.

    Args:
        input: (N, C, H, W) or (C, H, W), floating-point; any memory order, channels-last needs no copy.
        weight: (K, C / groups, R, S) of input's dtype.
        bias: (K,) or None.
        stride, dilation: an int or two, for height and width.
        padding: an int or two, ``'valid'`` (none) or ``'same'`` (as much as keeps the size; stride 1 only).
        groups: the channels and filters are divided into so many groups, convolved apart.

    Returns:
        (N, K, P, Q), without N where input has none, channels-last in memory.

    Raises:
        TypeError, ValueError: tensors of dtypes, shapes or devices that do not fit, numbers out of range.

    >>> import fastnet
    >>> fastnet.conv2d(fastnet.ones(1, 2, 4, 4), fastnet.ones(3, 2, 3, 3), padding=1).shape
    fastnet.Size([1, 3, 4, 4])
    """
    _check_tensors("conv2d", input, weight, bias, 2)
    if input.dim() == 3:
        return conv2d(input.unsqueeze(0), weight, bias, stride, padding, dilation, groups).squeeze(0)
    g = _geometry("conv2d", input, weight, stride, padding, dilation, groups)
    _check_bias("conv2d", bias, g.filters)
    return Conv2d.apply(input, weight, bias, g)


def conv2d_activation(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    activation: str = "relu",
    parameter: float | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """``activation(conv2d(...) + residual)`` by one kernel.

    Args:
        input, weight, bias, stride, padding, dilation, groups: as ``conv2d``; input has a batch.
        activation: a name from ``fastnet.reference.pointwise.ACTIVATIONS``.
        parameter: the activation's number (leaky_relu: slope, elu: alpha, softplus: beta), None for its default.
        residual: of the result's shape and input's dtype, or None.

    >>> import fastnet
    >>> fastnet.conv2d_activation(fastnet.ones(1, 1, 2, 2), -fastnet.ones(1, 1, 2, 2)).item()
    0.0
    """
    function = "conv2d_activation"
    _check_tensors(function, input, weight, bias, 2)
    if input.dim() != 4:
        raise InputError(f"{function}: input has {input.dim()} dimensions {tuple(input.shape)}, expected 4")
    check_activation(function, activation, parameter)
    g = _geometry(function, input, weight, stride, padding, dilation, groups)
    _check_bias(function, bias, g.filters)
    if residual is not None:
        check_tensor(function, residual, "residual")
        if tuple(residual.shape) != (g.batch, g.filters, *g.out) or residual.dtype is not input.dtype:
            raise InputError(
                f"{function}: residual is {tuple(residual.shape)} of {residual.dtype}, expected "
                f"{(g.batch, g.filters, *g.out)} of {input.dtype}"
            )
    return Conv2dActivation.apply(input, weight, bias, residual, g, activation, parameter)


def conv_norm_activation(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str = "none",
    residual: Tensor | None = None,
) -> Tensor:
    """``activation(batch_norm(conv2d(...)) + residual)``: in training the convolution's kernel collects the batch's
    statistics from the results that it writes, so that batch norm reads them once and not twice.

    Args:
        input, weight, bias, stride, padding, dilation, groups: as ``conv2d``; input has a batch.
        running_mean, running_var, training, momentum, eps: as ``batch_norm``.
        norm_weight, norm_bias: (K,), batch norm's, or None.
        activation: ``"none"`` or ``"relu"``.
        residual: of the result's shape and dtype, or None.

    Returns:
        (N, K, P, Q), channels-last in memory.

    Raises:
        TypeError, ValueError, RuntimeError: as ``conv2d`` and ``batch_norm``.

    >>> import fastnet
    >>> x, weight = fastnet.tensor([[[[1.0, 3.0]]]]), fastnet.ones(1, 1, 1, 1)
    >>> fastnet.nn.functional.conv_norm_activation(x, weight, training=True, eps=0, activation="relu")
    tensor([[[[0., 1.]]]])
    """
    function = "conv_norm_activation"
    norm = {"training": training, "momentum": momentum, "eps": eps, "activation": activation, "residual": residual}
    _check_tensors(function, input, weight, bias, 2)
    if input.dim() != 4:
        raise InputError(f"{function}: input has {input.dim()} dimensions {tuple(input.shape)}, expected 4")
    if not training:
        out = conv2d(input, weight, bias, stride, padding, dilation, groups)
        return batch_norm_activation(out, running_mean, running_var, norm_weight, norm_bias, **norm)
    g = _geometry(function, input, weight, stride, padding, dilation, groups)
    _check_bias(function, bias, g.filters)
    running = {"running_mean": running_mean, "running_var": running_var}
    check_parameters(function, g.filters, {**running, "norm_weight": norm_weight, "norm_bias": norm_bias})
    if g.batch * g.out[0] * g.out[1] == 1:
        raise InputError(
            f"Expected more than 1 value per channel when training, got input size {(g.batch, g.filters, *g.out)}"
        )
    if residual is not None:
        check_tensor(function, residual, "residual")
    out = Conv2dBatchNorm.apply(
        input,
        weight,
        bias,
        norm_weight,
        norm_bias,
        residual,
        g,
        tuple(None if r is None else r._data for r in running.values()),
        float(momentum),
        float(eps),
        activation,
    )
    for r in running.values():
        if r is not None:
            r._version_counter[0] += 1
    return out


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation along one dimension: ``conv2d`` on images of height one.

    Args:
        input: (N, C, L) or (C, L).
        weight: (K, C / groups, S).
        bias: (K,) or None.
        stride, padding, dilation, groups: as ``conv2d``, one number each.

    Returns:
        (N, K, Q), without N where input has none.

    >>> import fastnet
    >>> fastnet.conv1d(fastnet.tensor([[[1., 2., 4., 8.]]]), fastnet.tensor([[[-1., 1.]]]))
    tensor([[[1., 2., 4.]]])
    """
    _check_tensors("conv1d", input, weight, bias, 1)
    if input.dim() == 2:
        return conv1d(input.unsqueeze(0), weight, bias, stride, padding, dilation, groups).squeeze(0)
    numbers = _planar("conv1d", stride=stride, padding=padding, dilation=dilation)
    image, window = input.unsqueeze(2), weight.unsqueeze(2)
    g = _geometry("conv1d", image, window, groups=groups, **numbers)
    _check_bias("conv1d", bias, g.filters)
    return Conv2d.apply(image, window, bias, g).squeeze(2)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution, as ``torch.nn.functional.conv_transpose2d``: the input's gradient of a convolution.

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (C, K / groups, R, S).
        bias: (K,) or None.
        stride, padding, dilation: those of the convolution that it transposes.
        output_padding: pixels added at the bottom and the right, less than the stride or the dilation.
        groups: as ``conv2d``.

    Returns:
        (N, K, (H - 1) * stride - 2 * padding + dilation * (R - 1) + output_padding + 1, ...).

    >>> import fastnet
    >>> fastnet.conv_transpose2d(fastnet.ones(1, 2, 4, 4), fastnet.ones(2, 3, 2, 2), stride=2).shape
    fastnet.Size([1, 3, 8, 8])
    """
    function = "conv_transpose2d"
    _check_tensors(function, input, weight, bias, 2)
    if input.dim() == 3:
        return conv_transpose2d(
            input.unsqueeze(0), weight, bias, stride, padding, output_padding, groups, dilation
        ).squeeze(0)
    g = _transposed_geometry(function, input, weight, stride, padding, output_padding, groups, dilation)
    _check_bias(function, bias, g.channels)
    return ConvTranspose2d.apply(input, weight, bias, g)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution along one dimension.

    Args:
        input: (N, C, L) or (C, L).
        weight: (C, K / groups, S).
        bias, stride, padding, output_padding, groups, dilation: as ``conv_transpose2d``, one number each.

    >>> import fastnet
    >>> fastnet.conv_transpose1d(fastnet.tensor([[[1., 2.]]]), fastnet.tensor([[[1., 10.]]]))
    tensor([[[ 1., 12., 20.]]])
    """
    function = "conv_transpose1d"
    _check_tensors(function, input, weight, bias, 1)
    if input.dim() == 2:
        return conv_transpose1d(
            input.unsqueeze(0), weight, bias, stride, padding, output_padding, groups, dilation
        ).squeeze(0)
    numbers = _planar(function, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation)
    image, window = input.unsqueeze(2), weight.unsqueeze(2)
    g = _transposed_geometry(function, image, window, groups=groups, **numbers)
    _check_bias(function, bias, g.channels)
    return ConvTranspose2d.apply(image, window, bias, g).squeeze(2)
