"""torch.nn.functional: activations, losses, distances."""

from __future__ import annotations

from typing import Any

from calls import Call, Inputs


def signs(t: Any, I: Inputs, *shape: int) -> Any:
    """Targets of 1 and -1."""
    return (I.ints(*shape, high=2) * 2 - 1).to(getattr(t, I.dtype))


def weights(t: Any, I: Inputs, *shape: int) -> Any:
    """Positive numbers without a gradient."""
    return (I.ints(*shape) + 1).to(getattr(t, I.dtype)) / 3


def F(t: Any) -> Any:
    return t.nn.functional


ACTIVATIONS: dict[str, Call] = {
    "relu6": lambda t, I: F(t).relu6(I(20) * 5),
    "hardtanh": lambda t, I: F(t).hardtanh(I(20), -0.5, 0.7),
    "celu": lambda t, I: F(t).celu(I(20), 2.0),
    "selu": lambda t, I: F(t).selu(I(20)),
    "softsign": lambda t, I: F(t).softsign(I(20)),
    "tanhshrink": lambda t, I: F(t).tanhshrink(I(20)),
    "threshold": lambda t, I: F(t).threshold(I(20), 0.3, -2.0),
    "hardshrink": lambda t, I: F(t).hardshrink(I(20), 0.4),
    "softshrink": lambda t, I: F(t).softshrink(I(20), 0.4),
    "logsigmoid wide": lambda t, I: F(t).logsigmoid(I(20) * 20),
    "softplus threshold": lambda t, I: F(t).softplus(I(20) * 3, 2.0, 3.0),
    "softmin": lambda t, I: F(t).softmin(I(3, 4), dim=1),
    "glu": lambda t, I: F(t).glu(I(3, 8)),
    "glu dim": lambda t, I: F(t).glu(I(4, 3), 0),
    "rrelu eval": lambda t, I: F(t).rrelu(I(20)),
    "prelu one": lambda t, I: F(t).prelu(I(2, 3), I(1)),
    "dropout eval": lambda t, I: F(t).dropout(I(4), 0.5, training=False) * 2,
    "dropout nothing": lambda t, I: F(t).dropout(I(4), 0.0),
    "dropout everything": lambda t, I: F(t).dropout(I(4), 1.0),
    "alpha_dropout eval": lambda t, I: F(t).alpha_dropout(I(4)) * 2,
    "alpha_dropout everything": lambda t, I: F(t).alpha_dropout(I(4), 1.0, True),
    "relu inplace": lambda t, I: F(t).relu(I(9) * 1, inplace=True),
    "relu_ function": lambda t, I: F(t).relu_(I(9) * 1),
    "elu inplace": lambda t, I: F(t).elu(I(9) * 1, 0.5, True),
    "hardtanh inplace": lambda t, I: F(t).hardtanh(I(9) * 1, inplace=True),
    "silu inplace": lambda t, I: F(t).silu(I(9) * 1, inplace=True),
    "leaky_relu_ function": lambda t, I: F(t).leaky_relu_(I(9) * 1, 0.3),
    "threshold inplace": lambda t, I: F(t).threshold(I(9) * 1, 0.1, 5, True),
    "selu inplace": lambda t, I: F(t).selu(I(9) * 1, inplace=True),
    "gumbel hard shape": lambda t, I: F(t).gumbel_softmax(I(3, 5), hard=True).sum(1),
}

