"""No input to a public function crashes the process or raises anything but a documented kind of error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CALLS = 10_000


@pytest.mark.parametrize("seed", [0, 1])
def test_hostile_calls(seed):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "fuzz_calls.py"), str(CALLS // 2), str(seed)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"exit {done.returncode} after: {lines[-1] if lines else ''}\n{done.stderr[-1500:]}"
    assert lines[-1].startswith(f"calls: {CALLS // 2}, functions: ")
    returned = eval(lines[-2].removeprefix("outcomes: "))["returned"]
    assert returned > CALLS // 40, "nearly all calls were refused at the first check: the fuzzer finds nothing so"


def test_spoilt_calls_of_kernels(full):
    """Calls that are wrong in one or two arguments, config included, are refused or run: no fault, no endless one."""
    calls = 20_000 if full else 1_000
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(here / "variants" / "run_fuzz.py"), str(calls), "0"],
        capture_output=True,
        text=True,
        timeout=1400,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *(p for p in sys.path if p)])},
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"exit {done.returncode} after: {lines[-1] if lines else ''}\n{done.stderr[-1500:]}"
    assert lines[-1] == f"calls: {calls}"
    returned = eval(lines[-2].removeprefix("outcomes: "))["returned"]
    assert returned > calls // 10, "nearly all calls were refused: the fuzzer finds nothing so"
