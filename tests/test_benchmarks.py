"""The benchmarks: nothing wrong is measured, timing is interleaved and cold, rows and plots are whole, and what is said
without a GPU is right. Clocks and GPUs are made up where there are none."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys
import time
import types
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import bench_matmul, cases, clocks, counters, disassembly, gpu, harness, known, plots, rows, shapes
from fastnet import kernels

ROOT = Path(__file__).resolve().parents[1]

OPERATIONS = command.operations()


def run(*arguments, path=(ROOT,), cwd=None):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), *(p for p in sys.path if p)])}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd or ROOT.parent,
        capture_output=True,
        text=True,
        env=environment,
        timeout=500,
    )


# ---- what is measured ----------------------------------------------------------------------------------------------


class Ticks:
    """A clock that hands out given times (microseconds, by implementation) and notes the order."""

    def __init__(self, times, spoil=()):
        self.times, self.spoil, self.order = {k: iter(v) for k, v in times.items()}, spoil, []

    def copies(self, nbytes):
        return 3

    def prepare(self, implementation, inputs):
        clock = self

        class Prepared:
            mode, calls = "made up", 1

            def sample(self):
                clock.order.append(implementation.name)
                return next(clock.times[implementation.name])

            def results(self):
                outputs = implementation.run(*inputs[0])
                if implementation.name in clock.spoil:
                    outputs = outputs * np.float32("nan")
                return [(0, outputs)]

        return Prepared()


def doubling(*implementations, **kwargs):
    kwargs = {"flops": 2e6, "bytes": 4e6, "spec": lambda x: x + x, **kwargs}
    return cases.Case(
        "double", "100", "float32", lambda source: (source.normal((100,)),), list(implementations), **kwargs
    )


def implementation(name, run=lambda x: x * 2, library="reference"):
    return cases.Implementation(name, run, library)


def test_interleaving_medians_and_ratios():
    clock = Ticks({"fastnet": [4, 2, 3, 9, 1], "slow": [30, 30, 30, 30, 30], "peer": [6, 6, 5, 7, 6]})
    case = doubling(implementation("fastnet"), implementation("slow"), implementation("peer"))
    report = harness.Report()
    ours, slow, peer = harness.measure(case, clock, cases.Source(), report, samples=5)
    assert clock.order == ["fastnet", "slow", "peer"] * 5
    assert (ours.median_us, slow.median_us, peer.median_us) == (3, 30, 6)
    assert ours.spread == pytest.approx((6.5 - 1.5) / 3, abs=1e-4)  # quartiles of 1, 2, 3, 4, 9
    assert (ours.ratio_to_best_peer, ours.best_peer) == (2, "peer")
    assert (peer.ratio_to_best_peer, peer.best_peer) == (5, "slow")
    assert ours.tflops == pytest.approx(2e6 / 3e-6 / 1e12, abs=1e-4)
    assert ours.gbytes_per_s == pytest.approx(4e6 / 3e-6 / 1e9, abs=1e-3)
    assert ours.flop_per_byte == 0.5
    assert report.rows == [ours, slow, peer]
    assert report.failures == []


def test_a_wrong_result_is_not_measured():
    def off_by_one_element(x):
        y = x * 2
        y[17] += np.float32(1e-3)
        return y

    clock = Ticks({"right": [1, 1, 1]})
    report = harness.Report()
    found = harness.measure(
        doubling(implementation("right"), implementation("wrong", off_by_one_element), absolute=1e-6),
        clock, cases.Source(), report, samples=3,
    )  # fmt: skip
    assert [r.implementation for r in found] == ["right"]
    assert clock.order == ["right"] * 3
    (failure,) = report.failures
    assert "double 100 float32, wrong: 1 of 100 elements differ, the first at 17" in failure


def test_what_the_timed_calls_wrote_is_compared_too():
    report = harness.Report()
    clock = Ticks({"peer": [1, 1]}, spoil={"fastnet"})
    case = doubling(implementation("fastnet"), implementation("peer"))
    assert [r.implementation for r in harness.measure(case, clock, cases.Source(), report, samples=2)] == ["peer"]
    assert "fastnet: 100 of 100 elements differ" in report.failures[0]


def test_what_cannot_run_is_a_note_for_peers_and_a_failure_for_ours():
    def broken(x):
        raise NotImplementedError("no such dtype")

    report = harness.Report()
    case = doubling(implementation("fastnet", broken), implementation("CuPy", broken), implementation("peer"))
    harness.measure(case, Ticks({"peer": [1]}), cases.Source(), report, samples=1)
    assert report.failures == ["double 100 float32, fastnet: NotImplementedError: no such dtype"]
    assert report.notes == ["double 100 float32, CuPy: NotImplementedError: no such dtype"]


def test_what_is_updated_in_place_is_compared_from_the_same_start():
    def double(x):
        x *= 2

    def wrong(x):
        x *= 3

    report = harness.Report()
    case = doubling(implementation("a", double), implementation("b", double), implementation("c", wrong), written=(0,))
    case.spec = double
    clock = clocks.HostClock(1e-5)
    found = harness.measure(case, clock, cases.Source(), report, samples=1)
    assert [r.implementation for r in found] == ["a", "b"]
    assert len(report.failures) == 1


@pytest.mark.parametrize(
    ("got", "message"),
    [
        ([1, 2, math.nan], "1 of 3 elements differ, the first at 2"),
        ([1, 2.2, 3], "1 of 3 elements differ, the first at 1"),
        ([1, 2], "shape"),
        ([1, 2, math.inf], "1 of 3"),
    ],
)
def test_compare_refuses(got, message):
    with pytest.raises(harness.WrongResultError, match=message):
        harness.compare([np.float32(got)], [np.float32([1, 2, 3])], 0.05, 0.05)
    harness.compare([np.float32([1, 2.14, 2.9])], [np.float32([1, 2, 3])], 0.05, 0.05)
    with pytest.raises(harness.WrongResultError, match="1 results, expected 2"):
        harness.compare([np.float32(got)], [np.float32([1, 2, 3])] * 2, 0.05, 0.05)


def test_ceilings_and_a_peer_that_beats_one():
    def row(name, ceiling, tflops, gbytes, dtype="bfloat16"):
        return rows.Row(
            "x", "1", dtype, name, "gpu", "c", "d", 1, 0, tflops=tflops, gbytes_per_s=gbytes, ceiling=ceiling
        )

    found = [
        row("fastnet", "matmul", 600, 1), row("PyTorch", "matmul", 800, 1), row("fastnet", "copy", 0, 3000),
        row("fastnet", "", 5, 5), row("fastnet", "matmul", 30, 1, "float32"), row("fastnet", "matmul", 1, 1, "float16"),
    ]  # fmt: skip
    harness.finish(found, {"copy": 4000, "matmul bfloat16": 700, "matmul float32": 60})
    assert [r.percent_of_ceiling for r in found] == [75, 100, 75, 0, 50, 0]


@pytest.mark.parametrize(
    ("operation", "dtype"),
    [
        (o, d)
        for o in sorted(OPERATIONS)
        for d in ("float32", "float16", "bfloat16")
        if o not in ("epoch", "overhead") or d == "float32"
    ],
)
def test_every_implementation_of_every_case_is_right(operation, dtype):
    """References, PyTorch, and our kernels, run by the emulator."""
    source, seen = cases.Source(pool=2**14 - 3), 0
    for case in OPERATIONS[operation](["small"], [dtype], cases.PEERS):
        if case.host:
            for i in case.implementations if dtype == "float32" else []:
                i.run()
            continue
        inputs = case.make(source)
        want = harness._outputs(case, harness.judge(case), inputs)
        assert any(i.library == "fastnet" for i in case.implementations)
        for i in case.implementations:
            with kernels.use("emulated", device="A100"):
                harness.verify(case, i, inputs, want)
            seen += 1
            if i.holds is None:  # and the bound is tight enough to see one element 3 % off
                outputs = [o.copy() for o in harness._outputs(case, i, inputs)]
                flat = outputs[0].reshape(-1)
                at = int(abs(flat.astype(np.float32)).argmax())
                flat[at] *= 1.1 if dtype == "bfloat16" else 1.03
                if case.operation != "linear_gelu":
                    with pytest.raises(harness.WrongResultError):
                        harness.verify(case, i, inputs, want, outputs)
    assert seen or operation in ("epoch", "overhead")


# ---- time ----------------------------------------------------------------------------------------------------------


def test_the_host_clock_divides_by_the_calls():
    now = [0.0]

    def work(x):
        now[0] += 0.003
        return x

    clock = clocks.HostClock(seconds=0.02, now=lambda: now[0])
    prepared = clock.prepare(implementation("x", work), [(1,)])
    assert prepared.sample() == pytest.approx(3000)
    assert prepared.calls >= 7
    assert prepared.results() == [(0, 1)]


class FakeGpu:
    """As much of CuPy as timing uses: calls cost microseconds of a made-up GPU, unless they are captured."""

    def __init__(self, l2=1000):
        gpu = self
        self.now, self.capturing, self.captured, self.launches, self.fails = 0.0, None, 0, 0, False

        class Event:
            def record(self):
                self.at = gpu.now

            def synchronize(self):
                pass

        class Graph:
            def __init__(self, cost):
                self.cost = cost

            def launch(self, stream):
                gpu.launches += 1
                gpu.now += self.cost

        class Stream:
            def __init__(self, non_blocking):
                assert non_blocking

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def synchronize(self):
                pass

            def begin_capture(self):
                gpu.capturing = 0.0

            def end_capture(self):
                cost, gpu.capturing = gpu.capturing, None
                return Graph(cost)

        @contextmanager
        def using_allocator(allocator):
            yield

        self.cuda = types.SimpleNamespace(
            Event=Event,
            Stream=Stream,
            using_allocator=using_allocator,
            MemoryPool=lambda: types.SimpleNamespace(malloc=None),
            Device=lambda: types.SimpleNamespace(id=0, synchronize=lambda: None),
            get_current_stream=lambda: None,
            get_elapsed_time=lambda a, b: (b.at - a.at) * 1e3,
            runtime=types.SimpleNamespace(getDeviceProperties=lambda i: {"l2CacheSize": l2}),
        )

    def work(self, microseconds):
        if self.capturing is None:
            self.now += microseconds / 1e6 + 20e-6  # and the host's part
        else:
            if self.fails:
                raise RuntimeError("operation not permitted when stream is capturing")
            self.capturing += microseconds / 1e6


@pytest.fixture
def fake(monkeypatch):
    gpu = FakeGpu()
    monkeypatch.setitem(sys.modules, "cupy", gpu)
    return gpu


def test_a_graph_is_replayed_without_the_hosts_part(fake):
    clock = clocks.CudaClock(seconds=1e-3)
    used = []
    run = lambda x: (used.append(x), fake.work(10), np.zeros(1, np.float32))[2]  # noqa: E731
    prepared = clock.prepare(implementation("x", run, "fastnet"), [(0,), (1,), (2,)])
    assert prepared.mode == "graph"
    assert prepared.sample() == pytest.approx(10)
    assert prepared.calls % 3 == 0
    assert prepared.calls >= 1e-3 / 30e-6
    assert used[:6] == [0, 1, 2, 0, 1, 2]
    assert fake.launches == 2
    outputs = prepared.results()  # poisoned, and the graph replayed
    assert fake.launches == 3
    assert [i for i, _ in outputs] == [0, 1, 2]
    assert all(np.isnan(o).all() for _, o in outputs)  # this made-up graph writes nothing: it would be found out


def test_what_cannot_be_captured_is_timed_by_events(fake):
    clock = clocks.CudaClock(seconds=1e-3)
    fake.fails = True
    prepared = clock.prepare(implementation("x", lambda x: fake.work(10), "cupy"), [(0,), (1,)])
    assert prepared.mode == "events"
    assert prepared.sample() == pytest.approx(30)
    assert clock.failures == {"x": "RuntimeError: operation not permitted when stream is capturing"}


@pytest.mark.parametrize("nbytes", [1, 10, 999, 1000, 5000])
def test_inputs_rotate_over_more_than_twice_the_l2(fake, nbytes):
    clock = clocks.CudaClock()
    assert clock.copies(nbytes) >= 2
    assert clock.is_cold(nbytes) == (nbytes > 3)
    if clock.is_cold(nbytes):
        assert clock.copies(nbytes) * nbytes > 2 * 1000


def test_outputs_live_until_their_turn_comes_again():
    rotation = clocks._Rotation(lambda x: [x], [(0,), (1,), (2,)])
    for _ in range(4):
        rotation()
    assert rotation.outputs == [[0], [1], [2]]
    first = rotation.outputs[1]
    rotation()
    assert rotation.outputs[1] is not first


def test_inputs_are_normal_and_the_same_for_the_same_seed():
    a, b = cases.Source(3), cases.Source(3)
    x = a.normal((3_000_000,), "float32")  # more than the pool
    assert abs(x.mean()) < 0.01
    assert abs(x.std() - 1) < 0.01
    assert np.array_equal(x, b.normal((3_000_000,), "float32"))
    assert not np.array_equal(x, a.normal((3_000_000,), "float32"))
    assert a.normal((4, 5), "bfloat16").dtype.name == "bfloat16"


# ---- shapes --------------------------------------------------------------------------------------------------------


def test_the_shape_list():
    square = {p.m for p in shapes.MATMUL["square"]}
    assert {512, 1024, 2048, 4096, 8192, 16384} <= square
    gpt2 = set(shapes.MATMUL["gpt2"])
    for tokens in (8192, 65536):  # the MLP's first layer at 1.5B: result, gradient of the input, of the weight
        assert {(tokens, 6400, 1600, "NT"), (tokens, 1600, 6400, "NN"), (6400, 1600, tokens, "TN")} <= gpt2
        assert {(tokens, 2304, 768, "NT"), (tokens, 768, 3072, "NT")} <= gpt2
    assert {p.m for p in shapes.MATMUL["skinny"]} == {1, 2, 4, 8, 16, 32, 64, 128}
    assert shapes.Product(256 * 56 * 56, 64, 256, "NT") in shapes.MATMUL["resnet50"]
    assert len(shapes.products(["square", "square", "small"])) == len(shapes.products(["square", "small"]))


@pytest.mark.parametrize("layout", ["NN", "NT", "TN", "TT"])
def test_a_layout_is_what_dispatch_sees(layout):
    """The problem that is posed without arrays is the one that arrays of that layout make."""
    from fastnet.kernels._runtime import extension_for

    extension = extension_for(np.empty(0))
    for p in (shapes.Product(64, 48, 32, layout), shapes.Product(36, 20, 28, layout), shapes.Product(7, 5, 3, layout)):
        a, b = bench_matmul._operands(cases.Source(pool=1000), p, "float16")
        assert (a.shape, b.shape) == ((p.m, p.k), (p.k, p.n))
        assert a.flags.c_contiguous == (layout[0] == "N")
        assert b.flags.c_contiguous == (layout[1] == "N")
        with kernels.use("emulated", device="H200"), kernels.trace() as ran:
            kernels.matmul(a, b)
            posed = extension.matmul_config(bench_matmul.problem(extension, p, "float16"))
        assert ran.launches[0].config == str(posed)


# ---- without a GPU -------------------------------------------------------------------------------------------------


def test_the_command_says_what_can_be_known(tmp_path):
    done = run("benchmarks", "matmul", "reduction", "--shapes", "small", "--device", "A100", "--out",
               str(tmp_path / "rows.csv"), "--plots", str(tmp_path))  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert {(r["operation"], r["dtype"]) for r in found} == {
        (o, d) for o in ("matmul", "linear_gelu", "column_sum") for d in ("bfloat16", "float32")
    }
    for r in found:
        assert r["gpu"] == "A100"
        assert r["config"].startswith(("matmul(", "column_sum("))
        assert "global" in r["counters"]
        assert r["commit"]
        assert r["date"]
    sums = next(r for r in found if r["operation"] == "column_sum" and r["shape"] == "256x1024")
    nbytes = {"bfloat16": 2, "float32": 4}[sums["dtype"]] * 257 * 1024
    assert float(sums["predicted_us"]) == pytest.approx((nbytes / (0.9 * 2e12) + 2e-6) * 1e6, rel=1e-3)
    assert "nothing here was measured" in done.stdout
    assert "registers and spills" in done.stdout or any(int(r["registers"]) for r in found)


def test_known_follows_the_device():
    (case,) = [
        c
        for c in OPERATIONS["softmax"](["small"], ["float32"], ())
        if (c.operation, c.shape) == ("softmax", "256x1024")
    ]
    on = {d: known.know(case, d) for d in ("H200", "RTX 3090")}
    assert on["H200"].predicted_us < on["RTX 3090"].predicted_us
    assert on["H200"].gpu == "H200"
    assert on["H200"].spilled == 0
    assert known.ceilings("H200")["copy"] == 4800
    assert known.ceilings("H200")["matmul bfloat16"] == pytest.approx(989, rel=0.01)
    assert known.ceilings("A100")["matmul bfloat16"] == pytest.approx(312, rel=0.01)
    assert known.ceilings("RTX 4090")["matmul bfloat16"] == pytest.approx(165.2, rel=0.01)
    assert known.ceilings("RTX 5090")["matmul float32"] == pytest.approx(104.8, rel=0.01)


def test_time_on_the_cpu(tmp_path):
    done = run("benchmarks", "reduction", "overhead", "--cpu", "--samples", "2", "--out", str(tmp_path / "rows.csv"))
    assert done.returncode == 0, done.stderr
    found = rows.read(tmp_path / "rows.csv")
    assert {r.operation for r in found} >= {"column_sum", "eager add recorded", "mlp step"}
    assert all(r.median_us > 0 and r.gpu and r.commit and r.date and r.timing == "host" for r in found)
    assert "not the kernels" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convolutions"], "unknown: convolutions"),
        (["matmul", "--shapes", "round"], "unknown: round; there is gpt2, large"),
        (["matmul", "--dtypes", "int3"], "unknown: int3"),
        (["matmul", "--peers", "numpy"], "unknown: numpy"),
        (["matmul", "--device", "H900"], "H900; known are H200"),
        (["overhead", "--device", "H200"], "mlp step: can only be measured"),
        (["matmul", "--cpu", "--device", "H200"], "give one of them"),
        (["matmul", "--samples", "0"], "--samples is 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_wrong_result_fails_the_command(monkeypatch, capsys):
    wrong = doubling(implementation("right"), implementation("wrong", lambda x: x * 3))
    monkeypatch.setattr(command, "operations", lambda: {"double": lambda *_: iter([wrong])})
    assert command.main(["--cpu", "--samples", "2"]) == 1
    told = capsys.readouterr()
    assert "WRONG: double 100 float32, wrong: 100 of 100 elements differ" in told.err
    assert "right" in told.out


def test_out_of_time_is_said(monkeypatch, capsys):
    many = [doubling(implementation("right")) for _ in range(3)]
    monkeypatch.setattr(command, "operations", lambda: {"double": lambda *_: iter(many)})
    assert command.main(["--cpu", "--samples", "2", "--seconds", "0"]) == 0
    assert "3 cases were left out" in capsys.readouterr().out


def test_operations_take_turns():
    assert list(command.in_turn([iter("abc"), iter("x"), iter("12")])) == ["a", "x", "1", "b", "2", "c"]


def test_as_installed(tmp_path):
    """In a wheel the benchmarks lie in the package, the golden counters in them (pyproject.toml)."""
    text = (ROOT / "pyproject.toml").read_text()
    assert '"fastnet/benchmarks" = "benchmarks"' in text
    assert '"fastnet/benchmarks/golden" = "tests/golden"' in text
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(kernels.__file__).parents[1], tmp_path / "fastnet", ignore=ignored)
    shutil.copytree(ROOT / "benchmarks", tmp_path / "fastnet" / "benchmarks", ignore=ignored, dirs_exist_ok=True)
    shutil.copytree(ROOT / "tests" / "golden", tmp_path / "fastnet" / "benchmarks" / "golden", dirs_exist_ok=True)
    arguments = ["fastnet", "bench", "reduction", "--device", "RTX 4090", "--out", str(tmp_path / "rows.csv")]
    done = run(*arguments, path=(tmp_path,), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert found
    assert all(r["gpu"] == "RTX 4090" and "global 1.00" in r["counters"] for r in found)
    assert all(r["commit"][0].isdigit() and "." in r["commit"] for r in found)  # the package's version: no checkout


# ---- disassembly, counters, plots ----------------------------------------------------------------------------------

USAGE = """
Fatbin elf code:
================
arch = sm_80
code version = [1,8]

