"""Memory shared with other libraries: DLPack with every dtype, NumPy's protocols, Python's conversions."""

import copy
import operator
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

import fastnet
from fastnet import _dlpack, kernels, reference
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
    with pytest.raises(TypeError, match="uint16"):
        fastnet.from_dlpack(torch.ones(3, dtype=torch.uint16))
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


@pytest.fixture(params=["torch", "fastnet"])
def library(request):
    return pytest.importorskip(request.param, reason="PyTorch is not installed")


@pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_kernels_take_tensors(library, module, dtype):
    dtype = getattr(library, dtype)
    a, b = library.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=dtype), library.tensor([[1.0], [-1.0]], dtype=dtype)
    product = module.matmul(a, b.t().T, bias=library.tensor([0.5], dtype=dtype))
    assert type(product) is type(a)
    assert product.dtype is dtype
    assert product.tolist() == [[-0.5], [-0.5]]
    whole = module.matmul(a, np.eye(2, dtype=np.float32) if dtype is library.float32 else a)  # arrays beside them, too
    assert type(whole) is type(a)
    x, zero = [library.ones(3, 1, dtype=dtype)], library.zeros(1, 1, 1, dtype=dtype)
    out, last = module.rnn(x, zero, [library.ones(1, 1, dtype=dtype)], None, [1, 1, 1], "relu")
    assert out.tolist() == [[1], [2], [3]]
    assert last.tolist() == [[[3]]]


@pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
def test_kernels_change_tensors_where_they_are(library, module):
    p, g = library.ones(3), library.ones(3)
    address = p.data_ptr()
    assert module.sgd_step([p], [g], None, lr=0.25) is None
    assert p.tolist() == [0.75] * 3
    assert p.data_ptr() == address
    g = [library.full((4,), 2.0)]
    state = module.gradient_norm(g, max_norm=2.0)  # of a norm of 4
    assert module.scale_gradients(g, state) is None
    np.testing.assert_allclose(g[0].tolist(), [1] * 4, rtol=1e-6)


@pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
def test_kernels_refuse_tensors_by_name(library, module):
    a = library.ones(2, 2)
    with pytest.raises(ValueError, match=r"matmul: b: .*detach"):
        module.matmul(a, library.ones(2, 2, requires_grad=True))
    with pytest.raises(TypeError, match=r"matmul.*missing"):
        module.matmul(a)
    with pytest.raises(TypeError, match="matmul: b has dtype bool"):
        module.matmul(a, a > 0)
    with pytest.raises(TypeError, match="matmul: b is a list"):
        module.matmul(a, [[1.0]])


def test_kernels_give_arrays_where_a_library_takes_none():
    class Exporter:
        def __init__(self, array):
            self.array = array
            self.__dlpack_device__ = array.__dlpack_device__

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

    x = np.ones((2, 2), np.float32)
    assert isinstance(reference.matmul(Exporter(x), x), np.ndarray)


def test_the_exporter_waits_for_the_stream_that_kernels_run_on(monkeypatch):
    """On a GPU: what a library has queued on its own stream is done before what CuPy's does next."""
    asked = []

    class Exporter:
        def __dlpack__(self, **options):
            asked.append(options)
            raise BufferError("seen")

        def __dlpack_device__(self):
            return 2, 0  # kDLCUDA

    for pointer, number in ((0, 1), (77, 77)):
        stream = SimpleNamespace(ptr=pointer)
        cupy = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=lambda stream=stream: stream))
        monkeypatch.setattr(_dlpack, "array_module", lambda where, cupy=cupy: cupy)
        with pytest.raises(ValueError, match="softmax: x: seen"):
            reference.softmax(Exporter())
        assert asked.pop()["stream"] == number
