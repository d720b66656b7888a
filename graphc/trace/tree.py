"""Pytrees: nested dict, list, tuple, namedtuple, dataclass and None, taken apart into leaves and put together again.

Everything else is a leaf. A dict keeps its order of insertion. A field of a dataclass with `metadata={"static": True}` belongs to the shape and not to the
leaves: it is equal, or the trees differ. From JAX's tree_util, without a registry.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..core.record import dataclass


@dataclass(frozen=True, slots=True)
class TreeDef:
    """The shape of a tree. `kind` is None for a leaf, else the container's class."""

    kind: type | None
    keys: tuple[Any, ...] = ()                          # of a dict, or field names
    children: tuple[TreeDef, ...] = ()
    static: tuple[tuple[str, Any], ...] = ()            # of a dataclass: fields that are no leaves, and what they hold

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """The tree with these leaves, in the order in which `flatten` gave them."""
        rest = iter(leaves)
        out = self._build(rest)
        if next(rest, self) is not self:
            raise ValueError("too many leaves for this tree")
        return out

    def _build(self, leaves: Iterator[Any]) -> Any:
        if self.kind is None:
            return next(leaves)
        if self.kind is type(None):
            return None
        make: Any = self.kind
        parts = [c._build(leaves) for c in self.children]
        if issubclass(self.kind, dict):
            return make(zip(self.keys, parts))
        if hasattr(self.kind, "_fields"):
            return make(*parts)
        if self.keys:                                   # fields as they are: no __init__, which may convert them or leave some out
            new = object.__new__(self.kind)
            for key, part in (*zip(self.keys, parts), *self.static):
                object.__setattr__(new, key, part)
            return new
        return make(parts)


LEAF = TreeDef(None)
NONE = TreeDef(type(None))


def _never(x: Any) -> bool:
    return False


def flatten(tree: Any, is_leaf: Callable[[Any], bool] = _never) -> tuple[list[Any], TreeDef]:
    """The leaves of a tree from left to right, and its shape."""
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves, is_leaf)


def _flatten(x: Any, leaves: list[Any], is_leaf: Callable[[Any], bool]) -> TreeDef:
    if x is None:
        return NONE
    kind = type(x)
    if not is_leaf(x):
        if isinstance(x, dict) and (kind is dict or kind.__name__ == "OrderedDict"):
            return TreeDef(kind, tuple(x), tuple(_flatten(v, leaves, is_leaf) for v in x.values()))
        if kind in (list, tuple) or (isinstance(x, tuple) and hasattr(x, "_fields")):
            return TreeDef(kind, (), tuple(_flatten(v, leaves, is_leaf) for v in x))
        if dataclasses.is_dataclass(x) and not isinstance(x, type):
            fields = [f for f in dataclasses.fields(x) if hasattr(x, f.name)]
            keys = tuple(f.name for f in fields if not f.metadata.get("static"))
            if keys:
                static = tuple((f.name, getattr(x, f.name)) for f in fields if f.metadata.get("static"))
                return TreeDef(kind, keys, tuple(_flatten(getattr(x, k), leaves, is_leaf) for k in keys), static)
    leaves.append(x)
    return LEAF


def parts(value: Any, like: TreeDef) -> list[Any] | None:
    """What a value has in the places of the children of `like`, a container; None where it is no such container. A list may stand for a tuple."""
    assert like.kind is not None
    if issubclass(like.kind, dict):
        return [value[k] for k in like.keys] if isinstance(value, dict) and set(value) == set(like.keys) else None
    if like.keys:
        return [getattr(value, k) for k in like.keys] if type(value) is like.kind else None
    return list(value) if isinstance(value, (tuple, list)) and len(value) == len(like.children) else None


def ordered(x: Any, like: TreeDef) -> Any:
    """x with its dicts in the order of `like`, where they have the same keys: a dict is equal to another whatever their order."""
    if like.kind is None or type(x) is not like.kind or not like.children:
        return x
    own = parts(x, like)
    if own is None:
        return x
    static = tuple((name, getattr(x, name)) for name, _ in like.static)
    return TreeDef(like.kind, like.keys, (LEAF,) * len(own), static).unflatten([ordered(v, c) for v, c in zip(own, like.children)])


def paths(tree: TreeDef, root: str = "") -> list[str]:
    """How each leaf is written: `x`, `params['w']`, `batch[0]`, `cfg.lr`."""
    if tree.kind is None:
        return [root]
    return [p for name, c in zip(places(tree, root), tree.children) for p in paths(c, name)]


def places(tree: TreeDef, root: str = "") -> list[str]:
    """How each child of a container is written."""
    assert tree.kind is not None
    if issubclass(tree.kind, dict):
        return [f"{root}[{k!r}]" for k in tree.keys]
    if hasattr(tree.kind, "_fields"):
        return [f"{root}.{k}" for k in tree.kind._fields]
    if tree.keys:
        return [f"{root}.{k}" for k in tree.keys]
    return [f"{root}[{i}]" for i in range(len(tree.children))]


def map_leaves(f: Callable[..., Any], tree: Any, *others: Any, is_leaf: Callable[[Any], bool] = _never) -> Any:
    """f on each leaf of the tree, beside the leaves in the same places of the other trees."""
    leaves, treedef = flatten(tree, is_leaf)
    rest = [flatten(ordered(t, treedef), is_leaf) for t in others]
    for _, other in rest:
        if other != treedef:
            raise ValueError(f"the trees differ in shape: {treedef} and {other}")
    return treedef.unflatten([f(*xs) for xs in zip(leaves, *(r for r, _ in rest))])
