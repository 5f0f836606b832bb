"""Softmax, log-softmax, their gradients and cross-entropy: emulated kernels and reference against float64, every dtype,
schedule and config tier; PyTorch's meaning of infinities, weights, ignored targets and smoothing."""

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import kernels, reference
from fastnet.kernels._runtime import extension_for
from fastnet.ops import softmax as operations

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
by_name = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
by_schedule = pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
# (shape, axis): rows within a warp, rows of a block, columns, one element, nothing.
PROBLEMS = [
    ((1, 1), -1),
    ((5, 3), 1),
    ((3, 37), -1),
    ((2, 64), 1),
    ((2, 1030), 1),
    ((1, 4100), 1),
    ((3, 7, 40), 1),
    ((2, 3, 4, 5), 0),
    ((9, 33), 0),
    ((), -1),
    ((6,), 0),
    ((0, 4), 1),
    ((4, 0), 1),
    ((2, 0, 3), 1),
    ((0,), 0),
]


def draw(shape, dtype, seed=0, scale=3.0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)


def exact(x, axis):
    """softmax and log_softmax in float64."""
    x = np.atleast_1d(x.astype(np.float64))
    with np.errstate(all="ignore"):
        shifted = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
        e = np.exp(shifted)
        total = e.sum(axis=axis, keepdims=True)
        return e / total, shifted - np.log(total)


def accumulator_epsilon(dtype):
    return epsilon(np.float64 if np.dtype(dtype) == np.float64 else np.float32)


def softmax_bound(p, log_p, x, axis, dtype, log):
    # x - max is rounded once: eps |x - max| in the exponent, the same relative error in exp, plus 4 eps for exp and the
    # quotient. The sum of n terms adds n eps, and each time the running maximum grows another 6 eps, at most n times.
    eps = accumulator_epsilon(dtype)
    x = np.atleast_1d(x.astype(np.float64))
    spread = np.nan_to_num(np.abs(x - x.max(axis=axis, keepdims=True, initial=-np.inf)), posinf=0)
    n = x.shape[axis]
    relative = eps * (spread + (spread * p).sum(axis=axis, keepdims=True) + 7 * n + 16)
    if log:
        return relative + np.abs(log_p) * (epsilon(dtype) + 4 * eps)
    tiny = {"float16": 2.0**-25, "float32": 2.0**-149, "float64": 2.0**-1074, "bfloat16": 2.0**-134}[
        np.dtype(dtype).name
    ]
    return p * (relative + epsilon(dtype)) + 2 * tiny  # results below the smallest normal number


def backward_bound(grad, y, axis, dtype, log):
    eps = accumulator_epsilon(dtype)
    g, y = np.atleast_1d(grad.astype(np.float64)), np.atleast_1d(y.astype(np.float64))
    n = y.shape[axis]
    if log:
        p = np.exp(y)
        size = np.abs(g) + p * np.abs(g).sum(axis=axis, keepdims=True) * (1 + np.abs(y))
    else:
        size = np.abs(y) * (np.abs(g) + np.abs(g * y).sum(axis=axis, keepdims=True))
    return size * ((n + 8) * eps + epsilon(dtype)) + 2.0 ** (-25 if np.dtype(dtype) == np.float16 else -133)


def check_all(module, x, axis, what, config=None):
    dtype = x.dtype
    p, log_p = (a.reshape(x.shape) for a in exact(x, axis))
    grad = draw(x.shape, dtype, seed=1, scale=1.0)
    for name, want, log in (("softmax", p, False), ("log_softmax", log_p, True)):
        y = getattr(module, name)(x, axis=axis, config=config)
        assert y.dtype == dtype
        bound = softmax_bound(np.atleast_1d(p), np.atleast_1d(log_p), x, axis, dtype, log).reshape(x.shape)
        assert_close(y, want, bound, f"{what} {name} {x.shape} axis {axis}")
        dx = getattr(module, name + "_backward")(grad, y, axis=axis, config=config)
        g, r = np.atleast_1d(grad.astype(np.float64)), np.atleast_1d(y.astype(np.float64))
        if log:
            want = g - np.exp(r) * g.sum(axis=axis, keepdims=True)
        else:
            want = r * (g - (g * r).sum(axis=axis, keepdims=True))
        assert dx.dtype == dtype
        assert_close(
            dx,
            want.reshape(x.shape),
            backward_bound(grad, y, axis, dtype, log).reshape(x.shape),
            f"{what} {name}_backward {x.shape}",
        )


