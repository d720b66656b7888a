"""Staleness from the user's side: whatever a step reads from outside and somebody changes between two calls, in every place where Python keeps it."""
from __future__ import annotations

import collections
import dataclasses
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.trace.guards import captures

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


@pytest.fixture(params=["numpy", "llvm"])
def compile_(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return lambda fn=None, **options: gx.compile(fn, backend=request.param, **options)


def follows(f: Callable[..., Any], change: Callable[[], Any], *args: Any) -> None:
    """f doubles X, and after the change it triples it; without one it runs as it is."""
    np.testing.assert_allclose(f(X, *args), X * 2, rtol=1e-6)
    np.testing.assert_allclose(f(X, *args), X * 2, rtol=1e-6)
    assert len(f.variants) == 1
    change()
    np.testing.assert_allclose(f(X, *args), X * 3, rtol=1e-6)


# ---- Modules: what is read without a call, from containers, from the class ---------------------------------------------------------------


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.k, self._half = 2.0, 1.0
        self.table, self.inner = {"k": [2.0]}, types.SimpleNamespace(k=2.0)

    def forward(self, x: Any, how: str) -> Any:
        return x * {"table": lambda: self.table["k"][0], "inner": lambda: self.inner.k, "property": lambda: self.twice, "static": lambda: self.static()}[how]()

    @property
    def twice(self) -> float:
        return self._half * 2

    @staticmethod
    def static() -> float:
        return FACTOR["k"]


FACTOR = {"k": 2.0}


def test_a_number_of_a_module_that_is_not_called(compile_: Any) -> None:
    net = Plain()
    follows(compile_(lambda x: x * net.k), lambda: setattr(net, "k", 3.0))


def test_the_mode_of_a_module_that_is_not_called(compile_: Any) -> None:
    net = nn.Linear(4, 3)
    f = compile_(lambda x: x * 2 if net.training else x * 3)
    follows(f, net.eval)
    net.train()
    np.testing.assert_array_equal(f(X), X * 2)
    assert len(f.variants) == 2


def test_a_module_whose_forward_is_compiled(compile_: Any) -> None:
    class Net(nn.Module):
        @compile_
        def forward(self, x: Any) -> Any:
            return x * 2 if self.training else x * 3
    net = Net()
    np.testing.assert_array_equal(net(X), X * 2)
    net.eval()
    np.testing.assert_array_equal(net(X), X * 3)


@pytest.mark.parametrize(("how", "change"), [
    ("table", lambda net: net.table["k"].__setitem__(0, 3.0)), ("inner", lambda net: setattr(net.inner, "k", 3.0)),
    ("property", lambda net: setattr(net, "_half", 1.5)), ("static", lambda net: FACTOR.update(k=3.0))])
def test_what_forward_reads(compile_: Any, how: str, change: Any) -> None:
    FACTOR["k"], net = 2.0, Plain()
    follows(compile_(lambda x: net(x, how)), lambda: change(net))


def test_an_attribute_of_the_class_of_a_module(compile_: Any) -> None:
    class Net(nn.Module):
        k = 2.0

        def forward(self, x: Any) -> Any:
            return x * self.k
    net = Net()
    follows(compile_(lambda x: net(x)), lambda: setattr(Net, "k", 3.0))


def test_what_a_hook_reads(compile_: Any) -> None:
    net, k = nn.Identity() if hasattr(nn, "Identity") else nn.Sequential(), 2.0
    net.register_forward_hook(lambda module, args, result: result * k)

    def change() -> None:
        nonlocal k
        k = 3.0
    follows(compile_(lambda x: net(x)), change)


# ---- configurations ------------------------------------------------------------------------------------------------------------------


def test_a_class_as_a_configuration(compile_: Any) -> None:
    class Base:
        k = 2.0

    class Config(Base):
        pass
    f = compile_(lambda x: x * Config.k)
    follows(f, lambda: setattr(Base, "k", 3.0))
    assert "Config.k = 3.0" in map(str, f.lowered.constants)


def test_an_object_with_slots(compile_: Any) -> None:
    @dataclasses.dataclass(slots=True)
    class Config:
        k: float = 2.0
    config = Config()
    follows(compile_(lambda x: x * config.k), lambda: setattr(config, "k", 3.0))


def test_a_property(compile_: Any) -> None:
    class Config:
        def __init__(self) -> None:
            self._half = 1.0

        @property
        def k(self) -> float:
            return self._half * 2
    config = Config()
    follows(compile_(lambda x: x * config.k), lambda: setattr(config, "_half", 1.5))


def test_getattr_with_a_name(compile_: Any) -> None:
    config = types.SimpleNamespace(k=2.0)
    follows(compile_(lambda x: x * getattr(config, "k")), lambda: setattr(config, "k", 3.0))    # noqa: B009 (that is what is tested)


class Table(dict):                                      # type: ignore[type-arg]
    pass


@pytest.mark.parametrize("make", [collections.OrderedDict, lambda **k: collections.defaultdict(float, **k), Table])
def test_dicts_of_other_classes(compile_: Any, make: Any) -> None:
    table = make(k=2.0)
    follows(compile_(lambda x: x * table["k"]), lambda: table.update(k=3.0))


def test_a_set(compile_: Any) -> None:
    on = {"double"}
    follows(compile_(lambda x: x * (2 if "double" in on else 3)), on.clear)


def test_objects_in_a_list(compile_: Any) -> None:
    parts = [types.SimpleNamespace(k=1.0), types.SimpleNamespace(k=1.0)]
    follows(compile_(lambda x: sum(x * p.k for p in parts)), lambda: setattr(parts[1], "k", 2.0))


def test_default_arguments_that_are_changed(compile_: Any) -> None:
    config, table = types.SimpleNamespace(k=2.0), {"k": 2.0}

    def f(x: Any, config: Any = config, *, table: Any = table) -> Any:
        return x * (config.k + table["k"]) / 2
    step = compile_(f)
    np.testing.assert_array_equal(step(X), X * 2)
    config.k = 4.0
    np.testing.assert_array_equal(step(X), X * 3)
    table["k"] = 4.0
    np.testing.assert_array_equal(step(X), X * 4)


def test_what_an_argument_that_is_a_function_reads(compile_: Any) -> None:
    k = 2.0

    def activation(x: Any) -> Any:
        return x * k

    def change() -> None:
        nonlocal k
        k = 3.0
    follows(compile_(lambda x, g: g(x)), change, activation)


def test_an_argument_that_is_a_callable_object(compile_: Any) -> None:
    class Scale:
        def __init__(self) -> None:
            self.k = 2.0

        def __call__(self, x: Any) -> Any:
            return x * self.k
    scale = Scale()
    follows(compile_(lambda x, g: g(x)), lambda: setattr(scale, "k", 3.0), scale)


def test_what_a_compiled_function_within_reads(compile_: Any) -> None:
    k = 1.0
    inner = compile_(lambda x: x * k)

    def change() -> None:
        nonlocal k
        k = 2.0
    follows(compile_(lambda x: inner(x) + x), change)


# ---- param_groups --------------------------------------------------------------------------------------------------------------------


def test_a_number_of_param_groups_read_by_the_user_is_a_run_time_number(compile_: Any) -> None:
    w = gx.tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.AdamW([w], lr=0.5, betas=(0.25, 0.5))

    @compile_
    def step(x: Any) -> Any:
        group = optimizer.param_groups[0]
        w.grad = None
        (w * x).sum().backward()
        with gx.no_grad():
            w.sub_(group["lr"] * w.grad)
        return group["betas"][0] + group["lr"]
    assert step(np.float32([1, 1])) == 0.75
    optimizer.param_groups[0]["lr"] = 1.0
    assert step(np.float32([1, 1])) == 1.25
    optimizer.param_groups[0]["betas"] = (0.5, 0.5)
    assert step(np.float32([1, 1])) == 1.5
    np.testing.assert_array_equal(w.numpy(), [1 - 0.5 - 1 - 1, 2 - 0.5 - 1 - 1])
    assert len(step.variants) == 1


def test_a_schedule_inside_the_step_is_refused(compile_: Any) -> None:
    w = gx.tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.5)

    @compile_
    def step() -> None:
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["lr"] * 0.5
    with pytest.raises(gx.GraphTypeError, match="'lr' is set to a traced value") as e:
        step()
    assert "between calls" in str(e.value.fix)
    assert optimizer.param_groups[0]["lr"] == 0.5


