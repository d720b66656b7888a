"""Writes docs/array_api.md: the functions of the Array API standard beside graphc's. A test says when the page is no longer what is so.

    python docs/make_array_api.py

The signatures are the standard's; whether graphc's take every call that they allow is found by comparing them, so that a deviation is either in
`DEVIATIONS`, with its reason, or a failing test.
"""
from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent)]

import graphc as gx  # noqa: E402

HEAD = """# The Array API

Written by `docs/make_array_api.py`; do not edit. graphc follows version {version} of the
[Python array API standard](https://data-apis.org/array-api/{version}/) at its top level, with `graphc.linalg` as the extension `linalg`. Every function
computes at once on Tensors and NumPy arrays, and is traced in a compiled function.

A function that is *as stated* takes every call that its signature in the standard allows and gives the dtypes and the special values that the standard states:
`tests/array/test_standard.py` goes through them, eagerly and in machine code. What graphc takes beyond that is named; it is always optional.

"""
ONE = (
    "abs acos acosh asin asinh atan atanh bitwise_invert ceil conj cos cosh exp expm1 floor imag isfinite isinf isnan log log10 log1p log2 "
    "logical_not negative positive real reciprocal round sign signbit sin sinh sqrt square tan tanh trunc "
)
TWO = (
    "add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign divide equal floor_divide greater greater_equal "
    "hypot less less_equal logaddexp logical_and logical_or logical_xor maximum minimum multiply nextafter not_equal pow remainder subtract "
)
STANDARD: dict[str, str] = {
    "Creation": """
arange(start, /, stop=None, step=1, *, dtype=None, device=None)
asarray(obj, /, *, dtype=None, device=None, copy=None)
empty(shape, *, dtype=None, device=None)
empty_like(x, /, *, dtype=None, device=None)
eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)
from_dlpack(x, /, *, device=None, copy=None)
full(shape, fill_value, *, dtype=None, device=None)
full_like(x, /, fill_value, *, dtype=None, device=None)
linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True)
meshgrid(*arrays, indexing="xy")
ones(shape, *, dtype=None, device=None)
ones_like(x, /, *, dtype=None, device=None)
tril(x, /, *, k=0)
triu(x, /, *, k=0)
zeros(shape, *, dtype=None, device=None)
zeros_like(x, /, *, dtype=None, device=None)
""",
    "Dtypes": """
astype(x, dtype, /, *, copy=True, device=None)
can_cast(from_, to, /)
finfo(type, /)
iinfo(type, /)
isdtype(dtype, kind)
result_type(*arrays_and_dtypes)
""",
    "Elementwise": "\n".join([*(f"{name}(x, /)" for name in ONE.split()), "clip(x, /, min=None, max=None)", *(f"{name}(x1, x2, /)" for name in TWO.split())]),
    "Indexing": """
take(x, indices, /, *, axis=None)
take_along_axis(x, indices, /, *, axis=-1)
""",
    "Linear algebra": """
matmul(x1, x2, /)
matrix_transpose(x, /)
tensordot(x1, x2, /, *, axes=2)
vecdot(x1, x2, /, *, axis=-1)
linalg.cholesky(x, /, *, upper=False)
linalg.cross(x1, x2, /, *, axis=-1)
linalg.det(x, /)
linalg.diagonal(x, /, *, offset=0)
linalg.eigh(x, /)
linalg.eigvalsh(x, /)
linalg.inv(x, /)
linalg.matmul(x1, x2, /)
linalg.matrix_norm(x, /, *, keepdims=False, ord="fro")
linalg.matrix_power(x, n, /)
linalg.matrix_rank(x, /, *, rtol=None)
linalg.matrix_transpose(x, /)
linalg.outer(x1, x2, /)
linalg.pinv(x, /, *, rtol=None)
linalg.qr(x, /, *, mode="reduced")
linalg.slogdet(x, /)
linalg.solve(x1, x2, /)
linalg.svd(x, /, *, full_matrices=True)
linalg.svdvals(x, /)
linalg.tensordot(x1, x2, /, *, axes=2)
linalg.trace(x, /, *, offset=0, dtype=None)
linalg.vecdot(x1, x2, /, *, axis=-1)
linalg.vector_norm(x, /, *, axis=None, keepdims=False, ord=2)
""",
    "Manipulation": """
broadcast_arrays(*arrays)
broadcast_to(x, /, shape)
concat(arrays, /, *, axis=0)
expand_dims(x, /, axis)
flip(x, /, *, axis=None)
moveaxis(x, source, destination, /)
permute_dims(x, /, axes)
repeat(x, repeats, /, *, axis=None)
reshape(x, /, shape, *, copy=None)
roll(x, /, shift, *, axis=None)
squeeze(x, /, axis)
stack(arrays, /, *, axis=0)
tile(x, repetitions, /)
unstack(x, /, *, axis=0)
""",
    "Searching": """
argmax(x, /, *, axis=None, keepdims=False)
argmin(x, /, *, axis=None, keepdims=False)
count_nonzero(x, /, *, axis=None, keepdims=False)
nonzero(x, /)
searchsorted(x1, x2, /, *, side="left", sorter=None)
where(condition, x1, x2, /)
""",
    "Sets": "\n".join(f"unique_{what}(x, /)" for what in ("all", "counts", "inverse", "values")),
    "Sorting": """
argsort(x, /, *, axis=-1, descending=False, stable=True)
sort(x, /, *, axis=-1, descending=False, stable=True)
""",
    "Statistics": """
cumulative_prod(x, /, *, axis=None, dtype=None, include_initial=False)
cumulative_sum(x, /, *, axis=None, dtype=None, include_initial=False)
max(x, /, *, axis=None, keepdims=False)
mean(x, /, *, axis=None, keepdims=False)
min(x, /, *, axis=None, keepdims=False)
prod(x, /, *, axis=None, dtype=None, keepdims=False)
std(x, /, *, axis=None, correction=0.0, keepdims=False)
sum(x, /, *, axis=None, dtype=None, keepdims=False)
var(x, /, *, axis=None, correction=0.0, keepdims=False)
""",
    "Utilities": """
all(x, /, *, axis=None, keepdims=False)
any(x, /, *, axis=None, keepdims=False)
diff(x, /, *, axis=-1, n=1, prepend=None, append=None)
""",
    "Inspection": """
__array_namespace_info__()
""",
}
ATTRIBUTES = (
    "T device dtype mT ndim shape size to_device "
)
OPERATORS = (
    "abs add and array_namespace bool complex dlpack dlpack_device eq float floordiv ge getitem gt index int invert le lshift lt matmul mod mul "
    "ne neg or pos pow rshift setitem sub truediv xor radd rand rfloordiv rlshift rmatmul rmod rmul ror rpow rrshift rsub rtruediv rxor iadd isub "
    "imul itruediv "
)
CONSTANTS = (
    "e inf nan newaxis pi "
)
DTYPES = (
    "bool float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 "
)

