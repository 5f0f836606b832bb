"""Loading a state_dict into a module: first everything is looked at, then, if nothing is amiss, everything is taken."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fastnet._tensor import Tensor
from fastnet.autograd import no_grad
from fastnet.nn.parameter import Parameter, is_lazy

EXTRA_STATE = "_extra_state"


class IncompatibleKeys(namedtuple("_IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    """What ``load_state_dict`` returns."""

    __slots__ = ()

    def __repr__(self) -> str:
        text = f"_IncompatibleKeys(missing_keys={self.missing_keys!r}, unexpected_keys={self.unexpected_keys!r})"
        return text if self.missing_keys or self.unexpected_keys else "<All keys matched successfully>"

    __str__ = __repr__


class Assignment:
    """A value on its way into a parameter or buffer."""

    def __init__(self, module: Any, name: str, target: Tensor, value: Tensor, assign: bool):
        self.module, self.name, self.target, self.value, self.assign = module, name, target, value, assign

    def __call__(self) -> None:
        with no_grad():
            if not self.assign:
                self.target.copy_(self.value)
                return
            value = self.value
            if isinstance(self.target, Parameter):
                if isinstance(value, Parameter):
                    value.requires_grad_(self.target.requires_grad)
                else:
                    value = Parameter(value, requires_grad=self.target.requires_grad)
            setattr(self.module, self.name, value)

    def inverse(self) -> Callable[[], None]:
        """What puts the present value back."""
        if self.assign:
            return partial(setattr, self.module, self.name, self.target)
        return Assignment(self.module, self.name, self.target, self.target.detach().clone(), False)


def take(
    module: Any,
    state_dict: Mapping[str, Any],
    prefix: str,
    local_metadata: dict,
    strict: bool,
    missing_keys: list[str],
    unexpected_keys: list[str],
    error_msgs: list[str],
) -> None:
    """The body of ``Module._load_from_state_dict``, which says what the arguments are."""
    for hook, with_module in module._load_state_dict_pre_hooks.values():
        first = (module,) if with_module else ()
        hook(*first, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
    assign = local_metadata.get("assign_to_params_buffers", False)
    assignments: list[Callable[[], Any]] = []
    persistent = [(n, b) for n, b in module._buffers.items() if n not in module._non_persistent_buffers_set]
    own = {name: t for name, t in (*module._parameters.items(), *persistent) if t is not None}
    for name, target in own.items():
        key = prefix + name
        if key not in state_dict:
            if strict:
                missing_keys.append(key)
            continue
        value = state_dict[key]
        if not isinstance(value, Tensor):
            error_msgs.append(
                f'While copying the parameter named "{key}", expected fastnet.Tensor or Tensor-like object from '
                f"checkpoint but received {type(value)}"
            )
            continue
        if is_lazy(target) and is_lazy(value):
            continue  # neither has values
        if target.ndim == 0 and tuple(value.shape) == (1,):
            value = value[0]
        if tuple(value.shape) != tuple(target.shape):
            error_msgs.append(
                f"size mismatch for {key}: copying a param with shape {value.shape!r} from checkpoint, the shape in "
                f"current model is {target.shape!r}."
            )
        else:
            assignments.append(Assignment(module, name, target, value, assign))
    extra = prefix + EXTRA_STATE
    has_extra = module._has_extra_state()
    if has_extra and extra in state_dict:
        assignments.append(partial(module.set_extra_state, state_dict[extra]))
    elif has_extra and strict:
        missing_keys.append(extra)
    if strict:
        for key in state_dict:
            if key.startswith(prefix) and not (has_extra and key == extra):
                first, dot, _ = key[len(prefix) :].partition(".")
                if first not in (module._modules if dot else own):
                    unexpected_keys.append(key)
    if "deferred" in local_metadata:
        local_metadata["deferred"] += assignments
    else:
        for do in assignments:
            do()


def load(module: Any, state_dict: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """The body of ``Module.load_state_dict``, which says what the arguments are."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
    for key in state_dict:
        if not isinstance(key, str):
            raise TypeError(f"Expected the names in state_dict to be strings, got {key!r}.")
    metadata = getattr(state_dict, "_metadata", None) or {}
    keys = IncompatibleKeys([], [])
    problems: list[str] = []
    assignments: list[Callable[[], Any]] = []
    post_hooks: list[Callable[[], Any]] = []

    def gather(module: Any, local: dict, prefix: str) -> None:
        about = {**metadata.get(prefix[:-1], {}), "deferred": assignments}
        if assign:
            about["assign_to_params_buffers"] = True
        module._load_from_state_dict(local, prefix, about, True, *keys, problems)
        for name, child in module._modules.items():
            if child is not None:
                below = f"{prefix}{name}."
                gather(child, {k: v for k, v in local.items() if k.startswith(below)}, below)
        post_hooks.extend(partial(hook, module, keys) for hook in module._load_state_dict_post_hooks.values())

    gather(module, OrderedDict(state_dict), "")  # a copy: hooks may change it
    undo: list[Callable[[], Any]] = []
    if post_hooks and not problems:  # they see what was loaded, and may say which keys are amiss
        undo = [do.inverse() for do in assignments if isinstance(do, Assignment)]
        while assignments:
            assignments.pop(0)()
        for call in post_hooks:
            if call() is not None:
                raise AssertionError(
                    "Hooks registered with ``register_load_state_dict_post_hook`` are not expected to return new "
                    "values: incompatible_keys is modified in place"
                )
    if strict:
        for what, names in (("Unexpected", keys.unexpected_keys), ("Missing", keys.missing_keys)):
            if names:
                problems.insert(0, "{} key(s) in state_dict: {}. ".format(what, ", ".join(f'"{k}"' for k in names)))
    if problems:
        for back in undo:
            back()
        raise RuntimeError(
            "Error(s) in loading state_dict for {}:\n\t{}".format(type(module).__name__, "\n\t".join(problems))
        )
    for do in assignments:
        do()
    return keys
