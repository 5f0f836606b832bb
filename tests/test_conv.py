"""Convolutions: emulated kernels and reference against their definition in float64, in every schedule, and against
PyTorch; layers."""

import warnings

import numpy as np
import pytest
from conv_problems import Problem, draw, extension, images, name
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import kernels, nn
from fastnet.reference import conv as reference

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
IMPLEMENTATIONS = pytest.mark.parametrize("implementation", [kernels, reference], ids=["kernels", "reference"])


def general(tile, **how):
    """A config of the general family, whose proofs are here; test_conv_tensor_cores.py has the others'."""
    return extension().ConvConfig("general", tile, tile, **how)


def torch_or_skip():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def bound(magnitude, terms, in_dtype, out_dtype):
    """Any order of summation: ``terms`` roundings of the accumulator, each at most eps times the sum of |a b|; then one
    of the result, whose smallest numbers are a fixed distance apart."""
    accumulate = epsilon(np.float64 if in_dtype == np.float64 else np.float32)
    tiny = {"float16": 2.0**-25}.get(name(out_dtype), 0)
    return magnitude * ((terms + 2) * accumulate + epsilon(out_dtype)) + tiny


def check_three_products(implementation, problem, rng, dtype, what, config=None):
    """conv2d and both gradients against the definition, in any memory order."""
    x, grad = images(rng, problem.x_shape, dtype), images(rng, problem.out_shape, dtype)
    weight = rng.standard_normal(problem.weight_shape).astype(dtype)
    taps = int(np.prod(problem.kernel))
    for operation, arguments, want, magnitude, terms in [
        (
            "conv2d",
            (x, weight),
            problem.forward(x, weight),
            problem.forward(abs(x), abs(weight)),
            taps * problem.weight_shape[1],
        ),
        (
            "conv2d_input_grad",
            (grad, weight, problem.image),
            problem.input_grad(grad, weight),
            problem.input_grad(abs(grad), abs(weight)),
            taps * problem.filters // problem.groups,
        ),
        (
            "conv2d_weight_grad",
            (grad, x, problem.kernel),
            problem.weight_grad(grad, x),
            problem.weight_grad(abs(grad), abs(x)),
            problem.batch * int(np.prod(problem.out)),
        ),
    ]:
        got = getattr(implementation, operation)(*arguments, **problem.options, config=config)
        assert got.dtype == dtype
        assert_close(got, want, bound(magnitude, terms, dtype, dtype), f"{what} {operation} {problem} {name(dtype)}")
        if operation != "conv2d_weight_grad":
            assert got.transpose(0, 2, 3, 1).flags.c_contiguous, f"{operation} is channels-last in memory"


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_reference_is_the_definition(dtype, full):
    rng = np.random.default_rng(0)
    for _ in range(300 if full else 40):
        check_three_products(reference, draw(rng), rng, dtype, "reference")


