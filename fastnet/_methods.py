"""Attaches the operations to Tensor: its methods and operators. One table; the operations themselves are in
fastnet.ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._checks import checked
from fastnet._device import device as Device
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import KindError
from fastnet.ops import (
    _operands,
    activations,
    arithmetic,
    bessel,
    comparisons,
    creation,
    cumulative,
    decompositions,
    einsum,
    elementwise,
    in_place,
    indexing,
    linalg,
    matmul,
    pointwise,
    random,
    rearrange,
    reductions,
    scatter,
    selection,
    shape,
    softmax,
    solvers,
    special,
    statistics,
)

_Class: Any = Tensor  # to which attributes are added: checkers of types know none of them

METHODS = {
    arithmetic: "add addcdiv addcmul atan2 div floor_divide fmod lerp maximum minimum mul pow remainder sub",
    comparisons: (
        "allclose bitwise_and bitwise_not bitwise_or bitwise_xor eq equal ge gt isclose isfinite isinf isnan "
        "le logical_and logical_not logical_or logical_xor lt ne"
    ),
    elementwise: (
        "abs acos asin atan ceil cos cosh exp exp2 expm1 floor log log10 log1p log2 neg reciprocal round "
        "rsqrt sign sin sinh sqrt square tan trunc"
    ),
    in_place: "copy_ fill_ zero_",
    selection: "clamp masked_fill",
    bessel: "igamma igammac",
    cumulative: "cummax cummin cumprod cumsum diff logcumsumexp",
    einsum: "outer",
    indexing: (
        "argsort argwhere bincount gather index_select masked_select msort nonzero scatter scatter_add sort "
        "take_along_dim topk unique unique_consecutive"
    ),
    linalg: ("addbmm addmv addr baddbmm cross det inner kron logdet matrix_power slogdet trace vdot"),
    solvers: "cholesky_inverse cholesky_solve matrix_exp ormqr renorm triangular_solve",
    matmul: "addmm bmm dot matmul mm mv",
    pointwise: "prelu relu sigmoid tanh",
    random: ("bernoulli bernoulli_ cauchy_ exponential_ geometric_ log_normal_ multinomial normal_ random_ uniform_"),
    rearrange: (
        "adjoint as_strided as_strided_ diag_embed diagflat dsplit fill_diagonal_ fliplr flipud hsplit narrow_copy "
        "ravel resize_ resize_as_ rot90 set_ split_with_sizes squeeze_ sum_to_size swapaxes_ swapdims swapdims_ t_ "
        "tensor_split transpose_ unfold unsqueeze_ vsplit"
    ),
    reductions: "all amax amin any argmax argmin count_nonzero logsumexp max mean min norm prod std sum var",
    scatter: (
        "diagonal_scatter index_add index_copy index_fill index_put index_reduce masked_scatter put scatter_reduce "
        "select_scatter slice_scatter take"
    ),
    shape: (
        "broadcast_to chunk clone contiguous diag diagonal expand expand_as flatten flip movedim narrow permute repeat "
        "repeat_interleave reshape roll select split squeeze t tile transpose tril triu unbind unflatten unsqueeze "
        "view view_as"
    ),
    softmax: "log_softmax softmax",
    special: (
        "acosh angle asinh atanh bitwise_left_shift bitwise_right_shift clamp_max clamp_min copysign deg2rad digamma "
        "dist erf erfc erfinv float_power fmax fmin frac frexp gcd heaviside hypot i0 isneginf isposinf isreal lcm "
        "ldexp lgamma logaddexp logaddexp2 logit mvlgamma nan_to_num nextafter positive rad2deg sgn signbit sinc xlogy"
    ),
    statistics: (
        "aminmax corrcoef cov histc histogram kthvalue median mode nanmean nanmedian nanquantile nansum quantile"
    ),
}
IN_PLACE = {
    arithmetic: "add addcdiv addcmul atan2 div floor_divide fmod lerp mul pow remainder sub",
    comparisons: (
        "bitwise_and bitwise_not bitwise_or bitwise_xor eq ge gt le logical_and logical_not logical_or "
        "logical_xor lt ne"
    ),
    elementwise: (
        "abs acos asin atan ceil cos cosh exp exp2 expm1 floor log log10 log1p log2 neg reciprocal round "
        "rsqrt sign sin sinh sqrt square tan trunc"
    ),
    selection: "clamp masked_fill",
    bessel: "igamma igammac",
    cumulative: "cumprod cumsum",
    indexing: "scatter scatter_add",
    linalg: "addbmm addmv addr baddbmm",
    matmul: "addmm",
    pointwise: "relu sigmoid tanh",
    scatter: "index_add index_copy index_fill index_put index_reduce masked_scatter put scatter_reduce",
    shape: "tril triu",
    solvers: "renorm",
    special: (
        "acosh asinh atanh bitwise_left_shift bitwise_right_shift clamp_max clamp_min copysign deg2rad digamma erf "
        "erfc erfinv float_power frac gcd heaviside hypot i0 lcm ldexp lgamma logit mvlgamma nan_to_num nextafter "
        "rad2deg sgn sinc xlogy"
    ),
}
ALIASES = {
    "absolute": "abs",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "clip": "clamp",
    "divide": "div",
    "fix": "trunc",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "multiply": "mul",
    "negative": "neg",
    "not_equal": "ne",
    "subtract": "sub",
    "true_divide": "div",
}

for _module, _names in METHODS.items():
    for _name in _names.split():
        setattr(Tensor, _name, checked(getattr(_module, _name)))
for _module, _names in IN_PLACE.items():
    for _name in _names.split():
        setattr(Tensor, f"{_name}_", checked(in_place.in_place(getattr(_module, _name), f"{_name}_")))
for _alias, _name in ALIASES.items():
    setattr(Tensor, _alias, getattr(Tensor, _name))
    setattr(Tensor, f"{_alias}_", getattr(Tensor, f"{_name}_"))
_Class.ger = _Class.outer
_Class.inverse = checked(linalg.inv)
_Class.polygamma = checked(lambda self, n: special.polygamma(n, self))
_Class.polygamma_ = checked(in_place.in_place(lambda input, n: special.polygamma(n, input), "polygamma_"))
_Class.pinverse = checked(decompositions.pinv)
_Class.qr, _Class.svd = checked(decompositions.torch_qr), checked(decompositions.torch_svd)
_Class.lu_solve, _Class.lu = checked(solvers.torch_lu_solve), checked(solvers.torch_lu)
_Class.orgqr, _Class.geqrf = checked(solvers.orgqr), checked(decompositions.geqrf)
_Class.cholesky = checked(solvers.torch_cholesky)
_Class.hardshrink = checked(activations.hardshrink)
_Class.moveaxis = _Class.movedim
_Class.swapaxes = _Class.transpose
_Class.where = checked(lambda self, condition, other: selection.where(condition, self, other))

_Class.__getitem__ = indexing.getitem
_Class.__setitem__ = indexing.setitem


def _operator(function: Any, reflected: bool = False) -> Any:
    """An operator that leaves operands it does not know to the other side."""

    def method(self: Tensor, other: Any) -> Any:
        if not isinstance(other, (Tensor, int, float, bool)) and not hasattr(other, "__float__"):
            return NotImplemented
        if not isinstance(other, (Tensor, np.generic)) and hasattr(other, "shape"):  # an array
            other = creation.as_tensor(other)
        return function(other, self) if reflected else function(self, other)

    return method


_OPERATORS = {
    arithmetic: {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide"}
    | {"mod": "remainder", "pow": "pow"},
    comparisons: {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor"},
    special: {"lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift"},
}
for _module, _symbols in _OPERATORS.items():
    for _symbol, _name in _symbols.items():
        _function = getattr(_module, _name)
        setattr(Tensor, f"__{_symbol}__", _operator(_function))
        setattr(Tensor, f"__r{_symbol}__", _operator(_function, reflected=True))
        setattr(Tensor, f"__i{_symbol}__", in_place.in_place(_function, f"{_name}_"))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Tensor, f"__{_name}__", _operator(getattr(comparisons, _name)))
_Class.__matmul__ = lambda self, other: self.matmul(other) if isinstance(other, Tensor) else NotImplemented
_Class.__imatmul__ = _Class.__matmul__
_Class.__long__ = _Class.__int__
_Class.__neg__ = elementwise.neg
_Class.__pos__ = special.positive
_Class.__abs__ = elementwise.abs
_Class.__invert__ = lambda self: (
    comparisons.logical_not(self) if self.dtype is _dtypes.bool_ else comparisons.bitwise_not(self)
)
_Class.T = property(lambda self: shape.permute(self, *range(self._data.ndim - 1, -1, -1)))
_Class.mT = property(lambda self: shape.transpose(self, -2, -1))
_Class.H = property(lambda self: shape.transpose(self, 0, 1) if self._data.ndim else self)
_Class.mH = property(lambda self: rearrange.adjoint(self))
_Class.real = property(lambda self: self)
_Class.conj = _Class.resolve_conj = _Class.resolve_neg = _Class.conj_physical = lambda self: self
_Class.layout = "strided"
_Class.is_coalesced = lambda self: True
_Class.ndimension = Tensor.dim
_Class.is_same_size = special.is_same_size
_Class.share_memory_ = lambda self: self
_Class.reshape_as = shape.view_as
_Class.unsafe_chunk, _Class.unsafe_split = _Class.chunk, _Class.split


# ---- moves ---------------------------------------------------------------------------------------------------------


class Move(ArrayFunction):
    """x on another device."""

    @staticmethod
    def forward(ctx: Any, x: Any, where: Device) -> Any:
        ctx.source = Device.of_array(x)
        return creation.to_device(x, where)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return creation.to_device(grad, ctx.source), None


def to(
    self: Tensor,
    *args: Any,
    device: Any = None,
    dtype: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """The tensor in another dtype or on another device, or as another tensor is; itself if it is so already."""
    for a in args:
        if isinstance(a, Tensor):
            device, dtype = a.device, a.dtype
        elif isinstance(a, _dtypes.dtype):
            dtype = a
        elif isinstance(a, (str, Device)) or (isinstance(a, int) and not isinstance(a, bool)):
            device = a
        elif a is not None and not isinstance(a, bool):
            raise KindError(f"to(): expected a device, a dtype or a tensor, got {type(a).__name__}")
    out = self
    if dtype is not None:
        out = _operands.cast(out, _dtypes.as_dtype(dtype))
    if device is not None:
        where = Device(device)
        here = out.device
        if where.type != here.type or (where.index is not None and where.index != here.index and where.type == "cuda"):
            out = Move.apply(out, where)
    return shape.clone(out) if copy and out is self else out


def _to_dtype(dtype: _dtypes.dtype) -> Any:
    def method(self: Tensor) -> Tensor:
        return _operands.cast(self, dtype)

    method.__doc__ = f"The tensor as {dtype.name}."
    return method


for _name, _dtype in {
    "float": _dtypes.float32,
    "double": _dtypes.float64,
    "half": _dtypes.float16,
    "bfloat16": _dtypes.bfloat16,
    "char": _dtypes.int8,
    "short": _dtypes.int16,
    "int": _dtypes.int32,
    "long": _dtypes.int64,
    "bool": _dtypes.bool_,
    "byte": _dtypes.uint8,
}.items():
    setattr(Tensor, _name, _to_dtype(_dtype))
_Class.to = to
_Class.cpu = lambda self, memory_format=None: to(self, "cpu")
_Class.cuda = lambda self, device=None, non_blocking=False, memory_format=None: to(self, creation.cuda_device(device))
_Class.pin_memory = lambda self: self
_Class.numpy_dtype = property(lambda self: self._data.dtype)


def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The tensor in another dtype; without one, the name of its type."""
    if dtype is None:
        names = {
            "float32": "Float",
            "float64": "Double",
            "float16": "Half",
            "bfloat16": "BFloat16",
            "int8": "Char",
            "int16": "Short",
            "int32": "Int",
            "int64": "Long",
            "uint8": "Byte",
            "bool": "Bool",
        }
        return f"fastnet.{'cuda.' if self.is_cuda else ''}{names[self.dtype.name]}Tensor"
    return _operands.cast(self, _dtypes.as_dtype(dtype))


