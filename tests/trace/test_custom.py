"""Derivatives of the user's own: custom_vjp, custom_jvp, autograd.Function and checkpoint, under every transform, eagerly and compiled; the words of errors."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.ir.node import Graph
from graphc.ir.text import equal, parse, show
from graphc.ir.verify import verify
from graphc.ir.walk import topo
from graphc.ops.call import CALLS, inline
from graphc.utils.checkpoint import checkpoint, checkpoint_sequential

X = np.asarray([0.3, -0.7, 1.1])
XS = np.asarray([[0.3, -0.7, 1.1], [0.5, 0.2, -0.4], [-1.2, 0.9, 0.8], [0.1, -0.1, 0.6]])


@pytest.fixture(params=["eager", "numpy", "llvm"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a function of arrays eagerly or compiled; results as NumPy arrays in the same containers."""
    if request.param == "eager":
        return lambda f, *args: _arrays(f(*(gx.tensor(a) if isinstance(a, np.ndarray) else a for a in args)))
    return lambda f, *args: _arrays(gx.compile(f, backend=request.param)(*args))


def _arrays(x: Any) -> Any:
    if isinstance(x, dict):
        return {k: _arrays(v) for k, v in x.items()}
    return type(x)(map(_arrays, x)) if isinstance(x, (tuple, list)) else np.asarray(x)


# ---- the same function four ways: x sin(x) y ---------------------------------------------------------------------------------------------


def plain(x: Any, y: Any) -> Any:
    return x * gx.sin(x) * y


@gx.custom_vjp
def by_vjp(x: Any, y: Any) -> Any:
    return x * gx.sin(x) * y


def _fwd(x: Any, y: Any) -> Any:
    return by_vjp(x, y), (x, {"sin": gx.sin(x), "y": y})


def _bwd(res: Any, g: Any) -> Any:
    x, kept = res
    return g * (kept["sin"] + x * gx.cos(x)) * kept["y"], g * x * kept["sin"]


by_vjp.defvjp(_fwd, _bwd)


@gx.custom_jvp
def by_jvp(x: Any, y: Any) -> Any:
    return x * gx.sin(x) * y


@by_jvp.defjvp
def _rule(primals: Any, tangents: Any) -> Any:
    (x, y), (dx, dy) = primals, tangents
    return by_jvp(x, y), dx * (gx.sin(x) + x * gx.cos(x)) * y + dy * x * gx.sin(x)


@gx.custom_jvp
def by_jvps(x: Any, y: Any) -> Any:
    return x * gx.sin(x) * y


by_jvps.defjvps(lambda t, value, x, y: t * (gx.sin(x) + x * gx.cos(x)) * y, lambda t, value, x, y: t * x * gx.sin(x))


