"""`graphc.linalg`: the Array API's extension of that name, and what NumPy, SciPy and PyTorch have beyond it. Only names: each is in the module of its kind."""
from .manipulation import matrix_transpose
from .matrices import cross, diagonal, kron, matrix_norm, matrix_power, norm, trace
from .products import matmul, outer, tensordot, vecdot
from .statistics import vector_norm
from .systems import LU, Slogdet, cholesky, cholesky_solve, det, inv, lu, slogdet, solve, solve_triangular

__all__ = ["LU", "Slogdet", "cholesky", "cholesky_solve", "cross", "det", "diagonal", "inv", "kron", "lu", "matmul", "matrix_norm", "matrix_power",
           "matrix_transpose", "norm", "outer", "slogdet", "solve", "solve_triangular", "tensordot", "trace", "vecdot", "vector_norm"]
