"""Lowering of a module: each kernel becomes a function of one block, the launch function one over packed arguments."""

from __future__ import annotations

from tilus.diagnostics import Diagnostic, UnsupportedError
from tilus.ir.attributes import Attributes
from tilus.ir.core import Block, Function, Module, Value
from tilus.ir.dtypes import i64, u8
from tilus.ir.ops import PtrCast, PtrLoad, Yield
from tilus.ir.prepacked import parse_format
from tilus.ir.types import PointerType, TileType, ViewType
from tilus.lowering.cpu import (  # noqa: F401  (registers the lowerings)
    atomics,
    bits,
    control,
    dot,
    groups,
    parts,
    reduction,
    sync,
    tiles,
)
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.kept_operands import MEMO_STRIDE, MEMOS_OF_DOT, count_memos
from tilus.lowering.cpu.kept_tiles import room_words
from tilus.lowering.cpu.launch import dots_that_keep, is_cooperative, is_grouped, lower_launch
from tilus.lowering.cpu.narrow_vectors import vector_bits
from tilus.lowering.cpu.neighbours import memory_words, products, shared_axis
from tilus.lowering.cpu.prepacked import order_of
from tilus.lowering.cpu.rows_ahead import ask_for_rows
from tilus.lowering.cpu.values import Machine, Memory, Number
from tilus.lowering.cpu.ways import Way
from tilus.lowering.cpu.wide_blocks import WideKernel, strip_bytes, take_together
from tilus.lowering.facts import Facts, kernel_facts
from tilus.records import field, record

PrintDescription = tuple[str, tuple[tuple[str, tuple[int, ...]], ...]]


@record
class CpuProgram:
    """Thread-level functions of one module and what the runtime has to know of them.

    ``frame_bytes`` is the memory a core needs while it runs a block; ``checks`` describes the device
    assertions by number, ``prints`` the prints by key: format, and type and shape of each value; ``waits``
    describes the places where blocks and groups wait, by number; ``ways`` those in which products are multiplied.
    """

    functions: list[Function]
    frame_bytes: int
    checks: list[Diagnostic] = field(default_factory=list)
    prints: dict[int, PrintDescription] = field(default_factory=dict)
    waits: list[sync.Wait] = field(default_factory=list)
    ways: list[Way] = field(default_factory=list)


def argument_slots(rank: int) -> int:
    """Slots of 64 bits that an array takes among the packed arguments: address, extents, strides."""
    return 1 + 2 * rank


def lower_module(module: Module, machine: Machine | None = None) -> CpuProgram:
    """Lower a simplified tile module. Raises UnsupportedError where the CPU engine lacks something."""
    program = CpuProgram([], 0)
    machine = machine or Machine()
    module = ask_for_rows(module)
    together: dict[str, WideKernel] = {}
    for kernel, facts in kernel_facts(module):
        program.functions.append(_lower_kernel(kernel, program, machine, facts))
        wide = take_together(kernel, strip_bytes(machine))
        if wide is not None:
            together[kernel.name] = wide
            facts = Facts(wide.kernel, facts.grid)
            program.functions.append(_lower_kernel(wide.kernel, program, machine, facts, short=not wide.strips))
    if module.launch is not None:
        program.functions += lower_launch(module, program.frame_bytes, program.checks, machine, together)
    return program


def _lower_kernel(kernel: Function, program: CpuProgram, machine: Machine, facts: Facts, *, short: bool = False
                  ) -> Function:
    """``block(arguments, frame, state, b0, b1, b2)``, of kernels whose blocks may be divided with the number of the
    part as well; ``short``: the rows of arrays are."""
    indices = ["b0", "b1", "b2", *(["part"] if kernel.attributes.parts else [])]
    body = Block([PointerType(i64), PointerType(u8, "local"), PointerType(i64), *[TileType(i64)] * len(indices)],
                 ["arguments", "frame", "state", *indices])
    lowering = BlockLowering(kernel, body, program, machine, facts)
    if is_cooperative(kernel):
        lowering.yield_frame = body.args[1]
    lowering.grouped = is_grouped(kernel)
    lowering.short = short
    for _ in range(count_memos(kernel)):
        lowering.memos.append(lowering.allocate_raw(i64, MEMOS_OF_DOT * MEMO_STRIDE // 8))
    if shared_axis(kernel) is not None:
        for _, product, _ in products(kernel):
            lowering.neighbours[product] = lowering.allocate_raw(i64, memory_words(kernel))
    for product in dots_that_keep(kernel):
        lowering.tiles[product] = lowering.allocate_raw(i64, room_words(product))
    _bind_arguments(lowering, kernel, body.args[0])
    groups.lower_barriers(lowering)
    lowering.lower_block(kernel.body)
    lowering.c.b.add(Yield(()))
    program.frame_bytes = max(program.frame_bytes, lowering.frame_peak)
    attributes = Attributes(linkage="internal", noalias=(0, 1, 2), vector_bits=vector_bits(kernel, machine))
    return Function(f"block_{kernel.name}", body, (), attributes, kernel.span)


def _bind_arguments(lowering: BlockLowering, kernel: Function, packed: Value) -> None:
    c = lowering.c
    slot = 0
    named: dict[str, Number] = {}  # dimensions of one name have one extent, which is then one value
    for value, parameter in zip(kernel.body.args, kernel.parameters, strict=True):
        if not isinstance(value.type, ViewType):
            dtype = value.tile.dtype
            pointer = c.b.add(PtrCast(c.offset(packed, slot), dtype)).result
            lowering.scalars[value] = c.b.add(PtrLoad(pointer)).result
            slot += 1
            continue
        view = value.type
        words = lowering.load_words(packed, slot, argument_slots(view.rank))
        extents: list[Number] = [words[1 + d] if n is None else n for d, n in enumerate(view.shape)]
        extents = [named.setdefault(name, n) if isinstance(name, str) else n
                   for name, n in zip(parameter.dims or (None,) * view.rank, extents, strict=True)]
        known = parameter.strides or (None,) * view.rank
        strides: list[Number] = []
        for d in range(view.rank):
            stride = known[d]
            if stride is None and parameter.kind == "workspace" and d == view.rank - 1:
                stride = 1
            strides.append(words[1 + view.rank + d] if stride is None else stride)
        packed_bits = not view.dtype.is_bool and view.dtype.bits not in (8, 16, 32, 64)
        order = None
        if parameter.prepacked:
            order = order_of(c, parse_format(dict(kernel.attributes.formats)[parameter.name]), extents)
            packed_bits = True
            if order is None:
                raise UnsupportedError.at("E0507", f"the CPU does not read {parameter.name!r} in tiles of that layout",
                                          kernel.span, help="leave the layout of the load to the compiler")
        lowering.views[value] = Memory(
            lowering.pointer_of(words[0], view.dtype if not packed_bits else u8), view.dtype, (0,) * view.rank,
            tuple(extents), tuple(extents), tuple(strides), value, 0, packed_bits, not parameter.written, order)
        slot += argument_slots(view.rank)
