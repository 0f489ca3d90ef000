"""How PTX calls the types of instructions and the scopes of memory operations."""

from __future__ import annotations

from tilus.ir.dtypes import NAMED, DType

PTX_SCOPES = {"block": "cta", "cluster": "cluster", "device": "gpu", "system": "sys"}


def _ptx_type(dtype: DType) -> str:
    if dtype.is_float:
        return dtype.name if dtype.bits > 8 else f"e{dtype.exponent}m{dtype.mantissa}"
    return "pred" if dtype.is_bool else f"{'s' if dtype.is_signed else 'u'}{dtype.bits}"


PTX_TYPES = {dtype.name: _ptx_type(dtype) for dtype in NAMED}