DEVIATIONS: dict[str, str] = {}                         # none: every call that the standard allows is taken
NOTES: dict[str, str] = {                               # what the values of a function do that the standard does not ask for, or asks otherwise
    "asarray": "always a copy of what is not a Tensor; `copy=False` refuses, with a `GraphError`",
    "from_dlpack": "always a copy",
    "empty": "zeros: there is no memory that is not initialised",
    "empty_like": "zeros",
    "arange": "the bounds are Python numbers; a symbolic size may stand for `stop`",
    "can_cast": "promotion is torch's: integers can be cast to every floating dtype",
    "result_type": "of any two dtypes, also of different kinds",
    "astype": "float to integer truncates and saturates",
    "floor_divide": "an integer over 0 is 0",
    "remainder": "an integer modulo 0 is 0",
    "bitwise_left_shift": "the shift is modulo the width",
    "bitwise_right_shift": "the shift is modulo the width",
    "nextafter": "compiled, a denormal result is 0 unless `flush_denormals=False`",
    "pow": "of integers to a negative power the real result rounded toward 0",
    "conj": "there are no complex dtypes",
    "imag": "there are no complex dtypes: zeros",
    "real": "there are no complex dtypes",
    "matmul": "f32 with f64 is refused (so by every product here): it is nearly always data that should be converted once",
    "linalg.eigh": "of (x + xᵀ) / 2; signs are fixed",
    "linalg.qr": "R's diagonal is >= 0",
    "linalg.svd": "signs are fixed",
    "linalg.cholesky": "of (x + xᵀ) / 2; NaN where that is not positive definite",
    "linalg.inv": "NaN where x is singular",
    "linalg.solve": "NaN where x1 is singular",
    "take": "an index that is out of range is an error of the call, in machine code too; negative ones count from the end",
    "take_along_axis": "as `take`",
    "repeat": "in a trace `repeats` is an int or known when it is traced: it decides a size",
    "reshape": "never visible to other tensors, so `copy` changes nothing",
    "nonzero": "not in a trace: its size depends on data",
    "where": "the condition is a tensor or a Python bool",
    "searchsorted": "NaN is largest, as in `sort`",
    "argsort": "always stable; NaN is largest, either way round",
    "sort": "always stable; NaN is largest, either way round",
    "max": "NaN if any element is",
    "min": "NaN if any element is",
    **{f"unique_{what}": "in rising order; not in a trace: its size depends on data" for what in ("all", "counts", "inverse", "values")},
}
OTHERWISE = [                                           # subject, the standard, graphc, why
    ("complex dtypes", "`complex64`, `complex128`", "none", "no training step here has needed them; `real`, `imag`, `conj` take real tensors"),
    ("errors", "`ValueError`, `IndexError`, `TypeError` in a few places",
     "`GraphError`, with what, op, at, why and fix; it is an `IndexError` where an index is out of range at run time",
     "one kind of error for whatever a user can mend"),
    ("kinds that meet", "left open",
     "torch's lattice: f32 with i64 is f32, bool with i8 is i8; a Python number is weak",
     "a training loop mixes them all the time"),
    ("`uint64` with signed integers", "left open", "i64", "no dtype holds both"),
    ("sizes that depend on data", "boolean masks, `nonzero`, `unique_*`, `repeat` by a tensor",
     "at once as stated; refused in a trace, with the reason and what to write instead",
     "sizes are fixed when a function is traced"),
    ("`x[key] = value`", "writes into an array",
     "x is `x.at[key].set(value)` from there on; no other Tensor changes",
     "Tensors are values: nothing aliases"),
    ("views, `copy=`", "may share memory", "Tensors never share memory that a user can write", "the same"),
    ("denormals", "kept",
     "compiled, flushed to 0 unless `flush_denormals=False`",
     "optimizer slots of idle units decay into them and slow a step manyfold"),
    ("`float16`, `bfloat16`", "not in it", "dtypes of storage: they are moved, indexed, converted, and refused by arithmetic in words",
     "[decision 009](decisions/009-half-precision-is-storage.md)"),
    ("devices", "any", '`"cpu"`', "graphc compiles for the CPU"),
    ("the extension `fft`", "optional", "none", "nothing has asked for it"),
]
BEYOND = """
## Beyond the standard

NumPy's and torch's `einsum`, `topk`, `gather`, `scatter`, `put_along_axis`, `isin`, `kron`, `diag`, `pad`, `window` and `fold`, `softmax` and its family, the
activations, `erf`, `ndtr`, `cbrt`, `rsqrt`, `one_hot`, `split`; [the table of names](migration.md) has them beside torch's. And of JAX
`x.at[key].set`, `add`, `subtract`, `multiply`, `divide`, `min` and `max`, with all of NumPy's indexing as the key.
"""


