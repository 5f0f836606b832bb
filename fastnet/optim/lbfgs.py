"""L-BFGS, with a line search."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastnet import _capture
from fastnet._tensor import Tensor
from fastnet.autograd import enable_grad, no_grad
from fastnet.ops.shape import cat
from fastnet.optim.array_code import check_options
from fastnet.optim.optimizer import Optimizer


def _cubic_minimum(
    at: tuple[float, float], values: tuple[float, float], slopes: tuple[float, float], low: float, high: float
) -> float:
    """Where the cubic through two points with their slopes is least between low and high; their middle if it has no
    minimum.

    Source: Nocedal and Wright 2006, equation 3.59.
    """
    (x1, f1, g1), (x2, f2, g2) = sorted(zip(at, values, slopes, strict=True), key=lambda point: point[0])
    # Sorted, so that the formula is that of the right-hand point, whichever came first.
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1 * d1 - g1 * g2
    if not square >= 0:
        return (low + high) / 2
    d2 = square**0.5
    above, below = g2 + d2 - d1, g2 - g1 + 2 * d2
    if below == 0:  # no cubic term: the minimum lies at infinity, on the side that the other term says
        return (low + high) / 2 if above == 0 else low if above > 0 else high
    return min(max(x2 - (x2 - x1) * (above / below), low), high)


class _Point:
    """A step along the direction: its length, the loss there, the gradient and its slope along the direction."""

    def __init__(self, t: float, loss: float, gradient: Tensor, slope: float):
        self.t, self.loss, self.gradient, self.slope = t, loss, gradient, slope


def _strong_wolfe(
    evaluate: Callable[[float], _Point],
    start: _Point,
    t: float,
    reach: float,
    most: int,
    decrease: float = 1e-4,
    curvature: float = 0.9,
    tolerance: float = 1e-9,
) -> tuple[_Point, int]:
    """A point that satisfies the strong Wolfe conditions, or the best found, and how often the loss was evaluated.

    Args:
        evaluate: the point at a step length.
        start: the point at 0.
        t: the first length to try.
        reach: the largest element of the direction: brackets that move no element by ``tolerance`` are small enough.
        most: evaluations beyond the first.
        decrease, curvature: c1 and c2 of the conditions.

    Source: Nocedal and Wright 2006, algorithms 3.5 and 3.6, with the safeguards of minFunc (Schmidt 2005).
    """

    def too_high(point: _Point) -> bool:
        return point.loss > start.loss + decrease * point.t * start.slope

    def flat(point: _Point) -> bool:
        return abs(point.slope) <= -curvature * start.slope

    previous, new = start, evaluate(t)
    evaluations, found, bracket = 1, False, None
    for iteration in range(most):
        if too_high(new) or (iteration > 1 and new.loss >= previous.loss):
            bracket = [previous, new]
        elif flat(new):
            return new, evaluations
        elif new.slope >= 0:
            bracket = [previous, new]
        if bracket is not None:
            break
        between = _cubic_minimum(
            (previous.t, new.t),
            (previous.loss, new.loss),
            (previous.slope, new.slope),
            new.t + 0.01 * (new.t - previous.t),
            10 * new.t,
        )
        previous, new = new, evaluate(between)
        evaluations += 1
    if bracket is None:
        bracket = [start, new]
    # The bracket's lower end and its higher; between them lies what is sought, and every evaluation replaces one.
    low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
    stalled = False
    while not found and evaluations - 1 < most:
        a, b = bracket
        if abs(b.t - a.t) * reach < tolerance:
            break
        least, largest = min(a.t, b.t), max(a.t, b.t)
        t = _cubic_minimum((a.t, b.t), (a.loss, b.loss), (a.slope, b.slope), least, largest)
        # Twice in a row within a tenth of an end, or on it: not nearer than a tenth.
        margin = 0.1 * (largest - least)
        close = min(largest - t, t - least) < margin
        if close and (stalled or t >= largest or t <= least):
            t = largest - margin if abs(t - largest) < abs(t - least) else least + margin
            stalled = False
        else:
            stalled = close
        new = evaluate(t)
        evaluations += 1
        if too_high(new) or new.loss >= bracket[low].loss:
            bracket[high] = new
            low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
        else:
            if flat(new):
                found = True
            elif new.slope * (bracket[high].t - bracket[low].t) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = new
    return bracket[low], evaluations


class LBFGS(Optimizer):
    """The limited-memory BFGS method, as ``torch.optim.LBFGS``: ``step(closure)`` runs up to max_iter iterations along
    ``-H g``, where H approximates the inverse Hessian from the last history_size changes of parameters and gradients.

    All parameters form one group and lie on one device. The state, under the first parameter, is as large as all
    parameters times 2 history_size + 3. Every iteration waits for the device. There are no master weights.

    Args:
        params: parameters.
        lr: the step length, or with a line search the first one to try; the very first step is at most
            ``lr / sum(abs(g))``.
        max_iter: iterations of a step.
        max_eval: evaluations of a step; by default 1.25 max_iter.
        tolerance_grad: the largest element of the gradient at which a step ends.
        tolerance_change: the change of the loss or of every parameter at which a step ends.
        history_size: changes kept.
        line_search_fn: "strong_wolfe" or None.

    Raises:
        ValueError: a negative lr; more than one group.

    Source: Liu and Nocedal 1989; Nocedal and Wright 2006, algorithms 7.4 and 3.5; as PyTorch has it.

    >>> import fastnet
    >>> p = fastnet.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = LBFGS([p], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (fastnet.tensor([1.0, 10.0]) * (p - 1) ** 2).sum()
    ...     loss.backward()
    ...     return loss
    >>> optimizer.step(closure)
    tensor(94., grad_fn=<SumBackward0>)
    >>> bool(((p - 1).abs() < 1e-3).all())
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ):
        check_options(lr)
        super().__init__(
            params,
            {
                "lr": lr,
                "max_iter": max_iter,
                "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
                "tolerance_grad": tolerance_grad,
                "tolerance_change": tolerance_change,
                "history_size": history_size,
                "line_search_fn": line_search_fn,
            },
        )
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    def keep_master_weights(self) -> None:
        raise NotImplementedError("LBFGS keeps no master weights: give it float32 parameters")

    @property
    def _params(self) -> list[Tensor]:
        return self.param_groups[0]["params"]

    def _gradient(self) -> Tensor:
        """All gradients one after another; zeros where there is none."""
        return cat([(p.detach() * 0 if p.grad is None else p.grad).reshape(-1) for p in self._params])

    def _move(self, t: float, direction: Tensor) -> None:
        start = 0
        for p in self._params:
            p.add_(direction[start : start + p.numel()].reshape(p.shape), alpha=t)
            start += p.numel()

    @staticmethod
    def _largest(vector: Tensor) -> float:
        return float(vector.abs().max())

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Move the parameters to where the loss is less; returns the loss before.

        Args:
            closure: clears the gradients, computes the loss, calls backward and returns the loss. It is called many
                times.
        """
        if _capture.current is not None:
            raise _capture.CaptureError(f"LBFGS.step waits for losses and cannot be captured{_capture.where()}")
        if len(self.param_groups) != 1:
            raise AssertionError(f"Expected exactly one param_group, but got {len(self.param_groups)}")
        with no_grad():
            return self._step(closure)

    def _step(self, closure: Callable[[], Any]) -> Any:
        def loss_of() -> Any:
            with enable_grad():
                return closure()

        group = self.param_groups[0]
        lr = float(group["lr"])
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first = loss_of()
        loss, evaluations = float(first), 1
        state["func_evals"] += 1
        gradient = self._gradient()
        if self._largest(gradient) <= group["tolerance_grad"]:
            return first
        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                state.update(d=-gradient, old_dirs=[], old_stps=[], ro=[], H_diag=1)
            else:
                self._remember(gradient, state, group["history_size"])
                state["d"] = self._direction(gradient, state, group["history_size"])
            state["prev_flat_grad"], state["prev_loss"] = gradient.clone(), loss
            state["t"] = lr * (min(1.0, 1.0 / float(gradient.abs().sum())) if state["n_iter"] == 1 else 1)
            direction, slope = state["d"], float(gradient.dot(state["d"]))
            if slope > -group["tolerance_change"]:
                break
            new_evaluations = 0
            if group["line_search_fn"] is not None:
                if group["line_search_fn"] != "strong_wolfe":
                    raise RuntimeError("only 'strong_wolfe' is supported")
                origin = [p.clone() for p in self._params]

                def evaluate(t: float, origin: list[Tensor] = origin, direction: Tensor = direction) -> _Point:
                    self._move(t, direction)
                    there = float(loss_of())
                    g = self._gradient()
                    for p, was in zip(self._params, origin, strict=True):
                        p.copy_(was)
                    return _Point(t, there, g, float(g.dot(direction)))

                start = _Point(0.0, loss, gradient, slope)
                most = group["max_eval"] - evaluations
                point, new_evaluations = _strong_wolfe(evaluate, start, state["t"], self._largest(direction), most)
                loss, gradient, state["t"] = point.loss, point.gradient, point.t
                self._move(state["t"], direction)
            else:
                self._move(state["t"], direction)
                if iteration < group["max_iter"]:  # the last loss would serve nothing
                    loss, new_evaluations = float(loss_of()), 1
                    gradient = self._gradient()
            evaluations += new_evaluations
            state["func_evals"] += new_evaluations
            if (
                iteration == group["max_iter"]
                or evaluations >= group["max_eval"]
                or self._largest(gradient) <= group["tolerance_grad"]
                or self._largest(direction) * abs(state["t"]) <= group["tolerance_change"]
                or abs(loss - state["prev_loss"]) < group["tolerance_change"]
            ):
                break
        return first

    @staticmethod
    def _remember(gradient: Tensor, state: dict[str, Any], history_size: int) -> None:
        """Keep the last step and its change of the gradient, unless the curvature along it is not positive."""
        change, moved = gradient - state["prev_flat_grad"], state["d"] * state["t"]
        product = change.dot(moved)
        if float(product) > 1e-10:
            if len(state["old_dirs"]) == history_size:
                for kept in (state["old_dirs"], state["old_stps"], state["ro"]):
                    kept.pop(0)
            state["old_dirs"].append(change)
            state["old_stps"].append(moved)
            state["ro"].append(1.0 / product)
            state["H_diag"] = product / change.dot(change)

    @staticmethod
    def _direction(gradient: Tensor, state: dict[str, Any], history_size: int) -> Tensor:
        """-H g by the two loops (Nocedal and Wright 2006, algorithm 7.4)."""
        kept = list(zip(state["old_dirs"], state["old_stps"], state["ro"], strict=True))
        factors = state.setdefault("al", [None] * history_size)
        q = -gradient
        for i in reversed(range(len(kept))):
            change, moved, inverse = kept[i]
            factors[i] = moved.dot(q) * inverse
            q = q - factors[i] * change
        d = q * state["H_diag"]
        for i, (change, moved, inverse) in enumerate(kept):
            d = d + moved * (factors[i] - change.dot(d) * inverse)
        return d
