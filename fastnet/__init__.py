"""Neural networks trained with handwritten CUDA kernels behind an API that reads like PyTorch's."""

import importlib
from math import e, inf, nan, pi
from types import SimpleNamespace as _SimpleNamespace
from typing import Any

from fastnet import _methods as _methods
from fastnet import autograd, kernels
from fastnet._checks import checked as _checked
from fastnet._device import device, get_default_device, set_default_device
from fastnet._dtypes import (
    bfloat16,
    can_cast,
    dtype,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    set_default_dtype,
    uint8,
)
from fastnet._dtypes import bool_ as bool
from fastnet._printing import set_printoptions
from fastnet._random import Generator, default_generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state
from fastnet._serialization import load, save
from fastnet._settings import (
    _assert,
    _check,
    are_deterministic_algorithms_enabled,
    compile,
    get_num_threads,
    set_default_tensor_type,
    set_flush_denormal,
    set_num_threads,
    typename,
    use_deterministic_algorithms,
)
from fastnet._tensor import Size, Tensor
from fastnet._version import __version__
from fastnet.autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from fastnet.errors import OutOfMemoryError
from fastnet.interop import install as _install_interop
from fastnet.kernels.matmul import get_float32_matmul_precision, set_float32_matmul_precision
from fastnet.ops import _operands as _operands
from fastnet.ops import activations as _activations
from fastnet.ops import arithmetic as _arithmetic
from fastnet.ops import bessel as _bessel
from fastnet.ops import comparisons as _comparisons
from fastnet.ops import conv as _conv
from fastnet.ops import conv3d as _conv3d
from fastnet.ops import creation as _creation
from fastnet.ops import cumulative as _cumulative
from fastnet.ops import decompositions as _decompositions
from fastnet.ops import distances as _distances
from fastnet.ops import dropout as _dropout
from fastnet.ops import einsum as _einsum
from fastnet.ops import elementwise as _elementwise
from fastnet.ops import foreach as _foreach
from fastnet.ops import indexing as _indexing
from fastnet.ops import interpolate as _interpolate
from fastnet.ops import linalg as _linalg
from fastnet.ops import matmul as _matmul
from fastnet.ops import native as _native
from fastnet.ops import norm as _norm
from fastnet.ops import pointwise as _pointwise
from fastnet.ops import pool as _pool
from fastnet.ops import pool3d as _pool3d
from fastnet.ops import random as _random_ops
from fastnet.ops import rearrange as _rearrange
from fastnet.ops import reductions as _reductions
from fastnet.ops import scatter as _scatter
from fastnet.ops import selection as _selection
from fastnet.ops import shape as _shape
from fastnet.ops import softmax as _softmax
from fastnet.ops import solvers as _solvers
from fastnet.ops import special as _special
from fastnet.ops import statistics as _statistics

float = float32
double = float64
half = float16
short = int16
int = int32
long = int64


