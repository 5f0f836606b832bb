"""Moments that convolutions keep of their results: those of every part in every schedule, batch normalisation that
takes them in the place of a pass over its input, and the operation, layers and models that put the two together."""

import numpy as np
import pytest
from conv_problems import Problem, draw, extension, images, name, products
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import kernels, nn, reference
from fastnet.nn import functional as F

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
# Every family: tiles of each type.
TILES = {
    "general": {d: [(32, 32), (64, 64)] for d in DTYPES},
    "sm80": {
        np.float32: [(128, 64), (64, 64)],
        np.float16: [(128, 128), (128, 64), (64, 64)],
        bfloat16: [(128, 128), (128, 64), (64, 64)],
    },
    "sm90": {d: [(128, 256), (128, 128), (128, 64), (64, 64)] for d in (np.float16, bfloat16)},
    "depthwise": {d: [(4, 32), (16, 8), (128, 1)] for d in DTYPES},
    "few_channels": {d: [(4, 8), (3, 5), (1, 1), (8, 32)] for d in DTYPES},
}
CASES = [(family, dtype) for family, tiles in TILES.items() for dtype in tiles]
IDS = [f"{family}-{name(dtype)}" for family, dtype in CASES]


def sums_dtype(dtype):
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def config(family, tile, **how):
    return extension().ConvConfig(family, *tile, **how)


def run(x, weight, how, **options):
    with kernels.use("emulated", device="H200", **how):
        return kernels.conv2d(x, weight, keep_moments=True, **options)


def draw_for(family, rng):
    """A problem that the family takes."""
    problem = draw(rng)
    if family == "depthwise":
        problem.channels = problem.groups = int(rng.choice([2, 3, 8, 17, 64]))
        problem.filters = problem.channels * int(rng.choice([1, 1, 2]))
    if family == "few_channels":
        problem.groups, problem.channels = 1, int(rng.integers(1, 5))
        problem.filters = int(rng.choice([1, 3, 8, 20, 64, 72]))
    return problem


