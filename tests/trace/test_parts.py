"""Trees, specs, storages, guards, arguments: the small parts that a compiled call is made of."""
from __future__ import annotations

import copy
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.core.dims import symbol
from graphc.core.dtype import f32
from graphc.core.types import TensorType
from graphc.trace import arguments, guards, tree
from graphc.trace.spec import match
from graphc.trace.storage import Storage

Pair = namedtuple("Pair", "a b")


@dataclass
class Config:
    x: Any
    y: Any = 2


# ---- trees ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "leaves", "paths"), [
    (7, [7], ["r"]), (None, [], []), ([], [], []), ((1, [2, None]), [1, 2], ["r[0]", "r[1][0]"]),
    ({"b": 1, "a": (2,)}, [1, 2], ["r['b']", "r['a'][0]"]),
    (Pair(1, [2]), [1, 2], ["r.a", "r.b[0]"]), (Config(1, (2, 3)), [1, 2, 3], ["r.x", "r.y[0]", "r.y[1]"]),
    (OrderedDict(z=1, a=2), [1, 2], ["r['z']", "r['a']"]), ("text", ["text"], ["r"]),
])
def test_flatten_and_back(value: Any, leaves: list[Any], paths: list[str]) -> None:
    got, treedef = tree.flatten(value)
    assert got == leaves
    assert tree.paths(treedef, "r") == paths
    back = treedef.unflatten(got)
    assert back == value
    assert type(back) is type(value)
    assert hash(treedef) == hash(tree.flatten(copy.deepcopy(value))[1])
    with pytest.raises((ValueError, StopIteration)):
        treedef.unflatten([*got, 1])


def test_trees_that_differ() -> None:
    defs = [tree.flatten(v)[1] for v in ([1], (1,), {"a": 1}, {"b": 1}, [1, 2], [[1]], Pair(1, 1), None, 1)]
    assert len(set(defs)) == len(defs)
    assert tree.map_leaves(lambda a, b: a + b, {"a": [1, 2]}, {"a": [10, 20]}) == {"a": [11, 22]}
    with pytest.raises(ValueError, match="differ in shape"):
        tree.map_leaves(lambda a, b: a, [1], (1,))


# ---- specs ---------------------------------------------------------------------------------------------------------------------------


def test_specs_match_shapes() -> None:
    n = symbol("N")
    images, labels, twice = TensorType((n, 4), f32), TensorType((n,), f32), TensorType((2 * n,), f32)
    assert match([images, labels], [(5, 4), (5,)]) == {"N": 5}
    assert match([images, labels], [(5, 4), (3,)]) is None
    assert match([images], [(5, 3)]) is None
    assert match([images], [(5,)]) is None
    assert match([images], [(0, 4)]) is None                             # symbolic sizes are >= 1
    assert match([images, twice], [(5, 4), (10,)]) == {"N": 5}
    assert match([images, twice], [(5, 4), (9,)]) is None
    with pytest.raises(gx.GraphError, match="does not fix N"):
        match([twice], [(10,)])


@pytest.mark.parametrize("bad", ["N", 3, ("N!",), (-1,), ("a b",)])
def test_specs_that_are_refused(bad: Any) -> None:
    with pytest.raises(gx.GraphError):
        gx.Spec(bad)


# ---- storage -------------------------------------------------------------------------------------------------------------------------


def test_storage_is_aligned_and_owned() -> None:
    for shape in ((3, 4), (), (0, 3), (5,)):
        source = np.ones(shape, np.float32)
        s = Storage(source, "w")
        source[...] = 7
        assert s.address % 64 == 0
        np.testing.assert_array_equal(s.array, np.ones(shape))
    copied = s.numpy()
    copied[...] = 9
    assert s.array.sum() == 5


def test_storage_relayout_keeps_the_value_and_happens_once() -> None:
    value = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
    s = Storage(value, "w")
    s.relayout((2, 0, 1))
    np.testing.assert_array_equal(s.array, value)
    np.testing.assert_array_equal(s._physical, value.transpose(2, 0, 1))
    assert s.array.shape == (2, 3, 4)
    s.assign(value * 2)
    np.testing.assert_array_equal(s._physical, value.transpose(2, 0, 1) * 2)
    where = s.address
    s.relayout((2, 0, 1))
    assert s.address == where
    with pytest.raises(gx.GraphError, match="layout of w is fixed"):
        s.relayout((0, 1, 2))


def test_storage_refuses_what_does_not_fit() -> None:
    s = Storage(np.zeros((2, 3), np.float32), "w")
    for bad in (np.zeros((3, 2), np.float32), np.zeros((2, 3))):
        with pytest.raises(gx.GraphError, match=r"w is f32\[2,3\] and cannot take"):
            s.assign(bad)
    with pytest.raises(gx.GraphError, match="element types"):
        Storage(np.zeros(2, complex))
    version = s.version
    s.assign(np.ones((2, 3), np.float32))
    assert s.version == version + 1


# ---- guards --------------------------------------------------------------------------------------------------------------------------


class Holder:
    def __init__(self) -> None:
        self.k, self.unused = 1.0, 2.0


