"""Writes docs/derivatives.md: every derivative rule of the registry and what it has been held against. A test says when the page is stale.

    python docs/make_derivatives.py
"""
from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent)]

import graphc.ops  # noqa: E402, F401  (fills the registry)
from graphc.core.dtype import f32, i64  # noqa: E402
from graphc.ir.op import REGISTRY, Op  # noqa: E402
from graphc.symbolic.meaning import LOGIC, MEANING  # noqa: E402
from graphc.symbolic.rules import How, prove  # noqa: E402
from graphc.testing import check_rule  # noqa: E402

HEAD = """# The derivatives, proved

Written by `docs/make_derivatives.py`; do not edit. A test runs every proof again, and fails where this page is not what they say.

A rule is a function that writes graph: given the cotangent g of the result it gives the cotangent of each operand. For the elementwise ops it is run on
symbols, and the graph that it writes is translated to SymPy (`graphc.symbolic.to_sympy`) and compared with g times SymPy's derivative of the op itself. The
tensor ops are linear, or choose, so they are held against differences at their examples (`graphc/ops`), in f64.

| word | what was shown |
|---|---|
| simplified | SymPy simplifies (rule) - g df/dx to 0, for all real operands of the domain |
| 60 digits | it does not get that far; the difference is below 1e-50 at 40 random rational points, ties among them |
| constant | the derivative is said to be 0: in exact arithmetic the op does not change between random points and points 1e-20 to their right |
| no reals | operands or results are bools, integers or bits: there is nothing to differentiate |
| cut | not the derivative, but what the op is for |
| complex step | imag f(x + 1e-100i d) · w = d · vjp(w) to 1e-13, for random d and w: the op is arithmetic or movement, so it takes complex numbers |
| finite differences | the five-point formula along random d agrees to 1e-6: the op compares elements, which complex numbers cannot be |

Between the jumps of a floor the floor is a constant. At a kink (|x| at 0, a tie of max) there is no derivative; what the rule gives there is said in
[the primitives](ops.md), and at ties it is the mean of both sides, which is what SymPy's Heaviside(0) = 1/2 gives too.

## Elementwise: by algebra

| op | f | by | cotangent | shown |
|---|---|---|---|---|
"""
TENSORS = """
## Tensors: by differences

| op | meaning | examples | shown |
|---|---|---|---|
"""
ZERO = """
## Derivative 0, not elementwise

Integers come out, or random bits: {}.
"""
WORDS: dict[How, str] = {"simplified": "simplified", "60 digits": "60 digits", "constant": "constant", "logical": "no reals", "cut": "cut"}


def is_scalar(op: Op) -> bool:
    """Has the op a formula of its own in SymPy, or is it an elementwise one that needs none?"""
    return op in MEANING or op in LOGIC or op.name in ("cast", "bitcast") or (op.vjp == "zero" and op.family in ("unary", "binary", "compare"))


def code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def page() -> str:
    scalar, tensor, zero = [], [], []
    for op in REGISTRY.values():
        if op.vjp is None:
            continue
        if is_scalar(op):
            for p in prove(op, **({"dtype": f32} if op.name == "cast" else {"dtype": i64} if op.name == "bitcast" else {})):
                assert p.how != "wrong", f"{op} by {p.by}: {p.rule} is off by {p.difference}"
                scalar.append(f"| {code(op.name)} | {code(p.function)} | {p.by} | {code(p.rule)} | {WORDS[p.how]} |")
        elif op.vjp == "zero":
            zero.append(code(op.name))
        else:
            done = check_rule(op)
            tensor.append(f"| {code(op.name)} | {op.doc.rstrip('.').replace('|', chr(92) + '|')} | {done.examples} | {done.how} |")
    return HEAD + "\n".join(scalar) + "\n" + TENSORS + "\n".join(tensor) + "\n" + ZERO.format(", ".join(zero))


if __name__ == "__main__":
    text = page()
    (DOCS / "derivatives.md").write_text(text, encoding="utf-8")
    counts = {how: text.count(f"| {how} |\n") for how in ("simplified", "60 digits", "constant", "complex step", "finite differences")}
    print(f"derivatives.md: {', '.join(f'{how}: {n}' for how, n in counts.items())}")
