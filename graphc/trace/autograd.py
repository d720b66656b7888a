"""torch.autograd's words: `backward`, `grad` (of tensors, not of functions: that is `gx.grad`), hooks, and what .grad is.

Reverse mode itself is `transform.grad.vjp`; here are its ways in and out: which nodes are leaves, what hooks see, where the results go. In a
trace p.grad lives in the tracer, so a trace that fails has changed nothing; whether it outlives the call is settled when the trace ends.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ir.node import Node
from ..ir.walk import topo
from ..ops import leaf
from ..transform.grad import vjp
from ..transform.vmap import vmap as batched
from . import checks
from .apply import computed, concrete
from .broadcast import describe, from_array, lift
from .extension import Function, FunctionCtx, once_differentiable
from .storage import Storage
from .tape import current, eager, enable_grad, is_grad_enabled, no_grad
from .tensor import Tensor, grad_is_inside, provide_gradients
from .tracer import GradEntry, Tracer, phase

__all__ = ["Function", "FunctionCtx", "Variable", "backward", "enable_grad", "grad", "is_grad_enabled", "no_grad", "once_differentiable"]


def backward(tensors: Tensor | Sequence[Tensor], grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
             inputs: Tensor | Sequence[Tensor] | None = None) -> None:
    """Add the derivatives of scalars (or the products of grad_tensors with the Jacobians) to the .grad of the leaves, or of `inputs` alone.

    retain_graph is taken and ignored: nothing is freed. create_graph=True makes gradients that can be differentiated again.
    """
    outputs = checks.tensors("backward()", "what it is called on", tensors)
    if current.tracer is not None and current.tracer.is_body:
        raise GraphError("backward() inside the body of a loop", at=user_loc(), why="the .grad of a parameter would be a state of the body",
                         fix="gx.grad(f)(...) inside the body, or backward() after the loop")
    with phase("backward"):
        nodes, cotangents = _seeds("backward()", outputs, grad_tensors)
        if inputs is not None:
            given = checks.tensors("backward()", "inputs", inputs)
            _require_gradients("backward()", given)
            only = {id(t) for t in given}
            wanted = [(n, t) for n, t in _leaves(nodes) if id(t) in only]
            kept = {id(t) for _, t in wanted}
            wanted += [(t.node(), t) for t in given if id(t) not in kept]
        else:
            wanted = _leaves(nodes)
        grads = pull(nodes, cotangents, [n for n, _ in wanted], create_graph)
        loss = describe(outputs[0]) if outputs[0].name else "loss"
        for (_, t), g in zip(wanted, grads):
            _name_gradient(loss, t, g)
            _accumulate(t, g)


def grad(outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], grad_outputs: Any = None, retain_graph: bool | None = None,
            create_graph: bool = False, allow_unused: bool | None = None, is_grads_batched: bool = False,
            materialize_grads: bool = False) -> tuple[Tensor | None, ...]:
    """torch.autograd.grad: the derivatives of outputs by inputs, as a tuple; .grad stays as it is.

    An input that no path reaches is an error, unless allow_unused=True, which gives None for it, or materialize_grads=True, which gives zeros.
    is_grads_batched: each of grad_outputs has one axis more in front, the products with all its rows are taken at once, and so have the results.

    >>> import graphc as gx
    >>> x = gx.tensor([1.0, 2.0], requires_grad=True)
    >>> gx.autograd.grad(x * x, x, gx.eye(2), is_grads_batched=True)[0].tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """
    outs, ins = checks.tensors("autograd.grad", "outputs", outputs), checks.tensors("autograd.grad", "inputs", inputs)
    _require_gradients("autograd.grad", ins)
    if materialize_grads and allow_unused is False:
        raise GraphError("autograd.grad with materialize_grads=True and allow_unused=False", at=user_loc(), why="zeros are what an unused input has")
    if is_grads_batched:
        return _batched_grad(outs, ins, grad_outputs, create_graph, bool(allow_unused), materialize_grads)
    with phase("backward"):
        nodes, cotangents = _seeds("autograd.grad", outs, grad_outputs)
        wrt = [t.node() for t in ins]
        reached = set(topo(nodes))
        unused = [t for t, n in zip(ins, wrt) if n not in reached]
        if unused and not (allow_unused or materialize_grads):
            raise GraphError(f"autograd.grad: {describe(unused[0])} was not used to compute the outputs", at=user_loc(),
                             fix="allow_unused=True gives None for it")
        grads = pull(nodes, cotangents, wrt, create_graph)
    return tuple(g if n in reached or materialize_grads else None for g, n in zip(grads, wrt))


def _batched_grad(outs: Sequence[Tensor], ins: Sequence[Tensor], grads: Any, create_graph: bool, allow_unused: bool,
                  materialize: bool) -> tuple[Tensor | None, ...]:
    """The products with each row of the cotangents: those with a cotangent that has no numbers yet, batched over it."""
    given = checks.beside("autograd.grad", outs, grads)
    rows = [from_array(g) if g is not None and not isinstance(g, Tensor) else g for g in given]
    n = next((r.shape[0] for r in rows if r is not None and r.shape), 0)
    cotangents: list[Node] = []
    for out, r in zip(outs, rows, strict=True):
        if r is None or r.shape != (n, *out.shape) or r.dtype is not out.dtype.cotangent:
            got = "nothing" if r is None else str(r.type)
            raise GraphError(f"autograd.grad with is_grads_batched=True needs a batch of cotangents of {out.type}, got {got}", at=user_loc(),
                             fix="grad_outputs with one more axis in front, of the same size for all outputs")
        cotangents.append(r.node())
    one = [leaf.input_(name="g", shape=o.shape, dtype=o.dtype.cotangent) for o in outs]
    with phase("backward"):
        nodes = [o.node() for o in outs]
        wrt = [t.node() for t in ins]
        reached = set(topo(nodes))
        unused = [t for t, w in zip(ins, wrt) if w not in reached]
        if unused and not (allow_unused or materialize):
            raise GraphError(f"autograd.grad: {describe(unused[0])} was not used to compute the outputs", at=user_loc(),
                             fix="allow_unused=True gives None for it")
        slopes = batched(vjp(nodes, one, wrt), dict(zip(one, cotangents)), n)
        found = derived(slopes, create_graph)
    return tuple(g if w in reached or materialize else None for g, w in zip(found, wrt))


def Variable(data: Any, requires_grad: bool = False) -> Tensor:
    """The tensor itself, asking for a gradient if told to. In torch a Variable has been a Tensor since 0.4; old scripts still say it."""
    t = data if isinstance(data, Tensor) else from_array(data)
    return t.requires_grad_() if requires_grad else t


def _require_gradients(what: str, tensors: Sequence[Tensor]) -> None:
    for t in tensors:
        if not t.requires_grad:
            raise GraphError(f"{what} by {describe(t)}, which does not require a gradient", at=user_loc(), fix="requires_grad_() before using it")


def _seeds(what: str, outputs: Sequence[Tensor], grads: Any) -> tuple[list[Node], list[Node]]:
    """The nodes to differentiate, and their cotangents."""
    nodes, cotangents = [], []
    for out, g in zip(outputs, checks.beside(what, outputs, grads)):
        if not out.dtype.is_inexact:
            raise GraphError(f"{what} of {out.type}: only floating tensors have gradients", op=describe(out), at=user_loc(), fix=".astype(gx.float32) first")
        if not out.requires_grad:
            raise GraphError(f"{what} of {describe(out)}, which does not require a gradient", at=user_loc(),
                             why="no operand of it requires one, or it was made under no_grad() or detached",
                             fix="requires_grad_() on what to differentiate by")
        if g is None:
            if out.shape != ():
                raise GraphError(f"{what} needs a scalar, got {out.type}", op=describe(out), at=user_loc(), why="which element's derivative is meant?",
                                 fix=".mean() or .sum() first, or backward(gradient=...) with a tensor of the same shape")
            if current.tracer is not None:
                current.tracer.here()
            cotangents.append(leaf.splat(1.0, out.type.cotangent))
        else:
            g = lift(g)
            g = g if isinstance(g, Tensor) else from_array(g)
            if g.type != out.type.cotangent:
                raise GraphError(f"the gradient of {out.type} given to {what} is {g.type}", at=user_loc(), fix=f"one of type {out.type.cotangent}")
            cotangents.append(g.node())
        nodes.append(out.node())
    return nodes, cotangents


def _leaves(outputs: Sequence[Node]) -> list[tuple[Node, Tensor]]:
    """The leaves and the retained inner nodes that the outputs depend on, in order of the graph."""
    tape = current.tracer or eager
    ends = set(tape.leaves) if current.tracer is None else {*tape.leaves, *current.tracer.stopped_nodes()}
    found = []
    for n in topo(outputs, stop=ends):
        for table in (tape.leaves, tape.retained):
            t = table[n]() if n in table else None
            if t is not None and t.requires_grad:
                found.append((n, t))
                break
    return found


def pull(outputs: Sequence[Node], cotangents: Sequence[Node], wrt: Sequence[Node], create_graph: bool) -> list[Tensor]:
    """vjp with hooks, and its results as Tensors."""
    tape = current.tracer or eager
    hooks = {n: dict(table) for n, table in tape.hooks.items() if table}
    for n, ref in list(tape.leaves.items()):
        t = ref()
        if t is not None and t._hooks:
            hooks[n] = dict(t._hooks)

    def on_cotangent(n: Node, g: Node) -> Node:
        if current.tracer is not None:
            current.tracer.called.add(n)
        for hook in hooks.get(n, {}).values():
            given = hook(derived([g], create_graph)[0])
            if given is not None:
                if not isinstance(given, Tensor) or given.type != n.tensor.cotangent:
                    raise GraphError(f"a hook on a {n.type} returned {given.type if isinstance(given, Tensor) else type(given).__name__}", at=user_loc(),
                                     fix="return a Tensor of the same shape and dtype, or None")
                g = given.node()
        return g

    return derived(vjp(outputs, cotangents, wrt, on_cotangent if hooks else None, hooks), create_graph)


def derived(nodes: Sequence[Node], create_graph: bool) -> list[Tensor]:
    """Derivative nodes as Tensors: of the current trace, or evaluated from what is on the tape."""
    if current.tracer is not None:
        current.tracer.active.update(nodes)                             # without create_graph they are constants, where they meet what is not
        return [Tensor.from_node(n, requires_grad=create_graph and n.tensor.dtype.is_inexact) for n in nodes]
    return [concrete(n, v, Tensor, create_graph) if create_graph else Tensor.from_value(_owned(v)) for n, v in zip(nodes, computed(nodes))]


def _owned(v: Any) -> Any:
    return v if v.flags.writeable and v.flags.owndata else v.copy()


# ---- .grad ---------------------------------------------------------------------------------------------------------------------------


def _name_gradient(loss: str, t: Tensor, g: Tensor) -> None:
    tracer = current.tracer
    if tracer is not None:
        name = (tracer.state_name(t._storage) if t._storage is not None else "") or t.name
        if name:
            tracer.name(g.node(), f"d {loss} / d {name}")


def _accumulate(t: Tensor, g: Tensor) -> None:
    """t.grad += g, where no gradient at all counts as none."""
    if current.tracer is None:
        with no_grad() if not g.requires_grad else enable_grad():
            old = t.grad if t._grad is None or t._grad.status != "inside" else _raise(grad_is_inside(t))
            t.set_grad(g if old is None else old + g)
        return
    tracer: Tracer = current.tracer
    entry = tracer.grads.get(t)
    if entry is None:
        entry = tracer.grads[t] = GradEntry(t)
        cell = t._grad
        if t._storage is not None and t._tracer is None:                # a leaf that outlives the trace: its old gradient counts
            if cell is not None and cell.status == "inside":
                raise grad_is_inside(t)
            known = cell is not None and cell.status == "value"
            entry.persistent = t.bind_grad() if known else _zeros(t)
            old = Tensor.from_node(tracer.cell(entry.persistent).now)
            tracer.names.setdefault(entry.persistent, f"grad.{tracer.state_name(t._storage) or 'p'}")
            entry.value = old + g
            if not known:
                entry.accumulated = entry.value.node(), g.node()
            entry.consumed = False
            return
    with no_grad() if not g.requires_grad else enable_grad():
        entry.value = g if entry.value is None else entry.value + g
    entry.consumed = False


def _zeros(t: Tensor) -> Storage:
    """Zeros to add to, should the gradient turn out to persist: the bound storage, or one that is bound if the trace keeps it."""
    if t._grad is not None and t._grad.storage is not None:
        return t._grad.storage
    return Storage(np.zeros(t.type.static_shape, t.dtype.cotangent.numpy), f"grad.{t.name}" if t.name else "")


def _raise(e: GraphError) -> Any:
    raise e


def read_grad(tracer: Tracer, t: Tensor) -> Tensor | None:
    """p.grad inside a trace."""
    if tracer.is_body:
        raise GraphError(f"the gradient of {describe(t)} is read inside the body of a loop", at=user_loc(), fix="read it before the loop")
    entry = tracer.grads.get(t)
    if entry is None:
        entry = tracer.grads[t] = GradEntry(t)
        cell = t._grad
        if cell is None or cell.status == "none":
            entry.assumed_none = True
        elif cell.status == "inside":
            raise grad_is_inside(t)
        else:
            entry.persistent = t.bind_grad()
            entry.value = Tensor.from_node(tracer.cell(entry.persistent).now)
    return entry.value


def assign_grad(tracer: Tracer, t: Tensor, value: Tensor | None) -> None:
    """p.grad = value inside a trace."""
    entry = tracer.grads.get(t)
    if entry is None:
        entry = tracer.grads[t] = GradEntry(t)
    entry.value = None if value is None else Tensor.from_node(value.node(), requires_grad=value.requires_grad)
    entry.consumed = False


def zero_grad(t: Tensor) -> None:
    """t.grad = 0 where there is a gradient, whatever it is: infinite, or living only inside a compiled step."""
    tracer = current.tracer
    if tracer is None:
        if t._grad is not None and t._grad.status != "none":
            t.set_grad(Tensor.from_value(np.zeros(t.type.static_shape, t.dtype.cotangent.numpy)))
        return
    entry = tracer.grads.get(t)
    if entry is None:
        entry = tracer.grads[t] = GradEntry(t)
        entry.assumed_none = t._grad is None or t._grad.status == "none"
        entry.assumed_some = not entry.assumed_none
    elif entry.value is None:
        return
    if not entry.assumed_none or entry.value is not None:
        entry.value = Tensor.from_node(leaf.zeros(t.type))
        entry.consumed = False


provide_gradients(read_grad, assign_grad, lambda t, gradient, retain, create, inputs: backward(t, gradient, retain, create, inputs))
