"""Calls kernels with valid arguments of which a few have been spoilt, so that calls get past the first check. A program
of its own: a crash ends the process, and the last line printed names the call; the build with AddressSanitizer can run
it, too (builds.run_python). usage: run_fuzz.py CALLS SEED"""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
from problems import SMALL, misaligned
from support import SCHEDULES, bfloat16

from fastnet import kernels
from fastnet.kernels._runtime import extension_for

DTYPES = (np.float32, np.float64, np.float16, bfloat16)
REFUSALS = (TypeError, ValueError, IndexError, MemoryError, OverflowError)
NUMBERS = [0, 1, -1, 2, 3, 7, 32, 33, 64, 96, 128, 256, 1024, 4096, 2**20, 2**31 - 1, -(2**31), 2**40, 0.5, -2.0]
OTHERS = [None, True, "", "relu", (), (2, 3), [], float("nan"), float("inf"), 1e-300, np.float32, b"x", 2**64, object()]


def configs(extension: Any, rng: np.random.Generator) -> list:
    """A config of every class with numbers at random, of those that could be made."""
    words = ["none", "small", "large", "general", "simt", "mma", "wgmma", "k", "outer", "float32"]
    made = []
    for name in dir(extension):
        if not name.endswith("Config"):
            continue
        cls = getattr(extension, name)
        kinds = re.findall(r"(\w+): ([\w.]+(?:\[[^]]*\])?)", cls.__init__.__doc__.split(") ->")[0])
        arguments: dict[str, Any] = {}
        for argument, kind in kinds:
            number = int(rng.choice([1, 2, 3, 8, 16, 32, 64, 100, 128, 256, 512, 1024, 2**20, 0, -1, 2**31 - 1]))
            if argument == "self":
                continue
            arguments[argument] = (
                (number, 2)
                if "uple" in kind
                else str(rng.choice(words))
                if kind == "str"
                else bool(rng.integers(2))
                if kind == "bool"
                else number
            )
        try:
            made.append(cls(**arguments))
        except (TypeError, ValueError, OverflowError):
            continue
    return made


def spoilt_array(x: np.ndarray, rng: np.random.Generator) -> Any:
    """An array with something wrong, or merely unusual, about it."""
    with np.errstate(all="ignore"):
        ways = [
            lambda: x[:0],
            lambda: x[..., :-1],
            lambda: x[..., ::2],
            lambda: x[..., ::-1],
            lambda: x.T,
            lambda: np.asfortranarray(x),
            lambda: misaligned(x),
            lambda: np.frombuffer(bytes(1) + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
            lambda: np.broadcast_to(x[:1], x.shape),
            lambda: np.lib.stride_tricks.as_strided(x, x.shape, (x.itemsize,) * x.ndim),
            lambda: x[None],
            lambda: x.reshape(-1),
            lambda: np.concatenate([x, x]),
            lambda: x.astype(rng.choice([np.float64, np.float16, np.int32, np.int64, np.uint8, np.complex64, ">f4"])),
            lambda: x.astype(bfloat16),
            lambda: (x.astype(np.float64) * 1e300).astype(x.dtype),
            lambda: np.full(x.shape, -1).astype(x.dtype),
            lambda: np.full(x.shape, np.nan if x.dtype.kind == "f" else 2**31 - 1).astype(x.dtype),
            lambda: read_only(x),
            lambda: x[(0,) * x.ndim] if x.size else 0,
            lambda: x.tolist(),
        ]
        return ways[rng.integers(len(ways))]()


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def spoilt(value: Any, rng: np.random.Generator, pool: list) -> Any:
    """Something in the place of one argument."""
    if rng.random() < 0.1:
        return pool[rng.integers(len(pool))]
    if isinstance(value, np.ndarray) and value.ndim and rng.random() < 0.9:
        return spoilt_array(value, rng)
    if isinstance(value, list) and value and rng.random() < 0.9:
        value = list(value)
        i = int(rng.integers(len(value)))
        value[i] = [lambda: spoilt(value[i], rng, pool), lambda: value[0], lambda: value[-1]][rng.integers(3)]()
        return value if rng.random() < 0.9 else value[:-1]
    if isinstance(value, tuple) and value and rng.random() < 0.7:
        return (*value[:-1], int(rng.choice([0, 1, -1, 7, 300])))
    return NUMBERS[rng.integers(len(NUMBERS))] if rng.random() < 0.7 else OTHERS[rng.integers(len(OTHERS))]


def brief(x: Any) -> str:
    """Shape, strides and dtype in place of values."""
    if isinstance(x, np.ndarray):
        return f"{x.dtype}{x.shape}/{x.strides}"
    if isinstance(x, (list, tuple)):
        return "[" + ", ".join(map(brief, x)) + "]"
    return repr(x)[:60]


def main(calls: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    np.seterr(all="ignore")
    outcomes: dict[str, int] = {}
    names = sorted(SMALL)
    extension = extension_for(np.empty(0))
    for i in range(calls):
        name = names[rng.integers(len(names))]
        problems = list(SMALL[name](rng, DTYPES[rng.integers(len(DTYPES))]))
        args, kwargs = problems[rng.integers(len(problems))]
        places: list[Any] = [*range(len(args)), *kwargs, "config"]
        pool = [a for a in (*args, *kwargs.values()) if isinstance(a, (np.ndarray, list))] or [None]
        args, kwargs = list(args), dict(kwargs)
        for _ in range(rng.integers(1, 3)):
            place = places[rng.integers(len(places))]
            if place == "config":
                made = configs(extension, rng)
                mine = [c for c in made if name.split("_")[0] in type(c).__name__.lower()]
                kwargs["config"] = (mine if mine and rng.random() < 0.7 else made)[0] if made else 3
            elif isinstance(place, int):
                args[place] = spoilt(args[place], rng, pool)
            else:
                kwargs[place] = spoilt(kwargs[place], rng, pool)
        words = [*map(brief, args), *(f"{k}={brief(v)}" for k, v in kwargs.items())]
        how = SCHEDULES[i % len(SCHEDULES)]
        print(f"{i} {name}({', '.join(words)}) {how}", flush=True)
        try:
            with kernels.use("emulated", **how):
                getattr(kernels, name)(*args, **kwargs)
        except REFUSALS as error:
            outcome = type(error).__name__
        except Exception as error:
            raise SystemExit(f"{type(error).__name__}: {error}") from error
        else:
            outcome = "returned"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    print(f"outcomes: {outcomes}")
    print(f"calls: {calls}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
