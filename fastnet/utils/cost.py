"""What a computation costs: floating-point operations, counted from the functions that ran.

``count()`` puts a proxy before the implementation in force, so that every function is seen once, whichever
implementation runs it, and nothing is paid when nobody counts.
"""

from __future__ import annotations

import itertools
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastnet.kernels import _runtime


def _matmul(result: Any, a: Any, b: Any, **_: Any) -> int:
    out = result[0] if isinstance(result, tuple) else result
    return 2 * out.size * a.shape[-1]


def _attention(q: Any, k: Any, v: Any, of_keys: int, of_values: int) -> int:
    scores = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    return 2 * scores * (of_keys * q.shape[3] + of_values * v.shape[3])


def _attention_varlen(q: Any, k: Any, v: Any, rest: tuple, of_keys: int, of_values: int) -> int:
    """As if every pair of a query and a key of a sequence were computed; lengths are read from the device."""
    lengths = [[b - a for a, b in itertools.pairwise(starts.tolist())] for starts in rest[:2]]
    scores = q.shape[1] * sum(a * b for a, b in zip(*lengths, strict=True))
    return 2 * scores * (of_keys * q.shape[2] + of_values * v.shape[2])


def _per_element(operations: int) -> Callable[..., int]:
    def count_one(result: Any, *_: Any, **__: Any) -> int:
        out = result[0] if isinstance(result, tuple) else result
        return operations * out.size

    return count_one


def _per_parameter(operations: int) -> Callable[..., int]:
    return lambda result, params, *_, **__: operations * sum(p.size for p in params)


def _conv2d(result: Any, x: Any, weight: Any, *_: Any, **__: Any) -> int:
    out = result[0] if isinstance(result, tuple) else result
    return 2 * out.size * math.prod(weight.shape[1:])


