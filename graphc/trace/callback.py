"""`pure_callback`: a function of Python's as an operator, with JAX's words. It runs as it is, on NumPy arrays, whenever the value is needed.

Nothing is known of such a function but what it says it gives. So its derivative is the user's to write (`custom_vjp`, `autograd.Function`), and so is how it
takes a batch (`vmap_method`). What is traced is a node that holds the function; a compiled step calls it back (`graphc.host`).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import CodeType
from typing import Any

import numpy as np

from ..core import half
from ..core.dtype import DType, from_numpy
from ..core.errors import GraphError
from ..core.loc import Loc, user_loc
from ..core.types import TensorType, TupleType
from ..ir.host import Host
from ..ops import effect
from . import tree
from .apply import apply_several
from .custom import is_tensor, strong
from .guards import code_of
from .spec import Spec
from .tape import current
from .tensor import Tensor

METHODS = ("sequential", "expand_dims", "broadcast_all")


def pure_callback(callback: Callable[..., Any], result_shape_dtypes: Any, *args: Any, vmap_method: str | None = None, **kwargs: Any) -> Any:
    """The value of `callback(*args, **kwargs)`, which runs in Python, on NumPy arrays, eagerly and inside a compiled step. JAX's.

    args and kwargs are trees of tensors; the callback gets the same trees of arrays. These are copies: it may keep or change them. It returns a tree like
    `result_shape_dtypes`, whose leaves are anything with a shape and a dtype (`gx.Spec`, arrays, Tensors); a size may be symbolic, if an argument has it.
    What it returns is checked: another shape, dtype or tree is a GraphError. Numbers and lists take the dtype that is asked for.

    The callback must be pure: its results depend on its arguments alone. It is called where its value is needed, and only if it is; calls of one
    function on the same arguments may become one, and a loop's body or a backward pass may call it again. An exception that it raises ends the step
    and reaches the caller, and no state has changed. It may call compiled functions, but not the one that is calling it. In a step with threads it runs on the
    thread that called the step, and the others wait.

    It has no derivative: wrap it in `gx.custom_vjp`, `gx.custom_jvp` or `gx.autograd.Function`. Under `vmap` there are three ways: "sequential" calls it for
    each example, "expand_dims" once for all (what has no batch gets an axis of size 1 in front), "broadcast_all" once, with the batch's axis everywhere.

    >>> import numpy as np, graphc as gx
    >>> f = gx.compile(lambda x: 2 * gx.pure_callback(np.sort, x, x))
    >>> f(np.array([3.0, 1.0, 2.0])).tolist()
    [2.0, 4.0, 6.0]
    """
    name = named("pure_callback", callback)
    if vmap_method is not None and vmap_method not in METHODS:
        raise GraphError(f"pure_callback of {name}: there is no vmap_method {vmap_method!r}", at=user_loc(), fix=" or ".join(map(repr, METHODS)))
    tensors, takes = operands(args, kwargs)
    types, gives = result_types(f"pure_callback of {name}", result_shape_dtypes, tensors)
    function = Callback(name, callback, takes, [t.dtype for t in tensors], gives, [t.dtype for t in types], user_loc())
    more = {} if vmap_method is None else {"vmap_method": vmap_method}
    return gives.unflatten(apply_several(effect.pure_callback, *tensors, function=function, results=TupleType(tuple(types)), **more))


class Callback(Host):
    """A function of the user's, the trees that it takes and gives (None: nobody looks at what), and its element types: what it was written for, whatever a
    judge evaluates in."""

    __slots__ = ("function", "gives", "loc", "operands", "plain", "results", "takes")

    def __init__(self, name: str, function: Callable[..., Any], takes: tree.TreeDef, operands: Sequence[DType], gives: tree.TreeDef | None,
                 results: Sequence[DType], loc: Loc | None) -> None:
        super().__init__(name)
        self.function, self.takes, self.operands, self.gives, self.results, self.loc = function, takes, tuple(operands), gives, tuple(results), loc
        self.plain = all(t.kind is None for t in takes.children[0].children) and not takes.children[1].children      # arguments that are arrays

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Callback) and self.function is other.function and (self.takes, self.gives) == (other.takes, other.gives)

    def __hash__(self) -> int:
        return id(self.function)

    @property
    def code(self) -> CodeType | None:
        return code_of(self.function)

    def __call__(self, arrays: Sequence[Any], results: Sequence[TensorType]) -> list[Any]:
        copies = [np.array(a) if a.dtype == d.numpy else np.array(half.astype(a, d)) for a, d in zip(map(np.asarray, arrays), self.operands, strict=True)]
        args, kwargs = (copies, {}) if self.plain else self.takes.unflatten(copies)
        try:
            value = self.function(*args, **kwargs)
        except BaseException as e:
            _note(e, f"graphc: in the callback {self.name}, called at {self.loc}")
            raise
        given = [] if self.gives is None else list(self._leaves(value, self.gives, ""))
        return [self._checked(v, path, t, d) for (v, path), t, d in zip(given, results, self.results, strict=True)]

    def _leaves(self, value: Any, like: tree.TreeDef, path: str) -> Iterator[tuple[Any, str]]:
        """What the function gave in the places of the results."""
        if like.kind is None:
            yield value, path
        elif like.kind is type(None):
            if value is not None:
                raise self._wrong(f"{path} " * bool(path) + f"is a {type(value).__name__}, and should be None")
        else:
            parts = tree.parts(value, like)
            if parts is None:
                got = f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (tuple, list, dict)) else "")
                keys = f" with {', '.join(map(str, like.keys))}" if like.keys else f" of {len(like.children)}"
                raise self._wrong(f"{path} " * bool(path) + f"is {got}, and should be a {like.kind.__name__}{keys}")
            for name, part, child in zip(tree.places(like, path), parts, like.children):
                yield from self._leaves(part, child, name)

    def _checked(self, value: Any, path: str, t: TensorType, dtype: DType) -> Any:
        """The array that the function gave for a result, as the type says it is."""
        if type(value) is np.ndarray and value.dtype == t.dtype.numpy and dtype is t.dtype and value.shape == t.shape:
            return value
        value = value.numpy() if isinstance(value, Tensor) else value
        where = f"{path} " * bool(path)
        try:
            array = half.own(np.asarray(value))
        except (TypeError, ValueError, Warning) as e:                   # a ragged list; NumPy 1 warns
            raise self._wrong(f"{where}is a {type(value).__name__} that is no array: {e}") from None
        loose = isinstance(value, np.generic) or not hasattr(value, "dtype")
        if loose and np.can_cast(array.dtype, np.float32 if dtype.is_half else dtype.numpy, "same_kind"):
            array = half.astype(array, dtype)                           # a number or a list has no type of its own (f32 * 2 is f64 for NumPy 1)
        if array.shape != t.static_shape or from_numpy(array.dtype) is not dtype:
            got = from_numpy(array.dtype)
            want = TensorType(t.shape, dtype)
            raise self._wrong(f"{where}is {TensorType(array.shape, got) if got is not None else f'of {array.dtype}'}, and should be {want}",
                              f"return y.astype({array.dtype.type.__name__ if got is None else np.dtype(dtype.numpy).name!r})"
                              if array.shape == t.static_shape else None)
        return half.astype(array, t.dtype)

    def _wrong(self, what: str, fix: str | None = None) -> GraphError:
        return GraphError(f"the result {what}" if what.startswith("is") else f"result{what}", op=f"the callback {self.name}", at=self.loc,
                          why="that is what result_shape_dtypes says", fix=fix)


def _note(e: BaseException, text: str) -> None:
    """A line below the exception's own, where Python has such (from 3.11 on)."""
    add = getattr(e, "add_note", None)
    if add is not None:
        add(text)


