"""Numbers that may change between calls without a new trace: `gx.scalar(v)`, and the entries of an optimizer's `param_groups`.

In a trace each is a 0-d input of the step, read anew before every call; outside it is the number it holds now.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtype import f64, i64
from ..core.errors import GraphTypeError
from ..core.loc import user_loc
from ..core.record import dataclass, field
from ..core.types import TensorType
from ..ir.node import recording
from .tape import current
from .tensor import Tensor


@dataclass(frozen=True, slots=True)
class Source:
    """Where a run-time number lives: under a key of a dict, or at a place of the tuple that is there. Called, it says the number now."""

    where: dict[str, Any] = field(repr=False)
    key: str
    index: int | None = None

    def __call__(self) -> int | float:
        value = dict.__getitem__(self.where, self.key)
        if self.index is not None:
            value = value[self.index]
        return value if type(value) is float or type(value) is int else number(value, f"param_groups entry {self.key!r}")


class Scalar(Tensor):
    """A run-time number: `noise = gx.scalar(0.1)`, used like a Python number, changed by `noise.value = 0.2`."""

    _number: int | float

    @property
    def value(self) -> Any:
        """The number now."""
        return self._number

    @value.setter
    def value(self, new: Any) -> None:
        new = number(new, "gx.scalar")
        self._number = int(new) if self.dtype is i64 and float(new).is_integer() else float(new)
        if self.dtype is i64 and isinstance(self._number, float):
            raise GraphTypeError(f"gx.scalar was made with an int and is now given {new!r}", at=user_loc(), fix="gx.scalar(float(v))")
        self._value, self._node = np.asarray(self._number, self.dtype.numpy), None

    def _traced_node(self, tracer: Any) -> Any:
        return tracer.capture(self) if tracer.is_body else tracer.scalar(id(self), Source(self.__dict__, "_number"), self.dtype, self.name or "scalar")


Scalar.result_type = Tensor


def scalar(value: int | float, name: str = "") -> Scalar:
    """A number that compiled functions read at every call; changing its `.value` never recompiles."""
    value = number(value, "gx.scalar")
    self = Scalar._blank(TensorType((), i64 if isinstance(value, int) else f64))
    self._weak, self.name = True, name
    self.value = value
    return self


def number(x: Any, what: str) -> int | float:
    """x as a Python int or float, and nothing else."""
    if isinstance(x, np.generic):
        x = x.item()
    if isinstance(x, Tensor) and not x.is_traced and x.size == 1:
        x = x.item()
    if isinstance(x, bool) or not isinstance(x, (int, float)):
        raise GraphTypeError(f"{what} is a number, got {x!r}", at=user_loc())
    return x


class ParamGroup(dict[str, Any]):
    """One of an optimizer's param_groups: a dict whose numbers a trace reads through `scalar`, so that changing one never recompiles."""

    def now(self, key: str) -> Any:
        """The entry itself, in a trace too: for what decides which nodes there are."""
        return super().__getitem__(key)

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if current.tracer is None:
            return value
        if type(value) is tuple and all(type(v) is float for v in value):
            return tuple(self.scalar(key, i) for i in range(len(value)))
        return self.scalar(key) if type(value) in (float, int) else value

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, Tensor) and value.is_traced:
            raise GraphTypeError(f"param_groups entry {key!r} is set to a traced value", at=user_loc(),
                                 why="the entry is a Python number that a step reads, and the step is still being traced",
                                 fix="change it between calls of the compiled function")
        super().__setitem__(key, value)

    def scalar(self, key: str, index: int | None = None) -> Any:
        """group[key] (or group[key][index]): a weak Tensor in a trace, read anew before every call; the plain number outside."""
        source = Source(self, key, index)
        now, tracer = float(source()), None if current.tracer is None else current.tracer.root
        if tracer is None:
            return now
        with recording(tracer.recorder):
            node = tracer.scalar((id(self), key, index), source, f64, key if index is None else f"{key}[{index}]")
        out = Tensor.from_node(node, weak=True)
        out._tracer = tracer
        return out

    __hash__ = object.__hash__                          # type: ignore[assignment]