def _conv2d_input_grad(result: Any, grad: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * grad.size * math.prod(weight.shape[1:])


def _conv2d_weight_grad(result: Any, grad: Any, *_: Any, **__: Any) -> int:
    return 2 * grad.size * math.prod(result.shape[1:])


def _pool(result: Any, x: Any, /, *_: Any, **__: Any) -> int:
    """About one an element of the larger side: windows mostly neither overlap nor leave gaps."""
    return max((result[0] if isinstance(result, tuple) else result).size, x.size)


def _sequence(states: Any, weight: Any, formulas: int) -> int:
    return 2 * states.shape[0] * sum(w.size for w in weight) + formulas * states.size


# Operations of each function, exponentials and the like as one. Matrix products decide; the others are for
# completeness.
OPERATIONS: dict[str, Callable[..., int]] = {
    "matmul": _matmul,
    "conv2d": _conv2d,
    "conv2d_input_grad": _conv2d_input_grad,
    "conv2d_weight_grad": _conv2d_weight_grad,
    "column_sum": lambda result, x, **_: x.size,
    "bias_activation": _per_element(2),
    "bias_activation_backward": _per_element(2),
    "gated_activation": _per_element(3),
    "gated_activation_backward": lambda result, grad, *_, **__: 6 * grad.size,
    "rotary_embedding": _per_element(3),
    "augment": lambda result, *_, **__: 6 * result.size,
    "avg_pool2d": _pool,
    "avg_pool2d_backward": _pool,
    "max_pool2d": _pool,
    "max_pool2d_backward": _pool,
    "dropout": _per_element(2),
    "dropout_backward": _per_element(2),
    "embedding_backward": lambda result, grad, *_, **__: grad.size,
    "softmax": _per_element(4),
    "softmax_backward": _per_element(4),
    "log_softmax": _per_element(4),
    "log_softmax_backward": _per_element(4),
    "cross_entropy": lambda result, logits, *_, **__: 6 * logits.size,
    # Two products of (Tq, D) and (Tk, D) for each head, and seven in backward, which makes the scores twice.
    "attention": lambda result, q, k, v, *_, **__: _attention(q, k, v, 1, 1),
    "attention_backward": lambda result, grad, q, k, v, *_, **__: _attention(q, k, v, 4, 3),
    "attention_varlen": lambda result, q, k, v, *rest, **__: _attention_varlen(q, k, v, rest, 1, 1),
    "attention_varlen_backward": lambda result, grad, q, k, v, out, lse, *rest, **__: _attention_varlen(
        q, k, v, rest, 4, 3
    ),
    # As if the cache were full.
    "attention_with_kvcache": lambda result, q, k_cache, v_cache, *_, **__: _attention(q, k_cache, v_cache, 1, 1),
    "add_norm": _per_element(11),
    "add_norm_backward": _per_element(19),
    "batch_norm": _per_element(8),
    "batch_norm_inference": _per_element(4),
    "batch_norm_backward": _per_element(12),
    "group_norm": _per_element(8),
    "group_norm_backward": _per_element(16),
    "layer_norm": _per_element(8),
    "layer_norm_backward": _per_element(16),
    "gru_cell": lambda result, gates_x, gates_h, h, **_: 16 * h.size,
    "gru_cell_backward": lambda result, of_h, *_, **__: 20 * of_h.size,
    "lstm_cell": lambda result, gates, c, **_: 16 * c.size,
    "lstm_cell_backward": lambda result, of_h, *_, **__: 24 * of_h.size,
    # A step's products with the weights, and its formulas for each state.
    "gru": lambda result, x, h0, weight, *_, **__: _sequence(result[0], weight, 16),
    "gru_backward": lambda result, of_out, *rest, **__: _sequence(of_out, rest[4], 20),
    "lstm": lambda result, x, h0, c0, weight, *_, **__: _sequence(result[0], weight, 16),
    "lstm_backward": lambda result, of_out, *rest, **__: _sequence(of_out, rest[5], 24),
    "rnn": lambda result, x, h0, weight, *_, **__: _sequence(result[0], weight, 3),
    "rnn_backward": lambda result, of_out, *rest, **__: _sequence(of_out, rest[2], 3),
    "rnn_cell_backward": lambda result, of_h, *_, **__: 3 * of_h.size,
    "rms_norm": _per_element(5),
    "rms_norm_backward": _per_element(14),
    "sgd_step": _per_parameter(4),
    "adam_step": _per_parameter(14),
    "gradient_norm": _per_parameter(2),
    "scale_gradients": _per_parameter(1),
    "adagrad_step": _per_parameter(7),
    "rmsprop_step": _per_parameter(10),
}


@dataclass
class Calls:
    """What the calls of one function cost: bytes are those of every operand read once and every result written once,
    seconds the GPU's, where they were measured."""

    calls: int = 0
    flops: int = 0
    bytes: int = 0
    seconds: float = 0.0
    dtype: str = ""


@dataclass
class Cost:
    """Operations by function, and their sum; ``calls`` has every function that ran, those without operations too."""

    by_function: dict[str, int] = field(default_factory=dict)
    calls: dict[str, Calls] = field(default_factory=dict)

    @property
    def flops(self) -> int:
        return sum(self.by_function.values())


def _arrays(x: Any) -> Iterator[Any]:
    if isinstance(x, (list, tuple)):
        for y in x:
            yield from _arrays(y)
    elif hasattr(x, "nbytes") and hasattr(x, "dtype"):
        yield x


def moved_bytes(name: str, result: Any, args: tuple, kwargs: dict[str, Any]) -> int:
    """Bytes of memory that a call moves at least: operands read once, results written once, and what a step updates
    both."""
    operands = [x for part in (*args, *kwargs.values()) for x in _arrays(part)]
    total = sum(x.nbytes for x in operands) + sum(x.nbytes for x in _arrays(result))
    if name.endswith("_step"):
        total += sum(x.nbytes for part in (*args, *kwargs.values()) if part is not args[1] for x in _arrays(part))
    return total


class _Counting:
    """Stands for fastnet.kernels or fastnet.reference and counts what is called."""

    def __init__(self, module: Any, cost: Cost, timer: Callable[[Callable[[], Any], Calls], Any] | None):
        self._module, self._cost, self._timer = module, cost, timer

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        if not callable(function):
            return function
        rule = OPERATIONS.get(name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            found = self._cost.calls.setdefault(name, Calls())
            if self._timer is None:
                result = function(*args, **kwargs)
            else:
                result = self._timer(lambda: function(*args, **kwargs), found)
            found.calls += 1
            found.bytes += moved_bytes(name, result, args, kwargs)
            if not found.dtype:
                found.dtype = next((x.dtype.name for part in args for x in _arrays(part)), "")
            if rule is not None:
                kept, flops = self._cost.by_function, rule(result, *args, **kwargs)
                kept[name] = kept.get(name, 0) + flops
                found.flops += flops
            return result

        return counted


@contextmanager
def count(timer: Callable[[Callable[[], Any], Calls], Any] | None = None) -> Iterator[Cost]:
    """Count the floating-point operations of a block, and the calls and bytes of every function of
    ``fastnet.kernels`` or ``fastnet.reference`` that ran.

    Args:
        timer: given each call, to make it, and what it cost so far, to note its time; returns the call's result.

    >>> import fastnet
    >>> with count() as cost:
    ...     _ = fastnet.ones(2, 3) @ fastnet.ones(3, 4)
    >>> cost.flops
    48
    """
    cost = Cost()
    before = _runtime.wrap_implementation
    _runtime.wrap_implementation = lambda module: _Counting(before(module) if before else module, cost, timer)
    try:
        yield cost
    finally:
        _runtime.wrap_implementation = before


def peak_memory_bytes(device: Any = "cpu") -> int:
    """The most memory that arrays on a GPU have taken, or that this process has had resident, as the operating system
    says."""
    if str(device).startswith("cuda"):
        from fastnet import cuda

        return cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


_measured: dict[str, float] = {}


def peak_flops_per_second(device: Any = "cpu", precision: str = "float32") -> tuple[float, str]:
    """What a device could do at most, and where that is known from: of a GPU its published operations a second in this
    precision; of a CPU what the best product of float32 matrices of NumPy's reaches here, measured once, in about
    0.2 s."""
    if str(device).startswith("cuda"):
        import cupy

        given = _runtime.extension_for(cupy.empty(0)).device_properties()
        return given["peaks"][precision], f"published for {given['name']}, {precision}, dense"
    if "cpu" not in _measured:
        import numpy as np

        a = np.ones((512, 512), np.float32)
        best, started = math.inf, time.perf_counter()
        while time.perf_counter() - started < 0.2:
            began = time.perf_counter()
            np.matmul(a, a)
            best = min(best, time.perf_counter() - began)
        _measured["cpu"] = 2 * 512**3 / best
    return _measured["cpu"], "measured: a product of 512 x 512 float32 matrices by NumPy"


def readable(number: float, unit: str) -> str:
    """A number with a prefix: 1.5e9, "FLOP" gives "1.50 GFLOP"."""
    if number == 0 or not math.isfinite(number):
        return f"{number:.0f} {unit}"
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(number) >= 10**power:
            return f"{number / 10**power:.2f} {prefix}{unit}"
    return f"{number:.2f} {unit}"
