"""Layout inference: a register layout for every tile, conversions where two demands meet.

Dots and the user's wishes are the anchors; from them layouts spread along operations that keep elements in place.
What is left is anchored at the memory operations, with coalesced layouts, and spreads likewise. For every layout the
operation that asked for it is kept. Last, each operation gets its operands in the layouts it needs: tiles that cost
nothing (constants, indices, broadcasts) are made again, others are converted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from tilus.diagnostics import UserError
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.families import Access, Elementwise
from tilus.ir.ops import (
    Atomic,
    Concat,
    ConvertLayout,
    CopyAsync,
    DeviceAssert,
    Dot,
    For,
    Gather,
    GatherAsync,
    If,
    Insert,
    Load,
    Map,
    Reduce,
    ReduceWith,
    Scan,
    ScanWith,
    Scatter,
    Slice,
    Store,
    Take,
    Unpack,
    View,
    While,
    Yield,
)
from tilus.ir.ops.groups import Warps, executing_warps
from tilus.ir.rewriter import find_users
from tilus.ir.types import TileType, ViewType
from tilus.layouts import RegisterLayout, blocked, local
from tilus.lowering.dots import DotPlan, unit_of
from tilus.lowering.facts import Facts, kernel_facts
from tilus.lowering.layout_rules import is_tile, operand_layout, result_layout
from tilus.lowering.operands_in_shared import keep_operands_in_shared
from tilus.lowering.prepacked import choose_orders
from tilus.lowering.remake import convert
from tilus.lowering.scan_layouts import scan_layout
from tilus.lowering.shared_layouts import choose_shared_layouts
from tilus.lowering.simt.access import (
    VECTOR_BITS,
    added_at_once,
    contiguous_axis,
    contiguous_order,
    copied_layout,
    gathered_vector,
    vector_width,
)
from tilus.lowering.simt.bits import WORD, is_narrow, unit
from tilus.lowering.tile_classes import TileClasses
from tilus.targets import get_target

LANES, SECTOR, LONG, LINE = 32, 256, 512, 1024
"""Of a warp; the bits of a sector of memory, of a piece of a row that is long enough for any access, and of a line of
the caches."""
CONVERTED = 12.0
"""The work for an element that is converted in registers, beside that for one which ldmatrix loads: per 8x8 elements
some 6 instructions a thread, beside a quarter of one, of which the memory's time counts double."""


def infer_layouts(module: Module) -> None:
    """Assign a layout to every tile of every kernel of a tile module, in place; establishes the form ``layouts``."""
    for function, facts in kernel_facts(module):
        _Inference(module, function, facts).run()
    module.form |= {"layouts"}


