"""Elementwise operations of NVPTX, on a cell or an element at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilus.codegen.cells import elements_of, per_cell
from tilus.codegen.llvm import arith
from tilus.codegen.llvm.nvptx import inline_asm
from tilus.codegen.llvm.nvptx.kernel import Handlers, KernelEmitter
from tilus.codegen.llvm.text import Emitter
from tilus.codegen.ptx import arith as ptx
from tilus.codegen.ptx.names import PTX_TYPES
from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Operation
from tilus.ir.dtypes import DType, f32, u16, u32
from tilus.ir.ops import Binary, Bitcast, Cast, Compare, Const, Fma, MulHi, Select, Unary
from tilus.ir.ops.simt import ApproxUnary, CvtFp8
from tilus.targets import Feature


def elementwise(k: KernelEmitter, op: Operation) -> None:
    """Cell by cell where all operands have cells like those of the result, else element by element."""
    apply = _APPLY[type(op)]
    operands = [k.cells[v] for v in op.operands]
    count = elements_of(op.results[0])
    per = per_cell(op.results[0].tile.dtype, count)
    if all(c.per == per for c in operands):
        names = zip(*(c.names for c in operands), strict=True)
        k.bind(op.results[0], [apply(k, op, per if per > 1 else 0, list(n)) for n in names])
        return
    elements = [apply(k, op, 0, [k.element(c, i) for c in operands]) for i in range(max(1, count))]
    k.bind_elements(op.results[0], elements)


def cast(k: KernelEmitter, op: Cast) -> None:
    """Conversions; f32 to pairs of 16-bit floats is one instruction where the target has it."""
    count = elements_of(op.x)
    pairs = op.x.tile.dtype is f32 and op.dtype.name in ("f16", "bf16") and op.rounding == "rn"
    if not (pairs and count and count % 2 == 0 and k.target.has(Feature.CVT_BF16)):
        elementwise(k, op)
        return
    x = [k.element(k.cells[op.x], i) for i in range(count)]
    k.bind(op.result, [_pair(k, op.dtype, *x[i : i + 2]) for i in range(0, count, 2)])


def _pair(k: KernelEmitter, dtype: DType, low: str, high: str) -> str:
    """Two f32 as a cell of f16 or bf16, to nearest even."""
    return k.e.intrinsic(f"llvm.nvvm.ff2{dtype}x2.rn", k.cell_type(dtype, 2), [("float", high), ("float", low)])


def _binary(k: KernelEmitter, op: Binary, count: int, operands: list[str]) -> str:
    dtype, kind = op.lhs.tile.dtype, op.kind
    constant = op.rhs.defining
    known = int(constant.value) if isinstance(constant, Const) and dtype.is_int else None
    native = dtype.bits > 16 or kind == "copysign" or (dtype.name == "f16" and kind in ("add", "sub", "mul"))
    if not dtype.is_float or native:
        return arith.binary(k.e, kind, dtype, count, *operands, contract=op.contract, constant=known)
    wide = [convert(k, x, dtype, f32, count) for x in operands]
    return convert(k, arith.binary(k.e, kind, f32, count, *wide, contract=op.contract), f32, dtype, count)


def _unary(k: KernelEmitter, op: Unary, count: int, operands: list[str]) -> str:
    dtype = op.x.tile.dtype
    (x,) = operands
    if not (dtype.is_float and dtype.bits == 16) or op.kind in ("neg", "abs"):
        return _native_unary(k, op.kind, dtype, count, x)
    result = _native_unary(k, op.kind, f32, count, convert(k, x, dtype, f32, count))
    return result if op.result.tile.dtype.is_bool else convert(k, result, f32, dtype, count)


def _native_unary(k: KernelEmitter, kind: str, dtype: DType, count: int, x: str) -> str:
    if kind == "rcp":
        return arith.binary(k.e, "div", dtype, count, k.types.constant(1.0, dtype, count), x)
    return arith.unary(k.e, kind, dtype, count, x)


def _compare(k: KernelEmitter, op: Compare, count: int, operands: list[str]) -> str:
    dtype = op.lhs.tile.dtype
    if dtype.name == "bf16":
        operands = [convert(k, x, dtype, f32, count) for x in operands]
        dtype = f32
    return arith.compare(k.e, op.kind, dtype, count, *operands)


def _select(k: KernelEmitter, op: Select, count: int, operands: list[str]) -> str:
    ty = k.types.vector(op.x.tile.dtype, count)
    flags = f"<{count} x i1>" if count else "i1"
    return k.e.op(f"select {flags} {operands[0]}, {ty} {operands[1]}, {ty} {operands[2]}")


def _bitcast(k: KernelEmitter, op: Bitcast, count: int, operands: list[str]) -> str:
    old, new = (k.types.vector(d, count) for d in (op.x.tile.dtype, op.dtype))
    return operands[0] if old == new else k.e.op(f"bitcast {old} {operands[0]} to {new}")


def _approximation(k: KernelEmitter, op: ApproxUnary, count: int, operands: list[str]) -> str:
    return inline_asm.emit(k.e, ptx.approx_unary(op.kind, op.ftz), {"x": operands})[0]


_APPLY: dict[type[Operation], Callable[[KernelEmitter, Any, int, list[str]], str]] = {
    Binary: _binary, Unary: _unary, Compare: _compare, Select: _select, Bitcast: _bitcast, ApproxUnary: _approximation,
    Cast: lambda k, op, count, operands: convert(k, operands[0], op.x.tile.dtype, op.dtype, count),
    Fma: lambda k, op, count, operands: arith.fma(k.e, op.a.tile.dtype, count, *operands),
    MulHi: lambda k, op, count, operands: arith.mulhi(k.e, op.lhs.tile.dtype, count, *operands),
}
"""One cell (or element, count 0) of a result."""


# -- conversions


def convert(k: KernelEmitter, x: str, source: DType, target: DType, count: int) -> str:
    """A conversion of ``count`` elements (0: of a scalar), to nearest even, saturating from float to integer."""
    if (source.is_float and not source.is_arithmetic) or (target.is_float and not target.is_arithmetic):
        raise UnsupportedError.at("E0507", f"conversion from {source} to {target} on the PTX route")
    if source is target or "bf16" not in (source.name, target.name):
        return arith.cast(k.e, source, target, count, x)
    if source.name == "bf16":
        wide = _widen_bf16(k, x, source, count)
        return wide if target is f32 else convert(k, wide, f32, target, count)
    if source is not f32:
        x = convert(k, x, source, f32, count)
    return _narrow_bf16(k, x, target, count)


def _widen_bf16(k: KernelEmitter, x: str, bf16: DType, count: int) -> str:
    """bf16 is the upper half of an f32."""
    bf, half, word, single = (k.types.vector(t, count) for t in (bf16, u16, u32, f32))
    bits = k.e.op(f"zext {half} {k.e.op(f'bitcast {bf} {x} to {half}')} to {word}")
    shifted = k.e.op(f"shl {word} {bits}, {k.types.constant(16, u32, count)}")
    return k.e.op(f"bitcast {word} {shifted} to {single}")


def _narrow_bf16(k: KernelEmitter, x: str, bf16: DType, count: int) -> str:
    """Rounding to bf16 is done by the instruction, or in integers."""
    e = k.e
    native = k.target.has(Feature.CVT_BF16)
    if not count:
        return e.intrinsic("llvm.nvvm.f2bf16.rn", "bfloat", [("float", x)]) if native else _round_to_bf16(e, x)
    parts = [e.op(f"extractelement {k.types.vector(f32, count)} {x}, i32 {i}") for i in range(count)]
    if count == 2 and native:
        return _pair(k, bf16, *parts)
    return k.cell(bf16, [_narrow_bf16(k, part, bf16, 0) for part in parts])


def _round_to_bf16(e: Emitter, x: str) -> str:
    """To nearest even in integer arithmetic, for targets without the conversion."""
    bits = e.op(f"bitcast float {x} to i32")
    odd = e.op(f"and i32 {e.op(f'lshr i32 {bits}, 16')}, 1")
    biased = e.op(f"add i32 {e.op(f'add i32 {bits}, 32767')}, {odd}")
    nan = e.op(f"fcmp uno float {x}, {x}")
    high = e.op(f"trunc i32 {e.op(f'lshr i32 {biased}, 16')} to i16")
    chosen = e.op(f"select i1 {nan}, i16 32767, i16 {high}")
    return e.op(f"bitcast i16 {chosen} to bfloat")


def cvt_fp8(k: KernelEmitter, op: CvtFp8) -> None:
    """8-bit floats, two at a time, and four to a cell where there are as many."""
    if op.x.tile.dtype is f32:
        _to_bytes(k, op)
    else:
        _from_bytes(k, op)


def _to_bytes(k: KernelEmitter, op: CvtFp8) -> None:
    instruction = ptx.f32_to_bytes(PTX_TYPES[op.dtype.name])
    cells, count = k.cells[op.x], elements_of(op.x)
    x = [k.element(cells, i) for i in range(max(1, count))]

    def pair(low: str, high: str) -> str:
        return inline_asm.emit(k.e, instruction, {"high": [high], "low": [low]})[0]

    if count and count % 4 == 0:
        pairs = [pair(*x[i : i + 2]) for i in range(0, count, 2)]
        words = [_joined(k.e, *pairs[i : i + 2]) for i in range(0, len(pairs), 2)]
        k.bind(op.result, [k.from_register(w, "r", op.dtype, 4) for w in words])
        return
    zero = k.types.constant(0.0, f32)
    k.bind_elements(op.result, [k.e.op(f"trunc i16 {pair(v, zero)} to i8") for v in x])


def _joined(e: Emitter, low: str, high: str) -> str:
    """Two i16 as an i32."""
    wide, upper = (e.op(f"zext i16 {x} to i32") for x in (low, high))
    return e.op(f"or i32 {wide}, {e.op(f'shl i32 {upper}, 16')}")


def _from_bytes(k: KernelEmitter, op: CvtFp8) -> None:
    e, cells, count = k.e, k.cells[op.x], elements_of(op.x)
    instruction = ptx.bytes_to_f16(PTX_TYPES[cells.dtype.name])

    def numbers(codes: str) -> str:
        return k.from_register(inline_asm.emit(e, instruction, {"x": [codes]})[0], "r", op.dtype, 2)

    if count and count % 4 == 0:
        words = [k.to_register(c, cells.dtype, 4, "r") for c in cells.names]
        halves = [e.op(f"trunc i32 {part} to i16") for w in words for part in (w, e.op(f"lshr i32 {w}, 16"))]
        k.bind(op.result, [numbers(h) for h in halves])
        return
    codes = [e.op(f"zext i8 {k.element(cells, i)} to i16") for i in range(max(1, count))]
    k.bind_elements(op.result, [e.op(f"extractelement <2 x half> {numbers(c)}, i32 0") for c in codes])


HANDLERS: Handlers = {**dict.fromkeys(_APPLY, elementwise), Cast: cast, CvtFp8: cvt_fp8}