class ByFunction(gx.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.save_for_backward(x, y)
        ctx.sin = gx.sin(x)
        return x * ctx.sin * y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, y = ctx.saved_tensors
        return g * (ctx.sin + x * gx.cos(x)) * y, g * x * ctx.sin


class BySetup(gx.autograd.Function):
    @staticmethod
    def forward(x: Any, y: Any) -> Any:
        return x * gx.sin(x) * y

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, y, out = ctx.saved_tensors
        return g * (gx.sin(x) * y + x * gx.cos(x) * y), g * out / y


WAYS = {"vjp": by_vjp, "jvp": by_jvp, "jvps": by_jvps, "Function": ByFunction.apply, "setup_context": BySetup.apply, "checkpoint": gx.checkpoint(plain)}

TRANSFORMS: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "value": lambda f: f,
    "grad": lambda f: gx.grad(lambda x, y: f(x, y).sum(), (0, 1)),
    "grad of grad": lambda f: gx.grad(lambda x, y: gx.grad(lambda x: f(x, y).sum())(x).sum()),
    "third order": lambda f: gx.grad(lambda x, y: gx.grad(lambda x: gx.grad(lambda x: f(x, y).sum())(x).sum())(x).sum(), (0, 1)),
    "jvp": lambda f: lambda x, y: gx.jvp(f, (x, y), (y, x)),
    "jvp of jvp": lambda f: lambda x, y: gx.jvp(lambda x: gx.jvp(f, (x, y), (y, x))[1], (x,), (y,))[1],
    "jacfwd": lambda f: gx.jacfwd(f, (0, 1)),
    "jacrev": lambda f: gx.jacrev(f, (0, 1)),
    "hessian": lambda f: gx.hessian(lambda x, y: f(x, y).sum(), (0, 1)),
    "grad of jvp": lambda f: gx.grad(lambda x, y: gx.jvp(f, (x, y), (y, x))[1].sum(), (0, 1)),
    "same argument twice": lambda f: lambda x, y: (gx.hessian(lambda x: f(x, x).sum())(x), gx.jacfwd(lambda x: f(x, x))(y)),
    "vmap": lambda f: lambda x, y: gx.vmap(f, in_axes=(0, None))(x, y[0]),
    "vmap of grad": lambda f: lambda x, y: gx.vmap(gx.grad(f, (0, 1)), in_axes=(0, None))(x, y[0]),
    "grad of vmap": lambda f: gx.grad(lambda x, y: gx.vmap(f, in_axes=(None, 0))(x[1], y).sum(), (0, 1)),
    "hessian of vmap": lambda f: gx.hessian(lambda x, y: gx.vmap(f, in_axes=(0, None))(x, y[0]).sum(), (0, 1)),
    "vmap of vmap": lambda f: lambda x, y: gx.vmap(gx.vmap(f, in_axes=(None, 0)), in_axes=(0, None))(x, y),
    "scan": lambda f: lambda x, y: gx.scan(lambda c, v: (f(c, v), c), x, gx.stack([y, x])),
    "grad of scan": lambda f: gx.grad(lambda x, y: gx.scan(lambda c, v: (f(c, v), c), x, gx.stack([y, x]))[0].sum(), (0, 1)),
    "grad inside scan inside grad": lambda f: gx.grad(lambda x, y: gx.scan(
        lambda c, v: (c + gx.grad(lambda c: f(c, v).sum())(c), None), x, gx.stack([y, x]))[0].sum()),
    "jvp of grad of scan": lambda f: lambda x, y: gx.jvp(gx.grad(lambda x: gx.scan(lambda c, v: (f(c, v), None), x, gx.stack([y, y]))[0].sum()), (x,), (y,)),
}


@pytest.mark.parametrize("how", TRANSFORMS)
def test_every_way_is_the_plain_function(run: Any, how: str) -> None:
    y = np.asarray([0.9, 1.3, -0.4])
    want = run(TRANSFORMS[how](plain), X, y)

    def compare(got: Any, want: Any, label: str) -> None:
        if isinstance(want, tuple):
            for a, b in zip(got, want, strict=True):
                compare(a, b, label)
        else:
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12, err_msg=label)
    for label, f in WAYS.items():
        compare(run(TRANSFORMS[how](f), X, y), want, label)


def test_the_graph_holds_the_call_until_it_is_lowered() -> None:
    for f in (by_vjp, by_jvp, gx.checkpoint(plain)):
        lowered = gx.compile(gx.grad(lambda x, f=f: f(x, x).sum()), backend="numpy").lower(X)
        graph: Graph = verify(lowered.graph)
        again = parse(show(graph))
        assert equal(again, graph)
        without = verify(inline(graph))
        assert not any(n.op in CALLS for n in topo(without.roots))
        assert inline(without) is without
    traced: Graph = gx.compile(lambda x: gx.vjp(by_vjp, x, x)[0], backend="numpy").lower(X).graph
    assert [n.op.name for n in topo(traced.roots) if n.op in CALLS] == ["custom_vjp"]
    assert not any(n.op in CALLS for n in topo(gx.compile(by_vjp, backend="numpy").lower(X, X).graph.roots))   # nobody asks for a derivative


# ---- rules that are not the derivative ---------------------------------------------------------------------------------------------------


@gx.custom_vjp
def straight(x: Any) -> Any:
    """Rounds, with the derivative of the identity."""
    return gx.round(x)


straight.defvjp(lambda x: (gx.round(x), None), lambda res, g: (g,))


def test_the_rule_is_what_counts(run: Any) -> None:
    np.testing.assert_array_equal(run(gx.grad(lambda x: (straight(x) * x).sum()), X), np.round(X) + X)
    np.testing.assert_array_equal(run(gx.jacfwd(straight), X), np.eye(3))
    np.testing.assert_array_equal(run(gx.vmap(gx.grad(lambda x: straight(x).sum())), XS), np.ones_like(XS))


class Pair(NamedTuple):
    a: Any
    b: Any


