"""Training on ``device="cuda"`` under CuPy's rules (``made_up_cupy``), against the CPU: layers, optimizers, schedules,
whole models, graphs, recipes; and that steps do not wait for the device."""

import numpy as np
import pytest
import test_distributions
import test_lazy
import test_nn
import test_volumes
from made_up_cupy import install, runtime
from test_device_arrays import host, on_gpu, same
from test_loss_curves import MODELS
from test_models_third_party import MODELS as FILES
from test_models_third_party import load
from test_optimizers_with_schedules import OPTIMIZERS, SCHEDULES, trained

import fastnet
from fastnet import kernels, nn, optim
from fastnet.nn import functional as F


@pytest.fixture(scope="module", autouse=True)
def cupy():
    with install() as made_up:
        yield made_up


LAYERS = {**test_nn.LAYERS, **test_lazy.LAYERS, **test_volumes.LAYERS} | {
    "Conv1d": (lambda n: n.Conv1d(4, 6, 3, padding=1), (2, 4, 7)),
    "Conv2d": (lambda n: n.Conv2d(4, 6, 3, stride=2, groups=2), (2, 4, 7, 6)),
    "ConvTranspose2d": (lambda n: n.ConvTranspose2d(4, 3, 3, 2, 1, 1), (2, 4, 3, 4)),
    "BatchNorm2d": (lambda n: n.BatchNorm2d(4), (3, 4, 5, 2)),
    "LayerNorm": (lambda n: n.LayerNorm(6), (3, 6)),
    "RMSNorm": (lambda n: n.RMSNorm(6), (3, 6)),
    "GroupNorm": (lambda n: n.GroupNorm(2, 4), (3, 4, 3)),
    "InstanceNorm2d": (lambda n: n.InstanceNorm2d(3, affine=True), (2, 3, 4, 3)),
    "MaxPool2d": (lambda n: n.MaxPool2d(2), (2, 3, 4, 6)),
    "AvgPool2d": (lambda n: n.AvgPool2d(3, 2, 1), (2, 3, 5, 4)),
    "AdaptiveAvgPool2d": (lambda n: n.AdaptiveAvgPool2d((2, 3)), (2, 3, 5, 4)),
    "Upsample": (lambda n: n.Upsample(scale_factor=2, mode="bilinear"), (2, 3, 3, 4)),
    "PixelShuffle": (lambda n: n.PixelShuffle(2), (2, 4, 3, 3)),
    "TransformerEncoderLayer": (lambda n: n.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), (2, 5, 8)),
    "TransformerDecoderLayer": (lambda n: n.TransformerDecoderLayer(8, 2, 16, 0.0), (5, 2, 8), (3, 2, 8)),
    "Dropout": (lambda n: n.Dropout(0.4), (30, 40)),
    "Dropout2d": (lambda n: n.Dropout2d(0.4), (5, 6, 3, 2)),
    "AlphaDropout": (lambda n: n.AlphaDropout(0.4), (5, 6)),
    "RReLU": (lambda n: n.RReLU(), (5, 6)),
}


def run_layer(make, shapes, device):
    """Results and gradients of a layer with drawn parameters; random layers draw the same numbers on every device."""
    fastnet.manual_seed(0)
    layer, rng = make(nn), np.random.default_rng(0)
    inputs = [fastnet.tensor(rng.standard_normal(s).astype(np.float32)) for s in shapes]
    if any(isinstance(p, nn.UninitializedParameter) for p in layer.parameters()) or hasattr(layer, "cls_to_become"):
        layer(*inputs)
    layer.to(device)
    inputs = [x.to(device).requires_grad_() for x in inputs]
    fastnet.manual_seed(1)
    out = layer(*inputs)
    (out * fastnet.arange(out.numel(), device=device).reshape(out.shape).to(out.dtype)).sum().backward()
    return [out, *(t.grad for t in (*inputs, *layer.parameters())), *layer.buffers()]


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    make, *shapes = LAYERS[name]
    got, want = run_layer(make, shapes, "cuda"), run_layer(make, shapes, "cpu")
    assert all(t is None or t.is_cuda for t in got)
    same(got, want, 1e-4, 1e-4)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("mode", ["native", "reference"])
def test_recurrent_layers(name, mode):
    def run(device):
        fastnet.manual_seed(0)
        layer = getattr(nn, name)(5, 6, num_layers=2, bidirectional=True).to(device)
        x = fastnet.randn(4, 3, 5).to(device).requires_grad_()
        packed = nn.utils.rnn.pack_padded_sequence(x, [2, 4, 1], enforce_sorted=False)
        out, _ = layer(packed)
        padded, lengths = nn.utils.rnn.pad_packed_sequence(out)
        (padded * fastnet.arange(padded.numel(), device=device).reshape(padded.shape)).sum().backward()
        return [padded, lengths.tolist(), x.grad, *(p.grad for p in layer.parameters())]

    with kernels.use(mode):
        same(run("cuda"), run("cpu"), 1e-4, 1e-4)


