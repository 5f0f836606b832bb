"""Dimensions of a batch taken as one value."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.distributions.distribution import Distribution


class Independent(Distribution):
    """The last dimensions of a batch as those of one value: their log-probabilities are added.

    Args:
        base_distribution: whose batch they belong to.
        reinterpreted_batch_ndims: how many.

    >>> import fastnet
    >>> from fastnet.distributions import Normal
    >>> Independent(Normal(fastnet.zeros(2, 3), 1.0), 1).log_prob(fastnet.zeros(2, 3))
    tensor([-2.7568, -2.7568])
    """

    def __init__(
        self, base_distribution: Distribution, reinterpreted_batch_ndims: int, validate_args: bool | None = None
    ):
        batch = tuple(base_distribution.batch_shape)
        if reinterpreted_batch_ndims > len(batch):
            raise ValueError(
                "Expected reinterpreted_batch_ndims <= len(base_distribution.batch_shape), actual "
                f"{reinterpreted_batch_ndims} vs {len(batch)}"
            )
        self.base_dist, self.reinterpreted_batch_ndims = base_distribution, reinterpreted_batch_ndims
        kept = len(batch) - reinterpreted_batch_ndims
        event = (*batch[kept:], *tuple(base_distribution.event_shape))
        super().__init__(batch[:kept], event, validate_args)

    def __repr__(self) -> str:
        return f"Independent({self.base_dist}, {self.reinterpreted_batch_ndims})"

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def mode(self) -> Tensor:
        return self.base_dist.mode

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance

    def expand(self, batch_shape: Any) -> Independent:
        """The same distribution for each of a larger batch."""
        taken = tuple(self.event_shape)[: self.reinterpreted_batch_ndims]
        base = self.base_dist.expand((*tuple(batch_shape), *taken))
        return Independent(base, self.reinterpreted_batch_ndims, self._validate_args)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.base_dist.sample(sample_shape)

    def _summed(self, x: Tensor) -> Tensor:
        n = self.reinterpreted_batch_ndims
        return x.sum(tuple(range(-n, 0))) if n else x

    def log_prob(self, value: Tensor) -> Tensor:
        return self._summed(self.base_dist.log_prob(value))

    def entropy(self) -> Tensor:
        return self._summed(self.base_dist.entropy())
