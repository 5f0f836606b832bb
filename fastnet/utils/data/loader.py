"""DataLoader: batches of a dataset in the order of a sampler, made by this process or by worker processes."""

from __future__ import annotations

import itertools
import multiprocessing
import multiprocessing.context
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from fastnet._device import why_no_cuda
from fastnet._random import Generator
from fastnet.ops.random import randint
from fastnet.utils.data.collate import default_collate, default_convert
from fastnet.utils.data.dataset import IterableDataset
from fastnet.utils.data.device import pin_memory
from fastnet.utils.data.fetch import Fetcher
from fastnet.utils.data.processes import WorkerPool
from fastnet.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler
from fastnet.utils.data.worker import Job

T_co = TypeVar("T_co", covariant=True)
_FIXED = frozenset(("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"))


class _Endless:
    """The sampler of an IterableDataset: asks for the next item, whatever it is, for ever."""

    def __iter__(self) -> Iterator[None]:
        return itertools.repeat(None)


class DataLoader(Generic[T_co]):
    """Iterates over a dataset in batches, as ``torch.utils.data.DataLoader``.

    Args:
        dataset: with ``__getitem__`` and ``__len__``, or an IterableDataset.
        batch_size: items a batch; None for single items.
        shuffle: random order, drawn anew every epoch from ``generator`` or the default one.
        sampler: an iterable of indices in place of ``shuffle``.
        batch_sampler: an iterable of lists of indices in place of batch_size, shuffle, sampler and drop_last.
        num_workers: processes that load items; 0: this one does. Their batches come in the same order. Each has its own
            copy of the dataset.
        collate_fn: makes a batch of a list of items; default ``default_collate``, or without batches
            ``default_convert``.
        pin_memory: copy tensors to page-locked memory, from which copies to a GPU are fast; without a GPU it warns.
        drop_last: leave out a last batch that is short.
        timeout: seconds to wait for a batch of a worker; 0 for ever.
        worker_init_fn: called in every worker with its id, after seeding and before loading.
        multiprocessing_context: how workers are started: "fork", "spawn", "forkserver" or a context; default
            multiprocessing's own. Workers that are not forked need a dataset and functions that can be pickled.
        generator: of the order and of the workers' seeds. Worker i of an epoch is seeded with a number drawn from it
            plus i (Python's, NumPy's and fastnet's generators), so that a run repeats.
        prefetch_factor: batches that each worker loads ahead; default 2.
        persistent_workers: keep the workers from one epoch to the next.
        pin_memory_device: deprecated, without effect.
        in_order: False: hand out workers' batches as they come.

    An exception in a worker is raised here, of the same type where it can be made from a message, with the worker's
    traceback in the message; a worker that dies raises RuntimeError at once. Workers end with the iterator: at its end,
    when it is collected, on an exception, or with the interpreter.

    Raises:
        ValueError: options that exclude one another or are out of range.

    A TensorDataset in the default collation is indexed a batch at a time, which gives the same and is much faster.

    >>> import fastnet
    >>> data = TensorDataset(fastnet.arange(5))
    >>> [x.tolist() for (x,) in DataLoader(data, batch_size=2)]
    [[0, 1], [2, 3], [4]]
    """

    _initialized = False

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ):
        if num_workers < 0:
            raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
        if timeout < 0:
            raise ValueError("timeout option should be non-negative")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError("prefetch_factor option could only be specified in multiprocessing: num_workers is 0")
        if num_workers > 0 and prefetch_factor is None:
            prefetch_factor = 2
        if prefetch_factor is not None and prefetch_factor < 0:
            raise ValueError("prefetch_factor option should be non-negative")
        if persistent_workers and num_workers == 0:
            raise ValueError("persistent_workers option needs num_workers > 0")
        self.dataset, self.num_workers, self.prefetch_factor = dataset, num_workers, prefetch_factor
        self.pin_memory, self.pin_memory_device, self.timeout = pin_memory, pin_memory_device, timeout
        self.worker_init_fn, self.generator, self.in_order = worker_init_fn, generator, in_order
        self.multiprocessing_context = multiprocessing_context
        self._iterable = isinstance(dataset, IterableDataset)
        if self._iterable:
            for name, value in (
                ("shuffle", shuffle or None),
                ("sampler", sampler),
                ("batch_sampler", batch_sampler),
            ):
                if value is not None:
                    raise ValueError(
                        f"DataLoader with IterableDataset: expected unspecified {name} option, but got {name}={value}"
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
        if sampler is None:
            if self._iterable:
                sampler = _Endless()
            else:
                sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size, self.drop_last, self.sampler, self.batch_sampler = (
            batch_size,
            drop_last,
            sampler,
            batch_sampler,
        )
        self._batched = batch_sampler is not None
        self.collate_fn = collate_fn or (default_collate if self._batched else default_convert)
        self.persistent_workers = persistent_workers
        self._reported_length: int | None = None
        self._iterator: _WorkerIterator | None = None
        self._check_worker_count()
        self._initialized = True

    def __setattr__(self, name: str, value: Any) -> None:
        if self._initialized and name in _FIXED:
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        super().__setattr__(name, value)

    @property
    def multiprocessing_context(self) -> Any:
        """How workers are started: a context of multiprocessing, or None for its default."""
        return self._context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context: Any) -> None:
        if context is not None:
            if self.num_workers == 0:
                raise ValueError(
                    "multiprocessing_context can only be used with multi-process loading (num_workers > 0), but got "
                    "num_workers=0"
                )
            if isinstance(context, str):
                methods = multiprocessing.get_all_start_methods()
                if context not in methods:
                    raise ValueError(
                        f"multiprocessing_context option should specify a valid start method in {methods!r}, but got "
                        f"multiprocessing_context={context!r}"
                    )
                context = multiprocessing.get_context(context)
            if not isinstance(context, multiprocessing.context.BaseContext):
                raise TypeError(
                    "multiprocessing_context option should be a valid context object or a string specifying the start "
                    f"method, but got multiprocessing_context={context}"
                )
        self._context = context

    def _check_worker_count(self) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if self.num_workers > cores:
            warnings.warn(
                f"This DataLoader will create {self.num_workers} worker processes in total, but this process may use "
                f"{cores} CPUs only: more workers than that can make loading slower",
                stacklevel=3,
            )

    @property
    def _index_sampler(self) -> Any:
        return self.batch_sampler if self._batched else self.sampler

    def __iter__(self) -> Iterator[T_co]:
        if self.num_workers == 0:
            return _Iterator(self)
        if not self.persistent_workers:
            return _WorkerIterator(self)
        if self._iterator is None or self._iterator.pool.closed:
            self._iterator = _WorkerIterator(self)
        else:
            self._iterator.begin(self)
        return self._iterator

    def __len__(self) -> int:
        if not self._iterable:
            return len(self._index_sampler)
        n = self._reported_length = len(self.dataset)
        if self.batch_size is None:
            return n
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


