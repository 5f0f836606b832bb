"""Sets that values and parameters of distributions lie in: each says by ``check`` which entries of a tensor do."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor

__all__ = [
    "Constraint",
    "boolean",
    "cat",
    "dependent",
    "dependent_property",
    "greater_than",
    "greater_than_eq",
    "half_open_interval",
    "independent",
    "integer_interval",
    "interval",
    "less_than",
    "lower_cholesky",
    "lower_triangular",
    "multinomial",
    "nonnegative",
    "nonnegative_integer",
    "one_hot",
    "positive",
    "positive_definite",
    "positive_integer",
    "real",
    "real_vector",
    "simplex",
    "square",
    "stack",
    "symmetric",
    "unit_interval",
]


class Constraint:
    """A set of values of ``event_dim`` dimensions.

    >>> import fastnet
    >>> positive.check(fastnet.tensor([-1.0, 2.0]))
    tensor([False,  True])
    """

    is_discrete = False
    event_dim = 0

    def check(self, value: Tensor) -> Tensor:
        """Where the value lies in the set."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__.lstrip('_')}()"


class _Dependent(Constraint):
    """A set that depends on other parameters."""

    def __init__(self, *, is_discrete: Any = False, event_dim: Any = 0):
        self.is_discrete, self.event_dim = is_discrete, event_dim

    def __call__(self, *, is_discrete: Any = False, event_dim: Any = 0) -> _Dependent:
        return _Dependent(is_discrete=is_discrete, event_dim=event_dim)

    def check(self, value: Tensor) -> Tensor:
        raise ValueError("Cannot determine validity of dependent constraint")


def is_dependent(constraint: Any) -> bool:
    """Whether a set depends on other parameters."""
    return isinstance(constraint, _Dependent)


class dependent_property(property, _Dependent):
    """A property that gives a set, on an instance; on the class, a set that depends on it."""

    def __init__(self, fn: Any = None, *, is_discrete: Any = False, event_dim: Any = 0):
        super().__init__(fn)
        self.is_discrete, self.event_dim = is_discrete, event_dim

    def __call__(self, fn: Any) -> dependent_property:  # type: ignore[override]
        return dependent_property(fn, is_discrete=self.is_discrete, event_dim=self.event_dim)


class _By(Constraint):
    """A set given by a function of the value."""

    def __init__(self, name: str, holds: Any, event_dim: int = 0, is_discrete: bool = False):
        self._name, self._holds, self.event_dim, self.is_discrete = name, holds, event_dim, is_discrete

    def check(self, value: Tensor) -> Tensor:
        return self._holds(value)

    def __repr__(self) -> str:
        return self._name


class independent(Constraint):
    """The last dimensions of a set's batch taken as one value."""

    def __init__(self, base_constraint: Constraint, reinterpreted_batch_ndims: int):
        self.base_constraint, self.reinterpreted_batch_ndims = base_constraint, reinterpreted_batch_ndims

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return self.base_constraint.is_discrete

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return self.base_constraint.event_dim + self.reinterpreted_batch_ndims

    def check(self, value: Tensor) -> Tensor:
        result = self.base_constraint.check(value)
        n = self.reinterpreted_batch_ndims
        if result.dim() < n:
            raise ValueError(f"Expected value.dim() >= {self.event_dim} but got {value.dim()}")
        return result.reshape(*result.shape[: result.dim() - n], -1).all(-1) if n else result

    def __repr__(self) -> str:
        return f"Independent({self.base_constraint!r}, {self.reinterpreted_batch_ndims})"


class _Bounds(Constraint):
    """Numbers between bounds."""

    def __init__(self, lower_bound: Any, upper_bound: Any):
        self.lower_bound, self.upper_bound = lower_bound, upper_bound

    def __repr__(self) -> str:
        return f"{type(self).__name__}(lower_bound={self.lower_bound}, upper_bound={self.upper_bound})"


class integer_interval(_Bounds):
    """Integers from the lower to the upper bound, both included."""

    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return (value % 1 == 0) & (self.lower_bound <= value) & (value <= self.upper_bound)


class interval(_Bounds):
    """Numbers from the lower to the upper bound, both included."""

    def check(self, value: Tensor) -> Tensor:
        return (self.lower_bound <= value) & (value <= self.upper_bound)


class half_open_interval(_Bounds):
    """Numbers from the lower bound up to the upper one, which is left out."""

    def check(self, value: Tensor) -> Tensor:
        return (self.lower_bound <= value) & (value < self.upper_bound)


