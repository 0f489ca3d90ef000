"""Instructions of PTX, constants and registers, shuffles and printing in CUDA C."""

from __future__ import annotations

from tilus.codegen import ptx
from tilus.codegen.cells import elements_of, per_cell
from tilus.codegen.cuda.kernel import Handlers, KernelPrinter, from_register, packed, to_register
from tilus.codegen.cuda.literals import literal, packed_literal
from tilus.codegen.cuda.syntax import cast
from tilus.codegen.cuda.types import c_type, cell_type, cell_type_of
from tilus.codegen.printing import format_string
from tilus.codegen.ptx.sync import read_again
from tilus.ir.core import Operation
from tilus.ir.ops import Broadcast, Const
from tilus.ir.ops.simt import (
    REREAD,
    Barrier,
    CallEach,
    Keep,
    Mma,
    MmaScaled,
    PrintThread,
    SpecialRegister,
    Trap,
    WarpBarrier,
    WarpRedux,
    WarpShuffle,
)
from tilus.ir.ops.thread import PtrAtomic
from tilus.ir.ops.words import Regroup

_REGISTERS = {
    "tid": "threadIdx.x", "lane": "threadIdx.x & 31", "warp": "threadIdx.x >> 5",
    "ctaid.x": "blockIdx.x", "ctaid.y": "blockIdx.y", "ctaid.z": "blockIdx.z",
    "nctaid.x": "gridDim.x", "nctaid.y": "gridDim.y", "nctaid.z": "gridDim.z",
}
_SHUFFLES = {"bfly": "__shfl_xor_sync", "idx": "__shfl_sync", "up": "__shfl_up_sync", "down": "__shfl_down_sync"}
_SHUFFLED = frozenset({"unsigned", "int", "float", "double", "long long", "unsigned long long"})
"""What shuffles take as it is."""
_ALL_LANES = "0xffffffffu"


# -- instructions


def described(k: KernelPrinter, op: Operation) -> None:
    """An operation that is one instruction."""
    instruction = ptx.DESCRIBED[type(op)](op)
    operands, offset = k.operands(op, instruction)
    if instruction.registers > 1:
        names = k.declare(op.results[0], op.results[0].name or "m")
        k.line(f"{k.call(instruction, operands, names, cell_type_of(op.results[0]), offset)};")
        return
    call = k.call(instruction, operands, offset=offset)
    if instruction.results:
        k.store(op.results[0], [from_register(call, instruction.results[0].kind, op.results[0])])
    else:
        k.line(f"{call};")


def barrier(k: KernelPrinter, op: Barrier) -> None:
    if op.id == 0 and not op.arrive and not op.threads:
        k.line("__syncthreads();")
    else:
        described(k, op)


def mma(k: KernelPrinter, op: Mma | MmaScaled) -> None:
    """The accumulator is changed in place, a copy of it where it is used again."""
    instruction = ptx.DESCRIBED[type(op)](op)
    operands, _ = k.operands(op, instruction)
    names = list(k.cells[op.c].names)
    if k.owned(names):
        k.bind(op.result, names)
    else:
        old, names = names, k.declare(op.result, "acc")
        k.line(" ".join(f"{x} = {y};" for x, y in zip(names, old, strict=True)))
    k.repeated(f"{k.call(instruction, operands, names, cell_type_of(op.result))};")


def ptr_atomic(k: KernelPrinter, op: PtrAtomic) -> None:
    instruction = ptx.memory.atomic(op)
    operands, offset = k.operands(op, instruction)
    call = k.call(instruction, operands, offset=offset)
    if op.discards:
        k.line(f"{call};" if op.predicate is None else f"if ({k.scalar(op.predicate)}) {call};")
        return
    call = from_register(call, instruction.results[0].kind, op.result)
    if op.predicate is None:
        k.store(op.result, [call])
        return
    (name,) = k.declare(op.result, "old")
    k.line(f"{name} = 0;")
    k.line(f"if ({k.scalar(op.predicate)}) {name} = {call};")


