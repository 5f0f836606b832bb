"""AdaptiveLogSoftmaxWithLoss: values, gradients, predictions and refusals as PyTorch's."""

import numpy as np
import pytest

import fastnet

N, FEATURES, CLASSES = 6, 8, 12


def _pair(torch, **options):
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(FEATURES, CLASSES, [3, 7], div_value=2.0, **options)
    ours = fastnet.nn.AdaptiveLogSoftmaxWithLoss(FEATURES, CLASSES, [3, 7], div_value=2.0, **options)
    rng = np.random.default_rng(0)
    state = {k: rng.standard_normal(tuple(v.shape)).astype(np.float32) for k, v in theirs.state_dict().items()}
    theirs.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    ours.load_state_dict({k: fastnet.tensor(v) for k, v in state.items()})
    assert repr(theirs) == repr(ours)
    return theirs, ours


@pytest.mark.parametrize("targets", [[0, 5, 11, 2, 7, 3], [0, 1, 2, 2, 1, 0], [8, 9, 11, 8, 9, 10]])
@pytest.mark.parametrize("head_bias", [False, True])
def test_equals_pytorch(targets, head_bias):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = np.random.default_rng(1).standard_normal((N, FEATURES)).astype(np.float32)
    results = []
    for library, layer in zip((torch, fastnet), _pair(torch, head_bias=head_bias), strict=True):
        input = library.tensor(x).requires_grad_()
        output, loss = layer(input, library.tensor(targets))
        (loss + output.sin().sum()).backward()
        with library.no_grad():
            probabilities, best = layer.log_prob(input), layer.predict(input)
        grads = [input.grad, *(p.grad for p in layer.parameters())]
        found = [output, loss, probabilities, best, *grads]
        results.append([None if t is None else t.detach().numpy() for t in found])
    for want, got in zip(*results, strict=True):
        if want is None or got is None:  # clusters that no target is in: none, or zeros
            assert not np.any(want if got is None else got)
        else:
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


def test_one_row():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs, ours = _pair(torch)
    want = theirs(torch.ones(FEATURES), torch.tensor(9))
    got = ours(fastnet.ones(FEATURES), fastnet.tensor(9))
    assert tuple(got.output.shape) == tuple(want.output.shape) == ()
    assert abs(got.loss.item() - want.loss.item()) < 1e-5


@pytest.mark.parametrize("cutoffs", [[], [0, 3], [3, 3], [5, 4], [12], [2.5]])
def test_cutoffs_increase_within_the_classes(cutoffs):
    with pytest.raises(ValueError, match="cutoffs"):
        fastnet.nn.AdaptiveLogSoftmaxWithLoss(FEATURES, CLASSES, cutoffs)


@pytest.mark.parametrize("targets", [[0, 12], [-1, 0], [[0, 1]], [0, 1, 2]])
def test_targets_are_classes_a_row(targets):
    layer = fastnet.nn.AdaptiveLogSoftmaxWithLoss(FEATURES, CLASSES, [3])
    with pytest.raises(RuntimeError, match="arget"):
        layer(fastnet.ones(2, FEATURES), fastnet.tensor(targets))