Resource usage:
 Common:
  GLOBAL:0
 Function _ZN45_GLOBAL__N__d3f34fdb_12_reduction_cu_fcfe680117column_sum_kernelI13__nv_bfloat16S1_EEvPT0_PKT_lllli:
  REG:40 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:600 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function _ZN12_GLOBAL__N_117column_sum_kernelIfEEvPvPKvl:
  REG:32 STACK:16 SHARED:0 LOCAL:8 CONSTANT[0]:600 TEXTURE:0 SURFACE:0 SAMPLER:0

Fatbin elf code:
================
arch = sm_90a

Resource usage:
 Function _ZN12_GLOBAL__N_113matmul_kernelIfLNS_10MatmulTileE2EEEv15MatmulArguments:
  REG:168 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:1600 TEXTURE:0 SURFACE:0 SAMPLER:0
"""


def test_the_disassembly_is_read():
    found = disassembly.parse(USAGE)
    assert [(u.kernel, u.architecture, u.registers, u.local) for u in found] == [
        ("column_sum_kernel", "sm_80", 40, 0),
        ("column_sum_kernel", "sm_80", 32, 24),
        ("matmul_kernel", "sm_90a", 168, 0),
    ]
    assert len(disassembly.serving(found, "sm_80", ["column_sum"])) == 2
    assert disassembly.serving(found, "sm_90a", ["column_sum"]) == []
    built = {"sm_80", "sm_90a", "sm_120"}
    assert disassembly.architecture_of(9, 0, built) == "sm_90a"
    assert disassembly.architecture_of(8, 9, built) == "sm_80"
    assert disassembly.architecture_of(12, 0, built) == "sm_120"
    heading, *rows_of, total, size = disassembly.summary(found, 3 * 2**19).splitlines()
    assert heading.split() == ["kernel", "sm_80", "sm_90a", "registers", "local"]
    assert [r.split() for r in rows_of] == [
        ["column_sum_kernel", "2", "0", "40", "24"],
        ["matmul_kernel", "0", "1", "168", "0"],
    ]
    assert total.split() == ["all", "2", "1"]
    assert size == "3 instantiations, 1.5 MiB"


def test_counters_are_ratios_of_reads_and_writes():
    counted = [
        {"shared": False, "write": False, "sectors": 8, "wavefronts": 0, "ideal": 4},
        {"shared": False, "write": False, "sectors": 2, "wavefronts": 0, "ideal": 1},
        {"shared": True, "write": True, "sectors": 0, "wavefronts": 3, "ideal": 3},
    ]
    assert counters.ratios(counted) == {"global read": 2, "shared write": 1}
    assert counters.readable(counters.ratios(counted)) == "global 2.00/- shared -/1.00"
    assert set(counters.stored("column_sum", "float16")) >= {"global read", "global write"}
    assert counters.stored("nothing", "float32") == {}


def test_every_case_names_counters_that_are_stored_and_kernels_that_exist():
    source = "".join(p.read_text() for p in (ROOT / "csrc").glob("*/*.cu"))
    for build in OPERATIONS.values():
        for case in build(["small"], ["float32"], ()):
            if not case.host:
                assert counters.stored(case.counted, "float32"), case.operation
                assert any(f"{name}" in source for name in case.kernels), case.operation


def drawn(name="fastnet", shape="8192x2304x768 NT", ratio=0.95, dtype="bfloat16", tflops=500.0, intensity=400.0):
    return rows.Row(
        "matmul", shape, dtype, name, "NVIDIA H200", "0" * 7, "2026-01-01", 10, 0.01, tflops=tflops,
        flop_per_byte=intensity, ratio_to_best_peer=ratio, best_peer="PyTorch",
    )  # fmt: skip


def test_plots(tmp_path):
    found = [drawn(), drawn("PyTorch", tflops=520), drawn(shape="512x512x512", ratio=5.0), drawn(dtype="float32")]
    written = plots.draw(found, {"copy": 4300, "matmul bfloat16": 780, "matmul float32": 50}, tmp_path)
    assert [p.name for p in written] == ["roofline.png", "ratio_bfloat16.png", "ratio_float32.png"]
    assert all(p.read_bytes()[:4] == b"\x89PNG" and p.stat().st_size > 5000 for p in written)
    assert plots.draw([], {}, tmp_path / "none") == []


def test_rows_are_read_as_they_were_written(tmp_path):
    found = [drawn(), drawn("PyTorch", dtype="float32")]
    rows.write(found, tmp_path / "rows.csv")
    assert rows.read(tmp_path / "rows.csv") == found


# ---- the command for a GPU -----------------------------------------------------------------------------------------


def test_parts_end_within_nine_minutes(tmp_path):
    """Even if each takes all it may."""
    now, limits = [0.0], {}

    def execute(command, out, log, seconds):
        limits.setdefault(log.stem, []).append(seconds)
        now[0] += seconds
        return 124

    results = gpu.run(gpu.PARTS, tmp_path, False, execute=execute, now=lambda: now[0])
    assert now[0] <= 9 * 60
    assert set(limits) == set(gpu.PARTS)
    assert len(limits["sanitizer"]) == 4
    assert sum(limits["sanitizer"]) == pytest.approx(gpu.LIMITS["sanitizer"])
    assert all(r["status"] == 124 for r in results.values())


def test_time_that_is_left_goes_to_the_benchmarks(tmp_path):
    limits = {}

    def execute(command, out, log, seconds):
        limits[log.stem] = seconds
        return 0

    gpu.run(gpu.PARTS, tmp_path, False, execute=execute, now=lambda: 0.0)
    assert limits["benchmarks"] == pytest.approx(gpu.SECONDS - gpu.LIMITS["compiled"])
    (bench,) = gpu.commands("benchmarks", tmp_path, False, 300)
    assert bench[bench.index("--seconds") + 1] == "285"


def test_a_part_that_takes_too_long_is_ended_with_all_it_started(tmp_path):
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    began = time.monotonic()
    assert gpu.execute([sys.executable, "-c", script], tmp_path, tmp_path / "log", 1.0) == 124
    assert time.monotonic() - began < 20
    assert gpu.execute(["no-such-program"], tmp_path, tmp_path / "log", 1.0) == 127
    assert "no-such-program" in (tmp_path / "log").read_text()


def test_without_compute_sanitizer_its_part_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert all(c[0] == "compute-sanitizer" for c in gpu.commands("sanitizer", tmp_path, False, 60))


def test_dry_run_of_the_gpu_command(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([p for p in sys.path if p])}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == set(gpu.PARTS)
    for part, r in results.items():
        assert r["status"] == 0, f"{part}: {(tmp_path / r['log']).read_text()[-2000:]}\n{done.stdout}"
    assert (tmp_path / "rows.csv").exists()
    assert (tmp_path / "compiled.csv").exists()


def test_installed_without_a_checkout(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "REPOSITORY", tmp_path)
    ran = []
    monkeypatch.setattr(gpu, "execute", lambda command, *rest: ran.append(command) or 0)
    monkeypatch.setattr(gpu.run, "__kwdefaults__", {**gpu.run.__kwdefaults__, "execute": gpu.execute})
    assert gpu.main(["--dry-run", "--out", str(tmp_path / "out")]) == 0
    assert list(json.loads((tmp_path / "out" / "results.json").read_text())) == ["benchmarks", "compiled"]
    assert len(ran) == 2
    assert "run in a checkout" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        gpu.main(["--only", "suite", "--dry-run", "--out", str(tmp_path / "out")])
    assert "only a checkout" in capsys.readouterr().err


def test_extensions_built_in_place_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setattr(gpu, "REPOSITORY", tmp_path)
    assert gpu._environment()["PYTHONPATH"] == "elsewhere"
    (tmp_path / "fastnet").mkdir()
    (tmp_path / "fastnet" / "_emulated.so").touch()
    assert gpu._environment()["PYTHONPATH"] == os.pathsep.join([str(tmp_path), "elsewhere"])


def test_one_part_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    assert gpu.main(["--only", "build", "--dry-run", "--out", str(tmp_path)]) == 0
    assert list(json.loads((tmp_path / "results.json").read_text())) == ["build"]
