"""exp, log, sin, erf, pow, ... as arithmetic in the loop IR.

A function here takes values of dtype f32 or f64 and returns an expression: a DAG of sums, products, comparisons and bit operations that vectorises
like any other. It calls no library, loads no table and branches nowhere but around the reduction of large angles. What is shared is one object;
emitters memoise by identity.

Accuracy: within 2 ulp of the true value in f32 and 3 ulp in f64 over the full range (`docs/vector_math.md` says how much less), inf, nan, -0 and
denormals as NumPy. Where the machine flushes denormals, so do these.

What the emitter must keep: the arithmetic as it stands, neither reassociated nor contracted (`pow`, `log1p` and the argument reductions recover
rounding errors). Where there is no fma, a*b + c with two roundings keeps the same bounds: the constants that reductions multiply by an integer
have trailing zeros enough for the product to be exact, and `pow` makes its exact products by splitting.

Floats become integers by adding 1.5 * 2**mantissa and reading the low bits, which no NaN can trap; a NaN travels in the float part.

The reductions are Cephes' (Moshier) and FDLIBM's (Sun), Cody and Waite's before them; erf's tail as exp of a polynomial is N. Juffa's. The
coefficients (`formats.py`) are our own: `benchmarks/fit_polynomials.py` fits and prints them.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..core.dtype import f32, f64, u32
from .formats import ATANH_F64, EXP2_F32, EXP2_F64, F32, F64, LOG2_F32, PI_2, TAIL_F32, TAIL_F64, Format
from .ir import Bin, BinOp, Call, Cast, Expr, Select, Un, dtype_of
from .reduction import far_quadrant


def format_of(x: Expr) -> Format:
    dtype = dtype_of(x)
    if dtype is f32:
        return F32
    if dtype is f64:
        return F64
    raise TypeError(f"no vector math in {dtype}")


# ---- small words -----------------------------------------------------------------------------------------------------------------


def fma(a: Expr, b: Expr, c: Expr) -> Expr: return Call("fma", (a, b, c))
def copysign(x: Expr, y: Expr) -> Expr: return Call("copysign", (x, y))
def absolute(x: Expr) -> Expr: return Un("abs", x)
def same(a: Expr, b: Expr) -> Expr: return Bin("==", a, b)
def _signed(f: Format, a: Expr, x: Expr) -> Expr:
    """a, which has no sign, with that of x."""
    return f.from_bits(bit("or", f.to_bits(a), bit("and", f.to_bits(x), f.word(f.sign))))


def bit(op: BinOp, a: Expr, b: Expr) -> Expr: return Bin(op, a, b)


def polynomial(f: Format, x: Expr, coefficients: Sequence[float], square: Expr | None = None) -> Expr:
    """Horner's scheme; given x*x, two of them, for the even powers and the odd: half as long a wait for one multiplication more."""
    if square is not None:
        return fma(polynomial(f, square, coefficients[1::2]), x, polynomial(f, square, coefficients[::2]))
    y: Expr = f(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        y = fma(y, x, f(c))
    return y


def clamp(f: Format, x: Expr, low: float | None, high: float | None) -> Expr:
    """x between low and high; NaN stays."""
    if high is not None:
        x = Select(f(high) < x, f(high), x)
    return x if low is None else Select(x < f(low), f(low), x)


def nearest(f: Format, x: Expr, scale: float) -> tuple[Expr, Expr]:
    """n = round(x * scale) for |n| < 2**(mantissa - 1), as a float and in the low bits of an integer, from which magic_bits is still to be taken."""
    t = fma(x, f(scale), f(f.magic))
    return t - f(f.magic), f.to_bits(t)


def power_of_two(f: Format, n: Expr, times: float = 1.0) -> Expr:
    """2**n * times from the integer of `nearest`; the result must be normal. The shift leaves nothing of magic_bits."""
    return f.from_bits(bit("<<", n, f.word(f.mantissa)) + f.word(f.bits_of(times)))


def scale(f: Format, y: Expr, n: Expr) -> Expr:
    """y * 2**n from the integer of `nearest`, for y about 1: in two halves, so that it overflows and becomes denormal as it should."""
    half = bit(">>", n, f.word(1))                                      # half of an even magic_bits: the shift leaves nothing of that either
    return y * power_of_two(f, half) * power_of_two(f, n - half)


# ---- exponentials ----------------------------------------------------------------------------------------------------------------


def _reduce_exp(f: Format, x: Expr, less: Expr | None = None) -> tuple[Expr, Expr]:
    """x = n ln 2 + r: r and the integer n. `less` is a small part of x."""
    n, integer = nearest(f, x, math.log2(math.e))
    r = fma(n, f(-f.ln2[0]), x)
    return fma(n, f(-f.ln2[1]), r if less is None else r + less), integer


def exp(x: Expr) -> Expr:
    """e**x."""
    f = format_of(x)
    r, n = _reduce_exp(f, clamp(f, x, *f.exp_range))
    z = r * r
    return scale(f, fma(polynomial(f, r, f.EXP, z), z, r) + f(1.0), n)


def _expm1_poly(f: Format, r: Expr) -> Expr:
    """e**r - 1 for |r| <= ln 2 / 2."""
    z = r * r
    return fma(polynomial(f, r, f.EXPM1, z), z, r)


def _exp_normal(f: Format, x: Expr) -> Expr:
    """e**x where that is known to be a normal number."""
    r, n = _reduce_exp(f, x)
    return (_expm1_poly(f, r) + f(1.0)) * power_of_two(f, n)


def expm1(x: Expr) -> Expr:
    """e**x - 1, accurate near 0."""
    f = format_of(x)
    r, n = _reduce_exp(f, clamp(f, x, f.expm1_low, f.exp_range[1]))
    half = power_of_two(f, n, 0.5)                                      # 2**n may overflow where the result does not
    y = fma(_expm1_poly(f, r), half, half - f(0.5)) * f(2.0)
    return Select(absolute(x) < f(f.negligible), x, y)


def tanh(x: Expr) -> Expr:
    """h / (h + 1), h = (e**2|x| - 1) / 2, with the sign of x. The error of ln 2 in one word is damped as h grows."""
    f = format_of(x)
    a = clamp(f, absolute(x), None, f.tanh_high)
    n, integer = nearest(f, a, 2.0 * math.log2(math.e))
    half = power_of_two(f, integer, 0.5)
    h = fma(_expm1_poly(f, fma(n, f(-math.log(2.0)), a + a)), half, half - f(0.5))
    y = h / (h + f(1.0))
    return _signed(f, Select(a < f(0.3), fma(Un("neg", h), y, h), y), x)        # h - h y: without the rounding of h + 1


def sigmoid(x: Expr) -> Expr:
    """Of -|x| it is e / (1 + e), e = e**-|x|, where e is small as e - e e/(1 + e); of |x| 1 less that."""
    f = format_of(x)
    e = exp(Un("neg", absolute(x)))
    y = e / (e + f(1.0))
    y = Select(e < f(0.5), fma(Un("neg", e), y, e), y)
    return Select(x < f(0.0), y, f(1.0) - y)


def erf(x: Expr) -> Expr:
    """x + x p(x^2) below 1, else 1 - e**(x p(x))."""
    f = format_of(x)
    a = absolute(x)
    small = fma(a, polynomial(f, a * a, f.ERF), a)
    tail = clamp(f, a, None, f.erf_high)
    big = f(1.0) - _exp_normal(f, tail * polynomial(f, tail, f.ERFC))
    return copysign(Select(a < f(1.0), small, big), x)


def _ndtr_f32(x: Expr) -> Expr:
    """In f64, whose 29 spare bits hold x**2 exactly."""
    f = F64
    a = clamp(f, Cast(absolute(x), f64), None, 15.0)
    w = a * a * f(-0.5 * math.log2(math.e))
    n, integer = nearest(f, w, 1.0)
    r = w - n
    s = f(1.0) / (a + f(4.0))
    t = fma(s, f(-8.0), f(1.0))
    tail = fma(r, polynomial(f, r, EXP2_F32, r * r), f(1.0)) * power_of_two(f, integer) * (s * polynomial(f, t, TAIL_F32, t * t))
    return Cast(Select(x < F32(0.0), tail, f(1.0) - tail), f32)


def _ndtr_f64(x: Expr) -> Expr:
    """The square in the exponent as an exact product and a small rest; the division with its remainder."""
    f = F64
    one, four = f(1.0), f(4.0)
    a = clamp(f, absolute(x), None, 39.0)
    high = _high(a)
    square, rest = high * high * f(-0.5), (a - high) * (a + high) * f(-0.5)
    r, integer = _reduce_exp(f, square, rest)
    d = a + four
    v = d - a
    lost = (a - (d - v)) + (four - v)                                   # d + lost = a + 4 exactly
    s = one / d
    t = fma(s, f(-8.0), one)
    p = polynomial(f, t, TAIL_F64, t * t)
    ratio = fma(p, s * (fma(Un("neg", s), d, one) - s * lost), p * s)
    z = r * r
    tail = scale(f, fma(fma(polynomial(f, r, f.EXP, z), z, r), ratio, ratio), integer)
    return Select(x < f(0.0), tail, one - tail)


def ndtr(x: Expr) -> Expr:
    """The normal distribution function: of a negative x the tail e**(-x**2/2) p(t)/(4 - x), and 1 less that of a positive."""
    return _ndtr_f32(x) if format_of(x) is F32 else _ndtr_f64(x)


# ---- logarithms ------------------------------------------------------------------------------------------------------------------


def _octave(f: Format, x: Expr) -> tuple[Expr, Expr]:
    """x = m * 2**e for a positive normal x: m in [sqrt(1/2), sqrt(2)), and the integer e + bias."""
    b = f.to_bits(x) + f.word(f.one - f.sqrt_half)
    return f.from_bits(bit("and", b, f.word(f.fraction)) + f.word(f.sqrt_half)), bit(">>", b, f.word(f.mantissa))


def _small_int(f: Format, n: Expr, minus: Expr) -> Expr:
    """The integer 0 <= n < 2**mantissa as a float, less `minus` and 2**mantissa: n goes under the mantissa of 2**mantissa."""
    return f.from_bits(bit("or", n, f.word((f.bias + f.mantissa) << f.mantissa))) - minus


def _exponent(f: Format, n: Expr) -> Expr:
    return _small_int(f, n, f(2.0 ** f.mantissa + f.bias))


def _split(f: Format, x: Expr) -> tuple[Expr, Expr]:
    """x = m * 2**e as floats, for a positive x, denormals included."""
    up = f.mantissa + 2
    tiny = x < f(f.smallest_normal)
    m, n = _octave(f, Select(tiny, x * f(2.0 ** up), x))
    offset = 2.0 ** f.mantissa + f.bias
    return m, _small_int(f, n, Select(tiny, f(offset + up), f(offset)))


def _log_near_one(f: Format, x: Expr, e: Expr | None = None) -> Expr:
    """log(1 + x) + e ln 2, for sqrt(1/2) <= 1 + x < sqrt(2) and an integer e."""
    low = None if e is None else e * f(f.ln2[1])
    if f is F32:                                                        # a division costs more than the longer polynomial
        z = x * x
        cube = x * z
        p = polynomial(f, x, f.LOG, z)
        y = x + fma(z, f(-0.5), cube * p if low is None else fma(cube, p, low))
    else:
        half_square = f(0.5) * x * x
        s = x / (f(2.0) + x)
        z = s * s
        p = fma(z, polynomial(f, z, f.LOG, z * z), half_square)
        y = x - (half_square - (s * p if low is None else fma(s, p, low)))
    return y if e is None else fma(e, f(f.ln2[0]), y)


def _log_ends(f: Format, x: Expr, y: Expr) -> Expr:
    """A logarithm y, with its values at 0, at inf and below 0."""
    return Select(f(0.0) < x, Select(x < f(math.inf), y, x), Select(same(x, f(0.0)), f(-math.inf), f(math.nan)))


def log(x: Expr) -> Expr:
    """The natural logarithm; -inf at 0, NaN below."""
    f = format_of(x)
    m, e = _split(f, x)
    return _log_ends(f, x, _log_near_one(f, m - f(1.0), e))


def log2(x: Expr) -> Expr:
    """The logarithm to base 2, exact at its powers."""
    f = format_of(x)
    m, e = _split(f, x)
    return _log_ends(f, x, fma(_log_near_one(f, m - f(1.0)), f(math.log2(math.e)), e))


def log1p(x: Expr) -> Expr:
    """log(1 + x), accurate near 0: what 1 + x rounds away is added to the reduced argument."""
    f = format_of(x)
    one = f(1.0)
    u = one + x
    v = u - one
    lost = (one - (u - v)) + (x - v)                                    # u + lost = 1 + x exactly
    m, n = _octave(f, u)
    down = f.from_bits(f.word(2 * f.one) - bit("<<", n, f.word(f.mantissa)))     # 2**-e
    r = (m - one) + Select(x < f(2.0 / f.negligible), lost * down, f(0.0))
    y = _log_near_one(f, r, _exponent(f, n))
    y = Select(absolute(x) < f(f.negligible), x, Select(x < f(math.inf), y, x))
    return Select(f(-1.0) < x, y, Select(same(x, f(-1.0)), f(-math.inf), f(math.nan)))


# ---- trigonometry ----------------------------------------------------------------------------------------------------------------


REACH = 1e6                     # of the reduction with pi/2 in pieces: n times a piece is exact
Reduced = tuple[Expr, Expr]     # x = n pi/2 + r, |r| <= pi/4: r in f64, and n modulo 4 as a u64


def _quadrant(f: Format, x: Expr) -> Reduced:
    """x up to REACH: in f64 for both formats, pi/2 in three pieces for f32 and four for f64."""
    r = Cast(x, f64) if f is F32 else x
    n, integer = nearest(F64, r, 2 / math.pi)
    for piece in PI_2[:3] if f is F32 else PI_2:
        r = fma(n, F64(-piece), r)
    return r, bit("and", integer, F64.word(3))


def _of_angle(f: Format, x: Expr, value: Callable[[Expr, Expr], Expr]) -> Expr:
    """value(r, n), by the reduction that x needs."""
    return Call("rare", (value(*far_quadrant(f, x)), value(*_quadrant(f, x)), f(REACH) < absolute(x)))


def _sin_cos(r: Expr, f: Format, coefficients: Format) -> tuple[Expr, Expr]:
    z = r * r
    s = fma(r * z, polynomial(f, z, coefficients.SIN), r)
    return s, fma(z * z, polynomial(f, z, coefficients.COS), fma(f(-0.5), z, f(1.0)))


def _turned(f: Format, r: Expr, n: Expr, quadrants: int) -> Expr:
    """sin(r + (n + quadrants) pi/2)."""
    if f is F32:
        r, n = Cast(r, f32), Cast(n, u32)
    s, c = _sin_cos(r, f, f)
    if quadrants:
        n = n + f.word(quadrants)
    y = Select(Bin("!=", bit("and", n, f.word(1)), f.word(0)), c, s)
    return f.from_bits(bit("xor", f.to_bits(y), bit("<<", bit("and", n, f.word(2)), f.word(f.dtype.bits - 2))))


def sin(x: Expr) -> Expr:
    """The sine."""
    f = format_of(x)
    return Select(same(x, f(0.0)), x, _of_angle(f, x, lambda r, n: _turned(f, r, n, 0)))        # -0


def cos(x: Expr) -> Expr:
    """The cosine."""
    f = format_of(x)
    return _of_angle(f, x, lambda r, n: _turned(f, r, n, 1))


def tan(x: Expr) -> Expr:
    """sin/cos, or -cos/sin, in f64 for f32 too."""
    f = format_of(x)

    def quotient(r: Expr, n: Expr) -> Expr:
        s, c = _sin_cos(r, F64, f)
        odd = Bin("!=", bit("and", n, F64.word(1)), F64.word(0))
        return Select(odd, c, s) / Select(odd, Un("neg", s), c)

    y = _of_angle(f, x, lambda r, n: Cast(quotient(r, n), f32) if f is F32 else quotient(r, n))
    return Select(same(x, f(0.0)), x, y)


def _asin_poly(f: Format, x: Expr) -> tuple[Expr, Expr, Expr]:
    """Of a = |x|: whether a > 1/2; and s, t with s + t = asin(a), or there asin(sqrt((1 - a)/2)), which is (pi/2 - asin(a))/2."""
    a = absolute(x)
    big = f(0.5) < a
    z = Select(big, fma(a, f(-0.5), f(0.5)), a * a)
    s = Select(big, Un("sqrt", z), a)
    return big, s, s * z * polynomial(f, z, f.ASIN)


def asin(x: Expr) -> Expr:
    """The arc sine in [-pi/2, pi/2]; NaN outside [-1, 1]."""
    f = format_of(x)
    big, s, t = _asin_poly(f, x)
    return copysign(Select(big, fma(f(-2.0), s, f(f.pi_2[0])) - fma(f(2.0), t, f(-f.pi_2[1])), s + t), x)


def acos(x: Expr) -> Expr:
    """The arc cosine in [0, pi]; NaN outside [-1, 1]."""
    f = format_of(x)
    big, s, t = _asin_poly(f, x)
    p = s + t
    twice = p + p
    middle = f(f.pi_2[0]) - (copysign(p, x) - f(f.pi_2[1]))
    ends = Select(x < f(0.0), f(2 * f.pi_2[0]) - (twice - f(2 * f.pi_2[1])), twice)
    return Select(big, ends, middle)


def _atan_poly(f: Format, t: Expr) -> Expr:
    z = t * t
    return fma(t * z, polynomial(f, z, f.ATAN), t)


def atan(x: Expr) -> Expr:
    """The arc tangent in [-pi/2, pi/2]: atan(a), or pi/2 - atan(1/a) above 1."""
    f = format_of(x)
    a = absolute(x)
    big = f(1.0) < a
    p = _atan_poly(f, Select(big, f(1.0), a) / Select(big, a, f(1.0)))
    return copysign(Select(big, f(f.pi_2[0]) - (p - f(f.pi_2[1])), p), x)


def atan2(y: Expr, x: Expr) -> Expr:
    """The angle of the point (x, y), in [-pi, pi]; signed zeros and infinities as C99.

    With p = atan(smaller/larger) it is p, pi/2 - p, pi/2 + p or pi - p, and has the sign of y.
    """
    f = format_of(x)
    ax, ay = absolute(x), absolute(y)
    steep = ax < ay
    behind = Bin("!=", bit("and", f.to_bits(x), f.word(f.sign)), f.word(0))   # the sign bit: of -0 too
    low, high = Select(steep, ax, ay), Select(steep, ay, ax)
    equal = Select(same(high, f(0.0)), f(0.0), f(1.0))                  # 0/0 and inf/inf
    p = _atan_poly(f, Select(same(low, high), equal, low / high))
    p = f.from_bits(bit("xor", f.to_bits(p), Select(Bin("xor", steep, behind), f.word(f.sign), f.word(0))))
    k = Select(steep, f(1.0), Select(behind, f(2.0), f(0.0)))
    return copysign(k * f(f.pi_2[0]) + (p + k * f(f.pi_2[1])), y)


# ---- powers ----------------------------------------------------------------------------------------------------------------------


def _power_f32(x: Expr, y: Expr) -> Expr:
    """x**y = 2**(y log2 x) for f32 x > 0, in f64: its 29 spare bits hold y log2 x, an integer part and all."""
    f = F64
    m, n = _octave(f, Cast(x, f64))
    u = m - f(1.0)
    s = u / (f(2.0) + u)
    z = s * s
    log2 = fma(s, fma(z, polynomial(f, z, LOG2_F32), f(2 / math.log(2))), _exponent(f, n))
    v = clamp(f, Cast(y, f64) * log2, -200.0, 200.0)
    whole, integer = nearest(f, v, 1.0)
    r = v - whole
    return Cast(fma(r, polynomial(f, r, EXP2_F32), f(1.0)) * power_of_two(f, integer), f32)


def _high(x: Expr) -> Expr:
    """The upper 26 bits of an f64: products of two such are exact."""
    return F64.from_bits(bit("and", F64.to_bits(x), F64.word(0xFFFFFFFFF8000000)))


def _power_f64(x: Expr, y: Expr) -> Expr:
    """x**y = 2**(y log2 x) for f64 x > 0; log2 x and its product with y as unevaluated sums high + low. After FDLIBM's e_pow.c."""
    f = F64
    one, three = f(1.0), f(3.0)
    m, e = _split(f, x)
    # s = u / d, u = m - 1, d = m + 1
    u, d = m - one, m + one
    inverse = one / d
    s = u * inverse
    s_high, d_high = _high(s), _high(d)
    d_low = m - (d_high - one)
    s_low = ((u - s_high * d_high) - s_high * d_low) * inverse
    # log x = 2 atanh(s) = 2/3 s (3 + z + z^2 p(z)), z = s^2
    z, z_high = s * s, s_high * s_high
    rest = fma(z * z, polynomial(f, z, ATANH_F64), s_low * (s_high + s))
    t_high = _high(three + z_high + rest)
    t_low = rest - ((t_high - three) - z_high)
    p = s_high * t_high
    q = s_low * t_high + t_low * s
    p_high = _high(p + q)
    p_low = q - (p_high - p)
    # times 2 / (3 ln 2), plus e
    c_high, c_low = 0.9617967009544373, -7.02846165095275826516e-09
    g = f(c_high) * p_high
    h = f(c_low) * p_high + p_low * f(c_high + c_low)
    log_high = _high((g + h) + e)
    log_low = h - ((log_high - e) - g)
    # times y; beyond 2**65 every x but 1 over- or underflows
    w = clamp(f, y, -2.0 ** 65, 2.0 ** 65)
    w_high = _high(w)
    v_high = w_high * log_high
    v_low = (w - w_high) * log_high + w * log_low
    whole, integer = nearest(f, clamp(f, v_high + v_low, -1100.0, 1100.0), 1.0)
    r = clamp(f, (v_high - whole) + v_low, -1.0, 1.0)
    return scale(f, fma(r, polynomial(f, r, EXP2_F64, r * r), one), integer)


def pow(x: Expr, y: Expr) -> Expr:
    """x**y with C99's special cases: x**0 and 1**y are 1 for every other operand, NaN too; a negative x needs an integer y."""
    f = format_of(x)
    zero, one, inf = f(0.0), f(1.0), f(math.inf)
    a = absolute(x)
    half = y * f(0.5)
    whole = same(Un("floor", y), y)
    odd = Bin("and", whole, Bin("!=", Un("floor", half), half))
    at_zero, at_inf = same(a, zero), same(a, inf)
    r = _power_f32(a, y) if f is F32 else _power_f64(a, y)
    r = Select(Bin("or", at_zero, at_inf), Select(Bin("xor", at_zero, y < zero), zero, inf), r)
    r = Select(same(a, one), one, r)
    r = Select(Bin("or", whole, Bin("or", zero <= x, at_inf)), r, f(math.nan))
    r = f.from_bits(bit("xor", f.to_bits(r), Select(odd, bit("and", f.to_bits(x), f.word(f.sign)), f.word(0))))
    r = Select(Bin("and", same(x, x), same(y, y)), r, x + y)
    return Select(Bin("or", same(y, zero), same(x, one)), one, r)


def cbrt(x: Expr) -> Expr:
    """The cube root: a third of the exponent's bits as a first guess, then Halley's iterations. After FDLIBM's s_cbrt.c."""
    f = format_of(x)
    cut, guess, steps = (8, 709958130 >> 8, 2) if f is F32 else (32, 715094163, 3)
    lift = 24 if f is F32 else 54
    a = absolute(x)
    tiny = a < f(2.0 ** (lift + 4) * f.smallest_normal)
    b = a * Select(tiny, f(2.0 ** lift), f(0.125))                      # far from denormals, and three times it does not overflow
    t = fma(_small_int(f, bit(">>", f.to_bits(b), f.word(cut)), f(2.0 ** f.mantissa)), f(1 / 3), f(f.magic))
    y = f.from_bits(bit("<<", f.to_bits(t) - f.word(f.magic_bits - guess), f.word(cut)))
    minus = Un("neg", b)
    for _ in range(steps):
        square = y * y
        y = y - y * (fma(square, y, minus) / fma(square, y + y, b))
    y = _signed(f, y * Select(tiny, f(2.0 ** -(lift // 3)), f(2.0)), x)
    return Select(Bin("and", f(0.0) < a, a < f(math.inf)), y, x)


FUNCTIONS: dict[str, Callable[..., Expr]] = {
    f.__name__: f for f in (exp, expm1, log, log2, log1p, tanh, sigmoid, erf, ndtr, sin, cos, tan, asin, acos, atan, cbrt, pow, atan2)}
