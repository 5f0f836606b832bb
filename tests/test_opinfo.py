"""PyTorch's own database of operations, held against fastnet: the samples of every operation that both have must give
the same values, dtypes and gradients. What differs on purpose is listed with its reason."""

from __future__ import annotations

import operator
import types
from typing import Any

import numpy as np
import pytest

import fastnet

torch = pytest.importorskip("torch", reason="needs PyTorch to compare with")
pytest.importorskip("expecttest", reason="PyTorch's database of operations imports expecttest")
from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402

DTYPES = {d: getattr(fastnet, str(d).removeprefix("torch.")) for d in (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.uint8, torch.bool,
    torch.int8, torch.int16,
)}  # fmt: skip
SAMPLES = 5  # of each operation, spread over its list
TOLERANCE = 1e-4

# Results that are drawn, or memory that nobody has written.
DRAWN = (
    "bernoulli", "cauchy", "dropout", "empty", "exponential", "fractional", "geometric", "log_normal", "multinomial",
    "normal", "rand", "rrelu", "uniform", "svd_lowrank", "pca_lowrank",
)  # fmt: skip
TIES = "which of equal elements an index names is not specified"
NO_GRADIENT = "a gradient that is zero, or that PyTorch does not define either"
SIGNS = "the signs of eigenvectors and singular vectors are free"
EMPTY = "the result of an empty sample asks for no gradient"
SCORES = "(N, E) and class indices alone, chunk_rows where PyTorch has options"
DIFFERENT: dict[str, str] = {
    "linalg.eigh": SIGNS,
    "linalg.svd": SIGNS,
    "svd": SIGNS,
    "linalg.householder_product": EMPTY,
    "linalg.lstsq": EMPTY,
    "linalg.lstsq.grad_oriented": EMPTY,
    "linalg.vander": "a scalar is not taken for a vector of one",
    "histogramdd": "the samples' edges do not increase, which is refused here",
    "matrix_exp": "an element 1e5 times smaller than its matrix differs by rounding: 2e-8 of the matrix's norm",
    "nn.functional.linear_cross_entropy": SCORES,
    "nn.functional.linear_cross_entropy.chunked": SCORES,
    "nn.functional.linear_cross_entropy.chunked_none": SCORES,
    "sort": TIES,
    "argsort": TIES,
    "topk": TIES,
    "kthvalue": TIES,
    "mode": TIES,
    "as_strided.partial_views": "the sample is a view of memory that a copy does not carry along",
    "nn.functional.triplet_margin_with_distance_loss": "the sample's distance is a PyTorch module",
    "nextafter": NO_GRADIENT,
    "linalg.matrix_power": NO_GRADIENT,
    "frexp": "the mantissa has no gradient",
    "quantile": "q, the quantile itself, has no gradient",
    "nanquantile": "q, the quantile itself, has no gradient",
    "index_fill": "indices that repeat count once in the value's gradient: the element was written once",
    "nn.functional.batch_norm": "a batch without channels is refused",
    "nn.functional.batch_norm.without_cudnn": "a batch without channels is refused",
    "nn.functional.silu.complex": "no tensor is complex",
    "to": "every sample names a memory format",
    "logcumsumexp": "samples of 1e4, whose gradients neither library has to four digits (against float64)",
    "addr": "bools give int64",
    "sum_to_size": "a sum of no dimension keeps the dtype",
    "to_sparse": "no tensor is sparse",
    "nn.functional.scaled_dot_product_attention": "samples with dropout; tests/test_attention.py compares the others",
}
# Compared in floating point alone: fastnet takes no integers there.
FLOATING = {
    "nn.functional.avg_pool1d", "nn.functional.avg_pool2d", "nn.functional.avg_pool3d", "nn.functional.conv1d",
    "nn.functional.conv2d", "nn.functional.conv3d", "nn.functional.conv_transpose1d", "nn.functional.conv_transpose2d",
    "nn.functional.conv_transpose3d", "nn.functional.cosine_embedding_loss", "nn.functional.margin_ranking_loss",
    "nn.functional.max_pool2d", "nn.functional.max_pool3d", "nn.functional.pairwise_distance",
    "nn.functional.poisson_nll_loss", "nn.functional.triplet_margin_loss",
}  # fmt: skip


class NotHere(Exception):
    """A sample needs what fastnet has not: complex numbers, sparse tensors, small integers."""


def convert(x: Any) -> Any:
    """A sample's argument as fastnet takes it."""
    if isinstance(x, torch.Tensor):
        if x.dtype not in DTYPES or x.layout is not torch.strided:
            raise NotHere
        plain = x.detach().float() if x.dtype is torch.bfloat16 else x.detach()
        made = fastnet.tensor(plain.numpy().copy(), dtype=DTYPES[x.dtype])
        return made.requires_grad_(True) if x.requires_grad else made
    if isinstance(x, torch.dtype):
        if x not in DTYPES:
            raise NotHere
        return DTYPES[x]
    if isinstance(x, torch.device):
        return x.type
    if isinstance(x, (torch.layout, torch.memory_format, torch.Generator, complex)):
        raise NotHere
    if isinstance(x, (list, tuple)):
        return [convert(e) for e in x] if isinstance(x, list) else tuple(convert(e) for e in x)
    if isinstance(x, dict):
        return {k: convert(v) for k, v in x.items()}
    return x


