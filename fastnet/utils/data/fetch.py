"""A batch of a dataset: what the loader's own process and its workers do alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet._tensor import Tensor
from fastnet.utils.data.collate import default_collate
from fastnet.utils.data.dataset import IterableDataset, Subset, TensorDataset


class Fetcher:
    """Batches of a dataset, or single items, collated. A stream raises StopIteration at its end."""

    def __init__(self, dataset: Any, batched: bool, collate_fn: Callable, drop_last: bool):
        self.dataset, self.batched, self.collate_fn, self.drop_last = dataset, batched, collate_fn, drop_last
        self.stream = iter(dataset) if isinstance(dataset, IterableDataset) else None
        self.ended = False

    def __call__(self, index: Any) -> Any:
        """The batch at a list of indices, or the item at one; of a stream the next as many."""
        if self.stream is not None:
            return self.collate_fn(self._next(index))
        if not self.batched:
            return self.collate_fn(self.dataset[index])
        if self.collate_fn is default_collate:
            batch = _gathered(self.dataset, index)
            if batch is not None:
                return batch
        if getattr(self.dataset, "__getitems__", None):
            return self.collate_fn(self.dataset.__getitems__(index))
        return self.collate_fn([self.dataset[i] for i in index])

    def _next(self, index: Any) -> Any:
        assert self.stream is not None
        if self.ended:
            raise StopIteration
        if not self.batched:
            return next(self.stream)
        items: list[Any] = []
        for _ in index:
            try:
                items.append(next(self.stream))
            except StopIteration:
                self.ended = True
                break
        if not items or (self.drop_last and len(items) < len(index)):
            raise StopIteration
        return items


def _gathered(dataset: Any, indices: Any) -> list[Tensor] | None:
    """A batch of a TensorDataset on the CPU by one gather a tensor: the same as stacking its items, and much faster.
    None for anything else."""
    while type(dataset) is Subset:
        if type(indices) is not list:
            return None
        indices = [dataset.indices[i] for i in indices]
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset or any(t.requires_grad or t.is_cuda for t in dataset.tensors):
        return None
    try:
        where = np.asarray(indices)
    except (TypeError, ValueError):
        return None
    if where.dtype.kind not in "iu" or where.ndim != 1:
        return None
    return [Tensor._wrap(t._data.take(where, 0)) for t in dataset.tensors]
