"""What a computation costs: floating-point operations, counted from the functions that ran.

``count()`` puts a proxy before the implementation in force, so that every function is seen once, whichever
implementation runs it, and nothing is paid when nobody counts.
"""

from __future__ import annotations

import math
import resource
import sys
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
class Cost:
    """Operations by function, and their sum."""

    by_function: dict[str, int] = field(default_factory=dict)

    @property
    def flops(self) -> int:
        return sum(self.by_function.values())


class _Counting:
    """Stands for fastnet.kernels or fastnet.reference and counts what is called."""

    def __init__(self, module: Any, cost: Cost):
        self._module, self._cost = module, cost

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        rule = OPERATIONS.get(name)
        if rule is None:
            return function

        def counted(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            kept = self._cost.by_function
            kept[name] = kept.get(name, 0) + rule(result, *args, **kwargs)
            return result

        return counted


@contextmanager
def count() -> Iterator[Cost]:
    """Count the floating-point operations of a block.

    >>> import fastnet
    >>> with count() as cost:
    ...     _ = fastnet.ones(2, 3) @ fastnet.ones(3, 4)
    >>> cost.flops
    48
    """
    cost = Cost()
    before = _runtime.wrap_implementation
    _runtime.wrap_implementation = lambda module: _Counting(before(module) if before else module, cost)
    try:
        yield cost
    finally:
        _runtime.wrap_implementation = before


def peak_memory_bytes() -> int:
    """The most memory this process has had resident, from the operating system."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def readable(number: float, unit: str) -> str:
    """A number with a prefix: 1.5e9, "FLOP" gives "1.50 GFLOP"."""
    if number == 0 or not math.isfinite(number):
        return f"{number:.0f} {unit}"
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(number) >= 10**power:
            return f"{number / 10**power:.2f} {prefix}{unit}"
    return f"{number:.2f} {unit}"
