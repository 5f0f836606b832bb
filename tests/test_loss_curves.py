"""Loss curves of whole models against PyTorch's, from the same weights and batches: the same at the first step but for
float32's rounding, and over 50 steps within four times PyTorch's distance from itself when memory lies otherwise."""

import numpy as np
import pytest

import fastnet
from fastnet import kernels
from fastnet.models import GPT, MLP, CharLSTM, ConvNet, GPTConfig

STEPS = 50
# How many roundings of a loss of about 1 to 4 the first step may be off by: its forward pass adds up thousands of
# products, whose errors of either sign grow as the root of their number.
FIRST = 16 * 2.0**-23


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of sums does not depend on the machine's cores then
    yield torch
    torch.set_num_threads(threads)


def torch_mlp(torch, n):
    class Peer(n.Module):
        def __init__(self):
            super().__init__()
            self.layers = n.Sequential(
                n.Flatten(), n.Linear(64, 32), n.ReLU(), n.Linear(32, 24), n.ReLU(), n.Linear(24, 10)
            )

        def forward(self, x):
            return self.layers(x)

    return Peer()


def torch_convnet(torch, n):
    class Peer(n.Module):
        def __init__(self):
            super().__init__()
            self.features = n.Sequential(
                n.Conv2d(1, 6, 3, padding=1), n.ReLU(), n.MaxPool2d(2), n.Conv2d(6, 8, 3, padding=1), n.ReLU(),
                n.MaxPool2d(2),
            )  # fmt: skip
            self.classifier = n.Sequential(n.Flatten(), n.Linear(32, 16), n.ReLU(), n.Dropout(0.0), n.Linear(16, 10))

        def forward(self, x):
            return self.classifier(self.features(x))

    return Peer()


def torch_lstm(torch, n):
    class Peer(n.Module):
        def __init__(self):
            super().__init__()
            self.embedding = n.Embedding(11, 6)
            self.rnn = n.LSTM(6, 12, 2, batch_first=True)
            self.drop = n.Identity()
            self.output = n.Linear(12, 11)

        def forward(self, x):
            return self.output(self.rnn(self.embedding(x))[0])

    return Peer()


GPT_SIZES = {"vocab_size": 13, "n_positions": 12, "n_embd": 16, "n_layer": 2, "n_head": 2}


def torch_gpt(torch, n):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: the peer of this test")
    config = transformers.GPT2Config(
        **GPT_SIZES, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, use_cache=False
    )

    class Peer(n.Module):
        def __init__(self):
            super().__init__()
            self.gpt = transformers.GPT2LMHeadModel(config)

        def forward(self, x):
            return self.gpt(x).logits

    return Peer()


def images(rng):
    return rng.standard_normal((12, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 12)


def tokens(vocabulary, length):
    def draw(rng):
        numbers = rng.integers(0, vocabulary, (6, length + 1))
        return numbers[:, :-1].copy(), numbers[:, 1:].copy()

    return draw


class StatelessLSTM(CharLSTM):
    def forward(self, x):
        return super().forward(x)[0]


# Ours, PyTorch's, a batch, the optimizer and its options.
MODELS = {
    "MLP": (lambda: MLP(64, 10, (32, 24)), torch_mlp, images, "SGD", {"lr": 0.05, "momentum": 0.9}),
    "ConvNet": (
        lambda: ConvNet(1, 10, 8, (6, 8), 16, dropout=0.0), torch_convnet, images, "SGD",
        {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
    ),
    "LSTM": (lambda: StatelessLSTM(11, 6, 12, 2), torch_lstm, tokens(11, 9), "Adam", {"lr": 0.03}),
    "GPT": (
        lambda: GPT(GPTConfig(**GPT_SIZES, dropout=0.0)), torch_gpt, tokens(13, 12), "AdamW",
        {"lr": 0.005, "weight_decay": 0.1},
    ),
}  # fmt: skip


def curve(library, model, draw, kind, options, layout=None, steps=STEPS):
    """Losses of so many steps on four batches in turn."""
    rng = np.random.default_rng(2)
    batches = [tuple(map(library.tensor, draw(rng))) for _ in range(4)]
    if layout:
        batches = [tuple(map(layout, batch)) for batch in batches]
    optimizer = getattr(library.optim, kind)(model.parameters(), **options)
    losses = []
    for step in range(steps):
        x, y = batches[step % 4]
        logits = model(x)
        loss = library.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def turned(x):
    """The same values with memory in the opposite order of dimensions."""
    dims = list(range(x.dim()))[::-1]
    return x.permute(dims).contiguous().permute(dims)


def reversed_batch(x):
    """The same examples in memory the other way round."""
    return x.flip(0)


@pytest.fixture(scope="module")
def curves(torch):
    """By model: PyTorch's weights at the start, its losses, and how far they lie from those of other layouts."""
    made = {}

    def of(name):
        if name not in made:
            _, peer, draw, kind, options = MODELS[name]
            torch.manual_seed(3)
            start = {k: v.clone() for k, v in peer(torch, torch.nn).state_dict().items()}

            def run(layout=None, of_weights=None):
                model = peer(torch, torch.nn)
                model.load_state_dict(start)
                for p in model.parameters() if of_weights else ():
                    p.data = of_weights(p.data)
                return curve(torch, model, draw, kind, options, layout)

            want = run()
            drift = max(np.abs(other - want).max() for other in (run(turned, turned), run(reversed_batch)))
            made[name] = start, want, drift
        return made[name]

    return of


def names_of(state):
    """PyTorch's state under our names: transformers' models have a prefix, and the tied weight twice."""
    stripped = {k.removeprefix("gpt.").removeprefix("transformer."): v for k, v in state.items()}
    stripped.pop("lm_head.weight", None)
    return stripped


@pytest.mark.parametrize("mode", ["reference", "emulated"])
@pytest.mark.parametrize("name", MODELS)
def test_loss_curves_stay_as_close_as_pytorchs_own(curves, name, mode, full):
    """The emulator takes half a second for a step of the LSTM or the GPT: ten of them, all 50 with --full."""
    ours, _, draw, kind, options = MODELS[name]
    start, want, drift = curves(name)
    model = ours()
    model.load_state_dict({k: fastnet.tensor(v.numpy()) for k, v in names_of(start).items()})
    with kernels.use(mode):
        steps = STEPS if full or mode == "reference" or name in ("MLP", "ConvNet") else 10
        got = curve(fastnet, model, draw, kind, options, steps=steps)
    assert want[-4:].mean() < 0.9 * want[:4].mean()  # it learns, so that there is a curve to follow
    assert 0 < drift < 1e-3
    distance = np.abs(got - want[:steps])
    print(f"{name} {mode}: furthest {distance.max():.2e}, PyTorch's own {drift:.2e}, first step {distance[0]:.2e}")
    assert distance[0] <= FIRST
    assert distance.max() <= 4 * drift
