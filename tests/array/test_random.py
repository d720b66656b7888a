"""`gx.random`: the same numbers on every backend and for every number of threads, the distributions that they should have, and bad arguments.

Seeds are fixed, so that no test passes or fails by chance; distributions are held to closed forms by the Kolmogorov-Smirnov distance.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import random
from graphc.array.gammas import slope

N = 20_000
KEY = random.key(17)
P = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
Array = np.ndarray[Any, Any]

EXACT: dict[str, Callable[[Any], Any]] = {
    "bits": lambda k: random.bits(k, (3, 70_001)), "bits u64": lambda k: random.bits(k, (1001,), gx.uint64),
    "uniform": lambda k: random.uniform(k, (70_001,)),
    "uniform f64": lambda k: random.uniform(k, (1001,), gx.float64), "randint": lambda k: random.randint(k, (70_001,), -5, 2**40),
    "randint i8": lambda k: random.randint(k, (1001,), -128, 128, gx.int8), "randint u64": lambda k: random.randint(k, (9,), 0, 2**64 - 1, gx.uint64),
    "bernoulli": lambda k: random.bernoulli(k, 0.3, (1001,)), "rademacher": lambda k: random.rademacher(k, (9,), gx.int32),
    "permutation": lambda k: random.permutation(k, 100), "permutation rows": lambda k: random.permutation(k, gx.arange(12).reshape(3, 4), 1, True),
    "choice": lambda k: random.choice(k, 9, (2, 3)), "choice without": lambda k: random.choice(k, gx.arange(9) * 2, (2, 3), False),
    "choice weighted": lambda k: random.choice(k, 4, (1001,), p=gx.asarray(P)), "split": lambda k: random.split(k, (2, 3)),
    "fold_in": lambda k: random.fold_in(k, 7),
}
ROUNDED: dict[str, Callable[[Any], Any]] = {
    "normal": lambda k: random.normal(k, (N,)), "normal f64": lambda k: random.normal(k, (N,), gx.float64),
    "exponential": lambda k: random.exponential(k, (N,)),
    "gumbel": lambda k: random.gumbel(k, (N,)), "logistic": lambda k: random.logistic(k, (N,)), "laplace": lambda k: random.laplace(k, (N,)),
    "cauchy": lambda k: random.cauchy(k, (N,)), "truncated_normal": lambda k: random.truncated_normal(k, -1.0, 2.0, (N,)),
    "uniform between": lambda k: random.uniform(k, (N,), minval=-1.0, maxval=3.0), "pareto": lambda k: random.pareto(k, 3.0, (N,)),
    "weibull_min": lambda k: random.weibull_min(k, 2.0, 1.5, (N,)), "gamma": lambda k: random.gamma(k, 3.0, (N,)),
    "gamma small": lambda k: random.gamma(k, 0.5, (N,)),
    "beta": lambda k: random.beta(k, 2.0, 3.0, (N,)), "chisquare": lambda k: random.chisquare(k, 4.0, (N,)), "t": lambda k: random.t(k, 2.0, (N,)),
    "dirichlet": lambda k: random.dirichlet(k, gx.asarray([2.0, 3.0]), (N,))[:, 0],
}


@pytest.mark.parametrize("name", EXACT)
def test_the_same_bits_everywhere(name: str) -> None:
    f = EXACT[name]
    want = f(KEY).numpy()
    for threads in (1, 2):
        got = gx.compile(f, threads=threads)(KEY)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    assert not np.array_equal(f(random.key(18)).numpy(), want)
    np.testing.assert_array_equal(f(KEY).numpy(), want)


@pytest.mark.parametrize("name", ROUNDED)
def test_the_same_numbers_everywhere(name: str) -> None:
    f = ROUNDED[name]
    one, two = (gx.compile(f, threads=threads)(KEY) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, f(KEY).numpy(), rtol=2e-5, atol=2e-6)
    assert np.isfinite(one).all()


# ---- keys ----------------------------------------------------------------------------------------------------------------------------


def test_keys() -> None:
    assert random.key(3).tolist() == random.key(gx.asarray(3)).tolist() == gx.compile(random.key)(3).tolist() != random.key(4).tolist()
    assert random.key(-1).tolist() == random.key(2**64 - 1).tolist() == random.key(gx.asarray(-1)).tolist()
    keys = random.split(KEY, 1000).tolist() + [random.fold_in(KEY, i).tolist() for i in range(100)] + [KEY.tolist()]
    assert len({tuple(k) for k in keys}) == len(keys)
    assert gx.compile(random.fold_in)(KEY, 5).tolist() == random.fold_in(KEY, 5).tolist() == random.fold_in(KEY, np.uint8(5)).tolist()


def test_draws_of_different_keys_are_independent() -> None:
    a, b = (random.normal(k, (N,)).numpy() for k in random.split(KEY))
    c = random.normal(random.fold_in(KEY, 0), (N,)).numpy()
    seed = gx.Generator(17).normal((N,)).numpy()
    d = random.normal(KEY, (N,)).numpy()
    together = np.corrcoef([a, b, c, d, seed, np.roll(d, 1)])
    assert abs(together - np.eye(6)).max() < 4 / math.sqrt(N)


def test_a_compiled_step_draws_by_its_key() -> None:
    calls = []

    def step(key: Any, i: Any) -> Any:
        calls.append(0)
        return random.uniform(random.fold_in(key, i), (3,))

    f = gx.compile(step)
    drawn = [f(KEY, i).tolist() for i in range(3)]
    assert len(calls) == 1
    assert drawn == [random.uniform(random.fold_in(KEY, i), (3,)).tolist() for i in range(3)]


def test_keys_in_vmap_and_scan() -> None:
    keys = random.split(KEY, 4)
    want = [random.randint(k, (3,), 0, 100).tolist() for k in keys]

    def each(key: Any) -> Any:
        return random.randint(key, (3,), 0, 100)

    assert gx.vmap(each)(keys).tolist() == gx.compile(gx.vmap(each))(keys).tolist() == want

    def walk(key: Any, _: Any) -> Any:
        key, own = random.split(key)
        return key, random.bernoulli(own, 0.5, (2,))

    _, drawn = gx.compile(lambda k: gx.scan(walk, k, gx.arange(5)))(KEY)
    key, want_drawn = KEY, []
    for _ in range(5):
        key, own = random.split(key)
        want_drawn.append(random.bernoulli(own, 0.5, (2,)).tolist())
    assert drawn.tolist() == want_drawn


def test_shapes() -> None:
    assert random.normal(KEY).shape == ()
    assert random.uniform(KEY, 3).shape == (3,)
    assert random.split(KEY, 0).shape == (0, 2)
    assert random.permutation(KEY, 0).shape == (0,)
    assert random.choice(KEY, gx.ones((3, 4)), (2, 5), axis=1).shape == (3, 2, 5)
    assert random.categorical(KEY, gx.ones((2, 3, 4)), axis=1).shape == (2, 4)
    assert random.categorical(KEY, gx.ones((2, 3)), shape=(5, 2)).shape == (5, 2)
    assert random.categorical(KEY, gx.ones((3, 2)), axis=0, shape=(5, 2)).shape == (5, 2)
    assert random.gamma(KEY, gx.ones((2, 3))).shape == random.beta(KEY, gx.ones((2, 1)), gx.ones(3)).shape == (2, 3)
    f = gx.compile(lambda k, x: random.normal(k, x.shape) + x)
    for n in (3, 5, 8):
        np.testing.assert_allclose(f(KEY, np.zeros((n, 2), np.float32)), random.normal(KEY, (n, 2)).numpy(), rtol=1e-5, atol=1e-6)


# ---- distributions -------------------------------------------------------------------------------------------------------------------


def phi(x: Array) -> Array:
    return np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)))(x)


DISTRIBUTIONS: dict[str, Callable[[Array], Array]] = {      # the distribution functions of what ROUNDED draws
    "normal": phi, "normal f64": phi, "exponential": lambda x: 1 - np.exp(-x), "gumbel": lambda x: np.exp(-np.exp(-x)),
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "laplace": lambda x: np.where(x < 0, np.exp(np.minimum(x, 0)) / 2, 1 - np.exp(-np.maximum(x, 0)) / 2), "cauchy": lambda x: 0.5 + np.arctan(x) / np.pi,
    "truncated_normal": lambda x: (phi(x) - phi(np.array(-1.0))) / (phi(np.array(2.0)) - phi(np.array(-1.0))), "uniform between": lambda x: (x + 1) / 4,
    "pareto": lambda x: 1 - x**-3.0, "weibull_min": lambda x: 1 - np.exp(-(x / 2) ** 1.5), "gamma": lambda x: 1 - np.exp(-x) * (1 + x + x**2 / 2),
    "gamma small": lambda x: np.vectorize(math.erf)(np.sqrt(x)), "beta": lambda x: 6 * x**2 - 8 * x**3 + 3 * x**4,
    "dirichlet": lambda x: 6 * x**2 - 8 * x**3 + 3 * x**4,
    "chisquare": lambda x: 1 - np.exp(-x / 2) * (1 + x / 2), "t": lambda x: 0.5 + x / (2 * np.sqrt(2 + x * x)),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_distributions(name: str) -> None:
    """The largest distance of the empirical distribution function: above 1.95 / sqrt(n) once in a thousand, were the seed not fixed."""
    x = np.sort(ROUNDED[name](KEY).numpy().astype(np.float64))
    f = DISTRIBUTIONS[name](x)
    steps = np.arange(N + 1) / N
    assert max((steps[1:] - f).max(), (f - steps[:-1]).max()) < 1.95 / math.sqrt(N)


def _chi_square(counts: Array, p: Array) -> float:
    want = p * counts.sum()
    return float(((counts - want) ** 2 / want).sum())


DISCRETE: dict[str, tuple[Callable[[Any], Any], list[float]]] = {
    "randint": (lambda k: random.randint(k, (N,), 10, 17) - 10, [1 / 7] * 7),
    "bernoulli": (lambda k: random.bernoulli(k, 0.3, (N,)).astype(gx.int64), [0.7, 0.3]),
    "bernoulli of tensors": (lambda k: random.bernoulli(k, gx.full((N,), 0.25)).astype(gx.int64), [0.75, 0.25]),
    "rademacher": (lambda k: (random.rademacher(k, (N,), gx.int64) + 1) // 2, [0.5, 0.5]), "choice": (lambda k: random.choice(k, 5, (N,)), [0.2] * 5),
    "choice weighted": (lambda k: random.choice(k, 4, (N,), p=gx.asarray(P * 3)), [0.1, 0.2, 0.3, 0.4]),
    "categorical": (lambda k: random.categorical(k, gx.log(gx.asarray(P)), shape=(N,)), [0.1, 0.2, 0.3, 0.4]),
    "geometric": (lambda k: gx.minimum(random.geometric(k, 0.4, (N,)), 5) - 1, [0.4, 0.24, 0.144, 0.0864, 0.1296]),
    "first of a permutation": (lambda k: gx.vmap(lambda q: random.permutation(q, 4)[0])(random.split(k, 4000)), [0.25] * 4),
    "first of a weighted choice": (lambda k: gx.vmap(lambda q: random.choice(q, 4, (2,), False, gx.asarray(P))[0])(random.split(k, 4000)),
                                   [0.1, 0.2, 0.3, 0.4]),
}


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_distributions(name: str) -> None:
    f, p = DISCRETE[name]
    drawn = gx.compile(f)(KEY)
    counts = np.bincount(drawn.astype(np.int64), minlength=len(p))
    assert len(counts) == len(p)
    assert _chi_square(counts, np.array(p)) < {1: 10.9, 3: 16.3, 4: 18.5, 6: 22.5}[len(p) - 1]       # once in a thousand, were the seed not fixed


def test_a_permutation_is_one() -> None:
    assert sorted(random.permutation(KEY, 1000).tolist()) == list(range(1000))
    x = np.arange(12).reshape(3, 4)
    rows = random.permutation(KEY, gx.asarray(x), axis=1).numpy()
    assert (np.sort(rows, 1) == x).all()
    assert (rows - rows[:, :1] == rows[0] - rows[0, 0]).all()           # one order for all rows
    assert (np.sort(random.permutation(KEY, gx.asarray(x), axis=1, independent=True).numpy(), 1) == x).all()
    assert len(set(random.choice(KEY, 50, (50,), replace=False).tolist())) == 50


def test_uniform_is_below_its_end() -> None:
    u = gx.compile(lambda k: random.uniform(k, (1_000_000,)))(KEY)
    assert u.min() >= 0
    assert u.max() < 1
    assert (u * 2**24 == np.floor(u * 2**24)).all()


def test_integers_of_every_kind() -> None:
    """A range of 2**64 is no number of 64 bits."""
    u, i = random.randint(KEY, (1000,), 0, 2**64, gx.uint64).numpy(), random.randint(KEY, (1000,), -(2**63), 2**63).numpy()
    assert len(set(u.tolist())) == len(set(i.tolist())) == 1000
    assert 300 < (u >= 2**63).sum() < 700
    assert 300 < (i < 0).sum() < 700


def test_normal_numbers_far_above_0_have_digits() -> None:
    x = random.truncated_normal(KEY, 30.0, gx.asarray([31.0, np.inf]), (1000, 2), gx.float64).numpy()
    assert x.min() >= 30
    assert len(set(x.ravel().tolist())) == 2000
    assert abs(np.mean(x - 30) - 1 / 30) < 0.005        # about exponential, of mean 1/30


# ---- derivatives ---------------------------------------------------------------------------------------------------------------------

PARAMETERS: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "normal": (lambda k, mean, scale: mean + scale * random.normal(k, (50,), gx.float64), (0.5, 2.0)),
    "uniform": (lambda k, a, b: random.uniform(k, (50,), gx.float64, a, b), (-1.0, 2.0)),
    "truncated_normal": (lambda k, a, b: random.truncated_normal(k, a, b, (50,), gx.float64), (-1.0, 0.5)),
    "pareto": (lambda k, b: random.pareto(k, b, (50,), gx.float64), (2.0,)),
    "weibull_min": (lambda k, a, b: random.weibull_min(k, a, b, (50,), gx.float64), (2.0, 1.5)),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_derivatives_by_the_parameters(name: str) -> None:
    f, at = PARAMETERS[name]
    at64 = [np.float64(v) * np.ones(()) for v in at]

    def loss(*ps: Any) -> Any:
        return (f(KEY, *ps) ** 2).sum()

    grads = gx.grad(loss, argnums=tuple(range(len(at))))(*map(gx.asarray, at64))
    for k, g in enumerate(grads):
        eps = 1e-6
        up, down = (loss(*(gx.asarray(v + s * eps * (j == k)) for j, v in enumerate(at64))).item() for s in (1, -1))
        assert g.item() == pytest.approx((up - down) / (2 * eps), rel=1e-6)


def _incomplete_gamma(a: float, x: float) -> float:
    """The distribution function of a gamma number: x^a e^-x / Gamma(a + 1) times the sum of x^n / ((a + 1) ... (a + n))."""
    term = total = 1.0
    n = 0
    while term > 1e-17 * total:
        n += 1
        term *= x / (a + n)
        total += term
    return math.exp(a * math.log(x) - x - math.lgamma(a + 1)) * total


@pytest.mark.parametrize("a", [0.1, 0.5, 1.0, 3.0, 20.0])
def test_gamma_moves_with_its_parameter_as_its_quantile_does(a: float) -> None:
    """dF/da + F' dx/da = 0 along a number that keeps its place in the distribution."""
    x = random.gamma(KEY, np.full(40, a)).numpy().astype(np.float64)
    x = x[x > 1e-6]
    z = np.log(x)
    h = 1e-5
    by_a = np.array([(_incomplete_gamma(a + h, v) - _incomplete_gamma(a - h, v)) / (2 * h) for v in x])
    density = np.exp((a - 1) * z - x - math.lgamma(a))
    for got in (slope(gx.full(x.shape, a, dtype=gx.float64), gx.asarray(z)).numpy(), gx.compile(slope)(np.full(x.shape, a), z)):
        np.testing.assert_allclose(density * x * got, -by_a, rtol=1e-5, atol=1e-9)


