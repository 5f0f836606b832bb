"""A network looked at from inside: filters, feature maps, gradients by time step."""

import numpy as np
import pytest
from PIL import Image
from training_runs import characters, result

import fastnet
from fastnet import nn
from fastnet.cli import main
from fastnet.models import ConvNet, RNNClassifier
from fastnet.nn.utils.rnn import pack_sequence
from fastnet.train import figures, inspection


def norms_of_one(model, x, y):
    """Of a series (T, features) alone: the gradient's norm by the input of each step, the last step first."""
    leaf = x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(leaf.unsqueeze(0)), y.reshape(1))
    (gradient,) = fastnet.autograd.grad(loss, [leaf])
    return np.linalg.norm(gradient.numpy().astype(np.float64), axis=1)[::-1]


@pytest.mark.parametrize("kind", ["packed", "batch first", "time first"])
def test_gradients_by_time_are_those_of_each_series_alone(kind):
    fastnet.manual_seed(0)
    model = RNNClassifier(3, 4, hidden=6, layers=2)
    lengths = [3, 7, 1, 7, 4] if kind == "packed" else [5] * 4
    series = [fastnet.randn(n, 3) for n in lengths]
    y = fastnet.randint(0, 4, (len(series),))
    alone = [norms_of_one(model, x, label) for x, label in zip(series, y, strict=True)]
    want = [np.mean([n[d] for n in alone if len(n) > d]) for d in range(max(lengths))]
    if kind == "packed":
        x = pack_sequence(series, enforce_sorted=False)
    else:
        x = fastnet.stack(series, dim=int(kind == "time first"))
        model.rnn.batch_first = kind == "batch first"
    marker = fastnet.ones_like(model.output.weight)
    model.output.weight.grad = marker

    def loss():
        return nn.functional.cross_entropy(model(x), y, reduction="sum")

    got = inspection.gradients_by_time(inspection.recurrent_layer(model), loss)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert model.output.weight.grad is marker
    assert all(p.grad is None for p in model.rnn.parameters())
    assert not model.rnn._forward_pre_hooks


def test_what_a_run_looks_at_does_not_change_its_bits(tmp_path, monkeypatch):
    trainer, fit = characters(tmp_path)
    fit()
    h = trainer.history
    assert [len(norms) for norms in h.time_norms] == [9] * len(h.epochs)
    assert np.isfinite(h.time_norms).all()
    assert all(norms[0] > norms[-1] for norms in h.time_norms)
    again, fit = characters(tmp_path, resume=tmp_path)
    again.say = lambda text: None
    fit()
    assert again.history.time_norms == h.time_norms
    trainer.plot("a title")
    with Image.open(tmp_path / "gradients_by_time.png") as image:
        assert image.size == (840, 540)
    monkeypatch.setattr(inspection, "recurrent_layer", lambda model: None)
    other, fit = characters(None)
    fit()
    assert other.history.time_norms == []
    assert result(other) == result(trainer)


def test_filters_and_feature_maps():
    fastnet.manual_seed(0)
    model = ConvNet(1, 10, image_size=8, channels=(4, 6))
    model.train()
    images = fastnet.randn(3, 1, 8, 8)
    name, filters = inspection.first_filters(model)
    assert name == "features.0"
    np.testing.assert_array_equal(filters, model.features[0].weight.detach().numpy())
    maps = inspection.feature_maps(model, images)
    assert {n: m.shape for n, m in maps.items()} == {"features.0": (4, 8, 8), "features.3": (6, 4, 4)}
    np.testing.assert_array_equal(maps["features.3"], model.features[:4](images[:1])[0].detach().numpy())
    assert model.training
    assert not model.features[0]._forward_hooks
    assert inspection.first_filters(nn.Linear(1, 1)) is None
    assert inspection.feature_maps(nn.Flatten(), images) == {}
    deep = nn.Sequential(*[nn.Conv2d(1, 1, 1) for _ in range(8)])
    assert list(inspection.feature_maps(deep, images)) == ["0", "2", "5", "7"]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_features_are_drawn(channels, tmp_path):
    rng = np.random.default_rng(0)
    maps = {"a": rng.normal(size=(13, 6, 5)), "b": rng.normal(size=(70, 3, 3)), "c": np.zeros((2, 1, 1))}
    path = tmp_path / "features.png"
    figures.draw_features(
        rng.normal(size=(channels, 6, 5)), "a", rng.normal(size=(13, channels, 3, 3)), maps, path, "t"
    )
    with Image.open(path) as figure:
        assert figure.size == (1200, int(120 * (3.2 + 3.8 * 2)))
        colours = {pixel for _, pixel in figure.convert("RGB").getcolors(1 << 20)}
    reds, blues = (sum(p[i] > p[2 - i] + 100 for p in colours) for i in (0, 2))
    assert min(reds, blues) > 20


@pytest.mark.parametrize(("recipe", "figure"), [("cnn", "features.png"), ("rnn", "gradients_by_time.png")])
def test_recipes_draw_them(recipe, figure, tmp_path, capsys):
    assert main(["train", recipe, "--epochs", "1", "--batch-size", "256", "--out", str(tmp_path)]) == 0
    assert figure in capsys.readouterr().out.replace("│", "").replace("\n", "")
    assert (tmp_path / recipe / figure).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
