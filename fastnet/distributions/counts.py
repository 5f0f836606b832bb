"""Distributions of counts: geometric, Poisson, binomial, multinomial; and classes as vectors of one 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._tensor import Tensor
from fastnet.autograd import no_grad
from fastnet.distributions.categorical import Categorical
from fastnet.distributions.distribution import Distribution, OfLogits, OfParameters, broadcast, epsilon
from fastnet.nn import functional as F
from fastnet.ops import random
from fastnet.ops.indexing import one_hot


class _OfTrials(OfLogits):
    """A distribution given by the probability of success of a trial, or by its logit."""

    probs: Tensor
    logits: Tensor

    def _set(self, given: Tensor) -> None:
        if self._given_probs:
            self._check("probs", (given >= 0) & (given <= 1))
            clamped = given.clamp(epsilon(given), 1 - epsilon(given))
            self.probs, self.logits = given, clamped.log() - (-clamped).log1p()
        else:
            self._check("logits", given == given)
            self.probs, self.logits = F.sigmoid(given), given

    def _shown(self) -> str:
        name, value = ("probs", self.probs) if self._given_probs else ("logits", self.logits)
        return f"{name}: {value if value.numel() == 1 else value.size()}"


class Geometric(_OfTrials):
    """Failures before the first success of trials.

    >>> import fastnet
    >>> Geometric(fastnet.tensor(0.5)).log_prob(fastnet.tensor(1.0))
    tensor(-1.3863)
    """

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        given = self._choose(probs, logits)
        super().__init__(tuple(given.shape), validate_args=validate_args)
        self._set(given)
        if self._given_probs:
            self._check("probs", self.probs > 0)

    def __repr__(self) -> str:
        return f"Geometric({self._shown()})"

    @property
    def mean(self) -> Tensor:
        return 1.0 / self.probs - 1.0

    @property
    def mode(self) -> Tensor:
        return self.probs * 0

    @property
    def variance(self) -> Tensor:
        return (1.0 / self.probs - 1.0) / self.probs

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            p = self.probs.expand(*self._extended(sample_shape))
            u = random.rand(*p.shape, dtype=p.dtype, device=p.device).clamp(min=epsilon(p) / 2)
            return (u.log() / (-p).log1p()).floor()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._check_value(value)
            self._check("value", (value >= 0) & (value == value.floor()))
        value, p = broadcast(value, self.probs)
        return value * (-p).log1p().masked_fill((p == 1) & (value == 0), 0) + p.log()

    def entropy(self) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none") / self.probs


class Poisson(OfParameters):
    """Events in a unit of time that come ``rate`` times per unit.

    >>> import fastnet
    >>> Poisson(1.0).log_prob(fastnet.tensor(2.0))
    tensor(-1.6931)
    """

    _names = ("rate",)
    rate: Tensor

    def __init__(self, rate: Any, validate_args: bool | None = None):
        super().__init__(rate, validate_args=validate_args)
        self._check("rate", self.rate >= 0)

    @property
    def mean(self) -> Tensor:
        return self.rate

    variance = mean

    @property
    def mode(self) -> Tensor:
        return self.rate.floor()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            return random.poisson(self.rate.expand(*self._extended(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        self._takes(value, lambda x: (x >= 0) & (x == x.floor()))
        rate, value = broadcast(self.rate, value)
        return value.xlogy(rate) - rate - (value + 1).lgamma()


class Binomial(_OfTrials):
    """Successes of ``total_count`` trials.

    >>> import fastnet
    >>> Binomial(2, fastnet.tensor(0.5)).log_prob(fastnet.tensor(1.0))
    tensor(-0.6931)
    """

    def __init__(self, total_count: Any = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        given = self._choose(probs, logits)
        self.total_count, given = broadcast(total_count, given)
        self.total_count = self.total_count.to(given.dtype)
        super().__init__(tuple(given.shape), validate_args=validate_args)
        self._param_shape = given.shape
        self._check("total_count", self.total_count >= 0)
        self._set(given)

    def __repr__(self) -> str:
        n = self.total_count
        return f"Binomial(total_count: {n if n.numel() == 1 else n.size()}, {self._shown()})"

    def expand(self, batch_shape: Any) -> Binomial:
        """The same distribution for each of a larger batch."""
        name = "probs" if self._given_probs else "logits"
        given: dict[str, Any] = {name: self.__dict__[name].expand(*batch_shape)}
        return Binomial(self.total_count.expand(*batch_shape), validate_args=self._validate_args, **given)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def mode(self) -> Tensor:
        return ((self.total_count + 1) * self.probs).floor().clamp(max=self.total_count)

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended(sample_shape)
        with no_grad():
            return random.binomial(self.total_count.expand(*shape), self.probs.expand(*shape))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._check_value(value)
            self._check("value", (value >= 0) & (value <= self.total_count) & (value == value.floor()))
        n, logits = self.total_count, self.logits
        # log(1 + exp(logits)), and n times it less what the successes take, without overflow.
        normal = n * logits.clamp(min=0) + n * (-logits.abs()).exp().log1p() - (n + 1).lgamma()
        return value * logits - (value + 1).lgamma() - (n - value + 1).lgamma() - normal

    def entropy(self) -> Tensor:
        n = int(self.total_count.max().item())
        if bool((self.total_count != n).any()):
            raise NotImplementedError("Inhomogeneous total count not supported by `entropy`.")
        log_probs = self.log_prob(self.enumerate_support(False))
        return -(log_probs.exp() * log_probs).sum(0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All counts, along a new first dimension."""
        from fastnet.ops.creation import arange

        n = int(self.total_count.max().item())
        values = arange(1 + n, dtype=self.probs.dtype, device=self.probs.device)
        values = values.view(-1, *(1,) * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values


class _OfClasses(Distribution):
    """A distribution over vectors that count classes; their probabilities are a ``Categorical``'s."""

    _categorical: Categorical

    @property
    def probs(self) -> Tensor:
        return self._categorical.probs

    @property
    def logits(self) -> Tensor:
        return self._categorical.logits

    @property
    def param_shape(self) -> Any:
        return self._categorical.param_shape


class Multinomial(_OfClasses):
    """How often each of K classes came in ``total_count`` draws, by probabilities (..., K) or logits.

    >>> import fastnet
    >>> Multinomial(2, fastnet.ones(2)).log_prob(fastnet.tensor([1.0, 1.0]))
    tensor(-0.6931)
    """

    def __init__(self, total_count: int = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        if not isinstance(total_count, int):
            raise NotImplementedError("inhomogeneous total_count is not supported")
        self.total_count = total_count
        self._categorical = Categorical(probs, logits)
        batch = tuple(self._categorical.batch_shape)
        super().__init__(batch, tuple(self.probs.shape[-1:]), validate_args)

    def __repr__(self) -> str:
        return "Multinomial()"

    def expand(self, batch_shape: Any) -> Multinomial:
        """The same distribution for each of a larger batch."""
        wide = self.logits.expand(*batch_shape, *self.event_shape)
        return Multinomial(self.total_count, logits=wide, validate_args=self._validate_args)

    @property
    def mean(self) -> Tensor:
        return self.probs * self.total_count

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        drawn = self._categorical.sample((self.total_count, *tuple(sample_shape)))
        return one_hot(drawn, self.probs.shape[-1]).sum(0).to(self.probs.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._check_value(value)
            self._check("value", (value >= 0).all(-1) & (value.sum(-1) == self.total_count))
        logits, value = broadcast(self.logits, value)
        logits = logits.masked_fill((value == 0) & (logits == -np.inf), 0)
        return (value.sum(-1) + 1).lgamma() - (value + 1).lgamma().sum(-1) + (logits * value).sum(-1)

    def entropy(self) -> Tensor:
        from fastnet.ops.creation import tensor

        n = tensor(float(self.total_count), dtype=self.probs.dtype)
        binomials = Binomial(self.total_count, probs=self.probs, validate_args=False)
        support = binomials.enumerate_support(False)[1:]
        weights = binomials.log_prob(support).exp()
        return n * self._categorical.entropy() - (n + 1).lgamma() + (weights * (support + 1).lgamma()).sum((0, -1))


class OneHotCategorical(_OfClasses):
    """Classes as vectors of zeros and one 1, by probabilities (..., K) or logits.

    >>> import fastnet
    >>> OneHotCategorical(fastnet.tensor([1.0, 3.0])).log_prob(fastnet.tensor([0.0, 1.0]))
    tensor(-0.2877)
    """

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        self._categorical = Categorical(probs, logits)
        super().__init__(tuple(self._categorical.batch_shape), tuple(self.probs.shape[-1:]), validate_args)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def expand(self, batch_shape: Any) -> OneHotCategorical:
        """The same distribution for each of a larger batch."""
        wide = self.logits.expand(*batch_shape, *self.event_shape)
        return type(self)(logits=wide, validate_args=self._validate_args)

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        return one_hot(self.probs.argmax(-1), self.probs.shape[-1]).to(self.probs.dtype)

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return one_hot(self._categorical.sample(sample_shape), self.probs.shape[-1]).to(self.probs.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._check_value(value)
            self._check("value", ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == 1))
        return self._categorical.log_prob(value.argmax(-1))

    def entropy(self) -> Tensor:
        return self._categorical.entropy()


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """``OneHotCategorical`` whose samples have the gradient of the probabilities (Bengio et al. 2013)."""

    has_rsample = True

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        samples = self.sample(sample_shape)
        return samples + (self.probs - self.probs.detach())
