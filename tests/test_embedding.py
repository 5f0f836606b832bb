"""embedding and its gradient: emulated kernels against NumPy in every schedule and config, layers against PyTorch."""

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import kernels, nn, reference
from fastnet.kernels import _runtime

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
# rows, dim, count: one element, no rows named, odd sizes, runs within a chunk, runs over many chunks, whole vectors
PROBLEMS = [(1, 1, 1), (4, 3, 0), (7, 33, 50), (5, 8, 200), (2, 24, 150), (1, 5, 300), (300, 64, 90), (9, 40, 1000)]


def name(dtype):
    return np.dtype(dtype).name


def extension():
    return _runtime.extension_for(np.empty(0))


def problem(rng, rows, dim, count, dtype):
    index = rng.integers(0, rows, count)
    if count > 3 and rng.integers(2):  # one row has most positions
        index[rng.random(count) < 0.7] = rng.integers(rows)
    return rng.standard_normal((rows, dim)).astype(dtype), rng.standard_normal((count, dim)).astype(dtype), index


def summed(grad, index, rows, padding=None):
    """The gradient in float64, and the sum of magnitudes and number of terms for the bound."""
    keep = (index >= 0) & (index < rows) & (index != (-1 if padding is None else padding))
    want, size, terms = (np.zeros((rows, grad.shape[1])) for _ in range(3))
    np.add.at(want, index[keep], grad[keep].astype(np.float64))
    np.add.at(size, index[keep], np.abs(grad[keep].astype(np.float64)))
    np.add.at(terms, index[keep], 1)
    return want, size, terms


def bound(size, terms, dtype):
    # Any order: one rounding of the accumulator a term, each at most eps * the sum of magnitudes; one of the result.
    accumulate = epsilon(np.float64 if dtype == np.float64 else np.float32)
    return size * (terms * accumulate + epsilon(dtype)) + (2.0**-25 if dtype == np.float16 else 0)


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_kernels(dtype, how):
    rng = np.random.default_rng(0)
    for rows, dim, count in PROBLEMS:
        weight, grad, index = problem(rng, rows, dim, count, dtype)
        with kernels.use("emulated", **how), kernels.trace() as ran:
            got = kernels.embedding(weight, index)
            back = kernels.embedding_backward(grad, index, rows)
        assert ran.names == (["embedding", "embedding_backward"] if count else [])
        assert got.tobytes() == reference.embedding(weight, index).tobytes() == weight[index].tobytes()
        want, size, terms = summed(grad, index, rows)
        assert_close(back, want, bound(size, terms, dtype), f"{rows} {dim} {count}")
        assert_close(reference.embedding_backward(grad, index, rows), want, bound(size, terms, dtype), "reference")


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_random_problems(dtype, full):
    rng = np.random.default_rng(1)
    for i in range(300 if full else 24):
        rows, dim, count = (int(2 ** rng.uniform(0, high)) for high in (8, 7, 11))
        weight, grad, index = problem(rng, rows, dim, count, dtype)
        if i % 3 == 1:  # every row starts off 16 bytes
            weight, grad = (np.concatenate([x.ravel()[:1], x.ravel()])[1:].reshape(x.shape) for x in (weight, grad))
        elif i % 3 == 2:
            weight, grad = np.asfortranarray(weight), np.repeat(grad, 2, axis=1)[:, ::2]
        padding = int(rng.integers(rows)) if i % 2 else None
        out_of_range = index.copy()
        out_of_range[rng.random(count) < 0.1] = rng.choice([-1, rows, 2**40])
        with kernels.use("emulated", **schedule(i)):
            assert kernels.embedding(weight, index.astype(np.int32)).tobytes() == weight[index].tobytes()
            back = kernels.embedding_backward(grad, out_of_range, rows, padding_idx=padding)
        want, size, terms = summed(grad, out_of_range, rows, padding)
        assert_close(back, want, bound(size, terms, dtype), f"{rows} {dim} {count}")
        same = reference.embedding_backward(grad, out_of_range, rows, padding_idx=padding)
        assert_close(same, want, bound(size, terms, dtype), "reference")


@pytest.mark.parametrize("team", [1, 4, 32, 256])
@pytest.mark.parametrize("chunk", [1, 2, 7, 32, 1000])
def test_every_config_in_every_schedule(team, chunk):
    """The same bits in every schedule; runs that end with a chunk, cross one end and cover whole chunks."""
    rng = np.random.default_rng(2)
    config = extension().EmbeddingConfig(team=team, chunk=chunk)
    for rows, dim in [(6, 12), (3, 5)]:
        index = np.repeat(np.arange(rows), [14, 1, 0, 7, 30, 12][:rows])
        weight, grad, _ = problem(rng, rows, dim, len(index), np.float32)
        index = rng.permutation(index)
        want, size, terms = summed(grad, index, rows)
        results = []
        for how in SCHEDULES:
            with kernels.use("emulated", **how):
                assert kernels.embedding(weight, index, config=config).tobytes() == weight[index].tobytes()
                results.append(kernels.embedding_backward(grad, index, rows, config=config))
        assert_close(results[0], want, bound(size, terms, np.float32), f"{config}")
        assert len({r.tobytes() for r in results}) == 1


def test_nan_infinity_and_rows_that_are_not_named():
    grad = np.array([[np.nan, 1], [np.inf, 1], [-np.inf, 1], [1, 1]], np.float32)
    for implementation in (kernels, reference):
        with kernels.use("emulated"):
            out = implementation.embedding_backward(grad, np.array([0, 1, 1, 2]), 5)
        np.testing.assert_array_equal(out, [[np.nan, 1], [np.nan, 2], [1, 1], [0, 0], [0, 0]])


