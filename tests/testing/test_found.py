"""What hunts have found: programs that were once compiled wrongly, or not at all, shrunk."""
from __future__ import annotations

import pytest

from graphc.core.dtype import f64, i64
from graphc.ir.node import Graph
from graphc.ir.op import REGISTRY
from graphc.ir.text import parse
from graphc.ops.leaf import input_
from graphc.testing import native_difference
from graphc.testing.hunting import deadline

FOUND = {
    "a sum over axes of which an inner one does not collapse": """
        graph shrunk(%x: f32[1,2,1,1]) {
          %1: f32[1,1,2,1] = permute(%x) {axes=(0, 3, 1, 2)}
          %2: f32[] = reduce_sum(%1) {axes=(0, 1, 2, 3)}
          return %2
        }""",
    "cofactors of a singular matrix, whose border costs digits": """
        graph shrunk(%x: f64[1]) {
          %1: f64[1,4,4] = const [[[15.0, 6.0, 0.0, -6.0], [8.0, 1.0, 3.0, -5.0], [12.0, 8.0, 3.0, -3.0], [-7.0, -11.0, -6.0, -2.0]]]
          %2: f64[1,4,4] = cofactors(%1)
          return %x, %2
        }""",
    "the absolute value of an unsigned number that was negated": """
        graph shrunk(%x: u8[1]) {
          %1: u8[1] = neg(%x)
          %2: u8[1] = abs(%1)
          return %2
        }""",
}


@pytest.mark.parametrize("name", FOUND)
def test_it_is_right_now(name: str) -> None:
    with deadline(20):
        for seed in range(2):
            assert native_difference(parse(FOUND[name]), seed) is None


@pytest.mark.parametrize("name", ["take", "take_along", "scatter_add", "put_along_max"])
def test_an_index_that_is_a_function_of_a_function(name: str) -> None:
    """As an expression with shared parts it is small, as a tree it has 2**40 of them."""
    i, x = input_(name="i", shape=(5,), dtype=i64), input_(name="x", shape=(5,), dtype=f64)
    at = i
    for _ in range(40):
        at = at * at + at
    updates = () if name.startswith("take") else (x,)
    y = REGISTRY[name](x, at, *updates, axis=0)
    back = REGISTRY[name](y, at, *updates, axis=0)
    with deadline(20):
        assert native_difference(Graph((i, x), (back,))) is None
