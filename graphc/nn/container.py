"""Modules that hold modules."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, overload

from ..core.errors import GraphError
from .module import Module


class Sequential(Module):
    """Each module on the result of the one before: `Sequential(Linear(4, 3), ReLU())`, or an OrderedDict of named modules.

    Children are called "0", "1", ... as in PyTorch.
    """

    def __init__(self, *modules: Module | OrderedDict[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], OrderedDict):
            named: Iterable[tuple[str, Any]] = modules[0].items()
        else:
            named = ((str(i), m) for i, m in enumerate(modules))
        for name, m in named:
            _add(self, name, m)

    def forward(self, input: Any) -> Any:
        for m in self._modules.values():
            input = m(input)
        return input

    def append(self, module: Module) -> Sequential:
        _add(self, str(len(self)), module)
        return self

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    @overload
    def __getitem__(self, i: int) -> Module: ...
    @overload
    def __getitem__(self, i: slice) -> Sequential: ...
    def __getitem__(self, i: int | slice) -> Module | Sequential:
        if isinstance(i, slice):
            return Sequential(OrderedDict(list(self._modules.items())[i]))
        found: Module = list(self._modules.values())[i]
        return found

    def __setitem__(self, i: int, module: Module) -> None:
        _add(self, list(self._modules)[i], module)

    def __delitem__(self, i: int | slice) -> None:
        """Take modules out. Where the names are numbers they are counted anew, as PyTorch does."""
        names = list(self._modules)
        rest = [(name, self._modules[name]) for name in names if name not in set(names[i] if isinstance(i, slice) else [names[i]])]
        counted = names == [str(k) for k in range(len(names))]
        for name in names:
            delattr(self, name)
        for k, (name, m) in enumerate(rest):
            _add(self, str(k) if counted else name, m)


class ModuleList(Module):
    """A list whose modules are registered. It has no forward: loop over it."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def append(self, module: Module) -> ModuleList:
        _add(self, str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        for m in modules:
            self.append(m)
        return self

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, i: int) -> Module:
        found: Module = list(self._modules.values())[i]
        return found

    def __setitem__(self, i: int, module: Module) -> None:
        _add(self, list(self._modules)[i], module)


def _add(to: Module, name: str, module: object) -> None:
    if not isinstance(module, Module):
        kind = module.__name__ if isinstance(module, type) or (callable(module) and hasattr(module, "__name__")) else type(module).__name__
        raise GraphError(f"{type(to).__name__} holds modules, got {kind}",
                         fix=f"{kind}(...), an instance of the class" if isinstance(module, type) else "a class with a forward, e.g. nn.ReLU()")
    to.register_module(name, module)
