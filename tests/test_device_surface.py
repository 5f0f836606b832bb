"""What is no arithmetic, on ``device="cuda"`` under CuPy's rules (``made_up_cupy``): moving and refusing, indexing,
printing, random numbers, files, loaders, exchange with other libraries, the command line."""

import copy
import importlib
import io

import numpy as np
import pytest
from made_up_cupy import install, runtime
from test_device_arrays import host, on_gpu, same
from test_training_steps import RUNS
from training_runs import classifier, result

import fastnet
from fastnet import kernels, nn, optim
from fastnet.cli import main
from fastnet.nn import functional as F
from fastnet.recipes import RECIPES
from fastnet.train.run import Run
from fastnet.utils.data import DataLoader, TensorDataset

DTYPES = ("float32", "float64", "float16", "bfloat16", "int32", "int64", "uint8", "bool")


@pytest.fixture(scope="module", autouse=True)
def cupy():
    with install() as made_up:
        yield made_up


# ---- moving, refusing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_moving(dtype):
    x = fastnet.arange(6).reshape(2, 3).to(getattr(fastnet, dtype))
    y = x.cuda()
    assert y.device == fastnet.device("cuda:0")
    assert y.is_cuda
    assert y.get_device() == 0
    assert y.dtype is x.dtype
    for back in (y.cpu(), y.to("cpu"), y.detach().to(x.device), y.t().cpu().t()):
        assert back.device == fastnet.device("cpu")
        assert back.tolist() == x.tolist() == y.tolist()
    assert x.to("cuda", non_blocking=True).to(fastnet.float32).tolist() == x.float().tolist()
    assert y.to("cuda") is y
    assert y.to("cuda:1").device == fastnet.device("cuda:1")
    assert y.data_ptr() == y._data.data.ptr
    assert y.t().stride() == (1, 3)


def test_the_gradient_of_a_move():
    x = fastnet.ones(3, requires_grad=True)
    (x.cuda() * 2).cpu().sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    assert not x.grad.is_cuda


def test_numpy_is_refused():
    x = fastnet.ones(3, device="cuda")
    for call in (x.numpy, lambda: np.asarray(x), lambda: np.array(x)):
        with pytest.raises(TypeError, match="cuda"):
            call()
    np.testing.assert_array_equal(x.numpy(force=True), np.ones(3))


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: a + b,
        lambda a, b: a @ b,
        lambda a, b: F.linear(a, b),
        lambda a, b: fastnet.where(a > 0, a, b),
        lambda a, b: fastnet.cat([a, b]),
        lambda a, b: F.mse_loss(a, b),
        lambda a, b: F.cross_entropy(a, b.long()[0]),
        lambda a, b: F.embedding(a.long(), b),
        lambda a, b: a.gather(0, b.long()),
        lambda a, b: a.add_(b),
        lambda a, b: a.masked_fill(b > 0, 0.0),
        lambda a, b: F.scaled_dot_product_attention(a[None, None], b[None, None], b[None, None]),
        lambda a, b: F.layer_norm(a, (3,), b[0], b[0]),
        lambda a, b: fastnet.stack([a, b]),
        lambda a, b: fastnet.einsum("ij,jk->ik", a, b),
        lambda a, b: fastnet.addmm(a, a, b),
        lambda a, b: fastnet.maximum(a, b),
        lambda a, b: a.scatter_add(0, b.long(), a),
        lambda a, b: fastnet.linalg.solve(a, b),
        lambda a, b: a.index_select(0, b.long()[0]),
        lambda a, b: F.conv2d(a[None, None], b[None, None]),
        lambda a, b: fastnet.lerp(a, b, 0.5),
    ],
)
def test_devices_do_not_mix(call):
    a, b = fastnet.eye(3), fastnet.eye(3, device="cuda")
    for x, y in ((a, b), (b, a)):
        with pytest.raises((RuntimeError, ValueError, TypeError), match="device"):
            call(x, y)


