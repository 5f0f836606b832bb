"""A stream for ``fastnet.cuda.graph`` on a machine without a GPU: it replays by doing the work again, with everything
frozen that a real graph would freeze. Capture itself needs a GPU: benchmarks/PENDING.md."""

import fastnet
from fastnet import _capture


class MadeUpStream:
    """Notes work by doing it and putting back what it changed; replays it with rates of NaN on the host.

    Args:
        optimizers: whose rates replays must not read from the host.
        tensors: () -> all tensors that a step changes, but for the optimizers' states.

    Attributes:
        graphed: the ``GraphedStep`` that it serves, to be set before the first replay.
        ran, replayed: how many steps ran as they are, and how many were replays.
    """

    def __init__(self, optimizers, tensors):
        self._optimizers, self._tensors = optimizers, tensors
        self.graphed = None
        self.ran = self.replayed = 0

    def _arrays(self):
        states = [v for o in self._optimizers for s in o.state.values() for v in s.values()]
        return [t._data for t in (*self._tensors(), *states) if isinstance(t, fastnet.Tensor)]

    def run(self, work):
        self.ran += 1
        return work()

    def record(self, work):
        arrays = self._arrays()
        kept = [a.copy() for a in arrays]
        try:
            result = work()
        finally:
            for a, k in zip(arrays, kept, strict=True):
                a[...] = k
        assert [id(a) for a in arrays] == [id(a) for a in self._arrays()], "a capture made new states"
        return work, result

    def replay(self, graph):
        self.replayed += 1
        groups = [g for o in self._optimizers for g in o.param_groups]
        rates = [g["lr"] for g in groups]
        for g in groups:
            g["lr"] = float("nan")  # what the host holds is not read
        capture = self.graphed._capture
        places = dict(capture._places)
        _capture.current, capture.recording = capture, True
        try:
            result = graph()
        finally:
            _capture.current, capture.recording = None, False
            capture._places = places
            for g, rate in zip(groups, rates, strict=True):
                g["lr"] = rate
        _overwrite(self.graphed._result, result)


def _overwrite(kept, new):
    """Tensors of nested tuples and lists take the values of others: a replay writes where the capture did."""
    if isinstance(kept, fastnet.Tensor):
        kept._data[...] = new._data
    elif kept is not None:
        for k, n in zip(kept, new, strict=True):
            _overwrite(k, n)
