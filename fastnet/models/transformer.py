"""A transformer encoder that classifies sequences of tokens."""

from __future__ import annotations

import fastnet
from fastnet import nn
from fastnet._tensor import Tensor


class TransformerClassifier(nn.Module):
    """Token and position embeddings, encoder layers that normalise first, the mean over the tokens, logits.

    Args:
        vocab_size: tokens there are.
        num_classes: outputs.
        d_model, nhead, num_layers, dim_feedforward: width, heads, layers, width inside a layer's perceptron.
        max_length: tokens of a sequence at most.
        dropout: probability in training.
        padding_idx: the token that fills short sequences up: nobody attends to it, and it is not in the mean. None if
            there is none.

    Shape: (N, T) int64 to (N, num_classes).

    >>> import fastnet
    >>> model = TransformerClassifier(9, 3, d_model=8, nhead=2, num_layers=1, dim_feedforward=16, padding_idx=0)
    >>> model(fastnet.tensor([[1, 2, 3], [4, 0, 0]])).shape
    fastnet.Size([2, 3])
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int,
        d_model: int = 128,
        nhead: int = 4,
        num_layers: int = 2,
        dim_feedforward: int = 512,
        max_length: int = 512,
        dropout: float = 0.1,
        padding_idx: int | None = None,
    ):
        super().__init__()
        self.max_length, self.padding_idx = max_length, padding_idx
        self.tokens = nn.Embedding(vocab_size, d_model, padding_idx)
        self.positions = nn.Embedding(max_length, d_model)
        layer = nn.TransformerEncoderLayer(
            d_model, nhead, dim_feedforward, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.output = nn.Linear(d_model, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.dim() != 2 or not 1 <= tokens.shape[1] <= self.max_length:
            raise ValueError(
                f"TransformerClassifier: tokens has shape {tuple(tokens.shape)}, expected (N, T) with T from 1 to "
                f"max_length={self.max_length}"
            )
        x = self.tokens(tokens) + self.positions(fastnet.arange(tokens.shape[1], device=tokens.device))
        if self.padding_idx is None:
            return self.output(self.encoder(x).mean(1))
        padding = tokens == self.padding_idx  # (N, T)
        x = self.encoder(x, src_key_padding_mask=padding).masked_fill(padding.unsqueeze(-1), 0.0)
        lengths = padding.logical_not().sum(1, keepdim=True).clamp(min=1)
        return self.output(x.sum(1) / lengths)
