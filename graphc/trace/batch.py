"""`vmap`: a function of one example as a function of a batch of them. The function is traced once, for one example; `transform.vmap` does the rest."""
from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ..core.dims import Dim, Size
from ..core.errors import GraphError, GraphTypeError
from ..core.loc import user_loc
from ..core.types import MAX_BYTES, TensorType
from ..ir.node import Node
from ..transform import vmap as transform
from ..transform.vmap_control import from_front, spread, to_front
from . import checks, tree
from .apply import apply_graph
from .broadcast import as_tensor
from .tape import current
from .tensor import Tensor
from .tracer import Tracer

Axes = Any                                              # an int, None, or a tree of them that is a prefix of the tree of arguments


def vmap(f: Callable[..., Any], in_axes: Axes = 0, out_axes: Axes = 0, axis_size: int | None = None) -> Callable[..., Any]:
    """f for each example of a batch, as one batched computation: `vmap(f)(xs)[k]` is `f(xs[k])`. JAX's; nests, differentiates, compiles.

    in_axes says which axis of each argument counts the examples: an int (negative from the end) for all, or a tuple with one entry for each argument, each
    an int, None (the argument is the same for all), or a tree of them that begins like the argument. out_axes likewise says where the axis stands in the
    results; None, for a result that no example changes. Keyword arguments are batched along axis 0. axis_size is needed where in_axes are all None.

    f may read parameters and other tensors from outside; these are the same for all examples. It must not write states. Random numbers drawn by f from the
    default generator would do that: draw them outside, one row for each example, and give them to f.

    >>> import graphc as gx
    >>> gx.vmap(gx.grad(lambda w, x: (w * x) ** 2), in_axes=(None, 0))(gx.tensor(2.0), gx.tensor([1.0, 2.0])).tolist()
    [4.0, 16.0]
    """
    checks.function("vmap", f)

    @wraps(f, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        leaves, in_tree = tree.flatten((args, kwargs), _is_tensor)
        if isinstance(in_axes, (tuple, list)) and len(in_axes) != len(args):
            raise GraphError(f"vmap: in_axes has {len(in_axes)} entries, and there are {len(args)} arguments", op="vmap", at=user_loc(),
                             fix="one entry for each argument; None where it is the same for all")
        spec = tuple(in_axes) if isinstance(in_axes, (tuple, list)) else tuple(in_axes for _ in args)
        axes = _prefix("in_axes", (spec, dict.fromkeys(kwargs, 0)), in_tree)
        tensors = [x if a is None and not isinstance(x, Tensor) else as_tensor(x) for x, a in zip(leaves, axes)]
        paths = _paths(in_tree)
        places = [None if a is None else _place("in_axes", a, t.ndim, f"{path}: {t.type}") for t, a, path in zip(tensors, axes, paths)]
        n = _size(tensors, places, paths, axis_size)

        tracer = Tracer(current.tracer, is_body=True, body="vmap")
        with tracer.running():
            inner: list[Any] = list(tensors)
            inputs: list[Node] = []
            for k, (t, a) in enumerate(zip(tensors, places)):
                if isinstance(t, Tensor) and a is not None:
                    node = tracer.input(t.name or f"x{k}", TensorType((*t.shape[:a], *t.shape[a + 1:]), t.dtype))
                    inputs.append(node)
                    inner[k] = Tensor.from_node(node, requires_grad=t.requires_grad)
                    if t.requires_grad:
                        tracer.active.add(node)
            own_args, own_kwargs = in_tree.unflatten(inner)
            result = f(*own_args, **own_kwargs)
            flat, out_tree = tree.flatten(result, _is_tensor)
            outputs = [as_tensor(o).node() for o in flat]
        to = _prefix("out_axes", out_axes, out_tree)
        captured = list(tracer.captured.values())
        batched = [(t, a) for t, a in zip(tensors, places) if a is not None]

        def build(*nodes: Node) -> list[Node]:
            fronts = [to_front(x, a) for x, (_, a) in zip(nodes, batched)]
            outs = transform.push(outputs, dict(zip(inputs, fronts)), n, dict(zip((c for c, _ in captured), nodes[len(fronts):])))
            return [_out(o, each, a, n, path) for (o, each), a, path in zip(outs, to, tree.paths(out_tree, "result"))]

        return out_tree.unflatten(apply_graph(build, *(t for t, _ in batched), *(outer for _, outer in captured)))
    return wrapped


def _is_tensor(x: Any) -> bool:
    return isinstance(x, Tensor)


def _paths(in_tree: tree.TreeDef) -> list[str]:
    """How each leaf of (args, kwargs) is written."""
    args, kwargs = in_tree.children
    named = [p for key, c in zip(kwargs.keys, kwargs.children) for p in tree.paths(c, str(key))]
    return [*(p for k, c in enumerate(args.children) for p in tree.paths(c, f"argument {k}")), *named]


def _prefix(what: str, axes: Axes, treedef: tree.TreeDef) -> list[Any]:
    """An axis for each leaf: what stands in the place of a container holds for all of it."""
    if axes is None or (isinstance(axes, int) and not isinstance(axes, bool)):
        return [axes] * len(tree.paths(treedef))
    if isinstance(axes, dict) and treedef.kind is not None and issubclass(treedef.kind, dict) and set(axes) == set(treedef.keys):
        parts = [axes[k] for k in treedef.keys]
    elif isinstance(axes, (tuple, list)) and treedef.kind is not None and len(axes) == len(treedef.children) and not issubclass(treedef.kind, dict):
        parts = list(axes)
    elif treedef.keys and type(axes) is treedef.kind and not isinstance(axes, dict):      # a dataclass
        parts = [getattr(axes, k) for k in treedef.keys]
    else:
        raise GraphError(f"vmap: {what} has {axes!r} where there is {_kind(treedef)}", op="vmap", at=user_loc(),
                         why="it is an int, None, or a tree of them that begins like what it speaks of")
    return [a for part, c in zip(parts, treedef.children) for a in _prefix(what, part, c)]


def _kind(t: tree.TreeDef) -> str:
    return "a tensor" if t.kind is None else f"a {t.kind.__name__} of {len(t.children)}"


def _place(what: str, axis: int, rank: int, where: str) -> int:
    if not -rank <= axis < rank:
        raise GraphError(f"vmap: {what} {axis} is out of range for {where}", op="vmap", at=user_loc(),
                         fix=f"an axis from {-rank} to {rank - 1}" if rank else "None: the same for all examples")
    return axis % rank


def _size(tensors: list[Any], places: list[int | None], paths: list[str], given: int | None) -> Size:
    """How many examples there are."""
    if given is not None and not isinstance(given, Dim) and (not checks.whole(given) or not 0 <= given < MAX_BYTES):
        raise GraphTypeError(f"vmap: axis_size is a {type(given).__name__}" if not checks.whole(given) else f"vmap: axis_size is {given}", op="vmap",
                             at=user_loc(), fix="how many examples there are, where in_axes are all None")
    found: tuple[Size, str] | None = None if given is None else (given, "axis_size")
    for t, a, path in zip(tensors, places, paths):
        if a is None:
            continue
        if found is not None and t.shape[a] != found[0]:
            raise GraphError(f"vmap over batches of different sizes: {found[1]} has {found[0]} examples, {path} has {t.shape[a]}", op="vmap", at=user_loc(),
                             why=f"{path} is {t.type}, batched along axis {a}", fix="in_axes=None for what is the same for all examples")
        found = found or (t.shape[a], path)
    if found is None:
        raise GraphError("vmap over nothing: no argument has a batch axis", op="vmap", at=user_loc(), fix="in_axes that are not all None, or axis_size=")
    return found[0]


def _out(o: Node, each: bool, axis: int | None, n: Size, path: str) -> Node:
    if axis is None:
        if each:
            raise GraphError(f"vmap: out_axes is None for {path}, which differs from example to example", op="vmap", at=user_loc(), fix="out_axes=0")
        return o
    o = o if each else spread(o, n)
    return from_front(o, _place("out_axes", axis, o.tensor.rank, f"{path}: {o.type}"))
