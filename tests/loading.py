"""Datasets and functions that test_workers.py gives to worker processes, which import them from here if spawned."""

import os
import signal
import time
from collections import namedtuple
from pathlib import Path

import numpy as np

import fastnet
from fastnet.utils.data import Dataset, IterableDataset, get_worker_info

Pair = namedtuple("Pair", "x, y")


class Numbers(Dataset):
    """Item i is (i as a tensor, 10 i as a number, "i"), as a Pair."""

    def __init__(self, n=20, width=1):
        self.n, self.width = n, width

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return Pair(fastnet.full((self.width,), float(i)), {"ten": 10 * i, "name": str(i)})


class Draws(Dataset):
    """Each item is a draw of three generators, and who drew."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        import random

        info = get_worker_info()
        return (fastnet.rand(1).item(), random.random(), np.random.rand(), info.id, info.seed)


class Shards(IterableDataset):
    """The numbers below n; each worker's share if ``share``."""

    def __init__(self, n, share=True):
        self.n, self.share = n, share

    def __len__(self):
        return self.n

    def __iter__(self):
        info = get_worker_info()
        return iter(range(info.id, self.n, info.num_workers) if self.share and info else range(self.n))


class Trouble(Dataset):
    """Item 5 is trouble: an exception to raise, "kill", "exit", "hang", or something that cannot be pickled."""

    def __init__(self, kind):
        self.kind = kind

    def __len__(self):
        return 12

    def __getitem__(self, i):
        if i == 5:
            if isinstance(self.kind, BaseException):
                raise self.kind
            if self.kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.kind == "exit":
                os._exit(3)
            if self.kind == "hang":
                time.sleep(1000)
            if self.kind == "lambda":
                return lambda: 0
        return i


class TwoArguments(Exception):
    """Cannot be made from a message alone."""

    def __init__(self, first, second):
        super().__init__(first, second)


class Dtypes(Dataset):
    """Item i holds a tensor of every dtype, in odd layouts."""

    def __init__(self, side):
        self.side = side
        self.weight = fastnet.nn.Parameter(fastnet.ones(2))

    def __len__(self):
        return 1

    def __getitem__(self, i):
        base = fastnet.arange(self.side * self.side).reshape(self.side, self.side)
        made = {d: (base % 2).to(getattr(fastnet, d)).t() for d in "bool uint8 int32 int64".split()}
        made |= {d: base.to(getattr(fastnet, d))[::2] for d in "float16 bfloat16 float32 float64".split()}
        made["none"] = fastnet.zeros(0, 3)
        made["scalar"] = fastnet.tensor(4)
        made["weight"] = self.weight
        made["array"] = np.arange(12.0)
        return made


def only(batch):
    """A collate_fn: the batch's one item as it is."""
    return batch[0]


def pids(batch):
    """A collate_fn: which process made the batch."""
    return os.getpid()


def write_id(worker):
    """A worker_init_fn: leaves a file named by the worker, in the folder named by the environment."""
    (Path(os.environ["FASTNET_TEST_FOLDER"]) / str(worker)).write_text(str(get_worker_info().seed))


def refuse(worker):
    """A worker_init_fn that fails."""
    raise ValueError("not today")
