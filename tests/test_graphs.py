"""Graphed steps on a made-up stream: what is copied, written and counted around a replay. Capture itself needs a GPU:
benchmarks/PENDING.md."""

import numpy as np
import pytest
from made_up_stream import MadeUpStream

import fastnet
from fastnet import _capture, cuda, kernels, nn, optim
from fastnet.cuda.graphs import CaptureError, graph
from fastnet.nn import functional as F


def made_up(model, optimizer):
    return MadeUpStream([optimizer], lambda: [*model.parameters(), *model.buffers()])


def problem(kind="SGD", **options):
    fastnet.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.4), nn.Linear(12, 3))
    optimizer = getattr(optim, kind)(
        [{"params": model[0].parameters()}, {"params": [*model[1].parameters(), *model[4].parameters()], "lr": 0.02}],
        lr=0.05, **options,
    )  # fmt: skip

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, step


def graphed(kind="SGD", warmup=2, **options):
    model, optimizer, step = problem(kind, **options)
    stream = made_up(model, optimizer)
    made = graph(step, warmup=warmup, recorder=stream)
    stream.graphed = made
    return model, optimizer, made, stream


def batches(n=9):
    rng = np.random.default_rng(0)
    return [
        (fastnet.tensor(rng.standard_normal((8, 6)).astype(np.float32)), fastnet.tensor(rng.integers(0, 3, 8)))
        for _ in range(n)
    ]


KINDS = [
    ("SGD", {"momentum": 0.9, "nesterov": True}), ("SGD", {"momentum": 0.9, "dampening": 0.2}), ("Adam", {}),
    ("AdamW", {"amsgrad": True}), ("Adagrad", {"lr_decay": 0.1}), ("RMSprop", {"momentum": 0.5}),
]  # fmt: skip


@pytest.mark.parametrize("mode", ["reference", "emulated"])
@pytest.mark.parametrize(("kind", "options"), KINDS, ids=lambda k: k if isinstance(k, str) else "-".join(k))
def test_replays_are_the_steps_they_stand_for(kind, options, mode):
    """Data, learning rates and dropout's masks change from replay to replay; numbers drawn between steps too. Losses
    and weights are those of the steps run as they are, but for the order in which rates are rounded."""
    ends = []
    with kernels.use(mode):
        for make in (problem, graphed):
            model, optimizer, step, *stream = make(kind, **options)
            schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
            losses, between = [], []
            for x, y in batches():
                losses.append(step(x, y).item())
                schedule.step()
                between.append(fastnet.rand(2).tolist())
            ends.append((losses, between, [p.detach().numpy() for p in model.parameters()]))
            steps = [float(s["step"]) for s in optimizer.state.values() if "step" in s]
            assert steps == [9.0] * len(steps)
    assert stream[0].ran == 2
    assert stream[0].replayed == 7
    assert step.captured
    assert ends[0][1] == ends[1][1]
    np.testing.assert_allclose(ends[1][0], ends[0][0], rtol=1e-5)
    for got, want in zip(ends[1][2], ends[0][2], strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_results_stay_where_they_are_and_are_overwritten():
    _, _, step, _ = graphed()
    losses = [step(x, y) for x, y in batches(5)]
    assert losses[2] is losses[3] is losses[4]
    assert losses[0] is not losses[1]


def test_gradients_of_scaled_and_clipped_steps():
    model, optimizer, _ = problem("AdamW")
    scaler = fastnet.amp.GradScaler("cpu", init_scale=64.0)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer, max_norm=0.1)
        scaler.update()
        return loss

    stream = made_up(model, optimizer)
    stream.graphed = made = graph(step, recorder=stream)
    first = model[0].weight.detach().clone()
    for x, y in batches(5):
        made(x, y)
    assert stream.replayed == 3
    assert not fastnet.equal(first, model[0].weight)


def failing(body, message, warmup=1):
    """The third argument of what a step does after its forward."""
    model, optimizer, _ = problem()

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return body(loss, model, optimizer)

    stream = made_up(model, optimizer)
    stream.graphed = made = graph(step, warmup=warmup, recorder=stream)
    data = batches(warmup + 1)
    for x, y in data[:warmup]:
        made(x, y)
    before = [p.tolist() for p in model.parameters()]
    place = fastnet.get_rng_state().tolist()
    with pytest.raises(CaptureError, match=message):
        made(*data[-1])
    assert [p.tolist() for p in model.parameters()] == before  # it has not run
    assert fastnet.get_rng_state().tolist() == place
    assert _capture.current is None
    assert not made.captured


