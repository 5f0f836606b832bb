"""Checkpoints: truncated, damaged, forged and mismatched ones are refused by the key that is wrong, and nothing is
touched."""

import functools
import json
import random
import zlib

import numpy as np
import pytest
from training_runs import characters, classifier, images, result

import fastnet
from fastnet import _serialization, nn, optim
from fastnet.train import CheckpointError, Trainer, checkpoints
from fastnet.utils.data import DataLoader, TensorDataset

STATE = {
    "model": {"weight": fastnet.arange(6).float().reshape(2, 3), "bias": fastnet.tensor([1.5])},
    "steps": [1, 2.5, None, True, "text"],
    "nested": {3: (fastnet.tensor(7), {"empty": fastnet.zeros(0)})},
}


def written(tmp_path, step=5):
    return checkpoints.write(tmp_path, step, STATE)


def test_what_is_written_is_read(tmp_path):
    got = checkpoints.read(written(tmp_path))
    assert got["steps"] == STATE["steps"]
    assert got["model"]["weight"].tolist() == STATE["model"]["weight"].tolist()
    assert got["nested"][3][0].item() == 7
    assert got["nested"][3][1]["empty"].shape == (0,)


def test_the_newest_two_are_kept(tmp_path):
    for step in (1, 9, 10, 200):
        written(tmp_path, step)
    checkpoints.write(tmp_path, 200, STATE, end=True)
    (tmp_path / ".step_00000300.json.abc").write_text("left by a killed run")
    (tmp_path / "notes.txt").write_text("the user's own")
    written(tmp_path, 1000)
    kept = ["notes.txt"] + [f"step_{s}.{e}" for s in ("00000200_end", "00001000") for e in ("json", "safetensors")]
    assert sorted(p.name for p in tmp_path.iterdir()) == kept
    assert checkpoints.find(tmp_path).name == "step_00001000.json"


def test_later_ones_make_room(tmp_path):
    """Of another run, or of one that went on from an older checkpoint: what is written last is the newest."""
    written(tmp_path, 40)
    for step, end, kept in (
        (80, False, ["40", "80"]), (80, False, ["40", "80"]), (50, False, ["40", "50"]), (50, True, ["50", "50_end"]),
        (50, False, ["50"]), (60, False, ["50", "60"]), (10, True, ["10_end"]),
    ):  # fmt: skip
        path = checkpoints.write(tmp_path, step, STATE, end=end)
        assert checkpoints.find(tmp_path) == path
        names = [f"step_000000{name}.{e}" for name in kept for e in ("json", "safetensors")]
        assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_every_truncation_is_noticed(tmp_path):
    for suffix in (".json", ".safetensors"):
        path = written(tmp_path)
        whole = path.with_suffix(suffix).read_bytes()
        for size in {0, 1, 7, 8, 20, *range(0, len(whole), 37), len(whole) - 1}:
            path.with_suffix(suffix).write_bytes(whole[:size])
            with pytest.raises(CheckpointError, match=path.stem):
                checkpoints.read(path)
        path.with_suffix(suffix).write_bytes(whole[:-1])
        with pytest.raises(CheckpointError, match="truncated.*nested" if suffix == ".safetensors" else "JSON"):
            checkpoints.read(path)


def test_every_flipped_bit_is_noticed(tmp_path):
    rng, refusals = random.Random(0), []
    for suffix in (".json", ".safetensors"):
        path = written(tmp_path)
        whole = path.with_suffix(suffix).read_bytes()
        for _ in range(300):
            damaged = bytearray(whole)
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            path.with_suffix(suffix).write_bytes(damaged)
            try:
                got = checkpoints.read(path)
            except CheckpointError as error:
                refusals.append(str(error))
            else:  # a change that means nothing: space in the header, the case of an escape
                assert got["model"]["weight"].tolist() == STATE["model"]["weight"].tolist()
                assert got["steps"] == STATE["steps"]
    assert len(refusals) > 550
    assert all("step_00000005" in text for text in refusals)
    path = written(tmp_path)
    raw = bytearray(path.with_suffix(".safetensors").read_bytes())
    raw[-1] ^= 1
    path.with_suffix(".safetensors").write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"tensor '(model|nested)\..*' is damaged: its crc32"):
        checkpoints.read(path)


