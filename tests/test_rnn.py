"""Recurrent steps: emulated kernels and reference against float64 in every dtype and schedule. Layers: PyTorch's
results and gradients, packed, in both directions, with projections; the same under the emulated kernels."""

import itertools

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon, schedule

import fastnet
from fastnet import kernels, reference
from fastnet.kernels._runtime import extension_for
from fastnet.nn.utils import rnn as utils

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
by_name = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
SHAPES = [(1, 1), (3, 5), (7, 33), (20, 70), (2, 300)]
TINY = {"float16": 2.0**-24, "float32": 2.0**-149, "float64": 2.0**-1074, "bfloat16": 2.0**-133}


def sums(dtype):
    return np.float64 if np.dtype(dtype) == np.float64 else np.float32


def draw(shape, dtype, seed):
    return (np.random.default_rng(seed).standard_normal(shape) * 2).astype(dtype)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def wide(*arrays):
    return [a.astype(np.float64) for a in arrays]


def parts(x, count):
    return np.split(x.astype(np.float64), count, axis=1)


def close(got, want, size, dtype, of, what):
    """``size``: the sum of the sizes of what was added up. Twenty roundings in the sums' type are more than any of
    these formulas has, exp and tanh of 2 ulp included; then one to the result's dtype."""
    assert got.dtype == np.dtype(of)
    bound = 20 * epsilon(sums(dtype)) * size + epsilon(of) * np.abs(want) + TINY[np.dtype(of).name]
    assert_close(got, want, bound, what)


def check_lstm(module, batch, hidden, dtype, what, config=None):
    gates, c = draw((batch, 4 * hidden), dtype, 0), draw((batch, hidden), sums(dtype), 1)
    h, after, activated = module.lstm_cell(gates, c, config=config)
    i, f, g, o = parts(gates, 4)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    (c64,) = wide(c)
    size = np.abs(f * c64) + np.abs(i * g)
    close(after, f * c64 + i * g, size, dtype, sums(dtype), f"{what} c")
    close(h, o * np.tanh(f * c64 + i * g), size + 1, dtype, dtype, f"{what} h")
    close(activated, np.concatenate([i, f, g, o], 1), 1, dtype, dtype, f"{what} activated")
    of_h, of_c = draw((batch, hidden), dtype, 2), draw((batch, hidden), sums(dtype), 3)
    of_gates, of_before = module.lstm_cell_backward(of_h, of_c, activated, after, c, config=config)
    i, f, g, o = parts(activated, 4)
    dh, dc, after64 = wide(of_h, of_c, after)
    t = np.tanh(after64)
    total, size = dc + dh * o * (1 - t * t), np.abs(dc) + np.abs(dh)
    close(of_before, total * f, size, dtype, sums(dtype), f"{what} of c")
    want = [total * g * i * (1 - i), total * c64 * f * (1 - f), total * i * (1 - g * g), dh * t * o * (1 - o)]
    sizes = [size, size * np.abs(c64), size, np.abs(dh)]
    close(of_gates, np.concatenate(want, 1), np.concatenate(sizes, 1), dtype, dtype, f"{what} of gates")


def check_gru(module, batch, hidden, dtype, what, config=None):
    x, s, h = draw((batch, 3 * hidden), dtype, 4), draw((batch, 3 * hidden), dtype, 5), draw((batch, hidden), dtype, 6)
    after, saved = module.gru_cell(x, s, h, config=config)
    (rx, zx, nx), (rs, zs, ns) = parts(x, 3), parts(s, 3)
    r, z = sigmoid(rx + rs), sigmoid(zx + zs)
    n = np.tanh(nx + r * ns)
    (h64,) = wide(h)
    size = 1 + np.abs(h64) + np.abs(rx) + np.abs(rs) + np.abs(zx) + np.abs(zs) + np.abs(nx) + np.abs(ns)
    close(after, (1 - z) * n + z * h64, size * (1 + np.abs(h64)), dtype, dtype, f"{what} h")
    close(saved, np.concatenate([r, z, n, ns], 1), np.tile(size, 4) * 2, dtype, dtype, f"{what} saved")
    of_h = draw((batch, hidden), dtype, 7)
    of_x, of_s, of_before = module.gru_cell_backward(of_h, saved, h, config=config)
    r, z, n, ns = parts(saved, 4)
    (g,) = wide(of_h)
    fresh = g * (1 - z) * (1 - n * n)
    update = g * (h64 - n) * z * (1 - z)
    reset = fresh * ns * r * (1 - r)
    size = np.abs(g) * (1 + np.abs(h64) + np.abs(ns))
    close(of_x, np.concatenate([reset, update, fresh], 1), np.tile(size, 3), dtype, dtype, f"{what} of x")
    close(of_s, np.concatenate([reset, update, fresh * r], 1), np.tile(size, 3), dtype, dtype, f"{what} of s")
    close(of_before, g * z, size, dtype, dtype, f"{what} of h")


