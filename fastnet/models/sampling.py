"""Drawing what comes next from a model's scores."""

from __future__ import annotations

import math

import fastnet
from fastnet._tensor import Tensor
from fastnet.nn import functional as F


def sample(logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Draw one class for each row of logits (N, C): (N, 1) int64.

    Args:
        temperature: what logits are divided by; 0 takes the likeliest class.
        top_k: draw from the k likeliest classes only.
        top_p: draw from the fewest classes whose probabilities sum to at least this (Holtzman et al. 2020).
    """
    if not temperature >= 0:
        raise ValueError(f"sample: temperature is {temperature}, expected a number of at least 0")
    if top_k is not None and top_k < 1:
        raise ValueError(f"sample: top_k is {top_k}, expected at least 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"sample: top_p is {top_p}, expected a number above 0 and at most 1")
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    logits = logits.float() / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1)[0][:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    probabilities = F.softmax(logits, dim=-1)
    if top_p is not None:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        before = ordered.cumsum(-1) - ordered  # the probability of all likelier classes
        ordered = ordered.masked_fill(before >= top_p, 0.0)
        probabilities = fastnet.zeros_like(probabilities).scatter(-1, order, ordered)
    return fastnet.multinomial(probabilities, 1)
