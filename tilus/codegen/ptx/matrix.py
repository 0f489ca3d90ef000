"""Instructions of tensor cores, and those that load and store their fragments."""

from __future__ import annotations

import functools

from tilus.codegen.ptx.instruction import (
    Address,
    Described,
    Effects,
    Immediate,
    Instruction,
    Registers,
    register_kind,
)
from tilus.codegen.ptx.names import PTX_TYPES
from tilus.ir.ops.simt import LdMatrix, Mma, MmaScaled, MovMatrix, StMatrix


def mma(op: Mma) -> Instruction:
    """``mma.sync``: the accumulator is changed in place where nothing else needs it."""
    tiles = (op.a.tile, op.b.tile, op.c.tile)
    a, b, c = (PTX_TYPES[t.dtype.name] for t in tiles)
    words = tuple(t.size * t.dtype.bits // 32 for t in tiles)
    sparse = "" if op.metadata is None else ".sp::ordered_metadata" if op.ordered else ".sp"
    return _mma(op.shape, op.order, ("tf32", "tf32", c) if op.tf32 else (a, b, c), words, sparse)


@functools.cache
def _mma(shape: tuple[int, int, int], order: str, types: tuple[str, ...], words: tuple[int, ...],
         sparse: str) -> Instruction:
    m, n, k = shape
    a, b, c = types
    kinds = ["d" if t == "f64" else "f" if t == "f32" else "r" for t in (a, b, c)]
    counts = [n // 2 if t == "f64" else n for n, t in zip(words, types, strict=True)]
    operands = [Registers(*o) for o in zip(("a", "b", "c"), kinds, counts, strict=True)]
    if sparse:
        return Instruction(
            f"mma_sp_m{m}n{n}k{k}_{a}_{b}_{c}",
            f"mma{sparse}.sync.aligned.m{m}n{n}k{k}.{order}.{c}.{a}.{b}.{c} $result, $a, $b, $c, $metadata, 0;",
            (Registers("result", kinds[2], counts[2]),), (*operands, Registers("metadata", "r")), Effects.CONVERGENT,
            accumulator="c")
    return Instruction(
        f"mma_m{m}n{n}k{k}_{order.replace('.', '_')}_{a}_{b}_{c}",
        f"mma.sync.aligned.m{m}n{n}k{k}.{order}.{c}.{a}.{b}.{c} $result, $a, $b, $c;",
        (Registers("result", kinds[2], counts[2]),), tuple(operands), Effects.CONVERGENT, accumulator="c")


def mma_scaled(op: MmaScaled) -> Instruction:
    """``mma.sync`` with block scales."""
    words = tuple(v.tile.size * v.tile.dtype.bits // 32 for v in (op.a, op.b, op.c))
    return _mma_scaled(op.shape, op.kind, tuple(PTX_TYPES[name] for name in op.formats), PTX_TYPES[op.scale], op.scales,
                       words, op.select)


@functools.cache
def _mma_scaled(shape: tuple[int, int, int], kind: str, types: tuple[str, ...], scale: str, scales: int,
                words: tuple[int, ...], select: tuple[int, int, int, int]) -> Instruction:
    m, n, k = shape
    a, b = types
    operands = [Registers(*o) for o in zip(("a", "b", "c"), ("r", "r", "f"), words, strict=True)]
    chosen = [Immediate(*o) for o in zip(("byte_a", "thread_a", "byte_b", "thread_b"), select, strict=True)]
    return Instruction(
        f"mma_{kind}_m{m}n{n}k{k}_{a}_{b}",
        f"mma.sync.aligned.m{m}n{n}k{k}.row.col.kind::{kind}.block_scale.scale_vec::{scales}X.f32.{a}.{b}.f32.u{scale} "
        f"$result, $a, $b, $c, $a_scales, {{$byte_a, $thread_a}}, $b_scales, {{$byte_b, $thread_b}};",
        (Registers("result", "f", words[2]),),
        (*operands, Registers("a_scales", "r"), chosen[0], chosen[1], Registers("b_scales", "r"), chosen[2], chosen[3]),
        Effects.CONVERGENT, accumulator="c")


def ldmatrix(op: LdMatrix) -> Instruction:
    """``ldmatrix``: 8×8 matrices of 16-bit elements."""
    dtype = op.result.tile.dtype
    return _ldmatrix(op.count, op.trans, register_kind(dtype) if dtype.bits == 32 else "r")


@functools.cache
def _ldmatrix(count: int, trans: bool, kind: str) -> Instruction:
    return Instruction(
        f"ldmatrix_x{count}{'_trans' if trans else ''}",
        f"ldmatrix.sync.aligned.m8n8.x{count}{'.trans' if trans else ''}.shared.b16 $result, [$pointer];",
        (Registers("result", kind, count),), (Address("pointer", "shared"),))


def stmatrix(op: StMatrix) -> Instruction:
    """``stmatrix``, the inverse of ``ldmatrix``."""
    return _stmatrix(op.count, op.trans)


@functools.cache
def _stmatrix(count: int, trans: bool) -> Instruction:
    return Instruction(
        f"stmatrix_x{count}{'_trans' if trans else ''}",
        f"stmatrix.sync.aligned.m8n8.x{count}{'.trans' if trans else ''}.shared.b16 [$pointer], $value;",
        (), (Address("pointer", "shared", written=True), Registers("value", "r", count)))


_MOVMATRIX = Instruction("movmatrix_trans", "movmatrix.sync.aligned.m8n8.trans.b16 $result, $value;",
                         (Registers("result", "r"),), (Registers("value", "r"),), Effects.CONVERGENT)

DESCRIBED: Described = {Mma: mma, MmaScaled: mma_scaled, LdMatrix: ldmatrix, StMatrix: stmatrix,
                        MovMatrix: lambda op: _MOVMATRIX}
