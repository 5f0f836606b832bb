"""Calls public functions with hostile arguments, as a program of its own: a crash ends the process, and the last line
printed names the call. usage: fuzz_calls.py CALLS SEED"""

from __future__ import annotations

import inspect
import re
import resource
import sys
import types
import warnings
from collections.abc import Callable

import numpy as np

import fastnet
from fastnet import kernels, linalg, nn, optim, signal, special
from fastnet.nn import functional

# What a bad call may raise. MemoryError: sizes that no machine has. Anything else is a defect.
ALLOWED = (
    ValueError,
    TypeError,
    IndexError,
    NotImplementedError,
    MemoryError,
    OverflowError,
    KeyError,
    ZeroDivisionError,
    BufferError,
)
# What is wrong with a tensor's state or the machine, rather than with an argument, raises RuntimeError, as in PyTorch.
STATE = re.compile(
    "leaf Variable|in-place|[Rr]equires?[_ ](a )?grad|more than one element of the written-to|should not be called"
    "|cannot be `True` together|is non-finite|not in C order|does not support `diff|no usable GPU|CuPy is not"
    "|can require gradients"
)
# Take modules and tensors for what they can do, as in PyTorch: what cannot do it raises AttributeError.
DUCKS = {"fastnet.nn.init", "fastnet.nn.utils", "fastnet.nn.utils.rnn"}
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


def classes(module: types.ModuleType, base: type) -> dict:
    """A module's public classes of a kind, by name."""
    found = {n: getattr(module, n) for n in dir(module) if not n.startswith("_")}
    return {n: c for n, c in found.items() if inspect.isclass(c) and issubclass(c, base) and c is not base}


def layer(cls: type, tensors: list, rng: np.random.Generator) -> Callable:
    """A call that makes a layer and, if it could be made, runs it on some of the tensors."""

    def make_and_run(*args, **kwargs):
        made = cls(*args, **kwargs)
        count = len([p for p in inspect.signature(made.forward).parameters.values() if p.default is p.empty])
        return made(*[tensors[rng.integers(len(tensors))] for _ in range(max(1, count))])

    make_and_run.__signature__ = inspect.signature(cls)
    return make_and_run


def optimizer(cls: type) -> Callable:
    """A call that makes an optimizer of a parameter and takes two steps."""

    def make_and_step(*args, **kwargs):
        weight = nn.Parameter(fastnet.ones(3, 4))
        made = cls([weight], *args, **kwargs)
        for _ in range(2):
            weight.grad = fastnet.ones(3, 4)
            made.step(lambda: fastnet.tensor(1.0)) if cls is optim.LBFGS else made.step()

    parameters = list(inspect.signature(cls).parameters.values())
    make_and_step.__signature__ = inspect.Signature(parameters[1:])
    return make_and_step


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
    modules = [linalg, special, signal.windows, nn.init, nn.utils, nn.utils.rnn]
    targets += [(m.__name__, n, f, "tensors") for m in modules for n, f in public(m).items()]
    targets += [("nn", n, c, "layer") for n, c in classes(nn, nn.Module).items()]
    targets += [("optim", n, optimizer(c), "tensors") for n, c in classes(optim, optim.Optimizer).items()]
    outcomes: dict[str, int] = {}
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    for i in range(calls):
        where, name, function, kind = targets[rng.integers(len(targets))]
        pool_arrays = arrays(rng)
        if kind != "arrays":
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
        if kind == "layer":  # one of 2**31 parts would be built for hours, as PyTorch's would
            others = [v for v in others if not isinstance(v, int) or v < 2**31]

        def pick(pool=pool_arrays, others=others):
            if rng.random() < 0.65:
                return pool[rng.integers(len(pool))]
            if rng.random() < 0.1:
                return [pool[rng.integers(len(pool))] for _ in range(rng.integers(0, 3))]
            return others[rng.integers(len(others))]

        if kind == "layer":
            function = layer(function, pool_arrays, rng)
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
        except RuntimeError as error:
            if not STATE.search(str(error)):
                raise SystemExit(f"{type(error).__name__}: {error}") from error
            kind = "RuntimeError"
        except AttributeError as error:
            if where not in DUCKS:
                raise SystemExit(f"AttributeError: {error}") from error
            kind = "AttributeError"
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