def signatures() -> Iterator[tuple[str, str, inspect.Signature]]:
    """Section, name and signature of each function of the standard."""
    for section, lines in STANDARD.items():
        for line in lines.strip().splitlines():
            name, paren, rest = line.partition("(")
            scope: dict[str, Any] = {}
            exec(f"def f{paren}{rest}: ...", scope)
            yield section, name, inspect.signature(scope["f"])


def find(name: str) -> Any:
    """graphc's function of that name, or None."""
    found: Any = gx
    for part in name.split("."):
        found = getattr(found, part, None)
    return None if isinstance(found, ModuleType) else found


def difference(name: str, want: inspect.Signature) -> str | None:
    """Why graphc's function does not take every call that the standard allows; None if it does."""
    f = find(name)
    if f is None:
        return "missing"
    ours = inspect.signature(f).parameters
    positional = [p for p in ours.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    several = any(p.kind is p.VAR_POSITIONAL for p in ours.values())
    for k, (what, p) in enumerate(want.parameters.items()):
        if p.kind is p.VAR_POSITIONAL:
            if not several:
                return f"no *{what}"
            continue
        if p.kind is not p.KEYWORD_ONLY and not several:
            if k >= len(positional):
                return f"{what} is not taken by position"
            if (positional[k].default is p.empty) > (p.default is p.empty) or (p.default is not p.empty and positional[k].default != p.default):
                return f"{what} is {positional[k].default} by default"
        if p.kind is not p.POSITIONAL_ONLY:
            mine = ours.get(what)
            if mine is None or mine.kind in (mine.POSITIONAL_ONLY, mine.VAR_POSITIONAL):
                return f"{what}= is not taken"
            if p.default is not p.empty and mine.default != p.default:
                return f"{what}= is {mine.default} by default"
    needed = [p.name for p in ours.values() if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(needed) > sum(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in want.parameters.values()):
        return f"{needed[-1]} is needed"
    return None


def beyond(name: str, want: inspect.Signature) -> list[str]:
    """Arguments that graphc takes and the standard does not name."""
    known = set(want.parameters)
    return [p.name for p in inspect.signature(find(name)).parameters.values()
            if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name not in known and p.default is not p.empty]


def row(name: str, want: inspect.Signature) -> str:
    said = DEVIATIONS.get(name)
    if said is None:
        more = beyond(name, want)
        parts = ["as stated", *([f"also {', '.join(f'`{m}`' for m in more)}"] if more else []), *([NOTES[name]] if name in NOTES else [])]
        said = "; ".join(parts)
    return f"| `{name}{want}` | {said} |"


def page() -> str:
    parts = [HEAD.format(version=gx.__array_api_version__)]
    section = ""
    for where, name, want in signatures():
        if where != section:
            section = where
            parts.append(f"\n## {section}\n\n| the standard | graphc |\n|---|---|\n")
        parts.append(row(name, want) + "\n")
    parts.append("\n## Tensors, dtypes, constants\n\n")
    attributes, dtypes, constants = (", ".join(f"`{n}`" for n in names) for names in (ATTRIBUTES.split(), DTYPES.split(), CONSTANTS.split()))
    parts.append(f"A Tensor has {attributes} and the standard's operators, from the left, from the right and in place. The dtypes are {dtypes}; the constants "
                 f"{constants}.\n\n")
    parts.append("## What is otherwise\n\n| subject | the standard | graphc | why |\n|---|---|---|---|\n")
    parts += [f"| {' | '.join(r)} |\n" for r in OTHERWISE]
    parts.append(BEYOND)
    return "".join(parts)


if __name__ == "__main__":
    (DOCS / "array_api.md").write_text(page(), encoding="utf-8")
    print(f"array_api.md: {sum(1 for _ in signatures())} functions, {len(DEVIATIONS)} of them otherwise")
