"""GPT: GPT-2's numbers from GPT-2's files, gradients, generation with and without the cache, how tokens are drawn."""

import math

import numpy as np
import pytest

import fastnet
from fastnet import kernels
from fastnet.models import GPT, GPTConfig
from fastnet.models.sampling import sample

SIZES = dict(vocab_size=37, n_positions=24, n_embd=32, n_layer=3, n_head=4)


def small(seed: int = 0, std: float = 0.3, **changes) -> GPT:
    """A GPT whose weights are large enough that what comes next is not a matter of rounding."""
    fastnet.manual_seed(seed)
    model = GPT(GPTConfig(**{**SIZES, "dropout": 0.0, **changes}))
    with fastnet.no_grad():
        for p in model.parameters():
            p.copy_(fastnet.randn(*p.shape) * std)
    return model.eval()


def tokens_of(n: int, t: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, SIZES["vocab_size"], (n, t))


@pytest.mark.parametrize("prefix", [True, False])
def test_parity_with_transformers(prefix, tmp_path):
    """Logits and all gradients, through a safetensors file."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: the peer of this test")
    from safetensors.torch import save_file

    torch.manual_seed(1)
    config = transformers.GPT2Config(
        **SIZES, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0
    )
    peer = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for p in peer.parameters():
            p.add_(0.1 * torch.randn_like(p))
    if prefix:
        peer.save_pretrained(tmp_path)
        path = tmp_path / "model.safetensors"
    else:
        path = tmp_path / "bare.safetensors"
        save_file({k: v.clone() for k, v in peer.transformer.state_dict().items()}, path)
    model = GPT(GPTConfig(**SIZES, dropout=0.0)).load_gpt2(path)
    x, y = tokens_of(2, 24), tokens_of(2, 24, seed=1)
    logits = model(fastnet.tensor(x))
    fastnet.nn.functional.cross_entropy(logits.reshape(-1, 37), fastnet.tensor(y).reshape(-1)).backward()
    want = peer(torch.tensor(x)).logits
    torch.nn.functional.cross_entropy(want.reshape(-1, 37), torch.tensor(y).reshape(-1)).backward()
    # float32's rounding through three blocks: some tens of sums, each within a few units of 2^-24 of its magnitude.
    np.testing.assert_allclose(logits.detach().numpy(), want.detach().numpy(), rtol=0, atol=2e-5)
    gradients = {k.removeprefix("transformer."): p.grad for k, p in peer.named_parameters()}
    ours = dict(model.named_parameters())
    assert set(ours) == set(gradients)
    for name, p in ours.items():
        scale = float(gradients[name].abs().max())
        np.testing.assert_allclose(
            p.grad.numpy(), gradients[name].numpy(), rtol=0, atol=2e-5 * max(scale, 1e-2), err_msg=name
        )


def formula(state: dict, x: np.ndarray, heads: int) -> np.ndarray:
    """GPT-2 in float64 from its published description."""
    w = {k: v.astype(np.float64) for k, v in state.items()}

    def norm(v, name):
        centred = v - v.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def layer(v, name):
        return v @ w[f"{name}.weight"] + w[f"{name}.bias"]

    n, t = x.shape
    v = w["wte.weight"][x] + w["wpe.weight"][:t]
    for i in range(sum(k.endswith("ln_1.weight") for k in w)):
        q, k, u = np.split(layer(norm(v, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn"), 3, axis=-1)
        q, k, u = (a.reshape(n, t, heads, -1).swapaxes(1, 2) for a in (q, k, u))
        scores = np.where(np.tri(t, dtype=bool), q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1]), -np.inf)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (p / p.sum(-1, keepdims=True) @ u).swapaxes(1, 2).reshape(n, t, -1)
        v = v + layer(mixed, f"h.{i}.attn.c_proj")
        inner = layer(norm(v, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
        inner = 0.5 * inner * (1 + np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        v = v + layer(inner, f"h.{i}.mlp.c_proj")
    return norm(v, "ln_f") @ w.get("lm_head.weight", w["wte.weight"]).T


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("mode", ["reference", "emulated"])
def test_against_the_formula(mode, tied):
    model = small(std=0.1, tie_word_embeddings=tied, n_layer=2)
    x = tokens_of(2, 7)
    want = formula({k: v.numpy() for k, v in model.state_dict().items()}, x, SIZES["n_head"])
    with kernels.use(mode), kernels.trace() as ran:
        got = model(fastnet.tensor(x)).detach().numpy()
    assert {"attention", "add_norm", "layer_norm", "embedding", "matmul"} <= set(ran.names) or mode == "reference"
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "how", [{"temperature": 0}, {}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.8}, {"top_k": 9, "top_p": 0.9}]
)
def test_cached_generation_gives_the_same_tokens(how):
    """Beyond n_positions too, where the context is cut."""
    model = small()
    prompt = fastnet.tensor(tokens_of(2, 5))
    made = []
    for use_cache in (True, False):
        fastnet.manual_seed(3)
        made.append(model.generate(prompt, 40, use_cache=use_cache, **how).numpy())
    np.testing.assert_array_equal(*made)
    assert made[0].shape == (2, 45)
    np.testing.assert_array_equal(made[0][:, :5], prompt.numpy())
    assert len(np.unique(made[0])) > 3


@pytest.mark.parametrize("mode", ["reference", "emulated"])
def test_cache_continues_with_several_tokens(mode):
    from fastnet.models.gpt import KeyValueCache

    model = small(std=0.1)
    x = fastnet.tensor(tokens_of(2, 11))
    cache = KeyValueCache(model.config, 2, model.wte.weight)
    with fastnet.no_grad(), kernels.use(mode), kernels.trace() as ran:
        parts = [model(x[:, a:b], cache).numpy() for a, b in ((0, 4), (4, 5), (5, 11))]
        want = model(x).numpy()
    assert cache.length == 11
    assert mode == "reference" or ran.names.count("attention_with_kvcache") == 2 * SIZES["n_layer"]
    np.testing.assert_allclose(np.concatenate(parts, 1), want, rtol=0, atol=1e-5)


def test_generation_works_from_long_prompts_and_leaves_the_mode():
    model = small(dropout=0.5).train()
    prompt = fastnet.tensor(tokens_of(1, 60))
    assert model.generate(prompt, 3, temperature=0).shape == (1, 63)
    assert model.training
    model.eval().generate(prompt, 1)
    assert not model.training


def test_attention_maps():
    model = small()
    maps = model.attention_maps(fastnet.tensor(tokens_of(2, 6)))
    assert [tuple(m.shape) for m in maps] == [(2, 4, 6, 6)] * 3
    for m in maps:
        np.testing.assert_allclose(m.sum(-1).numpy(), 1, atol=1e-6)
        assert not np.triu(m.numpy(), 1).any()
    # They are what attention uses: the last block's, times its values, through its projection.
    block, x = model.h[0], model._embedded(fastnet.tensor(tokens_of(2, 6)), 0)
    x = block.ln_1(x)
    mixed = (maps[0] @ block.attn._heads(x)[2]).transpose(1, 2).reshape(2, 6, 32)
    got, want = block.attn.c_proj(mixed).detach().numpy(), block.attn(x).detach().numpy()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


def test_sample():
    logits = fastnet.log(fastnet.tensor([[0.1, 0.5, 0.15, 0.25]])).repeat(4000, 1)

    def shares(**how):
        fastnet.manual_seed(0)
        return np.bincount(sample(logits, **how).numpy().ravel(), minlength=4) / 4000

    # Shares of 4,000 draws: three standard deviations are at most 0.024.
    np.testing.assert_allclose(shares(), [0.1, 0.5, 0.15, 0.25], atol=0.024)
    np.testing.assert_allclose(shares(top_k=2), [0, 2 / 3, 0, 1 / 3], atol=0.024)
    np.testing.assert_allclose(shares(top_k=9), [0.1, 0.5, 0.15, 0.25], atol=0.024)
    np.testing.assert_allclose(shares(top_p=0.6), [0, 2 / 3, 0, 1 / 3], atol=0.024)
    np.testing.assert_allclose(shares(top_p=0.4), [0, 1, 0, 0])
    np.testing.assert_allclose(shares(top_p=1.0), [0.1, 0.5, 0.15, 0.25], atol=0.024)
    want = np.array([0.1, 0.5, 0.15, 0.25]) ** 2
    np.testing.assert_allclose(shares(temperature=0.5), want / want.sum(), atol=0.024)
    np.testing.assert_allclose(shares(temperature=0), [0, 1, 0, 0])


def test_weights_that_do_not_fit_are_refused(tmp_path):
    model, path = small(), tmp_path / "model.safetensors"
    state = model.state_dict()
    fastnet.save({**state, "lm_head.weight": state["wte.weight"] + 1}, path)
    with pytest.raises(ValueError, match=r"lm_head\.weight differs"):
        small().load_gpt2(path)
    fastnet.save({**state, "lm_head.weight": state["wte.weight"], "h.0.attn.bias": fastnet.ones(1)}, path)
    other = small(seed=1).load_gpt2(path)
    x = fastnet.tensor(tokens_of(1, 4))
    np.testing.assert_array_equal(other(x).detach().numpy(), model(x).detach().numpy())
    with pytest.raises(RuntimeError, match="size mismatch"):
        small(n_embd=16).load_gpt2(path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GPTConfig(n_embd=10, n_head=3), "expected a multiple of n_head"),
        (lambda: GPTConfig(n_layer=0), "n_layer is 0"),
        (lambda: small()(fastnet.zeros(2, 25, dtype=fastnet.int64)), "there are 25 tokens"),
        (lambda: small()(fastnet.zeros(3, dtype=fastnet.int64)), r"shape \(3,\)"),
        (lambda: small().generate(fastnet.zeros(1, 0, dtype=fastnet.int64), 1), "T at least 1"),
        (lambda: sample(fastnet.ones(1, 3), temperature=-1), "temperature is -1"),
        (lambda: sample(fastnet.ones(1, 3), top_k=0), "top_k is 0"),
        (lambda: sample(fastnet.ones(1, 3), top_p=1.5), "top_p is 1.5"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_training_fuses_sums_into_norms():
    """A step under autocast and with dropout: every norm but the first takes the sum before it, forward and backward;
    the state's names are those of GPT-2."""
    model = small(dropout=0.2, n_layer=2).train()
    x = fastnet.tensor(tokens_of(2, 6))
    for dtype in (None, fastnet.bfloat16):
        with kernels.use("emulated"), kernels.trace() as ran:
            fastnet.manual_seed(1)
            with fastnet.autocast("cpu", dtype=dtype or fastnet.bfloat16, enabled=dtype is not None):
                loss = fastnet.nn.functional.cross_entropy(model(x).reshape(-1, 37).float(), x.reshape(-1))
            loss.backward()
        assert ran.names.count("add_norm") == ran.names.count("add_norm_backward") == 4
        assert ran.names.count("layer_norm") == ran.names.count("layer_norm_backward") == 1
        assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters())
    layer = {"ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"}
    names = {f"h.{i}.{n}.{kind}" for i in range(2) for n in layer for kind in ("weight", "bias")}
    assert set(model.state_dict()) == names | {"wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias"}


