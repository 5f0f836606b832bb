"""Where a run is: the state of every source of random numbers, and the place within a pass over a loader."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np

import fastnet
from fastnet._tensor import Tensor


def random_state(loader: Any = None) -> dict[str, Any]:
    """The states of fastnet's default generator, Python's, NumPy's (of which data sets make use), and of a loader's
    own."""
    version, words, gauss = random.getstate()
    state: Any = np.random.get_state(legacy=False)
    own = getattr(loader, "generator", None)
    return {
        "fastnet": fastnet.get_rng_state(),
        "python": [version, _tensor(words, np.int64), gauss],
        "numpy": {
            "key": _tensor(state["state"]["key"], np.int64),
            "pos": int(state["state"]["pos"]),
            "has_gauss": int(state["has_gauss"]),
            "gauss": float(state["gauss"]),
        },
        "loader": None if own is None else own.get_state(),
    }


def set_random_state(state: dict[str, Any], loader: Any = None) -> None:
    """Go back to what ``random_state`` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    of_numpy = state["numpy"]
    key = of_numpy["key"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, of_numpy["pos"], of_numpy["has_gauss"], of_numpy["gauss"]))
    fastnet.set_rng_state(state["fastnet"])
    own = getattr(loader, "generator", None)
    if (own is None) != (state["loader"] is None):
        raise ValueError("the loader's generator: there is one in the checkpoint or here, not both")
    if own is not None:
        own.set_state(state["loader"])


def _tensor(values: Any, dtype: Any) -> Tensor:
    return Tensor._wrap(np.array(values, dtype))


class Batches:
    """A pass over a loader that can be begun again where it was.

    The order of a loader comes from random numbers, drawn at its start and, in some, along the way, in turns with those
    of the steps (dropout). So a place is what the generators held at the start, and what the default one held before
    each batch: to go back there is to draw the same again.

    Args:
        loader: anything that can be iterated over.
        place: what ``place()`` returned in an earlier pass, to go on from; batches before it are read and dropped.
    """

    def __init__(self, loader: Any, place: dict[str, Any] | None = None):
        self._loader = loader
        if place is None:
            self._start, self._before = random_state(loader), []
            self._iterator = iter(loader)
            return
        now = random_state(loader)
        set_random_state(place["start"], loader)
        self._start, self._before = place["start"], list(place["before"].numpy())
        self._iterator = iter(loader)
        for state in self._before:
            fastnet.set_rng_state(state)
            next(self._iterator, None)
        own = now["loader"]  # of a loader's own generator, the place is the one after the batches read again
        set_random_state({**now, "loader": own if own is None else loader.generator.get_state()}, loader)

    @property
    def taken(self) -> int:
        """How many batches were taken."""
        return len(self._before)

    def place(self) -> dict[str, Any]:
        """Where the pass is: tensors and plain values."""
        before = np.array(self._before, np.uint8).reshape(-1, 16)
        return {"start": self._start, "before": Tensor._wrap(before)}

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        state = fastnet.get_rng_state().numpy()
        batch = next(self._iterator)
        self._before.append(state)
        return batch
