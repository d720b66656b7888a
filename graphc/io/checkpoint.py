"""`gx.save` and `gx.load`: a model, its optimizer, a generator, the step and what else there is, in one file that is whole or not there.

The parameters have the names of the state_dict, so a saved model is a plain safetensors file to everybody else; what is not the model's has names that
begin with "@". Nothing is assigned before everything was compared. Never pickle: what is no array is JSON.
"""
from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..core import half
from ..core.dtype import from_numpy
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.record import dataclass, field
from ..core.types import TensorType
from ..nn.module import Module
from ..optim.optimizer import Optimizer
from ..trace.generator import Generator
from ..trace.tape import current
from ..trace.tensor import Tensor
from . import formats

Array = np.ndarray[Any, Any]
FORMAT = 1                                              # raised when an older graphc could misread a file


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What `gx.load` returns: everything that was in the file, as arrays and plain values."""

    module: dict[str, Array]                            # a state_dict
    optimizer: dict[str, Any] | None                    # a state_dict
    generator: dict[str, Array] | None                  # "key" and "counter"
    step: int | None
    extra: dict[str, Any] = field(default_factory=dict)
    version: str | None = None                          # of the graphc that wrote it; None: something else did

    def __repr__(self) -> str:
        held = [f"module: {len(self.module)} arrays", *(n for n in ("optimizer", "generator") if getattr(self, n) is not None),
                *([] if self.step is None else [f"step {self.step}"]), *self.extra]
        return f"Checkpoint({', '.join(held)})"


# ---- saving --------------------------------------------------------------------------------------------------------------------------


def save(path: str | os.PathLike[str], *, module: Module | None = None, optimizer: Optimizer | None = None, generator: Generator | None = None,
         step: int | None = None, **extra: Any) -> Path:
    """Write a checkpoint, as safetensors (the extra `io`) or, where the path ends in .npz, with NumPy alone.

    extra: arrays, plain values (what JSON has), or objects with a `state_dict()` of plain values, such as a DataLoader with its position. The
    file replaces a former one at once: killed at any moment, the path holds the old or the new one. Raises GraphError for what cannot be
    saved, ImportError without safetensors, OSError where the file cannot be written.

    >>> gx.save("out/model.safetensors", module=net, optimizer=optimizer, generator=gx.default_generator(), step=1000)     # doctest: +SKIP
    """
    _refuse_in_trace("save")
    arrays: dict[str, Array] = {}
    note: dict[str, Any] = {"format": FORMAT, "version": _version()}
    if module is not None:
        for name, a in _of(module, Module, "module").state_dict().items():
            if name.startswith("@"):
                raise GraphError(f"the member {name!r} cannot be saved", why='names that begin with "@" are those of the checkpoint itself')
            arrays[name] = np.asarray(a)
    if optimizer is not None:
        state = _of(optimizer, Optimizer, "optimizer").state_dict()
        for number, slots in state["state"].items():
            arrays.update({f"@optimizer.{number}.{slot}": np.asarray(a) for slot, a in slots.items()})
        note["optimizer"] = {"name": type(optimizer).__name__, "param_groups": [_plain(g, f"param_groups[{i}]") for i, g in enumerate(state["param_groups"])],
                             "slots": {str(n): list(slots) for n, slots in state["state"].items()}}
    if generator is not None:
        _of(generator, Generator, "generator")
        arrays.update({"@generator.key": generator.key.numpy(), "@generator.counter": generator.counter.numpy()})
    if step is not None:
        if isinstance(step, bool) or not isinstance(step, int | np.integer) or step < 0:
            raise GraphError(f"save: step is a whole number >= 0, got {step!r}", at=user_loc())
        note["step"] = int(step)
    values: dict[str, Any] = {}
    for name, value in extra.items():
        if isinstance(value, Tensor | np.ndarray):
            a = half.own(np.asarray(value))
            if from_numpy(a.dtype) is None:
                raise GraphError(f"save: {name} is an array of {a.dtype}, which graphc has not", at=user_loc())
            arrays[f"@extra.{name}"] = a
        else:
            values[name] = _plain(value.state_dict() if hasattr(value, "state_dict") else value, name)
    note["extra"] = values
    return formats.write(path, arrays, note)


def _version() -> str:
    from .. import __version__
    return __version__


def _refuse_in_trace(name: str) -> None:
    if current.tracer is not None:
        raise GraphError(f"gx.{name} is called inside a compiled function", at=user_loc(), why="the trace runs once, and its values are not there yet",
                         fix=f"{name} between the steps")


def _of(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        raise GraphError(f"{what}= takes a {kind.__name__}, got {type(value).__name__}", at=user_loc())
    return value


def _plain(value: Any, what: str) -> Any:
    """A value as JSON will give it back: None, bool, int, float, str, and lists and dicts of them."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case np.generic():
            return _plain(half.plain(value).item(), what)
        case Mapping():
            for k in value:
                if not isinstance(k, str):
                    raise GraphError(f"save: {what} has the key {k!r}", at=user_loc(), why="JSON has strings for keys")
            return {k: _plain(v, f"{what}[{k!r}]") for k, v in value.items()}
        case list() | tuple():
            return [_plain(v, f"{what}[{i}]") for i, v in enumerate(value)]
    raise GraphError(f"save: {what} is a {type(value).__name__}", at=user_loc(), why="a checkpoint holds arrays and plain values, never pickled objects",
                     fix="an array, a number, a string, or lists and dicts of these")


