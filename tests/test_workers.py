"""Worker processes of a DataLoader: the same batches, and no trace of the workers however they end."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
from loading import Draws, Dtypes, Numbers, Shards, Trouble, TwoArguments, only, pids, refuse, write_id

import fastnet
from fastnet.utils.data import DataLoader, TensorDataset, get_worker_info

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # on machines of one core
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
METHODS = ["fork", "spawn", "forkserver"]


def segments():
    return sorted(p.name for p in Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else []


def open_files():
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0


@pytest.fixture(autouse=True)
def _nothing_is_left():
    """Every test leaves no process, no shared memory and no open file behind."""
    gc.collect()
    before, files = segments(), open_files()
    yield
    gc.collect()
    assert active_children() == []
    assert segments() == before
    assert open_files() <= files + 3  # forkserver's own, once


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def gone(pids, seconds=30):
    deadline = time.monotonic() + seconds
    while any(alive(p) for p in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(alive(p) for p in pids)


def values(batches):
    return [(b.x.tolist(), b.y["ten"].tolist(), b.y["name"]) for b in batches]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("width", [1, 5000])  # through the pipe, and through a memory file
def test_same_batches_in_the_same_order(method, width):
    data = Numbers(20, width)
    want = values(DataLoader(data, batch_size=3))
    got = DataLoader(data, batch_size=3, num_workers=2, multiprocessing_context=method)
    assert len(got) == 7
    assert values(got) == want


def test_order_does_not_depend_on_the_number_of_workers():
    data = TensorDataset(fastnet.arange(50))
    orders = []
    for workers in (0, 1, 2):
        loader = DataLoader(data, 7, shuffle=True, num_workers=workers, generator=fastnet.Generator().manual_seed(3))
        orders.append([[b[0].tolist() for b in loader] for _ in range(2)])
    assert orders[0] == orders[1] == orders[2]
    assert orders[0][0] != orders[0][1]


@pytest.mark.parametrize("side", [4, 200])
def test_every_dtype_crosses(side):
    (got,) = DataLoader(Dtypes(side), collate_fn=only, num_workers=1)
    want = Dtypes(side)[0]
    assert list(got) == list(want)
    for name, value in got.items():
        assert type(value) is type(want[name])
        assert value.dtype == want[name].dtype
        assert value.tolist() == want[name].tolist()
    assert got["weight"].requires_grad
    got["float32"].add_(1)  # memory of its own, that can be written
    got["array"][0] = 7
    with pytest.raises(TypeError, match=r"fastnet\.save"):
        pickle.dumps(got["float32"])


def test_what_cannot_cross_is_said():
    data = [fastnet.ones(2, requires_grad=True) * 2]
    with pytest.raises(RuntimeError, match="detach"):
        list(DataLoader(data, num_workers=1))


def test_workers_are_seeded_and_runs_repeat():
    def run(seed):
        generator = fastnet.Generator().manual_seed(seed)
        loader = DataLoader(Draws(), 2, num_workers=2, generator=generator, collate_fn=list)
        return [[tuple(item) for batch in loader for item in batch] for _ in range(2)]

    first = run(1)
    assert first == run(1)
    assert first != run(2)
    assert first[0] != first[1]  # a new epoch, new seeds
    draws = [item for epoch in first for item in epoch]
    for column in range(3):
        assert len({d[column] for d in draws}) == len(draws)
    seeds = {d[3]: d[4] for d in first[0]}
    assert seeds[1] == seeds[0] + 1
    assert get_worker_info() is None


def test_worker_init_fn(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTNET_TEST_FOLDER", str(tmp_path))
    list(DataLoader(range(4), num_workers=2, worker_init_fn=write_id))
    assert int((tmp_path / "1").read_text()) == int((tmp_path / "0").read_text()) + 1
    with pytest.raises(ValueError, match=r"Caught ValueError in DataLoader worker process 0(.|\n)*not today"):
        list(DataLoader(range(4), num_workers=2, worker_init_fn=refuse))


def test_streams():
    loader = DataLoader(Shards(11), batch_size=2, num_workers=2)
    assert [b.tolist() for b in loader] == [[0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9]]
    loader = DataLoader(Shards(11), batch_size=2, num_workers=2, drop_last=True)
    assert [b.tolist() for b in loader] == [[0, 2], [1, 3], [4, 6], [5, 7], [8, 10]]
    loader = DataLoader(Shards(3, share=False), batch_size=None, num_workers=2)
    assert sorted(loader) == [0, 0, 1, 1, 2, 2]
    assert len(loader) == 3
    with pytest.warns(UserWarning, match="was reported to be 3"):
        list(loader)


@pytest.mark.parametrize("method", METHODS)
def test_persistent_workers(method):
    data = range(12)
    loader = DataLoader(
        data, 2, num_workers=2, persistent_workers=True, collate_fn=pids, multiprocessing_context=method
    )
    first = list(loader)
    assert len(first) == 6
    assert len(set(first)) == 2
    it = iter(loader)
    next(it)  # an epoch that is given up
    assert list(loader) == first
    del it, loader
    assert gone(first)
    loader = DataLoader(Shards(5), 1, num_workers=2, persistent_workers=True)
    assert [len(list(loader)) for _ in range(3)] == [5, 5, 5]


def test_out_of_order():
    class Slow(Numbers):
        def __getitem__(self, i):
            time.sleep(0.5 if i == 0 else 0)
            return i

    loader = DataLoader(Slow(6), num_workers=2, in_order=False, multiprocessing_context="fork")
    got = [b.item() for b in loader]
    assert sorted(got) == list(range(6))
    assert got[0] != 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("odd"), ValueError),
        (KeyError("odd"), KeyError),
        (TwoArguments("odd", 2), RuntimeError),
        (type("Local", (Exception,), {})("odd"), RuntimeError),
        (StopIteration("odd"), StopIteration),
    ],
)
def test_errors_reach_the_parent(error, kind):
    loader = DataLoader(Trouble(error), num_workers=2, multiprocessing_context="fork")
    it = iter(loader)
    assert [next(it).item() for _ in range(5)] == list(range(5))
    with pytest.raises(kind, match="in DataLoader worker process 1") as caught:
        next(it)
    text = str(caught.value)
    assert f"Caught {type(error).__name__} in" in text
    assert "Original Traceback" in text
    assert "loading.py" in text
    assert "odd" in text
    assert [b.item() for b in it] == list(range(6, 12))  # the iterator goes on


def test_a_batch_that_cannot_be_pickled_is_an_error():
    with pytest.raises(Exception, match=r"in DataLoader worker process 1(.|\n)*local object"):
        list(DataLoader(Trouble("lambda"), num_workers=2, collate_fn=only))


@pytest.mark.parametrize(("kind", "word"), [("kill", "killed by signal"), ("exit", "exit code 3")])
@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_dies_raises_at_once(kind, word, method, monkeypatch):
    # By its pipe, that is, and not because somebody looked whether it is alive.
    monkeypatch.setattr("fastnet.utils.data.processes.CHECK_SECONDS", 1000.0)
    loader = DataLoader(Trouble(kind), num_workers=2, multiprocessing_context=method)
    it = iter(loader)
    next(it)
    with pytest.raises(RuntimeError, match=word):
        list(it)
    assert list(it) == []


def test_an_idle_worker_that_is_killed_is_noticed():
    loader = DataLoader(range(12), 2, num_workers=2, persistent_workers=True, collate_fn=pids)
    workers = set(loader)
    os.kill(min(workers), signal.SIGKILL)
    with pytest.raises(RuntimeError, match="killed by signal"):
        list(loader)
    assert set(loader).isdisjoint(workers)  # and the next epoch has new ones


def test_timeout():
    loader = DataLoader(Trouble("hang"), num_workers=1, timeout=0.5)
    with pytest.raises(RuntimeError, match=r"timed out after 0\.5 seconds"):  # and not after the item's 1,000
        list(loader)


def test_leaving_early_ends_the_workers():
    loader = DataLoader(range(1000), num_workers=2, collate_fn=pids)
    seen = set()
    for pid in loader:
        seen.add(pid)
        if len(seen) == 2:
            break
    assert gone(seen)


def test_tasks_and_batches_larger_than_pipes():
    """A worker that waits for room in its pipe and a parent that does too must not wait for each other."""
    order = [[0] * 50_000] * 12
    loader = DataLoader([b"x" * 20], batch_sampler=order, num_workers=1, prefetch_factor=12, collate_fn=b"".join)
    assert [len(b) for b in loader] == [1_000_000] * 12


def script(text):
    """A process that runs a script; it prints the ids of its workers first."""
    paths = os.pathsep.join([str(Path(__file__).parent), *[p for p in sys.path if p]])
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,
        # Who runs the tests in the background ignores SIGINT, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


ENDLESS = """
    from fastnet.utils.data import DataLoader
    import loading, sys, time
    loader = DataLoader(range(10**6), num_workers=2, collate_fn=loading.pids, multiprocessing_context="{method}")
    it = iter(loader)
    print(next(it), next(it), flush=True)
    {then}
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["exit", "error", "interrupt", "kill"])
def test_workers_end_with_the_program(method, how):
    then = {"exit": "sys.exit(0)", "error": "1 / 0"}.get(how, "for _ in it: time.sleep(0.01)")
    process = script(ENDLESS.format(method=method, then=then))
    workers = [int(n) for n in process.stdout.readline().split()]
    assert len(set(workers)) == 2
    if how == "interrupt":  # as a terminal does: to all processes of the group
        os.killpg(process.pid, signal.SIGINT)
    elif how == "kill":
        os.kill(process.pid, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert gone(workers)
    assert process.returncode == {"exit": 0, "error": 1, "interrupt": -signal.SIGINT, "kill": -signal.SIGKILL}[how]
    if how == "interrupt":
        assert err.count("Traceback") == 1  # the program's own, none of a worker
    if how == "exit":
        assert err == ""


def test_pinning_without_a_gpu_warns():
    if fastnet.cuda.is_available():
        (x,) = DataLoader([fastnet.ones(3)], pin_memory=True)
        assert x.tolist() == [[1, 1, 1]]
        return
    with pytest.warns(UserWarning, match="no accelerator is found"):
        assert len(list(DataLoader(np.arange(3), pin_memory=True))) == 3
