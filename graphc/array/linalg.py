"""`graphc.linalg`: the Array API's extension of that name, and what NumPy, SciPy and PyTorch have beyond it. Only names: each is in the module of its kind."""
from .manipulation import matrix_transpose
from .matrices import cross, diagonal, kron, matrix_norm, matrix_power, norm, trace
from .products import matmul, outer, tensordot, vecdot
from .spectra import QR, SVD, Eigh, Lstsq, cond, eigh, eigvalsh, expm, lstsq, matrix_rank, pinv, qr, svd, svdvals
from .statistics import vector_norm
from .systems import LU, Slogdet, cholesky, cholesky_solve, det, inv, lu, slogdet, solve, solve_triangular

__all__ = ["LU", "QR", "SVD", "Eigh", "Lstsq", "Slogdet", "cholesky", "cholesky_solve", "cond", "cross", "det", "diagonal", "eigh", "eigvalsh", "expm", "inv",
           "kron", "lstsq", "lu", "matmul", "matrix_norm", "matrix_power", "matrix_rank", "matrix_transpose", "norm", "outer", "pinv", "qr", "slogdet", "solve",
           "solve_triangular", "svd", "svdvals", "tensordot", "trace", "vecdot", "vector_norm"]
