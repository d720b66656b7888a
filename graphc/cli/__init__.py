"""The command `graphc`: train, show, doctor, ops, cache. No logic: the words of the command line, who answers to them, and what goes wrong as one line.

Exit codes: 0 all is well; 1 something failed (one line on standard error says what); 2 the command line cannot be understood; 130 Ctrl-C.
"""
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from .. import __version__
from ..core.errors import GraphError

STAGES = ("graph", "optimized", "loops", "llvm", "asm")


class UsageError(Exception):
    """The command line cannot be understood; found after argparse has read it."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, where argparse writes the whole usage before it."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (by default the process's own) and return its exit code. `--help` and a bad command line raise SystemExit."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        code = _run(options)
        sys.stdout.flush()
        return code
    except UsageError as e:
        return _fail(options, str(e), 2)
    except GraphError as e:
        where = f" (at {e.at})" if e.at else ""
        return _fail(options, "; ".join([f"{e.what}{where}", *([e.why] if e.why else []), *([f"fix: {e.fix}"] if e.fix else [])]))
    except BrokenPipeError:                             # `graphc ops | head`
        _silence_stdout()
        return 1
    except OSError as e:
        if e.filename is None:                          # it is standard output that is full
            _silence_stdout()
        return _fail(options, f"{'standard output' if e.filename is None else e.filename}: {e.strerror or e}")
    except (ImportError, MemoryError) as e:
        return _fail(options, str(e) or type(e).__name__)
    except KeyboardInterrupt:
        return _fail(options, "interrupted", 130)


def _run(options: argparse.Namespace) -> int:
    answer: Callable[[Any], int] = options.answer
    return answer(options)


def _fail(options: argparse.Namespace, message: str, code: int = 1) -> int:
    with suppress(OSError):
        print(f"graphc {options.command}: {' '.join(message.split())}", file=sys.stderr)
    return code


def _silence_stdout() -> None:
    """Let the interpreter's own flush at its end go nowhere."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


# ---- the words -----------------------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="graphc", description="A compiler for training steps.")
    parser.add_argument("--version", action="version", version=f"graphc {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{train,show,doctor,ops,cache}", parser_class=_Parser)

    p = commands.add_parser("train", help="train a classifier of images, save the model and a picture of its step",
                            description="Train a multilayer perceptron on the digits that come with graphc, or on a folder of MNIST's IDX files.")
    p.add_argument("--data", metavar="DIR", help="a folder of MNIST's four IDX files, .gz or not (default: the digits that come with graphc)")
    p.add_argument("--epochs", type=_whole(1), default=20, metavar="N")
    p.add_argument("--batch", type=_whole(1), default=64, metavar="N", help="images in a step (default: 64)")
    p.add_argument("--lr", type=_positive, default=2e-3, metavar="X", help="Adam's learning rate (default: 0.002)")
    p.add_argument("--hidden", type=_sizes, default=(128,), metavar="N,N", help='sizes of the hidden layers (default: 128; "" for none)')
    p.add_argument("--seed", type=_whole(0), default=0, metavar="N", help="of the first weights and of the order of the images (default: 0)")
    p.add_argument("--out", default="out", metavar="DIR", help="where model.safetensors (or .npz) and step.svg go (default: out)")
    p.add_argument("--backend", choices=("llvm", "numpy"), default="llvm")
    p.add_argument("--quiet", action="store_true", help="no progress, only the result")
    p.set_defaults(answer=_train)

    p = commands.add_parser("show", help="draw a function's graph, or print what becomes of it",
                            description="Run FILE as a module, compile FUNCTION, and draw or print it. A compiled function that FILE has called is "
                                        "shown as it was called last; for any other give --arg for each of its arguments.")
    p.add_argument("target", metavar="FILE:FUNCTION")
    how = p.add_mutually_exclusive_group()
    how.add_argument("--to", metavar="PICTURE", help="a file to draw into: .svg, .png, .pdf or .dot")
    how.add_argument("--text", choices=STAGES, help="print this stage (default: graph)")
    p.add_argument("--arg", action="append", default=[], metavar="SPEC",
                   help='an argument: an array like "f32[64,784]" or "i64[N]", or a number, True, False, None')
    p.add_argument("--size", action="append", default=[], metavar="N=64", help="of a symbolic axis, where machine code is wanted")
    p.add_argument("--main", action="store_true", help='run FILE as a program: what stands under if __name__ == "__main__" too')
    p.add_argument("--backend", choices=("llvm", "numpy"), help="of a function that FILE has not compiled itself")
    p.set_defaults(answer=_show)

    p = commands.add_parser("doctor", help="versions, this machine, and a self-test",
                            description="Say what graphc finds here, and test every evaluator on a small step.")
    p.add_argument("--json", action="store_true")
    p.set_defaults(answer=_doctor)

    p = commands.add_parser("ops", help="the primitives",
                            description="Every primitive of the tensor graph: what it means, and whether it has a derivative.")
    p.add_argument("--json", action="store_true")
    p.set_defaults(answer=_ops)

    p = commands.add_parser("cache", help="compiled code that is kept between processes",
                            description="List what is kept, print the folder's path, or remove everything. GRAPHC_CACHE_DIR names another folder, "
                                        "GRAPHC_CACHE_SIZE how much it may hold (256M), GRAPHC_CACHE=0 does without.")
    p.add_argument("what", nargs="?", choices=("list", "path", "clear"), default="list")
    p.add_argument("--json", action="store_true", help="list as JSON")
    p.set_defaults(answer=_cache)
    return parser


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number >= {least}")
        return int(text)
    return parse


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number > 0")
    return value


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(_whole(1), text.split(","))) if text else ()


# ---- who answers ---------------------------------------------------------------------------------------------------------------------


def _train(options: argparse.Namespace) -> int:
    from .train import Settings, train
    return train(Settings(options.data, options.epochs, options.batch, options.lr, options.hidden, options.seed, options.out, options.backend, options.quiet))


def _show(options: argparse.Namespace) -> int:
    from .show import show
    return show(options.target, to=options.to, stage=options.text or "graph", arguments=options.arg, sizes=options.size, as_main=options.main,
                backend=options.backend)


def _doctor(options: argparse.Namespace) -> int:
    from .doctor import doctor
    return doctor(options.json)


def _ops(options: argparse.Namespace) -> int:
    from .table import ops
    return ops(options.json)


def _cache(options: argparse.Namespace) -> int:
    from .cache import cache
    return cache(options.what, options.json)
