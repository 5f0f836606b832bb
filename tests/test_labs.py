"""The labs: every claim holds in its quick experiment, and none does where its cause is taken away."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import fastnet
from fastnet import labs, nn
from fastnet.cli import main
from fastnet.labs import (
    _experiment,
    augmentation,
    batch_size,
    dropout,
    initialisation,
    learning_rate,
    long_memory,
    overfitting,
    residual,
    sgd,
    vanishing_gradient,
    weight_decay,
)
from fastnet.labs._experiment import Finding, digits_with


def test_all_claims_hold_by_the_command_line(tmp_path):
    """What continuous integration runs: each lab once, its figure, its statistic, the exit status."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "fastnet", "lab", "--all", "--quick", "--out", "figures"],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(labs.LABS)} of {len(labs.LABS)} claims hold" in done.stdout
    assert done.stdout.count("95% confidence interval") >= len(labs.LABS)
    for name in labs.LABS:
        assert (tmp_path / "figures" / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


SABOTAGED = {
    # The cause taken away: the treatment does nothing, or the control has it too.
    "long-memory": (long_memory, dict(seeds=3, span=1, steps=60)),
    "residual": (residual, dict(seeds=2, blocks=10, steps=10, shortcut=False)),
    "sgd": (sgd, dict(seeds=3, batch_size=sgd.Settings().examples, passes=2, rates=(0.3,))),
    "learning-rate": (learning_rate, dict(seeds=3, rates=(0.05, 0.1, 0.2), steps=100)),
    "initialisation": (initialisation, dict(seeds=3, spread=0.0, steps=20)),
    "weight-decay": (weight_decay, dict(seeds=3, penalty=0.0, steps=50)),
    "dropout": (dropout, dict(seeds=3, p=0.0, steps=50)),
    "augmentation": (augmentation, dict(seeds=3, shift=0, degrees=0.0, steps=40)),
    "overfitting": (overfitting, dict(seeds=3, examples=1200, wrong=0.0, epochs=2)),
    "vanishing-gradient": (vanishing_gradient, dict(seeds=3, shrinking=nn.ReLU)),
}


@pytest.mark.parametrize("name", SABOTAGED)
def test_a_claim_does_not_hold_without_its_cause(name):
    lab, changes = SABOTAGED[name]
    report = lab.run(replace(lab.QUICK, **changes))
    assert not report.holds
    assert "does NOT hold" in "\n".join(map(str, report.findings))


def test_gradient_noise_of_one_example_repeated(monkeypatch):
    """Examples that are not independent: larger batches are as noisy as small ones."""
    monkeypatch.setattr(batch_size, "draw", lambda rng, count, size: np.full(size, rng.integers(count)))
    report = batch_size.run(replace(batch_size.QUICK, seeds=3, sizes=(4, 16), batches=20, timed=3))
    assert not report.findings[0].holds


def test_every_lab_has_been_sabotaged():
    assert set(SABOTAGED) | {"batch-size"} == set(labs.LABS)


def test_the_penalty_in_the_loss_is_twice_the_weight_decay(monkeypatch):
    """weight_decay = lambda, as one might think, is told from weight_decay = 2 lambda."""
    assert weight_decay.distance_of_rules(0.01, seed=0) < 1e-4
    original = fastnet.optim.SGD
    monkeypatch.setattr(
        fastnet.optim, "SGD", lambda p, lr, weight_decay: original(p, lr=lr, weight_decay=weight_decay / 2)
    )
    assert weight_decay.distance_of_rules(0.01, seed=0) > 1e-2


def test_interval_is_students():
    values = np.random.default_rng(0).normal(3.0, 2.0, 9)
    low, high = Finding("a mean", values.tolist(), "m").interval
    want = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose((low, high), (want.low, want.high), rtol=1e-12)


def test_interval_covers_as_often_as_it_says():
    """Of 2,000 experiments of 5 seeds whose mean is 0, one in 40 puts the interval above 0: 95 % confidence."""
    rng = np.random.default_rng(1)
    wrong = sum(Finding("nothing", rng.normal(size=5).tolist(), "", above=0).holds for _ in range(2000))
    assert abs(wrong - 50) < 4 * np.sqrt(2000 * 0.025 * 0.975)


def test_bounds():
    assert Finding("x", [1.0, 1.0], "", above=0, below=2).holds
    assert not Finding("x", [1.0, 1.0], "", above=1).holds
    assert not Finding("x", [1.0, 1.0], "", below=1).holds
    assert not Finding("x", [1.0, float("nan")], "", above=0).holds
    with pytest.raises(ValueError, match="at least 2"):
        Finding("x", [1.0], "")


def test_status_says_whether_the_claim_holds(tmp_path, monkeypatch, capsys):
    report = vanishing_gradient.run(replace(vanishing_gradient.QUICK, seeds=2, depth=3, steps=4))
    monkeypatch.setattr(vanishing_gradient, "run", lambda settings: report)
    assert main(["lab", "vanishing-gradient", "--out", str(tmp_path)]) == 1
    assert "the claim does NOT hold" in capsys.readouterr().out
    assert (tmp_path / "vanishing-gradient.png").exists()


@pytest.mark.parametrize("arguments", [[], ["no-such"], ["sgd", "--all"]])
def test_usage(arguments, capsys):
    assert main(["lab", *arguments]) == 2
    assert "long-memory" in capsys.readouterr().err


def test_out_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["lab", "sgd", "--out", str(tmp_path / "file")]) == 2
    assert "--out" in capsys.readouterr().err


def test_wrong_labels_are_the_share_asked_for():
    (_, clean), *_ = digits_with(1000, 3)
    (_, noisy), *_ = digits_with(1000, 3, 0.5)
    different = (clean.numpy() != noisy.numpy()).mean()
    assert abs(different - 0.45) < 4 * np.sqrt(0.45 * 0.55 / 1000)  # a tenth of random labels are right


def test_training_stops_where_the_loss_is_not_finite():
    data, _, _ = digits_with(100, 0)
    model = _experiment.mlp(64, 10)
    with np.errstate(all="ignore"):
        optimizer = fastnet.optim.SGD(model.parameters(), lr=1e38)
        losses = _experiment.train(model, optimizer, data, steps=50, batch_size=10, seed=0)
    assert len(losses) < 50
    assert np.isfinite(losses[:-1]).all()
    assert not np.isfinite(losses[-1])