LOSSES: dict[str, Call] = {
    "huber_loss": lambda t, I: F(t).huber_loss(I(4, 5), I(4, 5), delta=0.7),
    "huber_loss none weight": lambda t, I: F(t).huber_loss(
        I(4), I(4), "none", 0.7, t.ones(4, dtype=getattr(t, I.dtype))
    ),
    "soft_margin_loss": lambda t, I: F(t).soft_margin_loss(I(4, 5), signs(t, I, 4, 5)),
    "hinge_embedding_loss": lambda t, I: F(t).hinge_embedding_loss(I(4, 5), signs(t, I, 4, 5), margin=0.4),
    "hinge_embedding_loss none": lambda t, I: F(t).hinge_embedding_loss(I(4), signs(t, I, 4), reduction="none"),
    "margin_ranking_loss": lambda t, I: F(t).margin_ranking_loss(I(6), I(6), signs(t, I, 6), margin=0.3),
    "margin_ranking_loss sum": lambda t, I: F(t).margin_ranking_loss(I(6), I(6), signs(t, I, 6), reduction="sum"),
    "cosine_embedding_loss": lambda t, I: F(t).cosine_embedding_loss(I(5, 3), I(5, 3), signs(t, I, 5), margin=0.1),
    "cosine_embedding_loss one": lambda t, I: F(t).cosine_embedding_loss(I(3), I(3), t.tensor(1)),
    "triplet_margin_loss": lambda t, I: F(t).triplet_margin_loss(I(5, 3), I(5, 3), I(5, 3)),
    "triplet_margin_loss swap": lambda t, I: F(t).triplet_margin_loss(
        I(5, 3), I(5, 3), I(5, 3), margin=2.0, p=3, swap=True, reduction="none"
    ),
    "triplet with distance": lambda t, I: F(t).triplet_margin_with_distance_loss(
        I(5, 3), I(5, 3), I(5, 3), distance_function=lambda a, b: 1 - F(t).cosine_similarity(a, b), swap=True
    ),
    "multi_margin_loss": lambda t, I: F(t).multi_margin_loss(I(6, 5), I.ints(6)),
    "multi_margin_loss p": lambda t, I: F(t).multi_margin_loss(I(6, 5), I.ints(6), p=2, margin=0.6, reduction="none"),
    "multi_margin_loss weight": lambda t, I: F(t).multi_margin_loss(
        I(6, 5), I.ints(6), weight=t.tensor([1.0, 2.0, 0.5, 0.1, 3.0]).to(getattr(t, I.dtype)), reduction="sum"
    ),
    "multi_margin_loss one": lambda t, I: F(t).multi_margin_loss(I(5), t.tensor(2)),
    "multilabel_margin_loss": lambda t, I: F(t).multilabel_margin_loss(
        I(3, 4), t.tensor([[3, 0, -1, 1], [0, 1, 2, 3], [-1, 0, 1, 2]])
    ),
    "multilabel_margin_loss none": lambda t, I: F(t).multilabel_margin_loss(
        I(2, 4), t.tensor([[3, 0, -1, 1], [1, -1, -1, -1]]), reduction="none"
    ),
    "multilabel_soft_margin_loss": lambda t, I: F(t).multilabel_soft_margin_loss(I(4, 3), I.positive(4, 3) - 0.5),
    "multilabel_soft_margin_loss weight": lambda t, I: F(t).multilabel_soft_margin_loss(
        I(4, 3),
        I.ints(4, 3, high=2).to(getattr(t, I.dtype)),
        weight=t.tensor([1.0, 2.0, 0.5]).to(getattr(t, I.dtype)),
        reduction="none",
    ),
    "poisson_nll_loss": lambda t, I: F(t).poisson_nll_loss(I(4, 3), I.positive(4, 3) * 2),
    "poisson_nll_loss full": lambda t, I: F(t).poisson_nll_loss(I(4, 3), I.positive(4, 3) * 2, full=True),
    "poisson_nll_loss plain": lambda t, I: F(t).poisson_nll_loss(
        I.positive(4, 3), I.positive(4, 3), log_input=False, reduction="sum"
    ),
    "gaussian_nll_loss": lambda t, I: F(t).gaussian_nll_loss(I(4, 3), I(4, 3), I.positive(4, 3)),
    "gaussian_nll_loss full": lambda t, I: F(t).gaussian_nll_loss(I(4, 3), I(4, 3), I.positive(4), full=True),
    "gaussian_nll_loss number": lambda t, I: F(t).gaussian_nll_loss(I(4, 3), I(4, 3), 0.5, reduction="sum"),
    "gaussian_nll_loss column": lambda t, I: F(t).gaussian_nll_loss(
        I(4, 3), I(4, 3), I.positive(4, 1), reduction="none"
    ),
    "cross_entropy images": lambda t, I: F(t).cross_entropy(I(2, 5, 3, 4), I.ints(2, 3, 4)),
    "cross_entropy none": lambda t, I: F(t).cross_entropy(I(2, 5, 3), I.ints(2, 3), reduction="none"),
    "cross_entropy everything": lambda t, I: F(t).cross_entropy(
        I(8, 5), I.ints(8), weight=weights(t, I, 5), ignore_index=2, label_smoothing=0.2
    ),
    "cross_entropy one": lambda t, I: F(t).cross_entropy(I(5), t.tensor(3)),
    "cross_entropy soft": lambda t, I: F(t).cross_entropy(I(4, 5), F(t).softmax(I(4, 5), 1), label_smoothing=0.1),
    "cross_entropy soft weight": lambda t, I: F(t).cross_entropy(
        I(4, 5, 2), F(t).softmax(I(4, 5, 2), 1), weight=weights(t, I, 5), reduction="sum"
    ),
    "cross_entropy soft none": lambda t, I: F(t).cross_entropy(I(4, 5), I.positive(4, 5), reduction="none"),
    "nll_loss weight": lambda t, I: F(t).nll_loss(I(8, 5), I.ints(8), weight=weights(t, I, 5), ignore_index=1),
    "nll_loss images": lambda t, I: F(t).nll_loss(I(2, 5, 3, 4), I.ints(2, 3, 4), reduction="none"),
    "bce pos_weight": lambda t, I: F(t).binary_cross_entropy_with_logits(
        I(4, 3), I.positive(4, 3) - 0.5, pos_weight=weights(t, I, 3), weight=weights(t, I, 4, 1)
    ),
    "bce": lambda t, I: F(t).binary_cross_entropy(I.unit(4, 3) / 2 + 0.5, I.unit(4, 3) / 2 + 0.5),
    "kl_div log": lambda t, I: F(t).kl_div(I(4, 3), I(4, 3), reduction="sum", log_target=True),
    "smooth_l1 zero": lambda t, I: F(t).smooth_l1_loss(I(4, 3), I(4, 3), beta=0.0),
    "mse weight": lambda t, I: F(t).mse_loss(I(4, 3), I(4, 3), weight=weights(t, I, 4, 3), reduction="mean"),
}

