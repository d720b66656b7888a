"""Effects in a trace: what a step does besides computing, in program order. Each takes the trace's token and gives the next one."""
from __future__ import annotations

from typing import Any

from ..core import half
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..ops.effect import print_, token
from .broadcast import from_array
from .tape import current
from .tensor import Tensor


def debug_print(label: str, x: Any) -> None:
    """Write a label and a tensor to standard output; in a compiled function, on every call, once the step has run.

    Several prints come out in the order of the program. A call that fails prints nothing from native code.

    >>> debug_print("x = ", 1.5)
    x = 1.5
    """
    tracer = current.tracer
    value = x if isinstance(x, Tensor) else from_array(x)
    if tracer is None:
        print(f"{label}{half.plain(value.numpy())}")
        return
    if tracer.is_body:
        where = "vmap" if tracer.body == "vmap" else "a loop body"
        raise GraphError(f"debug_print inside {where}", at=user_loc(), why="the body is pure: it is traced once, and has no order of its own",
                         fix="return the value among the results, and print it outside")
    tracer.here()
    before = tracer.effects[0] if tracer.effects else token()
    tracer.effects = (print_(before, value.node(), label=str(label)),)
