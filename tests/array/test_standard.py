"""The Array API 2024.12, function by function: signatures, dtypes, special values; eagerly, in machine code and through `__array_namespace__`.

docs/array_api.md, which says what is as stated and what is not, is made from the same table and is checked here too.
"""
from __future__ import annotations

import importlib.util
import inspect
import itertools
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import graphc as gx

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


STANDARD = _module("make_array_api", DOCS / "make_array_api.py")
CASES = _module("special_cases", HERE / "special_cases.py")
FUNCTIONS: dict[str, inspect.Signature] = {name: want for _, name, want in STANDARD.signatures()}

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64")
INTEGERS = (*SIGNED, *UNSIGNED)
NUMBERS = (*INTEGERS, *FLOATS)
ANY = ("bool", *NUMBERS)


# ---- the page and the signatures -----------------------------------------------------------------------------------------------------


def test_the_page_is_current() -> None:
    assert (DOCS / "array_api.md").read_text(encoding="utf-8") == STANDARD.page(), "python docs/make_array_api.py"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signature(name: str) -> None:
    found = STANDARD.difference(name, FUNCTIONS[name])
    assert (found is not None) == (name in STANDARD.DEVIATIONS), found


def test_deviations_and_notes_are_of_functions() -> None:
    assert set(STANDARD.DEVIATIONS) | set(STANDARD.NOTES) <= set(FUNCTIONS)


def test_attributes_operators_dtypes_and_constants() -> None:
    operators = [f"__{name}__" for name in STANDARD.OPERATORS.split()]
    assert [a for a in (*STANDARD.ATTRIBUTES.split(), *operators) if not hasattr(gx.Tensor, a)] == []
    assert (gx.e, gx.inf, gx.pi, gx.newaxis) == (math.e, math.inf, math.pi, None)
    assert math.isnan(gx.nan)
    for name in STANDARD.DTYPES.split():
        dtype = getattr(gx, name)
        assert gx.ones(3, dtype=dtype).dtype == dtype != "float", name
        assert gx.__array_namespace_info__().dtypes()[name] == dtype


# ---- special values ------------------------------------------------------------------------------------------------------------------


def test_every_elementwise_function_has_its_special_cases() -> None:
    elementwise = {name for section, name, _ in STANDARD.signatures() if section == "Elementwise"}
    without = {"bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "clip", "conj", "imag",
               "logical_and", "logical_not", "logical_or", "logical_xor", "real"}
    assert set(CASES.SPECIAL) == elementwise - without


def _is(got: Any, want: Any, approximately: bool, eps: float) -> bool:
    if isinstance(want, bool):
        return bool(got) == want
    if math.isnan(want):
        return math.isnan(got)
    if approximately:
        return abs(got - want) <= 4 * eps * abs(want)
    return bool(got == want) and math.copysign(1, got) == math.copysign(1, want)


@pytest.mark.parametrize("name", CASES.SPECIAL)
def test_special_cases(name: str) -> None:
    cases = list(CASES.cases(name))
    f = getattr(gx, name)
    for dtype in (np.float32, np.float64):
        xs = [np.array([operands[k] for operands, _, _ in cases], dtype) for k in range(len(cases[0][0]))]
        for how, out in (("eager", f(*map(gx.asarray, xs)).numpy()), ("native", gx.compile(f)(*xs))):
            assert out.dtype == (np.bool_ if isinstance(cases[0][1][0], bool) else dtype)
            for (operands, wanted, approximately), got in zip(cases, out, strict=True):
                right = any(_is(got, w, approximately, np.finfo(dtype).eps) for w in wanted)
                assert right, f"{name}{operands} is {got}, not {wanted} ({how}, {dtype.__name__})"


def test_clip_takes_nan_as_a_bound() -> None:
    x, nan = gx.asarray([1.0, math.nan, 3.0]), math.nan
    for got in (gx.clip(x, nan, 2.0), gx.clip(x, gx.asarray([0.0, 0.0, nan]), gx.asarray([nan, 1.0, 1.0])), gx.clip(x, None, nan)):
        assert math.isnan(got[1].item())
        assert math.isnan(got[2].item()) == math.isnan(got[0].item()) or got.shape == (3,)
    np.testing.assert_array_equal(gx.clip(x, 0.0, nan).numpy(), [nan] * 3)
    np.testing.assert_array_equal(gx.clip(x).numpy(), [1.0, nan, 3.0])


