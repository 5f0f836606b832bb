"""Every process's own part of a dataset; torch.utils.data.distributed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from fastnet._random import Generator
from fastnet.ops.random import randperm
from fastnet.utils.data.sampler import Sampler

__all__ = ["DistributedSampler"]


class DistributedSampler(Sampler[int]):
    """Every ``num_replicas``-th item from the ``rank``-th on, of an order that all processes share.

    Args:
        dataset: what is drawn from.
        num_replicas: how many processes there are. fastnet has no process groups to ask, so it must be given.
        rank: which of them this is.
        shuffle: draw the order anew every epoch (``set_epoch``).
        seed: of the order; the same in all processes.
        drop_last: leave items out, in place of repeating the first ones, where the parts would not be equal.

    Raises:
        RuntimeError: num_replicas or rank is missing.
        ValueError: a rank that is not below num_replicas.

    >>> list(DistributedSampler(range(5), num_replicas=2, rank=1, shuffle=False))
    [1, 3, 0]
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ):
        if num_replicas is None or rank is None:
            raise RuntimeError("DistributedSampler: num_replicas and rank must be given, there is no process group")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"Invalid rank {rank}, rank should be in the interval [0, {num_replicas - 1}]")
        self.dataset, self.num_replicas, self.rank = dataset, num_replicas, rank
        self.shuffle, self.seed, self.drop_last, self.epoch = shuffle, seed, drop_last, 0
        n = len(dataset)
        self.num_samples = n // num_replicas if drop_last else math.ceil(n / num_replicas)
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[int]:
        n = len(self.dataset)
        if self.shuffle:
            order = randperm(n, generator=Generator().manual_seed(self.seed + self.epoch)).tolist()
        else:
            order = list(range(n))
        return iter([order[i % n] for i in range(self.rank, self.total_size, self.num_replicas)])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration draw this epoch's order."""
        self.epoch = epoch
