"""JAX's words for Jacobians: `jvp`, `vjp`, `linearize`, `jacfwd`, `jacrev`, `hessian`, `hvp`. Each takes a function of trees of tensors; all nest.

`transform.jvp`, `transform.grad` and `transform.vmap` are the mathematics; here a function is run once on arguments of its own, and what it made is
differentiated. `grad` and `value_and_grad` are in `functional`.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from ..core.dims import Dim, product
from ..core.dtype import i64
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.record import dataclass
from ..ir.node import Node
from ..ir.walk import substitute, topo
from ..ops import elementwise, leaf, movement
from ..transform import grad as reverse
from ..transform import jvp as forward
from ..transform.vmap import vmap as batched
from . import checks, tree
from .apply import apply, apply_graph
from .autograd import derived
from .broadcast import as_tensor, cast
from .functional import fresh, tree_without_past, without_past
from .tape import current, differentiated, enable_grad
from .tensor import Tensor
from .tracer import phase

Argnums = int | Sequence[int]


@dataclass(frozen=True, slots=True)
class Call:
    """A function run once: the leaves that it is differentiated by, what it returned, and the trees of both."""

    primals: list[Tensor]
    wrt: list[Node]                                     # their nodes as they were given: the function may write to them
    in_tree: tree.TreeDef
    outputs: list[Tensor]
    out_tree: tree.TreeDef
    aux: Any

    @property
    def value(self) -> Any:
        return self.out_tree.unflatten(without_past(self.outputs))

    @property
    def nodes(self) -> list[Node]:
        return [o.node() for o in self.outputs]


def _is_tensor(x: Any) -> bool:
    return isinstance(x, Tensor)


def called(what: str, f: Callable[..., Any], args: Sequence[Any], argnums: Argnums | None = None, has_aux: bool = False,
           kwargs: dict[str, Any] | None = None) -> Call:
    """Run f with the arguments `argnums` (None: all, as a tuple) replaced by tensors of their own."""
    picked = list(range(len(args))) if argnums is None else checks.places(what, argnums, len(args))
    one = argnums is not None and not isinstance(argnums, (tuple, list))
    chosen = args[picked[0]] if one else tuple(args[k] for k in picked)
    leaves, in_tree = tree.flatten(chosen, _is_tensor)
    primals = [fresh(x, what) for x in leaves]
    wrt, own = [p.node() for p in primals], in_tree.unflatten(primals)
    new = list(args)
    for k, x in zip(picked, [own] if one else own):
        new[k] = x
    with differentiated(wrt):
        out = f(*new, **(kwargs or {}))
    with enable_grad():
        out, aux = checks.pair(what, out, has_aux)
        flat, out_tree = tree.flatten(out, _is_tensor)
        outputs = [as_tensor(o) for o in flat]
    for o in outputs:
        if not o.dtype.is_inexact:
            raise GraphError(f"{what} of a function that returns {o.type}: only floating tensors have derivatives", at=user_loc(),
                             fix=".astype(gx.float32), or has_aux=True and return (value, that)")
    return Call(primals, wrt, in_tree, outputs, out_tree, tree_without_past(aux))


def _beside(what: str, word: str, x: Any, like: Sequence[Tensor], treedef: tree.TreeDef) -> list[Tensor]:
    """Tangents or cotangents: a tree like that of `like`, with leaves of the same types; a Python number takes the dtype."""
    leaves, got = tree.flatten(tree.ordered(x, treedef), _is_tensor)
    if got != treedef:
        raise GraphError(f"{what}: the {word}s have another structure than what they belong to", at=user_loc(), why=f"{_paths(got)} is not {_paths(treedef)}",
                         fix=f"one {word} for each leaf, in the same containers")
    out = []
    for v, t, path in zip(leaves, like, tree.paths(treedef, word)):
        v = as_tensor(v)
        v = cast(v, t.dtype.cotangent) if v.weak and v.dtype is not t.dtype.cotangent else v
        if v.type != t.type.cotangent:
            raise GraphError(f"{what}: {path} is {v.type}, and should be {t.type.cotangent}", at=user_loc(), fix="one of the same shape and dtype")
        out.append(v)
    return out


def _paths(t: tree.TreeDef) -> str:
    return ", ".join(tree.paths(t, "*")) or "nothing"


def _emit(f: Callable[[], Sequence[Node]]) -> list[Tensor]:
    """The nodes of derivatives, as Tensors that can be differentiated again."""
    with enable_grad(), phase("backward"):
        if current.tracer is not None:
            current.tracer.here()
        return without_past(derived(f(), True))


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> tuple[Any, ...]:
    """The value of f at primals, and its derivative along tangents: (f(x), Df(x) t), with aux third if has_aux. Forward mode.

    primals and tangents are sequences with one entry for each argument of f; entries are tensors or trees of them.

    >>> import graphc as gx
    >>> value, slope = gx.jvp(lambda x: x ** 2, (3.0,), (1.0,))
    >>> value.item(), slope.item()
    (9.0, 6.0)
    """
    checks.function("jvp", f)
    _are_tuples("jvp", primals, tangents)
    call = called("jvp", f, tuple(primals), has_aux=has_aux)
    ts = _beside("jvp", "tangent", tuple(tangents), call.primals, call.in_tree)
    nodes, n = call.nodes, len(call.outputs)

    def both() -> Sequence[Node]:
        values, slopes = forward.jvp(nodes, call.wrt, [t.node() for t in ts])
        return (*values, *slopes)

    out = _emit(both)
    value, slope = call.out_tree.unflatten(out[:n]), call.out_tree.unflatten(out[n:])
    return (value, slope, call.aux) if has_aux else (value, slope)


def _are_tuples(what: str, primals: Any, tangents: Any) -> None:
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise GraphError(f"{what} takes its primals and its tangents as tuples, one entry for each argument", at=user_loc(), fix=f"gx.{what}(f, (x,), (t,))")


def linearize(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """(f(x), the function t ↦ Df(x) t). f runs once; the function can be called often, and in other traces (vmap of it gives a Jacobian)."""
    checks.function("linearize", f)
    call = called("linearize", f, primals, has_aux=has_aux)
    dummies = [_unknown(p) for p in call.primals]
    _, slopes = forward.jvp(call.nodes, call.wrt, dummies)
    linear = _linear(dummies, slopes)

    def pushforward(*tangents: Any) -> Any:
        return call.out_tree.unflatten(linear(_beside("linearize", "tangent", tangents, call.primals, call.in_tree)))

    return (call.value, pushforward, call.aux) if has_aux else (call.value, pushforward)


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """(f(x), the function c ↦ cᵀDf(x)), with aux third if has_aux: the function takes a cotangent like f's result and gives a tuple, one for each argument.

    >>> import graphc as gx
    >>> y, pullback = gx.vjp(lambda a, b: a * b, 3.0, 4.0)
    >>> [g.item() for g in pullback(1.0)]
    [4.0, 3.0]
    """
    checks.function("vjp", f)
    call = called("vjp", f, primals, has_aux=has_aux)
    dummies = [_unknown(o) for o in call.outputs]
    linear = _linear(dummies, reverse.vjp(call.nodes, dummies, call.wrt))

    def pullback(cotangent: Any) -> Any:
        return call.in_tree.unflatten(linear(_beside("vjp", "cotangent", cotangent, call.outputs, call.out_tree)))

    return (call.value, pullback, call.aux) if has_aux else (call.value, pullback)


def _unknown(t: Tensor) -> Node:
    return leaf.input_(name="d", shape=t.shape, dtype=t.dtype.cotangent)


def _linear(dummies: Sequence[Node], results: Sequence[Node]) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """results as a function of dummies. What does not depend on them is computed now, and belongs to this trace; later calls take it from here."""
    known: dict[Node, None] = {}
    moving = set(dummies)
    order = topo(results)
    for n in order:
        if any(i in moving for i in n.inputs):
            moving.add(n)
    for n in order:
        if n in moving:
            known.update((i, None) for i in n.inputs if i not in moving and (i.inputs or i.op is leaf.input_))
    known.update((r, None) for r in results if r not in moving)
    residuals = _emit(lambda: list(known))
    roots = [*dummies, *known]

    def apply_(tensors: Sequence[Tensor]) -> list[Tensor]:
        return apply_graph(lambda *nodes: substitute(results, dict(zip(roots, nodes))), *tensors, *residuals)
    return apply_


# ---- Jacobians -------------------------------------------------------------------------------------------------------------------------


def jacfwd(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The Jacobian of f by its argument(s), a column at a time: for tall ones. The result has f's tree, in each leaf the tree of the argument(s), in each
    leaf of that the shape (*of the result, *of the argument). All columns are one batched pass, compiled as one."""
    return _jacobian("jacfwd", f, argnums, has_aux, _columns)


