"""What attention's kernels on tensor cores bring from global memory: each tile the rows it owns once and, of the
others, those that it sees, by cp.async (sm80) or TMA (sm90); and each score its element of a mask. Copied bytes are of
the emulator's statistics, which leave out kernel arguments; those of masks of the golden counters.
"""

import json

import numpy as np
import pytest
from support import bfloat16
from test_attention import inputs
from test_counters import GOLDEN

from fastnet import kernels
from fastnet.kernels._runtime import extension_for

LENGTH = 384  # of queries and keys: of whole tiles, whichever they are
DEVICES = {"sm80": "A100", "sm90": "H200"}
# Rows that a tile owns and rows that it takes at a time, by head dimension: of queries forward and for dq, of keys for
# dk and dv (csrc/attention/attention_sm80_config.h, attention_sm90_config.h).
TILES = {
    ("sm80", 64): ((128, 64), (64, 64), (64, 64)),
    ("sm80", 128): ((128, 64), (64, 32), (64, 32)),
    ("sm90", 64): ((192, 128), (192, 64), (128, 64)),
    ("sm90", 128): ((128, 128), (128, 64), (128, 48)),
}
# Where there are masks, biases, caps or dropout.
FEATURED = {
    ("sm90", 64): ((128, 128), (128, 64), (128, 64)),
    ("sm90", 128): ((128, 128), (128, 64), (128, 32)),
}


def rows_brought(tile, causal, of_keys=False):
    """Rows of the other side that all tiles of a head bring: under causality, up to a tile's last query,
    or from its first key on."""
    rows, at_once = tile
    total = 0
    for first in range(0, LENGTH, rows):
        end = -(-(first + rows) // at_once) * at_once
        total += (LENGTH - first // at_once * at_once if of_keys else end) if causal else LENGTH
    return total


OPTIONS = {
    "plain": {},
    "packed": {},
    "mask": {"mask": np.ones((1, 1, LENGTH, LENGTH), bool)},
    "features": {"softcap": 2.0, "alibi_slopes": np.ones(2, np.float32)},
    "dropout": {"dropout_p": 0.3, "state": np.array([7, 3], np.uint64)},
}


@pytest.mark.parametrize(("causal", "what"), [("none", "plain"), *(("top_left", what) for what in OPTIONS)])
@pytest.mark.parametrize(("family", "width"), TILES)
def test_copies_are_what_tiles_must_bring(family, width, causal, what):
    """Heads, or in packed form sequences, are two."""
    packed = what == "packed"
    q, k, v, grad = inputs(
        (2, 1, 1, LENGTH, LENGTH, width, width) if packed else (1, 2, 2, LENGTH, LENGTH, width, width), bfloat16
    )
    functions, packing = (kernels.attention, kernels.attention_backward), ()
    if packed:
        q, k, v, grad = (x.transpose(0, 2, 1, 3).reshape(2 * LENGTH, 1, width) for x in (q, k, v, grad))
        functions = kernels.attention_varlen, kernels.attention_varlen_backward
        starts = np.array([0, LENGTH, 2 * LENGTH], np.int32)
        packing = starts, starts, LENGTH, LENGTH
    ext = extension_for(q)
    options = {"causal": causal, **OPTIONS[what]}
    options["config"] = ext.AttentionConfig(family=family, stages=4 if family == "sm90" else 2)
    row, pair = width * 2, 2 * width * 2  # bytes of a row of one operand, of two
    forward, of_queries, of_keys = TILES[family, width]
    if what != "plain" and family == "sm90":
        forward = FEATURED[family, width][0]
        if not packed:
            of_queries, of_keys = FEATURED[family, width][1:]
    least = {
        "forward": LENGTH * row + rows_brought(forward, causal == "top_left") * pair,
        "backward": LENGTH * 2 * pair
        + rows_brought(of_queries, causal == "top_left") * pair
        + rows_brought(of_keys, causal == "top_left", of_keys=True) * (pair + 8),  # lse and delta come along
    }
    with kernels.use("emulated", device=DEVICES[family]):
        ext.reset_stats()
        out, lse = functions[0](q, k, v, *packing, **options)
        copied = {"forward": ext.stats()}
        ext.reset_stats()
        functions[1](grad, q, k, v, out, lse, *packing, **options)
        copied["backward"] = ext.stats()
    for direction, stats in copied.items():
        got, want = stats["cp_async_bytes"] + stats["tma_bytes"], 2 * least[direction]
        assert stats["tma_bytes" if family == "sm90" else "cp_async_bytes"] > 0
        assert 0.95 * want < got < 1.1 * want, f"{direction}: {got} bytes, {got / want:.3f} of the least"


@pytest.mark.parametrize("direction", ["attention", "attention_backward"])
@pytest.mark.parametrize(("what", "item"), [("mask", 1), ("bias", 2)])
@pytest.mark.parametrize("family", DEVICES)
def test_masks_are_read_once_a_product(family, what, item, direction):
    """Beyond what the same problem reads without one: two heads' elements, in backward for dq and again for dk and dv.
    The gradient of a bias is written once, in float32."""
    golden = json.loads(GOLDEN.read_text())
    plain, masked = (golden[f"{direction}: {family} {x} bfloat16"] for x in ("grouped", what))
    elements, backward = 2 * 384 * 256, direction == "attention_backward"
    read, written = (masked[way]["bytes"] - plain[way]["bytes"] for way in ("global read", "global write"))
    least = elements * item * (2 if backward else 1)
    assert least <= read < 1.1 * least
    assert written == (elements * 4 if backward and what == "bias" else 0)
