"""Random tensors. Each call takes one place in its generator's stream; the numbers are the same on every device."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import array_module, namespace
from fastnet._device import device as Device
from fastnet._faults import note
from fastnet._random import Generator, default_generator
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.autograd.views import rebase, recorded_in_place
from fastnet.errors import InputError, KindError
from fastnet.kernels._runtime import implementation
from fastnet.ops._operands import check_tensor
from fastnet.ops.in_place import Fill, old_value, writeable
from fastnet.ops.shape import sizes


def _draw(name: str, shape: tuple[int, ...], generator: Generator | None, device: Any, **options: Any) -> Any:
    """An array of one of the random kernels."""
    if any(n < 0 for n in shape):
        raise InputError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    source = _source(generator)
    state = source.state_array(array_module(device))
    return getattr(implementation(state), name)(shape, state, source.next_offset(), **options)


def _source(generator: Generator | None) -> Generator:
    if generator is not None and not isinstance(generator, Generator):
        raise KindError(f"generator is a {type(generator).__name__}, expected a fastnet.Generator")
    return generator or default_generator


def _made(array: Any, requires_grad: bool) -> Tensor:
    t = Tensor._wrap(array)
    if requires_grad:
        t.requires_grad = True
    return t


def _float_dtype(dtype: Any) -> np.dtype:
    d = _dtypes.get_default_dtype() if dtype is None else _dtypes.as_dtype(dtype)
    if not d.is_floating_point:
        raise KindError(f"random numbers of dtype {d.name} are not defined here: use randint")
    return d.numpy


def rand(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uniform numbers from [0, 1) in steps of 2^-24."""
    return _made(_draw("uniform", sizes(size, "rand"), generator, device, dtype=_float_dtype(dtype)), requires_grad)


