"""LinearCrossEntropyLoss: values, gradients, state and text as PyTorch's."""

import numpy as np
import pytest

import fastnet

CASES = {
    "plain": ({}, "indices", (6,)),
    "bias, sum": ({"bias": True, "reduction": "sum"}, "indices", (6,)),
    "ignored, smoothed, none": ({"ignore_index": 1, "label_smoothing": 0.1, "reduction": "none"}, "indices", (6,)),
    "several dimensions": ({"out_features": (2, 3), "bias": True}, "indices", (6, 2, 3)),
    "probabilities": ({}, "probabilities", (6, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_pytorch(case):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not hasattr(torch.nn, "LinearCrossEntropyLoss"):
        pytest.skip("this PyTorch has no LinearCrossEntropyLoss")
    options, kind, shape = CASES[case]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 5)).astype(np.float32)
    target = rng.integers(0, 4, shape) if kind == "indices" else rng.random(shape).astype(np.float32)
    results, state = [], None
    for library in (torch, fastnet):
        layer = library.nn.LinearCrossEntropyLoss(5, 4, **options)
        if state is None:
            state = {k: rng.standard_normal(tuple(v.shape)).astype(np.float32) for k, v in layer.state_dict().items()}
        layer.load_state_dict({k: library.tensor(v) for k, v in state.items()})
        input = library.tensor(x).requires_grad_()
        loss = layer(input, library.tensor(target))
        loss.sin().sum().backward()
        tensors = [loss.detach(), input.grad, *(p.grad for p in layer.parameters())]
        results.append((repr(layer), [t.numpy() for t in tensors]))
    assert results[0][0] == results[1][0]
    for want, got in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


def test_refusals():
    make = fastnet.nn.LinearCrossEntropyLoss
    with pytest.raises(RuntimeError, match="weight shape"):
        make(5, 4, weight=fastnet.ones(3))
    with pytest.raises(RuntimeError, match="label_smoothing"):
        make(5, 4, label_smoothing=1.5)
    with pytest.raises(ValueError, match="chunk_rows"):
        make(5, 4, options=object())
