"""What a run says of its health: where NaN arose, overfitting, gradients that vanish or explode; gradient norms."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest

import fastnet
from fastnet import nn, optim
from fastnet.train import Trainer, diagnosis
from fastnet.utils.data import DataLoader, TensorDataset


def fitted(model, x, y, epochs=1, lr=0.1, **options):
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=lr), progress=False, **options)
    trainer.say = lambda text: None
    data = TensorDataset(x, y)
    trainer.fit(DataLoader(data, 8), DataLoader(data, 8), epochs)
    return trainer


class Spoiling(nn.Module):
    """The identity until a call, from which on it spoils what comes through, forward or backward."""

    def __init__(self, call, backward=False):
        super().__init__()
        self.call, self.backward, self.calls = call, backward, 0

    def forward(self, x):
        if self.training:
            self.calls += 1
        if self.calls <= self.call:
            return x
        if self.backward:  # sqrt(0): finite, but for its derivative; and 0 times infinity is NaN
            return x + 0 * (x - x.detach()).abs().sqrt()
        return x * float("inf") - x * float("inf")


X, Y = fastnet.Generator().manual_seed(0), None
X = fastnet.randn(32, 5, generator=X)
Y = (X[:, 0] > 0).long()


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
def test_nan_is_traced_to_its_step_and_layer():
    model = nn.Sequential(nn.Linear(5, 4), nn.Sequential(nn.Tanh(), Spoiling(2)), nn.Linear(4, 2))
    before = None
    with pytest.raises(FloatingPointError, match=r"loss became NaN at step 3, first in the output of layer '1\.1'"):
        fitted(model, X, Y)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), Spoiling(1, backward=True), nn.Linear(4, 2))
    with pytest.raises(FloatingPointError, match="gradient became NaN at step 2, first in the gradient of the output"):
        fitted(model, X, Y)
    assert all(np.isfinite(p.detach().numpy()).all() for p in model.parameters()), before
    spoilt = X.clone()
    spoilt[9, 1] = float("nan")
    with pytest.raises(FloatingPointError, match="NaN at step 2, in the batch itself"):
        fitted(nn.Linear(5, 2), spoilt, Y)
    model = nn.Linear(5, 2)
    with fastnet.no_grad():
        model.weight[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="at step 1, in the weights 'weight'"):
        fitted(model, X, Y)


def test_random_numbers_do_not_move_where_nan_arises():
    """The step is computed again with the dropout mask that spoilt it."""

    class DividesByDropped(nn.Module):
        def forward(self, x):
            return x / nn.functional.dropout(fastnet.ones(*x.shape), 0.02, self.training)

    fastnet.manual_seed(4)
    model = nn.Sequential(nn.Linear(5, 2), DividesByDropped())
    with pytest.raises(FloatingPointError, match="first in the output of layer '1'"), np.errstate(all="ignore"):
        fitted(model, X, Y, epochs=40, lr=0.0)


def test_float16_skips_the_step_instead(tmp_path):
    fastnet.manual_seed(0)
    model = nn.Linear(5, 2)
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.1), progress=False, precision="float16")
    trainer.scaler.update(2.0**30)  # larger than float16 holds
    with np.errstate(all="ignore"):
        before = model.weight.detach().clone()
        trainer.step(X, Y)
        assert fastnet.equal(model.weight, before)
        assert trainer.scaler.get_scale() == 2.0**29
        for _ in range(20):
            trainer.step(X, Y)
    assert not fastnet.equal(model.weight, before)


def rows(training, validation):
    pairs = enumerate(zip(training, validation, strict=True), 1)
    return [SimpleNamespace(epoch=i, train_loss=t, validation_loss=v) for i, (t, v) in pairs]


def test_overfitting():
    text = diagnosis.overfitting(rows([1.0, 0.5, 0.4, 0.3, 0.2], [1.0, 0.6, 0.62, 0.65, 0.7]))
    assert text is not None
    assert "since epoch 2" in text
    assert "0.5000 to 0.2000 in training" in text
    assert diagnosis.overfitting([]) is None
    assert diagnosis.overfitting(rows([1.0, 0.5, 0.4, 0.3], [1.0, 0.6, 0.62, 0.7])) is None  # not long enough
    assert diagnosis.overfitting(rows([1.0, 0.5, 0.4, 0.3, 0.2], [1.0, 0.6, 0.61, 0.62, 0.63])) is None  # a little
    assert diagnosis.overfitting(rows([1.0, 0.5, 0.6, 0.7, 0.8], [1.0, 0.6, 0.7, 0.8, 0.9])) is None  # both rise


def test_overfitting_is_said_once_by_a_run():
    """Twelve random labels are learned by heart."""
    fastnet.manual_seed(1)
    x, y = fastnet.randn(24, 8), fastnet.randint(0, 2, (24,))
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.3, momentum=0.9), progress=False)
    said = []
    trainer.say = said.append
    trainer.fit(
        DataLoader(TensorDataset(x[:12], y[:12]), 4), DataLoader(TensorDataset(x[12:], y[12:]), 12), 30
    )  # fmt: skip
    assert [w for w in trainer.history.warnings if w.startswith("overfitting")] == [said[0].removeprefix("warning: ")]


@pytest.mark.parametrize(("gain", "word"), [(0.1, "vanish"), (100.0, "explode"), (1.0, None)])
def test_gradients_of_the_first_layer(gain, word):
    """sin(gain x) is at most 1, its derivative up to the gain."""

    class Sine(nn.Module):
        def forward(self, x):
            return (gain * x).sin()

    fastnet.manual_seed(0)
    widths = [5, 16, 16, 16, 16]
    layers = [m for i, n in enumerate(widths) for m in (nn.Linear(n, 16), Sine())]
    model = nn.Sequential(*layers, nn.Linear(16, 2))
    trainer = fitted(model, X, Y, lr=0.0)
    assert [w.split(":")[0] for w in trainer.history.warnings] == ([f"gradients {word}"] if word else [])
    if word:
        assert "(0)" in trainer.history.warnings[0]
        assert "(10)" in trainer.history.warnings[0]


def test_norms_are_recorded_and_drawn(tmp_path):
    fastnet.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    trainer = fitted(model, X, Y, epochs=2, out=tmp_path, max_norm=1e-3)
    h = trainer.history
    assert len(h.gradient_norms) == len(h.layer_steps) == len(h.layer_norms) == 8
    assert np.shape(h.layer_norms) == (8, 2)
    written = list(csv.DictReader((tmp_path / "steps.csv").read_text().splitlines()))
    assert [float(r["gradient_norm"]) for r in written] == h.gradient_norms
    trainer.plot("test")
    assert (tmp_path / "gradients.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert all(n > 1e-3 for n in h.gradient_norms)  # before clipping
    after = np.sqrt(sum((p.grad.numpy() ** 2).sum() for p in model.parameters()))
    np.testing.assert_allclose(after, 1e-3, rtol=1e-2)  # max_norm / (norm + 1e-6)


def test_norms_of_16_bit_gradients_add_up_in_float32():
    p = fastnet.zeros(70_000, dtype=fastnet.float16, requires_grad=True)
    q = fastnet.zeros(3, requires_grad=True)
    p.grad = fastnet.full((70_000,), 2.0, dtype=fastnet.float16)
    np.testing.assert_allclose(diagnosis.gradient_norms([p, q]), [2 * 70_000**0.5, 0.0], rtol=1e-6)


@pytest.mark.parametrize("precision", ["bfloat16", "tf32"])
def test_precisions_train(precision):
    fastnet.manual_seed(0)
    trainer = fitted(nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2)), X, Y, epochs=20, precision=precision)
    assert trainer.history.epochs[-1].train_accuracy > 0.9
    assert fastnet.get_float32_matmul_precision() == "highest"
