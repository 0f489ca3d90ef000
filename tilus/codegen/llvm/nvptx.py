"""Thread-level modules as LLVM IR for NVPTX, and that as PTX.

A vector of registers is a list of cells, each an SSA value: one element of 32 or 64 bits, or a short LLVM vector of
narrower ones that fills a 32-bit register (``<2 x half>``). Instructions that LLVM has no IR for are inline PTX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tilus.codegen.llvm import arith
from tilus.codegen.llvm import nvptx_asm as ptx
from tilus.codegen.llvm.debug_lines import DebugLines
from tilus.codegen.llvm.text import Emitter, ModuleText
from tilus.codegen.llvm.types import TypeSpeller
from tilus.codegen.ptx_names import PTX_SCOPES, PTX_TYPES
from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.dtypes import DType, f32, f64, u16, u32
from tilus.ir.ops import (
    Alloca,
    Binary,
    Bitcast,
    Broadcast,
    Cast,
    Compare,
    Const,
    Extract,
    Fma,
    For,
    If,
    MulHi,
    Pack,
    Philox,
    PtrAdd,
    PtrCast,
    PtrLoad,
    PtrStore,
    Select,
    Shuffle,
    Unary,
    While,
)
from tilus.ir.ops.simt import (
    REREAD,
    AcquireLoad,
    ApproxUnary,
    Barrier,
    CpAsync,
    CpAsyncCommit,
    CpAsyncWait,
    CvtFp8,
    ExitIf,
    Fence,
    Keep,
    LdMatrix,
    Mma,
    PrintThread,
    PtrAtomic,
    SharedBase,
    SpecialRegister,
    StMatrix,
    Trap,
    WarpBarrier,
    WarpRedux,
    WarpShuffle,
    WarpVote,
)
from tilus.ir.types import PointerType
from tilus.targets import Feature, Target, get_target

SPACES = {"global": "addrspace(1)", "shared": "addrspace(3)"}
_SPECIAL = {
    "tid": "tid.x", "ctaid.x": "ctaid.x", "ctaid.y": "ctaid.y", "ctaid.z": "ctaid.z", "nctaid.x": "nctaid.x",
    "nctaid.y": "nctaid.y", "nctaid.z": "nctaid.z", "lane": "laneid",
}


def emit_ptx(module: Module, lines: bool = False) -> str:
    """The PTX of every kernel of a thread-level module, by LLVM; with ``lines`` it says by ``.loc`` which line of the
    source an instruction comes from."""
    from tilus.codegen.llvm.nvptx_compile import llvm_to_ptx

    return llvm_to_ptx(emit_llvm(module, lines), get_target(module.target))


def emit_llvm(module: Module, lines: bool = False) -> str:
    """The LLVM IR of every kernel of a thread-level module, with debug metadata where ``lines``."""
    target = get_target(module.target)
    text = ModuleText()
    debug = DebugLines(text) if lines else None
    for function in module.kernels:
        _KernelEmitter(function, text, target, debug).run()
    head = ['target triple = "nvptx64-nvidia-cuda"',
            "@shared_memory = external addrspace(3) global [0 x i8], align 128"]
    tail = ["attributes #0 = { convergent nounwind }", "attributes #1 = { nounwind memory(none) }"]
    if debug is not None:
        tail += debug.named()
    return "\n".join([*head, str(text), *tail]) + "\n"


@dataclass(slots=True)
class Cells:
    """A value's SSA operands; ``per`` elements in each (a scalar of the element's type where 1)."""

    names: list[str]
    dtype: DType
    per: int


def per_cell(dtype: DType, count: int) -> int:
    """Elements of one cell of a vector of ``count`` elements."""
    bits = dtype.bits
    if not dtype.is_bool and bits in (8, 16) and count and (count * bits) % 32 == 0:
        return 32 // bits
    return 1


class _KernelEmitter:
    def __init__(self, function: Function, module: ModuleText, target: Target, debug: DebugLines | None) -> None:
        self.function, self.target, self.module, self.debug = function, target, module, debug
        self.types = TypeSpeller(bfloat="bfloat", spaces=SPACES)
        self.e = Emitter(module, self.types)
        self.cells: dict[Value, Cells] = {}
        self.pointers: dict[Value, str] = {}
        self._splits: dict[tuple[str, int], str] = {}

    # -- the function

    def run(self) -> None:
        place = self.debug.enter(self.function.name, self.function.span) if self.debug else ""
        parameters = []
        for i, value in enumerate(self.function.body.args):
            name = f"%a{i}"
            if isinstance(value.type, PointerType):
                aligned = next((p.aligned for p in self.function.parameters if p.name == value.name), False)
                align = 16 if aligned else max(1, value.type.dtype.bits // 8)
                written = next((p.written for p in self.function.parameters if p.name == value.name), True)
                read_only = "" if written else "readonly "
                alone = "noalias " if value.name in self.function.attributes.get("restrict", ()) else ""
                parameters.append(f"ptr addrspace(1) {alone}{read_only}align {align} {name}")
                self.pointers[value] = name
            else:
                parameters.append(f"{self.types.element(value.tile.dtype)} {name}")
                self.bind(value, [name])
        self.block(self.function.body)
        self.e.do("ret void")
        threads = int(self.function.attributes["warps"]) * 32
        attributes = [f'"nvvm.maxntid"="{threads}"', '"nvvm.minctasm"="1"', "nounwind"]
        if self.function.attributes.get("max_registers"):
            attributes.append(f'"nvvm.maxnreg"="{self.function.attributes["max_registers"]}"')
        head = (f"define ptx_kernel void @{self.function.name}({', '.join(parameters)}) {' '.join(attributes)}{place} "
                "{")
        self.module.definitions.append("\n".join([head, "entry:", *self.e.lines, "}"]))

    def block(self, block: Block) -> None:
        around = self.e.place
        for op in block.ops:
            if op.TERMINATOR:
                break
            handler = _HANDLERS.get(type(op))
            if handler is None:
                raise UnsupportedError.at("E0507", f"the PTX route has no {op.NAME} yet", op.span)
            if self.debug is not None:
                self.e.place = self.debug.at(op.span)
            handler(self, op)
        self.e.place = around

    # -- cells

    def bind(self, value: Value, names: list[str]) -> None:
        tile = value.tile
        self.cells[value] = Cells(names, tile.dtype, per_cell(tile.dtype, tile.size if tile.shape else 0))

    def cell_type(self, dtype: DType, per: int) -> str:
        return self.types.vector(dtype, per if per > 1 else 0)

    def scalar(self, value: Value) -> str:
        return self.element(self.cells[value], 0)

    def element(self, cells: Cells, index: int) -> str:
        name = cells.names[index // cells.per]
        if cells.per == 1:
            return name
        key = (name, index % cells.per)
        found = self._splits.get(key)
        if found is None or self._splits_label != self.e.label:
            ty = self.cell_type(cells.dtype, cells.per)
            found = self.e.op(f"extractelement {ty} {name}, i32 {index % cells.per}")
            self._remember(key, found)
        return found

    _splits_label = ""

    def _remember(self, key: tuple[str, int], name: str) -> None:
        """Extracted elements are shared within a basic block."""
        if self._splits_label != self.e.label:
            self._splits.clear()
            self._splits_label = self.e.label
        self._splits[key] = name

    def from_elements(self, dtype: DType, count: int, elements: Sequence[str]) -> list[str]:
        """Cells of a vector (a scalar for ``count`` 0) of these elements."""
        per = per_cell(dtype, count)
        if per == 1:
            return list(elements)
        ty, element = self.cell_type(dtype, per), self.types.element(dtype)
        names = []
        for start in range(0, len(elements), per):
            # From poison LLVM would merge bytes into a register that nothing has written.
            name = "poison" if per == 2 else "zeroinitializer"
            for i in range(per):
                name = self.e.op(f"insertelement {ty} {name}, {element} {elements[start + i]}, i32 {i}")
            names.append(name)
        return names

    def word(self, name: str, dtype: DType, per: int) -> str:
        """A cell as i32 (i64 and double cells are split elsewhere)."""
        ty = self.cell_type(dtype, per)
        if ty == "i32":
            return name
        if per == 1 and dtype.bits < 32:
            bits = self.types.element(dtype)
            if bits == "i1":
                return self.e.op(f"zext i1 {name} to i32")
            if dtype.is_float and dtype.is_arithmetic:
                name = self.e.op(f"bitcast {bits} {name} to i16")
                bits = "i16"
            return self.e.op(f"zext {bits} {name} to i32")
        return self.e.bitcast(name, ty, "i32")

    def unword(self, name: str, dtype: DType, per: int) -> str:
        """An i32 as a cell."""
        ty = self.cell_type(dtype, per)
        if ty == "i32":
            return name
        if per == 1 and dtype.bits < 32:
            bits = self.types.element(dtype)
            if dtype.is_float and dtype.is_arithmetic:
                return self.e.op(f"bitcast i16 {self.e.op(f'trunc i32 {name} to i16')} to {bits}")
            return self.e.op(f"trunc i32 {name} to {bits}")
        return self.e.op(f"bitcast i32 {name} to {ty}")

    # -- elementwise

    def elementwise(self, op: Operation) -> None:
        operands = [self.cells[v] for v in op.operands]
        result = op.results[0].tile
        count = result.size if result.shape else 0
        per = per_cell(result.dtype, count)
        if all(c.per == per for c in operands) or (isinstance(op, Select) and operands[1].per == per == 1):
            names = [self.apply(op, per if per > 1 else 0, [c.names[i] for c in operands])
                     for i in range(len(operands[0].names))]
            self.bind(op.results[0], names)
            return
        packed = self._packed_cast(op, operands, count)
        if packed is not None:
            self.bind(op.results[0], packed)
            return
        elements = [self.apply(op, 0, [self.element(c, i) for c in operands]) for i in range(max(1, count))]
        self.bind(op.results[0], self.from_elements(result.dtype, count, elements))

    def _packed_cast(self, op: Operation, operands: list[Cells], count: int) -> list[str] | None:
        """f32 to pairs of 16-bit floats by one instruction."""
        if not (isinstance(op, Cast) and op.rounding == "rn" and op.x.tile.dtype is f32 and count and count % 2 == 0):
            return None
        if op.dtype.name not in ("f16", "bf16") or not self.target.has(Feature.CVT_BF16):
            return None
        name = f"llvm.nvvm.ff2{op.dtype}x2.rn"
        ty = self.cell_type(op.dtype, 2)
        out = []
        for i in range(0, count, 2):
            low, high = (self.element(operands[0], i + n) for n in (0, 1))
            out.append(self.e.intrinsic(name, ty, [("float", high), ("float", low)]))
        return out

    def cvt_fp8(self, op: CvtFp8) -> None:
        e, cells, tile = self.e, self.cells[op.x], op.x.tile
        count = tile.size if tile.shape else 0
        packed = count and count % 4 == 0
        if op.x.tile.dtype is f32:
            x = [self.element(cells, i) for i in range(max(1, count))]
            zero = self.types.constant(0.0, f32)
            if packed:
                pairs = [ptx.f32_to_bytes(e, PTX_TYPES[op.dtype.name], *x[i:i + 2]) for i in range(0, count, 2)]
                words = [self._joined(*pairs[i:i + 2]) for i in range(0, len(pairs), 2)]
                self.bind(op.result, [self.unword(w, op.dtype, 4) for w in words])
                return
            codes = [e.op(f"trunc i16 {ptx.f32_to_bytes(e, PTX_TYPES[op.dtype.name], v, zero)} to i8") for v in x]
            self.bind(op.result, self.from_elements(op.dtype, count, codes))
            return
        name = PTX_TYPES[cells.dtype.name]
        if packed:
            words = [self.word(c, cells.dtype, 4) for c in cells.names]
            halves = [e.op(f"trunc i32 {part} to i16") for w in words for part in (w, e.op(f"lshr i32 {w}, 16"))]
            self.bind(op.result, [ptx.bytes_to_f16(e, name, h) for h in halves])
            return
        codes = [e.op(f"zext i8 {self.element(cells, i)} to i16") for i in range(max(1, count))]
        numbers = [e.op(f"extractelement <2 x half> {ptx.bytes_to_f16(e, name, c)}, i32 0") for c in codes]
        self.bind(op.result, self.from_elements(op.dtype, count, numbers))

    def keep(self, op: Keep) -> None:
        cells = self.cells[op.x]
        kind = self.cell_type(cells.dtype, cells.per)
        if kind in ("i1", "i8"):
            self.bind(op.result, list(cells.names))
            return
        words = kind not in ("float", "double", "i64")
        names = []
        for name in cells.names:
            if words:
                kept = ptx.keep(self.e, "i32", self.word(name, cells.dtype, cells.per))
                names.append(self.unword(kept, cells.dtype, cells.per))
            else:
                names.append(ptx.keep(self.e, kind, name))
        self.bind(op.result, names)

    def _joined(self, low: str, high: str) -> str:
        """Two i16 as an i32."""
        wide, upper = (self.e.op(f"zext i16 {x} to i32") for x in (low, high))
        return self.e.op(f"or i32 {wide}, {self.e.op(f'shl i32 {upper}, 16')}")

    def apply(self, op: Operation, count: int, operands: list[str]) -> str:
        """One cell (or element, ``count`` 0) of an elementwise operation's result."""
        e = self.e
        if isinstance(op, Binary):
            constant = op.rhs.defining
            known = int(constant.value) if isinstance(constant, Const) and op.rhs.tile.dtype.is_int else None
            return self._float_binary(op, count, operands, known)
        if isinstance(op, Compare):
            dtype = op.lhs.tile.dtype
            if dtype.name == "bf16":
                operands = [self._convert(x, dtype, f32, count) for x in operands]
                dtype = f32
            return arith.compare(e, op.kind, dtype, count, *operands)
        if isinstance(op, Select):
            ty = self.types.vector(op.x.tile.dtype, count)
            flags = f"<{count} x i1>" if count else "i1"
            return e.op(f"select {flags} {operands[0]}, {ty} {operands[1]}, {ty} {operands[2]}")
        if isinstance(op, Cast):
            return self._convert(operands[0], op.x.tile.dtype, op.dtype, count)
        if isinstance(op, Unary):
            return self._unary(op, count, operands[0])
        if isinstance(op, Fma):
            return arith.fma(e, op.a.tile.dtype, count, *operands)
        if isinstance(op, MulHi):
            return arith.mulhi(e, op.lhs.tile.dtype, count, *operands)
        if isinstance(op, Bitcast):
            old, new = (self.types.vector(d, count) for d in (op.x.tile.dtype, op.dtype))
            return operands[0] if old == new else e.op(f"bitcast {old} {operands[0]} to {new}")
        assert isinstance(op, ApproxUnary)
        return ptx.approx_unary(e, op.kind, operands[0], op.ftz)

    def _float_binary(self, op: Binary, count: int, operands: list[str], known: int | None) -> str:
        e, dtype = self.e, op.lhs.tile.dtype
        kind = op.kind
        if dtype.is_float and dtype.bits == 16:
            native = kind in ("add", "sub", "mul") and dtype.name == "f16"
            if not native and kind != "copysign":
                wide = [self._convert(x, dtype, f32, count) for x in operands]
                return self._convert(self._wide_binary(op, kind, count, wide, f32), f32, dtype, count)
        if dtype.is_float:
            return self._wide_binary(op, kind, count, operands, dtype)
        return arith.binary(e, kind, dtype, count, *operands, constant=known)

    def _wide_binary(self, op: Binary, kind: str, count: int, operands: list[str], dtype: DType) -> str:
        e = self.e
        if kind in ("floordiv", "mod"):
            quotient = arith.binary(e, "div", dtype, count, *operands)
            floored = arith.unary(e, "floor", dtype, count, quotient)
            if kind == "floordiv":
                return floored
            product = arith.binary(e, "mul", dtype, count, floored, operands[1])
            return arith.binary(e, "sub", dtype, count, operands[0], product)
        if kind in ("pow", "atan2", "fmod"):
            raise UnsupportedError.at("E0507", f"the PTX route has no {kind} yet", op.span)
        return arith.binary(e, kind, dtype, count, *operands, contract=op.contract)

    def _convert(self, x: str, source: DType, target: DType, count: int) -> str:
        if (source.is_float and not source.is_arithmetic) or (target.is_float and not target.is_arithmetic):
            raise UnsupportedError.at("E0507", f"conversion from {source} to {target} on the PTX route")
        if "bf16" in (source.name, target.name) and source is not target:
            return self._convert_bf16(x, source, target, count)
        return arith.cast(self.e, source, target, count, x)

    def _convert_bf16(self, x: str, source: DType, target: DType, count: int) -> str:
        """bf16 is the upper half of an f32; rounding to it is done by the instruction, or in integers."""
        e = self.e
        if source.name == "bf16":
            bf, half, word, single = (self.types.vector(source, count), self.types.vector(u16, count),
                                      self.types.vector(u32, count), self.types.vector(f32, count))
            bits = e.op(f"zext {half} {e.op(f'bitcast {bf} {x} to {half}')} to {word}")
            shifted = e.op(f"shl {word} {bits}, {self.types.constant(16, u32, count)}")
            wide = e.op(f"bitcast {word} {shifted} to {single}")
            return wide if target is f32 else self._convert(wide, f32, target, count)
        if source is not f32:
            x = self._convert(x, source, f32, count)
        if count:
            single, bf = self.types.vector(f32, count), self.types.vector(target, count)
            if count == 2 and self.target.has(Feature.CVT_BF16):
                low, high = (e.op(f"extractelement {single} {x}, i32 {i}") for i in (0, 1))
                return e.intrinsic("llvm.nvvm.ff2bf16x2.rn", bf, [("float", high), ("float", low)])
            name = "poison"
            for i in range(count):
                part = self._convert_bf16(e.op(f"extractelement {single} {x}, i32 {i}"), f32, target, 0)
                name = e.op(f"insertelement {bf} {name}, bfloat {part}, i32 {i}")
            return name
        if self.target.has(Feature.CVT_BF16):
            return e.intrinsic("llvm.nvvm.f2bf16.rn", "bfloat", [("float", x)])
        return ptx.round_to_bf16(e, x)

    def _unary(self, op: Unary, count: int, x: str) -> str:
        dtype = op.x.tile.dtype
        if dtype.is_float and dtype.bits == 16 and op.kind not in ("neg", "abs"):
            wide = self._convert(x, dtype, f32, count)
            result = self._wide_unary(op, f32, count, wide)
            return result if op.result.tile.dtype.is_bool else self._convert(result, f32, dtype, count)
        return self._wide_unary(op, dtype, count, x)

    def _wide_unary(self, op: Unary, dtype: DType, count: int, x: str) -> str:
        e = self.e
        if op.kind == "rcp":
            one = self.types.constant(1.0, dtype, count)
            return arith.binary(e, "div", dtype, count, one, x)
        try:
            return arith.unary(e, op.kind, dtype, count, x)
        except ValueError:
            raise UnsupportedError.at("E0507", f"the PTX route has no {op.kind} yet", op.span) from None

    # -- constants and vectors

    def const(self, op: Const) -> None:
        tile = op.result.tile
        count = tile.size if tile.shape else 0
        per = per_cell(tile.dtype, count)
        text = self.types.constant(op.value, tile.dtype, per if per > 1 else 0)
        self.bind(op.result, [text] * max(1, count // per))

    def special(self, op: SpecialRegister) -> None:
        if op.register == "warp":
            tid = self.e.intrinsic("llvm.nvvm.read.ptx.sreg.tid.x", "i32", [])
            self.bind(op.result, [self.e.op(f"lshr i32 {tid}, 5")])
            return
        if op.phase and op.register in REREAD:
            text = f'call i32 asm sideeffect "mov.u32 $0, %{REREAD[op.register]};", "=r"()'
            self.bind(op.result, [self.e.op(text)])
            return
        self.bind(op.result, [self.e.intrinsic(f"llvm.nvvm.read.ptx.sreg.{_SPECIAL[op.register]}", "i32", [])])

    def broadcast(self, op: Broadcast) -> None:
        tile = op.result.tile
        text = self.scalar(op.x)
        cells = self.from_elements(tile.dtype, tile.size, [text] * per_cell(tile.dtype, tile.size)) if (
            per_cell(tile.dtype, tile.size) > 1) else [text]
        self.bind(op.result, [cells[0]] * (tile.size // per_cell(tile.dtype, tile.size)))

    def extract(self, op: Extract) -> None:
        self.bind(op.result, [self.element(self.cells[op.vector], op.index)])

    def shuffle(self, op: Shuffle) -> None:
        source = self.cells[op.vector]
        count = len(op.indices)
        per = per_cell(source.dtype, count)
        if per == source.per:
            names = _whole_cells(source, op.indices)
            if names is not None:
                self.bind(op.result, names)
                return
        self.bind(op.result, self.from_elements(source.dtype, count, [self.element(source, i) for i in op.indices]))

    def pack(self, op: Pack) -> None:
        tile = op.result.tile
        parts = [self.cells[p] for p in op.parts]
        per = per_cell(tile.dtype, tile.size)
        if all(p.per == per for p in parts):
            self.bind(op.result, [n for p in parts for n in p.names])
            return
        elements = [self.element(p, i) for p in parts for i in range(len(p.names) * p.per)]
        self.bind(op.result, self.from_elements(tile.dtype, tile.size, elements))

    # -- memory

    def ptr_add(self, op: PtrAdd) -> None:
        pointer = op.pointer.type
        assert isinstance(pointer, PointerType)
        ty, element = self.types.pointer(pointer.space), self.types.memory_element(pointer.dtype)
        name = self.pointers[op.pointer]
        if op.offset is not None:
            offset = self.types.element(op.offset.tile.dtype)
            name = self.e.op(f"getelementptr {element}, {ty} {name}, {offset} {self.scalar(op.offset)}")
        if op.constant:
            name = self.e.op(f"getelementptr {element}, {ty} {name}, i64 {op.constant}")
        self.pointers[op.result] = name

    def ptr_cast(self, op: PtrCast) -> None:
        self.pointers[op.result] = self.pointers[op.pointer]

    def shared_base(self, op: SharedBase) -> None:
        self.pointers[op.result] = self.e.op(
            f"getelementptr i8, ptr addrspace(3) @shared_memory, i32 {op.offset}")

    def alloca(self, op: Alloca) -> None:
        align = f", align {op.alignment}" if op.alignment else ""
        self.pointers[op.result] = self.e.op(f"alloca [{op.count} x {self.types.memory_element(op.dtype)}]{align}")

    def _memory_shape(self, value: Value) -> tuple[str, int, DType, int]:
        """The LLVM type of one word of an access, the number of words, the element type, elements of a cell."""
        tile = value.tile
        count = tile.size if tile.shape else 0
        per = per_cell(tile.dtype, count)
        words = max(1, count) // per
        if per > 1:
            return "i32", words, tile.dtype, per
        return self.types.memory_element(tile.dtype), words, tile.dtype, per

    def ptr_load(self, op: PtrLoad) -> None:
        word, words, dtype, per = self._memory_shape(op.result)
        pointer = op.pointer.type
        assert isinstance(pointer, PointerType)
        address, space = self.pointers[op.pointer], pointer.space
        if op.predicate is not None:
            loaded = self._predicated_load(op, word, words, address, space)
        else:
            loaded = self._plain_load(op, word, words, address, space)
        self.bind(op.result, [self._from_memory(w, word, dtype, per) for w in loaded])

    def _from_memory(self, name: str, word: str, dtype: DType, per: int) -> str:
        if per > 1:
            return self.unword(name, dtype, per)
        if dtype.is_bool:
            return self.e.op(f"icmp ne i8 {name}, 0")
        return name

    def _to_memory(self, name: str, dtype: DType, per: int) -> str:
        if per > 1:
            return self.word(name, dtype, per)
        return self.e.op(f"zext i1 {name} to i8") if dtype.is_bool else name

    def _plain_load(self, op: PtrLoad, word: str, words: int, address: str, space: str) -> list[str]:
        e = self.e
        ty = f"<{words} x {word}>" if words > 1 else word
        align = op.alignment or _word_bytes(word)
        volatile = "volatile " if op.volatile else ""
        flags = f", !invariant.load {self.module.node('!{}')}" if op.read_only and space == "global" else ""
        value = e.op(f"load {volatile}{ty}, {self.types.pointer(space)} {address}, align {align}{flags}")
        if words == 1:
            return [value]
        return [e.op(f"extractelement {ty} {value}, i32 {i}") for i in range(words)]

    def _predicated_load(self, op: PtrLoad, word: str, words: int, address: str, space: str) -> list[str]:
        assert op.predicate is not None
        dtype = op.result.tile.dtype
        per = self.cells[op.other].per if op.other is not None else 1
        other = None if op.other is None else [self._to_memory(n, dtype, per) for n in self.cells[op.other].names]
        return ptx.load(self.e, self.types, word, words, address, space, self.scalar(op.predicate), other,
                        op.read_only and space == "global")

    def ptr_store(self, op: PtrStore) -> None:
        word, words, dtype, per = self._memory_shape(op.value)
        pointer = op.pointer.type
        assert isinstance(pointer, PointerType)
        names = [self._to_memory(n, dtype, per) for n in self.cells[op.value].names]
        address, space = self.pointers[op.pointer], pointer.space
        if op.predicate is not None:
            ptx.store(self.e, self.types, word, names, address, space, self.scalar(op.predicate))
            return
        ty, value = word, names[0]
        if words > 1:
            ty, value = f"<{words} x {word}>", "poison"
            for i, name in enumerate(names):
                value = self.e.op(f"insertelement {ty} {value}, {word} {name}, i32 {i}")
        align = op.alignment or _word_bytes(word)
        self.e.do(f"store {ty} {value}, {self.types.pointer(space)} {address}, align {align}")

    # -- asynchronous copies, barriers, matrices

    def cp_async(self, op: CpAsync) -> None:
        predicate = None if op.predicate is None else self.scalar(op.predicate)
        ptx.cp_async(self.e, self.pointers[op.destination], self.pointers[op.source], op.bytes, predicate)

    def cp_async_commit(self, op: CpAsyncCommit) -> None:
        ptx.volatile(self.e, "cp.async.commit_group;")

    def cp_async_wait(self, op: CpAsyncWait) -> None:
        ptx.volatile(self.e, f"cp.async.wait_group {op.pending};")

    def barrier(self, op: Barrier) -> None:
        if op.arrive:
            ptx.volatile(self.e, f"bar.arrive {op.id}, {op.threads};")
        elif op.threads:
            ptx.volatile(self.e, f"bar.sync {op.id}, {op.threads};")
        else:
            ptx.volatile(self.e, f"bar.sync {op.id};")

    def warp_barrier(self, op: WarpBarrier) -> None:
        ptx.volatile(self.e, "bar.warp.sync 0xffffffff;")

    def ldmatrix(self, op: LdMatrix) -> None:
        dtype = op.result.tile.dtype
        words = ptx.ldmatrix(self.e, self.pointers[op.pointer], op.count, op.trans)
        per = per_cell(dtype, op.result.tile.size)
        self.bind(op.result, [self.unword(w, dtype, per) for w in words])

    def stmatrix(self, op: StMatrix) -> None:
        cells = self.cells[op.value]
        words = [self.word(name, cells.dtype, cells.per) for name in cells.names]
        ptx.stmatrix(self.e, self.pointers[op.pointer], words, op.trans)

    def mma(self, op: Mma) -> None:
        operands = []
        for value in (op.a, op.b):
            cells = self.cells[value]
            double = cells.dtype is f64
            operands.append([n if double else self.word(n, cells.dtype, cells.per) for n in cells.names])
        c = self.cells[op.c]
        accumulators = c.names if c.dtype in (f32, f64) else [self.word(n, c.dtype, c.per) for n in c.names]
        results = ptx.mma(self.e, op, operands[0], operands[1], accumulators)
        if c.dtype not in (f32, f64):
            results = [self.unword(r, c.dtype, c.per) for r in results]
        self.bind(op.result, results)

    # -- warps

    def warp_shuffle(self, op: WarpShuffle) -> None:
        cells = self.cells[op.value]
        lane = self.scalar(op.lane)
        names = []
        for name in cells.names:
            if cells.per == 1 and cells.dtype.bits == 64:
                names.append(self._shuffle_wide(op, name, cells.dtype, lane))
                continue
            word = self.word(name, cells.dtype, cells.per)
            names.append(self.unword(ptx.shuffle(self.e, op.mode, word, lane), cells.dtype, cells.per))
        self.bind(op.result, names)

    def _shuffle_wide(self, op: WarpShuffle, name: str, dtype: DType, lane: str) -> str:
        e = self.e
        bits = name if dtype.is_int else e.op(f"bitcast double {name} to i64")
        pair = e.op(f"bitcast i64 {bits} to <2 x i32>")
        moved = "poison"
        for i in (0, 1):
            word = ptx.shuffle(e, op.mode, e.op(f"extractelement <2 x i32> {pair}, i32 {i}"), lane)
            moved = e.op(f"insertelement <2 x i32> {moved}, i32 {word}, i32 {i}")
        bits = e.op(f"bitcast <2 x i32> {moved} to i64")
        return bits if dtype.is_int else e.op(f"bitcast i64 {bits} to double")

    def warp_vote(self, op: WarpVote) -> None:
        name = f"llvm.nvvm.vote.{op.kind}.sync"
        self.bind(op.result, [self.e.intrinsic(name, "i1", [("i32", "-1"), ("i1", self.scalar(op.condition))])])

    def warp_redux(self, op: WarpRedux) -> None:
        kind = op.kind if op.kind in ("add", "and", "or", "xor") else (
            ("u" if op.value.tile.dtype.kind == "uint" else "") + op.kind)
        name = f"llvm.nvvm.redux.sync.{kind}"
        self.bind(op.result, [self.e.intrinsic(name, "i32", [("i32", self.scalar(op.value)), ("i32", "-1")])])

    # -- atomics and the rest

    def ptr_atomic(self, op: PtrAtomic) -> None:
        dtype = op.result.tile.dtype
        pointer = op.pointer.type
        assert isinstance(pointer, PointerType)
        compare = None if op.compare is None else self.scalar(op.compare)
        predicate = None if op.predicate is None else self.scalar(op.predicate)
        name = ptx.atomic(self.e, self.types, op, dtype, pointer.space, self.pointers[op.pointer],
                          self.scalar(op.value), compare, predicate)
        self.bind(op.result, [name])

    def acquire_load(self, op: AcquireLoad) -> None:
        dtype = op.result.tile.dtype
        self.bind(op.result, [ptx.acquire_load(self.e, self.types, dtype, self.pointers[op.pointer], op.scope)])

    def fence(self, op: Fence) -> None:
        scope = PTX_SCOPES[op.scope]
        ptx.volatile(self.e, f"fence.acq_rel.{scope};")

    def print_thread(self, op: PrintThread) -> None:
        values = []
        for value in op.values:
            dtype = value.tile.dtype
            text = self.scalar(value)
            if dtype.is_float:
                values.append(("double", self._convert(text, dtype, f64, 0)))
            elif self.types.element(dtype) == "i64":
                values.append(("i64", text))
            else:
                extend = "sext" if dtype.kind == "int" else "zext"
                values.append(("i64", self.e.op(f"{extend} {self.types.element(dtype)} {text} to i64")))
        ptx.printf(self.e, self.module, op, values)

    def exit_if(self, op: ExitIf) -> None:
        leave, stay = (self.e.new_label(s) for s in ("exit", "stay"))
        self.e.do(f"br i1 {self.scalar(op.condition)}, label %{leave}, label %{stay}")
        self.e.start(leave)
        self.e.do("ret void")
        self.e.start(stay)

    def trap(self, op: Trap) -> None:
        ptx.volatile(self.e, "trap;")

    def philox(self, op: Philox) -> None:
        offsets = self.cells[op.offset]
        count = max(1, op.offset.tile.size if op.offset.tile.shape else 1)
        columns: list[list[str]] = [[], [], [], []]
        for i in range(count):
            for column, word in zip(columns, ptx.philox(self.e, self.scalar(op.seed), self.element(offsets, i)),
                                    strict=True):
                column.append(word)
        for result, column in zip(op.results, columns, strict=True):
            self.bind(result, column)

    # -- control flow

    def _flat(self, value: Value) -> list[tuple[str, str]]:
        """The SSA operands of a value with their types."""
        if isinstance(value.type, PointerType):
            return [(self.types.pointer(value.type.space), self.pointers[value])]
        cells = self.cells[value]
        ty = self.cell_type(cells.dtype, cells.per)
        return [(ty, n) for n in cells.names]

    def _flat_types(self, value: Value) -> list[str]:
        if isinstance(value.type, PointerType):
            return [self.types.pointer(value.type.space)]
        tile = value.tile
        count = tile.size if tile.shape else 0
        per = per_cell(tile.dtype, count)
        return [self.cell_type(tile.dtype, per)] * max(1, count // per)

    def _bind_flat(self, value: Value, names: list[str]) -> None:
        if isinstance(value.type, PointerType):
            self.pointers[value] = names[0]
        else:
            self.bind(value, names)

    def for_loop(self, op: For) -> None:
        """A guarded do-while, so that the loop needs one branch."""
        e = self.e
        start, stop, step = (self.scalar(v) for v in (op.start, op.stop, op.step))
        ty = self.types.element(op.index.tile.dtype)
        init = [pair for v in op.init for pair in self._flat(v)]
        init = [(kind, ptx.pinned(e, kind, name)) if kind == "ptr addrspace(1)" else (kind, name)
                for kind, name in init]
        head, done = e.new_label("loop"), e.new_label("done")
        enter = self._in_range(op, ty, start, stop, step)
        e.do(f"br i1 {enter}, label %{head}, label %{done}")
        entry = e.label
        e.start(head)
        index = e.fresh()
        places = [e.reserve() for _ in range(1 + len(init))]
        phis = [e.fresh() for _ in init]
        self.bind(op.index, [index])
        self._spread(op.body.args[1:], phis)
        self.block(op.body)
        final = [pair[1] for v in op.body.terminator.operands for pair in self._flat(v)]
        following = e.op(f"add {ty} {index}, {step}")
        again = self._in_range(op, ty, following, stop, step)
        latch = e.label
        e.do(f"br i1 {again}, label %{head}, label %{done}{self.module.rolled_loop()}")
        e.lines[places[0]] = f"  {index} = phi {ty} [ {start}, %{entry} ], [ {following}, %{latch} ]"
        for place, phi, (kind, first), last in zip(places[1:], phis, init, final, strict=True):
            e.lines[place] = f"  {phi} = phi {kind} [ {first}, %{entry} ], [ {last}, %{latch} ]"
        e.start(done)
        results = [e.op(f"phi {kind} [ {first}, %{entry} ], [ {last}, %{latch} ]")
                   for (kind, first), last in zip(init, final, strict=True)]
        self._spread(list(op.results), results)

    def _in_range(self, op: For, ty: str, index: str, stop: str, step: str) -> str:
        maker = op.step.defining
        if isinstance(maker, Const):
            return self.e.op(f"icmp {'slt' if maker.value > 0 else 'sgt'} {ty} {index}, {stop}")
        up = self.e.op(f"icmp sgt {ty} {step}, 0")
        less, more = (self.e.op(f"icmp {c} {ty} {index}, {stop}") for c in ("slt", "sgt"))
        return self.e.op(f"select i1 {up}, i1 {less}, i1 {more}")

    def _spread(self, values: Sequence[Value], names: list[str]) -> None:
        at = 0
        for value in values:
            width = len(self._flat_types(value))
            self._bind_flat(value, names[at : at + width])
            at += width

    def if_op(self, op: If) -> None:
        e = self.e
        then, orelse, done = (e.new_label(s) for s in ("then", "else", "endif"))
        e.do(f"br i1 {self.scalar(op.condition)}, label %{then}, label %{orelse}")
        outcomes = []
        for label, region in ((then, op.then), (orelse, op.orelse)):
            e.start(label)
            self.block(region)
            outcomes.append(([p for v in region.terminator.operands for p in self._flat(v)], e.label))
            e.do(f"br label %{done}")
        e.start(done)
        (first, from_then), (second, from_else) = outcomes
        names = [e.op(f"phi {kind} [ {a}, %{from_then} ], [ {b}, %{from_else} ]")
                 for (kind, a), (_, b) in zip(first, second, strict=True)]
        self._spread(list(op.results), names)

    def while_loop(self, op: While) -> None:
        e = self.e
        init = [pair for v in op.init for pair in self._flat(v)]
        head, body, done = (e.new_label(s) for s in ("while", "body", "done"))
        entry = e.label
        e.do(f"br label %{head}")
        e.start(head)
        places = [e.reserve() for _ in init]
        phis = [e.fresh() for _ in init]
        self._spread(op.before.args, phis)
        self.block(op.before)
        condition = self.scalar(op.before.terminator.operands[0])
        e.do(f"br i1 {condition}, label %{body}, label %{done}")
        e.start(body)
        self._spread(op.body.args, phis)
        self.block(op.body)
        final = [pair[1] for v in op.body.terminator.operands for pair in self._flat(v)]
        latch = e.label
        e.do(f"br label %{head}")
        for place, phi, (kind, first), last in zip(places, phis, init, final, strict=True):
            e.lines[place] = f"  {phi} = phi {kind} [ {first}, %{entry} ], [ {last}, %{latch} ]"
        e.start(done)
        self._spread(list(op.results), phis)


def _word_bytes(word: str) -> int:
    return {"i8": 1, "half": 2, "bfloat": 2, "i16": 2, "float": 4, "i32": 4, "double": 8, "i64": 8}[word]


def _whole_cells(source: Cells, indices: tuple[int, ...]) -> list[str] | None:
    """The cells that a choice of elements consists of, or None where it cuts through cells."""
    per = source.per
    if per == 1:
        return [source.names[i] for i in indices]
    out = []
    for start in range(0, len(indices), per):
        first = indices[start]
        if first % per or indices[start : start + per] != tuple(range(first, first + per)):
            return None
        out.append(source.names[first // per])
    return out


_ELEMENTWISE = (Unary, Binary, Compare, Select, Cast, Bitcast, Fma, MulHi, ApproxUnary)
_HANDLERS: dict[type[Operation], Callable[[_KernelEmitter, Any], None]] = {
    **dict.fromkeys(_ELEMENTWISE, _KernelEmitter.elementwise),
    Const: _KernelEmitter.const, CvtFp8: _KernelEmitter.cvt_fp8, Keep: _KernelEmitter.keep,
    SpecialRegister: _KernelEmitter.special, Broadcast: _KernelEmitter.broadcast,
    Extract: _KernelEmitter.extract, Shuffle: _KernelEmitter.shuffle, Pack: _KernelEmitter.pack,
    PtrAdd: _KernelEmitter.ptr_add, PtrCast: _KernelEmitter.ptr_cast, SharedBase: _KernelEmitter.shared_base,
    PtrLoad: _KernelEmitter.ptr_load, PtrStore: _KernelEmitter.ptr_store, Alloca: _KernelEmitter.alloca,
    CpAsync: _KernelEmitter.cp_async, CpAsyncCommit: _KernelEmitter.cp_async_commit,
    CpAsyncWait: _KernelEmitter.cp_async_wait, Barrier: _KernelEmitter.barrier,
    WarpBarrier: _KernelEmitter.warp_barrier, LdMatrix: _KernelEmitter.ldmatrix,
    StMatrix: _KernelEmitter.stmatrix, Mma: _KernelEmitter.mma,
    WarpShuffle: _KernelEmitter.warp_shuffle, WarpVote: _KernelEmitter.warp_vote,
    WarpRedux: _KernelEmitter.warp_redux, PtrAtomic: _KernelEmitter.ptr_atomic,
    AcquireLoad: _KernelEmitter.acquire_load, Fence: _KernelEmitter.fence,
    PrintThread: _KernelEmitter.print_thread, Trap: _KernelEmitter.trap,
    ExitIf: _KernelEmitter.exit_if, Philox: _KernelEmitter.philox,
    For: _KernelEmitter.for_loop, If: _KernelEmitter.if_op, While: _KernelEmitter.while_loop,
}

