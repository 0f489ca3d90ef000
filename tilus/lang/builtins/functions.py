"""Functions of one float, made from the table that says what they are (ir/functions.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilus.ir.dtypes import DType, bf16, f16, f32
from tilus.ir.functions import PREDICATES, UNARY, Function
from tilus.ir.ops import Unary
from tilus.lang.context import current
from tilus.lang.values import Tile, as_tile, emit, fail, symbol


def _builtin(kind: str, what: Function) -> Callable[..., Tile]:
    def function(x: Any, *, approximate: bool = False, precision: DType | None = None) -> Tile:
        tile = as_tile(x, None, symbol(kind))
        if tile.dtype.is_int or tile.dtype.is_bool:
            tile = tile.to(f32)
        if approximate and not what.approximated:
            names = sorted(name for name, other in UNARY.items() if other.approximated)
            raise fail("E0107", f"{kind} has no approximate form", help=f"those are {', '.join(names)}")
        return emit(Unary(kind, tile.value, bool(approximate), precision_of(precision, tile, kind),
                          span=current().span))

    function.__name__ = function.__qualname__ = kind
    function.__doc__ = f"{what.meaning} Integers are converted to f32."
    if kind in UNARY:
        function.__doc__ += " ``precision``: as of ``tl.div``."
    return function


def precision_of(precision: DType | None, tile: Tile, kind: str) -> DType | None:
    """What a user asks for as ``precision=``: the tile's type, or f16 or bf16."""
    if precision is None or precision in (tile.dtype, f16, bf16):
        return precision
    raise fail("E0107", f"the precision of {symbol(kind)} of {tile.dtype} is not {precision}",
               help=f"it is one of {', '.join(dict.fromkeys(map(str, (tile.dtype, f16, bf16))))}")


FUNCTIONS = {kind: _builtin(kind, what) for kind, what in (UNARY | PREDICATES).items()}
globals().update(FUNCTIONS)
