"""Indices that hypothesis makes up, against NumPy: reading, functional updates, and both under derivatives forward and backward and under vmap."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gx

Array = np.ndarray[Any, Any]
SHAPES = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)


@st.composite
def keys(draw: Any, shape: tuple[int, ...]) -> Any:
    """Slices, ints, None, one Ellipsis, integer arrays that broadcast, masks: anything that NumPy takes for the shape."""
    advanced = draw(st.sampled_from([(), (2,), (3, 1), (0,)]))
    parts: list[Any] = []
    axis = 0
    while axis < len(shape):
        n = shape[axis]
        kind = draw(st.sampled_from(["slice", "slice", "int", "array", "mask", "none", "rest"]))
        if kind == "none":
            parts.append(None)
            if sum(p is None for p in parts) > 2:
                break
            continue
        if kind == "rest":
            break
        if kind == "int" and n:
            parts.append(draw(st.integers(-n, n - 1)))
        elif kind == "array" and n:
            size = draw(st.sampled_from([advanced, advanced[-1:]])) if advanced else ()
            many = int(np.prod(size))
            parts.append(np.array(draw(st.lists(st.integers(-n, n - 1), min_size=many, max_size=many)), np.int64).reshape(size))
        elif kind == "mask" and not any(isinstance(p, np.ndarray) for p in parts) and not advanced:
            parts.append(np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool))
            advanced = None
        else:
            bound = st.one_of(st.none(), st.integers(-n - 2, n + 2))
            parts.append(slice(draw(bound), draw(bound), draw(st.one_of(st.none(), st.integers(-3, 3).filter(bool)))))
        if advanced is None:                            # a mask brings its own number of places: no other array
            advanced = ()
            axis += 1
            while axis < len(shape):
                parts.append(slice(None, None, draw(st.sampled_from([None, 2, -1]))))
                axis += 1
            break
        axis += 1
    if axis < len(shape) and draw(st.booleans()):
        parts.append(Ellipsis)
    return tuple(parts) if len(parts) != 1 or draw(st.booleans()) else parts[0]


@st.composite
def places(draw: Any) -> tuple[Array, Any]:
    shape = draw(SHAPES)
    x = np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)
    return x, draw(keys(shape))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(places())
def test_reading(place: tuple[Array, Any]) -> None:
    x, key = place
    want = x[key]
    got = gx.asarray(x)[key]
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.numpy(), want)
    w = np.asarray(np.cos(np.arange(want.size)).reshape(want.shape))
    (back,) = gx.vjp(lambda x: x[key], x)[1](gx.asarray(w))
    scattered = np.zeros_like(x)
    np.add.at(scattered, key, w)
    np.testing.assert_allclose(back.numpy(), scattered, rtol=1e-13)
    value, along = gx.jvp(lambda x: x[key], (x,), (np.sin(x),))
    np.testing.assert_array_equal(along.numpy(), np.sin(x)[key])
    np.testing.assert_array_equal(value.numpy(), want)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(places(), st.sampled_from(["set", "add", "multiply", "min", "max", "divide"]), st.booleans())
def test_writing(place: tuple[Array, Any], mode: str, broadcast: bool) -> None:
    x, key = place
    v = np.asarray(2.0 + np.sin(np.arange(x[key].size)).reshape(x[key].shape))
    if broadcast and v.ndim:
        v = v[..., :1]
    want = x.copy()
    if mode == "set":
        want[key] = v
    else:
        ufunc = {"add": np.add, "multiply": np.multiply, "min": np.minimum, "max": np.maximum, "divide": np.divide}[mode]
        ufunc.at(want, key, v)
    np.testing.assert_allclose(getattr(gx.asarray(x).at[key], mode)(v).numpy(), want, rtol=1e-12)

    def f(x: Any, v: Any) -> Any:
        return getattr(x.at[key], mode)(v)

    dx, dv, w = np.cos(x), np.asarray(np.cos(3 * v)), np.sin(2 * x)
    _, along = gx.jvp(f, (x, v), (dx, dv))
    gx_, gv = gx.vjp(f, x, v)[1](gx.asarray(w))
    forward, backward = (along.numpy() * w).sum(), (gx_.numpy() * dx).sum() + (gv.numpy() * dv).sum()
    assert forward == pytest.approx(backward, rel=1e-10, abs=1e-10)     # the same linear map, from either side
    batch = np.stack([x, -x, x * 0.5])
    each = gx.vmap(f, in_axes=(0, None))(batch, v).numpy()
    np.testing.assert_allclose(each, np.stack([f(gx.asarray(b), v).numpy() for b in batch]), rtol=1e-12)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(places(), st.sampled_from(["set", "add", "multiply", "min"]))
def test_compiled(place: tuple[Array, Any], mode: str) -> None:
    x, key = place
    v = np.asarray(2.0 + np.sin(np.arange(x[key].size)).reshape(x[key].shape))
    read, written = gx.compile(lambda x, v: (x[key], getattr(x.at[key], mode)(v)))(x, v)
    np.testing.assert_array_equal(read, x[key])
    np.testing.assert_allclose(written, getattr(gx.asarray(x).at[key], mode)(v).numpy(), rtol=1e-12)
