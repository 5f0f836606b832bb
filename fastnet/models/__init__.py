"""Models of the core architectures."""

from fastnet.models.convnet import ConvNet
from fastnet.models.dcgan import DCGAN, Discriminator, Generator
from fastnet.models.gpt import GPT, GPTConfig
from fastnet.models.mlp import MLP
from fastnet.models.recurrent import CharLSTM, CharRNN, RNNClassifier
from fastnet.models.resnet import ResNet, resnet18, resnet34, resnet50, resnet_cifar
from fastnet.models.transformer import TransformerClassifier

__all__ = [
    "DCGAN",
    "GPT",
    "MLP",
    "CharLSTM",
    "CharRNN",
    "ConvNet",
    "Discriminator",
    "GPTConfig",
    "Generator",
    "RNNClassifier",
    "ResNet",
    "TransformerClassifier",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet_cifar",
]
