"""Parametrizations, spectral norm and weight norm against PyTorch's; norms of gradients and clipping."""

import copy
import math

import numpy as np
import pytest

import fastnet
from fastnet import nn


def both():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    return (torch, torch.nn.utils), (fastnet, nn.utils)


def table(library, state):
    return {k: library.tensor(v) for k, v in state.items()}


@pytest.mark.parametrize("which", ["spectral_norm", "weight_norm"])
@pytest.mark.parametrize("make", [lambda n: n.Linear(4, 3), lambda n: n.Conv2d(2, 3, 3)], ids=["Linear", "Conv2d"])
def test_equals_pytorch_through_training(which, make):
    results, state = [], None
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    images = np.random.default_rng(0).standard_normal((2, 2, 5, 4)).astype(np.float32)
    for library, utils in both():
        library.manual_seed(0)
        layer = getattr(utils.parametrizations, which)(make(library.nn))
        if state is None:
            state = {k: v.detach().numpy().copy() for k, v in layer.state_dict().items()}
        layer.load_state_dict(table(library, state))
        assert list(layer.state_dict()) == list(state)
        optimizer = library.optim.SGD(layer.parameters(), lr=0.1)
        outputs = []
        for _ in range(4):
            out = layer(library.tensor(images if "Conv" in repr(layer) else x))
            optimizer.zero_grad()
            (out**2).sum().backward()
            optimizer.step()
            outputs.append(out.detach().numpy())
        layer.eval()
        outputs += [layer.weight.detach().numpy()] + [v.numpy() for v in layer.state_dict().values()]
        results.append((outputs, repr(layer), [n for n, _ in layer.named_parameters()]))
    for w, g in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5)
    assert results[1][1:] == results[0][1:]


def test_register_assign_copy_and_remove():
    said = []
    for library, utils in both():

        class Symmetric(library.nn.Module):
            def forward(self, x):
                return x.triu() + x.triu(1).transpose(-1, -2)

            def right_inverse(self, a):
                return a.triu()

        P = utils.parametrize
        layer = library.nn.Linear(3, 3, bias=False)
        with library.no_grad():
            layer.weight.copy_(library.arange(9.0).reshape(3, 3))
        P.register_parametrization(layer, "weight", Symmetric())
        lines = [
            layer.weight.tolist(),
            P.is_parametrized(layer),
            P.is_parametrized(layer, "bias"),
            list(layer.state_dict()),
        ]
        lines.append(isinstance(layer, library.nn.Linear))
        layer.weight = library.ones(3, 3)
        lines += [layer.weight.tolist(), layer.parametrizations.weight.original.tolist()]
        twin = copy.deepcopy(layer)
        twin.weight = library.zeros(3, 3)
        lines += [layer.weight.sum().item(), twin.weight.sum().item()]
        with P.cached():
            lines.append(layer.weight is layer.weight)
        layer.weight.sum().backward()
        lines.append(layer.parametrizations.weight.original.grad.tolist())
        P.remove_parametrizations(layer, "weight")
        lines += [type(layer).__name__, list(layer.state_dict()), type(layer.weight).__name__, P.is_parametrized(layer)]
        register, norm = P.register_parametrization, utils.parametrizations.spectral_norm
        for call, arguments in (
            (register, (layer, "nothing", Symmetric())),
            (P.remove_parametrizations, (layer, "weight")),
            (norm, (layer, "nothing")),
            (norm, (layer, "weight", 0)),
            (register, (layer, "weight", library.nn.Flatten(0))),
        ):
            with pytest.raises(ValueError, match=r"parametriz|buffer|n_power_iterations"):
                call(*arguments)
        said.append([str(line) for line in lines])
    assert said[1] == said[0]


@pytest.mark.parametrize("norm", [0.5, 1, 2, 3, math.inf, -math.inf, 0])
def test_total_norm_and_clipping(norm):
    rng = np.random.default_rng(0)
    grads = [rng.standard_normal(s) for s in ((3, 4), (5,), ())]
    results = []
    for library, utils in both():
        ps = [library.nn.Parameter(library.zeros(np.shape(g), dtype=library.float64)) for g in grads]
        for p, g in zip(ps, grads, strict=True):
            p.grad = library.tensor(g)
        total = utils.get_total_norm([p.grad for p in ps], norm)
        assert utils.clip_grad_norm_((p for p in ps), 0.5, norm).item() == total.item()
        utils.clip_grads_with_norm_(ps[0], 0.1, total)
        results.append([total.item(), *[p.grad.tolist() for p in ps]])
    for w, g in zip(*results, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-12)


def test_clipping_corner_cases():
    for library, utils in both():
        assert utils.clip_grad_norm_([], 1.0).item() == 0
        assert utils.clip_grad_norm_(library.nn.Parameter(library.ones(2)), 1.0).item() == 0
        p = library.nn.Parameter(library.ones(2))
        p.grad = library.tensor([float("inf"), 1.0])
        with pytest.raises(RuntimeError, match="non-finite"):
            utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
        assert p.grad[1].item() == 1
        with pytest.raises(TypeError):
            utils.vector_to_parameters([1.0], [p])
