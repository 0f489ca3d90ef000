"""The state of a kernel's printing as CUDA C: its lines, its variables, the functions that it calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tilus.codegen.cells import CellEmitter, Cells, elements_of, per_cell
from tilus.codegen.cuda import syntax
from tilus.codegen.cuda.assignments import assignments, each_assigned
from tilus.codegen.cuda.inline_asm import REGISTER_TYPES, device_function
from tilus.codegen.cuda.names import Names
from tilus.codegen.cuda.prelude import FUNCTIONS
from tilus.codegen.cuda.rolling import rolled
from tilus.codegen.cuda.source_lines import SourceLines
from tilus.codegen.cuda.types import c_type, cell_type_of
from tilus.codegen.cuda.wrapping import wrapped
from tilus.codegen.file_names import file_name
from tilus.codegen.ptx.instruction import Address, Immediate, Instruction, Registers
from tilus.diagnostics import UNKNOWN_SPAN, Span, UnsupportedError
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import For, If, Pack, While
from tilus.ir.ops.simt import Barrier, CpAsyncWait, ExitIf, WarpBarrier
from tilus.ir.ops.thread import pointer_type
from tilus.ir.types import PointerType
from tilus.targets import Target

Handlers = Mapping[type[Operation], Callable[["KernelPrinter", Any], None]]
class KernelPrinter(CellEmitter):
    """Prints one kernel; ``handlers`` says how each operation is."""

    def __init__(self, function: Function, target: Target, lines_of_source: bool, handlers: Handlers) -> None:
        super().__init__()
        self.function, self.target, self.handlers = function, target, handlers
        self.lines_of_source = lines_of_source
        self.span = UNKNOWN_SPAN
        self.at: tuple[str, int] = ("", 0)  # the line of the source that was last printed
        self.source = SourceLines()
        self.names = Names(self.source)
        self.lines: list[str] = []
        self.alike: list[str] = []  # statements that are printed together, maybe as loops
        self.alike_at = UNKNOWN_SPAN
        self.depth = 1
        self.pointers: dict[Value, tuple[str, int]] = {}  # an expression and a constant offset in elements
        self.byte_offsets: dict[tuple[Value, int], str] = {}  # 64-bit forms of offsets in elements of a size
        self.functions: dict[str, str] = {}  # of the prelude
        self.instructions: dict[tuple[Instruction, str], str] = {}  # functions of PTX instructions
        self.called: list[str] = []  # definitions of functions of the kernel's own
        self.uses: Counter[Value] = Counter()
        self.used_in: dict[Value, int] = {}  # the block of the last use
        self.packs: dict[Value, Pack] = {}  # where values become parts of a vector
        self.vectors: dict[Pack, list[str]] = {}  # variables of vectors whose parts are put there as they are made
        self.pending: Counter[str] = Counter()  # uses to come of each cell
        self.made_in: dict[str, int] = {}  # the block that declared a variable of a cell
        self.inlined: dict[Value, Operation] = {}  # what is printed where it is used, and how it was made
        self.within: set[Value] = set()  # those of them that are part of another one
        self.block_id = id(function.body)
        self._count_uses(function.body)

    # -- the function

    def run(self) -> str:
        """The kernel's definition."""
        function = self.function
        parameters = ", ".join([self._parameter(v) for v in function.body.args])
        self.block(function.body)
        threads = function.attributes.warps * self.target.warp_size
        bounds = f"__launch_bounds__({threads}, 1)"  # 1: registers are not given up for occupancy by spilling
        if function.attributes.max_registers:
            bounds += f" __maxnreg__({function.attributes.max_registers})"
        lines = [f'extern "C" __global__ void {bounds}', *wrapped("", f"{function.name}({parameters}) {{")]
        if self.lines_of_source and function.span.known:
            lines.insert(0, line_directive(function.span.file, function.span.line))
        if function.attributes.shared_bytes:
            lines.append("  extern __shared__ __align__(128) unsigned char shared_memory[];")
            lines.append("  const unsigned shared_base = __cvta_generic_to_shared(shared_memory);")
        return "\n".join([*lines, *self.lines, "}"])

    def _parameter(self, value: Value) -> str:
        name = self.fresh(value.name)
        if not isinstance(value.type, PointerType):
            self.bind(value, [name])
            return f"{c_type(value.tile.dtype)} {name}"
        self.pointers[value] = (name, 0)
        self.names.roots[name] = name
        written = next((p.written for p in self.function.parameters if p.name == value.name), True)
        restrict = "__restrict__ " if value.name in self.function.attributes.restrict else ""
        return f"{'' if written else 'const '}{c_type(value.type.dtype)}* {restrict}{name}"

    def code_apart(self, body: Block, span: Span) -> tuple[str, str, list[list[str]]]:
        """A function of a block that uses its arguments only: its name, the type of what it gives, and the fields there
        of each result."""
        name = f"{self.function.name}_{len(self.called) // 2 + 1}"
        printer = KernelPrinter(Function(name, body, (), span=span), self.target, self.lines_of_source, self.handlers)
        printer.functions, printer.instructions = self.functions, self.instructions
        parameters = [p for value in body.args for p in printer._cells_taken(value)]
        printer.block(body)
        results = body.terminator.operands
        cells = [n for value in results for n in printer.cells[value].names]
        types = [cell_type_of(value) for value in results for _ in range(cells_of(value))]
        given = f"{name}_result"
        fields = "; ".join(f"{ctype} y{i}" for i, ctype in enumerate(types))
        values = ", ".join(syntax.assigned(n, ctype) for n, ctype in zip(cells, types, strict=True))
        self.called += [f"struct {given} {{ {fields}; }};", "\n".join([
            *wrapped("", f"static __device__ __noinline__ {given} {name}({', '.join(parameters)}) {{"), *printer.lines,
            *wrapped("  ", f"return {{{values}}};"), "}"])]
        named = iter(f"y{i}" for i in range(len(types)))
        return f"parts::{name}", f"parts::{given}", [[next(named) for _ in range(cells_of(v))] for v in results]

    def _cells_taken(self, value: Value) -> list[str]:
        """The parameters of a function that hold a value."""
        names = [self.fresh(value.name) for _ in range(cells_of(value))]
        self.bind(value, names)
        return [f"{cell_type_of(value)} {name}" for name in names]

    def block(self, block: Block) -> None:
        around = self.span
        for op in block.ops:
            if op.TERMINATOR:
                self._take(op)
                break
            self.span = op.span
            handler = self.handlers.get(type(op))
            if handler is None:
                raise UnsupportedError.at("E0507", f"CUDA C has no {op.NAME} yet", op.span)
            if self.inlined and isinstance(op, _IN_ORDER):
                self._settle(op)
            handler(self, op)
            if self.inlined and op.results and op.results[0] in self.inlined:
                self.inlined[op.results[0]] = op
                self.within.update(v for v in op.operands if v in self.inlined)
            else:
                self._consume(op)
        self._flush()
        self.span = around

    def _settle(self, op: Operation) -> None:
        """Expressions are computed before what they must not be moved across, but for those that it takes itself."""
        for value, maker in list(self.inlined.items()):
            here = self.used_in[value] == self.block_id and value not in op.operands
            if here and value not in self.within:
                del self.inlined[value]
                self.store(value, self.cells[value].names)
                self._consume(maker)

    def _count_uses(self, block: Block) -> None:
        for op in block.ops:
            for value in op.operands:
                self.uses[value] += 1
                self.used_in[value] = id(block)
            if isinstance(op, Pack):
                self.packs.update(dict.fromkeys(op.parts, op))
            for region in op.regions:
                self._count_uses(region)

    def nested(self, block: Block) -> None:
        """A block in braces, which the caller prints."""
        outer, self.block_id = self.block_id, id(block)
        self.at = ("", 0)
        self.depth += 1
        self.block(block)
        self.depth -= 1
        self.block_id = outer

    # -- text

    def line(self, text: str) -> None:
        """Print a line, and above it, where this is another one than before, the line of the source that it is of."""
        if self.alike:
            self._flush()
        self._print(text)

    def repeated(self, text: str) -> None:
        """Print a statement of which several that differ in indices follow each other."""
        if self.alike and self.span != self.alike_at:
            self._flush()
        self.alike_at = self.span
        self.alike.append(text)

    def _flush(self) -> None:
        here, statements = self.span, self.alike
        if statements:
            self.alike, self.span = [], self.alike_at
            for text in rolled(statements):
                self._print(text)
            self.span = here

    def _print(self, text: str) -> None:
        span, pad = self.span, "  " * self.depth
        if span.known:
            if (span.file, span.line) != self.at:
                self.at = (span.file, span.line)
                comment = self.source.comment(span)
                if comment:
                    self.lines.append(f"{pad}// {comment}")
            if self.lines_of_source:
                # In one piece: its second line would be the next one of the source.
                self.lines += [line_directive(span.file, span.line), pad + text]
                return
        self.lines += wrapped(pad, text)

    def need(self, name: str) -> str:
        """A function of the prelude is used."""
        self.functions.setdefault(name, FUNCTIONS[name])
        return name

    def fresh(self, stem: str = "") -> str:
        """A name that no variable has."""
        return self.names.fresh(stem, self.span)

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
            elif isinstance(operand, Address):
                arguments += operands[operand.name]
                if operand.space == "shared":
                    templates.append(str(offset))
            elif operand.name != instruction.accumulator:
                arguments += [syntax.assigned(t, REGISTER_TYPES[operand.kind]) for t in operands[operand.name]]
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
        """Give a value its cells. Expressions stay such where their only use is in this block, else they get names."""
        simple = all(map(is_simple, names))
        if not simple and len(set(names)) < len(names):
            known = {n: self.named(n, cell_type_of(value)) for n in dict.fromkeys(names)}
            names = [known[n] for n in names]
            simple = True
        if simple:
            self._bind_names(value, names)
        elif self._once_here(value) and not value.name and sum(map(len, names)) <= _LONGEST:
            super().bind(value, names)
            self.inlined[value] = _PENDING
        else:
            self.store(value, names)

    def _once_here(self, value: Value) -> bool:
        """Whether the only use of a value is in this block."""
        return self.uses[value] == 1 and self.used_in[value] == self.block_id

    def _bind_names(self, value: Value, names: list[str]) -> None:
        super().bind(value, names)
        uses, pending = self.uses[value], self.pending
        for name in names:
            pending[name] += uses

    def bind_literals(self, value: Value, names: list[str]) -> None:
        """Give a value cells that are literals."""
        super().bind(value, names)

    def named(self, text: str, ctype: str, stem: str = "") -> str:
        """A name of an expression that is written more than once."""
        if is_simple(text):
            return text
        name = self.fresh(stem)
        self.line(f"const {ctype} {name} = {syntax.assigned(text, ctype)};")
        return name

    def own(self, names: Sequence[str]) -> None:
        """Names are variables that this block has declared."""
        for name in names:
            self.made_in[name] = self.block_id

    def owned(self, names: Sequence[str]) -> bool:
        """Whether cells may be overwritten: variables of this block, each once, that nothing reads after this
        operation."""
        once = len(set(names)) == len(names)
        return once and all(self.pending[n] == 1 and self.made_in.get(n) == self.block_id for n in names)

    def _take(self, op: Operation) -> None:
        """What is printed where it is used has been, by this operation."""
        for operand in op.operands:
            maker = self.inlined.pop(operand, None)
            if maker is not None:
                self._consume(maker)

    def _consume(self, op: Operation) -> None:
        inlined, pending = self.inlined, self.pending
        for operand in op.operands:
            if operand in inlined:
                self._consume(inlined.pop(operand))
            elif operand in self.cells:
                for name in self.cells[operand].names:
                    pending[name] -= 1

    def element(self, cells: Cells, index: int) -> str:
        name = cells.names[index // cells.per]
        if cells.per == 1:
            return name
        shift = index % cells.per * cells.dtype.bits
        return syntax.cast(c_type(cells.dtype), syntax.infix(">>", name, str(shift)) if shift else name)

    def declare(self, value: Value, stem: str = "", init: Sequence[str] = ()) -> list[str]:
        """Declare variables for a value's cells: where it becomes a part of a vector, those of the vector. They are set
        to ``init``."""
        names = self._place_in_vector(value)
        if names is None:
            names = self._variables(value, stem, init)
        elif init:
            self.assign(names, init, cell_type_of(value))
        self._bind_names(value, names)
        self.own(names)
        return names

    def _variables(self, value: Value, stem: str = "", init: Sequence[str] = ()) -> list[str]:
        cells, ctype = cells_of(value), cell_type_of(value)
        name = self.fresh(stem or value.name)
        if cells == 1:
            self.line(f"{ctype} {name}{f' = {syntax.assigned(init[0], ctype)}' if init else ''};")
            return [name]
        self.line(f"{ctype} {name}[{cells}];")
        names = [f"{name}[{i}]" for i in range(cells)]
        if init:
            self.assign(names, init, ctype)
        return names

    def _place_in_vector(self, value: Value) -> list[str] | None:
        """The variables of a vector that a value is a part of, where that is its only use, and it is whole cells."""
        pack = self.packs.get(value)
        if pack is None or not self._once_here(value) or value.name:
            return None
        per = per_cell(value.tile.dtype, elements_of(pack.result))
        if per != per_cell(value.tile.dtype, elements_of(value)) or len(pack.parts) == 1:
            return None
        names = self.vectors.get(pack)
        if names is None:
            if any(max(1, elements_of(p)) % per for p in pack.parts):
                return None
            names = self.vectors[pack] = self._variables(pack.result)
        start = sum(max(1, elements_of(p)) // per for p in pack.parts[: pack.parts.index(value)])
        return names[start : start + cells_of(value)]

    def pack(self, op: Pack) -> None:
        names = self.vectors.get(op)
        if names is None:
            super().pack(op)
            return
        per = per_cell(op.result.tile.dtype, elements_of(op.result))
        cells = [text for p in op.parts for text in self._cells_as(p, per)]
        moves = [(n, text) for n, text in zip(names, cells, strict=True) if n != text]
        self.assign([n for n, _ in moves], [text for _, text in moves], cell_type_of(op.result))
        self._bind_names(op.result, names)
        self.own(names)

    def _cells_as(self, value: Value, per: int) -> list[str]:
        """A value's cells of ``per`` elements each."""
        cells = self.cells[value]
        if cells.per == per:
            return cells.names
        elements = [self.element(cells, i) for i in range(max(1, cells.count))]
        return [packed(cells.dtype, elements[i : i + per]) for i in range(0, len(elements), per)]

    def bind_elements(self, value: Value, elements: list[str]) -> None:
        dtype, per = value.tile.dtype, per_cell(value.tile.dtype, elements_of(value))
        if per > 1:
            elements = [packed(dtype, elements[i : i + per]) for i in range(0, len(elements), per)]
        self.define(value, elements)

    def define(self, value: Value, cells: list[str]) -> None:
        """Give a value cells that are expressions without effects, or variables."""
        if len(cells) == 1:
            self.bind(value, cells)
        else:
            self.store(value, cells)

    def store(self, value: Value, cells: list[str]) -> None:
        """Declare variables for a value's cells and set them here."""
        if len(cells) > 1:
            self.assign(self.declare(value), cells, cell_type_of(value))
            return
        ctype, name = cell_type_of(value), self.fresh(self.names.stem(value, self.span))
        self.line(f"const {ctype} {name} = {syntax.assigned(cells[0], ctype)};")
        self._bind_names(value, [name])

    def assign(self, names: Sequence[str], texts: Sequence[str], ctype: str = "") -> None:
        """Assignments, as one unrolled loop where the expressions differ in the index only."""
        for text in assignments(names, [syntax.assigned(t, ctype) for t in texts]):
            self.line(text)

    def assign_each(self, names: Sequence[str], texts: Sequence[str]) -> None:
        """Assignments, a statement for each."""
        for text in each_assigned(names, texts):
            self.line(text)

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


_IN_ORDER = (Barrier, WarpBarrier, CpAsyncWait, For, If, While, ExitIf)
"""What expressions are not moved across."""
_LONGEST = 90
"""Characters of an expression that is printed where it is used."""
_PENDING = Operation.__new__(Operation)
"""Stands for the operation that is being printed."""


def is_simple(text: str) -> bool:
    """Whether an expression is a name, an element of an array or a literal."""
    return type(text) is str and text[-1] != ")"


def packed(dtype: DType, elements: Sequence[str]) -> str:
    """A 32-bit cell of narrow elements."""
    mask = f"0x{(1 << dtype.bits) - 1:x}u"
    words = [syntax.cast("unsigned", e) for e in elements]
    if dtype.kind == "int":  # whose sign is extended
        words = [syntax.infix("&", w, mask) for w in words]
    text = words[0]
    for i, word in enumerate(words[1:], 1):
        text = syntax.infix("|", text, syntax.infix("<<", word, str(i * dtype.bits)))
    return text


def cells_of(value: Value) -> int:
    """How many cells a value has."""
    count = elements_of(value)
    return max(1, count) // per_cell(value.tile.dtype, count)


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
