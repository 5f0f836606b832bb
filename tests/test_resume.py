"""Runs that are killed or stopped go on to the bits of a run that never was."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from training_runs import characters, classifier, images, result

import fastnet
from fastnet.cli import main
from fastnet.train import Interrupted, Trainer, checkpoints
from fastnet.train.interrupts import Stop, stoppable
from fastnet.train.place import Batches, random_state, set_random_state
from fastnet.utils.data import DataLoader, RandomSampler, TensorDataset

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OPENBLAS_NUM_THREADS": "1"}


def test_killed_at_random_moments(tmp_path, full):
    """SIGKILL, 20 times (200 with --full): whole checkpoints only, and the same bits in the end."""
    kills = 200 if full else 20
    done = subprocess.run(
        [sys.executable, "-W", "error", str(Path(__file__).with_name("training_runs.py")), tmp_path, str(kills), "1"],
        capture_output=True,
        text=True,
        timeout=550,
        env=ENVIRONMENT,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["killed"] == kills
    assert seen["finished"] >= 1
    assert len(set(seen["resumed at"])) > 3  # the moments were different ones


RUNS = {
    "classifier": (classifier, {}),
    "accumulated, averaged, clipped": (classifier, {"accumulate": 3, "ema": 0.8, "max_norm": 0.5}),
    "float16": (classifier, {"precision": "float16"}),
    "bfloat16": (classifier, {"precision": "bfloat16", "checkpoint_every": 1}),
    "an order drawn in parts": (
        classifier,
        {"sampler": lambda d: RandomSampler(d, num_samples=150), "epochs": 2, "checkpoint_every": 4},
    ),
    "carried state": (characters, {}),
    "adversarial": (images, {}),
}


class Break(Exception):
    pass


def broken_at(step, trainer, fit):
    """Have a run end before a step as if the power had gone."""
    inner = trainer.train_step

    def train_step(batches):
        if len(trainer.history.step_losses) == step:
            raise Break
        return inner(batches)

    trainer.train_step = train_step
    try:
        fit()
    except Break:
        return True
    return False


@pytest.mark.parametrize("name", RUNS)
def test_resumed_runs_give_the_same_bits(name, tmp_path):
    make, options = RUNS[name]
    trainer, fit = make(None, **options)
    fit()
    want = result(trainer)
    steps = len(want["losses"])
    assert len(want["epochs"]) > 1
    for step in (1, steps // 3, steps // 2, steps - 2, steps - 1):
        out = tmp_path / str(step)
        out.mkdir()
        assert broken_at(step, *make(out, **options))
        has_one = any(out.glob("checkpoints/*.json"))
        fastnet.manual_seed(99)  # whatever came in between
        trainer, fit = make(out, resume=out if has_one else None, **options)
        trainer.say = lambda text: None
        fit()
        assert result(trainer) == want, step


def test_a_run_resumed_after_its_end_does_nothing(tmp_path):
    trainer, fit = classifier(tmp_path)
    fit()
    want = result(trainer)
    trainer, fit = classifier(tmp_path, resume=tmp_path)
    trainer.train_step = None
    fit()
    assert result(trainer) == want
    assert trainer.history.seconds > 0


def test_early_stopping_stops_and_resumes_stopped(tmp_path):
    trainer, fit = classifier(tmp_path, epochs=30, patience=2)
    fit()
    epochs = trainer.history.epochs
    assert len(epochs) == trainer.history.best.epoch + 2 < 30
    again, fit = classifier(tmp_path, resume=tmp_path, epochs=30, patience=2)
    fit()
    assert again.history.epochs == epochs


def test_averaged_weights_are_validated_and_kept(tmp_path):
    trainer, fit = classifier(tmp_path, ema=0.9)
    fit()
    last = trainer.history.epochs[-1]
    plain = trainer.evaluate(trainer._validation)
    with trainer._averaged():
        averaged = trainer.evaluate(trainer._validation)
    assert (last.validation_loss, last.validation_accuracy) == averaged != plain
    kept = fastnet.load(tmp_path / "checkpoint.safetensors")
    best = trainer.history.best.epoch == last.epoch
    assert all(fastnet.equal(kept[k], v) for k, v in trainer.ema.module.state_dict().items()) == best


def test_accumulated_gradients_are_those_of_the_whole_batch():
    """Two batches of 4 and one of 8 give the same step, but for rounding: a mean of means of as many."""
    x, y = fastnet.randn(8, 6), fastnet.randint(0, 2, (8,))
    states = []
    for parts in ([(x, y)], [(x[:4], y[:4]), (x[4:], y[4:])]):
        fastnet.manual_seed(0)
        model = fastnet.nn.Linear(6, 2)
        trainer = Trainer(model, fastnet.optim.SGD(model.parameters(), lr=0.5), accumulate=len(parts), progress=False)
        loss, *totals = trainer.train_step(parts).tolist()[:6]
        states.append((loss, totals, model.weight.detach().numpy()))
    (loss, totals, weight), (loss_parts, totals_parts, weight_parts) = states
    np.testing.assert_allclose(loss_parts, loss, rtol=4 * 2**-23)
    np.testing.assert_allclose(totals_parts, totals, rtol=16 * 2**-23)
    np.testing.assert_allclose(weight_parts, weight, rtol=0, atol=16 * 2**-24)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_finish_and_saves(number, tmp_path):
    trainer, fit = classifier(None)
    fit()
    want = result(trainer)
    trainer, fit = classifier(tmp_path, checkpoint_every=None)
    inner = trainer.train_step

    def train_step(batches):
        if len(trainer.history.step_losses) == 4:
            os.kill(os.getpid(), number)
        return inner(batches)

    trainer.train_step = train_step
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught:
        fit()
    assert signal.getsignal(number) is before
    assert caught.value.signal == number
    assert caught.value.step == 5
    assert caught.value.checkpoint == checkpoints.find(tmp_path)
    assert "step 5" in str(caught.value)
    trainer, fit = classifier(tmp_path, resume=caught.value.checkpoint, checkpoint_every=None)
    fit()
    assert result(trainer) == want


def test_a_second_ctrl_c_does_not_wait():
    stop = Stop()
    stop.ask(signal.SIGINT)
    stop.ask(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        stop.ask(signal.SIGINT)
    with stoppable() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT


def run_cli(arguments, kill=None, when=None):
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "fastnet", "train", "mlp", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=when.parent if when else None,
    )
    if kill is not None:
        limit = time.monotonic() + 120
        while not any(when.glob("mlp/checkpoints/*.json")):
            assert time.monotonic() < limit
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        process.send_signal(kill)
    out, errors = process.communicate(timeout=120)
    return process.returncode, out, errors


def test_command_line(tmp_path, capsys):
    """A run that is terminated says how to go on; that gives the numbers of a run that never stopped."""
    options = ["--epochs", "6", "--seed", "3", "--ema", "0.9", "--no-plot"]
    assert main(["train", "mlp", *options, "--out", str(tmp_path / "whole")]) == 0
    want = list(csv.DictReader((tmp_path / "whole/mlp/steps.csv").read_text().splitlines()))
    broken = tmp_path / "broken"
    status, _, errors = run_cli(
        [*options, "--out", str(broken), "--checkpoint-every", "10"], kill=signal.SIGTERM, when=broken
    )
    assert status == 128 + signal.SIGTERM, errors
    assert f"go on with: fastnet train mlp --out {broken} --resume --checkpoint-every 10 --no-plot\n" in errors
    # Another option than the checkpoint's is an error that names it; nothing is written.
    listed = sorted(p.name for p in (broken / "mlp/checkpoints").iterdir())
    capsys.readouterr()
    assert main(["train", "mlp", "--out", str(broken), "--resume", "--batch-size", "16"]) == 2
    assert "run.options.batch_size is 32 in the checkpoint, 16 in this run" in capsys.readouterr().err
    assert sorted(p.name for p in (broken / "mlp/checkpoints").iterdir()) == listed
    assert main(["train", "cnn", "--out", str(tmp_path), "--resume", str(broken / "mlp")]) == 2
    assert "run.options" in capsys.readouterr().err
    assert main(["train", "mlp", "--out", str(broken), "--resume", "--no-plot"]) == 0
    assert "going on from" in capsys.readouterr().out
    assert list(csv.DictReader((broken / "mlp/steps.csv").read_text().splitlines())) == want
    summaries = [json.loads((p / "mlp/summary.json").read_text()) for p in (tmp_path / "whole", broken)]
    for key in ("test_accuracy", "test_loss", "best_epoch", "validation_loss", "steps", "flops_total"):
        assert summaries[0][key] == summaries[1][key]
    assert (broken / "mlp/checkpoint.safetensors").read_bytes() == (
        tmp_path / "whole/mlp/checkpoint.safetensors"
    ).read_bytes()


def test_an_earlier_run_in_the_same_folder(tmp_path):
    """Its checkpoints are not this run's: neither what an error names nor what is kept, however many steps it made."""
    classifier(tmp_path, epochs=5)[1]()
    trainer, fit = classifier(tmp_path, epochs=2)
    said = []
    trainer.say = said.append
    inner = trainer._judged
    calls = []

    def judged(x, y, *criterion):
        calls.append(1)
        loss, right = inner(x, y, *criterion)
        return (loss if len(calls) != 2 else loss * float("nan")), right

    trainer._judged = judged
    with pytest.raises(FloatingPointError) as caught:
        fit()
    assert "checkpoint" not in str(caught.value)
    assert said == [f"the checkpoints in {tmp_path / 'checkpoints'} are an earlier run's: this one's take their place"]
    assert checkpoints.find(tmp_path).name == "step_00000040_end.json"  # nothing has taken their place yet
    trainer, fit = classifier(tmp_path, epochs=2)
    fit()
    assert sorted(p.stem for p in tmp_path.glob("checkpoints/*.json")) == ["step_00000015", "step_00000016_end"]


