"""L-BFGS: trajectories, states, evaluations and errors of PyTorch's; the line search."""

import copy

import numpy as np
import pytest
from support import assert_close

import fastnet
from fastnet import optim
from fastnet.optim.lbfgs import _cubic_minimum, _Point, _strong_wolfe


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def problem(lib, name, dtype="float64"):
    """Parameters and the function that their gradients come from."""
    rng = np.random.default_rng(3)

    def made(*shape):
        return lib.tensor(rng.standard_normal(shape), dtype=getattr(lib, dtype))

    if name == "Rosenbrock":
        x, y = (lib.tensor(v, dtype=getattr(lib, dtype), requires_grad=True) for v in (-1.5, 2.0))
        return [x, y], lambda: 100 * (y - x * x) ** 2 + (1 - x) ** 2
    if name == "regression":  # a matrix, a vector without a gradient and one with
        a, b, target = made(20, 6), made(20, 1), made(20, 4)
        weight, unused, bias = (made(*s).requires_grad_() for s in ((6, 4), (3,), (4,)))
        return [weight, unused, bias], lambda: ((a @ weight + bias - target - b) ** 2).mean()
    x = lib.tensor([3.0, -4.0], dtype=getattr(lib, dtype), requires_grad=True)
    return [x], lambda: (x.abs() ** 1.5).sum() + x.sum().sin()


OPTIONS = [
    {}, {"lr": 0.1, "max_iter": 7}, {"history_size": 3, "lr": 0.3}, {"max_eval": 3}, {"tolerance_change": 0.5},
    {"tolerance_grad": 1.0}, {"line_search_fn": "strong_wolfe"},
    {"line_search_fn": "strong_wolfe", "lr": 30.0, "history_size": 2}, {"line_search_fn": "strong_wolfe", "lr": 1e-3},
    {"line_search_fn": "strong_wolfe", "max_eval": 4}, {"line_search_fn": "strong_wolfe", "max_iter": 3},
]  # fmt: skip


def steps(lib, params, function, optimizer, count=4):
    losses = []

    def closure():
        optimizer.zero_grad()
        loss = function()
        loss.backward()
        losses.append(loss.item())
        return loss

    returned = [optimizer.step(closure).item() for _ in range(count)]
    return losses, returned


@pytest.mark.parametrize("name", ["Rosenbrock", "regression", "kinks"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())) or "default")
def test_trajectories(torch, name, options):
    """Four steps of up to 20 iterations in double, two of the regression, which has then all but reached its minimum,
    where rounding decides when to stop: as many evaluations as in PyTorch, at the same points. Differences of rounding
    grow from iteration to iteration with the curvature; so far from the minimum they stay below 1e-7 of the
    losses seen."""
    if name == "Rosenbrock" and "line_search_fn" not in options:
        options = {**options, "lr": 1e-3}  # a step length of 1 runs away
    results = []
    for lib in (fastnet, torch):
        params, function = problem(lib, name)
        optimizer = lib.optim.LBFGS(params, **options)
        losses, returned = steps(lib, params, function, optimizer, 2 if name == "regression" else 4)
        results.append((losses, returned, [p.detach().numpy() for p in params], optimizer.state_dict()))
    mine, theirs = results
    assert len(mine[0]) == len(theirs[0])
    scale = max(map(abs, theirs[0]))
    assert_close(np.array(mine[0]), np.array(theirs[0]), 1e-7 * scale, "losses")
    assert_close(np.array(mine[1]), np.array(theirs[1]), 1e-7 * scale, "returned")
    for p, q in zip(mine[2], theirs[2], strict=True):
        assert_close(p, q, 1e-6, "parameters")
    assert mine[3]["param_groups"] == theirs[3]["param_groups"]
    (state,), (want,) = (r[3]["state"].values() for r in results)
    assert state.keys() == want.keys()
    assert (state["n_iter"], state["func_evals"]) == (want["n_iter"], want["func_evals"])
    for key in ("old_dirs", "old_stps", "ro", "al"):
        if key in want:
            assert len(state[key]) == len(want[key])


def test_single_precision(torch):
    for options in ({"lr": 0.1}, {"line_search_fn": "strong_wolfe"}):
        ends = []
        for lib in (fastnet, torch):
            params, function = problem(lib, "regression", "float32")
            ends.append(steps(lib, params, function, lib.optim.LBFGS(params, max_iter=5, **options), 2)[0])
        # Ten iterations, each of sums of some tens of terms in float32.
        assert_close(np.array(ends[0]), np.array(ends[1]), 1e-4 * max(ends[1]))


