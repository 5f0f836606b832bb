"""Ctrl-C and SIGTERM: a run finishes its step, saves, and says how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop and has.

    Attributes:
        signal: number of the signal that asked.
        step: steps done.
        checkpoint: from where it goes on; None where nothing is written.
    """

    def __init__(self, signal: int, step: int, checkpoint: Path | None):
        self.signal, self.step, self.checkpoint = signal, step, checkpoint
        saved = "nothing was saved" if checkpoint is None else f"saved in {checkpoint}"
        super().__init__(f"stopped after step {step}: {saved}")


class Stop:
    """Whether a signal has asked to stop, and which."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def ask(self, number: int, frame: Any = None) -> None:
        """The handler: the first signal is remembered, a second Ctrl-C interrupts at once."""
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Around steps that look at ``Stop.signal``. Elsewhere than in the main thread, where Python lets nobody handle
    signals, nothing changes."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
