"""Convolutions, transposed convolutions, windows."""

from __future__ import annotations

from typing import Any

from calls import Call, Inputs


def _parameter(t: Any, I: Inputs, *shape: int, scale: float = 0.3) -> Any:
    """Weights small enough that a window's sum is of size 1."""
    return I(*shape) * scale


def _f(t: Any) -> Any:
    return t.nn.functional


DIFFERENTIABLE: dict[str, Call] = {
    "conv2d": lambda t, I: _f(t).conv2d(I(2, 3, 6, 5), _parameter(t, I, 4, 3, 3, 3), I(4)),
    "conv2d in torch": lambda t, I: t.conv2d(I(2, 3, 6, 5), _parameter(t, I, 4, 3, 3, 3), padding=(1, 0)),
    "conv2d strided": lambda t, I: _f(t).conv2d(I(2, 2, 7, 8), _parameter(t, I, 3, 2, 3, 2), I(3), (2, 3), (1, 2)),
    "conv2d dilated": lambda t, I: _f(t).conv2d(I(1, 2, 9, 8), _parameter(t, I, 3, 2, 3, 3), None, 1, 2, (2, 3)),
    "conv2d groups": lambda t, I: _f(t).conv2d(I(2, 4, 5, 5), _parameter(t, I, 6, 2, 3, 3), I(6), padding=1, groups=2),
    "conv2d depthwise": lambda t, I: _f(t).conv2d(I(2, 4, 6, 5), _parameter(t, I, 4, 1, 3, 3), I(4), 2, 1, groups=4),
    "conv2d depthwise twice": lambda t, I: _f(t).conv2d(I(2, 3, 6, 5), _parameter(t, I, 6, 1, 3, 3), groups=3),
    "conv2d same": lambda t, I: _f(t).conv2d(
        I(1, 2, 5, 6), _parameter(t, I, 2, 2, 3, 2), padding="same", dilation=(1, 2)
    ),
    "conv2d valid": lambda t, I: _f(t).conv2d(I(1, 2, 5, 6), _parameter(t, I, 2, 2, 2, 4), padding="valid"),
    "conv2d pointwise": lambda t, I: _f(t).conv2d(I(2, 5, 4, 3), _parameter(t, I, 3, 5, 1, 1), I(3)),
    "conv2d without batch": lambda t, I: _f(t).conv2d(I(3, 6, 5), _parameter(t, I, 4, 3, 3, 3), I(4)),
    "conv2d then flatten": lambda t, I: (
        _f(t).conv2d(I(2, 2, 4, 4), _parameter(t, I, 3, 2, 3, 3)).view(2, -1) * I(2, 12)
    ),
    "conv2d of a transposed view": lambda t, I: _f(t).conv2d(
        I(2, 3, 4, 5).permute(0, 1, 3, 2), _parameter(t, I, 2, 3, 3, 3)
    ),
    "conv1d": lambda t, I: _f(t).conv1d(I(2, 3, 9), _parameter(t, I, 4, 3, 3), I(4), stride=2, padding=1),
    "conv1d same": lambda t, I: t.conv1d(
        I(2, 4, 9), _parameter(t, I, 4, 2, 4), I(4), padding="same", dilation=2, groups=2
    ),
    "conv1d without batch": lambda t, I: _f(t).conv1d(I(3, 9), _parameter(t, I, 4, 3, 3), dilation=(2,)),
    "conv_transpose2d": lambda t, I: _f(t).conv_transpose2d(I(2, 3, 4, 3), _parameter(t, I, 3, 4, 3, 3), I(4)),
    "conv_transpose2d strided": lambda t, I: _f(t).conv_transpose2d(
        I(2, 4, 3, 4), _parameter(t, I, 4, 3, 3, 2), I(6), (2, 3), (1, 0), (1, 2), groups=2, dilation=(2, 1)
    ),
    "conv_transpose2d output padding above the stride": lambda t, I: _f(t).conv_transpose2d(
        I(1, 2, 3, 3), _parameter(t, I, 2, 3, 3, 3), I(3), 1, 1, 2, dilation=3
    ),
    "conv_transpose2d depthwise": lambda t, I: t.conv_transpose2d(
        I(2, 3, 4, 4), _parameter(t, I, 3, 1, 4, 4), None, 2, 1, groups=3
    ),
    "conv_transpose2d without batch": lambda t, I: _f(t).conv_transpose2d(
        I(3, 4, 3), _parameter(t, I, 3, 2, 2, 2), stride=2
    ),
    "conv_transpose1d": lambda t, I: _f(t).conv_transpose1d(
        I(2, 4, 5), _parameter(t, I, 4, 2, 3), I(4), 2, 1, 1, groups=2
    ),
    "conv_transpose1d without batch": lambda t, I: t.conv_transpose1d(I(4, 5), _parameter(t, I, 4, 2, 3), dilation=2),
    "unfold": lambda t, I: _f(t).unfold(I(2, 3, 5, 6), (2, 3), dilation=(2, 1), padding=(1, 0), stride=(1, 2)),
    "unfold without batch": lambda t, I: _f(t).unfold(I(3, 5, 6), 2),
    "fold": lambda t, I: _f(t).fold(I(2, 12, 20), (5, 6), (2, 2)),
    "fold strided": lambda t, I: _f(t).fold(
        I(2, 18, 12), (5, 6), (3, 2), padding=(1, 0), stride=(2, 1), dilation=(1, 2)
    ),
    "fold without batch": lambda t, I: _f(t).fold(I(12, 20), (5, 6), 2),
    **{
        f"conv2d padded by {mode}": lambda t, I, mode=mode: _layer(
            t, I, "Conv2d", 3, 4, (3, 2), padding=(2, 1), padding_mode=mode
        )(I(2, 3, 5, 4))
        for mode in ("zeros", "reflect", "replicate", "circular")
    },
    "Conv1d same, circular": lambda t, I: _layer(t, I, "Conv1d", 2, 3, 4, padding="same", padding_mode="circular")(
        I(2, 2, 7)
    ),
    "ConvTranspose2d to a size": lambda t, I: _layer(t, I, "ConvTranspose2d", 2, 3, 3, 2, 1)(
        I(1, 2, 4, 4), output_size=(8, 7)
    ),
    "ConvTranspose1d to a whole size": lambda t, I: _layer(t, I, "ConvTranspose1d", 2, 3, 3, 2)(
        I(1, 2, 4), output_size=(1, 3, 10)
    ),
}


