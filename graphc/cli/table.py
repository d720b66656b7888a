"""`graphc ops`: the primitives, as the registry has them."""
from __future__ import annotations

import json
import shutil
import sys
from typing import Any

from ..ir.op import REGISTRY, Op


def ops(as_json: bool) -> int:
    """Print the table, or as JSON."""
    rows = [row(op) for op in sorted(REGISTRY.values(), key=lambda op: (op.family, op.name))]
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    name, family = (max(len(r[k]) for r in rows) for k in ("name", "family"))
    width = shutil.get_terminal_size((160, 24)).columns if sys.stdout.isatty() else 10_000
    print(f"{'op':<{name}}  {'family':<{family}}  derivative  meaning")
    for r in rows:
        print(f"{r['name']:<{name}}  {r['family']:<{family}}  {r['derivative']:<10}  {r['doc']}"[:width])
    print(f"{len(rows)} primitives")
    return 0


def row(op: Op) -> dict[str, Any]:
    """One op as plain values. derivative: a rule, zero (flat almost everywhere), or none (differentiating through it is an error)."""
    derivative = "none" if op.vjp is None else "zero" if op.vjp == "zero" else "rule"
    return {"name": op.name, "family": op.family, "derivative": derivative, "pure": op.pure, "doc": op.doc}
