"""Prints thread-level modules as CUDA C."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from tilus.codegen.cuda import expressions
from tilus.codegen.cuda.cells import Cells, c_type, per_cell, vector_type
from tilus.codegen.cuda.prelude import DEPENDENCIES, FUNCTIONS, PRELUDE_FILE, mma_function
from tilus.codegen.file_names import file_name
from tilus.codegen.ptx_names import PTX_SCOPES, PTX_TYPES, mma_instruction, mma_types
from tilus.diagnostics import UNKNOWN_SPAN, UnsupportedError
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.dtypes import f32
from tilus.ir.names import DEVICE_NAMES, c_name
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
from tilus.ir.rewriter import count_uses
from tilus.ir.types import PointerType

_RESERVED = DEVICE_NAMES | FUNCTIONS.keys() | {"i"}
"""Names that variables must not have."""
_ELEMENTWISE = (Unary, Binary, Compare, Select, Cast, Bitcast, Fma, MulHi, ApproxUnary)
_REGISTERS = {
    "tid": "(int)threadIdx.x",
    "lane": "(int)(threadIdx.x & 31)",
    "warp": "(int)(threadIdx.x >> 5)",
    "ctaid.x": "(int)blockIdx.x",
    "ctaid.y": "(int)blockIdx.y",
    "ctaid.z": "(int)blockIdx.z",
    "nctaid.x": "(int)gridDim.x",
    "nctaid.y": "(int)gridDim.y",
    "nctaid.z": "(int)gridDim.z",
}


def emit_cuda(module: Module, lines: bool = False) -> str:
    """The CUDA C of every kernel of a thread-level module; with ``lines`` it says by ``#line`` which line of the source
    each of its own comes from."""
    printers = [_KernelPrinter(f, lines) for f in module.kernels]
    bodies = [p.run() for p in printers]
    used: dict[str, str] = {}
    for printer in printers:
        used.update(printer.functions)
    head = [f"// {', '.join(f.name for f in module.kernels)} for {module.target}, made by tilus"]
    if lines:
        head.append(_line_directive(PRELUDE_FILE, 1))
    return "\n".join([*head, *used.values(), "", *bodies]) + "\n"


class _KernelPrinter:
    def __init__(self, function: Function, lines_of_source: bool) -> None:
        self.function = function
        self.lines_of_source = lines_of_source
        self.span = UNKNOWN_SPAN
        self.lines: list[str] = []
        self.depth = 1
        self.cells: dict[Value, Cells] = {}
        self.pointers: dict[Value, tuple[str, int]] = {}  # an expression and a constant offset in elements
        self.byte_offsets: dict[tuple[Value, int], str] = {}  # 64-bit forms of offsets in elements of a size
        self.functions: dict[str, str] = {}
        self.uses: Counter[Value] = count_uses(function)
        self.pending: Counter[str] = Counter()  # uses to come of each cell
        self.made_in: dict[str, int] = {}  # the block that declared a cell
        self.block_id = 0
        self.taken: set[str] = set()
        self.counter = 0

    # -- text

    def line(self, text: str) -> None:
        if self.lines_of_source and self.span.known:
            self.lines.append(_line_directive(self.span.file, self.span.line))
        self.lines.append("  " * self.depth + text)

    def need(self, name: str) -> str:
        for other in DEPENDENCIES.get(name, ()):
            self.need(other)
        self.functions.setdefault(name, FUNCTIONS[name])
        return name

    def fresh(self, stem: str) -> str:
        name = c_name(stem) if stem.isidentifier() else ""
        if name and name not in self.taken and name not in _RESERVED:
            self.taken.add(name)
            return name
        self.counter += 1
        name = f"{name or 'v'}_{self.counter}"
        self.taken.add(name)
        return name

    def run(self) -> str:
        function = self.function
        for value in function.body.args:
            name = self.fresh(value.name)
            if isinstance(value.type, PointerType):
                self.pointers[value] = (name, 0)
            else:
                self.bind(value, [name])
        self.block(function.body)
        parameters = ", ".join(self._parameter(v) for v in function.body.args)
        threads = int(function.attributes["warps"]) * 32
        bounds = f"__launch_bounds__({threads}, 1)"  # 1: registers are not given up for occupancy by spilling
        if function.attributes.get("max_registers"):
            bounds += f" __maxnreg__({function.attributes['max_registers']})"
        head = f'extern "C" __global__ void {bounds}\n{function.name}({parameters}) {{'
        lines = [head]
        if self.lines_of_source and function.span.known:
            lines.insert(0, _line_directive(function.span.file, function.span.line))
        if function.attributes.get("shared_bytes"):
            lines.append("  extern __shared__ __align__(128) unsigned char shared_memory[];")
            lines.append("  const unsigned shared_base = (unsigned)__cvta_generic_to_shared(shared_memory);")
        return "\n".join([*lines, *self.lines, "}"])

    def _parameter(self, value: Value) -> str:
        if isinstance(value.type, PointerType):
            written = next((p.written for p in self.function.parameters if p.name == value.name), True)
            const = "" if written else "const "
            restrict = "__restrict__ " if value.name in self.function.attributes.get("restrict", ()) else ""
            return f"{const}{c_type(value.type.dtype)}* {restrict}{self.pointers[value][0]}"
        return f"{c_type(value.tile.dtype)} {self.cells[value].names[0]}"

    # -- values

    def bind(self, value: Value, names: list[str], fresh: bool = True) -> None:
        """Give a value its cells; ``fresh`` ones are variables that were declared for it in this block."""
        tile = value.tile
        count = tile.size if tile.shape else 0
        self.cells[value] = Cells(names, tile.dtype, count, per_cell(tile.dtype, count))
        uses = self.uses[value]
        for name in names:
            self.pending[name] += uses
            if fresh:
                self.made_in[name] = self.block_id

    def consume(self, op: Operation) -> None:
        for operand in op.operands:
            cells = self.cells.get(operand)
            if cells is not None:
                for name in cells.names:
                    self.pending[name] -= 1

    def owned(self, names: list[str]) -> bool:
        """Whether cells may be overwritten: variables of this block, each once, that nothing will read again."""
        once = len(set(names)) == len(names)
        return once and all(self.pending[n] == 0 and self.made_in.get(n) == self.block_id for n in names)

    def scalar(self, value: Value) -> str:
        return self.cells[value].element(0)

    def declare(self, value: Value, stem: str = "") -> list[str]:
        """Declare variables for a value's cells."""
        tile = value.tile
        count = tile.size if tile.shape else 0
        per = per_cell(tile.dtype, count)
        ctype = "unsigned" if per > 1 else c_type(tile.dtype)
        name = self.fresh(stem or value.name)
        cells = max(1, count) // per
        if count == 0:
            self.line(f"{ctype} {name};")
            names = [name]
        else:
            self.line(f"{ctype} {name}[{cells}];")
            names = [f"{name}[{i}]" for i in range(cells)]
        self.bind(value, names)
        return names

    def store_elements(self, value: Value, elements: list[str]) -> None:
        """Declare a value and set it from expressions of its elements."""
        tile = value.tile
        count = tile.size if tile.shape else 0
        per = per_cell(tile.dtype, count)
        packed = (
            elements
            if per == 1
            else [expressions.pack(self, tile.dtype, elements[i : i + per]) for i in range(0, len(elements), per)]
        )
        self.store_cells(value, packed)

    def store_cells(self, value: Value, packed: list[str]) -> None:
        tile = value.tile
        count = tile.size if tile.shape else 0
        per = per_cell(tile.dtype, count)
        ctype = "unsigned" if per > 1 else c_type(tile.dtype)
        name = self.fresh(value.name)
        if count == 0:
            self.line(f"const {ctype} {name} = {packed[0]};")
            self.bind(value, [name], fresh=False)
            return
        self.line(f"{ctype} {name}[{len(packed)}];")
        names = [f"{name}[{i}]" for i in range(len(packed))]
        self._assign_cells(names, packed)
        self.bind(value, names)

    def _assign_cells(self, names: list[str], packed: list[str]) -> None:
        """Assignments, as one unrolled loop where the expressions differ in the index only."""
        if len(names) > 2:
            pattern = _loop_pattern(packed)
            if pattern is not None:
                stem = names[0][: names[0].rindex("[")]
                self.line("#pragma unroll")
                self.line(f"for (int i = 0; i < {len(names)}; ++i) {stem}[i] = {pattern};")
                return
        for name, text in zip(names, packed, strict=True):
            self.line(f"{name} = {text};")

    # -- blocks

    def block(self, block: Block) -> None:
        around = self.span
        for op in block.ops:
            if op.TERMINATOR:
                break
            self.span = op.span
            handler = _HANDLERS.get(type(op))
            if handler is None:
                raise UnsupportedError.at("E0507", f"CUDA C has no {op.NAME} yet", op.span)
            handler(self, op)
        self.span = around

    def nested(self, block: Block) -> None:
        outer, self.block_id = self.block_id, id(block)
        self.depth += 1
        self.block(block)
        self.depth -= 1
        self.block_id = outer

    def elementwise(self, op: Operation) -> None:
        result = op.results[0]
        packed = expressions.packed(self, op)
        if packed is not None:
            self.consume(op)
            self.store_cells(result, packed)
            return
        count = max(1, result.tile.size)
        elements = [expressions.element(self, op, i) for i in range(count)]
        self.consume(op)
        self.store_elements(result, elements)

    def cvt_fp8(self, op: CvtFp8) -> None:
        cells, count = self.cells[op.x], max(1, op.x.tile.size)
        packed = op.x.tile.shape and count % 4 == 0
        x = [cells.element(i) for i in range(count)]
        if op.x.tile.dtype is f32:
            name = self.need(f"f32_to_{PTX_TYPES[op.dtype.name]}x2")
            pairs = [f"{name}({low}, {high})" for low, high in zip(x[::2], x[1::2], strict=False)]
            words = [f"{low} | {high} << 16" for low, high in zip(pairs[::2], pairs[1::2], strict=False)]
            elements = [f"(unsigned char){name}({e}, 0.0f)" for e in x]
        else:
            name = self.need(f"{PTX_TYPES[cells.dtype.name]}x2_to_f16x2")
            words = [f"{name}({c}{shift})" for c in cells.names for shift in ("", " >> 16")]
            elements = [f"(unsigned short){name}({e})" for e in x]
        self.consume(op)
        if packed:
            self.store_cells(op.result, words)
        else:
            self.store_elements(op.result, elements)

    def keep(self, op: Keep) -> None:
        """NVRTC leaves computations where they are."""
        names = self.cells[op.x].names
        self.consume(op)
        self.bind(op.result, names, fresh=False)

    def const(self, op: Const) -> None:
        tile = op.result.tile
        text = expressions.literal(op.value, tile.dtype)
        count = tile.size if tile.shape else 0
        if count == 0:
            self.bind(op.result, [text], fresh=False)
            return
        per = per_cell(tile.dtype, count)
        if per > 1:
            text = expressions.packed_literal(op.value, tile.dtype, per)
        self.bind(op.result, [text] * (count // per), fresh=False)

    def special(self, op: SpecialRegister) -> None:
        name = self.fresh(op.register.replace(".", "_"))
        if op.phase and op.register in REREAD:
            self.line(f'int {name}; asm volatile("mov.u32 %0, %%{REREAD[op.register]};" : "=r"({name}));')
        else:
            self.line(f"const int {name} = {_REGISTERS[op.register]};")
        self.bind(op.result, [name])

    def broadcast(self, op: Broadcast) -> None:
        tile = op.result.tile
        per = per_cell(tile.dtype, tile.size)
        text = self.scalar(op.x)
        self.consume(op)
        if per > 1:
            name = self.fresh("")
            self.line(f"const unsigned {name} = {expressions.pack(self, tile.dtype, [text] * per)};")
            text = name
        self.bind(op.result, [text] * (tile.size // per), fresh=False)

    def extract(self, op: Extract) -> None:
        text = self.cells[op.vector].element(op.index)
        self.consume(op)
        self.bind(op.result, [text], fresh=False)

    def shuffle(self, op: Shuffle) -> None:
        source = self.cells[op.vector]
        target_per = per_cell(source.dtype, len(op.indices))
        names = _whole_cells(source, op.indices) if target_per == source.per else None
        elements = [] if names is not None else [source.element(i) for i in op.indices]
        self.consume(op)
        if names is not None:
            self.bind(op.result, names, fresh=False)
        else:
            self.store_elements(op.result, elements)

    def pack(self, op: Pack) -> None:
        target_per = per_cell(op.result.tile.dtype, op.result.tile.size)
        parts = [self.cells[p] for p in op.parts]
        if all(p.per == target_per for p in parts):
            names = [n for p in parts for n in p.names]
            self.consume(op)
            self.bind(op.result, names, fresh=False)
            return
        elements = [p.element(i) for p in parts for i in range(max(1, p.count))]
        self.consume(op)
        self.store_elements(op.result, elements)

    # -- memory

    def ptr_add(self, op: PtrAdd) -> None:
        base, constant = self.pointers[op.pointer]
        constant += op.constant
        if op.offset is None:
            self.pointers[op.result] = (base, constant)
            return
        offset = self.scalar(op.offset)
        self.consume(op)
        pointer = op.result.type
        assert isinstance(pointer, PointerType)
        name = self.fresh("p")
        if pointer.space == "shared":
            self.line(f"unsigned {name} = {base} + ({offset}) * {max(1, pointer.dtype.bits // 8)};")
            if self.depth == 1:
                # Kept in its register: the compiler would compute it again in every iteration of the loops below.
                self.line(f'asm volatile("" : "+r"({name}));')
        else:
            self._global_pointer(name, base, offset, op)
        self.pointers[op.result] = (name, constant)

    def _global_pointer(self, name: str, base: str, offset: str, op: PtrAdd) -> None:
        """Outside of loops an offset in bytes is computed once for all arrays, and an address once for all accesses:
        under their predicates the compiler would compute them again for each."""
        if self.depth > 1:
            self.line(f"auto {name} = {base} + ({offset});")
            return
        assert op.offset is not None
        assert isinstance(op.result.type, PointerType)
        size = op.result.type.dtype.itemsize
        wide = self.byte_offsets.get((op.offset, size))
        if wide is None:
            wide = self.byte_offsets[op.offset, size] = self.fresh("bytes")
            self.line(f"long long {wide} = (long long){offset} * {size};")
            self.line(f'asm("" : "+l"({wide}));')
        self.line(f"auto {name} = {self.need('at_byte')}({base}, {wide});")
        self.line(f'asm("" : "+l"({name}));')

    def ptr_cast(self, op: PtrCast) -> None:
        source = op.pointer.type
        assert isinstance(source, PointerType)
        text = self.address(op.pointer)
        if source.space != "shared":
            text = f"(({c_type(op.dtype)}*)({text}))"
        self.pointers[op.result] = (text, 0)

    def shared_base(self, op: SharedBase) -> None:
        name = self.fresh("s")
        self.line(f"const unsigned {name} = shared_base + {op.offset};")
        self.pointers[op.result] = (name, 0)

    def address(self, pointer: Value) -> str:
        """An expression of the pointer (shared memory: of the byte address)."""
        base, constant = self.pointers[pointer]
        type_ = pointer.type
        assert isinstance(type_, PointerType)
        if not constant:
            return base
        if type_.space == "shared":
            return f"{base} + {constant * max(1, type_.dtype.bits // 8)}"
        return f"{base} + {constant}"

    def shared_address(self, pointer: Value) -> tuple[str, int]:
        """The register and the constant, in bytes, of a shared-memory address."""
        base, constant = self.pointers[pointer]
        type_ = pointer.type
        assert isinstance(type_, PointerType)
        return base, constant * max(1, type_.dtype.bits // 8)

    def ptr_load(self, op: PtrLoad) -> None:
        pointer = op.pointer.type
        assert isinstance(pointer, PointerType)
        if pointer.space == "shared":
            self._load_shared(op)
        else:
            self._load_global(op)

    def _vector_of(self, value: Value) -> tuple[str, int, str]:
        """The C type of a memory access of a value, its number of cells, and the cells' type."""
        tile = value.tile
        count = tile.size if tile.shape else 0
        per = per_cell(tile.dtype, count)
        ctype = "unsigned" if per > 1 else c_type(tile.dtype)
        cells = max(1, count) // per
        return (vector_type(ctype, cells) if cells > 1 else ctype), cells, ctype

    def _load_global(self, op: PtrLoad) -> None:
        vector, cells, ctype = self._vector_of(op.result)
        if ctype == "bool" and cells > 1:
            raise UnsupportedError.at("E0507", "vector loads of bool", op.span)
        address = self.address(op.pointer)
        stored = "unsigned char" if ctype == "bool" else vector  # of a bool's bytes any but 0 is true
        source = f"*({'const ' if op.read_only else ''}{stored}*)({address})"
        if op.read_only:
            source = f"__ldg((const {stored}*)({address}))"
        elif op.volatile:
            source = f"*(volatile {stored}*)({address})"
        if ctype == "bool":
            source += " != 0"
        name = self.fresh(op.result.name or "x")
        if op.predicate is None:
            self.line(f"const {vector} {name} = {source};")
        else:
            other = self._other(op, cells, vector)
            self.line(f"{vector} {name} = {other};")
            self.line(f"if ({self.scalar(op.predicate)}) {name} = {source};")
        self.consume(op)
        self.bind(op.result, _components(name, cells), fresh=op.predicate is not None)

    def _other(self, op: PtrLoad, cells: int, vector: str) -> str:
        if op.other is None:
            return f"{vector}{{}}" if cells > 1 else "0"
        names = self.cells[op.other].names
        return f"make_{vector}({', '.join(names)})" if cells > 1 else names[0]

    def _load_shared(self, op: PtrLoad) -> None:
        tile = op.result.tile
        cells = max(1, tile.size if tile.shape else 0) // per_cell(tile.dtype, tile.size if tile.shape else 0)
        total = max(1, tile.size if tile.shape else 0) * max(8, tile.dtype.bits)
        names = self.declare(op.result, op.result.name or "x")
        reads = self._shared_reads(op, names, total, cells)
        if op.predicate is not None:
            fill = ["0"] * len(names) if op.other is None else self.cells[op.other].names
            for name, text in zip(names, fill, strict=True):
                self.line(f"{name} = {text};")
            self.line(f"if ({self.scalar(op.predicate)}) {{ {' '.join(reads)} }}")
        else:
            for text in reads:
                self.line(text)
        self.consume(op)

    def _shared_reads(self, op: PtrLoad, names: list[str], total: int, cells: int) -> list[str]:
        address, at = self.shared_address(op.pointer)
        dtype = op.result.tile.dtype
        if total in (64, 128) and dtype.bits <= 32 and cells > 1:
            width = total // 32
            name = self.fresh("w")
            words = [f"{name}.{c}" for c in "xyzw"[:width]]
            return [
                f"const uint{width} {name} = {self.need(f'lds_v{width}')}<{at}>({address});",
                *(
                    f"{n} = {expressions.from_word(w, self.cells[op.result])};"
                    for n, w in zip(names, words, strict=True)
                ),
            ]
        step = total // cells // 8
        out = []
        for i, name in enumerate(names):
            suffix = expressions.shared_suffix(self.cells[op.result])
            out.append(f"{name} = {self.need(f'lds_{suffix}')}<{at + i * step}>({address});")
        return out

    def ptr_store(self, op: PtrStore) -> None:
        pointer = op.pointer.type
        assert isinstance(pointer, PointerType)
        cells = self.cells[op.value]
        guard = "" if op.predicate is None else f"if ({self.scalar(op.predicate)}) "
        if pointer.space == "shared":
            for text in self._shared_writes(cells, *self.shared_address(op.pointer)):
                self.line(guard + text)
        else:
            address = self.address(op.pointer)
            vector, count, _ = self._vector_of(op.value)
            if count in (2, 4) and (cells.per > 1 or cells.dtype.bits == 32):
                # One instruction for certain: the compiler splits vector stores whose alignment it cannot see.
                words = ", ".join(expressions.to_word(n, cells) for n in cells.names)
                self.line(f"{guard}{self.need(f'stg_v{count}')}({address}, {words});")
            else:
                text = f"make_{vector}({', '.join(cells.names)})" if count > 1 else cells.names[0]
                self.line(f"{guard}*({vector}*)({address}) = {text};")
        self.consume(op)

    def _shared_writes(self, cells: Cells, address: str, at: int) -> list[str]:
        count = len(cells.names)
        word = cells.per > 1 or cells.dtype.bits == 32
        if word and count in (2, 4):
            words = [expressions.to_word(n, cells) for n in cells.names]
            return [f"{self.need(f'sts_v{count}')}<{at}>({address}, {', '.join(words)});"]
        step = 4 if cells.per > 1 else max(1, cells.dtype.bits // 8)
        suffix = expressions.shared_suffix(cells)
        return [f"{self.need(f'sts_{suffix}')}<{at + i * step}>({address}, {n});" for i, n in enumerate(cells.names)]

    def alloca(self, op: Alloca) -> None:
        name = self.fresh("local")
        align = f"__align__({op.alignment}) " if op.alignment else ""
        self.line(f"{align}{c_type(op.dtype)} {name}[{op.count}];")
        self.pointers[op.result] = (name, 0)

    # -- asynchronous copies, barriers, matrices

    def cp_async(self, op: CpAsync) -> None:
        name = f"cp_async_{op.bytes}"
        address, at = self.shared_address(op.destination)
        arguments = [address, self.address(op.source)]
        if op.predicate is not None:
            name += "_if"
            arguments.append(self.scalar(op.predicate))
        self.line(f"{self.need(name)}<{at}>({', '.join(arguments)});")
        self.consume(op)

    def cp_async_commit(self, op: CpAsyncCommit) -> None:
        self.line(f"{self.need('cp_async_commit')}();")

    def cp_async_wait(self, op: CpAsyncWait) -> None:
        self.line(f"{self.need('cp_async_wait')}<{op.pending}>();")

    def barrier(self, op: Barrier) -> None:
        if op.id == 0 and not op.arrive and not op.threads:
            self.line("__syncthreads();")
        else:
            self.line(f"{self.need('barrier_arrive' if op.arrive else 'barrier')}({op.id}, {op.threads});")

    def warp_barrier(self, op: WarpBarrier) -> None:
        self.line("__syncwarp();")

    def ldmatrix(self, op: LdMatrix) -> None:
        names = self.declare(op.result, op.result.name or "m")
        dtype = op.result.tile.dtype
        if dtype.bits == 32:
            name = self.fresh("w")
            self.line(f"unsigned {name}[{op.count}];")
            words = [f"{name}[{i}]" for i in range(op.count)]
        else:
            words = names
        function = self.need(f"ldmatrix_x{op.count}{'_trans' if op.trans else ''}")
        address, at = self.shared_address(op.pointer)
        self.line(f"{function}<{at}>({', '.join(words)}, {address});")
        if words is not names:
            for name, word in zip(names, words, strict=True):
                self.line(f"{name} = {expressions.from_word(word, self.cells[op.result])};")

    def stmatrix(self, op: StMatrix) -> None:
        cells = self.cells[op.value]
        words = [expressions.mma_operand(name, cells, "r") for name in cells.names]
        function = self.need(f"stmatrix_x{op.count}{'_trans' if op.trans else ''}")
        address, at = self.shared_address(op.pointer)
        self.line(f"{function}<{at}>({address}, {', '.join(words)});")
        self.consume(op)

    def mma(self, op: Mma) -> None:
        name, text, operand = _mma_wrapper(self, op)
        self.functions.setdefault(name, text)
        c = list(self.cells[op.c].names)
        ab = [expressions.mma_operand(n, self.cells[v], operand) for v in (op.a, op.b) for n in self.cells[v].names]
        self.consume(op)
        d = c
        if self.owned(c):
            self.bind(op.result, c, fresh=False)
        else:
            d = self.declare(op.result, "acc")
            self.line(" ".join(f"{x} = {y};" for x, y in zip(d, c, strict=True)))
        self.line(f"{name}({', '.join([*d, *ab])});")

    # -- warps

    def warp_shuffle(self, op: WarpShuffle) -> None:
        function = {"bfly": "__shfl_xor_sync", "idx": "__shfl_sync", "up": "__shfl_up_sync", "down": "__shfl_down_sync"}
        cells = self.cells[op.value]
        lane = self.scalar(op.lane)
        packed = [expressions.shuffle_cell(function[op.mode], n, lane, cells) for n in cells.names]
        self.consume(op)
        self.store_cells(op.result, packed)

    def warp_vote(self, op: WarpVote) -> None:
        text = f"__{op.kind}_sync(0xffffffffu, {self.scalar(op.condition)})"
        self.consume(op)
        self.store_elements(op.result, [text])

    def warp_redux(self, op: WarpRedux) -> None:
        text = f"__reduce_{op.kind}_sync(0xffffffffu, {self.scalar(op.value)})"
        self.consume(op)
        self.store_elements(op.result, [text])

    # -- atomics and the rest

    def ptr_atomic(self, op: PtrAtomic) -> None:
        text = expressions.atomic(self, op)
        dtype = op.result.tile.dtype
        name = self.fresh("old")
        self.line(f"{c_type(dtype)} {name} = 0;")
        guard = "" if op.predicate is None else f"if ({self.scalar(op.predicate)}) "
        self.line(f"{guard}{text.replace('$', name)}")
        self.consume(op)
        self.bind(op.result, [name])

    def acquire_load(self, op: AcquireLoad) -> None:
        dtype = op.result.tile.dtype
        name = self.fresh("flag")
        scope = PTX_SCOPES[op.scope]
        bits, constraint = dtype.bits, "r" if dtype.bits == 32 else "l"
        self.line(f"{c_type(dtype)} {name};")
        self.line(
            f'asm volatile("ld.acquire.{scope}.global.u{bits} %0, [%1];" : "={constraint}"({name}) : '
            f'"l"({self.address(op.pointer)}) : "memory");'
        )
        self.bind(op.result, [name])

    def fence(self, op: Fence) -> None:
        self.line(
            {"block": "__threadfence_block();", "system": "__threadfence_system();"}.get(op.scope, "__threadfence();")
        )

    def print_thread(self, op: PrintThread) -> None:
        pieces, values = expressions.printf_format(op)
        arguments = "".join(f", {t}" for t in [expressions.printf_argument(self, v) for v in values])
        self.line(f'printf("{pieces}"{arguments});')
        self.consume(op)

    def exit_if(self, op: ExitIf) -> None:
        self.line(f"if ({self.scalar(op.condition)}) return;")
        self.consume(op)

    def trap(self, op: Trap) -> None:
        self.line("__trap();")

    def philox(self, op: Philox) -> None:
        expressions.philox(self, op)

    # -- control flow

    def for_loop(self, op: For) -> None:
        carried = self._carry(op.init, op.body.args[1:])
        bounds = [self.scalar(v) for v in (op.start, op.stop, op.step)]
        self.consume(op)
        index = self.fresh(op.index.name or "i")
        ctype = c_type(op.index.tile.dtype)
        step = op.step.defining
        if isinstance(step, Const):
            test = f"{index} {'<' if step.value > 0 else '>'} {bounds[1]}"
        else:
            test = f"({bounds[2]} > 0 ? {index} < {bounds[1]} : {index} > {bounds[1]})"
        self.line("#pragma unroll 1")
        self.line(f"for ({ctype} {index} = {bounds[0]}; {test}; {index} += {bounds[2]}) {{")
        self.bind(op.index, [index], fresh=False)
        self._loop_body(op.body, op.body.args[1:], carried)
        self.line("}")
        self._results(op, carried)

    def _carry(self, init: Iterable[Value], args: list[Value]) -> list[Any]:
        """Variables for the carried values, initialised; pointers too."""
        out: list[Any] = []
        for value, arg in zip(init, args, strict=True):
            if isinstance(value.type, PointerType):
                name = self.fresh("p")
                kind = "unsigned" if value.type.space == "shared" else "auto"
                self.line(f"{kind} {name} = {self.address(value)};")
                out.append(name)
                continue
            source = list(self.cells[value].names)
            names = self.declare(arg, arg.name or value.name)
            if len(names) == 1:
                self.line(f"{names[0]} = {source[0]};")
            else:
                self._assign_cells(names, source)
            out.append(names)
        return out

    def _loop_body(self, body: Block, args: list[Value], carried: list[Any]) -> None:
        for arg, names in zip(args, carried, strict=True):
            if isinstance(arg.type, PointerType):
                self.pointers[arg] = (names, 0)
                continue
            for n in names:
                self.made_in[n] = id(body)
                self.pending[n] = 0
            self.bind(arg, names, fresh=False)
        self.nested(body)
        self.depth += 1
        self._yield_to(body.terminator.operands, carried)
        self.depth -= 1

    def _yield_to(self, values: list[Value], targets: list[Any]) -> None:
        moves: list[tuple[str, str, str]] = []
        for value, names in zip(values, targets, strict=True):
            if isinstance(value.type, PointerType):
                text = self.address(value)
                if text == f"{names} + {self.pointers[value][1]}" and value.type.space != "shared":
                    # Not earlier: moved up, the sum would need the old pointer copied for the accesses below.
                    self.line(f'asm volatile("" : "+l"({names}));')
                if text != names:
                    moves.append((names, text, "unsigned" if value.type.space == "shared" else "auto"))
                continue
            cells = self.cells[value]
            moves += [(t, s, cells.ctype) for t, s in zip(names, cells.names, strict=True) if t != s]
        written = {t for t, _, _ in moves}
        safe = not any(_mentions(s, written - {t}) for t, s, _ in moves)
        if safe:
            self._plain_moves(moves)
            return
        temporaries = []
        for target, source, ctype in moves:
            name = self.fresh("next")
            self.line(f"const {ctype} {name} = {source};")
            temporaries.append((target, name, ctype))
        self._plain_moves(temporaries)

    def _plain_moves(self, moves: list[tuple[str, str, str]]) -> None:
        start = 0
        while start < len(moves):
            stop = start
            stem = _array(moves[start][0])
            while stop < len(moves) and stem is not None and _array(moves[stop][0]) == stem:
                stop += 1
            if stem is not None and stop - start > 2 and moves[start][0] == f"{stem}[0]":
                self._assign_cells([m[0] for m in moves[start:stop]], [m[1] for m in moves[start:stop]])
            else:
                stop = max(stop, start + 1)
                for target, source, _ in moves[start:stop]:
                    self.line(f"{target} = {source};")
            start = stop

    def _results(self, op: Operation, carried: list[Any]) -> None:
        for result, names in zip(op.results, carried, strict=True):
            if isinstance(result.type, PointerType):
                self.pointers[result] = (names, 0)
                continue
            for n in names:
                self.pending[n] = 0
            self.bind(result, names)

    def if_op(self, op: If) -> None:
        condition = self.scalar(op.condition)
        self.consume(op)
        targets: list[Any] = []
        for result in op.results:
            if isinstance(result.type, PointerType):
                raise UnsupportedError.at("E0507", "an `if` that yields a pointer", op.span)
            targets.append(self.declare(result, result.name))
        saved = Counter(self.pending)
        self.line(f"if ({condition}) {{")
        self.nested(op.then)
        self.depth += 1
        self._yield_to(op.then.terminator.operands, targets)
        self.depth -= 1
        if len(op.orelse.ops) > 1 or op.results:
            self.line("} else {")
            self.nested(op.orelse)
            self.depth += 1
            self._yield_to(op.orelse.terminator.operands, targets)
            self.depth -= 1
        self.line("}")
        for result in op.results:
            for n in self.cells[result].names:
                self.pending[n] = max(saved[n], self.uses[result])

    def while_loop(self, op: While) -> None:
        carried = self._carry(op.init, op.before.args)
        self.consume(op)
        self.line("while (true) {")
        for arg, names in zip(op.before.args, carried, strict=True):
            self.bind(arg, names, fresh=False)
        self.nested(op.before)
        self.depth += 1
        self.line(f"if (!({self.scalar(op.before.terminator.operands[0])})) break;")
        self.depth -= 1
        self._loop_body(op.body, op.body.args, carried)
        self.line("}")
        self._results(op, carried)


def _line_directive(file: str, line: int) -> str:
    name = file_name(file).replace("\\", "\\\\")
    return f'#line {line} "{name}"'


def _components(name: str, cells: int) -> list[str]:
    return [name] if cells == 1 else [f"{name}.{c}" for c in "xyzw"[:cells]]


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


def _loop_pattern(texts: list[str]) -> str | None:
    """``texts`` as one expression in ``i``, where they differ just in array indices equal to their position."""
    first, second = texts[0], texts[1]
    if first == second:
        return first if all(t == first for t in texts) else None
    pattern = first.replace("[0]", "[i]")
    if pattern == first:
        return None
    return pattern if all(pattern.replace("[i]", f"[{n}]") == t for n, t in enumerate(texts)) else None


def _array(name: str) -> str | None:
    return name[: name.rindex("[")] if name.endswith("]") else None


def _mentions(text: str, names: set[str]) -> bool:
    return text in names or any(n in text for n in names if len(n) < len(text))


def _mma_wrapper(printer: _KernelPrinter, op: Mma) -> tuple[str, str, str]:
    m, n, k = op.shape
    a, b, _ = mma_types(op)
    c = op.c.tile.dtype.name
    operand = "d" if a == "f64" else "r"
    accumulator = {"f32": "f", "f64": "d"}.get(c, "r")
    na, nb, nc = (len(printer.cells[v].names) for v in (op.a, op.b, op.c))
    name = f"mma_m{m}n{n}k{k}_{op.order.replace('.', '_')}_{a}_{b}_{c}"
    held = printer.cells[op.c].ctype
    return name, mma_function(name, mma_instruction(op), na, nb, nc, operand, accumulator, held), operand


_HANDLERS: dict[type[Operation], Callable[[_KernelPrinter, Any], None]] = {
    **dict.fromkeys(_ELEMENTWISE, _KernelPrinter.elementwise),
    Const: _KernelPrinter.const,
    CvtFp8: _KernelPrinter.cvt_fp8,
    Keep: _KernelPrinter.keep,
    SpecialRegister: _KernelPrinter.special,
    Broadcast: _KernelPrinter.broadcast,
    Extract: _KernelPrinter.extract,
    Shuffle: _KernelPrinter.shuffle,
    Pack: _KernelPrinter.pack,
    PtrAdd: _KernelPrinter.ptr_add,
    PtrCast: _KernelPrinter.ptr_cast,
    SharedBase: _KernelPrinter.shared_base,
    PtrLoad: _KernelPrinter.ptr_load,
    PtrStore: _KernelPrinter.ptr_store,
    Alloca: _KernelPrinter.alloca,
    CpAsync: _KernelPrinter.cp_async,
    CpAsyncCommit: _KernelPrinter.cp_async_commit,
    CpAsyncWait: _KernelPrinter.cp_async_wait,
    Barrier: _KernelPrinter.barrier,
    WarpBarrier: _KernelPrinter.warp_barrier,
    LdMatrix: _KernelPrinter.ldmatrix,
    StMatrix: _KernelPrinter.stmatrix,
    Mma: _KernelPrinter.mma,
    WarpShuffle: _KernelPrinter.warp_shuffle,
    WarpVote: _KernelPrinter.warp_vote,
    WarpRedux: _KernelPrinter.warp_redux,
    PtrAtomic: _KernelPrinter.ptr_atomic,
    AcquireLoad: _KernelPrinter.acquire_load,
    Fence: _KernelPrinter.fence,
    PrintThread: _KernelPrinter.print_thread,
    ExitIf: _KernelPrinter.exit_if,
    Trap: _KernelPrinter.trap,
    Philox: _KernelPrinter.philox,
    For: _KernelPrinter.for_loop,
    If: _KernelPrinter.if_op,
    While: _KernelPrinter.while_loop,
}
