"""Recurrent models: of characters, one after another, and of whole series of differing lengths."""

from __future__ import annotations

from typing import Any

import fastnet
from fastnet import nn
from fastnet._tensor import Tensor
from fastnet.models.sampling import sample
from fastnet.nn.utils.rnn import PackedSequence


class CharRNN(nn.Module):
    """An embedding, recurrent layers, scores of every character to come next; tanh layers (Elman 1990).

    Args:
        vocab_size: characters there are.
        embedding, hidden: sizes of a character's vector and of the state.
        layers: recurrent layers.
        dropout: probability that a number between layers, and before the scores, is dropped in training.

    Shape: characters (N, T) int64 and a state, or None for zeros, to logits (N, T, vocab_size) and the state after
    them.

    >>> import fastnet
    >>> model = CharRNN(11, embedding=4, hidden=8)
    >>> logits, state = model(fastnet.tensor([[1, 2, 3]]))
    >>> logits.shape, model.generate(fastnet.tensor([[1, 2]]), 5).shape
    (fastnet.Size([1, 3, 11]), fastnet.Size([1, 7]))
    """

    _layer: Any = nn.RNN

    def __init__(self, vocab_size: int, embedding: int = 64, hidden: int = 192, layers: int = 1, dropout: float = 0.0):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding)
        between = dropout if layers > 1 else 0.0
        self.rnn = self._layer(embedding, hidden, layers, batch_first=True, dropout=between)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        self.output = nn.Linear(hidden, vocab_size)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        out, state = self.rnn(self.embedding(tokens), state)
        return self.output(self.drop(out)), state

    def generate(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Tensor:
        """Continue tokens (N, T), T at least 1, each new one drawn as ``GPT.generate`` draws: (N, T + new)."""
        if tokens.dim() != 2 or tokens.shape[1] < 1:
            raise ValueError(f"generate: tokens has shape {tuple(tokens.shape)}, expected (N, T) with T at least 1")
        training = self.training
        self.eval()
        parts, last, state = [tokens], tokens, None
        with fastnet.no_grad():
            for _ in range(max_new_tokens):
                logits, state = self(last, state)
                last = sample(logits[:, -1], temperature, top_k, top_p)
                parts.append(last)
        self.train(training)
        return fastnet.cat(parts, dim=1)


class CharLSTM(CharRNN):
    """``CharRNN`` with LSTM layers (Hochreiter and Schmidhuber 1997), whose gates carry gradients over longer spans."""

    _layer = nn.LSTM


class RNNClassifier(nn.Module):
    """Recurrent layers over series of any lengths, then the classes' logits from the last state.

    Args:
        in_features: numbers at each step of a series.
        num_classes: outputs.
        hidden, layers: size of the state, recurrent layers.
        bidirectional: whether another network reads each series from its end.

    Shape: a PackedSequence of N series, or (N, T, in_features) for series of one length, to (N, num_classes).

    >>> import fastnet
    >>> from fastnet.nn.utils.rnn import pack_sequence
    >>> series = pack_sequence([fastnet.ones(5, 2), fastnet.ones(3, 2)])
    >>> RNNClassifier(2, 4, hidden=8)(series).shape
    fastnet.Size([2, 4])
    """

    def __init__(
        self, in_features: int, num_classes: int, hidden: int = 64, layers: int = 1, bidirectional: bool = False
    ):
        super().__init__()
        self.rnn = nn.RNN(in_features, hidden, layers, batch_first=True, bidirectional=bidirectional)
        self.output = nn.Linear(hidden * (1 + bidirectional), num_classes)
        self.directions = 1 + bidirectional

    def forward(self, series: PackedSequence | Tensor) -> Tensor:
        _, state = self.rnn(series)
        return self.output(fastnet.cat(list(state[-self.directions :].unbind(0)), dim=-1))
