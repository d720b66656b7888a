"""Looking inside: every stage of a five-line function.

The five lines are a training step of linear regression on four points. What follows is what graphc makes of them, in order: the graph as traced, the graph
after the passes, the loops, the LLVM text, the memory plan and the report. All of it is there before the first step has run.
"""
from __future__ import annotations

import numpy as np

import graphc as gx
from graphc import nn, optim
from graphc.ir.text import equal, parse

gx.manual_seed(0)
net = nn.Linear(3, 2)
optimizer = optim.SGD(net.parameters(), lr=0.1)


@gx.compile
def train_step(x, y):
    optimizer.zero_grad()
    loss = ((net(x) - y) ** 2).mean()
    loss.backward()
    optimizer.step()
    return loss


def show(title, text, lines=None):
    text = text.rstrip().splitlines()
    print(f"\n==== {title} " + "=" * (80 - len(title)))
    print("\n".join(line.rstrip() for line in text[:lines]))
    if lines is not None and len(text) > lines:
        print(f"... {len(text) - lines} more lines")


x, y = np.float32(np.arange(12).reshape(4, 3)) / 10, np.ones((4, 2), np.float32)
step = train_step.lower(x, y)                           # traced; compiled when a later stage is asked for

# ---- the graph as traced ---------------------------------------------------------------------------------------------------------

show("the graph as traced: forward, backward, update", step.text("graph"))
assert equal(parse(step.text("graph")), step.graph)     # what is printed can be read back

# ---- the graph after the passes --------------------------------------------------------------------------------------------------

show("the graph after the passes", step.text("optimized"))
before, after = (step.text(stage).count(" = ") for stage in ("graph", "optimized"))
assert after < before

# ---- the loops -------------------------------------------------------------------------------------------------------------------

show("the loops: one kernel for each sweep over memory", step.text("loops"))

# ---- LLVM and machine code -------------------------------------------------------------------------------------------------------

show("LLVM, the first lines", step.text("llvm"), 24)
show("machine code, the first lines", step.text("asm"), 12)

# ---- memory ----------------------------------------------------------------------------------------------------------------------

plan = step.memory_plan()
show("the memory of a step, in bytes", str(plan))
assert plan.states == (2 * 3 + 2) * 4                   # weight and bias, four bytes a number
assert plan.total == plan.arena + plan.states + plan.results + plan.constants

# ---- the report, and a run -------------------------------------------------------------------------------------------------------

show("the report", str(step.report))
assert step.report.kernels == step.text("loops").count("launch ")

loss = train_step(x, y)
weight = net.weight.numpy()
print(f"\nand it runs: loss {loss:.6f}, then {train_step(x, y):.6f}")
assert train_step(x, y) < loss
assert not np.array_equal(weight, net.weight.numpy())
