"""safetensors files: round trips, interrupted saves, and files that lie."""

import io
import json
from collections import Counter

import numpy as np
import pytest

import fastnet

NESTED = {
    "model": {"w": fastnet.arange(6).reshape(2, 3).float(), "b": fastnet.ones(2, dtype=fastnet.bfloat16)},
    "steps": [1, 2.5, None, True, "text", (fastnet.tensor(3), fastnet.zeros(0, 4))],
    7: fastnet.tensor([True, False]),
}


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, fastnet.Tensor):
        assert a.dtype is b.dtype
        assert a.shape == b.shape
        assert a.tolist() == b.tolist()
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for k in a:
            same(a[k], b[k])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert a == b


def test_round_trip(tmp_path):
    fastnet.save(NESTED, tmp_path / "x.safetensors")
    same(fastnet.load(tmp_path / "x.safetensors"), NESTED)
    fastnet.save(fastnet.ones(3), tmp_path / "y.safetensors")
    same(fastnet.load(tmp_path / "y.safetensors"), fastnet.ones(3))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int32", "int64", "uint8", "bool"])
def test_every_dtype(tmp_path, dtype):
    x = fastnet.tensor([[0, 1], [1, 0]]).to(getattr(fastnet, dtype))
    fastnet.save({"x": x}, tmp_path / "x")
    same(fastnet.load(tmp_path / "x"), {"x": x})


def test_the_librarys_own_reader_agrees(tmp_path):
    from safetensors.numpy import load_file, save_file

    fastnet.save({"a.weight": fastnet.ones(2, 3), "b": fastnet.arange(4).t()}, tmp_path / "x")
    assert {k: v.tolist() for k, v in load_file(tmp_path / "x").items()} == {
        "a.weight": [[1] * 3] * 2,
        "b": [0, 1, 2, 3],
    }
    save_file({"z": np.eye(2, dtype=np.float32)}, tmp_path / "y")
    assert fastnet.load(tmp_path / "y")["z"].tolist() == [[1, 0], [0, 1]]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    fastnet.save({"x": fastnet.ones(1)}, path)
    monkeypatch.setattr("os.fsync", lambda fd: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        fastnet.save({"x": fastnet.zeros(1)}, path)
    assert fastnet.load(path)["x"].tolist() == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_what_cannot_be_saved_is_named(tmp_path):
    for bad, where in (
        ({"a": [1, {2, 3}]}, "a.1"),
        ({"a": object()}, "a"),
        ({(1, 2): 3}, "mapping"),
        (lambda: 0, "object"),
    ):
        with pytest.raises(TypeError, match=where):
            fastnet.save(bad, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "x"
    for content, word in (
        (b"PK\x03\x04" + b"\0" * 100, "damaged"),
        (b"\x80\x02}q\0.", "pickle"),
        (b"", "safetensors"),
        (b"\xff" * 8, "safetensors"),
        (b"\0" * 1000, "safetensors"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=word):
            fastnet.load(path)
    with pytest.raises(FileNotFoundError):
        fastnet.load(tmp_path / "none")


def forged(layout, tmp_path):
    header = {"__metadata__": {"fastnet.layout": json.dumps(layout)}}
    text = json.dumps(header).encode()
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text)
    return tmp_path / "x"


@pytest.mark.parametrize(
    "layout",
    [
        {"tensor": "missing"},
        {"value": {"a": 1}},
        {"dict": [[["a"], {"value": 1}]]},
        {"dict": 5},
        {"list": {"a": 1}},
        {"run": "code"},
        [],
        3,
        None,
        {"value": 1, "list": []},
        {"dict": [[1]]},
        {"dict": [["a", {"value": 1}], ["a", {"value": 2}]]},
        {"dict": [[2**40, {"value": 1}]]},
        {"ordered": [[None, {"value": 1}]]},
        {"counter": [["a", {"value": "b"}]]},
        {"size": [{"value": "b"}]},
        {"dtype": "float8"},
        {"device": "tpu"},
    ],
)
def test_forged_layouts_are_refused(layout, tmp_path):
    with pytest.raises(ValueError, match="layout"):
        fastnet.load(forged(layout, tmp_path))


def test_files_that_are_open(tmp_path):
    file = io.BytesIO(b"before")
    file.seek(6)
    fastnet.save(NESTED, file)
    file.seek(6)
    same(fastnet.load(file), NESTED)


def test_what_training_saves_comes_back(tmp_path):
    """Modules', optimizers' and schedules' states, and whatever a zip file of PyTorch's may hold."""
    model = fastnet.nn.Sequential(fastnet.nn.Linear(3, 4), fastnet.nn.Linear(4, 2))
    optimizer = fastnet.optim.Adam([{"params": model[0].parameters(), "lr": 0.1}, {"params": model[1].parameters()}])
    scheduler = fastnet.optim.lr_scheduler.MultiStepLR(optimizer, [1, 1, 5])
    for _ in range(2):
        model(fastnet.ones(5, 3)).square().mean().backward()
        optimizer.step()
        scheduler.step()
    saved = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "generator": fastnet.get_rng_state(),
        "more": [fastnet.Size([2, 3]), fastnet.bfloat16, fastnet.device("cpu"), Counter("aab"), float("inf")],
    }
    fastnet.save(saved, tmp_path / "x")
    loaded = fastnet.load(tmp_path / "x")
    same(loaded, saved)
    assert loaded["model"]._metadata == saved["model"]._metadata
    loaded["model"]["0.weight"].zero_()  # memory of its own, that can be written
    fresh = fastnet.optim.Adam([{"params": model[0].parameters()}, {"params": model[1].parameters()}])
    fresh.load_state_dict(loaded["optimizer"])
    same(fresh.state_dict(), optimizer.state_dict())
    again = fastnet.optim.lr_scheduler.MultiStepLR(fresh, [7])
    again.load_state_dict(loaded["scheduler"])
    again.step()
    scheduler.step()
    assert again.get_last_lr() == scheduler.get_last_lr()


def test_names_that_stand_twice_are_refused(tmp_path):
    text = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text + b"\1")
    with pytest.raises(ValueError, match="twice"):
        fastnet.load(tmp_path / "x")


def test_containers_in_themselves_are_refused(tmp_path):
    inside = []
    inside.append(inside)
    with pytest.raises(ValueError, match="themselves"):
        fastnet.save(inside, tmp_path / "x")


def test_headers_of_every_size_are_read(tmp_path):
    """One of them begins as a pickle does: what says which it is must not be the first byte alone."""
    first = set()
    for n in range(0, 256, 8):
        fastnet.save({"w" * (n + 1): fastnet.ones(2)}, tmp_path / "x.safetensors")
        first.add((tmp_path / "x.safetensors").read_bytes()[0])
        (name,) = fastnet.load(tmp_path / "x.safetensors")
        assert name == "w" * (n + 1)
    assert 0x80 in first
