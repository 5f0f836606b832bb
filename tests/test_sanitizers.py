"""Every kernel under AddressSanitizer + UndefinedBehaviorSanitizer and under ThreadSanitizer, and proof that both
see."""

import subprocess

import pytest
from variants import builds, problems

from fastnet import kernels

# Mistake planted in cases.cu -> what the report must say; the case without it must run clean.
ADDRESS = {
    "global": ("global_past", "heap-buffer-overflow"),
    "shared": ("shared_past", "use-after-poison"),
    "vector": ("vector_misaligned", "misaligned address"),
    "local": ("local_past", "stack-buffer-overflow|out of bounds"),
}
THREAD = {
    "exchange": ("exchange_unsynchronised", "data race"),
    "distinct": ("race", "data race"),
    "counter": ("counter_unordered", "data race"),
}


def thread_sanitizer_runs() -> str:
    """Empty where ThreadSanitizer's runtime can map its memory, else what it said."""
    done = subprocess.run([builds.cases("thread"), "distinct"], capture_output=True, text=True)
    return "" if "unexpected memory mapping" not in done.stderr else done.stderr.splitlines()[0]


@pytest.mark.parametrize(("variant", "clean"), [("address", c) for c in ADDRESS] + [("thread", c) for c in THREAD])
def test_planted_mistake_is_reported(variant, clean):
    if variant == "thread" and (why := thread_sanitizer_runs()):
        pytest.skip(f"ThreadSanitizer cannot map its memory here: {why}")
    planted, expected = {**ADDRESS, **THREAD}[clean]
    good = subprocess.run([builds.cases(variant), clean], capture_output=True, text=True)
    assert (good.returncode, good.stdout, good.stderr[-3000:]) == (0, "done\n", "")
    bad = subprocess.run([builds.cases(variant), planted], capture_output=True, text=True)
    assert any(e in bad.stderr for e in expected.split("|")), bad.stdout + bad.stderr[-3000:]
    assert "cases.cu" in bad.stderr, "the report must name the kernel's line"


def test_every_kernel_has_problems():
    names = set(kernels.__all__) - problems.NOT_KERNELS
    assert set(problems.SMALL) == names
    assert {name.split(":")[0] for name in problems.ALIGNED} == names


@pytest.mark.parametrize("variant", ["address", "thread"])
def test_kernels_run_clean(variant):
    if variant == "thread" and (why := thread_sanitizer_runs()):
        pytest.skip(f"ThreadSanitizer cannot map its memory here: {why}")
    done = builds.run_python(variant, "run_small.py")
    report = done.stdout + done.stderr
    for word in ("AddressSanitizer", "runtime error", "ThreadSanitizer", "Traceback"):
        assert word not in report, report[-6000:]
    assert done.returncode == 0, report[-6000:]
    launches = int(done.stdout.splitlines()[-1].removeprefix("launches: "))
    assert launches >= 10 * len(problems.SMALL)
