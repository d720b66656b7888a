"""Records torch's losses, activations and gradient clipping into tests/golden/nn/functional.npz. Needs torch; is run by hand, never by a test.

A JSON table (`cases`) gives for each case the function, its arguments (names of arrays, or numbers) and keywords; `NAME/out` is the result and
`NAME/grad/ARG` the gradient of sum(result * NAME/cotangent) by a float argument. Everything in f64.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

OUT = Path(__file__).parents[1] / "golden" / "nn"


def arrays() -> dict[str, np.ndarray]:
    r = np.random.RandomState(11)
    p = r.uniform(0.1, 1, (6, 4))
    p3 = r.uniform(0.1, 1, (2, 4, 3))
    return {
        "logits": r.standard_normal((6, 4)) * 3,
        "labels": np.array([0, 3, 2, 2, 1, 0]),
        "some": np.array([0, -100, 2, 3, -100, 0]),             # two of them ignored
        "all_ignored": np.full(6, -100),
        "threes": np.array([3, 3, 2, 2, 1, 0]),
        "probs": p / p.sum(1, keepdims=True),
        "weight": np.array([0.5, 2.0, 1.0, 0.25]),
        "logits3": r.standard_normal((2, 4, 3)),
        "labels3": np.array([[0, 3, 1], [2, 2, -100]]),
        "probs3": p3 / p3.sum(1, keepdims=True),
        "logits1": r.standard_normal(4),
        "label0": np.array(2),
        "huge": np.array([[1000.0, -1000.0, 0.0, 999.0], [-500.0, -500.0, -500.5, -501.0]]),
        "huge_labels": np.array([3, 2]),
        "a": r.standard_normal((3, 4)),
        "b": r.standard_normal((3, 4)),
        "line": np.array([-40.0, -9.5, -3.0, -1.0, -0.25, 0.1, 0.5, 1.0, 2.5, 8.0, 25.0, 40.0]),
        "w": r.standard_normal((2, 4)),
        "bias": r.standard_normal(2),
        "x3": r.standard_normal((2, 3, 4)),
        "weight4": r.standard_normal(4),
    }


def table() -> dict[str, dict[str, Any]]:
    cases: dict[str, dict[str, Any]] = {}

    def add(name: str, fn: str, args: list[str], **kw: Any) -> None:
        assert name not in cases
        cases[name] = {"fn": fn, "args": args, "kw": kw}

    for reduction in ("none", "sum", "mean"):
        r = {"reduction": reduction}
        add(f"ce-{reduction}", "cross_entropy", ["logits", "labels"], **r)
        add(f"ce-weight-{reduction}", "cross_entropy", ["logits", "labels"], weight="weight", **r)
        add(f"ce-ignore-{reduction}", "cross_entropy", ["logits", "some"], **r)
        add(f"ce-ignore3-{reduction}", "cross_entropy", ["logits", "threes"], ignore_index=3, **r)
        add(f"ce-smooth-{reduction}", "cross_entropy", ["logits", "labels"], label_smoothing=0.1, **r)
        add(f"ce-everything-{reduction}", "cross_entropy", ["logits", "some"], weight="weight", label_smoothing=0.2, **r)
        add(f"ce-probs-{reduction}", "cross_entropy", ["logits", "probs"], **r)
        add(f"ce-probs-weight-smooth-{reduction}", "cross_entropy", ["logits", "probs"], weight="weight", label_smoothing=0.1, **r)
        add(f"ce-spatial-{reduction}", "cross_entropy", ["logits3", "labels3"], weight="weight", **r)
        add(f"ce-spatial-smooth-{reduction}", "cross_entropy", ["logits3", "labels3"], label_smoothing=0.1, **r)
        add(f"ce-spatial-probs-{reduction}", "cross_entropy", ["logits3", "probs3"], **r)
        add(f"ce-single-{reduction}", "cross_entropy", ["logits1", "label0"], **r)
        add(f"ce-huge-{reduction}", "cross_entropy", ["huge", "huge_labels"], **r)
        add(f"nll-{reduction}", "nll_loss", ["logits", "some"], weight="weight", **r)
        add(f"nll-spatial-{reduction}", "nll_loss", ["logits3", "labels3"], **r)
        add(f"mse-{reduction}", "mse_loss", ["a", "b"], **r)
        add(f"l1-{reduction}", "l1_loss", ["a", "b"], **r)
    add("ce-none-left-mean", "cross_entropy", ["logits", "all_ignored"])
    add("ce-none-left-sum", "cross_entropy", ["logits", "all_ignored"], reduction="sum")
    for fn in ("relu", "tanh", "sigmoid", "softplus", "gelu", "silu", "elu", "leaky_relu", "logsigmoid"):
        add(fn, fn, ["line"])
    add("gelu-tanh", "gelu", ["line"], approximate="tanh")
    add("softplus-beta", "softplus", ["line"], beta=2.0, threshold=10.0)
    add("elu-alpha", "elu", ["line"], alpha=0.5)
    add("leaky_relu-slope", "leaky_relu", ["line"], negative_slope=0.2)
    for dim in (0, 1, -1):
        add(f"softmax-{dim}", "softmax", ["x3"], dim=dim)
        add(f"log_softmax-{dim}", "log_softmax", ["x3"], dim=dim)
    add("softmax-huge", "softmax", ["huge"], dim=1)
    add("log_softmax-huge", "log_softmax", ["huge"], dim=1)
    add("linear", "linear", ["a", "w", "bias"])
    add("linear-bare", "linear", ["a", "w"])
    add("linear-3d", "linear", ["x3", "w", "bias"])
    add("linear-1d", "linear", ["logits1", "w", "bias"])
    add("layer_norm", "layer_norm", ["a", "logits1", "weight4"], normalized_shape=[4])
    add("layer_norm-bare", "layer_norm", ["a"], normalized_shape=[4], eps=0.1)
    add("layer_norm-two-axes", "layer_norm", ["x3", "b", "a"], normalized_shape=[3, 4])
    return cases


def main() -> None:
    given = arrays()
    out: dict[str, Any] = {**given}
    cases = table()
    r = np.random.RandomState(12)
    for name, case in cases.items():
        args = {a: torch.tensor(given[a], requires_grad=given[a].dtype == np.float64) for a in case["args"]}
        kw = {k: torch.tensor(given[v]) if isinstance(v, str) and v in given else v for k, v in case["kw"].items()}
        names = ("input", "weight", "bias") if case["fn"] == "layer_norm" else ()
        y = getattr(F, case["fn"])(**dict(zip(names, args.values())), **kw) if names else getattr(F, case["fn"])(*args.values(), **kw)
        cotangent = r.standard_normal(tuple(y.shape))
        (y * torch.tensor(cotangent)).sum().backward()
        out[f"{name}/out"], out[f"{name}/cotangent"] = y.detach().numpy(), cotangent
        out.update({f"{name}/grad/{a}": t.grad.numpy() for a, t in args.items() if t.grad is not None})

    clips = [[2.0, 0.5], [2.0, 100.0], [1.0, 0.5], [3.0, 0.25], [float("inf"), 0.5]]       # norm_type, max_norm
    for k, (kind, most) in enumerate(clips):
        params = [torch.nn.Parameter(torch.zeros(s, dtype=torch.float64)) for s in ((3, 4), (4,), (2,))]
        for p, g in zip(params, ("a", "logits1", "bias"), strict=True):
            p.grad = torch.tensor(given[g])
        out[f"clip/{k}/norm"] = torch.nn.utils.clip_grad_norm_(params, most, norm_type=kind).numpy()
        out.update({f"clip/{k}/{g}": p.grad.numpy() for p, g in zip(params, ("a", "logits1", "bias"), strict=True)})
    out["clips"] = np.array(clips)

    torch.manual_seed(0)
    layer = torch.nn.Linear(16, 2000, dtype=torch.float64)      # U(-1/4, 1/4) for both
    out["linear/bounds"] = np.array([f(t).item() for t in (layer.weight.detach(), layer.bias.detach()) for f in (torch.min, torch.max, torch.std)])
    out["torch"], out["cases"] = np.array(torch.__version__), np.array(json.dumps(cases))
    OUT.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(OUT / "functional.npz", **out)
    print("functional.npz", (OUT / "functional.npz").stat().st_size, "bytes,", len(cases), "cases")


if __name__ == "__main__":
    main()