def check_rnn(module, batch, hidden, dtype, what, config=None):
    of_h, h = draw((batch, hidden), dtype, 8), np.tanh(draw((batch, hidden), np.float64, 9)).astype(dtype)
    g, h64 = wide(of_h, h)
    got = module.rnn_cell_backward(of_h, h, config=config)
    close(got, g * (1 - h64 * h64), np.abs(g), dtype, dtype, f"{what} tanh")
    got = module.rnn_cell_backward(of_h, h, "relu", config=config)
    close(got, g * (h64 > 0), 0, dtype, dtype, f"{what} relu")


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@by_name
def test_steps_against_float64(dtype, how):
    for shape, check in itertools.product(SHAPES, (check_lstm, check_gru, check_rnn)):
        check(reference, *shape, dtype, f"reference {shape}")
        with kernels.use("emulated", **how), kernels.trace() as ran:
            config = extension_for(np.zeros(1)).RnnConfig(blocks=2) if shape == (20, 70) else None
            check(kernels, *shape, dtype, f"emulated {shape}", config)
        assert len(ran) == 2


@pytest.mark.parametrize("check", [check_lstm, check_gru, check_rnn], ids=lambda f: f.__name__.removeprefix("check_"))
@by_name
def test_random_steps(dtype, check, full):
    """In every schedule; however many blocks there are."""
    rng = np.random.default_rng(0)
    for _ in range(51 if full else 2):
        shape = (int(rng.integers(1, 71)), int(rng.integers(1, 301)))
        check(reference, *shape, dtype, f"reference {shape}")
        blocks = int(rng.integers(1, 9))
        for how in SCHEDULES:
            with kernels.use("emulated", **how):
                config = extension_for(np.zeros(1)).RnnConfig(blocks=blocks)
                check(kernels, *shape, dtype, f"emulated {shape} {config}", config)


def test_extreme_gates():
    """Gates of +-1000 saturate without a warning or a NaN; a NaN stays one."""
    gates = np.array([[1000.0, -1000.0, 1000.0, 1000.0]], np.float32)
    for module in (reference, kernels):
        with kernels.use("emulated"):
            h, c, _ = module.lstm_cell(gates, np.full((1, 1), 5, np.float32))
            assert c.item() == 1
            assert np.isclose(h.item(), np.tanh(1))
            assert np.isnan(module.lstm_cell(gates * np.nan, c)[0]).all()


def test_config_and_sizes_of_zero():
    with kernels.use("emulated", device="H200"):
        ext = extension_for(np.zeros(1))
        assert ext.rnn_config(1, 1).blocks == 1
        assert ext.rnn_config(64, 1024).blocks == 256
        assert ext.rnn_config(10**6, 1024).blocks == 132 * 8
        with pytest.raises(ValueError, match="blocks"):
            ext.RnnConfig(blocks=0)
        many = np.ones((2, 300), np.float32)  # blocks that find no work are not launched
        assert kernels.rnn_cell_backward(many, many, config=ext.RnnConfig(blocks=2**31 - 1)).tolist() == [[0] * 300] * 2
        for batch, hidden in ((0, 3), (3, 0)):
            nothing = np.zeros((batch, hidden), np.float32)
            assert kernels.lstm_cell(np.zeros((batch, 4 * hidden), np.float32), nothing)[0].shape == (batch, hidden)
            assert kernels.rnn_cell_backward(nothing, nothing).shape == (batch, hidden)