# Public functions by module: fastnet.<name> is PyTorch's torch.<name>.
_FUNCTIONS = {
    _operands: "result_type",
    _arithmetic: "add addcdiv addcmul atan2 div floor_divide fmod lerp maximum minimum mul pow remainder sub",
    _comparisons: (
        "allclose bitwise_and bitwise_not bitwise_or bitwise_xor eq equal ge gt isclose isfinite isinf isnan "
        "le logical_and logical_not logical_or logical_xor lt ne"
    ),
    _elementwise: (
        "abs acos asin atan ceil cos cosh exp exp2 expm1 floor log log10 log1p log2 neg reciprocal round "
        "rsqrt sign sin sinh sqrt square tan trunc"
    ),
    _selection: "clamp masked_fill where",
    _bessel: "igamma igammac",
    _conv: "conv1d conv2d conv2d_activation conv_norm_activation conv_transpose1d conv_transpose2d",
    _conv3d: "conv3d conv_transpose3d",
    _creation: (
        "arange as_tensor asarray bartlett_window blackman_window empty empty_like empty_strided eye from_dlpack "
        "from_numpy frombuffer full full_like hamming_window hann_window is_tensor kaiser_window linspace logspace "
        "ones ones_like range scalar_tensor tensor zeros zeros_like"
    ),
    _cumulative: ("cummax cummin cumprod cumsum cumulative_trapezoid diff logcumsumexp trapezoid"),
    _einsum: "einsum outer",
    _indexing: (
        "argsort argwhere bincount bucketize gather index_select masked_select msort nonzero scatter scatter_add "
        "searchsorted sort take_along_dim topk unique unique_consecutive"
    ),
    _linalg: (
        "addbmm addmv addr baddbmm cdist chain_matmul cross det inner kron logdet matrix_power pdist "
        "slogdet tensordot trace vdot"
    ),
    _solvers: ("cholesky_inverse cholesky_solve gradient lu_unpack matrix_exp ormqr renorm triangular_solve"),
    _rearrange: (
        "adjoint as_strided atleast_1d atleast_2d atleast_3d block_diag broadcast_shapes broadcast_tensors "
        "cartesian_prod column_stack combinations diag_embed diagflat dsplit dstack fliplr flipud hsplit narrow_copy "
        "ravel rot90 split_with_sizes swapdims tensor_split tril_indices triu_indices unravel_index vander vsplit"
    ),
    _scatter: (
        "diagonal_scatter index_add index_copy index_fill index_put index_reduce masked_scatter put scatter_reduce "
        "select_scatter slice_scatter take"
    ),
    _special: (
        "acosh angle asinh atanh bitwise_left_shift bitwise_right_shift clamp_max clamp_min copysign deg2rad digamma "
        "dist erf erfc erfinv float_power fmax fmin frac frexp gcd heaviside hypot i0 is_complex is_floating_point "
        "is_nonzero is_same_size is_signed isin isneginf isposinf isreal lcm ldexp lgamma logaddexp logaddexp2 logit "
        "mvlgamma nan_to_num nextafter numel polygamma positive rad2deg real rsub sgn signbit sinc threshold xlogy"
    ),
    _statistics: (
        "aminmax corrcoef cov histc histogram histogramdd kthvalue median mode nanmean nanmedian nanquantile nansum "
        "quantile std_mean var_mean"
    ),
    _activations: "celu hardshrink rrelu selu",
    _native: (
        "batch_norm binary_cross_entropy_with_logits cosine_embedding_loss ctc_loss embedding group_norm "
        "hinge_embedding_loss instance_norm kl_div layer_norm margin_ranking_loss norm_except_dim poisson_nll_loss "
        "triplet_margin_loss"
    ),
    _norm: "rms_norm",
    _distances: "cosine_similarity pairwise_distance",
    _dropout: "alpha_dropout dropout",
    _interpolate: "channel_shuffle pixel_shuffle pixel_unshuffle",
    _matmul: "addmm bilinear bmm dot linear_activation matmul mm mv",
    _pointwise: "prelu relu sigmoid tanh",
    _pool: "adaptive_avg_pool1d avg_pool1d max_pool1d max_pool2d",
    _pool3d: "max_pool3d",
    _random_ops: (
        "bernoulli binomial multinomial normal poisson rand rand_like randint randint_like randn randn_like randperm"
    ),
    _reductions: ("all amax amin any argmax argmin count_nonzero logsumexp max mean min norm prod std sum var"),
    _shape: (
        "broadcast_to cat chunk clone concat concatenate diag diagonal flatten flip hstack meshgrid movedim narrow "
        "permute repeat_interleave reshape roll select split squeeze stack t tile transpose tril triu unbind unflatten "
        "unsqueeze vstack"
    ),
    _softmax: "log_softmax softmax",
}
for _module, _names in _FUNCTIONS.items():
    for _name in _names.split():
        globals()[_name] = _checked(getattr(_module, _name))
