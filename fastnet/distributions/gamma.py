"""The gamma distribution and those made of it: chi-squared, beta, Dirichlet, Student's t."""

from __future__ import annotations

import math
from typing import Any

from fastnet._tensor import Tensor
from fastnet.distributions.distribution import Distribution, OfParameters, broadcast
from fastnet.ops.random import randn, standard_gamma
from fastnet.ops.selection import where


def _positive(x: Tensor) -> Tensor:
    """x kept from 0, whose logarithm is none."""
    from fastnet._dtypes import finfo

    return x.clamp(min=finfo(x.dtype).tiny)


class Gamma(OfParameters):
    """Sums of ``concentration`` waiting times of events that come ``rate`` times per unit.

    Samples have gradients to both parameters (Figurnov et al. 2018).

    >>> import fastnet
    >>> Gamma(1.0, 1.0).log_prob(fastnet.tensor(2.0))
    tensor(-2.)
    """

    has_rsample = True
    _names = ("concentration", "rate")
    concentration: Tensor
    rate: Tensor

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None):
        super().__init__(concentration, rate, validate_args=validate_args)
        self._check("concentration", self.concentration > 0)
        self._check("rate", self.rate > 0)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.rate

    @property
    def mode(self) -> Tensor:
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self) -> Tensor:
        return self.concentration / self.rate**2

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended(sample_shape)
        return _positive(standard_gamma(self.concentration.expand(*shape)) / self.rate.expand(*shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._takes(value, lambda x: x >= 0)
        a, b = self.concentration, self.rate
        return a * b.log() + (a - 1) * value.log() - b * value - a.lgamma()

    def entropy(self) -> Tensor:
        a = self.concentration
        return a - self.rate.log() + a.lgamma() + (1 - a) * a.digamma()

    def cdf(self, value: Tensor) -> Tensor:
        from fastnet.ops.bessel import igamma

        self._takes(value, lambda x: x >= 0)
        return igamma(self.concentration, self.rate * value)


class Chi2(Gamma):
    """Sums of the squares of ``df`` standard normal numbers.

    >>> import fastnet
    >>> Chi2(2.0).log_prob(fastnet.tensor(2.0))
    tensor(-1.6931)
    """

    def __init__(self, df: Any, validate_args: bool | None = None):
        (df,) = broadcast(df)
        super().__init__(0.5 * df, 0.5, validate_args=validate_args)

    def __repr__(self) -> str:
        return f"Chi2(df: {self.df if self.df.numel() == 1 else self.df.size()})"

    @property
    def df(self) -> Tensor:
        return self.concentration * 2

    def expand(self, batch_shape: Any) -> Chi2:
        """The same distribution for each of a larger batch."""
        return Chi2(self.df.expand(*batch_shape), validate_args=self._validate_args)


class Beta(OfParameters):
    """Shares x of two gamma numbers in their sum: the density is ``x^(a - 1) (1 - x)^(b - 1)`` but for a constant.

    >>> import fastnet
    >>> Beta(2.0, 1.0).log_prob(fastnet.tensor(0.5))
    tensor(0.)
    """

    has_rsample = True
    _names = ("concentration1", "concentration0")
    concentration1: Tensor
    concentration0: Tensor

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None):
        super().__init__(concentration1, concentration0, validate_args=validate_args)
        self._check("concentration1", self.concentration1 > 0)
        self._check("concentration0", self.concentration0 > 0)

    def __repr__(self) -> str:
        return "Beta()"

    @property
    def mean(self) -> Tensor:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self) -> Tensor:
        return self._dirichlet().mode[..., 0]

    @property
    def variance(self) -> Tensor:
        total = self.concentration1 + self.concentration0
        return self.concentration1 * self.concentration0 / (total**2 * (total + 1))

    def _dirichlet(self) -> Dirichlet:
        from fastnet.ops.shape import stack

        return Dirichlet(stack([self.concentration1, self.concentration0], -1), validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._dirichlet().rsample(sample_shape)[..., 0]

    def log_prob(self, value: Tensor) -> Tensor:
        self._takes(value, lambda x: (x >= 0) & (x <= 1))
        a, b = self.concentration1, self.concentration0
        near, far = (a - 1) * value.log(), (b - 1) * (-value).log1p()
        # At the ends of the interval a factor to the power 0 is 1.
        near, far = near.masked_fill((a == 1) & (value == 0), 0), far.masked_fill((b == 1) & (value == 1), 0)
        return near + far + (a + b).lgamma() - a.lgamma() - b.lgamma()

    def entropy(self) -> Tensor:
        return self._dirichlet().entropy()


class Dirichlet(Distribution):
    """Shares of gamma numbers of the given concentrations (..., K) in their sum.

    >>> import fastnet
    >>> Dirichlet(fastnet.ones(3)).log_prob(fastnet.tensor([0.2, 0.3, 0.5]))
    tensor(0.6931)
    """

    has_rsample = True

    def __init__(self, concentration: Any, validate_args: bool | None = None):
        (self.concentration,) = broadcast(concentration)
        if self.concentration.dim() < 1:
            raise ValueError("`concentration` parameter must be at least one-dimensional.")
        shape = tuple(self.concentration.shape)
        super().__init__(shape[:-1], shape[-1:], validate_args)
        self._check("concentration", self.concentration > 0)

    def __repr__(self) -> str:
        return f"Dirichlet(concentration: {self.concentration.size()})"

    def expand(self, batch_shape: Any) -> Dirichlet:
        """The same distribution for each of a larger batch."""
        wide = self.concentration.expand(*batch_shape, *self.event_shape)
        return Dirichlet(wide, validate_args=self._validate_args)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def mode(self) -> Tensor:
        least = (self.concentration - 1).clamp(min=0.0)
        found = least / least.sum(-1, keepdim=True)
        flat = (self.concentration < 1).all(-1, keepdim=True)
        from fastnet.ops.indexing import one_hot

        corner = one_hot(self.concentration.argmax(-1), self.concentration.shape[-1]).to(found.dtype)
        return where(flat, corner, found)

    @property
    def variance(self) -> Tensor:
        total = self.concentration.sum(-1, keepdim=True)
        return self.concentration * (total - self.concentration) / (total**2 * (total + 1))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        parts = _positive(standard_gamma(self.concentration.expand(*self._extended(sample_shape))))
        return parts / parts.sum(-1, keepdim=True)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._check_value(value)
            self._check("value", value >= 0)
            self._check("value", (value.sum(-1) - 1).abs() < 1e-6)
        a = self.concentration
        powers = ((a - 1) * value.log()).masked_fill((a == 1) & (value == 0), 0)
        return powers.sum(-1) + a.sum(-1).lgamma() - a.lgamma().sum(-1)

    def entropy(self) -> Tensor:
        a, k = self.concentration, self.concentration.shape[-1]
        total = a.sum(-1)
        return a.lgamma().sum(-1) - total.lgamma() - (k - total) * total.digamma() - ((a - 1) * a.digamma()).sum(-1)


class StudentT(OfParameters):
    """Normal numbers over the root of a chi-squared number by its ``df``, stretched by ``scale``, shifted by ``loc``.

    >>> import fastnet
    >>> StudentT(1.0).log_prob(fastnet.tensor(0.0))
    tensor(-1.1447)
    """

    has_rsample = True
    _names = ("df", "loc", "scale")
    df: Tensor
    loc: Tensor
    scale: Tensor

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None):
        super().__init__(df, loc, scale, validate_args=validate_args)
        self._check("df", self.df > 0)
        self._check("loc", self.loc == self.loc)
        self._check("scale", self.scale > 0)

    @property
    def mean(self) -> Tensor:
        return self.loc.masked_fill(self.df <= 1, math.nan)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        heavy = self.df <= 2
        finite = self.scale**2 * self.df / (self.df - 2).masked_fill(heavy, 1)
        return finite.masked_fill(heavy, math.inf).masked_fill(self.df <= 1, math.nan)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended(sample_shape)
        x = randn(*shape, dtype=self.df.dtype, device=self.df.device)
        z = Chi2(self.df, validate_args=False).rsample(sample_shape)
        return self.loc + self.scale * x * (z / self.df).rsqrt()

    def log_prob(self, value: Tensor) -> Tensor:
        self._takes(value)
        df, y = self.df, (value - self.loc) / self.scale
        constant = self.scale.log() + 0.5 * (df * math.pi).log() + (0.5 * df).lgamma() - (0.5 * (df + 1)).lgamma()
        return -0.5 * (df + 1) * (y**2 / df).log1p() - constant

    def entropy(self) -> Tensor:
        df, half = self.df, 0.5 * (self.df + 1)
        log_beta = (0.5 * df).lgamma() + math.lgamma(0.5) - half.lgamma()
        return self.scale.log() + half * (half.digamma() - (0.5 * df).digamma()) + 0.5 * df.log() + log_beta
