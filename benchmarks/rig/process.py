"""The other end of a worker: starting it, pausing it while others run, asking it for slices. And which interpreters can run whom."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from peers import Contender
from workloads.base import Workload

BENCHMARKS = Path(__file__).parent.parent
PROBE = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
print(json.dumps(found))
"""
POOLS = ("OMP", "MKL", "OPENBLAS", "NUMBA")
Versions = dict[str, dict[str, str]]                    # of an interpreter, by distribution


class Failed(Exception):
    """A contender could not do it: it died, and these are its last words; or it is wrong, or not installed."""

    def __init__(self, words: str, status: str = "failed") -> None:
        super().__init__(words)
        self.row = {"status": status, "words": words}


def probe(pythons: Sequence[str], names: Sequence[str]) -> Versions:
    """What each interpreter has of these distributions."""
    return {p: json.loads(subprocess.run([p, "-c", PROBE, *names], env=path(), capture_output=True, text=True, check=True).stdout) for p in pythons}


def path() -> dict[str, str]:
    """This environment, where graphc and the benchmarks can be imported."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


class Process:
    """A contender at a workload, which has called its step when this is made. It is stopped whenever it is not being timed."""

    def __init__(self, contender: Contender, workload: Workload, threads: int, python: str, cache: Path) -> None:
        self.name = contender.name
        self.errors = tempfile.TemporaryFile("w+")          # noqa: SIM115 closed by kill
        pools = {f"{name}_NUM_THREADS": str(threads) for name in POOLS}
        fd, file = tempfile.mkstemp(suffix=".npz")
        os.close(fd)
        self.popen = subprocess.Popen([python, "-m", "rig.worker", workload.name, contender.name, str(threads), file], encoding="utf-8",
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                      env={**path(), **pools, **contender.environment(threads, cache)})
        try:
            self.begun = self._answer()
            with np.load(file) as results:
                self.results = [results[f"arr_{k}"] for k in range(len(results.files))]
        except BaseException:
            self.kill()
            raise
        finally:
            os.unlink(file)
        self._signal("SIGSTOP")

    def slice(self, seconds: float) -> dict[str, float]:
        self._signal("SIGCONT")
        try:
            assert self.popen.stdin is not None
            with suppress(BrokenPipeError):
                print(json.dumps(seconds), file=self.popen.stdin, flush=True)
            return self._answer()
        finally:
            self._signal("SIGSTOP")

    def kill(self) -> None:
        self.popen.kill()
        self.popen.communicate()
        self.errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.popen.wait()
        self.errors.seek(0)
        said = [s for s in self.errors.read().splitlines() if s.strip()]
        raise Failed(said[-1].strip()[:300] if said else f"exit status {self.popen.returncode}")

    def _signal(self, name: str) -> None:
        """Where there are such signals; elsewhere an idle worker waits for a line."""
        if sys.platform != "win32" and self.popen.poll() is None:
            self.popen.send_signal(getattr(signal, name))