def test_hooked_and_replaced_norms_are_called():
    """Norms that are fused into sums are called as modules where somebody looks, with the same numbers."""
    model, x = small(), fastnet.tensor(tokens_of(2, 6))
    want = model(x)
    seen: list[str] = []
    norms = [name for name, m in model.named_modules() if isinstance(m, fastnet.nn.LayerNorm)]
    handles = []
    for name in norms:
        module = model.get_submodule(name)
        handles += [
            module.register_forward_hook(lambda m, args, out, name=name: seen.append(name)),
            module.register_full_backward_hook(lambda m, of_in, of_out, name=name: seen.append("back " + name)),
        ]
    hooked = model(x)
    hooked.sum().backward()
    assert len(norms) == 7
    assert seen == norms + [f"back {name}" for name in reversed(norms)]
    np.testing.assert_allclose(hooked.detach().numpy(), want.detach().numpy(), rtol=1e-4, atol=1e-4)
    for handle in handles:
        handle.remove()
    called = []
    model.h[0].drop.register_forward_pre_hook(lambda m, args: called.append(args[0].shape))
    model.ln_f = fastnet.nn.Identity()
    replaced = model(x)
    assert called == [(2, 6, 32)] * 1
    assert not np.allclose(replaced.detach().numpy(), want.detach().numpy())