# ---- loading -------------------------------------------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str], *, module: Module | None = None, optimizer: Optimizer | None = None, generator: Generator | None = None,
         strict: bool = True, **extra: Any) -> Checkpoint:
    """Read a checkpoint, and write it into what is given: all of it, or, where anything does not fit, nothing.

    Names, shapes and element types are compared first, with `strict` no parameter may be missing or left over; one GraphError lists every
    difference. extra: objects with `load_state_dict`, under the names they were saved by. A safetensors or .npz file of another program is taken
    as a state_dict. Raises GraphError also for a damaged file, OSError for one that cannot be read, ImportError without safetensors.

    >>> step = gx.load("out/model.safetensors", module=net, optimizer=optimizer).step                              # doctest: +SKIP
    """
    _refuse_in_trace("load")
    name = Path(path).name
    found = _understood(*formats.read(path), name)
    faults: list[str] = []
    if module is not None:
        faults += _module_faults(_of(module, Module, "module"), found.module, strict)
    if optimizer is not None:
        faults += _optimizer_faults(_of(optimizer, Optimizer, "optimizer"), found.optimizer)
    if generator is not None:
        _of(generator, Generator, "generator")
        faults += ["there is no generator"] if found.generator is None else []
    for key, target in extra.items():
        if not hasattr(target, "load_state_dict"):
            raise GraphError(f"load: {key} is a {type(target).__name__}, which has no load_state_dict", at=user_loc(), fix=f"load(...).extra[{key!r}]")
        if key not in found.extra:
            faults.append(f"there is no {key}")
        elif hasattr(target, "check_state_dict"):
            try:
                target.check_state_dict(found.extra[key])
            except GraphError as e:
                faults.append(f"{key}: {e.what}" + (f" ({e.why})" if e.why else ""))
    if faults:
        raise GraphError(f"{name} does not fit: {len(faults)} difference{'s' * (len(faults) > 1)}, nothing was loaded", at=user_loc(), why="; ".join(faults),
                         fix="gx.load(path) alone gives the arrays; load_state_dict casts them")
    for key, target in extra.items():                   # the only ones that are not ours, so the only ones that could fail now
        target.load_state_dict(found.extra[key])
    if module is not None:
        module.load_state_dict(found.module, strict=strict)
    if optimizer is not None and found.optimizer is not None:
        optimizer.load_state_dict(found.optimizer)
    if generator is not None and found.generator is not None:
        for tensor, value in ((generator.key, found.generator["key"]), (generator.counter, found.generator["counter"])):
            assert tensor.storage is not None
            tensor.storage.assign(value)
    return found


def _understood(arrays: dict[str, Array], note: dict[str, Any] | None, name: str) -> Checkpoint:
    """The parts of a file. Whatever the note says is checked, for it may be damaged or made by somebody."""
    module = {k: a for k, a in arrays.items() if not k.startswith("@")}
    if note is None:
        return Checkpoint(module, None, None, None, {k: a for k, a in arrays.items() if k not in module})

    def wrong(why: str) -> GraphError:
        return GraphError(f"{name} is damaged", why=why)

    if note.get("format") != FORMAT:
        raise GraphError(f"{name} has the format {str(note.get('format'))[:80]}, this graphc reads {FORMAT}",
                         why=f"graphc {str(note.get('version'))[:80]} wrote it")
    version, step, extra = note.get("version"), note.get("step"), note.get("extra", {})
    if not isinstance(version, str) or not isinstance(extra, dict) or not (step is None or (type(step) is int and step >= 0)):
        raise wrong("its metadata is not what graphc writes")
    ours = {k: a for k, a in arrays.items() if k.startswith("@")}
    optimizer = None
    if "optimizer" in note:
        optimizer = _optimizer_state(note["optimizer"], ours, wrong)
    generator = {k: ours.pop(f"@generator.{k}") for k in ("key", "counter") if f"@generator.{k}" in ours} or None
    if generator is not None and (len(generator) != 2 or (generator["key"].shape, generator["key"].dtype) != ((2,), np.uint32)
                                  or (generator["counter"].shape, generator["counter"].dtype) != ((), np.uint64)):
        raise wrong("its generator is not a key of two words and a counter")
    extra = {**extra, **{k.removeprefix("@extra."): ours.pop(k) for k in [*ours] if k.startswith("@extra.")}}
    if ours:
        raise wrong(f"nobody knows what {', '.join(k[:80] for k in list(ours)[:5])} is")
    return Checkpoint(module, optimizer, generator, step, extra, version)


