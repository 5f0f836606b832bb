"""Nested containers taken apart and put together, as PyTorch does it."""

from collections import OrderedDict, defaultdict, deque, namedtuple

import pytest

import fastnet
from fastnet.utils import _pytree

torch_pytree = pytest.importorskip("torch.utils._pytree", reason="PyTorch is not installed")
Pair = namedtuple("Pair", "first second")

TREES = [
    3,
    None,
    [],
    (),
    [1, (2, [3, None]), {"b": 4, "a": (5,)}],
    Pair(1, [2, Pair(3, 4)]),
    OrderedDict([("z", 1), ("y", [2])]),
    deque([1, [2]], maxlen=3),
    defaultdict(list, {"k": [1, 2]}),
    {"x": "text", 3: {4.5, 6.5}},
]


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_as_pytorch(tree):
    leaves, spec = _pytree.tree_flatten(tree)
    expected, theirs = torch_pytree.tree_flatten(tree)
    assert leaves == expected == _pytree.tree_leaves(tree) == list(_pytree.tree_iter(tree))
    assert spec == _pytree.tree_structure(tree)
    assert (spec.num_leaves, spec.num_children, spec.is_leaf()) == (
        theirs.num_leaves,
        theirs.num_children,
        theirs.is_leaf(),
    )
    rebuilt = _pytree.tree_unflatten(leaves, spec)
    assert rebuilt == tree
    assert type(rebuilt) is type(tree)
    for f in (str, lambda x: (x, x)):
        assert _pytree.tree_map(f, tree) == torch_pytree.tree_map(f, tree)
    assert _pytree.tree_map_only(int, lambda x: -x, tree) == torch_pytree.tree_map_only(int, lambda x: -x, tree)
    for f in (lambda x: x is not None, lambda x: x == 3):
        assert _pytree.tree_all(f, tree) == torch_pytree.tree_all(f, tree)
        assert _pytree.tree_any(f, tree) == torch_pytree.tree_any(f, tree)


def test_several_trees_and_chosen_leaves():
    a, b = {"x": [1, 2], "y": 3}, {"x": [10, 20], "y": 30}
    assert _pytree.tree_map(lambda p, q: p + q, a, b) == {"x": [11, 22], "y": 33}
    with pytest.raises(ValueError, match="differently"):
        _pytree.tree_map(lambda p, q: p + q, a, {"x": [1], "y": 3})
    assert _pytree.tree_leaves([(1, 2), [3]], is_leaf=lambda x: isinstance(x, tuple)) == [(1, 2), 3]
    seen = []
    assert _pytree.tree_map_(seen.append, a) is a
    assert seen == [1, 2, 3]
    doubled = _pytree.tree_map_only(fastnet.Tensor, lambda t: 2 * t, [fastnet.ones(2), "name"])
    assert doubled[0].tolist() == [2, 2]
    assert doubled[1] == "name"


def test_refuses():
    _, spec = _pytree.tree_flatten([1, 2])
    with pytest.raises(ValueError, match="3 leaves for a tree of 2"):
        _pytree.tree_unflatten([1, 2, 3], spec)
    with pytest.raises(TypeError, match="TreeSpec"):
        _pytree.tree_unflatten([1], [1])
    with pytest.raises(ValueError, match="already"):
        _pytree.register_pytree_node(list, lambda x: (x, None), lambda x, _: x)


def test_a_class_of_ones_own(monkeypatch):
    class Box:
        def __init__(self, inside):
            self.inside = inside

    box = Box([1, 2])
    assert _pytree.tree_leaves(box) == [box]
    monkeypatch.setattr(_pytree, "_nodes", dict(_pytree._nodes))
    _pytree.register_pytree_node(Box, lambda b: ([b.inside], None), lambda children, _: Box(*children))
    assert _pytree.tree_map(lambda x: x + 1, box).inside == [2, 3]
