"""The same functions as fastnet.kernels, same names and signatures, in array code: the specification of each kernel."""

from fastnet.reference.dropout import dropout, dropout_backward, dropout_mask
from fastnet.reference.matmul import matmul
from fastnet.reference.optim import adagrad_step, adam_step, rmsprop_step, sgd_step
from fastnet.reference.pointwise import bias_activation, bias_activation_backward
from fastnet.reference.random import normal, permutation, random_bits, uniform
from fastnet.reference.reduction import column_sum
from fastnet.reference.softmax import cross_entropy, log_softmax, log_softmax_backward, softmax, softmax_backward

__all__ = [
    "adagrad_step",
    "adam_step",
    "bias_activation",
    "bias_activation_backward",
    "column_sum",
    "cross_entropy",
    "dropout",
    "dropout_backward",
    "dropout_mask",
    "log_softmax",
    "log_softmax_backward",
    "matmul",
    "normal",
    "permutation",
    "random_bits",
    "rmsprop_step",
    "sgd_step",
    "softmax",
    "softmax_backward",
    "uniform",
]
