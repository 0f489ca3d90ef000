"""Annotations of kernel parameters: what ``tl.f16["M", "K"]`` evaluates to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tilus.records import record

if TYPE_CHECKING:
    from tilus.ir.dtypes import DType  # which makes these


@record(frozen=True, slots=True)
class ArrayAnnotation:
    """An array in global memory. A dimension is a name, an expression over names (``"B+1"``) or a number."""

    dtype: DType
    dims: tuple[str | int, ...]

    @property
    def rank(self) -> int:
        return len(self.dims)

    def __or__(self, other: ArrayAnnotation | None) -> Any:
        if isinstance(other, ArrayAnnotation):
            return UnionAnnotation((self, other))
        return OptionalAnnotation(self) if other is None else NotImplemented

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(repr, self.dims))}]"


@record(frozen=True, slots=True)
class UnionAnnotation:
    """An array of one of several element types, each of which is a specialisation; the first is the default."""

    options: tuple[ArrayAnnotation, ...]

    def __or__(self, other: ArrayAnnotation | None) -> Any:
        if isinstance(other, ArrayAnnotation):
            return UnionAnnotation((*self.options, other))
        return OptionalAnnotation(self) if other is None else NotImplemented

    def option(self, dtype: DType | None) -> ArrayAnnotation | None:
        """The option of an element type, None where there is none; the first for None."""
        return self.options[0] if dtype is None else next((o for o in self.options if o.dtype is dtype), None)

    def __str__(self) -> str:
        return " | ".join(map(str, self.options))


@record(frozen=True, slots=True)
class OptionalAnnotation:
    """A parameter that may be None."""

    inner: ArrayAnnotation | UnionAnnotation | DType

    def __str__(self) -> str:
        return f"{self.inner} | None"
