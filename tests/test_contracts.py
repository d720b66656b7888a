"""The contracts of a compiled call (DESIGN section 5): one test for each line, on every backend."""
from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 5)


@pytest.fixture(params=["numpy", "llvm"])
def compile_(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return lambda fn=None, **options: gx.compile(fn, backend=request.param, **options)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        return self.fc2(gx.tanh(self.fc1(x)))


criterion = nn.CrossEntropyLoss()


def fresh(seed: int = 0) -> Net:
    gx.manual_seed(seed)
    return Net()


def eager_step(net: nn.Module, optimizer: optim.Optimizer) -> Any:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        return loss
    return step


def weights(net: nn.Module) -> list[np.ndarray]:
    return [p.numpy() for p in net.parameters()]


def same(a: list[np.ndarray], b: list[np.ndarray], tol: float = 1e-6) -> bool:
    return all(np.linalg.norm(x - y) <= tol * max(1e-30, np.linalg.norm(y)) for x, y in zip(a, b, strict=True))


# ---- the loop body, unmodified -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, lr=0.1), lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
                                  lambda p: optim.Adam(p, lr=0.01), lambda p: optim.AdamW(p, lr=0.01)])
def test_compiled_step_is_the_eager_step(compile_: Any, make: Any) -> None:
    compiled_net, eager_net = fresh(), fresh()
    assert same(weights(compiled_net), weights(eager_net), 0.0)
    compiled, eager = compile_(eager_step(compiled_net, make(compiled_net.parameters()))), eager_step(eager_net, make(eager_net.parameters()))
    for _ in range(5):
        a, b = compiled(X, Y), eager(gx.asarray(X), gx.asarray(Y))
        assert a.item() == pytest.approx(b.item(), rel=1e-5)
    assert same(weights(compiled_net), weights(eager_net), 1e-5)


def test_results_are_numpy_arrays_and_scalars(compile_: Any) -> None:
    @compile_
    def f(x: Any) -> Any:
        return {"sum": x.sum(), "twice": (x * 2, None, "text", 7)}
    out = f(X)
    assert isinstance(out["sum"], np.float32)
    assert out["sum"].item() == pytest.approx(float(X.sum()), abs=1e-5)
    assert isinstance(out["twice"][0], np.ndarray)
    assert out["twice"][1:] == (None, "text", 7)
    np.testing.assert_array_equal(out["twice"][0], X * 2)


# ---- arguments -----------------------------------------------------------------------------------------------------------------------


def test_pytrees_kwargs_and_methods(compile_: Any) -> None:
    class Model:
        def __init__(self, scale: float) -> None:
            self.scale = scale

        def apply(self, params: dict[str, Any], *, x: Any) -> Any:
            return x @ params["w"] * self.scale + params["b"][0]
    f = compile_(Model(2.0).apply)
    w, b = X.T.copy(), np.float32([1.0])
    np.testing.assert_allclose(f({"w": w, "b": [b]}, x=X), X @ w * 2 + 1, rtol=1e-5)


def test_a_decorated_method_keeps_a_trace_for_each_object(compile_: Any) -> None:
    class Trainer:
        def __init__(self, k: float) -> None:
            self.k = k

        @compile_
        def f(self, x: Any) -> Any:
            return x * self.k
    a, b = Trainer(2.0), Trainer(3.0)
    np.testing.assert_array_equal(a.f(X), X * 2)
    np.testing.assert_array_equal(b.f(X), X * 3)
    a.k = 5.0
    np.testing.assert_array_equal(a.f(X), X * 5)
    assert len(a.f.variants) == 2