def test_trees_and_static_arguments(run: Any) -> None:
    @gx.custom_vjp
    def f(p: dict[str, Any], q: Pair, k: Any) -> Any:
        return {"sum": p["w"] + q.a, "product": [p["w"] * q.b, k]}

    def bwd(res: Any, g: Any) -> Any:
        w, b, word = res
        assert word == "kept"
        return {"w": 2.0 * g["sum"] + g["product"][0] * b}, Pair(None, g["product"][0] * w), None
    f.defvjp(lambda p, q, k: (f(p, q, k), (p["w"], q.b, "kept")), bwd)

    def loss(w: Any, a: Any, b: Any) -> Any:
        out = f({"w": w}, Pair(a, b), 3)
        return (out["sum"] + out["product"][0] * 2.0).sum() + out["product"][1]
    w, a, b = X, X + 1, X - 2
    dw, da, db = run(gx.grad(loss, (0, 1, 2)), w, a, b)
    np.testing.assert_allclose(dw, 2 + 2 * b)
    np.testing.assert_array_equal(da, np.zeros(3))
    np.testing.assert_allclose(db, 2 * w)

    @gx.custom_vjp
    def unused(x: Any) -> Any:
        return x
    calls = []

    def power(f: Any, n: int, x: Any) -> Any:
        calls.append(n)
        return f(x) ** n
    powered = gx.custom_vjp(power, nondiff_argnums=(0, 1))
    powered.defvjp(lambda f, n, x: (f(x) ** n, x), lambda f, n, x, g: (g * n * f(x) ** (n - 1),))          # forgets f'
    np.testing.assert_allclose(run(gx.grad(lambda x: powered(gx.sin, 3, x).sum()), X), 3 * np.sin(X) ** 2)
    np.testing.assert_allclose(run(gx.grad(lambda x: powered(f=gx.sin, x=x, n=3).sum()), X), 3 * np.sin(X) ** 2)
    assert not calls
    np.testing.assert_allclose(run(lambda x: powered(gx.sin, 3, x), X), np.sin(X) ** 3)
    assert calls == [3]


def test_integers_and_several_results(run: Any) -> None:
    @gx.custom_vjp
    def top(x: Any, k: Any) -> Any:
        i = gx.argmax(x)
        return x[i] * k, i
    top.defvjp(lambda x, k: (top(x, k), (gx.argmax(x), k)), lambda res, g: (g[0] * res[1] * (gx.arange(3) == res[0]) * 10.0, None))
    (value, index), slope = run(lambda x: gx.value_and_grad(lambda x: (top(x, 2)[0], top(x, 2)[1]), has_aux=True)(x), X)
    assert (value, index) == (2.2, 2)
    np.testing.assert_allclose(slope, [0, 0, 20])


def test_a_module_with_a_rule_inside_a_compiled_step() -> None:
    class Swish(gx.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            s = gx.sigmoid(x)
            ctx.save_for_backward(x, s)
            return x * s

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            x, s = ctx.saved_tensors
            return g * s * (1 + x * (1 - s))

    def net(act: Any) -> Any:
        gx.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1))
        optimizer = gx.optim.SGD(model.parameters(), lr=0.1)

        @gx.compile
        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = (model[1](act(model[0](x))) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss
        return [step(XS.astype(np.float32)).item() for _ in range(4)]
    np.testing.assert_allclose(net(Swish.apply), net(nn.functional.silu), rtol=1e-6)


# ---- Function --------------------------------------------------------------------------------------------------------------------------


def test_function_words_of_torch() -> None:
    seen = {}

    class Split(gx.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, k: int, y: Any) -> Any:
            seen["needs"] = ctx.needs_input_grad
            ctx.k = k
            low, high = gx.floor(x), x * y
            ctx.mark_non_differentiable(low)
            ctx.set_materialize_grads(False)
            ctx.save_for_backward(y, None)
            return low, high, "word"

        @staticmethod
        def backward(ctx: Any, g_low: Any, g_high: Any, g_word: Any) -> Any:
            seen["cotangents"] = g_low.shape, g_word, ctx.k, ctx.needs_input_grad, ctx.saved_tensors[1]
            return g_high * ctx.saved_tensors[0] * ctx.k, None, None
    x = gx.tensor(X, requires_grad=True)
    low, high, word = Split.apply(x, 7, gx.tensor([1.0, 2.0, 3.0], dtype="f64"))
    assert (low.requires_grad, high.requires_grad, word) == (False, True, "word")
    high.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [7, 14, 21])
    assert seen == {"needs": (True, False, False), "cotangents": ((3,), None, 7, (True, False, False), None)}
    with gx.no_grad():
        assert not Split.apply(x, 7, x)[1].requires_grad


