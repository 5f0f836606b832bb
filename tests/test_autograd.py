"""The engine: order, accumulation, hooks, modes, custom Functions, errors."""

import gc
import weakref

import numpy as np
import pytest

import fastnet
from fastnet import autograd


def test_long_chain_does_not_recurse():
    x = fastnet.ones(3, requires_grad=True)
    y = x
    for _ in range(10_000):
        y = y + 1
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 1)


def test_shared_values_accumulate():
    x = fastnet.tensor([2.0], requires_grad=True)
    y = x * x
    (y * y + y).backward()  # x^4 + x^2
    assert x.grad.item() == 4 * 8 + 2 * 2


def test_backward_adds_to_what_is_there():
    x = fastnet.ones(2, requires_grad=True)
    (x * 2).sum().backward()
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 5)


def test_gradients_of_two_leaves_do_not_share_memory():
    x, y = fastnet.ones(3, requires_grad=True), fastnet.ones(3, requires_grad=True)
    (x + y).sum().backward()
    x.grad.zero_()
    np.testing.assert_array_equal(y.grad.numpy(), 1)
    x.grad.add_(1)  # a gradient that broadcasting made must be memory of its own


def test_retain_graph_and_second_backward():
    x = fastnet.ones(2, requires_grad=True)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), 4)
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_saved_values_are_freed():
    x = fastnet.ones(1000, requires_grad=True)
    y = x.exp()
    kept = weakref.ref(y)
    z = y.sum()
    z.backward()
    del y
    gc.collect()
    assert kept() is None


def test_grad_and_inputs():
    x, y = fastnet.ones(2, requires_grad=True), fastnet.full((2,), 3.0, requires_grad=True)
    z = (x * y).sum()
    (gx,) = autograd.grad(z, x, retain_graph=True)
    np.testing.assert_array_equal(gx.numpy(), 3)
    assert x.grad is None
    assert y.grad is None
    z.backward(inputs=[y])
    assert x.grad is None
    np.testing.assert_array_equal(y.grad.numpy(), 1)
    middle = x * 2
    (gm,) = autograd.grad((middle * middle).sum(), middle)
    np.testing.assert_array_equal(gm.numpy(), 4)


def test_hooks():
    x = fastnet.ones(2, requires_grad=True)
    y = x * 2
    seen = []
    handle = y.register_hook(lambda g: seen.append(g.numpy().copy()))
    y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: g + 1)
    y.retain_grad()
    y.sum().backward()
    np.testing.assert_array_equal(seen, [[1, 1]])
    np.testing.assert_array_equal(y.grad.numpy(), 10)
    np.testing.assert_array_equal(x.grad.numpy(), 21)
    handle.remove()
    (x * 2).sum().backward()
    assert len(seen) == 1
    with pytest.raises(RuntimeError):
        fastnet.ones(1).register_hook(print)


def test_modes():
    x = fastnet.ones(1, requires_grad=True)
    with fastnet.no_grad():
        assert not (x * 2).requires_grad
        with fastnet.enable_grad():
            assert (x * 2).requires_grad

    @fastnet.no_grad()
    def f():
        return x * 2

    @fastnet.no_grad
    def g():
        return x * 2

    assert not f().requires_grad
    assert not g().requires_grad
    with fastnet.set_grad_enabled(False):
        assert not fastnet.is_grad_enabled()
    assert fastnet.is_grad_enabled()
    with pytest.raises(KeyError), fastnet.no_grad():
        raise KeyError
    assert fastnet.is_grad_enabled()


class TwoOutputs(autograd.Function):
    @staticmethod
    def forward(ctx, x, k):
        ctx.save_for_backward(x)
        ctx.k = k
        indices = (x > 0).long()
        ctx.mark_non_differentiable(indices)
        return x * k, x * x, indices

    @staticmethod
    def backward(ctx, a, b, c):
        (x,) = ctx.saved_tensors
        assert ctx.needs_input_grad == (True, False)
        return a * ctx.k + 2 * b * x, None


def test_custom_function():
    x = fastnet.tensor([1.0, -2.0], requires_grad=True)
    y, z, i = TwoOutputs.apply(x, 3)
    assert y.requires_grad
    assert not i.requires_grad
    (z.sum() + y.sum()).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [5, -1])
    x.grad = None
    y, z, i = TwoOutputs.apply(x, 3)
    z.sum().backward()  # the gradient of y arrives as zeros
    np.testing.assert_array_equal(x.grad.numpy(), [2, -4])


def test_wrong_number_of_gradients():
    class Bad(autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, g):
            return g

    x, y = fastnet.ones(1, requires_grad=True), fastnet.ones(1, requires_grad=True)
    with pytest.raises(RuntimeError, match="incorrect number of gradients"):
        Bad.apply(x, y).backward()


