"""LaTeX of functions and gradients: golden texts, and every line of a derivation evaluated and held against the graph."""
from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import sympy

import graphc as gx
from graphc import nn
from graphc.interp.numpy import evaluate
from graphc.nn import functional as F
from graphc.symbolic import latex
from graphc.symbolic import notation as nt
from graphc.symbolic.latex import _Derivation, leaf_names
from graphc.symbolic.spell import subscripted
from graphc.symbolic.translate import traced

Spec = gx.Spec
rng = np.random.default_rng(0)


def mlp(*sizes: int, activation: Any = nn.Tanh) -> nn.Sequential:
    gx.manual_seed(0)
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        return self.fc2(gx.sigmoid(self.fc1(x)))


def layer_norm(x: Any, g: Any, b: Any) -> Any:
    d = x - x.mean(axis=-1, keepdims=True)
    return d * gx.rsqrt((d * d).mean(axis=-1, keepdims=True) + 1e-5) * g + b


tanh_net, relu_net, net = mlp(4, 5, 3), mlp(4, 5, 6, 1, activation=nn.ReLU), Net()
CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {
    "layer": (lambda x, w, b: gx.tanh(x @ w.T + b), (Spec((2, 4)), Spec((5, 4)), Spec((5,))), None),
    "least_squares": (lambda x, w, y: ((x @ w - y)**2).mean(), (Spec((3, 4)), Spec((4,)), Spec((3,))), "w"),
    "mlp_cross_entropy": (lambda x, y: F.cross_entropy(tanh_net(x), y), (Spec((2, 4)), Spec((2,), gx.int64)), True),
    "mlp_soft_labels": (lambda x, y: F.cross_entropy(tanh_net(x), y), (Spec((2, 4)), Spec((2, 3))), list(tanh_net.parameters())),
    "mlp_relu": (lambda x, y: ((gx.sigmoid(relu_net(x)[:, 0]) - y)**2).mean(), (Spec((2, 4)), Spec((2,))), list(relu_net.parameters())),
    "mlp_mse": (lambda x, t: F.mse_loss(net(x), t), (Spec((2, 4)), Spec((2, 3))), list(net.parameters())),
    "logistic": (lambda x, y, w: (gx.softplus(x @ w) - y * (x @ w)).mean() + 0.5 * (w * w).sum(), (Spec((3, 4)), Spec((3,)), Spec((4,))), "w"),
    "attention": (lambda q, k, v: gx.softmax(q @ k.T / 2.0) @ v, (Spec((2, 4)), Spec((5, 4)), Spec((5, 3))), None),
    "attention_gradients": (lambda q, k, v: (gx.softmax(q @ k.T / 2.0) @ v).sum(), (Spec((2, 4)), Spec((5, 4)), Spec((5, 3))), True),
    "quadratic_form": (lambda x, a: x @ a @ x, (Spec((4,)), Spec((4, 4))), True),
    "layer_norm": (layer_norm, (Spec((2, 4)), Spec((4,)), Spec((4,))), None),
    "layer_norm_gradients": (lambda x, g, b: (layer_norm(x, g, b)**3).sum(), (Spec((2, 4)), Spec((4,)), Spec((4,))), True),
    "embedding": (lambda e, i: gx.tanh(gx.take(e, i, axis=0)).sum(), (Spec((10, 3)), Spec((2,), gx.int64)), "e"),
    "elements": (lambda x: x[0]**2 + x[1] * x[2], (Spec((3,)),), "x"),
    "batched": (lambda a, b: a @ b, (Spec((2, 3, 4)), Spec((2, 4, 5))), None),
    "columns": (lambda x: gx.softmax(x, axis=0) * gx.logsumexp(x, axis=0), (Spec((3, 4)),), None),
    "extrema": (lambda x: (x.max(axis=1), gx.abs(x).sum(axis=0), gx.maximum(x, 0.5)), (Spec((3, 4)),), None),
    "masked": (lambda x, y: gx.where(x > y, x, 2.0 * y).sum(), (Spec((3, 4)), Spec((3, 4))), True),
    "dictionary": (lambda p, x: gx.exp(x @ p["w1"] + p["b1"]), ({"w1": Spec((4, 5)), "b1": Spec((5,))}, Spec((2, 4))), None),
    "running": (lambda x: 2.0 * gx.cumsum(x, 0) + gx.flip(x), (Spec((3,)),), None),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, golden: Callable[[str, str], None]) -> None:
    f, args, wrt = CASES[case]
    golden(latex(f, *args, wrt=wrt), f"symbolic/{case}")


