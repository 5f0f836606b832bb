"""The same functions as fastnet.kernels, same names and signatures, in array code: the specification of each kernel."""

from fastnet.reference.reduction import column_sum

__all__ = ["column_sum"]
