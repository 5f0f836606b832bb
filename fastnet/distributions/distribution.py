"""What distributions have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._dtypes import get_default_dtype
from fastnet._tensor import Size, Tensor
from fastnet.autograd import no_grad
from fastnet.ops.creation import tensor
from fastnet.ops.random import rand


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
        event_shape: of one value.
        validate_args: whether parameters and values are checked.
    """

    has_rsample = False

    def __init__(
        self, batch_shape: tuple[int, ...], event_shape: tuple[int, ...] = (), validate_args: bool | None = None
    ):
        self._batch_shape, self._event_shape = Size(batch_shape), Size(event_shape)
        self._validate_args = validate_args is not False

    @property
    def batch_shape(self) -> Size:
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        return self._event_shape

    def _extended(self, sample_shape: Any) -> tuple[int, ...]:
        return (*tuple(sample_shape), *self._batch_shape, *self._event_shape)

    def _check(self, name: str, holds: Tensor) -> None:
        if self._validate_args and not bool(holds.all()):
            raise ValueError(f"{type(self).__name__}: {name} is outside of what the distribution takes")

    def _check_value(self, value: Any) -> None:
        if not isinstance(value, Tensor):
            raise ValueError("The value argument to log_prob must be a Tensor")
        try:
            events = tuple(value.shape)[value.ndim - len(self._event_shape) :]
            if events != tuple(self._event_shape):
                raise ValueError
            np.broadcast_shapes(tuple(value.shape), self._extended(()))
        except ValueError:
            raise ValueError(
                f"{type(self).__name__}: value has shape {tuple(value.shape)}, which does not broadcast with the batch "
                f"shape {tuple(self._batch_shape)} and the event shape {tuple(self._event_shape)}"
            ) from None

    @property
    def mean(self) -> Tensor:
        raise NotImplementedError

    @property
    def mode(self) -> Tensor:
        raise NotImplementedError

    @property
    def variance(self) -> Tensor:
        raise NotImplementedError

    def expand(self, batch_shape: Any) -> Distribution:
        """The same distribution for each of a larger batch."""
        raise NotImplementedError

    @property
    def stddev(self) -> Tensor:
        return self.variance.sqrt()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Values with a gradient to the parameters."""
        raise NotImplementedError(f"{type(self).__name__} has no rsample")

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Values of shape sample_shape + batch_shape + event_shape."""
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


class OfParameters(Distribution):
    """A distribution of numbers whose parameters, of one shape, are the arguments of its constructor."""

    _names: tuple[str, ...]

    def __init__(self, *parameters: Any, validate_args: bool | None = None):
        made = broadcast(*parameters)
        self.__dict__.update(zip(self._names, made, strict=True))
        super().__init__(tuple(made[0].shape), validate_args=validate_args)

    def __repr__(self) -> str:
        values = {n: self.__dict__[n] for n in self._names}
        shown = ", ".join(f"{n}: {v if v.numel() == 1 else v.size()}" for n, v in values.items())
        return f"{type(self).__name__}({shown})"

    def expand(self, batch_shape: Any) -> OfParameters:
        """The same distribution for each of a larger batch."""
        parameters = (self.__dict__[n].expand(*batch_shape) for n in self._names)
        return type(self)(*parameters, validate_args=self._validate_args)

    def _uniform(self, sample_shape: Any) -> Tensor:
        """Numbers between 0 and 1, neither of them reached."""
        like = self.__dict__[self._names[0]]
        u = rand(*self._extended(sample_shape), dtype=like.dtype, device=like.device)
        return u.clamp(epsilon(u) / 2, 1 - epsilon(u) / 2)

    def _takes(self, value: Any, holds: Any = None) -> None:
        """Check a value of ``log_prob``: its shape, and what must hold of it (else: it is a number)."""
        if self._validate_args:
            self._check_value(value)
            self._check("value", value == value if holds is None else holds(value))


class LocationScale(OfParameters):
    """A distribution of numbers shifted by ``loc`` and stretched by ``scale``."""

    has_rsample = True
    _names = ("loc", "scale")
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None):
        super().__init__(loc, scale, validate_args=validate_args)
        self._check("loc", self.loc == self.loc)
        self._check("scale", self.scale > 0)


class OfLogits(Distribution):
    """A distribution given by probabilities or by logits."""

    def _choose(self, probs: Any, logits: Any) -> Tensor:
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        self._given_probs = logits is None
        given = broadcast(probs if logits is None else logits)[0]
        self._param_shape = given.shape
        return given

    @property
    def param_shape(self) -> Size:
        return self._param_shape

    def expand(self, batch_shape: Any) -> OfLogits:
        """The same distribution for each of a larger batch."""
        name = "probs" if self._given_probs else "logits"
        shape = (*batch_shape, *self.param_shape[len(self.batch_shape) :])
        given = self.__dict__[name].expand(*shape)
        return type(self)(validate_args=self._validate_args, **{name: given})
