"""Graphs worth a picture: a training step with all three lanes, a loop with its derivative, and one whose every string is hostile."""
from __future__ import annotations

import pytest

import graphc.ops  # noqa: F401
from graphc.core.dtype import f32, f64, i64
from graphc.core.loc import Loc
from graphc.ir.node import Graph, Info, Node, Recorder, State, recording
from graphc.ir.op import REGISTRY as R
from graphc.ops.control import scan
from graphc.ops.leaf import input_, splat
from graphc.transform.grad import vjp

HOSTILE = ['"', "\\", "a\\", "\\N\\G\\l", "a\nb\tc", "<script>alert(1)</script>", "😀👩‍👩‍👧", "x" * 10_000, "\0\x01\x1b[31m", "&lt;&amp;",
           "\ud800", "\u202eabc", "\uffff", "]]>", "", "{a|b}", "%s%n", "<b>", '\\"', "-->", "n0", "subgraph", "</font></b>"]


class Builder:
    """Records where each node comes from, as the tracer does."""

    def __init__(self) -> None:
        self.recorder = Recorder()

    def at(self, phase: str, scope: str = "", line: int = 0) -> None:
        locs = frozenset({Loc("/home/user/train.py", line, "Net.forward")} if line else ())
        self.recorder.here = Info(locs, frozenset(), frozenset({scope} if scope else ()), frozenset({phase}))

    def name(self, n: Node, name: str) -> Node:
        i = self.recorder.info.get(n, Info())
        self.recorder.info[n] = Info(i.locs, i.names | {name}, i.scopes, i.phases)
        return n


def build_step() -> Graph:
    """A two-layer perceptron under cross-entropy, by SGD with momentum."""
    b = Builder()
    batch, shapes = 6, {"fc1.weight": (5, 7), "fc1.bias": (5,), "fc2.weight": (3, 5), "fc2.bias": (3,)}
    with recording(b.recorder):
        b.at("forward")
        x, y = input_(name="x", shape=(batch, 7), dtype=f32), input_(name="y", shape=(batch,), dtype=i64)
        params = {n: input_(name=n, shape=s, dtype=f32) for n, s in shapes.items()}
        b.at("update")
        lr = input_(name="lr", shape=(), dtype=f32)
        moments = {n: input_(name=f"{n}.momentum", shape=s, dtype=f32) for n, s in shapes.items()}

        def linear(scope: str, h: Node, line: int) -> Node:
            b.at("forward", scope, line)
            z = R["contract"](h, params[f"{scope}.weight"], contracting=((1,), (1,)), batch=((), ()))
            return z + R["broadcast"](params[f"{scope}.bias"], shape=z.tensor.shape, axes=(0,))

        h = linear("fc1", x, 12)
        b.at("forward", "", 13)
        z = linear("fc2", R["maximum"](h, splat(0.0, h)), 14)
        b.at("forward", "criterion", 21)
        lse = R["log"](R["reduce_sum"](R["exp"](z), axes=(1,)))
        logp = z - R["broadcast"](lse, shape=z.tensor.shape, axes=(1,))
        at = R["reshape"](R["check_index"](y, size=3), shape=(batch, 1))
        loss = b.name(-(R["reduce_sum"](R["take_along"](logp, at, axis=1), axes=(0, 1)) / batch), "loss")
        b.at("backward")
        grads = vjp([loss], [splat(1.0, loss)], list(params.values()))
        states = [State("lr", lr, lr)]
        for (n, p), g in zip(params.items(), grads, strict=True):
            b.name(g, f"d loss / d {n}")
            b.at("update", line=25)
            v = moments[n] * 0.9 + g
            states.append(State(f"{n}.momentum", moments[n], v))
            states.append(State(n, p, p - R["broadcast"](lr, shape=p.tensor.shape, axes=tuple(range(p.tensor.rank))) * v))
    return Graph((x, y), (loss,), tuple(states), (), b.recorder.info, "train_step")


def build_loop() -> Graph:
    """h ← tanh(h * x + w) over 7 steps, its gradient by w, and a step down."""
    b = Builder()
    with recording(b.recorder):
        b.at("forward")
        xs, h0, w = (input_(name=n, shape=s, dtype=f64) for n, s in (("xs", (7, 3)), ("h0", (3,)), ("rnn.w", (3,))))
        h, x, v = (input_(name=n, shape=(3,), dtype=f64) for n in ("h", "x", "w"))
        new = R["tanh"](h * x + v)
        out = scan(h0, xs, w, body=Graph((h, x, v), (new, new * new), name="cell"), carries=1, xs=1, length=7)
        loss = b.name(R["reduce_sum"](R["get"](out, index=1), axes=(0, 1)), "loss")
        b.at("backward")
        (g,) = vjp([loss], [splat(1.0, loss)], [w])
        b.name(g, "d loss / d rnn.w")
        b.at("update")
        s = State("rnn.w", w, w - g * 0.1)
    return Graph((xs, h0), (loss,), (s,), (), b.recorder.info, "rnn_step")


def build_hostile() -> Graph:
    """Every bad string as a name of an input, a state, a node, a module, a file and the graph."""
    rec, xs, states = Recorder(), [], []
    total = None
    with recording(rec):
        for bad in HOSTILE:
            rec.here = Info(frozenset({Loc(bad, 1, bad)}), frozenset({bad}), frozenset({bad}), frozenset({"forward"}))
            x, s = input_(name=bad, shape=(3,), dtype=f64), input_(name=bad, shape=(3,), dtype=f64)
            xs.append(x)
            total = x * s if total is None else total + x * s
            rec.here = Info(frozenset({Loc(bad, 1, bad)}), frozenset({bad}), frozenset({bad}), frozenset({"update"}))
            states.append(State(bad, s, s * 0.5))
    assert total is not None
    return Graph(tuple(xs), (total,), tuple(states), (), rec.info, "".join(HOSTILE[:7]))


@pytest.fixture
def step() -> Graph:
    return build_step()


@pytest.fixture
def loop() -> Graph:
    return build_loop()


@pytest.fixture
def hostile() -> Graph:
    return build_hostile()


@pytest.fixture
def hostile_strings() -> list[str]:
    return HOSTILE
