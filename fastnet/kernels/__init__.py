"""The handwritten kernels as functions on arrays (CuPy, or NumPy under the emulator), without autograd."""

from fastnet.kernels._runtime import available, trace, use
from fastnet.kernels.reduction import column_sum

__all__ = ["available", "column_sum", "trace", "use"]
