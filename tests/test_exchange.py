"""Memory shared with other libraries: DLPack with every dtype, NumPy's protocols, Python's conversions."""

import copy
import operator
import pickle

import numpy as np
import pytest

import fastnet
from fastnet.utils import dlpack

DTYPES = ("float32", "float64", "float16", "bfloat16", "int32", "int64", "uint8", "bool")


@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_to_pytorch_and_back(dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours = fastnet.tensor([[1, 0, 3], [4, 5, 6]], dtype=getattr(fastnet, dtype))
    theirs = torch.from_dlpack(ours.t()[1:])
    assert theirs.dtype is getattr(torch, dtype)
    assert theirs.double().tolist() == ours.t()[1:].double().tolist()
    theirs[0, 0] = 7  # the same memory
    assert ours[0, 1].item() == theirs[0, 0].item() != 0
    back = fastnet.from_dlpack(theirs)
    assert back.dtype is ours.dtype
    assert back.data_ptr() == theirs.data_ptr()
    assert back.stride() == theirs.stride()
    back[1, 1] = 0
    assert theirs[1, 1] == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_within_fastnet(dtype):
    x = fastnet.ones(3, 2, dtype=getattr(fastnet, dtype))
    y = fastnet.from_dlpack(x)
    y[0] = 0
    assert y.dtype is x.dtype
    assert x.double().sum().item() == 4
    capsule = dlpack.to_dlpack(x)
    z = dlpack.from_dlpack(capsule)
    assert z.data_ptr() == x.data_ptr()
    with pytest.raises((TypeError, BufferError, ValueError)):
        fastnet.from_dlpack(capsule)  # a capsule is used once


def test_memory_outlives_the_exporter():
    x = fastnet.full((1000,), 3.0, dtype=fastnet.bfloat16)
    y = fastnet.from_dlpack(x)
    del x
    assert y.float().sum().item() == 3000


def test_dlpack_refuses():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with pytest.raises(BufferError, match="detach"):
        fastnet.ones(2, requires_grad=True).__dlpack__()
    with pytest.raises(TypeError, match="int8"):
        fastnet.from_dlpack(torch.ones(3, dtype=torch.int8))
    with pytest.raises(TypeError, match="__dlpack__"):
        fastnet.from_dlpack([1, 2])


def test_numpy_imports_ours():
    x = fastnet.arange(6).reshape(2, 3)
    array = np.from_dlpack(x)
    assert array.tolist() == x.tolist()
    assert np.shares_memory(array, x.numpy())


def test_array_protocol():
    x = fastnet.ones(2, 3)
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert not np.shares_memory(np.array(x), x.numpy())
    assert np.shares_memory(np.asarray(x, copy=False), x.numpy())
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        np.asarray(x, dtype=np.int64, copy=False)
    with pytest.raises(RuntimeError, match="grad"):
        np.asarray(fastnet.ones(1, requires_grad=True))


def test_numpy_functions_of_tensors():
    x = fastnet.tensor([0.0, 1.0])
    assert isinstance(np.exp(x), fastnet.Tensor)
    np.testing.assert_allclose(np.exp(x).numpy(), np.exp([0.0, 1.0]), 1e-6)
    assert (np.float64(2) * x).tolist() == [0, 2]
    assert (np.ones(2, np.float32) - x).tolist() == [1, 0]
    assert (x + np.float32(1)).dtype is fastnet.float32
    assert np.stack([x, x]).shape == (2, 2)


def test_python_conversions():
    t = fastnet.tensor([3])
    assert (int(t), float(t), bool(t), complex(t)) == (3, 3.0, True, 3 + 0j)
    assert operator.index(t) == 3
    assert [10, 20, 30, 40][t] == 40
    assert list(range(t)) == [0, 1, 2]
    assert fastnet.tensor([1.5]).item() == 1.5
    assert type(fastnet.tensor(True).item()) is bool
    assert type(fastnet.tensor(1, dtype=fastnet.uint8).item()) is int
    assert type(fastnet.tensor(1, dtype=fastnet.bfloat16).item()) is float
    with pytest.raises(TypeError):
        operator.index(fastnet.tensor(1.0))
    with pytest.raises(TypeError):
        len(fastnet.tensor(1.0))
    with pytest.raises(TypeError):
        iter(fastnet.tensor(1.0))
    assert [r.tolist() for r in reversed(fastnet.tensor([1, 2]))] == [2, 1]


def test_copies_but_no_pickles():
    x = fastnet.ones(2, requires_grad=True)
    (x * 2).sum().backward()
    y = copy.deepcopy(x)
    assert y.requires_grad
    assert y.grad.tolist() == [2, 2]
    assert y.data_ptr() != x.data_ptr()
    shared = {}
    assert copy.deepcopy([x, x], shared)[0] is copy.deepcopy([x], shared)[0]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match=r"fastnet\.save"):
            pickle.dumps(x, protocol)
    for thing in (fastnet.float32, fastnet.bool, fastnet.device("cuda:1"), fastnet.Size([1, 2])):
        assert pickle.loads(pickle.dumps(thing)) == thing


def test_size():
    s = fastnet.zeros(2, 3, 4).shape
    assert isinstance(s[1:], fastnet.Size)
    assert isinstance(s + (5,), fastnet.Size)  # noqa: RUF005  the sum is what is tested
    assert isinstance((1,) + s, fastnet.Size)  # noqa: RUF005
    assert isinstance(s * 2, fastnet.Size)
    assert s == (2, 3, 4)
    assert s[0] == 2
    assert s.numel() == 24
    assert fastnet.Size([fastnet.tensor(2), np.int64(3)]) == (2, 3)
    assert hash(s) == hash((2, 3, 4))


def test_types_and_limits():
    assert fastnet.float32.is_floating_point
    assert fastnet.bfloat16.itemsize == 2
    assert not fastnet.uint8.is_signed
    assert fastnet.finfo(fastnet.bfloat16).max == 3.3895313892515355e38
    assert fastnet.finfo().dtype == "float32"
    assert fastnet.iinfo(fastnet.uint8).max == 255
    assert isinstance(fastnet.ones(1), fastnet.FloatTensor)
    assert not isinstance(fastnet.ones(1), fastnet.LongTensor)
    assert fastnet.can_cast(fastnet.int32, fastnet.float16)
    assert not fastnet.can_cast(fastnet.float32, fastnet.int64)
    assert fastnet.is_tensor(fastnet.ones(1))
    assert fastnet.numel(fastnet.ones(2, 3)) == 6


@pytest.mark.parametrize("name", ["digamma", "lgamma", "erfinv", "sinc"])
def test_gradients_of_special_functions(name):
    x = fastnet.tensor([0.3, 0.7, 0.45], dtype=fastnet.float64, requires_grad=True)
    assert fastnet.autograd.gradcheck(getattr(fastnet, name), [x])
    assert fastnet.autograd.gradcheck(lambda x: fastnet.polygamma(1, x), [x])
