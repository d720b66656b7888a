"""`CompiledFunction` as an object: copied, pickled, bound to objects that go away; results that are constants; what a failed first call leaves."""
from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


@pytest.fixture(params=["numpy", "llvm"])
def compile_(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return lambda fn=None, **options: gx.compile(fn, backend=request.param, **options)


def test_a_constant_that_is_returned_is_new_at_every_call(compile_: Any) -> None:
    f = compile_(lambda x: (x, np.zeros(3)))
    f(X)[1][...] = 7
    np.testing.assert_array_equal(f(X)[1], np.zeros(3))
    g = compile_(lambda: np.zeros(3))
    g()[...] = 7
    np.testing.assert_array_equal(g(), np.zeros(3))


def test_a_first_call_that_fails_fixes_no_shape(compile_: Any) -> None:
    net = nn.Linear(4, 2)
    f = compile_(lambda x: net(x), on_new_shape="error")
    with pytest.raises(gx.GraphError, match=r"inner|last axis|Linear"):
        f(X[:, :3])
    assert f(X).shape == (3, 2)
    with pytest.raises(gx.GraphError, match=r"x from \(3, 4\) to \(2, 4\)"):
        f(X[:2])


class Trainer:
    def __init__(self, k: float) -> None:
        self.k = k
        self.stored = gx.compile(self.method)

    def method(self, x: Any) -> Any:
        return x * self.k

    @gx.compile
    def decorated(self, x: Any) -> Any:
        return x * self.k


class Child(Trainer):
    @gx.compile
    def decorated(self, x: Any) -> Any:
        return super().decorated(x) + 1


@gx.compile
def at_the_top(x: Any) -> Any:
    return x * 2


@pytest.mark.parametrize("how", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("used", [False, True])
def test_a_copied_object_has_compiled_methods_of_its_own(how: Any, used: bool) -> None:
    a = Trainer(2.0)
    if used:
        a.decorated(X)
        a.stored(X)
    b = how(a)
    b.k = 3.0
    for _ in range(2):
        np.testing.assert_array_equal(a.decorated(X), X * 2)
        np.testing.assert_array_equal(b.decorated(X), X * 3)
        np.testing.assert_array_equal(a.stored(X), X * 2)
        np.testing.assert_array_equal(b.stored(X), X * (2 if how is copy.copy else 3))      # a shallow copy shares what is stored
    assert len(a.decorated.variants) == len(b.decorated.variants) == 1


def test_a_method_that_calls_the_one_above() -> None:
    child = Child(2.0)
    np.testing.assert_array_equal(child.decorated(X), X * 2 + 1)
    np.testing.assert_array_equal(super(Child, child).decorated(X), X * 2)
    np.testing.assert_array_equal(child.decorated(X), X * 2 + 1)


def test_functions_are_copied_and_pickled_as_themselves() -> None:
    assert copy.deepcopy(at_the_top) is at_the_top
    assert pickle.loads(pickle.dumps(at_the_top)) is at_the_top
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(gx.compile(lambda x: x))


def test_an_object_with_a_compiled_method_is_freed(compile_: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)
            self.optimizer = optim.SGD(self.parameters(), lr=0.1)

        @compile_
        def step(self, x: Any) -> Any:
            self.optimizer.zero_grad()
            loss = self.fc(x).sum()
            loss.backward()
            self.optimizer.step()
            return loss
    net = Net()
    assert net.step(X) > net.step(X)
    assert len(net.step.variants) == 1
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


def test_an_object_without_a_dict_has_compiled_methods(compile_: Any) -> None:
    class Slotted:
        __slots__ = ("k",)

        @compile_
        def f(self, x: Any) -> Any:
            return x * self.k
    s = Slotted()
    s.k = 2.0
    np.testing.assert_array_equal(s.f(X), X * 2)
    s.k = 3.0
    np.testing.assert_array_equal(s.f(X), X * 3)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_a_pass_that_is_not_there(backend: str) -> None:
    with pytest.raises(gx.GraphError, match="there is no pass 'nope'"):
        gx.compile(lambda x: x, backend=backend, passes=("nope",))(np.ones(3))
