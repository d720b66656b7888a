"""JAX's words for gradients: `grad` and `value_and_grad` take a function and give one. They nest, eagerly and in a trace."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from ..core.dtype import f32
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ops import leaf, movement
from . import tree
from .apply import apply
from .autograd import pull
from .broadcast import from_array, lift
from .tape import current, differentiated, eager, enable_grad
from .tensor import Tensor
from .tracer import phase


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The function that gives (f(x), df/dx): the gradient has the tree of the argument (or a tuple of them for several argnums).

    f returns a floating scalar, with has_aux=True a pair (scalar, anything else). Works eagerly, inside a trace, and on its own result.
    """
    @wraps(f, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        picked = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        args_list = list(args)
        trees = []
        own: list[Tensor] = []
        for k in picked:
            if not -len(args) <= k < len(args):
                raise GraphError(f"grad by argument {k} of {len(args)}", at=user_loc(), fix=f"argnums from 0 to {len(args) - 1}; keywords have no number")
            leaves, treedef = tree.flatten(args_list[k])
            mine = [fresh(x, "grad") for x in leaves]
            trees.append((treedef, len(mine)))
            own += mine
            args_list[k] = treedef.unflatten(mine)
        with differentiated():
            out = f(*args_list, **kwargs)
        with enable_grad():
            out, aux = out if has_aux else (out, None)
            if not isinstance(out, Tensor) or out.shape != () or not out.dtype.is_inexact:
                got = out.type if isinstance(out, Tensor) else type(out).__name__
                raise GraphError(f"grad needs a function that returns a floating scalar, got {got}", at=user_loc(), fix=".mean() or .sum() of what it returns")
            with phase("backward"):
                if current.tracer is not None:
                    current.tracer.here()
                grads = pull([out.node()], [leaf.splat(1.0, out.type.cotangent)], [x.node() for x in own], True)
        parts, at = [], 0
        for treedef, n in trees:
            parts.append(treedef.unflatten(grads[at:at + n]))
            at += n
        result = parts[0] if isinstance(argnums, int) else tuple(parts)
        return ((out, aux), result) if has_aux else (out, result)
    return wrapped


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The gradient of a scalar function by its argument(s): `gx.grad(f)(x)`; nest it for higher orders. See `value_and_grad`.

    >>> import graphc as gx
    >>> gx.grad(gx.grad(lambda x: x ** 3))(2.0).item()
    12.0
    """
    both = value_and_grad(f, argnums, has_aux)

    @wraps(f, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g
    return wrapped


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
    else:
        with enable_grad():
            out = apply(movement.reshape, x, shape=x.shape)
    out._requires_grad = True
    if current.tracer is not None:
        current.tracer.active.add(out.node())
    elif out._node is not None:
        eager.values.setdefault(out._node, out._value)
    return out