_Class.type = type_
_Class.type_as = lambda self, other: to(self, other)


def _new(name: str) -> Any:
    def method(
        self: Tensor,
        *size: Any,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        layout: Any = None,
        pin_memory: bool = False,
        **named: Any,
    ) -> Tensor:
        if "size" in named:
            size = (named.pop("size"),)
        return getattr(creation, name)(
            *size, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad, **named
        )

    method.__name__ = method.__qualname__ = f"new_{name}"
    method.__doc__ = f"``fastnet.{name}`` with this tensor's dtype and device."
    return method


for _name in ("zeros", "ones", "empty", "full", "empty_strided"):
    setattr(Tensor, f"new_{_name}", _new(_name))


def new_tensor(
    self: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A copy of the data with this tensor's dtype and device."""
    return creation.tensor(data, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)


_Class.new_tensor = new_tensor
_Class.new = lambda self, *data, device=None: creation.legacy("new", data, self.dtype, device or self.device)


def apply_(self: Tensor, callable: Any) -> Tensor:
    """Replace every element by what a Python function makes of it; on the CPU only, and slow."""
    if self.requires_grad:
        raise RuntimeError("apply_: cannot be used on a tensor that requires a gradient")
    if self.is_cuda:
        raise KindError("apply_ is only implemented on CPU tensors")
    flat = [callable(v) for v in self.reshape(-1).tolist()]
    in_place.writeable(self)[...] = creation.tensor(flat, dtype=self.dtype)._data.reshape(self._data.shape)
    self._version_counter[0] += 1
    return self


def map_(self: Tensor, tensor: Tensor, callable: Any) -> Tensor:
    """Replace every element by what a Python function makes of it and ``tensor``'s; on the CPU only, and slow."""
    other = iter(tensor.expand(*self._data.shape).reshape(-1).tolist())
    return apply_(self, lambda v: callable(v, next(other)))


_Class.apply_, _Class.map_ = checked(apply_), checked(map_)
