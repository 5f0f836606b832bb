"""Models of the core architectures."""

from fastnet.models.gpt import GPT, GPTConfig
from fastnet.models.mlp import MLP

__all__ = ["GPT", "MLP", "GPTConfig"]
