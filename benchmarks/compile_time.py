"""What compiling costs as a model grows: an MLP of 4 and of 48 equal layers, in fresh processes without a cache.

LLVM's part should hardly grow, for equal kernels are emitted once; Python's is given for each node of the traced graph.

    python benchmarks/compile_time.py
"""
from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

from rig.compare import held
from rig.process import path

DEPTHS = (4, 48)
CODE = """
import json, sys
import numpy as np
import graphc as gx
from graphc import nn, optim
layers = []
for _ in range(int(sys.argv[1])):
    layers += [nn.Linear(64, 64), nn.ReLU()]
net, criterion = nn.Sequential(*layers), nn.CrossEntropyLoss()
opt = optim.Adam(net.parameters(), lr=1e-3)
@gx.compile(cache=False)
def step(x, y):
    opt.zero_grad()
    loss = criterion(net(x), y)
    loss.backward()
    opt.step()
    return loss
made = step.lower(np.zeros((32, 64), np.float32), np.zeros(32, np.int64))
stages = made.report.stages
llvm = sum(s for name, s in stages.items() if name.startswith("llvm"))
from graphc.ir.walk import topo
print(json.dumps(dict(llvm_s=llvm, python_s=sum(stages.values()) - llvm, nodes=len(list(topo(made.graph.roots))), kernels=made.report.kernels)))
"""


def measure(repeats: int = 5, lock: Any = None) -> dict[str, dict[str, float]]:
    """By depth: seconds of LLVM and of the compiler's Python, nodes of the traced graph, kernels. Medians."""
    out = {}
    for depth in DEPTHS:
        runs = []
        for _ in range(repeats):
            with held(lock):
                done = subprocess.run([sys.executable, "-c", CODE, str(depth)], env=path(), capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout))
        out[str(depth)] = {k: statistics.median(r[k] for r in runs) for k in runs[0]}
    return out


def line(depth: str, row: dict[str, float]) -> str:
    return (f"{depth} layers: LLVM {row['llvm_s'] * 1e3:.0f} ms, Python {row['python_s'] * 1e3:.0f} ms "
            f"({row['python_s'] / row['nodes'] * 1e6:.0f} µs a node), {row['kernels']:.0f} kernels")


if __name__ == "__main__":
    for depth, row in measure().items():
        print(line(depth, row))
