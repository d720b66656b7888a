"""`threads=`: the same bits for every number of threads, and nothing hangs: not a fork, not Ctrl-C, not eight callers, not the end of the process."""
from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.core.target import AVX2, Target
from graphc.llvm import runtime, spmd
from graphc.llvm.detect import host
from graphc.llvm.jit import asm
from graphc.llvm.step import step_text
from graphc.llvm.table import Layout
from graphc.loop import share
from graphc.nn import functional as F

INTERRUPT = signal.getsignal(signal.SIGINT)
pytestmark = pytest.mark.skipif(spmd.doorbell(host()) is None, reason="no threads here")
posix = pytest.mark.skipif(os.name != "posix", reason="fork and signals")


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every launch that can be shared is, on as many threads as are asked for."""
    monkeypatch.setattr(runtime, "available", lambda: 8)
    monkeypatch.setattr(share, "LAUNCH", 0.001)
    monkeypatch.setattr(share, "STEP", 0.001)


def team_of(f: Any) -> int:
    return int(f.lowered.executable()._manifest.threads)


def workers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("graphc-")]


# ---- the same bits -------------------------------------------------------------------------------------------------------------------

Data = Callable[[], tuple[Any, ...]]


def mlp(optimizer: str, **settings: Any) -> Callable[[int], tuple[Any, list[Any], Data]]:
    def make(threads: int) -> tuple[Any, list[Any], Data]:
        gx.manual_seed(3)
        net = nn.Sequential(nn.Linear(37, 53), nn.ReLU(), nn.Linear(53, 29), nn.GELU(), nn.Linear(29, 7))
        opt = getattr(optim, optimizer)(net.parameters(), **settings)
        rng = np.random.default_rng(0)

        @gx.compile(threads=threads, cache=False)
        def step(x: Any, y: Any) -> Any:
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            opt.step()
            return loss

        return step, list(net.parameters()), lambda: (rng.standard_normal((19, 37)).astype(np.float32), rng.integers(0, 7, 19))
    return make


def rows(threads: int) -> tuple[Any, list[Any], Data]:
    """Softmax and a norm of rows, by hand, with dropout."""
    gx.manual_seed(4)
    lin, drop = nn.Linear(31, 31), nn.Dropout(0.3)
    opt = optim.Adam(lin.parameters(), lr=0.01)
    rng = np.random.default_rng(1)

    @gx.compile(threads=threads, cache=False)
    def step(x: Any) -> Any:
        opt.zero_grad()
        h = drop(lin(x))
        h = (h - gx.mean(h, axis=1, keepdims=True)) * gx.rsqrt(gx.var(h, axis=1, keepdims=True) + 1e-5)
        loss = gx.sum(gx.softmax(h, axis=0) * gx.log_softmax(h * 2.0, axis=1))
        loss.backward()
        opt.step()
        return loss, h

    return step, list(lin.parameters()), lambda: (rng.standard_normal((23, 31)).astype(np.float32),)


def recurrent(threads: int) -> tuple[Any, list[Any], Data]:
    """A scan, so that shared launches stand in a loop of the plan, and its gradient."""
    gx.manual_seed(5)
    cell, head = nn.Linear(26, 17), nn.Linear(17, 3)
    params = [*cell.parameters(), *head.parameters()]
    opt = optim.SGD(params, lr=0.1, momentum=0.9)
    rng = np.random.default_rng(2)

    @gx.compile(threads=threads, cache=False)
    def step(xs: Any, y: Any) -> Any:
        opt.zero_grad()

        def one(h: Any, x: Any) -> Any:
            h = gx.tanh(cell(gx.concat([h, x], axis=1)))
            return h, gx.sum(h, axis=1)

        h, sums = gx.scan(one, gx.zeros((11, 17), dtype=gx.float32), xs)
        loss = F.cross_entropy(head(h), y) + gx.mean(sums * sums)
        loss.backward()
        opt.step()
        return loss

    return step, params, lambda: (rng.standard_normal((5, 11, 9)).astype(np.float32), rng.integers(0, 3, 11))


def moved(threads: int) -> tuple[Any, list[Any], Data]:
    """Gather, scatter_add, sorting, running sums, in two dtypes."""
    table = gx.tensor(np.random.default_rng(9).standard_normal((13, 6)), requires_grad=True)
    opt = optim.SGD([table], lr=0.1, momentum=0.5)
    rng = np.random.default_rng(3)

    @gx.compile(threads=threads, cache=False)
    def step(ix: Any, x: Any) -> Any:
        opt.zero_grad()
        picked = gx.take(table, ix, axis=0)
        loss = gx.sum(picked * picked * x) + gx.sum(gx.cumulative_sum(picked, axis=0) * x)
        loss.backward()
        opt.step()
        return loss, gx.sort(x, axis=0), gx.argmax(x, axis=1), gx.sum(x * 2.0), gx.max(x, axis=0), x.T + 1.0

    return step, [table], lambda: (rng.integers(0, 13, 21), rng.standard_normal((21, 6)))


@pytest.mark.parametrize("make", [mlp("SGD", lr=0.1), mlp("Adam", lr=1e-2), mlp("AdamW", lr=1e-2, weight_decay=0.1), rows, recurrent, moved],
                         ids=["sgd", "adam", "adamw", "rows", "recurrent", "moved"])
def test_the_same_bits_for_every_number_of_threads(everything: None, make: Any) -> None:
    runs = []
    for threads in (1, 2, 3, 4):
        step, params, data = make(threads)
        seen = []
        for _ in range(4):
            out = step(*data())
            seen += [np.asarray(a).tobytes() for a in (out if isinstance(out, tuple) else (out,))]
        assert team_of(step) == threads
        runs.append((seen, [p.numpy().tobytes() for p in params]))
    assert runs[1:] == runs[:1] * 3


def test_real_sizes_by_the_cost_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "available", lambda: 8)

    def train(threads: int) -> tuple[list[float], list[bytes]]:
        gx.manual_seed(0)
        net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
        opt = optim.SGD(net.parameters(), lr=0.1)
        rng = np.random.default_rng(0)

        @gx.compile(threads=threads, cache=False)
        def step(x: Any, y: Any) -> Any:
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            return loss

        losses = [step(rng.standard_normal((64, 784)).astype(np.float32), rng.integers(0, 10, 64)).item() for _ in range(20)]
        text = step.lowered.text("loops").partition("\nstep\n")[2]
        assert ("share" in text) == (threads > 1)
        assert "launch k5_exp" in text                          # a microsecond of work
        return losses, [p.numpy().tobytes() for p in net.parameters()]

    assert train(1) == train(2) == train(3)


# ---- without threads -----------------------------------------------------------------------------------------------------------------


def test_one_thread_and_short_steps_have_no_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "available", lambda: 8)
    texts = []
    for threads in (1, 4):
        f = gx.compile(lambda x: gx.tanh(x) * 2.0, threads=threads, cache=False)
        f(np.ones((3, 4), np.float32))
        assert team_of(f) == 1
        assert f.lowered.executable().team is None
        texts.append(f.lowered.text("llvm"))
    assert texts[0] == texts[1]
    assert not any(word in texts[0] for word in ("@ring", "@barrier", "@syscall", "%pool", "PyEval_SaveThread()\n  "))


def test_the_text_does_not_depend_on_the_number(everything: None) -> None:
    texts = []
    for threads in (2, 4):
        f = gx.compile(lambda x: gx.tanh(x) * 2.0, threads=threads, cache=False)
        f(np.ones((30, 4), np.float32))
        assert team_of(f) == threads
        texts.append(f.lowered.text("llvm"))
    assert texts[0] == texts[1]


# ---- checks --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_a_bad_label_ends_every_thread_and_changes_nothing(everything: None, threads: int) -> None:
    step, params, data = mlp("Adam", lr=0.1)(threads)
    for n in range(30):
        x, y = data()
        step(x, y)
        before = [p.numpy().tobytes() for p in params]
        y[n % 19] = (7, -1)[n % 2]
        with pytest.raises(gx.GraphIndexError, match=r"index -?\d is not in 0\.\.6"):
            step(x, y)
        assert [p.numpy().tobytes() for p in params] == before
    step(*data())


# ---- denormals -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flush", [True, False])
def test_denormals_on_every_thread(everything: None, flush: bool) -> None:
    f = gx.compile(lambda x: x * 0.5, threads=3, flush_denormals=flush, cache=False)
    x = np.full((97, 64), 1.2e-38, np.float32)
    for _ in range(3):
        assert ((f(x) == 0) == flush).all()
    assert np.float32(1.2e-38) * np.float32(0.5) != 0


# ---- callers, functions, lives ---------------------------------------------------------------------------------------------------------


def counter(threads: int, n: int = 4000) -> tuple[Any, Any]:
    """A step that adds one to a state, in shares, with a reduction after it."""
    p = gx.tensor(np.zeros((n, 3), np.float32), requires_grad=True)
    opt = optim.SGD([p], lr=1.0)

    @gx.compile(threads=threads, cache=False)
    def step() -> Any:
        opt.zero_grad()
        loss = -gx.sum(p)
        loss.backward()
        opt.step()
        return loss

    return step, p


def test_eight_callers_of_one_step(everything: None) -> None:
    step, p = counter(3)
    step()
    seen: list[float] = []
    threads = [threading.Thread(target=lambda: seen.extend(step().item() for _ in range(50))) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not any(t.is_alive() for t in threads)
    assert sorted(seen, reverse=True) == [-12000.0 * n for n in range(1, 401)]
    assert (p.numpy() == 401).all()


def test_two_functions_from_two_threads(everything: None) -> None:
    """The executables themselves, past the driver's lock: the pool's own keeps them apart."""
    made = [counter(2), counter(4, 1500)]
    for step, _ in made:
        step()
    calls = [(step.lowered.executable(), [s() for s in step._last[1].traced.sources]) for step, _ in made]
    threads = [threading.Thread(target=lambda e=e, given=given: [e(given) for _ in range(200)]) for e, given in calls]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not any(t.is_alive() for t in threads)
    assert all((p.numpy() == 201).all() for _, p in made)


def test_the_last_user_stops_the_workers_and_the_next_one_starts_them(everything: None) -> None:
    gc.collect()
    for _ in range(3):
        step, p = counter(3)
        assert step().item() == 0
        assert len(workers()) >= 2
        assert step().item() == -12000
        del step, p
        gc.collect()
        if not runtime.pool._users:                             # another test's function may still be held somewhere
            assert not workers()
            assert runtime.pool.running == 1


def test_no_busy_thread_between_steps(everything: None) -> None:
    step, _ = counter(4)
    for _ in range(3):
        step()
    time.sleep(0.1)
    start = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - start < 0.05


def test_where_the_system_gives_no_thread(everything: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    step, p = counter(8)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    runtime.pool.stop()
    with monkeypatch.context() as m, caplog.at_level(logging.INFO, "graphc"):
        m.setattr(threading.Thread, "start", refuse)
        step()
    assert "can't start new thread" in caplog.text
    step()
    assert runtime.pool.running >= 8
    assert (p.numpy() == 2).all()


# ---- how many --------------------------------------------------------------------------------------------------------------------------


def test_more_threads_than_cores_are_capped_and_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(runtime, "available", lambda: 3)
    with caplog.at_level(logging.INFO, "graphc"):
        assert runtime.allowed(3) == 3
        assert not caplog.text
        assert runtime.allowed(64) == 3
    assert "threads=64, but this process may use 3 cores" in caplog.text


@pytest.mark.parametrize("threads", [0, -1, 2.0, True, None, "2"])
def test_threads_is_a_whole_number(threads: Any) -> None:
    with pytest.raises(gx.GraphError, match="threads must be a whole number >= 1"):
        gx.compile(lambda x: x, threads=threads)


def test_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 9}, raising=False)
    monkeypatch.setattr(runtime, "quota", lambda root, own: 256)
    assert runtime.available() == 3
    monkeypatch.setattr(runtime, "quota", lambda root, own: 2)
    assert runtime.available() == 2


def test_quota_of_a_cgroup(tmp_path: Path) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "self"
    inner = root / "a" / "b"
    inner.mkdir(parents=True)
    assert runtime.quota(root, own) == runtime.MOST             # no such file
    own.write_text("0::/a/b\n")
    assert runtime.quota(root, own) == runtime.MOST
    (inner / "cpu.max").write_text("max 100000\n")
    assert runtime.quota(root, own) == runtime.MOST
    (root / "a" / "cpu.max").write_text("250000 100000\n")
    assert runtime.quota(root, own) == 3                        # two and a half cores
    (inner / "cpu.max").write_text("50000 100000\n")
    assert runtime.quota(root, own) == 1
    old = root / "cpu" / "c"
    old.mkdir(parents=True)
    own.write_text("3:cpuset:/x\n2:cpu,cpuacct:/c\n")
    assert runtime.quota(root, own) == runtime.MOST
    (old / "cpu.cfs_quota_us").write_text("400000\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    assert runtime.quota(root, own) == 4
    (old / "cpu.cfs_quota_us").write_text("-1\n")
    assert runtime.quota(root, own) == runtime.MOST
    (old / "cpu.cfs_quota_us").write_text("none of your business\n")
    assert runtime.quota(root, own) == runtime.MOST


# ---- other machines ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("triple", "bell", "pause"), [("", None, None), ("aarch64-unknown-linux-gnu", "futex", "yield"),
                                                        ("arm64-apple-darwin", "pthread", "yield"), ("x86_64-unknown-freebsd", "pthread", "pause")])
def test_text_for_other_machines(triple: str, bell: str | None, pause: str | None) -> None:
    target = replace(AVX2, triple=triple) if "x86" in triple or not triple else Target("generic", "", 16, 32, True, triple=triple)
    assert not bell or spmd.doorbell(target) == bell
    assert "worker" in asm(spmd.worker_text(target), target)
    from graphc.loop.ir import Barrier, Steps
    text = asm(step_text(Steps((Barrier(),)), target, Layout(threads=True), 0, threads=2).text, target)
    assert (pause or "") in text
    assert spmd.doorbell(Target("generic", "", 16, 32, True, triple="x86_64-pc-windows-msvc")) is None


# ---- whole processes ---------------------------------------------------------------------------------------------------------------------

SETUP = """
import os, signal, sys, threading, time
import numpy as np
import graphc as gx
from graphc import optim
from graphc.llvm import runtime, spmd
from graphc.loop import share
signal.signal(signal.SIGINT, signal.default_int_handler)       # a shell's background job ignores it, and so do its children
runtime.available = lambda: 8
share.LAUNCH = share.STEP = 0.001

