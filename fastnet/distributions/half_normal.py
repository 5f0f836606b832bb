"""The distribution of a normal number without its sign."""

from __future__ import annotations

import math
from typing import Any

from fastnet._tensor import Tensor
from fastnet.distributions.distribution import OfParameters
from fastnet.ops.random import randn
from fastnet.ops.selection import where


class HalfNormal(OfParameters):
    """``|x|`` of x normal with mean 0 and standard deviation ``scale``.

    >>> import fastnet
    >>> HalfNormal(1.0).log_prob(fastnet.tensor(0.0))
    tensor(-0.2258)
    """

    has_rsample = True
    _names = ("scale",)
    scale: Tensor

    def __init__(self, scale: Any, validate_args: bool | None = None):
        super().__init__(scale, validate_args=validate_args)
        self._check("scale", self.scale > 0)

    @property
    def mean(self) -> Tensor:
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def mode(self) -> Tensor:
        return self.scale * 0

    @property
    def variance(self) -> Tensor:
        return self.scale**2 * (1 - 2 / math.pi)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        noise = randn(*self._extended(sample_shape), dtype=self.scale.dtype, device=self.scale.device)
        return (noise * self.scale).abs()

    def log_prob(self, value: Tensor) -> Tensor:
        self._takes(value, lambda x: x >= 0)
        inside = -((value / self.scale) ** 2) / 2 - self.scale.log() + 0.5 * math.log(2 / math.pi)
        return where(value >= 0, inside, -math.inf)

    def entropy(self) -> Tensor:
        return 0.5 + 0.5 * math.log(math.pi / 2) + self.scale.log()
