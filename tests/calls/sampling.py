"""Sampling by grids, padding with negative widths, connectionist temporal classification, what deprecated names do."""

from __future__ import annotations

import warnings
from itertools import product
from typing import Any

from calls import Call


def _f(t: Any) -> Any:
    return t.nn.functional


def _grid(t: Any, I: Any, *shape: int) -> Any:
    """Points in and beyond the image, none of them where a weight has a kink."""
    return I(*shape) * 0.9


def _up(x: Any) -> Any:
    """PyTorch computes the weights of bfloat16 grids in bfloat16."""
    return x.float() if x.element_size() == 2 else x


def _quiet(call: Call) -> Call:
    def run(t: Any, I: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(t, I)

    return run


def _attention(t: Any, I: Any, **options: Any) -> Any:
    x, f = I(4, 2, 6) * 0.5, _f(t)
    projections = I(18, 6) * 0.3, I(18), None, None, False, 0.0, I(6, 6) * 0.3, I(6)
    return f.multi_head_attention_forward(x, x, x, 6, 3, *projections, **options)[0]


def _ctc(t: Any, I: Any, targets: Any, inputs: Any, lengths: Any, *, shape: tuple = (7, 2, 5), **options: Any) -> Any:
    return _f(t).ctc_loss(I(*shape).log_softmax(-1), t.tensor(targets), t.tensor(inputs), lengths, **options)


DIFFERENTIABLE: dict[str, Call] = {
    f"grid_sample {mode} {padding}{' corners' if corners else ''}": lambda t, I, m=mode, p=padding, c=corners: _f(
        t
    ).grid_sample(_up(I(2, 2, 4, 5)), _up(_grid(t, I, 2, 3, 2, 2)), m, p, c)
    for mode, padding, corners in product(("bilinear", "bicubic"), ("zeros", "border", "reflection"), (False, True))
}
DIFFERENTIABLE |= {
    f"grid_sample of volumes {padding}": lambda t, I, p=padding: _f(t).grid_sample(
        I(1, 2, 3, 4, 3), _grid(t, I, 1, 2, 2, 3, 3), "bilinear", p, True
    )
    for padding in ("zeros", "border", "reflection")
}
DIFFERENTIABLE |= {
    "grid_sample nearest": lambda t, I: _f(t).grid_sample(
        I(1, 2, 4, 5), _grid(t, I, 1, 3, 2, 2).detach(), "nearest", "border", False
    ),
    "affine_grid": lambda t, I: _f(t).affine_grid(I(2, 2, 3), (2, 1, 3, 4), align_corners=False),
    "affine_grid corners": lambda t, I: _f(t).affine_grid(I(1, 2, 3), [1, 1, 2, 4], align_corners=True),
    "affine_grid of volumes": lambda t, I: _f(t).affine_grid(I(1, 3, 4), (1, 2, 2, 3, 2), align_corners=True),
    "pad reflect, negative": lambda t, I: _f(t).pad(I(1, 2, 4, 4), (-1, 1, -2, 1), "reflect"),
    "pad reflect, from what was cut": lambda t, I: _f(t).pad(I(1, 6), (-2, 5), "reflect"),
    "pad replicate, negative": lambda t, I: _f(t).pad(I(1, 2, 4, 4), (-1, 2, 3, -2), "replicate"),
    "pad circular, negative": lambda t, I: _f(t).pad(I(1, 2, 5, 4), (-1, 1, 2, -2), "circular"),
    "pad replicate of volumes": lambda t, I: _f(t).pad(I(1, 2, 3, 2), (1, 2, 0, -1, 2, 1), "replicate"),
    "upsample_nearest": _quiet(lambda t, I: _f(t).upsample_nearest(I(1, 2, 3, 3), scale_factor=2)),
    "upsample_bilinear": _quiet(lambda t, I: _f(t).upsample_bilinear(I(1, 2, 3, 3), (4, 5))),
    "F.pdist": lambda t, I: _f(t).pdist(I(4, 3), 1.5),
    "multi_head_attention_forward": _attention,
    "multi_head_attention_forward without weights": lambda t, I: _attention(t, I, need_weights=False, training=False),
    "elu of a number": lambda t, I: _f(t).elu(I(), 0.7),
    "leaky_relu of a number": lambda t, I: _f(t).leaky_relu(I(), 0.3),
    "gelu of a number": lambda t, I: _f(t).gelu(I()),
    "softplus of a number": lambda t, I: _f(t).softplus(I()),
    "hardswish of a number": lambda t, I: _f(t).hardswish(I()),
    "silu of a number": lambda t, I: _f(t).silu(I()),
    "cross_entropy where no target counts": lambda t, I: t.nan_to_num(
        _f(t).cross_entropy(I(2, 3), t.tensor([1, 1]), ignore_index=1)
    ),
    "nll_loss where no target counts": lambda t, I: t.nan_to_num(
        _f(t).nll_loss(I(2, 3), t.tensor([1, 1]), ignore_index=1)
    ),
}

# The gradient of ctc_loss is that of log-probabilities from a softmax, as they are here.
DIFFERENTIABLE |= {
    "ctc_loss": lambda t, I: _ctc(t, I, [[1, 2, 2], [3, 1, 0]], [7, 6], t.tensor([3, 2])),
    "ctc_loss sum": lambda t, I: _ctc(t, I, [[1, 2, 4], [3, 1, 1]], [7, 5], t.tensor([3, 3]), reduction="sum"),
    "ctc_loss none, one after another": lambda t, I: _ctc(
        t, I, [1, 2, 3, 3, 0], [7, 7], t.tensor([2, 3]), reduction="none", blank=4
    ),
    "ctc_loss without batch": lambda t, I: _ctc(t, I, [1, 1, 2], 6, t.tensor(3), shape=(6, 4), reduction="none"),
    "ctc_loss of nothing": lambda t, I: _ctc(t, I, [[1, 2], [1, 2]], [7, 3], t.tensor([0, 1]), reduction="sum"),
    "ctc_loss too long, as zero": lambda t, I: _ctc(
        t, I, [[1, 1, 1], [3, 1, 2]], [4, 7], t.tensor([3, 2]), reduction="sum", zero_infinity=True
    ),
}

PLAIN: dict[str, Call] = {
    "grid_sample nearest of volumes": lambda t, I: _f(t).grid_sample(
        I(1, 2, 3, 4, 3), _grid(t, I, 1, 2, 2, 3, 3), "nearest", "reflection", False
    ),
    "grid_sample at infinity and NaN": lambda t, I: _f(t).grid_sample(
        t.ones(1, 1, 3, 3), t.tensor([[[[float("inf"), 0.0], [float("nan"), 0.0]]]]), align_corners=False
    ),
    "grid_sample of halves, nearest": lambda t, I: _f(t).grid_sample(
        I(1, 1, 4, 4), t.tensor([[[[-0.5, 0.0], [0.0, 0.5], [0.5, 0.25]]]]), "nearest", "zeros", False
    ),
    "ctc_loss infinite": lambda t, I: _ctc(t, I, [[1, 1, 1], [3, 1, 2]], [4, 7], t.tensor([3, 2]), reduction="none"),
    "cross_entropy where no target counts is NaN": lambda t, I: t.isnan(
        _f(t).cross_entropy(I(2, 3), t.tensor([1, 1]), ignore_index=1)
    ),
}

REFUSED: dict[str, Call] = {
    "grid_sample mode": lambda t, I: _f(t).grid_sample(I(1, 1, 3, 3), I(1, 1, 1, 2), "cubic", align_corners=False),
    "grid_sample padding": lambda t, I: _f(t).grid_sample(I(1, 1, 3, 3), I(1, 1, 1, 2), "nearest", "wrap", False),
    "grid_sample batch": lambda t, I: _f(t).grid_sample(I(2, 1, 3, 3), I(1, 1, 1, 2), align_corners=False),
    "grid_sample coordinates": lambda t, I: _f(t).grid_sample(I(1, 1, 3, 3), I(1, 1, 1, 3), align_corners=False),
    "grid_sample bicubic of volumes": lambda t, I: _f(t).grid_sample(
        I(1, 1, 3, 3, 3), I(1, 1, 1, 1, 3), "bicubic", align_corners=False
    ),
    "affine_grid theta": lambda t, I: _f(t).affine_grid(I(1, 3, 3), (1, 1, 2, 2), align_corners=False),
    "affine_grid size": lambda t, I: _f(t).affine_grid(I(1, 2, 3), (1, 1, 0, 2), align_corners=False),
    "pad reflect beyond": lambda t, I: _f(t).pad(I(1, 3), (3, 0), "reflect"),
    "pad replicate of nothing": lambda t, I: _f(t).pad(I(1, 0), (1, 1), "replicate"),
    "ctc_loss class beyond": lambda t, I: _ctc(t, I, [[1, 2, 9], [3, 1, 0]], [7, 6], t.tensor([3, 9])),
    "ctc_loss input too long": lambda t, I: _ctc(t, I, [[1, 2, 2], [3, 1, 0]], [8, 6], t.tensor([3, 2])),
    "ctc_loss blank": lambda t, I: _ctc(t, I, [[1, 2, 2], [3, 1, 0]], [7, 6], t.tensor([3, 2]), blank=5),
    "ctc_loss lengths": lambda t, I: _ctc(t, I, [[1, 2, 2], [3, 1, 0]], [7], t.tensor([3, 2])),
}
