"""LLVM IR text to machine code, and machine code into this process. One path for now, later and elsewhere: text -> object bytes -> loaded code.

No IR passes run: the text is already what it should be. Code generation is at level 1; level 0 allocates registers so badly that contractions
are eight times slower.
"""
from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import count
from typing import Any

from ..core import fork
from ..core.target import Target
from .cache import Store, object_key

LEVEL = 1
_serial = count()


@lru_cache(None)
def _binding() -> Any:
    """llvmlite.binding, initialised."""
    from llvmlite import binding

    lock = getattr(getattr(binding.ffi.lib, "_lock", None), "_lock", None)      # around every call into LLVM, freeing code included
    if lock is not None:
        fork.hold(lock, 1)
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()
    return binding


@lru_cache(None)
def version() -> str:
    """LLVM's."""
    return ".".join(map(str, _binding().llvm_version_info))


@lru_cache(None)
def _others() -> None:
    """Code generators of machines that this one is not."""
    _binding().initialize_all_targets()
    _binding().initialize_all_asmprinters()


@lru_cache(16)
def _machine(target: Target, level: int) -> Any:
    binding = _binding()
    if target.triple:
        _others()
    triple = target.triple or binding.get_process_triple()
    return binding.Target.from_triple(triple).create_target_machine(cpu=target.cpu, features=target.features, opt=level, reloc="pic", codemodel="default",
                                                                    jit=False)


def _module(text: str, target: Target, level: int) -> tuple[Any, Any]:
    machine = _machine(target, level)
    module = _binding().parse_assembly(text)
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    return module, machine


def compile_text(text: str, target: Target, level: int = LEVEL) -> bytes:
    """The object file of a module."""
    module, machine = _module(text, target, level)
    return bytes(machine.emit_object(module))


def cached_object(text: str, target: Target, store: Store | None, makers: Iterable[str] = (), level: int = LEVEL) -> tuple[bytes, str, bool]:
    """The object file of a module, from the store where it is there, else compiled and put there; its key; and whether it was there.

    makers: whatever besides this file decides what the bytes are, as versions.
    """
    key = object_key(text, target, level, [version(), *makers])
    entry = store.get(key) if store is not None else None
    if entry is not None and entry.header.get("kind") == "object":
        return entry.data, key, True
    obj = compile_text(text, target, level)
    if store is not None:
        store.put(key, {"kind": "object", "cpu": target.cpu, "llvm": version()}, obj)
    return obj, key, False


def asm(text: str, target: Target, level: int = LEVEL) -> str:
    """The assembly of a module: for reading."""
    module, machine = _module(text, target, level)
    return str(machine.emit_assembly(module))


class Code:
    """Machine code in this process. It is freed with this object, so whoever holds an address holds this too."""

    def __init__(self, engine: Any, library: Any, symbols: tuple[str, ...]) -> None:
        self._engine, self._library = engine, library
        self._addresses = {name: int(library[name]) for name in symbols}

    def address(self, name: str) -> int:
        return self._addresses[name]


def load(obj: bytes, symbols: tuple[str, ...] = ("step",)) -> Code:
    """Load an object file that defines `symbols`."""
    binding = _binding()
    machine = binding.Target.from_default_triple().create_target_machine(opt=LEVEL, jit=True)
    engine = binding.create_lljit_compiler(machine)
    builder = binding.JITLibraryBuilder().add_object_img(obj).add_current_process()
    for name in symbols:
        builder = builder.export_symbol(name)
    return Code(engine, builder.link(engine, f"code{next(_serial)}"), symbols)
