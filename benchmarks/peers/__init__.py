"""Every contender: where its class is, what it needs, what it can do, how its process is set up.

Nothing of theirs is imported here: each runs in a process of its own, and in the first of the given interpreters that has what it needs.
"""
from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEPS = frozenset({"train", "pullback", "infer"})
Environment = Callable[[int, Path], Mapping[str, str]]          # from the number of threads and the folder of its cache


@dataclass(frozen=True)
class Contender:
    name: str
    place: str                                          # module.Class
    needs: tuple[str, ...]                              # distributions, as pip names them
    kinds: frozenset[str]
    environment: Environment = field(default=lambda threads, folder: {})
    beside: bool = False                                # shown beside the row, not part of its bar

    def load(self) -> Any:
        module, name = self.place.split(".")
        return getattr(importlib.import_module(f"peers.{module}"), name)


def graphc(threads: int, folder: Path) -> Mapping[str, str]:
    return {"GRAPHC_CACHE_DIR": str(folder), "GRAPHC_CACHE": "1"}


def torch(threads: int, folder: Path) -> Mapping[str, str]:
    return {"TORCHINDUCTOR_CACHE_DIR": str(folder), "TORCHINDUCTOR_FX_GRAPH_CACHE": "1"}


def jax(threads: int, folder: Path) -> Mapping[str, str]:
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false" if threads == 1 else ""}


def pytensor(threads: int, folder: Path) -> Mapping[str, str]:
    return {"PYTENSOR_FLAGS": f"floatX=float32,base_compiledir={folder},openmp={threads > 1}", "NUMBA_CACHE_DIR": str(folder)}


def mkl(threads: int, folder: Path) -> Mapping[str, str]:
    return {"MKL_THREADING_LAYER": "SEQUENTIAL" if threads == 1 else "GNU", "MKL_DYNAMIC": "FALSE"}


def pytensor_with_mkl(threads: int, folder: Path) -> Mapping[str, str]:
    flags = pytensor(threads, folder)["PYTENSOR_FLAGS"]
    return {"PYTENSOR_FLAGS": f"{flags},linker=cvm,gcc__cxxflags=-O3 -march=native -ffast-math", **mkl(threads, folder)}


CONTENDERS: dict[str, Contender] = {c.name: c for c in (
    Contender("graphc", "graphc_.Graphc", ("numpy", "llvmlite"), STEPS | {"contract"}, graphc),
    Contender("torch eager", "torch_.Eager", ("torch",), STEPS),
    Contender("torch.compile", "torch_.Compiled", ("torch",), STEPS, torch),
    Contender("torch.compile whole", "torch_.Whole", ("torch",), STEPS - {"infer"}, torch),
    Contender("jax jit", "jax_.Jit", ("jax", "jaxlib"), STEPS, jax),
    Contender("jax scan", "jax_.Scan", ("jax", "jaxlib"), frozenset({"train"}), jax, beside=True),
    Contender("pytensor", "pytensor_.PyTensor", ("pytensor",), STEPS, pytensor),
    Contender("pytensor + mkl", "pytensor_.WithMKL", ("pytensor", "mkl"), STEPS, pytensor_with_mkl, beside=True),
    Contender("numpy", "numpy_.NumPy", ("numpy",), STEPS | {"contract"}),
    Contender("onnxruntime", "onnxruntime_.OnnxRuntime", ("onnxruntime", "onnx"), frozenset({"infer"})),
    Contender("mkl", "mkl_.MKL", ("numpy", "mkl"), frozenset({"contract"}), mkl),
)}
