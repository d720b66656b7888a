"""`graphc show FILE:FUNCTION`: run a file, find a function in it, compile it, and draw it or print a stage of it."""
from __future__ import annotations

import ast
import contextlib
import importlib.machinery
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core.dtype import as_dtype
from ..core.errors import GraphError
from ..driver import CompiledFunction, Lowered, compile
from ..trace.spec import Spec
from . import UsageError

_ARRAY = re.compile(r"\s*([A-Za-z_]\w*)\s*\[([^\[\]]*)\]\s*")


def show(target: str, *, to: str | None = None, stage: str = "graph", arguments: Sequence[str] = (), sizes: Sequence[str] = (), as_main: bool = False,
         backend: str | None = None) -> int:
    """Draw into `to`, or print a stage."""
    file, colon, name = target.rpartition(":")
    if not colon or not file or not name or not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{target!r} is no FILE:FUNCTION, as in train.py:train_step")
    specs, bound = [argument(a) for a in arguments], dict(map(size, sizes))
    with running(Path(file), as_main) as scope:
        lowered = _lowered(_find(scope, file, name), name, specs, backend)
        dims = lowered._variant.traced.dims
        if unknown := sorted(bound.keys() - dims):
            raise UsageError(f"--size {unknown[0]}: {name} has no symbolic size of that name")
        if to is None:
            if stage != "graph" and (open_ := sorted(dims - bound.keys())):
                raise UsageError(f"--text {stage} is made for numbers: add {' '.join(f'--size {d}=64' for d in open_)}")
            text = lowered.text(stage, **bound)
        else:
            print(f"wrote {lowered.draw(to)}")
            return 0
    print(text)
    return 0


def argument(text: str) -> Any:
    """"f32[64,784]" as a Spec; anything else as a Python number, True, False, None or string."""
    if (found := _ARRAY.fullmatch(text)) is not None:
        kind, axes = found.groups()
        try:
            return Spec(tuple(int(a) if a.strip().isdigit() else a.strip() for a in axes.split(",")) if axes.strip() else (), as_dtype(kind))
        except (TypeError, GraphError) as e:
            raise UsageError(f"--arg {text!r}: {e.what if isinstance(e, GraphError) else e}") from None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = ...
    if not isinstance(value, bool | int | float | str | None):
        raise UsageError(f'--arg {text!r} is neither an array like "f32[64,784]" nor a number, True, False, None or a quoted string')
    return value


def size(text: str) -> tuple[str, int]:
    """"N=64"."""
    name, _, number = text.partition("=")
    if not name.isidentifier() or not number.isdigit() or int(number) < 1:
        raise UsageError(f"--size {text!r} is no NAME=NUMBER, as in N=64")
    return name, int(number)


@contextlib.contextmanager
def running(file: Path, as_main: bool = False) -> Iterator[dict[str, Any]]:
    """The globals of a file that was run; what it prints goes to standard error. Its own errors are a GraphError with its line."""
    if file.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(file))
    with open(file, "rb"):                              # OSError: it cannot be read
        pass
    name = "__main__" if as_main else "graphc_shown_file"
    loader = importlib.machinery.SourceFileLoader(name, str(file.resolve()))
    spec = importlib.util.spec_from_file_location(name, file.resolve(), loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name), sys.argv, sys.dont_write_bytecode
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    sys.modules[name], sys.argv, sys.dont_write_bytecode = module, [str(file)], True
    try:
        with contextlib.redirect_stdout(sys.stderr), _one_line(file):
            loader.exec_module(module)
        yield module.__dict__
    finally:
        sys.argv, sys.dont_write_bytecode = before[1:]
        if before[0] is not None:
            sys.modules[name] = before[0]
        else:
            sys.modules.pop(name, None)
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


@contextlib.contextmanager
def _one_line(file: Path) -> Iterator[None]:
    """An error in the user's file as one that names the file's own line."""
    try:
        yield
    except (GraphError, KeyboardInterrupt):
        raise
    except SystemExit as e:
        if e.code not in (None, 0):
            raise GraphError(f"{file} ended with exit code {e.code}") from None
    except BaseException as e:
        lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if os.path.basename(f.filename) == file.name]
        line = e.lineno if isinstance(e, SyntaxError) else lines[-1] if lines else None
        text = e.msg if isinstance(e, SyntaxError) else str(e)
        raise GraphError(f"{file}{f':{line}' if line else ''} raised {type(e).__name__}{f': {text}' if text else ''}") from None


def _find(scope: dict[str, Any], file: str, name: str) -> Any:
    first, *rest = name.split(".")
    if first not in scope:
        known = sorted(k for k, v in scope.items() if isinstance(v, CompiledFunction) or (inspect.isfunction(v) and v.__module__ == scope["__name__"]))
        raise GraphError(f"{file} has no {first!r}", fix=f"there is {', '.join(known)}" if known else None)
    found = scope[first]
    for part in rest:
        if not hasattr(found, part):
            raise GraphError(f"{name!r} is not in {file}: {type(found).__name__} has no {part!r}")
        found = getattr(found, part)
    if not callable(found) or inspect.isclass(found):
        raise GraphError(f"{name} in {file} is {'a class' if inspect.isclass(found) else f'a {type(found).__name__}'}, not a function")
    return found


def _lowered(fn: Callable[..., Any], name: str, specs: Sequence[Any], backend: str | None) -> Lowered:
    """The function traced: for the arguments given, else as it was called last, else for none."""
    made = fn if isinstance(fn, CompiledFunction) else compile(fn, **({"backend": backend} if backend else {}))
    if not specs and made._last is not None:
        return made.lowered
    required, most = _parameters(made.fn)
    if not required <= len(specs) <= most:
        given = f", {len(specs)} given" if specs else " and was not called while the file ran" if isinstance(fn, CompiledFunction) else ""
        raise GraphError(f"{name}{inspect.signature(made.fn)} needs {_count(required, most)}{given}",
                         fix="--arg 'f32[64,784]' for each" + (", or --main, if the file calls it there" if isinstance(fn, CompiledFunction) else ""))
    return made.lower(*specs)


def _count(required: int, most: float) -> str:
    text = f"{required}" if required == most else f"{required} or more" if most == float("inf") else f"{required} to {most}"
    return f"{text} argument{'s' * (text != '1')}"


def _parameters(fn: Callable[..., Any]) -> tuple[int, float]:
    """How many arguments a function must have, and how many it can have."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return 0, float("inf")
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    most = float("inf") if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional)
    return sum(p.default is p.empty for p in positional), most
