"""What a Tensor is: construction, conversion, printing, memory."""

import copy
import pickle

import numpy as np
import pytest

import fastnet


def test_sharing_memory():
    a = np.zeros(3, np.float32)
    t = fastnet.from_numpy(a)
    t[0] = 1
    assert a[0] == 1
    assert t.numpy() is a
    assert np.shares_memory(t.view(3, 1).numpy(), a)
    assert np.shares_memory(t.detach().numpy(), a)
    assert not np.shares_memory(fastnet.tensor(a).numpy(), a)
    assert np.shares_memory(fastnet.as_tensor(a).numpy(), a)


def test_dlpack_both_ways():
    t = fastnet.arange(6).reshape(2, 3)
    assert np.shares_memory(np.from_dlpack(t), t.numpy())
    a = np.ones(4, np.float32)
    assert np.shares_memory(fastnet.from_dlpack(a).numpy(), a)
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    shared = torch.from_dlpack(t)
    shared[0, 0] = 9
    assert t[0, 0].item() == 9
    assert fastnet.from_dlpack(torch.ones(2)).tolist() == [1, 1]


def test_array_protocol():
    t = fastnet.tensor([1.0, 2.0])
    np.testing.assert_array_equal(np.asarray(t), [1, 2])
    assert np.asarray(t, np.float64).dtype == np.float64
    assert isinstance(np.ones(2, np.float32) * t, fastnet.Tensor)


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t.tensor([1.0, 2.5]),
        lambda t: t.tensor([1.0, 2.0]),
        lambda t: t.tensor(3),
        lambda t: t.tensor([]),
        lambda t: t.tensor([[1, 20], [300, 4]]),
        lambda t: t.tensor([True, False]),
        lambda t: t.tensor([1e-8, 1.0]),
        lambda t: t.tensor([1e10, 1.0]),
        lambda t: t.tensor([float("nan"), float("inf"), 1.0]),
        lambda t: t.zeros(2, 0),
        lambda t: t.arange(2000),
        lambda t: t.zeros(2, 2, 2),
        lambda t: t.tensor([0.1, -100.25]),
        lambda t: t.ones(3).half().float() / 3,
        lambda t: t.arange(2000).reshape(50, 40),
        lambda t: t.tensor([12345.678]),
        lambda t: t.tensor(0.5),
        lambda t: t.arange(40) / 7,
    ],
)
def test_prints_as_pytorch(make):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    assert repr(make(fastnet)) == repr(make(torch)).replace("torch.", "fastnet.")


def test_prints_what_it_is():
    x = fastnet.ones(2, requires_grad=True)
    assert repr(x) == "tensor([1., 1.], requires_grad=True)"
    assert "grad_fn=<" in repr(x * 2)
    assert repr(fastnet.ones(1, dtype=fastnet.bfloat16)) == "tensor([1.], dtype=fastnet.bfloat16)"
    assert f"{fastnet.tensor(1.23456):.2f}" == "1.23"
    assert str(fastnet.float32) == "fastnet.float32"


def test_copies_and_pickles():
    x = fastnet.ones(2, requires_grad=True)
    y = copy.deepcopy(x)
    assert y.requires_grad
    assert not np.shares_memory(x.detach().numpy(), y.detach().numpy())
    with pytest.raises(RuntimeError):
        copy.deepcopy(x * 2)
    with pytest.raises(TypeError, match=r"fastnet\.save"):
        pickle.dumps(x)


def test_moves():
    x = fastnet.ones(2)
    assert x.to("cpu") is x
    assert x.to(fastnet.float32) is x
    assert x.to(fastnet.float64).dtype is fastnet.float64
    assert x.half().dtype is fastnet.float16
    assert x.device == fastnet.device("cpu")
    if fastnet.kernels.available()["native"] is not True:
        with pytest.raises(RuntimeError):
            x.cuda()


def test_devices():
    assert fastnet.device("cuda:1").index == 1
    assert str(fastnet.device("cuda", 1)) == "cuda:1"
    assert repr(fastnet.device("cpu")) == "device(type='cpu')"
    for bad in ("gpu", "cuda:x", 1.5, None):
        with pytest.raises((RuntimeError, TypeError)):
            fastnet.device(bad)


def test_default_dtype():
    try:
        fastnet.set_default_dtype(fastnet.float64)
        assert fastnet.tensor(1.0).dtype is fastnet.float64
        assert fastnet.zeros(1).dtype is fastnet.float64
    finally:
        fastnet.set_default_dtype(fastnet.float32)
    with pytest.raises(TypeError):
        fastnet.set_default_dtype(fastnet.int64)


def test_iteration_and_containment():
    t = fastnet.arange(6).reshape(3, 2)
    assert [r.tolist() for r in t] == [[0, 1], [2, 3], [4, 5]]
    assert 5 in t
    assert 6 not in t
    a, b = fastnet.tensor([1, 2])
    assert a.item() + b.item() == 3


def test_import_is_light():
    import subprocess
    import sys

    code = (
        "import sys, fastnet; print(sorted({'cupy', 'torch', 'scipy', 'sklearn', 'matplotlib', 'rich'} & "
        "set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
