"""Instructions of PTX, constants and registers, shuffles and printing of NVPTX."""

from __future__ import annotations

from tilus.codegen import ptx
from tilus.codegen.cells import elements_of, per_cell
from tilus.codegen.llvm.nvptx import inline_asm
from tilus.codegen.llvm.nvptx.kernel import Handlers, KernelEmitter, aggregate
from tilus.codegen.llvm.text import Emitter, ModuleText
from tilus.codegen.printing import format_string
from tilus.codegen.ptx.instruction import Address, Registers, predicated
from tilus.codegen.ptx.sync import read_again
from tilus.ir.core import Operation
from tilus.ir.dtypes import DType
from tilus.ir.ops import Broadcast, Const
from tilus.ir.ops.simt import (
    REREAD,
    CallEach,
    ExitIf,
    Keep,
    PrintThread,
    SpecialRegister,
    WarpRedux,
    WarpShuffle,
)
from tilus.ir.ops.thread import PtrAtomic
from tilus.ir.ops.words import Regroup

_SPECIAL = {"tid": "tid.x", "lane": "laneid"}
"""Special registers whose name is another in LLVM."""


# -- instructions


def described(k: KernelEmitter, op: Operation) -> None:
    """An operation that is one instruction, on the registers of its operands."""
    instruction = ptx.DESCRIBED[type(op)](op)
    results = inline_asm.emit(k.e, instruction, operands(k, op, instruction))
    if instruction.results:
        _bind_registers(k, op, results, instruction.results[0].kind)


def operands(k: KernelEmitter, op: Operation, instruction: ptx.Instruction) -> dict[str, list[str]]:
    """What an instruction takes of the operands of an operation, by name."""
    found = {}
    for operand in instruction.inputs:
        if isinstance(operand, Address):
            found[operand.name] = [k.pointers[getattr(op, operand.name)]]
        elif isinstance(operand, Registers):
            cells = k.cells[getattr(op, operand.name)]
            names = [k.to_register(n, cells.dtype, cells.per, operand.kind) for n in cells.names]
            found[operand.name] = [k.e.op(f"xor i1 {n}, true") for n in names] if operand.negated else names
    return found


def _bind_registers(k: KernelEmitter, op: Operation, registers: list[str], kind: str) -> None:
    dtype, per = op.results[0].tile.dtype, per_cell(op.results[0].tile.dtype, elements_of(op.results[0]))
    k.bind(op.results[0], [k.from_register(r, kind, dtype, per) for r in registers])


def ptr_atomic(k: KernelEmitter, op: PtrAtomic) -> None:
    instruction = ptx.memory.atomic(op)
    if op.predicate is not None:
        instruction = predicated(instruction)
    registers = inline_asm.emit(k.e, instruction, operands(k, op, instruction))
    if not op.discards:
        _bind_registers(k, op, registers, instruction.results[0].kind)


# -- constants, registers, vectors


