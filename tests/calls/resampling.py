"""Interpolation, pixel shuffles and padding."""

from __future__ import annotations

from typing import Any

from calls import Call


def F(t: Any) -> Any:
    return t.nn.functional


DIFFERENTIABLE: dict[str, Call] = {
    "interpolate nearest": lambda t, I: F(t).interpolate(I(2, 3, 4, 5), scale_factor=2),
    "interpolate nearest down": lambda t, I: F(t).interpolate(I(2, 3, 7), size=3),
    "interpolate nearest odd": lambda t, I: F(t).interpolate(I(1, 2, 5, 7), size=(8, 3)),
    "interpolate nearest-exact": lambda t, I: F(t).interpolate(I(1, 2, 5, 7), size=(8, 3), mode="nearest-exact"),
    "interpolate linear": lambda t, I: F(t).interpolate(I(2, 3, 4), size=7, mode="linear"),
    "interpolate bilinear": lambda t, I: F(t).interpolate(I(2, 3, 4, 5), scale_factor=2, mode="bilinear"),
    "interpolate bilinear corners": lambda t, I: F(t).interpolate(
        I(2, 3, 4, 5), size=(7, 3), mode="bilinear", align_corners=True
    ),
    "interpolate trilinear": lambda t, I: F(t).interpolate(I(1, 2, 2, 3, 3), scale_factor=2, mode="trilinear"),
    "interpolate bicubic": lambda t, I: F(t).interpolate(I(1, 2, 4, 5), scale_factor=2, mode="bicubic"),
    "interpolate bicubic corners": lambda t, I: F(t).interpolate(
        I(1, 2, 4, 5), size=(3, 8), mode="bicubic", align_corners=True
    ),
    "interpolate area": lambda t, I: F(t).interpolate(I(2, 3, 7, 5), size=(3, 4), mode="area"),
    "interpolate area factor": lambda t, I: F(t).interpolate(I(2, 3, 8), scale_factor=0.5, mode="area"),
    "interpolate recompute": lambda t, I: F(t).interpolate(
        I(1, 1, 5, 5), scale_factor=1.5, mode="bilinear", recompute_scale_factor=True
    ),
    "interpolate bilinear antialias": lambda t, I: F(t).interpolate(
        I(2, 3, 9, 5), size=(4, 7), mode="bilinear", antialias=True
    ),
    "interpolate bilinear antialias corners": lambda t, I: F(t).interpolate(
        I(1, 2, 9, 11), size=(4, 3), mode="bilinear", align_corners=True, antialias=True
    ),
    "interpolate bicubic antialias": lambda t, I: F(t).interpolate(
        I(1, 2, 13, 5), size=(3, 8), mode="bicubic", antialias=True
    ),
    "interpolate bicubic antialias factor": lambda t, I: F(t).interpolate(
        I(1, 2, 13, 8), scale_factor=(0.3, 0.6), mode="bicubic", antialias=True
    ),
    "interpolate same": lambda t, I: F(t).interpolate(I(1, 1, 3, 3), size=3, mode="bilinear") * 2,
    "pixel_shuffle": lambda t, I: F(t).pixel_shuffle(I(2, 8, 3, 2), 2) * I(2, 2, 6, 4),
    "pixel_shuffle 3D": lambda t, I: F(t).pixel_shuffle(I(9, 2, 2), 3) * I(1, 6, 6),
    "pixel_unshuffle": lambda t, I: F(t).pixel_unshuffle(I(2, 2, 6, 4), 2) * I(2, 8, 3, 2),
    "channel_shuffle": lambda t, I: F(t).channel_shuffle(I(2, 6, 2, 2), 3) * I(2, 6, 2, 2),
    "Upsample": lambda t, I: t.nn.Upsample(scale_factor=2, mode="bilinear")(I(1, 2, 3, 3)),
    "UpsamplingBilinear2d": lambda t, I: t.nn.UpsamplingBilinear2d(scale_factor=2)(I(1, 2, 3, 3)),
    "PixelShuffle": lambda t, I: t.nn.PixelShuffle(2)(I(1, 4, 2, 2)) * I(1, 1, 4, 4),
    "ZeroPad2d": lambda t, I: t.nn.ZeroPad2d((1, 0, 2, 1))(I(1, 2, 3, 3)) * 2,
    "ConstantPad1d": lambda t, I: t.nn.ConstantPad1d(2, 3.5)(I(2, 3)) * 2,
    "ConstantPad3d": lambda t, I: t.nn.ConstantPad3d(1, -1)(I(1, 1, 2, 2, 2)) * 2,
    "ReflectionPad2d": lambda t, I: t.nn.ReflectionPad2d((1, 2, 0, 1))(I(1, 2, 3, 4)) * 2,
    "ReplicationPad2d": lambda t, I: t.nn.ReplicationPad2d(2)(I(1, 2, 3, 4)) * 2,
    "ReplicationPad3d": lambda t, I: t.nn.ReplicationPad3d(1)(I(1, 1, 2, 3, 2)) * 2,
    "CircularPad1d": lambda t, I: t.nn.CircularPad1d((2, 1))(I(1, 2, 4)) * 2,
    "pad negative reflect": lambda t, I: F(t).pad(I(1, 2, 4, 4), (1, 1, 1, 1), "reflect") * I(1, 2, 6, 6),
}

