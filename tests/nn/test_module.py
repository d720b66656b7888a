"""Modules: registration, walking, saving, modes, names; and what a compiled function sees of a change."""
from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.core.errors import GraphError


class Net(nn.Module):
    def __init__(self) -> None:
        super(Net, self).__init__()                             # noqa: UP008  (the old form, as tutorials have it)
        self.body = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        self.scale = nn.Parameter(np.float32([2.0, 3.0]))
        self.head = nn.Linear(3, 2, bias=False)
        self.register_buffer("seen", np.zeros(2, np.float32))

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x)) * self.scale


X = np.arange(20, dtype=np.float32).reshape(5, 4) / 10


def test_members_are_found_in_order() -> None:
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["scale", "body.0.weight", "body.0.bias", "head.weight"]
    assert [n for n, _ in net.named_modules()] == ["", "body", "body.0", "body.1", "head"]
    assert [n for n, _ in net.named_children()] == ["body", "head"]
    assert [n for n, _ in net.named_buffers()] == ["seen"]
    assert len(list(net.parameters())) == 4
    assert [n for n, _ in net.named_parameters(recurse=False)] == ["scale"]
    assert list(net.children()) == [net.body, net.head]
    assert net.head.bias is None
    assert net.body[0].weight.shape == (3, 4)


def test_state_dict_has_torch_s_keys_and_copies() -> None:
    net = Net()
    d = net.state_dict()
    assert list(d) == ["scale", "seen", "body.0.weight", "body.0.bias", "head.weight"]
    d["scale"][:] = 99
    assert net.scale.tolist() == [2.0, 3.0]


def test_state_dict_round_trip() -> None:
    a, b = Net(), Net()
    before = a(X).numpy()
    assert not np.array_equal(before, b(X).numpy())
    assert b.load_state_dict(a.state_dict()) == ([], [])
    assert np.array_equal(before, b(X).numpy())


def test_load_state_dict_is_all_or_nothing() -> None:
    net = Net()
    before = net.state_dict()
    bad = {k: v + 1 for k, v in before.items()} | {"head.weight": np.zeros((2, 4), np.float32), "extra": np.zeros(1)}
    del bad["scale"]
    with pytest.raises(GraphError) as e:
        net.load_state_dict(bad)
    assert e.value.what == "the state_dict does not fit Net"
    assert e.value.why == "missing: scale; unexpected: extra; head.weight is (2, 3) here and (2, 4) there"
    assert all(np.array_equal(v, before[k]) for k, v in net.state_dict().items())
    del bad["head.weight"]
    assert net.load_state_dict(bad, strict=False) == (["scale", "head.weight"], ["extra"])
    assert np.array_equal(net.body[0].bias.numpy(), before["body.0.bias"] + 1)


def test_load_state_dict_casts_to_the_parameter() -> None:
    net = nn.Linear(2, 1)
    net.load_state_dict({"weight": np.ones((1, 2), np.float64), "bias": [0.5]})
    assert net.weight.numpy().dtype == np.float32


def test_repr_as_torch() -> None:
    assert repr(Net()) == """Net(
  (body): Sequential(
    (0): Linear(in_features=4, out_features=3, bias=True)
    (1): ReLU()
  )
  (head): Linear(in_features=3, out_features=2, bias=False)
)"""
    assert repr(nn.Flatten()) == "Flatten(start_dim=1, end_dim=-1)"


def test_modes_and_apply() -> None:
    net, seen = Net(), []
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "ReLU", "Sequential", "Linear", "Net"]
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_shared_modules_are_found_once_and_saved_under_each_name() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3)
            self.b = self.a
            self.w = self.a.weight

    net = Tied()
    assert [n for n, _ in net.named_parameters()] == ["w", "a.bias"]
    assert list(net.state_dict()) == ["w", "a.weight", "a.bias", "b.weight", "b.bias"]


def test_assigning_another_kind_moves_or_refuses() -> None:
    net = Net()
    net.plain = 3
    net.plain = nn.ReLU()
    assert "plain" in dict(net.named_children())
    with pytest.raises(GraphError, match=r"Net\.head is a module and cannot become a int"):
        net.head = 3
    with pytest.raises(GraphError, match=r"Net\.scale is a parameter and cannot become a ndarray"):
        net.scale = np.zeros(2)
    net.head = None
    assert [n for n, _ in net.named_children()] == ["body", "plain"]
    del net.body
    assert not hasattr(net, "body")
    with pytest.raises(GraphError, match="is no name for a member"):
        net.register_buffer("a.b", np.zeros(1))


def test_forgotten_super_init() -> None:
    class Bad(nn.Module):
        def __init__(self) -> None:
            self.fc = nn.Linear(2, 2)

    with pytest.raises(GraphError) as e:
        Bad()
    assert "before Module.__init__() ran" in e.value.what
    assert "super().__init__()" in e.value.fix