def test_numbers_and_scalars_of_the_cpu_mix():
    """As in PyTorch: a tensor without dimensions goes with one on a GPU."""
    x = fastnet.ones(3, device="cuda")
    assert (x * 2 + 1.5).tolist() == [3.5] * 3
    assert (x * np.float32(2)).tolist() == [2] * 3
    y = x * fastnet.tensor(3.0)
    assert y.is_cuda
    assert y.tolist() == [3] * 3
    assert (fastnet.tensor(3.0) - x).tolist() == [2] * 3
    x[1] = fastnet.tensor(7.0)
    x[2] = 8
    assert x.tolist() == [1, 7, 8]


def test_conversions_of_one_element():
    x = fastnet.tensor([2.5], device="cuda")
    assert (x.item(), float(x), int(x), bool(x), f"{x.item():.1f}") == (2.5, 2.5, 2, True, "2.5")
    assert [10, 20, 30][fastnet.tensor(1, device="cuda")] == 20
    assert list(range(fastnet.tensor(2, device="cuda"))) == [0, 1]
    assert 2.5 in x
    assert round(x.item()) == 2


def test_the_current_gpu():
    """Nothing is made on another GPU than the one that is meant."""
    for call in (lambda: fastnet.zeros(2, device="cuda:1"), lambda: fastnet.rand(2, device="cuda:1")):
        with pytest.raises(RuntimeError, match=r"not the current GPU: fastnet\.cuda\.set_device\(1\)"):
            call()
    with fastnet.cuda.device(1):
        x = fastnet.rand(2, device="cuda:1") + fastnet.ones(2, device="cuda")
        assert x.device == fastnet.zeros_like(x).device == (x * x).device == fastnet.device("cuda:1")
    assert fastnet.zeros(2, device="cuda").device == fastnet.device("cuda:0")


# ---- indexing --------------------------------------------------------------------------------------------------------

INDICES = {
    "number": lambda t: 1,
    "negative": lambda t: (slice(None), -1),
    "slices": lambda t: (slice(1, None), slice(None, None, 2)),
    "none": lambda t: (None, 0, ..., None),
    "tensor": lambda t: t([2, 0]),
    "tensors": lambda t: (t([2, 0]), t([1, 3])),
    "tensor of the host": lambda t: fastnet.tensor([2, 0], device="cpu"),
    "apart": lambda t: (t([2, 0]), slice(None), t([1, 0])),
    "list": lambda t: [2, 0],
    "array": lambda t: np.array([2, 0]),
    "mask": lambda t: t([True, False, True]),
    "masks": lambda t: (t([True, False, True]), t([False, True, True, False])),
    "mask and slice": lambda t: (slice(None), t([True, False, True, True])),
    "mask of all": lambda t: t(np.arange(24).reshape(3, 4, 2) % 3 == 0),
    "number of the device": lambda t: t(1),
    "negative tensor": lambda t: t([-1, -3]),
    "empty": lambda t: [],
    "bool": lambda t: True,
    "bytes": lambda t: t([1, 0, 1]).to(fastnet.uint8),
}


@pytest.mark.parametrize("name", INDICES)
def test_indexing(name):
    def run():
        index = INDICES[name](lambda v: fastnet.tensor(v))
        x = fastnet.arange(24.0).reshape(3, 4, 2).requires_grad_()
        taken = x[index]
        (taken * 2).sum().backward()
        filled, given, masked = (x.detach().clone() for _ in range(3))
        filled[index] = 5
        given[index] = fastnet.ones_like(taken.detach()) * 7
        masked[index] += 1
        wide = x.detach().clone()
        wide[index] = fastnet.tensor(3, dtype=fastnet.int64)
        return [taken, x.grad, filled, given, masked, wide]

    got = on_gpu(run)
    assert all(t.is_cuda for t in got)
    same(got, run(), 0, 0)


def test_values_of_the_host_are_assigned():
    x = fastnet.zeros(2, 3, device="cuda")
    x[0] = fastnet.ones(3, device="cpu")
    x[1] = [1, 2, 3]
    x[:, 1] = np.array([8, 9])
    assert x.tolist() == [[1, 8, 1], [1, 9, 3]]


# ---- printing, copies, files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 3), (40, 40)])
def test_printing(dtype, shape):
    x = fastnet.arange(int(np.prod(shape))).reshape(shape).to(getattr(fastnet, dtype))
    text = repr(x.cuda())
    assert "device='cuda:0'" in text
    plain = "".join(text.replace("device='cuda:0'", "").split()).replace(",)", ")").replace(",,", ",")
    assert plain == "".join(repr(x).split())
    assert f"{fastnet.tensor(1.5, device='cuda'):.2f}" == "1.50"


