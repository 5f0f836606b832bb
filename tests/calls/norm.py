"""Normalisation functions and layers."""

from __future__ import annotations

from typing import Any

from calls import Call, Inputs


def _layer(t: Any, I: Inputs, layer: Any, *shape: int) -> Any:
    """A layer with parameters of different values on a drawn input."""
    for p in layer.parameters():
        p.data = (t.arange(1, p.numel() + 1).float() * 0.25).reshape(p.shape)
    return layer.to(getattr(t, I.dtype))(I(*shape))


def _statistics(t: Any, I: Inputs) -> tuple:
    """Running means and variances of three channels."""
    return tuple(t.tensor(v, dtype=getattr(t, I.dtype)) for v in ([0.5, -1.0, 0.25], [0.5, 2.0, 1.5]))


def _running(t: Any, I: Inputs, layer: Any, *shape: int) -> Any:
    """The running statistics after two batches and the result in evaluation, as one vector."""
    layer = layer.to(getattr(t, I.dtype))
    layer(I(*shape))
    layer(I(*shape) * 2 + 1)
    layer.eval()
    return t.cat([layer.running_mean, layer.running_var, layer(I(*shape)).reshape(-1) + 4])


def _f(t: Any) -> Any:
    return t.nn.functional


DIFFERENTIABLE: dict[str, Call] = {
    "layer_norm": lambda t, I: _f(t).layer_norm(I(3, 5), (5,), I(5), I(5)),
    "layer_norm two dimensions": lambda t, I: _f(t).layer_norm(I(2, 3, 4), (3, 4), I(3, 4), I(3, 4)),
    "layer_norm plain": lambda t, I: _f(t).layer_norm(I(2, 3, 4), [4]),
    "layer_norm weight only": lambda t, I: _f(t).layer_norm(I(3, 4), (4,), I(4), eps=1e-3),
    "layer_norm vector": lambda t, I: _f(t).layer_norm(I(7), (7,), I(7), I(7)),
    "layer_norm of a transpose": lambda t, I: _f(t).layer_norm(I(5, 3).t(), (5,), I(5), I(5)),
    "rms_norm": lambda t, I: _f(t).rms_norm(I(3, 5), (5,), I(5)),
    "rms_norm plain": lambda t, I: _f(t).rms_norm(I(2, 3, 4), (3, 4), eps=1e-3),
    "group_norm": lambda t, I: _f(t).group_norm(I(2, 6, 3, 2), 3, I(6), I(6)),
    "group_norm without positions": lambda t, I: _f(t).group_norm(I(3, 6), 2, I(6), I(6)),
    "group_norm one group": lambda t, I: _f(t).group_norm(I(2, 4, 5), 1),
    "instance_norm": lambda t, I: _f(t).instance_norm(I(2, 3, 5), None, None, I(3), I(3)),
    "instance_norm 2d": lambda t, I: _f(t).instance_norm(I(2, 3, 4, 5)),
    "batch_norm training": lambda t, I: _f(t).batch_norm(I(4, 3), None, None, I(3), I(3), True),
    "batch_norm training 2d": lambda t, I: _f(t).batch_norm(I(2, 3, 4, 5), None, None, I(3), I(3), training=True),
    "batch_norm plain": lambda t, I: _f(t).batch_norm(I(4, 3, 2), None, None, training=True, eps=1e-2),
    "batch_norm inference": lambda t, I: _f(t).batch_norm(I(4, 3, 2), *_statistics(t, I), I(3), I(3)),
    "batch_norm inference plain": lambda t, I: _f(t).batch_norm(I(4, 3), *_statistics(t, I)),
    "LayerNorm": lambda t, I: _layer(t, I, t.nn.LayerNorm(5), 3, 5),
    "LayerNorm no bias": lambda t, I: _layer(t, I, t.nn.LayerNorm((3, 4), bias=False), 2, 3, 4),
    "RMSNorm": lambda t, I: _layer(t, I, t.nn.RMSNorm(5), 3, 5),
    "GroupNorm": lambda t, I: _layer(t, I, t.nn.GroupNorm(2, 4), 2, 4, 3),
    "BatchNorm1d": lambda t, I: _layer(t, I, t.nn.BatchNorm1d(3), 4, 3),
    "BatchNorm1d sequence": lambda t, I: _layer(t, I, t.nn.BatchNorm1d(3), 4, 3, 2),
    "BatchNorm2d": lambda t, I: _layer(t, I, t.nn.BatchNorm2d(3), 2, 3, 4, 2),
    "InstanceNorm1d": lambda t, I: _layer(t, I, t.nn.InstanceNorm1d(3, affine=True), 2, 3, 4),
    "InstanceNorm2d one sample": lambda t, I: _layer(t, I, t.nn.InstanceNorm2d(3, affine=True), 3, 4, 2),
}

