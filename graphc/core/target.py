"""What the back wing may know about a machine. Nothing else in it looks at the host; `llvm.detect` makes this host's record."""
from __future__ import annotations

from .dtype import DType
from .record import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A machine as code generation sees it."""

    cpu: str                    # LLVM's name of it
    features: str               # LLVM's feature string; "" means what the name implies
    vector_bytes: int           # of one vector register
    registers: int              # architectural vector registers
    fma: bool                   # without it llvm.fma is a library call: multiply, then add
    l1: int = 32 << 10
    l2: int = 512 << 10
    triple: str = ""            # "" is the host's

    def lanes(self, dtype: DType) -> int:
        """Elements of a vector register."""
        return max(1, self.vector_bytes // dtype.itemsize)

    def tile_fits(self, rows: int, vectors: int) -> bool:
        """rows*vectors accumulators, one row of B, one broadcast of A: all stay in registers."""
        return rows * vectors + vectors + 1 <= self.registers


AVX512 = Target(cpu="skylake-avx512", features="", vector_bytes=64, registers=32, fma=True, l1=48 << 10, l2=2 << 20)
AVX2 = Target(cpu="haswell", features="", vector_bytes=32, registers=16, fma=True)
BASELINE = Target(cpu="x86-64", features="", vector_bytes=16, registers=16, fma=False)
