"""The printed form of a graph, and its inverse: `equal(parse(show(g)), g)`.

    graph train_step(%x: f32[64,784]) {
      state %w: f32[128,784] = "fc1.weight"
      %1: f32[64,128] = contract(%x, %w) {batch=((), ()), contracting=((1,), (1,))}      # model.py:41  in Net.forward
      %h: f32[64,128] = tanh(%1)
      return %h
      update "fc1.weight" = %w
    }

A line is a node: its name, its type, op, inputs, attributes in alphabetical order. Names are the user's where there are any, else numbers in
topological order. Constants are exact: floats by their shortest digits, nan with a payload by its bits. Functions of Python's are their names. Comments say
where a node came from and are not read back. Graphs among the attributes stand in place, indented; their names are their own. Not a file format:
`graphc.io` saves.

The idea of text that parses back into what was printed is MLIR's and xDSL's.
"""
from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from ..core import half
from ..core.dims import Dim
from ..core.dims import parse as parse_size
from ..core.dtype import BY_NAME, DType, as_dtype, from_numpy
from ..core.errors import GraphError
from ..core.types import TOKEN, TensorType, TokenType, TupleType, Type
from .host import Host
from .node import Graph, Info, Node, State
from .op import REGISTRY
from .walk import topo

RESERVED = {"True", "False", "None", "nan", "inf", "token", "types", "dim", "graph", "host", *BY_NAME}
MARGIN = 100                                            # column from which comments stand

# ---- values ----------------------------------------------------------------------------------------------------------------------


def number(v: Any) -> str:
    """A Python or NumPy number, exactly and as short as it can be."""
    if isinstance(v, bool | np.bool_ | int | np.integer):
        return str(v)
    if isinstance(v, np.void):                          # bf16, whose numbers are f32's
        v, raw = half.from_half(v)[()], half.bits(v)
        return f"nan_{raw:x}" if v != v and raw != 0x7FC0 else number(v)
    if v != v:
        bits = np.asarray(v).view(f"u{np.asarray(v).itemsize}").item()
        quiet = np.asarray(np.nan, np.asarray(v).dtype).view(f"u{np.asarray(v).itemsize}").item()
        return "nan" if bits == quiet else f"nan_{bits:x}"
    if isinstance(v, np.float32):
        short = str(v)
        if len(short) > 15:                                         # NumPy 1 writes 10000000000000.0 where NumPy 2 has 1e+13
            short = np.format_float_scientific(v, trim="-")
        return short if np.float32(float(short)) == v else repr(float(v))       # a decimal is read as f64, then rounded
    return repr(float(v))


def literal(value: Any, nested: Callable[[Graph], str] | None = None) -> str:
    """An attribute as it is printed. `nested` prints graphs."""
    if isinstance(value, str):
        return json.dumps(value)
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, np.ndarray):
        return f"{TensorType(value.shape, as_dtype(value.dtype))}({elements(value)})"
    if isinstance(value, np.generic):
        return f"{as_dtype(value.dtype)}({number(value)})"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, tuple):
        return f"({', '.join(literal(v, nested) for v in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, Dim):
        return f"dim({value})" if value.names & RESERVED else str(value)
    if isinstance(value, TupleType):
        return f"types({', '.join(literal(t) for t in value.items)})"
    if isinstance(value, DType | TensorType | TokenType):
        return str(value)
    if isinstance(value, Host):
        return f"host({json.dumps(value.name)})"
    if isinstance(value, Graph) and nested is not None:
        return nested(value)
    raise TypeError(f"an attribute cannot be {value!r}")


def elements(a: np.ndarray[Any, Any], most: int | None = None) -> str:
    """The elements of an array as nested lists; with `most`, three dots in the place of more than that."""
    if most is not None and a.size > most:
        return "..."
    if a.ndim == 0:
        return number(a[()])
    return f"[{', '.join(elements(row) for row in a)}]" if a.ndim > 1 else f"[{', '.join(map(number, a))}]"


# ---- printing --------------------------------------------------------------------------------------------------------------------


def show(graph: Graph, *, names: bool = True, locs: bool = True, most: int | None = None) -> str:
    """The text of a graph. Without `names` it is the same for equal graphs; `most` leaves out larger arrays (and then does not parse)."""
    out: list[str] = []
    _show(graph, "", "", "", out, names, locs, most)
    return "\n".join(out)