def test_a_float_argument_is_a_run_time_number_and_bool_str_none_are_static(compile_: Any) -> None:
    traces = []

    @compile_
    def f(x: Any, k: Any, flag: Any = False, mode: Any = None) -> Any:
        traces.append(1)
        if flag:
            x = -x
        return x * k if mode is None else x + k
    np.testing.assert_allclose(f(X, 2.0), X * 2)
    np.testing.assert_allclose(f(X, 3.5), X * np.float32(3.5))
    assert f(X, 0.5).dtype == np.float32                                # weak: a float does not widen f32
    assert len(traces) == 1
    np.testing.assert_allclose(f(X, 2), X * 2)                           # an int is another kind of number
    np.testing.assert_allclose(f(X, 5), X * 5)
    assert len(traces) == 2
    np.testing.assert_allclose(f(X, 2.0, True), -X * 2)
    np.testing.assert_allclose(f(X, 2.0, mode="plus"), X + 2)
    assert len(traces) == 4


def test_numbers_from_closures_are_constants_and_listed(compile_: Any) -> None:
    k = 3.0
    table = np.float32([1, 2, 3, 4])

    @compile_
    def f(x: Any) -> Any:
        return x * k + gx.asarray(table)
    np.testing.assert_allclose(f(X), X * 3 + table)
    listed = {c.name for c in f.lowered.constants}
    assert "k" in listed
    assert any("array of shape (4,)" in str(c) for c in f.lowered.constants)

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = 0.5

        def forward(self, x: Any) -> Any:
            return x * self.scale
    net = Scaled()
    g = compile_(lambda x: net(x))
    np.testing.assert_allclose(g(X), X * 0.5)
    assert "Scaled.scale = 0.5" in map(str, g.lowered.constants)


def test_gx_scalar_changes_without_a_new_trace(compile_: Any) -> None:
    traces, k = [], gx.scalar(2.0)

    @compile_
    def f(x: Any) -> Any:
        traces.append(1)
        return x * k
    np.testing.assert_array_equal(f(X), X * 2)
    k.value = 3.0
    np.testing.assert_array_equal(f(X), X * 3)
    assert f(X).dtype == np.float32
    assert len(traces) == 1


def test_lr_changed_between_calls_without_a_recompile(compile_: Any) -> None:
    net = fresh()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    step = compile_(eager_step(net, optimizer))
    step(X, Y)
    before = weights(net)
    optimizer.param_groups[0]["lr"] = 0.0
    step(X, Y)
    assert same(weights(net), before, 0.0)
    optimizer.param_groups[0]["lr"] = 0.1
    step(X, Y)
    assert not same(weights(net), before, 1e-6)
    assert len(step.variants) == 1


# ---- staleness -----------------------------------------------------------------------------------------------------------------------


def test_the_notebook_cell_that_rebinds_net(compile_: Any) -> None:
    scope: dict[str, Any] = {"gx": gx, "net": fresh(0), "compile_": compile_}
    exec("@compile_\ndef predict(x):\n    return net(x)", scope)
    old = scope["predict"](X)
    scope["net"] = fresh(1)                                              # the cell is run again
    new = scope["predict"](X)
    np.testing.assert_allclose(new, scope["net"](gx.asarray(X)).numpy(), rtol=1e-5)
    assert not np.allclose(old, new)


def test_a_rebound_closure_cell_is_seen(compile_: Any) -> None:
    net = fresh(0)

    @compile_
    def predict(x: Any) -> Any:
        return net(x)
    predict(X)
    net = fresh(1)
    np.testing.assert_allclose(predict(X), net(gx.asarray(X)).numpy(), rtol=1e-5)


def test_a_global_that_a_helper_reads_is_seen(compile_: Any) -> None:
    scope: dict[str, Any] = {"compile_": compile_, "k": 2.0, "params": {"w": 1.0}}
    exec("def helper(x):\n    return x * k + params['w']\n@compile_\ndef f(x):\n    return helper(x)", scope)
    np.testing.assert_array_equal(scope["f"](X), X * 2 + 1)
    scope["k"] = 3.0
    np.testing.assert_array_equal(scope["f"](X), X * 3 + 1)
    scope["params"]["w"] = 5.0
    np.testing.assert_array_equal(scope["f"](X), X * 3 + 5)
    scope["k"] = float("2.0")                                            # an equal number is no change
    assert len(scope["f"].variants) == 3


