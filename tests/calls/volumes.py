"""Convolutions and pooling of volumes, norms over windows, the inverse of maximum pooling, fractional pooling."""

from __future__ import annotations

from typing import Any

from calls import Call


def _f(t: Any) -> Any:
    return t.nn.functional


def _unpooled(t: Any, I: Any, dims: int, *shape: int, **options: Any) -> Any:
    f = _f(t)
    pool, unpool = getattr(f, f"max_pool{dims}d"), getattr(f, f"max_unpool{dims}d")
    values, indices = pool(I(*shape), 2, return_indices=True)
    return unpool(values, indices, 2, **options)


def _samples(t: Any, x: Any, dims: int) -> Any:
    n, c = (x.shape[0], x.shape[1]) if x.dim() == dims + 2 else (1, x.shape[0])
    return (t.arange(n * c * dims).reshape(n, c, dims) * 0.13 % 1.0).to(x.dtype)


def _fractional(t: Any, x: Any, dims: int, *args: Any, **options: Any) -> Any:
    return getattr(_f(t), f"fractional_max_pool{dims}d")(x, *args, _random_samples=_samples(t, x, dims), **options)


DIFFERENTIABLE: dict[str, Call] = {
    "conv3d": lambda t, I: t.conv3d(I(2, 2, 3, 4, 4), I(3, 2, 2, 3, 2), I(3)),
    "conv3d strided, padded, dilated": lambda t, I: t.conv3d(
        I(1, 2, 5, 5, 6), I(2, 2, 2, 2, 3), None, (2, 1, 2), (1, 0, 2), (2, 1, 1)
    ),
    "conv3d grouped": lambda t, I: t.conv3d(I(1, 4, 3, 3, 3), I(4, 2, 2, 1, 2), I(4), groups=2),
    "conv3d depthwise": lambda t, I: t.conv3d(I(1, 3, 3, 3, 3), I(3, 1, 2, 2, 2), groups=3),
    "conv3d same": lambda t, I: t.conv3d(I(1, 1, 4, 5, 3), I(2, 1, 3, 1, 5), padding="same"),
    "conv3d valid": lambda t, I: t.conv3d(I(1, 1, 3, 3, 3), I(1, 1, 1, 2, 2), padding="valid"),
    "conv3d without batch": lambda t, I: t.conv3d(I(2, 3, 3, 3), I(2, 2, 2, 2, 2), I(2)),
    "conv_transpose3d": lambda t, I: t.conv_transpose3d(I(2, 2, 2, 3, 2), I(2, 3, 2, 2, 3), I(3)),
    "conv_transpose3d strided, padded": lambda t, I: t.conv_transpose3d(
        I(1, 2, 3, 2, 3), I(2, 2, 3, 3, 2), None, (2, 1, 2), (1, 1, 0), (1, 0, 1)
    ),
    "conv_transpose3d grouped, dilated": lambda t, I: t.conv_transpose3d(
        I(2, 2, 2, 2), I(2, 1, 2, 2, 1), I(2), 2, 0, 0, 2, (2, 1, 1)
    ),
    "max_pool3d": lambda t, I: t.max_pool3d(I(2, 2, 4, 5, 4), 2),
    "max_pool3d overlapping, padded": lambda t, I: _f(t).max_pool3d(I(1, 2, 5, 4, 6), 3, (2, 1, 2), 1),
    "max_pool3d dilated, ceil": lambda t, I: _f(t).max_pool3d(I(2, 6, 5, 6), 2, 2, 0, 2, True),
    "avg_pool3d": lambda t, I: _f(t).avg_pool3d(I(2, 2, 4, 5, 4), (2, 1, 3)),
    "avg_pool3d padded": lambda t, I: _f(t).avg_pool3d(I(1, 2, 5, 4, 6), 3, 2, 1),
    "avg_pool3d padding left out": lambda t, I: _f(t).avg_pool3d(I(1, 1, 5, 4, 6), 3, 2, 1, True, False),
    "avg_pool3d divisor": lambda t, I: _f(t).avg_pool3d(I(1, 4, 4, 4), 2, divisor_override=3),
    "adaptive_avg_pool3d": lambda t, I: _f(t).adaptive_avg_pool3d(I(1, 2, 5, 4, 6), (2, None, 4)),
    "adaptive_max_pool3d": lambda t, I: _f(t).adaptive_max_pool3d(I(1, 2, 5, 4, 6), (2, 3, None)),
    "adaptive_max_pool3d larger": lambda t, I: _f(t).adaptive_max_pool3d(I(2, 2, 3, 2), (3, 3, 3)),
    "lp_pool1d": lambda t, I: _f(t).lp_pool1d(I.positive(2, 2, 7), 2, 3, 2, True),
    "lp_pool2d": lambda t, I: _f(t).lp_pool2d(I.positive(1, 2, 5, 5), 3.0, 2),
    "lp_pool3d": lambda t, I: _f(t).lp_pool3d(I.positive(1, 4, 4, 4), 2, (2, 1, 2)),
    "local_response_norm": lambda t, I: _f(t).local_response_norm(I(2, 5, 3), 3, 0.5, 0.75, 2.0),
    "local_response_norm even": lambda t, I: _f(t).local_response_norm(I(1, 4, 2, 2), 4),
    "max_unpool1d": lambda t, I: _unpooled(t, I, 1, 2, 3, 7),
    "max_unpool2d": lambda t, I: _unpooled(t, I, 2, 2, 5, 4, output_size=(5, 4)),
    "max_unpool3d": lambda t, I: _unpooled(t, I, 3, 1, 2, 4, 2, 4),
    "fractional_max_pool2d": lambda t, I: _fractional(t, I(2, 2, 7, 6), 2, 2, (4, 3)),
    "fractional_max_pool2d ratio": lambda t, I: _fractional(t, I(2, 8, 8), 2, (2, 3), None, (0.5, 0.6)),
    "fractional_max_pool3d": lambda t, I: _fractional(t, I(1, 2, 5, 6, 5), 3, 2, (2, 4, 3)),
}

