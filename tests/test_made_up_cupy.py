"""The rules that ``made_up_cupy`` holds fastnet to. Where there is a GPU the same assertions are made of CuPy itself,
so that the stand-in is known to say what CuPy does."""

import contextlib
import itertools
import pickle

import ml_dtypes
import numpy as np
import pytest
from made_up_cupy import install, runtime, table
from made_up_cupy.ufuncs import ufunc

from fastnet._device import why_no_cuda

bfloat16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(params=["made up", "real"])
def cupy(request):
    if request.param == "made up":
        with install() as made_up:
            yield made_up
    else:
        if why_no_cuda():
            pytest.skip(f"of a machine with a GPU: {why_no_cuda()}")
        yield pytest.importorskip("cupy")


def test_the_table_is_that_of_cupy():
    """Names, arguments and loops, of the version that was read."""
    real = pytest.importorskip("cupy", reason="CuPy is not installed")
    read = table.read()
    if read["version"] != table.load()["version"]:
        pytest.skip(f"the table is of CuPy {table.load()['version']}, this is {real.__version__}")
    assert read == table.load()


def test_loops_are_chosen_as_cupy_chooses():
    real = pytest.importorskip("cupy", reason="CuPy is not installed")
    dtypes = [np.dtype(c) for c in "?bBhHiIlLefd"] + [bfloat16]
    operands = [(d, None) for d in dtypes] + [(np.dtype(np.int64), int), (np.dtype(np.float64), float)]
    for name, function in vars(real).items():
        if not isinstance(function, real.ufunc) or function.nin > 2:
            continue
        made_up = ufunc(name, " ".join(function.types), None)
        for given in itertools.product(operands, repeat=function.nin):
            types = tuple(d for d, _ in given)
            weak = tuple(w or False for _, w in given) if made_up.weak_counts(given) else None
            want = function._ops._guess_routine_from_in_types(types, weak)
            try:
                got = made_up.loop(given, None)[1]
            except TypeError:
                got = None
            assert got == (None if want is None else tuple(np.dtype(t) for t in want.out_types)), (name, given)


def test_an_array_is_no_numpy_array(cupy):
    x = cupy.asarray(np.arange(6.0).reshape(2, 3))
    assert not isinstance(x, np.ndarray)
    assert type(x).__module__.partition(".")[0] == "cupy"
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(x, np.float64)
    for absent in ("__index__", "__contains__", "__round__"):
        assert not hasattr(x, absent)
    assert not hasattr(x.flags, "writeable")
    assert not hasattr(x.flags, "aligned")
    with pytest.raises(TypeError):
        memoryview(x)
    with pytest.raises(TypeError):
        hash(x)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(x)).get(), x.get())


@pytest.mark.parametrize(
    "call",
    [
        lambda xp, x, h: x + h,
        lambda xp, x, h: h + x,
        lambda xp, x, h: xp.add(x, h),
        lambda xp, x, h: xp.maximum(h, 1),
        lambda xp, x, h: np.maximum(x, h),
        lambda xp, x, h: xp.concatenate([x, h]),
        lambda xp, x, h: x @ h,
        lambda xp, x, h: xp.sqrt([x]),
    ],
)
def test_the_hosts_arrays_are_refused(cupy, call):
    host = np.ones((2, 2))
    with pytest.raises((TypeError, AttributeError)):
        call(cupy, cupy.asarray(host), host)


def test_numbers_are_welcome(cupy):
    x = cupy.asarray(np.float32([1, 2]))
    for y in (x * 2, 2.0 * x, np.float32(2) * x, x * np.float32(2), np.multiply(x, 2)):
        assert isinstance(y, cupy.ndarray)
        assert y.dtype == np.float32
        assert y.tolist() == [2, 4]
    assert (x * np.float64(2)).dtype == np.float64  # NEP 50
    assert (cupy.asarray(np.int32([1])) + 2.5).dtype == np.float64
    assert (cupy.asarray([True]) + 1).dtype == np.int64
    with pytest.raises(OverflowError):
        cupy.asarray(np.uint8([1])) + 300


