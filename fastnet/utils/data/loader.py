"""DataLoader: batches of a dataset, in the order of a sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastnet._dtypes import float64
from fastnet._random import Generator
from fastnet._tensor import Tensor
from fastnet.ops.creation import as_tensor, tensor
from fastnet.ops.shape import stack
from fastnet.utils.data.dataset import IterableDataset, TensorDataset
from fastnet.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler


def default_collate(batch: Sequence[Any]) -> Any:
    """Items made one batch: tensors and arrays stacked, numbers made a tensor, containers batched entry by entry."""
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(list(batch), 0)
    if isinstance(first, (np.ndarray, np.generic)):
        return as_tensor(np.stack(batch))
    if isinstance(first, float):
        return tensor(list(batch), dtype=float64)
    if isinstance(first, int):
        return tensor(list(batch))
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, Mapping):
        return {k: default_collate([b[k] for b in batch]) for k in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(default_collate(s) for s in zip(*batch, strict=True)))
    if isinstance(first, Sequence):
        if any(len(b) != len(first) for b in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        return [default_collate(s) for s in zip(*batch, strict=True)]
    raise TypeError(
        f"default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {type(first)}"
    )


def default_convert(data: Any) -> Any:
    """Arrays as tensors, anything else as it is: what a loader without batches does."""
    if isinstance(data, np.ndarray) and data.dtype.kind not in "SU":
        return as_tensor(data)
    if isinstance(data, tuple):
        return tuple(default_convert(d) for d in data)
    return data


class DataLoader:
    """Iterates over a dataset in batches.

    Args:
        dataset: with ``__getitem__`` and ``__len__``, or an IterableDataset.
        batch_size: items a batch; None for single items.
        shuffle: random order, drawn anew every time from ``generator`` or the default one.
        sampler: order of indices in place of ``shuffle``.
        batch_sampler: lists of indices in place of batch_size, shuffle, sampler and drop_last.
        num_workers: 0: items are loaded by this process. Worker processes are not supported yet.
        collate_fn: makes a batch of a list of items.
        pin_memory: accepted; copies to a device are not pinned yet.
        drop_last: leave out a last batch that is short.

    A TensorDataset in the default collation is indexed a batch at a time, which gives the same and is much faster.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate_fn: Callable | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
    ):
        if num_workers < 0:
            raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
        if num_workers > 0:
            raise ValueError(
                f"DataLoader: num_workers is {num_workers}; worker processes are not supported yet, use num_workers=0"
            )
        self.dataset, self.num_workers, self.pin_memory, self.generator = dataset, num_workers, pin_memory, generator
        self._iterable = isinstance(dataset, IterableDataset)
        if self._iterable and (shuffle or sampler is not None or batch_sampler is not None):
            raise ValueError(
                "DataLoader with IterableDataset: expected unspecified shuffle, sampler and batch_sampler options"
            )
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
                )
            batch_size, drop_last = None, False
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None and not self._iterable:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None and batch_sampler is None and not self._iterable:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size <= 0):
            raise ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
        self.batch_size, self.drop_last, self.sampler, self.batch_sampler = (
            batch_size,
            drop_last,
            sampler,
            batch_sampler,
        )
        self._batched = batch_sampler is not None or (self._iterable and batch_size is not None)
        self.collate_fn = collate_fn or (default_collate if self._batched else default_convert)

    def __iter__(self) -> Iterator[Any]:
        if self._iterable:
            yield from self._from_stream()
        elif not self._batched:
            for i in self.sampler:
                yield self.collate_fn(self.dataset[i])
        elif type(self.dataset) is TensorDataset and self.collate_fn is default_collate:
            for indices in self.batch_sampler:
                yield list(self.dataset[list(indices)])
        else:
            for indices in self.batch_sampler:
                yield self.collate_fn([self.dataset[i] for i in indices])

    def _from_stream(self) -> Iterator[Any]:
        if not self._batched:
            for item in self.dataset:
                yield self.collate_fn(item)
            return
        batch: list[Any] = []
        for item in self.dataset:
            batch.append(item)
            if len(batch) == self.batch_size:
                yield self.collate_fn(batch)
                batch = []
        if batch and not self.drop_last:
            yield self.collate_fn(batch)

    def __len__(self) -> int:
        if self._iterable:
            n = len(self.dataset)
            return (
                n if self.batch_size is None else n // self.batch_size if self.drop_last else -(-n // self.batch_size)
            )
        return len(self.batch_sampler if self.batch_sampler is not None else self.sampler)
