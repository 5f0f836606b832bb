"""The learning-rate range test: it finds a rate that trains, and puts everything back."""

import json

import numpy as np
import pytest
from training_runs import classifier, result

import fastnet
from fastnet import nn, optim
from fastnet.cli import main
from fastnet.train import Run, Trainer, find_learning_rate, rate_finder
from fastnet.utils.data import DataLoader, TensorDataset


def problem(kind="SGD", **options):
    fastnet.manual_seed(0)
    x = fastnet.randn(256, 10)
    y = (x[:, :3].sum(1) > 0).long()
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))
    trainer = Trainer(model, getattr(optim, kind)(model.parameters(), lr=0.5, **options), progress=False)
    return trainer, DataLoader(TensorDataset(x, y), 16, shuffle=True)


@pytest.mark.parametrize(("kind", "low", "high"), [("SGD", 0.003, 5.0), ("Adam", 1e-4, 0.3)])
def test_the_suggestion_trains(kind, low, high, tmp_path):
    trainer, loader = problem(kind)
    found = find_learning_rate(trainer, loader)
    assert low < found.suggestion < high
    assert found.rates == sorted(found.rates)
    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    found.plot(tmp_path / "rates.png", "Learning-rate range test")
    assert (tmp_path / "rates.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    for group in trainer.optimizer.param_groups:
        group["lr"] = found.suggestion
    trainer.fit(loader, loader, 8)
    assert trainer.history.best.validation_accuracy > 0.9


def test_everything_is_as_it_was():
    trainer, fit = classifier(None, ema=0.9)
    before = json.dumps(result(trainer))
    state = trainer.optimizer.state_dict()["param_groups"], trainer.scheduler.state_dict()
    data = DataLoader(TensorDataset(fastnet.randn(40, 6), fastnet.randint(0, 2, (40,))), 8, shuffle=True)
    place = fastnet.get_rng_state().tolist()
    find_learning_rate(trainer, data, steps=20, highest=1e3)
    assert fastnet.get_rng_state().tolist() == place
    fastnet.set_rng_state(fastnet.tensor(json.loads(before)["random"], dtype=fastnet.uint8))
    assert json.dumps(result(trainer)) == before
    assert (trainer.optimizer.state_dict()["param_groups"], trainer.scheduler.state_dict()) == state
    assert not trainer.optimizer.state_dict()["state"]
    fit()
    want, fit = classifier(None, ema=0.9)
    fit()
    assert result(trainer)["losses"] == result(want)["losses"]


def test_groups_keep_their_ratios_and_a_bad_range_is_refused():
    trainer, loader = problem()
    parameters = list(trainer.model.parameters())
    trainer.optimizer = optim.SGD([{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.1}], lr=1.0)
    seen = []
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda **options: (
        seen.append([g["lr"] for g in trainer.optimizer.param_groups]),
        step(**options),
    )
    find_learning_rate(trainer, loader, lowest=1e-4, highest=1e-2, steps=10)
    np.testing.assert_allclose([b / a for a, b in seen], 0.1)
    np.testing.assert_allclose([a for a, _ in seen], np.geomspace(1e-4, 1e-2, 10))
    for bad in ({"lowest": 0.0}, {"lowest": 1.0, "highest": 0.5}, {"highest": float("inf")}, {"steps": 3}):
        with pytest.raises(ValueError, match="find_learning_rate"):
            find_learning_rate(trainer, loader, **bad)
    with pytest.raises(RuntimeError, match="no number"), np.errstate(all="ignore"):
        find_learning_rate(trainer, loader, lowest=1e30, highest=1e35)


def test_a_bad_step_does_not_move_the_suggestion(monkeypatch):
    """Losses that fall along a valley whose steepest place and least value are known, with single steps far off."""

    def record(loss):  # loss, totals, what is watched, the gradients' norm
        return fastnet.tensor([loss, *[0.0] * 5, loss, 0.0, 0.0], dtype=fastnet.float64)

    trainer, loader = problem()
    monkeypatch.setattr(Trainer, "train_step", lambda self, batches: record(next(losses)))
    at = np.linspace(-5, 1, 150)  # logarithms of the rates to base 10
    clean = 2.3 - 1.5 / (1 + np.exp(-6 * (at + 2.5))) + np.exp(5 * (at + 0.2))
    spoilt = clean.copy()
    spoilt[[30, 70, 71, 100]] += 6
    for values in (clean, spoilt):
        losses = iter(values)
        found = find_learning_rate(trainer, loader)
        assert -2.7 < np.log10(found.suggestion) < -2.3
        assert np.log10(found.at_least) == pytest.approx(at[clean.argmin()], abs=0.2)
    shallow = 2.3 - 0.5 * np.exp(-20 * (at + 0.5) ** 2) + np.where(at > -0.5, at + 0.5, 0)
    losses = iter(shallow)
    found = find_learning_rate(trainer, loader)
    assert found.suggestion == pytest.approx(found.at_least / 3)


def test_command_line(tmp_path, capsys):
    assert main(["train", "mlp", "--find-lr", "--out", str(tmp_path)]) == 0
    page = capsys.readouterr().out
    rate = float(page.split("suggested learning rate: ")[1].split()[0])
    assert 0.01 < rate < 0.3  # an accuracy above 90 % in ten epochs needs 0.01 at least; 0.5 diverges
    assert f"fastnet train mlp --lr {rate:.2g}" in page
    assert sorted(p.name for p in (tmp_path / "mlp").iterdir()) == ["learning_rates.png"]
    assert (tmp_path / "mlp" / "learning_rates.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert Run.instead is None
    assert main(["train", "gan", "--find-lr", "--out", str(tmp_path)]) == 2
    assert "the losses of a game" in capsys.readouterr().err
    assert main(["train", "mlp", "--find-lr", "--resume", "--out", str(tmp_path)]) == 2
    assert "leave out --resume" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="without training"):
        rate_finder.find_for(lambda: None)