@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_and_files(dtype, tmp_path):
    x = fastnet.arange(6).reshape(2, 3).to(getattr(fastnet, dtype)).cuda()
    for y in (copy.deepcopy(x), x.clone()):
        assert y.is_cuda
        assert y.tolist() == x.tolist()
    for path in ("x.pt", "x.safetensors"):
        fastnet.save({"x": x}, tmp_path / path)
        for where in (None, "cpu", "cuda", {"cuda:0": "cpu"}) if path == "x.pt" else (None, "cpu", "cuda"):
            loaded = fastnet.load(tmp_path / path, map_location=where)["x"]
            assert loaded.tolist() == x.tolist()
            if isinstance(where, str):
                assert loaded.device.type == where
    buffer = io.BytesIO()
    fastnet.save(x, buffer)
    buffer.seek(0)
    assert fastnet.load(buffer, map_location="cpu").tolist() == x.tolist()


def test_states_of_modules_and_optimizers(tmp_path):
    def made(device):
        fastnet.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 2)).to(device)
        return model, optim.AdamW(model.parameters())

    def step(model, optimizer):
        optimizer.zero_grad()
        rng, device = np.random.default_rng(1), next(model.parameters()).device
        x, y = (fastnet.tensor(rng.standard_normal((5, n)), dtype=fastnet.float32, device=device) for n in (3, 2))
        (model(x) * y).sum().backward()
        optimizer.step()

    model, optimizer = made("cuda")
    step(model, optimizer)
    fastnet.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "all.pt")
    step(model, optimizer)
    results = [list(model.state_dict().values())]
    for device, where in (("cuda", None), ("cuda", "cpu"), ("cpu", "cpu")):
        other, again = made(device)
        state = fastnet.load(tmp_path / "all.pt", map_location=where)
        other.load_state_dict(state["model"])
        again.load_state_dict(state["optimizer"])
        step(other, again)
        assert all(p.device.type == device for p in other.parameters())
        assert all(s["exp_avg"].device.type == device for s in again.state.values())
        results.append(list(other.state_dict().values()))
    for other in results[1:]:
        same(other, results[0], 1e-4, 1e-5)
    assert model.cpu()[0].weight.device == fastnet.device("cpu")
    assert model.cuda()[0].weight.is_cuda
    assert model.half()[0].weight.dtype is fastnet.float16


# ---- random numbers, initial values ----------------------------------------------------------------------------------

DRAWS = {
    "rand": lambda: fastnet.rand(7, 5),
    "randn": lambda: fastnet.randn(7, 5),
    "randint": lambda: fastnet.randint(3, 17, (40,)),
    "randperm": lambda: fastnet.randperm(33),
    "normal": lambda: fastnet.normal(fastnet.zeros(3), fastnet.ones(3)),
    "bernoulli": lambda: fastnet.bernoulli(fastnet.full((30,), 0.3)),
    "multinomial": lambda: fastnet.multinomial(fastnet.tensor([0.1, 0.5, 0.4]), 20, replacement=True),
    "multinomial without": lambda: fastnet.multinomial(fastnet.tensor([0.1, 0.5, 0.4]), 3),
    "poisson": lambda: fastnet.poisson(fastnet.full((30,), 2.5)),
    "rand_like": lambda: fastnet.rand_like(fastnet.zeros(4)),
    "uniform_": lambda: fastnet.zeros(5).uniform_(-1, 2),
    "normal_": lambda: fastnet.zeros(5).normal_(1, 2),
    "exponential_": lambda: fastnet.zeros(5).exponential_(2),
    "cauchy_": lambda: fastnet.zeros(5).cauchy_(),
    "geometric_": lambda: fastnet.zeros(5).geometric_(0.3),
    "log_normal_": lambda: fastnet.zeros(5).log_normal_(),
    "random_": lambda: fastnet.zeros(5, dtype=fastnet.int64).random_(0, 9),
    "bernoulli_": lambda: fastnet.zeros(9).bernoulli_(0.4),
    "dropout": lambda: F.dropout(fastnet.ones(50), 0.4),
}


