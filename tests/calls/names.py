"""Names and arguments of PyTorch's that stand beside the usual ones: older and C++ names, in-place functions, lists of
tensors, constructors' switches."""

from __future__ import annotations

from calls import Call

DIFFERENTIABLE: dict[str, Call] = {
    "torch.layer_norm": lambda t, I: t.layer_norm(I(2, 4), (4,), I(4), I(4), 1e-5, False),
    "torch.group_norm": lambda t, I: t.group_norm(I(2, 4, 3), 2, I(4)),
    "torch.rms_norm": lambda t, I: t.rms_norm(I(3, 5), (5,), I(5)),
    "torch.batch_norm": lambda t, I: t.batch_norm(I(3, 2), I(2), None, None, None, True, 0.1, 1e-5, False),
    "torch.instance_norm": lambda t, I: t.instance_norm(I(2, 2, 3), None, None, None, None, True, 0.1, 1e-5, False),
    "torch.bilinear": lambda t, I: t.bilinear(I(2, 3), I(2, 4), I(5, 3, 4)),
    "torch.kl_div": lambda t, I: t.kl_div(I(2, 3), I.positive(2, 3), 1),
    "torch.kl_div none": lambda t, I: t.kl_div(I(2, 3), I.positive(2, 3)),
    "torch.binary_cross_entropy_with_logits": lambda t, I: t.binary_cross_entropy_with_logits(
        I(2, 3), I.mask(2, 3).to(I(1).dtype), reduction=2
    ),
    "torch.hinge_embedding_loss": lambda t, I: t.hinge_embedding_loss(I(4), t.tensor([1, -1, 1, -1]), 1.0, 1),
    "torch.margin_ranking_loss": lambda t, I: t.margin_ranking_loss(I(3), I(3), t.tensor([1, -1, 1]), reduction=1),
    "torch.triplet_margin_loss": lambda t, I: t.triplet_margin_loss(I(2, 3), I(2, 3), I(2, 3)),
    "torch.cosine_embedding_loss": lambda t, I: t.cosine_embedding_loss(I(2, 3), I(2, 3), t.tensor([1, -1])),
    "torch.poisson_nll_loss": lambda t, I: t.poisson_nll_loss(I(4), I.positive(4), True, False, 1e-8, 1),
    "torch.embedding": lambda t, I: t.embedding(I(5, 2), t.tensor([1, 4, 1])),
    "tuples as indices": lambda t, I: I(4, 5, 2)[(0, 3), :, (1, 1)] * 2,
    "spmm of dense matrices": lambda t, I: t.spmm(I(3, 4), I(4, 2)),
    "norm_except_dim": lambda t, I: t.norm_except_dim(I(3, 4), 2, 1),
    "expand_copy": lambda t, I: t.expand_copy(I(2, 1), (2, 3)) * I(3),
    "unbind_copy": lambda t, I: t.unbind_copy(I(2, 3))[1] * I(3),
    "split(split_size=)": lambda t, I: I(5, 2).split(split_size=2)[1] * 2,
    "tensor_split(sections=)": lambda t, I: t.tensor_split(I(5), sections=2)[0] * 2,
    "hsplit(indices=)": lambda t, I: t.hsplit(I(2, 4), indices=[1])[1] * 2,
    "swapaxes(axis0=, axis1=)": lambda t, I: t.swapaxes(input=I(2, 3), axis0=0, axis1=1) * 2,
    "broadcast_to(size=)": lambda t, I: t.broadcast_to(I(1, 3), size=(2, 3)) * 2,
    "linalg.norm(input=)": lambda t, I: t.linalg.norm(input=I(2, 3)),
    "softmax of a stack level": lambda t, I: t.nn.functional.softmax(I(2, 3), 1, 3, I(1).dtype),
    "lp_pool1d of infinity": lambda t, I: t.nn.functional.lp_pool1d(I(2, 3, 7), float("inf"), 3, 2, True),
    "lp_pool2d of -infinity": lambda t, I: t.nn.functional.lp_pool2d(I(2, 4, 4), -float("inf"), 2),
    "ormqr": lambda t, I: t.ormqr(I(4, 3), I(3), I(4, 2), True, True),
    "ormqr right": lambda t, I: t.ormqr(I(4, 3), I(3), I(2, 4), left=False),
    "renorm_": lambda t, I: (I(3, 4) * 1).renorm_(2, 0, 1.0),
    "hardshrink method": lambda t, I: I(9).hardshrink(0.3),
    "threshold_": lambda t, I: t.threshold_(I(9) * 1, 0.1, 2.0),
    "_foreach_mul": lambda t, I: t._foreach_mul([I(2), I(3)], 2.0)[1],
    "_foreach_addcdiv": lambda t, I: t._foreach_addcdiv([I(2)], [I(2)], [I.positive(2)], 0.5)[0],
    "_foreach_lerp": lambda t, I: t._foreach_lerp([I(2)], [I(2)], 0.3)[0],
    "torch.functional.norm": lambda t, I: t.functional.norm(I(2, 3), dim=1),
}

