"""Which public functions run in 16 bits under ``autocast``, which in float32, and the state it sets.

``fastnet._checks.checked``, which wraps every public function, asks ``active`` and hands its arguments to ``adapted``.
What a function calls inside itself is not public and runs in the dtype of what it was given.
"""

from __future__ import annotations

from typing import Any

from fastnet import _dtypes
from fastnet._tensor import Tensor

active = False  # whether there is an autocast in force for any device

# PyTorch's lists (torch/csrc/autograd: autocast_mode). Matrix products and convolutions gain from tensor cores.
LOW = frozenset(
    (
        "addbmm addmm addmv addr baddbmm bilinear bmm chain_matmul conv1d conv2d conv2d_activation conv_transpose1d "
        "conv_transpose2d einsum linear linear_activation matmul mm multi_head_attention_forward mv "
        "scaled_dot_product_attention"
    ).split()
)
# Of these the arguments that a convolution takes; what follows it has a dtype of its own.
LOW_ARGUMENTS = {"conv_norm_activation": ("input", "weight", "bias")}
_LOSSES = (
    "cosine_embedding_loss cross_entropy gaussian_nll_loss hinge_embedding_loss huber_loss kl_div l1_loss "
    "margin_ranking_loss mse_loss multi_margin_loss multilabel_margin_loss nll_loss poisson_nll_loss smooth_l1_loss "
    "soft_margin_loss triplet_margin_loss"
).split()
FULL = {
    "cpu": frozenset((*_LOSSES, "binary_cross_entropy")),
    "cuda": frozenset(
        (
            *_LOSSES,
            *(
                "acos asin cdist cosh cosine_similarity cumprod cumsum exp expm1 group_norm layer_norm log log10 log1p "
                "log2 log_softmax logsumexp norm normalize pow prod reciprocal rms_norm rsqrt sinh softmax softmin "
                "softplus sum tan"
            ).split(),
        )
    ),
}

_dtype: dict[str, _dtypes.dtype | None] = {"cpu": None, "cuda": None}  # None: no autocast there
_cache: dict[int, tuple[Tensor, Tensor]] | None = None  # by id: a leaf, and the same in 16 bits


def get(kind: str) -> _dtypes.dtype | None:
    """The dtype in force on a type of device, None without autocast."""
    return _dtype[kind]


def set(kind: str, dtype: _dtypes.dtype | None, cache: bool) -> tuple:
    """Put a dtype in force; what ``restore`` takes to undo it."""
    global active, _cache
    before = kind, _dtype[kind], _cache
    _dtype[kind] = dtype
    _cache = ({} if _cache is None else _cache) if cache and dtype is not None else None
    active = any(d is not None for d in _dtype.values())
    return before


def restore(before: tuple) -> None:
    global active, _cache
    kind, dtype, _cache = before
    _dtype[kind] = dtype
    active = any(d is not None for d in _dtype.values())


def adapted(name: str, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments of the public function of this name as autocast wants them."""
    if name in LOW:
        change = lowered
    elif name in FULL["cpu"] or name in FULL["cuda"]:

        def change(x: Any) -> Any:
            return raised(x, name)
    elif name in LOW_ARGUMENTS:
        names = LOW_ARGUMENTS[name]
        low = tuple(lowered(a) for a in args[: len(names)]) + args[len(names) :]
        return low, {k: lowered(v) if k in names else v for k, v in kwargs.items()}
    else:
        return args, kwargs
    return tuple(change(a) for a in args), {k: change(v) for k, v in kwargs.items()}


def lowered(x: Any) -> Any:
    """A floating-point tensor but float64 in the dtype in force on its device; sequences entry by entry."""
    if isinstance(x, Tensor):
        dtype = _dtype[x.device.type]
        if dtype is None or not x.dtype.is_floating_point or x.dtype in (dtype, _dtypes.float64):
            return x
        if _cache is None or not x.requires_grad or not x.is_leaf:
            return x.to(dtype)
        found = _cache.get(id(x))
        if found is None or found[0] is not x:
            found = _cache[id(x)] = x, x.to(dtype)
        return found[1]
    return type(x)(lowered(y) for y in x) if type(x) in (list, tuple) else x


def raised(x: Any, name: str) -> Any:
    """A 16-bit tensor as float32 where autocast is in force on its device and lists the function."""
    if isinstance(x, Tensor):
        kind = x.device.type
        if _dtype[kind] is None or name not in FULL[kind] or x.dtype not in (_dtypes.float16, _dtypes.bfloat16):
            return x
        return x.to(_dtypes.float32)
    return type(x)(raised(y, name) for y in x) if type(x) in (list, tuple) else x
