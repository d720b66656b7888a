"""The special cases of the elementwise functions as the Array API 2024.12 states them, for real operands: data for `test_standard`.

A case is "operands -> result". An operand is a number, or a class of them (`CLASSES`): the case then holds for each of its numbers, and for each pair. A
result is a number, an operand (x1, x2), or one of those that the standard leaves to a library, with | between them; ~ marks an approximation. Zeros have
their sign.
"""
from __future__ import annotations

import math
from collections.abc import Iterator

INF, NAN = math.inf, math.nan

CLASSES: dict[str, tuple[float, ...]] = {
    "nan": (NAN,), "inf": (INF,), "-inf": (-INF,), "+0": (0.0,), "-0": (-0.0,), "1": (1.0,), "-1": (-1.0,), "0": (0.0, -0.0), "infs": (INF, -INF),
    "any": (NAN, INF, -INF, 0.0, -0.0, 1.0, -2.5), "number": (INF, -INF, 0.0, -0.0, 1.0, -2.5),
    "pos": (0.25, 1.0, 3.0), "neg": (-0.25, -1.0, -3.0), "finite": (0.0, -0.0, 0.25, -3.0), "nonzero": (0.25, -3.0, 2.0**100, -(2.0**100)),
    ">0": (0.25, 3.0, INF), "<0": (-0.25, -3.0, -INF), ">1": (1.5, INF), "<-1": (-1.5, -INF), "<1": (0.5, -2.0, -INF), "outside": (1.5, -1.5, INF, -INF),
    "not 1": (NAN, INF, 0.0, -0.0, -1.0, 2.0), "not 0": (NAN, INF, -INF, 1.0, -2.5), "large": (1.5, -1.5, -INF, INF), "small": (0.5, -0.5, 0.0, -0.0),
    "odd>0": (1.0, 3.0), "odd<0": (-1.0, -3.0), "even>0": (2.0, 0.5, INF), "even<0": (-2.0, -0.5, -INF),
    "fraction": (0.5, -1.5), "whole": (-2.0, 0.0, -0.0, 7.0),
}