@pytest.mark.parametrize("mode", ["native", "reference"])
@pytest.mark.parametrize("name", DRAWS)
def test_draws(name, mode):
    """The numbers of the CPU, normals to rounding."""

    def run():
        fastnet.manual_seed(3)
        return [DRAWS[name](), DRAWS[name]()]

    with kernels.use(mode):
        got = on_gpu(run)
        assert all(t.is_cuda for t in got)
        same(got, run(), 1e-5, 1e-6)


INITS = {
    "uniform_": {},
    "normal_": {},
    "trunc_normal_": {},
    "constant_": {"val": 2.0},
    "ones_": {},
    "zeros_": {},
    "eye_": {},
    "xavier_uniform_": {},
    "xavier_normal_": {},
    "kaiming_uniform_": {},
    "kaiming_normal_": {},
    "orthogonal_": {},
    "sparse_": {"sparsity": 0.3},
}


@pytest.mark.parametrize("name", INITS)
def test_initial_values(name):
    def run():
        fastnet.manual_seed(1)
        return getattr(nn.init, name)(fastnet.empty(6, 5), **INITS[name])

    got = on_gpu(run)
    assert got.is_cuda
    same(got, run(), 1e-5, 1e-6)
    same(on_gpu(lambda: nn.init.dirac_(fastnet.empty(4, 2, 3))), nn.init.dirac_(fastnet.empty(4, 2, 3)), 0, 0)


def test_graphs_draw_what_steps_draw():
    def run(graphed):
        fastnet.manual_seed(5)
        layer = nn.Linear(6, 6).to("cuda")
        optimizer = optim.SGD(layer.parameters(), lr=0.1)
        schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

        def step(x):
            optimizer.zero_grad()
            loss = F.dropout(layer(x) + fastnet.randn(4, 6, device="cuda"), 0.5).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        call = fastnet.cuda.graph(step) if graphed else step
        losses = []
        for i in range(6):
            losses.append(call(fastnet.full((4, 6), float(i), device="cuda")).item())
            schedule.step()
        return losses, host(layer.weight).tolist()

    assert run(True) == run(False)


@pytest.mark.parametrize(
    "call",
    [lambda x: x.sum().item(), lambda x: x + fastnet.tensor([1.0, 2.0, 3.0], device="cuda"), lambda x: x[x > 0]],
)
def test_what_cannot_be_captured_is_named(call):
    graphed = fastnet.cuda.graph(call)
    x = fastnet.ones(3, device="cuda")
    graphed(x)
    graphed(x)
    with pytest.raises(fastnet.cuda.CaptureError, match="cannot be captured"):
        graphed(x)


# ---- loaders, exchange -----------------------------------------------------------------------------------------------


def test_loading():
    data = TensorDataset(fastnet.arange(10.0).reshape(10, 1), fastnet.arange(10))
    loader = DataLoader(data, 4, pin_memory=True)
    batches = list(fastnet.utils.data.DevicePrefetcher(loader, "cuda"))
    assert all(t.is_cuda for b in batches for t in b)
    assert [t.tolist() for _, t in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    stream = runtime.get_current_stream()
    assert any(kind == "wait" for kind, _ in stream.put)  # for the copies
    with fastnet.device("cuda"):
        assert [t.tolist() for _, t in DataLoader(data, 5, shuffle=True, generator=fastnet.Generator().manual_seed(1))]


@pytest.mark.parametrize("dtype", DTYPES)
def test_exchange(dtype, cupy):
    x = fastnet.arange(6).reshape(2, 3).to(getattr(fastnet, dtype)).cuda()
    assert x.__dlpack_device__() == (2, 0)
    y = fastnet.from_dlpack(x)
    assert y.is_cuda
    assert y.data_ptr() == x.data_ptr()
    assert y.dtype is x.dtype
    assert fastnet.as_tensor(x._data).data_ptr() == x.data_ptr()
    assert fastnet.tensor(x._data).tolist() == x.tolist()
    assert cupy.asarray(x._data).tolist() == x.tolist()
    z = fastnet.utils.dlpack.from_dlpack(fastnet.utils.dlpack.to_dlpack(x))
    assert z.data_ptr() == x.data_ptr()


# ---- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["mlp", "--epochs", "1"],
        ["mlp", "--epochs", "1", "--graph"],
        ["mlp", "--epochs", "1", "--precision", "bfloat16", "--kernels", "reference"],
        ["mlp", "--epochs", "1", "--precision", "float16", "--max-norm", "1", "--ema", "0.9"],
    ],
    ids=" ".join,
)
def test_recipes(arguments, tmp_path, capsys):
    with kernels.use("native"):  # whose end undoes what --kernels chose
        assert main(["train", *arguments, "--device", "cuda", "--no-plot", "--out", str(tmp_path)]) == 0
    assert "test accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_takes_steps(recipe, monkeypatch):
    class Enough(Exception):
        pass

    launch, steps = Run.launch, []

    def counted(self, *args, **kwargs):
        steps.append(launch(self, *args, **kwargs))
        if len(steps) == 3:
            raise Enough
        return steps[-1]

    monkeypatch.setattr(Run, "launch", counted)
    module = importlib.import_module(f"fastnet.recipes.{recipe}")
    with kernels.use("reference"), pytest.raises(Enough):
        module.run(module.Options(device="cuda", batch_size=8, progress=False))