def test_buffers() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", np.zeros(3, np.float32))
            self.register_buffer("scratch", np.zeros(1, np.float32), persistent=False)

        def forward(self, x: Any) -> Any:
            self.total = self.total + x.sum(0)
            return x * 2.0

    net = Counting()
    assert list(net.state_dict()) == ["total"]
    x = np.ones((2, 3), np.float32)
    for backend in ("numpy", "llvm"):
        net.total = np.zeros(3, np.float32)
        f = gx.compile(net, backend=backend)
        f(x)
        f(x)
        assert net.total.tolist() == [4.0, 4.0, 4.0]
    net(gx.asarray(x))
    assert net.total.tolist() == [6.0, 6.0, 6.0]


def test_double_keeps_the_parameter_objects() -> None:
    net = Net()
    params, before = list(net.parameters()), net.state_dict()
    net.double()
    assert list(map(id, net.parameters())) == list(map(id, params))
    assert all(p.dtype is gx.float64 for p in params)
    assert all(np.array_equal(v, before[k].astype(np.float64)) for k, v in net.state_dict().items())
    assert net(X.astype(np.float64)).dtype is gx.float64
    with pytest.raises(GraphError, match="there is no device 'cuda'"):
        net.to("cuda")


def test_deepcopy_is_apart() -> None:
    net = Net()
    twin = copy.deepcopy(net)
    twin.load_state_dict({k: v + 1 for k, v in twin.state_dict().items()})
    assert net.scale.tolist() == [2.0, 3.0]
    assert twin.scale.tolist() == [3.0, 4.0]


def test_forward_hooks() -> None:
    net, seen = nn.Linear(4, 3), []
    pre = net.register_forward_pre_hook(lambda m, args: seen.append("pre"))
    post = net.register_forward_hook(lambda m, args, y: y * 0.0)
    assert not net(X).numpy().any()
    assert seen == ["pre"]
    pre.remove()
    post.remove()
    post.remove()
    assert net(X).numpy().any()
    assert seen == ["pre"]


def test_no_forward() -> None:
    with pytest.raises(GraphError, match="Bare has no forward"):
        type("Bare", (nn.Module,), {})()(1)


# ---- containers and layers -----------------------------------------------------------------------------------------------------------


