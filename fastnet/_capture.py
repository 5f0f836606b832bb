"""What a step reads from memory while a CUDA graph is made of it, so that replays see new values: learning rates and
the generators' places. ``fastnet.cuda.graphs`` puts a capture in force; optimizers and generators ask for it."""

from __future__ import annotations

import linecache
import os
import sys
from types import FrameType, TracebackType
from typing import Any

import numpy as np

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class CaptureError(RuntimeError):
    """A step cannot be captured, or a captured one cannot be replayed; the message names the call."""


class Capture:
    """Of one step. Work in fastnet's own arrays beside those that kernels read."""

    def __init__(self) -> None:
        self.recording = False  # whether a graph is being made just now, and nothing may wait for the device
        self._rates: list[tuple[dict[str, Any], Any, dict[str, Any]]] = []  # group, mirror of its rate, other options
        self._places: dict[Any, tuple[Any, Any, int]] = {}  # by generator's id: it, [seed, place], draws a step

    # ---- learning rates ----------------------------------------------------------------------------------------------

    def rate(self, group: dict[str, Any], like: Any) -> Any:
        """The array beside ``like`` in which kernels find a group's rate."""
        from fastnet._device import namespace

        for known, mirror, _ in self._rates:
            if known is group:
                return mirror
        if self.recording:
            raise CaptureError(f"the step cannot be captured: it steps an optimizer that no call before did{where()}")
        mirror = namespace(like).full(1, group["lr"], np.float64)
        self._rates.append((group, mirror, _options(group)))
        return mirror

    def _write_rates(self) -> None:
        for group, mirror, options in self._rates:
            now = _options(group)
            for name, value in options.items():
                if now.get(name) != value:
                    raise CaptureError(
                        f"the captured step cannot be replayed: {name!r} of a parameter group was {value!r} and is "
                        f"{now.get(name)!r}; of the options only the learning rate is read from memory"
                    )
            mirror[...] = float(group["lr"])

    # ---- random numbers ----------------------------------------------------------------------------------------------

    def state_array(self, generator: Any, xp: Any) -> Any:
        """[seed, place at which the step began] as kernels read it."""
        known = self._places.get(id(generator))
        if known is None:
            if self.recording:
                raise CaptureError(
                    f"the step cannot be captured: it draws from a generator that no call before drew from{where()}"
                )
            array = xp.asarray(np.array([generator._seed, generator._offset], np.uint64))
            known = self._places[id(generator)] = generator, array, 0
        return known[1]

    def next_offset(self, generator: Any) -> int:
        """The place of the next draw, counted from where the step began."""
        kept, array, draws = self._places[id(generator)]
        self._places[id(generator)] = kept, array, draws + 1
        return draws

    def begin(self) -> None:
        """Before a step, captured, replayed or not: write what kernels read."""
        self._write_rates()
        for key, (generator, array, _) in self._places.items():
            array[...] = _as_like(array, [generator._seed, generator._offset])
            self._places[key] = generator, array, 0

    def end(self) -> dict[Any, int]:
        """After a step that ran: the generators go on; what each drew."""
        drawn = {key: draws for key, (_, _, draws) in self._places.items()}
        self.move(drawn)
        return drawn

    def move(self, drawn: dict[Any, int]) -> None:
        """The generators' places after a step that drew so many numbers."""
        for key, draws in drawn.items():
            generator = self._places[key][0]
            generator._offset = (generator._offset + draws) % 2**64


current: Capture | None = None


def refuse(call: str) -> None:
    """CaptureError, naming the call, where a graph is being made."""
    if current is not None and current.recording:
        raise CaptureError(f"the step cannot be captured: {call} waits for the device{where()}")


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in group.items() if k not in ("params", "lr", "initial_lr") and _is_plain(v)}


def _is_plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str, type(None))) or (
        isinstance(value, tuple) and all(map(_is_plain, value))
    )


def _as_like(array: Any, values: list[int]) -> Any:
    host = np.array(values, np.uint64)
    if isinstance(array, np.ndarray):
        return host
    import cupy

    return cupy.asarray(host)


def where(traceback: TracebackType | None = None) -> str:
    """The line outside fastnet that is running, or that an exception came through last: ``(train.py:12: x.item())``."""
    frames: list[tuple[FrameType, int]] = []
    if traceback is None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            frames.append((frame, frame.f_lineno))
            frame = frame.f_back
    else:
        step: TracebackType | None = traceback
        while step is not None:
            frames.insert(0, (step.tb_frame, step.tb_lineno))
            step = step.tb_next
    for found, line in frames:
        path = found.f_code.co_filename
        if not os.path.abspath(path).startswith(_PACKAGE):
            text = linecache.getline(path, line).strip()
            return f" ({os.path.basename(path)}:{line}{': ' + text if text else ''})"
    return ""
