"""The categorical distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet._tensor import Tensor
from fastnet.autograd import no_grad
from fastnet.distributions.distribution import OfLogits, epsilon
from fastnet.nn import functional as F
from fastnet.ops import random


class Categorical(OfLogits):
    """Classes 0 to C - 1, by probabilities (..., C), which are normalised, or by logits.

    >>> import fastnet
    >>> Categorical(probs=fastnet.tensor([1.0, 3.0])).log_prob(fastnet.tensor(1))
    tensor(-0.2877)
    """

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        given = self._choose(probs, logits)
        if given.ndim < 1:
            raise ValueError("`probs` parameter must be at least one-dimensional.")
        super().__init__(tuple(given.shape[:-1]), validate_args=validate_args)
        self._check("probs" if self._given_probs else "logits", (given >= 0) if self._given_probs else given == given)
        if self._given_probs:
            self.probs = given / given.sum(-1, keepdim=True)
            eps = epsilon(given)
            self.logits = self.probs.clamp(eps, 1 - eps).log()
        else:
            self.logits = given - given.logsumexp(-1, keepdim=True)
            self.probs = F.softmax(self.logits, -1)

    def __repr__(self) -> str:
        name, value = ("probs", self.probs) if self._given_probs else ("logits", self.logits)
        return f"Categorical({name}: {value.size()})"

    @property
    def mode(self) -> Tensor:
        return self.probs.argmax(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        count = math.prod(tuple(sample_shape))
        with no_grad():
            rows = self.probs.detach().reshape(-1, self.probs.shape[-1])
            drawn = random.multinomial(rows, count, True)
            return drawn.t().reshape(self._extended(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._check_value(value)
            self._check("value", value >= 0)
            self._check("value", value < self.probs.shape[-1])
        shape = np.broadcast_shapes(tuple(value.shape), tuple(self._batch_shape))
        index = value.long().expand(*shape).unsqueeze(-1) if shape else value.long().unsqueeze(-1)
        return self.logits.expand(*shape, self.logits.shape[-1]).gather(-1, index).squeeze(-1)

    def entropy(self) -> Tensor:
        lowest = float(np.finfo(np.float64 if self.logits.dtype.itemsize == 8 else np.float32).min)
        return -(self.logits.clamp(min=lowest) * self.probs).sum(-1)
