"""Pointers, loads and stores of NVPTX. What has a predicate is inline PTX: LLVM has no such instructions."""

from __future__ import annotations

from tilus.codegen import ptx
from tilus.codegen.cells import elements_of, per_cell
from tilus.codegen.llvm.nvptx import inline_asm
from tilus.codegen.llvm.nvptx.kernel import Handlers, KernelEmitter
from tilus.codegen.ptx.instruction import predicated, register_kind
from tilus.ir.core import Value
from tilus.ir.dtypes import DType, i32, i64, u8
from tilus.ir.ops import Alloca, Binary, Cast, Const, PtrAdd, PtrCast, PtrLoad, PtrStore
from tilus.ir.ops.simt import SharedBase
from tilus.ir.ops.thread import pointer_type
from tilus.lowering.spare_registers import is_short


def ptr_add(k: KernelEmitter, op: PtrAdd) -> None:
    pointer = pointer_type(op.pointer)
    ty, element = k.types.pointer(pointer.space), k.types.memory_element(pointer.dtype)
    name = k.pointers[op.pointer]
    size = 0 if pointer.dtype.is_bool or pointer.dtype.bits % 8 else pointer.dtype.bits // 8
    strides = None
    if op.offset is not None and pointer.space == "global":
        strides = _strides(op.offset, size, is_short(k.function))
    if op.offset is not None and pointer.space == "shared" and size > 1 and _is_flipped(op.offset):
        name = k.e.op(f"getelementptr i8, {ty} {name}, i32 {_in_bytes(k, op.offset, size)}")
    elif strides is not None:
        stride, factor = strides
        if op in k.steps:
            name = k.e.op(f'call {ty} asm "mad.wide.s32 $0, $1, {factor}, $2;", "=l,r,l"'
                          f"(i32 {k.scalar(stride)}, {ty} {name})")
        else:
            product = k.e.op(f'call i64 asm "mul.wide.s32 $0, $1, {factor};", "=l,r"(i32 {k.scalar(stride)})')
            name = k.e.op(f"getelementptr i8, {ty} {name}, i64 {product}")
    elif op.offset is not None:
        name = k.e.op(f"getelementptr {element}, {ty} {name}, {k.types.element(op.offset.tile.dtype)} "
                      f"{k.scalar(op.offset)}")
    if op.constant:
        name = k.e.op(f"getelementptr {element}, {ty} {name}, i64 {op.constant}")
    k.pointers[op.result] = name


def _strides(offset: Value, size: int, short: bool) -> tuple[Value, int] | None:
    """Of an offset that is a number of strides of 32 bits the stride, and the number times ``size``. LLVM would keep
    the product in two registers, and add it by two instructions, where one multiplies and adds. Where registers are
    ``short`` what LLVM makes of strides that are arguments takes fewer of them."""
    made = offset.defining
    if isinstance(made, Binary) and made.kind == "mul" and isinstance(made.rhs.defining, Const):
        stride, factor = made.lhs, int(made.rhs.defining.value) * size
        if isinstance(stride.defining, Cast) and stride.tile.dtype is i64:
            stride = stride.defining.x
        elif stride.defining is not None or short:  # no argument of the kernel
            return None
        if stride.tile.dtype is i32 and 0 < abs(factor) < 1 << 31:
            return stride, factor
    return None


def _is_flipped(offset: Value) -> bool:
    maker = offset.defining
    return isinstance(maker, Binary) and maker.kind == "xor" and maker.result.tile.dtype is i32


def _in_bytes(k: KernelEmitter, offset: Value, size: int) -> str:
    """A swizzled offset in bytes. Bits are flipped last: a product by the size would come last otherwise, and ptxas
    does that again at each use, as a part of the addition, where an instruction could have added what is uniform."""
    maker = offset.defining
    if isinstance(maker, Const):
        return str(int(maker.value) * size)
    if isinstance(maker, Binary) and _is_flipped(offset):
        return k.e.op(f"xor i32 {_in_bytes(k, maker.lhs, size)}, {_in_bytes(k, maker.rhs, size)}")
    return k.e.op(f"mul i32 {k.scalar(offset)}, {size}")


def ptr_cast(k: KernelEmitter, op: PtrCast) -> None:
    k.pointers[op.result] = k.pointers[op.pointer]


def shared_base(k: KernelEmitter, op: SharedBase) -> None:
    k.pointers[op.result] = k.e.op(f"getelementptr i8, ptr addrspace(3) @shared_memory, i32 {op.offset}")