def test_calls_that_cannot_be_captured_are_named():
    named = r"reading a tensor's values waits for the device \(test_graphs\.py:\d+: "
    failing(lambda loss, m, o: loss.item(), named + r".*loss\.item\(\)")
    failing(lambda loss, m, o: loss.tolist(), r"waits for the device \(test_graphs\.py:\d+: .*loss\.tolist\(\)")
    failing(lambda loss, m, o: loss if bool(loss > 0) else None, r"waits for the device.*bool\(loss > 0\)")
    met = []

    def fails_later(loss, model, optimizer):
        if met:
            raise RuntimeError("operation not permitted when stream is capturing")
        met.append(1)
        return loss

    failing(fails_later, r"RuntimeError: operation not permitted.*test_graphs\.py:\d+: raise RuntimeError")
    failing(lambda loss, m, o: (loss, 3.5), r"what the step returned\[1\] is a float")
    failing(lambda loss, m, o: {"loss": loss, "n": "x"}, r"\['n'\] is a str")
    calls = []

    def another(loss, model, optimizer):
        if calls:
            other = optim.SGD([fastnet.zeros(1, requires_grad=True)], lr=0.1)
            other.param_groups[0]["params"][0].grad = fastnet.zeros(1)
            other.step()
        calls.append(1)
        return loss

    failing(another, "an optimizer that no call before did")
    own = fastnet.Generator().manual_seed(1)
    drawn = []

    def draws(loss, model, optimizer):
        if drawn:
            fastnet.rand(2, generator=own)
        drawn.append(1)
        return loss

    failing(draws, "a generator that no call before drew from")


def test_arguments_and_options_that_change_are_named():
    _, optimizer, step, _ = graphed(momentum=0.9)
    data = batches(4)
    for x, y in data:
        step(x, y)
    x, y = data[0]
    for bad, message in (
        ((x[:5], y[:5]), r"argument 0 .* shape \(5, 6\).* at first it was .*\(8, 6\).*call the step itself"),
        ((x, y.int()), "argument 1 .*int32"),
        ((x,), "takes 2 arguments, got 1"),
        ((x, 3), "argument 1 .* is a int, expected a tensor"),
    ):
        with pytest.raises(CaptureError, match=message):
            step(*bad)
    optimizer.param_groups[1]["momentum"] = 0.5
    with pytest.raises(CaptureError, match=r"'momentum' of a parameter group was 0\.9 and is 0\.5"):
        step(x, y)
    optimizer.param_groups[1]["momentum"] = 0.9
    step(x, y)


def test_a_generator_of_ones_own():
    """Its numbers go on from replay to replay, and after a step as if each had been run."""
    model, optimizer, _ = problem()
    own = fastnet.Generator().manual_seed(3)
    stream = made_up(model, optimizer)
    stream.graphed = made = graph(lambda x: x + fastnet.rand(4, generator=own), recorder=stream)
    zeros = fastnet.zeros(4)
    got = [made(zeros).tolist() for _ in range(6)] + [fastnet.rand(4, generator=own).tolist()]
    again = fastnet.Generator().manual_seed(3)
    assert got == [fastnet.rand(4, generator=again).tolist() for _ in range(7)]


def test_nothing_is_captured_within_a_capture():
    model, optimizer, _, stream = graphed(warmup=1)
    inner = graph(lambda x: x, recorder=made_up(model, optimizer))
    outer = graph(lambda x: inner(x), recorder=stream)
    with pytest.raises(CaptureError, match="calls another one"):
        outer(fastnet.zeros(2))
    assert _capture.current is None


@pytest.mark.parametrize("kind", ["Muon", "Adadelta", "ASGD", "LBFGS"])
def test_optimizers_of_array_code_are_refused(kind):
    p = fastnet.ones(3, 3, requires_grad=True)
    optimizer = getattr(optim, kind)([p])

    def step(x):
        p.grad = x
        optimizer.step(*[lambda: 0.0] * (kind == "LBFGS"))

    with pytest.raises(CaptureError, match=kind + r".step .*test_graphs\.py"):
        graph(step, recorder=made_up(nn.Identity(), optimizer))(fastnet.ones(3, 3))


def test_without_a_gpu_it_says_so():
    if not cuda.is_available():
        with pytest.raises(RuntimeError, match=r"fastnet\.cuda"):
            cuda.graph(lambda x: x)
    with pytest.raises(ValueError, match="warmup is 0"):
        cuda.graph(lambda x: x, warmup=0)
