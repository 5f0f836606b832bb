"""Pooling."""

from __future__ import annotations

from typing import Any

from calls import Call


def _f(t: Any) -> Any:
    return t.nn.functional


DIFFERENTIABLE: dict[str, Call] = {
    "max_pool2d": lambda t, I: _f(t).max_pool2d(I(2, 3, 6, 7), 2),
    "max_pool2d in torch": lambda t, I: t.max_pool2d(I(2, 3, 6, 7), (2, 3)),
    "max_pool2d overlapping": lambda t, I: _f(t).max_pool2d(I(2, 3, 7, 8), 3, stride=2, padding=1),
    "max_pool2d ceil": lambda t, I: _f(t).max_pool2d(I(1, 2, 6, 7), (3, 2), (2, 3), (1, 0), ceil_mode=True),
    "max_pool2d dilated": lambda t, I: _f(t).max_pool2d(I(1, 2, 9, 8), 3, 1, 1, (2, 3)),
    "max_pool2d without batch": lambda t, I: _f(t).max_pool2d(I(3, 6, 6), 2),
    "max_pool2d values of a pair": lambda t, I: _f(t).max_pool2d(I(2, 2, 6, 6), 3, 2, return_indices=True)[0],
    "max_pool2d after conv2d": lambda t, I: _f(t).max_pool2d(t.conv2d(I(1, 2, 7, 7), I(3, 2, 2, 2) * 0.3), 2),
    "max_pool1d": lambda t, I: _f(t).max_pool1d(I(2, 3, 9), 3, 2, 1),
    "max_pool1d without batch": lambda t, I: t.max_pool1d(I(3, 9), 2, ceil_mode=True),
    "avg_pool2d": lambda t, I: _f(t).avg_pool2d(I(2, 3, 6, 7), 2),
    "avg_pool2d padded": lambda t, I: _f(t).avg_pool2d(I(2, 2, 6, 7), 3, 2, 1),
    "avg_pool2d padding left out": lambda t, I: _f(t).avg_pool2d(I(2, 2, 6, 7), (3, 2), 2, 1, False, False),
    "avg_pool2d ceil": lambda t, I: _f(t).avg_pool2d(I(2, 2, 6, 8), 3, 2, 1, ceil_mode=True),
    "avg_pool2d ceil, padding left out": lambda t, I: _f(t).avg_pool2d(I(2, 2, 6, 8), 3, 2, 1, True, False),
    "avg_pool2d divisor": lambda t, I: _f(t).avg_pool2d(I(1, 2, 6, 6), 3, 2, divisor_override=-2),
    "avg_pool2d without batch": lambda t, I: _f(t).avg_pool2d(I(2, 6, 6), 3),
    "avg_pool1d": lambda t, I: _f(t).avg_pool1d(I(2, 3, 9), 4, 3, 1),
    "avg_pool1d without batch": lambda t, I: t.avg_pool1d(I(3, 9), (2,), ceil_mode=True, count_include_pad=False),
    "adaptive_avg_pool2d": lambda t, I: _f(t).adaptive_avg_pool2d(I(2, 3, 7, 5), (3, 2)),
    "adaptive_avg_pool2d global": lambda t, I: _f(t).adaptive_avg_pool2d(I(2, 3, 4, 5), 1),
    "adaptive_avg_pool2d larger": lambda t, I: _f(t).adaptive_avg_pool2d(I(2, 3, 3), (5, None)),
    "adaptive_avg_pool1d": lambda t, I: t.adaptive_avg_pool1d(I(2, 3, 7), 3),
    "adaptive_max_pool2d": lambda t, I: _f(t).adaptive_max_pool2d(I(2, 3, 7, 5), (3, 2)),
    "adaptive_max_pool2d even": lambda t, I: _f(t).adaptive_max_pool2d(I(2, 2, 6, 4), (3, 2)),
    "adaptive_max_pool2d larger": lambda t, I: _f(t).adaptive_max_pool2d(I(2, 3, 3), (None, 4)),
    "adaptive_max_pool1d": lambda t, I: _f(t).adaptive_max_pool1d(I(2, 3, 7), 3, return_indices=True)[0],
}

NAN = float("nan")

