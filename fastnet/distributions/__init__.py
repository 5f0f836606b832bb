"""Normal, Categorical and Bernoulli distributions, by the names and formulas of torch.distributions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet._dtypes import get_default_dtype
from fastnet._tensor import Size, Tensor
from fastnet.autograd import no_grad
from fastnet.nn import functional as F
from fastnet.ops import random
from fastnet.ops.creation import tensor

__all__ = ["Bernoulli", "Categorical", "Distribution", "Normal", "kl_divergence"]


def _tensors(*values: Any) -> list[Tensor]:
    """Numbers and tensors as tensors of one shape."""
    like = next((v for v in values if isinstance(v, Tensor)), None)
    dtype = get_default_dtype() if like is None else like.dtype
    made = [v if isinstance(v, Tensor) else tensor(float(v), dtype=dtype) for v in values]
    shape = np.broadcast_shapes(*(tuple(v.shape) for v in made))
    return [v if tuple(v.shape) == shape else v.expand(*shape) for v in made]


def _eps(x: Tensor) -> float:
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


class Normal(Distribution):
    """Normal with mean ``loc`` and standard deviation ``scale``.

    >>> import fastnet
    >>> Normal(0.0, 1.0).log_prob(fastnet.tensor(0.0))
    tensor(-0.9189)
    """

    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None):
        self.loc, self.scale = _tensors(loc, scale)
        super().__init__(tuple(self.loc.shape), validate_args)
        self._check("loc", self.loc == self.loc)
        self._check("scale", self.scale > 0)

    def __repr__(self) -> str:
        shown = (f"{n}: {v if not v.ndim else v.size()}" for n, v in (("loc", self.loc), ("scale", self.scale)))
        return f"Normal({', '.join(shown)})"

    @property
    def mean(self) -> Tensor:
        return self.loc

    mode = mean

    @property
    def stddev(self) -> Tensor:
        return self.scale

    @property
    def variance(self) -> Tensor:
        return self.scale**2

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        noise = random.randn(*self._extended(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + noise * self.scale

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._check_value(value)
            self._check("value", value == value)
        return -((value - self.loc) ** 2) / (2 * self.variance) - self.scale.log() - math.log(math.sqrt(2 * math.pi))

    def entropy(self) -> Tensor:
        return 0.5 + 0.5 * math.log(2 * math.pi) + self.scale.log()


class _OfLogits(Distribution):
    """A distribution given by probabilities or by logits."""

    def _choose(self, probs: Any, logits: Any) -> Tensor:
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        self._given_probs = logits is None
        return _tensors(probs if logits is None else logits)[0]


class Categorical(_OfLogits):
    """Classes 0 to C - 1, by probabilities (..., C), which are normalised, or by logits.

    >>> import fastnet
    >>> Categorical(probs=fastnet.tensor([1.0, 3.0])).log_prob(fastnet.tensor(1))
    tensor(-0.2877)
    """

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        given = self._choose(probs, logits)
        if given.ndim < 1:
            raise ValueError("`probs` parameter must be at least one-dimensional.")
        super().__init__(tuple(given.shape[:-1]), validate_args)
        self._check("probs" if self._given_probs else "logits", (given >= 0) if self._given_probs else given == given)
        if self._given_probs:
            self.probs = given / given.sum(-1, keepdim=True)
            eps = _eps(given)
            self.logits = self.probs.clamp(eps, 1 - eps).log()
        else:
            self.logits = given - given.logsumexp(-1, keepdim=True)
            self.probs = F.softmax(self.logits, -1)

    def __repr__(self) -> str:
        name, value = ("probs", self.probs) if self._given_probs else ("logits", self.logits)
        return f"Categorical({name}: {value.size()})"

    @property
    def param_shape(self) -> Size:
        return self.logits.shape

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


class Bernoulli(_OfLogits):
    """1 with probability ``probs``, or sigmoid(logits), else 0.

    >>> import fastnet
    >>> Bernoulli(probs=fastnet.tensor(0.25)).log_prob(fastnet.tensor(1.0))
    tensor(-1.3863)
    """

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        given = self._choose(probs, logits)
        super().__init__(tuple(given.shape), validate_args)
        if self._given_probs:
            self._check("probs", given >= 0)
            self._check("probs", given <= 1)
            self.probs = given
            clamped = given.clamp(_eps(given), 1 - _eps(given))
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
        logits, value = _tensors(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """The Kullback-Leibler divergence of p from q, both of one kind.

    Raises:
        NotImplementedError: p and q are of different kinds.
    """
    if isinstance(p, Normal) and isinstance(q, Normal):
        ratio = (p.scale / q.scale) ** 2
        return 0.5 * (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1 - ratio.log())
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        return (p.probs * (p.logits - q.logits)).sum(-1)
    if isinstance(p, Bernoulli) and isinstance(q, Bernoulli):
        one = p.probs * (F.softplus(-q.logits) - F.softplus(-p.logits))
        return one + (1 - p.probs) * (F.softplus(q.logits) - F.softplus(p.logits))
    raise NotImplementedError(
        f"No KL(p || q) is implemented for p type {type(p).__name__} and q type {type(q).__name__}"
    )
