"""rotary_embedding: emulated kernel and reference against float64 in every schedule, the operation and the layer."""

import copy
import pickle

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import kernels, nn, reference
from fastnet.autograd import gradcheck
from fastnet.kernels import _runtime
from fastnet.nn import functional as F

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
# batch, heads, length, d, half, places: one pair; odd sizes; whole vectors; elements that stay; many heads; long rows
PROBLEMS = [
    (1, 1, 1, 2, 1, 1),
    (2, 3, 5, 10, 5, 9),
    (2, 4, 7, 64, 32, 40),
    (1, 9, 3, 24, 8, 64),
    (3, 1, 2, 13, 6, 5),
    (1, 2, 4, 600, 300, 6),
]


def name(dtype):
    return np.dtype(dtype).name


def problem(rng, sizes, dtype):
    batch, heads, length, d, half, places = sizes
    angles = 3 * rng.standard_normal((places, half))
    acc = np.float64 if dtype == np.float64 else np.float32
    x = rng.standard_normal((batch, heads, length, d)).astype(dtype)
    return x, np.cos(angles).astype(acc), np.sin(angles).astype(acc)


def exact(x, cos, sin, places, interleaved, inverse=False):
    """In float64, pair by pair as complex numbers; places (B, T)."""
    half = cos.shape[1]
    want = x.astype(np.float64)
    turn = cos.astype(np.float64)[places] + (-1j if inverse else 1j) * sin.astype(np.float64)[places]
    first = np.arange(half) * (2 if interleaved else 1)
    second = first + (1 if interleaved else half)
    turned = (want[..., first] + 1j * want[..., second]) * turn[:, None]
    want[..., first], want[..., second] = turned.real, turned.imag
    return want


def bound(x, dtype):
    # Two products and a sum in the accumulator, each within one rounding of |a| + |b|; one rounding of the result.
    accumulate = epsilon(np.float64 if dtype == np.float64 else np.float32)
    size = 2 * np.abs(x.astype(np.float64)).max(initial=0)
    return size * (3 * accumulate + (0 if dtype in (np.float32, np.float64) else epsilon(dtype))) + 2.0**-25 * (
        dtype == np.float16
    )


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_kernel(dtype, how):
    rng = np.random.default_rng(0)
    for sizes in PROBLEMS:
        x, cos, sin = problem(rng, sizes, dtype)
        positions = rng.integers(0, sizes[5], (sizes[0], sizes[2]))
        for interleaved in (False, True):
            for inverse in (False, True):
                options = {"interleaved": interleaved, "inverse": inverse, "positions": positions, "count": False}
                with kernels.use("emulated", **how), kernels.trace() as ran:
                    got = kernels.rotary_embedding(x, cos, sin, **options)
                assert ran.names == ["rotary_embedding"]
                want = exact(x, cos, sin, positions, interleaved, inverse)
                for what, y in ("kernel", got), ("reference", reference.rotary_embedding(x, cos, sin, **options)):
                    assert y.dtype == x.dtype
                    assert_close(y, want, bound(x, dtype), f"{what} {sizes} {options}")