def test_nextafter_is_the_next_number() -> None:
    for dtype in (np.float32, np.float64):
        info = np.finfo(dtype)
        x = np.array([0.0, 0.0, -0.0, 1.0, 1.0, -1.0, info.max, -info.max, info.tiny, info.smallest_subnormal, np.inf, 3.0], dtype)
        y = np.array([1.0, -1.0, 1.0, 2.0, 0.0, 0.0, np.inf, -np.inf, 0.0, 0.0, 0.0, 3.0], dtype)
        with np.errstate(over="ignore"):
            want = np.nextafter(x, y)
        np.testing.assert_array_equal(gx.nextafter(x, y).numpy(), want)
        np.testing.assert_array_equal(gx.compile(gx.nextafter, flush_denormals=False)(x, y), want)


def test_statistics_of_nothing_and_of_nan() -> None:
    none = gx.ones((0, 3))
    assert gx.sum(none).item() == 0
    assert gx.prod(none).item() == 1
    assert gx.all(none).item() is True
    assert gx.any(none).item() is False
    assert math.isnan(gx.mean(none).item())
    assert math.isnan(gx.std(none).item())
    x = gx.asarray([[1.0, math.nan], [3.0, 2.0]])
    for f in (gx.sum, gx.prod, gx.max, gx.min, gx.mean, gx.std, gx.var):
        assert np.isnan(f(x, axis=0).numpy()).tolist() == [False, True], f
    assert math.isnan(gx.var(gx.ones(1), correction=1).item())
    for f in (gx.max, gx.min):
        with pytest.raises(gx.GraphError):
            f(none)
    assert gx.max(none, axis=1).shape == (0,)


# ---- dtypes --------------------------------------------------------------------------------------------------------------------------

# what each elementwise function takes, and the dtype of what it gives: that of its operands, or bool
TAKES: dict[str, tuple[tuple[str, ...], bool]] = {
    **dict.fromkeys(("abs", "add", "conj", "multiply", "negative", "positive", "pow", "real", "square", "sign", "subtract"), (NUMBERS, False)),
    **dict.fromkeys(("ceil", "clip", "floor", "floor_divide", "maximum", "minimum", "remainder", "round", "trunc", "imag"), (NUMBERS, False)),
    **dict.fromkeys(("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "copysign", "cos", "cosh", "divide", "exp", "expm1", "hypot", "log", "log10",
                     "log1p", "log2", "logaddexp", "nextafter", "reciprocal", "sin", "sinh", "sqrt", "tan", "tanh"), (FLOATS, False)),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_invert"), (("bool", *INTEGERS), False)),
    **dict.fromkeys(("bitwise_left_shift", "bitwise_right_shift"), (INTEGERS, False)),
    **dict.fromkeys(("logical_and", "logical_not", "logical_or", "logical_xor"), (("bool",), True)),
    **dict.fromkeys(("equal", "not_equal"), (ANY, True)),
    **dict.fromkeys(("greater", "greater_equal", "less", "less_equal", "isfinite", "isinf", "isnan"), (NUMBERS, True)),
    "signbit": (FLOATS, True),
}
OPERATORS: dict[str, Any] = {
    "add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b, "divide": lambda a, b: a / b,
    "floor_divide": lambda a, b: a // b, "remainder": lambda a, b: a % b, "pow": lambda a, b: a ** b, "bitwise_and": lambda a, b: a & b,
    "bitwise_or": lambda a, b: a | b, "bitwise_xor": lambda a, b: a ^ b, "bitwise_left_shift": lambda a, b: a << b,
    "bitwise_right_shift": lambda a, b: a >> b, "less": lambda a, b: a < b, "less_equal": lambda a, b: a <= b, "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b, "equal": lambda a, b: a == b, "not_equal": lambda a, b: a != b,
}


def test_every_elementwise_function_has_its_dtypes() -> None:
    assert set(TAKES) == {name for section, name, _ in STANDARD.signatures() if section == "Elementwise"}


def meet(a: str, b: str) -> str | None:
    """The standard's tables of promotion; None where it leaves the result open."""
    bits = {n: int("".join(filter(str.isdigit, n)) or 0) for n in (a, b)}
    if a == b:
        return a
    if any({a, b} <= set(kind) for kind in (SIGNED, UNSIGNED, FLOATS)):
        return a if bits[a] > bits[b] else b
    if {a, b} <= set(INTEGERS):
        u, s = (a, b) if a in UNSIGNED else (b, a)
        return None if u == "uint64" else f"int{max(bits[s], 2 * bits[u])}"
    return None


