"""What attention's kernels on tensor cores copy: each tile brings the rows it owns once and, of the others, those that
it sees, by cp.async (sm80) or TMA (sm90). The bytes are of the emulator's statistics, which leave out kernel arguments.
"""

import pytest
from support import bfloat16
from test_attention import inputs

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


def rows_brought(tile, causal, of_keys=False):
    """Rows of the other side that all tiles of a head bring: under causality, up to a tile's last query,
    or from its first key on."""
    rows, at_once = tile
    total = 0
    for first in range(0, LENGTH, rows):
        end = -(-(first + rows) // at_once) * at_once
        total += (LENGTH - first // at_once * at_once if of_keys else end) if causal else LENGTH
    return total


@pytest.mark.parametrize("causal", ["none", "top_left"])
@pytest.mark.parametrize(("family", "width"), TILES)
def test_copies_are_what_tiles_must_bring(family, width, causal):
    q, k, v, grad = inputs((1, 2, 2, LENGTH, LENGTH, width, width), bfloat16)
    ext = extension_for(q)
    config = ext.AttentionConfig(family=family, stages=4 if family == "sm90" else 2)
    row, pair = width * 2, 2 * width * 2  # bytes of a row of one operand, of two
    forward, of_queries, of_keys = TILES[family, width]
    least = {
        "forward": LENGTH * row + rows_brought(forward, causal == "top_left") * pair,
        "backward": LENGTH * 2 * pair
        + rows_brought(of_queries, causal == "top_left") * pair
        + rows_brought(of_keys, causal == "top_left", of_keys=True) * (pair + 8),  # lse and delta come along
    }
    with kernels.use("emulated", device=DEVICES[family]):
        ext.reset_stats()
        out, lse = kernels.attention(q, k, v, causal=causal, config=config)
        copied = {"forward": ext.stats()}
        ext.reset_stats()
        kernels.attention_backward(grad, q, k, v, out, lse, causal=causal, config=config)
        copied["backward"] = ext.stats()
    for direction, stats in copied.items():
        got, want = stats["cp_async_bytes"] + stats["tma_bytes"], 2 * least[direction]
        assert stats["tma_bytes" if family == "sm90" else "cp_async_bytes"] > 0
        assert 0.95 * want < got < 1.1 * want, f"{direction}: {got} bytes, {got / want:.3f} of the least"
