"""JAX's words for gradients: `grad` and `value_and_grad` take a function and give one. They nest, eagerly and in a trace."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from ..core.dtype import f32
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ir.node import Node
from ..ir.walk import topo
from ..ops import leaf, movement
from . import checks, tree
from .apply import apply
from .autograd import pull
from .broadcast import as_tensor, from_array, lift
from .tape import current, differentiated, eager, enable_grad
from .tensor import Tensor
from .tracer import phase


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The function that gives (f(x), df/dx): the gradient has the tree of the argument (or a tuple of them for several argnums).

    f returns a floating scalar, with has_aux=True a pair (scalar, anything else). Works eagerly, inside a trace, and on its own result.
    """
    checks.function("value_and_grad", f)
    return _value_and_grad(f, argnums, has_aux)


def _value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool) -> Callable[..., Any]:
    @wraps(f, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        args_list = list(args)
        trees = []
        own: list[Node] = []                            # the arguments as they are given: the function may write to them
        for k in checks.places("grad", argnums, len(args)):
            leaves, treedef = tree.flatten(args_list[k])
            mine = [fresh(x, "grad") for x in leaves]
            trees.append((treedef, len(mine)))
            own += [x.node() for x in mine]
            args_list[k] = treedef.unflatten(mine)
        with differentiated(own):
            out = f(*args_list, **kwargs)
        with enable_grad():
            out, aux = checks.pair("grad", out, has_aux)
            out = as_tensor(out) if isinstance(out, (float, np.floating)) else out
            if not isinstance(out, Tensor) or out.shape != () or not out.dtype.is_inexact:
                got = out.type if isinstance(out, Tensor) else checks.kind(out)
                fix = ("has_aux=True, if the loss is the first of two" if isinstance(out, tuple) else "return the loss" if out is None else
                       ".astype(gx.float32); but what is counted or chosen has no slope" if isinstance(out, Tensor) and not out.dtype.is_inexact else
                       ".mean() or .sum() of what it returns")
                raise GraphError(f"grad needs a function that returns a floating scalar, got {got}", at=user_loc(), fix=fix)
            with phase("backward"):
                if current.tracer is not None:
                    current.tracer.here()
                grads = pull([out.node()], [leaf.splat(1.0, out.type.cotangent)], own, True)
        (out, *grads), aux = without_past([out, *grads]), tree_without_past(aux)
        parts, at = [], 0
        for treedef, n in trees:
            parts.append(treedef.unflatten(grads[at:at + n]))
            at += n
        result = tuple(parts) if isinstance(argnums, (tuple, list)) else parts[0]
        return ((out, aux), result) if has_aux else (out, result)
    return wrapped


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The gradient of a scalar function by its argument(s): `gx.grad(f)(x)`; nest it for higher orders. See `value_and_grad`.

    >>> import graphc as gx
    >>> gx.grad(gx.grad(lambda x: x ** 3))(2.0).item()
    12.0
    """
    checks.function("grad", f)
    both = _value_and_grad(f, argnums, has_aux)

    @wraps(f, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g
    return wrapped


def without_past(tensors: Sequence[Tensor]) -> list[Tensor]:
    """What a transform gives when it is through, eagerly: numbers, where no leaf and no transform around this one could ask for a derivative."""
    if current.tracer is not None:
        return list(tensors)
    asked: set[Node] = set()
    for n in topo([t.node() for t in tensors if t.requires_grad]):
        if n in current.primals or n in eager.leaves or not asked.isdisjoint(n.inputs):
            asked.add(n)
    return [t if not t.requires_grad or t.node() in asked else type(t).from_value(t.numpy(), weak=t.weak) for t in tensors]


def tree_without_past(x: Any) -> Any:
    """The Tensors of a tree, `without_past`; anything else as it is."""
    leaves, treedef = tree.flatten(x, _is_tensor)
    places = [k for k, t in enumerate(leaves) if isinstance(t, Tensor) and t.requires_grad]
    if not places or current.tracer is not None:
        return x
    for k, t in zip(places, without_past([leaves[k] for k in places])):
        leaves[k] = t
    return treedef.unflatten(leaves)


def _is_tensor(x: Any) -> bool:
    return isinstance(x, Tensor)


def fresh(x: Any, what: str) -> Tensor:
    """The argument as a node of its own, so that the gradient by it is not the gradient by other uses of the same Tensor."""
    if isinstance(x, bool) or (isinstance(x, Tensor) and not x.dtype.is_inexact):
        raise GraphError(f"{what} by an argument of type {x.type if isinstance(x, Tensor) else 'bool'}: only floating tensors have gradients", at=user_loc(),
                         fix=".astype(gx.float32), or choose argnums without it")
    x = lift(x)
    if not isinstance(x, Tensor):
        x = from_array(float(x), f32)
    if not x.dtype.is_inexact:
        raise GraphError(f"{what} by an argument of type {x.type}: only floating tensors have gradients", at=user_loc(),
                         fix=".astype(gx.float32), or choose argnums without it")
    if not x.requires_grad and current.tracer is None:
        out = Tensor.from_value(x.numpy(), weak=x.weak)
        out._node = movement.reshape(leaf.input_(name=x.name, shape=x.shape, dtype=x.dtype), shape=x.shape)
    else:
        with enable_grad():
            out = apply(movement.reshape, x, shape=x.shape)
    out._requires_grad = True                           # and no leaf: what is written to it belongs to the function
    if current.tracer is not None:
        current.tracer.active.add(out.node())
    elif out._node is not None:
        eager.values.setdefault(out._node, out._value)
    return out