def _one(dtype: str) -> Any:
    return gx.ones((2,), dtype=getattr(gx, dtype))


@pytest.mark.parametrize("name", TAKES)
def test_dtypes(name: str) -> None:
    takes, truth = TAKES[name]
    f = getattr(gx, name)
    several = len([p for p in FUNCTIONS[name].parameters.values() if p.kind is p.POSITIONAL_ONLY]) == 2
    for a in takes:
        x = _one(a)
        if not several:
            assert f(x).dtype == getattr(gx, "bool" if truth else a), a
            continue
        for b in takes:
            want = meet(a, b)
            if want is not None:
                assert f(x, _one(b)).dtype == getattr(gx, "bool" if truth else want), (a, b)
        scalars = [True] if a == "bool" else [1] if a in INTEGERS else [1, 1.5]
        for s, same in itertools.product(scalars, (f, *([OPERATORS[name]] if name in OPERATORS else []))):
            want_type = gx.bool if truth else getattr(gx, a)
            assert same(x, s).dtype == want_type, (a, s)
            assert same(s, x).dtype == want_type, (s, a)


# a call of everything else, and the dtype of what it gives
DTYPES: list[tuple[str, Any, Any]] = [
    ("sum i8", lambda: gx.sum(_one("int8")), gx.int64), ("sum u16", lambda: gx.sum(_one("uint16")), gx.uint64),
    ("sum f32", lambda: gx.sum(_one("float32")), gx.float32), ("sum as", lambda: gx.sum(_one("int8"), dtype=gx.float64), gx.float64),
    ("prod u8", lambda: gx.prod(_one("uint8")), gx.uint64), ("prod i32", lambda: gx.prod(_one("int32")), gx.int64),
    ("cumulative_sum i8", lambda: gx.cumulative_sum(_one("int8")), gx.int64),
    ("cumulative_prod u8", lambda: gx.cumulative_prod(_one("uint8")), gx.uint64),
    ("trace i16", lambda: gx.linalg.trace(gx.ones((2, 3), dtype=gx.int16)), gx.int64), ("max i8", lambda: gx.max(_one("int8")), gx.int8),
    ("min u64", lambda: gx.min(_one("uint64")), gx.uint64), ("mean f64", lambda: gx.mean(_one("float64")), gx.float64),
    ("std f32", lambda: gx.std(_one("float32")), gx.float32), ("argmax", lambda: gx.argmax(_one("uint8")), gx.int64),
    ("argmin", lambda: gx.argmin(_one("float64")), gx.int64), ("argsort", lambda: gx.argsort(_one("int8")), gx.int64),
    ("sort", lambda: gx.sort(_one("int8")), gx.int8), ("nonzero", lambda: gx.nonzero(_one("int8"))[0], gx.int64),
    ("count_nonzero", lambda: gx.count_nonzero(_one("bool")), gx.int64),
    ("searchsorted", lambda: gx.searchsorted(_one("float32"), _one("float32")), gx.int64),
    ("unique counts", lambda: gx.unique_counts(_one("uint8")).counts, gx.int64), ("unique values", lambda: gx.unique_values(_one("uint8")), gx.uint8),
    ("any", lambda: gx.any(_one("float32")), gx.bool), ("all", lambda: gx.all(_one("int8")), gx.bool),
    ("where", lambda: gx.where(_one("bool"), _one("int8"), _one("uint8")), gx.int16),
    ("where scalar", lambda: gx.where(_one("bool"), _one("int8"), 3), gx.int8),
    ("where f64", lambda: gx.where(_one("bool"), 1.5, _one("float64")), gx.float64),
    ("concat", lambda: gx.concat([_one("int8"), _one("uint16")]), gx.int32),
    ("stack", lambda: gx.stack([_one("float32"), _one("float64")]), gx.float64), ("zeros", lambda: gx.zeros(3), gx.float32),
    ("ones_like", lambda: gx.ones_like(_one("int16")), gx.int16), ("full int", lambda: gx.full(3, 2), gx.int64),
    ("full float", lambda: gx.full(3, 2.0), gx.float32), ("full bool", lambda: gx.full(3, True), gx.bool), ("arange", lambda: gx.arange(3), gx.int64),
    ("arange float", lambda: gx.arange(0.0, 3), gx.float32), ("arange as", lambda: gx.arange(3, dtype=gx.uint8), gx.uint8),
    ("linspace", lambda: gx.linspace(0, 1, 3), gx.float32), ("eye", lambda: gx.eye(3), gx.float32),
    ("asarray bool", lambda: gx.asarray([True]), gx.bool), ("asarray int", lambda: gx.asarray([True, 2]), gx.int64),
    ("asarray float", lambda: gx.asarray([1, 2.5]), gx.float32), ("take", lambda: gx.take(_one("uint8"), gx.asarray([0])), gx.uint8),
    ("meshgrid", lambda: gx.meshgrid(_one("int8"))[0], gx.int8), ("matmul", lambda: gx.matmul(_one("int8"), _one("int16")), gx.int16),
    ("vecdot", lambda: gx.vecdot(_one("uint8"), _one("uint8")), gx.uint8),
    ("tensordot", lambda: gx.tensordot(_one("float64"), _one("float64"), axes=1), gx.float64),
    ("outer", lambda: gx.linalg.outer(_one("int8"), _one("uint8")), gx.int16),
    ("vector_norm", lambda: gx.linalg.vector_norm(_one("float64")), gx.float64),
    ("matrix_norm", lambda: gx.linalg.matrix_norm(gx.ones((2, 3))), gx.float32), ("diff", lambda: gx.diff(_one("int8")), gx.int8),
    ("broadcast_arrays", lambda: gx.broadcast_arrays(_one("int8"), _one("float32"))[0], gx.int8),
]


