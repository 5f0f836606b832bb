"""A softmax over many classes that spends little on the rare ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fastnet._tensor import Tensor
from fastnet.errors import InputError
from fastnet.nn import functional as F
from fastnet.nn.containers import ModuleList, Sequential
from fastnet.nn.linear import Linear
from fastnet.nn.module import Module
from fastnet.ops.selection import where
from fastnet.ops.shape import cat


class ASMoutput(NamedTuple):
    """What ``AdaptiveLogSoftmaxWithLoss`` returns: log-probabilities of the targets, and minus their mean."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """The adaptive softmax of Grave et al. (2017): frequent classes, which come first, and one class for each cluster
    of rarer ones in a head; within a cluster a softmax on fewer features.

    Args:
        in_features: of the input.
        n_classes: how many there are.
        cutoffs: the first class of every cluster, increasing; those before the first are the frequent ones.
        div_value: cluster i has in_features // div_value^(i + 1) features.
        head_bias: whether the head has a bias.
        device, dtype: of the parameters.

    Shape: input (N, in_features) or (in_features,); target (N,) or (); the result is a named tuple: ``output`` (N,) or
    (), the targets' log-probabilities, and ``loss``, minus their mean.

    >>> import fastnet
    >>> layer = fastnet.nn.AdaptiveLogSoftmaxWithLoss(16, 20, cutoffs=[5, 10])
    >>> layer(fastnet.ones(3, 16), fastnet.tensor([1, 7, 19])).output.shape
    fastnet.Size([3])
    >>> layer.log_prob(fastnet.ones(3, 16)).shape
    fastnet.Size([3, 20])
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        first = list(cutoffs)
        if not first:
            raise InputError("cutoffs should be a sequence of length larger than 0")
        if any(int(c) != c for c in first) or first != sorted(set(first)) or first[0] <= 0 or first[-1] > n_classes - 1:
            raise InputError(
                "cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where each "
                f"value is between 1 and n_classes-1, got {first} for {n_classes} classes"
            )
        self.in_features, self.n_classes = in_features, n_classes
        self.cutoffs = [*first, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = self.cutoffs[0], len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **made)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            features = int(in_features // div_value ** (i + 1))
            classes = self.cutoffs[i + 1] - self.cutoffs[i]
            down, out = Linear(in_features, features, bias=False, **made), Linear(features, classes, bias=False, **made)
            self.tail.append(Sequential(down, out))

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.head.reset_parameters()
        for layer in self.tail.modules():
            if isinstance(layer, Linear):
                layer.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> ASMoutput:
        batched = target_.dim() == 1
        if target_.dim() > 1:
            raise InputError("0D or 1D target tensor expected, multi-target not supported")
        if input_.dim() != target_.dim() + 1 or (batched and input_.shape[0] != target_.shape[0]):
            raise InputError(
                f"Input and target should have the same size in the batch dimension, got {list(input_.shape)} and "
                f"{list(target_.shape)}"
            )
        input = input_ if batched else input_.unsqueeze(0)
        target = target_ if batched else target_.unsqueeze(0)
        if target.numel() and not bool((target >= 0).logical_and(target < self.n_classes).all()):
            low, high = int(target.min()), int(target.max())
            raise InputError(
                f"Target values should be in [0, {self.n_classes - 1}], but values in range [{low}, {high}] were found."
            )
        head = F.log_softmax(self.head(input), dim=1)
        column, within = target, None
        for i in range(self.n_clusters):
            low, high = self.cutoffs[i], self.cutoffs[i + 1]
            member = (target >= low).logical_and(target < high)
            column = where(member, self.shortlist_size + i, column)
            rows = member.nonzero().squeeze(1)
            if rows.numel():
                chosen = F.log_softmax(self.tail[i](input.index_select(0, rows)), dim=1)
                chosen = chosen.gather(1, (target.index_select(0, rows) - low).unsqueeze(1)).squeeze(1)
                part = chosen.new_zeros(target.shape[0]).index_copy(0, rows, chosen)
                within = part if within is None else within + part
        output = head.gather(1, column.unsqueeze(1)).squeeze(1)
        if within is not None:
            output = output + within
        loss = (-output).mean()
        return ASMoutput(output if batched else output.squeeze(0), loss)

    def _full(self, input: Tensor, head: Tensor) -> Tensor:
        head = F.log_softmax(head, dim=1)
        parts = [head[:, : self.shortlist_size]]
        for i in range(self.n_clusters):
            cluster = F.log_softmax(self.tail[i](input), dim=1)
            parts.append(cluster + head[:, self.shortlist_size + i].unsqueeze(1))
        return cat(parts, 1)

    def log_prob(self, input: Tensor) -> Tensor:
        """The log-probabilities of all classes, (N, n_classes)."""
        return self._full(input, self.head(input))

    def predict(self, input: Tensor) -> Tensor:
        """The most probable class of every row, (N,): within a cluster only where a cluster wins in the head."""
        head = self.head(input)
        best = head.argmax(dim=1)
        rare = best >= self.shortlist_size
        if not bool(rare.any()):
            return best
        return where(rare, self._full(input, head).argmax(dim=1), best)