def const(k: KernelEmitter, op: Const) -> None:
    dtype, count = op.result.tile.dtype, elements_of(op.result)
    per = per_cell(dtype, count)
    k.bind(op.result, [k.types.constant(op.value, dtype, per if per > 1 else 0)] * max(1, count // per))


def special(k: KernelEmitter, op: SpecialRegister) -> None:
    if op.phase and op.register in REREAD:
        k.bind(op.result, inline_asm.emit(k.e, read_again(REREAD[op.register]), {}))
        return
    register = "tid" if op.register == "warp" else op.register
    value = k.e.intrinsic(f"llvm.nvvm.read.ptx.sreg.{_SPECIAL.get(register, register)}", "i32", [])
    k.bind(op.result, [k.e.op(f"lshr i32 {value}, 5") if op.register == "warp" else value])


def broadcast(k: KernelEmitter, op: Broadcast) -> None:
    tile, x = op.result.tile, k.scalar(op.x)
    per = per_cell(tile.dtype, tile.size)
    k.bind(op.result, [k.cell(tile.dtype, [x] * per) if per > 1 else x] * (tile.size // per))


def keep(k: KernelEmitter, op: Keep) -> None:
    cells = k.cells[op.x]
    kind = k.cell_type(cells.dtype, cells.per)
    if kind in ("i1", "i8"):
        k.bind(op.result, list(cells.names))
        return
    register = {"float": "f", "double": "d", "i64": "l"}.get(kind, "r")
    names = [k.to_register(n, cells.dtype, cells.per, register) for n in cells.names]
    kept = [inline_asm.kept(k.e, inline_asm.REGISTER_TYPES[register], register, n) for n in names]
    k.bind(op.result, [k.from_register(n, register, cells.dtype, cells.per) for n in kept])


def call_each(k: KernelEmitter, op: CallEach) -> None:
    name, types = k.code_apart(op.body, op.span)
    given = aggregate(types)
    for values, results in op.groups():
        arguments = ", ".join(f"{ty} {n}" for v in values for ty, n in k.parts(v))
        whole = k.e.op(f"call {given} {name}({arguments})")
        parts = iter([k.e.op(f"extractvalue {given} {whole}, {i}") for i in range(len(types))])
        for result in results:
            k.hold(result, [next(parts) for _ in k.part_types(result)])


def regroup(k: KernelEmitter, op: Regroup) -> None:
    cells = k.cells[op.x]
    _bind_registers(k, op, [k.to_register(n, cells.dtype, cells.per, "r") for n in cells.names], "r")


# -- warps


def warp_shuffle(k: KernelEmitter, op: WarpShuffle) -> None:
    cells, lane = k.cells[op.value], k.scalar(op.lane)
    if cells.per == 1 and cells.dtype.bits == 64:
        k.bind(op.result, [_shuffle_wide(k, op.mode, name, cells.dtype, lane) for name in cells.names])
        return
    names = []
    for name in cells.names:
        word = _shuffle_word(k.e, op.mode, k.to_register(name, cells.dtype, cells.per, "r"), lane)
        names.append(k.from_register(word, "r", cells.dtype, cells.per))
    k.bind(op.result, names)


def _shuffle_word(e: Emitter, mode: str, word: str, lane: str) -> str:
    clamp = "0" if mode == "up" else "31"
    name = f"llvm.nvvm.shfl.sync.{mode}.i32"
    return e.intrinsic(name, "i32", [("i32", "-1"), ("i32", word), ("i32", lane), ("i32", clamp)])


def _shuffle_wide(k: KernelEmitter, mode: str, name: str, dtype: DType, lane: str) -> str:
    e = k.e
    pair = e.op(f"bitcast i64 {k.to_register(name, dtype, 1, 'l')} to <2 x i32>")
    moved = "poison"
    for i in (0, 1):
        word = _shuffle_word(e, mode, e.op(f"extractelement <2 x i32> {pair}, i32 {i}"), lane)
        moved = e.op(f"insertelement <2 x i32> {moved}, i32 {word}, i32 {i}")
    return k.from_register(e.op(f"bitcast <2 x i32> {moved} to i64"), "l", dtype, 1)


def warp_redux(k: KernelEmitter, op: WarpRedux) -> None:
    unsigned = op.kind in ("min", "max") and op.value.tile.dtype.kind == "uint"
    name = f"llvm.nvvm.redux.sync.{'u' if unsigned else ''}{op.kind}"
    k.bind(op.result, [k.e.intrinsic(name, "i32", [("i32", k.scalar(op.value)), ("i32", "-1")])])


# -- the rest


def print_thread(k: KernelEmitter, op: PrintThread) -> None:
    """A call of vprintf with the values in a local buffer of 8-byte slots."""
    values = []
    for value in op.values:
        dtype, text = value.tile.dtype, k.scalar(value)
        if dtype.is_float:
            values.append(("double", text))
        elif k.types.element(dtype) == "i64":
            values.append(("i64", text))
        else:
            extend = "sext" if dtype.kind == "int" else "zext"
            values.append(("i64", k.e.op(f"{extend} {k.types.element(dtype)} {text} to i64")))
    k.module.declare("vprintf", "declare i32 @vprintf(ptr, ptr)")
    buffer = k.e.op(f"alloca [{max(1, len(values))} x i64], align 8")
    for i, (kind, name) in enumerate(values):
        slot = k.e.op(f"getelementptr i64, ptr {buffer}, i32 {i}")
        k.e.do(f"store {kind} {name}, ptr {slot}, align 8")
    k.e.op(f"call i32 @vprintf(ptr {_global_string(k.module, format_string(op))}, ptr {buffer})")


def _global_string(module: ModuleText, text: str) -> str:
    """A pointer to constant text, as a generic address."""
    name = module.string(text)
    index = next(i for i, d in enumerate(module.definitions) if d.startswith(name + " "))
    module.definitions[index] = module.definitions[index].replace("private constant", "private addrspace(1) constant")
    return f"addrspacecast (ptr addrspace(1) {name} to ptr)"


def exit_if(k: KernelEmitter, op: ExitIf) -> None:
    leave, stay = (k.e.new_label(s) for s in ("exit", "stay"))
    k.e.do(f"br i1 {k.scalar(op.condition)}, label %{leave}, label %{stay}")
    k.e.start(leave)
    k.e.do("ret void")
    k.e.start(stay)


HANDLERS: Handlers = {
    **dict.fromkeys(ptx.DESCRIBED, described), PtrAtomic: ptr_atomic, Const: const, SpecialRegister: special,
    Broadcast: broadcast, Keep: keep, CallEach: call_each, Regroup: regroup, WarpShuffle: warp_shuffle,
    WarpRedux: warp_redux, PrintThread: print_thread, ExitIf: exit_if,
}
