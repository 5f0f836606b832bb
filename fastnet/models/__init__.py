"""Models of the core architectures."""

from fastnet.models.convnet import ConvNet
from fastnet.models.gpt import GPT, GPTConfig
from fastnet.models.mlp import MLP
from fastnet.models.resnet import ResNet, resnet18, resnet34, resnet50, resnet_cifar

__all__ = ["GPT", "MLP", "ConvNet", "GPTConfig", "ResNet", "resnet18", "resnet34", "resnet50", "resnet_cifar"]
