"""Loops that stay loops: `scan`, `fori_loop`, `while_loop`. The body is traced once, and is one node however often it runs."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.dims import Size
from ..core.dtype import bool_, i64
from ..core.errors import GraphError, GraphTypeError
from ..core.loc import user_loc
from ..core.record import dataclass, replace
from ..core.types import MAX_BYTES, TensorType
from ..ir.node import Graph, Node
from ..ir.walk import substitute
from ..ops import control as ops
from ..ops import movement
from ..ops.leaf import input_
from ..ops.loop import while_
from ..ops.tuples import get
from ..trace import checks, tree
from ..trace.apply import apply_graph, apply_several
from ..trace.broadcast import as_tensor, cast
from ..trace.tensor import Tensor
from .bodies import agreed, become, captures, is_tensor, reads_states, refuse_states, settled, strong, traced, widened


def scan(f: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any = None, length: int | None = None, reverse: bool = False, unroll: int | bool = 1,
         checkpoint: int | str | None = None) -> tuple[Any, Any]:
    """A loop over the first axis of xs: `carry, y = f(carry, x)` for each slice; gives (last carry, the y's stacked). JAX's.

    init, xs and y are tensors or trees of them; each may be None (without xs, `length` says how often), and no steps at all give (init, nothing). reverse
    goes from the last slice to the first; y's stand where their slices stood. f is traced once. It may read parameters and other tensors from outside, and
    write buffers (batch norm's statistics, the counter of random numbers): they go round as carries of their own, and are written when the loop is over.
    The carry keeps its structure, shapes and dtypes.

    Gradients flow through the loop. For them the carries of all n steps are kept; with `checkpoint=k` those of every k-th step only, and k at a time are
    computed again: memory for n/k + k carries ("sqrt": k = √n), for one more forward pass. `unroll=k` writes k steps into one turn of the loop (True: no
    loop at all), which saves the loop's own nanoseconds and costs compile time.

    >>> import graphc as gx
    >>> gx.scan(lambda c, x: (c + x, c * x), gx.tensor(0.0), gx.tensor([1.0, 2.0, 3.0]))
    (tensor(6.), tensor([0., 2., 9.]))
    """
    checks.body("scan", "f", f)
    if not isinstance(reverse, (bool, np.bool_)):
        raise GraphTypeError(f"scan: reverse is a {type(reverse).__name__}, not a bool", op="scan", at=user_loc())
    carries, carry_tree = tree.flatten(init, is_tensor)
    slices, xs_tree = tree.flatten(xs, is_tensor)
    given, slices = [as_tensor(c) for c in carries], [as_tensor(x) for x in slices]
    carries = [strong(c) for c in given]
    n = _length(slices, tree.paths(xs_tree, "xs"), length)
    turn, inner = _chunk(n, unroll, checkpoint)
    names = tree.paths(carry_tree, "carry")

    def types() -> list[tuple[str, TensorType]]:
        return [(f"carry{k}", c.type) for k, c in enumerate(carries)] + [(f"x{k}", TensorType(x.shape[1:], x.dtype)) for k, x in enumerate(slices)]

    def run(values: list[Tensor]) -> Any:
        result = f(carry_tree.unflatten(values[:len(carries)]), xs_tree.unflatten(values[len(carries):]))
        if not isinstance(result, tuple) or len(result) != 2:
            raise GraphError(f"the body of scan returns (carry, y), got {checks.kind(result)}", op="scan", at=user_loc(), fix="return carry, None")
        carry = tree.ordered(result[0], carry_tree)
        same_tree("scan", tree.flatten(carry, is_tensor)[1], carry_tree)
        return carry, result[1]

    body = traced(f, [*carries, *slices], types(), run)
    while wider := widened(body, given, carries):
        carries = wider
        body = traced(f, [*carries, *slices], types(), run)
    after = [agreed("scan", body, k, c.type, name) for k, (c, name) in enumerate(zip(carries, names))]
    ys = [settled(body, k) for k in range(len(carries), len(body.outputs))]
    consts, states = captures(body), [tensor for _, tensor in body.states.values()]
    c, x, m = len(carries), len(slices), len(states)
    closed = body.closed({**{key: tensor for key, (_, tensor) in body.states.items()}, **consts}, (*after, *body.written, *ys))
    leaves = closed.inputs
    closed = replace(closed, inputs=(*leaves[:c], *leaves[c + x:c + x + m], *leaves[c:c + x], *leaves[c + x + m:]))     # carries, states, slices, the rest
    whole = _Loop(closed, c + m, x, n, reverse)
    out = apply_graph(lambda *nodes: whole.run(nodes, turn, inner), *carries, *states, *slices, *consts.values())
    become(body.states, out[c:c + m])
    return carry_tree.unflatten(out[:c]), body.tree.children[1].unflatten(out[c + m:])


def fori_loop(lower: Any, upper: Any, body: Callable[[Any, Any], Any], init: Any, unroll: int | bool = 1, max_steps: int | None = None) -> Any:
    """`for i in range(lower, upper): carry = body(i, carry)`, as one loop; gives the last carry. JAX's.

    i is an i64 tensor. The carry is a tensor or a tree of them that keeps its structure, shapes and dtypes. With Python integers as bounds this is a `scan`,
    which `unroll` is for; with tensors it is a `while_loop`, which for reverse mode must know the most turns it can make, `max_steps`.

    >>> import graphc as gx
    >>> gx.fori_loop(1, 5, lambda i, c: c * i, gx.tensor(1)).item()
    24
    """
    checks.body("fori_loop", "body", body)
    bounds = [_bound(name, x) for name, x in (("lower", lower), ("upper", upper))]

    def turn(carry: tuple[Any, Any]) -> tuple[Any, Any]:
        i, c = carry
        return i + 1, body(i, c)

    def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
        return turn(carry), None

    turn.__name__ = step.__name__ = getattr(body, "__name__", "body")
    if all(isinstance(b, int) for b in bounds):
        return scan(step, (as_tensor(bounds[0]), init), None, length=max(bounds[1] - bounds[0], 0), unroll=unroll)[0][1]
    if unroll not in (1, False):
        raise GraphError("fori_loop: unroll of a loop whose bounds are tensors", op="fori_loop", at=user_loc(),
                         why="how many turns there are is known only when it runs", fix="Python integers as bounds, or no unroll")
    first, end = (cast(as_tensor(b), i64) for b in bounds)
    return while_loop(lambda carry: carry[0] < end, turn, (first, init), max_steps)[1]


def _bound(name: str, x: Any) -> Any:
    if isinstance(x, Tensor) and x.dtype.is_integer and x.shape == ():
        return x
    if not isinstance(x, (int, np.integer)) or isinstance(x, bool):
        got = str(x.type) if isinstance(x, Tensor) else type(x).__name__
        raise GraphError(f"fori_loop: {name} is {got}, not an integer", op="fori_loop", at=user_loc())
    return int(x)


def while_loop(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init: Any, max_steps: int | None = None) -> Any:
    """`while cond_fun(carry): carry = body_fun(carry)`, as one loop; gives the last carry. JAX's, and `max_steps`.

    The carry is a tensor or a tree of them that keeps its structure, shapes and dtypes; cond_fun returns one bool. Both are traced once, and may read other
    tensors from outside. With max_steps the loop makes no more turns than that, even if cond_fun still holds.

    Forward mode goes through every such loop, without memory for it. Reverse mode needs the carries of every turn: memory for max_steps of them, of which
    as many are written and read as there were turns. Under `vmap` the loop runs until the last example is through; the others stand still meanwhile.

    >>> import graphc as gx
    >>> root = lambda a: gx.while_loop(lambda x: gx.abs(x * x - a) > 1e-6, lambda x: (x + a / x) / 2, a, max_steps=50)
    >>> round(root(gx.tensor(2.0)).item(), 4), round(gx.grad(root)(gx.tensor(2.0)).item(), 4)
    (1.4142, 0.3536)
    """
    checks.body("while_loop", "cond_fun", cond_fun)
    checks.body("while_loop", "body_fun", body_fun)
    if max_steps is not None and (isinstance(max_steps, bool) or not isinstance(max_steps, int) or not 0 <= max_steps < MAX_BYTES):
        raise GraphError(f"while_loop: max_steps is {max_steps!r}", op="while_loop", at=user_loc(), fix="the most turns that it may make, or None")
    carries, carry_tree = tree.flatten(init, is_tensor)
    start = [as_tensor(c) for c in carries]
    carries = [strong(c) for c in start]
    names = tree.paths(carry_tree, "carry")

    def turn(values: list[Tensor]) -> Any:
        result = tree.ordered(body_fun(carry_tree.unflatten(values)), carry_tree)
        same_tree("while_loop", tree.flatten(result, is_tensor)[1], carry_tree)
        return result

    def types() -> list[tuple[str, TensorType]]:
        return [(f"carry{k}", c.type) for k, c in enumerate(carries)]

    body = traced(body_fun, carries, types(), turn)
    while wider := widened(body, start, carries):
        carries = wider
        body = traced(body_fun, carries, types(), turn)
    test = traced(cond_fun, carries, types(), lambda values: cond_fun(carry_tree.unflatten(values)))
    if test.tree.kind is not None or test.outputs[0].type != TensorType((), bool_):
        got = str(test.outputs[0].type) if test.tree.kind is None else "a tree"
        raise GraphError(f"while_loop: cond_fun returns {got}, not one bool", op="while_loop", at=user_loc(),
                         fix="a comparison; gx.any(x) or gx.all(x) of several")
    refuse_states("while_loop", test)
    after = [agreed("while_loop", body, k, c.type, name) for k, (c, name) in enumerate(zip(carries, names))]
    states = {key: tensor for key, (_, tensor) in body.states.items()}
    test = reads_states(test, body)
    consts = {key: tensor for key, tensor in captures(test, body).items() if key not in states}
    given, c = {**states, **consts}, len(carries)
    out = apply_several(while_, *carries, *given.values(), cond=test.closed(given), body=body.closed(given, (*after, *body.written)), carries=c + len(states),
                        max_steps=max_steps)
    become(body.states, out[c:c + len(states)])
    return carry_tree.unflatten(list(out[:c]))


def same_tree(what: str, got: tree.TreeDef, want: tree.TreeDef) -> None:
    """Raise unless the carry that a body returns has the structure of the one it takes."""
    if got != want:
        raise GraphError(f"the body of {what} returns a carry of another structure than it takes", op=what, at=user_loc(),
                         why=f"{_spelt(got)} is not {_spelt(want)}", fix="return the carry in the same containers")


def _spelt(t: tree.TreeDef) -> str:
    return "(" + ", ".join(tree.paths(t, "carry")) + ")"


def _length(xs: Sequence[Tensor], names: Sequence[str], length: int | None) -> Size:
    if length is not None and (not checks.whole(length) or not 0 <= length < MAX_BYTES):
        raise GraphError(f"scan: length is {length!r}, not a number of steps", op="scan", at=user_loc(), fix="an integer, 0 or more")
    found: tuple[Size, str] | None = None if length is None else (int(length), "length")
    for x, name in zip(xs, names, strict=True):
        if not x.shape:
            raise GraphError(f"scan over a tensor of rank 0: {name}", op="scan", at=user_loc(), why="the steps are the slices along the first axis",
                             fix="read it from inside the body, or carry it")
        if found is not None and x.shape[0] != found[0]:
            raise GraphError(f"scan over different lengths: {found[1]} says {found[0]} steps, {name} is {x.type}", op="scan", at=user_loc(),
                             fix="equal first axes; what is the same at every step is read from inside the body")
        found = found or (x.shape[0], name)
    if found is None:
        raise GraphError("scan without xs needs a length", op="scan", at=user_loc(), fix="scan(f, init, None, length=10)")
    return found[0]


def _chunk(n: Size, unroll: int | bool, checkpoint: int | str | None) -> tuple[int, str]:
    """How many steps one turn of the outer loop makes, and how: "spelt" out, or by a "loop" of its own."""
    if not isinstance(unroll, int) or (unroll < 1 and unroll is not False):
        raise GraphError(f"scan: unroll is {unroll!r}", op="scan", at=user_loc(), fix="the number of steps in a turn, or True for no loop at all")
    if not (checkpoint is None or (isinstance(checkpoint, str) and checkpoint == "sqrt") or
            (isinstance(checkpoint, int) and not isinstance(checkpoint, bool) and checkpoint > 0)):
        raise GraphError(f"scan: checkpoint is {checkpoint!r}", op="scan", at=user_loc(), fix='"sqrt", or after how many steps a carry is kept')
    unrolled = unroll is True or unroll > 1
    if not unrolled and checkpoint is None:
        return 1, "loop"
    if unrolled and checkpoint is not None:
        raise GraphError("scan: unroll and checkpoint together", op="scan", at=user_loc(), fix="a scan with unroll= in the body of one with checkpoint=")
    if not isinstance(n, int):
        raise GraphError(f"a scan over the symbolic size {n} cannot be cut into pieces", op="scan", at=user_loc(), fix="a fixed size, or neither of them")
    if unrolled:
        return (n if unroll is True else unroll), "spelt"
    return (math.isqrt(max(n - 1, 0)) + 1 if isinstance(checkpoint, str) else checkpoint or 1), "loop"


@dataclass(frozen=True, slots=True)
class _Loop:
    """A scan to be: its closed body (carries, slices, what it reads → carries, ys), and how often it runs."""

    body: Graph
    carries: int
    xs: int
    length: Size
    reverse: bool

    def run(self, operands: Sequence[Node], turn: int, how: str) -> tuple[Node, ...]:
        """The last carries and the stacked ys, by a loop whose turns make `turn` steps each; the steps left over are a loop behind it."""
        n = self.length
        if turn <= 1 or n == 0 or (how == "loop" and isinstance(n, int) and turn >= n):
            return self.scan(self.body, operands, n)
        assert isinstance(n, int)
        if turn >= n:
            return self.spelt(operands, n)
        carries, xs, rest = self.parts(operands)
        left = n % turn
        whole, behind = (slice(left, n), slice(0, left)) if self.reverse else (slice(0, n - left), slice(n - left, n))
        chunks = [movement.reshape(_rows(x, whole), shape=(n // turn, turn, *x.tensor.shape[1:])) for x in xs]
        out = self.scan(self.turn(turn, how), (*carries, *chunks, *rest), n // turn)
        last, ys = out[:self.carries], [movement.reshape(y, shape=(n - left, *y.tensor.shape[2:])) for y in out[self.carries:]]
        if not left:
            return (*last, *ys)
        out = self.scan(self.body, (*last, *(_rows(x, behind) for x in xs), *rest), left)
        more = out[self.carries:]
        return (*out[:self.carries], *(movement.concat(*pair, axis=0) for pair in (zip(more, ys) if self.reverse else zip(ys, more))))

    def parts(self, operands: Sequence[Node]) -> tuple[Sequence[Node], Sequence[Node], Sequence[Node]]:
        """Carries, slices, what the body reads."""
        c = self.carries
        return operands[:c], operands[c:c + self.xs], operands[c + self.xs:]

    def turn(self, k: int, how: str) -> Graph:
        """A body that makes k steps, on slices of k rows."""
        carries, xs, rest = ([i.tensor for i in part] for part in self.parts(self.body.inputs))
        types = (*carries, *(TensorType((k, *x.shape), x.dtype) for x in xs), *rest)
        leaves = tuple(input_(name=i.attrs["name"], shape=t.shape, dtype=t.dtype) for i, t in zip(self.body.inputs, types))
        return Graph(leaves, self.spelt(leaves, k) if how == "spelt" else self.scan(self.body, leaves, k), name=f"{self.body.name}_{k}")

    def scan(self, body: Graph, operands: Sequence[Node], n: Size) -> tuple[Node, ...]:
        loop = ops.scan(*operands, body=body, carries=self.carries, xs=self.xs, length=n, reverse=self.reverse)
        return tuple(get(loop, index=k) for k in range(len(body.outputs)))

    def spelt(self, operands: Sequence[Node], n: int) -> tuple[Node, ...]:
        """All n steps, one after the other."""
        carries, xs, rest = self.parts(operands)
        rows: list[Sequence[Node]] = []
        for t in reversed(range(n)) if self.reverse else range(n):
            now = [movement.reshape(_rows(x, slice(t, t + 1)), shape=x.tensor.shape[1:]) for x in xs]
            outs = substitute(self.body.outputs, dict(zip(self.body.inputs, (*carries, *now, *rest))))
            carries = outs[:self.carries]
            rows.append([movement.reshape(y, shape=(1, *y.tensor.shape)) for y in outs[self.carries:]])
        ys = zip(*(rows[::-1] if self.reverse else rows))
        return (*carries, *(movement.concat(*parts, axis=0) for parts in ys))


def _rows(x: Node, rows: slice) -> Node:
    shape = x.tensor.shape
    return movement.slice_(x, starts=(rows.start, *(0 for _ in shape[1:])), stops=(rows.stop, *shape[1:]), steps=(1,) * len(shape))
