"""Models of the core architectures."""

from fastnet.models.mlp import MLP

__all__ = ["MLP"]