def test_containers() -> None:
    net = nn.Sequential(OrderedDict(one=nn.Linear(4, 3), two=nn.Tanh()))
    assert list(net.state_dict()) == ["one.weight", "one.bias"]
    assert isinstance(net[1], nn.Tanh)
    assert len(net[:1]) == len(net) - 1 == 1
    net = nn.Sequential(nn.Linear(4, 3)).append(nn.Sigmoid())
    net[1] = nn.Identity()
    assert isinstance(net[1], nn.Identity)
    layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    assert [n for n, _ in layers.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert len(layers) == 2
    with pytest.raises(GraphError, match="Sequential holds modules, got ReLU") as e:
        nn.Sequential(nn.Linear(4, 3), nn.ReLU)                 # type: ignore[arg-type]
    assert "ReLU(...)" in e.value.fix


def test_linear_is_drawn_as_torch_draws_it() -> None:
    gx.manual_seed(0)
    layer = nn.Linear(16, 2000)
    for t in (layer.weight, layer.bias):
        v = t.numpy()
        assert v.dtype == np.float32
        assert 0.249 < v.max() <= 0.25
        assert -0.25 <= v.min() < -0.249
        assert abs(v.std() - 0.25 / np.sqrt(3)) < 0.004
    gx.manual_seed(0)
    assert np.array_equal(nn.Linear(16, 2000).weight.numpy(), layer.weight.numpy())
    assert not np.array_equal(nn.Linear(16, 2000).weight.numpy(), layer.weight.numpy())


def test_init() -> None:
    w = nn.Parameter(np.zeros((200, 100), np.float32))
    for fill, std in ((nn.init.xavier_uniform_, np.sqrt(2 / 300)), (nn.init.xavier_normal_, np.sqrt(2 / 300)),
                      (nn.init.kaiming_uniform_, np.sqrt(2 / 100)), (nn.init.kaiming_normal_, np.sqrt(2 / 100)),
                      (lambda t: nn.init.kaiming_uniform_(t, mode="fan_out", nonlinearity="relu"), np.sqrt(2 / 200)),
                      (lambda t: nn.init.uniform_(t, -1.0, 1.0), 1 / np.sqrt(3)), (lambda t: nn.init.normal_(t, 0.0, 0.5), 0.5)):
        assert fill(w) is w
        assert abs(w.numpy().std() - std) < 0.02 * std
        assert abs(w.numpy().mean()) < 0.02 * std + 0.01
    assert (nn.init.ones_(w).numpy() == 1).all()
    assert (nn.init.constant_(w, 0.25).numpy() == 0.25).all()
    assert not nn.init.zeros_(w).numpy().any()
    assert w.requires_grad
    with pytest.raises(GraphError, match="at least 2 axes"):
        nn.init.kaiming_uniform_(nn.Parameter(np.zeros(3, np.float32)))


# ---- compiled functions see changes --------------------------------------------------------------------------------------------------


def compiled(fn: Any) -> Any:
    return gx.compile(fn, backend="numpy")


def test_names_and_scopes_of_a_graph() -> None:
    net = Net()
    g = gx.compile(lambda x: net(x), backend="numpy").lower(X).graph
    assert {s.name for s in g.states} == {"body.0.weight", "body.0.bias", "head.weight", "scale"}
    assert {s for info in g.info.values() for s in info.scopes} == {"body.0", "body.1", "head"}


def test_train_and_eval_are_two_traces_not_more() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    f = compiled(lambda x: net(x))
    for _ in range(3):
        net.train()
        f(X)
        net.eval()
        f(X)
    assert len(f.variants) == 2
    assert np.array_equal(f(X), net(X).numpy())


def test_a_replaced_layer_is_seen() -> None:
    net = Net()
    f = compiled(lambda x: net(x))
    f(X)
    net.head = nn.Linear(3, 2)
    assert np.array_equal(f(X), net(X).numpy())
    net.body[0] = nn.Linear(4, 3)
    assert np.array_equal(f(X), net(X).numpy())
    f(X)
    assert len(f.variants) == 3


def test_a_replaced_parameter_of_a_layer_that_is_not_called_is_seen() -> None:
    net = Net()
    f = compiled(lambda x: nn.functional.linear(x, net.head.weight))
    x = X[:, :3].copy()
    f(x)
    net.head.weight = nn.Parameter(np.ones((2, 3), np.float32))
    assert np.allclose(f(x), x.sum(1, keepdims=True).repeat(2, 1))
    assert len(f.variants) == 2


def test_a_changed_setting_is_seen() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = 2.0

        def forward(self, x: Any) -> Any:
            return x * self.factor

    net = Scaled()
    f = compiled(lambda x: net(x))
    assert np.array_equal(f(X), X * 2)
    net.factor = 3.0
    assert np.array_equal(f(X), X * 3)
    net.factor = 2.0
    assert np.array_equal(f(X), X * 2)
    assert len(f.variants) == 2


def test_new_values_are_seen_without_a_trace() -> None:
    net = Net()
    f = compiled(lambda x: net(x))
    f(X)
    net.load_state_dict({k: v * 0.5 for k, v in net.state_dict().items()})
    nn.init.ones_(net.scale)
    assert np.array_equal(f(X), net(X).numpy())
    assert len(f.variants) == 1


def test_a_hook_added_and_removed_is_seen() -> None:
    net = Net()
    f = compiled(lambda x: net(x))
    before = f(X)
    handle = net.head.register_forward_hook(lambda m, args, y: y + 1.0)
    assert not np.array_equal(f(X), before)
    handle.remove()
    assert np.array_equal(f(X), before)


def test_frozen_parameters_are_seen() -> None:
    net = nn.Linear(4, 1)

    def fn(x: Any) -> Any:
        net.zero_grad()
        loss = net(x).sum()
        loss.backward()
        return loss

    f = compiled(fn)
    f(X)
    assert net.weight.grad is not None
    net.zero_grad()
    net.weight.requires_grad_(False)
    f(X)
    assert net.weight.grad is None
    assert net.bias.grad is not None
    assert len(f.variants) == 2


def test_a_failing_trace_leaves_a_module_as_it_was() -> None:
    class Noting(nn.Module):
        def forward(self, x: Any) -> Any:
            self.last = x
            raise ValueError("no")

    net = Noting()
    with pytest.raises(ValueError, match="no"):
        gx.compile(net, backend="numpy")(X)
    assert not hasattr(net, "last")


def test_a_parameter_made_in_a_trace_is_refused() -> None:
    with pytest.raises(GraphError, match=r"a parameter f32\[2,3\] is made inside the trace"):
        gx.compile(lambda x: nn.Linear(3, 2)(x), backend="numpy")(X[:, :3].copy())


def test_modules_leave_a_sequential() -> None:
    a, b, c = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)
    net = nn.Sequential(a, b, c)
    del net[1]
    assert list(net) == [a, c]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    named = nn.Sequential(OrderedDict([("first", a), ("second", c)]))
    del named[:1]
    assert list(named.state_dict()) == ["second.weight", "second.bias"]
    with pytest.raises(IndexError):
        del net[5]
