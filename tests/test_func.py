"""fastnet.func against torch.func."""

import numpy as np
import pytest

import fastnet

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((3, 4)), RNG.standard_normal(4)


def cases(t):
    f, x, y = t.func, t.tensor(X), t.tensor(Y)
    number = lambda a, b: (a.sin() * b).sum() + (b**3).sum()  # noqa: E731
    layer = t.nn.Linear(4, 2).double()
    with t.no_grad():
        layer.weight.copy_(t.tensor(X[:2]))
        layer.bias.copy_(t.tensor(Y[:2]))
    weights = {k: v.detach() for k, v in layer.named_parameters()}

    def loss(weights, x, y):
        return (f.functional_call(layer, weights, (x,)).sum(-1) - y.sum()).square().mean()

    yield f.grad(number)(x, y)
    yield from f.grad(number, argnums=(0, 1))(x, y)
    yield f.grad(f.grad(lambda a: a.sin().sum() ** 2 / 2, 0))(y[0])
    yield from f.grad_and_value(number, argnums=1)(x, y)
    g, (value, aux) = f.grad_and_value(lambda a: (a.sum() ** 2, a * 2), has_aux=True)(y)
    yield from (g, value, aux)
    yield from f.grad(loss)(weights, x, y).values()
    yield from f.vmap(f.grad(loss), in_dims=(None, 0, None))(weights, x, y).values()
    yield f.vmap(t.dot, in_dims=(0, None))(x, y)
    yield f.vmap(lambda a: (a * 2, {"s": a.sum()}), in_dims=1, out_dims=(1, 0))(x)[0]
    yield f.vmap(f.vmap(lambda a, b: a * b, (0, None)), (None, 0))(y, y)
    yield t.vmap(lambda a, b: a @ b)(x[:, None], x[:, :, None])
    out, back = f.vjp(lambda a, b: (a * b, a.sum()), x, y)
    yield from out
    yield from back((t.ones_like(x), t.ones_like(out[1])))
    yield from f.jvp(lambda a: a.exp() * a.sum(), (y,), (t.ones_like(y),))
    yield f.jacrev(lambda a: a.sin() * a.sum())(y)
    yield f.jacfwd(lambda a, b: a @ b, argnums=1)(x, y)
    yield f.hessian(lambda a: (a**3).sum() * a[0])(y)
    yield f.vmap(f.jacrev(lambda a: a**2))(x)
    models = [t.nn.Linear(4, 2), t.nn.Linear(4, 2)]
    for m in models:
        t.nn.init.constant_(m.weight, 0.5)
        t.nn.init.constant_(m.bias, 1.0)
    parameters, _ = f.stack_module_state(models)
    yield parameters["weight"].detach()
    yield f.vmap(lambda p, a: f.functional_call(models[0], p, (a,)), (0, None))(parameters, x.to(t.float32)).detach()
    # An outer backward goes through an inner gradient.
    w = t.tensor(Y, requires_grad=True)
    f.grad(lambda a: (a * w).pow(2).sum())(y).sum().backward()
    yield w.grad


@pytest.mark.filterwarnings("ignore")
def test_equals_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    want, got = list(cases(torch)), list(cases(fastnet))
    assert len(want) == len(got) >= 30
    for i, (w, g) in enumerate(zip(want, got, strict=True)):
        assert g.requires_grad == w.requires_grad, i
        np.testing.assert_allclose(g.detach().numpy(), w.detach().numpy(), 1e-6, 1e-12, err_msg=str(i))


REFUSED = {
    "grad of a vector": lambda t: t.func.grad(lambda a: a * 2)(t.ones(2)),
    "grad by no argument": lambda t: t.func.grad(lambda a: a.sum(), argnums=2)(t.ones(2)),
    "vmap over nothing": lambda t: t.func.vmap(lambda a: a, in_dims=None)(t.ones(2)),
    "vmap over two sizes": lambda t: t.func.vmap(lambda a, b: a)(t.ones(2), t.ones(3)),
    "vmap of a number": lambda t: t.func.vmap(lambda a: a)(3),
    "vmap to a number": lambda t: t.func.vmap(lambda a: 3)(t.ones(2)),
    "vmap randomness": lambda t: t.func.vmap(lambda a: a, randomness="some")(t.ones(2)),
    "jvp of lists": lambda t: t.func.jvp(lambda a: a, [t.ones(2)], [t.ones(2)]),
    "vjp of fewer cotangents": lambda t: t.func.vjp(lambda a: (a, a), t.ones(2))[1](t.ones(2)),
    "no modules": lambda t: t.func.stack_module_state([]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_as_pytorch_refuses(case):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        REFUSED[case](torch)
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        REFUSED[case](fastnet)