def test_derivatives_of_gamma_numbers() -> None:
    """On the average x moves by 1, x^2 by 2 a + 1; in reverse, forward, batched, and twice."""
    first = gx.compile(gx.grad(lambda a: random.gamma(KEY, a, (N,)).mean()))
    for a in (0.3, 2.5):
        assert first(np.float32(a)) == pytest.approx(1.0, abs=0.05)
        assert gx.grad(lambda a: (random.gamma(KEY, a, (2000,)) ** 2).mean())(gx.asarray(a)).item() == pytest.approx(2 * a + 1, rel=0.15)
    at = gx.asarray(np.array([0.5, 2.0]))
    value, along = gx.jvp(lambda a: random.gamma(KEY, a, dtype=gx.float64), (at,), (gx.ones_like(at),))
    back = gx.grad(lambda a: random.gamma(KEY, a, dtype=gx.float64).sum())(at)
    np.testing.assert_allclose(along.numpy(), back.numpy(), rtol=1e-12)
    np.testing.assert_array_equal(value.numpy(), random.gamma(KEY, at, dtype=gx.float64).numpy())
    keys = random.split(KEY, 3)
    each = gx.vmap(lambda k: gx.grad(lambda a: random.gamma(k, a, dtype=gx.float64).sum())(at))(keys)
    want = [gx.grad(lambda a, k=k: random.gamma(k, a, dtype=gx.float64).sum())(at).numpy() for k in keys]
    np.testing.assert_allclose(each.numpy(), want, rtol=1e-12)
    curve = gx.grad(lambda b: gx.grad(lambda a: random.loggamma(KEY, a, dtype=gx.float64).sum())(b).sum())(at).numpy()
    z = random.loggamma(KEY, at, dtype=gx.float64).numpy()
    eps = 1e-5                                          # the slope's own slope along the curve that the number moves on
    ahead, behind = (slope(at + s * eps, gx.asarray(z) + s * eps * slope(at, gx.asarray(z))).numpy() for s in (1, -1))
    np.testing.assert_allclose(curve, (ahead - behind) / (2 * eps), rtol=1e-4)
    for f in (lambda a: random.beta(KEY, a, 2.0, (9,)).sum(), lambda a: random.dirichlet(KEY, gx.stack([a, a + 1]))[0], lambda a: random.t(KEY, a, (9,)).sum()):
        assert np.isfinite(gx.grad(f)(gx.asarray(1.5)).item())


