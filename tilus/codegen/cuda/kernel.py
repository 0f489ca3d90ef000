"""The state of a kernel's printing as CUDA C: its lines, its variables, the functions that it calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tilus.codegen.cells import CellEmitter, Cells, elements_of, per_cell
from tilus.codegen.cuda import syntax
from tilus.codegen.cuda.inline_asm import REGISTER_TYPES, device_function
from tilus.codegen.cuda.prelude import DEPENDENCIES, FUNCTIONS
from tilus.codegen.cuda.types import c_type, cell_type_of
from tilus.codegen.file_names import file_name
from tilus.codegen.ptx.instruction import Address, Immediate, Instruction, Registers
from tilus.diagnostics import UNKNOWN_SPAN, UnsupportedError
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.names import DEVICE_NAMES, c_name
from tilus.ir.ops.thread import pointer_type
from tilus.ir.rewriter import count_uses
from tilus.ir.types import PointerType
from tilus.targets import Target

Handlers = Mapping[type[Operation], Callable[["KernelPrinter", Any], None]]
_RESERVED = DEVICE_NAMES | FUNCTIONS.keys() | {"i"}
"""Names that variables must not have."""


class KernelPrinter(CellEmitter):
    """Prints one kernel; ``handlers`` says how each operation is."""

    def __init__(self, function: Function, target: Target, lines_of_source: bool, handlers: Handlers) -> None:
        super().__init__()
        self.function, self.target, self.handlers = function, target, handlers
        self.lines_of_source = lines_of_source
        self.span = UNKNOWN_SPAN
        self.lines: list[str] = []
        self.depth = 1
        self.pointers: dict[Value, tuple[str, int]] = {}  # an expression and a constant offset in elements
        self.byte_offsets: dict[tuple[Value, int], str] = {}  # 64-bit forms of offsets in elements of a size
        self.functions: dict[str, str] = {}  # of the prelude
        self.instructions: dict[tuple[Instruction, str], str] = {}  # functions of PTX instructions
        self.uses: Counter[Value] = count_uses(function)
        self.pending: Counter[str] = Counter()  # uses to come of each cell
        self.made_in: dict[str, int] = {}  # the block that declared a variable of a cell
        self.block_id = 0
        self.taken: set[str] = set()
        self.counter = 0

    # -- the function

    def run(self) -> str:
        """The kernel's definition."""
        function = self.function
        parameters = ", ".join([self._parameter(v) for v in function.body.args])
        self.block(function.body)
        threads = int(function.attributes["warps"]) * 32
        bounds = f"__launch_bounds__({threads}, 1)"  # 1: registers are not given up for occupancy by spilling
        if function.attributes.get("max_registers"):
            bounds += f" __maxnreg__({function.attributes['max_registers']})"
        lines = [f'extern "C" __global__ void {bounds}\n{function.name}({parameters}) {{']
        if self.lines_of_source and function.span.known:
            lines.insert(0, line_directive(function.span.file, function.span.line))
        if function.attributes.get("shared_bytes"):
            lines.append("  extern __shared__ __align__(128) unsigned char shared_memory[];")
            lines.append("  const unsigned shared_base = (unsigned)__cvta_generic_to_shared(shared_memory);")
        return "\n".join([*lines, *self.lines, "}"])

    def _parameter(self, value: Value) -> str:
        name = self.fresh(value.name)
        if not isinstance(value.type, PointerType):
            self.bind(value, [name])
            self.own([name])
            return f"{c_type(value.tile.dtype)} {name}"
        self.pointers[value] = (name, 0)
        written = next((p.written for p in self.function.parameters if p.name == value.name), True)
        restrict = "__restrict__ " if value.name in self.function.attributes.get("restrict", ()) else ""
        return f"{'' if written else 'const '}{c_type(value.type.dtype)}* {restrict}{name}"

    def block(self, block: Block) -> None:
        around = self.span
        for op in block.ops:
            if op.TERMINATOR:
                break
            self.span = op.span
            handler = self.handlers.get(type(op))
            if handler is None:
                raise UnsupportedError.at("E0507", f"CUDA C has no {op.NAME} yet", op.span)
            handler(self, op)
            self._consume(op)
        self.span = around

    def nested(self, block: Block) -> None:
        """A block in braces, which the caller prints."""
        outer, self.block_id = self.block_id, id(block)
        self.depth += 1
        self.block(block)
        self.depth -= 1
        self.block_id = outer

    # -- text

    def line(self, text: str) -> None:
        if self.lines_of_source and self.span.known:
            self.lines.append(line_directive(self.span.file, self.span.line))
        self.lines.append("  " * self.depth + text)

    def need(self, name: str) -> str:
        """A function of the prelude is used."""
        for other in DEPENDENCIES.get(name, ()):
            self.need(other)
        self.functions.setdefault(name, FUNCTIONS[name])
        return name

    def fresh(self, stem: str) -> str:
        """A name that no variable has."""
        name = c_name(stem) if stem.isidentifier() else ""
        if name and name not in self.taken and name not in _RESERVED:
            self.taken.add(name)
            return name
        self.counter += 1
        name = f"{name or 'v'}_{self.counter}"
        self.taken.add(name)
        return name

    # -- instructions

    def call(self, instruction: Instruction, operands: Mapping[str, Sequence[str]], results: Sequence[str] = (),
             ctype: str = "", offset: int = 0) -> str:
        """A call of the function of an instruction.

        Args:
            operands: expressions of each operand but immediates.
            results: the variables that it sets, of type ``ctype``, where they are several.
            offset: in bytes, beside an address in shared memory.
        """
        ctype = ctype if results else REGISTER_TYPES[instruction.results[0].kind] if instruction.results else ""
        key = (instruction, ctype)
        if key not in self.instructions:
            self.instructions[key] = device_function(instruction, ctype)
        templates, arguments = [], list(results)
        for operand in instruction.inputs:
            if isinstance(operand, Immediate):
                templates.append(str(operand.value))
            elif operand.name != instruction.accumulator:
                arguments += operands[operand.name]
                if isinstance(operand, Address) and operand.space == "shared":
                    templates.append(str(offset))
        constants = f"<{', '.join(templates)}>" if templates else ""
        return f"ptx::{instruction.name}{constants}({', '.join(arguments)})"

    def pure(self, instruction: Instruction, **operands: str) -> str:
        """A call of an instruction on single registers."""
        return self.call(instruction, {name: [text] for name, text in operands.items()})

    def operands(self, op: Operation, instruction: Instruction) -> tuple[dict[str, list[str]], int]:
        """What an instruction takes of the operands of an operation, by name, and the offset of its address in shared
        memory."""
        found: dict[str, list[str]] = {}
        offset = 0
        for operand in instruction.inputs:
            if isinstance(operand, Address):
                pointer = getattr(op, operand.name)
                if operand.space == "shared":
                    address, offset = self.shared_address(pointer)
                else:
                    address = self.address(pointer)
                found[operand.name] = [address]
            elif isinstance(operand, Registers):
                cells = self.cells[getattr(op, operand.name)]
                found[operand.name] = [to_register(n, cells, operand.kind) for n in cells.names]
        return found, offset

    # -- values

    def bind(self, value: Value, names: list[str]) -> None:
        super().bind(value, names)
        uses = self.uses[value]
        for name in names:
            self.pending[name] += uses

    def own(self, names: Sequence[str]) -> None:
        """Names are variables that this block has declared."""
        for name in names:
            self.made_in[name] = self.block_id

    def owned(self, names: Sequence[str]) -> bool:
        """Whether cells may be overwritten: variables of this block, each once, that nothing reads after this
        operation."""
        once = len(set(names)) == len(names)
        return once and all(self.pending[n] == 1 and self.made_in.get(n) == self.block_id for n in names)

    def _consume(self, op: Operation) -> None:
        for operand in op.operands:
            cells = self.cells.get(operand)
            if cells is not None:
                for name in cells.names:
                    self.pending[name] -= 1

    def element(self, cells: Cells, index: int) -> str:
        name = cells.names[index // cells.per]
        if cells.per == 1:
            return name
        shift = index % cells.per * cells.dtype.bits
        return syntax.cast(c_type(cells.dtype), syntax.infix(">>", name, str(shift)) if shift else name)

    def declare(self, value: Value, stem: str = "") -> list[str]:
        """Declare variables for a value's cells."""
        count = elements_of(value)
        cells = max(1, count) // per_cell(value.tile.dtype, count)
        name = self.fresh(stem or value.name)
        self.line(f"{cell_type_of(value)} {name}{f'[{cells}]' if count else ''};")
        names = [f"{name}[{i}]" for i in range(cells)] if count else [name]
        self.bind(value, names)
        self.own(names)
        return names

    def bind_elements(self, value: Value, elements: list[str]) -> None:
        dtype, per = value.tile.dtype, per_cell(value.tile.dtype, elements_of(value))
        if per > 1:
            elements = [packed(dtype, elements[i : i + per]) for i in range(0, len(elements), per)]
        self.store(value, elements)

    def store(self, value: Value, cells: list[str]) -> None:
        """Declare variables for a value's cells and set them."""
        if elements_of(value):
            self.assign(self.declare(value), cells, cell_type_of(value))
            return
        ctype, name = cell_type_of(value), self.fresh(value.name)
        self.line(f"const {ctype} {name} = {syntax.assigned(cells[0], ctype)};")
        self.bind(value, [name])

    def assign(self, names: Sequence[str], texts: Sequence[str], ctype: str = "") -> None:
        """Assignments, as one unrolled loop where the expressions differ in the index only."""
        texts = [syntax.assigned(t, ctype) for t in texts]
        pattern = _loop_pattern(texts) if len(names) > 2 else None
        if pattern is not None:
            stem = names[0][: names[0].rindex("[")]
            self.line("#pragma unroll")
            self.line(f"for (int i = 0; i < {len(names)}; ++i) {stem}[i] = {pattern};")
            return
        for name, text in zip(names, texts, strict=True):
            self.line(f"{name} = {text};")

    # -- pointers

    def address(self, pointer: Value) -> str:
        """An expression of the pointer (shared memory: of the byte address)."""
        base, constant = self.pointers[pointer]
        if not constant:
            return base
        kind = pointer_type(pointer)
        size = max(1, kind.dtype.bits // 8) if kind.space == "shared" else 1
        return syntax.infix("+", base, str(constant * size))

    def shared_address(self, pointer: Value) -> tuple[str, int]:
        """The register and the constant, in bytes, of a shared-memory address."""
        base, constant = self.pointers[pointer]
        return base, constant * max(1, pointer_type(pointer).dtype.bits // 8)


def packed(dtype: DType, elements: Sequence[str]) -> str:
    """A 32-bit cell of narrow elements."""
    mask = f"0x{(1 << dtype.bits) - 1:x}u"
    words = [syntax.infix("&", syntax.cast("unsigned", e), mask) for e in elements]
    text = words[0]
    for i, word in enumerate(words[1:], 1):
        text = syntax.infix("|", text, syntax.infix("<<", word, str(i * dtype.bits)))
    return text


def to_register(name: str, cells: Cells, kind: str) -> str:
    """A cell as a register of a class; C converts integers by itself."""
    if cells.per == 1 and cells.dtype.is_float and kind in "rl":
        if c_type(cells.dtype) == "float":
            return f"__float_as_uint({name})"
        if c_type(cells.dtype) == "double":
            return f"__double_as_longlong({name})"
    return name


def from_register(text: str, kind: str, value: Value) -> str:
    """What a register of a class holds, as a cell of a value."""
    ctype = cell_type_of(value)
    if ctype == "float" and kind == "r":
        return f"__uint_as_float({text})"
    return f"__longlong_as_double({text})" if ctype == "double" and kind == "l" else text


def line_directive(file: str, line: int) -> str:
    name = file_name(file).replace("\\", "\\\\")
    return f'#line {line} "{name}"'


def _loop_pattern(texts: Sequence[str]) -> str | None:
    """``texts`` as one expression in ``i``, where they differ just in array indices equal to their position."""
    first, second = texts[0], texts[1]
    if first == second:
        return first if all(t == first for t in texts) else None
    pattern = first.replace("[0]", "[i]")
    if pattern == first:
        return None
    return pattern if all(pattern.replace("[i]", f"[{n}]") == t for n, t in enumerate(texts)) else None
