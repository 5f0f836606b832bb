"""Dropout layers: active in training, the identity in evaluation."""

from __future__ import annotations

from fastnet._tensor import Tensor
from fastnet.nn import functional as F
from fastnet.nn.module import Module


class Dropout(Module):
    """Each element zeroed with probability p and the others scaled by 1 / (1 - p) (Srivastava et al. 2014)."""

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout2d(Dropout):
    """Dropout by whole channels of (N, C, H, W) (Tompson et al. 2015)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout2d(input, self.p, self.training, self.inplace)