class greater_than(Constraint):
    """Numbers above a bound."""

    def __init__(self, lower_bound: Any):
        self.lower_bound = lower_bound

    def check(self, value: Tensor) -> Tensor:
        return value > self.lower_bound

    def __repr__(self) -> str:
        return f"GreaterThan(lower_bound={self.lower_bound})"


class greater_than_eq(greater_than):
    """Numbers from a bound on."""

    def check(self, value: Tensor) -> Tensor:
        return value >= self.lower_bound

    def __repr__(self) -> str:
        return f"GreaterThanEq(lower_bound={self.lower_bound})"


class less_than(Constraint):
    """Numbers below a bound."""

    def __init__(self, upper_bound: Any):
        self.upper_bound = upper_bound

    def check(self, value: Tensor) -> Tensor:
        return value < self.upper_bound

    def __repr__(self) -> str:
        return f"LessThan(upper_bound={self.upper_bound})"


class multinomial(Constraint):
    """Vectors of counts that add up to at most ``upper_bound``."""

    is_discrete = True
    event_dim = 1

    def __init__(self, upper_bound: Any):
        self.upper_bound = upper_bound

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0).all(-1) & (value.sum(-1) <= self.upper_bound)


class _Several(Constraint):
    """A set for each part of a value along a dimension."""

    def __init__(self, cseq: Any, dim: int = 0):
        self.cseq, self.dim = list(cseq), dim

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return any(c.is_discrete for c in self.cseq)


class cat(_Several):
    """Parts of the given lengths along a dimension, each in its set."""

    def __init__(self, cseq: Any, dim: int = 0, lengths: Any = None):
        super().__init__(cseq, dim)
        self.lengths = list(lengths) if lengths is not None else [1] * len(self.cseq)

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return max(c.event_dim for c in self.cseq)

    def check(self, value: Tensor) -> Tensor:
        from fastnet.ops.shape import cat as joined

        parts = value.split(self.lengths, self.dim)
        return joined([c.check(v) for c, v in zip(self.cseq, parts, strict=True)], self.dim)


class stack(_Several):
    """Entries along a dimension, each in its set."""

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        deepest = max(c.event_dim for c in self.cseq)
        return deepest + 1 if self.dim + deepest < 0 else deepest

    def check(self, value: Tensor) -> Tensor:
        from fastnet.ops.shape import stack as stacked

        parts = [value.select(self.dim, i) for i in range(value.shape[self.dim])]
        return stacked([c.check(v) for c, v in zip(self.cseq, parts, strict=True)], self.dim)


def _close(a: Tensor, b: Tensor) -> Tensor:
    from fastnet.ops.comparisons import isclose

    return isclose(a, b, atol=1e-6).all(-1).all(-1)


def _positive_definite(value: Tensor) -> Tensor:
    from fastnet.ops.solvers import cholesky_ex

    symmetric = _close(value, value.mT)
    return cholesky_ex(value).info == 0 if bool(symmetric.all()) else symmetric  # as PyTorch answers


def _lower(value: Tensor) -> Tensor:
    return (value.tril() == value).reshape(*value.shape[:-2], -1).min(-1)[0]


def _squares(value: Tensor) -> Tensor:
    from fastnet.ops.creation import full

    return full(tuple(value.shape[:-2]), value.shape[-2] == value.shape[-1], dtype=value.bool().dtype)


dependent = _Dependent()
boolean = _By("Boolean()", lambda x: (x == 0) | (x == 1), is_discrete=True)
nonnegative_integer = _By("IntegerGreaterThan(lower_bound=0)", lambda x: (x % 1 == 0) & (x >= 0), is_discrete=True)
positive_integer = _By("IntegerGreaterThan(lower_bound=1)", lambda x: (x % 1 == 0) & (x >= 1), is_discrete=True)
real = _By("Real()", lambda x: x == x)
real_vector = independent(real, 1)
positive = greater_than(0.0)
nonnegative = greater_than_eq(0.0)
unit_interval = interval(0.0, 1.0)
simplex = _By("Simplex()", lambda x: (x >= 0).all(-1) & ((x.sum(-1) - 1).abs() < 1e-6), 1)
one_hot = _By("OneHot()", lambda x: ((x == 0) | (x == 1)).all(-1) & (x.sum(-1) == 1), 1, True)
square = _By("Square()", _squares, 2)
symmetric = _By("Symmetric()", lambda x: _close(x, x.mT), 2)
positive_definite = _By("PositiveDefinite()", _positive_definite, 2)
lower_triangular = _By("LowerTriangular()", lambda x: _lower(x) == 1, 2)
lower_cholesky = _By("LowerCholesky()", lambda x: (_lower(x) == 1) & (x.diagonal(dim1=-2, dim2=-1) > 0).all(-1), 2)