def jacrev(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The Jacobian of f by its argument(s), a row at a time: for wide ones. Shapes and trees as in `jacfwd`.

    >>> import graphc as gx
    >>> gx.jacrev(lambda x: x[:2] * x[2])(gx.tensor([1.0, 2.0, 3.0])).tolist()
    [[3.0, 0.0, 1.0], [0.0, 3.0, 2.0]]
    """
    return _jacobian("jacrev", f, argnums, has_aux, _rows)


def hessian(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The second derivatives of f: forward over reverse, `jacfwd(jacrev(f))`.

    >>> import graphc as gx
    >>> gx.hessian(lambda x: (x ** 3).sum())(gx.tensor([1.0, 2.0])).tolist()
    [[6.0, 0.0], [0.0, 12.0]]
    """
    checks.function("hessian", f)
    return jacfwd(jacrev(f, argnums, has_aux), argnums, has_aux)


def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The second derivative of a scalar function along tangents, H t, without H: the jvp of the gradient by all arguments (one argument: by it).

    >>> import graphc as gx
    >>> gx.hvp(lambda x: (x ** 3).sum(), (gx.tensor([1.0, 2.0]),), (gx.tensor([1.0, 1.0]),)).tolist()
    [6.0, 12.0]
    """
    from .functional import grad
    checks.function("hvp", f)
    _are_tuples("hvp", primals, tangents)
    return jvp(grad(f, 0 if len(primals) == 1 else tuple(range(len(primals)))), primals, tangents)[1]


def _jacobian(what: str, f: Callable[..., Any], argnums: Argnums, has_aux: bool, part: Callable[[Node, Node], Node]) -> Callable[..., Any]:
    checks.function(what, f)

    @wraps(f, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        checks.places(what, argnums, len(args))
        call = called(what, f, args, argnums, has_aux, kwargs)
        static_sizes(what, call)
        wrt = call.wrt
        parts = _emit(lambda: [part(o, w) for o in call.nodes for w in wrt])
        k = len(wrt)
        rows = [call.in_tree.unflatten(parts[at * k:(at + 1) * k]) for at in range(len(call.outputs))]
        result = call.out_tree.unflatten(rows)
        return (result, call.aux) if has_aux else result
    return wrapped


def static_sizes(what: str, call: Call) -> None:
    """Refuse symbolic sizes: a Jacobian has as many rows and columns as there are elements."""
    for t in (*call.primals, *call.outputs):
        if any(isinstance(n, Dim) for n in t.shape):
            raise GraphError(f"{what} needs sizes that are numbers, got the symbolic {t.type}", at=user_loc(), fix="compile for a fixed size")


def _basis(like: Node) -> Node:
    """Every unit tensor of that type, along a new first axis."""
    t = like.tensor
    n = int(np.prod(t.static_shape, dtype=np.int64))
    row, column = (leaf.iota(shape=(n, n), dtype=i64, axis=a) for a in (0, 1))
    return movement.reshape(elementwise.cast(elementwise.eq(row, column), dtype=t.dtype.cotangent), shape=(n, *t.shape))


def _columns(y: Node, x: Node) -> Node:
    d = leaf.input_(name="d", shape=x.tensor.shape, dtype=x.tensor.dtype.cotangent)
    _, (slope,) = forward.jvp([y], [x], [d])
    (all_,) = batched([slope], {d: _basis(x)}, product(x.tensor.shape))
    last = movement.permute(all_, axes=(*range(1, all_.tensor.rank), 0))
    return movement.reshape(last, shape=(*y.tensor.shape, *x.tensor.shape))


def _rows(y: Node, x: Node) -> Node:
    d = leaf.input_(name="d", shape=y.tensor.shape, dtype=y.tensor.dtype.cotangent)
    (slope,) = reverse.vjp([y], [d], [x])
    (all_,) = batched([slope], {d: _basis(y)}, product(y.tensor.shape))
    return movement.reshape(all_, shape=(*y.tensor.shape, *x.tensor.shape))


def stop_gradient(x: Any) -> Any:
    """x, or a tree of tensors, as constants to every derivative; what is not floating comes back as it is.

    >>> import graphc as gx
    >>> gx.grad(lambda x: x * gx.stop_gradient(x))(3.0).item()
    3.0
    """
    def stop(v: Any) -> Any:
        t = as_tensor(v)
        return apply(elementwise.stop_gradient, t) if t.dtype.is_inexact else v
    return tree.map_leaves(stop, x, is_leaf=_is_tensor)