def test_numpys_functions_are_cupys(cupy):
    x = cupy.asarray(np.float32([[1, 4], [9, 16]]))
    for y in (np.sqrt(x), np.sum(x), np.linalg.norm(x), np.exp(x), np.concatenate([x, x])):
        assert isinstance(y, cupy.ndarray)
    with pytest.raises(TypeError):
        np.add(x, x, where=x > 2)
    with pytest.raises(TypeError):
        np.sum(x, initial=0)


def test_reductions_give_arrays(cupy):
    x = cupy.asarray(np.float32([[1, 2], [3, 4]]))
    for y in (x.sum(), x.max(), x.mean(), x[0, 0], x.any(), cupy.dot(x[0], x[1]), cupy.linalg.det(x), x.argmax()):
        assert isinstance(y, cupy.ndarray)
        assert y.shape == ()
    assert isinstance(x.sum().item(), float)


def test_no_dtypes_but_numbers(cupy):
    for array in (np.array(["a"]), np.array([None]), np.array([1], ">i4")):
        with pytest.raises(ValueError, match="Unsupported dtype"):
            cupy.asarray(array)


def test_functions_without_bfloat16(cupy):
    x = cupy.asarray(np.arange(4).reshape(2, 2).astype(bfloat16))
    assert (x + x).dtype == bfloat16
    assert (x * 2).dtype == bfloat16
    assert (x * 2.0).dtype == np.float32  # as NumPy says of float and bfloat16, and a loop of float32 there is
    assert x.sum().dtype == bfloat16
    assert cupy.where(x > 1, x, x).dtype == np.float32
    assert cupy.tril(x).dtype == np.float32
    for refused in (x.argmax, x.argsort, x.copy().sort, lambda: cupy.linalg.inv(x)):
        with pytest.raises((TypeError, NotImplementedError)):
            refused()


def test_methods_of_ufuncs(cupy):
    x = cupy.asarray(np.float32([3, 1, 2]))
    assert cupy.add.accumulate(x).tolist() == [3, 4, 6]
    for call in (
        lambda: np.maximum.accumulate(x),
        lambda: np.logaddexp.accumulate(x),
        lambda: cupy.maximum.reduce(x),
        lambda: np.multiply.reduceat(x, cupy.asarray([0, 1])),
        lambda: np.multiply.at(x, cupy.asarray([0, 1]), x[:2]),
    ):
        with pytest.raises(NotImplementedError):
            call()
    cupy.add.at(x, cupy.asarray([0, 0]), 1)
    assert x.tolist() == [5, 1, 2]
    with pytest.raises(TypeError):
        cupy.add.at(x.astype(bfloat16), cupy.asarray([0, 0]), 1)


def test_reduceat_is_a_difference_of_running_sums(cupy):
    x = cupy.asarray(np.float32([np.inf, 1, 2, 3]))
    assert np.isnan(np.add.reduceat(x, cupy.asarray([0, 1, 3])).get()[1:]).all()


