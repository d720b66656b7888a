"""Sparse Jacobians and Hessians: `jacobian_sparsity`, `hessian_sparsity`, `sparse_jacobian`, `sparse_hessian`.

Where a derivative may differ from 0 is read from the graph (`transform.sparsity`), which columns share a sweep from a colouring (`transform.coloring`), and
then as many jvps or vjps as there are colours, in one batch, hold all entries. In a compiled function the first two happen while it is traced, once.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import TensorType
from ..ir.node import Node
from ..ops.leaf import input_, splat
from ..transform import grad as reverse
from ..transform import jvp as forward
from ..transform.sparsity import jvp_reads, vjp_reads
from ..transform.vmap import vmap as batched
from . import tree
from .derivatives import Argnums, Call, _emit, called, static_sizes
from .functional import grad
from .pattern import Pattern, SparseMatrix, read, seeds
from .spec import Spec
from .tape import current, enable_grad
from .tensor import Tensor
from .tracer import Tracer, phase

MODES = ("auto", "forward", "reverse")


def jacobian_sparsity(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Which entries of the Jacobian of f may differ from 0, as a `Pattern`: for arguments of these shapes, whatever their values.

    Tensors of any rank count as vectors, row by row: f from shape (4, 5) to (7,) has a pattern of 7 x 20. Functions of trees give a tree of patterns like
    that of `jacrev`. Arguments may be `gx.Spec`s; none is computed with. NumPy arrays that f reads from outside are constants: indices and masks among
    them are followed element by element, and where a constant factor is 0 there is no entry. Indices that are arguments may be anything.

    Raises GraphError for symbolic sizes, and where the pattern has more than 67 million entries.

    >>> import graphc as gx
    >>> print(gx.jacobian_sparsity(lambda x: x[1:] * x[:-1])(gx.Spec((5,))).spy())
    **...
    .**..
    ..**.
    ...**
    """
    return _sparsity("jacobian_sparsity", f, argnums, has_aux)