def test_reference_in_pieces(monkeypatch):
    """Rows of images at a time, whole images at a time, and one last piece that is smaller."""
    for size in (1, 3000, 20000):
        monkeypatch.setitem(reference.CHUNK_BYTES, True, size)
        rng = np.random.default_rng(1)
        for _ in range(12):
            check_three_products(reference, draw(rng, largest=17), rng, np.float32, f"pieces of {size} bytes")
    monkeypatch.setitem(reference.CHUNK_BYTES, True, 600)  # 6 and 5 rows, or 4, 4 and 3
    for filters in (6, 12):  # depthwise
        problem = Problem(2, 6, (11, 7), filters, (3, 2), (1, 2), (1, 0), (1, 1), 6)
        check_three_products(reference, problem, rng, np.float32, "pieces of rows")


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_random_problems(dtype, full):
    rng = np.random.default_rng(6)
    for i in range(300 if full else 24):
        problem = draw(rng)
        for s in SCHEDULES if full else [schedule(i)]:
            with kernels.use("emulated", **s):
                check_three_products(kernels, problem, rng, dtype, f"emulated {s}", general(32 if i % 2 else 64))


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
def test_every_schedule_gives_the_same_bits(how):
    """Of every tile, with parts and one block that strides over all tiles."""
    problem = Problem(2, 8, (9, 11), 40, (3, 2), (2, 1), (1, 1), (1, 2), 1)
    for dtype in DTYPES:
        rng = np.random.default_rng(7)
        x, grad = images(rng, problem.x_shape, dtype), images(rng, problem.out_shape, dtype)
        weight = rng.standard_normal(problem.weight_shape).astype(dtype)
        for config in (general(32, splits=3), general(64, fold=8, max_blocks=1)):
            results = []
            for chosen in ({}, how):
                with kernels.use("emulated", **chosen), kernels.trace() as ran:
                    results.append(
                        [
                            kernels.conv2d(x, weight, **problem.options, config=config),
                            kernels.conv2d_input_grad(grad, weight, (9, 11), **problem.options, config=config),
                            kernels.conv2d_weight_grad(grad, x, (3, 2), **problem.options, config=config),
                        ]
                    )
                parts = ["column_sum"] if config.splits > 1 else []
                assert ran.names == ["conv2d", "conv2d_input_grad", "conv2d_weight_grad", *parts]
            assert [r.tobytes() for r in results[0]] == [r.tobytes() for r in results[1]]


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
@pytest.mark.parametrize("tile", [32, 64])
def test_every_config(tile, dtype):
    """Tiles larger and smaller than the problem, more parts than there are pixels, tiles taken in turn."""
    rng = np.random.default_rng(8)
    for i, problem in enumerate(
        [
            Problem(1, 3, (5, 6), 2, (2, 2), (1, 1), (0, 1), (1, 1), 1),
            Problem(2, 12, (9, 10), 70, (3, 3), (1, 2), (1, 1), (1, 1), 1),
            Problem(1, 80, (5, 7), 8, (1, 3), (2, 1), (0, 1), (1, 1), 4),
            Problem(1, 4, (6, 6), 4, (3, 3), (3, 2), (2, 1), (2, 2), 4),
        ]
    ):
        for splits, blocks in ((1, 1), (2, 3), (100, 2**31 - 1)):
            config = general(tile, fold=8 * (i + 1), splits=splits, max_blocks=blocks)
            with kernels.use("emulated", **schedule(i)):
                check_three_products(kernels, problem, rng, dtype, str(config), config)


def test_error_contract():
    """At most twice the reference's error, or 2^-21 sum|a b|: sums that all round to one side, and cancellation."""
    problem = Problem(1, 64, (20, 20), 4, (3, 3), (1, 1), (0, 0), (1, 1), 1)
    rng = np.random.default_rng(9)
    noise = [rng.standard_normal(s).astype(np.float32) for s in (problem.x_shape, problem.weight_shape)]
    cancelling = noise[0].copy()
    cancelling[:, 1::2] = -cancelling[:, ::2] * np.float32(1 + 1e-4)
    for what, x, weight in (
        ("constant", np.full(problem.x_shape, 0.1, np.float32), np.full(problem.weight_shape, 0.1, np.float32)),
        ("positive", abs(noise[0]), abs(noise[1])),
        ("cancelling", cancelling, np.repeat(noise[1][:, ::2], 2, axis=1)),
    ):
        grad = np.ones(problem.out_shape, np.float32) * x[:, :4, :18, :18]
        with kernels.use("emulated"):
            for operation, arguments, want, magnitude in [
                ("conv2d", (x, weight), problem.forward(x, weight), problem.forward(abs(x), abs(weight))),
                (
                    "conv2d_weight_grad",
                    (grad, x, 3),
                    problem.weight_grad(grad, x),
                    problem.weight_grad(abs(grad), abs(x)),
                ),
            ]:
                error = abs(getattr(kernels, operation)(*arguments, config=general(64)) - want)
                allowed = 2 * abs(getattr(reference, operation)(*arguments) - want).max()
                assert (error <= np.maximum(allowed, 2.0**-21 * magnitude)).all(), f"{what} {operation}"


def test_nan_and_infinity():
    """They reach the results whose windows see them, and no others: padding is not multiplied."""
    x, weight = np.ones((1, 2, 6, 6), np.float32), np.ones((3, 2, 3, 3), np.float32)
    x[0, 0, 0, 0], x[0, 1, 5, 5] = np.nan, np.inf
    problem = Problem(1, 2, (6, 6), 3, (3, 3), (1, 1), (1, 1), (1, 1), 1)
    with kernels.use("emulated"):
        assert_close(kernels.conv2d(x, weight, padding=1, config=general(32)), problem.forward(x, weight), 0)
    assert_close(reference.conv2d(x, weight, padding=1), problem.forward(x, weight), 0)


