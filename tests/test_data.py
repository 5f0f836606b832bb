"""Datasets, samplers, loaders, and files of data."""

import gzip
import pickle
from collections import namedtuple

import numpy as np
import pytest

import fastnet
from fastnet.data import digits, read_idx
from fastnet.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    DevicePrefetcher,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    random_split,
)


class Squares(Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if i >= self.n:
            raise IndexError
        return {"x": fastnet.tensor(float(i)), "y": (i * i, f"item {i}")}


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(5))


def test_batches_cover_everything_once():
    data = TensorDataset(fastnet.arange(10), fastnet.arange(10) * 2)
    batches = list(DataLoader(data, batch_size=4))
    assert [len(x) for x, _ in batches] == [4, 4, 2]
    assert isinstance(batches[0], list)
    assert fastnet.cat([x for x, _ in batches]).tolist() == list(range(10))
    assert len(DataLoader(data, batch_size=4)) == 3
    assert (
        len(list(DataLoader(data, batch_size=4, drop_last=True)))
        == len(DataLoader(data, batch_size=4, drop_last=True))
        == 2
    )


def test_shuffling_is_seeded_and_new_every_time():
    data = TensorDataset(fastnet.arange(100))
    loader = DataLoader(data, batch_size=100, shuffle=True, generator=fastnet.Generator().manual_seed(1))
    first, second = next(iter(loader))[0].tolist(), next(iter(loader))[0].tolist()
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second
    again = DataLoader(data, batch_size=100, shuffle=True, generator=fastnet.Generator().manual_seed(1))
    assert next(iter(again))[0].tolist() == first


def test_collation():
    (batch,) = DataLoader(Squares(3), batch_size=3)
    assert batch["x"].tolist() == [0, 1, 2]
    assert batch["y"][0].tolist() == [0, 1, 4]
    assert batch["y"][1] == ("item 0", "item 1", "item 2")
    (batch,) = DataLoader([(np.ones(2), 1.5)] * 2, batch_size=2)
    assert batch[0].shape == (2, 2)
    assert batch[1].dtype is fastnet.float64
    assert list(DataLoader([1, 2, 3], batch_size=2, collate_fn=sum)) == [3, 3]
    assert [b.tolist() for b in DataLoader(Stream(), batch_size=2)] == [[0, 1], [2, 3], [4]]
    assert list(DataLoader([5, 6], batch_size=None)) == [5, 6]
    with pytest.raises(RuntimeError, match="equal size"):
        list(DataLoader([[1], [1, 2]], batch_size=2))
    with pytest.raises(TypeError):
        list(DataLoader([{1}], batch_size=1))


class Counted(dict):
    """A mutable mapping with an attribute of its own, which collation keeps."""

    count = 3


Point = namedtuple("Point", "x, y")
COLLATED = {
    "tensors": lambda lib: [lib.ones(2), lib.zeros(2)],
    "bools": lambda lib: [True, False],
    "ints": lambda lib: [1, 2],
    "floats": lambda lib: [1.5, 2.0],
    "strings": lambda lib: ["a", "b"],
    "bytes": lambda lib: [b"a", b"b"],
    "arrays": lambda lib: [np.ones((2, 3), np.float16), np.zeros((2, 3), np.float16)],
    "numpy scalars": lambda lib: [np.float32(1), np.float32(2)],
    "numpy ints": lambda lib: [np.int64(1), np.int64(2)],
    "numpy bools": lambda lib: [np.bool_(True), np.bool_(False)],
    "tuples": lambda lib: [(1, "a"), (2, "b")],
    "lists": lambda lib: [[1, "a"], [2, "b"]],
    "namedtuples": lambda lib: [Point(1, (2.0, "u")), Point(3, (4.0, "v"))],
    "dicts": lambda lib: [{"a": 1, "b": [lib.ones(1)]}, {"a": 2, "b": [lib.zeros(1)]}],
    "own mappings": lambda lib: [Counted(a=1), Counted(a=2)],
    "ranges": lambda lib: [range(2), range(3, 5)],
    "empty tuples": lambda lib: [(), ()],
}
CONVERTED = {
    "array": lambda lib: np.arange(3.0),
    "scalar": lambda lib: np.float32(2),
    "strings": lambda lib: np.array(["a", "b"]),
    "nested": lambda lib: {"a": (np.ones(2), "s"), "b": [np.int64(3), 4], "c": Point(np.zeros(1), None)},
    "range": lambda lib: range(3),
    "text": lambda lib: "text",
}


