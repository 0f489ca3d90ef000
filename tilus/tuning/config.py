"""Configurations: values of all compile-time parameters that are tuned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Config(Mapping[str, Any]):
    """One whole configuration of a kernel's compile-time parameters: ``tl.Config(BM=64, stages=3)``. It is a mapping,
    and cannot be changed."""

    def __init__(self, **values: Any) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return f"Config({shown(self._values)})"


def shown(variant: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in variant.items())


__all__ = ["Config", "shown"]
