"""The distribution of a function of random values."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.autograd import no_grad
from fastnet.distributions.distribution import Distribution
from fastnet.distributions.independent import Independent
from fastnet.distributions.transforms import ComposeTransform, Transform, _sum_rightmost


class TransformedDistribution(Distribution):
    """The distribution of ``transforms`` of values of ``base_distribution``.

    Args:
        base_distribution: of the values.
        transforms: a Transform or a list of them, the first one first.

    >>> import fastnet
    >>> from fastnet.distributions import ExpTransform, Normal
    >>> TransformedDistribution(Normal(0.0, 1.0), [ExpTransform()]).log_prob(fastnet.tensor(1.0))
    tensor(-0.9189)
    """

    def __init__(self, base_distribution: Distribution, transforms: Any, validate_args: bool | None = None):
        self.transforms = [transforms] if isinstance(transforms, Transform) else transforms
        if not isinstance(self.transforms, list) or not all(isinstance(t, Transform) for t in self.transforms):
            raise ValueError(f"transforms must be a Transform or list, but was {transforms}")
        base_shape = (*base_distribution.batch_shape, *base_distribution.event_shape)
        transform = ComposeTransform(self.transforms)
        if len(base_shape) < transform.domain.event_dim:
            raise ValueError(
                f"base_distribution needs to have shape with size at least {transform.domain.event_dim}, but got "
                f"{base_shape}."
            )
        forward_shape = transform.forward_shape(base_shape)
        expanded = tuple(transform.inverse_shape(forward_shape))
        event_dim = len(base_distribution.event_shape)
        if expanded != base_shape:
            base_distribution = base_distribution.expand(expanded[: len(expanded) - event_dim])
        more = transform.domain.event_dim - event_dim
        if more > 0:
            base_distribution = Independent(base_distribution, more)
        self.base_dist = base_distribution
        change = transform.codomain.event_dim - transform.domain.event_dim
        event_dim = max(transform.codomain.event_dim, event_dim + change)
        cut = len(forward_shape) - event_dim
        super().__init__(tuple(forward_shape[:cut]), tuple(forward_shape[cut:]), validate_args)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    @property
    def support(self) -> Any:
        return self.transforms[-1].codomain if self.transforms else None

    def expand(self, batch_shape: Any) -> TransformedDistribution:
        """The same distribution for each of a larger batch."""
        transform = ComposeTransform(self.transforms)
        shape = tuple(transform.inverse_shape((*batch_shape, *self.event_shape)))
        base = self.base_dist.expand(shape[: len(shape) - len(self.base_dist.event_shape)])
        return TransformedDistribution(base, self.transforms, self._validate_args)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            x = self.base_dist.sample(sample_shape)
            for transform in self.transforms:
                x = transform(x)
            return x

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        x = self.base_dist.rsample(sample_shape)
        for transform in self.transforms:
            x = transform(x)
        return x

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._check_value(value)
        event_dim, total, y = len(self.event_shape), 0.0, value
        for transform in reversed(self.transforms):
            x = transform.inv(y)
            event_dim += transform.domain.event_dim - transform.codomain.event_dim
            change = transform.log_abs_det_jacobian(x, y)
            total = total - _sum_rightmost(change, event_dim - transform.domain.event_dim)
            y = x
        return total + _sum_rightmost(self.base_dist.log_prob(y), event_dim - len(self.base_dist.event_shape))

    def _signed(self, value: Tensor) -> Tensor:
        """A probability, or what is missing to 1 where the transforms decrease."""
        sign: Any = 1
        for transform in self.transforms:
            sign = sign * transform.sign
        return value if isinstance(sign, int) and sign == 1 else sign * (value - 0.5) + 0.5

    def cdf(self, value: Tensor) -> Tensor:
        for transform in reversed(self.transforms):
            value = transform.inv(value)
        base: Any = self.base_dist
        return self._signed(base.cdf(value))

    def icdf(self, value: Tensor) -> Tensor:
        base: Any = self.base_dist
        value = base.icdf(self._signed(value))
        for transform in self.transforms:
            value = transform(value)
        return value
