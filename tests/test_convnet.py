"""The convolutional network: its recipe, and the same run under two implementations."""

import numpy as np
import pytest

import fastnet
from fastnet import kernels
from fastnet.models import ConvNet
from fastnet.recipes import cnn
from fastnet.utils.cost import count


def test_accuracy(tmp_path):
    """The recipe's own numbers, a third of its epochs: at least 98 % of the test split, by the best checkpoint."""
    _, results = cnn.run(cnn.Options(epochs=10, progress=False, out=tmp_path))
    assert results["test_accuracy"] >= 0.98


def test_reference_and_emulated_give_the_same_run():
    """A tenth of an epoch, dropout included: losses and parameters agree to float32's rounding."""
    runs = []
    x, y = cnn.load_images().train[:128]
    for mode in ("reference", "emulated"):
        fastnet.manual_seed(0)
        model = ConvNet(1, 10, image_size=8, channels=(8, 16), hidden=16)
        optimizer = fastnet.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        losses = []
        with kernels.use(mode), kernels.trace() as ran:
            for i in range(4):
                loss = fastnet.nn.functional.cross_entropy(model(x[32 * i : 32 * i + 32]), y[32 * i : 32 * i + 32])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        used = {"conv2d", "conv2d_input_grad", "conv2d_weight_grad", "max_pool2d", "max_pool2d_backward"}
        assert used & set(ran.names) == (used if mode == "emulated" else set())
        runs.append((losses, {k: v.numpy() for k, v in model.state_dict().items()}))
    (want, want_state), (got, got_state) = runs
    # Sums of up to 144 terms differ by a few units of 2^-24 of their magnitude; four steps multiply that by some tens.
    np.testing.assert_allclose(got, want, rtol=1e-5)
    for k in want_state:
        np.testing.assert_allclose(got_state[k], want_state[k], atol=1e-5)


def test_counting_counts_both_implementations_alike():
    flops = []
    for mode in ("reference", "emulated"):
        x = fastnet.ones(2, 4, 6, 6, requires_grad=True)
        weight = fastnet.ones(8, 2, 3, 3, requires_grad=True)
        with kernels.use(mode), count() as cost:
            fastnet.conv2d(x, weight, padding=1, groups=2).sum().backward()
        flops.append([cost.by_function[f"conv2d{end}"] for end in ("", "_input_grad", "_weight_grad")])
    assert flops == [[2 * 2 * 8 * 36 * 2 * 9] * 3] * 2


def test_bad_sizes():
    with pytest.raises(ValueError, match="image_size is 3, expected at least 4"):
        ConvNet(1, 10, image_size=3)