PLAIN: dict[str, Call] = {
    "zeros(layout=)": lambda t, I: t.zeros(2, layout=t.strided, pin_memory=False),
    "empty(memory_format=)": lambda t, I: t.tensor(t.empty(2, 3, memory_format=t.contiguous_format).shape),
    "ones_like(layout=)": lambda t, I: t.ones_like(I(2), layout=t.strided, dtype=t.float64),
    "arange out, a leaf": lambda t, I: t.arange(3.0, out=t.empty(3), requires_grad=True).detach(),
    "asarray(copy=)": lambda t, I: t.asarray(I.ints(3), dtype=t.float64, copy=True),
    "sqrt_(input=)": lambda t, I: t.sqrt_(input=I.positive(3).detach()),
    "cumsum(axis=)": lambda t, I: t.cumsum(I.ints(2, 3), axis=1),
    "normalize out": lambda t, I: t.nn.functional.normalize(I(2, 3).detach(), out=t.empty(2, 3, dtype=I(1).dtype)),
    "norm out": lambda t, I: t.norm(I(2, 3).detach(), 2, 1, False, t.empty(2, dtype=I(1).dtype)),
    "random_(to=)": lambda t, I: t.zeros(3).random_(2, to=3),
    "bernoulli_ of a tensor": lambda t, I: t.empty(2, 2).bernoulli_(t.tensor([0.0, 1.0])),
    "bernoulli of a number": lambda t, I: t.bernoulli(t.zeros(2), 1.0),
    "poisson of zero": lambda t, I: t.poisson(t.zeros(2)),
    "binomial of one": lambda t, I: t.binomial(t.tensor([4.0, 0.0]), t.ones(2)),
    "angle": lambda t, I: t.angle(t.tensor([1.0, -2.0, 0.0, float("nan")])),
    "geqrf": lambda t, I: t.geqrf(I(4, 3).detach()).a,
    "geqrf tau": lambda t, I: I(2, 3, 3).detach().geqrf().tau,
    "torch.lu": lambda t, I: t.lu(I(3, 3).detach(), get_infos=True)[2],
    "histogramdd": lambda t, I: t.histogramdd(t.arange(12.0).reshape(6, 2), [2, 3]).hist,
    "histogramdd edges": lambda t, I: t.histogramdd(t.arange(12.0).reshape(6, 2), 3, range=[0.0, 4.0, 1.0, 9.0])[1][1],
    "_foreach_sqrt_": lambda t, I: t._foreach_sqrt_([t.ones(2) * 4])[0],
    "_foreach_norm": lambda t, I: t._foreach_norm([t.ones(4)])[0],
    "svd_lowrank": lambda t, I: t.svd_lowrank(t.diag(t.tensor([3.0, 2.0, 1.0])), q=3)[1].round(decimals=3),
    "pca_lowrank": lambda t, I: t.pca_lowrank(t.diag(t.tensor([3.0, 2.0, 1.0])), q=3)[1][:2].round(decimals=3),
    "grad materialized": lambda t, I: t.autograd.grad(
        (t.ones(3, requires_grad=True) * 2).sum(), [t.ones(2, requires_grad=True)], materialize_grads=True
    )[0],
}

REFUSED: dict[str, Call] = {
    **{
        f"{name} without a size": (lambda t, I, name=name: getattr(t, name)())
        for name in ("zeros", "ones", "empty", "rand", "randn")
    },
    "torch.kl_div: reduction by name": lambda t, I: t.kl_div(I(2), I(2), "mean"),
    "_foreach_add: lists of two lengths": lambda t, I: t._foreach_add([I(2), I(2)], [I(2)]),
    "_foreach_abs: no list": lambda t, I: t._foreach_abs(I(2)),
    "poisson of a negative rate": lambda t, I: t.poisson(t.tensor([-1.0])),
    "geqrf of a vector": lambda t, I: t.geqrf(t.ones(3)),
    "normalize out, recorded": lambda t, I: t.nn.functional.normalize(
        t.ones(2, 3, requires_grad=True), out=t.empty(2, 3)
    ),
    "grad materialized, unused refused": lambda t, I: t.autograd.grad(
        t.ones(1, requires_grad=True) * 2, t.ones(1, requires_grad=True), allow_unused=False, materialize_grads=True
    ),
}