PLAIN: dict[str, Call] = {
    "interpolate uint8": lambda t, I: F(t).interpolate(I.ints(1, 2, 3, 3).to(t.uint8), scale_factor=2),
    "pad ints": lambda t, I: F(t).pad(I.ints(2, 3), (1, 1), value=7),
    "pad bool": lambda t, I: F(t).pad(I.mask(2, 3), (1, 1), value=True),
}

REFUSED: dict[str, Call] = {
    "interpolate both": lambda t, I: F(t).interpolate(I(1, 1, 3), size=2, scale_factor=2),
    "interpolate neither": lambda t, I: F(t).interpolate(I(1, 1, 3)),
    "interpolate 2D": lambda t, I: F(t).interpolate(I(3, 3), size=2),
    "interpolate bilinear of 3D": lambda t, I: F(t).interpolate(I(1, 3, 3), size=2, mode="bilinear"),
    "interpolate corners of nearest": lambda t, I: F(t).interpolate(I(1, 1, 3), size=2, align_corners=True),
    "interpolate sizes": lambda t, I: F(t).interpolate(I(1, 1, 3, 3), size=(2, 2, 2)),
    "interpolate nothing": lambda t, I: F(t).interpolate(I(1, 1, 3, 3), size=(0, 2)),
    "interpolate mode": lambda t, I: F(t).interpolate(I(1, 1, 3, 3), size=2, mode="lanczos"),
    "interpolate antialias of nearest": lambda t, I: F(t).interpolate(I(1, 1, 3, 3), size=2, antialias=True),
    "interpolate recompute size": lambda t, I: F(t).interpolate(I(1, 1, 3), size=2, recompute_scale_factor=True),
    "pixel_shuffle channels": lambda t, I: F(t).pixel_shuffle(I(1, 3, 2, 2), 2),
    "pixel_shuffle factor": lambda t, I: F(t).pixel_shuffle(I(1, 4, 2, 2), -2),
    "pixel_unshuffle size": lambda t, I: F(t).pixel_unshuffle(I(1, 1, 3, 4), 2),
    "pad odd": lambda t, I: F(t).pad(I(2, 3), (1,)),
    "pad reflect too far": lambda t, I: F(t).pad(I(1, 2, 3), (3, 0), mode="reflect"),
    "pad mode": lambda t, I: F(t).pad(I(1, 2, 3), (1, 0), mode="mirror"),
    "pad reflect with value": lambda t, I: F(t).pad(I(1, 2, 3), (1, 0), mode="reflect", value=1.0),
    "pad reflect 2D": lambda t, I: F(t).pad(I(2, 3), (1, 0, 1, 0), mode="reflect"),
}
