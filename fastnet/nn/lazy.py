"""Lazy layers: sizes of the input are taken from the first forward, and the layer then becomes the usual one."""

from __future__ import annotations

from typing import Any

from fastnet import _dtypes
from fastnet._tensor import Tensor
from fastnet.autograd import no_grad
from fastnet.errors import InputError
from fastnet.nn import conv, conv3d, norm
from fastnet.nn.conv import _Conv, _ConvForward, _ConvTranspose
from fastnet.nn.linear import Linear
from fastnet.nn.norm import _RunningNorm
from fastnet.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy
from fastnet.ops.creation import tensor


class LazyModuleMixin:
    """For modules whose parameters are shaped by the first input, as ``torch.nn.modules.lazy.LazyModuleMixin``.

    A subclass sets parameters to ``UninitializedParameter`` and defines ``initialize_parameters(*inputs)``, which
    materialises them; after the first call the module's class is ``cls_to_become``. Until then only moves and dtypes
    of such parameters can be asked for: pass a batch through the model before you make an optimizer of its parameters.
    """

    cls_to_become: type | None = None

    def __init__(self: Any, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)  # type: ignore[misc]
        self._load_hook = self._register_load_state_dict_pre_hook(self._lazy_load_hook)
        self._initialize_hook = self.register_forward_pre_hook(self._infer_parameters, with_kwargs=True)

    def _save_to_state_dict(self: Any, destination: dict, prefix: str, keep_vars: bool) -> None:
        for name, value in (*self._parameters.items(), *self._buffers.items()):
            if value is not None and name not in self._non_persistent_buffers_set:
                destination[prefix + name] = value if keep_vars or is_lazy(value) else value.detach()

    def _lazy_load_hook(self: Any, state_dict: dict, prefix: str, *_: Any) -> None:
        """What is loaded shapes what is not initialised yet."""
        for name, value in (*self._parameters.items(), *self._buffers.items()):
            given = state_dict.get(prefix + name)
            if is_lazy(value) and isinstance(given, Tensor) and not is_lazy(given):
                value.materialize(given.shape)

    def initialize_parameters(self: Any, *args: Any, **kwargs: Any) -> None:
        """Materialise the parameters by the first input."""
        raise NotImplementedError(f"initialize_parameters is not implemented for {type(self).__name__}")

    def has_uninitialized_params(self: Any) -> bool:
        """Whether a parameter or buffer has no shape yet."""
        return any(is_lazy(v) for v in (*self._parameters.values(), *self._buffers.values()))

    def _infer_parameters(self: Any, module: Any, args: tuple, kwargs: dict) -> None:
        module.initialize_parameters(*args, **kwargs)
        if module.has_uninitialized_params():
            raise RuntimeError(f"module {self._get_name()} has not been fully initialized")
        module._initialize_hook.remove()
        module._load_hook.remove()
        del module._initialize_hook, module._load_hook
        if module.cls_to_become is not None:
            module.__class__ = module.cls_to_become


