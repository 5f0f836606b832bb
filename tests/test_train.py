"""The main job: `fastnet train mlp`, its files, its errors, and the same run under two implementations."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fastnet
from fastnet import kernels
from fastnet.cli import main
from fastnet.recipes import RECIPES, mlp
from fastnet.utils.cost import count, readable


def test_command_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "fastnet", "train", "mlp", "--epochs", "2", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
    out = tmp_path / "mlp"
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    assert [r["epoch"] for r in rows] == ["1", "2"]
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
    summary = json.loads((out / "summary.json").read_text())
    # Two products of each layer forward and backward but for the input's gradient: 2 * 32 * (64*128 + 128*64 + 64*10)
    # forward.
    forward = 2 * 32 * (64 * 128 + 128 * 64 + 64 * 10)
    assert 2.4 * forward < summary["flops_per_step"] < 3.2 * forward
    assert summary["peak_memory_bytes"] > 10e6
    assert (out / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    state = fastnet.load(out / "checkpoint.safetensors")
    assert state["layers.1.weight"].shape == (128, 64)


def test_accuracy():
    """The recipe's own numbers, a third of its epochs: at least 96 % of the test split."""
    _, results = mlp.run(mlp.Options(epochs=12, progress=False))
    assert results["test_accuracy"] >= 0.96


def test_reference_and_emulated_give_the_same_run(monkeypatch):
    masks: list[np.ndarray] = []
    original = fastnet.nn.Dropout.forward

    def recording(self, x):
        """Draw the mask from the same place in the stream as the layer does after it."""
        if not self.training:
            return original(self, x)
        place = fastnet.get_rng_state()
        masks.append(fastnet.nn.functional.dropout(fastnet.ones(*x.shape), self.p).numpy() != 0)
        fastnet.set_rng_state(place)
        out = original(self, x)
        assert not out.detach().numpy()[~masks[-1]].any()
        return out

    monkeypatch.setattr(fastnet.nn.Dropout, "forward", recording)
    runs = []
    for mode in ("reference", "emulated"):
        masks.clear()
        with kernels.use(mode), kernels.trace() as ran:
            trainer, _ = mlp.run(mlp.Options(epochs=1, hidden=(32,), progress=False))
        state = {k: v.numpy() for k, v in trainer.model.state_dict().items()}
        runs.append((trainer.history.step_losses, state, list(masks)))
        assert (len(ran) > 100) == (mode == "emulated")
    (want, want_state, want_masks), (got, got_state, got_masks) = runs
    assert len(want) == len(want_masks) == len(got_masks) == 40
    assert all(np.array_equal(a, b) for a, b in zip(got_masks, want_masks, strict=True))
    assert 0.78 < np.concatenate(want_masks).mean() < 0.82
    # float32 rounding: the order of sums differs, by a unit or two of 2^-24 a step; momentum of 0.9 adds up ten steps.
    np.testing.assert_allclose(got, want, rtol=10 * 2**-23)
    for k in want_state:
        np.testing.assert_allclose(got_state[k], want_state[k], rtol=0, atol=10 * 2**-23)


def test_same_seed_same_bits():
    losses = [mlp.run(mlp.Options(epochs=1, hidden=(16,), progress=False))[0].history.step_losses for _ in range(2)]
    assert losses[0] == losses[1]
    assert mlp.run(mlp.Options(epochs=1, hidden=(16,), progress=False, seed=1))[0].history.step_losses != losses[0]


def test_nan_is_caught():
    with pytest.raises(FloatingPointError, match="NaN at step"), np.errstate(all="ignore"):
        mlp.run(mlp.Options(epochs=3, lr=1e9, progress=False))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["train", "mlq"], "no recipe"),
        (["train", "mlp", "--device", "tpu"], "--device"),
        (["train", "mlp", "--kernels", "native"], "native"),
        (["train", "mlp", "--kernels", "emulated", "--device", "cuda"], "cuda"),
        (["train", "mlp", "--out", "/proc/nothing"], "--out"),
        (["train", "mlp", "--graph"], "--graph: CUDA graphs need a GPU"),
        (["train", "mlp", "--data", "text"], "takes no file"),
        (["train", "gan", "--batch-size", "5000"], "the loader gives no batches"),
        (["train", "gan", "--precision", "float16"], "precision is 'float16'"),
        (["train", "lstm", "--batch-size", "100000"], "the text has 300000 characters"),
        (["train", "gan", "--ema", "0.9"], "--ema: the recipe gan has no such option"),
    ],
)
def test_friendly_errors(arguments, word, capsys, tmp_path):
    if "--out" not in arguments:
        arguments = [*arguments, "--out", str(tmp_path)]
    assert main(arguments) == 2
    assert word in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "mlp", "--epochs", "0"],
        ["train", "mlp", "--lr", "nan"],
        ["train", "mlp", "--batch-size", "x"],
        ["train", "mlp", "--precision", "float8"],
        ["train", "mlp", "--ema", "1"],
        ["train", "mlp", "--seed", "99999999999999999999"],
        [],
        ["dance"],
    ],
)
def test_bad_options_exit_with_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_all_recipes_share_one_page_of_options(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    page = capsys.readouterr().out
    for option in "data epochs batch-size lr precision seed out resume plot accumulate max-norm ema patience".split():
        assert f"--{option} " in page or f"--{option}," in page or f"--{option}]" in page, option
    for name, recipe in RECIPES.items():
        assert f"  {name}: " in page
        assert {"epochs", "batch_size", "lr", "precision", "seed"} <= set(recipe.Options().deciding())


def test_counting_counts_both_implementations_alike():
    x = fastnet.ones(3, 4, requires_grad=True)
    flops = []
    for mode in ("reference", "emulated"):
        with kernels.use(mode), count() as cost:
            fastnet.nn.functional.linear(x, fastnet.ones(5, 4, requires_grad=True)).sum().backward()
        flops.append(cost.by_function["matmul"])
    assert flops == [3 * 2 * 3 * 4 * 5] * 2
    assert readable(1.5e9, "FLOP") == "1.50 GFLOP"
