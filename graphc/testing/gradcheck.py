"""torch's `gradcheck` and `gradgradcheck`: the whole Jacobian of a function against differences, element by element.

Differences are central, or a complex step: f(x + ih) = f(x) + ih f'(x) + O(h²), whose imaginary part over h = 1e-30 is the derivative to the last digit, for
functions that are arithmetic all through (W. Squire and G. Trapp, 1998). `check_grads` is the cheaper check, along random directions and to any order.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from ..core.dtype import f64
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import TensorType
from ..ir.node import Node
from ..ir.walk import topo
from ..trace import checks, tree
from ..trace.broadcast import as_tensor
from ..trace.derivatives import jacfwd, jacrev, vjp
from ..trace.tape import no_grad
from ..trace.tensor import Tensor
from .differences import ANALYTIC

Array = np.ndarray[Any, Any]
Method = Literal["central", "complex step"]
H = 1e-30                                               # of the complex step: its square is nothing beside 1
SMOOTH = frozenset({"neg", "exp", "expm1", "log", "log2", "log1p", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "tanh", "add", "sub", "mul", "div",
                    "where", "cast", "stop_gradient", "get", "barrier", *ANALYTIC})
NUMBERS = frozenset({"lt", "le", "eq", "ne", "isfinite", "isnan", "floor", "ceil", "round", "sign", "argmax", "argmin"})      # of the real part: flat


class GradcheckError(GraphError):
    """A derivative is not what differences say."""


def gradcheck(func: Callable[..., Any], inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3, raise_exception: bool = True,
              nondet_tol: float = 0.0, check_forward_ad: bool = False, check_backward_ad: bool = True, method: Method = "central") -> bool:
    """Whether reverse mode (and forward mode, with check_forward_ad) gives the Jacobian of func at inputs. torch's.

    inputs: a Tensor or a tuple; what is differentiated are the Tensors that require a gradient, and the f64 arrays. Each element must satisfy
    |analytic - numeric| <= atol + rtol |numeric|. If one does not, GradcheckError names it, or the result is False (raise_exception=False). The numeric
    Jacobian is one of central differences with step eps, or exact (method="complex step") where func is arithmetic. func must give the same every time, up to
    nondet_tol. Inputs are f64: differences of f32 have three digits, so they are taken only with an eps of 1e-3 or more.

    >>> import graphc as gx
    >>> gx.gradcheck(lambda x: gx.sin(x) * x, gx.tensor([0.5, 2.0], dtype="f64", requires_grad=True))
    True
    """
    checks.function("gradcheck", func, "gx.gradcheck(f, inputs)")
    args, places = _inputs("gradcheck", inputs, eps)
    try:
        _check(func, args, places, eps, atol, rtol, nondet_tol, check_forward_ad, check_backward_ad, method)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(func: Callable[..., Any], inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
                  raise_exception: bool = True, nondet_tol: float = 0.0, check_fwd_over_rev: bool = False, method: Method = "central", seed: int = 0) -> bool:
    """`gradcheck` of func's own gradient, as a function of inputs and of the cotangents grad_outputs (None: random ones). torch's.

    >>> import graphc as gx
    >>> gx.gradgradcheck(lambda x: gx.sin(x) * x, gx.tensor([0.5, 2.0], dtype="f64", requires_grad=True))
    True
    """
    checks.function("gradgradcheck", func, "gx.gradgradcheck(f, inputs)")
    args, places = _inputs("gradgradcheck", inputs, eps)
    if grad_outputs is None:
        rng = np.random.default_rng(seed)
        given = [Tensor.from_value(np.asarray(rng.standard_normal(o.shape), o.dtype.numpy)) for o in _outputs(func, args)]
    else:
        given = [as_tensor(g) for g in (grad_outputs if isinstance(grad_outputs, (tuple, list)) else [grad_outputs])]
    given = [Tensor.from_value(g.numpy()).requires_grad_() for g in given]

    def gradient(*both: Any) -> tuple[Any, ...]:
        own, cts = list(both[:len(args)]), both[len(args):]

        def some(*xs: Any) -> list[Any]:
            full = list(own)
            for k, x in zip(places, xs):
                full[k] = x
            return _floating(func(*full))
        return tuple(vjp(some, *(own[k] for k in places))[1](list(cts)))

    return gradcheck(gradient, (*args, *given), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception, nondet_tol=nondet_tol,
                     check_forward_ad=check_fwd_over_rev, method=method)


def _inputs(what: str, inputs: Any, eps: float) -> tuple[list[Any], list[int]]:
    """The arguments, and which of them are differentiated."""
    args = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    args = [Tensor.from_value(np.array(a)).requires_grad_() if isinstance(a, np.ndarray) and a.dtype == np.float64 else a for a in args]
    places = [k for k, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad]
    if not places:
        raise GraphError(f"{what}: no input requires a gradient", at=user_loc(), fix="gx.tensor(..., dtype=gx.float64, requires_grad=True)")
    for k in places:
        if args[k].dtype is not f64 and eps < 1e-3:
            raise GraphError(f"{what}: input {k} is {args[k].type}, and differences with eps={eps:g} need f64", at=user_loc(),
                             why="the difference of two f32 numbers that agree to six digits has one", fix="x.double(), or eps=1e-2, atol=1e-2")
    return args, places


def _floating(out: Any) -> list[Tensor]:
    """The results that have derivatives."""
    return [t for t in map(as_tensor, tree.flatten(out, lambda x: isinstance(x, Tensor))[0]) if t.dtype.is_float]


def _outputs(func: Callable[..., Any], args: Sequence[Any]) -> list[Tensor]:
    out = _floating(func(*args))
    if not out:
        raise GraphError("gradcheck of a function without a floating result", at=user_loc())
    return out


def _check(func: Callable[..., Any], args: list[Any], places: list[int], eps: float, atol: float, rtol: float, nondet_tol: float, forward: bool,
           reverse: bool, method: Method) -> None:
    first, second = ([t.numpy() for t in _outputs(func, args)] for _ in range(2))
    for k, (a, b) in enumerate(zip(first, second)):
        if a.shape != b.shape or (a.size and not np.max(np.abs(a - b), initial=0.0) <= nondet_tol):
            raise GradcheckError(f"gradcheck: output {k} is another one when the function is called again", at=user_loc(),
                                 why="random numbers, or a state that it writes", fix="nondet_tol=, or the same key every time")
    if method not in ("central", "complex step"):
        raise GraphError(f"gradcheck: there is no method {method!r}", at=user_loc(), fix='"central" or "complex step"')
    numeric = _by_complex_step(func, args, places, first) if method == "complex step" else _by_differences(func, args, places, first, eps)
    for name, on, jacobian in (("reverse mode", reverse, jacrev), ("forward mode", forward, jacfwd)):
        if on:
            analytic = jacobian(lambda *xs: _floating(func(*xs)), argnums=tuple(places))(*args)
            for i, (row, want) in enumerate(zip(analytic, numeric, strict=True)):
                for k, a, n in zip(places, row, want, strict=True):
                    _compare(name, i, k, args[k], a.numpy(), n, first[i].shape, atol, rtol, method)


def _compare(mode: str, i: int, k: int, x: Tensor, analytic: Array, numeric: Array, out: tuple[int, ...], atol: float, rtol: float, method: str) -> None:
    with np.errstate(invalid="ignore"):
        error = np.abs(analytic - numeric)
        bad = ~((error <= atol + rtol * np.abs(numeric)) | ((analytic == numeric) | (np.isnan(analytic) & np.isnan(numeric))))
    if not bad.any():
        return
    worst = np.unravel_index(np.argmax(np.where(bad, np.nan_to_num(error, nan=np.inf), -1.0)), error.shape)
    o, at = worst[:len(out)], worst[len(out):]
    name = f" ({x.name})" if x.name else ""
    what = f"d output {i}{_index(o)} / d input {k}{name}{_index(at)}"
    raise GradcheckError(f"gradcheck: {what} is {analytic[worst]:.10g} by {mode}, and {numeric[worst]:.10g} by "
                         f"{'a complex step' if method == 'complex step' else 'differences'}", at=user_loc(),
                         why=f"{int(bad.sum())} of {bad.size} elements of this Jacobian differ by more than atol={atol:g} + rtol={rtol:g} |numeric|")


def _index(at: Sequence[Any]) -> str:
    return f"[{', '.join(str(int(a)) for a in at)}]" if at else ""


# ---- numeric Jacobians -----------------------------------------------------------------------------------------------------------------


def _jacobian(args: Sequence[Any], places: Sequence[int], like: Sequence[Array],
              column: Callable[[int, tuple[int, ...]], Sequence[Array]]) -> list[list[Array]]:
    """For each output and each input an array (*of the output, *of the input), from its columns."""
    out = [[np.empty((*y.shape, *args[k].shape)) for k in places] for y in like]
    for j, k in enumerate(places):
        for at in np.ndindex(*args[k].shape):
            place = (Ellipsis, *at)
            for i, d in enumerate(column(k, at)):
                out[i][j][place] = d
    return out


def _by_differences(func: Callable[..., Any], args: list[Any], places: list[int], like: Sequence[Array], eps: float) -> list[list[Array]]:
    def moved(k: int, at: tuple[int, ...], step: float) -> list[Array]:
        x = args[k].numpy()
        x[at] += step
        with no_grad():
            return [t.numpy().astype(np.float64) for t in _floating(func(*args[:k], Tensor.from_value(x), *args[k + 1:]))]
    return _jacobian(args, places, like, lambda k, at: [(b - a) / (2 * eps) for a, b in zip(moved(k, at, -eps), moved(k, at, eps))])


def _by_complex_step(func: Callable[..., Any], args: list[Any], places: list[int], like: Sequence[Array]) -> list[list[Array]]:
    from ..driver import compile
    flat = [args[k].detach() for k in places]

    def of_places(*xs: Any) -> Any:
        full = list(args)
        for k, x in zip(places, xs):
            full[k] = x
        with no_grad():
            return tuple(_floating(func(*full)))
    traced = compile(of_places, backend="numpy").lower(*flat).traced
    states = {s.read: storage.array for s, storage in zip(traced.graph.states, traced.storages)}

    def column(k: int, at: tuple[int, ...]) -> Iterator[Array]:
        values: dict[Node, Any] = dict(states)
        for j, leaf in zip(places, traced.graph.inputs):
            x = args[j].numpy().astype(np.complex128)
            if j == k:
                x[at] += 1j * H
            values[leaf] = x
        return (np.imag(v) / H for v in _complex(traced.graph.outputs, values))
    return _jacobian(args, places, like, lambda k, at: list(column(k, at)))


def _complex(roots: Sequence[Node], values: dict[Node, Any]) -> list[Any]:
    """The values of nodes, computed with complex numbers below the ops that are analytic."""
    for n in topo(roots, stop=values):
        if n in values:
            continue
        operands = [values[i] for i in n.inputs]
        if any(np.iscomplexobj(v) for v in operands):
            if n.op.name in NUMBERS or (n.op.name == "cast" and not n.tensor.dtype.is_float):
                operands = [np.real(v) for v in operands]
            elif n.op.name == "cast":
                values[n] = operands[0]
                continue
            elif n.op.name not in SMOOTH and n.op.family not in ("movement", "contract"):
                raise GraphError(f"gradcheck: {n.op} computes with no complex numbers", op=n.op, at=user_loc(),
                                 why="it is no analytic function of its operands", fix='method="central"')
        with np.errstate(all="ignore"):
            values[n] = n.op.numpy(*operands, **n.attrs) if isinstance(n.type, TensorType) else _refuse(n)
    return [values[r] for r in roots]


def _refuse(n: Node) -> Any:
    raise GraphError(f"gradcheck: {n.op} computes with no complex numbers", op=n.op, at=user_loc(), fix='method="central"')
