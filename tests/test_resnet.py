"""Residual networks: torchvision's parameters, and PyTorch's training from the same weights."""

import numpy as np
import pytest

import fastnet
from fastnet import nn
from fastnet.models import resnet18, resnet34, resnet50, resnet_cifar
from fastnet.recipes import resnet


def torch_or_skip():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


# Parameters in all, of torchvision's models of 1000 classes.
@pytest.mark.parametrize(
    ("make", "parameters"), [(resnet18, 11_689_512), (resnet34, 21_797_672), (resnet50, 25_557_032)]
)
def test_torchvisions_parameters(make, parameters):
    model = make()
    assert sum(p.numel() for p in model.parameters()) == parameters
    keys = set(model.state_dict())
    assert {"conv1.weight", "bn1.num_batches_tracked", "layer1.0.conv1.weight", "fc.bias"} <= keys
    assert "conv1.bias" not in keys
    assert ("layer1.0.downsample.0.weight" in keys) == (make is resnet50)
    assert {"layer2.0.downsample.0.weight", "layer4.0.downsample.1.running_var", "layer4.1.bn2.bias"} <= keys


def test_the_papers_networks():
    """ResNet-20 of CIFAR-10 has 0.27 million parameters (table 6), and a few more in its shortcuts here."""
    model = resnet_cifar(20)
    shortcuts = sum(p.numel() for k, p in model.named_parameters() if "downsample" in k)
    assert round((sum(p.numel() for p in model.parameters()) - shortcuts) / 1e6, 2) == 0.27
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in model.modules()) == 20 + 2
    for depth in (2, 7, 21):
        with pytest.raises(ValueError, match="depth is"):
            resnet_cifar(depth)
    with pytest.raises(ValueError, match="stem is 'mnist'"):
        resnet18(stem="mnist")


def pytorchs(torch, layers, width, num_classes):
    """The same network of basic blocks in PyTorch, written from the paper with torchvision's names."""
    t = torch.nn

    def convolution(before, after, size, stride=1):
        return t.Conv2d(before, after, size, stride, size // 2, bias=False)

    class Block(t.Module):
        def __init__(self, before, planes, stride):
            super().__init__()
            self.conv1, self.bn1 = convolution(before, planes, 3, stride), t.BatchNorm2d(planes)
            self.conv2, self.bn2 = convolution(planes, planes, 3), t.BatchNorm2d(planes)
            self.downsample = None
            if stride != 1 or before != planes:
                self.downsample = t.Sequential(convolution(before, planes, 1, stride), t.BatchNorm2d(planes))

        def forward(self, x):
            out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(out + (x if self.downsample is None else self.downsample(x)))

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = convolution(3, width, 7, 2), t.BatchNorm2d(width)
            before = width
            for i, blocks in enumerate(layers):
                stage = [Block(before, width << i, 1 if i == 0 else 2)]
                before = width << i
                stage += [Block(before, before, 1) for _ in range(blocks - 1)]
                setattr(self, f"layer{i + 1}", t.Sequential(*stage))
            self.fc = t.Linear(before, num_classes)

        def forward(self, x):
            x = torch.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
            for i in range(len(layers)):
                x = getattr(self, f"layer{i + 1}")(x)
            return self.fc(x.mean((2, 3)))

    return Net()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_ten_training_steps_equal_pytorchs(dtype):
    """A narrow ResNet-18 from shared weights, the same in every run: from some weights a relu changes sides on the way,
    and float32 runs part."""
    torch = torch_or_skip()
    torch.manual_seed(0)
    from fastnet.models.resnet import BasicBlock, ResNet

    width = 8
    theirs = pytorchs(torch, (2, 2, 2, 2), width, 10)
    ours = ResNet(BasicBlock, (2, 2, 2, 2), 10, width=width)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    state = {k: v.tolist() for k, v in theirs.state_dict().items()}
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((8, 3, 40, 40)).tolist(), rng.integers(0, 10, 8).tolist()) for _ in range(10)]
    runs = []
    for library, model in ((torch, theirs), (fastnet, ours)):
        float_type = getattr(library, dtype)
        model = model.double() if dtype == "float64" else model.float()
        model.load_state_dict(
            {k: library.tensor(v, dtype=library.int64 if "num_" in k else float_type) for k, v in state.items()}
        )
        optimizer = library.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        losses = []
        for x, y in batches:
            loss = library.nn.functional.cross_entropy(model(library.tensor(x, dtype=float_type)), library.tensor(y))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        with library.no_grad():
            out = model(library.tensor(batches[0][0], dtype=float_type))
        runs.append(
            (losses, np.asarray(out.tolist()), {k: np.asarray(v.tolist()) for k, v in model.state_dict().items()})
        )
    (want, want_out, want_state), (got, got_out, got_state) = runs
    # Some hundred roundings a step, which twenty normalisations and ten steps multiply by some tens.
    tolerance = {"float64": 1e-12, "float32": 1e-4}[dtype]
    np.testing.assert_allclose(got, want, tolerance)
    np.testing.assert_allclose(got_out, want_out, 10 * tolerance, 10 * tolerance)
    for k in want_state:
        np.testing.assert_allclose(got_state[k], want_state[k], 10 * tolerance, 10 * tolerance, err_msg=k)


def test_the_recipe_learns():
    trainer, results = resnet.run(resnet.Options(epochs=2, depth=8, width=8, progress=False))
    assert trainer.history.step_losses[-1] < trainer.history.step_losses[0]
    assert results["test_accuracy"] > 0.8
