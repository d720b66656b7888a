"""Tensor: a concrete array or a node of the current trace, in one class.

Eager mode is tracing with immediate evaluation: a Tensor outside of a trace has a NumPy value and, where gradients are wanted, a node whose
past is the tape. What the operators and methods *do* (broadcasting, promotion, softmax) is in `graphc.array`, which sits above and hands
itself over through `provide`; this file knows the data.
"""
from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ..core import half
from ..core.dtype import DType, bool_, from_numpy
from ..core.errors import GraphError, GraphTypeError
from ..core.loc import user_loc
from ..core.types import TensorType
from ..ir.node import Node
from ..ops import elementwise, leaf
from .guards import bump, gradients
from .methods import Methods, function, functions
from .storage import Array, Storage
from .tape import HookFn, current, eager, no_grad
from .tracer import BODY_NAMES

T = TypeVar("T", bound="Tensor")


class GradCell:
    """The .grad of a leaf between calls."""

    __slots__ = ("status", "storage", "tensor")

    def __init__(self) -> None:
        self.tensor: Tensor | None = None
        self.storage: Storage | None = None             # once a compiled function reads and writes it in place
        self.status = "none"                            # "none", "value", or "inside": it lives only inside a compiled step

    def become(self, tensor: Tensor | None, status: str) -> None:
        """Between calls, every change of a .grad is one of these: steps that look at it compare the count first."""
        self.tensor, self.status = tensor, status
        gradients.count += 1


class Hook:
    """A registered hook; `remove()` takes it away."""

    def __init__(self, table: dict[int, HookFn], owner: Tensor) -> None:
        self._table, self._owner, self._key = table, owner, max(table, default=0) + 1

    def remove(self) -> None:
        """Take the hook away; a second time does nothing."""
        if self._table.pop(self._key, None) is not None:
            bump(self._owner)