def test_states_go_on_anywhere(torch):
    """Two steps and two more are four, through a copy of the state to the bit, through PyTorch's within rounding."""
    options = {"max_iter": 4, "line_search_fn": "strong_wolfe"}
    whole, function = problem(fastnet, "regression")
    steps(fastnet, whole, function, optim.LBFGS(whole, **options), 4)
    params, function = problem(fastnet, "regression")
    first = optim.LBFGS(params, **options)
    steps(fastnet, params, function, first, 2)
    theirs, their_function = problem(torch, "regression")
    for p, q in zip(params, theirs, strict=True):
        q.data = torch.tensor(p.detach().numpy())
    state = first.state_dict()
    second = optim.LBFGS(params)
    second.load_state_dict(copy.deepcopy(state))
    moved = torch.optim.LBFGS(theirs)

    def as_torch(value):
        if isinstance(value, list):
            return [as_torch(v) for v in value]
        return torch.tensor(value.numpy()) if isinstance(value, fastnet.Tensor) else value

    inner = {k: as_torch(v) for k, v in state["state"][0].items()}
    moved.load_state_dict({"state": {0: inner}, "param_groups": state["param_groups"]})
    third, ours_again = None, problem(fastnet, "regression")
    for p, q in zip(ours_again[0], params, strict=True):
        p.data = q.detach().clone()
    third = optim.LBFGS(ours_again[0])
    third.load_state_dict(moved.state_dict())
    steps(fastnet, params, function, second, 2)
    steps(torch, theirs, their_function, moved, 2)
    steps(fastnet, *ours_again, third, 2)
    for p, q, r, s in zip(whole, params, theirs, ours_again[0], strict=True):
        assert p.tolist() == q.tolist() == s.tolist()
        assert_close(p.detach().numpy(), r.detach().numpy(), 1e-9)


def test_infinite_losses_shorten_the_step():
    """A function that is infinite beyond 1 and least at 3/4: the line search comes back from there, where PyTorch's
    goes on with NaN."""
    x = fastnet.tensor([0.5, 0.2], dtype=fastnet.float64, requires_grad=True)
    optimizer = optim.LBFGS([x], lr=5.0, line_search_fn="strong_wolfe")
    losses, _ = steps(fastnet, [x], lambda: -(1 - x).clamp(min=0).log().sum() - 4 * x.sum(), optimizer, 2)
    assert np.inf in losses
    assert_close(x.detach().numpy(), np.full(2, 0.75), 1e-5)


def test_the_cubic():
    """x^3 - 3 x has its minimum at 1; its slope is 3 x^2 - 3."""
    for a, b in ((0.0, 1.5), (1.5, 0.0), (0.5, 3.0)):
        values, slopes = (a**3 - 3 * a, b**3 - 3 * b), (3 * a * a - 3, 3 * b * b - 3)
        assert _cubic_minimum((a, b), values, slopes, -10, 10) == pytest.approx(1)
        assert _cubic_minimum((a, b), values, slopes, 1.2, 1.4) == 1.2
    assert _cubic_minimum((0.0, 1.0), (0.0, 3.0), (3.0, 3.0), 0.0, 1.0) == 0.0  # a straight line, upwards
    assert _cubic_minimum((0.0, 1.0), (0.0, -3.0), (-3.0, -3.0), 0.0, 1.0) == 1.0
    assert _cubic_minimum((0.0, 1.0), (0.0, float("nan")), (1.0, 1.0), 0.0, 1.0) == 0.5
    assert _cubic_minimum((0.0, 1.0), (0.0, 0.0), (-1.0, -1.0), 0.0, 1.0) == pytest.approx(2 / 3, abs=1)


def test_the_line_search_satisfies_the_wolfe_conditions():
    """Functions of one variable that its authors and others test by, from lengths of 1e-3 to 1e3."""
    functions = [
        (lambda t: -t / (t * t + 2), lambda t: (t * t - 2) / (t * t + 2) ** 2),
        (lambda t: (t - 3) ** 2, lambda t: 2 * (t - 3)),
        (lambda t: np.cos(t) + t / 50, lambda t: -np.sin(t) + 1 / 50),
        (lambda t: t**4 - 5 * t, lambda t: 4 * t**3 - 5),
    ]
    g = fastnet.zeros(1)
    for f, slope in functions:
        for first in (1e-3, 0.1, 1.0, 10.0, 1e3):
            start = _Point(0.0, f(0.3), g, slope(0.3))
            assert start.slope < 0
            asked = []

            def evaluate(t, asked=asked, f=f, slope=slope):
                asked.append(t)
                return _Point(t, f(0.3 + t), g, slope(0.3 + t))

            found, count = _strong_wolfe(evaluate, start, first, 1.0, 40)
            assert count == len(asked)
            assert found.loss <= start.loss + 1e-4 * found.t * start.slope
            assert abs(found.slope) <= -0.9 * start.slope


def test_refuses(torch):
    for lib in (fastnet, torch):
        p, q = (lib.ones(2, requires_grad=True) for _ in range(2))
        with pytest.raises(ValueError, match="per-parameter options"):
            lib.optim.LBFGS([{"params": [p]}, {"params": [q]}])
        optimizer = lib.optim.LBFGS([p], line_search_fn="other")

        def closure(p=p, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (p * p).sum()
            loss.backward()
            return loss

        with pytest.raises(RuntimeError, match="only 'strong_wolfe' is supported"):
            optimizer.step(closure)
        with pytest.raises(TypeError):
            optimizer.step()
        optimizer.add_param_group({"params": [q]})
        with pytest.raises(AssertionError, match="exactly one param_group, but got 2"):
            optimizer.step(closure)
    with pytest.raises(NotImplementedError, match="master weights"):
        optim.LBFGS([fastnet.ones(2, dtype=fastnet.float16, requires_grad=True)]).keep_master_weights()
