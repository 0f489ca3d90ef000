"""What an execution of a tile operation takes of a multiprocessor, by the layouts of its tiles.

Latencies are those of the model that reads machine code (``tilus/model/pipes.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tilus.ir.core import Function, Operation, Value
from tilus.ir.families import Elementwise
from tilus.ir.ops import (
    AllocShared,
    Atomic,
    Broadcast,
    Concat,
    Const,
    ConvertLayout,
    CopyAsync,
    Dot,
    Gather,
    GatherAsync,
    Insert,
    Iota,
    Load,
    Reduce,
    ReduceWith,
    Reshape,
    Scan,
    ScanWith,
    Scatter,
    Slice,
    Store,
    Sync,
    Take,
    Transpose,
)
from tilus.ir.ops.arith import Binary, Compare
from tilus.ir.types import TileType
from tilus.layouts import RegisterLayout, blocked
from tilus.layouts.convert import Identity, MatrixTransposition, RegisterPermutation, SharedPlan
from tilus.layouts.shuffle import ShufflePlan
from tilus.lowering.dots import unit_of
from tilus.lowering.dots.mma import WarpMma
from tilus.lowering.dots.scaled import ScaledMma
from tilus.lowering.facts import Facts
from tilus.lowering.forms import root_of, shape_of
from tilus.lowering.layout_rules import is_tile
from tilus.lowering.shared_layouts import conflicts
from tilus.lowering.simt.access import contiguous_order, gathered_vector, vector_width
from tilus.lowering.simt.bits import register_type
from tilus.lowering.simt.scratch import conversion_plan, lane_masks, scratch_bytes, shared_digits
from tilus.model.boards import Board
from tilus.model.tiles.instructions import Count, instructions, use
from tilus.records import field, record
from tilus.targets import Target

LANES, WAVEFRONT = 32, 128
"""Threads of a warp; bytes that shared memory moves in a cycle."""
DEPENDENT = 4.5
"""Cycles from an instruction of fixed latency to one that needs its result."""
PRODUCT_LATENCY = 24
"""Cycles from one mma.sync to the next one on the same accumulators."""
SHUFFLE, BARRIER, FROM_SHARED, TO_SHARED = 23, 20, 29, 14
"""Cycles that a warp waits for a shuffle, others at a barrier, loads from and stores to shared memory."""
REQUEST = 2
"""Cycles of the memory's path that a warp's request takes at least."""


@record
class Work:
    """Of one execution of an operation, for each warp that executes it.

    Attributes:
        pipes: cycles of a sub-core's pipes.
        issued: instructions.
        path: cycles of the multiprocessor's path to memory.
        serial: cycles from the first instruction to the last one that the warp takes at least.
        latency: cycles from the last instruction to the results.
        barriers: of the block.
    """

    pipes: dict[str, float] = field(default_factory=dict)
    issued: float = 0.0
    path: float = 0.0
    serial: float = 0.0
    latency: float = 0.0
    barriers: int = 0

    @property
    def is_free(self) -> bool:
        return not (self.issued or self.barriers or self.latency)

    @property
    def span(self) -> float:
        """Cycles from the first instruction to the last one."""
        return max(self.serial, self.issued, max(self.pipes.values(), default=0.0))


class Worker:
    """What the operations of a kernel take on a target.

    Args:
        users: of each value of the kernel.
    """

    def __init__(self, function: Function, facts: Facts, target: Target, board: Board,
                 users: Mapping[Value, list[Operation]]) -> None:
        self.facts, self.target, self.board, self.users = facts, target, board, users
        self.affine: set[Value] = set()
        self.conflicts = {op.result: conflicts(op, function, facts, target) for op in function.walk()
                          if isinstance(op, AllocShared)}

    def of(self, op: Operation, warps: int) -> Work:
        """The work of an operation that so many warps execute; its regions are left out."""
        work = Work()
        rule = next((r for kind, r in _RULES if isinstance(op, kind)), None)
        if rule is not None:
            rule(self, op, warps, work)
        return work

    # -- instructions

    def add(self, work: Work, name: str, count: float) -> None:
        """So many instructions of a name."""
        used = use(name, self.target.arch, self.board.half_rate)
        if used.pipe != "memory":
            work.pipes[used.pipe] = work.pipes.get(used.pipe, 0.0) + count * used.interval
        work.issued += count
        work.latency = max(work.latency, used.latency or DEPENDENT)

    def add_all(self, work: Work, counts: Count, times: float) -> None:
        for name, count in counts.items():
            self.add(work, name, count * times)

    def request(self, work: Work, count: float, passes: float, latency: float) -> None:
        """So many requests to memory, of so many passes each."""
        work.issued += count
        work.path += count * max(REQUEST, passes)
        work.latency = max(work.latency, latency)

    def barrier(self, work: Work) -> None:
        work.issued += 1
        work.barriers += 1
        work.latency += BARRIER

    def shared(self, work: Work, bits: float, vector_bits: float, latency: float, passes: float = 0.0,
               view: Value | None = None) -> None:
        """Each thread moves so many bits between registers and shared memory, in vectors; ``passes`` are those of a
        request, where they are known, ``view`` what of the user's shared memory it is."""
        wide = max(8.0, min(128.0, vector_bits))
        times = 1.0 if view is None else self.conflicts.get(root_of(view), 1.0)
        self.request(work, bits / wide, times * (passes or wide * LANES / 8 / WAVEFRONT), latency)

    # -- elementwise

    def elementwise(self, op: Elementwise, warps: int, work: Work) -> None:
        result = op.results[0]
        if not is_tile(result):
            self.scalar(op, warps, work)
            return
        if self._is_affine(op):
            self.affine.add(result)
            return
        if self._is_contracted(op):
            return
        self.add_all(work, self._counts(op), locals_of(result))

    def _counts(self, op: Elementwise) -> Count:
        if isinstance(op, Binary) and op.kind in ("add", "sub") and any(map(self._is_product, op.operands)):
            return {"DFMA": 1} if op.lhs.tile.dtype.bits == 64 else {"FFMA": 1}
        return instructions(op, self.target.name)

    def _is_product(self, value: Value) -> bool:
        return isinstance(value.defining, Binary) and self._is_contracted(value.defining)

    def _is_contracted(self, op: Operation) -> bool:
        """Whether a product becomes part of the sum that alone uses it."""
        if not isinstance(op, Binary) or op.kind != "mul" or not op.contract:
            return False
        if op.lhs.tile.dtype.name not in ("f32", "f64"):
            return False
        users = self.users.get(op.result, [])
        return len(users) == 1 and isinstance(users[0], Binary) and users[0].kind in ("add", "sub") \
            and users[0].contract and users[0].result.tile.shape == op.result.tile.shape

    def _is_affine(self, op: Operation) -> bool:
        """Whether a tile of integers is a number of the thread and a constant for each element."""
        if not op.results[0].tile.dtype.is_int or isinstance(op, Compare):
            return False
        return all(not is_tile(v) or v in self.affine or _is_index(v.defining) for v in op.operands)

    def scalar(self, op: Operation, warps: int, work: Work) -> None:
        """Numbers of the block: the uniform pipe, or addresses that become constants."""
        if op.results and isinstance(op.results[0].type, TileType) and op.results[0].tile.dtype.is_int:
            work.issued += 1
            work.latency = DEPENDENT
        else:
            self.add_all(work, instructions(op, self.target.name), 1)

    def movement(self, op: Any, warps: int, work: Work) -> None:
        """Reshapes, transpositions and broadcasts stay in registers, where no memory is needed for them."""
        source = op.operands[0]
        if is_tile(source) and all(v in self.affine or _is_index(v.defining) for v in op.operands):
            self.affine.update(op.results)
        if is_tile(op.result) and is_tile(source) and not isinstance(op, Broadcast):
            self._through_shared(op, warps, work)

    def _through_shared(self, op: Operation, warps: int, work: Work) -> None:
        size = scratch_bytes(op, self.target, set(), 1 << 30)
        if size:
            self.round_trip(work, size, warps)

    def round_trip(self, work: Work, size: float, warps: int) -> None:
        """Bytes of a block go through shared memory."""
        bits = 8 * size / (LANES * warps)
        self.shared(work, bits, 32, TO_SHARED)
        self.barrier(work)
        self.shared(work, bits, 32, FROM_SHARED)
        work.latency += TO_SHARED + FROM_SHARED

    # -- layouts

    def convert(self, op: ConvertLayout, warps: int, work: Work) -> None:
        tile, source = op.result.tile, op.x.tile.layout
        loaded = staged_load(op.x)
        if loaded is not None:
            self.fragments(op.result, warps, work)
            return
        if source is None or op.x in self.affine or _is_index(op.x.defining):
            return
        plan = conversion_plan(op.x.tile, source, op.layout, self.target)
        if isinstance(plan, ShufflePlan):
            self.add(work, "SHFL", plan.cost)
            work.latency = SHUFFLE
        elif isinstance(plan, MatrixTransposition):
            self.add(work, "MOVM", len(plan.pairs))
            work.latency = SHUFFLE
        elif isinstance(plan, SharedPlan):
            bits = register_type(tile.dtype).bits
            self.barrier(work)
            self.shared(work, source.num_locals * bits, _vector(plan.store) * bits, TO_SHARED)
            self.shared(work, op.layout.num_locals * bits, _vector(plan.load) * bits, FROM_SHARED)
            work.latency = TO_SHARED + BARRIER + FROM_SHARED
        elif not isinstance(plan, Identity):
            assert isinstance(plan, RegisterPermutation)
            if tile.dtype.bits < 32:
                self.add(work, "PRMT", op.layout.num_locals * tile.dtype.bits / 32)

    def fragments(self, value: Value, warps: int, work: Work) -> None:
        """Of a dot's operand from shared memory: 16 bytes a thread at once where ldmatrix has them."""
        bits = register_type(value.tile.dtype).bits
        total = locals_of(value) * bits
        vector = 128 if bits <= 16 or self._along(value) else 32
        load = staged_load(value if not isinstance(value.defining, ConvertLayout) else value.defining.x)
        self.shared(work, total, min(vector, total), FROM_SHARED + 4, view=None if load is None else load.view)

    def _along(self, value: Value) -> bool:
        """Whether wide elements of a fragment lie in memory as ldmatrix wants them: along k."""
        maker = value.defining
        load = maker.x.defining if isinstance(maker, ConvertLayout) else maker
        users = self.users.get(value, [])
        turned = any(isinstance(user, Transpose) for user in users)
        found = [user for user in users if isinstance(user, Dot)]
        order = contiguous_order(self.facts, load.view, value.tile.rank) if isinstance(load, Load) else ()
        if not order:
            return False
        first = any(user.a is value for user in found)
        return (order[0] == value.tile.rank - 1) == (first or turned)

    # -- dots

    def dot(self, op: Dot, warps: int, work: Work) -> None:
        unit, k = unit_of(op), op.a.tile.shape[-1]
        layout = op.result.tile.layout
        assert layout is not None
        if not isinstance(unit, WarpMma):
            self._multiply_adds(op, layout, k, warps, work)
            return
        m, n, depth = unit.shape
        steps = -(-k // depth)
        each = layout.num_locals * LANES / (m * n * (4 if unit.shape == (8, 8, 4) and unit.bits == 16 else 1))
        name = product_name(op, unit)
        self.add(work, name, each * steps)
        interval = use(name, self.target.arch, self.board.half_rate).interval
        work.serial = steps * max(each * interval, PRODUCT_LATENCY)
        work.latency = PRODUCT_LATENCY

    def _multiply_adds(self, op: Dot, layout: RegisterLayout, k: int, warps: int, work: Work) -> None:
        wide, dtype = op.result.tile.dtype.bits == 64, op.result.tile.dtype
        count = layout.num_locals * k
        if dtype.is_float:
            self.add(work, "DFMA" if wide else "FFMA", count)
        else:
            self.add(work, "IMAD", count)
        for operand, dim in ((op.a, layout.rank - 2), (op.b, layout.rank - 1)):
            if staged_load(operand) is None and not isinstance(operand.defining, Transpose):
                self.shared(work, locals_of(operand) * operand.tile.dtype.bits, 32, TO_SHARED)
                self.barrier(work)
            own = math.prod(size for _, size, d, _ in layout.local_digits if d == dim)
            lanes = math.prod(min(size, max(1, LANES // divisor)) for divisor, size, d, _ in layout.thread_digits
                              if d == dim and divisor < LANES)
            bits = operand.tile.dtype.bits
            run = min(layout.vector_width(dim), 128 // bits) if dim == layout.rank - 1 else min(8, 128 // bits)
            passes = lanes * run * bits / 8 / WAVEFRONT
            self.request(work, own * k / max(1, run), passes, FROM_SHARED)
            if bits < 32:
                self.add(work, "HADD2", own * k)
        work.serial = k / 8 * FROM_SHARED if count / k * 8 < FROM_SHARED else 0.0
        work.latency = FROM_SHARED

    # -- reductions

    def reduce(self, op: Reduce | ReduceWith | Scan | ScanWith, warps: int, work: Work) -> None:
        x = op.operands[0]
        layout, tile = x.tile.layout, x.tile
        if layout is None:
            return
        counts = self._combining(op)
        scan = isinstance(op, (Scan, ScanWith))
        results = layout.num_locals if scan else max(1, locals_of(op.results[0]))
        inside = max(0, layout.num_locals - (0 if scan else results))
        masks = lane_masks(layout, op.axis)
        several = 1 if isinstance(op, (Reduce, Scan)) else len(op.operands)
        self.add_all(work, counts, inside + results * len(masks))
        chain = sum(counts.values()) * DEPENDENT
        depth = inside / max(1, results)
        work.serial = max(work.issued, depth * DEPENDENT)
        if masks:
            self.add(work, "SHFL", several * results * len(masks))
        work.latency = len(masks) * (SHUFFLE + chain)
        across = math.prod(size for _, size in shared_digits(layout, op.axis))
        if across > 1:
            bits = max(32, tile.dtype.bits) * several
            self.shared(work, results * bits, 32, TO_SHARED)
            self.barrier(work)
            self.shared(work, results * bits * across, 128, FROM_SHARED, passes=1)  # all lanes read the same
            self.add_all(work, counts, results * across)
            work.latency = len(masks) * (SHUFFLE + chain) + TO_SHARED + BARRIER + FROM_SHARED + across * chain
        work.latency += DEPENDENT

    def _combining(self, op: Reduce | ReduceWith | Scan | ScanWith) -> Count:
        """Of one combination of two elements."""
        x = op.operands[0]
        if isinstance(op, (ReduceWith, ScanWith)):
            counts: dict[str, float] = {}
            for inner in op.combine.ops:
                if isinstance(inner, Elementwise):
                    for name, count in instructions(inner, self.target.name).items():
                        counts[name] = counts.get(name, 0.0) + count
            return counts
        dtype = x.tile.dtype
        kind = op.kind
        if kind.startswith("arg"):
            return {"FSETP" if dtype.is_float else "ISETP": 2, "SEL": 2}
        if kind in ("any", "all", "xor"):
            return {"LOP3": 1}
        if dtype.is_float:
            wide = dtype.bits == 64
            return {("DMNMX" if wide else "FMNMX") if kind in ("min", "max") else
                    ("DADD" if wide else "FMUL" if kind == "prod" else "FADD"): 1}
        return {"IMNMX" if kind in ("min", "max") else "IMAD" if kind == "prod" else "IADD3": 1}

    # -- memory

    def load(self, op: Load | Gather, warps: int, work: Work) -> None:
        view, tile = op.view.view, op.result.tile
        if not tile.shape:
            self.request(work, 1, 1, self.global_latency if view.space == "global" else FROM_SHARED)
            return
        bits = register_type(tile.dtype).bits
        if view.space == "shared":
            users = self.users.get(op.result, ())
            if any(isinstance(user, (Dot, Transpose)) for user in users):
                self.fragments(op.result, warps, work)
            elif not all(isinstance(user, ConvertLayout) for user in users):
                self.shared(work, locals_of(op.result) * bits, self._vector(op, tile) * bits, FROM_SHARED, view=op.view)
            return
        vector, count = self._vector(op, tile), locals_of(op.result)
        if op.ring:
            count = self.copied_layout(op, warps).num_locals
            if self._is_read_as_it_is(op):
                self.shared(work, locals_of(op.result) * bits, vector * bits, FROM_SHARED)
        self.accesses(work, op, count / vector, vector * tile.dtype.packed_bits, warps)
        work.latency = 0.0 if op.ring else self.global_latency

    global_latency = 0.0
    """Cycles that a load from global memory takes, once it is known what comes from where."""

    def copied_layout(self, op: Load | Gather | CopyAsync, warps: int) -> RegisterLayout:
        shape, dtype = (op.result.tile.shape, op.result.tile.dtype) if not isinstance(op, CopyAsync) else \
            (shape_of(op), op.destination.view.dtype)
        return _blocked(shape, warps * LANES, self._vector(op, TileType(dtype, shape)))

    def _is_read_as_it_is(self, op: Load | Gather) -> bool:
        """Whether a staged tile is read in the layout of its load."""
        return any(not isinstance(user, (ConvertLayout, Transpose, Dot)) for user in self.users.get(op.result, ()))

    def _vector(self, op: Any, tile: TileType) -> float:
        """Elements that an access moves at once."""
        if isinstance(op, (Gather, Scatter, GatherAsync)):
            width: float = gathered_vector(self.facts, op)[1]
            dim = gathered_vector(self.facts, op)[0]
        elif not isinstance(op, CopyAsync) and op.view.view.space == "shared":
            return min(max(map(tile.layout.vector_width, range(tile.rank)), default=1), 128 // tile.dtype.packed_bits) \
                if tile.layout is not None else 1
        else:
            view = op.source if isinstance(op, CopyAsync) else op.view
            order = contiguous_order(self.facts, view, tile.rank)
            if not order:
                return 1
            dim, width = order[0], vector_width(self.facts, op, order[0], tile)
        if tile.layout is not None and not getattr(op, "ring", ""):
            width = min(width, tile.layout.vector_width(dim))
        return max(1.0, width)

    def accesses(self, work: Work, op: Operation, count: float, bits: float, warps: int) -> None:
        """So many accesses of a warp to global memory, each with its address and the check of its bounds."""
        self.request(work, count, bits * LANES / 8 / WAVEFRONT, 0.0)
        checked = len(getattr(op, "in_bounds", ())) < 1
        self.add(work, "ISETP", count * checked)

    def store(self, op: Store | Scatter, warps: int, work: Work) -> None:
        tile = op.value.tile
        if not tile.shape:
            self.request(work, 1, 1, 0.0)
            return
        vector = self._vector(op, tile)
        if op.view.view.space == "shared":
            bits = register_type(tile.dtype).bits
            self.shared(work, locals_of(op.value) * bits, vector * bits, TO_SHARED, view=op.view)
            return
        self.accesses(work, op, locals_of(op.value) / vector, vector * tile.dtype.packed_bits, warps)

    def copy(self, op: CopyAsync, warps: int, work: Work) -> None:
        dtype = op.destination.view.dtype
        layout = self.copied_layout(op, warps)
        vector = self._vector(op, TileType(dtype, shape_of(op)))
        self.accesses(work, op, layout.num_locals / vector, vector * dtype.packed_bits, warps)
        work.latency = 0.0

    def gather_copy(self, op: GatherAsync, warps: int, work: Work) -> None:
        tile = op.indices[0].tile
        vector = self._vector(op, tile)
        bits = op.destination.view.dtype.packed_bits
        self.accesses(work, op, locals_of(op.indices[0]) / vector, vector * bits, warps)
        work.latency = 0.0

    def atomic(self, op: Atomic, warps: int, work: Work) -> None:
        count = locals_of(op.value) if is_tile(op.value) else 1
        used = bool(self.users.get(op.result))
        latency = (self.board.l2_latency if op.view.view.space == "global" else FROM_SHARED) if used else 0.0
        self.request(work, count, LANES / 4 if op.view.view.space == "global" else 1, latency)

    def synchronise(self, op: Sync, warps: int, work: Work) -> None:
        self.barrier(work)


def locals_of(value: Value) -> int:
    """Elements of a tile that each thread holds."""
    layout = value.tile.layout
    return layout.num_locals if layout is not None else 1


def _blocked(shape: tuple[int, ...], threads: int, vector: float) -> RegisterLayout:
    return blocked(shape, threads, max(1, min(int(vector), shape[-1])))


def _vector(access: object) -> float:
    """Elements of one access of a conversion; of ldmatrix and stmatrix as many as fill 16 bytes."""
    return float(getattr(access, "vector", 8))


def _is_index(op: Operation | None) -> bool:
    return isinstance(op, (Const, Iota)) or (isinstance(op, Broadcast) and not op.x.tile.shape)


def staged_load(value: Value) -> Load | Gather | None:
    """The load by which a tile lies in shared memory: of a ring, or of the user's shared memory."""
    op = value.defining
    while isinstance(op, Transpose):
        op = op.x.defining
    if isinstance(op, (Load, Gather)) and (op.ring or op.view.view.space == "shared"):
        return op
    return None


def product_name(op: Dot, unit: WarpMma) -> str:
    """The machine's instruction of a warp's product."""
    m, n, k = unit.shape
    a, c = op.a.tile.dtype, op.result.tile.dtype
    shape = f"{m}{n}{k}"
    if isinstance(unit, ScaledMma):
        return f"{'QMMA' if unit.bits == 8 else 'OMMA'}.SF.{shape}.F32"
    if a.bits == 64:
        return f"DMMA.{shape}"
    if a.is_int:
        return f"IMMA.{shape}.S8"
    if a.bits == 8:
        return f"QMMA.{shape}.F32"
    kind = "TF32." if a.bits == 32 else ""
    return f"HMMA.{shape}.{kind}{'F32' if c.bits == 32 else 'F16'}"


Rule = Callable[[Worker, Any, int, Work], None]
_RULES: tuple[tuple[Any, Rule], ...] = (
    (Broadcast, Worker.movement), (Elementwise, Worker.elementwise), (ConvertLayout, Worker.convert),
    ((Transpose, Reshape, Slice, Insert, Concat, Take), Worker.movement), (Dot, Worker.dot),
    ((Reduce, ReduceWith, Scan, ScanWith), Worker.reduce), ((Load, Gather), Worker.load),
    ((Store, Scatter), Worker.store), (CopyAsync, Worker.copy), (GatherAsync, Worker.gather_copy),
    (Atomic, Worker.atomic), (Sync, Worker.synchronise),
)

__all__ = ["Work", "Worker", "locals_of", "product_name", "staged_load"]
