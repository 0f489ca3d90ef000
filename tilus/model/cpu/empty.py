"""A kernel that does nothing, for what launches and blocks cost."""

# mypy: disable-error-code="valid-type"

from __future__ import annotations

from tilus.ir.dtypes import i32
from tilus.lang.builtins.control import grid
from tilus.runtime.jit import jit


@jit
def empty(blocks: i32) -> None:
    grid(blocks)


__all__ = ["empty"]