PLAIN: dict[str, Call] = {
    "max_pool3d indices": lambda t, I: _f(t).max_pool3d(I(2, 2, 5, 4, 6), 3, 2, 1, return_indices=True)[1],
    "max_pool3d indices of equal values": lambda t, I: _f(t).max_pool3d(
        t.zeros(1, 5, 4, 4), 3, 2, 1, return_indices=True
    )[1],
    "max_pool3d indices of NaN": lambda t, I: _f(t).max_pool3d(
        t.full((1, 4, 4, 4), float("nan")), 2, return_indices=True
    )[1],
    "max_pool3d indices of minus infinities": lambda t, I: _f(t).max_pool3d(
        t.full((1, 1, 4, 4, 4), -float("inf")), 3, 2, 1, return_indices=True
    )[1],
    "adaptive_max_pool3d indices": lambda t, I: _f(t).adaptive_max_pool3d(I(1, 2, 5, 4, 6), 3, True)[1],
    "fractional_max_pool2d indices": lambda t, I: _fractional(t, I(2, 2, 7, 6), 2, 2, 4, return_indices=True)[1],
    "avg_pool3d of no volumes": lambda t, I: _f(t).avg_pool3d(I(0, 2, 4, 4, 4), 2),
    "conv3d of no volumes": lambda t, I: t.conv3d(I(0, 2, 4, 4, 4), I(3, 2, 2, 2, 2)),
    "lp_pool1d of negative odd sums": lambda t, I: t.isnan(_f(t).lp_pool1d(t.tensor([[-2.0, 1.0]]), 3, 2)),
}

REFUSED: dict[str, Call] = {
    "conv3d channels": lambda t, I: t.conv3d(I(1, 2, 3, 3, 3), I(1, 3, 2, 2, 2)),
    "conv3d of images": lambda t, I: t.conv3d(I(3, 3, 3), I(1, 3, 2, 2, 2)),
    "conv3d window too deep": lambda t, I: t.conv3d(I(1, 1, 2, 3, 3), I(1, 1, 3, 2, 2)),
    "conv3d stride zero": lambda t, I: t.conv3d(I(1, 1, 2, 3, 3), I(1, 1, 1, 2, 2), stride=0),
    "conv3d same, strided": lambda t, I: t.conv3d(I(1, 1, 3, 3, 3), I(1, 1, 2, 2, 2), stride=2, padding="same"),
    "conv_transpose3d channels": lambda t, I: t.conv_transpose3d(I(1, 2, 3, 3, 3), I(1, 3, 2, 2, 2)),
    "conv_transpose3d output_padding": lambda t, I: t.conv_transpose3d(
        I(1, 1, 3, 3, 3), I(1, 1, 2, 2, 2), None, 2, 0, 2
    ),
    "max_pool3d of images": lambda t, I: t.max_pool3d(I(3, 3, 3), 2),
    "max_pool3d padding above half": lambda t, I: t.max_pool3d(I(1, 4, 4, 4), 2, padding=2),
    "avg_pool3d divisor zero": lambda t, I: _f(t).avg_pool3d(I(1, 4, 4, 4), 2, divisor_override=0),
    "local_response_norm of a matrix": lambda t, I: _f(t).local_response_norm(I(3, 3), 2),
    "max_unpool2d index beyond": lambda t, I: _f(t).max_unpool2d(I(1, 1, 1), t.tensor([[[4]]]), 2),
    "max_unpool2d size out of reach": lambda t, I: _unpooled(t, I, 2, 1, 4, 4, output_size=(6, 4)),
    "fractional_max_pool2d without a size": lambda t, I: _f(t).fractional_max_pool2d(I(1, 4, 4), 2),
    "fractional_max_pool2d too many": lambda t, I: _f(t).fractional_max_pool2d(I(1, 4, 4), 2, 4),
}
