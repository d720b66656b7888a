"""Effects in a trace: functions of Python's that do something besides computing, in program order. Each takes the trace's token and gives the next one."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core import half
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import TupleType
from ..interp.numpy import evaluate
from ..ops import effect
from ..ops.tuples import get
from .apply import concrete, stopped, wrap
from .broadcast import from_array
from .callback import Callback, named, operands, result_types
from .tape import current, eager
from .tensor import Tensor
from .tracer import BODY_NAMES


def io_callback(callback: Callable[..., Any], result_shape_dtypes: Any, *args: Any, ordered: bool = True, **kwargs: Any) -> Any:
    """The value of `callback(*args, **kwargs)`, which may do more than compute: it is called once in each call of the step, used or not. JAX's.

    Arguments and results are those of `pure_callback`. The effects of a step happen in the order of the program, so `ordered` changes nothing. They happen
    while it runs, before any state has changed: what comes behind may still fail. Not inside the bodies of loops, branches and vmap, nor in rules of
    derivatives.

    >>> import numpy as np, graphc as gx
    >>> rng = np.random.default_rng(0)
    >>> f = gx.compile(lambda x: x + gx.io_callback(lambda: rng.integers(10, size=2), gx.Spec((2,), gx.int64)))
    >>> f(np.array([100, 200])).tolist(), f(np.array([100, 200])).tolist()
    ([108, 206], [105, 202])
    """
    return _done("io_callback", callback, result_shape_dtypes, args, kwargs)


def debug_callback(callback: Callable[..., Any], *args: Any, ordered: bool = True, **kwargs: Any) -> None:
    """Call `callback(*args, **kwargs)` for what it does: to look, log or draw. JAX's `debug.callback`. What it returns is thrown away; see `io_callback`.

    >>> import numpy as np, graphc as gx
    >>> seen = []
    >>> step = gx.compile(lambda x: gx.debug_callback(seen.append, x.sum()))
    >>> step(np.array([1.0, 2.0])), step(np.array([3.0, 4.0])), [float(x) for x in seen]
    (None, None, [3.0, 7.0])
    """
    _done("debug_callback", callback, None, args, kwargs)


def debug_print(label: str, x: Any) -> None:
    """Write a label and a tensor to standard output; in a compiled function, in every call. Several prints come out in the order of the program.

    >>> debug_print("x = ", 1.5)
    x = 1.5
    """
    def prints(value: Any) -> None:
        print(f"{label}{half.plain(value)}")
    prints.__name__ = f"print {label}".strip()
    _done("debug_print", prints, None, (x if isinstance(x, Tensor) else from_array(x),), {})


def _done(what: str, callback: Callable[..., Any], result_shape_dtypes: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = named(what, callback)
    tensors, takes = operands(args, kwargs)
    types, gives = result_types(f"{what} of {name}", result_shape_dtypes, tensors)
    function = Callback(name, callback, takes, [t.dtype for t in tensors], None if what == "debug_callback" else gives, [t.dtype for t in types], user_loc())
    results, asks = TupleType(tuple(types)), current.grad and any(t.requires_grad for t in tensors)
    tracer = current.tracer
    if tracer is None:
        node = effect.io_callback(effect.token(), *(t.node() for t in tensors), function=function, results=results)
        (values,) = evaluate([node], {i: None if i.op is effect.token else eager.values[i] for i in node.inputs})
        if asks:
            eager.values[node] = values
        return gives.unflatten([concrete(get(node, index=k), v, Tensor, asks) for k, v in enumerate(values[:-1])])
    if tracer.is_body:
        where = {"loop": "a loop body"}.get(tracer.body, BODY_NAMES[tracer.body])
        raise GraphError(f"{what} inside {where}", at=user_loc(), why="the body is pure: it is traced once, and has no order of its own",
                         fix="return the value among the results, and hand it over outside" + "; or gx.pure_callback" * bool(types))
    tracer.here()
    before = tracer.effects[0] if tracer.effects else effect.token()
    nodes = stopped(tracer, tensors)
    node = effect.io_callback(before, *nodes, function=function, results=results)
    *parts, after = [get(node, index=k) for k in range(len(types) + 1)]
    if not tracer.active.isdisjoint(nodes):
        tracer.active.update((node, *parts))
    tracer.effects = (after,)
    return gives.unflatten([wrap(p, Tensor, asks, False) for p in parts])
