"""The parent's side of a loader with worker processes.

Each worker has a pipe of its own, in which tasks go one way and batches the other. No lock is shared, so that a worker
may be killed at any instant: its end of the pipe closes, which the parent sees at once. Closing the parent's end is how
a worker is told to finish.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import time
import weakref
from typing import Any, NoReturn

from fastnet.utils.data import transfer
from fastnet.utils.data.worker import BATCH, CHECK_SECONDS, ENDED, Failure, Job, parent_ends, run

_PATIENCE = 5.0  # seconds that a worker has to finish the item it is at before it is terminated


class _Worker:
    """A worker process and this side of its pipe."""

    def __init__(self, context: Any, job: Job, number: int):
        self.connection, theirs = context.Pipe()
        parent_ends.add(self.connection)
        self.process = context.Process(
            target=run, args=(theirs, job, number), daemon=True, name=f"fastnet-data-{number}"
        )
        try:
            self.process.start()
        except BaseException:
            self.hang_up()
            raise
        finally:
            theirs.close()
        self.outstanding = 0
        self.streaming = True  # has more to give in this epoch

    def hang_up(self) -> None:
        parent_ends.discard(self.connection)
        self.connection.close()


def _stop(workers: list[_Worker], owner: int, patience: float = _PATIENCE) -> None:
    """End and reap all workers: by closing their pipes, then by SIGTERM, then by SIGKILL."""
    if os.getpid() != owner:  # a forked child collects its copy of the parent's iterator
        return
    for w in workers:
        w.hang_up()
    deadline = time.monotonic() + patience
    for w in workers:
        w.process.join(max(0.0, deadline - time.monotonic()))
    for end in ("terminate", "kill"):
        late = [w for w in workers if w.process.is_alive()]
        for w in late:
            getattr(w.process, end)()
        for w in late:
            w.process.join(1.0)
    for w in workers:
        if not w.process.is_alive():
            w.process.close()
    workers.clear()


class WorkerPool:
    """Workers that fetch numbered batches of epochs.

    Args:
        context: a multiprocessing context.
        job: what the workers do.
        in_order: give batches by number; else as they arrive.
        prefetch_factor: batches that each worker is given ahead.
        keep_workers: leave them for another epoch when one ends.
        timeout: seconds to wait for a batch; 0 for ever.
    """

    def __init__(
        self, context: Any, job: Job, *, in_order: bool, prefetch_factor: int, keep_workers: bool, timeout: float
    ):
        self.in_order, self.prefetch, self.keep, self.timeout = in_order, prefetch_factor, keep_workers, timeout
        self.count = job.num_workers
        self._workers: list[_Worker] = []
        # Runs when the pool is collected and, at the latest, when the interpreter ends.
        self._finalizer = weakref.finalize(self, _stop, self._workers, os.getpid())
        self._epoch = 0
        try:
            for number in range(job.num_workers):
                self._workers.append(_Worker(context, job, number))
        except BaseException:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive

    def close(self, patience: float = _PATIENCE) -> None:
        """End the workers."""
        if self._finalizer.detach() is not None:
            _stop(self._workers, os.getpid(), patience)

    def begin(self, indices: Any) -> None:
        """Begin an epoch: tasks come from the iterator ``indices``. What an earlier epoch has left is dropped."""
        self._epoch += 1
        self._indices = indices
        self._given = self._due = 0  # numbers of the next task to give and of the next batch to hand out
        self._turn = 0
        self._owner: dict[int, _Worker] = {}
        self._arrived: dict[int, tuple[str, Any]] = {}
        for w in self._workers:
            w.outstanding, w.streaming = 0, True
            if self._epoch > 1:
                self._tell(w, (self._epoch, None, None))
        for _ in range(self.prefetch * self.count):
            self._give()

    def next(self) -> Any:
        """The next batch.

        Raises:
            StopIteration: there is none.
            RuntimeError: a worker died, or the timeout has passed.
            Exception: what a worker met, its traceback in the message.
        """
        if self.closed:
            raise StopIteration
        while True:
            number = self._ready()
            if number is not None:
                self._owner.pop(number, None)
                kind, body = self._arrived.pop(number)
                self._give()
                result = body()
                if kind == BATCH:
                    return result
                assert isinstance(result, Failure)
                raise result.exception()
            if self._finished():
                if not self.keep:
                    self.close()
                raise StopIteration
            self._collect()

    def _ready(self) -> int | None:
        """The number of a batch that may be handed out now."""
        if not self.in_order:
            return next(iter(self._arrived), None)
        if self._finished() or self._due not in self._arrived:
            return None
        self._due += 1
        return self._due - 1

    def _finished(self) -> bool:
        """Whether nothing more will come; passes over tasks of workers whose stream has ended."""
        while self._due < self._given:
            owner = self._owner.get(self._due)
            if owner is not None and (owner.streaming or self._due in self._arrived):
                return False
            self._owner.pop(self._due, None)
            self._due += 1
        return True

    def _give(self) -> None:
        """Give the next task to the next worker in turn that has more to give and, out of order, room for it."""
        try:
            index = next(self._indices)
        except StopIteration:
            return
        streaming = sum(w.streaming for w in self._workers)
        for _ in self._workers:
            w = self._workers[self._turn]
            self._turn = (self._turn + 1) % self.count
            if w.streaming and (self.in_order or w.outstanding < -(-self.prefetch * self.count // streaming)):
                break
        else:
            return
        self._owner[self._given] = w
        w.outstanding += 1
        self._tell(w, (self._epoch, self._given, index))
        self._given += 1

    def _tell(self, worker: _Worker, task: tuple) -> None:
        try:
            worker.connection.send(task)
        except OSError:
            self._died(worker)

    def _collect(self) -> None:
        """Take what has arrived; waits for one message at least."""
        by_connection = {w.connection: w for w in self._workers if not w.connection.closed}
        deadline = time.monotonic() + self.timeout
        try:
            while True:
                left = min(CHECK_SECONDS, deadline - time.monotonic()) if self.timeout else CHECK_SECONDS
                ready = multiprocessing.connection.wait(list(by_connection), max(0.0, left))
                if ready:
                    break
                for w in by_connection.values():  # a process that it has started may hold a dead worker's pipe open
                    if not w.process.is_alive():
                        self._died(w)
                if self.timeout and time.monotonic() >= deadline:
                    raise RuntimeError(f"DataLoader timed out after {self.timeout} seconds")
            for connection in ready:
                worker = by_connection[connection]
                try:
                    (epoch, number, kind), body = transfer.receive(connection)
                except (EOFError, OSError):
                    self._died(worker)
                if epoch != self._epoch:
                    continue
                worker.outstanding -= 1
                if kind != ENDED:
                    self._arrived[number] = (kind, body)
                    continue
                worker.streaming = False
                if not self.keep:
                    worker.hang_up()
                self._give()
        except BaseException:  # half a message may have been read: this pool is of no more use
            self.close(patience=0.5)
            raise

    def _died(self, worker: _Worker) -> NoReturn:
        process = worker.process
        process.join(1.0)
        pid, code = process.pid, process.exitcode
        self.close(patience=0.5)
        if code is not None and code < 0:
            reason = f"is killed by signal: {signal.strsignal(-code)}. "
            if -code == signal.SIGKILL:
                reason += "The system may have run out of memory."
            raise RuntimeError(f"DataLoader worker (pid {pid}) {reason}") from None
        raise RuntimeError(f"DataLoader worker (pid(s) {pid}) exited unexpectedly, with exit code {code}") from None
