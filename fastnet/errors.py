"""Exceptions of fastnet's own. Everything else is ValueError, TypeError, IndexError or RuntimeError, as in PyTorch.

Wrong arguments are ValueErrors and TypeErrors, as everywhere in Python. PyTorch raises RuntimeError for most of them:
the two classes below are that, too, so that what was written for PyTorch catches what it means to catch.
"""

import numpy as np


class InputError(ValueError, RuntimeError):
    """An argument has a shape, size or value that the function cannot take."""


class KindError(TypeError, RuntimeError):
    """An argument has a dtype, device or kind that the function cannot take."""


class LinAlgError(np.linalg.LinAlgError, RuntimeError):
    """A matrix is singular, not positive definite, or an algorithm did not converge. ``fastnet.linalg.LinAlgError``."""


class KernelsUnavailableError(RuntimeError):
    """The kernels asked for do not exist on this machine; the message says why."""


class OutOfMemoryError(RuntimeError):
    """The device has no room for an array. The program can go on."""