class _Iterator(Iterator[Any]):
    """One pass over a loader, by this process."""

    def __init__(self, loader: DataLoader):
        if loader.pin_memory:
            if loader.pin_memory_device:
                warnings.warn(
                    "pin_memory_device is deprecated, the current accelerator will be used as the device, ignore "
                    f"pin_memory_device='{loader.pin_memory_device}'.",
                    stacklevel=3,
                )
            if why_no_cuda() is not None:
                warnings.warn(
                    "'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't "
                    "be used.",
                    stacklevel=3,
                )
        self._pin = loader.pin_memory and why_no_cuda() is None
        self._dataset, self._sampler = loader.dataset, loader._index_sampler
        # Drawn with and without workers, so that the order of a shuffled epoch does not depend on their number.
        self._base_seed = int(randint(0, 2**63 - 1, (1,), generator=loader.generator).item())
        self._start(loader)
        self.begin(loader)

    def _start(self, loader: DataLoader) -> None:
        if loader.timeout:
            raise AssertionError("timeout: only batches of workers can be waited for, and num_workers is 0")
        self._fetch = Fetcher(loader.dataset, loader._batched, loader.collate_fn, loader.drop_last)

    def begin(self, loader: DataLoader) -> None:
        """Begin a pass."""
        self._indices = iter(self._sampler)
        self._reported_length, self._yielded = loader._reported_length, 0

    def _next(self) -> Any:
        return self._fetch(next(self._indices))

    def __next__(self) -> Any:
        batch = self._next()
        if self._pin:
            batch = pin_memory(batch)
        self._yielded += 1
        if self._reported_length is not None and self._yielded > self._reported_length:
            text = (
                f"Length of IterableDataset {self._dataset} was reported to be {self._reported_length} (when accessing "
                f"len(dataloader)), but {self._yielded} samples have been fetched. "
            )
            if isinstance(self, _WorkerIterator):
                text += "Each worker iterates over the whole dataset unless it asks get_worker_info() for its part."
            warnings.warn(text, stacklevel=2)
        return batch

    def __len__(self) -> int:
        return len(self._sampler)

    def __reduce__(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} cannot be pickled")


class _WorkerIterator(_Iterator):
    """One pass over a loader, or with persistent workers several, by its workers."""

    def _start(self, loader: DataLoader) -> None:
        loader._check_worker_count()
        self.pool = WorkerPool(
            loader.multiprocessing_context or multiprocessing.get_context(),
            Job(
                loader.dataset,
                loader._batched,
                loader.collate_fn,
                loader.drop_last,
                self._base_seed,
                loader.worker_init_fn,
                loader.num_workers,
            ),
            in_order=loader.in_order,
            prefetch_factor=loader.prefetch_factor or 0,
            keep_workers=loader.persistent_workers,
            timeout=loader.timeout,
        )

    def begin(self, loader: DataLoader) -> None:
        super().begin(loader)
        self.pool.begin(self._indices)

    def _next(self) -> Any:
        return self.pool.next()