def equal(a: Graph, b: Graph) -> bool:
    """Whether two graphs are the same up to the names of nodes. The names of states count, and so does what is shared."""
    return show(a, names=False, locs=False) == show(b, names=False, locs=False)


def name_nodes(graph: Graph, order: Iterable[Node], named: bool = True) -> dict[Node, str]:
    """A name for each node, each name once: the user's where there is one, else its number."""
    out: dict[Node, str] = {}
    taken: set[str] = set()

    def give(node: Node, name: str) -> None:
        if name in taken:
            k = next(k for k in range(2, len(taken) + 3) if f"{name}_{k}" not in taken)
            name = f"{name}_{k}"
        taken.add(name)
        out[node] = name

    for prefix, leaves in (("x", graph.inputs), ("s", tuple(s.read for s in graph.states))):
        for k, leaf in enumerate(leaves):
            give(leaf, sanitise(str(leaf.attrs.get("name", prefix))) if named else f"{prefix}{k}")
    for k, node in enumerate((n for n in order if n not in out), 1):
        found = graph.where(node).names if named else ()
        give(node, sanitise(min(found, key=lambda s: (len(s), s))) if found else str(k))
    return out


def sanitise(name: str) -> str:
    """A user's name with what the text has no room for taken out; never a bare number."""
    name = re.sub(r"[^\w.]+", "_", name, flags=re.ASCII).strip("_") or "unnamed"
    return f"_{name}" if name[0].isdigit() else name


def _show(graph: Graph, pad: str, head: str, tail: str, out: list[str], named: bool, locs: bool, most: int | None) -> None:
    order = topo((*graph.leaves, *graph.roots))
    name = name_nodes(graph, order, named)
    title = (graph.name if graph.name.isidentifier() else json.dumps(graph.name)) if named else "_"
    out.append(f"{pad}{head}graph {title}({', '.join(f'%{name[i]}: {i.type}' for i in graph.inputs)}) {{")
    inner = pad + "  "
    out += [f"{inner}state %{name[s.read]}: {s.read.type} = {json.dumps(s.name)}" for s in graph.states]
    given = set(graph.leaves)
    for n in order:
        if n in given:
            continue
        start = f"{inner}%{name[n]}: {n.type} = "
        bodies = {k: v for k, v in n.attrs.items() if isinstance(v, Graph)}
        if _is_plain_const(n):
            line = f"{start}const {elements(np.asarray(n.attrs['value']), most)}"
        else:
            line = f"{start}{n.op}({', '.join(['%' + name[i] for i in n.inputs])})"
            if n.attrs:
                line += f" {{{', '.join(f'{k}={literal(v)}' for k, v in sorted(n.attrs.items()) if k not in bodies)}"
                for k, body in sorted(bodies.items()):
                    lines: list[str] = []
                    _show(body, inner + "  ", f"{k}=", "", lines, named, locs, most)
                    line += ("," if line[-1] != "{" else "") + "\n" + "\n".join(lines)
                line += "}"
        out.append(line + _comment(graph, n, line) if locs else line)
    out.append(f"{inner}return {', '.join('%' + name[o] for o in graph.outputs)}".rstrip())
    out += [f"{inner}update {json.dumps(s.name)} = %{name[s.write]}" for s in graph.states if s.write is not s.read]
    out += [f"{inner}effect %{name[e]}" for e in graph.effects]
    out.append(f"{pad}}}{tail}")


def _is_plain_const(n: Node) -> bool:
    """Whether value alone, beside the type, says everything."""
    a, t = n.attrs, n.type
    if n.op.name != "const" or n.inputs or a.keys() != {"value", "shape", "dtype"} or not isinstance(t, TensorType):
        return False
    v = a["value"]
    return (isinstance(v, np.ndarray | np.generic) and v.shape in ((), t.shape) and from_numpy(v.dtype) is t.dtype
            and a["shape"] == t.shape and a["dtype"] is t.dtype)


def _comment(graph: Graph, n: Node, line: str) -> str:
    places = sorted(map(str, graph.where(n).locs))
    if not places:
        return ""
    gap = max(2, MARGIN - len(line.rpartition("\n")[2]))
    return f"{' ' * gap}# {places[0]}{f', and {len(places) - 1} more' if len(places) > 1 else ''}"