def randn(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Normal numbers of mean 0 and standard deviation 1."""
    return _made(_draw("normal", sizes(size, "randn"), generator, device, dtype=_float_dtype(dtype)), requires_grad)


def randint(
    low: Any = None,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Integers from low (0 if left out) up to high, which is left out; int64 unless a dtype is named."""
    if size is None:
        low, high, size = 0, low, high
    elif high is None or low is None:
        low, high = 0, low if high is None else high
    if high is None or not isinstance(size, (tuple, list)):
        raise KindError(f"randint: expected randint([low,] high, size) with size a tuple, got size {size!r}")
    low, high = int(low), int(high)
    if low >= high:
        raise InputError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    d = _dtypes.int64 if dtype is None else _dtypes.as_dtype(dtype)
    bits = _draw("random_bits", (*sizes((size,), "randint"), 2), generator, device).astype(np.uint64)
    span = np.uint64(high - low)  # 64 bits modulo the span: the bias is below 2^-32 for spans of 32 bits
    values = (bits[..., 0] | bits[..., 1] << np.uint64(32)) % span
    return _made((values.astype(np.int64) + np.int64(low)).astype(d.numpy), requires_grad)


def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers 0 to n - 1 in random order, int64 unless a dtype is named."""
    if n < 0:
        raise InputError(f"n must be non-negative, got {n}")
    source = _source(generator)
    state = source.state_array(array_module(device))
    array = implementation(state).permutation(int(n), state, source.next_offset())
    return _made(array if dtype is None else array.astype(_dtypes.as_dtype(dtype).numpy), requires_grad)


def rand_like(
    input: Tensor,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """``rand`` with the shape, dtype and device of another tensor."""
    return rand(
        *input._data.shape,
        dtype=dtype or input.dtype,
        device=device or input.device,
        requires_grad=requires_grad,
        generator=generator,
    )


def randn_like(
    input: Tensor,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """``randn`` with the shape, dtype and device of another tensor."""
    return randn(
        *input._data.shape,
        dtype=dtype or input.dtype,
        device=device or input.device,
        requires_grad=requires_grad,
        generator=generator,
    )


def randint_like(
    input: Tensor,
    low: Any = None,
    high: Any = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``randint`` with the shape, dtype and device of another tensor."""
    where: dict[str, Any] = {"dtype": dtype or input.dtype, "device": device or input.device}
    return randint(low, high, tuple(input._data.shape), requires_grad=requires_grad, **where)


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that each element gives, or with probability ``p`` everywhere, else 0."""
    check_tensor("bernoulli", input)
    if p is not None:
        return bernoulli_(Tensor._wrap(input._data.copy()), p, generator=generator)
    return Tensor._wrap(_bernoulli(input._data, generator))


def _bernoulli(p: Any, generator: Generator | None) -> Any:
    outside = ~((p >= 0) & (p <= 1))
    if not isinstance(p, np.ndarray):
        note("bernoulli", "Expected p_in >= 0 && p_in <= 1 to be true", outside, InputError)
    elif bool(outside.any()):
        raise InputError("Expected p_in >= 0 && p_in <= 1 to be true")
    u = _draw("uniform", tuple(p.shape), generator, Device.of_array(p))
    return (u < p).astype(p.dtype)


def normal(
    mean: Any = 0.0,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Normal numbers with a mean and a standard deviation, numbers or tensors; numbers need a size."""
    if (std._data.size and float(std._data.min()) if isinstance(std, Tensor) else std) < 0:
        raise InputError(f"normal expects std >= 0.0, but found std {std if not isinstance(std, Tensor) else 'less'}")
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        shape = np.broadcast_shapes(*[x._data.shape for x in (mean, std) if isinstance(x, Tensor)])
        like = mean if isinstance(mean, Tensor) else std
        return mean + std * randn(*shape, generator=generator, dtype=like.dtype, device=like.device)
    if size is None:
        raise KindError("normal: size is missing: numbers as mean and std need one")
    return _made(
        _draw("normal", sizes((size,), "normal"), generator, device, mean=mean, std=std, dtype=_float_dtype(dtype)),
        False,
    )


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Indices drawn from the (unnormalised) weights of the last dimension, int64."""
    check_tensor("multinomial", input)
    w = input._data.astype(np.float64)
    if w.ndim not in (1, 2):
        raise InputError("prob_dist must be 1 or 2 dim")
    xp = namespace(w)
    if not bool((xp.isfinite(w) & (w >= 0)).all()) or not bool((w.sum(-1) > 0).all()):
        raise InputError("probability tensor contains either `inf`, `nan` or element < 0, or sums to 0")
    rows = w.reshape(-1, w.shape[-1])
    if num_samples < 1 or (not replacement and num_samples > int((rows > 0).sum(-1).min())):
        raise InputError(
            f"cannot sample n_sample > prob_dist.size(-1) samples without replacement: {num_samples} of {w.shape[-1]}"
        )
    device = Device.of_array(w)
    if replacement:
        u = _draw("uniform", (len(rows), num_samples), generator, device, dtype=np.dtype(np.float64))
        total = rows.cumsum(-1)
        picked = (u[:, :, None] * total[:, -1:, None] >= total[:, None, :]).sum(-1)
        picked = xp.minimum(picked, w.shape[-1] - 1)
    else:  # the greatest of log(w) + Gumbel noise (Efraimidis and Spirakis 2006)
        u = _draw("uniform", rows.shape, generator, device, dtype=np.dtype(np.float64)) + 2.0**-25
        with np.errstate(divide="ignore"):
            keys = xp.log(rows) - xp.log(-xp.log(u))
        picked = xp.argsort(-keys, axis=-1)[:, :num_samples]
    return Tensor._wrap(picked.astype(np.int64).reshape((*w.shape[:-1], num_samples)))


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson numbers of the rates given: how many exponential times of that rate sum to less than 1 for small rates,
    else by Hoermann's transformed rejection (1993, algorithm PTRS)."""
    check_tensor("poisson", input)
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"poisson: not implemented for {input.dtype}")
    rate = input._data.astype(np.float64)
    if rate.size and not bool((rate >= 0).all()):
        raise InputError("invalid Poisson rate, expected rate to be non-negative")
    device = Device.of_array(rate)
    wide: dict[str, Any] = {"dtype": np.dtype(np.float64)}
    xp = namespace(rate)
    out = xp.zeros(rate.shape)
    with np.errstate(all="ignore"):
        small = (rate > 0) & (rate < 10)
        left, counting = xp.exp(-rate), small.copy()  # a product of uniform numbers stays above exp(-rate)
        product = xp.ones(rate.shape)
        while bool(counting.any()):
            product = xp.where(counting, product * _draw("uniform", rate.shape, generator, device, **wide), product)
            counting &= product > left
            out += counting
        b = 0.931 + 2.53 * xp.sqrt(rate)
        a = -0.059 + 0.02483 * b
        inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
        most = 0.9277 - 3.6224 / (b - 2)
        waiting = rate >= 10
        while bool(waiting.any()):
            u = _draw("uniform", rate.shape, generator, device, **wide) - 0.5
            v = _draw("uniform", rate.shape, generator, device, **wide)
            near = 0.5 - xp.abs(u)
            k = xp.floor((2 * a / near + b) * u + rate + 0.43)
            quick = (near >= 0.07) & (v <= most)
            possible = (k >= 0) & ((near >= 0.013) | (v <= near))
            log_density = k * xp.log(rate) - rate - _log_factorial(xp, xp.maximum(k, 0))
            taken = quick | (possible & (xp.log(v * inverse_alpha / (a / (near * near) + b)) <= log_density))
            out = xp.where(waiting & taken, k, out)
            waiting &= ~taken
    return Tensor._wrap(out.astype(input._data.dtype))


