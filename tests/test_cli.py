"""The command `graphc`: what it prints and leaves, and that whatever is wrong is one line on standard error and a non-zero exit code."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.cli import main
from graphc.data import write_idx
from graphc.ir.op import REGISTRY

HOUSE = Path(gx.__file__).parent.parent

SOURCE = '''
import graphc as gx
print("this goes to standard error")
w = gx.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])

def plain(x, y=2.0):
    return gx.tanh(x @ w) * y

@gx.compile
def called(x):
    return gx.sum(x * 3.0)

@gx.compile
def uncalled(x, n):
    return x + n

@gx.compile
def nothing():
    return gx.sum(w)

called(w)

class Model:
    def __init__(self):
        self.scale = gx.compile(lambda x: x * 2.0)

model, number = Model(), 3

if __name__ == "__main__":
    uncalled(w, 1.0)
'''


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "code.py"
    path.write_text(SOURCE)
    return path


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(HOUSE)}
    return subprocess.run([sys.executable, "-m", "graphc.cli", *map(str, arguments)], capture_output=True, text=True, timeout=100, check=False,
                          env=environment, **options)   # type: ignore[call-overload]


def failed(capsys: pytest.CaptureFixture[str], code: int, words: str, *arguments: object) -> None:
    """The command ends with the code and one line that holds the words."""
    try:
        got = main([*map(str, arguments)])
    except SystemExit as e:
        got = int(e.code or 0)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line != "this goes to standard error"]
    assert got == code, err
    assert len(lines) == 1, err
    assert words in lines[0], lines[0]
    assert lines[0].startswith("graphc")
    assert out == ""


# ---- train ---------------------------------------------------------------------------------------------------------------------------


def folder(path: Path, n: int = 60) -> Path:
    """A tiny MNIST: two kinds of stripes."""
    rng = np.random.default_rng(0)
    path.mkdir()
    for part, m in (("train", n), ("t10k", 20)):
        y = rng.integers(0, 2, m).astype(np.uint8)
        x = np.zeros((m, 4, 6), np.uint8)
        x[y == 0, ::2], x[y == 1, :, ::2] = 200, 200
        x += rng.integers(0, 50, x.shape).astype(np.uint8)
        (path / f"{part}-images-idx3-ubyte").write_bytes(write_idx(x))
        (path / f"{part}-labels-idx1-ubyte").write_bytes(write_idx(y))
    return path


def test_train_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--epochs", "3", "--out", str(tmp_path / "a" / "b"), "--hidden", "32"]) == 0
    out = capsys.readouterr().out
    assert "of 360 test images are read rightly" in out
    assert "66 steps" in out
    assert "steps/s" in out
    assert float(out.split("% of 360")[0].split()[-1]) > 75
    left = sorted(p.name for p in (tmp_path / "a" / "b").iterdir())
    assert left[0].startswith("model.")
    assert left[1].startswith("step.")
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    found = gx.load(tmp_path / "a" / "b" / left[0], module=net, generator=gx.Generator())
    assert found.step == 66
    assert found.extra["loader"]["epoch"] == 3


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_train_a_folder(backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["train", "--data", str(folder(tmp_path / "data")), "--epochs", "9", "--batch", "20", "--hidden", "8,5", "--out", str(out), "--quiet",
               "--backend", backend, "--lr", "0.02"]
    assert main(command) == 0
    first = capsys.readouterr().out.splitlines()
    assert len(first) == 3
    assert first[0].startswith("100.00% of 20 test images")
    model = next(out.glob("model.*"))
    before = model.read_bytes()
    assert main(command) == 0
    assert model.read_bytes() == before                 # the same seed, the same bits
    assert main([*command, "--hidden", "", "--epochs", "1"]) == 0


@pytest.mark.parametrize(("arguments", "words"), [
    (["--epochs", "0"], "argument --epochs: '0' is no whole number >= 1"), (["--epochs", "x"], "'x' is no whole number"),
    (["--batch", "-1"], "'-1' is no whole number"), (["--lr", "0"], "'0' is no number > 0"), (["--lr", "nan"], "'nan' is no number > 0"),
    (["--hidden", "3,,4"], "'' is no whole number"), (["--seed", "1.5"], "'1.5' is no whole number >= 0"), (["--what"], "unrecognized arguments: --what"),
    (["--backend", "cuda"], "invalid choice: 'cuda'"),
])
def test_train_bad_words(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    failed(capsys, 2, words, "train", *arguments)


def test_train_bad_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = folder(tmp_path / "data"), tmp_path / "out"
    failed(capsys, 1, "nowhere: No such file or directory", "train", "--data", tmp_path / "nowhere", "--out", out)
    failed(capsys, 1, "lacks train-images-idx3-ubyte", "train", "--data", tmp_path, "--out", out)
    failed(capsys, 1, "a batch of 61 images is more than the 60 there are", "train", "--data", data, "--batch", 61, "--out", out)
    (tmp_path / "file").write_text("x")
    failed(capsys, 1, "file", "train", "--out", tmp_path / "file")
    failed(capsys, 1, "Not a directory", "train", "--out", tmp_path / "file" / "below")
    labels = data / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1])
    failed(capsys, 1, "needs 20 bytes after the header, the file has 19", "train", "--data", data, "--out", out)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder(tmp_path / "data")
    data.chmod(0)
    failed(capsys, 1, "Permission denied", "train", "--data", data, "--out", tmp_path / "out")
    failed(capsys, 1, "cannot be written", "train", "--out", data)


def test_folders_that_the_system_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for root, to whom the system refuses nothing."""
    def refused(path: object) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as m:
        m.setattr(os, "listdir", refused)
        failed(capsys, 1, "data: Permission denied", "train", "--data", tmp_path / "data", "--out", tmp_path / "out")
    with monkeypatch.context() as m:
        m.setattr(os, "access", lambda path, mode: False)
        failed(capsys, 1, "out: the folder cannot be written", "train", "--out", tmp_path / "out")


