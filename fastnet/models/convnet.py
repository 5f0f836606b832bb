"""The small convolutional network: convolutions and pooling by turns, then a classifier."""

from __future__ import annotations

from collections.abc import Sequence

from fastnet import nn
from fastnet._tensor import Tensor


class ConvNet(nn.Module):
    """Blocks of a 3 x 3 convolution, ReLU and 2 x 2 max pooling, then fully connected layers with dropout between them
    (after LeCun et al. 1998).

    Args:
        in_channels: of the images.
        out_features: classes.
        image_size: pixels of the images' sides; each block halves them.
        channels: filters of each block.
        hidden: units of the fully connected layer before the last.
        dropout: probability that a unit between the fully connected layers is dropped in training.

    >>> import fastnet
    >>> ConvNet(1, 10, image_size=8)(fastnet.ones(5, 1, 8, 8)).shape
    fastnet.Size([5, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        image_size: int = 28,
        channels: Sequence[int] = (32, 64),
        hidden: int = 128,
        dropout: float = 0.25,
    ):
        super().__init__()
        if image_size >> len(channels) < 1:
            raise ValueError(
                f"ConvNet: image_size is {image_size}, expected at least {1 << len(channels)} for so many blocks"
            )
        blocks: list[nn.Module] = []
        before = in_channels
        for filters in channels:
            blocks += [nn.Conv2d(before, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            before = filters
        self.features = nn.Sequential(*blocks)
        side = image_size >> len(channels)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(before * side * side, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, out_features),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))
