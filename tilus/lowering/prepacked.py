"""Loads of prepacked arrays: bytes that each thread reads as its own elements.

A prepacked array lies in memory as the threads of its kernel want to have it (``ir/prepacked.py``). A load becomes
one of the bytes of a tile, which may go through a ring in shared memory as any other, and :class:`Unpack`, whose layout
is the one that its users ask for; what has been asked for is the format that the host packs for.
"""

from __future__ import annotations

import math
from dataclasses import replace

from tilus.diagnostics import UserError
from tilus.ir.builder import Builder
from tilus.ir.codebooks import flipped, zero_code
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.dtypes import i32
from tilus.ir.families import DerivedView, Elementwise
from tilus.ir.ops import Cast, Const, Dim, Dot, Load, Reshape, Subview, TileBytes, Unpack
from tilus.ir.prepacked import WORD_BITS, PrepackedFormat, byte_order, format_for, least, word_layout
from tilus.ir.rewriter import find_users, rewrite_block
from tilus.layouts import RegisterLayout
from tilus.lowering.conversions import group_of, order_for
from tilus.lowering.facts import Facts, kernel_facts
from tilus.lowering.forms import root_of
from tilus.lowering.schedule.staged import Extents
from tilus.records import field, record


def unpack_loads(module: Module) -> None:
    """Replace the loads of prepacked arrays of a tile module by loads of their bytes, in place.

    Raises UserError (E0305) where such an array is used otherwise than by loads of whole tiles of one shape.
    """
    for function, facts in kernel_facts(module):
        found = prepacked_arrays(function)
        if found:
            _Unpacking(facts, Extents(function), found).run(function.body)


HOST_LANES = 16
"""Neighbours along a row that lie in as many words side by side for the vectors of a CPU: those of AVX-512; narrower
vectors take them in parts."""
WORD_BYTES = 4


def choose_host_formats(module: Module) -> None:
    """Choose in which order a CPU reads the prepacked arrays of a tile module: the lanes of a vector are its threads,
    each of which has every 16th element of a row, row after row, in words of 32 bits. For dots of bytes a word is of
    one column: elements along K that fill it.

    Raises UserError (E0305) where such an array is used otherwise than by loads of whole tiles of one shape.
    """
    for function, facts in kernel_facts(module):
        found = prepacked_arrays(function)
        if found:
            unpacking = _Unpacking(facts, Extents(function), found)
            for op in function.walk():
                unpacking.use(op)
            users = find_users(function)
            formats = [(found[root], str(_host_format(op, users))) for root, op in unpacking.loads.items()]
            function.attributes.formats = tuple(formats)


