"""`latex`: a function and its gradients as formulas.

Scalars are written element by element, through `to_sympy`. Tensors are written as matrices: trace, name the composites (`textbook`), differentiate, give names
to what is used more than once, and write one aligned line for each name (`notation`, then `spell`).
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import sympy

from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.types import TensorType
from ..ir.node import Graph, Node
from ..ir.walk import topo
from ..ops import contract as contractions
from ..ops import elementwise as ops
from ..ops import leaf
from ..ops.call import inline
from ..ops.effect import pure_callback
from ..ops.leaf import splat
from ..ops.tuples import get
from ..trace.tensor import Tensor
from ..transform.cse import cse
from ..transform.grad import vjp
from .algebra import ADD, ATOM, Text, algebra, identity, phrase
from .notation import Iverson, Notation, indicator, opaque, size
from .spell import NoMatrix, Speller, gathered, indexed, subscripted
from .textbook import TRANSPARENT, textbook
from .translate import elements, symbols, traced


def latex(f: Any, *args: Any, wrt: Any = None) -> str:
    """The formula of a function, and with `wrt` of its gradients, as a LaTeX `aligned` block.

    args are arrays or `gx.Spec`s (sizes may be symbolic), of which only shape and dtype matter; left out, every parameter is a scalar. wrt names what to
    differentiate by: an argument's name, a parameter (or its name in the state_dict), a list of these, or True for every floating one; f then returns a
    scalar, L. f may be a function, a compiled function or a Graph.

    A function of scalars is written exactly. A function of tensors is written in matrices: vectors are columns, ⊙ and ⊘ go element by element, 1 is a
    vector of ones, diag(v) scales rows or columns, [c] is 1 where c holds and else 0, indices count from 0, softmax and logsumexp are along rows. What
    is used more than once has a name: Z for a sum with products, H for what else a layer gives, δ for the derivative of L by one of these. A stable
    softmax is written as softmax, and casts are not written. Linear algebra is written as such: A^{-1} b, det A, tr A, ‖x‖. Raises GraphError where a name
    of wrt is unknown, or f has loops.

    >>> import graphc as gx
    >>> print(gx.symbolic.latex(lambda x: gx.exp(-x * x), wrt="x"))
    \\begin{aligned}
    L &= e^{- x^{2}} \\\\
    \\frac{\\partial L}{\\partial x} &= - 2 x e^{- x^{2}}
    \\end{aligned}
    """
    graph = f if isinstance(f, Graph) else traced(f, args).graph
    lines = _scalar_lines(graph, wrt) if all(n.tensor.rank == 0 for n in topo((*graph.outputs, *graph.leaves)) if isinstance(n.type, TensorType)) \
        else _Derivation(graph, wrt).lines()
    return "\\begin{aligned}\n" + " \\\\\n".join(f"{left} &= {right}" for left, right in lines) + "\n\\end{aligned}"


def _targets(graph: Graph, wrt: Any) -> list[Node]:
    """The leaves that wrt means."""
    if wrt is None:
        return []
    floats = [n for n in graph.leaves if n.tensor.dtype.is_float]
    if wrt is True:
        return floats
    by_name = {str(n.attrs["name"]): n for n in floats}
    found = []
    for w in wrt if isinstance(wrt, (list, tuple)) else [wrt]:
        name = w.name if isinstance(w, Tensor) else str(w)
        if name not in by_name:
            raise GraphError(f"there is nothing called {name!r} to differentiate by", at=user_loc(), fix=f"one of {', '.join(by_name)}")
        found.append(by_name[name])
    return found


def _loss(graph: Graph, targets: Sequence[Node]) -> None:
    if targets and (len(graph.outputs) != 1 or graph.outputs[0].tensor.rank or not graph.outputs[0].tensor.dtype.is_float):
        got = ", ".join(str(o.type) for o in graph.outputs)
        raise GraphError(f"gradients are of a function that returns one floating scalar, got {got}", at=user_loc(), fix=".mean() or .sum() of what it returns")


def _output_names(graph: Graph, wrt: Any) -> list[str]:
    if len(graph.outputs) == 1:
        return ["L" if wrt is not None else "y"]
    return [f"y_{{{k}}}" for k in range(1, len(graph.outputs) + 1)]


def _slope(name: str, by: str) -> str:
    return f"\\frac{{\\partial {name}}}{{\\partial {by}}}"


def _scalar_lines(graph: Graph, wrt: Any) -> list[tuple[str, str]]:
    targets = _targets(graph, wrt)
    _loss(graph, targets)
    graph = textbook(graph)
    env = {n: symbols(str(n.attrs["name"]).replace(".", "_"), n.tensor) for n in graph.leaves}
    slopes = vjp(graph.outputs, [splat(1.0, graph.outputs[0])], targets) if targets else ()
    values = [sympy.latex(_folded(e.item())) for e in elements((*graph.outputs, *slopes), env, graph)]
    names = _output_names(graph, wrt)
    return list(zip([*names, *(_slope(names[0], sympy.latex(env[t].item())) for t in targets)], values, strict=True))


def _folded(e: Any) -> Any:
    """A sum of choices as one choice, where they are few."""
    choices = e.atoms(sympy.Piecewise)
    return sympy.piecewise_fold(e) if 0 < len(choices) <= 4 else e


class _Derivation:
    """Everything about one function of tensors: its graph with the gradients, who has which name, and the lines."""

    def __init__(self, graph: Graph, wrt: Any) -> None:
        targets = _targets(graph, wrt)
        _loss(graph, targets)
        graph = algebra(textbook(cse(graph)))
        self.cotangents: list[tuple[Node, Node]] = []

        def note(n: Node, g: Node) -> Node:
            self.cotangents.append((n, g))
            return g

        slopes = vjp(graph.outputs, [splat(1.0, graph.outputs[0])], targets, note) if targets else ()
        n = len(graph.outputs)
        kept = [g for _, g in self.cotangents]
        whole = Graph(graph.leaves, (*graph.outputs, *slopes, *kept, *(m for m, _ in self.cotangents)))
        whole = cse(inline(whole, barriers=False))
        self.outputs, self.slopes = whole.outputs[:n], whole.outputs[n:n + len(slopes)]
        late = whole.outputs[n + len(slopes):]
        self.cotangents = list(zip(late[len(kept):], late[:len(kept)], strict=True))
        self.leaves, self.targets = whole.leaves, targets
        self.states = {s.read for s in graph.states}
        self.names: dict[Node, str] = {}
        self.taken: set[str] = set()
        self.labels: dict[Node, str] = {}
        self.notation = Notation(self.names)
        self.steps: list[tuple[Node, Any, tuple[Any, ...]]] = []        # every line: the node, its element, and the indices that it is at
        self.output_names = _output_names(graph, wrt)
        self.taken.update(self.output_names)
        if any(m.op is identity for m in topo((*self.outputs, *self.slopes))):
            self.taken.add("I")
        for x, name in zip(self.leaves, leaf_names(self.leaves)):
            self._name(x, name)
            self.labels[x] = _subscript(name) if x.tensor.rank == 2 else ""

    def _name(self, n: Node, name: str) -> None:
        self.names[n] = name = self._free(name)
        self.taken.add(name)

    def _free(self, name: str) -> str:
        """The name, with a number if somebody has it."""
        head, _, rest = name.partition("_{")
        k, free = 1, name
        while free in self.taken:
            k += 1
            free = f"{head}_{{{rest[:-1]},{k}}}" if rest else f"{head}_{{{k}}}"
        return free

    # ---- who has a name ----------------------------------------------------------------------------------------------------------

    def lines(self) -> list[tuple[str, str]]:
        """Left- and right-hand sides: what leads to the outputs, the outputs, what leads to the gradients, the gradients."""
        order = topo((*self.outputs, *self.slopes))
        forward, shared = set(topo(self.outputs)), self._shared(order)
        of: dict[Node, Node] = {}
        for n, g in self.cotangents:
            of.setdefault(g, n)
        before: list[tuple[str, str]] = []
        after: list[tuple[str, str]] = []
        for n in order:
            if n in self.names or not isinstance(n.type, TensorType):
                continue
            self.labels[n] = self._label(n)
            name = self._fresh(n, forward, of)
            lines = before if n in forward else after
            if opaque(n):
                words = phrase(n, [self._operand(i) for i in n.inputs]) if n.op.family != "leaf" else None
                if words is not None and n not in shared:
                    self.names[n] = words
                    continue
                lines.append((name, words or self._opaque(n)))
                self._name(n, name)
            elif n in shared and n not in self.outputs:
                lines += self._define(n, name)
        results = [self._step(n, name, self.notation(n, at := self._at(n)), at) for n, name in zip(self.outputs, self.output_names)]
        by = [_slope(self.output_names[0], self.names[t]) for t in self.targets]
        slopes = [self._step(n, name, self.notation(n, at := self._at(n)), at) for n, name in zip(self.slopes, by)]
        return [*before, *results, *after, *slopes]

    def _shared(self, order: Iterable[Node]) -> set[Node]:
        """What is computed and read by two others; permuting, repeating and negating is not reading."""
        readers: dict[Node, set[Node]] = {}
        order = list(order)
        for n in order:
            for i in n.inputs:
                readers.setdefault(i, set()).add(n)
        uses: dict[Node, int] = {}
        for n in reversed(order):
            uses[n] = sum(uses[r] if r.op in TRANSPARENT else 1 for r in readers.get(n, ())) + (n in self.slopes)
        return {n for n in order if uses[n] >= 2 and n.op not in TRANSPARENT and n.inputs and not self._plain(n)}

    def _plain(self, n: Node) -> bool:
        """Too little for a name: a constant, however it is written."""
        return all(m.op in (leaf.const, leaf.iota, leaf.size) for m in topo([n]) if not m.inputs)

    # ---- what it is called -------------------------------------------------------------------------------------------------------

    def _label(self, n: Node) -> str:
        """The layer: the subscript of the parameter that it was last multiplied by."""
        if n.op is contractions.contract:
            for i in n.inputs:
                while i.op in TRANSPARENT:
                    i = i.inputs[0]
                if i in self.states and self.labels.get(i):
                    return self.labels[i]
        return next((self.labels[i] for i in n.inputs if i not in self.leaves and self.labels.get(i)), "")

    def _fresh(self, n: Node, forward: set[Node], of: dict[Node, Node]) -> str:
        """A letter by what it is, the layer as a subscript."""
        rank, label = sum(m != 1 for m in n.tensor.shape), self.labels[n]
        if n not in forward:
            letter, label = (r"\delta", self.labels.get(of[n], "")) if n in of else ("T", "")
        elif not n.tensor.dtype.is_float or n.op is ops.cast:
            source = next((self.names[m] for m in topo([n]) if m in self.leaves and not m.tensor.dtype.is_float), "m")
            letter, label = source.upper() if rank == 2 and len(source) == 1 else "m", ""
        elif rank < 2:
            letter, label = ("s", "") if rank == 0 else ("u", label)
        else:
            letter = "Z" if n.op in (ops.add, contractions.contract) else "H"
        return self._free(f"{letter}_{{{label}}}" if label else letter)

    # ---- a line ------------------------------------------------------------------------------------------------------------------

    @staticmethod
    def _at(n: Node) -> tuple[Any, ...]:
        """An index for each axis."""
        return tuple(sympy.Dummy(f"o{k}", integer=True) for k in range(n.tensor.rank))

    def _define(self, n: Node, name: str) -> list[tuple[str, str]]:
        """The line that gives a value its name; none where it is a number, or a multiple of what has a name already."""
        places = tuple(sympy.Integer(0) if m == 1 else i for i, m in zip(self._at(n), n.tensor.shape))
        at = self.notation.axes(n, places)
        body = gathered(_real(self.notation.definition(n, places)))
        tensors = [x for x in sympy.Mul.make_args(body) if any(x.has(i) for i in at)]
        if body.is_number or not body.args or isinstance(body, sympy.Indexed):
            return []
        if at and (not tensors or (len(tensors) == 1 and isinstance(tensors[0], sympy.Indexed))):
            return []
        self._name(n, name)
        one_hot = _one_hot(body, at)
        if one_hot is not None:
            self.notation.rows[name] = one_hot
        return [self._step(n, name, body, at)]

    def _step(self, n: Node, name: str, body: Any, at: tuple[Any, ...]) -> tuple[str, str]:
        body = _real(body)
        self.steps.append((n, body, at))
        speller = Speller(at)
        text, whole = speller.formula(body)
        return (name if whole else indexed_by(name, speller, at)), text

    def _operand(self, n: Node) -> Text:
        """How an operand is spelt; one column of a matrix is a vector."""
        if not isinstance(n.type, TensorType):
            return "", ATOM
        every = self._at(n)
        at = tuple(i for i, m in zip(every, n.tensor.shape) if m != 1 or n.op is leaf.input_)
        e = gathered(_real(self.notation(n, tuple(i if i in at else sympy.Integer(0) for i in every))))
        try:
            return Speller(at).matrix(e, at)
        except NoMatrix:
            return Speller(at).formula(e)[0], ADD

    def _opaque(self, n: Node) -> str:
        """An op without a notation, by its name."""
        if n.op is leaf.const:
            sizes = ", ".join(sympy.latex(size(m)) for m in n.tensor.shape)
            return f"\\text{{a constant of shape }} ({sizes})"
        if n.op is get and n.inputs[0].op is pure_callback:
            return self._host(n.inputs[0], n.attrs["index"])
        if any(not isinstance(i.type, TensorType) for i in n.inputs) or not isinstance(n.type, TensorType):
            raise GraphError(f"{n.op} has no formula", op=n.op, why="a loop, or an op with several results", fix="latex of its body")
        return self._applied(n.op.name, n.inputs)

    def _applied(self, name: str, inputs: Sequence[Node]) -> str:
        parts = [Speller(at := self._at(i)).formula(_real(self.notation(i, at)))[0] for i in inputs]
        return f"\\operatorname{{{name.replace('_', ' ')}}}\\left({', '.join(parts)}\\right)"

    def _host(self, n: Node, item: int) -> str:
        """A function of Python's, by its name; one of several results with its number."""
        text = self._applied(re.sub(r"\W", "", n.attrs["function"].name), n.inputs)
        return text if len(n.attrs["results"].items) == 1 else f"{text}_{{{item + 1}}}"


