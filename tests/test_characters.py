"""Models of characters: the text they learn, and the recipes that train them."""

import csv
import json

import numpy as np
import pytest

import fastnet
from fastnet.cli import main
from fastnet.data.text import Characters, Chunks, python_docs, read_text
from fastnet.recipes import lstm, transformer

PNG = b"\x89PNG\r\n\x1a\n"


def test_python_docs():
    text = python_docs(20_000)
    assert len(text) == 20_000
    assert text == python_docs(50_000)[:20_000]
    assert text.isascii()
    assert " the " in text


def test_chunks_are_the_text_and_what_follows():
    numbers = np.arange(23)
    chunks = Chunks(numbers, 5)
    assert len(chunks) == 4
    assert [chunks[3][0].tolist(), chunks[3][1].tolist()] == [[15, 16, 17, 18, 19], [16, 17, 18, 19, 20]]
    assert len(Chunks(np.arange(21), 5)) == 4
    assert len(Chunks(np.arange(20), 5)) == 3
    with pytest.raises(ValueError, match="has 5 characters, expected more than length=5"):
        Chunks(np.arange(5), 5)


def test_characters():
    vocabulary = Characters("naïve\n")
    assert vocabulary.characters == "\naenvï"
    assert vocabulary.encode("van").tolist() == [4, 1, 3]
    assert vocabulary.decode(vocabulary.encode("\nvenaï")) == "\nvenaï"
    with pytest.raises(KeyError):
        vocabulary.encode("x")


def test_files_that_are_no_text(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"\xff\xfe\x00abc")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_text(path)
    path.write_bytes("naïve\r\n".encode())
    assert read_text(path) == "naïve\n"


@pytest.mark.parametrize("recipe", ["transformer", "lstm"])
def test_command_line(recipe, tmp_path, capsys):
    """A text of one sentence over and over is learned at once; samples, curves and numbers are written."""
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 200)
    arguments = ["train", recipe, "--data", str(text), "--epochs", "3", "--out", str(tmp_path / "runs")]
    assert main(arguments) == 0
    out = tmp_path / "runs" / recipe
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    losses = [float(r["validation_loss"]) for r in rows]
    assert len(losses) == 3
    assert losses[2] < losses[0] < np.log(28)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["examples_are"] == "characters"
    assert summary["test_bits_per_character"] == pytest.approx(summary["test_loss"] / np.log(2))
    assert summary["vocabulary"] == " .abcdefghijklmnopqrstuvwxyz"
    assert (out / "curves.png").read_bytes()[:8] == PNG
    samples = (out / "samples.txt").read_text()
    assert samples.count("--- epoch") == 3
    printed = capsys.readouterr().out
    assert samples.splitlines()[1] in printed
    assert "bits a character" in printed
    if recipe == "transformer":
        assert (out / "attention.png").read_bytes()[:8] == PNG


TINY = dict(length=16, characters=3_000, batch_size=8, sampled=8, progress=False)


def test_transformer_gives_the_same_run_under_both_implementations():
    """A few steps of a small model: losses agree to float32's rounding, which AdamW's division magnifies."""
    runs = []
    for mode in ("reference", "emulated"):
        with fastnet.kernels.use(mode):
            trainer, _ = transformer.run(transformer.Options(epochs=1, width=16, heads=2, layers=1, **TINY))
        runs.append(trainer.history.step_losses)
    assert len(runs[0]) == 21
    np.testing.assert_allclose(runs[1], runs[0], rtol=2e-5)


@pytest.mark.parametrize("recipe", ["transformer", "lstm"])
@pytest.mark.parametrize(
    ("content", "word"),
    [(None, "No such file"), (b"\xff\xff", "not UTF-8"), (b"short", "has 5 characters, expected at least")],
)
def test_data_errors_are_friendly(recipe, content, word, tmp_path, capsys):
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    assert main(["train", recipe, "--data", str(path), "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "--data" in error
    assert word in error


def test_the_least_text_is_enough():
    """What ``divided`` lets through can be trained on."""
    for recipe in (transformer, lstm):
        options = recipe.Options(epochs=1, **{**TINY, "characters": 16 * 40 if recipe is transformer else 17 * 160})
        assert recipe.run(options)[1]["test_loss"] > 0