def _host_format(op: Load, users: dict[Value, list[Operation]]) -> PrepackedFormat:
    rows, columns = op.shape[-2:]
    dtype = op.view.view.dtype
    if op.layout is not None:
        return format_for(dtype, op.layout)
    lanes = math.gcd(columns, HOST_LANES)
    depth = 1
    order: tuple[int, ...] = ()
    if dtype.is_int and dtype.bits in (1, 2, 4, 8) and rows % (WORD_BITS // dtype.bits) == 0 and \
            _is_multiplied_as_bytes(op.result, users):
        depth, order = WORD_BITS // dtype.bits, byte_order(dtype.bits)
    format = format_for(dtype, word_layout(rows, columns, lanes, depth), order)
    return least(replace(format, piece=math.gcd(format.piece, WORD_BYTES)))


def _is_multiplied_as_bytes(value: Value, users: dict[Value, list[Operation]]) -> bool:
    """Whether a tile, perhaps after arithmetic on its elements, is the second operand of a dot of integers."""
    for user in users.get(value, ()):
        if isinstance(user, Dot):
            if user.b is value and user.accumulator.tile.dtype is i32:
                return True
        elif isinstance(user, Elementwise) and user.result.tile.dtype.is_int and \
                _is_multiplied_as_bytes(user.result, users):
            return True
    return False


def prepacked_arrays(function: Function) -> dict[Value, str]:
    """The arguments of a kernel that are prepacked, with their names."""
    return {value: p.name for value, p in zip(function.body.args, function.parameters, strict=True) if p.prepacked}


@record(eq=False)
class _Unpacking:
    facts: Facts
    extents: Extents
    arrays: dict[Value, str]
    loads: dict[Value, Load] = field(default_factory=dict)
    """The first load of each array."""

    def run(self, block: Block) -> None:
        mapping: dict[Value, Value] = {}
        rewrite_block(block, lambda op: self.rewrite(op, mapping), mapping)

    def rewrite(self, op: Operation, mapping: dict[Value, Value]) -> list[Operation] | None:
        root = self.use(op)
        return self.bytes_of(op, root, mapping) if root is not None and isinstance(op, Load) else None

    def use(self, op: Operation) -> Value | None:
        """The prepacked array that an operation loads a tile of. Raises UserError for other uses of one."""
        view = getattr(op, "view", None)
        root = root_of(view) if isinstance(view, Value) else None
        if root not in self.arrays or isinstance(op, Dim):
            return None
        assert root is not None
        if isinstance(op, Subview):
            self.check_view(op, root)
            return None
        if not isinstance(op, Load) or len(op.shape) < 2:
            raise self.error(root, op, "is read in tiles by loads only")
        self.check(op, root)
        return root

    def error(self, root: Value, op: Operation, message: str, help: str | None = None) -> UserError:
        return UserError.at("E0305", f"{self.arrays[root]!r} is prepacked, and {message}", op.span, help=help)

    def check_view(self, op: Subview, root: Value) -> None:
        """A window of it has all rows and columns."""
        for d, (start, extent) in enumerate(zip(op.starts, op.extents, strict=True)):
            if d in op.dropped and d < op.view.view.rank - 2:
                continue
            first = self.facts.of(start)
            if d in op.dropped or not (first.is_constant and first.low == 0 and self.is_whole(extent, op.view, d)):
                raise self.error(root, op, "its rows and columns are not cut",
                                 "index the dimensions before them, as in `w[e, :, :]`, and load tiles at offsets")

    def is_whole(self, extent: Value, view: Value, d: int) -> bool:
        """Whether a number is the extent of a view along a dimension: it is asked of one whose dimension has the same
        name."""
        whole, known = extent.defining, view.view.shape[d]
        if isinstance(whole, Const):
            return known == whole.value
        if not isinstance(whole, Dim):
            return False
        names = self.extents.dim_name(view, d), self.extents.dim_name(whole.view, whole.axis)
        return (whole.view, whole.axis) == (view, d) or (names[0] is not None and names[0] == names[1])

    def bytes_of(self, op: Load, root: Value, mapping: dict[Value, Value]) -> list[Operation]:
        """The load as one of bytes."""
        tile = (op.shape[-2], op.shape[-1])
        b = Builder(Block(), op.span)
        tiles = b.add(TileBytes(root, tile[1]))
        row, column = op.offsets[-2:]
        offsets = [*self.leading(op.view), *op.offsets[: len(op.shape) - 2],
                   b.binary("floordiv", column, b.const(tile[1])), b.binary("mul", row, b.const(tiles.row_bytes))]
        size = tile[0] * tiles.row_bytes
        raw = b.add(Load(tiles.result, tuple(offsets), (*(1 for _ in offsets[1:]), size))).result
        raw.name = op.result.name
        flat = b.add(Reshape(raw, (size,))).result
        dtype = op.result.tile.dtype
        unpacked = b.add(Unpack(flat, flipped(dtype, zero_code(dtype)), tile, self.arrays[root], op.layout)).result
        if len(op.shape) > 2:
            unpacked = b.add(Reshape(unpacked, op.shape)).result
        unpacked.name = op.result.name
        mapping[op.result] = unpacked
        return b.block.ops

    def leading(self, view: Value) -> tuple[Value, ...]:
        """The indices of the dimensions that views have dropped, outermost first."""
        maker = view.defining
        if not isinstance(maker, DerivedView):
            return ()
        assert isinstance(maker, Subview)
        return (*self.leading(maker.view), *(maker.starts[d] for d in maker.dropped))

    def check(self, op: Load, root: Value) -> None:
        name = self.arrays[root]
        first = self.loads.setdefault(root, op)
        tile = op.shape[-2:]
        if first.shape[-2:] != tile or first.layout != op.layout:
            raise UserError.at("E0305", f"{name!r} is prepacked, and read in tiles of {first.shape[-2:]} and of {tile}",
                               op.span, help="load tiles of one shape and layout")
        if any(n != 1 for n in op.shape[:-2]):
            raise self.error(root, op, f"a tile of shape {op.shape} has more than two dimensions",
                             "load one matrix at a time")
        if op.mask is not None or not self.is_absent(op.other):
            raise self.error(root, op, "elements beyond it are 0: its loads have no mask= and no other=")
        if op.shape[-1] * op.view.view.dtype.packed_bits % 8:
            raise self.error(root, op, f"a row of {op.shape[-1]} elements fills no whole bytes",
                             "load tiles of more columns")
        for offset, extent, what in zip(op.offsets[-2:], tile, ("rows", "columns"), strict=True):
            if self.facts.of(offset).divisor % extent:
                raise self.error(root, op, f"a load does not certainly begin at a multiple of {extent} {what}",
                                 f"write the offset as a multiple of {extent}")

    def is_absent(self, other: Value | None) -> bool:
        maker = other.defining if other is not None else None
        return other is None or (isinstance(maker, Const) and maker.value == 0)


def choose_orders(function: Function) -> None:
    """Choose for each prepacked array in which order elements lie in registers, and write down the formats that this
    makes, once tiles have their layouts.

    Raises UserError (E0305) where tiles of one array have different layouts.
    """
    unpacks: dict[str, list[Unpack]] = {}
    for op in function.walk():
        if isinstance(op, Unpack):
            unpacks.setdefault(op.source, []).append(op)
    if not unpacks:
        return
    users = find_users(function)
    names = prepacked_arrays(function)
    dtypes = {name: value.view.dtype for value, name in names.items()}
    formats, rows = {}, {}
    for name, ops in unpacks.items():
        layout = _common_layout(name, ops)
        order = _order(ops, users, layout)
        for op in ops:
            op.order = order
        format = least(format_for(dtypes[name], layout, order))
        rows[name] = format.tile[0]
        formats[name] = str(format)
    for op in function.walk():
        if isinstance(op, TileBytes):
            op.rows = rows[names[op.view]]
    function.attributes.formats = tuple(formats.items())


def _common_layout(name: str, ops: list[Unpack]) -> RegisterLayout:
    layout = ops[0].result.tile.layout
    assert layout is not None
    for op in ops:
        if op.result.tile.layout != layout:
            raise UserError.at("E0305", f"{name!r} is prepacked, and tiles of it are needed in the layouts {layout} "
                                        f"and {op.result.tile.layout}", op.span,
                               help="use its tiles in one way, or give its loads `layout=`")
    return layout


def _order(ops: list[Unpack], users: dict[Value, list[Operation]], layout: RegisterLayout) -> tuple[int, ...]:
    """The order of the shortest conversion to the one type that all tiles are converted to; else one after another."""
    targets = {user.dtype if isinstance(user, Cast) else None for op in ops for user in users.get(op.result, ())}
    target = targets.pop() if len(targets) == 1 else None
    if target is None:
        return ()
    group = group_of(ops[0].dtype, target)
    if not group or layout.num_locals % group:
        return ()
    order = order_for(ops[0].dtype, target, group) or ()
    return () if order == tuple(range(group)) else order


__all__ = ["choose_host_formats", "choose_orders", "prepacked_arrays", "unpack_loads"]
