"""The linear layer fused with cross-entropy: PyTorch's values and gradients, its two parts, and the memory it saves."""

import tracemalloc

import numpy as np
import pytest

import fastnet
from fastnet import kernels

OPTIONS = [
    {},
    {"reduction": "sum", "label_smoothing": 0.1},
    {"reduction": "none", "ignore_index": 2},
    {"reduction": "mean", "ignore_index": 1, "label_smoothing": 0.2},
]


def inputs(rows=11, features=6, classes=9, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(rows, features), (classes, features), (classes,)]
    return [rng.standard_normal(s).astype(np.float32) for s in shapes], rng.integers(0, classes, rows)


def run(library, call, arrays, target, with_bias, options):
    leaves = [library.tensor(a).requires_grad_() for a in arrays]
    if "weight" in options:
        options = {**options, "weight": library.tensor(options["weight"])}
    bias = {"linear_bias": leaves[2]} if with_bias else {}
    loss = call(leaves[0], leaves[1], library.tensor(target), **bias, **options)
    upstream = np.random.default_rng(9).standard_normal(tuple(loss.shape)).astype(np.float32)
    (loss * library.tensor(upstream)).sum().backward()
    return [loss, *(x.grad for x in leaves[: 2 + with_bias])]


@pytest.mark.parametrize("mode", ["reference", "emulated"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_parity_with_torch(options, weighted, mode):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: the peer of this test")

    def peer(x, w, target, linear_bias=None, **how):
        logits = torch.nn.functional.linear(x, w, linear_bias)
        return torch.nn.functional.cross_entropy(logits, target, **how)

    arrays, target = inputs()
    if weighted:
        options = {**options, "weight": np.linspace(0.5, 2, 9, dtype=np.float32)}
    for with_bias in (False, True):
        want = run(torch, peer, arrays, target, with_bias, options)
        for chunk in (None, 1, 4, 11):
            with kernels.use(mode):
                how = {**options, "chunk_rows": chunk}
                got = run(fastnet, fastnet.nn.functional.linear_cross_entropy, arrays, target, with_bias, how)
            for a, b in zip(got, want, strict=True):
                np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=2e-6, atol=2e-6)


def test_nothing_that_counts_and_one_row():
    call, arrays = fastnet.nn.functional.linear_cross_entropy, inputs()[0]
    x, w = (fastnet.tensor(a).requires_grad_() for a in arrays[:2])
    loss = call(x, w, fastnet.full((11,), -100))
    loss.backward()
    assert np.isnan(loss.item())
    assert not x.grad.numpy().any()
    assert not w.grad.numpy().any()
    one = call(x[0], w, fastnet.tensor(3))
    assert one.shape == ()
    np.testing.assert_allclose(one.item(), call(x[:1], w, fastnet.tensor([3])).item(), rtol=1e-6)


def peak(function):
    """Most bytes of arrays at once, and the result."""
    tracemalloc.start()
    try:
        result = function()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


def test_scores_are_never_all_there():
    """A loss and its gradients in less than half the memory of the scores, which its two parts hold several times."""
    (x, w, _), target = inputs(2048, 16, 4096)
    functional, scores = fastnet.nn.functional, 2048 * 4096 * 4

    def training(call):
        leaves = [fastnet.tensor(a).requires_grad_() for a in (x, w)]
        call(*leaves, fastnet.tensor(target)).backward()
        return [a.grad.numpy() for a in leaves]

    fused, got = peak(lambda: training(functional.linear_cross_entropy))
    parts, want = peak(lambda: training(lambda x, w, t: functional.cross_entropy(functional.linear(x, w), t)))
    assert fused < scores / 2 < scores < parts
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("error", "match", "change"),
    [
        (ValueError, "linear_weight", {"linear_weight": fastnet.ones(9, 5)}),
        (ValueError, "linear_bias", {"linear_bias": fastnet.ones(8)}),
        (ValueError, "dtype", {"linear_weight": fastnet.ones(9, 6, dtype=fastnet.float64)}),
        (TypeError, "target", {"target": fastnet.ones(11)}),
        (ValueError, "target", {"target": fastnet.zeros(10, dtype=fastnet.int64)}),
        (ValueError, "weight", {"weight": fastnet.ones(3)}),
        (ValueError, "label_smoothing", {"label_smoothing": 1.5}),
        (ValueError, "reduction", {"reduction": "max"}),
        (ValueError, "chunk_rows", {"chunk_rows": 0}),
        (IndexError, "class", {"target": fastnet.full((11,), 9)}),
    ],
)
def test_errors(error, match, change):
    (x, w, b), target = inputs()
    arguments = {"input": fastnet.tensor(x), "linear_weight": fastnet.tensor(w), "target": fastnet.tensor(target)}
    with pytest.raises(error, match=match):
        fastnet.nn.functional.linear_cross_entropy(**{**arguments, "linear_bias": fastnet.tensor(b), **change})
