"""Records torch's optimizer trajectories on a 5-7-6-3 net into tests/golden/optim/{f64,f32}.npz. Needs torch; is run by hand, never by a test.

Each file holds the data (`x`, `labels`, `targets`: 4 batches of 8, visited in turn), the initial parameters (`init`, one vector: W1 b1 W2 b2 W3 b3 in
torch's (out, in) layout), a JSON table of cases (`cases`), and for each case `NAME/params` (the parameters after the steps of `steps`),
`NAME/losses` (of all 100 steps) and, where the gradients are clipped, `NAME/norms` (what clip_grad_norm_ returned).
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

OUT = Path(__file__).parents[1] / "golden" / "optim"
SHAPES = [(7, 5), (7,), (6, 7), (6,), (3, 6), (3,)]
STEPS = (1, 2, 5, 100)

CE, MSE = {"loss": "cross_entropy", "act": "tanh"}, {"loss": "mse", "act": "relu"}
CASES: dict[str, dict[str, Any]] = {
    "sgd-ce": {"optim": "SGD", "kw": {"lr": 0.1}, **CE},
    "sgd-mse": {"optim": "SGD", "kw": {"lr": 0.05}, **MSE},
    "sgd-momentum-ce": {"optim": "SGD", "kw": {"lr": 0.05, "momentum": 0.9}, **CE},
    "sgd-momentum-mse": {"optim": "SGD", "kw": {"lr": 0.01, "momentum": 0.9}, **MSE},
    "sgd-dampening": {"optim": "SGD", "kw": {"lr": 0.05, "momentum": 0.9, "dampening": 0.1}, **CE},
    "sgd-nesterov": {"optim": "SGD", "kw": {"lr": 0.05, "momentum": 0.9, "nesterov": True}, **CE},
    "sgd-weight-decay": {"optim": "SGD", "kw": {"lr": 0.1, "weight_decay": 0.05}, **CE},
    "sgd-maximize": {"optim": "SGD", "kw": {"lr": 0.01, "maximize": True}, **CE},
    "sgd-all": {"optim": "SGD", "kw": {"lr": 0.01, "momentum": 0.8, "dampening": 0.2, "weight_decay": 0.02, "maximize": True}, **CE},
    "sgd-nesterov-decay": {"optim": "SGD", "kw": {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, **MSE},
    "sgd-clip": {"optim": "SGD", "kw": {"lr": 0.1, "momentum": 0.9}, "clip": 0.25, **CE},
    "adam-ce": {"optim": "Adam", "kw": {}, **CE},
    "adam-mse": {"optim": "Adam", "kw": {}, **MSE},
    "adam-weight-decay": {"optim": "Adam", "kw": {"lr": 0.01, "weight_decay": 0.1}, **CE},
    "adam-amsgrad": {"optim": "Adam", "kw": {"lr": 0.01, "betas": [0.9, 0.9], "amsgrad": True}, **CE},
    "adam-betas-eps": {"optim": "Adam", "kw": {"lr": 0.01, "betas": [0.8, 0.95], "eps": 1e-3}, **CE},
    "adam-maximize": {"optim": "Adam", "kw": {"lr": 0.001, "maximize": True}, **CE},
    "adam-clip": {"optim": "Adam", "kw": {"lr": 0.01}, "clip": 0.1, **MSE},
    "adamw-ce": {"optim": "AdamW", "kw": {}, **CE},
    "adamw-mse": {"optim": "AdamW", "kw": {"lr": 0.01, "weight_decay": 0.3}, **MSE},
    "adamw-amsgrad": {"optim": "AdamW", "kw": {"lr": 0.01, "betas": [0.9, 0.9], "amsgrad": True, "weight_decay": 0.1}, **CE},
    # two groups (the last layer on its own), and settings that change after step 50
    "sgd-groups": {"optim": "SGD", "kw": {"lr": 0.05, "momentum": 0.9}, "last": {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.0}, **CE},
    "adam-changes": {"optim": "Adam", "kw": {"lr": 0.01}, "then": {"lr": 0.002, "betas": [0.8, 0.99], "weight_decay": 0.01}, **CE},
    "sgd-changes": {"optim": "SGD", "kw": {"lr": 0.1, "momentum": 0.9}, "then": {"lr": 0.02, "momentum": 0.5}, **MSE},
}


def made() -> dict[str, np.ndarray]:
    r = np.random.RandomState(7)
    init = np.concatenate([(r.uniform(-1, 1, s) / np.sqrt(s[-1] if len(s) > 1 else 4)).ravel() for s in SHAPES])
    x = r.standard_normal((4, 8, 5))
    labels = r.randint(0, 3, (4, 8))
    targets = r.standard_normal((4, 8, 3))
    # every number is one that f32 holds too, so that both files start from the same point
    return {"init": init.astype(np.float32), "x": x.astype(np.float32), "labels": labels, "targets": targets.astype(np.float32)}


def hyper(kw: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in kw.items()}


def run(case: dict[str, Any], data: dict[str, np.ndarray], dtype: torch.dtype) -> dict[str, np.ndarray]:
    sizes = [int(np.prod(s)) for s in SHAPES]
    parts = np.split(data["init"], np.cumsum(sizes)[:-1])
    params = [torch.tensor(p.reshape(s), dtype=dtype, requires_grad=True) for p, s in zip(parts, SHAPES, strict=True)]
    groups: Any = params if "last" not in case else [{"params": params[:4]}, {"params": params[4:], **case["last"]}]
    opt = getattr(torch.optim, case["optim"])(groups, foreach=False, **hyper(case["kw"]))
    act = getattr(torch, case["act"])
    out: dict[str, Any] = {"params": [], "losses": [], "norms": []}
    for step in range(100):
        if step == 50:
            opt.param_groups[0].update(hyper(case.get("then", {})))
        b = step % 4
        w1, b1, w2, b2, w3, b3 = params
        h = torch.tensor(data["x"][b], dtype=dtype)
        y = act(act(h @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
        if case["loss"] == "mse":
            loss = torch.nn.functional.mse_loss(y, torch.tensor(data["targets"][b], dtype=dtype))
        else:
            loss = torch.nn.functional.cross_entropy(y, torch.tensor(data["labels"][b]))
        opt.zero_grad()
        loss.backward()
        if "clip" in case:
            out["norms"].append(torch.nn.utils.clip_grad_norm_(params, case["clip"]).item())
        opt.step()
        out["losses"].append(loss.item())
        if step + 1 in STEPS:
            out["params"].append(np.concatenate([p.detach().numpy().ravel() for p in params]))
    kind = data["init"].dtype if dtype is torch.float32 else np.float64
    return {k: np.array(v, kind) for k, v in out.items() if len(v)}


def main() -> None:
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    data = made()
    for name, dtype in (("f64", torch.float64), ("f32", torch.float32)):
        arrays: dict[str, Any] = {**data, "steps": np.array(STEPS), "torch": np.array(torch.__version__), "cases": np.array(json.dumps(CASES))}
        for key, case in CASES.items():
            arrays.update({f"{key}/{k}": v for k, v in run(case, data, dtype).items()})
        np.savez_compressed(OUT / f"{name}.npz", **arrays)
        print(name, (OUT / f"{name}.npz").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