@pytest.mark.parametrize("module", [kernels, reference])
def test_bad_input(module):
    gates, c = np.ones((2, 12), np.float32), np.ones((2, 3), np.float32)
    half = c.astype(np.float16)
    refused = [
        (TypeError, "gates", lambda: module.lstm_cell(None, c)),
        (ValueError, "gates", lambda: module.lstm_cell(gates[:, :11], c)),
        (ValueError, "gates", lambda: module.lstm_cell(gates[0], c)),
        (ValueError, "c", lambda: module.lstm_cell(gates, c[:1])),
        (TypeError, "c", lambda: module.lstm_cell(gates.astype(np.float16), half)),
        (ValueError, "activated", lambda: module.lstm_cell_backward(c, c, gates[:, :8], c, c)),
        (ValueError, "gates_h", lambda: module.gru_cell(gates[:, :9], gates, c)),
        (TypeError, "h", lambda: module.gru_cell(gates[:, :9], gates[:, :9], half)),
        (ValueError, "saved", lambda: module.gru_cell_backward(c, gates[:, :9], c)),
        (ValueError, "activation", lambda: module.rnn_cell_backward(c, c, "gelu")),
    ]
    with kernels.use("emulated"):
        for error, argument, call in refused:
            with pytest.raises(error, match=argument):
                call()


# ---- layers --------------------------------------------------------------------------------------------------------


def run_layer(lib, layer, lengths, batch, size, seed=0, dtype=np.float32):
    """Output, last states, and the gradients of input, initial states and parameters."""
    rng = np.random.default_rng(seed)

    def leaf(shape):
        return lib.tensor(rng.standard_normal(shape).astype(dtype)).requires_grad_(True)

    steps = max(lengths)
    x = leaf((batch, steps, size) if layer.batch_first else (steps, batch, size))
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    states = [leaf((rows, batch, layer.proj_size or layer.hidden_size))]
    if type(layer).__name__ == "LSTM":
        states.append(leaf((rows, batch, layer.hidden_size)))
    given = x
    if len(set(lengths)) > 1:
        given = lib.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=layer.batch_first, enforce_sorted=False)
    out, last = layer(given, tuple(states) if len(states) > 1 else states[0])
    if given is not x:
        out, found = lib.nn.utils.rnn.pad_packed_sequence(out, batch_first=layer.batch_first)
        assert found.tolist() == lengths
    last = list(last) if isinstance(last, tuple) else [last]
    loss = sum((y * lib.tensor(rng.standard_normal(tuple(y.shape)).astype(dtype))).sum() for y in [out, *last])
    loss.backward()
    return [y.detach().numpy() for y in [out, *last]], [t.grad.numpy() for t in [x, *states, *layer.parameters()]]