def counter(threads, n=4000):
    p = gx.tensor(np.zeros((n, 3), np.float32), requires_grad=True)
    opt = optim.SGD([p], lr=1.0)
    @gx.compile(threads=threads, cache=False)
    def step():
        opt.zero_grad()
        loss = -gx.sum(p)
        loss.backward()
        opt.step()
        return loss
    return step, p

def count(p):
    a = p.numpy()
    assert (a == a[0, 0]).all(), "a torn state"
    return int(a[0, 0])
"""


def process(script: str, timeout: float = 60.0) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", SETUP + textwrap.dedent(script)], capture_output=True, text=True,
                          timeout=timeout, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@posix
def test_a_child_has_workers_of_its_own() -> None:
    """Forked between steps: the child's first call starts its own, the parent's go on."""
    assert process("""
        step, p = counter(3)
        for n in range(10):
            step()
            pid = os.fork()
            if not pid:
                assert not runtime.pool._threads
                for _ in range(5): step()
                assert count(p) == n + 6 and runtime.pool.running == 3
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        print(count(p), "steps")
    """) == "10 steps\n"


@posix
def test_fork_while_other_threads_are_in_a_step() -> None:
    """The child sees a whole number of steps, and can go on."""
    assert process("""
        step, p = counter(3)
        step()
        end = False
        def go():
            while not end: step()
        callers = [threading.Thread(target=go) for _ in range(2)]
        for t in callers: t.start()
        for _ in range(30):
            time.sleep(0.003)
            pid = os.fork()
            if not pid:
                signal.alarm(20)
                n = count(p)
                step()
                assert count(p) == n + 1 > 0
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        end = True
        for t in callers: t.join()
        count(p)
        print("fine")
    """) == "fine\n"


@posix
def test_fork_while_another_thread_compiles() -> None:
    assert process("""
        def compile_one(k):
            f = gx.compile(lambda x: gx.tanh(x) * float(k) + 1.0, threads=2, cache=False)
            return f(np.ones((40, 5), np.float32))
        end = False
        def go():
            k = 0
            while not end: k += 1; compile_one(k)
        t = threading.Thread(target=go); t.start()
        for _ in range(10):
            time.sleep(0.01)
            pid = os.fork()
            if not pid:
                signal.alarm(20)
                compile_one(0.5)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        end = True; t.join()
        print("fine")
    """) == "fine\n"


@posix
def test_ctrl_c() -> None:
    """KeyboardInterrupt at once, the state a whole number of steps, the next call works."""
    assert process("""
        import random
        step, p = counter(3)
        step()
        random.seed(0)
        for _ in range(60):
            signal.signal(signal.SIGALRM, lambda *a: os.kill(os.getpid(), signal.SIGINT))
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.01))
            try:
                n = count(p)                        # CPython 3.11: the first line of a `try`, jumped back to, is outside it
                while True: step()
            except KeyboardInterrupt:
                pass
            n = count(p)
            step()
            assert count(p) == n + 1
        print("fine")
    """) == "fine\n"


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "threading.Thread(target=forever, daemon=True).start(); time.sleep(0.05)", "del step, p"])
def test_a_process_ends(end: str) -> None:
    """With workers asleep, spinning, or inside a step that a daemon thread called."""
    start = time.monotonic()
    process(f"""
        step, p = counter(3)
        step()
        def forever():
            while True: step()
        step()
        {end}
    """)
    assert time.monotonic() - start < 30


@posix
def test_sleeping_on_a_condition_variable() -> None:
    """The way of systems without futex, on this one: asleep and awake many times, restarted, forked."""
    assert process("""
        spmd.doorbell = lambda target: "pthread"
        step, p = counter(4)
        for k in range(60):
            for _ in range(20): step()
            time.sleep(0.002)
        assert "pthread_cond_signal" in step.lowered.text("llvm") and "syscall" not in step.lowered.text("llvm")
        runtime.pool.stop()
        step()
        pid = os.fork()
        if not pid:
            step()
            os._exit(count(p) != 1202)
        assert os.waitpid(pid, 0)[1] == 0
        print(count(p))
    """) == "1201\n"


@posix
def test_signals_handled_while_workers_run() -> None:
    """A Python signal handler runs between steps and may itself call a step."""
    assert process("""
        step, p = counter(2)
        other, q = counter(3, 100)
        other(); step()
        signal.signal(signal.SIGALRM, lambda *a: other())
        for _ in range(100):
            signal.setitimer(signal.ITIMER_REAL, 0.002)
            for _ in range(30): step()
            time.sleep(0.002)
        print(count(p) > 10 and count(q) > 10)
    """) == "True\n"


def test_the_signals_are_what_they_were() -> None:
    assert signal.getsignal(signal.SIGINT) is INTERRUPT
