"""Whole training steps as CUDA graphs: forward, backward and optimizer in one launch."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, Protocol

from fastnet import _capture
from fastnet._capture import Capture, CaptureError
from fastnet._device import device as Device
from fastnet._tensor import Tensor

__all__ = ["CaptureError", "GraphedStep", "graph"]


class Recorder(Protocol):
    """A stream that can be captured, with memory of its own."""

    def run(self, work: Callable[[], Any]) -> Any:
        """Do work on it; its result."""
        ...

    def record(self, work: Callable[[], Any]) -> tuple[Any, Any]:
        """Note the work without doing it: (graph, the result of ``work``)."""
        ...

    def replay(self, graph: Any) -> None:
        """Do noted work again, into the same memory."""
        ...


class CudaRecorder:
    """CuPy's stream capture. Arrays come from a pool of the graph's own: replays write where the capture allocated, so
    that nothing else may be given that memory."""

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self._pool = cupy.cuda.MemoryPool()
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def run(self, work: Callable[[], Any]) -> Any:
        outer = self._cupy.cuda.get_current_stream()
        self._stream.wait_event(outer.record())
        with self._stream, self._cupy.cuda.using_allocator(self._pool.malloc):
            result = work()
        outer.wait_event(self._stream.record())
        return result

    def record(self, work: Callable[[], Any]) -> tuple[Any, Any]:
        self._cupy.cuda.Device().synchronize()
        with self._stream, self._cupy.cuda.using_allocator(self._pool.malloc):
            self._stream.begin_capture()
            try:
                result = work()
            except BaseException:
                # What made the work fail may have made the capture invalid, and then this fails too.
                with contextlib.suppress(self._cupy.cuda.runtime.CUDARuntimeError):
                    self._stream.end_capture()
                raise
            return self._stream.end_capture(), result

    def replay(self, graph: Any) -> None:
        graph.launch(self._cupy.cuda.get_current_stream())


def graph(step: Callable[..., Any], *, warmup: int = 2, recorder: Recorder | None = None) -> GraphedStep:
    """A training step that runs as one CUDA graph, so that neither Python nor launches are in its time.

    Every call of what this returns is one step. The first ``warmup`` run as they are; the next is captured, and that
    one and all after it are replays. Between replays these may change, without another capture:

    - the arguments' values: they are copied to where the captured step reads them; shapes, dtypes and devices stay;
    - learning rates, set by schedules or by hand;
    - random numbers: a replay draws what the step would have drawn, and the generators go on as after it.

    Everything else is as it was when the step was captured: other options of the optimizer, numbers, branches, shapes.
    What the step returns lies in the same memory each time, and is overwritten by the next call.

    Args:
        step: takes tensors and returns None, a tensor, or a tuple, list or dict of tensors. All that it does to tensors
            is on one GPU; it may not read their values.
        warmup: calls before the capture, at least 1: what is made at first use has to be there, optimizers' states and
            gradients among it.
        recorder: for tests.

    Raises:
        RuntimeError: there is no GPU.
        ValueError: warmup below 1.
        CaptureError: from a call, where the step cannot be captured, or an argument is not as it was; the message names
            the call or the argument. A step that cannot be captured has not run, and goes on running as it is when it
            is called itself.

    Example::

        @fastnet.cuda.graph
        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        for x, y in loader:
            loss = step(x, y)
            schedule.step()
    """
    if not isinstance(warmup, int) or warmup < 1:
        raise ValueError(f"graph: warmup is {warmup!r}, expected an integer from 1 on")
    if recorder is None:
        from fastnet import cuda

        cuda._runtime()  # says why, where there is no GPU
        recorder = CudaRecorder()
    return GraphedStep(step, warmup, recorder)


class GraphedStep:
    """What ``graph`` returns.

    Attributes:
        captured: whether calls are replays.
    """

    def __init__(self, step: Callable[..., Any], warmup: int, recorder: Recorder):
        self._step, self._left, self._recorder = step, warmup, recorder
        self._capture = Capture()
        self._inputs: list[Tensor] | None = None
        self._graph: Any = None
        self._result: Any = None
        self._drawn: dict[Any, int] = {}
        functools.update_wrapper(self, step)

    @property
    def captured(self) -> bool:
        return self._graph is not None

    def __call__(self, *args: Any) -> Any:
        inputs = self._placed(args)
        self._capture.begin()
        if self._left:
            result = self._within(lambda: self._recorder.run(lambda: self._step(*inputs)))
            self._left -= 1
            self._capture.end()
            return result
        if self._graph is None:
            self._record(inputs)
            self._capture.begin()
        self._recorder.replay(self._graph)
        self._capture.move(self._drawn)
        return self._result

    def _within(self, work: Callable[[], Any]) -> Any:
        if _capture.current is not None:
            raise CaptureError(f"a graphed step calls another one{_capture.where()}")
        _capture.current = self._capture
        try:
            return work()
        finally:
            _capture.current = None

    def _record(self, inputs: list[Tensor]) -> None:
        self._capture.recording = True
        try:
            noted, result = self._within(lambda: self._recorder.record(lambda: self._step(*inputs)))
        except CaptureError:
            raise
        except Exception as error:
            line = _capture.where(error.__traceback__)
            raise CaptureError(f"the step cannot be captured: {type(error).__name__}: {error}{line}") from error
        finally:
            self._capture.recording = False
        _check_result(result, "what the step returned")
        self._graph, self._result = noted, result
        self._drawn = {key: draws for key, (_, _, draws) in self._capture._places.items()}

    def _placed(self, args: tuple[Any, ...]) -> list[Tensor]:
        """The arguments, in the memory that the captured step reads."""
        for i, x in enumerate(args):
            if not isinstance(x, Tensor):
                raise CaptureError(f"argument {i} of the graphed step is a {type(x).__name__}, expected a tensor")
        if self._inputs is None:
            self._inputs = [Tensor._wrap(x._data.copy()) for x in args]
            return self._inputs
        if len(args) != len(self._inputs):
            raise CaptureError(f"the graphed step takes {len(self._inputs)} arguments, got {len(args)}")
        for i, (x, kept) in enumerate(zip(args, self._inputs, strict=True)):
            now, then = _form(x), _form(kept)
            if now != then:
                raise CaptureError(
                    f"argument {i} of the graphed step is {now}, at first it was {then}: call the step itself for it"
                )
            kept._data[...] = x._data
        return self._inputs


def _form(x: Tensor) -> str:
    return f"{x.dtype} of shape {tuple(x.shape)} on {Device.of_array(x._data)}"


def _check_result(result: Any, name: str) -> None:
    if result is None or isinstance(result, Tensor):
        return
    if isinstance(result, (tuple, list)):
        for i, x in enumerate(result):
            _check_result(x, f"{name}[{i}]")
        return
    if isinstance(result, dict):
        for key, x in result.items():
            _check_result(x, f"{name}[{key!r}]")
        return
    raise CaptureError(f"{name} is a {type(result).__name__}, which replays would not change: return tensors")