def named(what: str, callback: Any) -> str:
    """How a callback is called in texts."""
    if not callable(callback):
        raise GraphError(f"{what} of a {type(callback).__name__}, which is no function", at=user_loc())
    inner = getattr(callback, "func", callback)
    return str(getattr(inner, "__name__", type(inner).__name__))


def operands(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Tensor], tree.TreeDef]:
    """The tensors among the arguments of a callback, and the tree that it wants them in."""
    leaves, takes = tree.flatten((args, kwargs), is_tensor)
    return [strong(x) for x in leaves], takes


def result_types(what: str, result_shape_dtypes: Any, tensors: Sequence[Tensor]) -> tuple[list[TensorType], tree.TreeDef]:
    """The types of the results of a callback, and the tree that they come in."""
    leaves, gives = tree.flatten(result_shape_dtypes, is_tensor)
    types = [_type(what, x, path) for x, path in zip(leaves, tree.paths(gives, "result_shape_dtypes"))]
    unknown = {d for t in types for d in t.dims} - {d for t in tensors for d in t.type.dims}
    if unknown and current.tracer is not None:
        unknown -= {d for n in current.tracer.recorder.info if n.op.name == "input" for d in n.tensor.dims}
    if unknown:
        raise GraphError(f"{what} gives {', '.join(map(str, types))}, and no argument has the size {', '.join(sorted(unknown))}", at=user_loc(),
                         why="the shape of a result is known before the callback runs", fix="sizes that are numbers, or those of arguments")
    return types, gives


def _type(what: str, x: Any, path: str) -> TensorType:
    if isinstance(x, (Spec, Tensor)):
        return x.type
    shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
    if shape is None or dtype is None:
        raise GraphError(f"{what}: {path} is a {type(x).__name__}, which has no shape and dtype", at=user_loc(), fix="gx.Spec((3, 4), gx.float32), or an array")
    return Spec(tuple(shape), dtype).type