@pytest.mark.parametrize(("call", "want"), [c[1:] for c in DTYPES], ids=[c[0] for c in DTYPES])
def test_dtypes_of_results(call: Any, want: Any) -> None:
    assert call().dtype == want


def test_dtype_functions() -> None:
    assert gx.result_type(gx.int8, gx.uint8) == gx.int16
    assert gx.result_type(gx.ones(2, dtype=gx.int8), 3, 4) == gx.int8
    assert gx.result_type(gx.float32, 1.0) == gx.float32
    assert [gx.result_type(v) for v in (True, 1, 1.0)] == [gx.bool, gx.int64, gx.float32]
    for a, b in itertools.product(ANY, ANY):
        want = meet(a, b)
        if want is not None:
            assert gx.can_cast(getattr(gx, a), getattr(gx, b)) == (want == b), (a, b)
    kinds = {"bool": ("bool",), "signed integer": SIGNED, "unsigned integer": UNSIGNED, "integral": INTEGERS, "real floating": FLOATS, "complex floating": (),
             "numeric": NUMBERS}
    for name, (kind, of) in itertools.product(ANY, kinds.items()):
        assert gx.isdtype(getattr(gx, name), kind) == (name in of), (name, kind)
    assert gx.isdtype(gx.int8, gx.int8)
    assert gx.isdtype(gx.int8, ("bool", gx.int8))
    assert not gx.isdtype(gx.int8, (gx.int16, "real floating"))
    for name in FLOATS:
        ours, numpys = gx.finfo(getattr(gx, name)), np.finfo(name)
        assert (ours.bits, ours.eps, ours.max, ours.min, ours.smallest_normal) == (numpys.bits, numpys.eps, numpys.max, numpys.min, numpys.tiny)
        assert ours.dtype == getattr(gx, name)
        assert gx.finfo(gx.ones(2, dtype=name)) == ours
    for name in INTEGERS:
        whole, numpy_whole = gx.iinfo(getattr(gx, name)), np.iinfo(name)
        assert (whole.bits, whole.max, whole.min) == (numpy_whole.bits, numpy_whole.max, numpy_whole.min)
    for half, eps, most in ((gx.float16, 2.0**-10, 65504.0), (gx.bfloat16, 2.0**-7, (2 - 2.0**-7) * 2.0**127)):         # beyond the standard
        assert (gx.finfo(half).bits, gx.finfo(half).eps, gx.finfo(half).max) == (16, eps, most)
        assert gx.isdtype(half, "real floating")
        assert gx.isdtype(half, "numeric")
        assert gx.result_type(half, gx.int64) == gx.result_type(half, 1.5) == half
        assert gx.result_type(half, gx.float32) == gx.float32
        assert gx.can_cast(half, gx.float32)
        assert not gx.can_cast(gx.float32, half)
        assert gx.signbit(gx.asarray([-0.0, 1.0]).astype(half)).tolist() == [True, False]
        with pytest.raises(gx.GraphError, match="does not compute in"):
            gx.copysign(gx.ones(2).astype(half), -1.0)
    x = gx.asarray([1.5, -1.5])
    assert gx.astype(x, gx.int32).tolist() == [1, -1]
    assert gx.astype(x, gx.float32, copy=False) is x
    assert gx.astype(x, gx.float32) is not x
    assert gx.astype(gx.asarray([0.0, 2.0]), gx.bool).tolist() == [False, True]


