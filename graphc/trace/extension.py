"""torch's `autograd.Function`: forward and backward as static methods of a class, on the one mechanism of `custom`.

As everywhere, both are traced once and become graph. What forward leaves on `ctx` (saved tensors, and attributes of any kind) is there in backward, and a
second derivative goes through it and through backward, so it is right also where torch asks for saved results to be returned.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..core.errors import GraphError
from ..core.loc import user_loc
from . import tree
from .custom import LEVELS, asks, closed, is_tensor, residual, strong, with_backward, within
from .tensor import Tensor
from .tracer import depends


class FunctionCtx:
    """What forward tells backward. Attributes are free: `ctx.k = 3`."""

    def __init__(self, needs_input_grad: tuple[bool, ...] = ()) -> None:
        self.needs_input_grad = needs_input_grad
        self._saved: tuple[Any, ...] = ()
        self._constant: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Tensors that backward finds in `ctx.saved_tensors`."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise GraphError(f"save_for_backward of a {type(t).__name__}", at=user_loc(), fix="only tensors, or None; anything else is an attribute of ctx")
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What `save_for_backward` was given."""
        return self._saved

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Results that have no gradient."""
        self._constant += outputs

    def set_materialize_grads(self, value: bool) -> None:
        """Taken and ignored: a cotangent that is not there is zeros, which the compiler knows."""

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Refused: there are no views, so nothing is changed in place."""
        raise GraphError("mark_dirty: a Function changes no argument in place", at=user_loc(), fix="return the new value")


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator for backward (below @staticmethod): a second derivative through it is an error, and not a wrong number."""
    @functools.wraps(backward)
    def wrapped(*args: Any) -> Any:
        return backward(*args)
    wrapped._once_differentiable = True                 # type: ignore[attr-defined]
    return wrapped


class Function:
    """A function with a derivative of its own; call it by `apply`. torch's.

    forward(ctx, *args) computes, and saves what backward needs; or forward(*args) does, and setup_context(ctx, inputs, output) saves. backward(ctx, *gs)
    has a cotangent for each result (zeros where nothing depends on it) and returns one for each argument, None for what is no tensor.

    >>> import graphc as gx
    >>> class Exp(gx.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         y = gx.exp(x)
    ...         ctx.save_for_backward(y)
    ...         return y
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         y, = ctx.saved_tensors
    ...         return g * y
    >>> gx.grad(gx.grad(Exp.apply))(0.0).item()
    1.0
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """To be written: the value."""
        raise GraphError("this Function has no forward", at=user_loc(), fix="@staticmethod def forward(ctx, ...)")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """To be written: the cotangents of the arguments."""
        raise GraphError("this Function has no backward", at=user_loc(), fix="@staticmethod def backward(ctx, grad_output)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The value of forward, with backward for its derivative."""
        if "_self" not in cls.__dict__:
            cls._self = cls()                           # type: ignore[attr-defined]
        depends(cls._self)                              # type: ignore[attr-defined]
        places = [k for k, a in enumerate(args) if isinstance(a, Tensor)]
        tensors = [args[k] for k in places]
        needs = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        if not asks(tensors) or within(cls) >= LEVELS:
            return _run(cls, FunctionCtx(needs), args)
        name = cls.__name__

        def run(*xs: Tensor) -> tuple[Any, ...]:
            given = list(args)
            for k, x in zip(places, xs):
                given[k] = x
            ctx = FunctionCtx(needs)
            out = _run(cls, ctx, given)
            several = isinstance(out, tuple)
            values = list(out) if several else [out]
            where = [k for k, v in enumerate(values) if isinstance(v, Tensor)]
            constant = [any(values[k] is c for c in ctx._constant) for k in where]
            left, left_tree = tree.flatten(vars(ctx), is_tensor)
            nodes = [strong(values[k]).node() for k in where]
            return values, several, where, constant, nodes, [residual(x) for x in left], left_tree
        body = closed([t.type for t in tensors], run, [t.weak for t in tensors], owner=cls)
        values, several, where, constant, outs, left, left_tree = body.result
        if not where:
            raise GraphError(f"{name}.forward returns no tensor", at=user_loc(), fix="return a tensor, or a tuple of them")

        def pull(kept: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
            ctx = FunctionCtx()
            vars(ctx).update(left_tree.unflatten(kept))
            given: list[Any] = [None] * len(values)
            for k, c in zip(where, cts):
                given[k] = c
            got = cls.backward(ctx, *given)
            got = got if isinstance(got, tuple) else (got,)
            if len(got) < len(args) or any(g is not None for g in got[len(args):]):
                raise GraphError(f"{name}.backward returns a gradient for each of {len(args)} arguments, got {len(got)}", at=user_loc(),
                                 fix="None for an argument that has none")
            for k, g in enumerate(got[:len(args)]):
                if g is not None and k not in places:
                    raise GraphError(f"{name}.backward gives a gradient for argument {k}, which is a {type(args[k]).__name__}", at=user_loc(), fix="None there")
            return [got[k] for k in places]
        once = getattr(cls.backward, "_once_differentiable", False)
        found = with_backward(name, tensors, body, outs, left, pull, zeros=True, once=once, owner=cls)
        for k, t, fixed in zip(where, found, constant):
            values[k] = t.detach() if fixed else t
        return tuple(values) if several else values[0]


def _run(cls: type[Function], ctx: FunctionCtx, args: Sequence[Any]) -> Any:
    setup = getattr(cls, "setup_context", None)
    if setup is None:
        return cls.forward(ctx, *args)
    out = cls.forward(*args)
    setup(ctx, tuple(args), out)
    return out


__all__ = ["Function", "FunctionCtx", "once_differentiable"]