def test_the_one_before_is_named(tmp_path):
    written(tmp_path, 1)
    path = written(tmp_path, 2)
    path.write_text("{")
    with pytest.raises(CheckpointError, match=r"the checkpoint before it is .*step_00000001\.json"):
        checkpoints.read(path)


def forge(path, change):
    """Change a checkpoint's JSON file and make its checksum fit again."""
    body = json.loads(path.read_text())
    change(body)
    del body["crc32"]
    crc = zlib.crc32(json.dumps(body, sort_keys=True).encode())
    path.write_text(json.dumps({"crc32": crc, **body}))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda b: b.update(format=99), "'format' is 99"),
        (lambda b: b.update(tensors=[]), "'tensors'"),
        (lambda b: b.pop("state"), "'state'"),
        (lambda b: b.update(state={"tensor": "other"}), "'state' is damaged"),
        (lambda b: b.update(state={"pickle": "gANjb3MKc3lzdGVt"}), "'state' is damaged"),
        (lambda b: b["tensors"].pop("model.bias"), "'model.bias' is not listed"),
        (lambda b: b["tensors"].update(more={}), "'more' is missing"),
        (lambda b: b["tensors"].update({"model.bias": None}), "'model.bias' is damaged"),
        (lambda b: b["tensors"]["model.weight"].update(shape=[6]), "'model.weight' is damaged: its shape"),
        (lambda b: b["tensors"]["model.weight"].update(dtype="F64"), "'model.weight' is damaged: its dtype"),
    ],
)
def test_forged_files(change, text, tmp_path):
    path = written(tmp_path)
    forge(path, change)
    with pytest.raises(CheckpointError, match=text):
        checkpoints.read(path)


