"""A generator learns to draw handwritten digits against a discriminator (DCGAN): ``fastnet train gan``.

Digits are enlarged to 16 x 16. Each epoch draws a grid of samples, always from the same noise (samples/epoch_001.png
and on).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastnet
from fastnet.data import load_images
from fastnet.models import DCGAN
from fastnet.nn import functional as F
from fastnet.recipes.options import Options as SharedOptions
from fastnet.train.adversarial import AdversarialTrainer
from fastnet.train.figures import draw_images
from fastnet.utils.data import DataLoader, TensorDataset


@dataclass
class Options(SharedOptions):
    """What the command line sets."""

    epochs: int = 80
    batch_size: int = 64
    lr: float = 1e-3
    latent: int = 32
    image_size: int = 16
    width: int = 32
    data: Path | None = None  # IDX, CIFAR-10 or a folder of images; None for digits


def images(dataset: TensorDataset, size: int) -> TensorDataset:
    """Images brought to (N, C, size, size), values from -1 to 1."""
    x, y = dataset.tensors
    x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    return TensorDataset(2 * x - 1, y)


def run(options: Options) -> tuple[AdversarialTrainer, dict[str, Any]]:
    """Train; the trainer and a summary."""
    fastnet.manual_seed(options.seed)
    sets = load_images(options.data)
    train = images(sets.train, options.image_size)
    gan = DCGAN(options.latent, sets.channels, options.image_size, options.width).to(options.device)
    # The discriminator learns more slowly, or it wins on so few images.
    optimizers = [
        fastnet.optim.Adam(part.parameters(), lr=rate, betas=(0.5, 0.999))
        for part, rate in ((gan.generator, options.lr), (gan.discriminator, options.lr / 4))
    ]
    noise = fastnet.randn(64, options.latent, device=options.device)

    def after_epoch(number: int) -> None:
        last = trainer.history.epochs[-1]
        trainer.say(
            f"epoch {number}  generator {last.generator_loss:.3f}  discriminator {last.discriminator_loss:.3f}  "
            f"taken for real: {last.real_share:.0%} of real, {last.fake_share:.0%} of generated"
        )
        if options.out is None:
            return
        gan.eval()
        with fastnet.no_grad():
            drawn = gan(noise).cpu().numpy()
        gan.train()
        folder = options.out / "samples"
        folder.mkdir(exist_ok=True)
        draw_images((drawn + 1) / 2, folder / f"epoch_{number:03}.png", f"Samples after epoch {number}")

    trainer = AdversarialTrainer(gan, *optimizers, after_epoch=after_epoch, **options.for_trainer())
    trainer.fit(DataLoader(train, options.batch_size, shuffle=True, drop_last=True), options.epochs)
    return trainer, {}
