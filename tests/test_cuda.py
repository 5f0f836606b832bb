"""fastnet.cuda and fastnet.accelerator: what they say without a GPU; what they ask of CuPy, by a stand-in for it."""

import pytest
from made_up_cupy import install, runtime

import fastnet
from fastnet import accelerator, cuda


@pytest.fixture
def gpu():
    with install() as made_up:
        yield made_up
        made_up.cuda.Device(0).use()


def test_devices(gpu):
    assert cuda.device_count() == accelerator.device_count() == 2
    assert cuda.get_device_name(1) == "Made Up 1"
    assert cuda.get_device_capability("cuda:0") == (9, 0)
    p = cuda.get_device_properties()
    assert (p.name, p.total_memory, p.multi_processor_count) == ("Made Up 0", runtime.MEMORY, 132)
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
    free, total = cuda.mem_get_info()
    assert total == runtime.MEMORY
    assert cuda.mem_get_info(1) == (free, total)
    cuda.reset_peak_memory_stats()
    used = cuda.memory_allocated()
    x = fastnet.ones(1000, device="cuda")
    assert cuda.memory_allocated() == used + 4000
    del x
    assert cuda.memory_allocated() == used
    assert cuda.memory_reserved() == cuda.max_memory_reserved() >= used + 4000


def test_events_and_streams(gpu):
    gpu.cuda.Stream.null.put.clear()
    start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    assert not start._event.disable_timing
    assert cuda.Event()._event.disable_timing
    side = cuda.Stream(device=1, priority=-1)
    assert (side._stream.device_id, side._stream.priority) == (1, -1)
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
    before = cuda.current_stream()
    cuda.set_stream(side)
    assert len({cuda.current_stream(), side, cuda.default_stream()}) == 2
    cuda.set_stream(before)
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