def test_a_global_that_forward_reads_is_seen(compile_: Any) -> None:
    scope: dict[str, Any] = {"nn": nn, "compile_": compile_, "k": 2.0}
    exec("""
class Scaled(nn.Module):
    def forward(self, x):
        return self.helper(x)
    def helper(self, x):
        return x * k
net = Scaled()
@compile_
def f(x):
    return net(x)
""", scope)
    np.testing.assert_array_equal(scope["f"](X), X * 2)
    scope["k"] = 3.0
    np.testing.assert_array_equal(scope["f"](X), X * 3)


def test_attributes_of_a_callable_and_of_a_partial_are_seen(compile_: Any) -> None:
    class Scale:
        def __init__(self, k: float) -> None:
            self.k = k

        def __call__(self, x: Any) -> Any:
            return x * self.k

    def call(g: Any, x: Any) -> Any:
        return g(x)
    scale = Scale(2.0)
    for f in (compile_(scale), compile_(functools.partial(call, scale)), compile_(gx.no_grad()(lambda x: scale(x)))):
        scale.k = 2.0
        np.testing.assert_array_equal(f(X), X * 2)
        scale.k = 3.0
        np.testing.assert_array_equal(f(X), X * 3)


def test_a_module_itself_is_compiled(compile_: Any) -> None:
    net = fresh()
    f = compile_(net)
    np.testing.assert_allclose(f(X), net(gx.asarray(X)).numpy(), rtol=1e-5)
    net.fc2 = nn.Linear(6, 2)
    assert f(X).shape == (5, 2)


def test_a_leaf_that_requires_a_gradient_is_an_argument_by_reference(compile_: Any) -> None:
    w, v = gx.tensor([1.0, 2.0], requires_grad=True), gx.tensor([5.0, 6.0], requires_grad=True)

    @compile_
    def step(w: Any, x: Any) -> Any:
        w.grad = None
        (w * x).sum().backward()
        with gx.no_grad():
            w -= 0.5 * w.grad
    x = np.float32([2, 4])
    step(w, x)
    step(w, x)
    step(v, x)
    np.testing.assert_array_equal(w.numpy(), [-1, -2])
    np.testing.assert_array_equal(v.numpy(), [4, 4])
    np.testing.assert_array_equal(w.grad.numpy(), x)


def test_a_module_is_an_argument_by_reference(compile_: Any) -> None:
    nets = fresh(0), fresh(1)
    f = compile_(lambda net, x: net(x))
    for net in (*nets, *nets):
        np.testing.assert_allclose(f(net, X), net(gx.asarray(X)).numpy(), rtol=1e-5)
    assert len(f.variants) == 2


