"""The paths that a GPU takes, on any machine: tensors on ``device="cuda"`` hold the arrays of ``made_up_cupy``, which
obeys CuPy's rules, and kernels are the emulated ones. Everything is held against the CPU's results."""

import numpy as np
import pytest
from calls import DIFFERENTIABLE, PLAIN, REFUSED, Inputs
from made_up_cupy import install

import fastnet
from fastnet import _faults, kernels

ERRORS = (ValueError, TypeError, IndexError, RuntimeError, AssertionError)


@pytest.fixture(scope="module", autouse=True)
def cupy():
    with install() as made_up:
        yield made_up


@pytest.fixture(params=["native", "reference"])
def mode(request):
    """Kernels on device pointers, or array code."""
    with kernels.use(request.param):
        yield request.param


def host(x):
    """Values of tensors, wherever they are, within nested containers."""
    if isinstance(x, fastnet.Tensor):
        x = x.detach().cpu()
        return (x.double() if x.dtype.is_floating_point else x).numpy()
    return [host(e) for e in x] if isinstance(x, (list, tuple)) else x


def on_gpu(call):
    with fastnet.device("cuda"):
        return call()


def same(got, want, rtol, atol):
    if isinstance(want, fastnet.Tensor):
        assert got.dtype is want.dtype
        assert got.shape == want.shape
        np.testing.assert_allclose(host(got), host(want), rtol, atol)
    elif isinstance(want, (list, tuple)):
        for g, w in zip(got, want, strict=True):
            same(g, w, rtol, atol)
    else:
        assert got == want


TOLERANCE = {"float32": (2e-5, 2e-6), "bfloat16": (4e-2, 4e-2)}  # as against PyTorch: tests/test_calls.py


def run_differentiable(case, dtype):
    inputs = Inputs(fastnet, dtype, grad=True)
    out = DIFFERENTIABLE[case](fastnet, inputs)
    weight = np.random.default_rng(1).standard_normal(tuple(out.shape))
    (out * fastnet.tensor(weight, dtype=out.dtype)).sum().backward()
    return [out, *(t.grad for t in inputs.made)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", DIFFERENTIABLE)
def test_values_and_gradients(mode, case, dtype, full):
    if (mode, dtype) == ("reference", "bfloat16") and not full and sum(case.encode()) % 4:
        return  # a quarter by default: most of its code is that of native mode
    if dtype == "bfloat16" and case.startswith("ormqr"):  # which takes none
        with pytest.raises(RuntimeError, match="Low precision"):
            on_gpu(lambda: run_differentiable(case, dtype))
        return
    want = run_differentiable(case, dtype)
    got = on_gpu(lambda: run_differentiable(case, dtype))
    for t in got:
        assert t is None or t.is_cuda
    same(got, want, *TOLERANCE[dtype])


LACKING = {"special.airy_ai"}  # of cupyx.scipy.special


@pytest.mark.parametrize("case", PLAIN)
def test_results(mode, case):
    if case in LACKING:
        with pytest.raises(NotImplementedError, match="has no such function"):
            on_gpu(lambda: PLAIN[case](fastnet, Inputs(fastnet, "float32", grad=False)))
        return
    want = PLAIN[case](fastnet, Inputs(fastnet, "float32", grad=False))
    got = on_gpu(lambda: PLAIN[case](fastnet, Inputs(fastnet, "float32", grad=False)))
    assert got.is_cuda == (want.device != got.device)
    same(got, want, 2e-5, 2e-6)


def refused(case):
    REFUSED[case](fastnet, Inputs(fastnet, "float32", grad=True))
    if fastnet.get_default_device().type == "cuda":
        fastnet.cuda.synchronize()  # what only the data shows is raised by the next call that waits


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    with pytest.raises(ERRORS) as want:
        refused(case)
    with pytest.raises(ERRORS) as got:
        on_gpu(lambda: refused(case))
    assert got.type is want.type
    assert len(str(got.value)) > 8
    forget_faults()


def forget_faults():
    """One fault may set two flags, of a function and of what it calls."""
    for flag in _faults._flags.values():
        flag[...] = 0
