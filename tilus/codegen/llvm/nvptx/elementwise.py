"""Elementwise operations of NVPTX, on a cell or an element at a time."""

from __future__ import annotations

from tilus.codegen.cells import elements_of, per_cell
from tilus.codegen.llvm import elementwise
from tilus.codegen.llvm.nvptx import inline_asm
from tilus.codegen.llvm.nvptx.kernel import Handlers, KernelEmitter
from tilus.codegen.llvm.text import Emitter
from tilus.codegen.ptx import arith as ptx
from tilus.codegen.ptx.instruction import Instruction, Registers
from tilus.codegen.ptx.names import PTX_TYPES
from tilus.ir.core import Operation
from tilus.ir.dtypes import DType, f32, i32, u16, u32
from tilus.ir.ops import Cast
from tilus.ir.ops.simt import ApproxUnary, CvtFp8
from tilus.targets import Feature


def apply_elementwise(k: KernelEmitter, op: Operation) -> None:
    """Cell by cell where all operands have cells like those of the result, else element by element."""
    apply = elementwise.APPLY[type(op)]
    operands = [k.cells[v] for v in op.operands]
    count = elements_of(op.results[0])
    per = per_cell(op.results[0].tile.dtype, count)
    if all(c.per == per for c in operands):
        names = zip(*(c.names for c in operands), strict=True)
        k.bind(op.results[0], [apply(k.e, op, per if per > 1 else 0, list(n)) for n in names])
        return
    elements = [apply(k.e, op, 0, [k.element(c, i) for c in operands]) for i in range(max(1, count))]
    k.bind_elements(op.results[0], elements)


def approximate(k: KernelEmitter, op: ApproxUnary) -> None:
    instruction = ptx.approx_unary(op.kind, op.ftz)
    k.bind(op.result, [inline_asm.emit(k.e, instruction, {"x": [name]})[0] for name in k.cells[op.x].names])


def cast(k: KernelEmitter, op: Cast) -> None:
    """Conversions; f32 to pairs of 16-bit floats is one instruction where the target has it."""
    count, cells = elements_of(op.x), k.cells[op.x]
    if cells.per == 2 and op.x.tile.dtype is u16 and op.dtype in (i32, u32):
        k.bind(op.result, [half for name in cells.names for half in _halves(k, name)])
        return
    instruction = ptx.conversion(op)
    if instruction is not None:
        _convert(k, op, instruction)
        return
    pairs = op.x.tile.dtype is f32 and op.dtype.name in ("f16", "bf16") and op.rounding == "rn"
    if not (pairs and count and count % 2 == 0 and k.target.has(Feature.CVT_BF16)):
        apply_elementwise(k, op)
        return
    x = [k.element(cells, i) for i in range(count)]
    k.bind(op.result, [_pair(k, op.dtype, *x[i : i + 2]) for i in range(0, count, 2)])


def _convert(k: KernelEmitter, op: Cast, instruction: Instruction) -> None:
    """By an instruction on single registers."""
    cells, (operand,), (result,) = k.cells[op.x], instruction.inputs, instruction.results
    assert isinstance(operand, Registers)
    elements = []
    for i in range(max(1, elements_of(op.x))):
        x = k.to_register(k.element(cells, i), cells.dtype, 1, operand.kind)
        elements.append(k.from_register(inline_asm.emit(k.e, instruction, {"x": [x]})[0], result.kind, op.dtype, 1))
    k.bind_elements(op.result, elements)


def _halves(k: KernelEmitter, pair: str) -> list[str]:
    """Two u16 in 32 bits each, as parts of the word that they are: what bf16 is as f32 then takes one instruction, and
    the word need not be put together again where it is used as it is."""
    word = k.to_register(pair, u16, 2, "r")
    return [k.e.op(f"and i32 {word}, 65535"), k.e.op(f"lshr i32 {word}, 16")]


def _pair(k: KernelEmitter, dtype: DType, low: str, high: str) -> str:
    """Two f32 as a cell of f16 or bf16, to nearest even."""
    return k.e.intrinsic(f"llvm.nvvm.ff2{dtype}x2.rn", k.cell_type(dtype, 2), [("float", high), ("float", low)])


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


HANDLERS: Handlers = {
    **dict.fromkeys(elementwise.APPLY, apply_elementwise), Cast: cast, ApproxUnary: approximate, CvtFp8: cvt_fp8,
}
