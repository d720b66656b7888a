"""Which launches threads share, and where they meet. Whatever order threads run in between two barriers, the bytes are those of one thread."""
from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from graphc.core.dtype import f32, i32
from graphc.core.target import AVX2
from graphc.loop import share as sharing
from graphc.loop.interp import run, run_plan, view
from graphc.loop.ir import (
    Accum,
    Alloc,
    Barrier,
    Bin,
    Buffer,
    Check,
    For,
    Int,
    Kernel,
    Launch,
    Lit,
    Load,
    Loop,
    Plan,
    Ref,
    Region,
    Seq,
    Steps,
    Stmt,
    Store,
    Var,
    map_stmt,
    seq,
    walk,
)
from graphc.loop.place import launches, place
from graphc.loop.share import nanoseconds, share, shareable, split
from graphc.loop.text import show
from graphc.loop.verify import verify

i, j, t = Var("i"), Var("j"), Var("t")
x, y = Buffer("x", (6, 5), f32), Buffer("y", (6, 5), f32)
acc, tmp = Buffer("acc", (), f32, "register"), Buffer("tmp", (5,), f32, "scratch")


@pytest.fixture(autouse=True)
def _share_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "LAUNCH", 0.001)
    monkeypatch.setattr(sharing, "STEP", 0.001)


def loop(var: str, n: int, body: Stmt, how: str = "parallel") -> For:
    return For(var, Int(0), Int(n), how, body)  # type: ignore[arg-type]


def rows(body: Stmt, n: int = 6) -> Stmt:
    return loop("i", n, loop("j", 5, body))


double = Kernel("double", (x, y), (), rows(Store(y, (i, j), x[i, j] + x[i, j])))
flip = Kernel("flip", (x, y), (), rows(Store(y, (i, j), x[Int(5) - i, j])))
grow = Kernel("grow", (y,), (), rows(Accum(y, (i, j), y[i, j] + Lit(1.0, f32))))
total = Kernel("total", (x, y), (), Alloc(acc, seq(Store(acc, (), Lit(0.0, f32)), loop("i", 6, loop("j", 5, Accum(acc, (), x[i, j]), "serial"), "serial"),
                                                   Store(y, (Int(0), Int(0)), acc[()]))))


# ---- any order of the threads ----------------------------------------------------------------------------------------------------------


