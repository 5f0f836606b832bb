"""Images in files: IDX, CIFAR-10, folders; what is wrong with a file is said; downloads; recipes with --data."""

import gzip
import hashlib
import json
import re

import numpy as np
import pytest
from PIL import Image

from fastnet.cli import main
from fastnet.data import download, load_images, read_cifar10, read_idx, read_image_folder
from fastnet.train.figures import draw_images


def pictures(n, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def write_idx(path, array):
    data = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_mnist(folder, train=40, test=10, side=8, end=""):
    folder.mkdir(exist_ok=True)
    for i, (name, count) in enumerate((("train", train), ("t10k", test))):
        labels = (np.arange(count) % 10).astype(np.uint8)
        write_idx(folder / f"{name}-images-idx3-ubyte{end}", pictures(count, side, side, seed=i))
        write_idx(folder / f"{name}-labels-idx1-ubyte{end}", labels)
    return folder


def write_cifar(path, count, seed=0):
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = pictures(count, 3, 32, 32, seed=seed)
    path.write_bytes(np.concatenate([labels[:, None], images.reshape(count, -1)], axis=1).tobytes())
    return images, labels


def write_folder(folder, classes=("cat", "dog"), count=10, size=(8, 8), mode="RGB"):
    for i, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for j in range(count):
            shape = (*size, 3) if mode == "RGB" else size
            Image.fromarray(pictures(1, *shape, seed=100 * i + j)[0]).save(folder / name / f"{j:03}.png")
    return folder


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_folder(tmp_path, end):
    sets = load_images(write_mnist(tmp_path / "mnist", end=end))
    assert [len(s) for s in (sets.train, sets.validation, sets.test)] == [36, 4, 10]
    assert (sets.channels, sets.image_size, sets.classes) == (1, 8, tuple("0123456789"))
    x, y = (t.numpy() for t in sets.test.tensors)
    np.testing.assert_array_equal(x, pictures(10, 8, 8, seed=1)[:, None].astype(np.float32) / np.float32(255))
    assert y.tolist() == list(range(10))
    # training and validation are the training file, each image once, with its label
    source = {a.tobytes(): i % 10 for i, a in enumerate(pictures(40, 8, 8, seed=0))}
    for part in (sets.train, sets.validation):
        for image, label in zip(*(t.numpy() for t in part.tensors), strict=True):
            assert source.pop(np.round(image[0] * 255).astype(np.uint8).tobytes()) == label
    assert not source
    again = load_images(tmp_path / "mnist")
    np.testing.assert_array_equal(again.train.tensors[0].numpy(), sets.train.tensors[0].numpy())


def test_cifar(tmp_path):
    images, labels = write_cifar(tmp_path / "data_batch_1.bin", 20)
    write_cifar(tmp_path / "data_batch_2.bin", 20, 1)
    write_cifar(tmp_path / "test_batch.bin", 10, 2)
    got, got_labels = read_cifar10(tmp_path / "data_batch_1.bin")
    np.testing.assert_array_equal(got, images)
    np.testing.assert_array_equal(got_labels, labels)
    sets = load_images(tmp_path)
    assert [len(s) for s in (sets.train, sets.validation, sets.test)] == [36, 4, 10]
    assert (sets.channels, sets.image_size, sets.classes[3]) == (3, 32, "cat")
    alone = load_images(tmp_path / "data_batch_1.bin")
    assert [len(s) for s in (alone.train, alone.validation, alone.test)] == [14, 2, 4]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_folder(tmp_path, mode):
    write_folder(tmp_path / "pets", mode=mode)
    (tmp_path / "pets" / "cat" / ".hidden").write_text("left out")
    images, labels, classes = read_image_folder(tmp_path / "pets")
    assert classes == ("cat", "dog")
    assert labels.tolist() == [0] * 10 + [1] * 10
    want = np.asarray(Image.open(tmp_path / "pets" / "dog" / "004.png"))
    np.testing.assert_array_equal(images[14], want.transpose(2, 0, 1) if mode == "RGB" else want[None])
    sets = load_images(tmp_path / "pets")
    assert [len(s) for s in (sets.train, sets.validation, sets.test)] == [14, 2, 4]


def test_folder_divided_already(tmp_path):
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test", count=3)
    sets = load_images(tmp_path)
    assert [len(s) for s in (sets.train, sets.validation, sets.test)] == [18, 2, 6]
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "wolf")
    with pytest.raises(ValueError, match="wolf"):
        load_images(tmp_path)