def test_a_config_is_one():
    with kernels.use("emulated"), pytest.raises(TypeError, match="conv2d: config is a int"):
        kernels.conv2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 1, 1)), config=3)


@IMPLEMENTATIONS
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_epilogue(dtype, implementation):
    """Bias, residual and activation see the unrounded sum; one rounding follows."""
    with kernels.use("emulated", **schedule(3)):
        check_epilogue(dtype, implementation)


def check_epilogue(dtype, reference):
    rng = np.random.default_rng(2)
    problem = Problem(2, 5, (6, 7), 4, (3, 3), (1, 2), (1, 1), (1, 1), 1)
    x, weight = images(rng, problem.x_shape, dtype), rng.standard_normal(problem.weight_shape).astype(dtype)
    bias, residual = rng.standard_normal(4).astype(dtype), images(rng, problem.out_shape, dtype)
    out, before = reference.conv2d(
        x,
        weight,
        **problem.options,
        bias=bias,
        residual=residual,
        activation="relu",
        keep_preactivation=True,
        config=general(32),
    )
    want = problem.forward(x, weight) + bias.astype(np.float64)[:, None, None] + residual.astype(np.float64)
    magnitude = problem.forward(abs(x), abs(weight)) + abs(bias.astype(np.float64))[:, None, None] + abs(residual)
    limit = bound(magnitude, 46, dtype, dtype)
    assert_close(before, want, limit)
    assert_close(out, np.maximum(want, 0), limit)
    back = reference.conv2d_input_grad(
        out,
        weight,
        problem.image,
        **problem.options,
        bias=weight[0, :, 0, 0],
        residual=x,
        activation="relu",
        config=general(64),
    )
    want = problem.input_grad(out, weight) + weight[0, :, 0, 0].astype(np.float64)[:, None, None] + x
    magnitude = (
        problem.input_grad(abs(out), abs(weight)) + abs(weight[0, :, 0, 0].astype(float))[:, None, None] + abs(x)
    )
    assert_close(back, np.maximum(want, 0), bound(magnitude, 38, dtype, dtype))


@pytest.mark.parametrize(
    ("operation", "arguments", "options", "error", "message"),
    [
        ("conv2d", (None, np.ones((1, 1, 1, 1))), {}, TypeError, "x is a NoneType"),
        ("conv2d", (np.ones((1, 1, 4)), np.ones((1, 1, 1, 1))), {}, ValueError, "x has 3 dimensions"),
        ("conv2d", (np.ones((1, 1, 4, 4), int), np.ones((1, 1, 1, 1))), {}, TypeError, "x has dtype int64"),
        ("conv2d", (np.ones((1, 1, 4, 4)), np.ones((1, 1, 1, 1), "f")), {}, TypeError, "the same dtype"),
        ("conv2d", (np.ones((1, 8, 4, 4)), np.ones((2, 3, 1, 1))), {"groups": 2}, ValueError, "8 / groups=2 = 4"),
        ("conv2d", (np.ones((1, 1, 4, 4)), np.ones((1, 1, 5, 1))), {}, ValueError, "window covers 5 pixels"),
        ("conv2d", (np.ones((1, 1, 4, 4)), np.ones((1, 1, 1, 0))), {}, ValueError, "window of 1 x 0"),
        ("conv2d", (np.ones((1, 1, 4, 4)), np.ones((1, 1, 1, 1))), {"stride": 2**40}, ValueError, "stride is"),
        ("conv2d", (np.ones((1, 1, 4, 4)), np.ones((1, 1, 1, 1))), {"bias": np.ones(2)}, ValueError, "bias has shape"),
        ("conv2d", (np.ones((1, 1, 4, 4)), np.ones((1, 1, 1, 1))), {"activation": "sine"}, ValueError, "activation"),
        (
            "conv2d",
            (np.ones((1, 1, 4, 4)), np.ones((1, 1, 1, 1))),
            {"residual": np.ones((1, 1, 4, 3))},
            ValueError,
            "residual has shape",
        ),
        (
            "conv2d_input_grad",
            (np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2)), (4, 4)),
            {},
            ValueError,
            r"grad has shape \(1, 1, 4, 4\), expected \(1, 1, 3, 3\)",
        ),
        (
            "conv2d_weight_grad",
            (np.ones((1, 2, 4, 4)), np.ones((1, 1, 4, 4)), 2),
            {},
            ValueError,
            r"grad has shape \(1, 2, 4, 4\), expected \(1, 2, 3, 3\)",
        ),
    ],
)
@IMPLEMENTATIONS
def test_bad_arguments(operation, arguments, options, error, message, implementation):
    with kernels.use("emulated"), kernels.trace() as ran, pytest.raises(error, match=f"{operation}: .*{message}"):
        getattr(implementation, operation)(*arguments, **options)
    assert not len(ran)


