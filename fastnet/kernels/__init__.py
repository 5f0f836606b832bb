"""The handwritten kernels as functions on arrays (CuPy, or NumPy under the emulator), without autograd.

PyTorch's tensors, and others with ``__dlpack__``, are taken where they are, and results are then tensors too.
"""

from fastnet._dlpack import for_any_library
from fastnet.kernels._runtime import available, trace, use
from fastnet.kernels.attention import (
    attention,
    attention_backward,
    attention_varlen,
    attention_varlen_backward,
    attention_with_kvcache,
)
from fastnet.kernels.augment import augment
from fastnet.kernels.conv import conv2d, conv2d_input_grad, conv2d_weight_grad
from fastnet.kernels.dropout import dropout, dropout_backward, dropout_mask
from fastnet.kernels.embedding import embedding, embedding_backward
from fastnet.kernels.matmul import matmul
from fastnet.kernels.norm import (
    add_norm,
    add_norm_backward,
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)
from fastnet.kernels.optim import adagrad_step, adam_step, rmsprop_step, sgd_step
from fastnet.kernels.optim_gradients import gradient_norm, scale_gradients, update_loss_scale
from fastnet.kernels.pointwise import (
    bias_activation,
    bias_activation_backward,
    gated_activation,
    gated_activation_backward,
)
from fastnet.kernels.pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward
from fastnet.kernels.random import normal, permutation, random_bits, uniform
from fastnet.kernels.reduction import column_sum
from fastnet.kernels.rnn import (
    gru_cell,
    gru_cell_backward,
    lstm_cell,
    lstm_cell_backward,
    rnn_cell_backward,
)
from fastnet.kernels.rnn_sequence import (
    gru,
    gru_backward,
    lstm,
    lstm_backward,
    rnn,
    rnn_backward,
)
from fastnet.kernels.rotary import rotary_embedding
from fastnet.kernels.softmax import cross_entropy, log_softmax, log_softmax_backward, softmax, softmax_backward

__all__ = [
    "adagrad_step",
    "adam_step",
    "add_norm",
    "add_norm_backward",
    "attention",
    "attention_backward",
    "attention_varlen",
    "attention_varlen_backward",
    "attention_with_kvcache",
    "augment",
    "available",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "bias_activation",
    "bias_activation_backward",
    "column_sum",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "cross_entropy",
    "dropout",
    "dropout_backward",
    "dropout_mask",
    "embedding",
    "embedding_backward",
    "gated_activation",
    "gated_activation_backward",
    "gradient_norm",
    "group_norm",
    "group_norm_backward",
    "gru",
    "gru_backward",
    "gru_cell",
    "gru_cell_backward",
    "layer_norm",
    "layer_norm_backward",
    "log_softmax",
    "log_softmax_backward",
    "lstm",
    "lstm_backward",
    "lstm_cell",
    "lstm_cell_backward",
    "matmul",
    "max_pool2d",
    "max_pool2d_backward",
    "normal",
    "permutation",
    "random_bits",
    "rms_norm",
    "rms_norm_backward",
    "rmsprop_step",
    "rnn",
    "rnn_backward",
    "rnn_cell_backward",
    "rotary_embedding",
    "scale_gradients",
    "sgd_step",
    "softmax",
    "softmax_backward",
    "trace",
    "uniform",
    "update_loss_scale",
    "use",
]

for _name in set(__all__) - {"available", "trace", "use"}:
    globals()[_name] = for_any_library(globals()[_name])
