"""x modulo pi/2 for arguments beyond the reach of Cody and Waite's reduction: Payne and Hanek's, as integer arithmetic that vectorises.

x = m 2**E with an integer m, and x 2/pi is m times the binary expansion of 2/pi. Modulo 4 only a window of that matters: the bits before it give
multiples of 4, those behind it are too small. The window is chosen by selects, a level for each bit of the word's number, which vectorise where
a table would be gathered; m times the window is done in words of 32 bits. What is left of 64 fractional bits when x is close to a multiple of pi/2
(two to the -61 for f64) is made up by the next 64.

It costs several times a sine, so `math.py` asks for it under `rare`.
"""
from __future__ import annotations

import math
from itertools import pairwise

from ..core.dtype import f64, i64, u64
from .formats import F32, F64, Format
from .ir import Bin, Bitcast, Call, Cast, Expr, Lit, Select, Un

TWO_OVER_PI = int("a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484"
                  "e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b"
                  "3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6bab", 16)         # its first 1216 bits
BITS = 1216
FIRST = 19                              # the least binary exponent that is reduced here
PI_2 = (math.pi / 2, 6.123233995736766e-17)


def word(n: int) -> Lit: return Lit(n, u64)
def both(a: Expr, b: Expr) -> Expr: return Bin("and", a, b)
def low(a: Expr) -> Expr: return both(a, word(0xFFFFFFFF))
def high(a: Expr) -> Expr: return Bin(">>", a, word(32))
def joined(a: Expr, b: Expr) -> Expr: return Bin("or", Bin("<<", a, word(32)), b)


def _window(f: Format, exponent: Expr, words: int) -> list[Expr]:
    """Words of 32 bits of 2/pi, highest first: m times them, modulo their bits, is x 2/pi modulo 4."""
    levels = range((f.bias - FIRST).bit_length() - 6, -1, -1)
    offset = exponent - word(f.bias + FIRST)                            # of the window's first bit, in bits
    lead = f.mantissa + 2 - FIRST                                       # zeros in front, so that no offset is negative
    count = words + 1 + sum(1 << k for k in levels)
    bits = TWO_OVER_PI >> (BITS - (32 * count - lead))
    table: list[Expr] = [word(bits >> 32 * k & 0xFFFFFFFF) for k in reversed(range(count))]
    for k in levels:
        count -= 1 << k
        far = Bin("!=", both(offset, word(32 << k)), word(0))
        table = [Select(far, table[i + (1 << k)], table[i]) for i in range(count)]
    shift = word(32) - both(offset, word(31))
    return [low(Bin(">>", joined(a, b), shift)) for a, b in pairwise(table)]


def _product(m: list[Expr], window: list[Expr]) -> list[Expr]:
    """m (words, lowest first) times the window modulo its bits, as words, highest first."""
    n = len(window)
    columns: list[list[Expr]] = [[] for _ in range(n + 1)]
    for i, a in enumerate(m):
        for k, b in enumerate(reversed(window)):
            if i + k < n:
                p = a * b
                columns[i + k].append(low(p))
                columns[i + k + 1].append(high(p))
    out: list[Expr] = []
    carry: Expr = word(0)
    for column in columns[:n]:
        for x in column:
            carry = carry + x
        out.insert(0, low(carry))
        carry = high(carry)
    return out


def far_quadrant(f: Format, x: Expr) -> tuple[Expr, Expr]:
    """x = n pi/2 + r, |r| <= pi/4, for |x| >= 2**FIRST: r in f64, NaN for inf, and n modulo 4 as a u64."""
    bits = f.to_bits(x)
    if f is F32:
        bits = Cast(bits, u64)
    fraction = Bin("or", both(bits, word(f.fraction)), word(1 << f.mantissa))
    exponent = both(Bin(">>", bits, word(f.mantissa)), word(2 * f.bias + 1))
    m: list[Expr] = [fraction] if f is F32 else [low(fraction), high(fraction)]
    p = _product(m, _window(f, exponent, 3 if f is F32 else 6))
    top = joined(p[0], p[1])                                            # two bits of n, then the fraction
    n = Bin(">>", top + word(1 << 61), word(62))
    first = Bin("or", Bin("<<", top, word(2)), Bin(">>", p[2], word(30)))               # the fraction, signed, by 2**64
    upper = Cast(Bin(">>", Bitcast(first, i64), Lit(32, i64)), f64) * F64(2.0 ** 32)
    lower = Cast(Bitcast(low(first), i64), f64)
    a = upper + lower
    ulp = 2.0 ** -64
    if f is F32:
        r = a * F64(PI_2[0] * ulp)
    else:
        second = Bin("or", Bin("<<", joined(p[2], p[3]), word(2)), Bin(">>", p[4], word(30)))
        rest = (lower - (a - upper)) + Cast(Bitcast(Bin(">>", second, word(11)), i64), f64) * F64(2.0 ** -53)
        y = a * F64(PI_2[0] * ulp)
        error = Call("fma", (a, F64(PI_2[0] * ulp), Un("neg", y)))
        r = y + (error + Call("fma", (rest, F64(PI_2[0] * ulp), a * F64(PI_2[1] * ulp))))
    negative = x < f(0.0)
    nothing = Cast(x - x, f64) if f is F32 else x - x                   # NaN for inf
    return Select(negative, Un("neg", r), r) + nothing, Select(negative, word(0) - n, n)