def _log_factorial(xp: Any, k: Any) -> Any:
    """log k! by Stirling's series at k + 10, less the logarithms on the way: to 1e-12."""
    n = k + 10
    series = (n + 0.5) * xp.log(n) - n + 0.5 * np.log(2 * np.pi) + 1 / (12 * n) - 1 / (360 * n**3) + 1 / (1260 * n**5)
    return series - sum(xp.log(k + i) for i in range(1, 11))


def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """How many of ``count`` trials succeed, each with probability ``prob``: the trials are made one by one."""
    check_tensor("binomial", count, "count")
    check_tensor("binomial", prob, "prob")
    if count.dtype is not prob.dtype or not prob.dtype.is_floating_point:
        raise KindError(
            f"binomial: expected count and prob of one floating-point dtype, got {count.dtype} and {prob.dtype}"
        )
    xp = namespace(count._data)
    n, p = xp.broadcast_arrays(count._data, prob._data)
    if n.size and not bool((n >= 0).all()):
        raise InputError("binomial: expected counts that are not negative")
    device = Device.of_array(n)
    out = xp.zeros(n.shape)
    for i in range(int(n.max()) if n.size else 0):
        out += (_draw("uniform", n.shape, generator, device) < p) & (i < n)
    return Tensor._wrap(out.astype(n.dtype))


