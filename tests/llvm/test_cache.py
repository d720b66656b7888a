"""The cache on disk: what comes back is what was put, whatever else happens to the folder."""
from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import cli, nn, optim
from graphc.core.errors import GraphError, GraphIndexError
from graphc.core.options import Options, cache_place
from graphc.core.target import AVX2, BASELINE
from graphc.executable import Native, compile_graph
from graphc.ir.digest import digest
from graphc.ir.text import parse
from graphc.llvm import cache, jit
from graphc.llvm.cache import Store, host_abi, object_key, store

posix = pytest.mark.skipif(os.name != "posix", reason="owners and permissions are POSIX")
root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can make another user's files")
KEYS = [f"{k:064x}" for k in range(40)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, turned on."""
    monkeypatch.setenv("GRAPHC_CACHE", "1")
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "compiler_id", lambda: "as it is")
    monkeypatch.setattr("graphc.build.compiler_id", lambda: "as it is")      # somebody may be editing graphc while its tests run
    cache._store.cache_clear()
    return tmp_path / "cache"


def opened() -> Store:
    found = store()
    assert found is not None
    return found


def data(key: str) -> bytes:
    return (key * 9).encode()[:100 + int(key[-2:], 16)]


# ---- one entry -----------------------------------------------------------------------------------------------------------------------


def test_what_was_put_comes_back_and_only_this_user_can_read_it(folder: Path) -> None:
    s = opened()
    assert s.get(KEYS[1]) is None
    s.put(KEYS[1], {"kind": "object", "n": [1, 2]}, b"\x00code\xff")
    found = s.get(KEYS[1])
    assert found is not None
    assert (found.header, found.data) == ({"kind": "object", "n": [1, 2], "key": KEYS[1]}, b"\x00code\xff")
    assert [p.name for p in folder.iterdir()] == [f"{KEYS[1]}.gxo"]
    if os.name == "posix":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(Path(s.path(KEYS[1])).stat().st_mode) == 0o600


def test_a_damaged_entry_is_a_miss_and_is_removed(folder: Path) -> None:
    s, rng = opened(), random.Random(0)
    s.put(KEYS[1], {"kind": "object"}, data(KEYS[1]))
    path = Path(s.path(KEYS[1]))
    good = path.read_bytes()
    damaged = [good[:n] for n in range(len(good))] + [good + b"x", b"", b"\0" * 1000, good[::-1]]
    for _ in range(4000):
        raw = bytearray(good)
        for _ in range(rng.choice((1, 1, 1, 5))):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(raw))
    for raw_bytes in damaged:
        if raw_bytes == good:
            continue
        assert cache._parse(raw_bytes, KEYS[1]) is None
    for raw_bytes in damaged[::200]:
        path.write_bytes(raw_bytes)
        assert s.get(KEYS[1]) is None
        assert not path.exists()
    assert cache._parse(good, KEYS[1]) is not None
    assert cache._parse(good, KEYS[2]) is None                            # renamed


@posix
def test_what_is_no_file_of_ours_is_not_read(folder: Path, tmp_path: Path) -> None:
    s = opened()
    s.put(KEYS[1], {}, b"code")
    path = Path(s.path(KEYS[1]))
    os.chmod(path, 0o622)
    assert s.get(KEYS[1]) is None                                         # somebody else could have written it
    path.rename(tmp_path / "elsewhere")
    os.chmod(tmp_path / "elsewhere", 0o600)
    path.symlink_to(tmp_path / "elsewhere")
    assert s.get(KEYS[1]) is None
    path.unlink()
    os.mkfifo(path)
    assert s.get(KEYS[1]) is None                                         # and does not wait for a writer
    path.unlink()
    path.mkdir()
    assert s.get(KEYS[1]) is None
    s.put(KEYS[1], {}, b"code")                                           # cannot, and says nothing
    assert [p.name for p in folder.iterdir()] == [path.name]


@root
def test_another_users_entries_and_folders_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = opened()
    s.put(KEYS[1], {}, b"code")
    os.chown(s.path(KEYS[1]), 4242, 4242)
    assert s.get(KEYS[1]) is None
    os.chown(folder, 4242, 4242)
    cache._store.cache_clear()
    assert store() is None


@posix
@pytest.mark.parametrize("mode", [0o777, 0o722, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(folder: Path, mode: int, caplog: pytest.LogCaptureFixture) -> None:
    folder.mkdir()
    os.chmod(folder, mode)
    with caplog.at_level("INFO", "graphc"):
        assert store() is None
        assert store() is None
    assert [r.getMessage() for r in caplog.records] == [f"graphc: compiling without a cache: {folder}: other users can write to it"]
    f, x = step()
    assert f(x).shape == ()
    assert list(folder.iterdir()) == []


# ---- the folder ----------------------------------------------------------------------------------------------------------------------


def test_what_was_used_longest_ago_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_CACHE_SIZE", "12K")
    s = opened()
    (folder / "notes.txt").write_text("not ours")
    for k, key in enumerate(KEYS[:10]):
        s.put(key, {}, bytes(1000))
        os.utime(s.path(key), (k, k))
    os.utime(s.path(KEYS[0]), (99, 99))                                   # used again
    s.put(KEYS[10], {}, bytes(1000))
    s.put(KEYS[11], {}, bytes(1000))
    left = {e.key for e in s.entries()}
    assert {KEYS[0], KEYS[10], KEYS[11]} <= left
    assert KEYS[1] not in left
    assert sum(e.nbytes for e in s.entries()) <= 12 << 10
    assert (folder / "notes.txt").exists()
    s.put(KEYS[12], {}, bytes(20_000))                                    # larger than the whole
    assert s.get(KEYS[12]) is None


def test_unfinished_files_of_the_killed_are_removed_after_an_hour(folder: Path) -> None:
    s = opened()
    old, new = folder / f".{KEYS[1]}.aa.part", folder / f".{KEYS[1]}.bb.part"
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    s.sweep()
    assert [p.name for p in folder.iterdir()] == [new.name]
    assert s.clear() == (1, 4)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["open", "write", "replace"])
def test_a_folder_that_cannot_be_written_is_no_cache(folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int) -> None:
    s = opened()
    s.put(KEYS[1], {}, b"code")
    whole: Callable[..., Any] = getattr(os, call)

    def fails(*args: Any, **kwargs: Any) -> Any:
        if call == "open" and not args[1] & os.O_CREAT:
            return whole(*args, **kwargs)
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as m:
        m.setattr(os, call, fails)
        s.put(KEYS[2], {}, b"code")
        assert s.get(KEYS[2]) is None
        assert s.get(KEYS[1]) is not None
    assert [p.name for p in folder.iterdir()] == [f"{KEYS[1]}.gxo"]        # no half file stays


def test_a_cache_that_cannot_be_made_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "cache", tmp_path / "file", "/proc/nobody/cache"):
        monkeypatch.setenv("GRAPHC_CACHE_DIR", str(place))
        cache._store.cache_clear()
        assert store() is None
        f, x = step()
        assert f(x).shape == ()


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GRAPHC_CACHE_DIR", raising=False)
    monkeypatch.setenv("GRAPHC_CACHE_SIZE", "3k")
    if sys.platform.startswith("linux"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_place() == (str(tmp_path / "graphc"), 3072)
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_place()[0] == str(tmp_path / "home" / ".cache" / "graphc")
        monkeypatch.setenv("HOME", "")
        assert cache_place()[0] in ("", "/.cache/graphc")
    monkeypatch.setenv("GRAPHC_CACHE_SIZE", "many")
    with pytest.raises(GraphError, match="GRAPHC_CACHE_SIZE='many' is no number of bytes"):
        cache_place()


def test_a_size_of_zero_is_no_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_CACHE_SIZE", "0")
    assert store() is None
    assert not folder.exists()


# ---- keys ----------------------------------------------------------------------------------------------------------------------------


def test_a_key_covers_the_text_the_machine_and_the_makers() -> None:
    keys = [object_key(*given) for given in [
        ("text", AVX2, 1, ["1"]), ("texT", AVX2, 1, ["1"]), ("text", BASELINE, 1, ["1"]), ("text", AVX2, 2, ["1"]), ("text", AVX2, 1, ["2"]),
        ("text", type(AVX2)("haswell", "+avx512f", 32, 16, True), 1, ["1"]), ("text", type(AVX2)("haswell", "", 32, 16, True, triple="x"), 1, ["1"])]]
    assert len(set(keys)) == len(keys)
    assert keys[0] == object_key("text", AVX2, 1, ["1"])
    assert sys.implementation.cache_tag in host_abi()


def test_code_for_another_machine_is_a_miss(folder: Path) -> None:
    text = "define i32 @step(ptr %t) {\n  ret i32 7\n}\n"
    assert [jit.cached_object(text, target, opened())[2] for target in (AVX2, BASELINE, AVX2, BASELINE)] == [False, False, True, True]


def test_a_digest_is_of_what_is_compiled() -> None:
    base = """graph g(%x: f32[3,4], %y: f32[3,4]) {
  %c: f32[3,4] = const 0.0
  %1: f32[3,4] = add(%x, %c)
  %2: f32[3,4] = mul(%1, %y)
  return %2, %1
}"""
    same = [base.replace("%1", "%h"), base.replace("graph g", "graph step")]
    other = [base.replace("0.0", "-0.0"), base.replace("0.0", "nan"), base.replace("%2, %1", "%1, %2"), base.replace("add(%x, %c)", "add(%c, %x)"),
             base.replace("f32", "f64"), base.replace("3,4", "4,3"), base.replace("mul", "sub"), base.replace("mul(%1, %y)", "mul(%1, %x)")]
    assert {digest(parse(t)) for t in [base, *same]} == {digest(parse(base))}
    assert len({digest(parse(t)) for t in [base, *other]}) == 1 + len(other)
    script = "import sys; from graphc.ir.digest import digest; from graphc.ir.text import parse; import graphc.ops; print(digest(parse(sys.stdin.read())))"
    for seed in ("1", "2"):
        out = subprocess.run([sys.executable, "-c", script], input=base, capture_output=True, text=True, check=True,
                             cwd=Path(gx.__file__).parent.parent, env={"PATH": "/usr/bin", "PYTHONHASHSEED": seed})
        assert out.stdout.strip() == digest(parse(base))


# ---- compiling -----------------------------------------------------------------------------------------------------------------------


def step(scale: float = 3.0) -> tuple[Any, np.ndarray]:
    """A function with an array constant, a printed value and an output."""
    table = np.arange(12.0, dtype=np.float32).reshape(3, 4) * np.float32(scale)

    @gx.compile
    def f(x: Any) -> Any:
        return gx.sum(gx.tanh(x) * table)

    return f, np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def train() -> tuple[Any, Any, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    gx.manual_seed(0)
    net, criterion = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3)), nn.CrossEntropyLoss()
    optimizer = optim.Adam(net.parameters(), lr=1e-2)

    @gx.compile
    def train_step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return train_step, net, [rng.normal(size=(5, 7)).astype(np.float32), rng.integers(0, 3, 5)]


def native(f: Any) -> Native:
    found = f.lowered.executable()
    assert isinstance(found, Native)
    return found


def test_the_second_process_builds_nothing_and_computes_the_same_bits(folder: Path) -> None:
    results = []
    for _ in range(2):
        f, net, args = train()
        losses = [float(f(*args)) for _ in range(3)]
        results.append((f, losses, [p.numpy().tobytes() for p in net.parameters()]))
    (cold, *a), (warm, *b) = results
    assert a == b
    first, second = cold.lowered.report, warm.lowered.report
    assert {"passes", "lower", "llvm"} <= first.stages.keys()
    assert second.stages.keys() == {"target", "cache", "load"}
    assert second.kernels == first.kernels
    assert str(cold.lowered.memory_plan()) == str(warm.lowered.memory_plan())
    assert native(warm)._made is None                                     # nothing so far has needed it
    assert [e.name for e in second.journal] == [e.name for e in first.journal]
    assert native(warm)._made is not None
    for stage in ("optimized", "loops", "llvm"):
        assert cold.lowered.text(stage) == warm.lowered.text(stage)
    assert object_key(native(warm).llvm, native(warm)._recipe.target, jit.LEVEL, [jit.version(), gx.__version__]) in {p.stem for p in folder.iterdir()}


def test_code_from_the_cache_says_which_index_was_wrong(folder: Path) -> None:
    said = []
    for _ in range(2):
        f, _, (x, y) = train()
        with pytest.raises(GraphIndexError) as e:
            f(x, y + 2)
        said.append(str(e.value))
    assert said[0] == said[1]
    assert "test_cache.py" in said[0]


def test_constants_are_kept_and_tell_steps_apart(folder: Path) -> None:
    results = []
    for scale in (3.0, 3.0, 5.0):
        f, x = step(scale)
        results.append((float(f(x)), "passes" in f.lowered.report.stages))
    assert [built for _, built in results] == [True, False, True]
    assert results[0][0] == results[1][0] != results[2][0]


def test_a_step_whose_object_is_gone_or_whose_entry_is_damaged_is_compiled_again(folder: Path) -> None:
    f, x = step()
    want = float(f(x))
    for kind in ("object", "step"):
        for how in (os.unlink, lambda path: Path(path).write_bytes(Path(path).read_bytes()[:-3])):
            for e in [e for e in opened().entries() if e.header["kind"] == kind]:
                how(e.path)
            f, x = step()
            assert float(f(x)) == want
            assert "passes" in f.lowered.report.stages
            f, x = step()
            assert float(f(x)) == want
            assert "passes" not in f.lowered.report.stages


def test_layouts_that_states_have_already_are_part_of_the_key(folder: Path) -> None:
    gx.manual_seed(0)
    w = nn.Parameter(np.arange(12, dtype=np.float32).reshape(3, 4))
    x, y = np.ones((2, 4), np.float32), np.ones((2, 3), np.float32)

    def times(transposed: bool) -> Any:
        return gx.compile(lambda a: a @ (w.T if transposed else w))

    orders = []
    for first in (True, False):
        w = nn.Parameter(np.arange(12, dtype=np.float32).reshape(3, 4))
        calls = [(times(True), x), (times(False), y)]
        for f, a in calls if first else calls[::-1]:
            np.testing.assert_array_equal(f(a), a @ (w.numpy().T if a is x else w.numpy()))
        orders.append([native(f)._manifest.orders for f, _ in calls])
    assert orders[0] != orders[1]                                         # who comes first lays it out


def test_without_a_cache_nothing_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    f, x = step()
    gx.compile(f.fn, cache=False)(x)
    monkeypatch.setenv("GRAPHC_CACHE", "0")
    f, x = step()
    f(x)
    assert not folder.exists()


def test_an_op_that_is_not_graphcs_own_is_built_every_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = parse("graph g(%x: f32[3,4]) {\n  %1: f32[3,4] = tanh(%x)\n  return %1\n}")
    stages = []
    for module in ("graphc.ops.elementwise", "users.ops", "users.ops"):
        monkeypatch.setattr(graph.outputs[0].op.infer, "__module__", module)
        stages.append("passes" in compile_graph(graph, [], Options()).report.stages)
    assert stages == [True, True, True]


# ---- many processes ------------------------------------------------------------------------------------------------------------------


def hammer(folder: str, seed: int) -> None:
    """Put, get and sweep without end of trouble; raises where what comes back is not what was put."""
    rng, s = random.Random(seed), Store(folder, 24 << 10)
    for n in range(200):
        key = rng.choice(KEYS)
        match rng.randrange(8):
            case 0 | 1 | 2: s.put(key, {"by": seed}, data(key) * 5)
            case 3 if n % 5 == 0: s.sweep()
            case 4: s.entries()
            case 5 if n % 50 == 7: s.clear()
            case _:
                found = s.get(key)
                assert found is None or found.data == data(key) * 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_sixteen_processes_share_a_folder_and_some_are_killed(folder: Path) -> None:
    s = opened()
    children = []
    for seed in range(16):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                hammer(str(folder), seed)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    time.sleep(0.15)
    for pid in children[:5]:
        os.kill(pid, signal.SIGKILL)
    ends = [os.waitpid(pid, 0)[1] for pid in children]
    assert ends[5:] == [0] * 11
    for e in s.entries():
        assert s.get(e.key) is not None
    s.limit = 24 << 10
    s.sweep()
    assert sum(p.stat().st_size for p in folder.iterdir() if not p.name.endswith(".part")) <= 24 << 10


COMPILES = """
import numpy as np, graphc as gx, sys
x = np.linspace(-1, 1, 35, dtype=np.float32).reshape(5, 7)
for k in range(int(sys.argv[1]), int(sys.argv[1]) + 12):
    f = gx.compile(lambda x: gx.sum(gx.tanh(x) * gx.exp(-x * float(k % 12))))
    got = float(f(x))
    want = float(np.sum(np.tanh(x) * np.exp(-x * np.float32(k % 12)), dtype=np.float64))
    assert abs(got - want) <= 1e-4 * abs(want) + 1e-4, (k, got, want)
"""


@pytest.mark.slow
def test_sixteen_processes_compile_into_one_folder_and_some_are_killed(folder: Path) -> None:
    env = {**os.environ, "GRAPHC_CACHE_SIZE": "96K", "PYTHONPATH": str(Path(gx.__file__).parent.parent)}
    running = [subprocess.Popen([sys.executable, "-c", COMPILES, str(k)], env=env, stderr=subprocess.PIPE, text=True) for k in range(16)]
    time.sleep(6)
    for p in running[:5]:
        p.kill()
    for p in running[5:]:
        assert p.wait(300) == 0, p.stderr.read() if p.stderr else ""
    for p in running:
        p.wait()
        assert p.stderr is not None
        p.stderr.close()
    subprocess.run([sys.executable, "-c", COMPILES, "0"], env=env, check=True)
    opened().sweep()
    assert sum(p.stat().st_size for p in folder.iterdir() if not p.name.endswith(".part")) <= 96 << 10


# ---- graphc cache --------------------------------------------------------------------------------------------------------------------


def test_the_command_lists_and_clears(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    f, x = step()
    f(x)
    assert cli.main(["cache", "path"]) == 0
    assert capsys.readouterr().out.strip() == str(folder)
    assert cli.main(["cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["key", "kind", "size", "used", "what"]
    assert sorted(line.split()[1] for line in lines[1:-1]) == ["object", "step"]
    assert lines[-1].startswith("2 entries, ")
    assert cli.main(["cache", "list", "--json"]) == 0
    assert '"usable": true' in capsys.readouterr().out
    assert cli.main(["cache", "clear"]) == 0
    assert capsys.readouterr().out.startswith("removed 2 entries, ")
    assert list(folder.iterdir()) == []