def test_hostile_files(tmp_path):
    path = written(tmp_path)
    for raw in (
        b"\x80\x04cos\nsystem\n(S'exit'\ntR.", b"PK\x03\x04" + bytes(50), b"\xff" * 8 + b"{}", bytes(16),
        (2**40).to_bytes(8, "little") + b"{", b"[" * 100_000,
    ):  # fmt: skip
        path.with_suffix(".safetensors").write_bytes(raw)
        with pytest.raises(CheckpointError, match=path.stem):
            checkpoints.read(path)
    path = written(tmp_path)
    for raw in (b"[" * 100_000, b'{"a":' * 100_000, b'{"crc32": 1, "crc32": 1}', b"[]", b"\xff\xfe", b"NaN"):
        path.write_bytes(raw)
        with pytest.raises(CheckpointError, match=path.stem):
            checkpoints.read(path)
    path.with_suffix(".safetensors").unlink()
    path = written(tmp_path)
    path.with_suffix(".safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoints.read(path)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    _, fit = classifier(tmp_path, checkpoint_every=2)
    write, count = _serialization.os.fsync, 0

    def full(handle):
        nonlocal count
        count += 1
        if count > 12:
            raise OSError(28, "No space left on device")
        write(handle)

    monkeypatch.setattr(_serialization.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fit()
    monkeypatch.undo()
    assert not list(tmp_path.rglob(".*"))
    assert len(checkpoints.read(checkpoints.find(tmp_path))["run"]["step_losses"]) >= 2


# ---- checkpoints that are whole, of other runs -----------------------------------------------------------------------


def small(hidden=8, optimizer=optim.AdamW, groups=1, out=None, resume=None, scheduler=True, **options):
    fastnet.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, hidden), nn.ReLU(), nn.Linear(hidden, 2))
    parameters = list(model.parameters())
    split = [{"params": parameters[i::groups]} for i in range(groups)]
    made = optimizer(split, lr=0.01)
    schedule = optim.lr_scheduler.StepLR(made, 2) if scheduler else None
    trainer = Trainer(
        model, made, scheduler=schedule, progress=False, out=out, resume=resume, checkpoint_every=3, **options
    )
    data = TensorDataset(fastnet.randn(40, 6), fastnet.randint(0, 2, (40,)))
    return trainer, lambda: trainer.fit(DataLoader(data, 8, shuffle=True), DataLoader(data, 20), 2)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a run with one checkpoint within an epoch and one after it."""
    out = tmp_path_factory.mktemp("saved")
    trainer, fit = small(out=out, options={"lr": 0.01})
    inner = trainer.train_step

    def stop(batches):
        if len(trainer.history.step_losses) == 9:
            raise KeyboardInterrupt
        return inner(batches)

    trainer.train_step = stop
    with pytest.raises(KeyboardInterrupt):
        fit()
    assert [p.stem for p in sorted((out / "checkpoints").glob("*.json"))] == ["step_00000006", "step_00000009"]
    return out


def refused(saved, text, make=small, **options):
    """A run that does not take the checkpoint, is as it was, and can train."""
    options.setdefault("options", {"lr": 0.01})
    trainer, fit = make(resume=saved, **options)
    before = json.dumps(result(trainer))
    with pytest.raises(CheckpointError, match=text):
        fit()
    assert json.dumps(result(trainer)) == before
    assert not trainer.history.step_losses
    trainer.resume = None
    fit()
    assert trainer.history.step_losses


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"hidden": 9}, r"model\.0\.weight is .*\(8, 6\).* in the checkpoint, .*\(9, 6\)"),
        ({"optimizer": optim.Adagrad}, r"optimizer\.param_groups\.0\.\w+ is (missing|in the checkpoint)"),
        ({"groups": 2}, r"optimizer\.param_groups: expected 2 groups"),
        ({"scheduler": False}, "scheduler is in the checkpoint, and this run has none"),
        ({"ema": 0.9}, "ema is not in the checkpoint, and this run has one"),
        ({"precision": "bfloat16"}, r"run\.precision is 'float32' in the checkpoint, 'bfloat16'"),
        ({"accumulate": 2}, r"run\.accumulate is 1 in the checkpoint, 2"),
        ({"options": {"lr": 0.02}}, r"run\.options\.lr is 0\.01 in the checkpoint, 0\.02"),
        ({"options": {}}, r"run\.options\.lr is in the checkpoint, and this run has no such key"),
    ],
)
def test_checkpoints_of_other_runs(saved, options, text):
    refused(saved, text, **options)


def test_checkpoints_of_other_trainers(saved):
    for make in (characters, images):
        refused(saved, r"(run\.kind is 'Trainer'|is missing)", make=functools.partial(make, None))


def test_forged_states_are_refused_or_run(saved, tmp_path):
    """Whatever value of the JSON file is replaced by another: an error that changes nothing, or a run."""
    source = checkpoints.find(saved)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    path = folder / source.name
    path.with_suffix(".safetensors").write_bytes(source.with_suffix(".safetensors").read_bytes())
    rng = random.Random(0)
    outcomes = {"refused": 0, "taken": 0}

    def places(x, found):
        for key, value in x.items() if isinstance(x, dict) else enumerate(x):
            found.append((x, key))
            if isinstance(value, (dict, list)):
                places(value, found)
        return found

    def spoil(body):
        values = [None, -1, 2**70, 1e308, float("nan"), "", "x" * 50, True, [], {}, {"value": "a"}, {"dict": []}]
        values += [{"tensor": rng.choice(list(body["tensors"]))}, {"value": 10**9}, {"list": [{"value": 1}]}]
        container, key = rng.choice(places(body["state"], []))
        container[key] = rng.choice(values)

    trainer, fit = small(options={"lr": 0.01})
    fit()
    for _ in range(150):
        path.write_bytes(source.read_bytes())
        forge(path, spoil)
        trainer, fit = small(resume=tmp_path, options={"lr": 0.01})
        before = json.dumps(result(trainer))
        trainer.say, loaded = (lambda text: None), trainer._load

        def load(where, loaded=loaded):
            place = loaded(where)
            raise StopIteration(place)

        trainer._load = load
        try:
            fit()
        except CheckpointError:
            outcomes["refused"] += 1
            assert json.dumps(result(trainer)) == before
        except StopIteration:
            outcomes["taken"] += 1
    assert outcomes["refused"] > 75


def test_names_of_tensors_are_those_of_the_state_dicts(saved):
    tensors = fastnet.load(checkpoints.find(saved).with_suffix(".safetensors"))
    assert {"model.0.weight", "optimizer.state.0.exp_avg", "run.step_losses", "place.before"} <= set(tensors)
    assert np.array_equal(tensors["model.0.weight"].shape, (8, 6))
