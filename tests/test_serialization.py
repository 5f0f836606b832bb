"""safetensors files: round trips, interrupted saves, and files that lie."""

import json

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
        (b"PK\x03\x04" + b"\0" * 100, "zip"),
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
    ],
)
def test_forged_layouts_are_refused(layout, tmp_path):
    with pytest.raises(ValueError, match="layout"):
        fastnet.load(forged(layout, tmp_path))


def test_mutated_files_never_crash(tmp_path, full):
    """Every outcome is a ValueError or a value of plain types: never a crash, never code that runs."""
    path = tmp_path / "x"
    fastnet.save(NESTED, path)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(10_000 if full else 500):
        bad = bytearray(good)
        kind = rng.integers(4)
        if kind == 0:
            bad = bad[: rng.integers(len(bad))]
        elif kind == 1:
            bad += bytes(rng.integers(0, 256, rng.integers(1, 50)).tolist())
        else:
            for i in rng.integers(0, len(bad) if kind == 2 else 8 + 200, rng.integers(1, 6)):
                bad[i] = rng.integers(256)
        path.write_bytes(bytes(bad))
        try:
            fastnet.load(path)
        except ValueError:
            refused += 1
    assert refused > 100
