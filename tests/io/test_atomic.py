"""A file is the old one or the new one: full disks, errors at every call, and kill -9 in the middle."""
from __future__ import annotations

import builtins
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import graphc as gx
from graphc.io.atomic import write_atomic

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_new_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    assert write_atomic(path, b"one") == path
    os.chmod(path, 0o640)
    write_atomic(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["a.bin"]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


@posix
def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
    write_atomic(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_bytes() == b"x"


@posix
@pytest.mark.parametrize("path", ["/dev/null", "/dev/full", "/tmp"])
def test_what_is_no_file_is_left_alone(path: str) -> None:
    before = os.stat(path)
    with pytest.raises(gx.GraphError, match=r"is a folder|is no ordinary file"):
        write_atomic(path, b"x")
    assert os.stat(path).st_ino == before.st_ino


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["open", "write", "flush", "fsync", "replace"])
def test_an_error_at_any_call_leaves_the_old_file(call: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.npz"
    gx.save(path, step=1)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(code, os.strerror(code))

    real = builtins.open

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode != "xb":
            return real(file, mode, *args, **kwargs)
        if call == "open":
            fail()
        out = real(file, mode, *args, **kwargs)

        class Failing:
            def __enter__(self) -> Failing:
                return self

            def __exit__(self, *info: object) -> None:
                out.close()

            def __getattr__(self, name: str) -> Any:
                return fail if name == call else getattr(out, name)
        return Failing()

    with monkeypatch.context() as m:
        if call in ("fsync", "replace"):
            m.setattr(os, call, fail)
        else:
            m.setattr(builtins, "open", opened)
        with pytest.raises(OSError, match=r"m\.npz") as e:
            gx.save(path, step=2)
        assert e.value.errno == code
    assert gx.load(path).step == 1
    assert names(tmp_path) == ["m.npz"]


@posix
def test_a_full_disk(tmp_path: Path) -> None:
    code = f"""
import resource
import numpy as np, graphc as gx
gx.save({str(tmp_path / 'm.npz')!r}, step=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    gx.save({str(tmp_path / 'm.npz')!r}, step=2, x=np.zeros(10_000))
except OSError as e:
    print(e)
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path(gx.__file__).parent.parent, timeout=60).stdout
    assert "File too large" in out
    assert "m.npz" in out
    assert gx.load(tmp_path / "m.npz").step == 1
    assert names(tmp_path) == ["m.npz"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        gx.save(tmp_path / "nowhere" / "m.npz", step=1)


# Saves without end, one value through the whole of it and then another; killed and looked at, `times` over.
KILLED = """
import os, random, signal, sys, time
import numpy as np, graphc as gx
from pathlib import Path
path, times = Path(sys.argv[1]), int(sys.argv[2])
rng, net = random.Random(0), gx.nn.Linear(500, 800)

def fill(value):
    net.load_state_dict({"weight": np.full((800, 500), value, np.float32), "bias": np.full(800, value, np.float32)})
    return value

gx.save(path, module=net, step=fill(0), value=0)
unfinished = 0
for _ in range(times):
    child = os.fork()
    if child == 0:
        for k in range(1, 100_000):
            gx.save(path, module=net, step=fill(k), value=k)
        os._exit(1)
    time.sleep(0.02 + rng.random() * 0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = gx.load(path, module=net)
    assert found.step == found.extra["value"]
    assert all((a == found.step).all() for a in found.module.values())
    parts = [p for p in path.parent.iterdir() if p.suffix == ".part"]
    unfinished += bool(parts)
    for p in parts:
        p.unlink()
print(unfinished)
"""


def killed(path: Path, times: int) -> int:
    out = subprocess.run([sys.executable, "-c", KILLED, str(path), str(times)], check=True, capture_output=True, text=True,
                         cwd=Path(gx.__file__).parent.parent, timeout=300).stdout
    return int(out)


@posix
@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_kill_9_leaves_the_old_or_the_new_file(suffix: str, tmp_path: Path) -> None:
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    assert killed(tmp_path / f"m.{suffix}", 10) > 0     # some of them in the middle of a write


@posix
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_kill_9_a_hundred_times(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    assert killed(tmp_path / "m.safetensors", 100) > 10