@by_schedule
@by_name
def test_against_float64(dtype, how):
    for shape, axis in PROBLEMS:
        x = draw(shape, dtype)
        check_all(reference, x, axis, "reference")
        with kernels.use("emulated", **how), kernels.trace() as ran:
            check_all(kernels, x, axis, "emulated")
        expected = ["softmax", "softmax_backward", "log_softmax", "log_softmax_backward"] if x.size else []
        assert ran.names == expected


@by_name
def test_every_tier(dtype):
    tiers = [
        (False, 1, 32, (40, 5), 1),
        (False, 2, 64, (9, 5), 1),
        (False, 8, 32, (9, 70), 1),
        (False, 32, 128, (9, 70), 1),
        (False, 64, 64, (3, 70), 1),
        (False, 512, 512, (2, 3000), 1),
        (False, 128, 128, (3, 8), 1),
        (True, 1, 32, (2, 9, 33), 1),
        (True, 4, 128, (2, 9, 33), 1),
        (True, 16, 512, (2, 50, 7), 1),
        (True, 32, 32, (70, 3), 0),
        (True, 2, 64, (5, 6), 1),
    ]
    for index, (columns, team, block, shape, axis) in enumerate(tiers):
        with kernels.use("emulated", **schedule(index)), kernels.trace() as ran:
            config = extension_for(np.zeros(1)).SoftmaxConfig(columns=columns, team=team, block=block)
            check_all(kernels, draw(shape, dtype), axis, repr(config), config)
        assert {launch.config for launch in ran} == {repr(config)}


def test_config():
    with kernels.use("emulated", device="A100"):
        ext = extension_for(np.zeros(1))
        assert repr(ext.softmax_config(1, 10, 1)) == "softmax(columns=False, team=4, block=128)"
        assert repr(ext.softmax_config(1, 1024, 1)) == "softmax(columns=False, team=32, block=128)"
        assert repr(ext.softmax_config(64, 32768, 1)) == "softmax(columns=False, team=512, block=512)"
        assert repr(ext.softmax_config(64, 64, 4096)) == "softmax(columns=True, team=1, block=128)"
        assert repr(ext.softmax_config(1, 1000, 8)) == "softmax(columns=True, team=16, block=512)"
        for columns, team, block in (
            (False, 3, 96),
            (False, 64, 128),
            (True, 1, 1024),
            (True, 1, 0),
            (False, 0, 32),
            (True, 64, 32),
            (False, -1, 32),
        ):
            with pytest.raises(ValueError, match="team"):
                ext.SoftmaxConfig(columns=columns, team=team, block=block)
        with pytest.raises(ValueError, match="last in memory"):
            kernels.softmax(
                np.zeros((2, 3, 4), np.float32), axis=1, config=ext.SoftmaxConfig(columns=False, team=32, block=32)
            )
        with pytest.raises(ValueError, match="softmax alone"):
            kernels.cross_entropy(
                np.zeros((2, 3), np.float32),
                np.zeros(2, np.int64),
                config=ext.SoftmaxConfig(columns=True, team=1, block=32),
            )


