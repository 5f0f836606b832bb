"""The same functions as fastnet.kernels, same names and signatures, in array code: the specification of each kernel."""

from fastnet.reference.optim import sgd_step
from fastnet.reference.reduction import column_sum
from fastnet.reference.softmax import cross_entropy, log_softmax, log_softmax_backward, softmax, softmax_backward

__all__ = [
    "column_sum",
    "cross_entropy",
    "log_softmax",
    "log_softmax_backward",
    "sgd_step",
    "softmax",
    "softmax_backward",
]
