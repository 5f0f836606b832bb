"""The gated perceptron of Llama's blocks."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.nn import functional as F
from fastnet.nn.linear import Linear
from fastnet.nn.module import Module


class SwiGLU(Module):
    """``down_proj(silu(gate_proj(x)) * up_proj(x))`` (Shazeer 2020).

    Args:
        in_features, hidden_features: sizes of the last dimension of input and of the gated units.
        out_features: of the output; None for in_features.
        bias: whether the three layers have biases.
        device, dtype: of the parameters.

    Shape: (..., in_features) to (..., out_features). The layers have the names of Hugging Face's Llama: a perceptron's
    state loads from its files.

    >>> import fastnet
    >>> fastnet.nn.SwiGLU(4, 11)(fastnet.ones(2, 3, 4)).shape
    fastnet.Size([2, 3, 4])
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int | None = None,
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        made: Any = {"bias": bias, "device": device, "dtype": dtype}
        self.gate_proj = Linear(in_features, hidden_features, **made)
        self.up_proj = Linear(in_features, hidden_features, **made)
        self.down_proj = Linear(hidden_features, in_features if out_features is None else out_features, **made)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.swiglu(self.gate_proj(x), self.up_proj(x)))