class StandardGamma(ArrayFunction):
    """Gamma numbers of rate 1 and the given concentrations, by Marsaglia and Tsang's rejection (2000); those below 1
    from one more and a power of a uniform number. The gradient is that of a number at a fixed place of the
    distribution: ``-dP/da / density`` (Figurnov et al. 2018), P's derivative by central differences in float64."""

    @staticmethod
    def forward(ctx: Any, a: Any, generator: Generator | None) -> Any:
        xp, device = namespace(a), Device.of_array(a)
        wide: dict[str, Any] = {"dtype": np.dtype(np.float64)}
        shape = tuple(a.shape)
        alpha = a.astype(np.float64)
        d = xp.where(alpha < 1, alpha + 1, alpha) - 1 / 3
        c = 1 / xp.sqrt(9 * d)
        out, waiting = xp.ones(shape), xp.ones(shape, bool)
        while bool(waiting.any()):
            z = _draw("normal", shape, generator, device, **wide)
            u = _draw("uniform", shape, generator, device, **wide) + 2.0**-25
            v = (1 + c * z) ** 3
            taken = (v > 0) & (xp.log(u) < 0.5 * z * z + d - d * v + d * xp.log(xp.where(v > 0, v, 1)))
            out = xp.where(waiting & taken, d * v, out)
            waiting &= ~taken
        u = _draw("uniform", shape, generator, device, **wide) + 2.0**-25
        out = xp.where(alpha < 1, out * u ** (1 / alpha), out)
        result = xp.maximum(out, np.finfo(np.float32 if a.dtype.itemsize < 8 else np.float64).tiny).astype(a.dtype)
        ctx.save(a, result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        from fastnet.ops.bessel import _gamma_density, _gammainc

        a, x = (v.astype(np.float64) for v in ctx.saved)
        step = 1e-5 * a
        by_a = (_gammainc(a + step, x) - _gammainc(a - step, x)) / (2 * step)
        return (grad * (-by_a / _gamma_density(a, x))).astype(grad.dtype), None


def standard_gamma(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Gamma numbers of rate 1 with the concentrations given, and a gradient to these."""
    check_tensor("_standard_gamma", input)
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"_standard_gamma: not implemented for {input.dtype}")
    return StandardGamma.apply(input, generator)


# ---- in place ------------------------------------------------------------------------------------------------------


def _refill(self: Tensor, array: Any) -> Tensor:
    recorded = recorded_in_place(self)
    writeable(self)[...] = array
    self._version_counter[0] += 1
    if recorded:
        rebase(self, Fill.apply(old_value(self, True)), "random numbers")
    return self


def uniform_(self: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with uniform numbers from [a, b)."""
    if not a <= b:
        raise InputError(f"uniform_ expects to return a [from, to) range, but found from={a} > to={b}")
    return _refill(
        self,
        _draw(
            "uniform", tuple(self._data.shape), generator, self.device, low=a, high=b, dtype=_float_dtype(self.dtype)
        ),
    )


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers."""
    if not std >= 0:
        raise InputError(f"normal expects std >= 0.0, but found std {std}")
    return _refill(
        self,
        _draw(
            "normal",
            tuple(self._data.shape),
            generator,
            self.device,
            mean=mean,
            std=std,
            dtype=_float_dtype(self.dtype),
        ),
    )


def bernoulli_(self: Tensor, p: float | Tensor = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 with probability p, a number or a tensor that is broadcast, else 0."""
    if isinstance(p, Tensor):
        if not p.dtype.is_floating_point:
            raise KindError(f"expected probabilities tensor to have floating type, got {p.dtype}")
        return _refill(self, _bernoulli(namespace(p._data).broadcast_to(p._data, self._data.shape), generator))
    if not 0 <= p <= 1:
        raise InputError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
    return _refill(self, _draw("uniform", tuple(self._data.shape), generator, self.device) < p)


def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponentially distributed numbers of rate ``lambd``."""
    if not lambd > 0:
        raise InputError(f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    u = _draw("uniform", tuple(self._data.shape), generator, self.device)
    return _refill(self, -namespace(u).log1p(-u) / lambd)


def log_normal_(self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers whose logarithms are normal."""
    if not std > 0:
        raise InputError(f"log_normal_ expects std > 0.0, but found std={std}")
    return _refill(self, np.exp(_draw("normal", tuple(self._data.shape), generator, self.device, mean=mean, std=std)))


def cauchy_(self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers of the Cauchy distribution."""
    if not sigma > 0:
        raise InputError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma}")
    u = _draw("uniform", tuple(self._data.shape), generator, self.device)
    return _refill(self, median + sigma * np.tan(np.pi * (u - 0.5)))


def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with the number of trials until one of probability p succeeds."""
    if not 0 < p < 1:
        raise InputError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    u = _draw("uniform", tuple(self._data.shape), generator, self.device)
    return _refill(self, np.ceil(np.log1p(-u) / np.log1p(-p)).clip(1))


def random_(self: Tensor, low: int = 0, high: int | None = None, *, generator: Generator | None = None) -> Tensor:
    """Fill with integers from low up to high, which is left out; by default all that the dtype holds exactly."""
    if high is None:
        low, high = (
            (0, low)
            if low
            else (0, 2**24 if self.dtype.is_floating_point else min(2 ** (8 * self.dtype.itemsize - 1), 2**63 - 1))
        )
    return _refill(self, randint(low, high, tuple(self._data.shape), generator=generator, device=self.device)._data)