def test_digits_are_the_default():
    sets = load_images()
    assert [len(s) for s in (sets.train, sets.validation, sets.test)] == [1257, 180, 360]
    assert tuple(sets.train.tensors[0].shape) == (1257, 1, 8, 8)


def spoil(what, tmp_path):
    """A folder with one fault, and the file that the message must name."""
    idx = write_mnist(tmp_path / "mnist")
    images, labels = idx / "train-images-idx3-ubyte", idx / "train-labels-idx1-ubyte"
    if what == "truncated":
        images.write_bytes(images.read_bytes()[:-5])
    elif what == "truncated gzip":
        whole = gzip.compress(images.read_bytes())
        images.write_bytes(whole[:-20])
    elif what == "spoilt gzip":
        whole = bytearray(gzip.compress(images.read_bytes()))
        whole[20:40] = bytes(20)
        images.write_bytes(whole)
    elif what == "not IDX":
        images.write_bytes(b"\x89PNG\r\n\x1a\n")
    elif what == "labels for images":
        images.write_bytes(labels.read_bytes())
    elif what == "fewer labels":
        write_idx(labels, np.zeros(39, np.uint8))
    elif what == "label out of range":
        write_idx(idx / "t10k-labels-idx1-ubyte", np.full(10, 10, np.uint8))
    elif what == "no labels":
        labels.unlink()
    elif what == "other size":
        write_idx(idx / "t10k-images-idx3-ubyte", pictures(10, 9, 9))
    elif what == "too few":
        write_mnist(idx, train=5)
    return idx


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("truncated", r"train-images-idx3-ubyte has 2555 bytes of values, expected 2560"),
        ("truncated gzip", "train-images-idx3-ubyte cannot be read"),
        ("spoilt gzip", "train-images-idx3-ubyte cannot be read"),
        ("not IDX", "train-images-idx3-ubyte is not an IDX file"),
        ("labels for images", "these are no images"),
        ("fewer labels", "40 train images but 39 labels"),
        ("label out of range", "a label of the test set is 10, expected below 10"),
        ("no labels", "expected one train-labels file"),
        ("other size", r"test images have shape \(1, 9, 9\)"),
        ("too few", "none is left for the validation set"),
    ],
)
def test_faults_of_idx(tmp_path, what, message, capsys):
    folder = spoil(what, tmp_path)
    with pytest.raises(ValueError, match=message):
        load_images(folder)
    assert main(["train", "cnn", "--data", str(folder), "--epochs", "1", "--out", str(tmp_path / "runs")]) == 2
    assert re.search(f"--data: .*{message}", capsys.readouterr().err)


def test_faults_of_cifar(tmp_path):
    path = tmp_path / "data_batch_1.bin"
    write_cifar(path, 10)
    whole = path.read_bytes()
    for wrong in (whole[:-1], b"", whole + b"\0"):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=r"data_batch_1.bin has \d+ bytes, expected a multiple of 3073"):
            load_images(path)
    path.write_bytes(whole[:3073] + b"\x0b" + whole[3074:])
    with pytest.raises(ValueError, match="image 1 has label 11, expected 0 to 9"):
        load_images(path)
    path.write_bytes(whole)
    with pytest.raises(FileNotFoundError, match="test_batch"):
        load_images(tmp_path)