linalg_inv = _checked(_linalg.inv)
pinverse = _checked(_decompositions.pinv)
qr, svd = _checked(_decompositions.torch_qr), _checked(_decompositions.torch_svd)
lu_solve, lu = _checked(_solvers.torch_lu_solve), _checked(_solvers.torch_lu)
orgqr, cholesky = _checked(_solvers.orgqr), _checked(_solvers.torch_cholesky)
geqrf, svd_lowrank, pca_lowrank = (
    _checked(f) for f in (_decompositions.geqrf, _decompositions.svd_lowrank, _decompositions.pca_lowrank)
)
for _alias, _name in {
    "multiply": "mul",
    "subtract": "sub",
    "divide": "div",
    "true_divide": "div",
    "absolute": "abs",
    "negative": "neg",
    "clip": "clamp",
    "greater": "gt",
    "less": "lt",
    "swapaxes": "transpose",
    "moveaxis": "movedim",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "fix": "trunc",
    "ger": "outer",
    "greater_equal": "ge",
    "inverse": "linalg_inv",
    "less_equal": "le",
    "not_equal": "ne",
    "row_stack": "vstack",
    "spmm": "mm",
    "trapz": "trapezoid",
}.items():
    globals()[_alias] = globals()[_name]
del linalg_inv
# Functions that change their first argument: fastnet.relu_(x) is x.relu_().
for _name in (
    "abs acos acosh addmv arccos arccosh arcsin arcsinh arctan arctanh asin asinh atan atanh ceil clamp clamp_max "
    "clamp_min clip cos cosh deg2rad detach erf erfc exp exp2 expm1 fill fix floor frac gcd i0 index_put lcm ldexp log "
    "log10 log1p log2 logit nan_to_num neg negative rad2deg reciprocal relu resize_as round rsqrt sigmoid sin sinc "
    "sinh sqrt square tan tanh trunc xlogy zero"
).split():
    globals()[f"{_name}_"] = _checked(getattr(Tensor, f"{_name}_"))
for (
    _name
) in "adjoint conj conj_physical detach get_device is_conj is_inference is_neg resolve_conj resolve_neg".split():
    globals()[_name] = _checked(getattr(Tensor, _name))

for _name in "celu_ rrelu_ selu_ threshold_".split():
    globals()[_name] = _checked(_activations.IN_PLACE[_name])
for _name, _function in (*_native.COPIES.items(), *_foreach.FUNCTIONS.items()):
    globals()[_name] = _checked(_function)

# Older names of constructors: FloatTensor(3, 4), LongTensor([1, 2]).
(
    FloatTensor,
    DoubleTensor,
    HalfTensor,
    BFloat16Tensor,
    IntTensor,
    LongTensor,
    ByteTensor,
    BoolTensor,
    CharTensor,
    ShortTensor,
) = _creation.LEGACY
newaxis = None
version = _SimpleNamespace(__version__=__version__, cuda=None, hip=None, git_version=None)
contiguous_format, preserve_format = "contiguous_format", "preserve_format"
channels_last, channels_last_3d = "channels_last", "channels_last_3d"
strided = "strided"
memory_format = layout = str  # types of these names, for annotations

# Loaded when first asked for: they bring libraries that a small script does not need.
_LAZY = {
    "accelerator",
    "amp",
    "backends",
    "compiler",
    "cuda",
    "data",
    "distributed",
    "distributions",
    "func",
    "functional",
    "fx",
    "hub",
    "jit",
    "linalg",
    "models",
    "nn",
    "optim",
    "overrides",
    "random",
    "recipes",
    "reference",
    "signal",
    "special",
    "testing",
    "train",
    "types",
    "utils",
}


_FROM = {
    "autocast": "amp",
    "fuse": "nn.fusion",
    "get_autocast_cpu_dtype": "amp",
    "get_autocast_dtype": "amp",
    "get_autocast_gpu_dtype": "amp",
    "is_autocast_cpu_enabled": "amp",
    "is_autocast_enabled": "amp",
    "vmap": "func",
}


_install_interop()


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(importlib.import_module(f"fastnet.{_FROM[name]}"), name)
    if name == "torch":  # torch.torch is torch
        return importlib.import_module("fastnet")
    if name in _LAZY:
        return importlib.import_module(f"fastnet.{name}")
    raise AttributeError(f"module 'fastnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_FROM})
