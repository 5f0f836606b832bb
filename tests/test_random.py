"""Random numbers: known answers, equality of implementations, distributions, generators."""

import numpy as np
import pytest
from support import SCHEDULES, bfloat16

import fastnet
from fastnet import kernels, reference
from fastnet.reference.random import philox

STATE = np.array([0xDEADBEEFCAFE, 2**33 + 5], np.uint64)
SHAPES = [(), (1,), (5,), (0, 3), (4, 7), (1000,)]

# Random123's published known answers for philox4x32-10: counter (low, high), key, words.
KNOWN = [
    (0, 0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (2**64 - 1, 2**64 - 1, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (0x85A308D3243F6A88, 0x0370734413198A2E, 0x299F31D0A4093822, "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("low", "high", "key", "words"), KNOWN)
def test_known_answers(low, high, key, words):
    block, seed, offset = (np.array([v], np.uint64) for v in (low, key, high))
    assert " ".join(f"{w:08x}" for w in philox(block, seed, offset)[0]) == words


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
def test_bits_uniforms_and_permutations_are_equal_bit_for_bit(how):
    for shape in SHAPES:
        with kernels.use("emulated", **how):
            bits = kernels.random_bits(shape, STATE, 11)
            uniforms = {
                d: kernels.uniform(shape, STATE, 2, low=-1.5, high=2.5, dtype=d)
                for d in (np.float32, np.float64, np.float16, bfloat16)
            }
        np.testing.assert_array_equal(bits, reference.random_bits(shape, STATE, 11))
        for dtype, got in uniforms.items():
            want = reference.uniform(shape, STATE, 2, low=-1.5, high=2.5, dtype=dtype)
            assert got.dtype == want.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(got, want)
    with kernels.use("emulated", **how):
        for n in (0, 1, 2, 37, 500):
            p = kernels.permutation(n, STATE, 1)
            np.testing.assert_array_equal(p, reference.permutation(n, STATE, 1))
            np.testing.assert_array_equal(np.sort(p), np.arange(n))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, bfloat16], ids=lambda d: np.dtype(d).name)
def test_normals_agree_within_two_ulp(dtype):
    for shape in SHAPES:
        with kernels.use("emulated"):
            got = kernels.normal(shape, STATE, 3, mean=0.5, std=2.0, dtype=dtype)
        want = reference.normal(shape, STATE, 3, mean=0.5, std=2.0, dtype=dtype)
        assert got.dtype == want.dtype == np.dtype(dtype)
        spacing = np.abs(np.spacing(want.astype(np.float64) if dtype == np.float64 else want.astype(np.float32)))
        if dtype in (np.float16, bfloat16):
            np.testing.assert_array_equal(got, want)  # one rounding of values that differ by less
        else:
            assert (np.abs(got - want) <= 2 * spacing).all()


def test_elements_depend_on_place_alone():
    whole = reference.random_bits((1000,), STATE)
    np.testing.assert_array_equal(reference.random_bits((10,), STATE), whole[:10])
    np.testing.assert_array_equal(reference.random_bits((20, 50), STATE).reshape(-1), whole)
    assert (reference.random_bits((1000,), STATE, 1) != whole).mean() > 0.99
    moved = STATE + np.array([0, 1], np.uint64)
    np.testing.assert_array_equal(reference.random_bits((1000,), moved), reference.random_bits((1000,), STATE, 1))


def test_distributions():
    n = 1_000_000
    u = reference.uniform((n,), STATE, dtype=np.float64)
    assert u.min() >= 0
    assert u.max() < 1
    # Five standard deviations of each estimate.
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5
    assert abs(u.var() - 1 / 12) < 5 * (1 / 180 / n) ** 0.5
    z = reference.normal((n,), STATE, dtype=np.float64)
    assert abs(z.mean()) < 5 * n**-0.5
    assert abs(z.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 5 * (96 / n) ** 0.5
    assert abs(np.corrcoef(z[::2], z[1::2])[0, 1]) < 5 * (2 / n) ** 0.5
    counts = np.bincount(reference.random_bits((n,), STATE) >> np.uint32(24), minlength=256)
    assert ((counts - n / 256) ** 2 / (n / 256)).sum() < 255 + 5 * (2 * 255) ** 0.5


def test_generators():
    g = fastnet.Generator().manual_seed(3)
    a, b = fastnet.rand(4, generator=g), fastnet.rand(4, generator=g)
    assert (a != b).any()
    assert (fastnet.rand(4, generator=g.manual_seed(3)) == a).all()
    state = g.get_state()
    c = fastnet.randn(3, generator=g)
    assert (fastnet.randn(3, generator=g.set_state(state)) == c).all()
    fastnet.manual_seed(-1)
    assert fastnet.initial_seed() == 2**64 - 1
    kept = fastnet.get_rng_state()
    d = fastnet.rand(2)
    fastnet.set_rng_state(kept)
    assert (fastnet.rand(2) == d).all()
    for bad, error in ((2**64, RuntimeError), (1.5, TypeError), ("a", TypeError), (None, TypeError)):
        with pytest.raises(error):
            fastnet.manual_seed(bad)


def test_same_numbers_under_every_implementation():
    drawn = []
    for mode in ("reference", "emulated"):
        with kernels.use(mode):
            fastnet.manual_seed(9)
            drawn.append(
                [
                    fastnet.rand(5, 3).numpy(),
                    fastnet.randint(0, 10, (7,)).numpy(),
                    fastnet.randperm(11).numpy(),
                    fastnet.bernoulli(fastnet.full((20,), 0.3)).numpy(),
                    fastnet.zeros(4).uniform_(-1, 1).numpy(),
                    fastnet.multinomial(fastnet.tensor([1.0, 2.0, 3.0]), 5, replacement=True).numpy(),
                ]
            )
    for a, b in zip(*drawn, strict=True):
        np.testing.assert_array_equal(a, b)


def test_shapes_dtypes_and_ranges():
    assert fastnet.rand(2, 3).shape == (2, 3)
    assert fastnet.randn((2, 3), dtype=fastnet.float64).dtype is fastnet.float64
    assert fastnet.rand(3, requires_grad=True).requires_grad
    x = fastnet.randint(-3, 4, (1000,))
    assert x.dtype is fastnet.int64
    assert sorted(set(x.tolist())) == list(range(-3, 4))
    assert fastnet.randint(5, (2, 2)).shape == (2, 2)
    assert sorted(fastnet.randperm(6).tolist()) == list(range(6))
    assert sorted(fastnet.multinomial(fastnet.ones(2, 5), 5)[1].tolist()) == list(range(5))
    assert fastnet.normal(3.0, 0.0, (2,)).tolist() == [3, 3]
    assert fastnet.rand_like(fastnet.zeros(2, 2, dtype=fastnet.float16)).dtype is fastnet.float16


@pytest.mark.parametrize(
    "call",
    [
        lambda: fastnet.rand(-1),
        lambda: fastnet.randint(3, 3, (1,)),
        lambda: fastnet.randperm(-1),
        lambda: fastnet.rand(2, dtype=fastnet.int64),
        lambda: fastnet.bernoulli(fastnet.tensor([1.5])),
        lambda: fastnet.multinomial(fastnet.tensor([0.0, 0.0]), 1),
        lambda: fastnet.multinomial(fastnet.tensor([1.0, 0.0]), 2),
        lambda: fastnet.zeros(2).uniform_(1, 0),
        lambda: fastnet.zeros(2).normal_(0, -1),
        lambda: fastnet.rand(2, generator=3),
        lambda: fastnet.rand(2.5),
        lambda: kernels.random_bits((2,), STATE, "a"),
        lambda: kernels.random_bits((-1,), STATE),
        lambda: kernels.random_bits((2**40, 2**40), STATE),
        lambda: kernels.uniform((2,), STATE, dtype=np.int32),
    ],
)
def test_bad_input(call):
    with kernels.use("emulated"), pytest.raises((ValueError, TypeError, RuntimeError)):
        call()


def test_more_blocks_than_elements_end():
    """A launch has as many blocks as find work, however many a config names."""
    from fastnet import _emulated

    state = np.array([1, 0], np.uint64)
    with kernels.use("emulated"):
        most = _emulated.PointwiseConfig(vector=1, blocks=2**31 - 1)
        assert np.array_equal(kernels.random_bits((5,), state, config=most), reference.random_bits((5,), state))
        assert kernels.dropout_mask((5,), 0.5, state, config=most).shape == (5,)
        with pytest.raises(ValueError, match="blocks must be at least 1"):
            kernels.random_bits((5,), state, config=_emulated.PointwiseConfig(vector=1, blocks=0))
