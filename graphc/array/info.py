"""What `__array_namespace_info__` says: devices, dtypes, and what the functions can do where it is asked."""
from __future__ import annotations

from typing import Any

from ..core.dtype import ALL, DType, bool_, f32, i64
from ..trace.tape import current
from .dtypes import check_device, isdtype

_NAMES = {"bool": bool_, **{f"{word}{d.bits}": d for word, kind in (("int", "int"), ("uint", "uint"), ("float", "float")) for d in ALL if d.kind == kind}}


class NamespaceInfo:
    """The Array API's inspection of a namespace."""

    def capabilities(self) -> dict[str, Any]:
        """Masks and sizes that depend on data work outside of traces, and are refused inside. No tensor has more than 64 axes, NumPy's bound."""
        eager = current.tracer is None
        return {"boolean indexing": eager, "data-dependent shapes": eager, "max dimensions": 64}

    def default_device(self) -> str:
        return "cpu"

    def devices(self) -> list[str]:
        return ["cpu"]

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """There is no complex dtype: what stands there is never made."""
        check_device(device)
        return {"real floating": f32, "integral": i64, "indexing": i64}

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """The dtypes by name: all, or those of a kind (`isdtype`)."""
        check_device(device)
        return {name: d for name, d in _NAMES.items() if kind is None or isdtype(d, kind)}


def namespace_info() -> NamespaceInfo:
    """`gx.__array_namespace_info__()`."""
    return NamespaceInfo()