def hessian_sparsity(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Which second derivatives of a scalar function may differ from 0: the pattern of its gradient's Jacobian, symmetric. See `jacobian_sparsity`.

    >>> import graphc as gx
    >>> gx.hessian_sparsity(lambda x: (x[1:] * x[:-1]).sum())(gx.Spec((5,)))
    Pattern(5 x 5, 8 entries, 3 colors)
    """
    return _sparsity("hessian_sparsity", f, argnums, has_aux)


def sparse_jacobian(f: Callable[..., Any], argnums: Argnums = 0, pattern: Any = None, mode: str = "auto", check: bool = False,
                    has_aux: bool = False) -> Callable[..., Any]:
    """The Jacobian of f by its argument(s) as a `SparseMatrix`: as many sweeps of forward or reverse mode as its pattern has colours, in one batch.

    Shapes and trees as in `jacobian_sparsity`. mode: "forward" (columns share sweeps), "reverse" (rows do), "auto": the one of fewer colours.

    pattern: a `Pattern`, or an array with a True for each entry, where it is known already; eagerly that saves a trace of f at every call. What such a pattern
    lacks is added to entries of the same colour, so it must not be too small: check=True has it compared with what the graph says, and raises where
    that is more. Without a pattern it is found when f is traced, once for each compilation.

    >>> import graphc as gx
    >>> J = gx.sparse_jacobian(lambda x: x[1:] * x[:-1])(gx.tensor([1.0, 2.0, 3.0]))
    >>> J, J.toarray().tolist()
    (SparseMatrix(2 x 3, 4 entries, f32), [[2.0, 1.0, 0.0], [0.0, 3.0, 2.0]])
    """
    if mode not in MODES:
        raise GraphError(f"sparse_jacobian has no mode {mode!r}", at=user_loc(), fix="auto, forward or reverse")
    return _matrices("sparse_jacobian", f, argnums, pattern, mode, check, has_aux)


def sparse_hessian(f: Callable[..., Any], argnums: Argnums = 0, pattern: Any = None, check: bool = False, has_aux: bool = False) -> Callable[..., Any]:
    """The second derivatives of a scalar function as a symmetric `SparseMatrix`: forward over reverse mode, for each colour of a star colouring once.

    pattern and check as in `sparse_jacobian`.

    >>> import graphc as gx
    >>> gx.sparse_hessian(lambda x: (x[1:] * x[:-1] ** 2).sum())(gx.tensor([1.0, 2.0, 3.0])).toarray().tolist()
    [[4.0, 2.0, 0.0], [2.0, 6.0, 4.0], [0.0, 4.0, 0.0]]
    """
    return _matrices("sparse_hessian", f, argnums, pattern, "forward", check, has_aux)


# ---- how -------------------------------------------------------------------------------------------------------------------------------


def _call(what: str, f: Callable[..., Any], argnums: Argnums, args: Sequence[Any], kwargs: dict[str, Any], has_aux: bool) -> Call:
    """f, or the gradient of it, run once."""
    call = called(what, grad(f, argnums, has_aux) if "hessian" in what else f, args, argnums, has_aux, kwargs)
    static_sizes(what, call)
    return call


def _blocks(what: str, call: Call) -> list[tuple[Node, Node, bool]]:
    """What is differentiated by what, and whether that is symmetric."""
    return [(y, x, "hessian" in what and i == j) for i, y in enumerate(call.nodes) for j, x in enumerate(call.wrt)]


def _tree(call: Call, parts: Sequence[Any]) -> Any:
    k = len(call.primals)
    return call.out_tree.unflatten([call.in_tree.unflatten(parts[at * k:(at + 1) * k]) for at in range(len(call.outputs))])


def _sparsity(what: str, f: Callable[..., Any], argnums: Argnums, has_aux: bool, mode: str = "forward") -> Callable[..., Any]:
    @wraps(f, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        leaves, treedef = tree.flatten((args, kwargs), lambda x: isinstance(x, (Tensor, Spec)))
        tracer = Tracer(current.tracer, is_body=True, body="pattern")
        with tracer.running():
            own_args, own_kwargs = treedef.unflatten([_unknown(tracer, x) for x in leaves])
            call = _call(what, f, argnums, own_args, own_kwargs, has_aux)
            with enable_grad(), phase("backward"):
                return _tree(call, [_found(y, x, mode, symmetric)[2] for y, x, symmetric in _blocks(what, call)])
    return wrapped


def _unknown(tracer: Tracer, x: Any) -> Any:
    """An argument of which the type alone is known."""
    if not isinstance(x, (Tensor, Spec, np.ndarray)):
        return x
    t = x.type if isinstance(x, (Tensor, Spec)) else Tensor.from_value(x).type
    return Tensor.from_node(tracer.input("", t))


def _matrices(what: str, f: Callable[..., Any], argnums: Argnums, pattern: Any, mode: str, check: bool, has_aux: bool) -> Callable[..., Any]:
    @wraps(f, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        call = _call(what, f, argnums, args, kwargs, has_aux)
        blocks = _blocks(what, call)
        given = None if pattern is None else _patterns(what, pattern, blocks)
        if current.tracer is None and (given is None or check):         # what is computed already tells values, and a pattern is for all of them
            found = _leaves(_sparsity(what, f, argnums, has_aux, mode)(*args, **kwargs))
            for p, q in zip(given or found, found):
                _contains(what, p, q)
            given = given or found
        used: list[Pattern] = []

        def entries() -> Sequence[Node]:
            parts = [_entries(what, *block, p, mode, check) for block, p in zip(blocks, given or [None] * len(blocks))]
            used.extend(p for p, _ in parts)
            return [n for _, n in parts]

        values = _emit(entries)
        result = _tree(call, [SparseMatrix(v, p) for v, p in zip(values, used)])
        return (result, call.aux) if has_aux else result
    return wrapped


def _patterns(what: str, pattern: Any, blocks: Sequence[tuple[Node, Node, bool]]) -> list[Pattern]:
    """What the user says of each block."""
    given = _leaves(pattern)
    if len(given) != len(blocks):
        raise GraphError(f"{what}: {len(given)} patterns for {len(blocks)} matrices", at=user_loc(), fix="a tree of them as the result will be")
    out = []
    for p, (y, x, symmetric) in zip(given, blocks):
        shape = tuple(int(np.prod(n.tensor.static_shape, dtype=np.int64)) for n in (y, x))
        if tuple(p.shape) != shape:
            raise GraphError(f"{what}: the pattern is of {' x '.join(map(str, p.shape))}, the matrix of {' x '.join(map(str, shape))}", at=user_loc(),
                             why="tensors count as vectors, row by row", fix=f"gx.{'hessian_sparsity' if symmetric else 'jacobian_sparsity'}(f)(...) finds it")
        if not isinstance(p, Pattern):
            rows, cols = (p.tocoo().row, p.tocoo().col) if hasattr(p, "tocoo") else np.nonzero(np.asarray(p))
            p = Pattern(rows, cols, p.shape, symmetric)
        out.append(p if p.symmetric == symmetric else Pattern(p.rows, p.cols, p.shape, symmetric))
    return out


def _leaves(patterns: Any) -> list[Any]:
    return tree.flatten(patterns, lambda x: hasattr(x, "shape"))[0]


def _found(y: Node, x: Node, mode: str, symmetric: bool) -> tuple[Node, Node, Pattern]:
    """A direction, the sweep along it, and the pattern that the sweep's own graph has."""
    d, sweep, reads = (vjp_reads if mode == "reverse" else jvp_reads)(y, x)
    m, n = (int(np.prod(k.tensor.static_shape, dtype=np.int64)) for k in (y, x))
    rows, cols = (np.zeros(0, np.int64),) * 2 if reads is None else reads.entries()
    return d, sweep, Pattern(cols, rows, (m, n)) if mode == "reverse" else Pattern(rows, cols, (m, n), symmetric)


def _entries(what: str, y: Node, x: Node, symmetric: bool, pattern: Pattern | None, mode: str, check: bool) -> tuple[Pattern, Node]:
    """The entries of the derivative of y by x."""
    own: tuple[Node, Node] | None = None
    if current.tracer is not None and (pattern is None or check):
        d, sweep, found = _found(y, x, mode, symmetric)
        own = d, sweep
        if pattern is not None:
            _contains(what, pattern, found)
        pattern = pattern or found
    assert pattern is not None
    coloring = pattern.coloring("auto" if symmetric else mode)
    if not coloring.count:
        return pattern, splat(0.0, TensorType((0,), y.tensor.dtype.cotangent))
    backwards = coloring.mode == "reverse"
    if own is None or backwards != (mode == "reverse"):
        own = _sweep(y, x, backwards)
    d, sweep = own
    (all_,) = batched([sweep], {d: seeds(coloring, d.tensor)}, coloring.count)
    return pattern, read(all_, coloring)


def _sweep(y: Node, x: Node, backwards: bool) -> tuple[Node, Node]:
    like = (y if backwards else x).tensor.cotangent
    d = input_(name="d", shape=like.shape, dtype=like.dtype)
    if backwards:
        return d, reverse.vjp([y], [d], [x])[0]
    return d, forward.jvp([y], [x], [d])[1][0]


def _contains(what: str, pattern: Pattern, found: Pattern) -> None:
    n = max(found.shape[1], 1)
    lacks = np.setdiff1d(found.rows * n + found.cols, pattern.rows * n + pattern.cols)
    if len(lacks):
        i, j = divmod(int(lacks[0]), n)
        raise GraphError(f"{what}: the pattern lacks {len(lacks)} entries that the derivative may have, ({i}, {j}) for one", at=user_loc(),
                         why="what it lacks would be added to other entries", fix="leave pattern= out; where these are 0 all the same, check=")