def test_net_eval_between_calls(compile_: Any) -> None:
    class Noisy(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2 if self.training else x
    net = Noisy()
    f = compile_(lambda x: net(x))
    np.testing.assert_array_equal(f(X), X * 2)
    net.eval()
    np.testing.assert_array_equal(f(X), X)
    net.train()
    np.testing.assert_array_equal(f(X), X * 2)
    assert len(f.variants) == 2                                          # going back finds the first trace again


def test_a_frozen_parameter_is_seen(compile_: Any) -> None:
    net = fresh()
    step = compile_(eager_step(net, optim.SGD(net.parameters(), lr=0.1)))
    step(X, Y)
    net.fc1.weight.requires_grad_(False)
    before = net.fc1.weight.numpy()
    step(X, Y)
    np.testing.assert_array_equal(net.fc1.weight.numpy(), before)


def test_a_replaced_layer_is_seen(compile_: Any) -> None:
    net = fresh()
    f = compile_(lambda x: net(x))
    f(X)
    net.fc2 = nn.Linear(6, 2)
    assert f(X).shape == (5, 2)


def test_a_hook_added_and_removed_is_seen(compile_: Any) -> None:
    w = gx.tensor([1.0, 2.0], requires_grad=True)

    @compile_
    def f(x: Any) -> Any:
        w.grad = None
        (w * x).sum().backward()
        return w.grad
    x = np.float32([3, 4])
    np.testing.assert_array_equal(f(x), x)
    handle = w.register_hook(lambda g: g * 10)
    np.testing.assert_array_equal(f(x), x * 10)
    handle.remove()
    np.testing.assert_array_equal(f(x), x)


def test_a_param_group_added_is_seen(compile_: Any) -> None:
    net = fresh()
    optimizer = optim.SGD(net.fc1.parameters(), lr=0.1)
    step = compile_(eager_step(net, optimizer))
    before = net.fc2.weight.numpy()
    step(X, Y)
    np.testing.assert_array_equal(net.fc2.weight.numpy(), before)
    optimizer.add_param_group({"params": list(net.fc2.parameters())})
    step(X, Y)
    assert not np.allclose(net.fc2.weight.numpy(), before)


# ---- shapes --------------------------------------------------------------------------------------------------------------------------


def test_a_second_size_compiles_once_more_and_says_so(compile_: Any, caplog: pytest.LogCaptureFixture) -> None:
    @compile_
    def f(x: Any) -> Any:
        return x.sum(axis=0)
    with caplog.at_level(logging.INFO, logger="graphc"):
        f(X)
        assert caplog.text == ""
        np.testing.assert_allclose(f(X[:3]), X[:3].sum(0), rtol=1e-5)
        assert "compiling f once more for a new shape: x from (5, 4) to (3, 4)" in caplog.text
        caplog.clear()
        f(X)
        f(X[:3])
        assert caplog.text == ""
    assert len(f.variants) == 2


def test_on_new_shape_error(compile_: Any) -> None:
    @compile_(on_new_shape="error")
    def f(x: Any) -> Any:
        return x * 2
    f(X)
    with pytest.raises(gx.GraphError, match=r"f is compiled for other shapes: x from \(5, 4\) to \(3, 4\)") as e:
        f(X[:3])
    assert 'on_new_shape="compile"' in str(e.value)


def test_a_spec_is_traced_once_for_every_size(compile_: Any) -> None:
    traces, net = [], fresh()

    @compile_
    def f(x: Any, y: Any) -> Any:
        traces.append(1)
        return criterion(net(x), y), x.mean(axis=0), gx.flatten(x, 0)
    f.lower(gx.Spec(("N", 4)), gx.Spec(("N",), gx.int64)).compile()
    for n in (5, 1, 3):
        loss, mean, flat = f(X[:n], Y[:n])
        assert loss.item() == pytest.approx(criterion(net(gx.asarray(X[:n])), gx.asarray(Y[:n])).item(), rel=1e-5)
        np.testing.assert_allclose(mean, X[:n].mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(flat, X[:n].ravel())
    assert len(traces) == 1
    with pytest.raises(gx.GraphError):
        f(X, Y[:3])                                                      # N is one size: this is another trace, and does not fit


def test_a_training_step_with_a_symbolic_batch(compile_: Any) -> None:
    net, other = fresh(), fresh()
    step = compile_(eager_step(net, optim.Adam(net.parameters(), lr=0.01)))
    step.lower(gx.Spec(("N", 4)), gx.Spec(("N",), gx.int64)).compile()
    eager = eager_step(other, optim.Adam(other.parameters(), lr=0.01))
    for n in (5, 2, 5):
        step(X[:n], Y[:n])
        eager(gx.asarray(X[:n]), gx.asarray(Y[:n]))
    assert same(weights(net), weights(other), 1e-5)
    assert len(step.variants) == 1


def test_an_empty_batch_is_a_static_shape(compile_: Any) -> None:
    @compile_
    def f(x: Any) -> Any:
        return x.sum(), x * 2, x.mean()
    total, twice, mean = f(X[:0])
    assert total == 0
    assert twice.shape == (0, 4)
    assert np.isnan(mean)


# ---- state storage -------------------------------------------------------------------------------------------------------------------


def test_numpy_and_state_dict_are_copies(compile_: Any) -> None:
    net = fresh()
    step = compile_(eager_step(net, optim.SGD(net.parameters(), lr=0.1)))
    held, held_dict = net.fc1.weight.numpy(), {k: np.array(v) for k, v in net.state_dict().items()}
    direct = net.state_dict()
    step(X, Y)
    np.testing.assert_array_equal(held, held_dict["fc1.weight"])
    np.testing.assert_array_equal(direct["fc1.weight"], held)
    assert not np.array_equal(net.fc1.weight.numpy(), held)
    held[...] = 0
    assert net.fc1.weight.numpy().any()


def test_load_state_dict_writes_what_the_step_reads(compile_: Any) -> None:
    net, other = fresh(0), fresh(1)
    f = compile_(lambda x: net(x))
    f(X)
    net.load_state_dict(other.state_dict())
    np.testing.assert_allclose(f(X), other(gx.asarray(X)).numpy(), rtol=1e-5)
    assert len(f.variants) == 1


def test_arguments_never_alias_states(compile_: Any) -> None:
    buffer = gx.zeros(4)

    @compile_
    def f(x: Any) -> Any:
        buffer.add_(x + 1)
        return x * 1, buffer
    out, state = f(buffer)                                               # the state itself as an argument
    np.testing.assert_array_equal(out, np.zeros(4))
    np.testing.assert_array_equal(state, np.ones(4))
    out[...] = 7
    state[...] = 7
    np.testing.assert_array_equal(buffer.numpy(), np.ones(4))


def test_train_and_eval_share_states(compile_: Any) -> None:
    net = fresh()
    step, predict = compile_(eager_step(net, optim.SGD(net.parameters(), lr=0.5))), compile_(lambda x: net(x))
    first = predict(X)
    step(X, Y)
    np.testing.assert_allclose(predict(X), net(gx.asarray(X)).numpy(), rtol=1e-5)
    assert not np.allclose(predict(X), first)


def test_a_buffer_counts_calls(compile_: Any) -> None:
    count = gx.tensor(0)

    @compile_
    def f() -> Any:
        count.add_(1)
        return count * 10
    assert [f().item() for _ in range(3)] == [10, 20, 30]
    assert count.item() == 3


# ---- .grad ---------------------------------------------------------------------------------------------------------------------------


def test_reading_grad_after_a_step_raises_with_the_fix(compile_: Any) -> None:
    net = fresh()
    step = compile_(eager_step(net, optim.SGD(net.parameters(), lr=0.1)))
    step(X, Y)
    with pytest.raises(gx.GraphError, match="lived only inside the compiled step") as e:
        _ = net.fc1.weight.grad
    assert "keep_grads=True" in str(e.value)
    net.fc1.weight.grad = None
    assert net.fc1.weight.grad is None
    step(X, Y)


def test_keep_grads(compile_: Any) -> None:
    net, other = fresh(), fresh()
    compile_(eager_step(net, optim.SGD(net.parameters(), lr=0.1)), keep_grads=True)(X, Y)
    criterion(other(gx.asarray(X)), gx.asarray(Y)).backward()
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_without_a_step_gradients_are_outputs(compile_: Any) -> None:
    net, other = fresh(), fresh()

    @compile_
    def gradients(x: Any, y: Any) -> Any:
        net.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        return loss
    for _ in range(2):
        gradients(X, Y)
    criterion(other(gx.asarray(X)), gx.asarray(Y)).backward()
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-4, atol=1e-6)
    assert len(gradients.variants) == 1


def test_without_zero_grad_gradients_are_states_that_accumulate(compile_: Any) -> None:
    w = gx.tensor([1.0, 2.0], requires_grad=True)

    @compile_
    def f(x: Any) -> Any:
        loss = (w * x).sum()
        loss.backward()
        return loss
    x = np.float32([3, 4])
    for n in (1, 2, 3):
        f(x)
        np.testing.assert_array_equal(w.grad.numpy(), x * n)
    assert len(f.variants) == 1
    w.grad = None
    f(x)
    np.testing.assert_array_equal(w.grad.numpy(), x)
    (w * 2).sum().backward()                                             # eagerly, into the same gradient
    np.testing.assert_array_equal(w.grad.numpy(), x + 2)
    f(x)
    np.testing.assert_array_equal(w.grad.numpy(), x * 2 + 2)


ORDERS = ("zbs", "bsz", "szb", "sbz", "bzs", "zsb")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, lr=0.1), lambda p: optim.Adam(p, lr=0.05)])
def test_orders_of_zero_grad_backward_step(compile_: Any, order: str, make: Any) -> None:
    def body(net: Net, optimizer: optim.Optimizer) -> Callable[..., Any]:
        def step(x: Any, y: Any) -> Any:
            loss = None
            for what in order:
                if what == "z":
                    optimizer.zero_grad()
                elif what == "b":
                    loss = criterion(net(x), y)
                    loss.backward()
                else:
                    optimizer.step()
            return loss
        return step
    net, other = fresh(), fresh()
    compiled, eager = compile_(body(net, make(net.parameters()))), body(other, make(other.parameters()))
    for n in (5, 4, 5):
        compiled(X[:n], Y[:n])
        eager(gx.asarray(X[:n]), gx.asarray(Y[:n]))
        assert same(weights(net), weights(other), 1e-5), order