DISTANCES: dict[str, Call] = {
    "pairwise_distance": lambda t, I: F(t).pairwise_distance(I(4, 3), I(4, 3)),
    "pairwise_distance p": lambda t, I: F(t).pairwise_distance(I(4, 3), I(3), p=1.0, eps=1e-3, keepdim=True),
    "pairwise_distance inf": lambda t, I: F(t).pairwise_distance(I(2, 4, 3), I(4, 3), p=float("inf")),
    "cosine_similarity dim": lambda t, I: F(t).cosine_similarity(I(4, 3), I(4, 3), dim=0),
    "cosine_similarity broadcast": lambda t, I: F(t).cosine_similarity(I(4, 1, 3), I(1, 5, 3), dim=-1),
    "cosine_similarity zero": lambda t, I: F(t).cosine_similarity(
        I(2, 3) * t.tensor([[0.0], [1.0]]).to(getattr(t, I.dtype)), I(2, 3)
    ),
    "normalize p": lambda t, I: F(t).normalize(I(3, 4), p=1, dim=0),
    "normalize one": lambda t, I: F(t).normalize(I(5), dim=0),
}

TOP: dict[str, Call] = {
    "torch.selu": lambda t, I: t.selu(I(9)),
    "torch.celu": lambda t, I: t.celu(I(9), 2.0),
    "torch.prelu": lambda t, I: t.prelu(I(2, 3), I(3)),
    "Tensor.prelu": lambda t, I: I(2, 3).prelu(I(1)),
    "torch.hardshrink": lambda t, I: t.hardshrink(I(9), 0.3),
    "torch.cosine_similarity": lambda t, I: t.cosine_similarity(I(3, 4), I(3, 4), dim=1),
    "torch.pairwise_distance": lambda t, I: t.pairwise_distance(I(3, 4), I(3, 4)),
    "torch.pixel_shuffle": lambda t, I: t.pixel_shuffle(I(1, 4, 2, 3), 2) * 2,
}

DIFFERENTIABLE: dict[str, Call] = {**ACTIVATIONS, **LOSSES, **DISTANCES, **TOP}