def alloca(k: KernelEmitter, op: Alloca) -> None:
    align = f", align {op.alignment}" if op.alignment else ""
    k.pointers[op.result] = k.e.op(f"alloca [{op.count} x {k.types.memory_element(op.dtype)}]{align}")


class _Access:
    """A value in memory: ``words`` words of the LLVM type ``word``, a cell each. A bool takes a byte."""

    def __init__(self, k: KernelEmitter, value: Value) -> None:
        count = elements_of(value)
        self.is_bool = value.tile.dtype.is_bool
        self.dtype: DType = u8 if self.is_bool else value.tile.dtype
        self.per = per_cell(self.dtype, 0 if self.is_bool else count)
        self.words = max(1, count) // self.per
        self.bits = k.cell_bits(self.dtype, self.per)
        self.word = "i32" if self.per > 1 else k.types.element(self.dtype)
        self.type = f"<{self.words} x {self.word}>" if self.words > 1 else self.word

    def loaded(self, k: KernelEmitter, name: str) -> str:
        """An element as it is in registers: of a bool any byte but 0 is true."""
        return k.e.op(f"icmp ne i8 {name}, 0") if self.is_bool else name

    def stored(self, k: KernelEmitter, name: str) -> str:
        return k.e.op(f"zext i1 {name} to i8") if self.is_bool else name

    def register_kind(self, as_bits: bool) -> str:
        """The class of register that PTX holds a word in."""
        return "r" if self.per > 1 else register_kind(self.dtype, as_bits)


def ptr_load(k: KernelEmitter, op: PtrLoad) -> None:
    access = _Access(k, op.result)
    load = _plain_load if op.predicate is None else _predicated_load
    k.bind(op.result, [access.loaded(k, word) for word in load(k, op, access)])


def _plain_load(k: KernelEmitter, op: PtrLoad, access: _Access) -> list[str]:
    space = pointer_type(op.pointer).space
    volatile = "volatile " if op.volatile else ""
    flags = f", !invariant.load {k.module.node('!{}')}" if op.read_only and space == "global" else ""
    value = k.e.op(f"load {volatile}{access.type}, {k.types.pointer(space)} {k.pointers[op.pointer]}, "
                   f"align {op.alignment or access.bits // 8}{flags}")
    words = [value] if access.words == 1 else [
        k.e.op(f"extractelement {access.type} {value}, i32 {i}") for i in range(access.words)]
    return words if access.per == 1 else [k.from_register(w, "r", access.dtype, access.per) for w in words]


def _predicated_load(k: KernelEmitter, op: PtrLoad, access: _Access) -> list[str]:
    assert op.predicate is not None
    space, kind = pointer_type(op.pointer).space, access.register_kind(as_bits=False)
    load = ptx.memory.load(space, kind, access.words, access.bits, op.read_only and space == "global",
                           op.volatile)
    operands = {"pointer": [k.pointers[op.pointer]], "predicate": [k.scalar(op.predicate)]}
    if op.other is not None:
        others = [access.stored(k, n) for n in k.cells[op.other].names]
        operands["other"] = [k.to_register(n, access.dtype, access.per, kind) for n in others]
    loaded = inline_asm.emit(k.e, predicated(load, op.other is not None), operands)
    return [k.from_register(w, kind, access.dtype, access.per) for w in loaded]


def ptr_store(k: KernelEmitter, op: PtrStore) -> None:
    access = _Access(k, op.value)
    names = [access.stored(k, n) for n in k.cells[op.value].names]
    address, space = k.pointers[op.pointer], pointer_type(op.pointer).space
    if op.predicate is not None:
        kind = access.register_kind(as_bits=True)
        inline_asm.emit(k.e, predicated(ptx.memory.store(space, kind, access.words, access.bits)), {
            "pointer": [address], "predicate": [k.scalar(op.predicate)],
            "value": [k.to_register(n, access.dtype, access.per, kind) for n in names]})
        return
    if access.per > 1:
        names = [k.to_register(n, access.dtype, access.per, "r") for n in names]
    value = names[0]
    if access.words > 1:
        value = "poison"
        for i, name in enumerate(names):
            value = k.e.op(f"insertelement {access.type} {value}, {access.word} {name}, i32 {i}")
    k.e.do(f"store {access.type} {value}, {k.types.pointer(space)} {address}, align {op.alignment or access.bits // 8}")


HANDLERS: Handlers = {
    PtrAdd: ptr_add, PtrCast: ptr_cast, SharedBase: shared_base, Alloca: alloca, PtrLoad: ptr_load, PtrStore: ptr_store,
}
