"""Nested lists, tuples and dictionaries taken apart into leaves and put together again; torch.utils._pytree.

Containers are list, tuple, namedtuple, dict, OrderedDict, defaultdict and deque, and what ``register_pytree_node``
adds. All else is a leaf, None included. Dictionaries keep their order.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "LeafSpec",
    "PyTree",
    "TreeSpec",
    "register_pytree_node",
    "tree_all",
    "tree_any",
    "tree_flatten",
    "tree_iter",
    "tree_leaves",
    "tree_map",
    "tree_map_",
    "tree_map_only",
    "tree_structure",
    "tree_unflatten",
]

PyTree = Any

# type: (children and what else there is to know, children and that to the container)
_nodes: dict[type, tuple[Callable[[Any], tuple[Iterable[Any], Any]], Callable[[list, Any], Any]]] = {}


def register_pytree_node(
    cls: type,
    flatten_fn: Callable[[Any], tuple[Iterable[Any], Any]],
    unflatten_fn: Callable[[Any, Any], Any],
    **options: Any,
) -> None:
    """Count a class among the containers.

    Args:
        cls: the class itself; subclasses stay leaves.
        flatten_fn: an instance to its children and a context.
        unflatten_fn: children and context to an instance.
        options: accepted for compatibility.

    Raises:
        ValueError: the class is one of them already.
    """
    if cls in _nodes:
        raise ValueError(f"{cls} is already registered as pytree node.")
    _nodes[cls] = (flatten_fn, unflatten_fn)


register_pytree_node(list, lambda x: (x, None), lambda children, _: list(children))
register_pytree_node(tuple, lambda x: (x, None), lambda children, _: tuple(children))
register_pytree_node(deque, lambda x: (x, x.maxlen), lambda children, size: deque(children, size))
for _kind in (dict, OrderedDict):
    register_pytree_node(
        _kind,
        lambda x: (x.values(), list(x)),
        lambda children, keys, kind=_kind: kind(zip(keys, children, strict=True)),
    )
register_pytree_node(
    defaultdict,
    lambda x: (x.values(), [x.default_factory, list(x)]),
    lambda children, context: defaultdict(context[0], zip(context[1], children, strict=True)),
)
_NAMED = (lambda x: (x, type(x)), lambda children, kind: kind(*children))


def _node(x: Any) -> Any:
    """How a container is taken apart and made; None for a leaf."""
    found = _nodes.get(type(x))
    return _NAMED if found is None and isinstance(x, tuple) and hasattr(x, "_fields") else found


@dataclass(frozen=True)
class TreeSpec:
    """What is left of a container without its leaves; ``type`` None: a leaf."""

    type: Any
    context: Any
    children_specs: tuple[TreeSpec, ...]

    @property
    def num_leaves(self) -> int:
        return 1 if self.type is None else sum(c.num_leaves for c in self.children_specs)

    @property
    def num_children(self) -> int:
        return len(self.children_specs)

    def is_leaf(self) -> bool:
        return self.type is None

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        leaves = list(leaves)
        if len(leaves) != self.num_leaves:
            raise ValueError(f"tree_unflatten: got {len(leaves)} leaves for a tree of {self.num_leaves}")
        return self._take(iter(leaves))

    def _take(self, leaves: Any) -> Any:
        if self.type is None:
            return next(leaves)
        children = [c._take(leaves) for c in self.children_specs]
        return _nodes.get(self.type, _NAMED)[1](children, self.context)


class LeafSpec(TreeSpec):
    """The spec of one leaf."""

    def __init__(self) -> None:
        super().__init__(None, None, ())


IsLeaf = Callable[[Any], bool]


def tree_flatten(tree: Any, is_leaf: IsLeaf | None = None) -> tuple[list[Any], TreeSpec]:
    """The leaves from left to right, and what ``tree_unflatten`` needs beside them.

    >>> leaves, spec = tree_flatten({"a": [1, (2, None)], "b": 3})
    >>> leaves
    [1, 2, None, 3]
    >>> tree_unflatten([x and 10 * x for x in leaves], spec)
    {'a': [10, (20, None)], 'b': 30}
    """
    leaves: list[Any] = []

    def spec_of(x: Any) -> TreeSpec:
        node = None if is_leaf is not None and is_leaf(x) else _node(x)
        if node is None:
            leaves.append(x)
            return LeafSpec()
        children, context = node[0](x)
        return TreeSpec(type(x), context, tuple(spec_of(c) for c in children))

    spec = spec_of(tree)
    return leaves, spec


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> Any:
    """The container of ``tree_flatten``'s spec with these leaves."""
    if not isinstance(treespec, TreeSpec):
        raise TypeError(f"tree_unflatten: treespec is a {type(treespec).__name__}, expected a TreeSpec")
    return treespec.unflatten(leaves)


def tree_leaves(tree: Any, is_leaf: IsLeaf | None = None) -> list[Any]:
    """The leaves from left to right."""
    return tree_flatten(tree, is_leaf)[0]


def tree_iter(tree: Any, is_leaf: IsLeaf | None = None) -> Iterable[Any]:
    """An iterator over the leaves."""
    return iter(tree_leaves(tree, is_leaf))


def tree_structure(tree: Any, is_leaf: IsLeaf | None = None) -> TreeSpec:
    """``tree_flatten``'s spec."""
    return tree_flatten(tree, is_leaf)[1]


def tree_map(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: IsLeaf | None = None) -> Any:
    """The same container with ``func(leaf, ...)`` for each leaf, and for those of ``rests`` in its place.

    Raises:
        ValueError: one of ``rests`` is built in another way.
    """
    leaves, spec = tree_flatten(tree, is_leaf)
    others = []
    for rest in rests:
        more, other = tree_flatten(rest, is_leaf)
        if other != spec:
            raise ValueError(f"tree_map: trees are built differently: {spec} and {other}")
        others.append(more)
    return spec.unflatten(func(*x) for x in zip(leaves, *others, strict=True))


def tree_map_(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: IsLeaf | None = None) -> Any:
    """Call ``func`` as ``tree_map`` does, and return the tree itself."""
    tree_map(func, tree, *rests, is_leaf=is_leaf)
    return tree


def tree_map_only(types: Any, func: Callable[[Any], Any], tree: Any, is_leaf: IsLeaf | None = None) -> Any:
    """``tree_map`` of the leaves of a type, or of a tuple of types, or of which a function is true; others stay."""
    chosen = types if callable(types) and not isinstance(types, type) else lambda x: isinstance(x, types)
    return tree_map(lambda x: func(x) if chosen(x) else x, tree, is_leaf=is_leaf)


def tree_all(pred: Callable[[Any], bool], tree: Any, is_leaf: IsLeaf | None = None) -> bool:
    """Whether ``pred`` is true of every leaf."""
    return all(map(pred, tree_leaves(tree, is_leaf)))


def tree_any(pred: Callable[[Any], bool], tree: Any, is_leaf: IsLeaf | None = None) -> bool:
    """Whether ``pred`` is true of a leaf."""
    return any(map(pred, tree_leaves(tree, is_leaf)))