@IMPLEMENTATIONS
def test_empty(implementation):
    with kernels.use("emulated"):
        x, weight = np.ones((0, 3, 4, 4), np.float32), np.ones((2, 3, 3, 3), np.float32)
        assert implementation.conv2d(x, weight).shape == (0, 2, 2, 2)
        grad = implementation.conv2d_weight_grad(np.ones((0, 2, 2, 2), np.float32), x, 3)
        assert grad.shape == (2, 3, 3, 3)
        assert not grad.any()
        none = implementation.conv2d(np.ones((1, 0, 4, 4), np.float32), np.ones((2, 0, 3, 3), np.float32))
        assert none.shape == (1, 2, 2, 2)
        assert not none.any()
        fewer = implementation.conv2d_input_grad(np.ones((1, 2, 0, 2), np.float32), weight, 4)
        assert not fewer.any()


# ---- layers --------------------------------------------------------------------------------------------------------


def both(torch, make, *shapes, seed=0, **call):
    """The same layer, parameters and inputs in both libraries: outputs, and gradients of inputs and parameters."""
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(s) for s in shapes]
    theirs, ours = make(torch.nn), make(nn)
    state = {k: rng.standard_normal(tuple(v.shape)) * 0.3 for k, v in theirs.state_dict().items()}
    results = []
    for library, layer in ((torch, theirs), (fastnet, ours)):
        layer = layer.double()
        layer.load_state_dict({k: library.tensor(v.tolist(), dtype=library.float64) for k, v in state.items()})
        inputs = [library.tensor(a.tolist(), dtype=library.float64).requires_grad_() for a in arrays]
        out = layer(*inputs, **call)
        (out * out).sum().backward()
        made = [out, *(i.grad for i in inputs), *(p.grad for p in layer.parameters())]
        results.append([np.asarray(t.detach().tolist()) for t in made])
    for want, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, 1e-9, 1e-9)


def test_random_layers_equal_pytorch(full):
    torch = torch_or_skip()
    rng = np.random.default_rng(3)
    for i in range(300 if full else 30):
        problem = draw(rng, largest=17)
        kind = ["Conv2d", "Conv1d", "ConvTranspose2d", "ConvTranspose1d"][i % 4]
        dims = 2 if kind.endswith("2d") else 1
        numbers = {
            "kernel_size": problem.kernel[-dims:],
            "stride": problem.stride[-dims:],
            "padding": tuple(max(p) for p in problem.pads)[-dims:],
            "dilation": problem.dilation[-dims:],
            "groups": problem.groups,
            "bias": bool(rng.integers(2)),
        }
        image = problem.image[-dims:]
        if kind.startswith("ConvTranspose"):
            numbers["padding"] = tuple(
                min(p, k - 1) for p, k in zip(numbers["padding"], numbers["kernel_size"], strict=True)
            )
            most = [max(s, d) for s, d in zip(numbers["stride"], numbers["dilation"], strict=True)]
            numbers["output_padding"] = tuple(int(rng.integers(0, m)) for m in most)
            sizes = zip(image, *(numbers[k] for k in ("kernel_size", "stride", "padding", "dilation")), strict=True)
            if any((n - 1) * s - 2 * p + d * (k - 1) + 1 < 1 for n, k, s, p, d in sizes):
                continue  # padded away: refused by both
        elif rng.random() < 0.3:
            numbers["padding"], numbers["stride"] = "same", 1
        else:
            numbers["padding_mode"] = str(rng.choice(["zeros", "reflect", "replicate", "circular"]))
            if numbers["padding_mode"] != "zeros":
                numbers["padding"] = tuple(min(p, n - 1) for p, n in zip(numbers["padding"], image, strict=True))
            covered = zip(numbers["kernel_size"], numbers["dilation"], image, numbers["padding"], strict=True)
            if any(d * (k - 1) + 1 > n + 2 * p for k, d, n, p in covered):
                continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns where 'same' pads one side more
            both(
                torch,
                lambda n, kind=kind, p=problem, numbers=numbers: getattr(n, kind)(p.channels, p.filters, **numbers),
                (problem.batch, problem.channels, *image),
                seed=i,
            )


