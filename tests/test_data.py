"""Datasets, samplers, loaders, and files of data."""

import gzip

import numpy as np
import pytest

import fastnet
from fastnet.data import digits, read_idx
from fastnet.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
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
    assert batch["y"][1] == ["item 0", "item 1", "item 2"]
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


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": -1},
        {"num_workers": -1},
        {"num_workers": 2},
        {"shuffle": True, "sampler": [0]},
        {"batch_sampler": [[0]], "shuffle": True},
        {"batch_size": None, "drop_last": True},
    ],
)
def test_bad_options(options):
    with pytest.raises(ValueError, match=r"DataLoader|should be|option"):
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