SPECIAL: dict[str, str] = {
    "abs": "nan -> nan; -0 -> +0; -inf -> inf",
    "acos": "nan -> nan; >1 -> nan; <-1 -> nan; 1 -> +0",
    "acosh": "nan -> nan; <1 -> nan; 1 -> +0; inf -> inf",
    "add": "nan any -> nan; any nan -> nan; inf -inf -> nan; -inf inf -> nan; inf inf -> inf; -inf -inf -> -inf; inf finite -> inf; -inf finite -> -inf;"
           "finite inf -> inf; finite -inf -> -inf; -0 -0 -> -0; -0 +0 -> +0; +0 -0 -> +0; +0 +0 -> +0; 0 nonzero -> x2; nonzero 0 -> x1",
    "asin": "nan -> nan; >1 -> nan; <-1 -> nan; +0 -> +0; -0 -> -0",
    "asinh": "nan -> nan; +0 -> +0; -0 -> -0; inf -> inf; -inf -> -inf",
    "atan": "nan -> nan; +0 -> +0; -0 -> -0; inf -> ~pi/2; -inf -> ~-pi/2",
    "atan2": "nan any -> nan; any nan -> nan; >0 0 -> ~pi/2; +0 >0 -> +0; +0 +0 -> +0; +0 -0 -> ~pi; +0 <0 -> ~pi; -0 >0 -> -0; -0 +0 -> -0;"
             "-0 -0 -> ~-pi; -0 <0 -> ~-pi; <0 0 -> ~-pi/2; pos inf -> +0; pos -inf -> ~pi; neg inf -> -0; neg -inf -> ~-pi;"
             "inf finite -> ~pi/2; -inf finite -> ~-pi/2; inf inf -> ~pi/4; inf -inf -> ~3*pi/4; -inf inf -> ~-pi/4; -inf -inf -> ~-3*pi/4",
    "atanh": "nan -> nan; <-1 -> nan; >1 -> nan; -1 -> -inf; 1 -> inf; +0 -> +0; -0 -> -0",
    "ceil": "whole -> x1; inf -> inf; -inf -> -inf; +0 -> +0; -0 -> -0; nan -> nan",
    "copysign": "number <0 -> -abs(x1); number -0 -> -abs(x1); number +0 -> abs(x1); number >0 -> abs(x1)",
    "cos": "nan -> nan; 0 -> 1; infs -> nan",
    "cosh": "nan -> nan; 0 -> 1; infs -> inf",
    "divide": "nan any -> nan; any nan -> nan; infs infs -> nan; 0 0 -> nan; +0 >0 -> +0; -0 >0 -> -0; +0 <0 -> -0; -0 <0 -> +0; >0 +0 -> inf; >0 -0 -> -inf;"
              "<0 +0 -> -inf; <0 -0 -> inf; inf pos -> inf; inf neg -> -inf; -inf pos -> -inf; -inf neg -> inf; pos inf -> +0; pos -inf -> -0; neg inf -> -0;"
              "neg -inf -> +0",
    "equal": "nan any -> false; any nan -> false; inf inf -> true; -inf -inf -> true; 0 0 -> true; inf -inf -> false; finite infs -> false",
    "exp": "nan -> nan; 0 -> 1; inf -> inf; -inf -> +0",
    "expm1": "nan -> nan; +0 -> +0; -0 -> -0; inf -> inf; -inf -> -1",
    "floor": "whole -> x1; inf -> inf; -inf -> -inf; +0 -> +0; -0 -> -0; nan -> nan",
    "floor_divide": "nan any -> nan; any nan -> nan; infs infs -> nan; 0 0 -> nan; +0 >0 -> +0; -0 pos -> -0; +0 neg -> -0; -0 <0 -> +0; pos +0 -> inf;"
                    "pos -0 -> -inf; neg +0 -> -inf; neg -0 -> inf; inf pos -> inf|nan; inf neg -> -inf|nan; -inf pos -> -inf|nan; -inf neg -> inf|nan;"
                    "pos inf -> +0; pos -inf -> -0|-1; neg inf -> -0|-1; neg -inf -> +0",
    "greater": "nan any -> false; any nan -> false; inf finite -> true; finite -inf -> true; 0 0 -> false",
    "greater_equal": "nan any -> false; any nan -> false; inf inf -> true; 0 0 -> true; -inf finite -> false",
    "hypot": "infs any -> inf; any infs -> inf; finite nan -> nan; nan finite -> nan; nan nan -> nan; 0 nonzero -> abs(x2)",
    "isfinite": "infs -> false; nan -> false; finite -> true",
    "isinf": "infs -> true; finite -> false; nan -> false",
    "isnan": "nan -> true; number -> false",
    "less": "nan any -> false; any nan -> false; finite inf -> true; -inf finite -> true; 0 0 -> false",
    "less_equal": "nan any -> false; any nan -> false; inf inf -> true; 0 0 -> true; inf finite -> false",
    "log": "nan -> nan; <0 -> nan; 0 -> -inf; 1 -> +0; inf -> inf",
    "log1p": "nan -> nan; <-1 -> nan; -1 -> -inf; -0 -> -0; +0 -> +0; inf -> inf",
    "log2": "nan -> nan; <0 -> nan; 0 -> -inf; 1 -> +0; inf -> inf",
    "log10": "nan -> nan; <0 -> nan; 0 -> -inf; 1 -> +0; inf -> inf",
    "logaddexp": "nan any -> nan; any nan -> nan; inf number -> inf; number inf -> inf; -inf -inf -> -inf; -inf pos -> x2",
    "maximum": "nan any -> nan; any nan -> nan; inf number -> inf; number -inf -> x1",
    "minimum": "nan any -> nan; any nan -> nan; -inf number -> -inf; number inf -> x1",
    "multiply": "nan any -> nan; any nan -> nan; infs 0 -> nan; 0 infs -> nan; inf >0 -> inf; inf <0 -> -inf; -inf >0 -> -inf; -inf <0 -> inf; >0 inf -> inf;"
                ">0 -inf -> -inf; <0 inf -> -inf; <0 -inf -> inf; +0 neg -> -0; -0 neg -> +0; +0 pos -> +0; -0 pos -> -0",
    "negative": "nan -> nan; inf -> -inf; -inf -> inf; +0 -> -0; -0 -> +0",
    "nextafter": "nan any -> nan; any nan -> nan; -0 +0 -> +0; +0 -0 -> -0",
    "not_equal": "nan any -> true; any nan -> true; inf -inf -> true; -inf inf -> true; inf inf -> false; 0 0 -> false; pos neg -> true",
    "positive": "any -> x1",
    "pow": "not 1 nan -> nan; any 0 -> 1; nan not 0 -> nan; large inf -> inf; large -inf -> +0; 1 infs -> 1; -1 infs -> 1; 1 number -> 1; small inf -> +0;"
           "small -inf -> inf; inf >0 -> inf; inf <0 -> +0; -inf odd>0 -> -inf; -inf even>0 -> inf; -inf odd<0 -> -0; -inf even<0 -> +0; +0 >0 -> +0;"
           "+0 <0 -> inf; -0 odd>0 -> -0; -0 even>0 -> +0; -0 odd<0 -> -inf; -0 even<0 -> inf; neg fraction -> nan",
    "reciprocal": "nan -> nan; +0 -> inf; -0 -> -inf; inf -> +0; -inf -> -0",
    "remainder": "nan any -> nan; any nan -> nan; infs infs -> nan; 0 0 -> nan; 0 >0 -> +0; 0 <0 -> -0; >0 0 -> nan; <0 0 -> nan; infs pos -> nan;"
                 "infs neg -> nan; pos inf -> x1; pos -inf -> x2; neg inf -> x2; neg -inf -> x1",
    "round": "whole -> x1; inf -> inf; -inf -> -inf; +0 -> +0; -0 -> -0; nan -> nan; 0.5 -> +0; 1.5 -> 2; -2.5 -> -2; -0.5 -> -0",
    "sign": "<0 -> -1; 0 -> 0; >0 -> 1; nan -> nan",
    "signbit": "+0 -> false; -0 -> true; inf -> false; -inf -> true; pos -> false; neg -> true",
    "sin": "nan -> nan; +0 -> +0; -0 -> -0; infs -> nan",
    "sinh": "nan -> nan; +0 -> +0; -0 -> -0; inf -> inf; -inf -> -inf",
    "sqrt": "nan -> nan; <0 -> nan; +0 -> +0; -0 -> -0; inf -> inf",
    "square": "nan -> nan; infs -> inf; 0 -> +0",
    "subtract": "nan any -> nan; any nan -> nan; inf inf -> nan; -inf -inf -> nan; inf -inf -> inf; -inf inf -> -inf; -0 -0 -> +0; -0 +0 -> -0; +0 -0 -> +0;"
                "+0 +0 -> +0; nonzero 0 -> x1",
    "tan": "nan -> nan; +0 -> +0; -0 -> -0; infs -> nan",
    "tanh": "nan -> nan; +0 -> +0; -0 -> -0; inf -> 1; -inf -> -1",
    "trunc": "whole -> x1; inf -> inf; -inf -> -inf; +0 -> +0; -0 -> -0; nan -> nan",
}