def test_arguments_that_are_missing(cupy):
    x = cupy.asarray(np.float32([3, 1, 2]))
    for call in (
        lambda: x.max(initial=0),
        lambda: x.sum(where=x > 1),
        lambda: cupy.take(x, cupy.asarray([0]), mode="clip"),
        lambda: x.argsort(kind="mergesort"),
        lambda: x.astype(np.int32, casting="safe"),
        lambda: x.sort(order="a"),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()


def test_where_asks_for_an_array(cupy):
    with pytest.raises(AttributeError):
        cupy.where(True, cupy.ones(2), 0)


def test_indices_wrap_around(cupy):
    x = cupy.asarray(np.arange(3))
    assert x[cupy.asarray([1, 3, -4])].tolist() == [1, 0, 2]
    assert x[[1, 3]].tolist() == [1, 0]
    x[cupy.asarray([3])] = 7
    assert x.tolist() == [7, 1, 2]
    assert x.take(cupy.asarray([4])).tolist() == [1]
    with pytest.raises(IndexError):
        x[3]


def test_assignment(cupy):
    x = cupy.zeros((2, 3), np.float32)
    for refused in (np.ones(3, np.float32), [1, 2, 3]):
        with pytest.raises(ValueError, match="non-scalar"):
            x[0] = refused
    x[0] = np.float32(2)
    x[1, ...] = np.array(3)
    x[:, cupy.asarray([0])] = np.float32([[8], [9]])  # where an index array is, the host's arrays are sent
    assert x.tolist() == [[8, 2, 2], [9, 3, 3]]
    x[x > 5] = 0
    assert x.tolist() == [[0, 2, 2], [0, 3, 3]]


def test_floating_point_becomes_integers_by_saturation(cupy):
    x = cupy.asarray(np.float32([-1, np.inf, -np.inf, np.nan, 1e10]))
    assert x.astype(np.int32).tolist() == [-1, 2**31 - 1, -(2**31), 0, 2**31 - 1]
    assert x.astype(np.uint32).tolist()[0] == 0


def test_results_are_in_c_order(cupy):
    x = cupy.asarray(np.asfortranarray(np.ones((2, 3))))
    assert x.flags.f_contiguous
    assert (x + 1).flags.c_contiguous
    assert x.copy().flags.c_contiguous
    assert x.astype(np.float32).flags.f_contiguous
    assert cupy.empty_like(x).flags.f_contiguous


def test_sorting(cupy):
    with pytest.raises(NotImplementedError):
        cupy.ones((2, 3)).T.sort()
    assert cupy.asarray([3, 1, 2]).argsort(kind="stable").tolist() == [1, 2, 0]


def test_no_array_is_read_only(cupy):
    x = cupy.zeros(3)
    wide = cupy.broadcast_to(x, (2, 3))
    wide[0] = 1
    assert x.tolist() == [1, 1, 1]
    cupy.ones((2, 2)).diagonal()[...] = 0


def test_a_graph_does_its_work_again(cupy):
    x, y = cupy.asarray(np.float32([1, 2])), cupy.zeros(2, np.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    pool = cupy.cuda.MemoryPool()
    with stream, cupy.cuda.using_allocator(pool.malloc):
        y[...] = x * 2  # what is loaded or compiled at first use
        stream.synchronize()
        y.fill(0)
        stream.begin_capture()
        doubled = x * 2
        y += doubled
        graph = stream.end_capture()
    assert y.tolist() == [0, 0]
    graph.launch()
    x += 1
    graph.launch()
    assert y.tolist() == [6, 10]
    assert doubled.tolist() == [4, 6]


@pytest.mark.parametrize("call", [lambda cupy, x: x.item(), lambda cupy, x: cupy.asarray(np.ones(3))])
def test_what_cannot_be_captured(cupy, call):
    x = cupy.ones(1)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(RuntimeError):
            call(cupy, x)
        with contextlib.suppress(cupy.cuda.runtime.CUDARuntimeError):  # the attempt has made the capture invalid
            stream.end_capture()


def test_what_waits_is_noted():
    with install() as cupy:
        x = cupy.asarray(np.float32([[1, 2], [3, 4]]))
        y = ((x @ x).sum(axis=0) / 2)[cupy.asarray([0, 1])]
        y[y > 3] = 0
        assert not runtime.waits
        for call in (y.get, y.tolist, x.sum().item, lambda: bool(x.any()), lambda: x[x > 1], x.nonzero):
            runtime.waits.clear()
            call()
            assert runtime.waits


def test_the_stand_in_leaves_nothing_behind():
    import sys

    with install() as cupy:
        assert sys.modules["cupy"] is cupy
        assert why_no_cuda() is None
    assert "cupy" not in sys.modules or sys.modules["cupy"] is not cupy