@pytest.mark.skipif(os.name != "posix", reason="POSIX")
def test_a_full_disk(tmp_path: Path) -> None:
    import resource

    done = run("train", "--epochs", 1, "--out", tmp_path, "--quiet", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    assert "model." in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_standard_output_is_full() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "graphc.cli", "ops"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False, cwd=HOUSE)
    assert (done.returncode, done.stderr) == (1, "graphc ops: standard output: No space left on device\n")


# ---- show ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["graph", "optimized", "loops", "llvm", "asm"])
def test_show_text(stage: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", f"{source}:called", "--text", stage]) == 0
    out, err = capsys.readouterr()
    expected = {"graph": "f32[3,2]", "optimized": "reduce_sum", "loops": "kernel", "llvm": "define", "asm": "ret"}[stage]
    assert expected in out
    assert "this goes" not in out
    assert "this goes to standard error" in err


def test_show_arguments(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (([":plain", "--arg", "f32[4,3]"], "f32[4,2]"), ([":plain", "--arg", "f32[N,3]", "--arg", "0.5"], "f32[N,2]"),
                             ([":uncalled", "--arg", "i64[]", "--arg", "3"], "i64[]"), ([":nothing"], "f32[]"),
                             ([":model.scale", "--arg", "float64[5]"], "f64[5]"),
                             ([":called", "--arg", "f32[7]"], "f32[7]"), ([":uncalled", "--main"], "f32[3,2]"),
                             ([":plain", "--arg", "f32[N,3]", "--text", "loops", "--size", "N=5"], "f32[5, 2]")):
        assert main(["show", f"{source}{arguments[0]}", *arguments[1:]]) == 0, capsys.readouterr().err
        assert words in capsys.readouterr().out


def test_show_a_picture(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", f"{source}:called", "--to", str(tmp_path / "x.dot")]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'x.dot'}\n"
    assert "digraph" in (tmp_path / "x.dot").read_text()


@pytest.mark.parametrize(("arguments", "code", "words"), [
    ([""], 2, "is no FILE:FUNCTION"), (["x.py"], 2, "'x.py' is no FILE:FUNCTION"), (["x.py:"], 2, "is no FILE:FUNCTION"),
    (["x.py:a b"], 2, "is no FILE:FUNCTION"), ([], 2, "required: FILE:FUNCTION"), (["x.py:f", "--to", "a.svg", "--text", "graph"], 2, "not allowed with"),
    (["x.py:f", "--text", "tensor"], 2, "invalid choice: 'tensor'"), (["x.py:f", "--arg", "f32[3"], 2, "--arg 'f32[3' is neither an array"),
    (["x.py:f", "--arg", "q7[3]"], 2, "no graphc element type for 'q7'"), (["x.py:f", "--arg", "f32[a b]"], 2, "the size 'a b' is no number"),
    (["x.py:f", "--arg", "[1]"], 2, "neither an array"), (["x.py:f", "--size", "N"], 2, "--size 'N' is no NAME=NUMBER"),
    (["nowhere.py:f"], 1, "nowhere.py: No such file or directory"),
])
def test_show_bad_words(arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    failed(capsys, code, words, "show", *arguments)


@pytest.mark.parametrize(("arguments", "code", "words"), [
    ([":absent"], 1, "code.py has no 'absent'; fix: there is called, nothing, plain, uncalled"),
    ([":model.absent"], 1, "Model has no 'absent'"), ([":number"], 1, "number in"), ([":Model"], 1, "is a class, not a function"),
    ([":uncalled"], 1, "uncalled(x, n) needs 2 arguments and was not called while the file ran; fix: --arg 'f32[64,784]' for each, or --main"),
    ([":uncalled", "--arg", "1"], 1, "needs 2 arguments, 1 given"), ([":plain"], 1, "plain(x, y=2.0) needs 1 to 2 arguments"),
    ([":plain", "--arg", "f32[4,5]"], 1, "matmul needs equal inner sizes"), ([":plain", "--arg", "f32[N,3]", "--text", "llvm"], 2, "add --size N=64"),
    ([":plain", "--arg", "f32[4,3]", "--size", "N=2"], 2, "has no symbolic size"), ([":called", "--to", "x.bmp"], 1, "x.bmp"),
    ([":called", "--to", "/nowhere/at/all/x.dot"], 1, "No such file or directory"),
])
def test_show_what_cannot_be_shown(arguments: list[str], code: int, words: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed(capsys, code, words, "show", f"{source}{arguments[0]}", *arguments[1:])


@pytest.mark.parametrize(("text", "words"), [
    ("1 / 0\n", "code.py:1 raised ZeroDivisionError: division by zero"), ("def f(:\n", "code.py:1 raised SyntaxError"),
    ("\nimport no_such_module\n", "code.py:2 raised ModuleNotFoundError"), ("raise SystemExit(3)", "ended with exit code 3"),
    ("import graphc as gx\ngx.zeros((2, 3)) @ gx.zeros((2, 3))", "matmul needs equal inner sizes"), ("\0", "raised"),
])
def test_show_a_file_that_fails(text: str, words: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source.write_text(text)
    failed(capsys, 1, words, "show", f"{source}:f")


def test_show_leaves_python_as_it_was(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = [*sys.path], [*sys.argv], sys.modules["__main__"]
    main(["show", f"{source}:uncalled", "--main"])
    assert ([*sys.path], [*sys.argv], sys.modules["__main__"]) == before
    assert "graphc_shown_file" not in sys.modules
    assert not (source.parent / "__pycache__").exists()


# ---- doctor, ops, and the command itself ---------------------------------------------------------------------------------------------


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    state = gx.default_generator().counter.item()
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    checks = {c["name"]: c["ok"] for c in found["checks"]}
    assert [checks[n] for n in ("numpy", "loops", "native")] == [True] * 3
    assert found["versions"]["graphc"] == gx.__version__
    assert found["machine"]["cores"] >= 1
    assert gx.default_generator().counter.item() == state
    assert main(["doctor"]) == 0
    assert "native           ok" in capsys.readouterr().out


def test_doctor_finds_an_evaluator_that_is_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from graphc.cli import doctor
    from graphc.interp.numpy import Result

    def wrong(graph: object, inputs: object, states: object) -> Result:
        good = doctor.numpy_level(graph, inputs, states)        # type: ignore[arg-type]
        return Result([o + 1 for o in good.outputs], good.states)

    def broken(*_: object) -> Result:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(doctor, "EVALUATORS", {"numpy": wrong, "native": broken})
    assert main(["doctor", "--json"]) == 1
    checks = {c["name"]: c["why"] for c in json.loads(capsys.readouterr().out)["checks"]}
    assert "output 0" in checks["numpy"]
    assert checks["native"] == "RuntimeError: no such instruction"


def test_ops(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "--json"]) == 0
    rows = {r["name"]: r for r in json.loads(capsys.readouterr().out)}
    assert rows.keys() == REGISTRY.keys()
    assert (rows["tanh"]["derivative"], rows["floor"]["derivative"]) == ("rule", "zero")
    assert main(["ops"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rows) + 2
    assert lines[-1] == f"{len(rows)} primitives"


def test_the_command_itself(capsys: pytest.CaptureFixture[str]) -> None:
    failed(capsys, 2, "required: {train,show,doctor,ops,cache}")
    failed(capsys, 2, "invalid choice: 'trian'", "trian")
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"graphc {gx.__version__}\n", "")
    done = run("show", "x")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from graphc.cli import table

    def interrupted(as_json: bool) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(table, "ops", interrupted)
    failed(capsys, 130, "interrupted", "ops")


@pytest.mark.skipif(os.name != "posix", reason="POSIX")
def test_a_closed_pipe_is_no_traceback() -> None:
    process = subprocess.Popen([sys.executable, "-m", "graphc.cli", "ops"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=HOUSE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 1
