"""Sectors, wavefronts, bank conflicts and bytes of every kernel on an aligned problem, held as golden numbers.

A GPU's speed on these kernels is decided by them, and they are the same in every schedule and on every machine. When a
change to a kernel changes them on purpose: ``PYTHONPATH=. python tests/test_counters.py`` writes
tests/golden/counters.json anew, and the difference is part of the change that is reviewed.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from variants import builds

GOLDEN = Path(__file__).parent / "golden" / "counters.json"


def counted() -> dict:
    done = builds.run_python("counters", "run_counters.py")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout)


def test_counters_are_golden():
    got, want = counted(), json.loads(GOLDEN.read_text())
    different = {k: (got.get(k), want.get(k)) for k in sorted(got | want) if got.get(k) != want.get(k)}
    assert not different, "\n".join(f"{k}: counted {g}, golden {w}" for k, (g, w) in different.items())


@pytest.mark.parametrize("function", ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"])
@pytest.mark.parametrize(
    ("family", "dtype", "item", "rows", "columns"),
    [
        ("general", "float32", 4, 32, 32),
        ("general", "bfloat16", 2, 32, 32),
        ("sm80", "float32", 4, 128, 64),
        ("sm80", "bfloat16", 2, 128, 128),
        ("sm90", "bfloat16", 2, 128, 128),
    ],
)
def test_convolutions_read_what_a_product_must(function, family, dtype, item, rows, columns):
    """A 3x3 layer of stride 1 (problems/conv.py): each of its tiles reads its rows of both operands once, and no
    fragment or copy waits for a bank."""
    counts = json.loads(GOLDEN.read_text())[f"{function}: {family} {dtype}"]
    pixels, channels, filters, places = 2 * 16 * 16, 64, 128, 9
    m, n, k = {
        "conv2d": (pixels, filters, places * channels),
        "conv2d_input_grad": (pixels, channels, places * filters),
        "conv2d_weight_grad": (filters, places * channels, pixels),
    }[function]
    if family != "sm90":  # whose bytes test_sm90_copies_what_a_product_must counts: TMA's are not among these
        least = (m * -(-n // columns) + n * -(-m // rows)) * k * item
        assert 0.85 * least < counts["global read"]["bytes"] < 1.15 * least  # padding is not read
    assert counts["shared write"]["ratio"] == 1
    assert counts["shared read"]["conflicts"] == counts["shared write"]["conflicts"] == 0
    if family != "general":  # where neighbouring threads share a sector, and quarters of a warp what they multiply
        assert counts["global read"]["ratio"] == 1
        assert counts["shared read"]["ratio"] == 1


def test_attention_has_no_bank_conflicts():
    """In any family. sm90 stages in shared memory by stmatrix and TMA, which are not counted."""
    golden = json.loads(GOLDEN.read_text())
    found = {k: {way: n["conflicts"] for way, n in v.items() if "conflicts" in n} for k, v in golden.items()}
    found = {k: v for k, v in found.items() if k.startswith("attention")}
    assert len(found) >= 78
    for name, ways in found.items():
        assert ways, name
        assert not any(ways.values()), f"{name}: {ways}"
        if "sm80" not in name and "sm90" not in name:
            assert all(golden[name][way]["ratio"] == 1 for way in ways), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_large_weights_leave_in_whole_sectors(dtype):
    """Small ones do not, whose places lie in other blocks' tiles (csrc/conv/conv_weight_grad_loader.cuh)."""
    golden = json.loads(GOLDEN.read_text())
    large, small = (golden[f"conv2d_weight_grad: sm80{more} {dtype}"]["global write"] for more in (" large", ""))
    assert large["ratio"] == 1
    assert large["bytes"] == 512 * 256 * 9 * (4 + {"float32": 4, "bfloat16": 2}[dtype])
    assert small["ratio"] <= 9


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_depthwise_convolutions_move_what_they_must(dtype):
    """No bank conflicts; a weight's gradient leaves in whole sectors, though it is summed place by place."""
    golden = json.loads(GOLDEN.read_text())
    for name in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad", "conv2d: moments"):
        function, *moments = name.split(":")
        counts = golden[f"{function}: depthwise{''.join(moments)} {dtype}"]
        assert counts["shared read"]["conflicts"] == counts["shared write"]["conflicts"] == 0, name
        assert counts["shared write"]["ratio"] == 1, name
        assert counts["global read"]["ratio"] < 1.1, name
        if not moments:
            assert counts["global write"]["ratio"] == 1, name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("window", ["3x3", "5x5", "7x7"])