def indexed_by(name: str, speller: Speller, at: tuple[Any, ...]) -> str:
    """The left-hand side, where the right one is of an element."""
    letters = "".join(speller.elements.letter(i) for i in at)
    if name.startswith(r"\frac"):                       # the derivative by an element
        return f"{name[:-1]}_{{{letters}}}}}" if not name.endswith("}}") else f"{name[:-2]}, {letters}}}}}"
    return indexed(name, letters)


def _real(e: Any) -> Any:
    """A condition that is shown as a value is 1 or 0."""
    return indicator(e) if isinstance(e, sympy.logic.boolalg.Boolean) and not isinstance(e, sympy.Symbol) else e


def _one_hot(body: Any, at: tuple[Any, ...]) -> tuple[int, Any, Any] | None:
    """[y_i = j] m_i: along j it adds up to m_i, for y_i has been checked to be one of the j."""
    if len(at) != 2:
        return None
    for axis, j in enumerate(at):
        hit = [f for f in sympy.Mul.make_args(body) if isinstance(f, Iverson) and isinstance(f.args[0], sympy.Eq) and j in f.args[0].args]
        rest = [f for f in sympy.Mul.make_args(body) if f not in hit]
        if len(hit) == 1 and not any(f.has(j) for f in rest):
            return axis, sympy.Mul(*rest), at[1 - axis]
    return None


