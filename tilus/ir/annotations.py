"""Annotations of kernel parameters: what ``tl.f16["M", "K"]`` evaluates to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilus.ir.dtypes import DType


@dataclass(frozen=True, slots=True)
class ArrayAnnotation:
    """An array in global memory. A dimension is a name, an expression over names (``"B+1"``) or a number."""

    dtype: DType
    dims: tuple[str | int, ...]

    @property
    def rank(self) -> int:
        return len(self.dims)

    def __or__(self, other: None) -> Any:
        return OptionalAnnotation(self) if other is None else NotImplemented

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(repr, self.dims))}]"


@dataclass(frozen=True, slots=True)
class OptionalAnnotation:
    """A parameter that may be None."""

    inner: ArrayAnnotation | DType

    def __str__(self) -> str:
        return f"{self.inner} | None"