def test_backward_and_step_without_zero_grad_accumulate_over_calls(compile_: Any) -> None:
    def body(net: Net, optimizer: optim.Optimizer) -> Callable[..., Any]:
        def step(x: Any, y: Any) -> None:
            criterion(net(x), y).backward()
            optimizer.step()
        return step
    net, other = fresh(), fresh()
    compiled = compile_(body(net, optim.SGD(net.parameters(), lr=0.1)))
    eager = body(other, optim.SGD(other.parameters(), lr=0.1))
    for _ in range(3):
        compiled(X, Y)
        eager(gx.asarray(X), gx.asarray(Y))
    assert same(weights(net), weights(other), 1e-5)
    np.testing.assert_allclose(net.fc1.weight.grad.numpy(), other.fc1.weight.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_two_backward_calls_add(compile_: Any) -> None:
    w = gx.tensor([1.0, 2.0], requires_grad=True)

    @compile_
    def f(x: Any) -> Any:
        w.grad = None
        (w * x).sum().backward()
        (w * w).sum().backward()
        return w.grad
    np.testing.assert_array_equal(f(np.float32([3, 4])), [3 + 2, 4 + 4])


def test_shared_parameters_update_once(compile_: Any) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4, bias=False)
            self.b = nn.Linear(4, 4, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: Any) -> Any:
            return self.b(self.a(x))
    gx.manual_seed(0)
    net = Tied()
    gx.manual_seed(0)
    other = Tied()

    def body(net: Tied) -> Callable[..., Any]:
        optimizer = optim.SGD(net.parameters(), lr=0.1)
        assert len(optimizer.param_groups[0]["params"]) == 1

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = (net(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss
        return step
    compiled, eager = compile_(body(net)), body(other)
    for _ in range(3):
        compiled(X)
        eager(gx.asarray(X))
    np.testing.assert_allclose(net.a.weight.numpy(), other.a.weight.numpy(), rtol=1e-5)
    np.testing.assert_array_equal(net.a.weight.numpy(), net.b.weight.numpy())


def test_w_minus_equals_lr_times_grad(compile_: Any) -> None:
    w = gx.tensor([1.0, 2.0], requires_grad=True)
    params = [w]

    @compile_
    def f(x: Any, lr: Any) -> Any:
        loss = (params[0] * x).sum()
        loss.backward()
        with gx.no_grad():
            for p in params:
                p -= lr * p.grad
        params[0].grad = None
        return loss
    x = np.float32([3, 4])
    assert f(x, 0.5).item() == 11
    np.testing.assert_array_equal(w.numpy(), [1 - 1.5, 2 - 2])
    assert f(x, 0.25).item() == -1.5
    np.testing.assert_array_equal(w.numpy(), [-0.5 - 0.75, 0 - 1])
    assert params[0] is w
    assert w.requires_grad
    assert w.grad is None


def test_rebinding_an_argument_inside(compile_: Any) -> None:
    @compile_
    def f(w: Any, x: Any) -> Any:
        g = gx.grad(lambda w: (w * x).sum())(w)
        w -= 0.5 * g
        return w
    w = np.float32([1, 2])
    np.testing.assert_array_equal(f(w, np.float32([3, 4])), [-0.5, 0])
    np.testing.assert_array_equal(w, [1, 2])                             # the caller's array is the caller's


def test_rebinding_a_global_is_refused_and_undone(compile_: Any) -> None:
    w = gx.tensor([1.0, 2.0], requires_grad=True)
    scope: dict[str, Any] = {"w": w, "compile_": compile_}
    exec("@compile_\ndef f(x):\n    global w\n    w = w * x\n    return w", scope)
    with pytest.raises(gx.GraphError, match="the name w was rebound to a traced value") as e:
        scope["f"](np.float32([3, 4]))
    assert "copy_" in str(e.value)
    assert scope["w"] is w


def test_two_steps_in_one_call(compile_: Any) -> None:
    net, other = fresh(), fresh()
    one, twice = eager_step(other, optim.SGD(other.parameters(), lr=0.1)), eager_step(net, optim.SGD(net.parameters(), lr=0.1))

    @compile_
    def two(x: Any, y: Any) -> Any:
        twice(x, y)
        return twice(x, y)
    two(X, Y)
    for _ in range(2):
        one(gx.asarray(X), gx.asarray(Y))
    assert same(weights(net), weights(other), 1e-5)


def test_hooks_are_of_nodes_two_on_equal_products_stay_two(compile_: Any) -> None:
    w = gx.tensor([1.0, 2.0], requires_grad=True)

    @compile_
    def f(x: Any) -> Any:
        a, b = w * 3, w * 3
        a.register_hook(lambda g: g * 10)
        b.register_hook(lambda g: g * 100)
        w.grad = None
        ((a + b) * x).sum().backward()
        return w.grad
    np.testing.assert_array_equal(f(np.float32([1, 2])), np.float32([1, 2]) * 3 * 110)


def test_retained_gradients(compile_: Any) -> None:
    w = gx.tensor([1.0, 2.0], requires_grad=True)

    @compile_
    def f(x: Any) -> Any:
        h = w * x
        h.retain_grad()
        w.grad = None
        (h * h).sum().backward()
        return h.grad, w.grad
    x = np.float32([3, 4])
    h_grad, w_grad = f(x)
    np.testing.assert_array_equal(h_grad, 2 * np.float32([3, 8]))
    np.testing.assert_array_equal(w_grad, 2 * np.float32([3, 8]) * x)


# ---- all or nothing ------------------------------------------------------------------------------------------------------------------


def test_a_failing_trace_leaves_everything_as_it_was(compile_: Any) -> None:
    net = fresh()
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    eager_step(net, optimizer)(gx.asarray(X), gx.asarray(Y))
    before, grads, state = weights(net), [p.grad.numpy() for p in net.parameters()], optimizer.state_dict()
    mode = {"fail": True}

    @compile_
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        if mode["fail"]:
            float(loss)
        return loss
    with pytest.raises(gx.GraphError):
        step(X, Y)
    assert same(weights(net), before, 0.0)
    assert same([p.grad.numpy() for p in net.parameters()], grads, 0.0)
    after = optimizer.state_dict()
    assert all(np.array_equal(after["state"][k][s], v) for k, slots in state["state"].items() for s, v in slots.items())
    mode["fail"] = False
    step(X, Y)
    assert not same(weights(net), before, 1e-6)


def test_a_failing_first_trace_leaves_the_optimizer_empty(compile_: Any) -> None:
    net = fresh()
    optimizer = optim.Adam(net.parameters(), lr=0.1)

    @compile_
    def step(x: Any, y: Any) -> Any:
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        raise ValueError("the user's own")
    with pytest.raises(ValueError, match="the user's own"):
        step(X, Y)
    assert optimizer.state_dict()["state"] == {}
    assert all(p.grad is None for p in net.parameters())


def test_a_label_out_of_range_raises_and_nothing_has_changed(compile_: Any) -> None:
    net = fresh()
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    step = compile_(eager_step(net, optimizer))
    step(X, Y)
    before, state = weights(net), optimizer.state_dict()
    for bad in (3, -1):
        labels = Y.copy()
        labels[2] = bad
        with pytest.raises(gx.GraphIndexError, match=r"index .*is not in 0\.\.2"):
            step(X, labels)
        assert same(weights(net), before, 0.0)
        after = optimizer.state_dict()
        assert all(np.array_equal(after["state"][k][s], v) for k, slots in state["state"].items() for s, v in slots.items())
    step(X, Y)
    assert not same(weights(net), before, 1e-6)


# ---- state in bodies, random, promotion ----------------------------------------------------------------------------------------------


def test_a_state_written_in_a_scan_body_is_a_carry(compile_: Any) -> None:
    count = gx.zeros(())

    @compile_
    def f(x: Any) -> Any:
        def body(c: Any, x: Any) -> Any:
            count.add_(1.0)
            return c + x, None
        return gx.scan(body, gx.zeros(4), x)[0]
    f(X)
    assert float(count.numpy()) == len(X)


def test_random_numbers_are_new_at_every_call_and_the_same_as_eagerly(compile_: Any) -> None:
    f = compile_(lambda: (gx.rand(3), gx.randn(2, 3)))
    gx.manual_seed(7)
    a, b = f(), f()
    assert not np.allclose(a[0], b[0])
    gx.manual_seed(7)
    again = f()
    np.testing.assert_array_equal(a[0], again[0])
    gx.manual_seed(7)
    np.testing.assert_array_equal(a[0], gx.rand(3).numpy())
    np.testing.assert_allclose(a[1], gx.randn(2, 3).numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(b[0], gx.rand(3).numpy())


def test_promotion_is_torchs(compile_: Any) -> None:
    f = compile_(lambda a, b: (a + b, a * 2, a * 2.5, a / b, a > b))
    i, x = np.arange(3), np.float32([1, 2, 3])
    out = f(i, x)
    assert [o.dtype for o in out] == [np.float32, np.int64, np.float32, np.float32, np.bool_]
    np.testing.assert_allclose(out[3], i / x, rtol=1e-6)
    assert f(x.astype(np.float64), x)[0].dtype == np.float64


def test_a_compiled_function_inside_another_is_part_of_it(compile_: Any) -> None:
    inner = compile_(lambda x: x * 2)
    outer = compile_(lambda x: inner(x) + 1)
    np.testing.assert_array_equal(outer(X), X * 2 + 1)
    assert inner.variants == []


def test_second_derivative_through_backward(compile_: Any) -> None:
    w = gx.tensor([1.0, 2.0], requires_grad=True)

    @compile_
    def f(x: Any) -> Any:
        (g,) = gx.autograd.grad((w ** 3 * x).sum(), [w], create_graph=True)
        w.grad = None
        (g * g).sum().backward()
        return w.grad
    x = np.float32([3, 4])
    np.testing.assert_allclose(f(x), 36 * np.float32([1, 8]) * x**2, rtol=1e-6)      # d (3 w² x)² = 36 w³ x²
