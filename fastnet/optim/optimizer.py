"""What optimizers share: parameter groups, state, hooks, and groups and state as a dictionary in PyTorch's format."""

from __future__ import annotations

import functools
import warnings
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np

from fastnet import _capture, _dtypes
from fastnet._device import namespace
from fastnet._tensor import RemovableHandle, Tensor
from fastnet.autograd import enable_grad
from fastnet.kernels._runtime import implementation


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()
_pre_hooks_of_all: OrderedDict[Any, Callable] = OrderedDict()
_post_hooks_of_all: OrderedDict[Any, Callable] = OrderedDict()


def _register(hooks: OrderedDict, hook: Callable, prepend: bool = False) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle._key] = hook
    if prepend:
        hooks.move_to_end(handle._key, last=False)
    return handle


def register_optimizer_step_pre_hook(hook: Callable) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` before every step of every optimizer; a pair that it returns replaces
    them."""
    return _register(_pre_hooks_of_all, hook)


def register_optimizer_step_post_hook(hook: Callable) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` after every step of every optimizer."""
    return _register(_post_hooks_of_all, hook)


def _hooked(step: Callable) -> Callable:
    """step between its hooks, and counted: schedules ask whether the optimizer has been stepped."""

    @functools.wraps(step)
    def with_hooks(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        for hook in (*_pre_hooks_of_all.values(), *self._step_pre_hooks.values()):
            # As PyTorch has it: what the hook sees and may replace begins with the optimizer.
            changed = hook(self, (self, *args), kwargs)
            if changed is not None:
                if not isinstance(changed, tuple) or len(changed) != 2:
                    raise RuntimeError(
                        f"{step} must return None or a tuple of (new_args, new_kwargs), but got {changed}."
                    )
                (_, *args), kwargs = changed  # type: ignore[assignment]
        self._step_calls += 1
        result = step(self, *args, **kwargs)
        for hook in (*self._step_post_hooks.values(), *_post_hooks_of_all.values()):
            hook(self, (self, *args), kwargs)
        return result

    with_hooks.hooked = True  # type: ignore[attr-defined]
    return with_hooks


class Optimizer:
    """Base of all optimizers, as ``torch.optim.Optimizer``.

    Args:
        params: tensors, dictionaries with a key "params" and options of that group, or (name, tensor) pairs.
        defaults: the options of groups that do not give their own.

    Raises:
        TypeError, ValueError: no parameters, something that is no leaf tensor, or one parameter twice.
    """

    _step_calls = 0
    _numbers: tuple[str, ...] = ("step",)  # states that are one number and keep their dtype when they are loaded
    defaults: dict[str, Any]
    _step_pre_hooks: OrderedDict[int, Callable]
    _step_post_hooks: OrderedDict[int, Callable]
    _state_dict_pre_hooks: OrderedDict[int, Callable]
    _state_dict_post_hooks: OrderedDict[int, Callable]
    _load_state_dict_pre_hooks: OrderedDict[int, Callable]
    _load_state_dict_post_hooks: OrderedDict[int, Callable]

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        self.__setstate__({"defaults": defaults})
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                f"{type(params).__module__}.{type(params).__name__}"
            )
        self.state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what ``__getstate__`` returned, or part of it. Subclasses add the options that older states lack."""
        self.__dict__.update(state)
        for name in (
            "_step_pre_hooks",
            "_step_post_hooks",
            "_state_dict_pre_hooks",
            "_state_dict_post_hooks",
            "_load_state_dict_pre_hooks",
            "_load_state_dict_post_hooks",
        ):
            self.__dict__.setdefault(name, OrderedDict())
        cls = type(self)
        if not getattr(cls.step, "hooked", False):
            cls.step = _hooked(cls.step)  # type: ignore[method-assign]

    def __repr__(self) -> str:
        lines = [type(self).__name__ + " ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])

    # ---- hooks -----------------------------------------------------------------------------------------------------

    def register_step_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before every step; a pair that it returns replaces args and kwargs."""
        return _register(self._step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after every step."""
        return _register(self._step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` before ``state_dict``."""
        return _register(self._state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` after ``state_dict``; what it returns, if not None, is the result."""
        return _register(self._state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)``, with a shallow copy, before ``load_state_dict``; what it returns, if
        not None, is loaded instead."""
        return _register(self._load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` after ``load_state_dict``."""
        return _register(self._load_state_dict_post_hooks, hook, prepend)

    # ---- groups ----------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group: a dictionary with "params" and any options that differ from the defaults.

        Raises:
            TypeError, ValueError: no dictionary, parameters that are no leaf tensors or belong to another group, a
                required option missing, or names given for some parameters only.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, Tensor):
            params = [params]
        elif isinstance(params, (set, frozenset)):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in "
                "sets will change between runs. Please use a list instead."
            )
        params = list(params)
        names = [p[0] for p in params if isinstance(p, tuple)]
        param_group["params"] = params = [p[1] if isinstance(p, tuple) else p for p in params]
        if names:
            if len(names) != len(params):
                raise ValueError("all optimizer params should be with/without names. Some param names are missing")
            param_group["param_names"] = names
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(
                    "optimizer can only optimize Tensors, but one of the params is "
                    + (
                        type(p).__name__
                        if type(p).__module__ == "builtins"
                        else f"{type(p).__module__}.{type(p).__name__}"
                    )
                )
            if not (p.is_leaf or p.retains_grad):
                raise ValueError("can't optimize a non-leaf Tensor")
        for key, default in self.defaults.items():
            if default is required and key not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {key}")
            param_group.setdefault(key, default)
        if len({id(p) for p in params}) != len(params):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, this will cause an error; "
                "see github.com/pytorch/pytorch/issues/40967 for more information",
                stacklevel=3,
            )
        for group in self.param_groups:
            if ("param_names" in param_group) != ("param_names" in group):
                how = "with names" if "param_names" in param_group else "without names"
                raise ValueError(
                    "all optimizer param groups should be with/without names. cannot add param group "
                    f"{how} to the optimizer"
                )
        known = {id(p) for group in self.param_groups for p in group["params"]}
        if any(id(p) in known for p in params):
            raise ValueError("some parameters appear in more than one parameter group")
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

    # ---- what steps share ------------------------------------------------------------------------------------------

    # GradScaler sets grad_scale for the length of a step, a tensor of one element: what the loss was multiplied by.
    grad_scale: Tensor | None = None
    # A trainer sets halt for the length of a step, a float64 tensor of one element: a step whose gradients or norm are
    # not finite makes it 1 (with a grad_scale it is left out, and no more), and where it is 1 steps change nothing.
    halt: Tensor | None = None
    grad_norm: Tensor | None = None  # of the last step that measured it, float64, beside the gradients
    _found: Any = None  # what gradient_norm returned in the last step, or unscaling before it

    def _gradient_state(self, max_norm: float | None) -> Any:
        """What the kernels of this step read of its gradients: norm, factor and whether to leave it out; None where
        nobody asked for any."""
        scale, unscaled, self._found = self.grad_scale, self._found, None
        if scale is None and max_norm is None and self.halt is None:
            return None
        if scale is None or max_norm is not None or unscaled is None:
            grads = {id(p.grad): p.grad._data for g in self.param_groups for p in self._with_gradient(g)}
            if not grads:
                return None
            arrays = list(grads.values())
            if scale is not None:
                factor = scale._data
            else:  # with a factor the kernels look for infinities
                factor = None if self.halt is None else namespace(arrays[0]).ones(1, np.float32)
            self._found = implementation(arrays[0]).gradient_norm(arrays, scale=factor, max_norm=max_norm)
        else:
            self._found = unscaled  # the scaler has looked at them, and left a factor of 1
        self.grad_norm = Tensor._wrap(self._found[:1].reshape(()))
        if self.halt is not None:
            xp, halt, skip = namespace(self._found), self.halt._data, self._found[2:]
            if scale is None:
                xp.maximum(halt, skip, out=halt)
                xp.maximum(halt, ~xp.isfinite(self._found[:1]), out=halt)
            xp.maximum(skip, halt, out=skip)
        return self._found

    @property
    def _may_skip(self) -> bool:
        """Whether the device may leave out the step that is being made."""
        return self.grad_scale is not None or self.halt is not None

    def keep_master_weights(self) -> None:
        """Give every 16-bit parameter a float32 copy, ``state[p]["master"]``: steps update that one, with float32
        states, and the parameter becomes its rounding. Without one, updates below half a unit of a parameter's last
        digit are lost.

        Source: Micikevicius et al. 2018, section 3.1.
        """
        for group in self.param_groups:
            for p in group["params"]:
                if p._data.dtype.itemsize == 2 and "master" not in self.state[p]:
                    state = self.state[p]
                    for key, value in state.items():
                        if isinstance(value, Tensor) and value.shape == p.shape and key not in self._numbers:
                            state[key] = _as_float32(value)
                    state["master"] = _as_float32(p)

    def _masters(self, params: list[Tensor]) -> list[Any] | None:
        """The arrays of the master weights of params, which all or none have."""
        return self._states(params, "master") if "master" in self.state.get(params[0], {}) else None

    def _updated(self, p: Tensor) -> Tensor:
        """What a step updates: p, or its master weights."""
        return self.state.get(p, {}).get("master", p)

    def _new_step(self, p: Tensor, on_device: bool) -> Tensor:
        """A count of steps at 0: beside p where the kernel is to read it, else on the CPU, as PyTorch has it."""
        dtype = np.float64 if not on_device and _dtypes.get_default_dtype() is _dtypes.float64 else np.float32
        return Tensor._wrap(_array_module(p._data if on_device else None).zeros((), dtype))

    def _with_gradient(self, group: dict[str, Any]) -> list[Tensor]:
        return [p for p in group["params"] if p.grad is not None]

    def _together(self, params: list[Tensor]) -> Iterator[list[Tensor]]:
        """Params of one device after another; they count as changed once the caller is done with them. A param that a
        group holds twice is updated twice, one call after the other."""
        calls: dict[Any, list[Tensor]] = {}
        times: Counter[int] = Counter()
        for p in params:
            master = "master" in self.state.get(p, {})
            calls.setdefault((times[id(p)], _device_of(p._data), master), []).append(p)
            times[id(p)] += 1
        for together in calls.values():
            yield together
            for p in together:
                p._version_counter[0] += 1

    def _counted(self, params: list[Tensor]) -> Iterator[tuple[list[Tensor], list[Any]]]:
        """Like _together, with steps as kernels take them: arrays, which the kernel counts up, where the step lies
        beside its param, and numbers where it does not, which are counted here when the caller is done. A step that the
        device may leave out, or a captured one, is counted there alone."""
        if self._may_skip or _capture.current is not None:
            for p in params:
                self.state[p]["step"] = _beside(self.state[p]["step"], p)
        for together in self._together(params):
            beside: list[Tensor] = []
            apart: list[Tensor] = []
            for p in together:
                step = self.state[p]["step"]._data
                fits = _device_of(step) == _device_of(p._data) and step.dtype == np.float32 and step.size == 1
                (beside if fits and _writable(step) else apart).append(p)
            if beside:
                yield beside, [self.state[p]["step"]._data for p in beside]
            if apart:
                yield apart, [self.state[p]["step"].item() for p in apart]
                for p in apart:
                    step = self.state[p]["step"]
                    self.state[p]["step"] = Tensor._wrap(np.asarray(step._data + 1, step._data.dtype))

    def _states(self, params: list[Tensor], name: str) -> list[Any]:
        return [self.state[p][name]._data for p in params]

    # ---- state as a dictionary -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {index: {name: value}}, "param_groups": [{..., "params": [index, ...]}]}``, PyTorch's format:
        parameters are numbered in the order of the groups. Tensors are the optimizer's own, not copies."""
        for hook in self._state_dict_pre_hooks.values():
            hook(self)
        index: dict[int, int] = {}
        groups, start = [], 0
        for group in self.param_groups:
            for i, p in enumerate(group["params"], start):
                index.setdefault(id(p), i)
            start += len(group["params"])
            packed = {k: v for k, v in group.items() if k != "params"}
            groups.append({**packed, "params": [index[id(p)] for p in group["params"]]})
        state = {(index[id(p)] if isinstance(p, Tensor) else p): value for p, value in self.state.items()}
        result: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self._state_dict_post_hooks.values():
            changed = hook(self, result)
            result = result if changed is None else changed
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take groups' options and parameters' state from what ``state_dict`` returned, here or in PyTorch.

        Raises:
            ValueError: the groups do not match this optimizer's.
        """
        state_dict = state_dict.copy()
        for hook in self._load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        mine, theirs = self.param_groups, [_copied_group(g) for g in state_dict["param_groups"]]
        if len(mine) != len(theirs):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(m["params"]) != len(t["params"]) for m, t in zip(mine, theirs, strict=True)):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        by_index = {
            key: (p, self._step_beside(t))
            for m, t in zip(mine, theirs, strict=True)
            for key, p in zip(t["params"], m["params"], strict=True)
        }
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in by_index:
                p, step_beside = by_index[key]
                wide = isinstance(value, dict) and "master" in value
                dtype = np.dtype(np.float32) if wide else p._data.dtype
                state[p] = _cast(p, value, None, self._numbers, step_beside, dtype)
            else:
                state[key] = value
        for m, t in zip(mine, theirs, strict=True):
            t["params"] = m["params"]
            if "param_names" in m:
                t.setdefault("param_names", m["param_names"])
        self.__setstate__({"state": state, "param_groups": theirs})
        for hook in self._load_state_dict_post_hooks.values():
            hook(self)

    def _step_beside(self, group: dict[str, Any]) -> bool:
        """Whether the numbers among the states of a group are kept beside its parameters, or else on the CPU."""
        return bool(group.get("fused") or group.get("capturable"))

    def _complete(self, **defaults: Any) -> None:
        """What __setstate__ of a subclass does: options that older states lack, and numbers that were no tensors."""
        for group in self.__dict__.get("param_groups", ()):
            for key, value in defaults.items():
                group.setdefault(key, value)
            for p in group["params"]:
                state = self.state.get(p, {})
                for name in self._numbers:
                    if name in state and not isinstance(state[name], Tensor):
                        new = self._new_step(p, self._step_beside(group))
                        new._data[...] = float(state[name])
                        state[name] = new


def _device_of(array: Any) -> int | None:
    return None if isinstance(array, np.ndarray) else array.device.id


def _array_module(array: Any) -> Any:
    if array is None or isinstance(array, np.ndarray):
        return np
    import cupy

    return cupy


def _writable(array: Any) -> bool:
    return not isinstance(array, np.ndarray) or (array.flags.writeable and array.flags.aligned)


def _as_float32(t: Tensor) -> Tensor:
    """A float32 copy in the same memory order."""
    copy = _array_module(t._data).empty_like(t._data, dtype=np.float32, **_plain(t._data))
    copy[...] = t._data
    return Tensor._wrap(copy)


def _beside(step: Tensor, p: Tensor) -> Tensor:
    """A count of steps as the kernel counts it up: float32, on p's device."""
    data = step._data
    if _device_of(data) == _device_of(p._data) and data.dtype == np.float32 and _writable(data):
        return step
    return Tensor._wrap(_array_module(p._data).full((), float(step.item()), np.float32))


def zeros_like(p: Tensor, value: float = 0.0) -> Tensor:
    """A state: as large as p and in its memory order."""
    return Tensor._wrap(_array_module(p._data).full_like(p._data, value, **_plain(p._data)))


def empty_like(p: Tensor) -> Tensor:
    return Tensor._wrap(_array_module(p._data).empty_like(p._data, **_plain(p._data)))


def _plain(array: Any) -> dict[str, bool]:
    """No subclasses of NumPy's arrays."""
    return {"subok": False} if isinstance(array, np.ndarray) else {}


def rate_beside(group: dict[str, Any], p: Tensor) -> Any:
    """A group's rate as kernels take it: a number, or an array where p is; always that in a step that is captured."""
    lr = group["lr"]
    if _capture.current is not None:
        return _capture.current.rate(group, p._data)
    if not isinstance(lr, Tensor):
        return lr
    if _device_of(lr._data) == _device_of(p._data) and lr._data.dtype in (np.float32, np.float64):
        return lr._data
    return lr.item()


def check_implementation(name: str, foreach: bool | None, fused: bool | None, differentiable: bool) -> None:
    """The step is always one kernel for all parameters: foreach and fused change nothing, but exclude each other."""
    if fused and differentiable:
        raise RuntimeError("`fused` does not support `differentiable`")
    if differentiable:
        raise ValueError(f"{name}: differentiable is True, expected False: an optimizer step is not recorded")
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def _copied_group(group: dict[str, Any]) -> dict[str, Any]:
    """A deep copy of a group of a state; PyTorch's tensors among its options become ours."""
    return {key: Tensor._wrap(_as_array(v).copy()) if _is_tensor(v) else deepcopy(v) for key, v in group.items()}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (hasattr(value, "__array__") and hasattr(value, "dtype"))


def _as_array(value: Any) -> Any:
    """The array of a tensor: ours, PyTorch's (its bfloat16 by way of float32, which NumPy knows), or an array."""
    if isinstance(value, Tensor):
        return value._data
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    return value if hasattr(value, "__cuda_array_interface__") else np.asarray(value)


def _cast(param: Tensor, value: Any, name: Any, numbers: tuple[str, ...], step_beside: bool, dtype: Any) -> Any:
    """A deep copy of a state value with its tensors in the memory order and device of their parameter and of a dtype,
    the parameter's or its master weights'; but one of the numbers, a "step", keeps its dtype and stays on the CPU,
    unless a kernel is to read it."""
    if isinstance(value, dict):
        return {key: _cast(param, v, key, numbers, step_beside, dtype) for key, v in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_cast(param, v, None, numbers, step_beside, dtype) for v in value)
    if not _is_tensor(value):
        return deepcopy(value)
    array: Any = _as_array(value)
    like: Any = param._data
    if name in numbers:
        like = like if step_beside else None
        dtype = np.dtype(np.float32) if step_beside else array.dtype
    xp = _array_module(like)
    if xp is np and not isinstance(array, np.ndarray):
        array = array.get()
    if xp is np:
        same = like is not None and array.shape == like.shape
        result = np.empty_like(like, dtype, subok=False) if same else np.empty(array.shape, dtype)
        result[...] = array
        return Tensor._wrap(result)
    with like.device:
        result = xp.empty_like(like, dtype) if array.shape == like.shape else xp.empty(array.shape, dtype)
        result[...] = xp.asarray(array)
    return Tensor._wrap(result)