@by_name
def test_memory_orders(dtype):
    """Strided, transposed, reversed, broadcast, and misaligned inputs give what their copies give."""
    base = draw((6, 10, 12), dtype)
    raw = np.zeros(base.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(base.tobytes(), np.uint8)
    shifted = raw[1:].view(dtype).reshape(base.shape)  # at an odd address
    row = draw(12 * 9 + 1, dtype)[1:].reshape(9, 12)  # rows not on 16 bytes
    views = [
        (base[:, ::2, 1:], 2),
        (base[:, ::-1, ::-2], 2),
        (base.transpose(2, 0, 1), 1),
        (base[0].T, 1),
        (base[0].T, 0),
        (row, 1),
        (np.broadcast_to(base[:1], base.shape), 1),
        (shifted, 2),
        (base.transpose(1, 2, 0)[::2], 1),
    ]
    for i, (view, axis) in enumerate(views):
        with kernels.use("emulated", **schedule(i)):
            check_all(kernels, view, axis, f"view {i}")
        check_all(reference, view, axis, f"reference view {i}")


@by_name
@pytest.mark.parametrize("axis", [0, 1])
def test_special_rows(dtype, axis):
    """Infinities, NaN and ties, at lengths of every tier: as PyTorch has them."""
    inf, nan = np.inf, np.nan
    big = 6e4 if dtype == np.float16 else 1e38
    for n in (4, 37, 2100):
        x = np.zeros((8, n))
        x[0], x[1, n // 2], x[2, n - 1], x[3, 1:] = -inf, inf, nan, -inf
        x[4], x[5], x[5, 0], x[6], x[6, n // 2] = nan, -big, big, big, -inf
        x[7, 0] = x[7, -1] = inf
        x = x.astype(dtype)
        want = np.full((8, n), nan)
        want[3], want[3, 0], want[5], want[5, 0] = 0, 1, 0, 1
        want[6], want[6, n // 2] = 1 / (n - 1), 0
        with np.errstate(all="ignore"):
            log_want = np.log(want)
            log_want[5, 1:] = (
                np.float64(x[5, 1:].astype(np.float64) - x[5, :1].astype(np.float64)).astype(dtype)
                if dtype == np.float64
                else (x[5, 1:].astype(np.float32) - x[5, :1].astype(np.float32)).astype(dtype)
            )
        x = np.ascontiguousarray(x.T) if axis == 0 else x
        want, log_want = (want.T, log_want.T) if axis == 0 else (want, log_want)
        finite = np.where(np.isfinite(log_want), np.abs(log_want), 0)
        eps = epsilon(dtype) + (7 * n + 16) * accumulator_epsilon(dtype)
        with kernels.use("emulated", **schedule(n)):
            for module in (kernels, reference):
                assert_close(module.softmax(x, axis=axis), want, want * eps, module.__name__)
                assert_close(module.log_softmax(x, axis=axis), log_want, (finite + 1) * eps, module.__name__)


def exact_cross_entropy(x, target, weight, ignore_index, smoothing):
    _, log_p = exact(x, 1)
    w = np.ones(x.shape[1]) if weight is None else weight.astype(np.float64)
    loss, gradient = np.zeros(len(x)), np.zeros(x.shape)
    for i, t in enumerate(target.astype(np.int64)):
        if t == ignore_index:
            continue
        share = smoothing / x.shape[1] * w
        share[t] += (1 - smoothing) * w[t]
        loss[i] = -(share * log_p[i]).sum()
        gradient[i] = np.exp(log_p[i]) * share.sum() - share
    return loss, gradient


def check_cross_entropy(module, x, target, weight, ignore_index, smoothing, what, config=None):
    want, want_gradient = exact_cross_entropy(x, target, weight, ignore_index, smoothing)
    loss, gradient = module.cross_entropy(
        x,
        target,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=smoothing,
        with_gradient=True,
        config=config,
    )
    only, none = module.cross_entropy(
        x, target, weight=weight, ignore_index=ignore_index, label_smoothing=smoothing, config=config
    )
    assert none is None
    assert np.array_equal(only, loss), what
    assert loss.dtype == (np.float64 if x.dtype == np.float64 else np.float32)
    assert gradient.dtype == x.dtype
    # As softmax_bound, times the sum of the weights in front of logp; the smoothed sum is another sum over the classes.
    eps = accumulator_epsilon(x.dtype)
    x64 = x.astype(np.float64)
    spread = (x64.max(axis=1, initial=0) - x64.min(axis=1, initial=0)) if x.size else np.zeros(len(x))
    mass = 1.0 if weight is None else max(1.0, float(np.abs(weight).max()))
    bound = mass * (1 + spread) * eps * (8 * x.shape[1] + 24)
    assert_close(loss, want, bound, f"{what} loss")
    assert_close(
        gradient,
        want_gradient,
        bound[:, None] + np.abs(want_gradient) * epsilon(x.dtype) + 2.0**-25,
        f"{what} gradient",
    )


@by_schedule
@by_name
def test_cross_entropy(dtype, how):
    rng = np.random.default_rng(0)
    with kernels.use("emulated", **how):
        for n, (rows, classes) in enumerate([(1, 1), (5, 3), (7, 10), (3, 64), (2, 1100), (0, 4)]):
            x = draw((rows, classes), dtype)
            target = rng.integers(0, classes, rows).astype(
                [np.int64, np.int32, np.uint8][n % 3] if classes < 256 else np.int32
            )
            weight = rng.random(classes).astype(np.float32)
            ignore = int(target[0]) if rows > 1 else -100
            for w, i, s in (
                (None, -100, 0.0),
                (weight, ignore, 0.0),
                (None, ignore, 0.1),
                (weight, -100, 0.3),
                (weight, ignore, 1.0),
            ):
                for module in (reference, kernels):
                    check_cross_entropy(
                        module, x, target, w, i, s, f"{module.__name__} {(rows, classes)} ignore {i} smoothing {s}"
                    )


@by_name
def test_cross_entropy_tiers_and_strides(dtype):
    target = np.array([0, 4, 2], np.int64)
    weight = np.arange(1, 71, dtype=np.float32)[::2] / 70
    for i, (team, block) in enumerate([(1, 32), (4, 32), (32, 64), (64, 64), (512, 512)]):
        with kernels.use("emulated", **schedule(i)):
            config = extension_for(target).SoftmaxConfig(columns=False, team=team, block=block)
            for x in (
                draw((3, 35), dtype),
                draw((35, 3), dtype).T,
                draw((3, 80), dtype)[:, 1:71:2],
                draw((3, 48), dtype)[::-1, :35],
            ):
                check_cross_entropy(kernels, x, target, weight, -100, 0.1, f"{config}", config)


@pytest.mark.parametrize("bad", [5, -1, 2**40, -(2**62)])
def test_targets_out_of_range(bad):
    x = draw((3, 5), np.float32)
    target = np.array([1, bad, 2])
    for mode in ("reference", "emulated"):
        with kernels.use(mode):
            module = kernels if mode == "emulated" else reference
            with pytest.raises(IndexError, match="cross_entropy: target"):
                module.cross_entropy(x, target, with_gradient=True)
            module.cross_entropy(x, target, ignore_index=bad)  # the fault is not remembered
            with pytest.raises(IndexError, match="cross_entropy: target"):
                operations.cross_entropy(fastnet.tensor(x), fastnet.tensor(target))
            with pytest.raises(IndexError):
                module.cross_entropy(np.zeros((2, 0), np.float32), np.zeros(2, np.int64))


def test_bad_rows_leave_others_alone():
    """What a GPU gives until the fault is raised: zeros for the bad row, the right numbers for the others."""
    x, target = draw((3, 5), np.float32), np.array([1, 9, 2])
    with kernels.use("emulated"):
        ext = extension_for(x)
        loss, gradient, flag = (
            np.full(3, np.nan, np.float32),
            np.full((3, 5), np.nan, np.float32),
            np.zeros(1, np.int32),
        )
        ext.cross_entropy(loss, gradient, x, target, None, flag, -100, 0.1, ext.softmax_config(3, 5, 1), 0)
        assert flag[0] == 1
        assert loss[1] == 0
        assert not gradient[1].any()
        good, good_gradient = kernels.cross_entropy(x[::2], target[::2], label_smoothing=0.1, with_gradient=True)
        assert np.array_equal(loss[::2], good)
        assert np.array_equal(gradient[::2], good_gradient)


def test_the_same_bits_in_every_schedule():
    x, target = draw((5, 1500), np.float32), np.array([0, 3, 1499, 7, 7])
    results = []
    for how in SCHEDULES:
        with kernels.use("emulated", **how):
            results.append(
                [
                    kernels.softmax(x),
                    kernels.softmax(x, axis=0),
                    *kernels.cross_entropy(x, target, label_smoothing=0.1, with_gradient=True),
                ]
            )
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert np.array_equal(a, b)


def test_bad_arguments():
    x, t = np.zeros((2, 3), np.float32), np.zeros(2, np.int64)
    cases = [
        (TypeError, "x is a list", lambda: kernels.softmax([1.0])),
        (TypeError, "x is a NoneType", lambda: kernels.log_softmax(None)),
        (TypeError, "int64", lambda: kernels.softmax(t)),
        (TypeError, "byte order", lambda: kernels.softmax(x.astype(">f4"))),
        (ValueError, "axis is 2", lambda: kernels.softmax(x, axis=2)),
        (IndexError, "axis is -3", lambda: kernels.softmax(x, axis=-3)),
        (TypeError, None, lambda: kernels.softmax(x, axis=0.5)),
        (TypeError, "grad has dtype", lambda: kernels.softmax_backward(x.astype(np.float64), x)),
        (ValueError, "grad has shape", lambda: kernels.log_softmax_backward(x[:1], x)),
        (ValueError, "logits has 1 dimensions", lambda: kernels.cross_entropy(x[0], t)),
        (TypeError, "target has dtype float32", lambda: kernels.cross_entropy(x, x[:, 0])),
        (ValueError, "target has 1 elements", lambda: kernels.cross_entropy(x, t[:1])),
        (ValueError, "weight has 2 elements", lambda: kernels.cross_entropy(x, t, weight=x[:, 0])),
        (TypeError, "weight has dtype", lambda: kernels.cross_entropy(x, t, weight=np.zeros(3, np.int32))),
        (ValueError, "label_smoothing", lambda: kernels.cross_entropy(x, t, label_smoothing=1.5)),
        (ValueError, "label_smoothing", lambda: kernels.cross_entropy(x, t, label_smoothing=float("nan"))),
        (ValueError, "ignore_index", lambda: kernels.cross_entropy(x, t, ignore_index=2**63)),
        (TypeError, None, lambda: kernels.cross_entropy(x, t, ignore_index=None)),
        (TypeError, None, lambda: kernels.cross_entropy(x, t, config=3)),
    ]
    with kernels.use("emulated"):
        for kind, text, call in cases:
            with pytest.raises(kind, match=text):
                call()


# ---- the differentiable operations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reference", "emulated"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_operations_against_pytorch(mode, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    F, T = operations, torch.nn.functional
    rng = np.random.default_rng(3)
    bound = 1e-13 if dtype == "float64" else 1e-5  # some 50 eps at values of at most 10, 20 classes

    def compare(call, *arrays):
        mine = [fastnet.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
        theirs = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
        got, want = call(F, fastnet, *mine), call(T, torch, *theirs)
        assert tuple(got.shape) == tuple(want.shape)
        assert got.dtype.name == str(want.dtype).removeprefix("torch.")
        upstream = np.asarray(rng.standard_normal(tuple(want.shape))).astype(dtype)
        got.backward(fastnet.tensor(upstream))
        want.backward(torch.tensor(upstream))
        assert_close(got.detach().numpy(), want.detach().numpy(), bound)
        for a, b in zip(mine, theirs, strict=True):
            if b.grad is not None:
                assert_close(a.grad.numpy(), b.grad.numpy(), bound)

    x3, x2 = rng.standard_normal((2, 5, 4)).astype(dtype), rng.standard_normal((6, 5)).astype(dtype)
    t3, t2 = rng.integers(0, 5, (2, 4)), np.array([0, 1, -100, 4, 4, 2])
    weight = rng.random(5).astype(dtype)
    probabilities = rng.random((6, 5)).astype(dtype)
    with kernels.use(mode):
        for dim in (0, 1, -1):
            compare(lambda F, m, x, dim=dim: F.softmax(x, dim=dim), x3)
            compare(lambda F, m, x, dim=dim: F.log_softmax(x, dim=dim), x3)
        for reduction in ("mean", "sum", "none"):
            for s in (0.0, 0.2):
                for w in (None, weight):

                    def loss(F, m, x, t, w=w, s=s, reduction=reduction):
                        return F.cross_entropy(
                            x, t, weight=None if w is None else m.tensor(w), label_smoothing=s, reduction=reduction
                        )

                    compare(loss, x2, t2)
                    compare(loss, x3, t3)
                    compare(loss, x2[0], np.array(3))
                    compare(lambda F, m, x, t, f=loss: f(F, m, x, t), x2, probabilities)
            for w in (None, weight):
                for x, t in ((x2, t2), (x3, t3), (x2[0], np.array(2))):
                    compare(
                        lambda F, m, x, t, w=w, r=reduction: F.nll_loss(
                            x, t, weight=None if w is None else m.tensor(w), reduction=r
                        ),
                        x,
                        t,
                    )
        all_ignored = np.full(6, -100)
        mine, theirs = (
            F.cross_entropy(fastnet.tensor(x2), fastnet.tensor(all_ignored)),
            T.cross_entropy(torch.tensor(x2), torch.tensor(all_ignored)),
        )
        assert np.isnan(mine.item())
        assert np.isnan(theirs.item())


@pytest.mark.parametrize("mode", ["reference", "emulated"])
def test_gradients_against_differences(mode):
    """Central differences of a random projection, float64: error about h^2 and eps / h, 1e-9 at h = 1e-5 to 1e-6."""
    F = operations
    rng = np.random.default_rng(0)
    target = fastnet.tensor([1, 0, 3])
    weight = fastnet.tensor(rng.random(4))
    functions = [
        lambda x: F.softmax(x, dim=1),
        lambda x: F.softmax(x, dim=0),
        lambda x: F.log_softmax(x, dim=1),
        lambda x: F.log_softmax(x, dim=0),
        lambda x: F.cross_entropy(x, target, weight, label_smoothing=0.1),
        lambda x: F.cross_entropy(x, target, reduction="none", ignore_index=3),
        lambda x: F.nll_loss(x, target, weight),
    ]
    with kernels.use(mode):
        for f in functions:
            x = rng.standard_normal((3, 4))
            leaf = fastnet.tensor(x, requires_grad=True)
            out = f(leaf)
            upstream = np.asarray(rng.standard_normal(tuple(out.shape)))
            out.backward(fastnet.tensor(upstream))
            for index in np.ndindex(x.shape):
                ends = []
                for h in (1e-5, -1e-5):
                    moved = x.copy()
                    moved[index] += h
                    ends.append((f(fastnet.tensor(moved)).numpy() * upstream).sum())
                assert abs((ends[0] - ends[1]) / 2e-5 - leaf.grad.numpy()[index]) < 1e-8


def test_cross_entropy_backward_twice():
    """The kept gradient is scaled, not consumed."""
    x = fastnet.tensor(draw((3, 4), np.float32), requires_grad=True)
    loss = operations.cross_entropy(x, fastnet.tensor([0, 1, 2]))
    loss.backward(retain_graph=True)
    first = x.grad.numpy().copy()
    x.grad = None
    loss.backward()
    assert np.array_equal(first, x.grad.numpy())


def test_operations_refuse():
    F = operations
    x, t = fastnet.zeros(2, 3), fastnet.tensor([0, 1])
    for kind, call in [
        (TypeError, lambda: F.softmax(t, dim=0)),
        (TypeError, lambda: F.softmax(None, dim=0)),
        (IndexError, lambda: F.softmax(x, dim=2)),
        (ValueError, lambda: F.cross_entropy(x, t, reduction="max")),
        (ValueError, lambda: F.cross_entropy(x, t[:1])),
        (ValueError, lambda: F.cross_entropy(x, fastnet.zeros(3, 3))),
        (TypeError, lambda: F.cross_entropy(x, t > 0)),
        (ValueError, lambda: F.cross_entropy(x, t, weight=fastnet.ones(2))),
        (ValueError, lambda: F.cross_entropy(x, t, label_smoothing=-0.1)),
        (ValueError, lambda: F.cross_entropy(fastnet.tensor(1.0), fastnet.tensor(0))),
        (TypeError, lambda: F.nll_loss(x, x)),
        (TypeError, lambda: F.cross_entropy(x, None)),
        (IndexError, lambda: F.nll_loss(x, t + 5)),
        (TypeError, lambda: F.nll_loss(t, t)),
    ]:
        with pytest.raises(kind):
            call()
    with pytest.warns(UserWarning, match="Implicit dimension"):
        F.softmax(x)
