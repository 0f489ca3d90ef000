"""The state of a kernel's emission as LLVM IR for NVPTX: its values, its cells, its control flow."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tilus.codegen.cells import CellEmitter, Cells, elements_of, per_cell
from tilus.codegen.llvm.control import ControlFlow, Part
from tilus.codegen.llvm.debug_lines import DebugLines
from tilus.codegen.llvm.nvptx.inline_asm import REGISTER_TYPES, SPACES, pinned
from tilus.codegen.llvm.text import Emitter, ModuleText
from tilus.codegen.llvm.types import TypeSpeller, container_bits
from tilus.diagnostics import Span, UnsupportedError
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import PtrAdd
from tilus.ir.types import PointerType
from tilus.lowering.spare_registers import is_short
from tilus.targets import Target

Handlers = Mapping[type[Operation], Callable[["KernelEmitter", Any], None]]
_REGISTER_BITS = {"b": 1, "h": 16, "r": 32, "f": 32, "l": 64, "d": 64}


class KernelEmitter(CellEmitter, ControlFlow):
    """Emits one kernel; ``handlers`` says how each operation is."""

    def __init__(self, function: Function, module: ModuleText, target: Target, debug: DebugLines | None,
                 handlers: Handlers) -> None:
        super().__init__()
        self.function, self.target, self.module, self.debug = function, target, module, debug
        self.handlers = handlers
        self.types = TypeSpeller(bfloat="bfloat", spaces=SPACES)
        self.e = Emitter(module, self.types)
        self.pointers: dict[Value, str] = {}
        self._splits: dict[tuple[str, int], str] = {}
        self._splits_label = ""
        self._called = 0

    # -- the function

    def run(self) -> None:
        """Append the kernel's definition to the module."""
        function = self.function
        place = self.debug.enter(function.name, function.span) if self.debug else ""
        parameters = [self._parameter(value, f"%a{i}") for i, value in enumerate(function.body.args)]
        self.block(function.body)
        self.e.do("ret void")
        threads = function.attributes.warps * self.target.warp_size
        attributes = [f'"nvvm.maxntid"="{threads}"', '"nvvm.minctasm"="1"', "nounwind"]
        if function.attributes.max_registers:
            attributes.append(f'"nvvm.maxnreg"="{function.attributes.max_registers}"')
        head = f"define ptx_kernel void @{function.name}({', '.join(parameters)}) {' '.join(attributes)}{place} {{"
        self.module.definitions.append("\n".join([head, "entry:", *self.e.lines, "}"]))

    def code_apart(self, body: Block, span: Span) -> tuple[str, list[str]]:
        """A function of a block that uses its arguments only: its name, and the types of the parts that it gives."""
        self._called += 1
        name = f"@{self.function.name}.{self._called}"
        function = Function(name[1:], body, (), span=span)
        emitter = KernelEmitter(function, self.module, self.target, self.debug, self.handlers)
        outer = self.debug.scopes() if self.debug else None
        place = self.debug.enter(name[1:], span) if self.debug else ""
        parameters = []
        for value in body.args:
            names = [emitter.e.fresh() for _ in self.part_types(value)]
            emitter.hold(value, names)
            parameters += [f"{ty} {n}" for ty, n in zip(self.part_types(value), names, strict=True)]
        emitter.block(body)
        parts = [part for value in body.terminator.operands for part in emitter.parts(value)]
        given = aggregate([ty for ty, _ in parts])
        if self.debug is not None:
            emitter.e.place = self.debug.at(span)
        whole = "poison"
        for i, (ty, part) in enumerate(parts):
            whole = emitter.e.op(f"insertvalue {given} {whole}, {ty} {part}, {i}")
        emitter.e.do(f"ret {given} {whole}")
        if self.debug is not None and outer is not None:
            self.debug.leave(outer)
        head = f"define internal {given} {name}({', '.join(parameters)}) noinline nounwind{place} {{"
        self.module.definitions.append("\n".join([head, "entry:", *emitter.e.lines, "}"]))
        return name, [ty for ty, _ in parts]

    def _parameter(self, value: Value, name: str) -> str:
        if not isinstance(value.type, PointerType):
            self.bind(value, [name])
            return f"{self.types.element(value.tile.dtype)} {name}"
        self.pointers[value] = name
        known = next((p for p in self.function.parameters if p.name == value.name), None)
        align = 16 if known is not None and known.aligned else max(1, value.type.dtype.bits // 8)
        read_only = "readonly " if known is not None and not known.written else ""
        alone = "noalias " if value.name in self.function.attributes.restrict else ""
        return f"ptr addrspace(1) {alone}{read_only}align {align} {name}"

    def block(self, block: Block) -> None:
        around = self.e.place
        for op in block.ops:
            if op.TERMINATOR:
                break
            handler = self.handlers.get(type(op))
            if handler is None:
                raise UnsupportedError.at("E0507", f"the PTX route has no {op.NAME} yet", op.span)
            if self.debug is not None:
                self.e.place = self.debug.at(op.span)
            handler(self, op)
        self.e.place = around

    # -- cells

    def cell_type(self, dtype: DType, per: int) -> str:
        """The LLVM type of a cell: a scalar, or a short vector that fills 32 bits (``<2 x half>``)."""
        return self.types.vector(dtype, per if per > 1 else 0)

    def element(self, cells: Cells, index: int) -> str:
        name = cells.names[index // cells.per]
        if cells.per == 1:
            return name
        if self._splits_label != self.e.label:  # extracted elements are shared within a basic block
            self._splits.clear()
            self._splits_label = self.e.label
        key = (name, index % cells.per)
        found = self._splits.get(key)
        if found is None:
            ty = self.cell_type(cells.dtype, cells.per)
            found = self._splits[key] = self.e.op(f"extractelement {ty} {name}, i32 {index % cells.per}")
        return found

    def bind_elements(self, value: Value, elements: list[str]) -> None:
        dtype, per = value.tile.dtype, per_cell(value.tile.dtype, elements_of(value))
        if per > 1:
            elements = [self.cell(dtype, elements[i : i + per]) for i in range(0, len(elements), per)]
        self.bind(value, elements)

    def cell(self, dtype: DType, elements: list[str]) -> str:
        """A cell of several elements."""
        per = len(elements)
        ty, element = self.cell_type(dtype, per), self.types.element(dtype)
        # From poison LLVM would merge bytes into a register that nothing has written.
        name = "poison" if per == 2 else "zeroinitializer"
        for i, text in enumerate(elements):
            name = self.e.op(f"insertelement {ty} {name}, {element} {text}, i32 {i}")
        return name

    def to_register(self, name: str, dtype: DType, per: int, kind: str) -> str:
        """A cell in a register of a class."""
        ty, register = self.cell_type(dtype, per), REGISTER_TYPES[kind]
        if ty == register:
            return name
        return self._as_bits(name, ty, self.cell_bits(dtype, per), register, _REGISTER_BITS[kind])

    def from_register(self, name: str, kind: str, dtype: DType, per: int) -> str:
        """What a register of a class holds, as a cell."""
        ty, register = self.cell_type(dtype, per), REGISTER_TYPES[kind]
        if ty == register:
            return name
        return self._as_bits(name, register, _REGISTER_BITS[kind], ty, self.cell_bits(dtype, per))

    def cell_bits(self, dtype: DType, per: int) -> int:
        """The width of a cell."""
        return per * (1 if dtype.is_bool else container_bits(dtype))

    def _as_bits(self, name: str, source: str, source_bits: int, target: str, target_bits: int) -> str:
        """The low bits, or the bits and zeros."""
        if source_bits == target_bits:
            return self.e.bitcast(name, source, target)
        name = self.e.bitcast(name, source, f"i{source_bits}")
        how = "zext" if source_bits < target_bits else "trunc"
        return self.e.bitcast(self.e.op(f"{how} i{source_bits} {name} to i{target_bits}"), f"i{target_bits}", target)

    @functools.cached_property
    def steps(self) -> set[Operation]:
        """Additions of one offset to an address again and again, as from row to row, where registers are short: there
        each is one instruction that multiplies and adds, and no register holds the offset."""
        found: set[Operation] = set()
        for op in self.function.walk() if is_short(self.function) else ():
            if not isinstance(op, PtrAdd) or op.offset is None:
                continue
            before = op.pointer.defining
            if isinstance(before, PtrAdd) and before.offset is op.offset:
                found |= {op, before}
        return found

    # -- control flow

    def parts(self, value: Value) -> list[Part]:
        if isinstance(value.type, PointerType):
            return [(self.types.pointer(value.type.space), self.pointers[value])]
        cells = self.cells[value]
        ty = self.cell_type(cells.dtype, cells.per)
        return [(ty, n) for n in cells.names]

    def part_types(self, value: Value) -> list[str]:
        if isinstance(value.type, PointerType):
            return [self.types.pointer(value.type.space)]
        dtype, count = value.tile.dtype, elements_of(value)
        per = per_cell(dtype, count)
        return [self.cell_type(dtype, per)] * max(1, count // per)

    def hold(self, value: Value, names: list[str]) -> None:
        if isinstance(value.type, PointerType):
            self.pointers[value] = names[0]
        else:
            self.bind(value, names)

    def entering(self, part: Part) -> Part:
        ty, name = part
        return (ty, pinned(self.e, ty, name)) if ty == f"ptr {SPACES['global']}" else part

    def back_edge(self) -> str:
        return self.module.rolled_loop()


def aggregate(types: Sequence[str]) -> str:
    """The type of several values at once."""
    return f"{{ {', '.join(types)} }}"
