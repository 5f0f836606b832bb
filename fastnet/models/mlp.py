"""The fully connected network: every neuron to every neuron of the next layer."""

from __future__ import annotations

from collections.abc import Sequence

from fastnet import nn
from fastnet._tensor import Tensor


class MLP(nn.Module):
    """Fully connected layers with an activation and dropout between them.

    Args:
        in_features, out_features: sizes of input (flattened from dimension 1 on) and output.
        hidden: sizes of the hidden layers.
        activation: module between layers; default ReLU.
        dropout: probability that a hidden unit is dropped in training.

    >>> import fastnet
    >>> MLP(64, 10, hidden=[32])(fastnet.ones(5, 8, 8)).shape
    fastnet.Size([5, 10])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int] = (256, 128),
        activation: type[nn.Module] = nn.ReLU,
        dropout: float = 0.0,
    ):
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for size in hidden:
            layers += [nn.Linear(in_features, size), activation()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            in_features = size
        self.layers = nn.Sequential(*layers, nn.Linear(in_features, out_features))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
