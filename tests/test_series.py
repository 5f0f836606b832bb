"""Files of labelled series: what is read, and what is said of files that are wrong."""

import numpy as np
import pytest

import fastnet
from fastnet.data import load_series, read_ts, read_vowels
from fastnet.recipes import rnn

HEADER = "# a comment\n@problemName Two\n@timeStamps false\n@univariate false\n@classLabel true up down\n@data\n"


def series_of(rng, label, channels=2):
    """A noisy slope, its sign the class."""
    steps = int(rng.integers(4, 9))
    slope = np.linspace(0, 1 - 2 * label, steps)[None] + rng.normal(0, 0.1, (channels, steps))
    return np.round(slope, 3)


def as_ts(series, labels, classes=("up", "down")):
    lines = [":".join([*(",".join(map(str, c)) for c in x), classes[y]]) for x, y in zip(series, labels, strict=True)]
    return HEADER + "\n".join(lines) + "\n"


def as_vowels(series):
    return "\n\n".join("\n".join(" ".join(map(str, frame)) for frame in x.T) for x in series) + "\n\n"


@pytest.fixture
def ts_folder(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("TRAIN", 40), ("TEST", 10)):
        labels = [i % 2 for i in range(count)]
        (tmp_path / f"Two_{part}.ts").write_text(as_ts([series_of(rng, y) for y in labels], labels))
    return tmp_path


def test_ts(ts_folder):
    series, labels, classes = read_ts(ts_folder / "Two_TRAIN.ts")
    assert (len(series), labels[:3], classes) == (40, [0, 1, 0], ("up", "down"))
    first = np.random.default_rng(0)
    np.testing.assert_array_equal(series[0], series_of(first, 0).T.astype(np.float32))
    sets = load_series(ts_folder)
    assert [len(p) for p in (sets.train, sets.validation, sets.test)] == [36, 4, 10]
    assert (sets.channels, sets.classes) == (2, ("up", "down"))
    x, y = sets.test[1]
    assert (x.dtype, x.shape[1], y.dtype, y.item()) == (fastnet.float32, 2, fastnet.int64, 1)
    whole = sorted(tuple(x.numpy().ravel()) for x, _ in [*sets.train, *sets.validation])
    assert whole == sorted(tuple(x.ravel()) for x in series)
    again = load_series(ts_folder / "Two_TRAIN.ts")
    assert all(np.array_equal(a.numpy(), b.numpy()) for (a, _), (b, _) in zip(sets.train, again.train, strict=True))


def test_vowels(tmp_path):
    rng = np.random.default_rng(1)
    counts = {"train": [2] * 9, "test": [3, 1, 2, 1, 1, 1, 1, 1, 1]}
    made = {}
    for part, sizes in counts.items():
        made[part] = [np.round(rng.standard_normal((12, int(rng.integers(7, 12)))), 6) for _ in range(sum(sizes))]
        (tmp_path / f"ae.{part}").write_text(as_vowels(made[part]))
        (tmp_path / f"size_ae.{part}").write_text(" ".join(map(str, sizes)) + " \n")
    series, labels = read_vowels(tmp_path / "ae.test", tmp_path / "size_ae.test")
    assert labels == [0, 0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 8]
    for got, want in zip(series, made["test"], strict=True):
        np.testing.assert_array_equal(got, want.T.astype(np.float32))
    sets = load_series(tmp_path)
    assert [len(p) for p in (sets.train, sets.validation, sets.test)] == [17, 1, 12]
    assert (sets.channels, len(sets.classes)) == (12, 9)


def test_strokes_are_the_default():
    sets = load_series(count=80)
    assert [len(p) for p in (sets.train, sets.validation, sets.test)] == [56, 8, 16]
    assert (sets.channels, sets.classes[0]) == (4, "circle")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no series .no line @data"),
        (HEADER, "has no series$"),
        (HEADER.replace("up down", "") + "1:up\n", r"line 6: the header names no classes"),
        (HEADER.replace("false", "true", 1) + "1:up\n", "line 3: series with time stamps"),
        (HEADER.replace("@data", "data"), "line 6: 'data', expected a header"),
        (HEADER + "1,2:1,2:up\n1,2:3:up\n", r"line 8: 2 channels of \[1, 2\] numbers, expected 2 of one length"),
        (HEADER + "1,2:1,2:up\n1,2:up\n", r"line 8: 1 channels of \[2\] numbers, expected 2"),
        (HEADER + "1,2:1,2:left\n", "line 7: class 'left', expected one of up, down"),
        (HEADER + "1,?:1,2:up\n", r"line 7: '\?' is no number"),
        (HEADER + "1,nan:1,2:up\n", "line 7 has a number that is not finite"),
    ],
)
def test_wrong_ts_files(tmp_path, text, message):
    (tmp_path / "x.ts").write_text(text)
    with pytest.raises(ValueError, match=f"x.ts.*{message}"):
        read_ts(tmp_path / "x.ts")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: (p / "ae.train").write_text("1 2 3\n"), "ae.train, line 1 has 3 numbers, expected 12"),
        (lambda p: (p / "ae.train").write_text("1 " * 11 + "x\n"), "line 1: 'x' is no number"),
        (lambda p: (p / "size_ae.train").write_text("1 2"), "expected nine numbers"),
        (lambda p: (p / "size_ae.train").write_text("2 " * 9), "has 9 series, expected the 18 of size_ae.train"),
        (lambda p: (p / "ae.train").write_bytes(b"\xff\xfe\x00"), "ae.train is no text file"),
    ],
)
def test_wrong_vowels(tmp_path, spoil, message):
    for part in ("train", "test"):
        (tmp_path / f"ae.{part}").write_text(as_vowels([np.ones((12, 7))] * 9))
        (tmp_path / f"size_ae.{part}").write_text("1 " * 9)
    load_series(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_series(tmp_path)


def test_wrong_folders(tmp_path, ts_folder):
    with pytest.raises(FileNotFoundError, match=r"no .*nowhere"):
        load_series(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"no series; expected ae.train"):
        load_series(empty)
    (ts_folder / "Other_TRAIN.ts").write_text(HEADER + "1:1:up\n")
    with pytest.raises(ValueError, match=r"has Other_TRAIN.ts, Two_TRAIN.ts; expected"):
        load_series(ts_folder)
    with pytest.raises(FileNotFoundError, match=r"Other_TEST.ts"):
        load_series(ts_folder / "Other_TRAIN.ts")
    (ts_folder / "Other_TEST.ts").write_text(HEADER + "1:1:up\n")
    with pytest.raises(ValueError, match="1 training series, expected at least 2"):
        load_series(ts_folder / "Other_TRAIN.ts")
    (ts_folder / "Other_TRAIN.ts").write_text(HEADER + "1:1:up\n" * 2)
    (ts_folder / "Other_TEST.ts").write_text(HEADER.replace("up down", "down up") + "1:1:up\n")
    with pytest.raises(ValueError, match="the test set has classes"):
        load_series(ts_folder / "Other_TRAIN.ts")


def test_the_recipe_learns_from_files(ts_folder):
    _, results = rnn.run(rnn.Options(epochs=10, batch_size=8, data=ts_folder, progress=False))
    assert results["test_accuracy"] == 1
