"""The handwritten kernels as functions on arrays (CuPy, or NumPy under the emulator), without autograd."""

from fastnet.kernels._runtime import available, trace, use
from fastnet.kernels.optim import sgd_step
from fastnet.kernels.reduction import column_sum
from fastnet.kernels.softmax import cross_entropy, log_softmax, log_softmax_backward, softmax, softmax_backward

__all__ = [
    "available",
    "column_sum",
    "cross_entropy",
    "log_softmax",
    "log_softmax_backward",
    "sgd_step",
    "softmax",
    "softmax_backward",
    "trace",
    "use",
]