# ---- modules -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["/home/me/project/kit.py", "/usr/lib/python3/site-packages/kit.py"])
def test_what_the_users_modules_read_is_followed_and_what_libraries_read_is_not(compile_: Any, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    name = f"kit{len(where)}"
    kit = types.ModuleType(name)
    kit.__file__ = where
    exec("k = 2.0\nhidden = 1.0\ndef scale(x):\n    return x * hidden", kit.__dict__)
    monkeypatch.setitem(sys.modules, name, kit)
    f = compile_(lambda x: kit.scale(x) * kit.k)                         # type: ignore[attr-defined]
    follows(f, lambda: setattr(kit, "k", 3.0))                           # what the step itself names is compared in any case
    kit.hidden = 2.0                                                     # type: ignore[attr-defined]
    np.testing.assert_allclose(f(X), X * 3 * (1 if "site-packages" in where else 2), rtol=1e-6)


def test_a_step_that_names_libraries_has_few_guards() -> None:
    import json
    import logging

    def f(x: Any) -> Any:
        if X.size < 0:
            logging.getLogger("a").info(json.dumps({"a": 1}))
            pytest.raises(ValueError, match=np.random.default_rng(0).bytes(1).hex())
        return x * 2
    names = {c.name for c in captures(f)}
    assert names <= {"X", "pytest", "pytest.raises"}
