"""Functions of layers as PyTorch's C++ library names them, ``torch.layer_norm`` and its kin: reductions may be numbers,
and switches of cuDNN are taken and change nothing. The operations themselves are those of ``fastnet.nn.functional``."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.errors import InputError, KindError
from fastnet.ops import ctc, losses, margin_losses, norm
from fastnet.ops import embedding as embeddings
from fastnet.ops.shape import clone

_REDUCTIONS = ("none", "mean", "sum")


# Their default is none, whatever the C++ declarations say.
def _reduction(name: str, reduction: Any) -> str:
    if isinstance(reduction, bool) or not isinstance(reduction, int):
        raise KindError(f"{name}(): argument 'reduction' must be int, not {type(reduction).__name__}")
    if not 0 <= reduction < len(_REDUCTIONS):
        raise InputError(f"{name}: reduction is {reduction}, expected 0 (none), 1 (mean) or 2 (sum)")
    return _REDUCTIONS[reduction]


# ---- norms ---------------------------------------------------------------------------------------------------------


def layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """``nn.functional.layer_norm``."""
    return norm.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """``nn.functional.group_norm``."""
    return norm.group_norm(input, num_groups, weight, bias, eps)


def batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """``nn.functional.batch_norm``, the parameters before the running statistics."""
    return norm.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """``nn.functional.instance_norm``, the parameters before the running statistics."""
    return norm.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


# ---- losses --------------------------------------------------------------------------------------------------------


def kl_div(input: Tensor, target: Tensor, reduction: int = 0, *, log_target: bool = False) -> Tensor:
    """``nn.functional.kl_div``."""
    return losses.kl_div(input, target, reduction=_reduction("kl_div", reduction), log_target=log_target)


def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None, reduction: int = 0
) -> Tensor:
    """``nn.functional.binary_cross_entropy_with_logits``."""
    how = _reduction("binary_cross_entropy_with_logits", reduction)
    return losses.binary_cross_entropy_with_logits(input, target, weight, reduction=how, pos_weight=pos_weight)


def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int) -> Tensor:
    """``nn.functional.poisson_nll_loss``."""
    how = _reduction("poisson_nll_loss", reduction)
    return margin_losses.poisson_nll_loss(input, target, log_input, full, eps=eps, reduction=how)


def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, reduction: int = 0) -> Tensor:
    """``nn.functional.hinge_embedding_loss``."""
    how = _reduction("hinge_embedding_loss", reduction)
    return margin_losses.hinge_embedding_loss(input, target, margin, reduction=how)


def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 0
) -> Tensor:
    """``nn.functional.cosine_embedding_loss``."""
    how = _reduction("cosine_embedding_loss", reduction)
    return margin_losses.cosine_embedding_loss(input1, input2, target, margin, reduction=how)


def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 0
) -> Tensor:
    """``nn.functional.margin_ranking_loss``."""
    how = _reduction("margin_ranking_loss", reduction)
    return margin_losses.margin_ranking_loss(input1, input2, target, margin, reduction=how)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: int = 0,
) -> Tensor:
    """``nn.functional.triplet_margin_loss``."""
    how = _reduction("triplet_margin_loss", reduction)
    return margin_losses.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction=how)


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: int = 0,
    zero_infinity: bool = False,
) -> Tensor:
    """``nn.functional.ctc_loss``."""
    how = _reduction("ctc_loss", reduction)
    return ctc.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, how, zero_infinity)


# ---- others --------------------------------------------------------------------------------------------------------


def embedding(
    weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Tensor:
    """``nn.functional.embedding``, the weight first; padding_idx -1 for none."""
    padding = None if padding_idx == -1 else padding_idx
    return embeddings.embedding(indices, weight, padding, scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)


def norm_except_dim(v: Tensor, pow: int = 2, dim: int = 0) -> Tensor:
    """The p-norms of the slices of ``v`` along ``dim``, which stays; -1: of all of it."""
    if dim == -1:
        return v.norm(pow)
    return v.norm(pow, [d for d in range(v.dim()) if d != dim % v.dim()], keepdim=True)


def _copied(name: str) -> Any:
    def operation(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        out = getattr(Tensor, name)(input, *args, **kwargs)
        return tuple(clone(o) for o in out) if isinstance(out, tuple) else clone(out)

    operation.__name__ = operation.__qualname__ = f"{name}_copy"
    operation.__doc__ = f"``{name}``, as a copy in place of a view."
    return operation


COPIES = {
    f"{name}_copy": _copied(name)
    for name in (
        "detach diagonal expand permute select split split_with_sizes squeeze t transpose unbind unfold unsqueeze view"
    ).split()
}