LAYERS = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"batch_first": True, "bias": False, "num_layers": 2},
    {"bidirectional": True, "batch_first": True},
]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("options", LAYERS, ids=lambda o: "-".join(o) or "plain")
@pytest.mark.parametrize("lengths", [[4, 4, 4], [2, 5, 1], [3, 3, 1]], ids=str)
def test_layers_equal_pytorch(name, options, lengths):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for more in (options, *([{**options, "proj_size": 3}] if name == "LSTM" else [])):
        more = {**more, **({"nonlinearity": "relu"} if name == "RNN" and options.get("bidirectional") else {})}
        theirs, ours = getattr(torch.nn, name)(5, 6, **more), getattr(fastnet.nn, name)(5, 6, **more)
        assert repr(theirs) == repr(ours)
        assert list(theirs.state_dict()) == list(ours.state_dict())
        ours.load_state_dict({k: fastnet.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
        want = run_layer(torch, theirs, lengths, len(lengths), 5)
        for mode in ("reference", "emulated"):
            with kernels.use(mode, **(schedule(len(more)) if mode == "emulated" else {})):
                got = run_layer(fastnet, ours, lengths, len(lengths), 5)
            # A handful of steps of sums of a dozen numbers of size 1, in float32.
            for kind, g, w in zip(("values", "gradients"), got, want, strict=True):
                for a, b in zip(g, w, strict=True):
                    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5, err_msg=f"{mode} {more} {kind}")
            ours.zero_grad()


def random_layer(name, seed):
    """Options of a layer, its lengths and its input's size; a third of the LSTMs project their states."""
    rng = np.random.default_rng([seed, len(name)])
    hidden, size, batch = (int(rng.integers(1, n)) for n in (49, 20, 20))
    options = {"num_layers": int(rng.integers(1, 3)), "bias": bool(rng.random() < 0.8)}
    options |= {"bidirectional": bool(rng.random() < 0.5), "batch_first": bool(rng.random() < 0.5)}
    if name == "LSTM" and hidden > 1 and rng.random() < 1 / 3:
        options["proj_size"] = int(rng.integers(1, hidden))
    if name == "RNN" and rng.random() < 0.5:
        options["nonlinearity"] = "relu"
    lengths = rng.integers(1, 13, batch)
    lengths[rng.random(batch) < 0.3] = 1
    return (size, hidden), options, lengths.tolist()


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_random_layers_equal_pytorch(name, full):
    """Values and the gradients of everything, in float64: what the same sums in another order can differ by, after at
    most a dozen steps, is a millionth of what is allowed."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for seed in range(200 if full else 3):
        sizes, options, lengths = random_layer(name, seed)
        theirs, ours = getattr(torch.nn, name)(*sizes, **options), getattr(fastnet.nn, name)(*sizes, **options)
        ours.load_state_dict({k: fastnet.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
        want = run_layer(torch, theirs.double(), lengths, len(lengths), sizes[0], seed, np.float64)
        for how in [None, *(SCHEDULES if full else [schedule(seed)])]:
            with kernels.use("reference") if how is None else kernels.use("emulated", **how):
                got = run_layer(fastnet, ours.double(), lengths, len(lengths), sizes[0], seed, np.float64)
            for g, w in zip(itertools.chain(*got), itertools.chain(*want), strict=True):
                bound = 1e-8 * max(1, np.abs(w).max())
                np.testing.assert_allclose(g, w, rtol=0, atol=bound, err_msg=f"{how} {sizes} {options} {lengths}")
            ours.zero_grad()


def test_gradients_in_float64():
    fastnet.manual_seed(0)
    for name in ("RNN", "LSTM", "GRU"):
        layer = getattr(fastnet.nn, name)(2, 3, num_layers=2, bidirectional=True).double()
        x = fastnet.randn(3, 2, 2, dtype=fastnet.float64).requires_grad_()
        parameters = list(layer.parameters())
        assert fastnet.autograd.gradcheck(lambda x, *_, layer=layer: layer(x)[0], [x, *parameters[:4]])


@by_name
def test_layers_run_the_kernels(dtype):
    """Whole sequences in every dtype: emulated as reference, to the rounding of each step's results."""
    for name, kernel in (("LSTM", "lstm"), ("GRU", "gru"), ("RNN", "rnn")):
        fastnet.manual_seed(1)
        layer = getattr(fastnet.nn, name)(4, 5, bidirectional=True).to(fastnet._dtypes.FROM_NUMPY[np.dtype(dtype)])
        x = fastnet.tensor(draw((6, 3, 4), np.float32, 1)).to(layer.weight_ih_l0.dtype)
        results = []
        for mode in ("reference", "emulated"):
            with kernels.use(mode), kernels.trace() as ran:
                results.append(layer(x)[0].detach().double().numpy())
            assert ran.names == (["matmul", "matmul", kernel] if mode == "emulated" else [])
        np.testing.assert_allclose(*results, rtol=0, atol=12 * epsilon(dtype))


def test_cells_equal_layers():
    fastnet.manual_seed(2)
    for name in ("RNN", "LSTM", "GRU"):
        layer, cell = getattr(fastnet.nn, name)(3, 4), getattr(fastnet.nn, name + "Cell")(3, 4)
        cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
        x = fastnet.randn(5, 2, 3)
        out, _ = layer(x)
        state = None
        for t in range(5):
            state = cell(x[t], state)
            h = state[0] if name == "LSTM" else state
            np.testing.assert_allclose(h.detach().numpy(), out[t].detach().numpy(), rtol=1e-5, atol=1e-6)
        assert cell(x[0, 0]).shape == (4,) if name != "LSTM" else cell(x[0, 0])[0].shape == (4,)


def test_dropout_between_layers_only():
    fastnet.manual_seed(3)
    x = fastnet.randn(4, 3, 5)
    layer = fastnet.nn.GRU(5, 6, 2, dropout=0.5)
    assert (layer(x)[0] != layer(x)[0]).any()
    layer.eval()
    assert (layer(x)[0] == layer(x)[0]).all()
    with pytest.warns(UserWarning, match="dropout option"):
        fastnet.nn.GRU(5, 6, dropout=0.5)


# ---- packing -------------------------------------------------------------------------------------------------------


def test_packing_equals_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs = torch.nn.utils.rnn
    rng = np.random.default_rng(0)
    for lengths in ([3, 2, 2, 1], [1], [2, 5, 3], [4, 4]):
        for first, ordered in itertools.product((False, True), (False, True)):
            if ordered and sorted(lengths, reverse=True) != lengths:
                continue
            shape = (len(lengths), 6, 2) if first else (6, len(lengths), 2)
            x = rng.standard_normal(shape).astype(np.float32)
            results = []
            for lib, module in ((torch, theirs), (fastnet, utils)):
                packed = module.pack_padded_sequence(lib.tensor(x), lengths, batch_first=first, enforce_sorted=ordered)
                padded, sizes = module.pad_packed_sequence(
                    packed, batch_first=first, padding_value=-1.0, total_length=7
                )
                again = [y.numpy() for y in module.unpack_sequence(packed)]
                results.append((packed.data.numpy(), packed.batch_sizes.numpy(), padded.numpy(), sizes.numpy(), *again))
            for a, b in zip(*results, strict=True):
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype


def test_padding_equals_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    arrays = [np.arange(n * 2, dtype=np.float32).reshape(n, 2) for n in (2, 4, 1)]
    for first, side in itertools.product((False, True), ("left", "right")):
        results = []
        for lib, module in ((torch, torch.nn.utils.rnn), (fastnet, utils)):
            items = [lib.tensor(a) for a in arrays]
            padded = module.pad_sequence(items, batch_first=first, padding_value=9.0, padding_side=side)
            back = module.unpad_sequence(padded.clone(), lib.tensor([2, 4, 1]), batch_first=first)
            packed = module.pack_sequence(items, enforce_sorted=False)
            results.append((padded.numpy(), packed.data.numpy(), *(b.numpy() for b in back)))
        for a, b in zip(*results, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (RuntimeError, lambda x: utils.pack_padded_sequence(x, [1, 2])),
        (RuntimeError, lambda x: utils.pack_padded_sequence(x, [2, 0])),
        (RuntimeError, lambda x: utils.pack_padded_sequence(x, [2])),
        (RuntimeError, lambda x: utils.pack_padded_sequence(x, [9, 2])),
        (ValueError, lambda x: utils.pad_packed_sequence(utils.pack_padded_sequence(x, [3, 2]), total_length=2)),
        (RuntimeError, lambda x: utils.pad_sequence([])),
        (RuntimeError, lambda x: utils.pad_sequence([x], padding_side="top")),
        (ValueError, lambda x: fastnet.nn.LSTM(3, 0)),
        (ValueError, lambda x: fastnet.nn.LSTM(3, 4, 0)),
        (ValueError, lambda x: fastnet.nn.LSTM(3, 4, proj_size=4)),
        (ValueError, lambda x: fastnet.nn.GRU(3, 4, proj_size=2)),
        (ValueError, lambda x: fastnet.nn.RNN(3, 4, nonlinearity="gelu")),
        (ValueError, lambda x: fastnet.nn.GRU(3, 4, dropout=1.5)),
        (RuntimeError, lambda x: fastnet.nn.GRU(3, 4)(x)),
        (RuntimeError, lambda x: fastnet.nn.GRU(5, 4)(x, fastnet.zeros(1, 3, 4))),
        (RuntimeError, lambda x: fastnet.nn.LSTM(5, 4)(x, fastnet.zeros(1, 2, 4))),
        (ValueError, lambda x: fastnet.nn.GRU(5, 4)(x.double())),
        (ValueError, lambda x: fastnet.nn.GRU(5, 4)(x[0, 0])),
        (RuntimeError, lambda x: fastnet.nn.GRUCell(4, 4)(x[0])),
        (RuntimeError, lambda x: fastnet.nn.LSTMCell(5, 4)(x[0], (fastnet.zeros(2, 3), fastnet.zeros(2, 4)))),
    ],
)
def test_refusals(error, call):
    with pytest.raises(error):
        call(fastnet.ones(4, 2, 5))