class _Inference:
    def __init__(self, module: Module, function: Function, facts: Facts) -> None:
        self.target = get_target(module.target)
        self.function = function
        self.facts = facts
        self.warps = function.attributes.warps
        self.layouts: dict[Value, RegisterLayout] = {}
        self.reasons: dict[Value, Operation] = {}
        self.plans: dict[Operation, DotPlan] = {}
        self.queue: deque[Value] = deque()
        self.users = find_users(function)
        self.yields: dict[Operation, Operation] = {}
        self.group_of: dict[Operation, int] = {}
        self.carried_as: dict[Value, tuple[Value, ...]] = {}
        self.initial: dict[Value, Value] = {}
        self._index(function.body, (0, self.warps))
        self.classes = TileClasses(function, self._fast)

    def _index(self, block: Block, warps: Warps) -> None:
        for op in block.ops:
            self.group_of[op] = warps[1]
            if isinstance(op, For):
                self.initial.update(zip(op.carried, op.init, strict=True))
                self._carry_together(zip(op.results, op.carried, strict=True))
            elif isinstance(op, While):
                self.initial.update(zip(op.before.args, op.init, strict=True))
                self._carry_together(zip(op.results, op.before.args, op.body.args, strict=True))
            for region, executing in executing_warps(op, warps):
                if region.ops and region.ops[-1].TERMINATOR:
                    self.yields[region.ops[-1]] = op
                self._index(region, executing)

    def _carry_together(self, groups: Iterable[tuple[Value, ...]]) -> None:
        """Each group is one tile that a loop carries: its layout is chosen for all of them at once."""
        for group in groups:
            self.carried_as.update(dict.fromkeys(group, group))

    def threads(self, op: Operation) -> int:
        return self.group_of[op] * self.target.warp_size

    # -- the three phases

    def run(self) -> None:
        ops = list(self.function.walk())
        for op in ops:
            self._anchor_user(op)
        for op in ops:
            if isinstance(op, Dot):
                self._anchor_dot(op)
            elif isinstance(op, (Scan, ScanWith)):
                for result in op.results:
                    self.assign(result, scan_layout(result.tile.shape, op.axis, self.threads(op)), op)
        self._propagate()
        for op in ops:
            if isinstance(op, Unpack) and op.result not in self.layouts:
                self.assign(op.result, self._unpacked_layout(op), op)
                self._propagate()
        for op in self._memory_by_size(ops):
            value = self._main_value(op)
            if value is not None and value not in self.layouts:
                self.assign(value, self.access_layout(op, value), op)
                self._propagate()
        for op in ops:
            if isinstance(op, CopyAsync) and op.mask is not None and is_tile(op.mask):
                self.assign(op.mask, copied_layout(self.facts, op, self.threads(op), self.target)[0], op)
                self._propagate()
        for op in ops:
            for value in (*op.results, *(a for r in op.regions for a in r.args)):
                if is_tile(value) and value not in self.layouts:
                    self.assign(value, blocked(value.tile.shape, self.threads(op)), op)
                    self._propagate()
        _Materialise(self).run()
        keep_operands_in_shared(self.function, self.target)
        choose_orders(self.function)
        choose_shared_layouts(self.function, self.facts, self.target, self.warps)

    def _anchor_user(self, op: Operation) -> None:
        if isinstance(op, Load) and op.layout is not None:
            self._check_user_layout(op, op.layout, op.result.tile)
            self.assign(op.result, op.layout, op)
        elif isinstance(op, View):
            self.assign(op.result, op.layout, op)
            self.assign(op.x, op.from_layout, op)
        elif isinstance(op, (Unpack, ConvertLayout)) and op.layout is not None:
            self._check_user_layout(op, op.layout, op.result.tile)
            self.assign(op.result, op.layout, op)

    def _check_user_layout(self, op: Operation, layout: RegisterLayout, tile: TileType) -> None:
        if not layout.covers(tile.shape):
            raise UserError.at("E0403", f"a layout of shape {layout.shape} does not cover a tile of shape {tile.shape}",
                               op.span)
        if layout.num_threads != self.threads(op):
            raise UserError.at("E0403", f"a layout of {layout.num_threads} threads in a group of {self.threads(op)}",
                               op.span, help="set the number of warps with tl.block(warps=...), or fit the layout")

    def _anchor_dot(self, op: Dot) -> None:
        rows_only = feeds_first_operand(op.result, self.users) or self._first_operand_is_dot(op)
        a, b = (contiguous_axis(self.facts, v, self.initial) for v in (op.a, op.b))
        work = (CONVERTED if self._is_unpacked(v) else 1.0 for v in (op.a, op.b))
        plan = self.plans[op] = unit_of(op).plan(op, self.threads(op), rows_only, (a, b), (next(work), next(work)))
        self.assign(op.result, plan.c, op)

    def _is_unpacked(self, operand: Value) -> bool:
        """Whether an operand is an elementwise function of a tile of a prepacked array."""
        maker = operand.defining
        if isinstance(maker, Unpack):
            return True
        return isinstance(maker, Elementwise) and any(self._is_unpacked(v) for v in maker.operands)

    def _is_widened(self, operand: Value) -> bool:
        """Whether an operand is an elementwise function of a tile of smaller elements in global memory: they are
        converted as they are loaded, several in a register, and become fragments then, by ldmatrix."""
        front, bits = [operand], operand.tile.dtype.bits
        while front:
            value = front.pop()
            maker = value.defining
            if isinstance(maker, Load) and value.tile.dtype.bits < min(bits, 16) and maker.layout is None \
                    and value.tile.shape == operand.tile.shape:
                return True
            if isinstance(maker, Elementwise):
                front += [v for v in maker.operands if is_tile(v)]
        return False

    def _first_operand_is_dot(self, op: Dot) -> bool:
        """Whether the first operand comes, elementwise, from another dot's result."""
        front, seen = [op.a], {op.a}
        while front:
            value = front.pop()
            maker = value.defining
            if isinstance(maker, Dot):
                return True
            if isinstance(maker, Elementwise):
                for v in maker.operands:
                    if is_tile(v) and v not in seen and v.tile.shape == op.a.tile.shape:
                        seen.add(v)
                        front.append(v)
        return False

    def _unpacked_layout(self, op: Unpack) -> RegisterLayout:
        """For a tile of a prepacked array whose users want no layout: rows of as many neighbours as a thread reads at
        once."""
        size, bits = math.prod(op.shape), op.dtype.packed_bits
        vector = math.gcd(op.shape[-1], max(1, size // self.threads(op)), 128 // math.gcd(128, bits))
        return blocked(op.shape, self.threads(op), vector)

    def _memory_by_size(self, ops: list[Operation]) -> list[Access]:
        found = [op for op in ops if isinstance(op, Access)]

        def weight(op: Access) -> tuple[bool, bool, int]:
            """Global memory comes first: shared memory is laid out as its accesses need it. Atomics move less at once
            than loads, which can as well do so."""
            value = self._main_value(op)
            shared = op.view.view.space == "shared"
            size = value.tile.size * value.tile.dtype.bits if value is not None else 0
            return shared, not isinstance(op, Atomic), -size

        return sorted(found, key=weight)

    def _main_value(self, op: Access) -> Value | None:
        if isinstance(op, GatherAsync):  # it has no tile of the elements: the index tiles are laid out alike
            return op.indices[0]
        value = op.result if isinstance(op, (Load, Gather, Atomic)) else op.value  # type: ignore[attr-defined]
        return value if is_tile(value) else None

    # -- assignment and propagation

    def assign(self, value: Value, layout: RegisterLayout, reason: Operation) -> None:
        if value not in self.layouts and is_tile(value):
            for same in self.carried_as.get(value, (value,)):
                self.layouts[same] = layout
                self.reasons[same] = reason
                self.queue.append(same)

    def _propagate(self) -> None:
        while self.queue:
            value = self.queue.popleft()
            layout = self.layouts[value]
            if value.defining is not None:
                self._to_operands(value.defining, value, layout)
            elif isinstance(value.owner, Block):
                self._from_argument(value, layout)
            for user in self.users.get(value, ()):
                self._to_results(user, value, layout)
        for op, plan in self.plans.items():
            assert isinstance(op, Dot)
            for _, operand, wanted in plan.of_operands(op):
                if not self._is_widened(operand):
                    self.assign(operand, wanted, op)
            self.assign(op.accumulator, plan.c, op)
        if self.queue:
            self._propagate()

    def _to_operands(self, op: Operation, value: Value, layout: RegisterLayout) -> None:
        for operand in op.operands if not isinstance(op, (For, While, If, Dot, Map)) else ():
            wanted = operand_layout(op, operand, layout)
            if wanted is not None:
                self.assign(operand, wanted, op)
        if isinstance(op, Map):
            for x in op.xs:
                self.assign(x, layout, op)
        if isinstance(op, Elementwise):
            for result in op.results:
                self.assign(result, layout, op)
        elif isinstance(op, (For, While, If)):
            self._through_region(op, value.index, layout)

    def _through_region(self, op: Operation, index: int, layout: RegisterLayout) -> None:
        """Result ``index`` of a region operation and everything that becomes it share a layout."""
        if isinstance(op, For):
            shared = [op.init[index], op.carried[index], op.body.terminator.operands[index]]
        elif isinstance(op, While):
            shared = [op.init[index], op.before.args[index], op.body.args[index], op.body.terminator.operands[index]]
        else:
            assert isinstance(op, If)
            shared = [op.then.terminator.operands[index], op.orelse.terminator.operands[index]]
        for value in (*shared, op.results[index]):
            self.assign(value, layout, op)

    def _from_argument(self, value: Value, layout: RegisterLayout) -> None:
        for op in self._region_parents().get(value, ()):
            index = value.index - 1 if isinstance(op, For) else value.index
            self._through_region(op, index, layout)

    def _region_parents(self) -> dict[Value, list[Operation]]:
        if not hasattr(self, "_parents"):
            self._parents: dict[Value, list[Operation]] = {}
            for op in self.function.walk():
                if isinstance(op, (For, While)):
                    for region in op.regions:
                        for arg in region.args:
                            self._parents.setdefault(arg, []).append(op)
        return self._parents

    def _to_results(self, op: Operation, value: Value, layout: RegisterLayout) -> None:
        if op.TERMINATOR:
            parent = self.yields.get(op)
            if isinstance(parent, (For, While, If)) and not _is_test(parent, op):
                for index, operand in enumerate(op.operands):
                    if operand is value:
                        self._through_region(parent, index, layout)
            return
        if isinstance(op, (For, While)):
            for index, operand in enumerate(op.init):
                if operand is value:
                    self._through_region(op, index, layout)
            return
        for result in op.results:
            wanted = result_layout(op, value, layout)
            if wanted is not None:
                self.assign(result, wanted, op)
        if isinstance(op, (Elementwise, Access)):
            for operand in op.operands:
                wanted = operand_layout(op, operand, layout) if is_tile(operand) else None
                if wanted is not None and isinstance(op, Access):
                    self.assign(operand, wanted, op)

    # -- memory operations

    def access_layout(self, op: Access, value: Value) -> RegisterLayout:
        """A coalesced layout for a memory operation, with vectors as wide as alignment allows."""
        tile = value.tile
        view = op.view.type
        threads = self.threads(op)
        if not isinstance(view, ViewType):
            return blocked(tile.shape, threads)
        order, vector = self.vector_of(op, tile)
        per_thread = -(-tile.size // threads)
        if is_narrow(tile.dtype):  # whole words of registers, even where accesses move less
            vector = max(vector, WORD // (tile.dtype.bits & -tile.dtype.bits))
        while vector > 1 and vector > per_thread:
            vector //= 2
        if is_narrow(tile.dtype):  # what shares a byte belongs to one thread
            vector = max(vector, unit(tile.dtype.bits)[0])
        bits = tile.dtype.packed_bits
        if isinstance(op, Atomic):  # a thread has few rows, and of those all that is left of a warp's sectors
            return blocked(tile.shape, threads, vector, order, max(vector, LONG // bits), order[:1])
        reduced, others = self.classes.reduced(value), set(self.classes.contiguous(value)) - {*order[:1]}
        if others and order and not reduced and view.space == "global" and not is_narrow(tile.dtype):
            return _turned(tile, threads, vector, order, min(others))
        least = max(4 * vector, LINE // bits) if reduced else 0
        return blocked(tile.shape, threads, vector, order, least, reduced)

    def _fast(self, op: Access) -> tuple[Value, int] | None:
        """The tile that an access to global memory moves in vectors, and along which dimension."""
        value = self._main_value(op)
        if value is None or not isinstance(op.view.type, ViewType) or op.view.view.space != "global":
            return None
        order, vector = self.vector_of(op, value.tile)
        return (value, order[0]) if order and vector > 1 else None

    def vector_of(self, op: Access, tile: TileType) -> tuple[tuple[int, ...], int]:
        """Dimensions from the fastest in memory to the slowest, and how many elements an access may move."""
        if isinstance(op, (Gather, Scatter, GatherAsync, Atomic)):
            along, width = gathered_vector(self.facts, op)
            if isinstance(op, Atomic):
                width = math.gcd(width, 1 if self.users.get(op.result) else added_at_once(op, self.target))
            return (along, *(d for d in reversed(range(tile.rank)) if d != along)), width
        order = contiguous_order(self.facts, op.view, tile.rank)
        if order and op.view.view.space == "shared" and not is_narrow(tile.dtype) and isinstance(op, Load):
            return order, math.gcd(tile.shape[order[0]], VECTOR_BITS // tile.dtype.packed_bits)
        return order, vector_width(self.facts, op, order[0], tile) if order else 1


def _turned(tile: TileType, threads: int, vector: int, order: tuple[int, ...], other: int) -> RegisterLayout:
    """A coalesced layout of a tile that goes elsewhere along another dimension, through shared memory: lanes and
    registers have elements of whole words along both."""
    fast, bits = order[0], tile.dtype.packed_bits
    beside = max(1, WORD // bits)
    while beside * vector * threads > tile.size and beside > 1:  # half of the widest accesses do as well
        beside, vector = (beside, vector // 2) if vector * bits > VECTOR_BITS // 2 else (beside // 2, vector)
    if tile.shape[other] % beside or tile.shape[fast] % vector or beside * vector * threads > tile.size:
        return blocked(tile.shape, threads, vector, order, LINE // bits, (fast,))
    rows, columns = (tuple(n if d == along else 1 for d in range(tile.rank)) for n, along in ((beside, other),
                                                                                              (vector, fast)))
    parts = tuple(n // (r * c) for n, r, c in zip(tile.shape, rows, columns, strict=True))
    return blocked(parts, threads, 1, order, max(1, LINE // bits // vector), (fast,)) * local(*rows) * local(*columns)


def feeds_first_operand(value: Value, users: dict[Value, list[Operation]], limit: int = 12) -> bool:
    """Whether a dot's result reaches the first operand of another dot through elementwise operations."""
    seen, front = {value}, [value]
    for _ in range(limit):
        step: list[Value] = []
        for v in front:
            for op in users.get(v, ()):
                if isinstance(op, Dot):
                    if op.a is v:
                        return True
                    continue
                for r in op.results:
                    if r not in seen and isinstance(r.type, TileType) and r.type.shape == value.tile.shape:
                        seen.add(r)
                        step.append(r)
        front = step
    return False


def _is_test(parent: Operation, terminator: Operation) -> bool:
    """Whether a yield gives the condition of a while."""
    return isinstance(parent, While) and terminator is parent.before.terminator


class _Materialise:
    """Writes the layouts into the types and puts conversions where an operation needs another one."""

    def __init__(self, inference: _Inference) -> None:
        self.inference = inference
        self.layouts = inference.layouts
        self.converted: dict[tuple[Value, RegisterLayout], Value] = {}

    def run(self) -> None:
        for value, layout in self.layouts.items():
            value.type = replace(value.tile, layout=layout)
        self._block(self.inference.function.body)

    def _block(self, block: Block) -> None:
        ops: list[Operation] = []
        added: list[tuple[Value, RegisterLayout]] = []
        for op in block.ops:
            self._operands(op, ops, added)
            ops.append(op)
            self._reload(op, ops)
            self._natural_results(op, ops)
            for region in op.regions:
                self._block(region)
        block.ops = ops
        for key in added:
            del self.converted[key]

    def _operands(self, op: Operation, ops: list[Operation], added: list[tuple[Value, RegisterLayout]]) -> None:
        if isinstance(op, Dot):  # one tile may be both operands, in two layouts
            plan = self.inference.plans[op]
            for name, operand, wanted in plan.of_operands(op):
                setattr(op, name, self._in_layout(operand, wanted, op, ops, added))
            op.accumulator = self._in_layout(op.accumulator, plan.c, op, ops, added)
            return
        if isinstance(op, (Yield, For, While)):
            self._carried_operands(op, ops, added)
            return
        for operand, wanted in self._demands(op):
            new = self._in_layout(operand, wanted, op, ops, added)
            op.map_operands(lambda v, old=operand, new=new: new if v is old else v)  # type: ignore[misc]

    def _in_layout(self, operand: Value, wanted: RegisterLayout, op: Operation, ops: list[Operation],
                   added: list[tuple[Value, RegisterLayout]]) -> Value:
        """The operand in the layout that an operation needs, converted before it where it has another."""
        if operand.tile.layout == wanted:
            return operand
        key = (operand, wanted)
        new = self.converted.get(key)
        if new is None:
            new = self.converted[key] = convert(operand, wanted, ops, op)
            added.append(key)
        return new

    def _demands(self, op: Operation) -> list[tuple[Value, RegisterLayout]]:
        """Tile operands with the layouts that the operation needs."""
        tiles = [v for v in op.operands if is_tile(v)]
        if not tiles:
            return []
        if isinstance(op, (Store, Scatter)):
            layout = self._store_layout(op)
            return [(v, layout) for v in tiles]
        if isinstance(op, GatherAsync):
            layout = self.inference.access_layout(op, op.indices[0])
            return [(v, layout) for v in tiles]
        if isinstance(op, CopyAsync):
            layout, _ = copied_layout(self.inference.facts, op, self.inference.threads(op), self.inference.target)
            return [(v, layout) for v in tiles]
        if isinstance(op, View):
            return [(op.x, op.from_layout)]
        if isinstance(op, (Scan, ScanWith)):
            wanted = op.results[0].tile.layout
            assert wanted is not None
            return [(v, wanted) for v in tiles]
        if isinstance(op, Take):
            wanted = op.result.tile.layout
            assert wanted is not None
            return [(op.indices, wanted)]
        if isinstance(op, ReduceWith):  # left to right, so that it has to know the order
            wanted = scan_layout(tiles[0].tile.shape, op.axis, self.inference.threads(op))
            return [(v, wanted) for v in tiles]
        if isinstance(op, (Reduce, Slice, Insert, Concat, DeviceAssert, ConvertLayout)):
            return []
        main = op.results[0].tile.layout if op.results and is_tile(op.results[0]) else None
        if main is None:
            return []
        out = []
        for v in tiles:
            wanted = operand_layout(op, v, main)
            if wanted is not None:
                out.append((v, wanted))
        return out

    def _store_layout(self, op: Operation) -> RegisterLayout:
        value = op.value  # type: ignore[attr-defined]
        layout: RegisterLayout = value.tile.layout
        if not isinstance(op, Store):
            return layout
        ideal = self.inference.access_layout(op, value)
        return ideal if self._poor(op, layout, ideal, value.tile) else layout

    def _poor(self, op: Load | Store, layout: RegisterLayout, ideal: RegisterLayout, tile: TileType) -> bool:
        """Whether a global access in ``layout`` touches more sectors of memory than one in ``ideal``, or moves less per
        instruction, from short pieces of rows, for a tile that is worth a trip through shared memory. Narrow accesses
        to long pieces are not: they take no more instructions than that trip."""
        if op.view.view.space != "global" or layout == ideal or tile.size * tile.dtype.bits < 8 * 2048:
            return False
        (dim, *_), most = self.inference.vector_of(op, tile)
        width, best = math.gcd(layout.vector_width(dim), most), math.gcd(ideal.vector_width(dim), most)
        bits = tile.dtype.packed_bits
        if width * bits >= VECTOR_BITS:
            return False
        touched, piece = request(layout, dim, width, bits)
        return touched >= 2 * request(ideal, dim, best, bits)[0] or (width * 2 <= best and piece < LONG)

    def _reload(self, op: Operation, ops: list[Operation]) -> None:
        """Global loads whose layout makes for narrow accesses are done in a coalesced one and converted."""
        if not isinstance(op, Load) or op.layout is not None or not is_tile(op.result):
            return
        if op.view.view.space != "global" or op.mask is not None:
            return
        wanted = op.result.tile.layout
        assert wanted is not None
        ideal = self.inference.access_layout(op, op.result)
        if not self._poor(op, wanted, ideal, op.result.tile):
            return
        _produce_in(op, 0, ideal, ops)

    def _natural_results(self, op: Operation, ops: list[Operation]) -> None:
        """Reductions give their results in the layout that follows from the operand's; others are converted to."""
        if not isinstance(op, (Reduce, ReduceWith)):
            return
        source = op.operands[0].tile.layout
        assert source is not None
        natural = source.reduce(op.axis)
        for i, result in enumerate(op.results):
            if is_tile(result) and result.tile.layout != natural:
                _produce_in(op, i, natural, ops)

    def _carried_operands(self, op: Yield | For | While, ops: list[Operation],
                          added: list[tuple[Value, RegisterLayout]]) -> None:
        """What becomes a result of a region operation takes that one's layout; one tile may become several results."""
        parent = self.inference.yields.get(op) if isinstance(op, Yield) else op
        if not isinstance(parent, (For, While, If)) or _is_test(parent, op):
            return
        given = op.values if isinstance(op, Yield) else op.init
        taken = []
        for value, target in zip(given, parent.results, strict=True):
            if is_tile(value):
                layout = target.tile.layout
                assert layout is not None
                value = self._in_layout(value, layout, op, ops, added)
            taken.append(value)
        if isinstance(op, Yield):
            op.values = tuple(taken)
        else:
            op.init = tuple(taken)


def _produce_in(op: Operation, index: int, layout: RegisterLayout, ops: list[Operation]) -> None:
    """Let an operation give a result in another layout; a conversion after it gives the value that the users know."""
    result = op.results[index]
    wanted = result.tile.layout
    assert wanted is not None
    made = Value(replace(result.tile, layout=layout), result.name, op, index)
    op.results = tuple(made if r is result else r for r in op.results)
    convert = ConvertLayout(made, wanted, span=op.span)
    result.owner, result.index = convert, 0
    convert.results = (result,)
    ops.append(convert)


def request(layout: RegisterLayout, dim: int, width: int, bits: int) -> tuple[float, float]:
    """For each element that a warp's first access to memory moves, the sectors of 32 bytes that it touches, and how
    many bits of each row it moves, where ``dim`` is contiguous in memory, rows begin at sectors, and an access moves
    ``width`` elements of so many bits."""
    lanes = {layout.thread_index(t) for t in range(min(LANES, layout.num_threads))}
    touched = {(*index[:dim], index[dim] * bits // SECTOR, *index[dim + 1:]) for index in lanes}
    rows = {(*index[:dim], *index[dim + 1:]) for index in lanes}
    return len(touched) / (len(lanes) * width), len(lanes) * width * bits / len(rows)