def part(s: Stmt, thread: int, threads: int) -> Stmt:
    """What one thread runs of a shared kernel's body, as the code generator cuts it."""
    match s:
        case Seq(body): return seq(*(part(b, thread, threads) for b in body))
        case For(_, _, Int(1), "parallel", _) | Alloc() if sharing._spreads(s): return map_stmt(s, lambda b: part(b, thread, threads))
        case For(var, _, Int(n), "parallel", body): return For(var, Int(thread * n // threads), Int((thread + 1) * n // threads), "serial", body)
        case _ if all(b.buf.space == "register" for b in walk(s) if isinstance(b, Store | Accum)) or not thread: return s
        case _: return Seq(())


def program(p: Plan, thread: int, threads: int, memory: Mapping[Region, np.ndarray], failed: list[int], env: dict[str, int]) -> Iterator[None]:
    """One thread of a step; yields at each barrier."""
    match p:
        case Steps(body):
            for b in body:
                yield from program(b, thread, threads, memory, failed, env)
        case Loop(var, count, body):
            for k in range(count):
                yield from program(body, thread, threads, memory, failed, {**env, var: k})
        case Barrier(): yield
        case Launch(k, args, _, shared):
            if (shared or thread == 0) and not failed:
                body = part(k.body, thread, threads) if shared else k.body
                arrays = {b.name: view(b, r, memory, {}, env) for b, r in zip(k.buffers, args, strict=True)}
                if status := run(Kernel(k.name, k.buffers, k.sizes, body), arrays):
                    failed.append(status)


def run_threads(p: Plan, memory: Mapping[Region, np.ndarray], order: tuple[int, ...]) -> int:
    """The plan by threads that run one after another, in this order, from barrier to barrier."""
    failed: list[int] = []
    team = [program(p, n, len(order), memory, failed, {}) for n in range(len(order))]
    while True:
        ended = [next(team[n], "end") for n in order]
        assert len({e is None for e in ended}) == 1, "the threads do not meet at the same barriers"
        if ended[0] == "end" or failed:
            return failed[0] if failed else 0


def memory_of(plan: Plan, nbytes: int, seed: int = 0) -> dict[Region, np.ndarray]:
    """Bytes for every region: those of the arena are views of one array."""
    rng = np.random.default_rng(seed)
    arena = rng.integers(-9, 9, nbytes // 4).astype(np.float32).view(np.uint8)
    regions = {r.region for k in launches(plan) for r in k.args}
    return {r: arena[r.offset:r.offset + r.nbytes] if r.where == "arena" and r.offset is not None
            else rng.integers(-9, 9, r.nbytes // 4).astype(np.float32).view(np.uint8) for r in sorted(regions, key=lambda r: r.name)}


def check(plan: Plan, seed: int = 0) -> Plan:
    """Split, place and share a plan; every order of three threads gives what one thread gives. The shared plan."""
    verify(plan)
    placed, _, nbytes = place(split(plan, AVX2))
    verify(placed)
    shared = share(placed, AVX2)
    meant = memory_of(placed, nbytes, seed)
    status = run_plan(placed, meant)
    for order in itertools.permutations(range(3)):
        got = memory_of(placed, nbytes, seed)
        assert run_threads(shared, got, order) == status
        for r, a in got.items():
            if r.where != "arena" and not status:
                np.testing.assert_array_equal(a, meant[r], err_msg=f"{r.name}, threads in order {order}\n{show(shared)}")
    return shared


def words(plan: Plan) -> str:
    """The tree of launches: s for shared, 1 for one thread, | for a barrier."""
    match plan:
        case Launch(): return "s" if plan.shared else "1"
        case Barrier(): return "|"
        case Steps(body): return "".join(map(words, body))
        case Loop(_, count, body): return f"{count}({words(body)})"
    raise AssertionError(plan)


def state(n: int) -> Ref:
    return Ref(Region(f"p{n}", "state", 120, n))


def temp(n: int) -> Ref:
    return Ref(Region(f"t{n}", "arena", 120))


# ---- tests -----------------------------------------------------------------------------------------------------------------------------


def test_a_barrier_stands_only_where_data_crosses() -> None:
    a, b, c, d = map(state, range(4))
    assert words(check(Steps((Launch(double, (a, b)), Launch(double, (c, d)))))) == "ss"
    assert words(check(Steps((Launch(double, (a, b)), Launch(flip, (b, c)))))) == "s|s"
    assert words(check(Steps((Launch(flip, (a, b)), Launch(double, (c, a)))))) == "s|s"             # read, then written
    assert words(check(Steps((Launch(double, (a, b)), Launch(flip, (c, b)))))) == "s|s"             # written twice
    assert words(check(Steps((Launch(double, (a, b)), Launch(flip, (a, c)))))) == "ss"              # read twice
    assert words(check(Steps((Launch(double, (a, b)), Launch(total, (b, c)), Launch(double, (b, d)))))) == "s|1s"
    assert words(check(Steps((Launch(double, (a, b)), Launch(total, (b, c)), Launch(flip, (c, d)))))) == "s|1|s"
    assert words(check(Steps((Launch(total, (a, b)), Launch(total, (b, c)), Launch(flip, (d, d)))))) == "111"              # one memory, two buffers


def test_regions_that_share_bytes_depend_on_each_other() -> None:
    """t0 is dead when t2 is written over it; a thread that is ahead must not."""
    a, b, c, d = map(state, range(4))
    plan = Steps((Launch(double, (a, temp(0))), Launch(flip, (temp(0), b)), Launch(double, (c, temp(2))), Launch(flip, (temp(2), d))))
    shared = check(plan)
    assert len({r.region.offset for k in launches(shared) for r in k.args if r.region.where == "arena"}) == 1
    assert words(shared) == "s|s|s|s"


def test_loops() -> None:
    a, b, c = map(state, range(3))
    assert words(check(Steps((Launch(double, (a, b)), Loop("t", 3, Steps((Launch(flip, (b, c)), Launch(double, (c, b))))))))) == "s3(|s|s|)"
    assert words(check(Steps((Loop("t", 3, Launch(total, (a, b))), Launch(double, (c, state(3))))))) == "3(1)s"
    assert words(check(Steps((Loop("t", 3, Launch(total, (a, temp(0)))), Launch(double, (c, state(3))))))) == "3(1)|s", "a signal may end it early"
    assert words(check(Steps((Loop("t", 3, Launch(total, (a, b))), Launch(flip, (b, c)))))) == "3(1)|s"
    assert words(check(Steps((Launch(double, (a, b)), Loop("t", 2, Loop("u", 2, Launch(flip, (b, c)))))))) == "s2(2(|s|)|)"
    assert words(check(Steps((Launch(double, (a, b)), Loop("t", 0, Launch(flip, (b, c))))))) == "s|0(1)"


def test_nothing_follows_a_failed_check() -> None:
    n = Buffer("n", (), i32)
    fails = Kernel("fails", (n,), (), Check(Bin("<", n[()], Lit(5, i32)), 7))
    size = Ref(Region("n", "scalar", 4))
    a, b, c = map(state, range(3))
    plan = Steps((Launch(fails, (size,)), Launch(total, (a, b)), Launch(double, (a, c))))
    assert words(check(plan)) == "11|s"
    shared = share(plan, AVX2)
    for order in itertools.permutations(range(3)):
        memory = memory_of(plan, 0)
        before = {r: m.copy() for r, m in memory.items()}
        memory[size.region][:] = np.array([5], np.int32).view(np.uint8)
        assert run_threads(shared, memory, order) == 7
        assert all((memory[r.region] == before[r.region]).all() for r in (a, b, c)), order


@pytest.mark.parametrize("seed", range(25))
def test_random_plans(seed: int) -> None:
    """Chains over few regions, in loops too: every order of the threads agrees with one."""
    rng = np.random.default_rng(seed)
    kernels = [double, flip, grow, total, packs("i")]

    def steps(depth: int) -> Plan:
        body: list[Plan] = []
        for _ in range(rng.integers(1, 6)):
            if depth < 2 and rng.random() < 0.2:
                body.append(Loop(f"t{depth}", int(rng.integers(0, 4)), steps(depth + 1)))
                continue
            k = kernels[rng.integers(len(kernels))]
            refs = [state(int(n)) if rng.random() < 0.5 else temp(int(n)) for n in rng.choice(4, len(k.buffers), replace=False)]
            body.append(Launch(k, tuple(refs)))
        return Steps(tuple(body))

    start = Steps(tuple(Launch(double, (state(n), temp(n))) for n in range(4)))
    check(Steps((start, steps(0))), seed)


# ---- kernels ---------------------------------------------------------------------------------------------------------------------------


def packs(name: str) -> Kernel:
    """A packing and what reads it, in the wrong order of rows."""
    copy = Buffer(f"copy_{name}", (6, 5), f32, "scratch")
    return Kernel(f"packs_{name}", (x, y), (), loop("one", 1, Alloc(copy, seq(
        rows(Store(copy, (i, j), x[i, j])), loop("k", 6, loop("l", 5, Store(y, (Var("k"), Var("l")), copy[Int(5) - Var("k"), Var("l")])))))))


def test_what_is_shareable() -> None:
    assert shareable(double)
    assert shareable(grow)
    assert not shareable(total)
    halves = seq(loop("i", 2, Store(y, (i, Int(0)), x[i, 0])), loop("i", 4, Store(y, (i + 2, Int(0)), x[i, 0])))
    assert shareable(Kernel("halves", (x, y), (), halves))
    overlap = seq(loop("i", 3, Store(y, (i, Int(0)), x[i, 0])), loop("i", 4, Store(y, (i + 2, Int(0)), x[i, 0])))
    assert not shareable(Kernel("overlap", (x, y), (), overlap))
    columns = seq(loop("i", 6, Store(y, (i, Int(0)), x[i, 0])), loop("i", 6, Store(y, (i, Int(1)), x[i, 0])))
    assert shareable(Kernel("columns", (x, y), (), columns))
    chain = seq(loop("i", 6, Store(y, (i, Int(0)), x[i, 0])), loop("i", 6, Store(y, (i, Int(1)), y[Int(5) - i, 0])))
    assert not shareable(Kernel("chain", (x, y), (), chain))


def test_registers_that_every_thread_computes() -> None:
    def scaled(source: Buffer) -> Kernel:
        use = rows(Store(y, (i, j), Bin("*", y[i, j], acc[()])))
        return Kernel("scaled", (x, y), (), Alloc(acc, seq(Store(acc, (), source[0, 0]), use)))

    assert shareable(scaled(x))
    assert not shareable(scaled(y))                             # by the time that the second thread reads y[0, 0], the first may have changed it


def test_a_kernel_that_checks_runs_on_one_thread() -> None:
    checks = loop("i", 6, seq(Check(Bin("<", x[i, 0], Lit(1.0, f32)), 1), Store(y, (i, Int(0)), x[i, 0])))
    assert not shareable(Kernel("checks", (x, y), (), checks))


def test_scratch_inside_a_shared_loop_is_each_thread_s_own() -> None:
    body = Alloc(tmp, seq(loop("j", 5, Store(tmp, (j,), x[i, j])), loop("k", 5, Store(y, (i, Var("k")), tmp[Int(4) - Var("k")]))))
    assert shareable(Kernel("own", (x, y), (), loop("i", 6, body)))


def test_a_packing_becomes_a_launch_of_its_own() -> None:
    k = packs("b")
    assert not shareable(k)
    plan = Steps((Launch(k, (state(0), state(1))), Launch(packs("b"), (state(1), state(2)))))
    shared = check(plan)
    assert words(shared) == "s|s|s|s"
    names = [x.kernel.name for x in launches(shared)]
    assert names == ["packs_b_0", "packs_b_1"] * 2
    same = Steps((Launch(k, (state(0), state(1))), Launch(Kernel("again", k.buffers, (), k.body), (state(1), state(2)))))
    first, second, third, fourth = (x.kernel.body for x in launches(split(same, AVX2)))
    assert first is third
    assert second is fourth


def test_a_short_step_has_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Steps((Launch(packs("b"), (state(0), state(1))), Launch(double, (state(1), state(2)))))
    monkeypatch.setattr(sharing, "STEP", 30_000.0)
    assert split(plan, AVX2) is plan
    assert share(plan, AVX2) is plan
    monkeypatch.setattr(sharing, "STEP", 0.001)
    monkeypatch.setattr(sharing, "LAUNCH", 4_000.0)
    assert share(plan, AVX2) is plan


def test_the_estimate_grows_with_the_work() -> None:
    def product(n: int) -> Kernel:
        a = Buffer("a", (n, n), f32)
        term = Accum(acc, (), Bin("*", a[Var("m"), Var("k")], Load(a, (Var("k"), Var("n")))))
        nest = Alloc(acc, seq(Store(acc, (), Lit(0.0, f32)), loop("k", n, term, "serial"), Store(Buffer("c", (n, n), f32), (Var("m"), Var("n")), acc[()])))
        return Kernel("product", (a, Buffer("c", (n, n), f32)), (), loop("m", n, loop("n", n, nest)))

    assert 7 < nanoseconds(product(64), AVX2) / nanoseconds(product(32), AVX2) < 9
    big = Buffer("big", (10**7,), f32)
    copy = Kernel("copy", (big,), (), loop("o", 10**7 // 8, loop("v", 8, Store(big, (Var("o") * 8 + Var("v"),), Lit(0.0, f32)), "simd")))
    assert 1e6 < nanoseconds(copy, AVX2) < 1e7                  # bound by memory


def test_the_text_says_who_runs_what() -> None:
    shared = check(Steps((Launch(double, (state(0), state(1))), Launch(total, (state(1), state(2))))))
    assert show(shared).splitlines()[-4:] == ["step", "  share double(p0@state, p1@state)", "  barrier", "  launch total(p1@state, p2@state)"]


def test_a_tail_of_one_iteration_is_the_first_thread_s() -> None:
    lanes = loop("v", 2, Store(y, (Int(5), Var("v")), x[5, Var("v")]), "simd")
    body = seq(loop("i", 5, loop("v", 5, Store(y, (i, Var("v")), x[i, Var("v")]), "simd")), loop("i", 1, lanes))
    assert shareable(Kernel("tail", (x, y), (), body))
    assert words(check(Steps((Launch(Kernel("tail", (x, y), (), body), (state(0), state(1))),)))) == "s"
