"""The Bernoulli distribution."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.autograd import no_grad
from fastnet.distributions.distribution import OfLogits, broadcast, epsilon
from fastnet.nn import functional as F
from fastnet.ops import random


class Bernoulli(OfLogits):
    """1 with probability ``probs``, or sigmoid(logits), else 0.

    >>> import fastnet
    >>> Bernoulli(probs=fastnet.tensor(0.25)).log_prob(fastnet.tensor(1.0))
    tensor(-1.3863)
    """

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        given = self._choose(probs, logits)
        super().__init__(tuple(given.shape), validate_args=validate_args)
        if self._given_probs:
            self._check("probs", given >= 0)
            self._check("probs", given <= 1)
            self.probs = given
            clamped = given.clamp(epsilon(given), 1 - epsilon(given))
            self.logits = clamped.log() - (-clamped).log1p()
        else:
            self._check("logits", given == given)
            self.logits, self.probs = given, F.sigmoid(given)

    def __repr__(self) -> str:
        name, value = ("probs", self.probs) if self._given_probs else ("logits", self.logits)
        return f"Bernoulli({name}: {value if not value.ndim else value.size()})"

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            return random.bernoulli(self.probs.detach().expand(*self._extended(sample_shape)).clone())

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._check_value(value)
            self._check("value", value * (1 - value) == 0)
        logits, value = broadcast(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")