# ---- names of leaves -----------------------------------------------------------------------------------------------------------------


def leaf_names(leaves: Sequence[Node]) -> list[str]:
    """What arguments and parameters are called: x of two axes is X, fc1.weight is W_1, net.fc.bias is b_fc (the shortest part that tells them apart)."""
    names = [str(n.attrs["name"]) for n in leaves]
    paths = [n.rpartition(".")[0] for n in names]
    layers = {p: _layer(p, set(paths) - {""}) for p in paths}
    out = []
    for n, name, path in zip(leaves, names, paths):
        last = re.sub(r"^.*\['?([^'\]]*)'?\]$", r"\1", name.rpartition(".")[2])         # params['w1'] is w1
        text = subscripted({"weight": "W", "bias": "b"}.get(last, last) if path or last in ("weight", "bias") else last)
        if n.tensor.rank >= 2 and re.fullmatch(r"[a-z](_\{.*\})?", text):
            text = text[0].upper() + text[1:]
        if layers[path]:
            text = f"{text}_{{{layers[path]}}}" if "_{" not in text else f"{text[:-1]},{layers[path]}}}"
        out.append(text)
    return out


def _layer(path: str, every: set[str]) -> str:
    """The digits of the module's name where they tell the modules apart, else its name."""
    if not path:
        return ""
    digits = {p: "".join(re.findall(r"\d+$", p)) for p in every}
    if all(digits.values()) and len(set(digits.values())) == len(every):
        return digits[path]
    ends = {p: p.rpartition(".")[2] for p in every}
    short = ends[path] if len(set(ends.values())) == len(every) else path
    return r"\mathrm{" + short.replace("_", r"\_") + "}"


def _subscript(name: str) -> str:
    m = re.search(r"_\{(.*)\}$", name)
    return m[1] if m else ""