PLAIN: dict[str, Call] = {
    "max_pool2d indices": lambda t, I: _f(t).max_pool2d(I(2, 3, 7, 8), 3, 2, 1, return_indices=True)[1],
    "max_pool2d indices of equal values": lambda t, I: _f(t).max_pool2d(t.zeros(1, 1, 5, 5), 3, 2, 1, 1, True, True)[1],
    "max_pool2d indices of minus infinities": lambda t, I: _f(t).max_pool2d(
        t.full((1, 1, 5, 5), -float("inf")), 3, 2, 1, 1, False, True
    )[1],
    "max_pool2d indices of NaN": lambda t, I: _f(t).max_pool2d(t.full((1, 1, 4, 4), NAN), 2, return_indices=True)[1],
    "max_pool2d of NaN": lambda t, I: t.isnan(_f(t).max_pool2d(t.tensor([[[[1.0, NAN, 2.0, 3.0]]]]), (1, 2))),
    "max_pool1d indices": lambda t, I: _f(t).max_pool1d(I(2, 3, 9), 3, 2, 1, return_indices=True)[1],
    "adaptive_max_pool2d indices": lambda t, I: _f(t).adaptive_max_pool2d(I(2, 3, 7, 5), (3, 2), True)[1],
    "adaptive_max_pool1d indices": lambda t, I: _f(t).adaptive_max_pool1d(I(3, 7), 4, True)[1],
    "max_pool2d of no images": lambda t, I: _f(t).max_pool2d(I(0, 2, 4, 4), 2),
    "avg_pool2d of no images": lambda t, I: _f(t).avg_pool2d(I(0, 2, 4, 4), 2),
    "avg_pool2d of infinity": lambda t, I: _f(t).adaptive_avg_pool2d(
        t.tensor([[[[float("inf"), 1.0, 2.0, 3.0]]]]), (1, 2)
    ),
}

REFUSED: dict[str, Call] = {
    "max_pool2d of a matrix": lambda t, I: _f(t).max_pool2d(I(4, 4), 2),
    "max_pool2d of no channels": lambda t, I: _f(t).max_pool2d(I(1, 0, 4, 4), 2),
    "max_pool2d of no pixels": lambda t, I: _f(t).max_pool2d(I(1, 1, 0, 4), 2),
    "max_pool2d window too large": lambda t, I: _f(t).max_pool2d(I(1, 1, 4, 4), 5),
    "max_pool2d window of zero": lambda t, I: _f(t).max_pool2d(I(1, 1, 4, 4), 0),
    "max_pool2d stride zero": lambda t, I: _f(t).max_pool2d(I(1, 1, 4, 4), 2, 0),
    "max_pool2d dilation zero": lambda t, I: _f(t).max_pool2d(I(1, 1, 4, 4), 2, 1, 0, 0),
    "max_pool2d padding above half": lambda t, I: _f(t).max_pool2d(I(1, 1, 4, 4), 2, padding=2),
    "max_pool2d padding below zero": lambda t, I: _f(t).max_pool2d(I(1, 1, 4, 4), 2, padding=-1),
    "max_pool2d three sizes": lambda t, I: _f(t).max_pool2d(I(1, 1, 4, 4), (2, 2, 2)),
    "max_pool1d of images": lambda t, I: _f(t).max_pool1d(I(1, 1, 4, 4), 2),
    "avg_pool2d divisor zero": lambda t, I: _f(t).avg_pool2d(I(1, 1, 4, 4), 2, divisor_override=0),
    "avg_pool2d padding above half": lambda t, I: _f(t).avg_pool2d(I(1, 1, 4, 4), 3, padding=2),
    "avg_pool2d window too large": lambda t, I: _f(t).avg_pool2d(I(1, 1, 4, 4), 5),
    "avg_pool1d of a vector": lambda t, I: _f(t).avg_pool1d(I(4), 2),
    "adaptive_avg_pool2d three sizes": lambda t, I: _f(t).adaptive_avg_pool2d(I(1, 1, 4, 4), (2, 2, 2)),
    "adaptive_avg_pool2d below zero": lambda t, I: _f(t).adaptive_avg_pool2d(I(1, 1, 4, 4), -1),
    "adaptive_max_pool2d of a matrix": lambda t, I: _f(t).adaptive_max_pool2d(I(4, 4), 2),
}