def test_wrong_shape_of_gradient():
    class Bad(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sum()

        @staticmethod
        def backward(ctx, g):
            return fastnet.ones(5)

    with pytest.raises(RuntimeError, match="invalid gradient"):
        Bad.apply(fastnet.ones(2, requires_grad=True)).backward()


def test_views_share_version():
    x = fastnet.ones(4, requires_grad=True)
    y = x * 1
    z = y * y
    with fastnet.no_grad():
        y.view(2, 2)[0] = 5
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_gradcheck_finds_a_wrong_gradient():
    class Wrong(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * x * g

    x = fastnet.tensor([1.0, 2.0], dtype=fastnet.float64, requires_grad=True)
    with pytest.raises(AssertionError, match="gradcheck"):
        autograd.gradcheck(Wrong.apply, [x])
    assert autograd.gradcheck(lambda t: t * t, [x])


def test_deterministic_indexing_gradient():
    index = fastnet.tensor(np.random.default_rng(0).integers(0, 3, 10_000).tolist())
    grads = []
    for _ in range(3):
        x = fastnet.ones(3, requires_grad=True)
        weight = fastnet.tensor(np.random.default_rng(1).standard_normal(10_000).astype(np.float32))
        (x[index] * weight).sum().backward()
        grads.append(x.grad.numpy().tobytes())
    assert len(set(grads)) == 1


def test_new_style_function():
    class Scale(autograd.Function):
        @staticmethod
        def forward(x, k):
            return x * k

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.k = inputs[1]

        @staticmethod
        @autograd.function.once_differentiable
        def backward(ctx, grad):
            return grad * ctx.k, None

    x = fastnet.ones(2, requires_grad=True)
    Scale.apply(x, 3).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 3)


def test_function_that_changes_its_input():
    class Double(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

    x = fastnet.ones(3, requires_grad=True)
    y = x * 1
    z = Double.apply(y)
    assert z is y
    (y * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 6)
    y = x * 1
    Double.apply(y[:2])
    x.grad = None
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 2, 1])


def test_node_hooks_and_edges():
    x = fastnet.ones(2, requires_grad=True)
    y = x * 2
    seen = []
    y.grad_fn.register_hook(lambda inputs, outputs: seen.append((inputs[0].tolist(), outputs[0].tolist())))
    (y + 1).sum().backward()
    assert seen == [([2.0, 2.0], [1.0, 1.0])]
    assert y.grad_fn.name() == "MulBackward0"
    assert y.grad_fn.next_functions[0][0].variable is x


def test_hook_after_accumulation():
    x = fastnet.ones(2, requires_grad=True)
    seen = []
    handle = x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.tolist()))
    (x * 2).sum().backward()
    (x * 2).sum().backward()
    assert seen == [[2.0, 2.0], [4.0, 4.0]]
    handle.remove()
    (x * 2).sum().backward()
    assert len(seen) == 2
    with pytest.raises(RuntimeError):
        (x * 2).register_post_accumulate_grad_hook(print)


def test_modes_as_decorators_and_nested():
    @fastnet.set_grad_enabled(False)
    def f():
        return fastnet.is_grad_enabled()

    assert fastnet.is_grad_enabled()
    assert not f()
    with fastnet.inference_mode():
        assert fastnet.is_inference_mode_enabled()
        with fastnet.inference_mode(False):
            assert fastnet.is_grad_enabled()
    assert not fastnet.is_inference_mode_enabled()

    @fastnet.inference_mode()
    def g():
        return fastnet.is_grad_enabled()

    assert not g()
    assert fastnet.is_grad_enabled()


def test_anomaly():
    x = fastnet.zeros(1, requires_grad=True)
    with autograd.detect_anomaly(), pytest.raises(RuntimeError, match=r"SqrtBackward0.*nan"):
        (x.sqrt() * 0).backward()
    (x.sqrt() * 0).backward()


def test_jacobian_and_vjp():
    x = fastnet.tensor([1.0, 2.0, 3.0], dtype=fastnet.float64)
    found = autograd.functional.jacobian(lambda x: x * x.sum(), x)
    np.testing.assert_allclose(found.numpy(), np.eye(3) * 6 + np.outer([1, 2, 3], np.ones(3)))
    out, product = autograd.functional.vjp(lambda x: x.sum(), x, fastnet.tensor(2.0, dtype=fastnet.float64))
    assert out.item() == 6
    np.testing.assert_array_equal(product.numpy(), 2)


def test_infinities_and_nan_are_results_without_warnings():
    """inf - inf, 0 * inf, overflow and what their gradients meet: NumPy would warn, PyTorch does not."""
    x = fastnet.tensor([float("inf"), 3e38, 0.0], requires_grad=True)
    y = (x - x) + x * x + x * float("inf") + (x * 10).sum() + (x + 3e38)
    assert y.isnan().tolist() == [True, False, True]
    y.sum().backward()
    assert not x.grad.isfinite().any()
    x.detach().mul_(float("inf"))


def test_integers_of_what_requires_a_gradient():
    x = fastnet.tensor([0.5, 1.7], requires_grad=True)
    for whole in (x.ceil().long(), x.to(fastnet.uint8), x.bool(), x.int()):
        assert not whole.requires_grad
        assert whole.grad_fn is None
    x[x.long()].sum().backward()
    assert x.grad.tolist() == [1, 1]