def test_captures_hold_until_something_read_changes() -> None:
    holder, items, scope = Holder(), [1, {"a": 2}], {"g": 5}
    exec("def helper(x):\n    return x * g", scope)
    helper = scope["helper"]

    def f(x: Any) -> Any:
        return helper(x) * holder.k + items[0]

    def holds(captured: list[guards.Captured]) -> bool:
        return all(c.holds() for c in captured)
    for change, back in ((lambda: setattr(holder, "k", 2.0), lambda: setattr(holder, "k", 1.0)), (lambda: items.append(3), lambda: items.pop()),
                         (lambda: items[1].update(a=3), lambda: items[1].update(a=2)), (lambda: scope.update(g=6), lambda: scope.update(g=5)),
                         (lambda: scope.pop("g"), lambda: scope.update(g=5))):
        captured = guards.captures(f)
        assert holds(captured)
        change()
        assert not holds(captured)
        back()
        assert holds(captured)
    holder.unused = 3.0
    assert holds(guards.captures(f))
    assert {c.name for c in guards.captures(f)} >= {"holder", "holder.k", "items", "helper", "g"}
    assert not any(c.name in ("np", "gx", "guards") for c in guards.captures(f))


def test_equal_numbers_are_the_same_and_others_are_not() -> None:
    assert guards.same(1.5, float("1.5"))
    assert not guards.same(1, 1.0)
    assert not guards.same(1, True)
    assert not guards.same([1], [1])


# ---- arguments -----------------------------------------------------------------------------------------------------------------------


def keys(*args: Any, **kwargs: Any) -> Any:
    return arguments.take_apart(args, kwargs, lambda t: arguments.leaf_names(lambda x, y=None, *z, **k: None, t)).key


def test_keys_of_calls() -> None:
    a = np.zeros((2, 3), np.float32)
    assert keys(a) == keys(a + 1)
    assert keys(a) == keys(gx.zeros(2, 3))
    assert keys(a) == keys(np.asfortranarray(a).astype(">f4"))
    assert keys(a) != keys(a[:1])
    assert keys(a) != keys(a.astype(np.float64))
    assert keys(1.0) == keys(2.0)
    assert keys(1.0) != keys(1)
    assert keys(True) != keys(1)
    assert keys(True) != keys(False)
    assert keys("a") != keys("b")
    assert keys(x=a, y=1) == keys(y=1, x=a)
    assert keys({"w": a}) != keys([a])
    assert keys(np.float32(1)) == keys(np.zeros((), np.float32))
    net = gx.nn.Linear(2, 3)
    assert keys(net) == keys(net)
    assert keys(net) != keys(gx.nn.Linear(2, 3))


def test_names_of_leaves() -> None:
    def f(x: Any, batch: Any, *rest: Any, scale: Any = 1) -> None: ...
    _, whole = tree.flatten((({"a": 1}, [2, 3], 4, 5), {"scale": 6}), arguments.is_leaf)
    assert arguments.leaf_names(f, whole) == ["x['a']", "batch[0]", "batch[1]", "rest[0]", "rest[1]", "scale"]


# ---- tensors -------------------------------------------------------------------------------------------------------------------------


def test_subclasses_are_kept() -> None:
    class Torchish(gx.Tensor):
        pass
    Torchish.result_type = Torchish
    t = Torchish.from_value(np.float32([1, 2]))
    assert type(t * 2) is Torchish
    assert type(2 - t.sum()) is Torchish
    assert type(gx.topk(t, 1)[0]) is Torchish
    assert type(gx.nn.Parameter(gx.zeros(2)) * 2) is gx.Tensor


def test_deepcopy_has_memory_of_its_own() -> None:
    net = gx.nn.Linear(2, 3)
    other = copy.deepcopy(net)
    with gx.no_grad():
        other.weight.zero_()
    assert net.weight.numpy().any()
    assert other.weight.requires_grad


def test_scalars_are_weak() -> None:
    k = gx.scalar(2.0)
    assert (k * gx.zeros(3)).dtype.name == "f32"
    assert (k * 2).weak
    assert ((k * 2 - 1) * gx.zeros(3, dtype="f64")).dtype.name == "f64"
    assert (k * gx.tensor([1, 2])).dtype.name == "f32"
    k.value = 3
    assert (k + 0).item() == 3
    with pytest.raises(gx.GraphTypeError, match="is a number"):
        gx.scalar("a")
    whole = gx.scalar(2)
    assert (whole * gx.tensor([1, 2])).dtype.name == "i64"
    with pytest.raises(gx.GraphTypeError, match="made with an int"):
        whole.value = 0.5


def test_repr() -> None:
    assert repr(gx.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    assert repr(gx.tensor([1.0], dtype="f64", requires_grad=True)) == "tensor([1.], dtype=f64, requires_grad=True)"
    shown: list[str] = []
    gx.compile(lambda x: shown.append(repr(x)) or x, backend="numpy")(np.zeros((2, 3)))
    assert shown == ["Tensor(x: f64[2,3], traced)"]