PLAIN: dict[str, Call] = {
    "relu int": lambda t, I: F(t).relu(I.ints(5) - 2),
    "relu6 int": lambda t, I: F(t).relu6(I.ints(5, high=20) - 2),
    "threshold int": lambda t, I: F(t).threshold(I.ints(5), 2, 7),
    "softsign int": lambda t, I: F(t).softsign(I.ints(5) - 2),
    "softmax dtype": lambda t, I: F(t).softmax(I.ints(3), dim=0, dtype=t.float64),
    "dropout int eval": lambda t, I: F(t).dropout(I.ints(5), training=False),
    "nan through hardtanh": lambda t, I: F(t).hardtanh(t.tensor([float("nan"), 1.5, float("inf")])),
    "nan through threshold": lambda t, I: F(t).threshold(t.tensor([float("nan"), 1.5]), 1.0, 0.0),
    "nan through hardshrink": lambda t, I: F(t).hardshrink(t.tensor([float("nan"), 1.5, 0.5, -0.5])),
    "logsigmoid of huge": lambda t, I: F(t).logsigmoid(t.tensor([-1e4, 1e4, 0.0])),
    "mse int target": lambda t, I: F(t).mse_loss(I(4), I.ints(4)),
    "cross_entropy all ignored": lambda t, I: F(t).cross_entropy(I(2, 3), t.tensor([1, 1]), ignore_index=1),
}

REFUSED: dict[str, Call] = {
    "elu of ints": lambda t, I: F(t).elu(I.ints(3)),
    "celu of alpha 0": lambda t, I: F(t).celu(I(3), 0.0),
    "softshrink negative": lambda t, I: F(t).softshrink(I(3), -1.0),
    "hardtanh upside down": lambda t, I: F(t).hardtanh(I(3), 2.0, 1.0),
    "glu odd": lambda t, I: F(t).glu(I(3)),
    "rrelu upside down": lambda t, I: F(t).rrelu(I(3), 2.0, 1.0),
    "dropout p": lambda t, I: F(t).dropout(I(3), 1.5),
    "alpha_dropout p": lambda t, I: F(t).alpha_dropout(I(3), -0.1, True),
    "dropout1d shape": lambda t, I: F(t).dropout1d(I(3)),
    "gelu approximate": lambda t, I: F(t).gelu(I(3), approximate="tan"),
    "huber delta": lambda t, I: F(t).huber_loss(I(3), I(3), delta=0.0),
    "triplet margin": lambda t, I: F(t).triplet_margin_loss(I(2, 3), I(2, 3), I(2, 3), margin=-1.0),
    "multi_margin p": lambda t, I: F(t).multi_margin_loss(I(2, 3), I.ints(2, high=3), p=3),
    "multi_margin shape": lambda t, I: F(t).multi_margin_loss(I(2, 3), I.ints(4, high=3)),
    "multi_margin class": lambda t, I: F(t).multi_margin_loss(I(2, 3), t.tensor([0, 3])),
    "multilabel class": lambda t, I: F(t).multilabel_margin_loss(I(3), t.tensor([0, 3, -1])),
    "cosine_embedding shape": lambda t, I: F(t).cosine_embedding_loss(I(2, 3), I(2, 3), I.ints(2, 3)),
    "gaussian negative": lambda t, I: F(t).gaussian_nll_loss(I(2), I(2), t.tensor([1.0, -1.0])),
    "gaussian size": lambda t, I: F(t).gaussian_nll_loss(I(2, 3), I(2, 3), t.ones(5)),
    "poisson reduction": lambda t, I: F(t).poisson_nll_loss(I(2), I(2), reduction="average"),
    "margin_ranking shape": lambda t, I: F(t).margin_ranking_loss(I(2), I(3), I(2)),
    "cross_entropy smoothing": lambda t, I: F(t).cross_entropy(I(2, 3), I.ints(2, high=3), label_smoothing=1.5),
    "cross_entropy batch": lambda t, I: F(t).cross_entropy(I(2, 3), I.ints(4, high=3)),
    "cross_entropy weight": lambda t, I: F(t).cross_entropy(I(2, 3), I.ints(2, high=3), weight=t.ones(4)),
    "nll_loss float target": lambda t, I: F(t).nll_loss(I(2, 3), I(2)),
    "bce range": lambda t, I: F(t).binary_cross_entropy(I.positive(3) + 1, I.positive(3) - 0.5),
    "bce shape": lambda t, I: F(t).binary_cross_entropy(I.positive(3) / 2, I.positive(2) / 2),
    "pairwise shape": lambda t, I: F(t).pairwise_distance(I(2, 3), I(2, 4)),
    "cosine shape": lambda t, I: F(t).cosine_similarity(I(2, 3), I(2, 4)),
}

# Their names apart from other modules'.
DIFFERENTIABLE, PLAIN, REFUSED = ({f"F {k}": v for k, v in rows.items()} for rows in (DIFFERENTIABLE, PLAIN, REFUSED))
