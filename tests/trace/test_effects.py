"""Effects keep the program's order, on both backends, and say what they saw on every call."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gx


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_prints_in_order(backend: str, capsys: Any) -> None:
    @gx.compile(backend=backend)
    def f(x: Any) -> Any:
        y = x * 2
        gx.debug_print("second is first: ", y.sum())
        gx.debug_print("x = ", x)
        return y + 1

    for k in (1, 5):
        np.testing.assert_array_equal(f(np.array([k, 2], np.int32)), [2 * k + 1, 5])
        assert capsys.readouterr().out == f"second is first: {2 * k + 4}\nx = [{k} 2]\n"


def test_eagerly_at_once(capsys: Any) -> None:
    gx.debug_print("x = ", gx.asarray([1, 2]))
    assert capsys.readouterr().out == "x = [1 2]\n"


def test_an_effect_is_part_of_the_graph() -> None:
    def f(x: Any) -> Any:
        gx.debug_print("x = ", x)
        return x

    graph = gx.compile(f, backend="numpy").lower(gx.Spec((3,), gx.float32)).graph
    assert "print(" in str(graph)
    assert len(graph.effects) == 1


def test_refused_in_a_loop_body() -> None:
    def body(h: Any, x: Any) -> Any:
        gx.debug_print("h = ", h)
        return h + x, h

    with pytest.raises(gx.GraphError, match="debug_print inside a loop body"):
        gx.compile(lambda xs: gx.scan(body, 0.0, xs))(np.ones(3, np.float32))