# ---- quantiles -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantiles_are_inverses(dtype: Any) -> None:
    eps = np.finfo(dtype).eps
    p = np.concatenate([10.0 ** np.linspace(-37, -0.31, 500), np.linspace(0.5, 1 - 8 * eps, 300)]).astype(dtype)
    z = gx.compile(gx.ndtri)(p)
    np.testing.assert_allclose(z, gx.ndtri(p).numpy(), rtol=8 * eps, atol=eps)
    slope = np.exp(-z.astype(np.float64) ** 2 / 2) / math.sqrt(2 * math.pi)              # an ulp of z, and of p, is so much of ndtr(z)
    off = np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)))(z.astype(np.float64)) - p
    assert (abs(off) <= 4 * eps * (abs(z) * slope + np.minimum(p, 1 - p))).all()
    x = np.concatenate([-(10.0 ** np.linspace(-30, -0.1, 200)), np.linspace(0, 1 - 4 * eps, 200)]).astype(dtype)
    y = gx.compile(gx.erfinv)(x).astype(np.float64)
    steep = 2 / math.sqrt(math.pi) * np.exp(-y * y)
    assert (abs(np.vectorize(math.erf)(y) - x) <= 4 * eps * abs(y) * steep + np.finfo(float).eps).all()


def test_ends_of_quantiles_and_their_derivatives() -> None:
    inf, nan = math.inf, math.nan
    np.testing.assert_array_equal(gx.ndtri(np.array([0.0, 0.5, 1.0, -1.0, 2.0, nan])).numpy(), [-inf, 0, inf, nan, nan, nan])
    np.testing.assert_array_equal(gx.erfinv(np.array([0.0, -0.0, 1.0, -1.0, 2.0, nan])).numpy(), [0, -0.0, inf, -inf, nan, nan])
    p = np.array([1e-20, 1e-3, 0.02, 0.03, 0.2, 0.6, 0.99])
    z = gx.ndtri(p).numpy()
    first = math.sqrt(2 * math.pi) * np.exp(z * z / 2)
    np.testing.assert_allclose(gx.grad(lambda p: gx.ndtri(p).sum())(p).numpy(), first, rtol=1e-12)
    second = gx.grad(lambda p: gx.grad(lambda q: gx.ndtri(q).sum())(p).sum())(p).numpy()
    np.testing.assert_allclose(second, z * first**2, rtol=1e-11)


