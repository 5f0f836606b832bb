"""Augmentation of batches of 8-bit images: geometry alone, with colours, and with rotation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnet import kernels, reference

from .cases import Case, ours, peers

GEOMETRY: dict[str, Any] = {"padding": 4, "flip": 0.5}
COLOURS: dict[str, Any] = {**GEOMETRY, "brightness": (0.8, 1.2), "contrast": (0.8, 1.2)}
STEPS = {"crop flip": GEOMETRY, "crop flip colour": COLOURS, "all": {**COLOURS, "degrees": (-10.0, 10.0)}}


def cases(sets: list[str], dtypes: list[str], wanted: tuple[str, ...]) -> Iterator[Case]:
    """Bytes in, float32 out, whatever ``dtypes``. PyTorch has nothing that draws anew for each image of a batch."""
    sizes = [(8, 32)] if sets == ["small"] else [(512, 32), (256, 224)]
    for n, side in sizes:
        for steps, options in STEPS.items():
            notes: list[str] = []
            elements = n * side * side * 3
            # Coordinates lie some 8 units of float32's at the image's side apart, and a pixel changes values by at most
            # one in each direction.
            moved = 16 * 2.0**-24 * side if "degrees" in options else 0.0

            def spec(x: Any, state: Any, options: dict[str, Any] = options) -> Any:
                return reference.augment(x, state, **options)

            yield Case(
                "augment",
                f"{n}x{side}x{side}x3 {steps}",
                "float32",
                lambda source, shape=(n, side, side, 3): (
                    source.integers(256, shape).astype("uint8").transpose(0, 3, 1, 2),
                    source.state(),
                ),
                ours(lambda x, state, options=options: kernels.augment(x, state, **options))
                + peers(spec, None, wanted, notes),
                spec=spec,
                bytes=5 * elements,
                absolute=moved + 2.0**-20,
                config=lambda e, n=n, elements=elements: e.augment_config(n, elements // n),
                blocks=lambda chosen: chosen.blocks,
                kernels=("augment_kernel",),
                counted="augment",
                notes=notes,
            )
