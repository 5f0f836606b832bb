"""The emulator's core: each net catches the mistake planted for it, and lets the correct kernel pass.

The planted kernels (tests/planted) are built here, once for each way in which the emulator can switch stacks, and run
in this process: a kernel's mistake is an exception, after which the next launch works. Planted mistakes that need
emulated instructions (copies, tensor cores) stand beside those instructions' tests.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from planted.build import Planted, build, cuda_include
from support import SCHEDULES

from fastnet import kernels
from fastnet.kernels import _runtime

INCLUDE = cuda_include()
needs_headers = pytest.mark.skipif(INCLUDE is None, reason="the CUDA headers (toolkit or wheels) are not installed")
ORDERS = [("forward", 1), ("reverse", 1), ("random", 7)]
BUILDS = {"g++": ("g++", []), "g++-ucontext": ("g++", ["-DEMU_UCONTEXT"]), "clang++": ("clang++", [])}


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return Planted(build("g++", [], INCLUDE, tmp_path_factory.mktemp("planted")))


# ---- what depends on the schedule -----------------------------------------------------------------------

# Which orders notice, in early and late copies alike.
SYNCHRONISATION = {
    "read_before_barrier_ahead": {"forward", "random"},
    "read_before_barrier_behind": {"reverse", "random"},
    "overwrite_before_barrier": {"forward", "reverse", "random"},
    "exchange_in_warp": {"forward", "reverse", "random"},
    "uninitialised_shared": {"forward", "reverse", "random"},
    "turnstile": {"reverse", "random"},
    "grid_barrier": {"forward", "reverse", "random"},
}


@needs_headers
@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("case", SYNCHRONISATION)
def test_missing_synchronisation(planted, case, how):
    assert planted.run(case, **how) == ("right", "")
    outcome, message = planted.run(case, planted=True, **how)
    assert (outcome != "right") == (how["order"] in SYNCHRONISATION[case])
    if case in ("turnstile", "grid_barrier") and outcome == "error":
        assert "livelock" in message


@needs_headers
def test_unsynchronised_turnstile_is_told_the_way_out(planted):
    outcome, message = planted.run("turnstile", planted=True, order="reverse")
    assert outcome == "error"
    assert message.startswith("turnstile_kernel, block (5,0,0): livelock: threads yield 1000000 times")
    assert "gpu::launch_resident" in message
    assert "1 thread in gpu::yield: (0,0,0)" in message
    assert "95 threads in __syncthreads: (1,0,0) (2,0,0) (3,0,0) (4,0,0) ..." in message


# ---- errors in every schedule -----------------------------------------------------------------------------

MISTAKES = {
    "deadlock": r"deadlock_kernel, block \(\d,0,0\): deadlock: 64 threads wait for ever\n"
                r"  32 threads in __syncthreads: \(32,0,0\).*\n  32 threads in a named barrier: \(0,0,0\)",
    "deadlock_asleep": r"1 thread waits for ever\n  1 thread in a letter: \(0,0,0\)",
    "livelock_yielding": r"kernel, block \(0,0,0\): livelock: .*nothing else happens\n  64 threads in gpu::yield",
    "livelock_resident": r"kernel: livelock: .*\n  256 threads in gpu::yield: block \(\d,0,0\) thread \(0,0,0\)",
    "shared_just_past": r"kernel, block \(\d,\d,0\): shared memory written at byte 1000; the block has 1000",
    "shared_just_before": r"shared_write_kernel, block \(\d,\d,0\): shared memory written 1 bytes before its start",
    "shared_past": r"thread \(37,0,0\): shared memory accessed at byte 5120; the block has 5120",
    "shared_before": r"thread \(37,0,0\): shared memory accessed 1 bytes before its start",
    "shared_far_past": r"thread \(37,0,0\): shared memory accessed at byte 700000; the block has 1000",
    "shared_far_before": r"thread \(37,0,0\): shared memory accessed 700000 bytes before its start",
    "shared_none": r"thread \(37,0,0\): shared memory accessed at byte 0; the block has 0",
    "shared_read_past": r"shared_read_kernel, block \(\d,0,0\), thread \(37,0,0\): shared memory accessed at byte 2048",
    "shared_offset": r"does not lie in shared memory \(64 bytes from ",
    "null_pointer": r"null_kernel, block \(0,0,0\), thread \(0,0,0\): illegal memory access at (\(nil\)|0x0|0)$",
    "instruction_reads_nowhere": r"instruction_kernel, block \(\d,0,0\), thread \(6,0,0\): illegal memory access at",
    "stack_overflow": r"recursion_kernel, block \(0,0,0\), thread \(5,0,0\): the thread's stack overflows \(128 KB\)",
    "stack_overflow_by_one_frame": r"kernel, block \(0,0,0\), thread \(\d+,0,0\): the thread's stack overflows",
    "division_by_zero": r"divide_kernel, .*integer division by zero",
    "assertion": r"assert_kernel, .*: assertion failed: x == int\(threadIdx.x\) / 64, .*mistakes.cu:\d+",
    "trap": r"trap_kernel, block \(0,0,0\), thread \(3,0,0\): __trap",
    "exception": r"throw_kernel, block \(0,0,0\), thread \(3,0,0\): exception: thrown by hand",
    "barrier_id": r"barrier 16: a block has barriers 0 to 15",
    "barrier_negative_id": r"barrier -1: a block has barriers 0 to 15",
    "barrier_odd_count": r"barrier 1: 33 threads is not a multiple of the warp size",
    "barrier_too_many": r"barrier 1: 96 threads in a block of 64",
    "barrier_counts_differ": r"this thread expects (32|64) threads, those already here (32|64)|deadlock: 32 threads",
    "barrier_after_exit": r"deadlock: 32 threads wait for ever\n  32 threads in a named barrier: \(0,0,0\)",
    "barrier_kinds_differ": r"__syncthreads and __syncthreads_count, _and or _or meet at one barrier",
    "mask_of_exited_lane": r"names lanes that have exited|waits for lane 0 \(mask ffffffff\), which exits instead",
    "mask_without_itself": r"thread \(9,0,0\): __syncwarp: lane 9 is not in its own mask fffffdff",
    "divergence": r"lanes of one warp disagree: lane \d+ is at \w+ mask ffffffff, lane \d+ at \w+ mask ffffffff",
    "masks_differ": r"lanes of one warp disagree: |names lanes that have exited|which exits instead",
    "source_outside_mask": r"reads lane 16, which is not in the mask",
    "shuffle_width": r"__shfl_sync: width 12 is not a power of two up to 32",
    "launch_no_blocks": r"^empty_kernel: cannot be launched: a grid of \(0, 1, 1\) has no blocks",
    "launch_no_threads": r"a block of \(32, 0, 1\) has no threads",
    "launch_large_block": r"a block of \(1024, 2, 1\) exceeds",
    "launch_deep_block": r"a block of \(1, 1, 65\) exceeds",
    "launch_tall_grid": r"a grid of \(1, 65536, 1\) exceeds",
    "launch_deep_grid": r"a grid of \(1, 1, 65536\) exceeds",
    "launch_shared": r"232449 bytes of shared memory; a block of H200 has at most 232448",
    "launch_resident_too_many": r"9 resident blocks of 1024 threads and 0 bytes of shared memory; 8 fit",
    "launch_from_kernel": r"nested_kernel, block \(0,0,0\), thread \(0,0,0\): a kernel cannot launch a kernel",
}  # fmt: skip


def check_mistake(planted: Planted, case: str, order: str, seed: int, copies: str, **kwargs) -> None:
    how = {"order": order, "seed": seed, "copies": copies, **kwargs}
    assert planted.run(case, **how) == ("right", "")
    outcome, message = planted.run(case, planted=True, **how)
    assert outcome == "error"
    assert re.search(MISTAKES[case], message), message
    assert planted.run(case, **how) == ("right", ""), "the launch after the error"


@needs_headers
@pytest.mark.parametrize("case", MISTAKES)
def test_mistake(planted, case):
    for (order, seed), copies in zip(ORDERS, ["early", "late", "early"], strict=True):
        check_mistake(planted, case, order, seed, copies)


@needs_headers
def test_lane_that_exits(planted):
    """Lane 0 is the first to run in forward order and the last in reverse: both ways to miss it are named."""
    case = "mask_of_exited_lane"
    assert "names lanes that have exited (alive: fffffffe)" in planted.run(case, planted=True, order="forward")[1]
    assert "which exits instead" in planted.run(case, planted=True, order="reverse")[1]


LIVELOCKS = {
    "livelock_unseen": r"^spin_kernel, block \(0,0,0\), thread \(\d+,0,0\): livelock: no thread ended in "
                       r"0.1 s of CPU time, and this one was running$",
    "livelock_in_library": r"^spin_in_library_kernel, block \(0,0,0\), thread \(\d+,0,0\): livelock: ",
    # Found by the scheduler, or, now and then, between two barriers.
    "livelock_at_barriers": r"^barrier_loop_kernel, block \(0,0,0\)(: livelock: no thread ended in 0.1 s .*\n"
                            r"  64 threads in __syncthreads: |, thread \(\d+,0,0\): livelock: .* was running$)",
}  # fmt: skip


@needs_headers
@pytest.mark.parametrize("case", LIVELOCKS)
def test_watchdog(planted, case):
    for order, seed in ORDERS:
        assert planted.run(case, order=order, seed=seed, watchdog=0.1) == ("right", "")
        outcome, message = planted.run(case, planted=True, order=order, seed=seed, watchdog=0.1)
        assert outcome == "error"
        assert re.search(LIVELOCKS[case], message), message
        assert planted.run("warp_functions") == ("right", "")


FUNCTIONS = [
    "arithmetic_functions", "atomic_functions", "deferred_work", "half_functions", "no_barrier_no_switch", "order",
    "partial_warp", "resident_copies", "warp_functions", "warp_waits_for_warp",
]  # fmt: skip


@needs_headers
@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("case", FUNCTIONS)
def test_functions(planted, case, how):
    assert planted.run(case, **how) == ("right", "")


@needs_headers
@pytest.mark.parametrize(("order", "seed"), ORDERS)
def test_copy_that_outlives_its_block(planted, order, seed):
    for copies in ("early", "late"):
        assert planted.run("copy_outlives_block", order=order, seed=seed, copies=copies) == ("right", "")
    assert planted.run("copy_outlives_block", planted=True, order=order, seed=seed) == ("right", "")
    # A random schedule may land it in time.
    outcome, message = planted.run("copy_outlives_block", planted=True, order=order, seed=seed, copies="late")
    if order != "random":
        assert outcome == "error"
    if outcome == "error":
        assert "thread (2,0,0): the block ended before this thread's asynchronous copy did" in message


@needs_headers
@pytest.mark.parametrize("name", [n for n in BUILDS if n != "g++"])
def test_other_builds(name, tmp_path):
    compiler, flags = BUILDS[name]
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    library = Planted(build(compiler, flags, INCLUDE, tmp_path))
    for case in MISTAKES:
        check_mistake(library, case, *ORDERS[len(case) % 3], "late")
    for case in LIVELOCKS:
        outcome, message = library.run(case, planted=True, watchdog=0.1)
        assert outcome == "error"
        assert re.search(LIVELOCKS[case], message), message
    for case, noticed_by in SYNCHRONISATION.items():
        for order, seed in ORDERS:
            assert library.run(case, order=order, seed=seed) == ("right", "")
            assert (library.run(case, planted=True, order=order, seed=seed)[0] != "right") == (order in noticed_by)
    for case in FUNCTIONS:
        assert library.run(case, order="random", copies="late") == ("right", "")


# ---- the process around it ----------------------------------------------------------------------------------


@needs_headers
def test_python_threads_at_once(planted):
    failures = []

    def work(order: str) -> None:
        for i in range(30):
            outcome = planted.run("deadlock", planted=bool(i % 2), order=order)[0]
            if outcome != ("error" if i % 2 else "right"):
                failures.append((order, i, outcome))

    threads = [threading.Thread(target=work, args=(order,)) for order, _ in ORDERS]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


def python(planted: Planted, script: str, *options: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    code = (
        f"from pathlib import Path\nfrom planted.build import Planted\nplanted = Planted(Path({str(planted.path)!r}))\n"
    )
    return subprocess.run(
        [sys.executable, *options, "-c", code + script],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )


@needs_headers
def test_fork_while_kernels_run(planted):
    script = """
