"""What distributions have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._dtypes import get_default_dtype
from fastnet._tensor import Size, Tensor
from fastnet.autograd import no_grad
from fastnet.ops.creation import tensor


def broadcast(*values: Any) -> list[Tensor]:
    """Numbers and tensors as tensors of one shape."""
    like = next((v for v in values if isinstance(v, Tensor)), None)
    dtype = get_default_dtype() if like is None else like.dtype
    made = [v if isinstance(v, Tensor) else tensor(float(v), dtype=dtype) for v in values]
    shape = np.broadcast_shapes(*(tuple(v.shape) for v in made))
    return [v if tuple(v.shape) == shape else v.expand(*shape) for v in made]


def epsilon(x: Tensor) -> float:
    """The distance from 1 to the next number of x's dtype."""
    return 2.0**-52 if x.dtype.itemsize == 8 else 2.0**-23 if x.dtype.itemsize == 4 else 2.0**-7


class Distribution:
    """A distribution of values: what all have in common.

    Args:
        batch_shape: of independent distributions.
        validate_args: whether parameters and values are checked.
    """

    has_rsample = False

    def __init__(self, batch_shape: tuple[int, ...], validate_args: bool | None = None):
        self._batch_shape = Size(batch_shape)
        self._validate_args = validate_args is not False

    @property
    def batch_shape(self) -> Size:
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        return Size(())

    def _extended(self, sample_shape: Any) -> tuple[int, ...]:
        return (*tuple(sample_shape), *self._batch_shape)

    def _check(self, name: str, holds: Tensor) -> None:
        if self._validate_args and not bool(holds.all()):
            raise ValueError(f"{type(self).__name__}: {name} is outside of what the distribution takes")

    def _check_value(self, value: Any) -> None:
        if not isinstance(value, Tensor):
            raise ValueError("The value argument to log_prob must be a Tensor")
        try:
            np.broadcast_shapes(tuple(value.shape), tuple(self._batch_shape))
        except ValueError:
            raise ValueError(
                f"{type(self).__name__}: value has shape {tuple(value.shape)}, which does not broadcast with the batch "
                f"shape {tuple(self._batch_shape)}"
            ) from None

    @property
    def variance(self) -> Tensor:
        raise NotImplementedError

    @property
    def stddev(self) -> Tensor:
        return self.variance.sqrt()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Values with a gradient to the parameters."""
        raise NotImplementedError(f"{type(self).__name__} has no rsample")

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Values of shape sample_shape + batch_shape."""
        with no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density or probability of ``value``."""
        raise NotImplementedError

    def entropy(self) -> Tensor:
        """The entropy, in nats."""
        raise NotImplementedError

    def perplexity(self) -> Tensor:
        """exp(entropy)."""
        return self.entropy().exp()


class OfLogits(Distribution):
    """A distribution given by probabilities or by logits."""

    def _choose(self, probs: Any, logits: Any) -> Tensor:
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        self._given_probs = logits is None
        return broadcast(probs if logits is None else logits)[0]
