"""Signals, as ``torch.signal``: window functions."""

from fastnet.signal import windows

__all__ = ["windows"]
