"""Bessel functions, the normal distribution, incomplete gamma functions, Hurwitz's zeta; windows; filling at random."""

from __future__ import annotations

from typing import Any

from calls import Call


def _far(I: Any, *shape: int) -> Any:
    return I(*shape) * 3


def _up(x: Any) -> Any:
    """PyTorch computes gradients of bfloat16 in bfloat16."""
    return x.float() if x.element_size() == 2 else x


def _shapes(t: Any, I: Any) -> Any:
    return t.tensor([0.5, 1.0, 2.5, 4.0]).to(I(1).dtype)


DIFFERENTIABLE: dict[str, Call] = {
    "i0e": lambda t, I: t.special.i0e(_far(I, 9)),
    "i1": lambda t, I: t.special.i1(_up(I(9))),
    "i1e": lambda t, I: t.special.i1e(_up(_far(I, 9))),
    "ndtr": lambda t, I: t.special.ndtr(I(9)),
    "ndtri": lambda t, I: t.special.ndtri(I.unit(9) * 0.4 + 0.5),
    "log_ndtr": lambda t, I: t.special.log_ndtr(_far(I, 9)),
    "entr": lambda t, I: t.special.entr(I.positive(9)),
    "erfcx": lambda t, I: t.special.erfcx(I(9)),
    "xlog1py": lambda t, I: t.special.xlog1py(I(3, 4), I.positive(4)),
    "xlog1py of a number": lambda t, I: t.special.xlog1py(2, I.positive(4)) + t.special.xlog1py(I(4), 3.0),
    "zeta": lambda t, I: t.special.zeta(t.tensor([1.5, 2.0, 3.5, 4.0]).to(I(1).dtype), I.positive(4)),
    "igamma": lambda t, I: t.igamma(_shapes(t, I), I.positive(4)),
    "igammac": lambda t, I: t.special.gammaincc(_shapes(t, I), I.positive(4)),
    "x.polygamma": lambda t, I: I.positive(5).polygamma(2) + t.polygamma(3, I.positive(5)),
}
DIFFERENTIABLE |= {  # times numbers: what should be zero is so up to rounding
    f"windows.{name} {options}": lambda t, I, n=name, o=options: (
        getattr(t.signal.windows, n)(6, dtype=t.float64, **o) * I(6).double()
    )
    for name, options in (
        ("bartlett", {}),
        ("bartlett", {"sym": False}),
        ("blackman", {}),
        ("cosine", {"sym": False}),
        ("cosine", {}),
        ("exponential", {"tau": 2.0}),
        ("exponential", {"sym": False, "center": 1.5}),
        ("gaussian", {"std": 1.5}),
        ("gaussian", {"sym": False}),
        ("general_cosine", {"a": [0.4, 0.3, 0.2]}),
        ("general_hamming", {"alpha": 0.6, "sym": False}),
        ("hamming", {}),
        ("hann", {"sym": False}),
        ("kaiser", {}),
        ("kaiser", {"beta": 3.0, "sym": False}),
        ("nuttall", {}),
    )
}

DIFFERENTIABLE |= {
    "bartlett_window": lambda t, I: t.bartlett_window(6, dtype=t.float64) * I(6).double(),
    "bartlett_window symmetric": lambda t, I: t.bartlett_window(6, False, dtype=t.float64) * I(6).double(),
    "kaiser_window": lambda t, I: t.kaiser_window(6, dtype=t.float64) * I(6).double(),
    "kaiser_window symmetric": lambda t, I: t.kaiser_window(6, False, 4.0, dtype=t.float64) * I(6).double(),
}

_BESSEL = (
    "airy_ai bessel_j0 bessel_j1 bessel_y0 bessel_y1 modified_bessel_i0 modified_bessel_i1 modified_bessel_k0 "
    "modified_bessel_k1 scaled_modified_bessel_k0 scaled_modified_bessel_k1 spherical_bessel_j0"
)

PLAIN: dict[str, Call] = {
    f"special.{name}": lambda t, I, n=name: getattr(t.special, n)(
        t.tensor([0.3, 0.9, 1.7, 2.6, 4.1], dtype=t.float64)
    ).float()
    for name in _BESSEL.split()
}
PLAIN |= {
    "special.bessel_j0 of integers": lambda t, I: t.special.bessel_j0(t.arange(3)),
    "special.spherical_bessel_j0 at the ends": lambda t, I: t.special.spherical_bessel_j0(
        t.tensor([0.0, float("inf"), float("nan")])
    ),
    "special.entr at the ends": lambda t, I: t.special.entr(t.tensor([0.0, -1.0, 1.0, float("nan")])),
    "special.zeta at its pole": lambda t, I: t.special.zeta(t.tensor([1.0, 2.0, 3.0]), t.tensor([1.0, 1.0, 2.0])),
    "igamma at the ends": lambda t, I: t.igamma(t.tensor([1.0, 2.0, 0.5]), t.tensor([0.0, float("inf"), 1.0])),
    "windows of one point": lambda t, I: t.cat(
        [getattr(t.signal.windows, n)(1) for n in ("bartlett", "cosine", "gaussian", "hann", "kaiser", "exponential")]
    ),
    "windows of no points": lambda t, I: t.signal.windows.hann(0, dtype=t.float64),
    "exponential_ is positive": lambda t, I: t.empty(200).exponential_(2.0) >= 0,
    "geometric_ counts from one": lambda t, I: t.empty(200).geometric_(0.5) >= 1,
    "log_normal_ is positive": lambda t, I: t.empty(200).log_normal_(0.5, 1.0) > 0,
    "cauchy_ is finite": lambda t, I: t.isfinite(t.empty(200, dtype=t.float64).cauchy_(1.0, 2.0)),
}

REFUSED: dict[str, Call] = {
    "igamma's first gradient": lambda t, I: t.igamma(I.positive(2), I.positive(2)).sum().backward(),
    "igamma of integers": lambda t, I: t.igamma(t.arange(3), t.arange(3)),
    "windows of fewer than none": lambda t, I: t.signal.windows.hann(-1),
    "windows of integers": lambda t, I: t.signal.windows.hann(4, dtype=t.int64),
    "exponential window of no width": lambda t, I: t.signal.windows.exponential(4, tau=0.0),
    "exponential window, symmetric with a centre": lambda t, I: t.signal.windows.exponential(4, center=1.0),
    "kaiser window below zero": lambda t, I: t.signal.windows.kaiser(4, beta=-1.0),
    "general_cosine of nothing": lambda t, I: t.signal.windows.general_cosine(4, a=[]),
    "exponential_ rate": lambda t, I: t.empty(2).exponential_(0.0),
    "geometric_ probability": lambda t, I: t.empty(2).geometric_(1.5),
    "cauchy_ width": lambda t, I: t.empty(2).cauchy_(0.0, -1.0),
}
