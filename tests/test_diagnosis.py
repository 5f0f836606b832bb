"""What a run says of its health: where NaN arose, overfitting, gradients that vanish or explode; gradient norms."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest

import fastnet
from fastnet import nn, optim
from fastnet.train import Trainer, diagnosis, figures
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


def rows(training, validation, error=0.01, right=(0.95, 0.8)):
    """Epochs with these losses, errors of the rise, and accuracies in training and validation."""
    pairs = enumerate(zip(training, validation, strict=True), 1)
    more = {"validation_rise_error": error, "train_accuracy": right[0], "validation_accuracy": right[1]}
    return [SimpleNamespace(epoch=i, train_loss=t, validation_loss=v, **more) for i, (t, v) in pairs]


def test_overfitting():
    training, validation = [1.0, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15], [1.0, 0.6, 0.7, 0.72, 0.7, 0.75, 0.8]
    text = diagnosis.overfitting(rows(training, validation), 200)
    assert text is not None
    assert "since epoch 2" in text
    assert "0.5000 to 0.1500 in training" in text
    assert "0.6000 to 0.8000 in validation" in text
    assert "80.0% are right against 95.0%" in text
    assert diagnosis.overfitting([], 200) is None
    assert diagnosis.overfitting(rows(training[:6], validation[:6]), 200) is None  # not long enough
    a_little = rows(training, [1.0, 0.6, 0.7, 0.65, 0.7, 0.75, 0.8])
    assert diagnosis.overfitting(a_little, 200) is None
    both_rise = rows([1.0, 0.5, 0.6, 0.7, 0.8, 0.8, 0.8], validation)
    assert diagnosis.overfitting(both_rise, 200) is None
    # The rise is between 0.1 and 0.2, the gap of accuracies 0.15 with 0.4 / sqrt(targets) by chance.
    assert diagnosis.overfitting(rows(training, validation, error=0.04), 200) is not None
    assert diagnosis.overfitting(rows(training, validation, error=0.06), 200) is None
    assert diagnosis.overfitting(rows(training, validation), 70) is not None
    assert diagnosis.overfitting(rows(training, validation), 60) is None
    assert diagnosis.overfitting(rows(training, validation, right=(0.75, 0.8)), 200) is None  # dropout
    assert "since epoch 1" in diagnosis.overfitting(rows([0.7, *training[1:]], [0.5, *validation[1:]]), 200)


@pytest.mark.parametrize("lr", [0.05, 0.15])
def test_digits_learned_well_are_not_said_to_be_overfitted(lr):
    """Their validation loss is least some epochs before the end, and a tenth higher from then on."""
    from fastnet.recipes import mlp

    trainer, results = mlp.run(mlp.Options(progress=False, lr=lr))
    assert results["test_accuracy"] > 0.96
    losses = [e.validation_loss for e in trainer.history.epochs]
    assert np.argmin(losses) < 25
    assert losses[-1] > 1.1 * min(losses)
    assert not [w for w in trainer.history.warnings if w.startswith("overfitting")]


@pytest.mark.parametrize("seed", [0, 1])
def test_digits_learned_by_heart_are_said_to_be_overfitted(seed):
    """As in the lab: few digits, of which a fifth has random labels."""
    from fastnet.labs import overfitting
    from fastnet.labs._experiment import digits_with, mlp

    settings = overfitting.Settings()
    training, validation, _ = (TensorDataset(*part) for part in digits_with(settings.examples, seed, settings.wrong))
    fastnet.manual_seed(seed)
    model = mlp(64, settings.hidden, settings.hidden, 10)
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.05, momentum=0.9), progress=False)
    trainer.say = lambda text: None
    loader = DataLoader(training, settings.batch_size, shuffle=True)
    trainer.fit(loader, DataLoader(validation, 180), settings.epochs // 2)
    assert [w.split(":")[0] for w in trainer.history.warnings] == ["overfitting"]


def test_the_error_of_a_rise():
    """Losses by target less those of the least epoch, target by target; alike in whatever batches they come."""
    fastnet.manual_seed(0)
    model = nn.Linear(5, 2)
    trainers = [Trainer(model, optim.SGD(model.parameters(), lr=0.0), progress=False) for _ in range(2)]
    weights = model.weight.detach().clone()
    each = []
    for factor in (-1.0, 1.0):  # the better first, or the second is the least and its rise 0
        with fastnet.no_grad():
            model.weight.copy_(factor * weights)
        each.append(nn.functional.cross_entropy(model(X), Y, reduction="none").detach().numpy().astype(np.float64))
        for trainer, batch in zip(trainers, (8, 32), strict=True):
            trainer.fit(DataLoader(TensorDataset(X, Y), 8), DataLoader(TensorDataset(X, Y), batch), len(each))
    rise = each[1] - each[0]
    assert rise.mean() > 0
    for trainer in trainers:
        first, second = trainer.history.epochs
        assert first.validation_rise_error == 0
        np.testing.assert_allclose(second.validation_loss - first.validation_loss, rise.mean(), rtol=1e-6)
        np.testing.assert_allclose(second.validation_rise_error, rise.std(ddof=1) / 32**0.5, rtol=1e-5)
    assert diagnosis.standard_error(np.ones(1)) == np.inf
    # A validation set of another size has no pairs: the error is that of two means.
    worst = np.argsort(each[1])[-20:]
    trainer.fit(DataLoader(TensorDataset(X, Y), 8), DataLoader(TensorDataset(X[worst], Y[worst]), 20), 3)
    apart = np.hypot(each[0].std(ddof=1) / 32**0.5, each[1][worst].std(ddof=1) / 20**0.5)
    np.testing.assert_allclose(trainer.history.epochs[2].validation_rise_error, apart, rtol=1e-5)


def test_overfitting_is_said_once_by_a_run():
    """Twelve random labels are learned by heart, and sixty others judged by them."""
    fastnet.manual_seed(1)
    x, y = fastnet.randn(72, 8), fastnet.randint(0, 2, (72,))
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.3, momentum=0.9), progress=False)
    said = []
    trainer.say = said.append
    trainer.fit(
        DataLoader(TensorDataset(x[:12], y[:12]), 4), DataLoader(TensorDataset(x[12:], y[12:]), 60), 30
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
    before = [p.detach().clone() for p in model.parameters()]
    trainer.step(X[:8], Y[:8])
    moved = np.sqrt(sum(((p - b).detach().numpy() ** 2).sum() for p, b in zip(model.parameters(), before, strict=True)))
    np.testing.assert_allclose(moved, 0.1 * 1e-3, rtol=1e-3)  # the rate times max_norm, but for rounding of weights


def test_running_medians_follow_the_values_and_no_single_one():
    values = np.arange(5000.0)
    spoilt = values.copy()
    spoilt[::50] = np.inf
    steps, medians = figures._running_median(range(1, 5001), spoilt, 21)
    assert len(steps) == len(medians) == 1000
    assert (steps[0], steps[-1]) == (1, 5000)
    np.testing.assert_allclose(medians[10:-10], steps[10:-10] - 1, atol=1)
    assert figures._running_median([3, 6], np.array([2.0, 1.0]), 1)[1].tolist() == [2, 1]
    assert len(figures._running_median([], np.zeros(0), 1)[0]) == 0


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
