"""What optimizers share: parameter groups, state, and both as a dictionary in PyTorch's format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import chain
from typing import Any

import numpy as np

from fastnet._tensor import Tensor
from fastnet.autograd import enable_grad


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()


class Optimizer:
    """Base of all optimizers, as ``torch.optim.Optimizer``.

    Args:
        params: tensors, dictionaries with a key "params" and options of that group, or (name, tensor) pairs.
        defaults: the options of groups that do not give their own.

    Raises:
        TypeError, ValueError: no parameters, something that is no leaf tensor, or one parameter twice.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got a Tensor"
            )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._step_calls = 0
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(dict(group))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Count the calls of step, by which schedulers see whether they are stepped too early."""
        super().__init_subclass__(**kwargs)
        step = cls.__dict__.get("step")
        if step is not None:

            def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
                self._step_calls += 1
                return step(self, *args, **kwargs)

            counted.__doc__, counted.__name__, counted.__wrapped__ = step.__doc__, "step", step  # type: ignore[attr-defined]
            cls.step = counted  # type: ignore[method-assign]

    def __repr__(self) -> str:
        lines = [type(self).__name__ + " ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key not in ("params", "param_names")]
        return "\n".join([*lines, ")"])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group: a dictionary with "params" and any options that differ from the defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        if "params" not in param_group:
            raise ValueError("param_group has no key 'params'")
        params = param_group["params"]
        if isinstance(params, Tensor):
            params = [params]
        elif isinstance(params, (set, frozenset)):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in "
                "sets will change between runs. Please use a list instead."
            )
        params = list(params)
        names = None
        if params and all(isinstance(p, tuple) for p in params):
            names, params = [p[0] for p in params], [p[1] for p in params]
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
        if len({id(p) for p in params}) != len(params):
            raise ValueError("optimizer: a parameter group holds the same parameter more than once")
        known = {id(p) for group in self.param_groups for p in group["params"]}
        if any(id(p) in known for p in params):
            raise ValueError("some parameters appear in more than one parameter group")
        param_group["params"] = params
        if names is not None:
            param_group["param_names"] = names
        for key, default in self.defaults.items():
            if default is required and key not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {key}")
            param_group.setdefault(key, default)
        self.param_groups.append(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients or, with ``set_to_none=False``, set them to zero where they are."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if set_to_none:
                    p.grad = None
                    continue
                grad = p.grad._data
                if isinstance(grad, np.ndarray) and not grad.flags.writeable:
                    p.grad = Tensor._wrap(np.zeros(grad.shape, grad.dtype))
                else:
                    grad[...] = 0
                    p.grad._version_counter[0] += 1

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters; returns what closure, called first, returns."""
        raise NotImplementedError

    @staticmethod
    def _loss_of(closure: Callable[[], Any] | None) -> Any:
        if closure is None:
            return None
        with enable_grad():
            return closure()

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {index: {name: value}}, "param_groups": [{..., "params": [index, ...]}]}``, PyTorch's format:
        parameters are numbered in the order of the groups. Tensors are the optimizer's own, not copies."""
        index = {id(p): i for i, p in enumerate(chain.from_iterable(g["params"] for g in self.param_groups))}
        groups = [
            {**{k: v for k, v in group.items() if k != "params"}, "params": [index[id(p)] for p in group["params"]]}
            for group in self.param_groups
        ]
        state = {(index[id(p)] if isinstance(p, Tensor) else p): value for p, value in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take groups' options and parameters' state from what ``state_dict`` returned, here or in PyTorch.

        Raises:
            ValueError: the groups do not match this optimizer's.
        """
        mine, theirs = self.param_groups, deepcopy(state_dict["param_groups"])
        if len(mine) != len(theirs):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(m["params"]) != len(t["params"]) for m, t in zip(mine, theirs, strict=True)):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        by_index = dict(
            zip(
                chain.from_iterable(g["params"] for g in theirs),
                chain.from_iterable(g["params"] for g in mine),
                strict=True,
            )
        )
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in by_index:
                p = by_index[key]
                state[p] = {name: _beside(p, v, name) for name, v in value.items()}
            else:
                state[key] = value
        for m, t in zip(mine, theirs, strict=True):
            t["params"] = m["params"]
            if "param_names" in m:
                t["param_names"] = m["param_names"]
        self.state, self.param_groups = state, theirs


def _beside(param: Tensor, value: Any, name: str) -> Any:
    """A copy of a state value in the memory order, dtype and device of its parameter; "step" keeps its own dtype."""
    if not isinstance(value, Tensor) and not hasattr(value, "__array__"):
        return deepcopy(value)
    if isinstance(value, Tensor):
        array = value._data
    else:
        array = np.asarray(value.float() if "bfloat16" in str(value.dtype) and hasattr(value, "float") else value)
    like = param._data
    if name == "step":
        return Tensor._wrap(array.copy())
    if isinstance(like, np.ndarray):
        if not isinstance(array, np.ndarray):
            array = array.get()
        result = np.empty_like(like, subok=False) if array.shape == like.shape else np.empty(array.shape, like.dtype)
        result[...] = array
        return Tensor._wrap(result)
    import cupy

    with like.device:
        result = cupy.empty_like(like) if array.shape == like.shape else cupy.empty(array.shape, like.dtype)
        result[...] = cupy.asarray(array)
    return Tensor._wrap(result)