# ---- parsing ---------------------------------------------------------------------------------------------------------------------

@lru_cache(1)
def _token() -> re.Pattern[str]:
    """Compiled when something is parsed: who only prints does not wait for it."""
    return re.compile(r"""\s*(?:
    (?P<comment> \#[^\n]*) | (?P<string> "(?:[^"\\]|\\.)*") | (?P<name> %[\w.]+) | (?P<type> (?:bool|b?[iuf]\d+)\[[^][]*\])
    | (?P<word> [-+.\w*]+) | (?P<punct> [(){}\[\],:=]) | (?P<end> $) )""", re.VERBOSE | re.ASCII)


def parse(text: str) -> Graph:
    """The graph of a printed form. Checks the grammar only; `verify` checks the rest. Raises GraphError with the line."""
    p = _Parser(text)
    graph = p.graph()
    p.expect("")
    return graph


class _Parser:
    """Recursive descent over a list of tokens; recursion is as deep as graphs stand in graphs."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = []
        self.starts: list[int] = []
        self.at = 0
        self.types: dict[str, TensorType] = {}
        end = 0
        while end < len(text):
            m = _token().match(text, end)
            if m is None:
                raise self._error(f"no token begins with {text[end:].lstrip()[:10]!r}", end)
            if m.lastgroup != "comment" and m.lastgroup != "end":
                self.tokens.append(m.group(m.lastgroup or 0))
                self.starts.append(m.start(m.lastgroup or 0))
            end = m.end()
        self.tokens.append("")
        self.starts.append(len(text))

    def _error(self, what: str, start: int | None = None) -> GraphError:
        start = self.starts[max(0, self.at - 1)] if start is None else start
        return GraphError(f"this is not the text of a graph: {what}", at=f"line {self.text.count(chr(10), 0, start) + 1}")

    def next(self) -> str:
        self.at = min(self.at + 1, len(self.tokens))
        return self.tokens[self.at - 1]                 # the last one is the end, and comes again and again

    @property
    def peek(self) -> str:
        return self.tokens[min(self.at, len(self.tokens) - 1)]

    def expect(self, token: str) -> None:
        if (found := self.next()) != token:
            raise self._error(f"expected {token or 'the end'!r}, found {found or 'the end'!r}")

    def accept(self, token: str) -> bool:
        if self.peek == token:
            self.at += 1
            return True
        return False

    def listed(self, item: Callable[[], Any], close: str) -> list[Any]:
        """item, item, ... close; a comma before the close is allowed."""
        out: list[Any] = []
        while not self.accept(close):
            out.append(item())
            if not self.accept(","):
                self.expect(close)
                break
        return out

    # -- types and values --

    def type(self) -> Type:
        token = self.next()
        if token == "(":
            return TupleType(tuple(self.listed(self.type, ")")))
        return TOKEN if token == "token" else self.tensor_type(token)

    def tensor_type(self, token: str) -> TensorType:
        found = self.types.get(token)
        if found is None:
            dtype, bracket, rest = token.partition("[")
            if not bracket or dtype not in BY_NAME:
                raise self._error(f"{token!r} is not a type")
            found = self.types[token] = TensorType(tuple(parse_size(n.strip()) for n in rest[:-1].split(",") if n.strip()), BY_NAME[dtype])
        return found

    def string(self) -> str:
        token = self.next()
        if token[:1] != '"':
            raise self._error(f"expected a string, found {token!r}")
        return str(json.loads(token))

    def scalar(self, dtype: DType) -> Any:
        """A number as an element of that dtype."""
        token = self.next()
        try:
            if dtype.kind == "bool":
                return np.bool_({"True": True, "False": False}[token])
            if token.startswith("nan_"):
                return np.asarray(int(token[4:], 16), f"u{dtype.itemsize}").view(dtype.numpy)[()]
            return half.scalar(float(token) if dtype.is_inexact else int(token), dtype)
        except (KeyError, ValueError, OverflowError):
            raise self._error(f"{token!r} is not a {dtype}") from None

    def elements(self, type: TensorType) -> np.ndarray[Any, Any]:
        flat: list[Any] = []
        depth = 0
        while True:                                     # the type says the shape, so the brackets need only balance
            if self.accept("["):
                depth += 1
            elif self.accept("]"):
                depth -= 1
            elif not self.accept(","):
                flat.append(self.scalar(type.dtype))
            if depth == 0:
                break
        if len(flat) != type.size:
            raise self._error(f"{len(flat)} numbers for {type}")
        out = np.empty(len(flat), type.dtype.numpy)
        out[:] = flat                                   # element by element, so a nan keeps its payload
        out = out.reshape(type.static_shape)
        out.flags.writeable = False
        return out

    def value(self) -> Any:
        token = self.next()
        if token == "(":
            return tuple(self.listed(self.value, ")"))
        if token.endswith("]"):
            type = self.tensor_type(token)
            if not self.accept("("):
                return type
            array = self.elements(type)
            self.expect(")")
            return array
        if token[:1] == '"':
            self.at -= 1
            return self.string()
        match token:
            case "True": return True
            case "False": return False
            case "None": return None
            case "token": return TOKEN
            case "graph":
                self.at -= 1
                return self.graph()
            case "types":
                self.expect("(")
                return TupleType(tuple(self.listed(self.value, ")")))
            case "host":
                self.expect("(")
                host = Host(self.string())
                self.expect(")")
                return host
            case "dim":
                self.expect("(")
                size = parse_size(self.next())
                self.expect(")")
                return size
        if token in BY_NAME:
            if not self.accept("("):
                return BY_NAME[token]
            scalar = self.scalar(BY_NAME[token])
            self.expect(")")
            return scalar
        for read in (int, float, parse_size):
            try:
                return read(token)
            except (ValueError, GraphError):
                pass
        if token.startswith("nan_"):
            return float(np.asarray(int(token[4:], 16), "u8").view("f8"))
        raise self._error(f"{token!r} is not a value")

    # -- graphs --

    def graph(self) -> Graph:
        self.expect("graph")
        name = self.string() if self.peek[:1] == '"' else self.next()
        env: dict[str, Node] = {}
        info: dict[Node, Info] = {}

        def use() -> Node:
            token = self.next()
            if token not in env:
                raise self._error(f"{token!r} is not defined above")
            return env[token]

        def define(token: str, node: Node) -> Node:
            if token[:1] != "%" or token in env:
                raise self._error(f"{token!r} is defined twice" if token in env else f"{token!r} cannot be the name of a node")
            env[token] = node
            if not token[1].isdigit() and node.op.name != "input":
                info[node] = Info(names=frozenset({token[1:]}))
            return node

        def leaf() -> Node:
            token = self.next()
            self.expect(":")
            type = self.tensor_type(self.next())
            return define(token, Node(op("input"), (), {"name": token[1:], "shape": type.shape, "dtype": type.dtype}, type))

        def op(token: str) -> Any:
            if token not in REGISTRY:
                raise self._error(f"there is no op {token!r}")
            return REGISTRY[token]

        def attribute() -> tuple[str, Any]:
            key = self.next()
            self.expect("=")
            return key, self.value()

        self.expect("(")
        inputs = tuple(self.listed(leaf, ")"))
        self.expect("{")
        outputs: tuple[Node, ...] = ()
        effects: list[Node] = []
        reads: dict[str, Node] = {}
        writes: dict[str, Node] = {}
        while not self.accept("}"):
            token = self.next()
            if token == "state":
                node = leaf()
                self.expect("=")
                reads[self.string()] = node
            elif token == "return":
                outputs = (use(), *(use() for _ in iter(lambda: self.accept(","), False))) if self.peek[:1] == "%" else ()
            elif token == "update":
                key = self.string()
                self.expect("=")
                if key not in reads:
                    raise self._error(f"there is no state {key!r}")
                writes[key] = use()
            elif token == "effect":
                effects.append(use())
            else:
                self.expect(":")
                type = self.type()
                self.expect("=")
                what = op(self.next())
                if what.name == "const" and self.peek != "(" and isinstance(type, TensorType):
                    value = self.elements(type) if self.peek == "[" else self.scalar(type.dtype)
                    define(token, Node(what, (), {"value": value, "shape": type.shape, "dtype": type.dtype}, type))
                    continue
                self.expect("(")
                args = tuple(self.listed(use, ")"))
                define(token, Node(what, args, dict(self.listed(attribute, "}")) if self.accept("{") else {}, type))
        states = tuple(State(key, read, writes.get(key, read)) for key, read in reads.items())
        return Graph(inputs, outputs, states, tuple(effects), info, "graph" if name == "_" else name)