def test_once_differentiable(run: Any) -> None:
    class Square(gx.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @gx.autograd.once_differentiable
        def backward(ctx: Any, g: Any) -> Any:
            return 2.0 * g * ctx.saved_tensors[0]
    f = lambda x: Square.apply(x).sum()
    np.testing.assert_allclose(run(gx.grad(f), X), 2 * X)
    with pytest.raises(gx.GraphError, match="has a value and no derivative"):
        run(gx.grad(lambda x: gx.grad(f)(x).sum()), X)


def test_what_a_rule_reads_is_watched() -> None:
    scale = {"k": 2.0}

    class Scaled(gx.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * scale["k"]

    @gx.custom_vjp
    def scaled(x: Any) -> Any:
        return x
    scaled.defvjp(lambda x: (x, None), lambda _, g: (g * scale["k"],))
    for f in (Scaled.apply, scaled):
        scale["k"] = 2.0
        step = gx.compile(gx.grad(lambda x, f=f: f(x).sum()))
        assert step(X).tolist() == [2, 2, 2]
        scale["k"] = 5.0
        assert step(X).tolist() == [5, 5, 5]
    scaled.defvjp(lambda x: (x, None), lambda _, g: (g * 9.0,))
    assert step(X).tolist() == [9, 9, 9]


# ---- checkpoint ------------------------------------------------------------------------------------------------------------------------


def block(x: Any, w: Any) -> Any:
    for _ in range(4):
        x = gx.tanh(x @ w)
    return x


def _deep(f: Any) -> Any:
    def loss(ws: Any, x: Any) -> Any:
        for w in ws:
            x = f(x, w)
        return (x * x).mean()
    return loss


def test_checkpoint_needs_less_memory_and_gives_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    ws, x = [rng.standard_normal((8, 8)).astype(np.float32) for _ in range(6)], rng.standard_normal((128, 8)).astype(np.float32)
    one = x.nbytes
    steps = {name: gx.compile(gx.value_and_grad(_deep(f))) for name, f in (("kept", block), ("again", gx.checkpoint(block)))}
    results = {name: step(ws, x) for name, step in steps.items()}
    for (a, gs), (b, hs) in [(results["kept"], results["again"])]:
        assert a.tobytes() == b.tobytes()
        for g, h in zip(gs, hs, strict=True):
            np.testing.assert_array_equal(g, h)
    arenas = {name: step.lowered.memory_plan().arena for name, step in steps.items()}
    assert arenas["kept"] >= 24 * one                                   # every tanh
    assert arenas["again"] <= 14 * one, arenas                          # six inputs of blocks, and one block


def test_checkpoint_survives_every_pass() -> None:
    x = np.ones((4, 3))
    w = np.full((3, 3), 0.1)
    graph = gx.compile(gx.grad(_deep(gx.checkpoint(block)))).lower([w, w], x)
    ops = [line.split(" = ")[1].split("(")[0] for line in graph.text("optimized").splitlines() if " = " in line]
    assert ops.count("tanh") == 16                                      # each of eight, twice
    assert "remat" not in ops


def test_checkpoint_of_states() -> None:
    """Dropout inside: the mask of the second computation is that of the first, and the counter moves once."""
    def losses(wrap: Any, compiled: bool) -> Any:
        gx.manual_seed(3)
        model = nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.5), nn.Linear(16, 1))
        optimizer = gx.optim.SGD(model.parameters(), lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = (wrap(model)(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss
        f = gx.compile(step) if compiled else lambda x: step(gx.tensor(x))
        return [f(XS.astype(np.float32)).item() for _ in range(3)]
    want = losses(lambda m: m, False)
    for compiled in (False, True):
        np.testing.assert_allclose(losses(gx.checkpoint, compiled), want, rtol=1e-5)
        np.testing.assert_allclose(losses(lambda m: lambda x: checkpoint(m, x, use_reentrant=False), compiled), want, rtol=1e-5)
        np.testing.assert_allclose(losses(lambda m: lambda x: checkpoint_sequential(m, 2, x), compiled), want, rtol=1e-5)


def test_a_parameter_updated_and_used_again_is_a_leaf_inside_of_checkpoint(run: Any) -> None:
    w = gx.tensor([1.0, 2.0], dtype="f64", requires_grad=True)

    def f() -> Any:
        with gx.no_grad():
            w.copy_(gx.tensor([3.0, 4.0], dtype="f64"))
        w.grad = None
        gx.checkpoint(lambda: (w * w * w).sum())().backward()
        return w.grad
    np.testing.assert_allclose(run(f), [27, 48])


# ---- words -----------------------------------------------------------------------------------------------------------------------------


def _made(fwd: Any, bwd: Any) -> Any:
    @gx.custom_vjp
    def f(x: Any) -> Any:
        return x * 2
    f.defvjp(fwd, bwd)
    return gx.grad(lambda x: f(x).sum())


OUTER = gx.tensor([1.0, 2.0, 3.0], dtype="f64", requires_grad=True)


@gx.custom_jvp
def bent(x: Any) -> Any:
    return x


bent.defjvp(lambda p, t: (p[0], t[0] * t[0]))


class Few(gx.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        return x * y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g


class Dirty(gx.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.mark_dirty(x)
        return x


WORDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no rule": (gx.grad(lambda x: gx.custom_vjp(lambda x: x)(x).sum()), r"has no rule yet"),
    "no pair": (_made(lambda x: x, lambda r, g: (g,)), "fwd of f returns a pair, got Tensor"),
    "no tuple": (_made(lambda x: (x, x), lambda r, g: g), "a cotangent for each of 1 arguments, got a Tensor"),
    "too many": (_made(lambda x: (x, x), lambda r, g: (g, g)), "for each of 1 arguments, got 2"),
    "shape": (_made(lambda x: (x, x), lambda r, g: (g.sum(),)), r"rule of f is f64\[\], and belongs to f64\[3\]"),
    "dtype": (_made(lambda x: (x, x), lambda r, g: (g.astype("f32"),)), r"is f32\[3\], and belongs to f64\[3\]"),
    "tree": (_made(lambda x: (x, x), lambda r, g: ((g, g),)), r"is no array|list of Tensors|shape"),
    "outside": (_made(lambda x: (x * OUTER, x), lambda r, g: (g,)), "from outside, which requires a gradient"),
    "clipped forward": (lambda x: gx.jvp(lambda x: _clip(x), (x,), (x,)), "not linear in the cotangents, so it has no forward mode"),
    "bent backward": (gx.grad(lambda x: bent(x).sum()), "not linear in the tangents, so it has no reverse mode"),
    "few": (gx.grad(lambda x: Few.apply(x, x).sum()), "a gradient for each of 2 arguments, got 1"),
    "dirty": (gx.grad(lambda x: Dirty.apply(x).sum()), "changes no argument in place"),
    "no backward": (gx.grad(lambda x: type("F", (gx.autograd.Function,), {"forward": staticmethod(lambda ctx, x: x)}).apply(x).sum()), "has no backward"),
    "a string": (gx.grad(lambda x: by_vjp(x, "y").sum()), r"argument\[1\] of by_vjp is a str, no tensor"),
    "hook": (gx.grad(lambda x: gx.checkpoint(_hooked)(x)), "a hook or retain_grad inside of checkpoint"),
    "segments": (lambda x: checkpoint_sequential([gx.sin], 2, x), "2 segments of 1 functions"),
    "a state": (gx.grad(lambda x: _made_state(x)), "would be written inside a function with a rule of its own"),
}


def _hooked(x: Any) -> Any:
    y = x * x
    y.register_hook(lambda g: g * 0)
    return y.sum()


@gx.custom_vjp
def _clip(x: Any) -> Any:
    return x


_clip.defvjp(lambda x: (x, None), lambda res, g: (gx.clip(g, -1.0, 1.0),))


def _made_state(x: Any) -> Any:
    f = gx.custom_vjp(lambda x: x * gx.randn(3))
    f.defvjp(lambda x: (x * gx.randn(3), None), lambda r, g: (g,))
    return f(x).sum()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("case", WORDS)
def test_words(case: str, compiled: bool) -> None:
    f, words = WORDS[case]
    with pytest.raises(gx.GraphError, match=words):
        gx.compile(f)(X) if compiled else f(gx.tensor(X))


def test_a_clipping_rule_clips(run: Any) -> None:
    np.testing.assert_allclose(run(gx.grad(lambda x: (_clip(x) * 3.0).sum()), X), np.ones(3))


def test_halves(run: Any) -> None:
    """A half's cotangent is f32, in a rule of the user's too."""
    @gx.custom_vjp
    def f(h: Any) -> Any:
        return h.float() * 2.0
    f.defvjp(lambda h: (h.float() * 2.0, h), lambda h, g: (g * h.float(),))

    @gx.custom_jvp
    def k(h: Any) -> Any:
        return h.float() * 2.0
    k.defjvp(lambda p, t: (k(p[0]), t[0] * p[0].float()))
    x = XS.astype(np.float32)
    for g in (f, k):
        got = run(lambda x, g=g: gx.grad(lambda x: (g(x.half()) * 3.0).sum())(x), x)
        np.testing.assert_allclose(got, 3 * x.astype(np.float16).astype(np.float32), rtol=1e-6)
    c = gx.checkpoint(lambda h: gx.sin(h.float()).bfloat16().float())
    np.testing.assert_allclose(run(gx.grad(lambda x: c(x.half()).sum()), x), np.cos(x), rtol=1e-2)


def test_formulas() -> None:
    """What is written is the value of the function and the derivative of the rule."""
    @gx.custom_vjp
    def square(x: Any) -> Any:
        return x * x
    square.defvjp(lambda x: (x * x, x), lambda x, g: (3.0 * g * x,))
    got = gx.symbolic.to_sympy(gx.grad(lambda x: gx.checkpoint(gx.sin)(x) * square(x)), np.float64(1))
    assert str(got) == "x**2*cos(x) + 3*x*sin(x)"
    w = gx.tensor([1.0, 2.0], requires_grad=True)
    w.name = "w"
    assert r"3" in gx.symbolic.latex(lambda: square(w).sum(), wrt="w")
    assert r"\cos" in gx.symbolic.latex(gx.grad(lambda x: gx.checkpoint(gx.sin)(x).sum()), np.ones(3))


def test_pictures(tmp_path: Any) -> None:
    step = gx.compile(gx.value_and_grad(lambda x: (by_vjp(x, x) * gx.checkpoint(gx.tanh)(x)).sum()))
    step(X)
    for name in ("a.svg", "a.html", "a.dot"):
        step.draw(str(tmp_path / name))
        assert (tmp_path / name).stat().st_size > 1000


@gx.custom_vjp
def _twice(x: Any) -> Any:
    """sin, with twice its derivative."""
    return gx.sin(x)


_twice.defvjp(lambda x: (_twice(x), gx.cos(x)), lambda c, g: (2.0 * g * c,))


def test_in_branches_and_loops(run: Any) -> None:
    x = np.asarray([0.3, -0.7])                                         # the sum is negative: the first branch

    def choice(f: Any) -> Any:
        return lambda x: gx.cond(x.sum() < 0, lambda x: f(x).sum(), lambda x: (x * x).sum(), x)
    np.testing.assert_allclose(run(gx.grad(choice(_twice)), x), 2 * np.cos(x))
    np.testing.assert_allclose(run(gx.vmap(gx.grad(choice(_twice))), np.stack([x, -x])), [2 * np.cos(x), -2 * x])
    np.testing.assert_allclose(run(gx.hessian(choice(_twice)), x), np.diag(-2 * np.sin(x)), atol=1e-15)
    np.testing.assert_allclose(run(gx.grad(gx.checkpoint(choice(gx.sin))), x), np.cos(x))
    w = gx.tensor([0.5, 0.2], dtype="f64", requires_grad=True)

    def loop(wrap: Any) -> Any:
        def f(xs: Any) -> Any:
            w.grad = None
            h, _ = gx.scan(lambda h, x: (wrap(lambda h: gx.tanh(h * w + x))(h), None), gx.zeros(2, dtype="f64"), xs)
            h.sum().backward()
            return w.grad
        return f
    xs = np.stack([x, -x, 2 * x])
    np.testing.assert_allclose(run(loop(gx.checkpoint), xs), run(loop(lambda f: f), xs), rtol=1e-14)


def test_symbolic_sizes() -> None:
    step = gx.compile(gx.grad(lambda x: (_twice(x) + gx.checkpoint(gx.tanh)(x)).sum()))
    for n in (3, 4, 7):
        x = np.linspace(-1, 1, 2 * n).reshape(n, 2)
        np.testing.assert_allclose(step(x), 2 * np.cos(x) + 1 - np.tanh(x) ** 2, rtol=1e-13)
    x = np.linspace(-1, 1, 10).reshape(5, 2)
    ahead = gx.compile(gx.grad(lambda x: (_twice(x) + gx.checkpoint(gx.tanh)(x)).sum())).lower(gx.Spec(("N", 2), gx.float64))
    assert ahead.executable().memory_plan(N=64).states == 0
    np.testing.assert_allclose(step(x), 2 * np.cos(x) + 1 - np.tanh(x) ** 2, rtol=1e-13)
