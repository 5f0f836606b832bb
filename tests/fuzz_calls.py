"""Calls public functions with hostile arguments, as a program of its own: a crash ends the process, and the last line
printed names the call. usage: fuzz_calls.py CALLS SEED"""

from __future__ import annotations

import inspect
import resource
import sys
import types
import warnings

import numpy as np

import fastnet
from fastnet import kernels
from fastnet.nn import functional

# What a bad call may raise. MemoryError: sizes that no machine has. Anything else is a defect.
ALLOWED = (
    ValueError,
    TypeError,
    IndexError,
    RuntimeError,
    NotImplementedError,
    MemoryError,
    OverflowError,
    KeyError,
    ZeroDivisionError,
    BufferError,
)
MEMORY = 8 << 30  # bytes that a call may take: beyond it raises, where the machine's end would end the process
# They change global state, or need files, processes or hours.
LEFT_OUT = {
    "use",
    "trace",
    "available",
    "save",
    "load",
    "set_default_device",
    "set_default_dtype",
    "set_default_tensor_type",
    "set_num_threads",
    "set_printoptions",
    "manual_seed",
    "seed",
    "set_rng_state",
    "tensor_repr",
}
SETTINGS = [("forward", "early"), ("reverse", "late"), ("random", "late")]


def arrays(rng: np.random.Generator) -> list:
    """Awkward arrays: strides, alignment, byte order, dtypes, sizes of zero, NaN."""
    base = rng.standard_normal((6, 8)).astype(np.float32)
    raw = np.zeros(4 * 16 + 1, np.uint8)
    return [
        base,
        base.T,
        base[::-1, ::2],
        base[:0],
        base[0],
        base.astype(np.float16),
        base.astype(np.float64),
        base.astype(np.int64),
        base > 0,
        np.float32(3),
        np.array(2.0, np.float32),
        raw[1:].view(np.float32),
        base.astype(">f4"),
        base.reshape(2, 3, 8),
        np.broadcast_to(base[0], (4, 8)),
        np.full((3, 3), np.nan, np.float32),
        np.full((2, 2), np.inf, np.float32),
        np.zeros((0, 0), np.float32),
        np.array(["a"]),
        np.array([None]),
        base.astype(np.complex64),
        np.array([12, 3], np.uint64),
        np.arange(6),
        np.zeros((1,) * 9, np.float32),
        np.asfortranarray(base),
        base.astype(fastnet.bfloat16.numpy),
        np.lib.stride_tricks.as_strided(base, (3, 3), (4, 4)),
    ]


def values(rng: np.random.Generator) -> list:
    """Anything but arrays."""
    return [
        None,
        0,
        1,
        -1,
        2,
        3,
        2**31,
        -(2**63),
        2**64,
        2**100,
        0.0,
        0.5,
        -0.5,
        1e308,
        float("nan"),
        float("inf"),
        True,
        False,
        "",
        "mean",
        "relu",
        "none",
        "cuda",
        "cpu",
        (),
        (1,),
        (2, 3),
        (-1,),
        (0, 0),
        (2**40, 2**40),
        [],
        [1, 2],
        [[1], [2, 3]],
        {},
        {"a": 1},
        object(),
        b"x",
        1j,
        print,
        slice(None),
        Ellipsis,
        fastnet.float32,
        fastnet.int64,
        np.float32,
        np.dtype(np.int32),
        fastnet.device("cpu"),
        range(3),
    ]


def public(module: types.ModuleType) -> dict:
    """Functions of a module by name, classes left out."""
    names = getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]
    found = {}
    for name in names:
        f = getattr(module, name, None)
        if callable(f) and not inspect.isclass(f) and not isinstance(f, types.ModuleType) and name not in LEFT_OUT:
            found[name] = f
    return found


def main(calls: int, seed: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    rng = np.random.default_rng(seed)
    targets = [("fastnet.kernels", n, f, "arrays") for n, f in public(kernels).items()]
    targets += [("fastnet", n, f, "tensors") for n, f in public(fastnet).items()]
    targets += [("fastnet.nn.functional", n, f, "tensors") for n, f in public(functional).items()]
    targets += [
        ("Tensor", n, getattr(fastnet.Tensor, n), "tensors")
        for n in dir(fastnet.Tensor)
        if not n.startswith("_")
        and inspect.isfunction(getattr(fastnet.Tensor, n))
        and n not in ("cuda", "register_hook")
    ]
    outcomes: dict[str, int] = {}
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    for i in range(calls):
        where, name, function, kind = targets[rng.integers(len(targets))]
        pool_arrays = arrays(rng)
        if kind == "tensors":
            made = []
            for a in pool_arrays:
                try:
                    t = fastnet.as_tensor(a)
                    made.append(
                        t.requires_grad_() if t.is_floating_point() and t.is_contiguous() and rng.random() < 0.3 else t
                    )
                except ALLOWED:
                    pass
            pool_arrays = made
        others = values(rng)

        def pick(pool=pool_arrays, others=others):
            if rng.random() < 0.65:
                return pool[rng.integers(len(pool))]
            if rng.random() < 0.1:
                return [pool[rng.integers(len(pool))] for _ in range(rng.integers(0, 3))]
            return others[rng.integers(len(others))]

        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            parameters = []
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        required = sum(p.default is p.empty for p in positional)
        # Mostly as many arguments as it takes, so that the calls get past the first check.
        count = required + int(rng.integers(0, 3)) - int(rng.random() < 0.05)
        args = [pick() for _ in range(max(0, count))]
        if where == "Tensor" and (not args or not isinstance(args[0], fastnet.Tensor)):
            args[:1] = [pool_arrays[rng.integers(len(pool_arrays))]]  # a method has a tensor before its dot
        keyword = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        kwargs = {k: pick() for k in keyword if rng.random() < 0.25 and k != "generator"}
        order, copies = SETTINGS[i % len(SETTINGS)]
        words = [*map(brief, args), *(f"{k}={brief(v)}" for k, v in kwargs.items())]
        print(f"{i} {where}.{name}({', '.join(words)})", flush=True)
        try:
            with kernels.use("emulated", order=order, copies=copies, seed=i % 100):
                result = function(*args, **kwargs)
                if isinstance(result, fastnet.Tensor) and result.requires_grad and result.numel():
                    result.sum().backward()
        except ALLOWED as error:
            kind = type(error).__name__
            if kind == "EmulatorError":
                raise SystemExit(f"a kernel was launched that should have been refused: {error}") from None
        except BaseException as error:
            raise SystemExit(f"{type(error).__name__}: {error}") from error
        else:
            kind = "returned"
        outcomes[kind] = outcomes.get(kind, 0) + 1
    print(f"outcomes: {outcomes}")
    print(f"calls: {calls}, functions: {len(targets)}")


def brief(x) -> str:
    """Shape and dtype in place of values."""
    if isinstance(x, (np.ndarray, np.generic, fastnet.Tensor)):
        return f"{type(x).__name__}{tuple(x.shape)}:{x.dtype}"
    return repr(x)[:40]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
