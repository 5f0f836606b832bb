"""Exceptions of fastnet's own. Everything else is ValueError, TypeError, IndexError or RuntimeError, as in PyTorch."""


class KernelsUnavailableError(RuntimeError):
    """The kernels asked for do not exist on this machine; the message says why."""


class OutOfMemoryError(RuntimeError):
    """The device has no room for an array. The program can go on."""
