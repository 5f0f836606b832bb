"""fastnet.cuda and fastnet.accelerator: what they say without a GPU; what they ask of CuPy, by a stand-in for it."""

from types import SimpleNamespace

import pytest

import fastnet
from fastnet import accelerator, cuda


class MadeUpRuntime:
    """Two devices, streams as lists of what was put into them, a clock of one millisecond an event."""

    def __init__(self):
        self.device, self.clock, current = 0, 0, []
        outer = self

        class Device:
            def __init__(self, index=None):
                self.id = outer.device if index is None else index

            def use(self):
                outer.device = self.id

            def synchronize(self):
                pass

        class Event:
            done = True

            def __init__(self, block=False, disable_timing=False, interprocess=False):
                self.timing = not disable_timing

            def record(self, stream=None):
                outer.clock += 1
                self.time = outer.clock
                (stream or current[-1]).put.append(("record", self))

            def synchronize(self):
                pass

        class Stream:
            done = True

            def __init__(self, non_blocking=False, priority=0):
                self.put, self.device, self.ptr, self.priority = [], outer.device, id(self), priority

            def synchronize(self):
                self.put.append("synchronize")

            def wait_event(self, event):
                self.put.append(("wait", event))

            def use(self):
                current[-1] = self

            def __enter__(self):
                current.append(self)

            def __exit__(self, *exception):
                current.pop()

        Stream.null = Stream()
        current.append(Stream.null)
        properties = {
            "name": b"Made Up",
            "major": 9,
            "minor": 0,
            "totalGlobalMem": 1000,
            "multiProcessorCount": 132,
            "l2CacheSize": 50,
            "sharedMemPerBlockOptin": 227,
            "maxThreadsPerMultiProcessor": 2048,
            "warpSize": 32,
        }
        self.cuda = SimpleNamespace(
            Device=Device,
            Event=Event,
            Stream=Stream,
            get_current_stream=lambda: current[-1],
            get_elapsed_time=lambda a, b: float(b.time - a.time),
            runtime=SimpleNamespace(
                getDeviceCount=lambda: 2,
                getDeviceProperties=lambda index: properties | {"name": b"Made Up %d" % index},
                memGetInfo=lambda: (900 - outer.device, 1000),
            ),
        )
        pool = SimpleNamespace(used_bytes=lambda: 10, total_bytes=lambda: 30, free_all_blocks=lambda: None)
        self.get_default_memory_pool = lambda: pool


@pytest.fixture
def gpu(monkeypatch):
    made_up = MadeUpRuntime()
    monkeypatch.setattr(cuda, "_runtime", lambda: made_up)
    monkeypatch.setattr(cuda, "why_no_cuda", lambda: None)
    return made_up


def test_devices(gpu):
    assert cuda.device_count() == accelerator.device_count() == 2
    assert cuda.get_device_name(1) == "Made Up 1"
    assert cuda.get_device_capability("cuda:0") == (9, 0)
    p = cuda.get_device_properties()
    assert (p.name, p.total_memory, p.multi_processor_count) == ("Made Up 0", 1000, 132)
    assert cuda.is_bf16_supported()
    with cuda.device(1):
        assert cuda.current_device() == accelerator.current_device_index() == 1
        with cuda.device(None), cuda.device(-1):
            assert cuda.current_device() == 1
    assert cuda.current_device() == 0
    with accelerator.device_index(1):
        assert cuda.current_device() == 1
        with accelerator.device_index(None):
            assert cuda.current_device() == 1
    with pytest.raises(KeyError), cuda.device(fastnet.device("cuda:1")):
        raise KeyError
    assert cuda.current_device() == 0
    accelerator.set_device_index(1)
    assert cuda.current_device() == 1
    assert accelerator.current_accelerator() == fastnet.device("cuda")


def test_memory(gpu):
    assert cuda.mem_get_info(1) == (899, 1000)
    assert cuda.mem_get_info() == (900, 1000)
    assert (cuda.memory_allocated(), cuda.memory_reserved(), cuda.max_memory_reserved()) == (10, 30, 30)


def test_events_and_streams(gpu):
    start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    assert start._event.timing
    assert not cuda.Event()._event.timing
    side = cuda.Stream(device=1, priority=-1)
    assert (side._stream.device, side._stream.priority) == (1, -1)
    assert cuda.current_stream() == cuda.default_stream() != side
    start.record()
    with cuda.stream(side):
        assert cuda.current_stream() == side
        end.record()
    assert start.elapsed_time(end) == 1.0
    assert end.query()
    assert side._stream.put == [("record", end._event)]
    side.wait_stream(cuda.current_stream())
    assert side._stream.put[-1] == ("wait", gpu.cuda.Stream.null.put[-1][1])
    end.wait(side)
    assert side._stream.put[-1] == ("wait", end._event)
    cuda.set_stream(side)
    assert len({cuda.current_stream(), side, cuda.default_stream()}) == 2
    assert side.query()


@pytest.mark.skipif(cuda.is_available(), reason="of a machine without a GPU")
def test_without_a_gpu():
    assert accelerator.current_accelerator() is None
    assert not accelerator.is_available()
    assert accelerator.device_count() == accelerator.memory_allocated() == cuda.memory_reserved() == 0
    for call in (cuda.Event, cuda.Stream, cuda.current_stream, cuda.get_device_properties, cuda.mem_get_info):
        with pytest.raises(RuntimeError, match=r"fastnet\.cuda"):
            call()


def test_random_state():
    fastnet.manual_seed(5)
    state, first = cuda.get_rng_state(), fastnet.rand(3)
    cuda.set_rng_state(state)
    assert (fastnet.rand(3) == first).all()