class Tensor(Methods):
    """An array of numbers with a gradient: concrete (it has a value) or traced (it is a node of a graph being built).

    Made by functions (`gx.tensor`, `gx.zeros`, `gx.randn`), never by calling the class. Concrete Tensors convert with `numpy()`.
    """

    result_type: type[Tensor]                           # the class of what an operation on this class gives; compat layers set their own
    __array_priority__ = 1000.0

    def __init__(self) -> None:
        self._type: TensorType
        self._node: Node | None = None
        self._value: Array | None = None
        self._tracer: Any = None
        self._storage: Storage | None = None
        self._version = -1                              # of the storage when _node was made
        self._requires_grad = False
        self._weak = False
        self._grad: GradCell | None = None
        self._hooks: dict[int, HookFn] = {}
        self._epoch = 0
        self.name = ""

    # ---- making ------------------------------------------------------------------------------------------------------------------

    @classmethod
    def _blank(cls: type[T], t: TensorType, requires_grad: bool = False) -> T:
        self = cls.__new__(cls)
        Tensor.__init__(self)
        self._type, self._requires_grad = t, requires_grad
        return self

    @classmethod
    def from_value(cls: type[T], value: Array, *, weak: bool = False) -> T:
        """A concrete Tensor that holds the array itself (of a dtype graphc has, in native byte order)."""
        dtype = from_numpy(value.dtype)
        assert dtype is not None, value.dtype
        self = cls._blank(TensorType(value.shape, dtype))
        self._value, self._weak = value, weak
        return self

    @classmethod
    def from_node(cls: type[T], node: Node, *, requires_grad: bool = False, weak: bool = False) -> T:
        """A Tensor of the current trace."""
        self = cls._blank(node.tensor, requires_grad)
        self._node, self._tracer, self._weak = node, current.tracer, weak
        return self

    @classmethod
    def from_storage(cls: type[T], storage: Storage) -> T:
        """A Tensor that is the storage's value: read and written by traces."""
        self = cls._blank(storage.type)
        self._storage, self.name = storage, storage.name
        return self

    @classmethod
    def with_storage(cls: type[T], storage: Storage, requires_grad: bool = False) -> T:
        """A new leaf with memory of its own: a parameter or a buffer. Not inside a trace."""
        if current.tracer is not None:
            raise GraphError(f"a parameter {storage.type} is made inside the trace", at=user_loc(),
                             why="the traced function runs once, so its parameters would be forgotten after the call",
                             fix="make the module or parameter outside of the compiled function")
        if requires_grad and not storage.dtype.is_inexact:
            raise _no_integer_gradient(storage.type)
        self = cls.from_storage(storage)
        self._requires_grad = requires_grad
        return self

    # ---- what it is --------------------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[Any, ...]:
        """Sizes: ints, and Dims where they are symbolic."""
        return self._type.shape

    @property
    def dtype(self) -> DType:
        return self._type.dtype

    @property
    def ndim(self) -> int:
        return len(self._type.shape)

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def weak(self) -> bool:
        """A run-time number: it meets arrays as a Python scalar does, and never widens them."""
        return self._weak

    @property
    def is_traced(self) -> bool:
        return self._tracer is not None

    @property
    def is_leaf(self) -> bool:
        """Not the result of an operation that gradients flow through."""
        if self._storage is not None or not self._requires_grad:
            return True
        return self._node is None or self._node in self._tape().leaves

    @property
    def storage(self) -> Storage | None:
        return self._storage

    def _structure(self) -> tuple[Any, ...]:
        """What a trace that reads this leaf depends on. Freezing and unfreezing comes back to the former trace."""
        return self._requires_grad, self._storage, tuple(self._hooks.values())

    def rehouse(self, storage: Storage) -> None:
        """Let this leaf live in another storage, of another element type perhaps, from now on. Its gradient is forgotten; traces that met it are stale."""
        self._storage, self._type, self._value = storage, storage.type, None
        self._node, self._version, self._grad = None, -1, None
        bump(self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d Tensor")
        return int(self.shape[0])

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise TypeError("iteration over a 0-d Tensor")
        if not isinstance(self.shape[0], int):
            raise GraphError(f"a loop over the symbolic size {self.shape[0]} has no fixed length", at=user_loc(), fix="gx.scan, or a fixed size")
        return iter([self[i] for i in range(self.shape[0])])

    # ---- value and node ----------------------------------------------------------------------------------------------------------

    def _tape(self) -> Any:
        return self._tracer if self._tracer is not None else eager

    def _leaked(self) -> GraphError:
        place, _, one = _place(self)
        return GraphError(f"a traced value ({self._describe()}) is used outside of the trace that made it", op=self._op_name(), at=user_loc(),
                          why=f"it stands for a number of one {one}; it was kept in a global, an attribute or a list",
                          fix=f"return it from {place}" + (", or keep it as a state (a buffer and copy_)" if place == "the compiled function" else ""))

    def _describe(self) -> str:
        return f"{self.name}: {self._type}" if self.name else str(self._type)

    def _op_name(self) -> str | None:
        return None if self._node is None or self._node.op is leaf.input_ else self._node.op.name

    def node(self) -> Node:
        """The node that stands for this Tensor here and now: in the current trace, or on the eager tape."""
        tracer = current.tracer
        if tracer is not None:
            return self._traced_node(tracer)
        if self._tracer is not None:
            raise self._leaked()
        if self._storage is not None:
            if self._node is None or self._version != self._storage.version:
                self._node, self._version = self._fresh(self._storage.numpy()), self._storage.version
        elif self._node is None:
            assert self._value is not None
            self._node = self._fresh(self._value)
        return self._node

    def _fresh(self, value: Array) -> Node:
        node = leaf.input_(name=self.name, shape=self._type.shape, dtype=self._type.dtype)
        eager.values[node] = value
        if self._requires_grad:
            eager.leaves[node] = weakref.ref(self)
            if self._hooks:
                eager.hooks[node] = self._hooks
        return node

    def _traced_node(self, tracer: Any) -> Node:
        if self._tracer is tracer:
            assert self._node is not None
            return self._node
        if self._tracer is not None and not (self._tracer.alive and self._tracer.encloses(tracer)):
            raise self._leaked()
        if self._weak and self._tracer is None and self._storage is None:
            return leaf.const(value=np.asarray(self._value)[()], shape=(), dtype=self.dtype)
        node: Node = tracer.capture(self) if tracer.is_body else tracer.read(self._own_storage(), self)
        return node

    def _own_storage(self) -> Storage:
        """Concrete Tensors become states of the traces that use them, so that a trace reads their value at every call."""
        if self._storage is None:
            if self._node is not None and self._node.inputs and self._requires_grad:
                raise GraphError(f"{self._describe()} is the result of eager operations whose gradient a trace cannot see", at=user_loc(),
                                 why="a compiled function is run as a whole, and what is inside is not on the tape outside",
                                 fix="compile the whole, gx.compile(gx.grad(f)); or detach() it before the compiled function")
            self._storage = Storage(self._value, self.name)
            self._value = None
        return self._storage

    def _array(self) -> Array:
        """The value, not to be written to. Raises on a traced Tensor."""
        if self._tracer is not None:
            if not self._tracer.alive or current.tracer is None:
                raise self._leaked()
            raise _concretize("a NumPy array", self, "stay with gx.* functions, or return it")
        if self._storage is not None:
            tracer = current.tracer
            if tracer is not None and any(t.cells.get(self._storage, _UNTOUCHED).now is not t.cells.get(self._storage, _UNTOUCHED).read
                                          for t in _chain(tracer)):
                raise _concretize("a NumPy array", self, "its value within this trace is not known yet: return it")
            return self._storage.array
        assert self._value is not None
        return self._value

    def numpy(self) -> Array:
        """A copy as a NumPy array of the same bits. NumPy has no bfloat16: that of a bf16 Tensor moves and computes nothing; `t.float().numpy()` does."""
        return np.array(self._array(), order="C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        out = np.array(self._array(), order="C")
        return out if dtype is None else half.astype(out, np.dtype(dtype))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = _UFUNCS.get(ufunc.__name__)
        if method == "__call__" and not kwargs and name is not None:
            return function(name)(*inputs)
        traced = next((x for x in inputs if isinstance(x, Tensor) and x._tracer is not None), None)
        if traced is not None:
            raise _concretize(f"an argument of np.{ufunc.__name__}", traced, _instead(ufunc.__name__))
        return getattr(ufunc, method)(*(np.asarray(x) if isinstance(x, Tensor) else x for x in inputs), **kwargs)

    def __array_function__(self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """NumPy's functions of Tensors: of their shape, or of their values, as NumPy arrays."""
        if func in _OF_SHAPES and len(args) == 1 and not kwargs:
            return _OF_SHAPES[func](args[0])
        traced = next((x for x in _inside((args, kwargs)) if x._tracer is not None), None)
        if traced is not None:
            raise _concretize(f"an argument of {func.__module__.replace('numpy', 'np')}.{func.__name__}", traced, _instead(func.__name__))
        return func(*_as_arrays(args), **_as_arrays(kwargs))

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        if api_version is not None and api_version not in VERSIONS:
            raise GraphError(f"the Array API {api_version!r} is none that graphc follows", at=user_loc(), why=f"versions are {', '.join(VERSIONS)}")
        return functions.namespace

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None) -> Any:
        """Always of a copy, in the memory of the one device."""
        if copy is False or (dl_device is not None and tuple(dl_device) != self.__dlpack_device__()):
            raise BufferError(f"a {self._type} is given away as a copy in the memory of the CPU" + (", and a copy is not wanted" if copy is False else ""))
        return self.numpy().__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def item(self) -> Any:
        """The one element as a Python number."""
        if self._tracer is not None and self._tracer.alive and current.tracer is not None:
            raise _concretize("a Python number (.item())", self, f"return it from {_place(self)[0]} and call .item() on the result")
        value = self._array()
        if value.size != 1:
            raise GraphError(f"item() needs one element, got {self._type}", at=user_loc(), fix="tolist(), or index it first")
        return half.plain(value).item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return half.plain(self._array()).tolist()

    def __bool__(self) -> bool:
        if self._tracer is not None and self._tracer.alive and current.tracer is not None:
            raise _concretize("a Python bool (if, while, and, or, not, assert)", self,
                               "gx.where(condition, a, b) chooses element by element inside the step, gx.cond(condition, f, g, x) one of two functions")
        value = self._array()
        if value.size != 1:
            raise GraphError(f"the truth of {self._type} is ambiguous", at=user_loc(), fix="gx.any(x) or gx.all(x)")
        return bool(half.plain(value).item())

    def __float__(self) -> float:
        self._must_be_known("a Python float")
        return float(self.item())

    def __int__(self) -> int:
        self._must_be_known("a Python int")
        return int(self.item())

    def __index__(self) -> int:
        self._must_be_known("an index (range, list index, shape)")
        if self.dtype.is_inexact:
            raise TypeError(f"a {self._type} is no index")
        return int(self.item())

    def __complex__(self) -> complex:
        return complex(float(self))

    def _must_be_known(self, what: str) -> None:
        if self._tracer is not None and self._tracer.alive and current.tracer is not None:
            raise _concretize(what, self, f"return it from {_place(self)[0]}, or keep computing with the Tensor")

    def __repr__(self) -> str:
        if self._tracer is not None:
            return f"Tensor({self._describe()}, traced)"
        shown = np.array2string(np.asarray(half.plain(self._array())), separator=", ", prefix="tensor(")
        return f"tensor({shown}{'' if self.dtype.name in ('f32', 'i64', 'bool') else f', dtype={self.dtype}'}{', requires_grad=True' * self._requires_grad})"

    def __format__(self, spec: str) -> str:
        """f"{loss:.3f}" of a Tensor without axes is that of its number."""
        if not spec or self._type.shape:
            return format(str(self), spec)
        if self._tracer is not None and self._tracer.alive and current.tracer is not None:
            place = _place(self)[0]
            also = "; gx.debug_print(...) prints in every call" if place == "the compiled function" else ""
            raise _concretize(f"text (format {spec!r})", self, f"return it from {place}, and print it there{also}")
        return format(self.item(), spec)

    def __deepcopy__(self: T, memo: dict[int, Any]) -> T:
        if self._tracer is not None:
            raise GraphError("a traced value cannot be copied with copy.deepcopy", at=user_loc(), fix="clone()")
        new = type(self)._blank(self._type, self._requires_grad)
        new.__dict__.update({k: v for k, v in self.__dict__.items() if k not in new.__dict__})
        new.name, new._weak = self.name, self._weak
        if self._storage is not None:
            new._storage = Storage(self._storage.array, self._storage.name)
        else:
            new._value = self.numpy()
        memo[id(self)] = new
        if self._grad is not None and self._grad.status == "value":
            assert self._grad.tensor is not None
            new.set_grad(self._grad.tensor.detach())
        return new

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the value and the gradient, without the past and without hooks."""
        state = {**self.__dict__, "_node": None, "_version": -1, "_hooks": {}, "_grad": None, "grad": None}
        if self._storage is None:
            state["_value"] = self.numpy()                              # raises where it is traced
        if self._grad is not None and self._grad.status == "value":
            assert self._grad.tensor is not None
            state["grad"] = self._grad.tensor.numpy()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        grad = state.pop("grad")
        self.__dict__.update(state)
        if grad is not None:
            self.set_grad(Tensor.from_value(grad))

    # ---- gradient ----------------------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self: T, requires_grad: bool = True) -> T:
        """Ask for a gradient of this leaf, or stop asking."""
        if not isinstance(requires_grad, (bool, np.bool_)):
            raise GraphTypeError(f"requires_grad is a {type(requires_grad).__name__}, not a bool", at=user_loc())
        if requires_grad and not self.dtype.is_inexact:
            raise _no_integer_gradient(self._type)
        if not requires_grad and not self.is_leaf:
            raise GraphError(f"requires_grad_(False) on {self._type}, which is the result of operations", at=user_loc(), fix="use .detach()")
        if self._requires_grad != requires_grad:
            self._requires_grad = requires_grad
            if self._tracer is not None and requires_grad:
                self._becomes_leaf()
            elif self._tracer is not None:
                self._tracer.leaves.pop(self._node, None)
            else:
                self._node = None
                bump(self)
                if current.tracer is not None:                          # a trace that fails leaves it as it was
                    current.tracer.undo.append(partial(setattr, self, "requires_grad", not requires_grad))
        return self

    def _becomes_leaf(self) -> None:
        """Let reverse mode end at the node of this traced Tensor, and its gradient come here."""
        assert self._node is not None
        self._tracer.leaves[self._node] = weakref.ref(self)
        self._tracer.active.add(self._node)
        if self._hooks:
            self._tracer.hooks[self._node] = self._hooks

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward() left here, or None."""
        if current.tracer is not None:
            inside: Tensor | None = _gradients().read(current.tracer, self)
            return inside
        cell = self._grad
        if cell is None or cell.status == "none":
            return None
        if cell.status == "inside":
            raise grad_is_inside(self)
        return cell.tensor

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and (not isinstance(value, Tensor) or value._type != self._type.cotangent):
            got = value._type if isinstance(value, Tensor) else type(value).__name__
            raise GraphError(f"the gradient of a {self._type} is a {self._type.cotangent}, got {got}", at=user_loc())
        if current.tracer is not None:
            _gradients().assign(current.tracer, self, value)
            return
        self.set_grad(value)

    def set_grad(self, value: Tensor | None) -> None:
        """Set .grad between calls."""
        cell = self._grad
        if cell is None:
            cell = self._grad = GradCell()
        if cell.storage is not None:
            cell.storage.assign(np.zeros(cell.storage.shape, cell.storage.dtype.numpy) if value is None else value._array())
            value = None if value is None else Tensor.from_storage(cell.storage)
        cell.become(value, "none" if value is None else "value")

    def bind_grad(self) -> Storage:
        """The storage of .grad, from now on for good: a compiled function reads and writes it."""
        cell = self._grad = self._grad or GradCell()
        if cell.storage is None:
            start = np.zeros(self._type.static_shape, self.dtype.cotangent.numpy) if cell.tensor is None else cell.tensor._array()
            cell.storage = Storage(start, f"d {self.name}" if self.name else "grad")
            if cell.status == "value":
                cell.tensor = Tensor.from_storage(cell.storage)
        return cell.storage

    def backward(self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Sequence[Tensor] | None = None) -> None:
        """Add the derivative of this scalar to the .grad of every leaf that requires one (gradient: the cotangent, for a non-scalar)."""
        _gradients().backward(self, gradient, retain_graph, create_graph, inputs)

    def register_hook(self, hook: HookFn) -> Hook:
        """Call hook(gradient) when this Tensor's gradient is known; a Tensor that it returns replaces the gradient. Gives a handle with remove()."""
        if not self._requires_grad:
            raise GraphError(f"a hook on {self._describe()}, which does not require a gradient", at=user_loc(), fix="requires_grad_() first")
        if self._storage is None:
            self._hooks = self._tape().hooks.setdefault(self.node(), self._hooks)
        if not callable(hook):
            raise GraphTypeError(f"a hook on {self._describe()} is a {type(hook).__name__}, not a function", at=user_loc(), fix="register_hook(lambda g: ...)")
        handle = Hook(self._hooks, self)
        self._hooks[handle._key] = hook
        if self._storage is not None and self._node is not None and self._tracer is None:
            eager.hooks[self._node] = self._hooks
        bump(self)
        if current.tracer is not None and self._tracer is None:         # a trace that fails leaves none behind
            current.tracer.undo.append(handle.remove)
        return handle

    def retain_grad(self) -> None:
        """Keep the gradient of this inner Tensor in .grad too."""
        if not self._requires_grad:
            raise GraphError(f"retain_grad on {self._describe()}, which does not require a gradient", at=user_loc())
        if not self.is_leaf and self._tracer is not None and self._tracer.is_body:
            raise GraphError(f"retain_grad on {self._describe()} inside of a body", at=user_loc(),
                             why="a body is differentiated as a whole, from outside, where its inner values are not seen", fix="return the value")
        if not self.is_leaf:
            self._tape().retained[self.node()] = weakref.ref(self)

    def detach(self) -> Tensor:
        """The same value, without a gradient."""
        if self._tracer is None and current.tracer is None:
            return self.result_type.from_value(self.numpy(), weak=self._weak)
        return self.result_type.from_node(self.node(), weak=self._weak)

    def clone(self) -> Tensor:
        """A copy; gradients flow through it."""
        return function("positive")(self)

    # ---- writing in place --------------------------------------------------------------------------------------------------------

    def _become(self: T, f: Callable[[], Tensor], *operands: Any) -> T:
        """Let this Tensor be f() from here on: the in-place methods. Other Tensors made from it keep their value (there are no views)."""
        was_leaf = self._requires_grad and self.is_leaf
        if was_leaf:
            if current.grad and any(isinstance(o, Tensor) and o._requires_grad and o is not self for o in operands):
                raise GraphError(f"{self._describe()} is a leaf that requires a gradient, so it cannot be written with a value that does, too", at=user_loc(),
                                 fix="with gx.no_grad(): ..., or compute a new Tensor: w = w - ...")
            with no_grad():
                new = f()
        else:
            new = f()
        new = self._in_type(new)
        tracer = current.tracer
        if self._storage is not None or (tracer is not None and self._tracer is None):
            if tracer is not None:
                tracer.write(self._own_storage(), new.node(), self)
            else:
                assert self._storage is not None
                self._storage.assign(new._array())
            return self
        if tracer is not None:
            if self._tracer is not tracer:
                raise GraphError(f"{self._describe()} is written inside of {BODY_NAMES[tracer.body]}", at=user_loc(),
                                 why="it is a value of the trace outside, which has no place that could be written to",
                                 fix="carry it, or return the new value and write it outside")
            if was_leaf:                                                # and stays one, cut off from what it was
                self._node = elementwise.stop_gradient(new.node())
                self._becomes_leaf()
                return self
            self._node = new.node()
            self._requires_grad = new._requires_grad
            if self._requires_grad and not new._node.inputs:            # type: ignore[union-attr]
                tracer.active.add(self._node)
            return self
        self._value, self._node = new._array(), new._node
        if was_leaf:                                                    # a leaf stays one
            self._node = None
        else:
            self._requires_grad = new._requires_grad
        return self

    def _in_type(self, new: Tensor) -> Tensor:
        """The result of an in-place operation, which has the shape of this Tensor, in the dtype of this Tensor."""
        if new._type == self._type:
            return new
        if new.shape != self.shape or (new.dtype.is_inexact and not self.dtype.is_inexact) or (self.dtype is bool_ and new.dtype is not bool_):
            raise GraphError(f"an in-place operation on {self._type} gave {new._type}", at=user_loc(), fix="make a new Tensor: x = x + y")
        return function("to")(new, self.dtype)

    def copy_(self: T, other: Any) -> T:
        """Take the value of other (broadcast to this shape)."""
        return self._become(lambda: function("broadcast_to")(function("to")(function("asarray")(other), self.dtype), self.shape), other)

    def add_(self: T, other: Any, *, alpha: Any = 1) -> T: return self._become(lambda: self + _scaled(other, alpha), other)
    def sub_(self: T, other: Any, *, alpha: Any = 1) -> T: return self._become(lambda: self - _scaled(other, alpha), other)
    def mul_(self: T, other: Any) -> T: return self._become(lambda: self * other, other)
    def div_(self: T, other: Any) -> T: return self._become(lambda: self / other, other)
    def zero_(self: T) -> T: return self.fill_(0)
    def fill_(self: T, value: Any) -> T: return self._become(lambda: function("full_like")(self, value), value)
    def clamp_(self: T, min: Any = None, max: Any = None) -> T: return self._become(lambda: function("clip")(self, min, max), min, max)

    def _augmented(self, f: Callable[[], Tensor], other: Any) -> Tensor:
        """x += y: in place where x has memory of its own, else the name x stands for a new Tensor, of the same shape and dtype. A run-time number meets
        arrays as in x + y."""
        if self._storage is not None or (self._requires_grad and self.is_leaf):
            return self._become(f, other)
        return f() if self._weak else self._in_type(f())

    def __iadd__(self, other: Any) -> Tensor: return self._augmented(lambda: self + other, other)
    def __isub__(self, other: Any) -> Tensor: return self._augmented(lambda: self - other, other)
    def __imul__(self, other: Any) -> Tensor: return self._augmented(lambda: self * other, other)
    def __itruediv__(self, other: Any) -> Tensor: return self._augmented(lambda: self / other, other)
    def __ifloordiv__(self, other: Any) -> Tensor: return self._augmented(lambda: self // other, other)
    def __imod__(self, other: Any) -> Tensor: return self._augmented(lambda: self % other, other)
    def __ipow__(self, other: Any) -> Tensor: return self._augmented(lambda: self ** other, other)
    def __imatmul__(self, other: Any) -> Tensor: return self._augmented(lambda: self @ other, other)
    def __iand__(self, other: Any) -> Tensor: return self._augmented(lambda: self & other, other)
    def __ior__(self, other: Any) -> Tensor: return self._augmented(lambda: self | other, other)
    def __ixor__(self, other: Any) -> Tensor: return self._augmented(lambda: self ^ other, other)
    def __ilshift__(self, other: Any) -> Tensor: return self._augmented(lambda: self << other, other)
    def __irshift__(self, other: Any) -> Tensor: return self._augmented(lambda: self >> other, other)


Tensor.result_type = Tensor


def _scaled(x: Any, alpha: Any) -> Any:
    return x if isinstance(alpha, (int, float)) and alpha == 1 else x * alpha


class _Untouched:
    now = read = None


_UNTOUCHED = _Untouched()

VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")                # of the Array API

_UFUNCS = {"add": "add", "subtract": "subtract", "multiply": "multiply", "divide": "divide", "true_divide": "divide", "floor_divide": "floor_divide",
           "remainder": "remainder", "power": "pow", "matmul": "matmul", "less": "less", "less_equal": "less_equal", "greater": "greater",
           "greater_equal": "greater_equal", "equal": "equal", "not_equal": "not_equal", "bitwise_and": "bitwise_and", "bitwise_or": "bitwise_or",
           "bitwise_xor": "bitwise_xor"}


def _chain(tracer: Any) -> Iterator[Any]:
    while tracer is not None:
        yield tracer
        tracer = tracer.parent


def _concretize(what: str, t: Tensor, fix: str) -> GraphError:
    _, where, each = _place(t)
    return GraphError(f"the traced value {t._describe()} is needed as {what}", op=t._op_name(), at=user_loc(),
                      why=f"inside {where} a Tensor stands for the numbers of every {each.split()[-1]}, and has none yet", fix=fix)


def _place(t: Tensor) -> tuple[str, str, str]:
    """Where a traced Tensor lives: what it can be returned from, what it is inside of, what it has one number for."""
    tracer = t._tracer
    if tracer is None or not tracer.is_body:
        return "the compiled function", "a compiled function", "compiled call"
    return "the body", BODY_NAMES[tracer.body], {"loop": "turn", "vmap": "example"}.get(tracer.body, "call")


def _instead(name: str) -> str:
    """The function of graphc to use for NumPy's."""
    return f"gx.{name}" if name in functions.namespace.__all__ else "use the function of graphc (gx.exp, gx.sum, ...)"


_OF_SHAPES: dict[Any, Callable[[Tensor], Any]] = {np.shape: lambda x: x.shape, np.ndim: lambda x: x.ndim, np.size: lambda x: x.size}


def _inside(x: Any) -> Iterator[Tensor]:
    """The Tensors among the arguments of one of NumPy's functions."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, (list, tuple, dict)):
        for v in x.values() if isinstance(x, dict) else x:
            yield from _inside(v)


def _as_arrays(x: Any) -> Any:
    """The same, with their values."""
    if isinstance(x, Tensor):
        return np.asarray(x)
    if type(x) in (list, tuple):
        return type(x)(map(_as_arrays, x))
    return {k: _as_arrays(v) for k, v in x.items()} if type(x) is dict else x


def _no_integer_gradient(t: TensorType) -> GraphError:
    return GraphError(f"only floating tensors have gradients, got {t}", at=user_loc(), fix=".astype(gx.float32) first")


def grad_is_inside(t: Tensor) -> GraphError:
    """The error of reading p.grad after a compiled step that used it up."""
    return GraphError(f"the gradient of {t._describe()} lived only inside the compiled step", at=user_loc(),
                      why="the step ends with optimizer.step(), so its gradients are temporaries of the native function",
                      fix="gx.compile(..., keep_grads=True), or zero_grad() before the next backward()")


class _Gradients:
    """The functions of `autograd` that Tensor's methods call, once it has provided them."""

    read: Callable[..., Any]
    assign: Callable[..., Any]
    backward: Callable[..., Any]


def _gradients() -> type[_Gradients]:
    return _Gradients


def provide_gradients(read: Callable[..., Any], assign: Callable[..., Any], backward: Callable[..., Any]) -> None:
    """Called by `trace.autograd`."""
    _Gradients.read, _Gradients.assign, _Gradients.backward = staticmethod(read), staticmethod(assign), staticmethod(backward)
