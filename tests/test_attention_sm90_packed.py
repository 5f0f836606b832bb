"""Packed sequences in attention's sm90 family, emulated, against float64: lengths below and beyond a tile, and of zero,
every width and feature, in every schedule; a neighbour's NaN and infinities; faulty lengths; which problems come here.
"""

import numpy as np
import pytest
from support import SCHEDULES, bfloat16, schedule
from test_attention_features import check_packed, packed
from test_attention_sm80 import PACKED

from fastnet import kernels
from fastnet.kernels._runtime import extension_for

DTYPES = [np.float16, bfloat16]
LENGTHS = [(70, 150), (0, 3), (4, 0), (1, 1), (200, 66)]  # PACKED's slopes are of five
WIDTHS = (8, 72, 136)


def of_family(**how):
    return extension_for(np.empty(0)).AttentionConfig(**({"family": "sm90", "stages": 4} | how))


@pytest.mark.parametrize("index", range(6))
def test_packed_sequences_in_every_schedule(index):
    for number, (name, options) in enumerate(PACKED.items()):
        dtype, width = DTYPES[(number + index) % 2], WIDTHS[(number * 2 + index // 2) % 3]
        with kernels.use("emulated", device="H200", **schedule(index)):
            how = dict(heads=(2, 1), d=width, dv=16, seed=number, config=of_family(max_blocks=1 + number * 4))
            check_packed(kernels, LENGTHS, dtype, name, **how, **options)


@pytest.mark.parametrize("causal", ["none", "top_left", "bottom_right"])
@pytest.mark.parametrize("width", WIDTHS)
def test_same_bits_in_every_schedule(width, causal):
    (q, k, v, grad), starts = packed(LENGTHS, 3, 1, width, 16, bfloat16, 0)
    found = set()
    for blocks, how in enumerate(SCHEDULES, 1):
        options = {"causal": causal, "config": of_family(max_blocks=blocks)}
        with kernels.use("emulated", device="H200", **how):
            out, lse = kernels.attention_varlen(q, k, v, *starts, 200, 150, **options)
            results = kernels.attention_varlen_backward(grad, q, k, v, out, lse, *starts, 200, 150, **options)
        found.add(b"".join(x.tobytes() for x in (out, lse, *results)))
    assert len(found) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("options", [{}, {"causal": "bottom_right"}, {"softcap": 5.0, "window_size": (20, 20)}])
@pytest.mark.parametrize("width", [16, 128, 256])
def test_sequences_do_not_read_each_other(width, options, bad):
    """A tile's last rows would be a neighbour's, or of no sequence, and come through products with probabilities that
    are zero. Results there are the neighbour's, or zeros, and not this sequence's."""
    rng = np.random.default_rng(0)
    q, k, v, grad = (rng.standard_normal((320, 2, width)).astype(np.float16) for _ in range(4))
    mine, theirs, nobody = np.r_[0:30, 50:200], np.r_[30:50, 200:301], np.r_[301:320]
    clean = [x.copy() for x in (q, k, v, grad)]
    for x in (q, k, v, grad):
        x[np.r_[theirs, nobody]] = bad
    starts = np.array([0, 30, 50, 200, 301], np.int32)
    found = []
    for arrays in ((q, k, v, grad), clean):
        with kernels.use("emulated", device="H200"):
            out, lse = kernels.attention_varlen(*arrays[:3], starts, starts, 150, 150, config=of_family(), **options)
            results = kernels.attention_varlen_backward(
                arrays[3], *arrays[:3], out, lse, starts, starts, 150, 150, config=of_family(), **options
            )
        found.append((out, *results))
    for x, want in zip(*found, strict=True):
        assert np.isfinite(x[mine]).all()
        assert x[mine].tobytes() == want[mine].tobytes()
        assert np.isnan(x[theirs]).any()
        assert (x[nobody] == 0).all()


def test_lengths_that_do_not_fit():
    rng = np.random.default_rng(0)
    q, k, v, grad = (rng.standard_normal((6, 1, 8)).astype(np.float16) for _ in range(4))
    good = np.array([0, 2, 4, 6], np.int32)
    with kernels.use("emulated", device="H200"):
        out, lse = kernels.attention_varlen(q, k, v, good, good, 4, 4, config=of_family())
        for starts in ([0, 3, 2, 6], [0, 2, 5, 9], [-1, 2, 4, 6], [0, 1, 6, 6]):
            bad = np.array(starts, np.int32)
            for pair in ((bad, good), (good, bad)):
                with pytest.raises(IndexError, match="cu_seqlens"):
                    kernels.attention_varlen(q, k, v, *pair, 4, 4, config=of_family())
                with pytest.raises(IndexError, match="cu_seqlens"):
                    kernels.attention_varlen_backward(grad, q, k, v, out, lse, *pair, 4, 4, config=of_family())


def test_memory_orders():
    """One array of queries, keys and values; rows apart by more than they are long; heads before tokens."""
    lengths = [(70, 70), (33, 33)]
    arrays, starts = packed(lengths, 2, 2, 64, 64, bfloat16, 0)
    together = np.stack(arrays, axis=1)
    apart = [np.concatenate([x[..., :8], x], axis=2)[..., 8:] for x in arrays]
    turned = [np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2) for x in arrays]
    found = set()
    for q, k, v, grad in (arrays, [together[:, i] for i in range(4)], apart, turned):
        with kernels.use("emulated", device="H200"):
            out, lse = kernels.attention_varlen(q, k, v, *starts, 70, 70, causal="top_left", config=of_family())
            results = kernels.attention_varlen_backward(
                grad, q, k, v, out, lse, *starts, 70, 70, causal="top_left", config=of_family()
            )
        found.add(b"".join(np.ascontiguousarray(x).tobytes() for x in (out, lse, *results)))
    assert len(found) == 1


def test_what_comes_here():
    """On Hopper, packed sequences that TMA can bring; maxima of zero are no error."""
    (q, k, v, grad), starts = packed([(3, 5), (4, 2)], 2, 2, 24, 24, np.float16, 0)
    none = np.zeros(3, np.int32)
    cases = [
        (q, starts, (4, 5), "H200", "sm90"),
        (q, starts, (4, 5), "A100", "sm80"),
        (np.repeat(q, 2, axis=2)[..., ::2], starts, (4, 5), "H200", "sm80"),
        (q, (none, starts[1]), (0, 5), "H200", "sm90"),
        (q, (starts[0], none), (4, 0), "H200", "sm90"),
    ]
    for queries, where, longest, device, family in cases:
        with kernels.use("emulated", device=device), kernels.trace() as ran:
            out, lse = kernels.attention_varlen(queries, k, v, *where, *longest)
            results = kernels.attention_varlen_backward(grad, queries, k, v, out, lse, *where, *longest)
        assert [family in str(launch.config) for launch in ran.launches] == [True, True]
        if 0 in longest:
            assert all((x == 0).all() for x in (out, *results))