def test_configs():
    ext = extension()
    rng = np.random.default_rng(3)
    for _ in range(500):
        config = ext.embedding_config(int(2 ** rng.uniform(0, 40)))
        assert config.team in (4, 8, 16, 32, 64, 128, 256)
        assert str(config) == f"embedding(team={config.team}, chunk={config.chunk})"
    for arguments in ({"team": 3, "chunk": 1}, {"team": 512, "chunk": 1}, {"team": 1, "chunk": 0}):
        with pytest.raises(ValueError, match="embedding"):
            ext.EmbeddingConfig(**arguments)
    with kernels.use("emulated"), pytest.raises(TypeError, match="config is a int"):
        kernels.embedding(np.ones((2, 2)), np.zeros(1, int), config=3)


@pytest.mark.parametrize("implementation", [kernels, reference], ids=["kernels", "reference"])
def test_bad_arguments(implementation):
    w, i = np.ones((3, 2), np.float32), np.zeros(4, np.int64)
    for call, error, message in [
        (lambda: implementation.embedding(w[0], i), ValueError, "weight has 1 dimensions"),
        (lambda: implementation.embedding(w, i[None]), ValueError, "index has 2 dimensions"),
        (lambda: implementation.embedding(w, i.astype(float)), TypeError, "index has dtype float64"),
        (lambda: implementation.embedding(w.astype(int), i), TypeError, "weight has dtype int64"),
        (lambda: implementation.embedding(w, i + 3), IndexError, "index out of range"),
        (lambda: implementation.embedding(w, i - 1), IndexError, "index out of range"),
        (lambda: implementation.embedding_backward(w, i, 3), ValueError, "index has 4 elements"),
        (lambda: implementation.embedding_backward(w, i[:3], -1), ValueError, "rows is -1"),
        (lambda: implementation.embedding_backward(w, i[:3], 3, padding_idx=3), ValueError, "padding_idx is 3"),
    ]:
        with kernels.use("emulated"), pytest.raises(error, match=message):
            call()


# ---- the layers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reference", "emulated"])
@pytest.mark.parametrize(
    "options",
    [{}, {"padding_idx": -2}, {"scale_grad_by_freq": True}, {"max_norm": 1.0}, {"max_norm": 0.7, "norm_type": 1.0}],
)
def test_embedding_equals_pytorch(options, mode):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    table, index = rng.standard_normal((7, 5)).astype(np.float32), rng.integers(0, 7, (4, 6))
    results = []
    for library in (torch, fastnet):
        with kernels.use(mode):
            layer = library.nn.Embedding(7, 5, **options)
            layer.load_state_dict({"weight": library.tensor(table)})
            out = layer(library.tensor(index))
            (out * library.arange(out.numel()).reshape(out.shape)).sum().backward()
            results.append(
                (out.detach().numpy(), layer.weight.grad.numpy(), layer.weight.detach().numpy(), repr(layer))
            )
    for w, g in zip(*results, strict=True):
        if isinstance(w, str):
            assert g == w
        else:
            np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["mean", "sum", "max"])
@pytest.mark.parametrize("padding_idx", [None, 2])
@pytest.mark.parametrize("offsets", [None, [0, 3, 3, 10], "last"])
def test_embedding_bag_equals_pytorch(mode, padding_idx, offsets):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    table, index = rng.standard_normal((7, 5)), rng.integers(0, 7, 12 if offsets else (3, 4))
    weights = rng.standard_normal(index.shape) if mode == "sum" else None
    results = []
    for library in (torch, fastnet):
        last = offsets == "last"
        layer = library.nn.EmbeddingBag(7, 5, mode=mode, padding_idx=padding_idx, include_last_offset=last)
        layer.double().load_state_dict({"weight": library.tensor(table)})
        given = {} if weights is None else {"per_sample_weights": library.tensor(weights)}
        if offsets:
            given["offsets"] = library.tensor([0, 5, 12] if last else offsets)
        out = layer(library.tensor(index), **given)
        (out * library.arange(out.numel()).reshape(out.shape)).sum().backward()
        results.append((out.detach().numpy(), layer.weight.grad.numpy(), repr(layer)))
    np.testing.assert_allclose(results[1][0], results[0][0], atol=1e-12)
    np.testing.assert_allclose(results[1][1], results[0][1], atol=1e-12)
    assert results[1][2] == results[0][2]


def test_from_pretrained_and_errors():
    table = fastnet.randn(4, 3)
    layer = nn.Embedding.from_pretrained(table, padding_idx=1)
    assert not layer.weight.requires_grad
    assert layer.weight.data_ptr() == table.data_ptr()
    for wrong in (
        lambda: nn.Embedding(3, 2, padding_idx=3),
        lambda: nn.Embedding(3, 2, _weight=fastnet.ones(2, 2)),
        lambda: nn.Embedding.from_pretrained(fastnet.ones(3)),
        lambda: nn.Embedding(3, 2)(fastnet.tensor([1.0])),
        lambda: nn.Embedding(3, 2)(fastnet.tensor([3])),
        lambda: nn.EmbeddingBag(3, 2)(fastnet.tensor([1])),
        lambda: nn.EmbeddingBag(3, 2, mode="min")(fastnet.tensor([[1]])),
        lambda: nn.EmbeddingBag(3, 2)(fastnet.tensor([[1]]), fastnet.tensor([0])),
    ):
        with pytest.raises((ValueError, TypeError, IndexError, AssertionError)):
            wrong()