@pytest.mark.parametrize(("call", "words"), [
    (lambda: gx.finfo(gx.int8), "finfo is for floating dtypes"), (lambda: gx.iinfo(gx.float32), "iinfo is for integer dtypes"),
    (lambda: gx.isdtype(gx.int8, "whole"), "no kind of dtypes 'whole'"), (lambda: gx.result_type(), "result_type of nothing"),
    (lambda: gx.ones(2, device="gpu"), "no device 'gpu'"), (lambda: gx.asarray([1.0], copy=False), "without a copy"),
    (lambda: gx.ones(2).__array_namespace__(api_version="1999.12"), "none that graphc follows"), (lambda: gx.nonzero(gx.ones(())), "without axes"),
    (lambda: gx.searchsorted(gx.ones((2, 2)), gx.ones(2)), "needs a 1-D tensor"), (lambda: gx.linalg.cross(gx.ones((2, 4)), gx.ones((2, 4))), "vectors of 3"),
    (lambda: gx.linalg.matrix_norm(gx.ones((2, 2)), ord=3), "no matrix norm 3"),
    (lambda: gx.linalg.matrix_power(gx.ones((2, 3)), 2), "square matrices"), (lambda: gx.meshgrid(gx.ones((2, 2))), "1-D arrays"),
    (lambda: gx.repeat(gx.ones(2), -1), "repeat by -1"), (lambda: gx.repeat(gx.ones(2), gx.asarray([1, 2, 3])), "one count >= 0"),
    (lambda: gx.roll(gx.ones((2, 2)), (1, 2), axis=(0,)), "2 shifts along 1 axes"),
])
def test_errors(call: Any, words: str) -> None:
    with pytest.raises(gx.GraphError, match=words):
        call()


# ---- code that is written for the standard -------------------------------------------------------------------------------------------


def _standardised(x: Any) -> Any:
    xp = x.__array_namespace__(api_version="2024.12")
    z = (x - xp.mean(x, axis=0, keepdims=True)) / xp.std(x, axis=0, keepdims=True)
    order = xp.argsort(xp.linalg.vector_norm(z, axis=1), descending=True)
    top = xp.take(z, order[:2], axis=0)
    return xp.concat([top, xp.astype(xp.expand_dims(xp.arange(z.shape[1]), axis=0), z.dtype)], axis=0), xp.any(z > 1, axis=1)


def test_generic_code() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3))
    for got, want in zip(_standardised(gx.asarray(x)), gx.compile(lambda x: _standardised(x))(x), strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)
    z = (x - x.mean(0)) / x.std(0)
    order = np.argsort(-np.linalg.norm(z, axis=1))
    np.testing.assert_allclose(_standardised(gx.asarray(x))[0].numpy(), [*z[order[:2]], [0, 1, 2]], rtol=1e-12)


def test_inspection() -> None:
    info = gx.__array_namespace_info__()
    assert info.default_device() in info.devices()
    assert info.default_dtypes() == {"real floating": gx.float32, "integral": gx.int64, "indexing": gx.int64}
    assert set(info.dtypes(kind="unsigned integer")) == set(UNSIGNED)
    assert info.capabilities() == {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}
    seen = []
    gx.compile(lambda x: (seen.append(gx.__array_namespace_info__().capabilities()["boolean indexing"]), x + 1)[1])(np.ones(2, np.float32))
    assert seen == [False]
    assert gx.ones(2).to_device("cpu").device == "cpu"
    assert np.from_dlpack(gx.ones(2)).tolist() == gx.from_dlpack(np.ones(2)).tolist() == [1.0, 1.0]
