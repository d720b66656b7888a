"""`Module`: a tree of layers with parameters and buffers, as in PyTorch.

A module is plain Python; it becomes graph only when its `forward` runs on traced tensors. A trace holds as long as the `_structure()` of
each module that it met is what it was: which members, which settings. Every change of it is announced by `bump`, so a compiled function need
only look when something was announced; going back (`eval()`, then `train()`) finds the former trace again.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..core import half
from ..core.dtype import DType, as_dtype, f32, f64
from ..core.errors import GraphError
from ..trace import autograd
from ..trace.guards import Identity, bump
from ..trace.storage import Storage
from ..trace.tape import current, no_grad
from ..trace.tensor import Tensor
from ..trace.tracer import depends, on_failure, scope
from .parameter import Parameter, as_buffer

M = TypeVar("M", bound="Module")
_ABSENT = object()
_TABLES = ("_parameters", "_buffers", "_modules")
_OWN = frozenset((*_TABLES, "_not_saved", "_forward_hooks", "_forward_pre_hooks", "_path", "_epoch", "_compiled"))


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class RemovableHandle:
    """Takes a hook away again: `handle.remove()`."""

    def __init__(self, owner: Module, hooks: dict[int, Callable[..., Any]], key: int) -> None:
        self._owner, self._hooks, self._key = owner, hooks, key

    def remove(self) -> None:
        if self._hooks.pop(self._key, None) is not None:
            bump(self._owner)


class Module:
    """The base of all layers and models. Subclasses call `super().__init__()` first, assign layers and parameters as attributes, and write `forward`.

    >>> class Net(Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.fc = Linear(4, 2)
    ...     def forward(self, x):
    ...         return self.fc(x).relu()
    """

    training: bool
    _path: str
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Any]                                    # Modules, or None

    def __init__(self) -> None:
        own = self.__dict__
        own["_parameters"], own["_buffers"], own["_modules"] = {}, {}, {}
        own["_not_saved"] = set()                               # buffers that state_dict leaves out
        own["_forward_hooks"], own["_forward_pre_hooks"] = {}, {}
        own["_path"] = ""                                       # from the outermost module that holds it: "encoder.0"
        own["_epoch"], own["training"] = 0, True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise GraphError(f"{type(self).__name__} has no forward", fix="def forward(self, x): ... in the class")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if "_modules" not in self.__dict__:
            raise self._not_initialised()
        if current.tracer is None:
            return self._run(args, kwargs)
        depends(self)
        with scope(self._scope()):
            return self._run(args, kwargs)

    def _scope(self) -> str:
        """The name of this module within those whose forward is running: "0" in "encoder" for "encoder.0". A model as a whole has none."""
        if not self._path:
            return "" if self._modules else type(self).__name__
        around = ".".join(current.tracer.scopes) + "." if current.tracer is not None and current.tracer.scopes else ""
        return self._path[len(around):] if self._path.startswith(around) else self._path.rpartition(".")[2]

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for pre in tuple(self._forward_pre_hooks.values()):
            replaced = pre(self, args)
            if replaced is not None:
                args = replaced if isinstance(replaced, tuple) else (replaced,)
        result = self.forward(*args, **kwargs)
        for hook in tuple(self._forward_hooks.values()):
            replaced = hook(self, args, result)
            result = result if replaced is None else replaced
        return result

    # ---- attributes ------------------------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:                    # called for what is not in __dict__
        for table in _TABLES:
            if name in self.__dict__.get(table, ()):
                depends(self)
                return self.__dict__[table][name]
        if "_modules" not in self.__dict__ and name in (*_TABLES, "training", "_epoch"):
            raise self._not_initialised()
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if "_modules" not in self.__dict__:
            if isinstance(value, Parameter | Module):
                raise self._not_initialised()
            object.__setattr__(self, name, value)
        elif isinstance(value, Parameter):
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self.register_module(name, value)
        elif name in self._parameters or name in self._modules:
            if value is not None:
                kind = "parameter" if name in self._parameters else "module"
                raise GraphError(f"{type(self).__name__}.{name} is a {kind} and cannot become a {type(value).__name__}",
                                 fix="nn.Parameter(...), None, or `del` it first" if kind == "parameter" else "a Module, None, or `del` it first")
            (self._parameters if name in self._parameters else self._modules)[name] = None
            bump(self)
        elif name in self._buffers:
            self._set_buffer(name, value)
        else:
            before = self.__dict__.get(name, _ABSENT)
            object.__setattr__(self, name, value)
            if current.tracer is not None:                      # a trace may leave notes on a module, if it ends well
                on_failure(lambda: self.__dict__.pop(name, None) if before is _ABSENT else self.__dict__.update({name: before}))
            elif value is not before:
                bump(self)

    def __delattr__(self, name: str) -> None:
        table = self._table_of(name)
        if table is None:
            object.__delattr__(self, name)
        else:
            del table[name]
            self._not_saved.discard(name)
        bump(self)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._parameters, *self._buffers, *self._modules})

    def _table_of(self, name: str) -> dict[str, Any] | None:
        return next((self.__dict__[t] for t in _TABLES if name in self.__dict__[t]), None)

    def _not_initialised(self) -> GraphError:
        return GraphError(f"{type(self).__name__} is used before Module.__init__() ran", fix="call super().__init__() first in __init__")

    def _register(self, table: str, name: str, value: Any) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise GraphError(f"{name!r} is no name for a member of a module", why='"." separates the levels of a state_dict')
        if "_modules" not in self.__dict__:
            raise self._not_initialised()
        if name not in self.__dict__[table] and hasattr(type(self), name):
            raise GraphError(f"{type(self).__name__}.{name} is taken by an attribute of the class", fix="another name")
        for other in (self.__dict__, *(self.__dict__[t] for t in _TABLES if t != table)):
            other.pop(name, None)
        self._not_saved.discard(name)
        self.__dict__[table][name] = value
        self._adopt(self._path)
        bump(self)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Make a parameter a member, as `self.name = param` does; None keeps the name free for one."""
        if param is not None and not isinstance(param, Parameter):
            raise GraphError(f"{name!r} must be a Parameter or None, got {type(param).__name__}", fix="nn.Parameter(tensor)")
        self._register("_parameters", name, param)

    def register_module(self, name: str, module: Module | None) -> None:
        """Make a module a child, as `self.name = module` does."""
        if module is not None and not isinstance(module, Module):
            raise GraphError(f"{name!r} must be a Module or None, got {type(module).__name__}")
        self._register("_modules", name, module)

    add_module = register_module

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Make a tensor a member that is no parameter: it is a state, and in the state_dict unless `persistent` is False. It is copied."""
        self._register("_buffers", name, None if tensor is None else as_buffer(tensor))
        if not persistent:
            self._not_saved.add(name)

    def _set_buffer(self, name: str, value: Any) -> None:
        """`self.mean = new`: written into the buffer where it fits, so that compiled functions see it; else a new buffer."""
        old = self._buffers[name]
        if value is not None and old is not None:
            shape, dtype = (value.shape, value.dtype) if isinstance(value, Tensor) else (np.shape(value), as_dtype(half.own(np.asarray(value)).dtype))
            if tuple(shape) == tuple(old.shape) and dtype is old.dtype:
                old.copy_(value)
                return
        if current.tracer is not None:
            raise GraphError(f"the buffer {name} is {old.dtype if old is not None else None} and its shape is fixed inside a compiled function",
                             fix="write a value of the same shape and type, or register_buffer before the call")
        self._buffers[name] = None if value is None else as_buffer(value)
        self._adopt(self._path)
        bump(self)

    def _adopt(self, path: str) -> None:
        """Give everything below its dotted name, as it is written from the outermost module."""
        self.__dict__["_path"] = path
        dot = f"{path}." if path else ""
        for name, t in (*self._parameters.items(), *self._buffers.items()):
            if t is not None:
                t.name = dot + name
                if t.storage is not None:
                    t.storage.name = t.name
        for name, m in self._modules.items():
            if m is not None:
                m._adopt(dot + name)

    # ---- what a trace depends on -----------------------------------------------------------------------------------------------------

    def _structure(self) -> tuple[Any, ...]:
        """Equal as long as a trace of this module (without its children's own part) holds: members by identity, plain settings by value."""
        members = tuple((name, Identity(m.storage if isinstance(m, Tensor) else m)) for table in _TABLES for name, m in self.__dict__[table].items())
        hooks = tuple(Identity(h) for h in (*self._forward_hooks.values(), *self._forward_pre_hooks.values()))
        rest = tuple((k, type(v), repr(v)) if _is_setting(v) else (k, Identity(v)) for k, v in self.__dict__.items() if k not in _OWN)
        return members, hooks, rest

    def _named_states(self) -> Iterator[tuple[str, Tensor]]:
        """The names that a graph gives the states, if this is the outermost module that runs."""
        yield from self.named_parameters()
        yield from self.named_buffers()

    # ---- walking ---------------------------------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below, each once."""
        seen: set[int] = set()
        for name, m in self._modules.items():
            if m is not None and id(m) not in seen:
                seen.add(id(m))
                yield name, m

    def children(self) -> Iterator[Module]:
        return (m for _, m in self.named_children())

    def named_modules(self, memo: set[int] | None = None, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, outer before inner, each once."""
        memo = set() if memo is None else memo
        if id(self) not in memo:
            memo.add(id(self))
            yield prefix, self
            for name, m in self._modules.items():
                if m is not None:
                    yield from m.named_modules(memo, f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        return (m for _, m in self.named_modules())

    def _members(self, table: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, m in self.named_modules(prefix=prefix) if recurse else ((prefix, self),):
            for name, t in m.__dict__[table].items():
                if t is not None and id(t) not in seen:
                    seen.add(id(t))
                    yield f"{path}.{name}" if path else name, t

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their dotted names, in the order of their making, a shared one once."""
        return self._members("_parameters", prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        return self._members("_buffers", prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (b for _, b in self.named_buffers(recurse=recurse))

    # ---- settings --------------------------------------------------------------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Set `training` here and below. A compiled function that used the module is traced anew for the other mode, once."""
        if not isinstance(mode, bool):
            raise GraphError(f"train() takes True or False, got {mode!r}")
        for m in self.modules():
            m.training = mode
        return self

    def eval(self: M) -> M:
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Let every parameter here and below take part in gradients, or none."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters; with set_to_none=False make those that exist zero."""
        for p in self.parameters():
            if set_to_none:                                     # without a look at it: a look makes a trace depend on it
                p.grad = None
            else:
                autograd.zero_grad(p)

    def apply(self: M, fn: Callable[[Module], None]) -> M:
        """fn on every module below, then on this one."""
        for m in self.children():
            m.apply(fn)
        fn(self)
        return self

    def to(self: M, dtype: Any) -> M:
        """Make floating parameters and buffers of this element type, in place: the Parameter objects stay, so optimizers keep working."""
        if dtype in ("cpu", "CPU"):
            return self
        if isinstance(dtype, str) and dtype.partition(":")[0] in ("cuda", "gpu", "mps", "xpu"):
            raise GraphError(f"graphc runs on CPUs; there is no device {dtype!r}", fix="leave the .to(...) out")
        wanted = as_dtype(dtype)
        if not wanted.is_float:
            why = "f16 and bf16 are for storage: parameters are trained in f32" if wanted.is_half else None
            fix = "net.double() or net.float()" if why is None else "w.bfloat16() in forward, where the 16 bits are wanted"
            raise GraphError(f"Module.to wants a floating element type, got {wanted}", why=why, fix=fix)
        for m in self.modules():
            for t in (*m._parameters.values(), *m._buffers.values()):
                if t is not None and t.dtype.is_inexact and t.dtype is not wanted:
                    t.rehouse(Storage(half.astype(t.numpy(), wanted), t.name))
            bump(m)
        return self

    def float(self: M) -> M:
        return self.to(f32)

    def double(self: M) -> M:
        return self.to(f64)

    def register_forward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(module, args, result)` after each forward; what it returns, unless None, is the result."""
        return self._hooked(self._forward_hooks, hook)

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(module, args)` before each forward; what it returns, unless None, are the arguments."""
        return self._hooked(self._forward_pre_hooks, hook)

    def _hooked(self, hooks: dict[int, Callable[..., Any]], hook: Callable[..., Any]) -> RemovableHandle:
        key = max(hooks, default=0) + 1
        hooks[key] = hook
        bump(self)
        return RemovableHandle(self, hooks, key)

    # ---- saving ----------------------------------------------------------------------------------------------------------------------

    def _saved(self) -> Iterator[tuple[str, Tensor]]:
        """What a state_dict holds, under every name that it has (a shared parameter has several)."""
        def below(m: Module, dot: str) -> Iterator[tuple[str, Tensor]]:
            kept = ((k, b) for k, b in m._buffers.items() if k not in m._not_saved)
            yield from ((dot + k, t) for k, t in (*m._parameters.items(), *kept) if t is not None)
            for name, child in m._modules.items():
                if child is not None:
                    yield from below(child, f"{dot}{name}.")
        return below(self, "")

    def state_dict(self) -> OrderedDict[str, np.ndarray[Any, Any]]:
        """Copies of all parameters and persistent buffers as NumPy arrays, with PyTorch's names and layouts."""
        return OrderedDict((name, t.numpy()) for name, t in self._saved())

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Write arrays (NumPy's, Tensors, PyTorch's on the CPU) into the parameters and buffers of those names.

        Nothing is written unless all of it fits: with `strict`, no name may be missing or left over; shapes must be equal always. Values are
        cast to the type of the parameter. Compiled functions go on with the new values.
        """
        own = dict(self._saved())
        missing = [k for k in own if k not in state_dict]
        unexpected = [k for k in state_dict if k not in own]
        values = {k: np.asarray(state_dict[k]) for k in own if k in state_dict}
        wrong = [f"{k} is {tuple(own[k].shape)} here and {v.shape} there" for k, v in values.items() if tuple(own[k].shape) != v.shape]
        faults = [*([f"missing: {', '.join(missing)}"] if missing and strict else []),
                  *([f"unexpected: {', '.join(unexpected)}"] if unexpected and strict else []), *wrong]
        if faults:
            raise GraphError(f"the state_dict does not fit {type(self).__name__}", why="; ".join(faults),
                             fix=None if wrong else "strict=False loads what is there")
        with no_grad():
            for k, v in values.items():
                own[k].copy_(half.astype(v, own[k].dtype))
        return IncompatibleKeys(missing, unexpected)

    # ---- printing --------------------------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What `repr` shows between the parentheses."""
        return ""

    def __repr__(self) -> str:
        extra, title = self.extra_repr(), type(self).__name__
        lines = [f"  ({name}): " + repr(m).replace("\n", "\n  ") for name, m in self._modules.items()]
        if not lines:
            return f"{title}({extra})"
        return "\n".join([f"{title}(", *([f"  {extra}"] if extra else []), *lines, ")"])


def _is_setting(value: object) -> bool:
    """A plain constant, told apart by its type and its text."""
    return value is None or isinstance(value, bool | int | float | str | DType) or (isinstance(value, tuple) and all(map(_is_setting, value)))