# ---- what a line says is what the graph computes -------------------------------------------------------------------------------------


def value(e: Any, at: dict[Any, int], arrays: dict[str, np.ndarray], sizes: dict[Any, int]) -> float:
    """An element in index notation, by brute force. `sizes` says how far each bound index runs."""
    def go(x: Any, **more: Any) -> float:
        return value(x, {**at, **more.get("at", {})}, arrays, sizes)

    match e:
        case sympy.Dummy(): return at[e]
        case sympy.Symbol(): return float(arrays[e.name])
        case sympy.Indexed(): return float(arrays[str(e.base.label)][tuple(int(go(i)) for i in e.indices)])
        case nt.Iverson(): return float(go(e.args[0]))
        case nt.Holds(): return go(e.args[0])
        case nt.Softmax():
            body, k, place = e.args
            row = np.array([go(body, at={k: i}) for i in range(sizes[k])])
            return float(np.exp(row[int(go(place))]) / np.exp(row).sum())
        case nt.Reduction():
            body, k = e.args
            row = np.array([go(body, at={k: i}) for i in range(sizes[k])])
            return float({nt.Total: np.sum, nt.Largest: np.max, nt.Smallest: np.min, nt.Multiplied: np.prod,
                          nt.LogSumExp: lambda r: np.log(np.exp(r).sum())}[type(e)](row))
        case nt.Sigmoid(): return 1 / (1 + np.exp(-go(e.args[0])))
        case nt.Relu(): return max(go(e.args[0]), 0.0)
        case nt.Softplus(): return np.log1p(np.exp(go(e.args[0])))
        case sympy.Not(): return float(not go(e.args[0]))
        case sympy.And(): return float(all(go(a) for a in e.args))
        case sympy.Or(): return float(any(go(a) for a in e.args))
    if not e.args:
        return float(bool(e) if isinstance(e, sympy.logic.boolalg.BooleanAtom) else e)
    out = e.func(*(sympy.Float(go(a), 17) for a in e.args))
    return float(bool(out) if isinstance(out, sympy.logic.boolalg.BooleanAtom) else out)


@pytest.mark.parametrize("case", [c for c in CASES if c not in ("embedding", "running")])
def test_every_line_is_what_the_graph_computes(case: str) -> None:
    f, args, wrt = CASES[case]
    d = _Derivation(traced(f, args).graph, wrt)
    d.lines()
    arrays = {n: rng.standard_normal(n.tensor.shape).astype(n.tensor.dtype.numpy) if n.tensor.dtype.is_float else rng.integers(0, 3, n.tensor.shape)
              for n in d.leaves}
    nodes = [n for n, _, _ in d.steps]
    assert {*d.outputs, *d.slopes} <= set(nodes)
    named = [n for n in d.names if n not in arrays]
    values = dict(zip([*named, *nodes], evaluate([*named, *nodes], arrays), strict=True))
    by_name = {d.names[n]: np.asarray(v, float) for n, v in arrays.items()}
    by_name |= {d.names[n]: np.asarray(values[n], float).reshape([m for m in n.tensor.shape if m != 1]) for n in named}
    sizes = {}
    for n, ks in d.notation.bound.items():
        axes = n.attrs["contracting"][0] if "contracting" in n.attrs else n.attrs.get("axes", (n.attrs.get("axis"),))
        sizes |= {k: n.inputs[0].tensor.shape[a] for k, a in zip(ks, axes)}
    for n, body, at in d.steps:
        shape = n.tensor.shape if len(at) == n.tensor.rank else tuple(m for m in n.tensor.shape if m != 1)
        got = np.array([value(sympy.sympify(body), dict(zip(at, place)), by_name, sizes) for place in product(*map(range, shape))]).reshape(n.tensor.shape)
        np.testing.assert_allclose(got, values[n], rtol=2e-4, atol=2e-5, err_msg=str(body))


# ---- scalars, names, errors ----------------------------------------------------------------------------------------------------------


