"""A convolution is a contraction over a window, a pooling a reduction over one: forward and backward, on three evaluators."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphc.core.dtype import f32, f64
from graphc.ir.node import Graph, Node
from graphc.ops.contract import contract
from graphc.ops.elementwise import tanh
from graphc.ops.leaf import input_, splat
from graphc.ops.movement import pad
from graphc.ops.reduce import reduce_max
from graphc.ops.window import fold, window
from graphc.testing import check_grads
from graphc.transform.grad import vjp

from .three import agree


def conv(x: Node, w: Node, stride: int, dilation: int, padding: int) -> Node:
    """N,C,H,W with O,C,K,L -> N,H',W',O."""
    p = (0, 0, padding, padding)
    v = window(pad(x, lo=p, hi=p, value=0.0), axes=(2, 3), sizes=w.tensor.static_shape[2:], strides=(stride,) * 2, dilations=(dilation,) * 2)
    return contract(v, w, contracting=((1, 4, 5), (1, 2, 3)), batch=((), ()))


def by_hand(x: Any, w: Any, stride: int, dilation: int, padding: int) -> Any:
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    _, _, k, l = w.shape
    h, v = ((n - (m - 1) * dilation - 1) // stride + 1 for n, m in zip(x.shape[2:], (k, l)))
    out = np.zeros((x.shape[0], h, v, w.shape[0]), x.dtype)
    for i, j in np.ndindex(h, v):
        a, b = i * stride, j * stride
        patch = x[:, :, a:a + (k - 1) * dilation + 1:dilation, b:b + (l - 1) * dilation + 1:dilation]
        out[:, i, j] = np.einsum("ncij,ocij->no", patch, w)
    return out


@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, 0), (2, 1, 1), (1, 2, 2), (3, 1, 0)])
def test_convolution(stride: int, dilation: int, padding: int, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(dtype.numpy) for s in ((2, 3, 7, 6), (4, 3, 2, 3))]
    x, w = (input_(name=n, shape=a.shape, dtype=dtype) for n, a in zip("xw", arrays))
    y = conv(x, w, stride, dilation, padding)
    z = tanh(y)
    graph = Graph((x, w), (y, *vjp([z], [splat(1.0, z)], [x, w])))
    agree(graph, arrays)
    if dtype is f64:
        from graphc.interp.numpy import run
        np.testing.assert_allclose(run(graph, arrays).outputs[0], by_hand(*arrays, stride, dilation, padding), rtol=1e-12, atol=1e-12)


def test_max_pooling_and_its_gradient() -> None:
    rng = np.random.default_rng(1)
    x = input_(name="x", shape=(2, 7, 5), dtype=f64)
    y = reduce_max(window(tanh(x), axes=(1, 2), sizes=(3, 2), strides=(2, 1), dilations=(1, 2)), axes=(3, 4))
    arrays = [rng.standard_normal((2, 7, 5))]
    agree(Graph((x,), (y, *vjp([y], [splat(1.0, y)], [x]))), arrays)
    check_grads(Graph((x,), (y,)), arrays, order=1)


def test_an_epilogue_follows_a_fold() -> None:
    """The fold is an open head: what is made of its result needs no kernel of its own."""
    x = input_(name="x", shape=(3, 6, 2), dtype=f32)
    y = tanh(fold(x, lengths=(7,), axes=(1,), strides=(1,), dilations=(1,)) * 0.5)
    step = agree(Graph((x,), (y,)), [np.random.default_rng(2).standard_normal((3, 6, 2)).astype(np.float32)])
    assert step.report.kernels == 1


def test_a_window_is_never_in_memory() -> None:
    x, w = input_(name="x", shape=(1, 2, 33, 33), dtype=f32), input_(name="w", shape=(3, 2, 3, 3), dtype=f32)
    rng = np.random.default_rng(3)
    step = agree(Graph((x, w), (conv(x, w, 1, 1, 0),)), [rng.standard_normal(n.tensor.static_shape).astype(np.float32) for n in (x, w)])
    assert not [r for r in step.memory_plan().regions if r[2] >= 31 * 31 * 2 * 9 * 4]
