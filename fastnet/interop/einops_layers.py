"""``einops.layers.fastnet``: einops' layers as fastnet's modules."""

from __future__ import annotations

from typing import Any

from einops.layers import RearrangeMixin, ReduceMixin
from einops.layers._einmix import _EinmixMixin

import fastnet
from fastnet import nn

__all__ = ["EinMix", "Rearrange", "Reduce"]


class Rearrange(RearrangeMixin, nn.Module):
    """``einops.rearrange`` as a layer."""

    def forward(self, input: Any) -> Any:
        return self._apply_recipe(input)


class Reduce(ReduceMixin, nn.Module):
    """``einops.reduce`` as a layer."""

    def forward(self, input: Any) -> Any:
        return self._apply_recipe(input)


class EinMix(_EinmixMixin, nn.Module):
    """A product with a weight, and a bias, of named axes."""

    def _create_parameters(self, weight_shape: Any, weight_bound: float, bias_shape: Any, bias_bound: float) -> None:
        self.weight = nn.Parameter(fastnet.empty(weight_shape).uniform_(-weight_bound, weight_bound))
        bias = None if bias_shape is None else nn.Parameter(fastnet.empty(bias_shape).uniform_(-bias_bound, bias_bound))
        self.register_parameter("bias", bias)

    def _create_rearrange_layers(
        self,
        pre_reshape_pattern: str | None,
        pre_reshape_lengths: dict | None,
        post_reshape_pattern: str | None,
        post_reshape_lengths: dict | None,
    ) -> None:
        self.pre_rearrange = (
            Rearrange(pre_reshape_pattern, **pre_reshape_lengths or {}) if pre_reshape_pattern else None
        )
        self.post_rearrange = (
            Rearrange(post_reshape_pattern, **post_reshape_lengths or {}) if post_reshape_pattern else None
        )

    def forward(self, input: Any) -> Any:
        if self.pre_rearrange is not None:
            input = self.pre_rearrange(input)
        result = fastnet.einsum(self.einsum_pattern, input, self.weight)
        if self.bias is not None:
            result = result + self.bias
        return result if self.post_rearrange is None else self.post_rearrange(result)
