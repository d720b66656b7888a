"""Choices that stay choices: `cond` and `switch` run one of several functions, and the others cost nothing. `where` is for choosing element by element."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..core.dtype import bool_, i64
from ..core.errors import GraphError, GraphTypeError
from ..core.loc import user_loc
from ..core.types import TensorType
from ..ir.node import Node
from ..ops import branch as ops
from ..trace import tree
from ..trace.apply import apply_several
from ..trace.broadcast import as_tensor, cast
from ..trace.tensor import Tensor
from .bodies import Body, adapted, captures, is_tensor, settled, strong, traced
from .logic import not_equal


def cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any) -> Any:
    """`true_fn(*operands)` if pred is true (not 0), else `false_fn(*operands)`. JAX's.

    Both functions are traced, so they must be pure, and return tensors or trees of them of equal structure, shapes and dtypes; at run time one of them runs.
    They may read other tensors from outside. Gradients are those of the branch that ran. Under `vmap` with a pred of each example's own both run, for all
    examples, and each takes its own.

    >>> import graphc as gx
    >>> f = lambda x: gx.cond(x.sum() > 0, lambda x: x * 2, lambda x: -x, x)
    >>> f(gx.tensor([1.0, 2.0])).tolist(), f(gx.tensor([-3.0])).tolist()
    ([2.0, 4.0], [3.0])
    """
    p = as_tensor(pred)
    if p.shape != ():
        raise GraphError(f"cond by a predicate of type {p.type}", op="cond", at=user_loc(), why="one number decides which branch runs",
                         fix="gx.any(pred) or gx.all(pred); gx.where(pred, a, b) chooses element by element")
    return _choose("cond", cast(p if p.dtype is bool_ else not_equal(p, 0), i64), [("false_fn", false_fn), ("true_fn", true_fn)], operands)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """`branches[index](*operands)`, the first where index is negative, the last where it is too large; only that one runs. JAX's. See `cond`.

    >>> import graphc as gx
    >>> [gx.switch(k, [lambda x: x, lambda x: x * x, lambda x: 0 * x], gx.tensor(3.0)).item() for k in (-1, 1, 7)]
    [3.0, 9.0, 0.0]
    """
    k = as_tensor(index)
    if k.shape != () or not k.dtype.is_integer:
        raise GraphError(f"switch by an index of type {k.type}", op="switch", at=user_loc(), why="one integer says which branch runs",
                         fix="gx.cond for a bool; .astype(gx.int64) for a number")
    if not isinstance(branches, (list, tuple)):
        raise GraphTypeError(f"switch: branches is a {type(branches).__name__}", op="switch", at=user_loc(), fix="a list of functions")
    if not branches:
        raise GraphError("switch of no branches", op="switch", at=user_loc())
    return _choose("switch", cast(k, i64), [(f"branches[{i}]", f) for i, f in enumerate(branches)], operands)


def _choose(what: str, index: Tensor, functions: Sequence[tuple[str, Callable[..., Any]]], operands: Sequence[Any]) -> Any:
    leaves, in_tree = tree.flatten(tuple(operands), is_tensor)
    given = [strong(x) for x in leaves]
    types = [(f"x{k}", x.type) for k, x in enumerate(given)]
    for name, f in functions:
        if not callable(f):
            raise GraphTypeError(f"{what}: {name} is {type(f).__name__}, not a function", op=what, at=user_loc(), fix=f"gx.{what}(..., lambda: value, ...)")
    bodies: list[Body] = []
    for _, f in functions:
        def run(values: list[Tensor], f: Callable[..., Any] = f) -> Any:
            result = f(*in_tree.unflatten(values))
            return tree.ordered(result, bodies[0].tree) if bodies else result
        bodies.append(traced(f, given, types, run, "branch"))
    outputs = _matched(what, [name for name, _ in functions], bodies)
    over = captures(*bodies)
    branches = [b.closed(over, outs) for b, outs in zip(bodies, outputs)]
    if not outputs[0]:
        return bodies[0].tree.unflatten([])
    out = apply_several(ops.cond, index, *given, *over.values(), **ops.attributes(branches))
    return bodies[0].tree.unflatten(list(out))


def _matched(what: str, names: Sequence[str], bodies: Sequence[Body]) -> list[list[Node]]:
    """The outputs of each branch, in types that they share: a Python number takes the dtype that another branch has there."""
    first = bodies[0]
    for name, b in zip(names[1:], bodies[1:]):
        if b.tree != first.tree:
            raise GraphError(f"{what}: {name} returns another structure than {names[0]}", op=what, at=user_loc(),
                             why=f"({', '.join(tree.paths(b.tree, 'result'))}) is not ({', '.join(tree.paths(first.tree, 'result'))})",
                             fix="return the same containers from every branch")
    likes: list[TensorType] = []
    for k in range(len(first.outputs)):
        own = next((b for b in bodies if not b.weak[k]), first)
        likes.append(settled(own, k).tensor)
    out: list[list[Node]] = []
    for name, b in zip(names, bodies):
        out.append([])
        for k, (like, path) in enumerate(zip(likes, tree.paths(first.tree, "result"))):
            node = adapted(b, k, like)
            if node is None:
                other = next(n for n, o in zip(names, bodies) if settled(o, k).tensor == like)
                raise GraphError(f"{what}: {path} is {settled(b, k).tensor} from {name} and {like} from {other}", op=what, at=user_loc(),
                                 why="whichever branch runs, what comes out has one type",
                                 fix=f".astype({like.dtype.name!r})" if settled(b, k).tensor.shape == like.shape else "one shape in both")
            out[-1].append(node)
    return out