class LazyLinear(LazyModuleMixin, Linear):
    """``Linear`` whose in_features are those of its first input.

    >>> import fastnet
    >>> layer = fastnet.nn.LazyLinear(2)
    >>> layer
    LazyLinear(in_features=0, out_features=2, bias=True)
    >>> layer(fastnet.ones(5, 3)).shape
    fastnet.Size([5, 2])
    >>> layer
    Linear(in_features=3, out_features=2, bias=True)
    """

    cls_to_become = Linear

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None):
        super().__init__(0, 0, False)
        self.weight: Any = UninitializedParameter(device=device, dtype=dtype)
        self.out_features = out_features
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, if they have shapes."""
        if not self.has_uninitialized_params() and self.in_features != 0:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor) -> None:
        """Shapes by the input."""
        if self.has_uninitialized_params():
            with no_grad():
                self.in_features = input.shape[-1]
                self.weight.materialize((self.out_features, self.in_features))
                if self.bias is not None:
                    self.bias.materialize((self.out_features,))
                self.reset_parameters()
        if self.in_features == 0:  # the weight came from a state_dict
            if input.shape[-1] != self.weight.shape[-1]:
                raise AssertionError(
                    f"The in_features inferred from input: {input.shape[-1]} is not equal to in_features from "
                    f"self.weight: {self.weight.shape[-1]}"
                )
            self.in_features = input.shape[-1]


# ---- convolutions --------------------------------------------------------------------------------------------------


class _LazyConv(LazyModuleMixin, _Conv):
    """What the six lazy convolutions share: in_channels are those of the first input."""

    def __init__(self, out_channels: int, bias: bool, made: dict[str, Any], *numbers: Any):
        super().__init__(0, 0, *numbers, **made)
        self.weight: Any = UninitializedParameter(**made)
        self.out_channels = out_channels
        if bias:
            self.bias = UninitializedParameter(**made)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, if they have shapes."""
        if not self.has_uninitialized_params() and self.in_channels != 0:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        """Shapes by the input."""
        if not self.has_uninitialized_params():
            return
        if input.dim() not in (self.dims + 1, self.dims + 2):
            raise InputError(
                f"Expected {self.dims + 1}D (unbatched) or {self.dims + 2}D (batched) input to {type(self).__name__}, "
                f"but got input of size: {input.shape}"
            )
        self.in_channels = input.shape[-self.dims - 1]
        if self.in_channels % self.groups:
            raise InputError("in_channels must be divisible by groups")
        channels = (self.out_channels, self.in_channels // self.groups)
        if self.transposed:
            channels = (self.in_channels, self.out_channels // self.groups)
        self.weight.materialize((*channels, *self.kernel_size))
        if self.bias is not None:
            self.bias.materialize((self.out_channels,))
        self.reset_parameters()


class _LazyConvForward(_LazyConv, _ConvForward):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        made = {"device": device, "dtype": dtype}
        numbers = (kernel_size, stride, padding, dilation, groups, False, padding_mode)
        super().__init__(out_channels, bias, made, *numbers)


class _LazyConvTranspose(_LazyConv, _ConvTranspose):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        made = {"device": device, "dtype": dtype}
        numbers = (kernel_size, stride, padding, output_padding, groups, False, dilation, padding_mode)
        super().__init__(out_channels, bias, made, *numbers)


class LazyConv1d(_LazyConvForward, conv.Conv1d):
    """``Conv1d`` whose in_channels are those of its first input."""

    cls_to_become = conv.Conv1d


class LazyConv2d(_LazyConvForward, conv.Conv2d):
    """``Conv2d`` whose in_channels are those of its first input.

    >>> import fastnet
    >>> layer = fastnet.nn.LazyConv2d(8, 3, padding=1)
    >>> layer(fastnet.ones(2, 3, 5, 5)).shape
    fastnet.Size([2, 8, 5, 5])
    >>> layer
    Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """

    cls_to_become = conv.Conv2d


class LazyConv3d(_LazyConvForward, conv3d.Conv3d):
    """``Conv3d`` whose in_channels are those of its first input."""

    cls_to_become = conv3d.Conv3d


class LazyConvTranspose1d(_LazyConvTranspose, conv.ConvTranspose1d):
    """``ConvTranspose1d`` whose in_channels are those of its first input."""

    cls_to_become = conv.ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, conv.ConvTranspose2d):
    """``ConvTranspose2d`` whose in_channels are those of its first input."""

    cls_to_become = conv.ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, conv3d.ConvTranspose3d):
    """``ConvTranspose3d`` whose in_channels are those of its first input."""

    cls_to_become = conv3d.ConvTranspose3d


# ---- norms ---------------------------------------------------------------------------------------------------------


class _LazyNorm(LazyModuleMixin, _RunningNorm):
    """What the six lazy norms share: num_features are the channels of the first input."""

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(0, eps, momentum, False, False, **made, bias=False)  # type: ignore[arg-type]
        self.affine, self.track_running_stats = affine, track_running_stats
        if affine:
            self.weight: Any = UninitializedParameter(**made)
            if bias:
                self.bias: Any = UninitializedParameter(**made)
        if track_running_stats:
            self.running_mean: Any = UninitializedBuffer(**made)
            self.running_var: Any = UninitializedBuffer(**made)
            self.num_batches_tracked = tensor(0, dtype=_dtypes.int64, device=device)

    def reset_parameters(self) -> None:
        """Weights 1, biases 0, running statistics anew, if they have shapes."""
        if not self.has_uninitialized_params() and self.num_features != 0:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor) -> None:
        """Shapes by the input."""
        if self.has_uninitialized_params():
            self.num_features = input.shape[1]
            for value in (*self._parameters.values(), *self._buffers.values()):
                if is_lazy(value):
                    value.materialize((self.num_features,))
            self.reset_parameters()


class LazyBatchNorm1d(_LazyNorm, norm.BatchNorm1d):
    """``BatchNorm1d`` whose num_features are the channels of its first input."""

    cls_to_become = norm.BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, norm.BatchNorm2d):
    """``BatchNorm2d`` whose num_features are the channels of its first input."""

    cls_to_become = norm.BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, norm.BatchNorm3d):
    """``BatchNorm3d`` whose num_features are the channels of its first input."""

    cls_to_become = norm.BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, norm.InstanceNorm1d):
    """``InstanceNorm1d`` whose num_features are the channels of its first input."""

    cls_to_become = norm.InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, norm.InstanceNorm2d):
    """``InstanceNorm2d`` whose num_features are the channels of its first input."""

    cls_to_become = norm.InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, norm.InstanceNorm3d):
    """``InstanceNorm3d`` whose num_features are the channels of its first input."""

    cls_to_become = norm.InstanceNorm3d