PLAIN: dict[str, Call] = {
    "BatchNorm1d running": lambda t, I: _running(t, I, t.nn.BatchNorm1d(3), 4, 3),
    "BatchNorm2d running": lambda t, I: _running(t, I, t.nn.BatchNorm2d(3, momentum=0.3), 2, 3, 2, 2),
    "BatchNorm1d average": lambda t, I: _running(t, I, t.nn.BatchNorm1d(3, momentum=None), 4, 3),
    "InstanceNorm1d running": lambda t, I: _running(t, I, t.nn.InstanceNorm1d(3, track_running_stats=True), 4, 3, 5),
    "BatchNorm1d no statistics": lambda t, I: t.nn.BatchNorm1d(3, track_running_stats=False).eval()(I(4, 3)),
    "batches seen": lambda t, I: (
        [n(I(4, 3)) for n in [t.nn.BatchNorm1d(3)]] and t.nn.BatchNorm1d(3).num_batches_tracked
    ),
    "layer_norm infinity": lambda t, I: _f(t).layer_norm(t.tensor([1.0, float("inf"), 2.0]), (3,)),
    "layer_norm nan": lambda t, I: _f(t).layer_norm(t.tensor([[1.0, float("nan")], [1.0, 2.0]]), (2,)),
    "layer_norm constant": lambda t, I: _f(t).layer_norm(t.ones(2, 4), (4,)),
    "layer_norm no rows": lambda t, I: _f(t).layer_norm(t.ones(0, 4), (4,)),
    "layer_norm float32 weights": lambda t, I: _f(t).layer_norm(
        I(3, 4).to(t.bfloat16), (4,), t.full((4,), 1.5), t.full((4,), 0.25)
    ),
}

REFUSED: dict[str, Call] = {
    "layer_norm shape": lambda t, I: _f(t).layer_norm(I(3, 4), (5,)),
    "layer_norm weight shape": lambda t, I: _f(t).layer_norm(I(3, 4), (4,), I(3)),
    "layer_norm no shape": lambda t, I: _f(t).layer_norm(I(3, 4), ()),
    "layer_norm ints": lambda t, I: _f(t).layer_norm(t.ones(3, 4, dtype=t.int64), (4,)),
    "group_norm groups": lambda t, I: _f(t).group_norm(I(2, 4, 3), 3),
    "group_norm rank": lambda t, I: _f(t).group_norm(I(4), 2),
    "group_norm weight": lambda t, I: _f(t).group_norm(I(2, 4, 3), 2, I(3)),
    "GroupNorm groups": lambda t, I: t.nn.GroupNorm(3, 4),
    "batch_norm one value": lambda t, I: _f(t).batch_norm(I(1, 3), None, None, training=True),
    "batch_norm no statistics": lambda t, I: _f(t).batch_norm(I(2, 3), None, None),
    "batch_norm statistics": lambda t, I: _f(t).batch_norm(I(2, 3), t.zeros(4), t.ones(4)),
    "BatchNorm1d rank": lambda t, I: t.nn.BatchNorm1d(3)(I(2, 3, 4, 5)),
    "BatchNorm2d rank": lambda t, I: t.nn.BatchNorm2d(3)(I(2, 3)),
    "BatchNorm1d channels": lambda t, I: t.nn.BatchNorm1d(3)(I(2, 4)),
    "InstanceNorm1d one element": lambda t, I: t.nn.InstanceNorm1d(3)(I(2, 3, 1)),
    "instance_norm rank": lambda t, I: _f(t).instance_norm(I(3)),
}
