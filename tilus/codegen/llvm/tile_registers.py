"""Operations on a core's tile registers, whose numbers are the program's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tilus.ir.core import Operation, Value
from tilus.ir.ops.simd import TileConfigure, TileDot, TileLoad, TileRelease, TileStore, TileZero

if TYPE_CHECKING:
    from tilus.codegen.llvm.host import HostEmitter


def _call(emitter: HostEmitter, name: str, tiles: Sequence[int] = (), values: Sequence[Value] = ()) -> None:
    operands = [emitter.typed(v) for v in values]
    types = ["i8 immarg"] * len(tiles) + [operand.split()[0] for operand in operands]
    emitter.e.module.declare(name, f"declare void @{name}({', '.join(types)})")
    emitter.e.do(f"call void @{name}({', '.join([*(f'i8 {n}' for n in tiles), *operands])})")


def _dot(emitter: HostEmitter, op: TileDot) -> None:
    _call(emitter, f"llvm.x86.{op.instruction}", (op.accumulator, op.a, op.b))


TILE_REGISTERS: dict[type[Operation], Callable[[Any, Any], None]] = {
    TileConfigure: lambda emitter, op: _call(emitter, "llvm.x86.ldtilecfg", (), (op.pointer,)),
    TileRelease: lambda emitter, op: _call(emitter, "llvm.x86.tilerelease"),
    TileZero: lambda emitter, op: _call(emitter, "llvm.x86.tilezero", (op.tile,)),
    TileLoad: lambda emitter, op: _call(emitter, "llvm.x86.tileloadd64", (op.tile,), (op.pointer, op.stride)),
    TileStore: lambda emitter, op: _call(emitter, "llvm.x86.tilestored64", (op.tile,), (op.pointer, op.stride)),
    TileDot: _dot,
}

__all__ = ["TILE_REGISTERS"]
