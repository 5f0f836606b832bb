"""A generator learns to draw handwritten digits against a discriminator (DCGAN): ``fastnet train gan``.

Digits are enlarged to 16 x 16; both networks are told which digit an image is or is to be. Each epoch draws a grid of
samples, a column for each class, always from the same noise (samples/epoch_001.png and on).
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

MOST_COLUMNS = 10  # of a grid of samples


@dataclass
class Options(SharedOptions):
    """What the command line sets."""

    epochs: int = 45
    batch_size: int = 32
    lr: float = 5e-4
    latent: int = 12
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
    classes = len(sets.classes)
    gan = DCGAN(options.latent, sets.channels, options.image_size, options.width, classes).to(options.device)
    # The discriminator learns more slowly, or it wins on so few images.
    optimizers = [
        fastnet.optim.Adam(part.parameters(), lr=rate, betas=(0.5, 0.999))
        for part, rate in ((gan.generator, options.lr), (gan.discriminator, options.lr / 2))
    ]
    columns = min(classes, MOST_COLUMNS)
    noise = fastnet.randn(8 * columns, options.latent, device=options.device)
    labels = fastnet.arange(columns, device=options.device).repeat(8)

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
            drawn = gan(noise, labels).cpu().numpy()
        gan.train()
        folder = options.out / "samples"
        folder.mkdir(exist_ok=True)
        title = f"Samples after epoch {number}: {', '.join(sets.classes[:columns])}"
        draw_images((drawn + 1) / 2, folder / f"epoch_{number:03}.png", title, columns)

    trainer = AdversarialTrainer(gan, *optimizers, after_epoch=after_epoch, **options.for_trainer())
    trainer.fit(DataLoader(train, options.batch_size, shuffle=True, drop_last=True), options.epochs)
    return trainer, {}
