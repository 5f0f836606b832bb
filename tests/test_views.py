"""Views: shared memory, versions, and what operations in place do to the history of views and bases."""

import numpy as np
import pytest

import fastnet


def torch_or_skip():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


# Each: (library, leaf x of shape (4, 3), leaf w of shape (3,)) -> a tensor of x and w, changed in place on the way.
def _slice_add(t, x, w):
    y = x * 1
    y[:, 0] += 1
    y[1:3].mul_(w)
    return y


def _row(t, x, w):
    y = x * 2
    y[1] = w
    y[2, 1] = w[0] * 3
    return y * y


def _flat_view(t, x, w):
    y = x * 1
    y.view(-1).add_(1).mul_(3)
    return y


def _flat_view_of_transpose(t, x, w):
    y = (x * 1).t()
    y.t().view(12)[2:5].mul_(2)
    return y * y


def _view_of_view(t, x, w):
    y = x * 1
    v = y[1:]
    u = v[:, 1:]
    u.mul_(w[1:])
    return (v * v).sum() + (u * 3).sum() + y.sum()


def _view_made_before(t, x, w):
    y = x * 1
    v = y[0]
    y.mul_(2)
    return v * v


def _base_without_gradient(t, x, w):
    y = t.zeros(4, 3, dtype=x.dtype)
    y[0] = w
    y[1:3, 1] = x[0, :2]
    return y * y


def _view_of_base_without_gradient(t, x, w):
    y = t.zeros(4, 3, dtype=x.dtype)
    v = y[2]
    v.copy_(w)
    return y.sum() + (y * y).sum() + v.sum()


def _two_views(t, x, w):
    y = x.clone()
    a, b = y[:2], y[1:]
    a.mul_(2)
    b.mul_(a[1].clone())
    return y * y.sum()


def _permuted(t, x, w):
    y = x.clone()
    y.permute(1, 0)[1].exp_()
    return y * y


def _diagonal(t, x, w):
    y = x.clone()
    y[:3].diagonal().mul_(w)
    return y


def _unsqueezed(t, x, w):
    y = x.clone()
    y.unsqueeze(1)[:, :, 1] = 5.0
    y[0].unsqueeze(0).add_(w)
    return y * 2


def _masked(t, x, w):
    y = x.clone()
    y[1:].masked_fill_(t.tensor([True, False, True]), 0.0)
    y[t.tensor([0, 2])] = w
    return y * y


def _filled(t, x, w):
    y = x.clone()
    y[1].zero_()
    y[:, 2].fill_(3.0)
    return y * y + y[1].sum()


def _index_after(t, x, w):
    y = x.clone()
    v = y.view(2, 6)
    v[1, t.tensor([0, 5])] = w[:2]
    v[0].clamp_(-0.5, 0.5)
    return y * y


def _read_then_write(t, x, w):
    y = x * 1
    s = y.sum()
    y[0].add_(w)
    return y.sum() + s


def _loop(t, x, w):
    h = t.zeros(5, 3, dtype=x.dtype)
    for i in range(4):
        h[i + 1] = h[i].clone() * w + x[i]
    return h


def _select_scalar(t, x, w):
    y = x.clone()
    y[2, 1].mul_(w[0])
    y[-1][0] = 7.0
    return y * y


def _as_strided(t, x, w):
    y = x.clone()
    y.as_strided((2, 2), (3, 1), 1).mul_(3)
    y.unfold(1, 2, 2)[0].mul_(2)
    return y * y


CASES = {
    f.__name__.lstrip("_"): f
    for f in (
        _slice_add,
        _row,
        _flat_view,
        _flat_view_of_transpose,
        _view_of_view,
        _view_made_before,
        _base_without_gradient,
        _view_of_base_without_gradient,
        _two_views,
        _permuted,
        _diagonal,
        _unsqueezed,
        _masked,
        _filled,
        _index_after,
        _read_then_write,
        _loop,
        _select_scalar,
        _as_strided,
    )
}


@pytest.mark.parametrize("case", CASES)
def test_history_of_views_equals_pytorch(case):
    torch = torch_or_skip()
    rng = np.random.default_rng(3)
    arrays = rng.standard_normal((4, 3)), rng.standard_normal(3)
    found = []
    for library in (torch, fastnet):
        x, w = (library.tensor(a.tolist(), dtype=library.float64).requires_grad_() for a in arrays)
        out = CASES[case](library, x, w)
        weight = np.random.default_rng(5).standard_normal(tuple(out.shape))
        (out * library.tensor(weight.tolist(), dtype=library.float64).reshape(out.shape)).sum().backward()
        found.append([np.asarray(v.tolist()) for v in (out.detach(), *(g for g in (x.grad, w.grad) if g is not None))])
    assert len(found[0]) == len(found[1])
    for got, want in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(got, want, 1e-12, 1e-14)


@pytest.mark.parametrize("case", CASES)
def test_gradients_through_views_equal_differences(case):
    rng = np.random.default_rng(4)
    x = fastnet.tensor(rng.standard_normal((4, 3)), requires_grad=True)
    w = fastnet.tensor(rng.standard_normal(3), requires_grad=True)
    assert fastnet.autograd.gradcheck(lambda x, w: CASES[case](fastnet, x, w), [x, w])


