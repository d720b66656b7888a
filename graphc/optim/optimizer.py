"""`Optimizer`: parameter groups, slots (momentum and the like), step counts, and saving them in PyTorch's form.

Numbers in `param_groups` (lr, weight_decay, betas, ...) are read at every call of a compiled step: changing one never recompiles. What decides
which nodes there are (a flag; whether the momentum is zero) is structure: changing it traces anew, once.

A step count is a state too, and parameters that always step together share one, so a bias correction is computed once and not once for each
of them. Should some of them step without the others (a frozen layer, two losses), those get a count of their own from there on.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..core.errors import GraphError
from ..core.loc import user_loc
from ..trace import autograd
from ..trace.guards import Identity, bump
from ..trace.scalar import ParamGroup
from ..trace.storage import Storage
from ..trace.tape import current, enable_grad, no_grad
from ..trace.tensor import Tensor
from ..trace.tracer import depends, phase, scope

Pairs = list[tuple[Tensor, Tensor]]                             # parameters and their gradients


class Group(ParamGroup):
    """A dict with "params" and settings, which tells its optimizer when it is written to."""

    def __init__(self, owner: Optimizer, entries: Mapping[str, Any]) -> None:
        super().__init__(entries)
        self.owner = owner

    def __setitem__(self, key: str, value: Any) -> None:
        before = self.owner._flags(self)
        super().__setitem__(key, value)
        if key == "params" or self.owner._flags(self) != before:
            bump(self.owner)

    def update(self, *others: Any, **entries: Any) -> None:
        for key, value in dict(*others, **entries).items():
            self[key] = value

    def __reduce__(self) -> Any:
        """Copied and pickled with the owner, which need not be whole yet when the entries come back."""
        return Group.__new__, (Group,), {"owner": self.owner, "entries": dict(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.owner = state["owner"]
        dict.update(self, state["entries"])


class Optimizer:
    """The base: subclasses say which slots a parameter has, which settings are structure, and how one group is updated.

    `params` is an iterable of Tensors, of (name, Tensor) pairs, or of dicts {"params": ..., setting: value} for groups of their own.
    """

    slots: tuple[str, ...] = ()                                 # in the order of PyTorch's state_dict
    counted = True                                              # does the state_dict show the step count?

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise GraphError(f"{type(self).__name__} takes an iterable of parameters, got one Tensor", fix="[w], or net.parameters()")
        self._epoch = 0
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self._slots: dict[Tensor, dict[str, Tensor]] = {}
        self._counts: dict[Tensor, Tensor] = {}                 # parameter → the count that it shares
        given = list(params)
        if not given:
            raise GraphError(f"{type(self).__name__} got no parameters", why="the list is empty, or an iterator that was used up before",
                             fix="net.parameters() anew for each use")
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Have more parameters trained, with settings of their own; those left out are the optimizer's defaults."""
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise GraphError('a parameter group is a dict with "params"', fix='{"params": net.fc1.parameters(), "lr": 0.1}')
        params = param_group["params"]
        chosen: list[Tensor] = []
        for p in [params] if isinstance(params, Tensor) else params:
            p = p[1] if isinstance(p, tuple) else p
            if not isinstance(p, Tensor):
                raise GraphError(f"{type(self).__name__} trains Tensors, got {type(p).__name__}", fix="nn.Parameter(array)")
            if not p.is_leaf:
                raise GraphError(f"{type(self).__name__} trains leaves, got the result of an operation ({p.type})", fix="nn.Parameter, or detach()")
            if p.dtype.is_half:
                raise GraphError(f"{type(self).__name__} trains f32 and f64, got a {p.type}", why="an update is smaller than the last bit of f16 and bf16",
                                 fix="keep the parameter in f32, and use w.bfloat16() in the forward pass")
            if not any(p is q for q in chosen):                 # a shared parameter is updated once
                chosen.append(p)
        taken = {id(p) for g in self.param_groups for p in g["params"]}
        if any(id(p) in taken for p in chosen):
            raise GraphError("a parameter is in two groups of one optimizer", why="it would be updated twice in a step")
        settings = {**self.defaults, **param_group, "params": chosen}
        self._check(settings)
        self.param_groups.append(Group(self, settings))
        bump(self)

    # ---- for subclasses --------------------------------------------------------------------------------------------------------------

    def _check(self, settings: dict[str, Any]) -> None:
        """Raise GraphError where a setting cannot be."""

    def _flags(self, group: Group) -> tuple[Any, ...]:
        """What of the settings decides which nodes there are."""
        return ()

    def _counts_steps(self, group: Group) -> bool:
        return self.counted

    def _update(self, group: Group, pairs: Pairs, count: dict[Tensor, Tensor]) -> None:
        """Write the new parameters and slots. count[p] is the number of this step, 1 for the first, as f64[]."""
        raise NotImplementedError

    def _slot(self, p: Tensor, name: str) -> Tensor:
        """A state beside p, of its shape and type, zero at first."""
        own = self._slots.setdefault(p, {})
        if name not in own or own[name].type != p.type:
            own[name] = Tensor.from_storage(Storage(np.zeros(p.type.static_shape, p.dtype.numpy), f"{name}({p.name})" if p.name else name))
        return own[name]

    # ---- stepping --------------------------------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; with set_to_none=False make those that exist zero."""
        depends(self)
        with no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if set_to_none:
                        p.grad = None
                    else:
                        autograd.zero_grad(p)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient. With a closure, call it first (it computes the loss and the gradients) and return its result."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        depends(self)
        with no_grad(), phase("update"), scope(type(self).__name__):
            having = [(group, [(p, g) for p in group["params"] if (g := p.grad) is not None]) for group in self.param_groups]
            count = self._advance([p for group, pairs in having if self._counts_steps(group) for p, _ in pairs])
            for group, pairs in having:
                self._update(group, pairs, count)
        return loss

    def _advance(self, stepping: list[Tensor]) -> dict[Tensor, Tensor]:
        """Add one to the counts of these parameters; those that have shared a count with others until now get their own."""
        fresh: Tensor | None = None
        for p in stepping:
            if p not in self._counts:
                if fresh is None:
                    fresh = self._new_count(0)
                self._counts[p] = fresh
        chosen = set(stepping)
        for shared in {id(c): c for c in (self._counts[p] for p in stepping)}.values():
            users = [p for p, c in self._counts.items() if c is shared]
            if not chosen.issuperset(users):
                self._split(shared, [p for p in users if p in chosen])
        after: dict[int, Tensor] = {}
        for p in stepping:
            c = self._counts[p]
            if id(c) not in after:
                after[id(c)] = c + 1.0
                c.copy_(after[id(c)])
        return {p: after[id(self._counts[p])] for p in stepping}

    def _split(self, shared: Tensor, leaving: list[Tensor]) -> None:
        """A count of their own for these. Of equal value, so nothing is lost should the trace fail."""
        cell = None if current.tracer is None or shared.storage is None else current.tracer.cells.get(shared.storage)
        if cell is not None and cell.now is not cell.read:
            raise GraphError("two steps of one optimizer in one compiled function update different parameters", op="optimizer.step()", at=user_loc(),
                             fix="an optimizer for each set of parameters, or one function for each step")
        assert shared.storage is not None
        own = self._new_count(float(shared.storage.array))
        self._counts.update(dict.fromkeys(leaving, own))
        bump(self)

    def _new_count(self, value: float) -> Tensor:
        return Tensor.from_storage(Storage(np.float64(value), "step"))

    def _structure(self) -> tuple[Any, ...]:
        """Equal as long as a trace of `step` holds."""
        return tuple((tuple(map(Identity, g["params"])), tuple(Identity(self._counts.get(p)) for p in g["params"]), self._flags(g)) for g in self.param_groups)

    # ---- saving ----------------------------------------------------------------------------------------------------------------------

    def _steps_of(self, p: Tensor) -> int:
        c = self._counts.get(p)
        return 0 if c is None or c.storage is None else int(c.storage.array)

    @property
    def state(self) -> dict[Tensor, dict[str, Tensor]]:
        """The slots of every parameter that was stepped, and its step count where PyTorch has one. Read-only; write by load_state_dict."""
        return {p: {**({"step": self._counts[p]} if self.counted else {}), **self._slots.get(p, {})} for p in self._params() if self._steps_of(p)}

    def _params(self) -> list[Tensor]:
        return [p for g in self.param_groups for p in g["params"]]

    def state_dict(self) -> dict[str, Any]:
        """{"state": {number of the parameter: {slot: NumPy copy}}, "param_groups": [...]}, in PyTorch's form."""
        number = {p: i for i, p in enumerate(self._params())}
        state = {number[p]: {k: np.float32(t.numpy()) if k == "step" else t.numpy() for k, t in own.items()} for p, own in self.state.items()}
        groups = [{**{k: v for k, v in g.items() if k != "params"}, "params": [number[p] for p in g["params"]]} for g in self.param_groups]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take slots, step counts and settings from a state_dict of graphc or PyTorch with groups of the same sizes. All of it, or nothing."""
        groups = state_dict["param_groups"]
        mine, theirs = [len(g["params"]) for g in self.param_groups], [len(g["params"]) for g in groups]
        if mine != theirs:
            raise GraphError(f"the state_dict does not fit {type(self).__name__}", why=f"its groups hold {theirs} parameters, this optimizer's {mine}")
        pairs = list(zip(self._params(), (n for g in groups for n in g["params"]), strict=True))
        found: dict[Tensor, dict[str, np.ndarray[Any, Any]]] = {}
        steps: dict[Tensor, float] = {}
        for p, n in pairs:
            own = {k: np.asarray(v) for k, v in state_dict["state"].get(n, {}).items() if v is not None}
            found[p] = {k: own[k].astype(p.dtype.numpy) for k in self.slots if k in own}
            wrong = [f"{k} of {p.name or f'parameter {n}'} is {v.shape} there and {p.shape} here" for k, v in found[p].items() if v.shape != tuple(p.shape)]
            if wrong:
                raise GraphError(f"the state_dict does not fit {type(self).__name__}", why="; ".join(wrong))
            steps[p] = float(own["step"]) if "step" in own else float(bool(found[p]))
        for group, new in zip(self.param_groups, groups):
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in new.items() if k in self.defaults})
        for p, values in found.items():
            for name in {*values, *self._slots.get(p, {})}:
                slot = self._slot(p, name)
                assert slot.storage is not None
                slot.storage.assign(values.get(name, np.zeros(slot.storage.shape, slot.dtype.numpy)))
        self._load_steps(steps)

    def _load_steps(self, steps: dict[Tensor, float]) -> None:
        """Counts of these values, shared as they were where the values allow it."""
        before = dict(self._counts)
        renewed: dict[tuple[int, float], Tensor] = {}
        for p, n in steps.items():
            old = before.get(p)
            if old is None and n == 0:
                continue
            users = [q for q, c in before.items() if c is old] if old is not None else []
            if old is not None and all(steps[q] == n for q in users):
                assert old.storage is not None
                old.storage.assign(np.float64(n))
            else:
                key = (id(old), n)
                if key not in renewed:
                    renewed[key] = self._new_count(n)
                self._counts[p] = renewed[key]
        if renewed:
            bump(self)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, g in enumerate(self.param_groups):
            lines += [f"Parameter Group {i}", *(f"    {k}: {g[k]}" for k in sorted(g) if k != "params"), ""]
        return "\n".join([*lines[:-1], ")"])


def check_range(optimizer: Optimizer, settings: Mapping[str, Any], name: str, value: Any = None, below: float | None = None) -> None:
    """Refuse a negative setting, and one that reaches `below`."""
    v = settings[name] if value is None else value
    if isinstance(v, bool) or not isinstance(v, int | float | np.integer | np.floating) or not v >= 0 or (below is not None and not v < below):
        want = "a number >= 0" if below is None else f"a number in [0, {below:g})"
        raise GraphError(f"{type(optimizer).__name__}: {name} must be {want}, got {v!r}", at=user_loc())

