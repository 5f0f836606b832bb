"""How tensors print: PyTorch's text, letter for letter."""

import itertools
import re

import numpy as np
import pytest

import fastnet

DTYPES = ("float32", "float64", "float16", "bfloat16", "int32", "int64", "uint8", "bool")
SHAPES = [(), (1,), (5,), (0,), (2, 0), (3, 4), (2, 3, 4), (40,), (1001,), (7, 200), (30, 40), (8, 8, 30), (1, 1, 1, 1)]
SCALES = (1.0, 1e-3, 1e-6, 100.0, 1e5, 1e10)


def text_of(library, array, dtype):
    t = library.tensor(array.tolist(), dtype=getattr(library, dtype)).reshape(array.shape)
    return repr(t).replace("torch.", "fastnet.")


@pytest.mark.parametrize("dtype", DTYPES)
def test_text_equals_pytorch(dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    for shape, scale in itertools.product(SHAPES, SCALES):
        if dtype in ("float16",) and scale > 1e4:
            continue
        x = rng.standard_normal(shape) * scale
        for values in (
            x,
            np.round(x),
            np.where(rng.random(shape) < 0.3, rng.choice([np.nan, np.inf, -np.inf, 0], shape), x),
        ):
            if dtype in ("int32", "int64"):
                values = np.nan_to_num(np.round(values), posinf=7, neginf=-7).clip(-(2**31), 2**31 - 1).astype(int)
            elif dtype == "uint8":
                values = np.abs(np.nan_to_num(values, posinf=7, neginf=7)).astype(int) % 256
            elif dtype == "bool":
                values = values > 0
            got, want = (text_of(library, values, dtype) for library in (fastnet, torch))
            # "fastnet.float64" is longer than "torch.float64": it may need a line of its own sooner.
            got, want = (re.sub(r",\s+dtype", ", dtype", text) for text in (got, want))
            assert got == want, (shape, scale)


def _settings(library, **options):
    library.set_printoptions(**options)
    try:
        x = library.arange(0, 2.0, 0.01)
        return [repr(x), repr(x.reshape(20, 10)[:4] * 1e-5), repr(library.arange(2000).reshape(40, 50))]
    finally:
        library.set_printoptions(profile="default")


@pytest.mark.parametrize(
    "options",
    [
        {"precision": 2},
        {"threshold": 10},
        {"edgeitems": 1, "threshold": 5},
        {"linewidth": 40},
        {"sci_mode": True},
        {"sci_mode": False},
        {"profile": "short"},
        {"profile": "full", "linewidth": 200},
    ],
)
def test_options(options):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    assert _settings(fastnet, **options) == _settings(torch, **options)


GRAPHS = {
    "leaf": lambda t, x: x,
    "add": lambda t, x: x + 1,
    "sub": lambda t, x: x - x,
    "mul": lambda t, x: x * 2,
    "div": lambda t, x: x / 2,
    "neg": lambda t, x: -x,
    "pow": lambda t, x: x**2,
    "sum": lambda t, x: x.sum(),
    "sum dim": lambda t, x: x.sum(0),
    "mean": lambda t, x: x.mean(),
    "mean dim": lambda t, x: x.mean(1),
    "exp": lambda t, x: x.exp(),
    "relu": lambda t, x: x.relu(),
    "sigmoid": lambda t, x: x.sigmoid(),
    "tanh": lambda t, x: x.tanh(),
    "select": lambda t, x: x[0],
    "slice": lambda t, x: x[:1],
    "index": lambda t, x: x[[0, 0]],
    "view": lambda t, x: x.view(-1),
    "t": lambda t, x: x.t(),
    "permute": lambda t, x: x.permute(1, 0),
    "transpose": lambda t, x: x.transpose(0, 1),
    "unsqueeze": lambda t, x: x.unsqueeze(0),
    "squeeze": lambda t, x: x[None].squeeze(),
    "expand": lambda t, x: x[None].expand(2, 2, 2),
    "cat": lambda t, x: t.cat([x, x]),
    "stack": lambda t, x: t.stack([x, x]),
    "clone": lambda t, x: x.clone(),
    "where": lambda t, x: t.where(x > 0, x, 0.0),
    "cumsum": lambda t, x: x.cumsum(0),
    "copy slices": lambda t, x: _assigned(x * 1),
    "to": lambda t, x: x.double(),
    "long": lambda t, x: x.detach().repeat(1, 5).requires_grad_() * 1,
    "prod": lambda t, x: x.prod(),
    "abs": lambda t, x: x.abs(),
    "log": lambda t, x: (x * x).log(),
    "sqrt": lambda t, x: (x * x).sqrt(),
    "clamp": lambda t, x: x.clamp(0, 1),
    "gather": lambda t, x: x.gather(0, t.tensor([[0, 1]])),
    "masked_fill": lambda t, x: x.masked_fill(x > 0, 1.0),
}


def _assigned(x):
    x[0] = 0.0
    return x


@pytest.mark.parametrize("case", GRAPHS)
def test_grad_fn_equals_pytorch(case):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    texts = []
    for library in (torch, fastnet):
        x = library.tensor([[1.5, -2.0], [0.25, 3.0]], requires_grad=True)
        texts.append(repr(GRAPHS[case](library, x)).replace("torch.", "fastnet."))
    assert texts[1] == texts[0]


def test_named_tuples_and_sizes():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for call in (
        lambda t: t.tensor([3.0, 1.0]).max(0),
        lambda t: t.tensor([3.0, 1.0]).sort(),
        lambda t: t.tensor([3.0, 1.0]).topk(1),
        lambda t: t.tensor([3.0, 1.0]).median(0),
        lambda t: t.zeros(2, 3).shape,
        lambda t: t.zeros(2, 3).shape[1:],
        lambda t: t.float32,
        lambda t: t.device("cuda", 1),
        lambda t: t.finfo(t.float32).eps,
        lambda t: t.iinfo(t.int32),
    ):
        assert repr(call(fastnet)) == repr(call(torch)).replace("torch.", "fastnet.")


def test_format():
    assert f"{fastnet.tensor(1.5):.3f}" == "1.500"
    assert f"{fastnet.tensor(3):5d}" == "    3"
    assert f"{fastnet.tensor(2.0)}" == "2.0"
    assert f"{fastnet.tensor([2.0])}" == "tensor([2.])"