def parts_of(y, family, tile):
    """The pixels of every part, in order."""
    pixels = y.astype(np.float64).transpose(0, 2, 3, 1)
    if family == "few_channels":
        n, rows, columns, _ = pixels.shape
        return [
            pixels[i, r : r + tile[0], c : c + tile[1]].reshape(-1, y.shape[1])
            for i in range(n)
            for r in range(0, rows, tile[0])
            for c in range(0, columns, tile[1])
        ]
    rows = {"sm90": 64, "depthwise": 16 * tile[0]}.get(family, tile[0])
    pixels = pixels.reshape(-1, y.shape[1])
    parts = [pixels[i : i + rows] for i in range(0, len(pixels), rows)]
    whole = max(tile[0] // rows, 1) if family == "sm90" else 1  # a tile's last part may be empty
    return parts + [pixels[:0]] * (-len(parts) % whole)


def check_parts(y, moments, family, tile, what):
    """Each part's moments against float64's of its pixels. A sum of n numbers here has at most 64 roundings on its way
    from any of them: 16 runs of four with 3 each, five combinations of 3; depthwise eight pairs, few_channels eight or
    sixteen at once, then at most eight combinations. So a mean is off by at most 64 eps of the largest, and deviations
    from it by as much."""
    eps = epsilon(sums_dtype(y.dtype))
    parts = parts_of(y, family, tile)
    assert moments.dtype == sums_dtype(y.dtype)
    assert moments.shape == (len(parts), 3, y.shape[1]), what
    for i, (part, seen) in enumerate(zip(moments.astype(np.float64), parts, strict=True)):
        assert (part[0] == len(seen)).all(), what
        if not len(seen):
            assert not part.any(), what
            continue
        mean, off = seen.mean(0), 64 * eps * abs(seen).max(0)
        deviations = abs(seen - mean)
        assert_close(part[1], mean, off, f"{what} mean of part {i}")
        squares = (deviations**2).sum(0)
        limit = 64 * eps * squares + (2 * deviations * off + off**2).sum(0)
        assert_close(part[2], squares, limit, f"{what} squares of part {i}")


@pytest.mark.parametrize(("family", "dtype"), CASES, ids=IDS)
def test_random_problems(family, dtype, full):
    """With groups, edges of tiles in both dimensions, a bias; the results are those of a convolution without."""
    rng = np.random.default_rng(1)
    tiles = TILES[family][dtype]
    for i in range(300 if full else 10):
        problem, tile = draw_for(family, rng), tiles[i % len(tiles)]
        _, (x, weight), *_ = products(problem, rng, dtype)["forward"]
        bias = rng.standard_normal(problem.filters).astype(dtype) if i % 3 else None
        how = {"max_blocks": 2} if i % 4 == 0 else {}
        options = {**problem.options, "bias": bias, "config": config(family, tile, **how)}
        for s in SCHEDULES if full else [schedule(i)]:
            y, moments = run(x, weight, s, **options)
            with kernels.use("emulated", device="H200"):
                assert (y == kernels.conv2d(x, weight, **options)).all()
            what = f"{problem} {tile} {s}"
            check_parts(y, moments, family, tile, what)


@pytest.mark.parametrize(("family", "dtype"), CASES, ids=IDS)
def test_every_schedule_gives_the_same_bits(family, dtype):
    """Blocks that take several tiles, of every size; columns and rows beyond the edge."""
    rng = np.random.default_rng(2)
    for tile in TILES[family][dtype]:
        groups = 40 if family == "depthwise" else 1
        channels, filters = {"depthwise": (40, 40), "few_channels": (3, 72)}.get(family, (8, tile[1] + 8))
        problem = Problem(2, channels, (9, 11), filters, (2, 2), (1, 1), (1, 1), (1, 1), groups)
        _, (x, weight), *_ = products(problem, rng, dtype)["forward"]
        results = set()
        for s in SCHEDULES:
            y, moments = run(x, weight, s, **problem.options, config=config(family, tile, max_blocks=2))
            check_parts(y, moments, family, tile, f"{tile} {s}")
            results.add(moments.tobytes())
        assert len(results) == 1


@pytest.mark.parametrize(("family", "dtype"), [c for c in CASES if c[1] != bfloat16], ids=str)
def test_variance_beside_a_large_mean(family, dtype):
    """Values that differ in their last bits alone, which sums of squares would lose. They are exact, so that only what
    moments round is left."""
    rng = np.random.default_rng(3)
    level = {2: 2.0**9, 4: 2.0**18, 8: 2.0**40}[np.dtype(dtype).itemsize]
    channels = 70 if family == "depthwise" else 1
    x = level + np.repeat(rng.integers(0, 2, (2, 1, 20, 10)), channels, 1).astype(dtype)
    y, moments = run(
        x, np.ones((70, 1, 1, 1), dtype), {}, groups=channels, config=config(family, TILES[family][dtype][0])
    )
    assert (y == x).all()
    with kernels.use("emulated"):
        _, mean, rstd = kernels.batch_norm(y, eps=0, moments=moments)
    # A part's mean is off by some units of its last place, 2^-5 of what values differ by.
    assert_close(mean, np.full(70, x.astype(np.float64).mean()), level * 4 * epsilon(sums_dtype(dtype)))
    assert_close(rstd, np.full(70, 1 / x.astype(np.float64).std()), 0.01)


@pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_batch_norm_takes_moments(module, dtype):
    """As its own statistics: each side's means are within the roundings of a sum in parts of the true one."""
    rng = np.random.default_rng(4)
    for i, (parts, channels) in enumerate([(1, 5), (7, 40), (300, 3), (2500, 33)]):
        size = 4
        x = images(rng, (parts, channels, 2, size // 2), dtype)
        values = x.astype(np.float64).transpose(0, 2, 3, 1).reshape(parts, size, channels)
        means = values.mean(1)
        squares = ((values - means[:, None]) ** 2).sum(1)
        moments = np.stack([np.full_like(means, size), means, squares], 1).astype(sums_dtype(dtype))
        weight, bias = rng.standard_normal((2, channels)).astype(dtype)
        results = []
        for given in (moments, None):
            running = np.zeros(channels, sums_dtype(dtype)), np.ones(channels, sums_dtype(dtype))
            with kernels.use("emulated", **schedule(i)):
                y, mean, rstd = module.batch_norm(
                    x, weight, bias, moments=given, running_mean=running[0], running_var=running[1], activation="relu"
                )
            results.append([mean, 1 / rstd.astype(np.float64) ** 2, *running, y])
        eps = epsilon(sums_dtype(dtype))
        largest = abs(values).max()
        var = values.var((0, 1))
        limits = [64 * eps * largest, 64 * eps * (var + largest**2), 64 * eps * largest, 64 * eps * (1 + largest**2)]
        for got, want, limit in zip(*results, limits, strict=False):
            assert_close(got, want, limit, f"{parts} {channels}")
        assert_close(results[0][0], values.mean((0, 1)), 64 * eps * largest)
        assert_close(results[0][1], var + 1e-5, 64 * eps * (var + largest**2))
        most = 1 + abs(results[1][-1].astype(np.float64)).max()
        assert_close(results[0][-1], results[1][-1], (epsilon(dtype) + 256 * eps) * most)


def test_batch_norm_of_moments_is_the_same_in_every_schedule_and_split():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((50, 40, 2, 2)).astype(np.float32)
    means = x.mean((2, 3))
    moments = np.stack([np.full_like(means, 4), means, ((x - means[..., None, None]) ** 2).sum((2, 3))], 1)
    want = x.astype(np.float64).mean((0, 2, 3)), x.astype(np.float64).std((0, 2, 3))
    for splits, columns in ((1, 32), (5, 8), (60, 64)):
        how = extension_config(splits, columns)
        results = set()
        for s in SCHEDULES:
            with kernels.use("emulated", **s):
                y, mean, rstd = kernels.batch_norm(x, eps=0, moments=moments, config=how)
            assert_close(mean, want[0], 64 * epsilon(np.float32) * abs(x).max())
            assert_close(rstd, 1 / want[1], 64 * epsilon(np.float32) / want[1])
            results.add((y.tobytes(), mean.tobytes(), rstd.tobytes()))
        assert len(results) == 1


def extension_config(splits, columns):
    return extension().NormConfig(splits=splits, columns=columns)


@pytest.mark.parametrize("family", [f for f in TILES if f != "few_channels"])
def test_nan_and_infinity_stay_in_their_channels(family):
    """Each group's filters see one channel, two of which hold a NaN and an infinity."""
    x = np.random.default_rng(6).standard_normal((1, 70, 9, 9)).astype(np.float16)
    x[0, 3, 4, 4], x[0, 66, 8, 8] = np.nan, np.inf
    weight = np.ones((70, 1, 1, 1), np.float16)
    _, moments = run(x, weight, {}, groups=70, config=config(family, TILES[family][np.float16][-1]))
    others = np.delete(np.arange(70), [3, 66])
    assert np.isfinite(moments[:, :, others]).all()
    assert np.isnan(moments[0, 1:, 3]).all()
    assert not np.isfinite(moments[-1, 1, 66])
    with kernels.use("emulated"):
        _, mean, rstd = kernels.batch_norm(x, moments=moments)
    assert np.isfinite(mean[others]).all()
    assert np.isfinite(rstd[others]).all()
    assert np.isnan(mean[3])
    assert np.isnan(rstd[[3, 66]]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=name)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_stay_in_their_tiles(value, dtype):
    x = np.random.default_rng(6).standard_normal((1, 1, 9, 9)).astype(dtype)
    x[0, 0, 4, 4] = value
    y, moments = run(x, np.ones((5, 1, 1, 1), dtype), {}, config=config("few_channels", (3, 4)))
    finite = [np.isfinite(p).all() for p in parts_of(y, "few_channels", (3, 4))]
    assert finite.count(False) == 1
    assert (np.isfinite(moments).all((1, 2)) == finite).all()


def test_bad_arguments():
    x, weight = np.ones((2, 8, 4, 4), np.float32), np.ones((8, 8, 1, 1), np.float32)
    residual = np.ones((2, 8, 4, 4), np.float32)
    for module in (kernels, reference):
        for options in ({"activation": "relu"}, {"residual": residual}, {"keep_preactivation": True}):
            with kernels.use("emulated"), pytest.raises(ValueError, match="conv2d: moments are kept without"):
                module.conv2d(x, weight, keep_moments=True, **options)
        for moments, error in (
            (np.ones((1, 3, 4), np.float32), ValueError),
            (np.ones((3, 8), np.float32), ValueError),
            (np.ones((0, 3, 8), np.float32), ValueError),
            (np.ones((1, 3, 8), np.float64), TypeError),
            ([1, 2, 3], TypeError),
        ):
            with kernels.use("emulated"), pytest.raises(error, match="batch_norm: moments"):
                module.batch_norm(x, moments=moments)
    with kernels.use("emulated"):
        for first, filters, groups in (((2, 3, 8, 8), (8, 3, 3, 3), 1), ((2, 8, 8, 8), (8, 1, 3, 3), 8)):
            y, moments = kernels.conv2d(
                np.ones(first, np.float32), np.ones(filters, np.float32), groups=groups, keep_moments=True
            )
            assert y.shape == (2, 8, 6, 6)
            assert moments[:, 0].sum(0).tolist() == [72] * 8
    for implementation in ("emulated", "reference"):
        with kernels.use(implementation):
            run_of = kernels if implementation == "emulated" else reference
            y, moments = run_of.conv2d(np.ones((0, 8, 4, 4), np.float32), weight, keep_moments=True)
            assert y.shape == (0, 8, 4, 4)
            assert run_of.batch_norm(y, moments=moments)[0].shape == (0, 8, 4, 4)


# ---- the operation, layers and models --------------------------------------------------------------------------------


def both(training=True, activation="relu", residual=True, bias=True, dtype=fastnet.float64, groups=2):
    """Results, gradients and running statistics of the operation, and of its two parts one after the other."""
    found = []
    for together in (True, False):
        fastnet.manual_seed(0)
        made = {
            "x": fastnet.randn(3, 4, 6, 5, dtype=dtype),
            "weight": fastnet.randn(6, 4 // groups, 3, 3, dtype=dtype),
            "bias": fastnet.randn(6, dtype=dtype) if bias else None,
            "norm_weight": fastnet.randn(6, dtype=dtype),
            "norm_bias": fastnet.randn(6, dtype=dtype),
            "residual": fastnet.randn(3, 6, 3, 3, dtype=dtype) if residual else None,
        }
        for t in made.values():
            if t is not None:
                t.requires_grad_()
        running = {"running_mean": fastnet.zeros(6, dtype=dtype), "running_var": fastnet.ones(6, dtype=dtype)}
        window = {"stride": 2, "padding": 1, "groups": groups}
        norm = {"training": training, "momentum": 0.3, "activation": activation, "residual": made["residual"]}
        x, weight, b = made["x"], made["weight"], made["bias"]
        if together:
            parameters = {"norm_weight": made["norm_weight"], "norm_bias": made["norm_bias"]}
            y = F.conv_norm_activation(x, weight, b, **window, **running, **parameters, **norm)
        else:
            y = F.batch_norm_activation(
                F.conv2d(x, weight, b, **window),
                **running,
                weight=made["norm_weight"],
                bias=made["norm_bias"],
                **norm,
            )
        (y * fastnet.arange(y.numel(), dtype=dtype).reshape(y.shape)).sum().backward()
        gradients = [t.grad for t in made.values() if t is not None]
        found.append([np.asarray(t.detach().tolist()) for t in (y, *gradients, *running.values())])
    return zip(*found, strict=True)


@pytest.mark.parametrize("implementation", ["emulated", "reference"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_operation_is_its_parts(implementation, training):
    for options in ({}, {"activation": "none", "residual": False}, {"bias": False, "groups": 1}):
        with kernels.use(implementation):
            for got, want in both(training=training, **options):
                np.testing.assert_allclose(got, want, 1e-10, 1e-10 * max(abs(want).max(), 1))


def test_operation_equals_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((3, 4, 6, 5)), rng.standard_normal((6, 4, 3, 3))
    results = []
    for library in (torch, fastnet):
        tensors = [library.tensor(a.tolist(), dtype=library.float64).requires_grad_() for a in (x, weight)]
        running = library.zeros(6, dtype=library.float64), library.ones(6, dtype=library.float64)
        if library is torch:
            y = torch.nn.functional.batch_norm(torch.nn.functional.conv2d(*tensors), *running, training=True).relu()
        else:
            y = F.conv_norm_activation(
                *tensors, running_mean=running[0], running_var=running[1], training=True, activation="relu"
            )
        (y**3).sum().backward()
        results.append([np.asarray(t.detach().tolist()) for t in (y, *(t.grad for t in tensors), *running)])
    for want, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, 1e-9, 1e-9)


def test_operation_checks_its_arguments():
    x, weight = fastnet.ones(2, 4, 3, 3), fastnet.ones(5, 4, 3, 3)
    for options, error, message in [
        ({"norm_weight": fastnet.ones(4)}, RuntimeError, "norm_weight to have 5 elements"),
        ({"running_mean": fastnet.ones(4)}, RuntimeError, "running_mean to have 5 elements"),
        ({"residual": fastnet.ones(2, 5, 2, 2)}, ValueError, "residual has shape"),
        ({"activation": "gelu"}, ValueError, "activation"),
        ({"bias": fastnet.ones(4)}, ValueError, "bias has shape"),
    ]:
        with pytest.raises(error, match=message):
            F.conv_norm_activation(x, weight, training=True, **options)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        F.conv_norm_activation(x[:1], weight, training=True)
    with pytest.raises(ValueError, match="expected 4"):
        F.conv_norm_activation(x[0], weight, training=True)


def test_a_change_of_a_saved_tensor_is_noticed():
    x, weight = fastnet.ones(2, 1, 3, 3), fastnet.ones(1, 1, 2, 2).requires_grad_()
    y = F.conv_norm_activation(x, weight, training=True)
    with fastnet.no_grad():
        weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_autocast_lowers_the_convolution_alone():
    conv, norm = nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)
    for model in (lambda x: norm.after(conv, x), lambda x: norm.fused(conv(x))):
        with fastnet.autocast("cpu", dtype=fastnet.bfloat16):
            y = model(fastnet.ones(2, 4, 6, 6))
        assert y.dtype is fastnet.bfloat16
        y.float().sum().backward()
        assert norm.weight.grad.dtype is fastnet.float32


def test_layers_go_together_where_they_are_plain():
    """One convolution that keeps moments and one norm without a pass over its input, in models and fused sequences;
    modules with something of their own are called one by one, with the same results."""
    fastnet.manual_seed(1)
    x = fastnet.randn(2, 8, 6, 6)
    conv, norm = nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16)
    model = nn.Sequential(conv, norm, nn.ReLU(), nn.Conv2d(16, 4, 1), nn.BatchNorm2d(4))
    with kernels.use("emulated"):
        want = model(x)
        seen = norm.running_mean.clone(), norm.running_var.clone(), int(norm.num_batches_tracked)
        norm.reset_running_stats()
        fastnet.fuse(model)
        with kernels.trace() as ran:
            got = model(x)
        assert ran.names == ["conv2d", "batch_norm"] * 2
        assert_close(got.detach().numpy(), want.detach().numpy(), 1e-5)
        for a, b in zip((norm.running_mean, norm.running_var), seen[:2], strict=True):
            assert_close(a.numpy(), b.numpy(), 1e-6)
        assert int(norm.num_batches_tracked) == seen[2] == 1
        counted = []
        with conv.register_forward_hook(lambda *_: counted.append("conv")):
            assert_close(norm.after(conv, x).detach().numpy(), norm(conv(x)).detach().numpy(), 1e-5)
        assert counted == ["conv"] * 2
        reflecting = nn.Conv2d(8, 16, 3, padding=1, padding_mode="reflect")
        assert_close(norm.after(reflecting, x).detach().numpy(), norm(reflecting(x)).detach().numpy(), 1e-5)
        model.eval()
        with kernels.trace() as ran:
            model(x)
        assert ran.names == ["conv2d", "batch_norm_inference"] * 2


def test_models_keep_moments(monkeypatch):
    """Every batch norm of a ResNet in training is given its convolution's moments."""
    given = []
    for module in (kernels, reference):
        original = module.batch_norm
        monkeypatch.setattr(
            module,
            "batch_norm",
            lambda *a, original=original, moments=None, **k: (
                given.append(moments is not None) or original(*a, moments=moments, **k)
            ),
        )
    model = fastnet.models.resnet_cifar(8, width=8)
    with kernels.use("reference"):
        model(fastnet.ones(2, 3, 8, 8))
    assert given == [True] * len([m for m in model.modules() if isinstance(m, nn.BatchNorm2d)])


def test_first_and_depthwise_layers_go_together_with_their_norms(monkeypatch):
    """As MobileNet begins: every norm of a fused sequence is given moments, and finds what it would itself."""
    fastnet.manual_seed(2)
    x = fastnet.randn(2, 3, 10, 10)
    layers = [
        *(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
    ]
    model, given = nn.Sequential(*layers), []
    original = kernels.batch_norm
    monkeypatch.setattr(
        kernels, "batch_norm", lambda *a, moments=None, **k: given.append(moments) or original(*a, moments=moments, **k)
    )
    with kernels.use("emulated"):
        want = model(x)
        assert given == [None] * 2
        got = fastnet.fuse(model)(x)
    assert [m is not None for m in given[2:]] == [True] * 2
    assert_close(got.detach().numpy(), want.detach().numpy(), 1e-5)
