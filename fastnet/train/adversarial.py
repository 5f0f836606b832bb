"""The training loop of a generator against a discriminator (Goodfellow et al. 2014)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastnet
from fastnet._serialization import save
from fastnet._tensor import Tensor
from fastnet.nn import functional as F
from fastnet.train import figures
from fastnet.train.run import Run
from fastnet.train.steps import record_of


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
        gan: has ``generator`` (with ``latent``, the size of its noise, and ``classes``) and ``discriminator``, which
            gives logits; where ``classes`` is not 0, both take labels too, those of generated images drawn evenly.
        generator_optimizer, discriminator_optimizer: over their parameters.
        real_target: what the discriminator is to say of real images: 1, or a little less (Salimans et al. 2016,
            section 3.4).
        max_norm: gradients of either are scaled so that their norm is at most this; None leaves them.
        device, out, progress: as ``Trainer``'s.
        after_epoch: called with the epoch's number once its numbers are written.
        precision, checkpoint_every, fetch_every, graph, resume, options: as ``Run``'s; precision is not "float16".
    """

    Row = AdversarialEpoch
    watched = ("discriminator's loss", "discriminator's gradient", "generator's loss", "generator's gradient")
    totals_are = ("generator's loss", "discriminator's loss", "real", "fake", "images")

    def __init__(
        self,
        gan: Any,
        generator_optimizer: Any,
        discriminator_optimizer: Any,
        *,
        real_target: float = 0.9,
        max_norm: float | None = None,
        device: str = "cpu",
        out: Path | None = None,
        progress: bool = True,
        after_epoch: Callable[[int], None] | None = None,
        precision: str = "float32",
        checkpoint_every: int | None = None,
        fetch_every: int | None = None,
        graph: bool = False,
        resume: Path | None = None,
        options: dict[str, Any] | None = None,
    ):
        super().__init__(
            device,
            out,
            progress,
            "images",
            precision=precision,
            checkpoint_every=checkpoint_every,
            fetch_every=fetch_every,
            graph=graph,
            resume=resume,
            options=options,
        )
        if precision == "float16":
            raise ValueError(
                "AdversarialTrainer: precision is 'float16', expected 'bfloat16' or float32's: its losses "
                "are not scaled"
            )
        self.model, self.real_target, self.max_norm, self.after_epoch = gan, real_target, max_norm, after_epoch
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer

    def parts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }

    def step(self, images: Tensor, labels: Tensor | None = None) -> tuple[float, float, float, float]:
        """One step of both; losses of generator and discriminator, mean probability of being real of real and of
        generated images."""
        before = list(self.totals)
        self.launch([(images, labels)])
        self.fetch()
        _, *others, n = (a - b for a, b in zip(self.totals, before, strict=True))
        return self.history.step_losses[-1], others[0] / n, others[1] / n, others[2] / n

    def _judged(self, batch: Any) -> tuple[Tensor, tuple[Tensor, ...], Tensor, Tensor]:
        """The discriminator's loss, generated images (with their labels, where there are classes), and the logits of
        real and of generated images."""
        generator, (images, *rest) = self.model.generator, batch
        noise = fastnet.randn(len(images), generator.latent, device=images.device)
        labels, drawn = (), ()
        if generator.classes:
            labels = (rest[0],)
            drawn = (fastnet.randint(generator.classes, (len(images),), device=images.device),)
        with self.autocast():
            fakes = generator(noise, *drawn)
            real = self.model.discriminator(images, *labels)
            fake = self.model.discriminator(fakes.detach(), *drawn)
            ones = fastnet.ones_like(real)
            loss = F.binary_cross_entropy_with_logits(real, self.real_target * ones)
            return loss + F.binary_cross_entropy_with_logits(fake, 0 * ones), (fakes, *drawn), real, fake

    def _fooled(self, fakes: tuple[Tensor, ...]) -> Tensor:
        """The generator's loss on its images."""
        with self.autocast():
            logits = self.model.discriminator(*fakes)
            return F.binary_cross_entropy_with_logits(logits, fastnet.ones_like(logits))

    def diagnosed_loss(self, batch: Any) -> Tensor:
        loss, fakes, _, _ = self._judged(batch)
        return loss + self._fooled(fakes)

    def train_step(self, batches: Sequence[Any]) -> Tensor:
        (batch,) = batches
        loss, fakes, real, fake = self._judged(batch)
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        of_discriminator = loss.detach(), self.update(self.discriminator_optimizer, loss, self.max_norm)

        loss = self._fooled(fakes)
        self.generator_optimizer.zero_grad()
        loss.backward()
        of_generator = loss.detach(), self.update(self.generator_optimizer, loss, self.max_norm)
        n = len(batch[0])
        shares = [x.detach().float().sigmoid().mean() for x in (real, fake)]
        totals = [n * x.double() for x in (of_generator[0], of_discriminator[0], *shares)]
        return record_of([of_generator[0], *totals, n, *of_discriminator, *of_generator])

    def fit(self, images: Any, epochs: int) -> Any:
        """Train until so many passes over a loader of (images, labels) are done; keeps the last model. Raises as
        ``Run.train``."""
        self.train(images, epochs)
        return self.history

    def describe(self, number: int) -> str:
        g, d, _, _, n = self.totals
        return f"epoch {number}  generator {g / n:.3f}  discriminator {d / n:.3f}"

    def end_epoch(self, number: int, seconds: float) -> None:
        g, d, real, fake, n = self.totals
        self.history.epochs.append(AdversarialEpoch(number, g / n, d / n, real / n, fake / n, seconds, n / seconds))
        if self.out is not None:
            save(self.model.state_dict(), self.out / "checkpoint.safetensors")
        self.write_metrics()
        if self.after_epoch is not None:
            self.after_epoch(number)

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
