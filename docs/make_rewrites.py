"""Writes docs/rewrites.md, what the compiler rewrites, from the rules themselves. A test says when it is no longer theirs.

    python docs/make_rewrites.py
"""
from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent)]

from graphc.ir.rewrite import Rule  # noqa: E402
from graphc.transform import fast, products, simplify, sink  # noqa: E402
from graphc.transform import stability as stable  # noqa: E402

HEAD = """# What the compiler rewrites

Written by `docs/make_rewrites.py` from the rules in `graphc/transform`; do not edit. Three kinds ([decision 020](decisions/020-stability.md)):

| kind | what it keeps | runs | turned off |
|---|---|---|---|
| stable | the value that is meant: a result may change, toward the true one | at the end of a trace and in derivatives | `gx.compile(..., stable=False)` |
| exact | every bit: signed zeros, infinities, what is NaN | the pass `simplify` | `passes=(...)` without it |
| fast | the value, for real numbers | the passes `fast` and `products`, on request: `gx.compile(..., fast=True)` | by default |

`f.lowered.traced.rewritten` lists which formulas took their stable form, and the lines that they were written on; `f.lowered.report` has the passes.
"""
STABLE = """## Stable forms

Found however they are spelt: with `keepdims`, `[:, None]` or a reshape, the exponential written once or twice, the maximum subtracted or
not, behind indexing
(`log(p[arange(n), labels])`). Derivatives are those of the stable form in every mode and order, eagerly too; an eager *value* is that of
the formula as written, step by step.
*derivative* says where the derivative needed it. Where somebody asks for the cotangent of a node between (a hook, `retain_grad`,
`grad(loss, p)`), the formula is
differentiated as written.
"""
WHERE = """## What a `where` did not choose

The derivative of `where(x > 0, log(x), 0)` is 0 where x <= 0, in every mode and order, under `vmap` and in loops: there is no need to write
the `where` twice. Reverse mode knows
where a cotangent is zero because nobody chose it, and keeps it zero behind `log`, `sqrt`, a quotient, a power, a norm. What *was* chosen
keeps its infinity: `where(x >= 0, sqrt(x), 0)` at 0
has the derivative inf. The knowledge ends at contractions, gathers and loops.
"""
EXACT = """## Exact rules
"""
SINK = """### Movement goes toward the results

A contraction reads its axes in any order, so a permutation that reaches one is gone; a broadcast is an index, so arithmetic before it is done once.
"""
FAST = """## Fast rules
"""
PRODUCTS = """### Sums of products, by fewest operations

A sum or a contraction is read as one sum over products of up to six factors, through the contractions, sums, squares, permutations and repetitions that it is
made of, and written again in the order that takes the fewest multiplications, where those are fewer. This is the pass `products`, on the same request. It is
what makes clipped per-example gradients cost no more than the gradient of the batch ([transforms](transforms.md)). `A @ (B @ v)` by hand is that without
asking.
"""
MEMORY = """## Values computed again

With `memory_limit=` a step that needs more is not refused at once: values of its forward pass are computed again in the backward pass, as
few and as cheap as make it fit: elementwise nodes and
movement first, contractions where that is not enough. `memory_plan()` says which, how many bytes that saves and how many operations it
costs; what does not fit even so
is refused, and the error says by how much. Loops, and steps of symbolic sizes, are left alone; `checkpoint` does the same by hand.

```python
import numpy as np
import graphc as gx

def loss(x):
    h = x
    for _ in range(8):
        h = gx.tanh(gx.sin(h) @ gx.cos(h))
    return gx.sum(h)

x = np.linspace(-1, 1, 48 * 48).reshape(48, 48)
plain = gx.compile(gx.grad(loss)).lower(x).memory_plan()
small = gx.compile(gx.grad(loss), memory_limit=plain.total * 7 // 10).lower(x).memory_plan()
print(small.again is not None, small.total < plain.total)
```
```text
True True
```
"""


def table(rules: Iterable[Rule]) -> list[str]:
    return ["| rule |", "|---|", *(f"| `{r.comment.partition('   ')[0].replace('|', chr(92) + '|')}` {r.comment.partition('   ')[2]} |" for r in rules)]


def page() -> str:
    """The whole page."""
    lines = [HEAD, STABLE, "| rule | derivative |", "|---|---|"]
    lines += [f"| `{f.rule.comment.replace('|', chr(92) + '|')}` | {'yes' if f.slope else ''} |" for f in stable.STABLE]
    lines += ["", WHERE, EXACT]
    for title, rules in (("Arithmetic", simplify.ARITHMETIC), ("Selection and conversion", simplify.SELECTION), ("Movement", simplify.MOVEMENT),
                         ("Contraction", simplify.CONTRACTION)):
        lines += [f"### {title}", "", *table(rules), ""]
    lines += [SINK, "| rule |", "|---|", *(f"| `{c.partition('   ')[0]}` {c.partition('   ')[2]} |" for c in sink.COMMENTS), ""]
    lines += [FAST, *table(fast.FAST), ""]
    lines += [PRODUCTS, "| rule |", "|---|", *(f"| `{c.partition('   ')[0]}` {c.partition('   ')[2]} |" for c in products.COMMENTS), "", MEMORY]
    return "\n".join(line.rstrip() if line.startswith("|") else line for line in lines)


if __name__ == "__main__":
    (DOCS / "rewrites.md").write_text(page(), encoding="utf-8")
