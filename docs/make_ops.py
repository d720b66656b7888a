"""Writes docs/ops.md, the table of the primitives, from the registry. A test says when it is no longer the registry's.

    python docs/make_ops.py
"""
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent)]

import graphc.ops  # noqa: E402, F401  (fills the registry)
from graphc.core.dtype import ALL, DType, bool_, from_numpy  # noqa: E402
from graphc.core.errors import GraphError  # noqa: E402
from graphc.core.types import TensorType  # noqa: E402
from graphc.ir.node import Graph  # noqa: E402
from graphc.ir.op import REGISTRY, Family, Op  # noqa: E402

HEAD = """# The primitives

Written by `docs/make_ops.py` from the registry in `graphc/ops`; do not edit. {count} primitives; everything else is a composition of them.

Operands of one primitive have equal shapes and dtypes unless the table says otherwise: broadcasting and promotion happen above. *Derivative* is `rule`, `0`
(flat almost everywhere, or cut on purpose) or `none` (a leaf, or an error if a derivative has to go through it). *Drawn from* is the interval in which the
free tests draw operands, which is where the op is smooth.
"""
COLUMNS = "| op | meaning | shape of the result | dtypes | derivative | drawn from |\n|---|---|---|---|---|---|"
FAMILIES: dict[Family, str] = {
    "leaf": "Leaves", "unary": "Elementwise, one operand", "binary": "Elementwise, two operands", "compare": "Comparison", "select": "Selection",
    "cast": "Conversion", "movement": "Movement", "reduce": "Along axes", "contract": "Contraction", "index": "Indexing by data",
    "random": "Random bits", "tuple": "Several results", "control": "Control flow", "effect": "Functions of Python's, and effects", "linalg": "Linear algebra",
}
KINDS = {"floats": ("float",), "integers": ("int", "uint"), "bool": ("bool",), "halves": ("half",)}


def accepted(op: Op) -> Iterator[DType]:
    """The dtypes that the type rule takes in the place of the one that the examples are in."""
    for arrays, attrs in op.samples(np.random.default_rng(0)):
        types = [TensorType(np.shape(a), from_numpy(np.asarray(a).dtype)) for a in arrays]       # type: ignore[arg-type]
        main = next((t.dtype for t in types if t.dtype is not bool_), bool_)
        for d in ALL:
            try:
                op.infer(*(t.with_dtype(d) if t.dtype is main else t for t in types), **attrs)
            except GraphError:
                continue
            yield d


def dtypes(op: Op) -> str:
    samples = list(op.samples(np.random.default_rng(0)))
    if not samples:
        return ""
    if any(isinstance(v, Graph) for _, attrs in samples for v in attrs.values()):
        return "the body's"
    if not samples[0][0]:
        return "any" if "dtype" in samples[0][1] else op.infer(**samples[0][1]).dtype.name       # type: ignore[union-attr]
    found = set(accepted(op))
    if found == set(ALL):
        return "any"
    words = [word for word, kinds in KINDS.items() if {d for d in ALL if d.kind in kinds} <= found]
    rest = [d.name for d in ALL if d in found and not any(d.kind in KINDS[w] for w in words)]
    return {"floats, integers": "numbers"}.get(", ".join(words), ", ".join([*words, *rest]))


def row(op: Op) -> str:
    derivative = "none" if op.vjp is None else "0" if op.vjp == "zero" else "rule"
    drawn = f"{op.domain[0]:g} .. {op.domain[1]:g}" if op.domain else ""
    meaning, shape = (text if text.endswith("...") else text.removesuffix(".") for text in (op.doc, op.infer.__doc__ or ""))
    cells = (f"`{op.name}`", meaning, shape, dtypes(op), derivative, drawn)
    return f"| {' | '.join(c.replace('|', chr(92) + '|') for c in cells)} |"


def page() -> str:
    assert set(FAMILIES) == set(get_args(Family))
    parts = [HEAD.format(count=len(REGISTRY))]
    for family, title in FAMILIES.items():
        ops = [op for op in REGISTRY.values() if op.family == family]
        if ops:
            parts += [f"## {title}\n", COLUMNS, *map(row, ops), ""]
    return "\n".join(parts)


if __name__ == "__main__":
    (DOCS / "ops.md").write_text(page(), encoding="utf-8")
    print(f"ops.md: {len(REGISTRY)} primitives")
