"""Residual networks (He et al. 2016) by torchvision's names of parameters, and the paper's networks for CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence

from fastnet import nn
from fastnet._tensor import Tensor
from fastnet.nn.fusion import fuse


def _convolution(before: int, after: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Without bias, as batch norm follows; padded so that stride 1 keeps the size."""
    return nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut.

    Args:
        inplanes: channels of the input.
        planes: channels of the result.
        stride: of the first convolution.
        downsample: what the shortcut does to the input, None for nothing.
    """

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None):
        super().__init__()
        self.conv1 = _convolution(inplanes, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.conv2 = _convolution(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.bn1.after(self.conv1, x, "relu")
        return self.bn2.after(self.conv2, out, "relu", shortcut)


class Bottleneck(nn.Module):
    """A 1 x 1, a 3 x 3 and a 1 x 1 convolution to four times ``planes`` channels beside a shortcut; the stride is the
    3 x 3 convolution's, as torchvision has it.

    Arguments as ``BasicBlock``'s.
    """

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None):
        super().__init__()
        self.conv1 = _convolution(inplanes, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _convolution(planes, planes, 3, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = _convolution(planes, planes * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.bn1.after(self.conv1, x, "relu")
        out = self.bn2.after(self.conv2, out, "relu")
        return self.bn3.after(self.conv3, out, "relu", shortcut)


class ResNet(nn.Module):
    """A stem, stages of residual blocks that halve the image and double the channels, the mean of every channel, a
    classifier.

    Args:
        block: BasicBlock or Bottleneck.
        layers: how many blocks each stage has.
        num_classes: outputs.
        in_channels: of the images.
        width: channels of the first stage.
        stem: ``"imagenet"`` (7 x 7 convolution of stride 2, 3 x 3 max pooling of stride 2) or ``"cifar"`` (one 3 x 3
            convolution).

    Shape: (N, in_channels, H, W) to (N, num_classes).

    >>> import fastnet
    >>> resnet_cifar(8)(fastnet.ones(2, 3, 16, 16)).shape
    fastnet.Size([2, 10])
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 64,
        stem: str = "imagenet",
    ):
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise ValueError(f"ResNet: stem is {stem!r}, expected 'imagenet' or 'cifar'")
        if not layers or min(layers) < 1:
            raise ValueError(f"ResNet: layers is {layers!r}, expected at least one stage of at least one block")
        large = stem == "imagenet"
        self.conv1 = _convolution(in_channels, width, 7, 2) if large else _convolution(in_channels, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self._stages = [f"layer{i + 1}" for i in range(len(layers))]
        inplanes = width
        for i, (name, blocks) in enumerate(zip(self._stages, layers, strict=True)):
            planes, stride = width << i, 1 if i == 0 else 2
            stage = []
            for j in range(blocks):
                downsample = None
                if j == 0 and (stride != 1 or inplanes != planes * block.expansion):
                    after = planes * block.expansion
                    downsample = fuse(nn.Sequential(_convolution(inplanes, after, 1, stride), nn.BatchNorm2d(after)))
                stage.append(block(inplanes, planes, stride if j == 0 else 1, downsample))
                inplanes = planes * block.expansion
            setattr(self, name, nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inplanes, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1.after(self.conv1, x, "relu"))
        for name in self._stages:
            x = getattr(self, name)(x)
        return self.fc(self.avgpool(x).flatten(1))


def resnet18(num_classes: int = 1000, in_channels: int = 3, stem: str = "imagenet") -> ResNet:
    """18 layers with weights: 2, 2, 2 and 2 basic blocks."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels, stem=stem)


def resnet34(num_classes: int = 1000, in_channels: int = 3, stem: str = "imagenet") -> ResNet:
    """34 layers with weights: 3, 4, 6 and 3 basic blocks."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, in_channels, stem=stem)


def resnet50(num_classes: int = 1000, in_channels: int = 3, stem: str = "imagenet") -> ResNet:
    """50 layers with weights: 3, 4, 6 and 3 bottlenecks."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels, stem=stem)


def resnet_cifar(depth: int, num_classes: int = 10, in_channels: int = 3, width: int = 16) -> ResNet:
    """The paper's networks for CIFAR-10 (section 4.2): three stages of (depth - 2) / 6 basic blocks, 16 channels first.

    Shortcuts that change the size are 1 x 1 convolutions, as those of the larger networks (the paper pads with zeros).

    Raises:
        ValueError: depth is not 6 n + 2 for an n of at least 1.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"resnet_cifar: depth is {depth}, expected 6 n + 2: 8, 14, 20, 32, 44, 56, 110, ...")
    return ResNet(BasicBlock, (blocks,) * 3, num_classes, in_channels, width, "cifar")
