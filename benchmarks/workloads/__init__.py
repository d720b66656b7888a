"""Every workload, by name, with its bars: the time of graphc over that of the best peer."""
from __future__ import annotations

from .base import SGD, Adam, Workload
from .contraction import every
from .mlp import Answer, Classifier, Regressor
from .rows import Chain, LayerNorm, Logistic, ScalarChain, Softmax

WORKLOADS: dict[str, Workload] = {w.name: w for w in (
    Classifier("W1", "MLP 784-128-10, SGD, batch 64", {1: .68, 2: .50}, optimizer=SGD(.05)),
    Classifier("W2", "the same, Adam", {1: .60, 2: .45}, optimizer=Adam(1e-3)),
    Classifier("W2b", "the same, Adam, batch 1024", {1: .85, 2: .75}, batch=1024, optimizer=Adam(1e-3)),
    Regressor("W3", "MLP 4-32-32-1 tanh, Adam, batch 32", {1: .20, 2: .20}, {"jax scan": .6}, sizes=(4, 32, 32, 1), batch=32, optimizer=Adam(1e-3)),
    Chain("W7", "sum(tanh(a·x+b)·exp(-x²)) and gradients, 10⁷ floats each", {1: .20, 2: .15}),
    ScalarChain("W7s", "the same where a and b are numbers"),
    Answer("W8", "MLP 784-128-10, inference at batch 1", {1: .65, 2: .65}),
    Softmax("W10a", "softmax 512×1000 and its gradient", {1: .60, 2: .60}),
    LayerNorm("W10b", "layer norm 4096×768 and its gradients", {1: .60, 2: .60}),
    Logistic("W11", "logistic regression 10⁵×256, full batch, Adam", {1: .70, 2: .70}),
    *every(),
)}