@pytest.mark.parametrize(
    "text",
    [
        "Conv2d(3, 4, 5)",
        "Conv2d(4, 8, (3, 2), (2, 1), (1, 0), (1, 2), 4, False, 'reflect')",
        "Conv2d(4, 8, 3, padding='same')",
        "Conv1d(4, 8, 3, 2, 1, 2, 2, padding_mode='circular')",
        "Conv1d(4, 8, 3, padding='valid')",
        "ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, False, 3)",
        "ConvTranspose1d(4, 6, (3,), 2, 1, 1)",
        "Unfold(3, (1, 2), 1, 2)",
        "Fold((4, 5), 3, padding=1)",
    ],
)
def test_layers_print_and_keep_what_pytorch_does(text):
    torch = torch_or_skip()
    theirs, ours = eval(text, vars(torch.nn)), eval(text, vars(nn))
    assert repr(ours) == repr(theirs)
    assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }


@pytest.mark.parametrize("transposed", [False, True])
def test_parameters_start_as_in_pytorch(transposed):
    """Uniform within 1 / sqrt(fan in), fan in being what PyTorch takes for it."""
    layer = (nn.ConvTranspose2d if transposed else nn.Conv2d)(32, 64, 3)
    limit = 1 / np.sqrt(9 * (64 if transposed else 32))
    for p in layer.parameters():
        values = p.detach().numpy()
        assert abs(values).max() <= limit
    weight = layer.weight.detach().numpy()
    assert abs(weight).max() > 0.99 * limit  # 18,432 draws: the largest is within a thousandth of the limit
    assert abs(weight.std() / (limit / np.sqrt(3)) - 1) < 0.03


def test_results_are_channels_last_in_memory():
    x = fastnet.randn(2, 3, 8, 8).requires_grad_()
    y = nn.Conv2d(3, 6, 3)(x)
    assert y.stride() == (6 * 36, 1, 36, 6)
    z = nn.ConvTranspose2d(6, 5, 2)(y)
    assert z.stride() == (49 * 5, 1, 35, 5)


def test_a_saved_image_changed_in_place_is_noticed():
    layer = nn.Conv2d(1, 1, 2)
    x = fastnet.randn(1, 1, 4, 4)
    y = layer(x)
    with fastnet.no_grad():
        layer.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_fused_activation_equals_its_parts():
    rng = np.random.default_rng(5)
    x, w, b, r = (
        fastnet.tensor(rng.standard_normal(s).tolist(), dtype=fastnet.float64).requires_grad_()
        for s in ((2, 3, 5, 5), (4, 3, 3, 3), (4,), (2, 4, 5, 5))
    )
    parts = nn.functional.silu(nn.functional.conv2d(x, w, b, padding=1) + r)
    parts.sum().backward()
    want = [t.grad for t in (x, w, b, r)]
    for t in (x, w, b, r):
        t.grad = None
    fused = nn.functional.conv2d_activation(x, w, b, padding=1, activation="silu", residual=r)
    fused.sum().backward()
    np.testing.assert_allclose(fused.detach().numpy(), parts.detach().numpy(), 1e-12, 1e-12)
    for t, g in zip((x, w, b, r), want, strict=True):
        np.testing.assert_allclose(t.grad.numpy(), g.numpy(), 1e-12, 1e-12)