import os, threading
stop = False
def work():
    while not stop:
        assert planted.run("partial_warp") == ("right", "")
thread = threading.Thread(target=work)
thread.start()
for i in range(20):
    pid = os.fork()
    if pid == 0:
        outcomes = planted.run("turnstile", order="reverse")[0], planted.run("trap", planted=True)[0]
        os._exit(0 if outcomes == ("right", "error") else 1)
    assert os.waitpid(pid, 0)[1] == 0
stop = True
thread.join()
print("done")
"""
    done = python(planted, script, "-W", "ignore::DeprecationWarning")
    assert done.stdout == "done\n", done.stderr


@needs_headers
def test_faults_that_are_not_a_kernels(planted):
    done = python(planted, "planted.crash()", "-X", "faulthandler")
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr


# ---- through the extension ------------------------------------------------------------------------------------


@pytest.fixture
def extension():
    why = kernels.available()["emulated"]
    if why is not True:
        pytest.skip(f"emulated kernels are not available: {why}")
    return _runtime.extension_for(np.empty(0))


def test_mistakes_reach_python(extension):
    assert issubclass(extension.EmulatorError, RuntimeError)
    before = extension.set_watchdog(0.001)  # seconds: this product takes longer before any of its threads ends
    try:
        with kernels.use("emulated"), pytest.raises(extension.EmulatorError, match=r"^matmul_kernel.*block \(0,0,0\)"):
            kernels.matmul(np.ones((4, 200_000)), np.ones((200_000, 4)))
    finally:
        extension.set_watchdog(before)
    with kernels.use("emulated"):
        np.testing.assert_array_equal(kernels.column_sum(np.ones((5, 3), np.float32)), [5, 5, 5])


def test_statistics(extension):
    counts = []
    for how in SCHEDULES:
        extension.reset_stats()
        with kernels.use("emulated", **how):
            kernels.column_sum(np.ones((40, 70), np.float32), config=extension.ColumnSumConfig(splits=2))
        counts.append({k: v for k, v in extension.stats().items() if k != "switches"})
    assert all(c == counts[0] for c in counts)
    assert counts[0]["launches"] == 2
    assert counts[0]["blocks"] == 3 * 2 + 3
    assert counts[0]["threads"] == 9 * 256
    assert counts[0]["block_barriers"] == 2 * 9 * 256  # two barriers a thread
    extension.reset_stats()
    assert set(extension.stats().values()) == {0}


def test_watchdog_limit(extension):
    before = extension.set_watchdog(7.5)
    assert extension.set_watchdog(before) == 7.5
    for bad in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="seconds must be"):
            extension.set_watchdog(bad)