def test_faults_of_folders(tmp_path):
    folder = write_folder(tmp_path / "pets")
    file = folder / "cat" / "003.png"
    good = file.read_bytes()
    file.write_bytes(good[: len(good) // 2])
    with pytest.raises(ValueError, match=r"003.png is no image that Pillow can read"):
        load_images(folder)
    file.write_text("a cat")
    with pytest.raises(ValueError, match=r"003.png is no image that Pillow can read"):
        load_images(folder)
    Image.fromarray(pictures(1, 8, 9, 3)[0]).save(file)
    with pytest.raises(ValueError, match=r"003.png is 8 x 9, the first image 8 x 8"):
        load_images(folder)
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(file)
    with pytest.raises(ValueError, match=r"003.png .*8 bits a channel"):
        load_images(folder)
    file.write_bytes(good)
    (folder / "bird").mkdir()
    with pytest.raises(ValueError, match="bird has no images"):
        load_images(folder)
    (folder / "bird" / "nest").mkdir()
    with pytest.raises(ValueError, match="nest is no file"):
        load_images(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has nothing; expected train-images-idx3-ubyte"):
        load_images(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="there is no"):
        load_images(tmp_path / "none")


def test_images_that_are_not_square(tmp_path):
    sets = load_images(write_folder(tmp_path / "wide", size=(8, 12)))
    with pytest.raises(ValueError, match="8 x 12, expected square"):
        sets.image_size  # noqa: B018


def test_without_pillow(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "pets")
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ValueError, match="pip install pillow"):
        load_images(folder)


def test_download(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"numbers" * 1000)
    right = hashlib.sha256(source.read_bytes()).hexdigest()
    path = tmp_path / "there" / "file"
    assert download(source.as_uri(), path, right) == path
    assert path.read_bytes() == source.read_bytes()
    source.unlink()
    assert download(source.as_uri(), path, right.upper()) == path  # is there: not fetched again
    path.write_bytes(b"other")
    with pytest.raises(ValueError, match="is there already"):
        download(source.as_uri(), path, right)
    assert path.read_bytes() == b"other"


def test_download_of_a_wrong_file_keeps_nothing(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"numbers")
    with pytest.raises(ValueError, match="nothing was kept"):
        download(source.as_uri(), tmp_path / "file", "0" * 64)
    with pytest.raises(OSError, match="none"):
        download((tmp_path / "none").as_uri(), tmp_path / "file", "0" * 64)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]
    for url, checksum in (
        ("ftp://a/b", "0" * 64),
        ("https://a/b", "0" * 65),
        ("https://a/b", "0" * 7),
        ("https://a/b", "g" * 64),
    ):
        with pytest.raises(ValueError, match="expected"):
            download(url, tmp_path / "file", checksum)


def test_download_by_the_first_digits_or_unchecked(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"numbers")
    right = hashlib.sha256(b"numbers").hexdigest()
    assert download(source.as_uri(), tmp_path / "a", right[:8]).read_bytes() == b"numbers"
    assert download(source.as_uri(), tmp_path / "b", None).read_bytes() == b"numbers"
    for path in (tmp_path / "a", tmp_path / "c"):
        with pytest.raises(ValueError, match="expected 00000000"):
            download(source.as_uri(), path, "0" * 8)


@pytest.mark.parametrize("recipe", ["cnn", "resnet", "gan"])
def test_recipes_take_images(tmp_path, recipe):
    folder = write_folder(tmp_path / "pets", classes=("cat", "dog", "owl"), count=30)
    more = ["--batch-size", "8", "--epochs", "1", "--out", str(tmp_path / "runs")]
    assert main(["train", recipe, "--data", str(folder), *more]) == 0
    summary = json.loads((tmp_path / "runs" / recipe / "summary.json").read_text())
    assert summary["recipe"] == recipe
    if recipe == "gan":
        with Image.open(tmp_path / "runs" / "gan" / "samples" / "epoch_001.png") as grid:
            pixels = np.asarray(grid.convert("RGB")).astype(int)
        assert (pixels.max(axis=2) - pixels.min(axis=2)).max() > 20  # in colour


def test_grids_of_colours_and_of_grey(tmp_path):
    x = np.zeros((2, 3, 8, 8))
    x[:, 0] = 1  # red
    for name, images in (("colour", x), ("grey", x[:, :1]), ("flat", x[:, 0])):
        draw_images(images, tmp_path / f"{name}.png", "a title")
        with Image.open(tmp_path / f"{name}.png") as grid:
            pixels = np.asarray(grid.convert("RGB")).reshape(-1, 3).tolist()
        assert ([255, 0, 0] in pixels) == (name == "colour")


def test_idx_of_other_kinds(tmp_path):
    (tmp_path / "x").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x02\1\2") + b"trailing")
    with pytest.raises(ValueError, match="cannot be read"):
        read_idx(tmp_path / "x")