@pytest.mark.parametrize("dtype", DTYPES, ids=name)
def test_random_problems(dtype, full):
    """Strides, alignment, the three ways to say places, and configs."""
    rng = np.random.default_rng(1)
    extension = _runtime.extension_for(np.empty(0))
    for i in range(300 if full else 24):
        batch, heads, length = (int(rng.integers(1, high)) for high in (4, 10, 20))
        half = int(rng.integers(1, 40)) * int(rng.choice([1, 4]))
        d = 2 * half + int(rng.choice([0, 0, 3, 8]))
        x, cos, sin = problem(rng, (batch, heads, length, d, half, 50), dtype)
        if i % 4 == 1:  # (B, T, H, D) in memory, as a layer's product has it
            x = np.ascontiguousarray(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
        elif i % 4 == 2:  # every row starts off 16 bytes
            x = np.concatenate([x.ravel()[:1], x.ravel()])[1:].reshape(x.shape)
        elif i % 4 == 3:
            x, cos, sin = x[..., ::-1], np.asfortranarray(cos), sin[::-1]
        places = np.broadcast_to(np.arange(length), (batch, length))
        how: dict = {}
        if i % 3 == 0:
            how = {"offset": int(rng.integers(50 - length + 1))}
            places = places + how["offset"]
        elif i % 3 == 1:  # by sequence, as a cache has it
            how = {"positions": rng.integers(0, 50 - length + 1, (batch, 1), dtype=np.int32)}
            places = places + how["positions"]
        else:
            how = {"positions": rng.integers(0, 49, (1, length)), "count": False, "offset": 1}
            places = np.broadcast_to(how["positions"] + 1, (batch, length))
        how["interleaved"] = bool(i // 2 % 2)
        config = None
        if i % 2:
            config = extension.RotaryConfig(
                int(rng.choice([1, 8, 32])), int(rng.integers(1, 12)), int(rng.choice([1, 2, 8]))
            )
        with kernels.use("emulated", **schedule(i)):
            got = kernels.rotary_embedding(x, cos, sin, **how, config=config)
        want = exact(x, cos, sin, places, how["interleaved"])
        assert_close(got, want, bound(x, dtype), f"{i}")
        assert_close(reference.rotary_embedding(x, cos, sin, **how), want, bound(x, dtype), f"reference {i}")


def test_the_same_bits_in_every_schedule_and_config():
    rng = np.random.default_rng(2)
    x, cos, sin = problem(rng, (2, 7, 9, 72, 32, 20), np.float32)
    extension = _runtime.extension_for(np.empty(0))
    results = set()
    for how in SCHEDULES:
        for team, heads, rows in [(1, 1, 256), (8, 4, 4), (32, 7, 1), (256, 2, 1)]:
            with kernels.use("emulated", **how):
                config = extension.RotaryConfig(team=team, heads=heads, rows=rows)
                results.add(kernels.rotary_embedding(x, cos, sin, offset=3, config=config).tobytes())
    assert len(results) == 1


def test_what_is_not_finite_stays_in_its_pair():
    x = np.zeros((1, 1, 2, 6), np.float32)
    x[0, 0, 0, 1], x[0, 0, 1, 5] = np.nan, np.inf
    cos, sin = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    for implementation in (kernels, reference):
        with kernels.use("emulated"):
            out = implementation.rotary_embedding(x, cos, sin)
        np.testing.assert_array_equal(out[0, 0], [[0, np.nan, 0, np.nan, 0, 0], [0, 0, 0, 0, 0, np.inf]])


def test_configs():
    extension = _runtime.extension_for(np.empty(0))
    with kernels.use("emulated", device="H200"):
        assert str(extension.rotary_config(1, 32, 1, 64)) == "rotary(team=16, heads=1, rows=1)"
        rng = np.random.default_rng(3)
        for _ in range(300):
            batch, heads, length, half = (int(2 ** rng.uniform(0, high)) for high in (10, 8, 20, 12))
            config = extension.rotary_config(batch, heads, length, half)
            assert config.rows * config.team == 256 or length <= config.rows < 2 * length
            assert config.heads in (1, 2, 4)
            assert config.heads <= heads
            assert config.team * 4 >= min(half, 1024)
    for wrong in [(3, 1, 1), (512, 1, 1), (1, 0, 1), (8, 1, 64), (8, 1, 3)]:
        with pytest.raises(ValueError, match="rotary"):
            extension.RotaryConfig(*wrong)


@pytest.mark.parametrize("implementation", [kernels, reference], ids=["kernels", "reference"])
def test_bad_arguments(implementation):
    x, cos = np.ones((2, 1, 3, 8), np.float32), np.ones((4, 4), np.float32)
    call = implementation.rotary_embedding
    for wrong, error, message in [
        (lambda: call(x[0], cos, cos), ValueError, "x has 3 dimensions"),
        (lambda: call(x.astype(int), cos, cos), TypeError, "x has dtype int64"),
        (lambda: call(x.astype(np.float16), cos.astype(np.float16), cos), TypeError, "cos has dtype float16"),
        (lambda: call(x, cos, cos[:3]), ValueError, r"sin has shape \(3, 4\)"),
        (lambda: call(x[..., :7], cos, cos), ValueError, "turns 8 elements of a row, x has 7"),
        (lambda: call(x, cos, cos, offset=1.0), TypeError, "offset is a float"),
        (lambda: call(x, cos, cos, offset=-1), ValueError, "offset is -1"),
        (lambda: call(x, cos, cos, positions=np.zeros((2, 2), int)), ValueError, r"positions has shape \(2, 2\)"),
        (lambda: call(x, cos, cos, positions=np.zeros((2, 3))), TypeError, "positions has dtype float64"),
        (lambda: call(x, cos, cos, offset=2), IndexError, "rotary_embedding: a position is outside"),
        (lambda: call(x, cos, cos, positions=np.full((1, 1), -1)), IndexError, "a position is outside"),
    ]:
        with kernels.use("emulated"), pytest.raises(error, match=message):
            wrong()
    with kernels.use("emulated"), pytest.raises(TypeError, match="config is a int"):
        kernels.rotary_embedding(x, cos, cos, config=1)


# ---- the operation and the layer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reference", "emulated"])
@pytest.mark.parametrize("interleaved", [False, True])
def test_gradients(mode, interleaved):
    fastnet.manual_seed(0)
    angles = fastnet.randn(9, 3, dtype=fastnet.float64)
    cos, sin = angles.cos(), angles.sin()
    x = fastnet.randn(2, 2, 4, 8, dtype=fastnet.float64, requires_grad=True)
    with kernels.use(mode):
        for how in (
            {"offset": 5},
            {"offset": fastnet.tensor([1, 4])},
            {"positions": fastnet.tensor([3, 0, 8, 2])},
            {"positions": fastnet.tensor([[3, 0, 8, 2], [1, 1, 1, 1]])},
        ):
            assert gradcheck(lambda x, how=how: F.rotary_embedding(x, cos, sin, interleaved=interleaved, **how), [x])


def by_hand_in_torch(torch, x, base, interleaved):
    """The common formulation of either convention: x cos + rotate(x) sin."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] * base ** (-torch.arange(half, dtype=x.dtype) / half)
    if interleaved:
        turned = torch.view_as_complex(x.reshape(*x.shape[:-1], half, 2)) * torch.polar(torch.ones_like(angles), angles)
        return torch.view_as_real(turned).flatten(-2)
    cos, sin = (torch.cat([f(angles)] * 2, -1) for f in (torch.cos, torch.sin))
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


@pytest.mark.parametrize("interleaved", [False, True])
def test_the_layer_equals_the_formula_in_pytorch(interleaved):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = np.random.default_rng(0).standard_normal((2, 3, 11, 16))
    given = torch.tensor(x, requires_grad=True)
    want = by_hand_in_torch(torch, given, 500.0, interleaved)
    upstream = torch.linspace(-1, 1, want.numel(), dtype=want.dtype).reshape(want.shape)
    want.backward(upstream)
    layer = nn.RotaryEmbedding(16, max_seq_len=11, base=500.0, interleaved=interleaved)
    ours = fastnet.tensor(x, requires_grad=True)
    out = layer(ours)
    out.backward(fastnet.tensor(upstream.numpy()))
    np.testing.assert_allclose(out.detach().numpy(), want.detach().numpy(), atol=1e-13)
    np.testing.assert_allclose(ours.grad.numpy(), given.grad.numpy(), atol=1e-13)


def test_the_layer():
    layer = nn.RotaryEmbedding(8, max_seq_len=32)
    x = fastnet.randn(2, 3, 10, 12)
    whole = layer(x)
    assert (whole[..., 8:] == x[..., 8:]).all()
    # A token at a time, as with a cache; a place of its own for each sequence.
    for t in (0, 4, 9):
        assert (layer(x[:, :, t : t + 1], offset=t) == whole[:, :, t : t + 1]).all()
    both = fastnet.stack([x[0, :, 2:5], x[1, :, 6:9]])
    moved = layer(both, offset=fastnet.tensor([2, 6]))
    assert (moved == fastnet.stack([whole[0, :, 2:5], whole[1, :, 6:9]])).all()
    assert (layer(x[0]) == whole[0]).all()
    assert (layer(x[0, 0]) == whole[0, 0]).all()
    # Products of queries and keys depend on how far apart they stand alone.
    q, k = fastnet.randn(1, 8), fastnet.randn(1, 8)
    near = [(layer(q, offset=p + 3) * layer(k, offset=p)).sum().item() for p in (0, 7, 20)]
    np.testing.assert_allclose(near, near[0], rtol=1e-4, atol=1e-5)
    assert layer.state_dict() == {}
    # A 16-bit model turns by angles of float32.
    half = copy.deepcopy(layer).to(fastnet.bfloat16)(x.to(fastnet.bfloat16))
    wanted = layer(x.to(fastnet.bfloat16).float()).to(fastnet.bfloat16)
    assert (half == wanted).all()
    assert (pickle.loads(pickle.dumps(layer))(x) == whole).all()
    assert repr(nn.RotaryEmbedding(4, 9, 100.0, interleaved=True)) == (
        "RotaryEmbedding(4, max_seq_len=9, base=100, interleaved=True)"
    )
    cos = fastnet.ones(4, 2)
    for wrong, error, message in [
        (lambda: nn.RotaryEmbedding(3), ValueError, "dim is 3"),
        (lambda: nn.RotaryEmbedding(4, 0), ValueError, "max_seq_len is 0"),
        (lambda: nn.RotaryEmbedding(4, base=0), ValueError, "base is 0"),
        (lambda: layer(x, offset=30), IndexError, "outside the table"),
        (lambda: layer(x, offset=1, positions=fastnet.tensor([1])), ValueError, "both offset and positions"),
        (lambda: layer(x, offset=fastnet.tensor([[1]])), ValueError, "offset has shape"),
        (lambda: layer(x, positions=fastnet.zeros(1, 1, 1).long()), ValueError, "positions has shape"),
        (lambda: F.rotary_embedding(x[0, 0, 0], cos, cos), ValueError, "input has shape"),
        (lambda: F.rotary_embedding(x, cos.long(), cos), TypeError, "cos has dtype int64"),
    ]:
        with pytest.raises(error, match=message):
            wrong()
