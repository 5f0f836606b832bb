"""What runs cost: kernels by predicted bytes and operations, shares of peaks, energy."""

import json
import math

import pytest

import fastnet
from fastnet import kernels
from fastnet.cli import main
from fastnet.recipes import RECIPES, mlp
from fastnet.train import Run, profiling
from fastnet.utils.cost import Calls, count, peak_flops_per_second
from fastnet.utils.energy import EnergyMeter, meter_for


def options(**changed):
    return mlp.Options(epochs=1, hidden=(16,), progress=False, **changed)


def test_a_step_of_the_mlp_is_what_hand_counting_gives():
    found = profiling.profile(lambda: mlp.run(options()), steps=3)
    lines = {line.name: line for line in found.lines}
    assert found.steps == 3
    assert not found.measured
    assert found.device == "H200"
    # Two layers forward, their weights' gradients, and the hidden layer's: 2 * 32 * (64 * 16 + 16 * 10) and so on.
    first, second = 2 * 32 * 64 * 16, 2 * 32 * 16 * 10
    assert lines["matmul"].calls == 5
    assert lines["matmul"].flops == 2 * first + 3 * second
    assert lines["matmul"].dtype == "float32"
    parameters = 64 * 16 + 16 + 16 * 10 + 10
    # Param and momentum read and written, gradient read; and what gradient_norm found, three of float64.
    assert lines["sgd_step"].bytes == 4 * 5 * parameters + 2 * 8 * 3
    assert found.lines == sorted(found.lines, key=lambda line: -line.seconds)
    assert Run.profiler is None


@pytest.mark.parametrize(
    ("recipe", "function"),
    [
        ("mlp", "matmul"),
        ("cnn", "max_pool2d"),
        ("resnet", "batch_norm"),
        ("rnn", "rnn_backward"),
        ("lstm", "lstm_backward"),
        ("transformer", "attention_backward"),
        ("gan", "conv2d_input_grad"),
    ],
)
def test_every_recipe_can_be_profiled(recipe, function):
    module = RECIPES[recipe]
    found = profiling.profile(lambda: module.run(module.Options(batch_size=8, epochs=1, progress=False)), steps=1)
    lines = {line.name: line for line in found.lines}
    assert lines[function].calls >= 1
    assert all(line.bytes > 0 and line.seconds > 0 for line in found.lines)
    assert {"adam_step", "sgd_step"} & set(lines)
    assert sum(line.flops for line in found.lines) > 1e5


def test_every_recipe_is_listed():
    assert len(RECIPES) == 7  # above


def test_bytes_of_one_product():
    a, b = fastnet.ones(3, 4), fastnet.ones(4, 5)
    for mode in ("reference", "emulated"):
        with kernels.use(mode), count() as cost:
            a @ b
        assert cost.calls == {"matmul": Calls(1, 2 * 3 * 4 * 5, 4 * (12 + 20 + 15), 0.0, "float32")}


def test_predictions_are_the_slower_of_bytes_and_operations():
    properties = {"peaks": {"float32": 1e12, "bfloat16": 1e14}, "copy_bandwidth": 1e11, "launch_seconds": 1e-6}
    assert profiling.predicted_seconds(Calls(2, 10**12, 10**6, 0, "float32"), properties) == pytest.approx(1 + 2e-6)
    assert profiling.predicted_seconds(Calls(1, 10**12, 10**6, 0, "bfloat16"), properties) == pytest.approx(0.01 + 1e-6)
    assert profiling.predicted_seconds(Calls(1, 1, 10**11, 0, "int64"), properties) == pytest.approx(1 + 1e-6)


def test_measured_times_are_those_of_the_events():
    """A made-up GPU, whose clock moves by a second an event."""

    class Event:
        ticks = 0

        def record(self):
            Event.ticks += 1
            self.at = Event.ticks

    class Cuda:
        get_elapsed_time = staticmethod(lambda a, b: 1e3 * (b.at - a.at))

        class Device:
            def synchronize(self):
                pass

    Cuda.Event = Event
    events = profiling._Events.__new__(profiling._Events)
    events._cupy, events._pairs = type("CuPy", (), {"cuda": Cuda}), []
    with count(events) as cost:
        fastnet.ones(2, 2) @ fastnet.ones(2, 2) @ fastnet.ones(2, 2)
    assert cost.calls["matmul"].seconds == 0
    events.finish()
    assert cost.calls["matmul"].seconds == 2


def test_runs_too_short_or_unknown():
    with pytest.raises(RuntimeError, match="ended after 0 steps"):
        profiling.profile(lambda: None)
    with pytest.raises(ValueError, match="steps is 0"):
        profiling.profile(lambda: None, steps=0)
    with pytest.raises(ValueError, match="unknown device"):
        profiling.profile(lambda: mlp.run(options()), device="X1")
    with pytest.raises(ZeroDivisionError):
        profiling.profile(lambda: 1 / 0)
    assert Run.profiler is None


def test_command_line(capsys):
    assert main(["profile", "mlp", "--steps", "2", "--predict", "A100", "--batch-size", "8"]) == 0
    page = capsys.readouterr().out
    assert "predicted for A100" in page
    assert all(name in page for name in ("matmul", "cross_entropy", "sgd_step", "dropout_backward"))
    assert main(["profile", "mlq"]) == 2
    assert "no recipe" in capsys.readouterr().err
    assert main(["profile", "mlp", "--predict", "X1"]) == 2
    assert "unknown device" in capsys.readouterr().err
    assert main(["profile", "mlp", "--device", "cuda"]) == 2
    assert "cuda" in capsys.readouterr().err


def test_summaries_have_shares_of_the_peak(tmp_path):
    trainer, _ = mlp.run(options(out=tmp_path))
    summary = trainer.write_summary()
    peak, known_from = peak_flops_per_second()
    assert summary["peak_flops_per_second"] == peak > 1e8
    assert "measured" in known_from
    assert summary["share_of_peak"] == pytest.approx(summary["flops_per_second"] / peak)
    assert 0 < summary["share_of_peak"] < 1
    assert summary["energy_joules"] is None
    assert json.loads((tmp_path / "summary.json").read_text()) == summary


class MadeUpNVML:
    """Counts 1,500 mJ a reading."""

    def __init__(self, fails=""):
        self.fails, self.readings, self.asked = fails, 0, []

    def __getattr__(self, name):
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def call(*arguments):
            self.asked.append((name, arguments))
            if name == self.fails:
                return 3
            if name == "nvmlDeviceGetTotalEnergyConsumption":
                self.readings += 1
                arguments[1]._obj.value = 10_000 + 1_500 * self.readings  # what byref points to
            return 0

        return call


def test_energy():
    library = MadeUpNVML()
    meter = EnergyMeter("0000:3B:00.0", lambda: library)
    assert meter.why is None
    assert [meter.joules(), meter.joules()] == [1.5, 3.0]
    assert ("nvmlDeviceGetHandleByPciBusId_v2", b"0000:3B:00.0") in [(n, a[0]) for n, a in library.asked if a]
    for fails in ("nvmlInit_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetTotalEnergyConsumption"):
        meter = EnergyMeter(load=lambda fails=fails: MadeUpNVML(fails))
        assert meter.joules() is None
        assert f"{fails} returned 3" in meter.why

    def absent():
        raise OSError("no such library")

    assert EnergyMeter(load=absent).joules() is None
    assert meter_for("cpu") is None


def test_peaks_are_measured_once():
    assert peak_flops_per_second()[0] == peak_flops_per_second()[0]
    assert math.isfinite(peak_flops_per_second()[0])