def plain(value, lib):
    """A value with its tensors as (dtype, shape, list), and the types of its containers beside them."""
    if isinstance(value, lib.Tensor):
        return (str(value.dtype).split(".")[1], tuple(value.shape), value.tolist())
    if isinstance(value, dict):
        return (type(value).__name__, [(k, plain(v, lib)) for k, v in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [plain(v, lib) for v in value])
    return (type(value).__name__, str(value))


@pytest.mark.parametrize("name", COLLATED)
def test_collation_is_pytorchs(name):
    torch = pytest.importorskip("torch")
    from torch.utils.data import default_collate as theirs

    want = plain(theirs(COLLATED[name](torch)), torch)
    assert plain(default_collate(COLLATED[name](fastnet)), fastnet) == want


@pytest.mark.parametrize("name", CONVERTED)
def test_conversion_is_pytorchs(name):
    torch = pytest.importorskip("torch")
    from torch.utils.data import default_convert as theirs

    want = plain(theirs(CONVERTED[name](torch)), torch)
    assert plain(default_convert(CONVERTED[name](fastnet)), fastnet) == want


def stream_of(data):
    return type("Stream", (data.IterableDataset,), {"__iter__": lambda self: iter(())})()


REFUSED = {
    "a stream without iter": (TypeError, lambda d, lib: d.IterableDataset()),
    "collate a set": (TypeError, lambda d, lib: d.default_collate([{1}, {2}])),
    "collate text arrays": (TypeError, lambda d, lib: d.default_collate([np.array(["a"])])),
    "collate unequal lists": (RuntimeError, lambda d, lib: d.default_collate([[1], [1, 2]])),
    "sizes of tensors": (AssertionError, lambda d, lib: d.TensorDataset(lib.ones(2), lib.ones(3))),
    "nothing to stack": (ValueError, lambda d, lib: d.StackDataset()),
    "stack both ways": (ValueError, lambda d, lib: d.StackDataset([1], b=[1])),
    "stack unequal": (ValueError, lambda d, lib: d.StackDataset([1], [1, 2])),
    "nothing to concatenate": (AssertionError, lambda d, lib: d.ConcatDataset([])),
    "concatenate streams": (AssertionError, lambda d, lib: d.ConcatDataset([stream_of(d)])),
    "chain of lists": (AssertionError, lambda d, lib: list(d.ChainDataset([[1]]))),
    "half a subset": (NotImplementedError, lambda d, lib: type("H", (d.Subset,), {"__getitem__": len})([1], [0])),
    "shares above one": (ValueError, lambda d, lib: d.random_split(range(10), [1.5, -0.5])),
    "lengths": (ValueError, lambda d, lib: d.random_split(range(10), [5, 4])),
    "shuffle nothing": (ValueError, lambda d, lib: d.DataLoader([], shuffle=True)),
    "replacement": (TypeError, lambda d, lib: d.RandomSampler([1], replacement=1)),
    "samples": (ValueError, lambda d, lib: d.RandomSampler([1], num_samples=0)),
    "weights of two dimensions": (ValueError, lambda d, lib: d.WeightedRandomSampler([[1.0]], 1)),
    "weighted replacement": (ValueError, lambda d, lib: d.WeightedRandomSampler([1.0], 1, replacement=1)),
    "batch of true": (ValueError, lambda d, lib: d.BatchSampler([1], True, False)),
    "drop 1": (ValueError, lambda d, lib: d.BatchSampler([1], 2, 1)),
    "shuffle a stream": (ValueError, lambda d, lib: d.DataLoader(stream_of(d), shuffle=True)),
    "sample a stream": (ValueError, lambda d, lib: d.DataLoader(stream_of(d), sampler=[1])),
    "change a loader": (ValueError, lambda d, lib: setattr(d.DataLoader([1]), "batch_size", 2)),
    "context": (TypeError, lambda d, lib: d.DataLoader([1], num_workers=1, multiprocessing_context=3)),
    "timeout alone": (AssertionError, lambda d, lib: iter(d.DataLoader([1], timeout=1))),
    "pickle an iterator": (NotImplementedError, lambda d, lib: pickle.dumps(iter(d.DataLoader([1])))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    kind, call = REFUSED[name]
    with pytest.raises(kind) as caught:
        call(fastnet.utils.data, fastnet)
    assert caught.type is kind
    try:
        import torch
        import torch.utils.data
    except ImportError:
        return
    with pytest.raises(kind):
        call(torch.utils.data, torch)


def test_batches_asked_for_at_once():
    class Batches(Dataset):
        def __len__(self):
            return 5

        def __getitems__(self, indices):
            return [10 * i for i in indices]

    assert [b.tolist() for b in DataLoader(Batches(), 2)] == [[0, 10], [20, 30], [40]]
    assert [b.tolist() for b in DataLoader(Subset(Batches(), [4, 0]), 2)] == [[40, 0]]
    both = StackDataset(a=Batches(), b=range(5))
    assert [b["a"].tolist() + b["b"].tolist() for b in DataLoader(both, 3)] == [[0, 10, 20, 0, 1, 2], [30, 40, 3, 4]]


def test_gathered_batches_are_the_stacked_items():
    x, y = fastnet.randn(9, 2), fastnet.arange(9)
    data = Subset(Subset(TensorDataset(x, y), [8, 1, 2, 7, 3]), [4, 0, 1])
    for a, b in zip(DataLoader(data, 2), DataLoader(data, 2, collate_fn=lambda b: default_collate(b)), strict=True):
        assert [t.tolist() for t in a] == [t.tolist() for t in b]
        assert [t.dtype for t in a] == [t.dtype for t in b]
    with pytest.raises(IndexError):
        list(DataLoader(TensorDataset(x), batch_sampler=[[0, 9]]))
    w = fastnet.ones(3, requires_grad=True)
    (batch,) = next(iter(DataLoader(TensorDataset(w), 3)))
    batch.sum().backward()
    assert w.grad.tolist() == [1, 1, 1]


def test_streams():
    both = Stream() + Stream()
    assert isinstance(both, ChainDataset)
    assert list(both) == [0, 1, 2, 3, 4] * 2
    with pytest.raises(TypeError):
        len(DataLoader(both))
    assert [b.tolist() for b in DataLoader(Stream(), 2, drop_last=True)] == [[0, 1], [2, 3]]
    assert list(DataLoader(Stream(), None)) == [0, 1, 2, 3, 4]


def test_empty_parts_warn():
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        random_split(range(1), [0.5, 0.5])


def test_prefetching_to_the_cpu_hands_batches_on():
    loader = DataLoader(Squares(3), batch_size=2)
    there = DevicePrefetcher(loader, "cpu")
    assert len(there) == 2
    assert [b["x"].tolist() for b in there] == [[0, 1], [2]]
    if not fastnet.cuda.is_available():
        with pytest.raises(RuntimeError, match="cuda"):
            DevicePrefetcher(loader, "cuda")


def test_datasets():
    both = Squares(2) + Squares(3)
    assert isinstance(both, ConcatDataset)
    assert [both[i]["y"][0] for i in range(5)] == [0, 1, 0, 1, 4]
    assert both[-1]["y"][0] == 4
    with pytest.raises(IndexError):
        both[5]
    assert Subset(Squares(5), [4, 0])[0]["y"][0] == 16
    assert StackDataset(Squares(2), Squares(2))[1][0]["y"][0] == 1
    parts = random_split(range(10), [0.5, 0.3, 0.2], generator=fastnet.Generator().manual_seed(0))
    assert [len(p) for p in parts] == [5, 3, 2]
    assert sorted(i for p in parts for i in p.indices) == list(range(10))
    with pytest.raises(ValueError, match="Sum of input lengths"):
        random_split(range(10), [5, 4])


def test_samplers():
    assert list(SequentialSampler(range(3))) == [0, 1, 2]
    assert sorted(RandomSampler(range(5))) == list(range(5))
    assert len(list(RandomSampler(range(5), num_samples=12))) == 12
    assert set(RandomSampler(range(3), replacement=True, num_samples=50)) <= {0, 1, 2}
    assert sorted(SubsetRandomSampler([7, 9])) == [7, 9]
    assert set(WeightedRandomSampler([0.0, 1.0, 0.0], 20)) == {1}
    assert list(BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("n", "replicas"), [(10, 1), (10, 2), (11, 3), (2, 5), (12, 4)])
def test_distributed_sampler_is_pytorchs(n, replicas, drop_last):
    torch_data = pytest.importorskip("torch.utils.data", reason="PyTorch is not installed")
    seen = []
    for rank in range(replicas):
        options = {"num_replicas": replicas, "rank": rank, "drop_last": drop_last}
        ours = DistributedSampler(range(n), shuffle=False, **options)
        theirs = torch_data.DistributedSampler(range(n), shuffle=False, **options)
        assert list(ours) == list(theirs)
        assert (len(ours), ours.total_size) == (len(theirs), theirs.total_size)
        shuffled = DistributedSampler(range(n), seed=3, **options)
        first = list(shuffled)
        assert list(shuffled) == first
        seen += first
        if n > 9 and replicas < 3:
            shuffled.set_epoch(1)
            assert list(shuffled) != first
    assert len(set(seen)) == (n if not drop_last else n // replicas * replicas)


def test_distributed_sampler_refuses():
    with pytest.raises(ValueError, match="rank 2"):
        DistributedSampler(range(4), 2, 2)
    with pytest.raises(RuntimeError, match="num_replicas"):
        DistributedSampler(range(4))


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": -1},
        {"num_workers": -1},
        {"num_workers": 0, "prefetch_factor": 2},
        {"num_workers": 1, "prefetch_factor": -1},
        {"num_workers": 1, "timeout": -1},
        {"num_workers": 0, "persistent_workers": True},
        {"num_workers": 0, "multiprocessing_context": "fork"},
        {"num_workers": 1, "multiprocessing_context": "thread"},
        {"shuffle": True, "sampler": [0]},
        {"batch_sampler": [[0]], "shuffle": True},
        {"batch_size": None, "drop_last": True},
    ],
)
def test_bad_options(options):
    with pytest.raises(ValueError, match=r"DataLoader|should be|option|multi-process"):
        DataLoader(range(4), **options)


def test_digits():
    train, validation, test = digits()
    assert [len(train), len(validation), len(test)] == [1257, 180, 360]
    x, y = train[0]
    assert x.shape == (8, 8)
    assert x.dtype is fastnet.float32
    assert y.dtype is fastnet.int64
    assert 0 <= x.min().item() <= x.max().item() <= 1
    rows = {
        bytes(np.append(x.numpy().reshape(-1), y.item()).tobytes())
        for part in (train, validation, test)
        for x, y in part
    }
    assert len(rows) > 1790  # the parts share nothing (the set itself holds no copies to speak of)


def test_idx_files(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    raw = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in values.shape) + values.tobytes()
    (tmp_path / "a").write_bytes(raw)
    (tmp_path / "b.gz").write_bytes(gzip.compress(raw))
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), values)
    np.testing.assert_array_equal(read_idx(tmp_path / "b.gz"), values)
    for bad in (raw[:-1], raw + b"\0", raw[:10], b"\1" + raw[1:], b"", gzip.compress(raw)[:-9]):
        (tmp_path / "c").write_bytes(bad)
        with pytest.raises(ValueError, match="read_idx"):
            read_idx(tmp_path / "c")
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")
