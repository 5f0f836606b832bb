"""What a loader's worker process does, and what it knows of itself."""

from __future__ import annotations

import multiprocessing
import pickle
import queue
import random
import signal
import threading
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnet._random import manual_seed
from fastnet.utils.data.dataset import IterableDataset
from fastnet.utils.data.fetch import Fetcher
from fastnet.utils.data.transfer import send

CHECK_SECONDS = 5.0  # how often one side looks whether the other is alive, beside the pipe that says so at once

# Parents' ends of pipes to workers. A forked worker closes those it inherits: a pipe that a sibling holds open does not
# tell its worker of the parent's death.
parent_ends: weakref.WeakSet[Any] = weakref.WeakSet()

# What a worker sends: (epoch, number of the batch, one of these).
BATCH, FAILED, ENDED = "batch", "failed", "ended"


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker knows: its id, from 0 to num_workers - 1; its seed; its copy of the dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """In a loader's worker process, what it is; None elsewhere."""
    return _info


@dataclass(frozen=True)
class Job:
    """What all workers of a loader have in common."""

    dataset: Any
    batched: bool
    collate_fn: Callable
    drop_last: bool
    base_seed: int
    init_fn: Callable | None
    num_workers: int

    def fetcher(self) -> Fetcher:
        return Fetcher(self.dataset, self.batched, self.collate_fn, self.drop_last)


class _KeyErrorText(str):
    """KeyError shows the repr of its argument, in which a traceback could not be read."""

    def __repr__(self) -> str:
        return str(self)


class Failure:
    """An exception caught in a worker, to be raised in the parent with the worker's traceback in its message."""

    def __init__(self, error: BaseException, where: str):
        self.name, self.where = type(error).__name__, where
        self.text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        try:
            self.pickled_type = pickle.dumps(type(error))
        except Exception:  # a class made inside a function: RuntimeError stands for it
            self.pickled_type = pickle.dumps(RuntimeError)

    def exception(self) -> BaseException:
        """An exception of the same type if it can be made from a message, else a RuntimeError."""
        text = f"Caught {self.name} {self.where}.\nOriginal {self.text}"
        try:
            kind = pickle.loads(self.pickled_type)
            if kind is KeyError:
                return KeyError(_KeyErrorText(text))
            made = kind(message=text) if getattr(kind, "message", None) else kind(text)
            return made if isinstance(made, BaseException) else RuntimeError(text)
        except Exception:
            return RuntimeError(text)


class _Inbox(threading.Thread):
    """Takes tasks off the pipe as they come, so that the parent never waits for room in it, and learns at once when the
    parent's end closes. Tasks of an epoch that the parent has given up are skipped."""

    def __init__(self, connection: Any):
        super().__init__(daemon=True, name="fastnet-inbox")
        self.connection, self.tasks = connection, queue.SimpleQueue()
        self.epoch, self.closed = 0, False

    def run(self) -> None:
        try:
            while True:
                task = self.connection.recv()
                self.epoch = task[0]
                self.tasks.put(task)
        except (EOFError, OSError):
            self.closed = True
            self.tasks.put(None)

    def next(self) -> Any:
        """The next task, or None when the parent is done or dead."""
        parent = multiprocessing.parent_process()
        while not self.closed:
            try:
                task = self.tasks.get(timeout=CHECK_SECONDS)
            except queue.Empty:
                if parent is not None and not parent.is_alive():
                    return None
                continue
            if task is None or self.closed:
                return None
            if task[0] == self.epoch:
                return task
        return None


def _seed(base_seed: int, worker: int) -> int:
    """Seed Python's, fastnet's and NumPy's generators; NumPy's from a sequence of its own, because it shares its
    algorithm with Python's."""
    seed = base_seed + worker
    random.seed(seed)
    manual_seed(seed)
    np.random.seed(np.random.SeedSequence([worker, base_seed]).generate_state(4))
    return seed


def _is_interrupted(number: int, frame: Any) -> None:
    """Ctrl-C reaches every process of the terminal; the parent ends its workers itself."""


def run(connection: Any, job: Job, worker: int) -> None:
    """The worker's life: tasks (epoch, number, index) in, batches out, until the pipe closes. A task without a number
    begins an epoch."""
    global _info
    signal.signal(signal.SIGINT, _is_interrupted)
    for end in list(parent_ends):
        end.close()
    where = f"in DataLoader worker process {worker}"
    _info = WorkerInfo(worker, job.num_workers, _seed(job.base_seed, worker), job.dataset)
    inbox = _Inbox(connection)
    inbox.start()
    broken: Failure | None = None
    fetch: Fetcher | None = None
    try:
        if job.init_fn is not None:
            job.init_fn(worker)
    except Exception as error:
        broken = Failure(error, where)
    unfit: Failure | None = broken
    while (task := inbox.next()) is not None:
        epoch, number, index = task
        if number is None or (fetch is None and unfit is None):
            fetch, unfit = None, broken
            try:
                fetch = None if broken else job.fetcher()
            except Exception as error:
                unfit = Failure(error, where)
        if number is None:
            continue
        kind, result = FAILED, unfit
        if fetch is not None:
            try:
                kind, result = BATCH, fetch(index)
            except Exception as error:
                if isinstance(error, StopIteration) and isinstance(job.dataset, IterableDataset):
                    kind, result = ENDED, None
                else:
                    kind, result = FAILED, Failure(error, where)
        try:
            send(connection, (epoch, number, kind), result)
        except OSError:  # the parent has closed its end
            return
        except Exception as error:  # the batch cannot be pickled
            send(connection, (epoch, number, FAILED), Failure(error, where))
        del result
