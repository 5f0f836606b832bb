"""The functions of layers, by PyTorch's names and arguments. Gathered here from fastnet.ops, where they live."""

from __future__ import annotations

from fastnet._checks import checked
from fastnet.ops.activations import (
    IN_PLACE,
    celu,
    glu,
    gumbel_softmax,
    hardshrink,
    hardsigmoid,
    hardtanh,
    logsigmoid,
    relu6,
    rrelu,
    selu,
    softmin,
    softshrink,
    softsign,
    tanhshrink,
    threshold,
)
from fastnet.ops.attention import scaled_dot_product_attention
from fastnet.ops.conv import conv1d, conv2d, conv2d_activation, conv_transpose1d, conv_transpose2d
from fastnet.ops.distances import cosine_similarity, normalize, pairwise_distance
from fastnet.ops.dropout import alpha_dropout, dropout, dropout1d, dropout2d, dropout3d, feature_alpha_dropout
from fastnet.ops.embedding import embedding, embedding_bag
from fastnet.ops.indexing import one_hot
from fastnet.ops.interpolate import channel_shuffle, interpolate, pixel_shuffle, pixel_unshuffle, upsample
from fastnet.ops.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
    soft_margin_loss,
)
from fastnet.ops.margin_losses import (
    cosine_embedding_loss,
    gaussian_nll_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    poisson_nll_loss,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)
from fastnet.ops.matmul import bilinear, linear, linear_activation
from fastnet.ops.norm import (
    batch_norm,
    batch_norm_activation,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
)
from fastnet.ops.pointwise import (
    bias_activation,
    elu,
    gelu,
    hardswish,
    leaky_relu,
    mish,
    prelu,
    relu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from fastnet.ops.shape import pad
from fastnet.ops.softmax import cross_entropy, log_softmax, nll_loss, softmax
from fastnet.ops.unfold import fold, unfold

__all__ = [
    "alpha_dropout",
    "batch_norm",
    "batch_norm_activation",
    "bias_activation",
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "channel_shuffle",
    "conv1d",
    "conv2d",
    "conv2d_activation",
    "conv_transpose1d",
    "conv_transpose2d",
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "elu",
    "embedding",
    "embedding_bag",
    "feature_alpha_dropout",
    "fold",
    "gaussian_nll_loss",
    "gelu",
    "glu",
    "group_norm",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hinge_embedding_loss",
    "huber_loss",
    "instance_norm",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "linear_activation",
    "log_softmax",
    "logsigmoid",
    "margin_ranking_loss",
    "mish",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "pairwise_distance",
    "pixel_shuffle",
    "pixel_unshuffle",
    "poisson_nll_loss",
    "prelu",
    "relu",
    "relu6",
    "rms_norm",
    "rrelu",
    "scaled_dot_product_attention",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
    "unfold",
    "upsample",
]

for _name in __all__:
    globals()[_name] = checked(globals()[_name])
for _name, _function in IN_PLACE.items():  # F.relu_ and the like: PyTorch has them, and few use them
    globals()[_name] = checked(_function)
