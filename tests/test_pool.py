"""Pooling: emulated kernels and reference against their definition in float64, in every schedule; layers."""

import warnings

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import kernels, nn, reference
from fastnet.kernels import _runtime

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
IMPLEMENTATIONS = pytest.mark.parametrize("implementation", [kernels, reference], ids=["kernels", "reference"])


def name(dtype):
    return np.dtype(dtype).name


def extension():
    return _runtime.extension_for(np.empty(0))


def torch_or_skip():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def pixels_of(options, axis, size):
    """For every window along an axis: its pixels in the image, and how many count as averaged. PyTorch's words."""
    if "output_size" in options:
        out = options["output_size"][axis]
        for i in range(out):
            inside = list(range(i * size // out, -(-(i + 1) * size // out)))
            yield inside, len(inside)
        return
    k, s, p = (options[name][axis] for name in ("kernel_size", "stride", "padding"))
    d = options.get("dilation", (1, 1))[axis]
    spare = size + 2 * p - d * (k - 1) - 1
    out = (-(-spare // s) if options["ceil_mode"] else spare // s) + 1
    if options["ceil_mode"] and (out - 1) * s >= size + p:
        out -= 1
    for i in range(out):
        seen = [i * s - p + j * d for j in range(k)]
        inside = [n for n in seen if 0 <= n < size]
        yield inside, sum(n < size + p for n in seen) if options.get("count_include_pad", True) else len(inside)


def windows_of(options, image):
    for p, (rows, tall) in enumerate(pixels_of(options, 0, image[0])):
        for q, (columns, wide) in enumerate(pixels_of(options, 1, image[1])):
            yield p, q, [(h, w) for h in rows for w in columns], tall * wide


def out_size(options, image):
    return tuple(len(list(pixels_of(options, a, image[a]))) for a in (0, 1))


def max_definition(x, grad, options):
    """Values, pixels (-1 where no window), gradient in float64: one pixel after another."""
    n, c, h, w = x.shape
    out, indices = np.full(grad.shape, -np.inf), np.full(grad.shape, -1, np.int64)
    back = np.zeros((n, c, h * w))
    for p, q, pixels, _ in windows_of(options, (h, w)):
        indices[..., p, q] = pixels[0][0] * w + pixels[0][1]
        for i, j in pixels:
            value = x[..., i, j].astype(np.float64)
            better = (value > out[..., p, q]) | np.isnan(value)
            out[..., p, q][better] = value[better]
            indices[..., p, q][better] = i * w + j
        at = np.arange(n)[:, None], np.arange(c)[None], indices[..., p, q]
        back[at] += grad[..., p, q].astype(np.float64)
    return out, indices, back.reshape(x.shape)


def avg_definition(x, grad, options):
    """Values, sums of magnitudes, gradient, sums of its magnitudes, in float64."""
    out, back = np.zeros(grad.shape), np.zeros(x.shape)
    size, back_size = np.zeros(grad.shape), np.zeros(x.shape)
    for p, q, pixels, count in windows_of(options, x.shape[2:]):
        by = options.get("divisor_override") or count
        for i, j in pixels:
            out[..., p, q] += x[..., i, j].astype(np.float64) / by
            size[..., p, q] += abs(x[..., i, j].astype(np.float64) / by)
            back[..., i, j] += grad[..., p, q].astype(np.float64) / by
            back_size[..., i, j] += abs(grad[..., p, q].astype(np.float64) / by)
    return out, size, back, back_size


def draw(rng):
    """The image's sizes and options of a random pooling, adaptive once in four."""
    channels = int(rng.choice([1, 3, 4, 8, 16, 17]))
    shape = (int(rng.integers(1, 4)), channels, int(rng.integers(1, 12)), int(rng.integers(1, 12)))
    if rng.random() < 0.25:
        return shape, {"output_size": tuple(int(n) for n in rng.integers(1, 7, 2))}
    while True:
        kernel = tuple(int(n) for n in rng.integers(1, 5, 2))
        dilation = tuple(int(n) for n in rng.integers(1, 4, 2)) if rng.random() < 0.3 else (1, 1)
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
        if all(r <= n + 2 * p for r, n, p in zip(reach, shape[2:], padding, strict=True)):
            break
    options = {
        "kernel_size": kernel,
        "stride": kernel if rng.random() < 0.3 else tuple(int(n) for n in rng.integers(1, 5, 2)),
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": bool(rng.integers(2)),
    }
    # Dilated windows may step over a narrow image: test_windows_without_a_pixel has those.
    empty = any(not inside for axis in (0, 1) for inside, _ in pixels_of(options, axis, shape[2 + axis]))
    return draw(rng) if empty else (shape, options)


def images(rng, shape, dtype, equal=False):
    """Random images in C order, channels-last or reversed; ``equal`` draws from few values."""
    x = (rng.integers(-2, 3, shape) if equal else rng.standard_normal(shape)).astype(dtype)
    how = rng.integers(3)
    if how == 0:
        return x
    if how == 1:
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x[:, ::-1, :, ::-1])[:, ::-1, :, ::-1]


def bound(magnitude, terms, dtype):
    """``terms`` additions and as many divisions in the accumulator, one rounding of the result."""
    accumulate = epsilon(np.float64 if dtype == np.float64 else np.float32)
    return magnitude * (2 * (terms + 1) * accumulate + epsilon(dtype)) + {"float16": 2.0**-25}.get(name(dtype), 0)


def check_max(implementation, rng, dtype, shape, options, config=None):
    x = images(rng, shape, dtype, equal=rng.random() < 0.5)
    if rng.random() < 0.3:
        x[rng.random(shape) < 0.2] = rng.choice([np.nan, np.inf, -np.inf])
    grad = images(rng, (*shape[:2], *out_size(options, shape[2:])), dtype)
    want, pixels, back = max_definition(x, grad, options)
    out, indices = implementation.max_pool2d(x, **options, with_indices=True, config=config)
    what = f"{shape} {options}"
    assert (out.dtype, indices.dtype) == (dtype, np.int32)
    assert_close(out, want, 0, what)
    assert_close(indices, pixels, 0, what)
    assert_close(implementation.max_pool2d(x, **options, config=config), want, 0, what)
    assert out.transpose(0, 2, 3, 1).flags.c_contiguous, "channels-last in memory"
    _, _, size = max_definition(x, abs(grad.astype(np.float64)), options)
    for given in ({"x": x}, {"indices": indices}):
        got = implementation.max_pool2d_backward(grad, shape[2:], **options, **given, config=config)
        assert got.dtype == dtype
        assert_close(got, back, bound(size, 16, dtype), f"{what} backward by {next(iter(given))}")


def check_avg(implementation, rng, dtype, shape, options, config=None):
    options = {k: v for k, v in options.items() if k != "dilation"}
    if "output_size" not in options:
        kernel, size = options["kernel_size"], shape[2:]
        options["padding"] = tuple(min(p, k // 2) for p, k in zip(options["padding"], kernel, strict=True))
        if any(k > n + 2 * p for k, n, p in zip(kernel, size, options["padding"], strict=True)):
            return
        options["count_include_pad"] = bool(rng.integers(2))
        if rng.random() < 0.3:
            options["divisor_override"] = int(rng.choice([-3, 2, 7]))
    x, grad = images(rng, shape, dtype), images(rng, (*shape[:2], *out_size(options, shape[2:])), dtype)
    want, size, back, back_size = avg_definition(x, grad, options)
    got = implementation.avg_pool2d(x, **options, config=config)
    assert got.dtype == dtype
    assert got.transpose(0, 2, 3, 1).flags.c_contiguous, "channels-last in memory"
    assert_close(got, want, bound(size, 144, dtype), f"{shape} {options}")
    got = implementation.avg_pool2d_backward(grad, shape[2:], **options, config=config)
    assert got.dtype == dtype
    assert_close(got, back, bound(back_size, 144, dtype), f"{shape} {options} backward")


@pytest.mark.parametrize("check", [check_max, check_avg])
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_random_problems(dtype, check, full):
    rng = np.random.default_rng(0)
    for i in range(300 if full else 24):
        shape, options = draw(rng)
        state = rng.bit_generator.state
        check(reference, rng, dtype, shape, options)
        rng.bit_generator.state = state
        with kernels.use("emulated", **schedule(i)):
            check(kernels, rng, dtype, shape, options)


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
def test_every_schedule_gives_the_same_bits(how):
    rng = np.random.default_rng(1)
    for dtype in DTYPES:
        x, grad = images(rng, (2, 16, 9, 7), dtype), images(rng, (2, 16, 5, 4), dtype)
        options = {"kernel_size": 3, "stride": 2, "padding": 1}
        results = []
        for chosen in ({}, how):
            with kernels.use("emulated", **chosen), kernels.trace() as ran:
                out, indices = kernels.max_pool2d(x, **options, with_indices=True)
                results.append(
                    [
                        out,
                        indices,
                        kernels.max_pool2d_backward(grad, (9, 7), **options, indices=indices),
                        kernels.max_pool2d_backward(grad, (9, 7), **options, x=x),
                        kernels.avg_pool2d(x, **options),
                        kernels.avg_pool2d_backward(grad, (9, 7), **options),
                    ]
                )
            assert ran.names == ["max_pool2d", *["max_pool2d_backward"] * 2, "avg_pool2d", "avg_pool2d_backward"]
        assert [r.tobytes() for r in results[0]] == [r.tobytes() for r in results[1]]


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_every_config(dtype):
    """One channel or 16 bytes of them; one block that strides over all, and more than there is work for."""
    ext = extension()
    rng = np.random.default_rng(2)
    for vector in (1, 16 // np.dtype(dtype).itemsize):
        for lanes, blocks in ((1, 1), (16, 3), (256, 100)):
            config = ext.PoolConfig(vector=vector, lanes=lanes, blocks=blocks)
            for options in (
                {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 1), "ceil_mode": True},
                {"output_size": (3, 2)},
            ):
                with kernels.use("emulated", **schedule(blocks)):
                    check_max(kernels, rng, dtype, (2, 16, 7, 6), options, config)
                    check_avg(kernels, rng, dtype, (2, 16, 7, 6), options, config)


def test_configs():
    ext = extension()
    rng = np.random.default_rng(3)
    for device in ext.known_devices():
        for _ in range(200):
            pixels, channels = int(2 ** rng.uniform(0, 31)), int(2 ** rng.uniform(0, 13))
            itemsize, fits = int(rng.choice([2, 4, 8])), bool(rng.integers(2))
            config = ext.pool_config(pixels, channels, itemsize, fits, device)
            assert config.vector == (16 // itemsize if fits else 1)
            assert config.lanes in (1, 2, 4, 8, 16, 32, 64, 128, 256)
            assert config.lanes == 256 or channels <= config.lanes * config.vector < max(2 * channels, 17)
            assert 1 <= config.blocks <= 32 * 200
            assert str(config) == f"pool(vector={config.vector}, lanes={config.lanes}, blocks={config.blocks})"
    for arguments in ((3, 1, 1), (1, 3, 1), (1, 512, 1), (1, 1, 0)):
        with pytest.raises(ValueError, match="PoolConfig"):
            ext.PoolConfig(*arguments)
    with kernels.use("emulated"):
        with pytest.raises(TypeError, match="max_pool2d: config is a int"):
            kernels.max_pool2d(np.ones((1, 1, 2, 2)), 2, config=3)
        with pytest.raises(ValueError, match="do not allow its vector"):
            kernels.avg_pool2d(np.ones((1, 3, 2, 2), np.float32), 2, config=ext.PoolConfig(4, 1, 1))


@IMPLEMENTATIONS
def test_bad_arguments(implementation):
    x, grad = np.ones((1, 2, 4, 4), np.float32), np.ones((1, 2, 2, 2), np.float32)
    for function, arguments, options, error, message in [
        ("max_pool2d", (None, 2), {}, TypeError, "x is a NoneType"),
        ("max_pool2d", (x[0], 2), {}, ValueError, "x has 3 dimensions"),
        ("max_pool2d", (x.astype(int), 2), {}, TypeError, "x has dtype int64"),
        ("max_pool2d", (x, None), {}, TypeError, "kernel_size is a NoneType"),
        ("max_pool2d", (x, 2), {"output_size": 2}, ValueError, "both given"),
        ("max_pool2d", (x, 5), {}, ValueError, "the window covers 5 pixels"),
        ("max_pool2d", (x, 2), {"padding": 2}, ValueError, "padding is 2"),
        ("max_pool2d", (x, 2), {"stride": 2**31}, ValueError, "stride is"),
        ("max_pool2d", (x, 2), {"ceil_mode": 1}, TypeError, "ceil_mode is a int"),
        ("max_pool2d", (x, 2), {"with_indices": 1}, TypeError, "with_indices is a int"),
        ("max_pool2d", (x[:, :, :0], 2), {}, ValueError, "images have 0 x 4 pixels"),
        ("avg_pool2d", (x, 2), {"divisor_override": 0}, ValueError, "divisor_override is 0"),
        ("avg_pool2d", (x, 2), {"divisor_override": 0.5}, TypeError, "divisor_override is a float"),
        ("avg_pool2d_backward", (grad, (5, 7), 2), {}, ValueError, r"grad has shape \(1, 2, 2, 2\), expected .*2, 3\)"),
        ("max_pool2d_backward", (grad, 4, 2), {}, ValueError, "one of x and indices, got neither"),
        ("max_pool2d_backward", (grad, 4, 2), {"x": x, "indices": x}, ValueError, "one of x and indices, got both"),
        ("max_pool2d_backward", (grad, 4, 2), {"x": grad}, ValueError, "x has shape"),
        ("max_pool2d_backward", (grad, 4, 2), {"x": x.astype(np.float64)}, TypeError, "x has dtype float64"),
        ("max_pool2d_backward", (grad, 4, 2), {"indices": grad}, TypeError, "indices has dtype float32"),
    ]:
        with kernels.use("emulated"), kernels.trace() as ran, pytest.raises(error, match=f"{function}: .*{message}"):
            getattr(implementation, function)(*arguments, **options)
        assert not len(ran)


@IMPLEMENTATIONS
def test_empty(implementation):
    with kernels.use("emulated"):
        assert implementation.max_pool2d(np.ones((0, 3, 4, 4), np.float32), 2).shape == (0, 3, 2, 2)
        assert implementation.avg_pool2d(np.ones((2, 3, 4, 4), np.float32), output_size=(0, 2)).shape == (2, 3, 0, 2)
        grad = np.ones((2, 3, 0, 2), np.float32)
        assert not implementation.avg_pool2d_backward(grad, (4, 4), output_size=(0, 2)).any()


@IMPLEMENTATIONS
def test_windows_without_a_pixel(implementation):
    """Places at -1 and 2 of an image two pixels wide: minus infinity, as PyTorch, and a gradient that reaches nothing
    (PyTorch's reaches the next row's first pixel)."""
    x, grad = np.ones((1, 3, 4, 2), np.float32), np.ones((1, 3, 4, 1), np.float32)
    options = {"kernel_size": (1, 2), "stride": (1, 3), "padding": (0, 1), "dilation": (1, 3)}
    with kernels.use("emulated"):
        assert (implementation.max_pool2d(x, **options) == -np.inf).all()
        assert not implementation.max_pool2d_backward(grad, (4, 2), **options, x=x).any()


# ---- layers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "MaxPool1d(2)",
        "MaxPool2d((3, 2), 2, 1, 2, ceil_mode=True)",
        "AvgPool1d(3, 2, 1)",
        "AvgPool2d(3, None, (1, 0), True, False, 4)",
        "AdaptiveAvgPool1d(5)",
        "AdaptiveAvgPool2d((None, 3))",
        "AdaptiveMaxPool1d(5)",
        "AdaptiveMaxPool2d((2, 3), True)",
    ],
)
def test_layers_equal_pytorch(text):
    torch = torch_or_skip()
    theirs, ours = eval(text, vars(torch.nn)), eval(text, vars(nn))
    assert repr(ours) == repr(theirs)
    x = np.random.default_rng(4).standard_normal((2, 3, 9, 8) if "2d" in text else (2, 3, 9))
    want, got = theirs(torch.tensor(x)), ours(fastnet.tensor(x.tolist(), dtype=fastnet.float64))
    pairs = zip(want, got, strict=True) if isinstance(want, tuple) else [(want, got)]
    for w, g in pairs:
        assert str(g.dtype).split(".")[-1] == str(w.dtype).split(".")[-1]
        np.testing.assert_allclose(np.asarray(g.tolist()), w.numpy(), 1e-12)


def test_random_poolings_equal_pytorch(full):
    torch = torch_or_skip()
    rng = np.random.default_rng(5)
    for _ in range(300 if full else 40):
        shape, options = draw(rng)
        x = rng.standard_normal(shape)
        results = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for library in (torch, fastnet):
                f = library.nn.functional
                t = library.tensor(x.tolist(), dtype=library.float64).requires_grad_()
                if "output_size" in options:
                    out = f.adaptive_max_pool2d(t, options["output_size"]) * 2
                    out = out + f.adaptive_avg_pool2d(t, options["output_size"])
                else:
                    out = f.max_pool2d(t, **options)
                (out * out).sum().backward()
                results.append((np.asarray(out.detach().tolist()), np.asarray(t.grad.tolist())))
        for want, got in zip(*results, strict=True):
            np.testing.assert_allclose(got, want, 1e-10, 1e-12, err_msg=f"{shape} {options}")


def test_indices_are_kept_only_where_windows_overlap():
    x = fastnet.randn(1, 4, 8, 8).requires_grad_()
    with kernels.use("emulated"), kernels.trace() as ran:
        apart = fastnet.max_pool2d(x, 2)
        overlapping = fastnet.max_pool2d(x, 3, 2)
        (apart.sum() + overlapping.sum()).backward()
    assert [n for n in ran.names if "pool" in n] == ["max_pool2d", "max_pool2d"] + ["max_pool2d_backward"] * 2
    with fastnet.no_grad():
        x.mul_(2)
    y = fastnet.max_pool2d(x, 2)
    with fastnet.no_grad():
        x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
