"""Arithmetic on values as LLVM text: what each operator of the loop IR is made of, for scalars and vectors alike.

*Text is the value number*: in straight-line code the same instruction text is the same value, and is written once. No instruction carries a
fast-math flag, none can trap, and none becomes a call into a library: rounding is spelt out where the machine lacks it.
"""
from __future__ import annotations

import math
from typing import Any

from ..core.dtype import DType, bool_, f32, i64
from ..core.target import Target
from .types import Val, literal, scalar, suffix, typed

COMPARE = {"<": "lt", "<=": "le", "==": "eq", "!=": "ne"}
FLOAT = {"+": "fadd", "-": "fsub", "*": "fmul", "/": "fdiv"}
INTEGER = {"+": "add", "-": "sub", "*": "mul", "and": "and", "or": "or", "xor": "xor"}
ROUND = {"floor": "floor", "ceil": "ceil", "round": "roundeven", "trunc": "trunc"}


class Values:
    """Instructions in order, and what is known at this point."""

    def __init__(self, target: Target, lanes: int) -> None:
        self.target, self.L = target, lanes
        self.lines: list[str] = []
        self.known: dict[Any, Any] = {}                         # instructions (and loads) that dominate this point -> their names
        self.declared: dict[str, str] = {}                      # intrinsics by name
        self.heads: dict[tuple[str, str], str] = {}
        self.count = 0

    def name(self, hint: str) -> str:
        self.count += 1
        return f"{hint}{self.count}"

    def do(self, text: str) -> None:
        self.lines.append("  " + text)

    def op(self, text: str) -> str:
        name: str | None = self.known.get(text)
        if name is None:
            self.count += 1
            self.known[text] = name = f"%v{self.count}"
            self.lines.append(f"  {name} = {text}")
        return name

    def call(self, result: str, intrinsic: str, *args: tuple[str, str]) -> str:
        """The text of a call of llvm.<intrinsic>, which is declared; args are (type, text)."""
        if intrinsic not in self.declared:
            self.declared[intrinsic] = f"declare {result} @llvm.{intrinsic}({', '.join(t for t, _ in args)})"
        return f"call {result} @llvm.{intrinsic}({', '.join(f'{t} {a}' for t, a in args)})"

    def intrinsic(self, name: str, ty: str, *args: str) -> str:
        """An intrinsic of one type."""
        head = self.heads.get((name, ty))
        if head is None:
            self.call(ty, f"{name}.{suffix(ty)}", *((ty, a) for a in args))
            head = self.heads[name, ty] = f"call {ty} @llvm.{name}.{suffix(ty)}({ty} "
        return self.op(f"{head}{f', {ty} '.join(args)})")

    # ---- scalars into lanes and back ------------------------------------------------------------------------------------------------

    def widen(self, v: Val) -> str:
        text, dtype, lanes = v
        if lanes > 1:
            return text
        if text[0] != "%":
            return f"splat ({scalar(dtype)} {text})"
        wide: str | None = self.known.get((text, self.L))
        if wide is None:
            ty = typed(dtype, self.L)
            one = self.op(f"insertelement {ty} poison, {scalar(dtype)} {text}, i64 0")
            self.known[text, self.L] = wide = self.op(f"shufflevector {ty} {one}, {ty} poison, <{self.L} x i32> zeroinitializer")
        return wide

    def align(self, *vals: Val) -> tuple[int, list[str]]:
        """Lanes of the result, and the operands as that many."""
        lanes = max([v[2] for v in vals])
        return lanes, [v[0] if lanes == 1 else self.widen(v) for v in vals]

    def fold_lanes(self, op: str, text: str, dtype: DType) -> str:
        """All lanes combined pairwise, upper half with lower half: a tree that depends on the number of lanes alone."""
        n = self.L
        while n > 1:
            half = n // 2
            low, high = (self.piece(text, dtype, n, at, half) for at in (0, half))
            text, n = self.combine(op, (low, dtype, half), (high, dtype, half))[0], half
        return text

    def piece(self, text: str, dtype: DType, lanes: int, at: int, n: int) -> str:
        """Lanes at:at+n of a vector of that many."""
        ty = typed(dtype, lanes)
        if n == 1:
            return self.op(f"extractelement {ty} {text}, i64 {at}")
        return self.op(f"shufflevector {ty} {text}, {ty} poison, <{n} x i32> <{', '.join(f'i32 {i}' for i in range(at, at + n))}>")

    def combine(self, op: str, a: Val, b: Val) -> Val:
        """a op b, where an accumulation of bools is `or` and `and`."""
        if a[1] is bool_:
            return self.bin("or" if op in ("+", "max") else "and", a, b)
        return self.bin(op, a, b)

    # ---- operators ------------------------------------------------------------------------------------------------------------------

    def bin(self, op: str, a: Val, b: Val) -> Val:
        dtype = a[1]
        assert dtype is b[1], f"{op} of {dtype} and {b[1]}"
        lanes, (x, y) = self.align(a, b)
        ty = typed(dtype, lanes)
        if op in COMPARE:
            test = COMPARE[op]
            if dtype is i64 and lanes == 1 and x[0] != "%" and y[0] != "%":              # indices of unrolled loops
                m, n = int(x), int(y)
                return "true" if {"<": m < n, "<=": m <= n, "==": m == n, "!=": m != n}[op] else "false", bool_, 1
            if dtype.is_float:
                test = "une" if op == "!=" else "o" + test
                return self.op(f"fcmp {test} {ty} {x}, {y}"), bool_, lanes
            sign = "" if op in ("==", "!=") else "s" if dtype.kind == "int" else "u"
            return self.op(f"icmp {sign}{test} {ty} {x}, {y}"), bool_, lanes
        if op in ("max", "min"):
            return self.extreme(op, a, b), dtype, lanes
        if dtype.is_float:
            return self.op(f"{FLOAT[op]} {ty} {x}, {y}"), dtype, lanes
        if op in INTEGER:
            return self.op(f"{INTEGER[op]} {ty} {x}, {y}"), dtype, lanes
        if op in ("<<", ">>"):
            n = self.bin("and", b, (str(dtype.bits - 1), dtype, 1))
            y = self.widen(n) if lanes > 1 else n[0]
            return self.op(f"{'shl' if op == '<<' else 'ashr' if dtype.kind == 'int' else 'lshr'} {ty} {x}, {y}"), dtype, lanes
        if op in ("//", "%"):
            return self.division(op, a, b)
        raise AssertionError(f"no {op} of {dtype}")

    def extreme(self, op: str, a: Val, b: Val) -> str:
        """max or min; of floats, NaN stays and -0 < 0. Beside a literal that is one comparison: max(x, c) is c where c > x, else x; or none: max(x, -inf)."""
        dtype = a[1]
        lanes, (x, y) = self.align(a, b)
        for c, v in ((a, y), (b, x)):
            if c[0] == neutral(op, dtype):
                return v
        ty = typed(dtype, lanes)
        if not dtype.is_float:
            if dtype is bool_:
                return self.op(f"{'or' if op == 'max' else 'and'} {ty} {x}, {y}")
            return self.intrinsic(f"{'s' if dtype.kind == 'int' else 'u'}{op}", ty, x, y)
        for c, v, text in ((a, y, x), (b, x, y)):
            if c[0].startswith("0x") and not is_nan(c[0]):
                wins = literal(0.0 if op == "max" else -0.0, dtype) == c[0]              # the zero that beats its twin
                test = ("oge" if wins else "ogt") if op == "max" else ("ole" if wins else "olt")
                return self.select((self.op(f"fcmp {test} {ty} {text}, {v}"), bool_, lanes), (text, dtype, lanes), (v, dtype, lanes))[0]
        return self.intrinsic("maximum" if op == "max" else "minimum", ty, x, y)

    def division(self, op: str, a: Val, b: Val) -> Val:
        """Integers toward zero, without a trap: dividing by 0 gives 0, and INT_MIN by -1 wraps."""
        dtype = a[1]
        lanes, (x, y) = self.align(a, b)
        ty, sign = typed(dtype, lanes), "s" if dtype.kind == "int" else "u"
        word = {"//": "div", "%": "rem"}[op]
        if b[0][0] != "%" and b[2] == 1 and int(b[0]) not in (0, -1):
            return self.op(f"{sign}{word} {ty} {x}, {y}"), dtype, lanes
        divisor, none, one, down = (y, dtype, lanes), ("0", dtype, 1), ("1", dtype, 1), ("-1", dtype, 1)
        is_zero = self.bin("==", divisor, none)
        minus = self.bin("==", divisor, down) if sign == "s" else None
        odd = self.bin("or", is_zero, minus) if minus else is_zero
        safe = self.select(odd, one, divisor)
        plain: Val = self.op(f"{sign}{word} {ty} {x}, {self.widen(safe) if lanes > 1 else safe[0]}"), dtype, lanes
        if op == "%":
            return self.select(odd, none, plain)
        if minus:
            plain = self.select(minus, self.bin("-", none, (x, dtype, lanes)), plain)
        return self.select(is_zero, none, plain)

    def select(self, cond: Val, a: Val, b: Val) -> Val:
        if cond[0] in ("true", "false"):
            return a if cond[0] == "true" else b
        lanes = max(cond[2], a[2], b[2])
        ty = typed(a[1], lanes)
        x, y = (self.widen(v) if lanes > 1 else v[0] for v in (a, b))
        return self.op(f"select {typed(bool_, cond[2])} {cond[0]}, {ty} {x}, {ty} {y}"), a[1], lanes

    def un(self, op: str, a: Val) -> Val:
        text, dtype, lanes = a
        ty = typed(dtype, lanes)
        if op == "not":
            return self.bin("xor", a, ("true" if dtype is bool_ else "-1", dtype, 1))
        if not dtype.is_float:
            if op == "neg":
                return self.bin("-", ("0", dtype, 1), a)
            if op == "abs" and dtype.kind == "int":
                return self.extreme("max", a, self.bin("-", ("0", dtype, 1), a)), dtype, lanes
            return a                                            # abs of unsigned, rounding of integers
        if op == "neg":
            return self.op(f"fneg {ty} {text}"), dtype, lanes
        if op in ROUND:
            return self.rounded(op, a) if not self.target.fma else (self.intrinsic(ROUND[op], ty, text), dtype, lanes)
        return self.intrinsic({"abs": "fabs", "sqrt": "sqrt"}[op], ty, text), dtype, lanes

    def rounded(self, op: str, x: Val) -> Val:
        """Rounding by adding and taking away 2**23 (2**52): for machines whose vectors cannot round."""
        dtype = x[1]
        zero, one, magic = ((literal(v, dtype), dtype, 1) for v in (0.0, 1.0, 2.0**23 if dtype is f32 else 2.0**52))
        size = self.un("abs", x)
        nearest = self.bin("-", self.bin("+", size, magic), magic)             # of |x|, to even
        if op == "trunc":
            near = self.bin("-", nearest, self.select(self.bin("<", size, nearest), one, zero))
        else:
            near = self.copysign(nearest, x)
            if op == "floor":
                near = self.bin("-", near, self.select(self.bin("<", x, near), one, zero))
            if op == "ceil":
                near = self.bin("+", near, self.select(self.bin("<", near, x), one, zero))
        return self.select(self.bin("<", size, magic), self.copysign(near, x), x)

    def copysign(self, a: Val, b: Val) -> Val:
        lanes, (x, y) = self.align(a, b)
        return self.intrinsic("copysign", typed(a[1], lanes), x, y), a[1], lanes

    def fma(self, a: Val, b: Val, c: Val) -> Val:
        lanes, args = self.align(a, b, c)
        return self.intrinsic("fma" if self.target.fma else "fmuladd", typed(a[1], lanes), *args), a[1], lanes

    def bitcast(self, a: Val, dtype: DType) -> Val:
        text, old, lanes = a
        if scalar(old) == scalar(dtype):
            return text, dtype, lanes
        return self.op(f"bitcast {typed(old, lanes)} {text} to {typed(dtype, lanes)}"), dtype, lanes

    def cast(self, a: Val, dtype: DType) -> Val:
        text, old, lanes = a
        src, dst = typed(old, lanes), typed(dtype, lanes)
        if old is dtype:
            return a
        if dtype is bool_:
            return self.bin("!=", a, (literal(0, old), old, 1))
        if old.is_float and dtype.is_float:
            return self.op(f"{'fpext' if dtype.bits > old.bits else 'fptrunc'} {src} {text} to {dst}"), dtype, lanes
        if old.is_float:
            fn = f"fpto{'s' if dtype.kind == 'int' else 'u'}i.sat.{suffix(dst)}.{suffix(src)}"
            return self.op(self.call(dst, fn, (src, text))), dtype, lanes
        signed = "s" if old.kind == "int" else "u"
        if dtype.is_float:
            return self.op(f"{signed}itofp {src} {text} to {dst}"), dtype, lanes
        if old.bits == dtype.bits:
            return text, dtype, lanes
        return self.op(f"{'trunc' if dtype.bits < old.bits else signed[0] + 'ext' if signed == 's' else 'zext'} {src} {text} to {dst}"), dtype, lanes


def is_nan(text: str) -> bool:
    return int(text, 16) & (1 << 63) - 1 > 0x7FF << 52


def neutral(op: str, dtype: DType) -> str:
    """The literal that changes nothing under op; -0.0 for sums, since 0.0 + -0.0 is 0.0."""
    if op == "+":
        return literal(-0.0, dtype)
    if op == "*":
        return literal(1, dtype)
    if dtype.is_float:
        return literal(-math.inf if op == "max" else math.inf, dtype)
    if dtype is bool_:
        return literal(op == "min", dtype)
    low, high = (-(1 << dtype.bits - 1), (1 << dtype.bits - 1) - 1) if dtype.kind == "int" else (0, (1 << dtype.bits) - 1)
    return str(low if op == "max" else high)
