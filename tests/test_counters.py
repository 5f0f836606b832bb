"""Sectors, wavefronts and bytes of every kernel on an aligned problem, held as golden numbers.

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


# What hand counting gives: 32 floats in a column of a 32-wide tile lie in one bank; 32 floats 8 apart lie in 32
# sectors.
@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("column", "shared read 1 1"),
        ("column_conflict", "shared read 32 1"),
        ("coalesced", "global read 4 4"),
        ("uncoalesced", "global read 32 4"),
    ],
)
def test_counter_sees(case, line):
    done = subprocess.run([builds.cases("counters"), case], capture_output=True, text=True, check=True)
    assert line in done.stdout.splitlines(), done.stdout


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
