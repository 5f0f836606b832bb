"""Model files written for PyTorch, run with only their imports changed: outputs, gradients and ten SGD steps agree."""

import re
import types
from pathlib import Path

import numpy as np
import pytest

import fastnet

MODELS = sorted(p.stem for p in (Path(__file__).parent / "models").glob("*.py"))


def load(name, library):
    source = (Path(__file__).parent / "models" / f"{name}.py").read_text()
    if library == "fastnet":
        source = re.sub(r"^import torch$", "import fastnet as torch", source, flags=re.M)
        source = re.sub(r"^(from|import) torch\b", r"\1 fastnet", source, flags=re.M)
    module = types.ModuleType(f"{name}_{library}")
    exec(compile(source, name, "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("kernels", ["reference", "emulated"])
@pytest.mark.parametrize("name", MODELS)
def test_runs_and_trains_as_under_pytorch(name, kernels):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    runs = []
    for library, lib in (("torch", torch), ("fastnet", fastnet)):
        with fastnet.kernels.use(kernels):
            module = load(name, library)
            lib.manual_seed(0)
            model, rng = module.build(), np.random.default_rng(0)
            state = {
                k: lib.tensor((rng.standard_normal(tuple(v.shape)) * 0.3).astype(np.float32))
                for k, v in model.state_dict().items()
            }
            state = {k: v if "tril" not in k else model.state_dict()[k] for k, v in state.items()}
            model.load_state_dict(state)
            optimizer = lib.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-3)
            losses, first = [], None
            for _ in range(10):
                loss = module.loss_of(model, *module.batch(rng))
                optimizer.zero_grad()
                loss.backward()
                first = first or {n: p.grad.numpy().copy() for n, p in model.named_parameters()}
                optimizer.step()
                losses.append(loss.item())
            runs.append((losses, first, {k: v.numpy() for k, v in model.state_dict().items()}))
    (want, want_grads, want_state), (got, got_grads, got_state) = runs
    assert list(got_state) == list(want_state)
    # float32 rounding, amplified a little by ten steps.
    np.testing.assert_allclose(got, want, rtol=2e-5)
    for n in want_grads:
        np.testing.assert_allclose(
            got_grads[n], want_grads[n], rtol=1e-4, atol=2e-6 * max(1, np.abs(want_grads[n]).max())
        )
    for k in want_state:
        np.testing.assert_allclose(got_state[k], want_state[k], rtol=1e-3, atol=2e-5)


def test_checkpoints_are_exchanged(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors import numpy as st

    theirs, ours = load("classifier", "torch").build(), load("classifier", "fastnet").build()
    fastnet.save(ours.state_dict(), tmp_path / "ours.safetensors")
    theirs.load_state_dict({k: torch.tensor(v) for k, v in st.load_file(tmp_path / "ours.safetensors").items()})
    np.testing.assert_array_equal(theirs.inp.weight.detach().numpy(), ours.inp.weight.detach().numpy())
    st.save_file({k: v.numpy() + 1 for k, v in theirs.state_dict().items()}, tmp_path / "theirs.safetensors")
    ours.load_state_dict(fastnet.load(tmp_path / "theirs.safetensors"))
    np.testing.assert_array_equal(ours.inp.weight.detach().numpy(), theirs.inp.weight.detach().numpy() + 1)