def _layer(t: Any, I: Inputs, name: str, *args: Any, **kwargs: Any) -> Any:
    """A layer whose parameters are inputs: alike in either library, and checked by their gradients."""
    module = getattr(t.nn, name)(*args, **kwargs)
    for key in ("weight", "bias"):
        shape = tuple(getattr(module, key).shape)
        delattr(module, key)
        setattr(module, key, I(*shape) * 0.3)
    return module


PLAIN: dict[str, Call] = {
    "conv2d of no images": lambda t, I: _f(t).conv2d(I(0, 2, 4, 4), I(3, 2, 3, 3)),
    "conv_transpose2d of no images": lambda t, I: _f(t).conv_transpose2d(I(0, 2, 4, 4), I(2, 3, 3, 3)),
    "conv2d by NaN": lambda t, I: t.isnan(_f(t).conv2d(I(1, 1, 4, 4) * float("nan"), I(1, 1, 3, 3), padding=2)),
    "conv2d by infinity": lambda t, I: t.isnan(
        _f(t).conv2d(t.full((1, 1, 3, 3), float("inf")), t.zeros(1, 1, 1, 1), padding=1)
    ),
}

REFUSED: dict[str, Call] = {
    "conv2d of a matrix": lambda t, I: _f(t).conv2d(I(3, 4), I(1, 1, 2, 2)),
    "conv2d of wrong channels": lambda t, I: _f(t).conv2d(I(1, 3, 4, 4), I(1, 2, 2, 2)),
    "conv2d of wrong groups": lambda t, I: _f(t).conv2d(I(1, 4, 4, 4), I(3, 2, 2, 2), groups=2),
    "conv2d of wrong bias": lambda t, I: _f(t).conv2d(I(1, 2, 4, 4), I(3, 2, 2, 2), I(2)),
    "conv2d window too large": lambda t, I: _f(t).conv2d(I(1, 2, 4, 4), I(3, 2, 5, 5)),
    "conv2d window too large, dilated": lambda t, I: _f(t).conv2d(I(1, 2, 4, 4), I(3, 2, 3, 3), dilation=2),
    "conv2d stride zero": lambda t, I: _f(t).conv2d(I(1, 2, 4, 4), I(3, 2, 2, 2), stride=0),
    "conv2d padding below zero": lambda t, I: _f(t).conv2d(I(1, 2, 4, 4), I(3, 2, 2, 2), padding=-1),
    "conv2d dilation zero": lambda t, I: _f(t).conv2d(I(1, 2, 4, 4), I(3, 2, 2, 2), dilation=0),
    "conv2d same and strided": lambda t, I: _f(t).conv2d(I(1, 2, 4, 4), I(3, 2, 2, 2), padding="same", stride=2),
    "conv2d padding of another name": lambda t, I: _f(t).conv2d(I(1, 2, 4, 4), I(3, 2, 2, 2), padding="reflect"),
    "conv2d three strides": lambda t, I: _f(t).conv2d(I(1, 2, 4, 4), I(3, 2, 2, 2), stride=(1, 1, 1)),
    "conv2d of two dtypes": lambda t, I: _f(t).conv2d(I(1, 2, 4, 4), I(3, 2, 2, 2).double()),
    "conv2d groups zero": lambda t, I: _f(t).conv2d(I(1, 2, 4, 4), I(3, 2, 2, 2), groups=0),
    "conv2d stride of half": lambda t, I: _f(t).conv2d(I(1, 2, 4, 4), I(3, 2, 2, 2), stride=0.5),
    "conv1d of images": lambda t, I: _f(t).conv1d(I(1, 2, 4, 4), I(3, 2, 2)),
    "conv1d two strides": lambda t, I: _f(t).conv1d(I(1, 2, 4), I(3, 2, 2), stride=(1, 2)),
    "conv_transpose2d of wrong channels": lambda t, I: _f(t).conv_transpose2d(I(1, 3, 4, 4), I(2, 3, 2, 2)),
    "conv_transpose2d output padding": lambda t, I: _f(t).conv_transpose2d(
        I(1, 2, 4, 4), I(2, 3, 2, 2), stride=2, output_padding=2
    ),
    "conv_transpose2d padded away": lambda t, I: _f(t).conv_transpose2d(I(1, 2, 1, 1), I(2, 3, 3, 3), padding=2),
    "conv_transpose2d of wrong bias": lambda t, I: _f(t).conv_transpose2d(I(1, 2, 4, 4), I(2, 3, 2, 2), I(2)),
    "unfold of a matrix": lambda t, I: _f(t).unfold(I(3, 4), 2),
    "unfold window too large": lambda t, I: _f(t).unfold(I(1, 2, 3, 3), 4),
    "fold of wrong windows": lambda t, I: _f(t).fold(I(1, 12, 19), (5, 6), 2),
    "fold of wrong rows": lambda t, I: _f(t).fold(I(1, 11, 20), (5, 6), 2),
    "Conv2d channels and groups": lambda t, I: t.nn.Conv2d(3, 4, 3, groups=2),
    "Conv2d filters and groups": lambda t, I: t.nn.Conv2d(4, 3, 3, groups=2),
    "Conv2d groups zero": lambda t, I: t.nn.Conv2d(4, 4, 3, groups=0),
    "Conv2d padding_mode": lambda t, I: t.nn.Conv2d(4, 4, 3, padding_mode="mirror"),
    "Conv2d padding of another name": lambda t, I: t.nn.Conv2d(4, 4, 3, padding="full"),
    "Conv2d same and strided": lambda t, I: t.nn.Conv2d(4, 4, 3, 2, "same"),
    "ConvTranspose2d padding_mode": lambda t, I: t.nn.ConvTranspose2d(4, 4, 3, padding_mode="reflect"),
    "ConvTranspose2d size out of range": lambda t, I: t.nn.ConvTranspose2d(2, 3, 3, 2, 1)(
        I(1, 2, 4, 4), output_size=(9, 7)
    ),
    "ConvTranspose2d size of one": lambda t, I: t.nn.ConvTranspose2d(2, 3, 3, 2, 1)(I(1, 2, 4, 4), output_size=(7,)),
    "Conv2d reflect beyond the image": lambda t, I: t.nn.Conv2d(1, 1, 3, padding=4, padding_mode="reflect")(
        I(1, 1, 4, 4)
    ),
}
