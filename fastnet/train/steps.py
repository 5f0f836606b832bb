"""Steps that run ahead of the host: their numbers stay on the device until several are read at once, and whole steps
may be CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnet import _capture
from fastnet._device import device as Device
from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.cuda import graphs
from fastnet.train.resume import copied

FORMS = 4  # of batches that get a graph of their own; each keeps a memory pool


@dataclass
class Launched:
    """A step that was given to the device: its record, and from what it can be computed again."""

    record: Tensor  # float64, one dimension
    random_state: Tensor
    carried: Any
    batches: Sequence[Any]


def record_of(values: Sequence[Any]) -> Tensor:
    """Numbers as one float64 tensor on the device of those that lie on one: arrays and tensors of one element, arrays
    of one dimension, and numbers of the host. Nothing is copied from the host, so that a graph can hold it."""
    arrays = [v._data if isinstance(v, Tensor) else v for v in values]
    xp = namespace(next(a for a in arrays if hasattr(a, "dtype")))
    sizes = [a.size if hasattr(a, "dtype") else 1 for a in arrays]
    out = xp.empty(sum(sizes), np.float64)
    at = 0
    for a, n in zip(arrays, sizes, strict=True):
        out[at : at + n] = a
        at += n
    return Tensor._wrap(out)


def fetched(records: Sequence[Tensor]) -> list[list[float]]:
    """The records' values; waits for the device once."""
    flat = records[0]._data
    if len(records) > 1:
        flat = namespace(flat).concatenate([r._data for r in records])
    values, rows = iter(Tensor._wrap(flat).tolist()), []
    for r in records:
        rows.append([next(values) for _ in range(r.numel())])
    return rows


@contextmanager
def halting(optimizer: Any, halt: Tensor) -> Iterator[None]:
    """Inside, the optimizer's steps set ``halt`` where a gradient is not finite, and change nothing once it is set."""
    optimizer.halt = halt
    try:
        yield
    finally:
        del optimizer.halt


def _flat(value: Any) -> tuple[list[Tensor], str]:
    """Tensors of nested lists and tuples, and their form in words."""
    if value is None:
        return [], "None"
    if isinstance(value, Tensor):
        return [value], f"{value.dtype}{tuple(value.shape)}@{Device.of_array(value._data)}"
    if type(value) in (list, tuple):
        parts = [_flat(v) for v in value]
        return [t for tensors, _ in parts for t in tensors], f"({', '.join(form for _, form in parts)})"
    raise _capture.CaptureError(
        f"the step cannot be captured: a batch or a carried state holds a {type(value).__name__}, expected tensors and "
        "lists and tuples of them"
    )


def _rebuilt(like: Any, tensors: Iterator[Tensor]) -> Any:
    """What ``_flat`` took apart, of other tensors."""
    if like is None:
        return None
    return next(tensors) if isinstance(like, Tensor) else type(like)(_rebuilt(v, tensors) for v in like)


class GraphedSteps:
    """A run's steps as CUDA graphs: one for each form of batch and carried state that comes, for the first four forms;
    steps of further ones run as they are.

    Args:
        run: has ``train_step(batches)``, which gives a record, and ``carried``.
        recorder: makes that of a graph; for tests.

    Raises:
        CaptureError, RuntimeError: from a call, as ``fastnet.cuda.graph``'s; the step has not run.
    """

    def __init__(self, run: Any, recorder: Callable[[], graphs.Recorder] | None = None):
        self._run, self._recorder = run, recorder
        self._graphs: dict[str, graphs.GraphedStep] = {}

    def __call__(self, batches: Sequence[Any]) -> Tensor:
        run = self._run
        given = (list(map(_listed, batches)), run.carried)
        tensors, form = _flat(given)
        if form not in self._graphs:
            if len(self._graphs) == FORMS:
                return run.train_step(batches)
            self._graphs[form] = graphs.graph(self._step(given), recorder=self._recorder and self._recorder())
        # Replays write where the capture did: what is kept longer than a step is copied.
        record, run.carried = copied(self._graphs[form](*tensors))
        return record

    def clear(self) -> None:
        """Forget the graphs: they read and write memory which the loading of a state replaces."""
        self._graphs.clear()

    def _step(self, like: Any) -> Callable[..., tuple[Tensor, Any]]:
        def step(*tensors: Tensor) -> tuple[Tensor, Any]:
            batches, self._run.carried = _rebuilt(like, iter(tensors))
            return self._run.train_step(batches), self._run.carried

        return step


def _listed(batch: Any) -> Any:
    return list(batch) if type(batch) in (list, tuple) else batch
