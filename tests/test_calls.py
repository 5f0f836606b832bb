"""The table of calls under fastnet and, when it is installed, PyTorch: values, dtypes, gradients, refusals."""

import numpy as np
import pytest
from calls import DIFFERENTIABLE, PLAIN, REFUSED, Inputs

import fastnet
from fastnet.autograd import gradcheck

NO_GRADIENT_TO_CHECK = {"floor", "ceil", "sign", "round", "trunc"}  # 0 almost everywhere
ERRORS = (ValueError, TypeError, IndexError, RuntimeError, AssertionError)


def torch_or_skip():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def plain(x):
    """Values as float64 or int64, whichever library they come from."""
    if x.dtype.is_floating_point:
        return np.asarray(x.detach().double().tolist(), np.float64)
    return np.asarray(x.tolist())


def name_of(dtype):
    return str(dtype).split(".")[-1]


@pytest.mark.parametrize("case", DIFFERENTIABLE)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_values_and_gradients_equal_pytorch(case, dtype):
    torch = torch_or_skip()
    # float32: a handful of roundings on numbers of size 1. bfloat16: each library rounds each step to 8 bits.
    rtol, atol = {"float64": (1e-10, 1e-12), "float32": (2e-5, 2e-6), "bfloat16": (4e-2, 4e-2)}[dtype]
    results = []
    for library in (torch, fastnet):
        inputs = Inputs(library, dtype, grad=True)
        try:
            out = DIFFERENTIABLE[case](library, inputs)
        except NotImplementedError as error:
            if library is torch and dtype == "bfloat16":
                pytest.skip(f"PyTorch has no bfloat16 form: {error}")
            raise
        weight = np.random.default_rng(1).standard_normal(tuple(out.shape))
        (out * library.tensor(weight.tolist(), dtype=out.dtype).reshape(out.shape)).sum().backward()
        results.append((out, [t.grad for t in inputs.made]))
    (want, want_grads), (got, got_grads) = results
    assert tuple(got.shape) == tuple(want.shape)
    assert name_of(got.dtype) == name_of(want.dtype)
    np.testing.assert_allclose(plain(got), plain(want), rtol, atol)
    for g, w in zip(got_grads, want_grads, strict=True):
        assert (g is None) == (w is None)
        if g is not None:
            assert name_of(g.dtype) == name_of(w.dtype)
            assert tuple(g.shape) == tuple(w.shape)
            np.testing.assert_allclose(plain(g), plain(w), rtol, atol)


@pytest.mark.parametrize("case", [c for c in DIFFERENTIABLE if c not in NO_GRADIENT_TO_CHECK])
def test_gradients_equal_differences(case):
    first = Inputs(fastnet, "float64", grad=True)
    DIFFERENTIABLE[case](fastnet, first)
    made = first.made

    class Again(Inputs):  # the same leaves again at every evaluation
        def __init__(self):
            super().__init__(fastnet, "float64", grad=True)
            self.waiting = list(made)

        def _tensor(self, array, grad):
            return self.waiting.pop(0) if grad else super()._tensor(array, grad)

    assert gradcheck(lambda *leaves: DIFFERENTIABLE[case](fastnet, Again()), made)


@pytest.mark.parametrize("case", PLAIN)
def test_results_equal_pytorch(case):
    torch = torch_or_skip()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns of degenerate statistics
        want = PLAIN[case](torch, Inputs(torch, "float32", grad=False))
        got = PLAIN[case](fastnet, Inputs(fastnet, "float32", grad=False))
    assert tuple(got.shape) == tuple(want.shape)
    assert name_of(got.dtype) == name_of(want.dtype)
    np.testing.assert_allclose(plain(got), plain(want), 1e-6)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    """With words, and by an error of the kind that API.md names."""
    with pytest.raises(ERRORS) as caught:
        REFUSED[case](fastnet, Inputs(fastnet, "float32", grad=True))
    assert len(str(caught.value)) > 8, "an error must say what was wrong"


# Of other kinds than PyTorch's, and why.
OTHER_KINDS = {
    "unfold of a matrix": "an IndexError about the dimension of a call inside",
    "gather index": "an index out of range is an IndexError wherever it is found",
    "F multi_margin class": "so is a class",
    "interpolate mode": "NotImplementedError: PyTorch has the mode",
}


@pytest.mark.parametrize("case", [case for case in REFUSED if case not in OTHER_KINDS])
def test_caught_as_pytorch_errors_are(case):
    """What is written for PyTorch's error catches ours; its assertions are ValueErrors here."""
    torch = torch_or_skip()
    # ZeroDivisionError and NotImplementedError are PyTorch's own words for some of these.
    with pytest.raises((*ERRORS, ZeroDivisionError, NotImplementedError)) as theirs:
        REFUSED[case](torch, Inputs(torch, "float32", grad=True))
    with pytest.raises(ERRORS) as ours:
        REFUSED[case](fastnet, Inputs(fastnet, "float32", grad=True))
    kind = next(k for k in (*ERRORS, ZeroDivisionError) if isinstance(theirs.value, k))
    kind = ValueError if kind is AssertionError else kind
    assert isinstance(ours.value, kind), f"{theirs.value!r} of PyTorch, {ours.value!r} here"


@pytest.mark.parametrize(
    "a", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
)
def test_promotion_table(a):
    torch = torch_or_skip()
    for b in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"):
        assert name_of(fastnet.promote_types(getattr(fastnet, a), getattr(fastnet, b))) == name_of(
            torch.promote_types(getattr(torch, a), getattr(torch, b))
        )
        for shape_a in ((), (2,)):
            for shape_b in ((), (2,)):
                want = torch.ones(shape_a, dtype=getattr(torch, a)) * torch.ones(shape_b, dtype=getattr(torch, b))
                got = fastnet.ones(shape_a, dtype=getattr(fastnet, a)) * fastnet.ones(
                    shape_b, dtype=getattr(fastnet, b)
                )
                assert name_of(got.dtype) == name_of(want.dtype), (a, b, shape_a, shape_b)
    for scalar in (True, 2, 2.5):
        want, got = torch.ones(2, dtype=getattr(torch, a)) * scalar, fastnet.ones(2, dtype=getattr(fastnet, a)) * scalar
        assert name_of(got.dtype) == name_of(want.dtype), (a, scalar)
