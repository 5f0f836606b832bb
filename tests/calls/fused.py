"""Fused operations, most of which PyTorch has no name for, against what it computes in several steps."""

from __future__ import annotations

from typing import Any

from calls import Call, Inputs


def _f(t: Any) -> Any:
    return t.nn.functional


def _add_norm(t: Any, I: Inputs, rms: bool) -> Any:
    """The norm of a sum, and the sum, as one vector."""
    branch, x, weight = I(3, 5), I(3, 5), I(5)
    bias = () if rms else (I(5),)
    fused = getattr(_f(t), "add_rms_norm" if rms else "add_layer_norm", None)
    if fused is not None:
        y, total = fused(branch, x, (5,), weight, *bias, eps=1e-3)
    else:
        total = x + branch
        y = (_f(t).rms_norm if rms else _f(t).layer_norm)(total, (5,), weight, *bias, eps=1e-3)
    return t.cat([y, total])


def _attention(t: Any, I: Inputs) -> Any:
    """Causal from the last query on, within a window of two keys before, of fewer queries than keys."""
    q, k, v = I(2, 2, 3, 4), I(2, 2, 5, 4), I(2, 2, 5, 4)
    if hasattr(_f(t), "attention"):
        return _f(t).attention(q, k, v, causal=True, window_size=(2, 0))
    place = t.arange(3)[:, None] + 2 - t.arange(5)
    return _f(t).scaled_dot_product_attention(q, k, v, attn_mask=(place >= 0) & (place <= 2))


def _gated(t: Any, I: Inputs, halves: bool) -> Any:
    gate, up = I(3, 8).chunk(2, -1) if halves else (I(3, 4), I(3, 4))
    return _f(t).swiglu(gate, up) if hasattr(_f(t), "swiglu") else _f(t).silu(gate) * up


def _linear_loss(t: Any, I: Inputs, **options: Any) -> Any:
    if not hasattr(_f(t), "linear_cross_entropy"):  # PyTorch before 2.13
        x, weight, target = I(4, 3), I(5, 3), I.ints(4)
        return _f(t).cross_entropy(_f(t).linear(x, weight), target, **options)
    return _f(t).linear_cross_entropy(I(4, 3), I(5, 3), I.ints(4), **options)


def _conv_norm(t: Any, I: Inputs) -> Any:
    x, weight, bias, norm_weight, norm_bias, residual = I(2, 3, 5, 4), I(4, 3, 3, 3), I(4), I(4), I(4), I(2, 4, 3, 2)
    if hasattr(_f(t), "conv_norm_activation"):
        norm = {"norm_weight": norm_weight, "norm_bias": norm_bias, "residual": residual, "activation": "relu"}
        return _f(t).conv_norm_activation(x, weight, bias, 2, 1, training=True, **norm)
    convolved = _f(t).conv2d(x, weight, bias, 2, 1)
    return (_f(t).batch_norm(convolved, None, None, norm_weight, norm_bias, training=True) + residual).relu()


DIFFERENTIABLE: dict[str, Call] = {
    "add_layer_norm": lambda t, I: _add_norm(t, I, False),
    "add_rms_norm": lambda t, I: _add_norm(t, I, True),
    "attention window": _attention,
    "conv_norm_activation": _conv_norm,
    "linear_cross_entropy": _linear_loss,
    "linear_cross_entropy sum": lambda t, I: _linear_loss(t, I, reduction="sum", ignore_index=2),
    "linear_cross_entropy smoothing": lambda t, I: _linear_loss(t, I, label_smoothing=0.2),
    "swiglu": lambda t, I: _gated(t, I, False),
    "swiglu halves": lambda t, I: _gated(t, I, True),
}
