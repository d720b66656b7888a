"""Sparse matrices: `Pattern` says where a matrix may differ from 0, `SparseMatrix` holds the numbers there. Coordinates, sorted by rows.

They are what `sparse` computes derivatives into, and no sparse linear algebra: for that there is `tocsr()`, which is SciPy's.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtype import i64
from ..core.errors import GraphError
from ..core.loc import user_loc
from ..core.record import dataclass, field
from ..core.types import TensorType
from ..ir.node import Node
from ..ops import index
from ..ops.leaf import const, splat
from ..ops.movement import broadcast, reshape
from ..transform.coloring import Coloring, Mode, colored
from ..transform.reads import distinct
from .apply import apply_graph
from .broadcast import as_tensor
from .tensor import Tensor

Array = np.ndarray[Any, Any]


class Pattern:
    """Which entries of a matrix may differ from 0: `rows` and `cols`, row by row; `shape`; `symmetric` if it is of a symmetric matrix.

    `colors` is how many sweeps of forward or reverse mode such a Jacobian takes (a Hessian: products with vectors), `coloring()` says which. Two patterns
    are equal if their entries are.

    >>> p = Pattern([0, 1, 1], [0, 0, 1], (2, 2))
    >>> p
    Pattern(2 x 2, 3 entries, 2 colors)
    >>> print(p.spy())
    *.
    **
    """

    __slots__ = ("_colorings", "_hash", "cols", "rows", "shape", "symmetric")

    def __init__(self, rows: Any, cols: Any, shape: tuple[int, int], symmetric: bool = False) -> None:
        r, c = np.asarray(rows), np.asarray(cols)
        m, n = (int(k) for k in shape)
        if r.shape != c.shape or r.ndim != 1 or any(a.size and a.dtype.kind not in "iu" for a in (r, c)):
            raise GraphError(f"a Pattern is made of two lists of integers of one length, got {r.dtype}{list(r.shape)} and {c.dtype}{list(c.shape)}",
                             at=user_loc(), fix="gx.Pattern(*numpy.nonzero(mask), mask.shape)")
        if r.size and (min(r.min(), c.min()) < 0 or r.max() >= m or c.max() >= n):
            raise GraphError(f"a Pattern of {m} x {n} has an entry outside of it", at=user_loc(), fix="rows and cols count from 0")
        if symmetric and m != n:
            raise GraphError(f"a symmetric Pattern is square, got {m} x {n}", at=user_loc())
        keys = r.astype(np.int64) * max(n, 1) + c.astype(np.int64)
        if symmetric:
            keys = np.concatenate([keys, c.astype(np.int64) * max(n, 1) + r.astype(np.int64)])
        self.rows, self.cols = np.divmod(distinct(keys), max(n, 1))
        self.rows.flags.writeable = self.cols.flags.writeable = False
        self.shape, self.symmetric = (m, n), symmetric
        self._colorings: dict[str, Coloring] = {}
        self._hash: int | None = None

    @property
    def nnz(self) -> int:
        """How many entries there are."""
        return len(self.rows)

    @property
    def colors(self) -> int:
        """How many sweeps give all entries."""
        return self.coloring().count

    def coloring(self, mode: Mode | str = "auto") -> Coloring:
        """Which columns share a sweep ("forward"), which rows ("reverse"), by default whichever is fewer; of a symmetric pattern a star colouring."""
        mode = "symmetric" if self.symmetric and mode == "auto" else mode
        if mode not in self._colorings:
            self._colorings[mode] = colored(self.rows, self.cols, self.shape, mode)      # type: ignore[arg-type]
        return self._colorings[mode]

    def toarray(self) -> Array:
        """The pattern as an array of bools."""
        out = np.zeros(self.shape, bool)
        out[self.rows, self.cols] = True
        return out

    def spy(self, width: int = 64) -> str:
        """The pattern as text of `*` and `.`; of a wide one each sign stands for a block."""
        m, n = self.shape
        step = max(1, -(-max(m, n) // width))
        blocks = np.zeros((-(-m // step), -(-n // step)), bool)
        blocks[self.rows // step, self.cols // step] = True
        return "\n".join("".join(".*"[int(b)] for b in row) for row in blocks)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Pattern) and self.shape == other.shape and self.symmetric == other.symmetric
                                 and np.array_equal(self.rows, other.rows) and np.array_equal(self.cols, other.cols))

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((self.shape, self.symmetric, self.rows.tobytes(), self.cols.tobytes()))
        return self._hash

    def __repr__(self) -> str:
        return f"Pattern({self.shape[0]} x {self.shape[1]}, {self.nnz} entries, {self.colors} color{'' if self.colors == 1 else 's'})"


@dataclass(frozen=True, slots=True, eq=False)
class SparseMatrix:
    """The numbers `data` at `rows` and `cols` of a matrix of `shape`, row by row; 0 elsewhere.

    A tree with one leaf, `data`: a compiled function may take it and return it, and `vmap` gives `data` an axis in front. Its methods work on Tensors, in
    a trace too, and on the NumPy arrays that a compiled function returned.
    """

    data: Any
    pattern: Pattern = field(metadata={"static": True})

    @property
    def rows(self) -> Array:
        return self.pattern.rows

    @property
    def cols(self) -> Array:
        return self.pattern.cols

    @property
    def shape(self) -> tuple[int, int]:
        return self.pattern.shape

    @property
    def nnz(self) -> int:
        return self.pattern.nnz

    def toarray(self) -> Any:
        """The matrix with its zeros."""
        m, n = self.shape
        if not isinstance(self.data, Tensor):
            out = np.zeros((*self.data.shape[:-1], m, n), self.data.dtype)
            out[..., self.rows, self.cols] = self.data
            return out

        def build(data: Node) -> list[Node]:
            lead = data.tensor.shape[:-1]
            flat = splat(0.0, TensorType((*lead, m * n), data.tensor.dtype))
            return [reshape(index.scatter_set(flat, _numbers(self.rows * n + self.cols), data, axis=len(lead)), shape=(*lead, m, n))]
        return apply_graph(build, self.data)[0]

    def todense(self) -> Any:
        """The same as `toarray`."""
        return self.toarray()

    def diagonal(self, k: int = 0) -> Any:
        """The k-th diagonal: elements (i, i + k), 0 where the pattern has none. k > 0 is above the main one."""
        m, n = self.shape
        i = np.arange(max(0, -k), max(0, -k, min(m, n - k)))
        keys, wanted = self.rows * max(n, 1) + self.cols, i * max(n, 1) + i + k
        at = np.minimum(np.searchsorted(keys, wanted), max(self.nnz - 1, 0))
        there = keys[at] == wanted if self.nnz else np.zeros(len(i), bool)
        if not isinstance(self.data, Tensor):
            return np.where(there, self.data[..., at], self.data.dtype.type(0)) if self.nnz else np.zeros((*self.data.shape[:-1], len(i)), self.data.dtype)

        def build(data: Node) -> list[Node]:
            lead, kept = data.tensor.shape[:-1], np.nonzero(there)[0]
            out = splat(0.0, TensorType((*lead, len(i)), data.tensor.dtype))
            return [index.scatter_set(out, _numbers(kept), index.take(data, _numbers(at[there]), axis=len(lead)), axis=len(lead)) if len(kept) else out]
        return apply_graph(build, self.data)[0]

    def __matmul__(self, v: Any) -> Any:
        """The product with a vector."""
        v = v if isinstance(v, Tensor) else as_tensor(v) if isinstance(self.data, Tensor) else np.asarray(v)
        if v.shape != self.shape[1:] or len(self.data.shape) != 1:
            raise GraphError(f"a sparse {self.shape[0]} x {self.shape[1]} is multiplied with a vector of {self.shape[1]}, got {list(v.shape)}", at=user_loc(),
                             fix=".toarray() for anything else; gx.vmap for a batch")
        if not isinstance(self.data, Tensor) and not isinstance(v, Tensor):
            out = np.zeros(self.shape[0], np.result_type(self.data, v))
            np.add.at(out, self.rows, self.data * v[self.cols])
            return out
        v = as_tensor(v)
        products = as_tensor(self.data) * apply_graph(lambda x: [index.take(x, _numbers(self.cols), axis=0)], v)[0]

        def build(p: Node) -> list[Node]:
            return [index.scatter_add(splat(0.0, TensorType((self.shape[0],), p.tensor.dtype)), _numbers(self.rows), p, axis=0)]
        return apply_graph(build, products)[0]

    def tocsr(self) -> Any:
        """As `scipy.sparse.csr_array`. Needs SciPy; not for what is traced."""
        try:
            from scipy.sparse import csr_array  # type: ignore[import-untyped, unused-ignore]
        except ImportError:
            raise ImportError("tocsr() gives a scipy.sparse.csr_array: pip install scipy, or use rows, cols and data") from None
        data = self.data.numpy() if isinstance(self.data, Tensor) else self.data
        starts = np.zeros(self.shape[0] + 1, np.int64)
        np.cumsum(np.bincount(self.rows, minlength=self.shape[0]), out=starts[1:])
        return csr_array((data, self.cols, starts), shape=self.shape)

    def __repr__(self) -> str:
        return f"SparseMatrix({self.shape[0]} x {self.shape[1]}, {self.nnz} entries, {self.data.dtype})"


def _numbers(values: Array) -> Node:
    return const(value=np.ascontiguousarray(values, np.int64), shape=values.shape, dtype=i64)


def seeds(coloring: Coloring, like: TensorType) -> Node:
    """For each sweep the sum of the unit tensors that are its own, along a first axis."""
    from ..ops.elementwise import cast, eq
    from ..ops.leaf import iota
    n = len(coloring.colors)
    own = broadcast(_numbers(coloring.colors), shape=(coloring.count, n), axes=(0,))
    which = eq(own, iota(shape=(coloring.count, n), dtype=i64, axis=0))
    return reshape(cast(which, dtype=like.dtype), shape=(coloring.count, *like.shape))


def read(sweeps: Node, coloring: Coloring) -> Node:
    """The entries, from what the sweeps gave, one along the first axis."""
    size = sweeps.tensor.size
    assert isinstance(size, int)
    wide = size // coloring.count
    return index.take(reshape(sweeps, shape=(size,)), _numbers(coloring.sweep * wide + coloring.place), axis=0)