def tensors(x: Any) -> list[Any]:
    if isinstance(x, (torch.Tensor, fastnet.Tensor)):
        return [x]
    if isinstance(x, dict):
        x = list(x.values())
    return [t for y in x for t in tensors(y)] if isinstance(x, (list, tuple)) else []


def twin(info: Any) -> Any:
    """fastnet's function for an entry of the database; None if it has none."""
    op = info.op
    if isinstance(op, types.FunctionType) and (op.__name__ == "<lambda>" or op.__module__.startswith("torch.testing")):
        names = [n for n in op.__code__.co_names if n not in ("torch", "nn", "functional", "F", "linalg", "special")]
        homes = (fastnet, fastnet.nn.functional, fastnet.linalg, fastnet.special, fastnet.Tensor)
        if not all(any(hasattr(h, n) for h in homes) for n in names):
            return None
        here = {**op.__globals__, "torch": fastnet, "F": fastnet.nn.functional}
        return types.FunctionType(op.__code__, here, op.__name__, op.__defaults__, op.__closure__)
    name = info.name
    for prefix, home in (
        ("nn.functional.", fastnet.nn.functional),
        ("linalg.", fastnet.linalg),
        ("special.", fastnet.special),
    ):
        if name.startswith(prefix):
            return getattr(home, name.removeprefix(prefix), None)
    found = getattr(fastnet, name, None)
    if isinstance(found, (fastnet.dtype, types.ModuleType)) or found is None:
        found = getattr(fastnet.Tensor, name, None)
    if isinstance(found, property):
        return found.fget
    if not callable(found):
        return getattr(operator, name, None) if name.startswith("__") else None
    return found


def label(info: Any) -> str:
    return f"{info.name}.{info.variant_test_name}" if info.variant_test_name else info.name


COVERED = {
    label(i): i
    for i in op_db
    if twin(i) is not None and label(i) not in DIFFERENT and not any(d in i.name for d in DRAWN)
}


def same(what: str, got: Any, want: Any) -> None:
    assert isinstance(got, fastnet.Tensor), f"{what}: a {type(got).__name__}"
    assert tuple(got.shape) == tuple(want.shape), what
    assert DTYPES[want.dtype] is got.dtype, f"{what}: {got.dtype}, expected {want.dtype}"
    a, b = got.detach().double().numpy(), want.detach().double().numpy(force=True)
    np.testing.assert_allclose(a, b, TOLERANCE, TOLERANCE, err_msg=what)


def check(info: Any, dtype: Any, grad: bool) -> int:
    """How many samples were compared."""
    function, compared = twin(info), 0
    torch.manual_seed(0)
    samples = list(info.sample_inputs("cpu", dtype, requires_grad=grad))
    for sample in samples[:: max(1, len(samples) // SAMPLES)]:
        given = (sample.input, *sample.args)
        try:
            arguments, options = convert(given), convert(sample.kwargs)
        except NotHere:
            continue
        try:
            want = info.op(*given, **sample.kwargs)
        except RuntimeError:  # a sample that PyTorch itself cannot run on a CPU
            continue
        got = function(*arguments, **options)
        what = f"{label(info)} {dtype} {[tuple(a.shape) if isinstance(a, torch.Tensor) else a for a in given]}"
        if any(t.dtype not in DTYPES for t in tensors(want)):
            continue
        assert len(tensors(got)) == len(tensors(want)), what
        for a, b in zip(tensors(got), tensors(want), strict=True):
            same(what, a, b)
        compared += 1
        if grad:
            _same_gradients(what, sample, (arguments, options), got, want)
    return compared


def _same_gradients(what: str, sample: Any, given: Any, got: Any, want: Any) -> None:
    theirs = [t for t in tensors([sample.input, sample.args, sample.kwargs]) if t.requires_grad]
    mine = [t for t in tensors(given) if t.requires_grad]
    pairs = [(a, b) for a, b in zip(tensors(got), tensors(want), strict=True) if b.requires_grad]
    if not pairs or not theirs:
        return
    weights = [torch.randn_like(b) for _, b in pairs]
    try:
        expected = torch.autograd.grad([b for _, b in pairs], theirs, weights, allow_unused=True)
    except RuntimeError:  # not differentiable there
        return
    found = fastnet.autograd.grad([a for a, _ in pairs], mine, [convert(w) for w in weights], allow_unused=True)
    for a, b in zip(found, expected, strict=True):
        if a is not None and b is not None:
            same(f"gradient of {what}", a, b)
        else:
            rest = b if a is None else a
            assert rest is None or not rest.detach().numpy().any(), f"gradient of {what}: one is None"


def test_most_of_the_database_is_covered():
    assert len(COVERED) >= 430


@pytest.mark.filterwarnings("ignore")  # PyTorch warns of what it will change
@pytest.mark.parametrize("name", sorted(COVERED))
def test_equals_pytorch(name):
    info = COVERED[name]
    compared = 0
    for dtype in (torch.float32,) if name in FLOATING else (torch.float32, torch.int64, torch.bool):
        if dtype in info.supported_dtypes("cpu"):
            floating = dtype.is_floating_point
            compared += check(info, dtype, floating and info.supports_autograd)
    assert compared, "no sample can be compared: list it as different, with the reason"