# ---- bad arguments -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "words"), [
    (lambda: random.normal(random.split(KEY), (3,)), r"normal needs a key, u32\[2\], got u32\[2,2\]"), (lambda: random.normal(0, (3,)), "normal needs a key"),
    (lambda: random.key(1.5), "a seed is an int"), (lambda: random.key(gx.ones(2)), "a seed is an int"), (lambda: random.fold_in(KEY, 1.5),
    "fold_in takes an integer"),
    (lambda: random.randint(KEY, (3,), 5, 5), "minval < maxval"), (lambda: random.randint(KEY, (3,), 0, 300, gx.int8), "out of range for i8"),
    (lambda: random.randint(KEY, (3,), 0.5, 3), "an integer is needed"), (lambda: random.randint(KEY, (3,), 0, 3, gx.float32), "randint of dtype f32"),
    (lambda: random.uniform(KEY, (3,), gx.int32), "not continuous"), (lambda: random.uniform(KEY, (3,), gx.float16), "not drawn in f16"),
    (lambda: random.uniform(KEY, (3,), minval=gx.ones((2, 1))), "broadcast to"), (lambda: random.bernoulli(KEY, gx.ones(4), (3,)), "shapes that broadcast"),
    (lambda: random.choice(KEY, 3, (4,), replace=False), "choice of 4 of 3 without replacement"), (lambda: random.choice(KEY, 0, (1,)), "choice of 1 of 0"),
    (lambda: random.choice(KEY, 3, (4,), p=gx.ones(2)), "probabilities"), (lambda: random.categorical(KEY, gx.ones((2, 3)), shape=(4,)), "categorical"),
    (lambda: random.bits(KEY, (3,), gx.int32), "u32 or u64"), (lambda: random.dirichlet(KEY, 1.0), "dirichlet of a number"),
    (lambda: random.permutation(KEY, -3), "a size is >= 0"),
])
def test_errors(call: Any, words: str) -> None:
    with pytest.raises(gx.GraphError, match=words):
        call()