@pytest.mark.parametrize(
    ("kind", "schedule"),
    [(kind, "none") for kind in OPTIMIZERS] + [("AdamW", s) for s in SCHEDULES if s != "none"],
)
def test_optimizers_and_schedules(kind, schedule):
    for got, want in zip(
        on_gpu(lambda: trained(fastnet, kind, schedule)), trained(fastnet, kind, schedule), strict=True
    ):
        for g, w in zip(got, want, strict=True):
            # Muon orthogonalises in bfloat16.
            np.testing.assert_allclose(
                g, w, rtol=1e-2 if kind == "Muon" else 1e-9, atol=1e-2 if kind == "Muon" else 1e-12
            )


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimizers_of_16_bits_keep_master_weights(kind):
    def run(device):
        rng = np.random.default_rng(0)
        weight = fastnet.tensor(rng.standard_normal((5, 4)), dtype=fastnet.bfloat16, device=device).requires_grad_()
        optimizer = getattr(optim, kind)([weight], lr=0.1, **OPTIMIZERS[kind])
        for _ in range(3):
            weight.grad = fastnet.tensor(rng.standard_normal((5, 4)), dtype=fastnet.bfloat16, device=device)
            optimizer.step()
        return weight

    same(run("cuda"), run("cpu"), 1e-2, 1e-2)


@pytest.mark.parametrize("name", FILES)
def test_models_of_others(name):
    def run():
        module = load(name, "fastnet")
        fastnet.manual_seed(0)
        model, rng = module.build(), np.random.default_rng(0)
        model.to(fastnet.get_default_device())
        optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        losses = []
        for _ in range(2):
            batch = (t.to(fastnet.get_default_device()) for t in module.batch(rng))
            loss = module.loss_of(model, *batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return [losses, list(model.state_dict().values())]

    (got, got_state), (want, want_state) = on_gpu(run), run()
    np.testing.assert_allclose(got, want, rtol=2e-5)
    same(got_state, want_state, 1e-3, 2e-5)


def steps_of(name, device, count=3):
    """A model's training step and its batches."""
    make, _, batch, kind, options = MODELS[name]
    fastnet.manual_seed(0)
    model = make().to(device)
    optimizer = getattr(optim, kind)(model.parameters(), **options)
    rng = np.random.default_rng(0)

    def step(x, y):
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    batches = [tuple(fastnet.tensor(a, device=device) for a in batch(rng)) for _ in range(count)]
    return model, step, batches


@pytest.mark.parametrize("name", MODELS)
def test_training_steps_do_not_wait(name):
    results = []
    for device in ("cuda", "cpu"):
        model, step, batches = steps_of(name, device)
        losses = []
        for i, batch in enumerate(batches):
            runtime.waits.clear()
            losses.append(step(*batch))
            assert not i or not runtime.waits, runtime.waits
        results.append([*losses, *model.state_dict().values()])
    same(*results, 2e-4, 2e-5)


@pytest.mark.parametrize("name", MODELS)
def test_graphed_steps(name):
    """Captured with nothing done, replayed on the memory it was captured with: the bits of the steps themselves."""
    results = []
    for graphed in (True, False):
        model, step, batches = steps_of(name, "cuda", 6)
        call = fastnet.cuda.graph(step) if graphed else step
        losses = [call(*batch).item() for batch in batches]
        assert not graphed or call.captured
        results.append([losses, [host(v).tolist() for v in model.state_dict().values()]])
    assert results[0] == results[1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision(dtype):
    model, _, batches = steps_of("ConvNet", "cuda")
    optimizer = optim.AdamW(model.parameters())
    scaler = fastnet.amp.GradScaler("cuda", enabled=dtype == "float16")
    for i, (x, y) in enumerate(batches):
        runtime.waits.clear()
        optimizer.zero_grad()
        with fastnet.autocast("cuda", dtype=getattr(fastnet, dtype)):
            out = model(x)
            loss = F.cross_entropy(out, y)
        assert out.dtype is getattr(fastnet, dtype)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        assert not i or not runtime.waits, runtime.waits
    assert all(np.isfinite(host(p)).all() for p in model.parameters())
    assert scaler.get_scale() >= 1


@pytest.mark.parametrize("case", test_distributions.CASES)
def test_distributions_of_the_device(case):
    make, draw = test_distributions.CASES[case]

    def run():
        rng = np.random.default_rng(0)
        a, b = (fastnet.tensor(rng.standard_normal((4, 3)), requires_grad=True) for _ in range(2))
        value = fastnet.tensor(draw(rng))
        p, q = make(fastnet.distributions, a, b), make(fastnet.distributions, b, a)
        parts = [p.log_prob(value), p.entropy()]
        if case not in test_distributions.WITHOUT_DIVERGENCE:
            parts.append(fastnet.distributions.kl_divergence(p, q))
        if case not in test_distributions.WITHOUT_MOMENTS:
            parts += [p.mean, p.variance, p.stddev]
        sum((i + 1) * part.sum() for i, part in enumerate(parts)).backward()
        fastnet.manual_seed(0)
        return [*parts, a.grad, b.grad, p.sample((2, 5))]

    got = on_gpu(run)
    assert all(t is None or t.is_cuda for t in got)
    same(got, run(), 1e-8, 1e-10)