# -- constants, registers, vectors


def const(k: KernelPrinter, op: Const) -> None:
    dtype, count = op.result.tile.dtype, elements_of(op.result)
    per = per_cell(dtype, count)
    text = packed_literal(op.value, dtype, per) if per > 1 else literal(op.value, dtype)
    k.bind_literals(op.result, [text] * max(1, count // per))


def special(k: KernelPrinter, op: SpecialRegister) -> None:
    again = op.phase and op.register in REREAD
    text = k.pure(read_again(REREAD[op.register])) if again else _REGISTERS[op.register]
    name = k.fresh(op.register.replace(".", "_"))
    k.line(f"const int {name} = {text};")
    k.bind(op.result, [name])


def broadcast(k: KernelPrinter, op: Broadcast) -> None:
    tile, text = op.result.tile, k.scalar(op.x)
    per = per_cell(tile.dtype, tile.size)
    text = k.named(text, c_type(tile.dtype), op.x.name)
    if per > 1:
        text = k.named(packed(tile.dtype, [text] * per), "unsigned", op.result.name)
    k.bind(op.result, [text] * (tile.size // per))


def keep(k: KernelPrinter, op: Keep) -> None:
    """NVRTC leaves computations where they are."""
    ctype = cell_type_of(op.x)
    k.bind(op.result, [k.named(n, ctype, op.x.name) for n in k.cells[op.x].names])


def call_each(k: KernelPrinter, op: CallEach) -> None:
    name, ctype, fields = k.code_apart(op.body, op.span)
    for values, results in op.groups():
        given = k.fresh("part")
        k.line(f"const {ctype} {given} = {name}({', '.join(n for v in values for n in k.cells[v].names)});")
        for result, cells in zip(results, fields, strict=True):
            k.bind(result, [f"{given}.{field}" for field in cells])


def regroup(k: KernelPrinter, op: Regroup) -> None:
    """Cells are words, whatever they are words of."""
    cells = k.cells[op.x]
    k.bind(op.result, [from_register(to_register(n, cells, "r"), "r", op.result) for n in cells.names])


# -- warps


def warp_shuffle(k: KernelPrinter, op: WarpShuffle) -> None:
    cells, lane = k.cells[op.value], k.named(k.scalar(op.lane), "int", "lane")
    ctype = cell_type(cells)
    if ctype in _SHUFFLED:
        moved = [f"{_SHUFFLES[op.mode]}({_ALL_LANES}, {n}, {lane})" for n in cells.names]
    else:
        moved = [cast(ctype, f"{_SHUFFLES[op.mode]}({_ALL_LANES}, {cast('unsigned', n)}, {lane})")
                 for n in cells.names]
    k.store(op.result, moved)


def warp_redux(k: KernelPrinter, op: WarpRedux) -> None:
    k.store(op.result, [f"__reduce_{op.kind}_sync({_ALL_LANES}, {k.scalar(op.value)})"])


# -- the rest


def print_thread(k: KernelPrinter, op: PrintThread) -> None:
    text = format_string(op).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    values = []
    for value in op.values:
        dtype, x = value.tile.dtype, k.scalar(value)
        wide = "double" if dtype.is_float else "unsigned long long" if dtype.kind == "uint" else "long long"
        values.append(f", {cast(wide, x)}")
    k.line(f'printf("{text}"{"".join(values)});')


HANDLERS: Handlers = {
    **dict.fromkeys(ptx.DESCRIBED, described), Barrier: barrier, Mma: mma, MmaScaled: mma, PtrAtomic: ptr_atomic,
    Const: const,
    WarpBarrier: lambda k, op: k.line("__syncwarp();"), Trap: lambda k, op: k.line("__trap();"),
    SpecialRegister: special, Broadcast: broadcast, Keep: keep, CallEach: call_each, Regroup: regroup,
    WarpShuffle: warp_shuffle, WarpRedux: warp_redux, PrintThread: print_thread,
}
