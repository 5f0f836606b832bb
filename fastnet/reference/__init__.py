"""The same functions as fastnet.kernels, same names and signatures, in array code: the specification of each kernel."""

from fastnet._dlpack import for_any_library
from fastnet.reference.attention import (
    attention,
    attention_backward,
    attention_varlen,
    attention_varlen_backward,
    attention_with_kvcache,
)
from fastnet.reference.augment import augment
from fastnet.reference.conv import conv2d, conv2d_input_grad, conv2d_weight_grad
from fastnet.reference.dropout import dropout, dropout_backward, dropout_mask
from fastnet.reference.embedding import embedding, embedding_backward
from fastnet.reference.matmul import matmul
from fastnet.reference.norm import (
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
from fastnet.reference.optim import adagrad_step, adam_step, rmsprop_step, sgd_step
from fastnet.reference.optim_gradients import gradient_norm, scale_gradients, update_loss_scale
from fastnet.reference.pointwise import (
    bias_activation,
    bias_activation_backward,
    gated_activation,
    gated_activation_backward,
)
from fastnet.reference.pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward
from fastnet.reference.random import normal, permutation, random_bits, uniform
from fastnet.reference.reduction import column_sum
from fastnet.reference.rnn import (
    gru_cell,
    gru_cell_backward,
    lstm_cell,
    lstm_cell_backward,
    rnn_cell_backward,
)
from fastnet.reference.rnn_sequence import (
    gru,
    gru_backward,
    lstm,
    lstm_backward,
    rnn,
    rnn_backward,
)
from fastnet.reference.rotary import rotary_embedding
from fastnet.reference.softmax import cross_entropy, log_softmax, log_softmax_backward, softmax, softmax_backward

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
    "uniform",
    "update_loss_scale",
]

for _name in __all__:
    globals()[_name] = for_any_library(globals()[_name])
