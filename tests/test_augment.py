"""Augmentation: the kernel against its reference, the reference against Pillow, PyTorch and plain slices."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from support import SCHEDULES, assert_close, schedule

import fastnet
from fastnet import kernels, reference
from fastnet.data.augment import (
    ColorJitter,
    Compose,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
)
from fastnet.kernels._runtime import extension_for
from fastnet.reference.random import words

STATE = np.array([12345, 7], np.uint64)
ids = {"ids": lambda s: "-".join(map(str, s.values()))}


def photos(n, channels, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, height, width), dtype=np.uint8)


def problem(index):
    """Images and options, odd and even sizes, every subset of steps."""
    rng = np.random.default_rng(index)
    height, width = (int(n) for n in rng.integers(1, 20, 2))
    channels = int(rng.choice([1, 3] if index % 2 else [1, 2, 3, 4, 8, 17]))
    x = photos(int(rng.integers(0, 5)), channels, height, width, index)
    if index % 3 == 0:
        x = np.asfortranarray(x)
    options = {}
    if rng.random() < 0.7:
        pads = (int(rng.integers(0, 4)), int(rng.integers(0, 4)))
        options["padding"] = pads if pads[0] != pads[1] else pads[0]
        options["size"] = tuple(int(rng.integers(1, n + 2 * p + 1)) for n, p in zip((height, width), pads, strict=True))
    if rng.random() < 0.6:
        options["degrees"] = (-float(rng.uniform(0, 200)), float(rng.uniform(0, 200)))
    if rng.random() < 0.6:
        options["flip"] = float(rng.choice([0.0, 0.5, 1.0]))
    if rng.random() < 0.6:
        options["brightness"] = (0.5, 1.7)
    if channels in (1, 3) and rng.random() < 0.8:
        options["contrast"] = (0.2, 2.0)
    if rng.random() < 0.6:
        options["scale_shift"] = rng.standard_normal((2, channels)).astype(np.float32)
    return x, options


def bound_of(x, options):
    """Colours and places are the same integers in both. Rotation: sine, cosine and three roundings put coordinates off
    by some 8 units of float32's at the image's side, where values change by at most 255 a pixel in each direction;
    interpolation and normalisation round a few times more."""
    scale, shift = options.get("scale_shift", np.float32([[1 / 255], [0]]))
    side = max(options.get("size", x.shape[2:]))
    moved = 8 * 2.0**-24 * side * 2 * 255 if "degrees" in options else 0.0
    bound = (moved + 255 * 8 * 2.0**-24) * np.abs(scale) + 2.0**-23 * np.abs(shift)
    return bound[:, None, None]


@pytest.mark.parametrize("how", SCHEDULES, **ids)
def test_kernel_equals_reference_in_every_schedule(how):
    for index in range(12):
        x, options = problem(index)
        want = reference.augment(x, STATE, index, **options)
        with kernels.use("emulated", **how):
            got = kernels.augment(x, STATE, index, **options)
        assert got.dtype == want.dtype == np.float32
        assert got.transpose(0, 2, 3, 1).flags.c_contiguous
        assert_close(got, want, bound_of(x, options), f"problem {index}: {x.shape} {options}")


def test_kernel_equals_reference_on_more_problems(request):
    for index in range(100, 400 if request.config.getoption("--full") else 148):
        x, options = problem(index)
        with kernels.use("emulated", **schedule(index)):
            got = kernels.augment(x, STATE, index, **options)
        want = reference.augment(x, STATE, index, **options)
        assert_close(got, want, bound_of(x, options), f"problem {index}: {x.shape} {options}")


def test_every_division_of_the_work_gives_the_same_bits():
    x = photos(5, 3, 37, 41)
    options = {"padding": 3, "size": (40, 33), "degrees": (-30, 30), "contrast": (0.5, 1.5), "brightness": (0.5, 1.5)}
    with kernels.use("emulated"):
        want = kernels.augment(x, STATE, **options)
        for parts, blocks in [(1, 1), (1, 3), (3, 2), (7, 100), (1024, 9)]:
            config = extension_for(x).AugmentConfig(parts, blocks)
            np.testing.assert_array_equal(kernels.augment(x, STATE, **options, config=config), want)


def test_config_fills_the_device():
    from fastnet import _emulated

    assert str(_emulated.augment_config(256, 3 * 224 * 224, "H200")) == "augment(parts=5, blocks=1280)"
    assert str(_emulated.augment_config(1, 3 * 224 * 224, "H200")) == "augment(parts=73, blocks=73)"
    assert str(_emulated.augment_config(10_000, 3 * 32 * 32, "H200")) == "augment(parts=1, blocks=4224)"
    assert str(_emulated.augment_config(0, 3, "H200")) == "augment(parts=1, blocks=1)"


@pytest.mark.parametrize("mode", ["reference", "emulated"])
def test_crops_and_flips_are_slices(mode):
    x = photos(40, 3, 9, 7)
    w = words(40 * 8, STATE, 0).reshape(40, 8).astype(np.uint64)
    with kernels.use(mode):
        function = kernels.augment if mode == "emulated" else reference.augment
        got = function(x, STATE, size=(8, 6), padding=(2, 1), flip=0.5, scale_shift=np.float32([[1] * 3, [0] * 3]))
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (1, 1)))
    tops, lefts, flipped = w[:, 0] * 6 >> 32, w[:, 1] * 4 >> 32, w[:, 3] < 2**31
    assert set(tops.tolist()) == set(range(6))
    assert set(lefts.tolist()) == set(range(4))
    assert 5 < flipped.sum() < 35
    for i in range(40):
        crop = padded[i, :, int(tops[i]) : int(tops[i]) + 8, int(lefts[i]) : int(lefts[i]) + 6]
        np.testing.assert_array_equal(got[i], crop[:, :, ::-1] if flipped[i] else crop)


@pytest.mark.parametrize("mode", ["reference", "emulated"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("brightness", "contrast"), [(0.4, None), (1.6, None), (None, 0.3), (None, 1.9), (1.3, 0.7)])
def test_colours_are_pillows(mode, channels, brightness, contrast):
    x = photos(3, channels, 13, 11)
    ranges = {k: (v, v) for k, v in (("brightness", brightness), ("contrast", contrast)) if v is not None}
    unit = np.float32([[1] * channels, [0] * channels])
    with kernels.use(mode):
        function = kernels.augment if mode == "emulated" else reference.augment
        got = function(x, STATE, scale_shift=unit, **ranges)
    for i in range(3):
        pixels = x[i].transpose(1, 2, 0)
        image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
        if brightness is not None:
            image = ImageEnhance.Brightness(image).enhance(brightness)
        if contrast is not None:
            image = ImageEnhance.Contrast(image).enhance(contrast)
        np.testing.assert_array_equal(got[i].transpose(1, 2, 0), np.atleast_3d(np.asarray(image)))


@pytest.mark.parametrize("mode", ["reference", "emulated"])
def test_rotation_is_pytorchs_sampling(mode):
    torch = pytest.importorskip("torch")
    x = photos(4, 2, 12, 9)
    unit = np.float32([[1, 1], [0, 0]])
    for degrees in (-200.0, -37.0, 0.0, 12.5, 90.0):
        with kernels.use(mode):
            function = kernels.augment if mode == "emulated" else reference.augment
            got = function(x, STATE, degrees=(degrees, degrees), scale_shift=unit)
        # grid_sample's coordinates are shares of the sides; y points down, so this turns counter-clockwise.
        a = np.deg2rad(degrees)
        height, width = 12, 9
        theta = [[np.cos(a), -np.sin(a) * height / width, 0], [np.sin(a) * width / height, np.cos(a), 0]]
        grid = torch.nn.functional.affine_grid(
            torch.tensor([theta] * 4, dtype=torch.float64), (4, 2, height, width), align_corners=False
        )
        want = torch.nn.functional.grid_sample(torch.tensor(x, dtype=torch.float64), grid, align_corners=False).numpy()
        # the angle in radians is rounded to float32, and what follows as in bound_of
        moved = (16 + 8 * 3.5) * 2.0**-24 * 12 * 2 * 255
        assert_close(got, want, moved + 255 * 8 * 2.0**-24, f"{degrees} degrees")


def test_quarter_turn_is_counter_clockwise():
    x = np.zeros((1, 1, 3, 3), np.uint8)
    x[0, 0, 1, 2] = 255  # right of the centre
    turned = reference.augment(x, STATE, degrees=(90, 90))[0, 0]
    np.testing.assert_allclose(turned[0, 1], 1, atol=1e-5)  # above it


def test_draws_are_uniform():
    n = 4000
    x = photos(n, 1, 4, 4)
    x[:] = np.arange(16, dtype=np.uint8).reshape(4, 4)
    got = reference.augment(x, STATE, size=1, scale_shift=np.float32([[1], [0]]))[:, 0, 0, 0]
    counts = np.bincount(got.astype(int), minlength=16)
    # binomial, five standard deviations
    assert np.abs(counts - n / 16).max() < 5 * np.sqrt(n / 16 * 15 / 16)
    x[:] = 100
    bright = reference.augment(x, STATE, brightness=(0.0, 2.0), scale_shift=np.float32([[1], [0]]))[:, 0, 0, 0]
    assert abs(bright.mean() - 99.5) < 5 * 200 / np.sqrt(12 * n)
    assert bright.min() < 3
    assert bright.max() > 196


def test_a_step_left_out_moves_no_other_draw():
    x = photos(20, 3, 8, 8)
    crop = reference.augment(x, STATE, size=5)
    np.testing.assert_array_equal(reference.augment(x, STATE, size=5, brightness=(1.0, 1.0), flip=0.0), crop)
    both = reference.augment(x, STATE, size=5, flip=0.5)
    same = (both == crop).all(axis=(1, 2, 3))
    mirrored = (both == crop[:, :, :, ::-1]).all(axis=(1, 2, 3))
    assert (same | mirrored).all()
    assert 0 < same.sum() < 20


def test_same_seed_same_images_under_every_implementation():
    steps = [ColorJitter(0.3, 0.3), RandomCrop(12, padding=2), RandomHorizontalFlip()]
    augment = Compose([*steps, Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))])
    images, results = fastnet.from_numpy(photos(6, 3, 12, 12)), []
    for mode in ("reference", "emulated"):
        with kernels.use(mode):
            fastnet.manual_seed(3)
            results.append([augment(images).numpy() for _ in range(2)])
    bound = (255 * 8 * 2.0**-24) / (255 * 0.2) + 2.0**-23 * 2.5
    assert_close(np.stack(results[1]), np.stack(results[0]), bound)
    assert (results[0][0] != results[0][1]).any()
    fastnet.manual_seed(3)
    with kernels.use("emulated"):
        np.testing.assert_array_equal(augment(images).numpy(), results[1][0])


def test_normalize_alone():
    x = photos(2, 3, 4, 5)
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.5, 1.0, 2.0])
    got = Normalize(mean, std)(fastnet.from_numpy(x)).numpy()
    want = (x / 255 - mean[:, None, None]) / std[:, None, None]
    assert_close(got, want, 2.0**-22 * (1 / std + mean / std)[:, None, None])


def test_padding_names_columns_first_as_torchvisions():
    x = fastnet.from_numpy(photos(1, 1, 4, 4))
    assert tuple(RandomCrop((4, 10), padding=(3, 0))(x).shape) == (1, 1, 4, 10)
    with pytest.raises(ValueError, match="size"):
        RandomCrop((10, 4), padding=(3, 0))(x)


def test_ranges_are_torchvisions():
    assert ColorJitter(0.25, 1.5).arguments() == {"brightness": (0.75, 1.25), "contrast": (0.0, 2.5)}
    assert ColorJitter().arguments() == {"brightness": None, "contrast": None}
    assert ColorJitter((0.5, 0.7)).arguments()["brightness"] == (0.5, 0.7)
    assert RandomRotation(10).arguments() == {"degrees": (-10, 10)}
    assert RandomRotation((5, 20)).arguments() == {"degrees": (5, 20)}


@pytest.mark.parametrize("mode", ["reference", "emulated"])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((1, 1, 4, 4), np.float32)}, TypeError, "float32"),
        ({"x": np.zeros((1, 4, 4), np.uint8)}, ValueError, "3 dimensions"),
        ({"x": np.zeros((1, 1, 0, 4), np.uint8)}, ValueError, "not empty"),
        ({"x": None}, TypeError, "x is a NoneType"),
        ({"size": (5, 4)}, ValueError, "size is"),
        ({"size": 0}, ValueError, "size is 0"),
        ({"size": 2.5}, TypeError, "size is 2.5"),
        ({"size": (1, 2, 3)}, TypeError, "size is"),
        ({"padding": -1}, ValueError, "padding is -1"),
        ({"padding": 2**40}, ValueError, "padded"),
        ({"degrees": 10}, TypeError, "degrees"),
        ({"degrees": (10, 5)}, ValueError, "degrees"),
        ({"degrees": (float("nan"), 5)}, ValueError, "degrees"),
        ({"degrees": (0, float("inf"))}, ValueError, "degrees"),
        ({"brightness": (-1, 1)}, ValueError, "brightness"),
        ({"contrast": ("a", 1)}, TypeError, "contrast"),
        ({"flip": 1.5}, ValueError, "flip"),
        ({"flip": None}, TypeError, "flip"),
        ({"x": np.zeros((1, 2, 4, 4), np.uint8), "contrast": (1, 1)}, ValueError, "2 channels"),
        ({"scale_shift": np.zeros((2, 3), np.float32)}, ValueError, "scale_shift"),
        ({"scale_shift": np.zeros((2, 1))}, TypeError, "scale_shift"),
    ],
)
def test_bad_input(mode, change, error, message):
    arguments = {"x": np.zeros((1, 1, 4, 4), np.uint8), **change}
    with kernels.use(mode), pytest.raises(error, match=message) as raised:
        (kernels.augment if mode == "emulated" else reference.augment)(arguments.pop("x"), STATE, **arguments)
    assert str(raised.value).startswith("augment:")


def test_bad_config_and_state():
    x = np.zeros((1, 1, 4, 4), np.uint8)
    with kernels.use("emulated"):
        ext = extension_for(x)
        for numbers in ((0, 1), (1, 0), (2000, 1), (-1, -1)):
            with pytest.raises(ValueError, match="AugmentConfig"):
                ext.AugmentConfig(*numbers)
        with pytest.raises(TypeError, match="config is a str"):
            kernels.augment(x, STATE, config="fast")
        with pytest.raises(ValueError, match="state"):
            kernels.augment(x, STATE[:1])


def test_bad_transforms():
    with pytest.raises(ValueError, match="in this order: ColorJitter, RandomCrop"):
        Compose([RandomHorizontalFlip(), RandomCrop(3)])
    with pytest.raises(ValueError, match="at most once"):
        Compose([RandomCrop(3), RandomCrop(3)])
    with pytest.raises(TypeError, match="function"):
        Compose([lambda x: x])
    with pytest.raises(TypeError, match="ndarray"):
        RandomCrop(3)(np.zeros((1, 1, 4, 4), np.uint8))
    with pytest.raises(TypeError, match="float32"):
        RandomCrop(3)(fastnet.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="std"):
        Normalize([0.5], [0.0])
    with pytest.raises(ValueError, match="one number a channel"):
        Normalize([0.5, 0.5], [1.0])
    with pytest.raises(ValueError, match="brightness"):
        ColorJitter(-1)
    with pytest.raises(ValueError, match="degrees"):
        RandomRotation(-1)
