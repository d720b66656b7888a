"""The arguments of a compiled function: which leaf is an array, a run-time number, a static value or an object, and how each enters a step.

A class of leaves is a small hashable key; equal keys mean that the same trace fits. Arrays are taken by value, in any layout, and converted
where the native step could not read them; Modules, optimizers and leaves that require a gradient are taken by reference.
"""
from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.dtype import DType, f64, from_numpy, i64
from ..core.errors import GraphError, GraphTypeError
from ..core.loc import user_loc
from ..core.record import dataclass
from ..core.types import TensorType
from . import tree
from .broadcast import is_masked, native
from .guards import Identity
from .scalar import Scalar
from .spec import Spec
from .storage import Array, check_bytes
from .tensor import Tensor

Key = tuple[Any, ...]                                   # ("array", shape, dtype) | ("float",) | ("int",) | ("static", type, value) | ("object", identity)
_FLOAT, _INT = ("float",), ("int",)
_STATIC = (bool, str, bytes, type(None), DType, enum.Enum, slice, type(Ellipsis), np.dtype, type)


@dataclass(slots=True)
class Arguments:
    """A call taken apart."""

    leaves: list[Any]
    treedef: tree.TreeDef
    keys: tuple[Key, ...]

    @property
    def key(self) -> Any:
        return self.treedef, self.keys

    @property
    def shapeless(self) -> Any:
        """The key with the sizes of arrays left out: calls that differ in nothing else differ in shape alone."""
        return self.treedef, tuple((k[0], len(k[1]), k[2]) if k[0] == "array" else k for k in self.keys)


def is_leaf(x: Any) -> bool:
    return isinstance(x, (Tensor, Spec)) or hasattr(x, "_epoch")


_PLAIN_TREES: dict[int, tree.TreeDef] = {}


def take_apart(args: tuple[Any, ...], kwargs: dict[str, Any], names: Callable[[tree.TreeDef], list[str]]) -> Arguments:
    """The leaves of a call with their keys. Raises GraphTypeError for what graphc does not take."""
    leaves: list[Any]
    for a in args:
        if type(a) is not np.ndarray:
            break
    else:
        if not kwargs:                                                  # the usual call
            leaves = list(args)
            treedef = _PLAIN_TREES.get(len(args))
            if treedef is None:
                treedef = _PLAIN_TREES[len(args)] = tree.flatten((args, {}))[1]
            return Arguments(leaves, treedef, tuple([_array_key(a, names, treedef, k) for k, a in enumerate(args)]))
    leaves, treedef = tree.flatten((args, dict(sorted(kwargs.items()))), is_leaf)
    return Arguments(leaves, treedef, tuple([_key(x, names, treedef, k) for k, x in enumerate(leaves)]))


def _array_key(a: Any, names: Callable[[tree.TreeDef], list[str]], treedef: tree.TreeDef, k: int) -> Key:
    dtype = from_numpy(a.dtype)
    if dtype is None:
        dtype = from_numpy(native(a, f"the argument {names(treedef)[k]}").dtype)
    return "array", a.shape, dtype


def _key(x: Any, names: Callable[[tree.TreeDef], list[str]], treedef: tree.TreeDef, k: int) -> Key:
    if is_masked(x):
        native(x, f"the argument {names(treedef)[k]}")
    if isinstance(x, np.ndarray):
        return _array_key(x, names, treedef, k)
    if isinstance(x, Tensor):
        if x.requires_grad or isinstance(x, Scalar):
            return "object", Identity(x)
        if x.is_traced:
            x.node()                                                    # raises: leaked
        return "array", x.shape, x.dtype
    if isinstance(x, Spec):
        check_bytes(x.type)
        return "array", x.shape, x.type.dtype
    if isinstance(x, _STATIC):
        return "static", type(x), x if not isinstance(x, slice) else (x.start, x.stop, x.step)
    if isinstance(x, np.generic):
        return _array_key(np.asarray(x), names, treedef, k)
    if isinstance(x, float):
        return _FLOAT
    if isinstance(x, int):
        return _INT
    if hasattr(x, "_epoch") or callable(x):
        return "object", Identity(x)
    if hasattr(x, "__array__"):
        return _array_key(native(x, f"the argument {names(treedef)[k]}"), names, treedef, k)
    raise GraphTypeError(f"the argument {names(treedef)[k]} is a {type(x).__name__}, which graphc does not take", at=user_loc(),
                         why="arguments are arrays, numbers, bool, str, None, Modules, and dicts, lists, tuples and dataclasses of them",
                         fix="numpy.asarray(x), or read it from a closure if it never changes")


def array(x: Any, want: TensorType) -> Array:
    """The argument as the native step reads it: C-contiguous, aligned, in native byte order. A copy where it has to be one."""
    if isinstance(x, Tensor):
        return x.numpy()                                                # never an alias of a state
    if type(x) is not np.ndarray or from_numpy(x.dtype) is None:
        x = np.asarray(native(x))
    flags = x.flags
    if x.dtype is not want.dtype.numpy and (x.dtype != want.dtype.numpy or not x.dtype.isnative):
        x = x.astype(want.dtype.numpy)
        flags = x.flags
    if not (flags.c_contiguous and flags.aligned):
        x = np.array(x, order="C")
    return x


def number(x: Any, dtype: DType) -> int | float:
    """A Python number within the range of its run-time type."""
    if dtype is i64 and not -2**63 <= x < 2**63:
        raise GraphError(f"the argument {x} does not fit into 64 bits", at=user_loc())
    value: int | float = x
    return value


def scalar_dtype(key: Key) -> DType:
    return f64 if key is _FLOAT or key[0] == "float" else i64


def leaf_names(fn: Callable[..., Any], treedef: tree.TreeDef) -> list[str]:
    """What each leaf is called in the function's own words: x, batch[0], params['w']."""
    args, kwargs = treedef.children
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "args")
    names: list[str] = []
    for k, child in enumerate(args.children):
        names += tree.paths(child, positional[k] if k < len(positional) else f"{rest}[{k - len(positional)}]")
    for key, child in zip(kwargs.keys, kwargs.children):
        names += tree.paths(child, key)
    return names


def shapes(keys: Sequence[Key]) -> list[tuple[int, ...]]:
    return [k[1] for k in keys if k[0] == "array"]