def test_first_layers_gather_without_bank_conflicts(window, dtype):
    """Windows and their gradients are gathered from the patch without conflicts where a tile's rows are a multiple of
    8 results. 5x5's images are 28 wide: of gathers that see two rows of results, where no pitch serves both these and
    the window's rows (conv_few_channels.h), there are at most 64 bytes in 100. A weight's gradient is left in the order
    of the weight, not that of the sums: there, after the loop, two words may lie in a bank."""
    golden = json.loads(GOLDEN.read_text())
    forward, backward = (golden[f"{f}: first layer {window} {dtype}"] for f in ("conv2d", "conv2d_weight_grad"))
    gathers = 0.01 * forward["shared read"]["bytes"] / 64 if window == "5x5" else 0
    assert forward["shared read"]["conflicts"] <= gathers
    leaving = backward["global write"]["bytes"] / 128
    assert backward["shared read"]["conflicts"] <= gathers + 1.1 * leaving
    assert forward["shared write"]["ratio"] < 1.25  # rows of a patch that meet in a wavefront


# What hand counting gives: 32 floats in a column of a 32-wide tile lie in one bank; 32 floats 8 apart lie in 32
# sectors.
@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("column", "shared read 1 1 0"),
        ("column_conflict", "shared read 32 1 31"),
        ("coalesced", "global read 4 4 0"),
        ("uncoalesced", "global read 32 4 0"),
    ],
)
def test_counter_sees(case, line):
    done = subprocess.run([builds.cases("counters"), case], capture_output=True, text=True, check=True)
    assert line in done.stdout.splitlines(), done.stdout


# By hand: wavefronts, the fewest that hold the words, bank conflicts of a warp whose lane i, if below `lanes`, accesses
# `width` bytes at byte i / sharers * stride. 8-byte accesses go by half warps, 16-byte ones by quarter warps.
@pytest.mark.parametrize(
    ("width", "stride", "sharers", "lanes", "counts"),
    [
        (2, 2, 1, 32, (1, 1, 0)),  # two lanes share a word
        (2, 128, 2, 32, (16, 1, 15)),  # 16 words of one bank
        (4, 4, 1, 32, (1, 1, 0)),
        (4, 0, 1, 32, (1, 1, 0)),  # all lanes one word
        (4, 8, 1, 32, (2, 1, 1)),  # 2-way
        (4, 128, 1, 32, (32, 1, 31)),
        (4, 128, 1, 3, (3, 1, 2)),
        (8, 8, 1, 32, (2, 2, 0)),
        (8, 0, 1, 32, (2, 1, 0)),  # one phase a half warp, whatever is shared
        (8, 8, 1, 16, (1, 1, 0)),  # a half warp without lanes takes none
        (8, 16, 1, 32, (4, 2, 2)),  # 2-way in each half
        (8, 8, 2, 32, (2, 1, 0)),
        (8, 128, 16, 32, (2, 1, 0)),  # one bank, but in different phases
        (16, 16, 1, 32, (4, 4, 0)),
        (16, 0, 1, 32, (4, 1, 0)),
        (16, 16, 1, 8, (1, 1, 0)),
        (16, 32, 1, 32, (8, 4, 4)),  # 2-way in each quarter
        (16, 128, 1, 32, (32, 4, 28)),  # 8-way
        (16, 128, 8, 32, (4, 1, 0)),
        (16, 128, 4, 32, (8, 1, 4)),  # two rows of one quarter in the same banks
    ],
)
def test_counter_separates_bank_conflicts_from_width(width, stride, sharers, lanes, counts):
    done = subprocess.run(
        [builds.cases("counters"), f"access {width} {stride} {sharers} {lanes}"],
        capture_output=True,
        text=True,
        check=True,
    )
    for way in ("read", "write"):
        assert " ".join(["shared", way, *map(str, counts)]) in done.stdout.splitlines(), done.stdout


def test_the_benchmarks_count_a_small_case():
    """``fastnet bench`` without a GPU, under a counters build: what is counted, not the golden numbers, is shown."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from benchmarks import __main__, counters\n"
        "counters.stored = lambda function, dtype: {}\n"
        "__main__.main(['reduction', '--shapes', 'small', '--dtypes', 'float32', '--device', 'A100'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(builds.REPOSITORY)],
        capture_output=True,
        text=True,
        env=builds.sanitizer_environment("counters"),
    )
    assert done.returncode == 0, done.stderr
    assert "global 1.00/1.00" in " ".join(done.stdout.split())


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(counted(), indent=1) + "\n")
    print(f"wrote {GOLDEN}")