def test_nothing_to_resume(tmp_path, capsys):
    assert main(["train", "mlp", "--out", str(tmp_path), "--resume"]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err


def test_a_pass_goes_on_from_its_place():
    data = TensorDataset(fastnet.arange(20))
    loader = DataLoader(data, 3, sampler=RandomSampler(data, num_samples=50))
    fastnet.manual_seed(1)
    whole = Batches(loader)
    want, places = [], []
    for (x,) in whole:
        want.append((x.tolist(), fastnet.rand(1).item()))
        places.append((whole.place(), random_state(loader)))
    assert len(want) == 17
    for taken, (place, state) in enumerate(places, 1):
        set_random_state(state, loader)
        rest = Batches(loader, place)
        assert rest.taken == taken
        assert [(x.tolist(), fastnet.rand(1).item()) for (x,) in rest] == want[taken:]


def test_bad_arguments():
    model = fastnet.nn.Linear(2, 2)
    optimizer = fastnet.optim.SGD(model.parameters(), lr=0.1)
    for bad in (
        {"precision": "float8"}, {"accumulate": 0}, {"checkpoint_every": 0}, {"patience": 0}, {"ema": 1.5},
        {"best_by": "f1"}, {"schedule_by": "day"},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"{next(iter(bad))}|decay"):
            Trainer(model, optimizer, **bad)