Case = tuple[tuple[float, ...], tuple[object, ...], bool]                # the operands, the results that may be, whether they are approximations


def cases(name: str) -> Iterator[Case]:
    """The cases of a function, one for each combination of numbers."""
    for line in SPECIAL[name].split(";"):
        left, _, right = line.partition("->")
        for operands in _operands(left.strip()):
            given = dict(zip(("x1", "x2"), operands))
            right = right.strip()
            yield operands, tuple(_result(r, given) for r in right.lstrip("~").split("|")), right.startswith("~")


def _operands(text: str) -> Iterator[tuple[float, ...]]:
    """One class, or two: "not 0" has a blank in it."""
    for first, rest in ((text[:k].strip(), text[k:].strip()) for k in range(len(text), 0, -1) if k == len(text) or text[k] == " "):
        xs, ys = _numbers(first), _numbers(rest) if rest else None
        if xs and (ys or not rest):
            yield from ((x,) if ys is None else (x, y) for x in xs for y in (ys or (0.0,)))
            return
    raise ValueError(text)


def _numbers(text: str) -> tuple[float, ...]:
    if text in CLASSES:
        return CLASSES[text]
    try:
        return (float(text),)
    except ValueError:
        return ()


def _result(text: str, given: dict[str, float]) -> object:
    if text in ("true", "false"):
        return text == "true"
    value = eval(text, {"nan": NAN, "inf": INF, "pi": math.pi, "abs": abs, **given})
    return -0.0 if text == "-0" else float(value)
