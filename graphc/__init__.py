"""graphc: a compiler for training steps. Python to a static graph, its gradients and updates, lowered to one native function.

`import graphc as gx`. Arrays follow the Array API at this level (`gx.sum(x, axis=0)`), `gx.nn` and `gx.optim` follow torch, `gx.grad` and
`gx.scan` follow JAX, and `gx.compile` makes a function of them native.
"""
import sys
import typing as _typing
from math import e, inf, nan, pi

from . import array as _array
from . import nn, optim, utils
from .array import *  # noqa: F403
from .array import linalg, random
from .array.info import namespace_info as __array_namespace_info__  # noqa: F401
from .core.dims import Dim
from .core.dtype import DType
from .core.dtype import bf16 as bfloat16
from .core.dtype import bool_ as bool
from .core.dtype import f16 as float16
from .core.dtype import f32 as float32
from .core.dtype import f64 as float64
from .core.dtype import i8 as int8
from .core.dtype import i16 as int16
from .core.dtype import i32 as int32
from .core.dtype import i64 as int64
from .core.dtype import u8 as uint8
from .core.dtype import u16 as uint16
from .core.dtype import u32 as uint32
from .core.dtype import u64 as uint64
from .core.errors import GraphError, GraphIndexError, GraphTypeError
from .driver import CompiledFunction, Lowered, compile
from .trace import autograd
from .trace.batch import vmap
from .trace.callback import pure_callback
from .trace.custom import custom_jvp, custom_vjp
from .trace.derivatives import hessian, hvp, jacfwd, jacrev, jvp, linearize, stop_gradient, vjp
from .trace.effects import debug_callback, debug_print, io_callback
from .trace.functional import grad, value_and_grad
from .trace.generator import Generator, default_generator, manual_seed
from .trace.methods import provide_namespace as _provide_namespace
from .trace.remat import checkpoint
from .trace.scalar import scalar
from .trace.spec import Spec
from .trace.tape import enable_grad, no_grad
from .trace.tensor import Tensor

if _typing.TYPE_CHECKING:
    from . import symbolic as symbolic
    from .io import load, save
    from .testing import GradcheckError, explain_grad, gradcheck, gradgradcheck
    from .trace.pattern import Pattern, SparseMatrix
    from .trace.sparse import hessian_sparsity, jacobian_sparsity, sparse_hessian, sparse_jacobian

__version__ = "0.1.0"
__array_api_version__ = "2024.12"

remat = checkpoint
half, long, double, newaxis = float16, int64, float64, None

_provide_namespace(sys.modules[__name__])


def __getattr__(name: str) -> _typing.Any:             # what is imported when it is first used
    if name in ("load", "save"):
        from . import io
        return getattr(io, name)
    if name in ("GradcheckError", "explain_grad", "gradcheck", "gradgradcheck"):
        from . import testing
        return getattr(testing, name)
    if name in ("Pattern", "SparseMatrix", "hessian_sparsity", "jacobian_sparsity", "sparse_hessian", "sparse_jacobian"):
        from .trace import sparse
        return getattr(sparse, name)
    if name == "symbolic":
        import importlib
        return importlib.import_module(".symbolic", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    *_array.__all__,
    "CompiledFunction", "DType", "Dim", "Generator", "GradcheckError", "GraphError", "GraphIndexError", "GraphTypeError", "Lowered", "Pattern",
    "SparseMatrix", "Spec", "Tensor", "autograd", "bfloat16", "bool", "checkpoint", "compile", "custom_jvp", "custom_vjp", "debug_callback",
    "debug_print", "default_generator", "double", "e", "enable_grad", "explain_grad", "float16", "float32", "float64", "grad", "gradcheck",
    "gradgradcheck", "half", "hessian", "hessian_sparsity", "hvp", "inf", "int16", "int32", "int64", "int8", "io_callback", "jacfwd",
    "jacobian_sparsity", "jacrev", "jvp", "linalg", "linearize", "load", "long", "manual_seed", "nan", "newaxis", "nn", "no_grad", "optim", "pi",
    "pure_callback", "random", "remat", "save", "scalar", "sparse_hessian", "sparse_jacobian", "stop_gradient", "uint16", "uint32", "uint64", "uint8",
    "utils", "value_and_grad", "vjp", "vmap",
]