# Each must raise RuntimeError in both libraries.
REFUSED = {
    "leaf": lambda t, x: x.add_(1),
    "leaf by index": lambda t, x: x.__setitem__(0, 1.0),
    "view of a leaf": lambda t, x: x[:2].add_(1),
    "fill a leaf": lambda t, x: x.fill_(0.0),
    "zero a view of a leaf": lambda t, x: x[0].zero_(),
    "saved value changed through a view": lambda t, x: _saved_then_changed(t, x, lambda y: y[0].mul_(2)),
    "saved value changed": lambda t, x: _saved_then_changed(t, x, lambda y: y.mul_(2)),
    "saved view changed through the base": lambda t, x: _saved_view_then_changed(x),
    "expanded": lambda t, x: t.ones(3).expand(2, 3).add_(1),
    "view made without recording": lambda t, x: _unrecorded_view(t, x),
    "detach a view": lambda t, x: (x * 1).view(-1).detach_(),
}


def _saved_then_changed(t, x, change):
    y = x * 1
    z = y.exp() if change is None else y * y
    with t.no_grad():
        change(y)
    z.sum().backward()


def _saved_view_then_changed(x):
    y = x * 1
    v = y[0]
    z = v * v
    y.mul_(2)
    z.sum().backward()


def _unrecorded_view(t, x):
    y = x * 1
    with t.no_grad():
        v = y[0]
    v.mul_(2)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    with pytest.raises(RuntimeError):
        REFUSED[case](fastnet, fastnet.ones(4, 3, requires_grad=True))


@pytest.mark.parametrize("case", REFUSED)
def test_pytorch_refuses_too(case):
    torch = torch_or_skip()
    with pytest.raises(RuntimeError):
        REFUSED[case](torch, torch.ones(4, 3, requires_grad=True))


VIEWS = {
    "slice": lambda x: x[1:3, ::2],
    "select": lambda x: x[1],
    "element": lambda x: x[1, 2],
    "none": lambda x: x[:, None],
    "tensor without dimensions": lambda x: x[type(x).argmax(x[0]) * 0],
    "view": lambda x: x.view(2, -1),
    "reshape": lambda x: x.reshape(6, 2),
    "transpose": lambda x: x.t(),
    "permute": lambda x: x.permute(1, 0),
    "T": lambda x: x.T,
    "unsqueeze": lambda x: x.unsqueeze(0),
    "squeeze": lambda x: x[:1].squeeze(0),
    "flatten": lambda x: x.flatten(),
    "narrow": lambda x: x.narrow(0, 1, 2),
    "chunk": lambda x: x.chunk(2)[1],
    "split": lambda x: x.split(3)[0],
    "unbind": lambda x: x.unbind(1)[2],
    "diagonal": lambda x: x.diagonal(),
    "unfold": lambda x: x.unfold(0, 2, 2),
    "as_strided": lambda x: x.as_strided((2, 2), (1, 3)),
    "movedim": lambda x: x.movedim(0, 1),
    "detach": lambda x: x.detach(),
    "expand of one": lambda x: x[:1].expand(1, 3),
    "unflatten": lambda x: x.unflatten(0, (2, 2)),
    "view_as": lambda x: x.view_as(x.reshape(3, 4)),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "tensor_split": lambda x: x.tensor_split(3)[0],
    "ravel": lambda x: x.ravel(),
}


@pytest.mark.parametrize("case", VIEWS)
def test_views_share_memory(case):
    x = fastnet.arange(12.0).reshape(4, 3).clone()
    v = VIEWS[case](x)
    before = x._version
    v.fill_(-1.0)
    changed = (x == -1).sum().item()
    assert changed == v.numel() > 0
    assert x._version == before + 1 == v._version
    x.fill_(5.0)
    assert bool((v == 5).all())


@pytest.mark.parametrize("case", VIEWS)
def test_pytorch_shares_memory_too(case):
    torch = torch_or_skip()
    x = torch.arange(12.0).reshape(4, 3).clone()
    VIEWS[case](x).fill_(-1.0)
    assert (x == -1).any()


def test_copies_share_nothing():
    x = fastnet.arange(12.0).reshape(4, 3)
    for copy in (x.t().reshape(-1), x[[0, 1]], x.clone(), x.t().contiguous(), x.flip(0), x.repeat(1, 1)):
        assert copy._base is None
        version = x._version
        copy.zero_()
        assert x._version == version
    assert x.sum().item() == 66


def test_shape_changed_in_place():
    x = fastnet.ones(2, 3, requires_grad=True)
    y = x * 2
    y.t_()
    assert y.shape == (3, 2)
    y.unsqueeze_(0).transpose_(1, 2).squeeze_(0)
    assert y.shape == (2, 3)
    (y * fastnet.tensor([[1.0, 2, 3], [4, 5, 6]])).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[2, 4, 6], [8, 10, 12]])


def test_hooks_follow_changes_in_place():
    x = fastnet.ones(3, requires_grad=True)
    y = x * 2
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    y[0] = 5.0
    (y * 3).sum().backward()
    assert seen[0] == [3.0, 3.0, 3.0]
    assert x.grad.tolist() == [0.0, 6.0, 6.0]


def test_a_view_whose_base_was_transposed_in_place():
    """Its history would be another element's: an error, not a wrong gradient."""
    x = fastnet.ones(2, 3, requires_grad=True)
    base = x * 1
    view = base[0]
    base.t_()
    base.mul_(2)
    with pytest.raises(RuntimeError, match="make the view anew"):
        view.sum().backward()
    fresh = base[0]
    fresh.sum().backward()
    assert x.grad.tolist() == [[2, 0, 0], [2, 0, 0]]


def test_more_views_than_memory_holds():
    for count in (2**100, 2**40):
        with pytest.raises(MemoryError, match="views"):
            fastnet.tensor_split(fastnet.ones(0, 0), count)
