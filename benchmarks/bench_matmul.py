"""Matrix products: the layers of GPT-2 and ResNet-50 with their gradients, squares, few rows; and a linear layer with
its bias and GELU in one launch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from fastnet import kernels, reference

from . import shapes
from .cases import EPSILON, Case, Source, dtype_of, load_torch, ours, peers
from .shapes import Product

KERNELS = ("matmul",)


def _operands(source: Source, p: Product, dtype: str) -> tuple[Any, Any]:
    a = source.normal((p.k, p.m), dtype).T if p.layout[0] == "T" else source.normal((p.m, p.k), dtype)
    b = source.normal((p.n, p.k), dtype).T if p.layout[1] == "T" else source.normal((p.k, p.n), dtype)
    return a, b


def nbytes(p: Product, dtype: str) -> int:
    """Bytes of both operands and the result, once each."""
    return dtype_of(dtype).itemsize * (p.m * p.k + p.k * p.n + p.m * p.n)


def problem(extension: Any, p: Product, dtype: str) -> Any:
    """What dispatch sees of the product, on contiguous arrays."""

    def alignment(row: int) -> int:
        return math.gcd(16, row * dtype_of(dtype).itemsize)

    return extension.MatmulProblem(
        p.m,
        p.n,
        p.k,
        dtype,
        a_major="outer" if p.layout[0] == "T" else "k",
        b_major="k" if p.layout[1] == "T" else "outer",
        a_alignment=alignment(p.m if p.layout[0] == "T" else p.k),
        b_alignment=alignment(p.k if p.layout[1] == "T" else p.n),
    )


def _dispatch(p: Product, dtype: str) -> dict[str, Any]:
    """What dispatch chooses, and what the cost model says of the choice."""

    def config(extension: Any) -> Any:
        return extension.matmul_config(problem(extension, p, dtype))

    def estimate(extension: Any, device: str) -> dict[str, Any]:
        posed = problem(extension, p, dtype)
        return extension.matmul_estimate(extension.matmul_config(posed, device), posed, device)

    return {"config": config, "estimate": estimate, "kernels": KERNELS, "counted": "matmul"}


def _bounds(p: Product, dtype: str) -> dict[str, Any]:
    # A sum in float32 lies within 2^-21 sum|a b| of the exact one (the contract), of another such sum twice as far;
    # for N(0, 1) the mean of |a b| is 2 / pi. Then each result is rounded once.
    return {"absolute": 2 * 2.0**-21 * p.k, "relative": 2 * EPSILON[dtype]}


def product_case(p: Product, dtype: str, wanted: tuple[str, ...]) -> Case:
    """One plain product."""
    notes: list[str] = []

    def in_cupy(a: Any, b: Any) -> Any:
        import cupy

        return cupy.matmul(a, b)

    # The compiler leaves a plain product to the library that PyTorch itself calls: no peer of its own.
    asked = tuple(w for w in wanted if w != "compile")
    others = peers(reference.matmul, lambda a, b: a @ b, asked, notes, in_cupy=in_cupy, triton=True)
    return Case(
        "matmul",
        str(p),
        dtype,
        lambda source: _operands(source, p, dtype),
        ours(kernels.matmul) + others,
        spec=reference.matmul,
        flops=2 * p.m * p.n * p.k,
        bytes=nbytes(p, dtype),
        ceiling="matmul",
        notes=notes,
        **_dispatch(p, dtype),
        **_bounds(p, dtype),
    )


def linear_gelu_case(p: Product, dtype: str, wanted: tuple[str, ...]) -> Case:
    """The forward product of a linear layer with its bias and GELU in the same launch."""
    notes: list[str] = []
    torch = load_torch()

    def theirs(x: Any, w: Any, b: Any) -> Any:
        return torch.nn.functional.gelu(torch.nn.functional.linear(x, w.T, b))

    def fused(x: Any, w: Any, b: Any) -> Any:
        return kernels.matmul(x, w, bias=b, activation="gelu")

    def spec(x: Any, w: Any, b: Any) -> Any:
        return reference.matmul(x, w, bias=b, activation="gelu")

    found = ours(fused) + peers(spec, theirs, wanted, notes)
    bounds = _bounds(p, dtype)
    # PyTorch in eager mode rounds the product, |x| < 6 sqrt(K), before GELU (slope at most 1.13), we do not.
    bounds["absolute"] = 1.13 * (bounds["absolute"] + EPSILON[dtype] * 6 * (p.k + 1) ** 0.5)
    return Case(
        "linear_gelu",
        str(p),
        dtype,
        lambda source: (*_operands(source, p, dtype), source.normal((p.n,), dtype)),
        found,
        spec=spec,
        flops=2 * p.m * p.n * p.k,
        bytes=nbytes(p, dtype),
        ceiling="matmul",
        notes=notes,
        **_dispatch(p, dtype),
        **bounds,
    )


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """Plain products of the sets; linear layers with GELU, such as the first of GPT-2's MLP."""
    for dtype in dtypes:
        for p in shapes.products(sets):
            yield product_case(p, dtype, wanted)
        if "small" in sets:
            yield linear_gelu_case(Product(32, 128, 64, "NT"), dtype, wanted)
        if "gpt2" in sets:
            yield linear_gelu_case(Product(8192, 3072, 768, "NT"), dtype, wanted)
            yield linear_gelu_case(Product(8192, 6400, 1600, "NT"), dtype, wanted)
