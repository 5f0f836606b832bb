"""The training loop of a generator against a discriminator (Goodfellow et al. 2014)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastnet
from fastnet._serialization import save
from fastnet._tensor import Tensor
from fastnet.nn import functional as F
from fastnet.train import figures
from fastnet.train.run import Run


@dataclass
class AdversarialEpoch:
    """One line of metrics.csv. Losses are means over images in nats, times seconds; ``real_share`` and ``fake_share``
    are the mean probabilities of being real that the discriminator gives to real and to generated images."""

    epoch: int
    generator_loss: float
    discriminator_loss: float
    real_share: float
    fake_share: float
    seconds: float
    examples_per_second: float


class AdversarialTrainer(Run):
    """Trains a GAN on images: a step of the discriminator, then one of the generator with the loss
    ``-log D(G(noise))``.

    Args:
        gan: has ``generator`` (with ``latent``, the size of its noise) and ``discriminator``, which gives logits.
        generator_optimizer, discriminator_optimizer: over their parameters.
        real_target: what the discriminator is to say of real images: 1, or a little less (Salimans et al. 2016,
            section 3.4).
        device, out, progress: as ``Trainer``'s.
        after_epoch: called with the epoch's number once its numbers are written.
    """

    def __init__(
        self,
        gan: Any,
        generator_optimizer: Any,
        discriminator_optimizer: Any,
        *,
        real_target: float = 0.9,
        device: str = "cpu",
        out: Path | None = None,
        progress: bool = True,
        after_epoch: Callable[[int], None] | None = None,
    ):
        super().__init__(device, out, progress, "images")
        self.model, self.real_target, self.after_epoch = gan, real_target, after_epoch
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer

    def step(self, images: Tensor) -> tuple[float, float, float, float]:
        """One step of both; losses of generator and discriminator, mean probability of being real of real and of
        generated images."""
        generator, discriminator = self.model.generator, self.model.discriminator
        n = images.shape[0]
        fakes = generator(fastnet.randn(n, generator.latent, device=images.device))
        real, fake = discriminator(images), discriminator(fakes.detach())
        ones = fastnet.ones_like(real)
        loss = F.binary_cross_entropy_with_logits(real, self.real_target * ones)
        loss = loss + F.binary_cross_entropy_with_logits(fake, 0 * ones)
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()

        generator_loss = F.binary_cross_entropy_with_logits(discriminator(fakes), ones)
        self.generator_optimizer.zero_grad()
        generator_loss.backward()
        self.generator_optimizer.step()
        return (
            self.finite("generator's loss", generator_loss.item()),
            self.finite("discriminator's loss", loss.item()),
            real.detach().sigmoid().mean().item(),
            fake.detach().sigmoid().mean().item(),
        )

    def fit(self, images: Any, epochs: int) -> Any:
        """Train for so many passes over a loader of (images, anything); keeps the last checkpoint."""
        with self.running(epochs * len(images)) as advance:
            for number in range(1, epochs + 1):
                self.history.epochs.append(self._epoch(number, images, advance))
                if self.out is not None:
                    save(self.model.state_dict(), self.out / "checkpoint.safetensors")
                self.write_metrics()
                if self.after_epoch is not None:
                    self.after_epoch(number)
        return self.history

    def _epoch(self, number: int, images: Any, advance: Callable[[str], None]) -> AdversarialEpoch:
        sums, n, started = [0.0] * 4, 0, time.perf_counter()
        for x, _ in images:
            x = x.to(self.device)
            values = self.counted(self.step, x)
            self.history.step_losses.append(values[0])
            n += len(x)
            sums = [s + v * len(x) for s, v in zip(sums, values, strict=True)]
            advance(f"epoch {number}  generator {sums[0] / n:.3f}  discriminator {sums[1] / n:.3f}")
        seconds = time.perf_counter() - started
        g, d, real, fake = (s / n for s in sums)
        return AdversarialEpoch(number, g, d, real, fake, seconds, n / seconds)

    def results(self) -> dict[str, Any]:
        last = self.history.epochs[-1]
        return {"generator_loss": last.generator_loss, "discriminator_loss": last.discriminator_loss}

    def plot(self, title: str) -> Path:
        """Draw both losses, and what the discriminator says, by epoch into curves.png."""
        assert self.out is not None
        figure = figures.new_figure(10, 4)
        figure.suptitle(title)
        epochs = self.history.epochs
        x = [e.epoch for e in epochs]
        left, right = figure.subplots(1, 2)
        losses = {
            "generator": [e.generator_loss for e in epochs],
            "discriminator": [e.discriminator_loss for e in epochs],
        }
        figures.draw_lines(left, x, losses, title="Losses", xlabel="epoch", ylabel="mean loss (nats)")
        shares = {
            "real images": [100 * e.real_share for e in epochs],
            "generated images": [100 * e.fake_share for e in epochs],
        }
        figures.draw_lines(
            right, x, shares, title="What the discriminator takes for real", xlabel="epoch", ylabel="probability (%)"
        )
        path = self.out / "curves.png"
        figure.savefig(path, dpi=120)
        return path
