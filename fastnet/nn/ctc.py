"""Connectionist temporal classification as a layer."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.nn import functional as F
from fastnet.nn.module import Module


class CTCLoss(Module):
    """Minus the log of the probability of all paths that spell a target (Graves et al. 2006): ``F.ctc_loss``.

    Args:
        blank: the class of no label.
        reduction: "mean" (over the batch, of losses divided by their targets' lengths), "sum" or "none".
        zero_infinity: whether losses of targets that no path is long enough for count as zero.

    >>> import fastnet
    >>> scores = fastnet.zeros(5, 2, 4, requires_grad=True)
    >>> loss = fastnet.nn.CTCLoss()(scores.log_softmax(2), fastnet.tensor([[1, 2], [3, 3]]), (5, 4), (2, 2))
    >>> loss.backward()
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False):
        super().__init__()
        self.blank, self.reduction, self.zero_infinity = blank, reduction, zero_infinity

    def forward(self, log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any) -> Tensor:
        return F.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity
        )
