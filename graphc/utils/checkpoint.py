"""torch.utils.checkpoint: `gx.checkpoint` as a call."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..core.errors import GraphError
from ..core.loc import user_loc
from ..trace.remat import checkpoint as _checkpoint


def checkpoint(function: Callable[..., Any], *args: Any, use_reentrant: bool | None = None, preserve_rng_state: bool = True, **kwargs: Any) -> Any:
    """function(*args, **kwargs), computed again in the backward pass instead of kept. The two options are taken and ignored: random masks are the same again.

    >>> import graphc as gx
    >>> from graphc.utils.checkpoint import checkpoint
    >>> gx.grad(lambda x: checkpoint(lambda x: gx.sin(gx.sin(x)), x, use_reentrant=False))(0.0).item()
    1.0
    """
    return _checkpoint(function)(*args, **kwargs)


def checkpoint_sequential(functions: Any, segments: int, input: Any, **kwargs: Any) -> Any:
    """A Sequential, or a list of functions, in so many segments: between them values are kept, and inside all but the last computed again."""
    layers = list(functions.children()) if hasattr(functions, "children") else list(functions)
    if not isinstance(segments, int) or isinstance(segments, bool) or not 1 <= segments <= max(len(layers), 1):
        raise GraphError(f"checkpoint_sequential: {segments!r} segments of {len(layers)} functions", at=user_loc(),
                         fix=f"a whole number from 1 to {len(layers)}")
    size = len(layers) // segments
    for k in range(segments - 1):
        input = checkpoint(_chain(layers[k * size:(k + 1) * size]), input, **kwargs)
    return _chain(layers[(segments - 1) * size:])(input)


def _chain(layers: Sequence[Callable[..., Any]]) -> Callable[[Any], Any]:
    def run(x: Any) -> Any:
        for f in layers:
            x = f(x)
        return x
    return run
