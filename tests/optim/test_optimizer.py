"""Groups, flags, step counts, saving, and the words of the errors."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.core.errors import GraphError

X = np.linspace(-1, 1, 12, dtype=np.float64).reshape(3, 4)


def model() -> nn.Module:
    gx.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()


def stepper(net: nn.Module, optimizer: optim.Optimizer, backend: str = "numpy") -> Any:
    """A compiled training step."""
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (net(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss
    return gx.compile(step, backend=backend)


def same(a: nn.Module, b: nn.Module, tol: float = 0.0) -> bool:
    return all(np.allclose(v, b.state_dict()[k], rtol=tol, atol=0) for k, v in a.state_dict().items())


MAKERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1), "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "adam": lambda p: optim.Adam(p, lr=0.1), "amsgrad": lambda p: optim.AdamW(p, lr=0.1, amsgrad=True),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_saved_run_goes_on_as_the_one_that_was_not_interrupted(make: Any) -> None:
    a = model()
    opt_a = make(a.parameters())
    step_a = stepper(a, opt_a)
    for _ in range(3):
        step_a(X)
    b = model()
    opt_b = make(b.parameters())
    step_b = stepper(b, opt_b)
    step_b(X)                                                   # compiled before the loading: it must see what is loaded
    b.load_state_dict(a.state_dict())
    opt_b.load_state_dict(opt_a.state_dict())
    for _ in range(3):
        step_a(X)
        step_b(X)
    assert same(a, b)
    assert len(step_b.variants) == 1


def test_state_dict_has_torch_s_form() -> None:
    net = model()
    optimizer = optim.Adam([{"params": net[0].parameters(), "lr": 0.5}, {"params": net[2].parameters()}], amsgrad=True)
    assert optimizer.state_dict()["state"] == {}
    stepper(net, optimizer)(X)
    d = optimizer.state_dict()
    assert [g["params"] for g in d["param_groups"]] == [[0, 1], [2, 3]]
    assert [g["lr"] for g in d["param_groups"]] == [0.5, 1e-3]
    assert list(d["state"]) == [0, 1, 2, 3]
    assert list(d["state"][0]) == ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
    assert d["state"][0]["step"] == 1.0
    assert d["state"][2]["exp_avg"].shape == (2, 3)
    assert set(optimizer.state) == set(net.parameters())
    sgd = optim.SGD(net.parameters(), lr=0.1)
    stepper(net, sgd)(X)
    assert sgd.state_dict()["state"] == {}
    sgd.param_groups[0]["momentum"] = 0.9
    stepper(net, sgd)(X)
    assert list(sgd.state_dict()["state"][3]) == ["momentum_buffer"]


def test_a_state_dict_that_does_not_fit_changes_nothing() -> None:
    net = model()
    optimizer = optim.Adam(net.parameters())
    step = stepper(net, optimizer)
    step(X)
    good = optimizer.state_dict()
    bad = optimizer.state_dict()
    bad["state"][0]["exp_avg"] += 1
    bad["state"][3]["exp_avg"] = np.zeros(7)
    with pytest.raises(GraphError, match="the state_dict does not fit Adam") as e:
        optimizer.load_state_dict(bad)
    assert "exp_avg of 2.bias is (7,) there and (2,) here" in e.value.why
    assert np.array_equal(optimizer.state_dict()["state"][0]["exp_avg"], good["state"][0]["exp_avg"])
    with pytest.raises(GraphError, match="the state_dict does not fit"):
        optim.Adam(net[0].parameters()).load_state_dict(good)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_numbers_change_without_a_trace(backend: str) -> None:
    net = model()
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    step = stepper(net, optimizer, backend)
    step(X)
    before = net.state_dict()
    group = optimizer.param_groups[0]
    group["lr"] = 0.0
    step(X)
    assert all(np.array_equal(v, before[k]) for k, v in net.state_dict().items())
    group["lr"] = 0.01
    group["betas"] = (0.5, 0.6)
    group["eps"] = 1e-3
    group["weight_decay"] = 0.1
    step(X)
    assert not same(net, model())
    assert len(step.variants) == 1


def test_flags_are_structure() -> None:
    net = model()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    step = stepper(net, optimizer)
    first = step(X)
    assert step(X) < first
    optimizer.param_groups[0]["maximize"] = True
    low = step(X)
    assert step(X) > low
    assert len(step.variants) == 2
    optimizer.param_groups[0]["momentum"] = 0.5
    step(X)
    assert len(step.variants) == 3
    optimizer.param_groups[0]["momentum"] = 0.25
    step(X)
    assert len(step.variants) == 3


def test_a_group_added_later_is_trained() -> None:
    net = model()
    optimizer = optim.SGD(net[0].parameters(), lr=0.1)
    step = stepper(net, optimizer)
    before = net.state_dict()
    step(X)
    assert np.array_equal(net[2].weight.numpy(), before["2.weight"])
    optimizer.add_param_group({"params": net[2].parameters(), "lr": 0.2})
    step(X)
    assert not np.array_equal(net[2].weight.numpy(), before["2.weight"])
    assert len(step.variants) == 2


def eager_twin(make: Any, freeze: Any) -> nn.Module:
    """Eight eager steps, with a layer frozen for the middle four."""
    net = model()
    optimizer = make(net.parameters())
    for i in range(8):
        freeze(net, i)
        optimizer.zero_grad()
        (net(X) ** 2).mean().backward()
        optimizer.step()
    return net


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_counts_part_where_some_parameters_rest(make: Any) -> None:
    def freeze(net: nn.Module, i: int) -> None:
        net[0].requires_grad_(not 2 <= i < 6)

    net = model()
    optimizer = make(net.parameters())
    step = stepper(net, optimizer)
    for i in range(8):
        freeze(net, i)
        step(X)
    assert same(net, eager_twin(make, freeze), 1e-12)
    if optimizer.counted:
        assert [float(optimizer.state_dict()["state"][k]["step"]) for k in range(4)] == [4, 4, 8, 8]


def test_parameters_that_step_together_share_one_count() -> None:
    net = model()
    step = stepper(net, optim.Adam(net.parameters()))
    step(X)
    names = [s.name for s in step.lowered.graph.states]
    assert [n for n in names if n.startswith("step")] == ["step"]
    assert "exp_avg_sq(2.weight)" in names


def test_a_shared_parameter_is_updated_once() -> None:
    w = nn.Parameter(np.float64([1.0, 2.0]))
    optimizer = optim.SGD([w, w], lr=0.5)
    (w * w).sum().backward()
    optimizer.step()
    assert w.tolist() == [0.0, 0.0]


def test_a_parameter_without_a_gradient_stays() -> None:
    net = model()
    optimizer = optim.Adam(net.parameters(), lr=0.1, weight_decay=0.1)
    before = net.state_dict()
    (net[0](X) ** 2).mean().backward()
    optimizer.step()
    assert np.array_equal(net[2].weight.numpy(), before["2.weight"])
    assert not np.array_equal(net[0].weight.numpy(), before["0.weight"])


def test_zero_grad() -> None:
    net = model()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    (net(X) ** 2).mean().backward()
    optimizer.zero_grad(set_to_none=False)
    assert not net[0].weight.grad.numpy().any()
    optimizer.zero_grad()
    assert net[0].weight.grad is None


def test_a_closure_is_called() -> None:
    net = model()
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (net(X) ** 2).mean()
        loss.backward()
        return loss

    first = optimizer.step(closure).item()
    assert optimizer.step(closure).item() < first


def test_a_failing_trace_leaves_the_optimizer_as_it_was() -> None:
    net = model()
    optimizer = optim.Adam(net.parameters())

    def bad(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (net(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        raise ValueError("no")

    before = net.state_dict()
    with pytest.raises(ValueError, match="no"):
        gx.compile(bad, backend="numpy")(X)
    assert optimizer.state == {}
    assert optimizer.state_dict()["state"] == {}
    assert all(np.array_equal(v, before[k]) for k, v in net.state_dict().items())
    stepper(net, optimizer)(X)
    assert optimizer.state_dict()["state"][0]["step"] == 1.0


W = nn.Parameter(np.zeros(2, np.float32))


@pytest.mark.parametrize(("make", "words"), [
    (lambda: optim.SGD(W), "takes an iterable of parameters, got one Tensor"),
    (lambda: optim.SGD([]), "got no parameters"),
    (lambda: optim.SGD([1.0]), "trains Tensors, got float"),
    (lambda: optim.SGD([W * 2.0]), "trains leaves"),
    (lambda: optim.SGD([W], lr=-1.0), "lr must be a number >= 0, got -1.0"),
    (lambda: optim.SGD([W], lr=float("nan")), "lr must be a number >= 0, got nan"),
    (lambda: optim.SGD([W], nesterov=True), "nesterov needs a momentum > 0"),
    (lambda: optim.SGD([{"params": [W]}, {"params": [W]}]), "is in two groups"),
    (lambda: optim.SGD([W]).add_param_group({"lr": 1.0}), 'a parameter group is a dict with "params"'),
    (lambda: optim.Adam([W], betas=(0.9, 1.0)), r"betas\[1\] must be a number in \[0, 1\), got 1.0"),
    (lambda: optim.Adam([W], eps=-1.0), "eps must be a number >= 0"),
    (lambda: optim.AdamW([W], weight_decay=-0.1), "weight_decay must be a number >= 0"),
])
def test_errors(make: Any, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        make()


def test_repr_names_the_settings() -> None:
    assert repr(optim.SGD([W], lr=0.5)) == """SGD (
Parameter Group 0
    dampening: 0.0
    lr: 0.5
    maximize: False
    momentum: 0.0
    nesterov: False
    weight_decay: 0.0
)"""
