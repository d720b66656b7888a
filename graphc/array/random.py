"""`gx.random`: random numbers as functions of a key, under JAX's names. (`gx.randn` and its like, of a generator that keeps a state, are torch's.)

A key is two words, u32[2], a value like any other: given to a compiled function it draws new numbers without a new compilation. Use a key once; `split`
and `fold_in` make new ones of it. The words are Philox's at counters from 0 on (`ops.random`), those of new keys at counters that no draw reaches.

What is made of words by exact arithmetic (bits, uniform of [0, 1), integers, Bernoulli, permutations, keys) has the same bits on every backend; what goes
through a logarithm or a cosine agrees to the rounding of these; all of it is the same for any number of threads.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.dims import Size, product
from ..core.dtype import DType, as_dtype, f32, i64, u32, u64
from ..core.errors import GraphError, GraphTypeError
from ..core.loc import user_loc
from ..core.types import TensorType
from ..ops import elementwise as ops
from ..ops.random import philox
from ..trace import generator
from ..trace.apply import apply
from ..trace.broadcast import as_shape, as_tensor, axis_index, broadcast_shapes, cast, from_array, full, number
from ..trace.tensor import Tensor
from .creation import arange, iota
from .dtypes import astype
from .elementwise import ceil, clip, exp, log, log1p, maximum, ndtr, remainder, sqrt, tan, where
from .gammas import log_gamma_number
from .indexing import take, take_along_axis
from .manipulation import broadcast_to, reshape, stack
from .searching import searchsorted
from .sorting import argsort
from .special import ndtri
from .statistics import argmax, cumulative_sum, softmax

# Counters of blocks: a draw's from 0 on, those that make a key of a seed, of a number (fold_in), and several keys (split).
_SEED, _FOLD, _SPLIT = 1 << 61, 1 << 62, 1 << 63


def key(seed: Any) -> Tensor:
    """The key of a seed, an int: u32[2]. It shares no stream with `gx.Generator(seed)`.

    >>> import graphc as gx
    >>> a, b = gx.random.split(gx.random.key(0))
    >>> gx.random.randint(a, (5,), 0, 10).tolist(), gx.random.bernoulli(b, 0.5, (3,)).tolist()
    ([8, 3, 2, 6, 1], [False, False, False])
    """
    if isinstance(seed, Tensor):
        if seed.ndim or not seed.dtype.is_integer:
            raise GraphTypeError(f"a seed is an int, got {seed.type}", op="key", at=user_loc())
        whole = _as_u64(seed)
        low, high = whole & 0xFFFFFFFF, whole >> 32
        return generator.draw(stack([cast(low, u32), cast(high, u32)]), full((), _SEED, u64), (2,))
    words = generator.words_of(seed)
    return from_array(philox(words, np.array([_SEED], np.uint64))[0, :2])


def _key(name: str, key: Any) -> Tensor:
    key = as_tensor(key)
    if key.type != TensorType((2,), u32):
        raise GraphTypeError(f"{name} needs a key, u32[2], got {key.type}", op=name, at=user_loc(),
                             fix="gx.random.key(0), say" if key.dtype is not u32 else "one of them, or gx.vmap over all")
    return key


def _words(name: str, key: Any) -> generator.Bits:
    key = _key(name, key)
    zero = full((), 0, u64)
    return lambda shape: generator.draw(key, zero, shape)


def split(key: Any, num: Any = 2) -> Tensor:
    """New keys, u32[num, 2], of one that is then used up: a, b = gx.random.split(key). num may be a shape."""
    key = _key("split", key)
    return generator.draw(key, full((), _SPLIT, u64), (*as_shape(num), 2))


def fold_in(key: Any, data: Any) -> Tensor:
    """A new key of a key and an integer below 2**61: one for each step of a loop, say, where the integer may be a traced value."""
    key = _key("fold_in", key)
    data = as_tensor(data)
    if data.ndim or not data.dtype.is_integer:
        raise GraphTypeError(f"fold_in takes an integer, got {data.type}", op="fold_in", at=user_loc())
    return generator.draw(key, _as_u64(data) & (_SEED - 1) | _FOLD, (2,))


# ---- exact -----------------------------------------------------------------------------------------------------------------------------


def bits(key: Any, shape: Any = (), dtype: Any = u32) -> Tensor:
    """Uniform words: u32, or u64 of two."""
    words, shape, dtype = _words("bits", key), as_shape(shape), as_dtype(dtype)
    if dtype is u32:
        return words(shape)
    if dtype is not u64:
        raise GraphError(f"random bits are u32 or u64, got {dtype}", op="bits", at=user_loc())
    pair = words((2, *shape))
    high, low = (cast(generator.row(pair, k), u64) for k in (0, 1))
    return high << 32 | low


def uniform(key: Any, shape: Any = (), dtype: Any = f32, minval: Any = 0.0, maxval: Any = 1.0) -> Tensor:
    """In [minval, maxval), which broadcast to the shape: minval + u (maxval - minval), u a multiple of 2**-24 (f32) or 2**-53 (f64), differentiable in both.

    The last rounding may make it maxval, unless they are 0 and 1.
    """
    u = generator.uniform(_words("uniform", key), as_shape(shape), dtype)
    plain = all(isinstance(v, (int, float)) for v in (minval, maxval)) and (minval, maxval) == (0, 1)
    return u if plain else _in("uniform", u, u * _cast(_less(maxval, minval), u.dtype) + _cast(minval, u.dtype))


def _less(a: Any, b: Any) -> Any:
    return a - b if not isinstance(b, (int, float)) or b else a


def _cast(x: Any, dtype: DType) -> Any:
    return x if isinstance(x, (int, float)) else cast(as_tensor(x), dtype)


def _in(name: str, like: Tensor, out: Tensor) -> Tensor:
    """A result, whose parameters must not have made it larger than what was drawn."""
    if out.shape != like.shape:
        raise GraphError(f"{name} of shape {like.shape} with parameters that broadcast to {out.shape}", op=name, at=user_loc(), fix=f"shape={out.shape}")
    return out


def randint(key: Any, shape: Any, minval: Any, maxval: Any, dtype: Any = i64) -> Tensor:
    """Integers in [minval, maxval), which broadcast to the shape: 64 bits modulo the range, even to 1 part in 2**64 / range."""
    dtype = as_dtype(dtype)
    if not dtype.is_integer:
        raise GraphTypeError(f"randint of dtype {dtype}", op="randint", at=user_loc(), fix="dtype=gx.int64")
    if all(isinstance(v, (int, np.integer)) for v in (minval, maxval)):
        if not minval < maxval:
            raise GraphError(f"randint needs minval < maxval, got {minval} and {maxval}", op="randint", at=user_loc())
        number(int(minval), dtype)
        number(int(maxval) - 1, dtype)
    words = bits(key, shape, u64)
    low, high = (full((), int(v) % 2**64, u64) if isinstance(v, (int, np.integer)) else _as_u64(as_tensor(v)) for v in (minval, maxval))
    every = all(isinstance(v, (int, np.integer)) for v in (minval, maxval)) and int(maxval) - int(minval) == 2**64
    out = _in("randint", words, words + low if every else remainder(words, high - low) + low)
    return cast(out if dtype.kind == "uint" else apply(ops.bitcast, out, dtype=i64), dtype)


def _as_u64(x: Tensor) -> Tensor:
    """An integer modulo 2**64."""
    if not x.dtype.is_integer:
        raise GraphTypeError(f"an integer is needed, got {x.type}", op="random", at=user_loc(), fix=".astype(gx.int64)")
    return cast(x, u64) if x.dtype.kind == "uint" else apply(ops.bitcast, astype(x, i64, copy=False), dtype=u64)


def bernoulli(key: Any, p: Any = 0.5, shape: Any = None) -> Tensor:
    """True with probability p, a number or a tensor, whose shape it has unless told."""
    p = as_tensor(p)
    u = generator.uniform(_words("bernoulli", key), p.shape if shape is None else as_shape(shape), f32 if not p.dtype.is_float or p.weak else p.dtype)
    return _in("bernoulli", u, u < p)


def rademacher(key: Any, shape: Any = (), dtype: Any = f32) -> Tensor:
    """-1 or 1, each as often."""
    return cast(bits(key, shape) & 1, as_dtype(dtype)) * 2 - 1


def permutation(key: Any, x: Any, axis: int = 0, independent: bool = False) -> Tensor:
    """The slices of x along an axis in a random order (or, independent, each line along it in an order of its own); of an int n, the numbers below it.

    The order is that of random 64-bit words.
    """
    x = iota(x) if isinstance(x, (int, np.integer)) and not isinstance(x, bool) else as_tensor(x)
    axis = axis_index("permutation", axis, x.ndim)
    if independent:
        return take_along_axis(x, argsort(bits(key, x.shape, u64), axis=axis), axis)
    return take(x, argsort(bits(key, (x.shape[axis],), u64)), axis=axis)


def choice(key: Any, a: Any, shape: Any = (), replace: bool = True, p: Any = None, axis: int = 0) -> Tensor:
    """Slices of a along an axis (of an int n, numbers below it), drawn with or without replacement, each as often or with probabilities p."""
    a = arange(a) if isinstance(a, (int, np.integer)) and not isinstance(a, bool) else as_tensor(a)
    axis, shape = axis_index("choice", axis, a.ndim), as_shape(shape)
    n, drawn = a.shape[axis], product(shape)
    if not isinstance(n, int) or not isinstance(drawn, int):
        raise GraphError(f"choice among a symbolic number of slices, {n}, or of a symbolic number of them, {drawn}", op="choice", at=user_loc(),
                         fix="gx.take(a, gx.random.randint(key, shape, 0, n))")
    if drawn and (n == 0 or (not replace and drawn > n)):
        raise GraphError(f"choice of {drawn} of {n}{'' if replace else ' without replacement'}", op="choice", at=user_loc())
    weights = None if p is None else as_tensor(p)
    if weights is not None and weights.shape != (n,):
        raise GraphError(f"choice among {n} with probabilities {weights.type}", op="choice", at=user_loc(), fix=f"one for each: [{n}]")
    if replace and weights is None:
        places = randint(key, shape, 0, n) if n else arange(0)
    elif replace:
        assert weights is not None
        ends = cumulative_sum(weights)                  # the first end above u times the last
        u = uniform(key, shape, ends.dtype)
        places = searchsorted(ends, u * ends[-1], side="right")
    elif weights is None:
        places = argsort(bits(key, (n,), u64))[:drawn]
    else:                                               # the largest of log p + Gumbel numbers: as if drawn one after the other
        places = argsort(log(weights) + gumbel(key, (n,), weights.dtype), descending=True)[:drawn]
    return take(a, reshape(places, shape), axis=axis)


def categorical(key: Any, logits: Any, axis: int = -1, shape: Any = None) -> Tensor:
    """Indices (i64) along an axis with probabilities softmax(logits): where logits + Gumbel numbers are largest.

    shape: that of the result, to which the shape of the logits without the axis must broadcast; by default that shape.
    """
    logits = as_tensor(logits)
    axis = axis_index("categorical", axis, logits.ndim)
    rest = tuple(n for k, n in enumerate(logits.shape) if k != axis)
    lead = rest if shape is None else as_shape(shape)
    if broadcast_shapes("categorical", [Tensor._blank(TensorType(lead, f32)), Tensor._blank(TensorType(rest, f32))]) != lead:
        raise GraphError(f"categorical of shape {lead} for {logits.type} along axis {axis}", op="categorical", at=user_loc())
    at = axis - logits.ndim                             # from the end, where more axes in front do not move it
    full_shape: list[Size] = list(lead)
    full_shape.insert(len(lead) + at + 1, logits.shape[axis])
    dtype = logits.dtype if logits.dtype.is_float and not logits.weak else f32
    return argmax(logits + gumbel(key, tuple(full_shape), dtype), axis=at)


# ---- by the inverse of a distribution function ---------------------------------------------------------------------------------------


def _open(name: str, key: Any, shape: Any, dtype: Any) -> Tensor:
    """Uniform in (0, 1]: its logarithm is finite."""
    return 1.0 - generator.uniform(_words(name, key), as_shape(shape), dtype)


def normal(key: Any, shape: Any = (), dtype: Any = f32) -> Tensor:
    """Mean 0, variance 1; mean + scale * gx.random.normal(key, shape) has others, differentiable in them."""
    return generator.normal(_words("normal", key), as_shape(shape), dtype)


def exponential(key: Any, shape: Any = (), dtype: Any = f32) -> Tensor:
    """Density exp(-x) for x >= 0."""
    return -log(_open("exponential", key, shape, dtype))


def gumbel(key: Any, shape: Any = (), dtype: Any = f32) -> Tensor:
    """Distribution function exp(-exp(-x))."""
    e = exponential(key, shape, dtype)
    return -log(e + _tiny(e.dtype))


def _tiny(dtype: DType) -> float:
    """What keeps a logarithm of 0 away, and changes no number that is drawn otherwise."""
    return float(np.finfo(dtype.numpy).tiny)


def logistic(key: Any, shape: Any = (), dtype: Any = f32) -> Tensor:
    """Distribution function 1 / (1 + exp(-x))."""
    u = _open("logistic", key, shape, dtype)
    return log(u) - log(1.0 - u + _tiny(u.dtype))


def laplace(key: Any, shape: Any = (), dtype: Any = f32) -> Tensor:
    """Density exp(-|x|) / 2: an exponential number with a random sign."""
    shape = as_shape(shape)
    a, b = split(key)
    return exponential(a, shape, dtype) * rademacher(b, shape, dtype)


def cauchy(key: Any, shape: Any = (), dtype: Any = f32) -> Tensor:
    """Density 1 / (pi (1 + x^2)): the tangent of a uniform angle."""
    return tan((_open("cauchy", key, shape, dtype) - 0.5) * math.pi)


def truncated_normal(key: Any, lower: Any, upper: Any, shape: Any = None, dtype: Any = f32) -> Tensor:
    """Normal numbers given that they lie in [lower, upper], which broadcast: ndtri of a uniform number between their ndtr, of an interval above 0 mirrored,
    for far out only the lower tail has digits. Differentiable in both.
    """
    dtype = generator.floating(dtype)
    low, high = (cast(as_tensor(b), dtype) for b in (lower, upper))
    size = broadcast_shapes("truncated_normal", [low, high]) if shape is None else as_shape(shape)
    u = uniform(key, size, dtype)
    mirrored = low > 0
    below, above = ndtr(where(mirrored, -high, low)), ndtr(where(mirrored, -low, high))
    z = ndtri(below + u * (above - below))
    return clip(_in("truncated_normal", u, where(mirrored, -z, z)), low, high)


def geometric(key: Any, p: Any, shape: Any = None, dtype: Any = i64) -> Tensor:
    """How many tries until the first success, each with probability p: 1, 2, ..."""
    p = as_tensor(p)
    size = p.shape if shape is None else as_shape(shape)
    u = _open("geometric", key, size, p.dtype if p.dtype.is_float and not p.weak else f32)
    return cast(maximum(ceil(_in("geometric", u, log(u) / log1p(-p))), 1.0), as_dtype(dtype))


def pareto(key: Any, b: Any, shape: Any = None, dtype: Any = f32) -> Tensor:
    """Density b / x^(b+1) for x >= 1. Differentiable in b."""
    b, e = _parameter("pareto", key, b, shape, dtype)
    return exp(e / b)


def weibull_min(key: Any, scale: Any, concentration: Any, shape: Any = None, dtype: Any = f32) -> Tensor:
    """Distribution function 1 - exp(-(x / scale)^concentration) for x >= 0. Differentiable in both."""
    c, e = _parameter("weibull_min", key, concentration, shape, dtype)
    return _in("weibull_min", e, e ** (1.0 / c) * scale)


def _parameter(name: str, key: Any, b: Any, shape: Any, dtype: Any) -> tuple[Tensor, Tensor]:
    """A parameter, and exponential numbers in its shape unless told."""
    dtype = generator.floating(dtype)
    b = cast(as_tensor(b), dtype)
    size = b.shape if shape is None else as_shape(shape)
    return broadcast_to(b, size), exponential(_key(name, key), size, dtype)


# ---- gamma numbers, and what is made of them ---------------------------------------------------------------------------------------------


def gamma(key: Any, a: Any, shape: Any = None, dtype: Any = f32) -> Tensor:
    """Density x^(a-1) exp(-x) / Gamma(a) for x > 0, a > 0. Differentiable in a: the derivative is that of the quantile (`gammas`)."""
    return exp(loggamma(key, a, shape, dtype))


def loggamma(key: Any, a: Any, shape: Any = None, dtype: Any = f32) -> Tensor:
    """The logarithm of `gamma`, which is a number where that one underflows: for a small a."""
    dtype = generator.floating(dtype)
    a = cast(as_tensor(a), dtype)
    out: Tensor = log_gamma_number(broadcast_to(a, a.shape if shape is None else as_shape(shape)), _key("gamma", key))
    return out


def beta(key: Any, a: Any, b: Any, shape: Any = None, dtype: Any = f32) -> Tensor:
    """Density proportional to x^(a-1) (1-x)^(b-1) in (0, 1): x / (x + y) of two gamma numbers. Differentiable in both."""
    ta, tb = as_tensor(a), as_tensor(b)
    size = broadcast_shapes("beta", [ta, tb]) if shape is None else as_shape(shape)
    ka, kb = split(_key("beta", key))
    return 1.0 / (1.0 + exp(loggamma(kb, tb, size, dtype) - loggamma(ka, ta, size, dtype)))


def dirichlet(key: Any, alpha: Any, shape: Any = None, dtype: Any = f32) -> Tensor:
    """Positive numbers with sum 1 along the last axis, gamma numbers of alpha over their sum. Differentiable in alpha.

    shape: that of the result without its last axis; by default alpha's.
    """
    alpha = as_tensor(alpha)
    if alpha.ndim == 0:
        raise GraphError("dirichlet of a number", op="dirichlet", at=user_loc(), fix="a vector alpha")
    size = alpha.shape if shape is None else (*as_shape(shape), alpha.shape[-1])
    return softmax(loggamma(key, alpha, size, dtype), axis=-1)


def chisquare(key: Any, df: Any, shape: Any = None, dtype: Any = f32) -> Tensor:
    """The sum of the squares of df normal numbers. Differentiable in df."""
    return gamma(key, as_tensor(df) * 0.5, shape, dtype) * 2.0


def t(key: Any, df: Any, shape: Any = None, dtype: Any = f32) -> Tensor:
    """Student's t of df degrees of freedom: a normal number over the root of a mean of squares of df others. Differentiable in df."""
    ka, kb = split(_key("t", key))
    g = chisquare(kb, df, shape, dtype)
    return normal(ka, g.shape, dtype) * sqrt(_cast(df, g.dtype) / g)


__all__ = ["bernoulli", "beta", "bits", "categorical", "cauchy", "chisquare", "choice", "dirichlet", "exponential", "fold_in", "gamma", "geometric", "gumbel",
           "key", "laplace", "loggamma", "logistic", "normal", "pareto", "permutation", "rademacher", "randint", "split", "t", "truncated_normal", "uniform",
           "weibull_min"]