def test_scalars_are_exact() -> None:
    gelu = latex(lambda x: 0.5 * x * (1 + gx.erf(x * 0.5**0.5)), wrt="x")
    assert gelu.splitlines()[1] == r"L &= \frac{x \left(\operatorname{erf}{\left(\frac{\sqrt{2} x}{2} \right)} + 1\right)}{2} \\"
    text = latex(gx.compile(lambda x, y: gx.sin(x) * y + y**2), wrt=["y", "x"])
    assert text.splitlines()[1:-1] == [r"L &= y^{2} + y \sin{\left(x \right)} \\", r"\frac{\partial L}{\partial y} &= 2 y + \sin{\left(x \right)} \\",
                                       r"\frac{\partial L}{\partial x} &= y \cos{\left(x \right)}"]


def test_symbolic_sizes_stay_symbols() -> None:
    text = latex(lambda x, w: (x @ w).mean(), Spec(("N", 4)), Spec((4,)), wrt="w")
    assert r"\frac{\partial L}{\partial w} &= \frac{1}{N} X^\top \mathbf{1}" in text


def test_names() -> None:
    def of(*names: str, rank: int = 2) -> list[str]:
        from graphc.core.dtype import f32
        from graphc.ops.leaf import input_
        return leaf_names([input_(name=n, shape=(2,) * rank, dtype=f32) for n in names])

    assert of("fc1.weight", "fc1.bias", "fc2.weight") == ["W_{1}", "B_{1}", "W_{2}"]
    assert of("0.weight", "2.bias", rank=1) == ["W_{0}", "b_{2}"]
    assert of("enc.attn.weight", "enc.mlp.weight") == [r"W_{\mathrm{attn}}", r"W_{\mathrm{mlp}}"]
    assert of("a.fc.weight", "b.fc.weight") == [r"W_{\mathrm{a.fc}}", r"W_{\mathrm{b.fc}}"]
    assert of("params['w1']", "batch[0]", "lr", "alpha", rank=1) == ["w_{1}", "0", r"\mathrm{lr}", r"\alpha"]
    assert subscripted("x_0") == "x_{0}"
    both = latex(lambda x, X: x + X, Spec((2, 2)), Spec((2, 2)))
    assert "X_{2}" in both


@pytest.mark.parametrize(("f", "args", "wrt", "words"), [
    (lambda x: x.sum(), (Spec((3,)),), "w", "nothing called 'w'"),
    (lambda x: x * 2, (Spec((3,)),), "x", r"one floating scalar, got f32\[3\]"),
    (lambda x: gx.scan(lambda c, v: (c + v, c), gx.zeros(()), x)[0], (Spec((3,)),), None, "has no formula"),
])
def test_refused(f, args, wrt, words: str) -> None:
    with pytest.raises(gx.GraphError, match=words):
        latex(f, *args, wrt=wrt)


def test_logistic_regression_by_hand() -> None:
    """log(sigmoid) and log(1 - sigmoid) keep the derivatives of books, not those of their stable forms."""
    def loss(x, w, y):
        p = gx.sigmoid(x @ w)
        return -gx.mean(y * gx.log(p) + (1 - y) * gx.log(1 - p))

    text = latex(loss, gx.Spec(("N", 4)), gx.Spec((4,)), gx.Spec(("N",)), wrt="w")
    assert r"\log{\left(1 - \sigma\left(u_{i}\right) \right)}" in text
    assert r"T &= \sigma\left(u\right)" in text
    assert r"\frac{\partial L}{\partial w} &= \frac{1}{N} X^\top \left(T \odot u_{2} - y \odot \left(1 - T\right)\right)" in text


def test_the_derivative_of_a_choice_is_a_choice() -> None:
    assert r"\frac{\partial L}{\partial x} &= \begin{cases} 2 x & \text{for}\: x > 0 \\\cos{\left(x \right)} & \text{otherwise} \end{cases}" in latex(
        lambda x: gx.where(x > 0, x**2, gx.sin(x)), wrt="x")
    assert r"\frac{\partial L}{\partial x} &= \frac{1}{\sqrt{x^{2} + 1}}" in latex(gx.asinh, wrt="x")


def test_norms_of_rows_are_roots() -> None:
    text = latex(lambda x: gx.sum(gx.linalg.vector_norm(x, axis=1)), gx.Spec((3, 4)), wrt="x")
    assert r"\sqrt" in text
    assert r"\left[" not in text
