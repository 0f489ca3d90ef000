"""Element types of torch as ours."""

from __future__ import annotations

from typing import Any

import torch

from tilus.ir.dtypes import DType, f64, i64, parse_dtype
from tilus.torch.registry import Refused

NAMES = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64", "int8": "i8", "int16": "i16",
         "int32": "i32", "int64": "i64", "uint8": "u8", "bool": "bool"}
_known = {getattr(torch, name): parse_dtype(ours) for name, ours in NAMES.items()}


def number_type(meta: Any) -> DType:
    """The type of a number that is known at the call only, by what stands for it in a graph. Raises Refused."""
    if isinstance(meta, torch.SymInt):
        return i64
    if isinstance(meta, torch.SymFloat):
        return f64
    raise Refused(f"an argument that is a {type(meta).__name__}")


def torch_dtype(dtype: DType) -> Any:
    """The other way round. Raises Refused."""
    found = next((theirs for theirs, ours in _known.items() if ours is dtype), None)
    if found is None:
        raise Refused(f"{dtype} elements")
    return found


def dtype_of(dtype: Any) -> DType:
    """The element type of tensors of a torch dtype. Raises Refused where fused functions do not compute with it."""
    found = _known.get(dtype)
    if found is None:
        raise Refused(f"{str(dtype).removeprefix('torch.')} elements")
    return found
