"""What the arguments of a core's program are, in terms of the kernel's: as the lowering has written it down."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from tilus.ir.core import Function
from tilus.ir.dtypes import DType, parse_dtype
from tilus.ir.types import TileType

_FORM = re.compile(r"(?:(?P<name>[^.\[]+)|(?P<of>[^.\[]+)\.(?P<part>shape|strides)\[(?P<axis>\d+)\]"
                   r"|grid\[(?P<grid>\d+)\]|workspace\[(?P<size>\d+):(?P<dtype>\w+)\])")


class CoreArgument(NamedTuple):
    """One argument.

    Attributes:
        kind: an array's address, one of its extents or strides, a number, an extent of the grid, or memory in which
            the cores of a block hand each other tiles.
        name: of the kernel's parameter; "" for a grid's extent and memory.
        axis: of an extent or stride.
        dtype: of a number, or of memory.
        size: elements that each launched block has of memory.
        number: which memory of the kernel it is.
    """

    kind: Literal["array", "shape", "strides", "number", "grid", "memory"]
    name: str = ""
    axis: int = 0
    dtype: DType | None = None
    size: int = 0
    number: int = 0

    @property
    def is_address(self) -> bool:
        return self.kind in ("array", "memory")

    @property
    def spelled(self) -> str:
        """As a name of C, which others may have as well."""
        if self.kind in ("array", "number"):
            return self.name
        return {"grid": f"grid{self.axis}", "memory": f"exchange{self.number}"}.get(
            self.kind, f"{self.name}_{self.kind.removesuffix('s')}{self.axis}")


def core_arguments(meanings: Sequence[str], kernel: Function) -> list[CoreArgument]:
    """The arguments of a core's program from their meanings; ``kernel`` is the tile kernel. Raises ValueError for what
    is none."""
    found = [_argument(meaning, kernel) for meaning in meanings]
    memories = [n for n, argument in enumerate(found) if argument.kind == "memory"]
    for number, n in enumerate(memories):
        found[n] = found[n]._replace(number=number)
    return found


def _argument(meaning: str, kernel: Function) -> CoreArgument:
    """An argument from its meaning: ``a``, ``a.shape[0]``, ``a.strides[1]``, ``grid[0]``, ``workspace[4096:f32]``."""
    match = _FORM.fullmatch(meaning)
    if match is None:
        raise ValueError(f"no argument of a core's program: {meaning!r}")
    if match["size"]:
        return CoreArgument("memory", dtype=parse_dtype(match["dtype"]), size=int(match["size"]))
    if match["grid"]:
        return CoreArgument("grid", axis=int(match["grid"]))
    if match["part"]:
        return CoreArgument("shape" if match["part"] == "shape" else "strides", match["of"], int(match["axis"]))
    for value, parameter in zip(kernel.body.args, kernel.parameters, strict=True):
        if parameter.name == meaning:
            if isinstance(value.type, TileType):
                return CoreArgument("number", meaning, dtype=value.type.dtype)
            return CoreArgument("array", meaning)
    raise ValueError(f"{kernel.name} has no parameter {meaning!r}")


__all__ = ["CoreArgument", "core_arguments"]
