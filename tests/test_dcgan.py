"""DCGAN: shapes, starts, both steps, and the recipe `fastnet train gan`."""

import csv
import json

import numpy as np
import pytest

import fastnet
from fastnet.cli import main
from fastnet.models import DCGAN
from fastnet.recipes import gan
from fastnet.train.adversarial import AdversarialTrainer


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (16, 3), (32, 1)])
def test_shapes(size, channels):
    net = DCGAN(latent=6, channels=channels, image_size=size, width=4)
    images = net(fastnet.randn(3, 6))
    assert images.shape == (3, channels, size, size)
    assert images.abs().max().item() <= 1
    assert net.discriminator(images).shape == (3,)


@pytest.mark.parametrize("size", [4, 12, 0])
def test_bad_sizes(size):
    with pytest.raises(ValueError, match=f"image_size is {size}, expected a power of two"):
        DCGAN(image_size=size)


def test_labels():
    """Labels change what is drawn and how it is judged; the logit gains the label's vector times the features' sums."""
    fastnet.manual_seed(0)
    net = DCGAN(latent=6, image_size=8, width=4, classes=3).eval()
    noise, labels = fastnet.randn(1, 6).expand(3, 6), fastnet.arange(3)
    images = net(noise, labels)
    assert (images[0] - images[1]).abs().max().item() > 0 < (images[1] - images[2]).abs().max().item()
    d = net.discriminator
    features = d.layers[:-2](images).sum((2, 3)).numpy(force=True)
    gained = (d(images, labels) - d.layers(images)).numpy(force=True)
    np.testing.assert_allclose(gained, (features * d.embedding.weight.numpy(force=True)).sum(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("classes", "labels", "said"), [(0, fastnet.zeros(2).long(), "given"), (3, None, "missing")])
def test_labels_without_classes(classes, labels, said):
    net = DCGAN(latent=6, image_size=8, width=4, classes=classes)
    with pytest.raises(ValueError, match=f"Generator: labels are {said}, but classes is {classes}"):
        net(fastnet.randn(2, 6), labels)
    with pytest.raises(ValueError, match=f"Discriminator: labels are {said}, but classes is {classes}"):
        net.discriminator(fastnet.zeros(2, 1, 8, 8), labels)


def test_initialisation():
    fastnet.manual_seed(0)
    for name, p in DCGAN(latent=32, image_size=16, width=32, classes=100).named_parameters():
        if p.dim() == 4 or name.endswith("embedding.weight"):
            # The standard deviation of n draws is within 4 / sqrt(2 n) of its own value.
            assert abs(p.std().item() / 0.02 - 1) < 4 / np.sqrt(2 * p.numel()), name


@pytest.mark.parametrize("classes", [0, 2])
def test_each_side_learns_from_its_own_loss(classes):
    """With the other side's optimizer still, each lowers its own loss; the still side's parameters stay."""
    for learning in ("generator", "discriminator"):
        fastnet.manual_seed(1)
        net = DCGAN(latent=8, image_size=8, width=8, classes=classes)
        rates = {"generator": 0.0, "discriminator": 0.0, learning: 2e-3}
        optimizers = [fastnet.optim.Adam(getattr(net, n).parameters(), lr=r) for n, r in rates.items()]
        before = {n: p.detach().clone() for n, p in net.named_parameters()}
        trainer = AdversarialTrainer(net, *optimizers, progress=False)
        images = fastnet.ones(16, 1, 8, 8) * 0.5
        labels = fastnet.arange(16) % classes if classes else None
        losses = np.array([trainer.step(images, labels)[:2] for _ in range(12)])
        mine = losses[:, 0 if learning == "generator" else 1]
        assert mine[-3:].mean() < mine[:3].mean()
        for name, p in net.named_parameters():
            assert fastnet.equal(p, before[name]) == (not name.startswith(learning)), name


def test_command_line(tmp_path, capsys):
    assert main(["train", "gan", "--epochs", "2", "--batch-size", "256", "--out", str(tmp_path)]) == 0
    out = tmp_path / "gan"
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    assert len(rows) == 2
    assert all(0 < float(r["generator_loss"]) < 20 and 0 < float(r["discriminator_loss"]) < 20 for r in rows)
    for name in ("curves.png", "samples/epoch_001.png", "samples/epoch_002.png"):
        assert (out / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["flops_per_step"] > 1e6
    assert summary["generator_loss"] == float(rows[1]["generator_loss"])
    assert "generator's loss" in capsys.readouterr().out


def test_same_seed_same_bits():
    runs = [gan.run(gan.Options(epochs=1, batch_size=256, width=4, progress=False))[0] for _ in range(2)]
    assert runs[0].history.step_losses == runs[1].history.step_losses