def _optimizer_state(told: Any, ours: dict[str, Array], wrong: Any) -> dict[str, Any]:
    """A state_dict of an optimizer, its arrays taken out of `ours`."""
    match told:
        case {"name": str(), "param_groups": list(groups), "slots": dict(slots)}:
            pass
        case _: raise wrong("its optimizer is not what graphc writes")
    numbers = [n for g in groups if isinstance(g, dict) and isinstance(g.get("params"), list) for n in g["params"]]
    if numbers != list(range(len(numbers))) or any(not isinstance(g, dict) or not isinstance(g.get("params"), list) for g in groups):
        raise wrong("its parameter groups are not what graphc writes")
    state: dict[int, dict[str, Array]] = {}
    for number, names in slots.items():
        if number not in map(str, numbers) or not isinstance(names, list) or not all(isinstance(s, str) for s in names):
            raise wrong("the slots of its optimizer are not what graphc writes")
        keys = {s: f"@optimizer.{number}.{s}" for s in names}
        if any(k not in ours for k in keys.values()):
            raise wrong(f"slots of parameter {number} are missing")
        state[int(number)] = {s: ours.pop(k) for s, k in keys.items()}
    return {"state": state, "param_groups": [{k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in g.items()} for g in groups]}


def _kind(a: Array) -> TensorType | str:
    dtype = from_numpy(a.dtype)
    return TensorType(a.shape, dtype) if dtype is not None else f"{a.dtype}"


def _module_faults(module: Module, found: Mapping[str, Array], strict: bool) -> list[str]:
    own = {name: t.type for name, t in module._saved()}
    faults = []
    if strict:
        faults += [f"{k} is missing" for k in own if k not in found] + [f"{k} is left over" for k in found if k not in own]
    return faults + [f"{k} is {_kind(found[k])} there and {t} here" for k, t in own.items() if k in found and _kind(found[k]) != t]


def _optimizer_faults(optimizer: Optimizer, state: Mapping[str, Any] | None) -> list[str]:
    """Why a state_dict cannot become this optimizer's, compared part by part."""
    if state is None:
        return ["there is no optimizer"]
    groups = state["param_groups"]
    mine, theirs = [len(g["params"]) for g in optimizer.param_groups], [len(g["params"]) for g in groups]
    if mine != theirs:
        return [f"the optimizer's groups have {theirs} parameters there and {mine} here"]
    faults = []
    for i, (own, new) in enumerate(zip(optimizer.param_groups, groups, strict=True)):
        faults += _group_faults(optimizer, i, own, new)
    params = optimizer._params()
    for number, slots in state["state"].items():
        p = params[number]
        label = p.name or f"parameter {number}"
        for slot, a in slots.items():
            if slot == "step":
                if a.shape != () or a.dtype.kind not in "fiu" or not (math.isfinite(a) and a >= 0 and a == np.floor(a)):
                    faults.append(f"the step count of {label} is no whole number")
            elif slot not in optimizer.slots:
                faults.append(f"{slot} of {label} is no slot of {type(optimizer).__name__}")
            elif _kind(a) != p.type:
                faults.append(f"{slot} of {label} is {_kind(a)} there and {p.type} here")
    return faults


def _group_faults(optimizer: Optimizer, i: int, own: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    label = f"param_groups[{i}]" if len(optimizer.param_groups) > 1 else "param_groups"
    missing, extra = [k for k in optimizer.defaults if k not in new], [k for k in new if k not in own]
    if missing or extra:
        return [f"{label} of another optimizer: " + ", ".join([*(f"{k} is missing" for k in missing), *(f"{k[:80]} is left over" for k in extra)])]
    faults = [f"{k} of {label} is {str(new[k])[:80]} there and {own[k]!r} here" for k in optimizer.defaults if not _alike(own[k], new[k])]
    if not faults:
        try:
            optimizer._check({**own, **new, "params": own["params"]})
        except GraphError as e:
            faults.append(f"{label}: {e.what}")
    return faults


def _alike(a: Any, b: Any) -> bool:
    """Of one sort: two numbers, two flags, two tuples of such."""
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(_alike, a, b))
    numbers = int | float | np.integer | np.floating
    if isinstance(a, numbers) and not isinstance(a, bool):
        return isinstance(b, numbers) and not isinstance(b, bool) and (not isinstance(b, int) or abs(b) < 2**63)
    return type(a) is type(b)