@pytest.mark.parametrize("name", RUNS)
def test_runs_of_trainers(name, tmp_path):
    """A run as graphs, and one that goes on from a checkpoint: the bits of the run itself."""
    make, options = RUNS[name]
    options = {k: v for k, v in options.items() if k != "checkpoint_every"}  # they save every second or third step
    if make is classifier:
        options["cycle_momentum"] = False  # of its options a graph reads the rate alone from memory

    def run(folder, **more):
        (tmp_path / folder).mkdir()
        with fastnet.device("cuda"):  # where models are made
            trainer, fit = make(tmp_path / folder, device="cuda", **options, **more)
            fit()
        return result(trainer)

    want = run("plain")
    assert np.isfinite(want["losses"]).all()
    assert run("graphs", graph=True) == want
    first = sorted((tmp_path / "plain" / "checkpoints").glob("*"))[0]
    assert run("resumed", resume=first)["weights"] == want["weights"]


@pytest.mark.parametrize("recipe", ["mlp", "lstm"])
def test_profile(recipe, capsys):
    assert main(["profile", recipe, "--device", "cuda", "--steps", "2", "--batch-size", "4"]) == 0
    assert "matmul" in capsys.readouterr().out


def test_a_gpu_by_its_number(capsys, tmp_path):
    with fastnet.cuda.device(0), kernels.use("reference"):
        arguments = ["train", "mlp", "--epochs", "1", "--no-plot", "--out", str(tmp_path), "--device"]
        assert main([*arguments, "cuda:7"]) == 2
        assert "there are 2 GPUs" in capsys.readouterr().err
        assert main([*arguments, "cuda:1"]) == 0
        assert fastnet.cuda.current_device() == 1
    assert fastnet.cuda.current_device() == 0


def test_info(capsys):
    main(["info"])
    assert "Made Up" in capsys.readouterr().out


def test_what_a_default_device_does_not_reach():
    """Sizes of packed sequences stay with the CPU; differences are the host's."""
    with fastnet.device("cuda"):
        packed = nn.utils.rnn.pack_sequence([fastnet.ones(2, 3), fastnet.ones(3, 3)], enforce_sorted=False)
        padded, lengths = nn.utils.rnn.pad_packed_sequence(packed)
        assert padded.is_cuda
        assert not lengths.is_cuda
        assert not packed.batch_sizes.is_cuda
        x = fastnet.randn(3, dtype=fastnet.float64, requires_grad=True)
        assert fastnet.autograd.gradcheck(lambda x: (x * x).sin(), [x])
        a = fastnet.eye(3, dtype=fastnet.float64).requires_grad_()
        b = fastnet.ones(2, 3, 1, dtype=fastnet.float64)
        (first,) = fastnet.autograd.grad(fastnet.linalg.solve(a, b).sum(), [a], create_graph=True)
        (second,) = fastnet.autograd.grad(first.sum(), [a])
        assert second.is_cuda
        assert second.tolist() == [[12.0] * 3] * 3
