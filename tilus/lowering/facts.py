"""What is known of integer values: a range and a divisor.

A forward analysis over a function. It decides which index arithmetic fits in 32 bits, which bounds checks can go, and
which accesses are aligned. Everything is about the mathematical value: arithmetic that might wrap is given the full
range of its type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from tilus.ir.core import Block, Function, Module, Operation, Parameter, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import (
    Binary,
    Broadcast,
    Cast,
    CollapseView,
    Const,
    ConvertLayout,
    Dim,
    For,
    GridIndex,
    GridSize,
    If,
    Iota,
    PartEdge,
    PartStart,
    PartStop,
    Reduce,
    Reshape,
    Select,
    Slice,
    Stride,
    Subview,
    TileBytes,
    Transpose,
    While,
)
from tilus.ir.ops.cores import CoreIndex, Strips
from tilus.ir.ops.memory import split_dims
from tilus.ir.types import TileType
from tilus.layouts.packed import PIECE
from tilus.lowering.assumptions import promises
from tilus.records import record
from tilus.targets.ascend import VECTOR_CORES
from tilus.targets.grid import MAX_BLOCKS

SMALL_EXTENT = (1 << 30) - 1
"""The greatest extent of an array whose parameter is marked small."""


@record(frozen=True, slots=True)
class Fact:
    """The value is in [low, high] and a multiple of ``divisor`` (0 for the constant 0)."""

    low: int
    high: int
    divisor: int = 1

    @property
    def is_constant(self) -> bool:
        return self.low == self.high

    def fits(self, bits: int) -> bool:
        """Whether every value is representable as a signed integer of ``bits`` bits."""
        return -(1 << (bits - 1)) <= self.low and self.high < 1 << (bits - 1)


def constant_fact(value: int) -> Fact:
    return Fact(value, value, abs(value))


def unknown(dtype: DType) -> Fact:
    return Fact(dtype.min_value, dtype.max_value, 1)


def _join(a: Fact, b: Fact) -> Fact:
    return Fact(min(a.low, b.low), max(a.high, b.high), math.gcd(a.divisor, b.divisor))


class Facts:
    """The facts of all integer values of a function, computed on construction.

    ``grid`` gives the facts of the extents of the launch grid, where known.
    """

    def __init__(self, function: Function, grid: tuple[Fact, ...] = ()) -> None:
        self.known: dict[Value, Fact] = {}
        self.grid = grid
        self.promised = promises(function)
        self.parameters: dict[Value, Parameter] = {}
        for value, parameter in zip(function.body.args, function.parameters, strict=False):
            self.parameters[value] = parameter
            if isinstance(value.type, TileType) and value.type.dtype.is_int:
                fact = unknown(value.type.dtype)
                self._learn(value, Fact(fact.low, fact.high, 16 if parameter.divisible else 1))
        self._block(function.body)

    def of(self, value: Value) -> Fact:
        found = self.known.get(value)
        if found is not None:
            return found
        if isinstance(value.type, TileType) and (value.type.dtype.is_int or value.type.dtype.is_bool):
            return self._promised(value, unknown(value.type.dtype))
        return Fact(-(1 << 63), (1 << 63) - 1, 1)

    def _learn(self, value: Value, fact: Fact) -> None:
        self.known[value] = self._promised(value, fact)

    def _promised(self, key: Value | str, fact: Fact) -> Fact:
        """A fact, and what the user promises beside it. Promises that cannot hold are worth nothing."""
        for promise in self.promised.get(key, ()):
            low = fact.low if promise.low is None else max(fact.low, promise.low)
            high = fact.high if promise.high is None else min(fact.high, promise.high)
            if low <= high:
                fact = Fact(low, high, math.lcm(fact.divisor, promise.divisor))
        return fact

    def extent(self, view: Value, axis: int) -> Fact:
        """The fact of a view's extent."""
        known = view.view.shape[axis]
        if known is not None:
            return constant_fact(known)
        parameter = self.parameters.get(view)
        if parameter is not None:
            high = SMALL_EXTENT if parameter.small else (1 << 62)
            fact = Fact(0, high, parameter.shape_divisors[axis] if parameter.shape_divisors else 1)
            return self._promised(str(parameter.dims[axis]), fact) if parameter.dims else fact
        op = view.defining
        if isinstance(op, Subview):
            kept = [d for d in range(op.view.view.rank) if d not in op.dropped]
            return self.of(op.extents[kept[axis]])
        if isinstance(op, CollapseView):
            parts = [self.extent(op.view, d) for d in split_dims(range(op.view.view.rank), op.groups)[axis]]
            small = op.view in self.parameters and self.parameters[op.view].small
            high = min(math.prod(f.high for f in parts), SMALL_EXTENT if small else 1 << 62)
            return Fact(math.prod(f.low for f in parts), high, math.prod(f.divisor for f in parts))
        if isinstance(op, TileBytes):
            return self._bytes_extent(op, axis)
        return Fact(0, 1 << 62, 1)

    def _bytes_extent(self, op: TileBytes, axis: int) -> Fact:
        last = op.view.view.rank - 1
        if axis < last - 1:
            return self.extent(op.view, axis)
        if axis == last - 1:
            count = self.extent(op.view, last)
            return Fact(-(-count.low // op.columns), -(-count.high // op.columns), 1)
        rows = self.extent(op.view, last - 1)
        return Fact(rows.low * op.row_bytes, 1 << 62, PIECE)

    def stride(self, view: Value, axis: int) -> Fact:
        """The fact of an argument's stride, in elements; of other views nothing is known here."""
        if isinstance(view.defining, TileBytes):  # C order
            return constant_fact(1) if axis == view.view.rank - 1 else Fact(0, 1 << 62, PIECE)
        if isinstance(view.defining, CollapseView):
            return self.stride(view.defining.view, sum(view.defining.groups[:axis + 1]) - 1)
        parameter = self.parameters.get(view)
        if parameter is None:
            return Fact(-(1 << 62), 1 << 62, 1)
        known = parameter.strides[axis]
        if known is not None:
            return constant_fact(known)
        divisor = parameter.strides_divisors[axis] if parameter.strides_divisors else 1
        if parameter.contiguous and axis + 1 < len(parameter.strides) and parameter.strides[axis + 1] == 1:
            divisor = math.lcm(divisor, self.extent(view, axis + 1).divisor)
        limit = (1 << 31) - 1 if parameter.small else 1 << 62
        return Fact(0 if parameter.contiguous else -limit, limit, divisor)

    def _block(self, block: Block) -> None:
        for op in block.ops:
            self._operation(op)

    def _operation(self, op: Operation) -> None:
        if isinstance(op, For):
            self._for(op)
        elif isinstance(op, While):
            self._while(op)
        elif isinstance(op, If):
            self._block(op.then)
            self._block(op.orelse)
            for i, result in enumerate(op.results):
                if _is_integer(result):
                    a, b = (r.terminator.operands[i] for r in (op.then, op.orelse))
                    self.known[result] = _join(self.of(a), self.of(b))
        else:
            if isinstance(op, Strips):
                self._strips(op)
            for region in op.regions:
                self._block(region)
            handler = _TRANSFER.get(type(op))
            if handler is not None and op.results and _is_integer(op.results[0]):
                self._learn(op.results[0], handler(self, op))

    def _strips(self, op: Strips) -> None:
        self._learn(op.body.args[0], Fact(0, op.count - 1))
        for arg, value in zip(op.body.args[1:], op.inputs, strict=True):
            if _is_integer(arg):
                self._learn(arg, self.of(value))

    def _for(self, op: For) -> None:
        start, stop, step = self.of(op.start), self.of(op.stop), self.of(op.step)
        divisor = math.gcd(start.divisor, step.divisor)
        if step.low > 0:  # the last multiple of the divisor before the stop
            fact = Fact(start.low, max(start.low, (stop.high - 1) // divisor * divisor), divisor)
        elif step.high < 0:
            fact = Fact(min(start.high, -(-(stop.low + 1) // divisor) * divisor), start.high, divisor)
        else:
            fact = Fact(min(start.low, stop.low), max(start.high, stop.high), divisor)
        self._learn(op.index, fact)
        self._carried(op.carried, op.init, op.results, op.body)

    def _while(self, op: While) -> None:
        for _ in range(_ROUNDS):
            for carried in op.before.args:
                self.known.pop(carried, None)
            self._block(op.before)
        self._carried(op.body.args, op.init, op.results, op.body)
        for inside, outside in zip(op.before.args, op.body.args, strict=True):
            if _is_integer(inside):
                self.known[inside] = self.of(outside)
        self._block(op.before)

    def _carried(self, carried: Sequence[Value], init: Sequence[Value], results: Sequence[Value], body: Block) -> None:
        """Facts of carried integers: from the first values, widened until the body keeps them."""
        integers = [i for i, v in enumerate(carried) if _is_integer(v)]
        for i in integers:
            self.known[carried[i]] = self.of(init[i])
        for round_ in range(_ROUNDS):
            self._block(body)
            last = body.terminator.operands
            stable = True
            for i in integers:
                have = self.known[carried[i]]
                wanted = _join(have, self.of(last[i]))
                if wanted == have:
                    continue
                stable = False
                full = unknown(carried[i].tile.dtype)
                low = have.low if wanted.low == have.low else (wanted.low if round_ < _ROUNDS - 2 else full.low)
                high = have.high if wanted.high == have.high else (wanted.high if round_ < _ROUNDS - 2 else full.high)
                self.known[carried[i]] = Fact(low, high, wanted.divisor)
            if stable:
                break
        else:
            for i in integers:
                self.known[carried[i]] = unknown(carried[i].tile.dtype)
            self._block(body)
        unused = {v for op in body.walk() for v in op.operands}
        for i in integers:
            # A value that the body does not read is the first one or the last one computed.
            read = carried[i] in unused
            self.known[results[i]] = self.known[carried[i]] if read else _join(
                self.of(init[i]), self.of(body.terminator.operands[i]))


_ROUNDS = 6
"""How often a loop's body is analysed before its carried integers are given up."""


def _is_integer(value: Value) -> bool:
    return isinstance(value.type, TileType) and value.type.dtype.is_int


def _const(facts: Facts, op: Const) -> Fact:
    return constant_fact(int(op.value))


def _dim(facts: Facts, op: Dim) -> Fact:
    return facts.extent(op.view, op.axis)


def _stride(facts: Facts, op: Stride) -> Fact:
    return facts.stride(op.view, op.axis)


def _grid_index(facts: Facts, op: GridIndex) -> Fact:
    high = facts.grid[op.axis].high - 1 if op.axis < len(facts.grid) else MAX_BLOCKS - 1
    return Fact(0, max(0, min(high, MAX_BLOCKS - 1)), 1)


def _core_index(facts: Facts, op: CoreIndex) -> Fact:
    return Fact(0, VECTOR_CORES - 1 if op.kind == "part" else MAX_BLOCKS)


def _grid_size(facts: Facts, op: GridSize) -> Fact:
    high = facts.grid[op.axis].high if op.axis < len(facts.grid) else MAX_BLOCKS
    return Fact(0, max(0, min(high, MAX_BLOCKS)), 1)


def _part_edge(facts: Facts, op: PartEdge) -> Fact:
    return Fact(0, op.extent, 1)


def _iota(facts: Facts, op: Iota) -> Fact:
    return Fact(0, max(0, op.shape[op.axis] - 1), 1)


def _same(facts: Facts, op: Operation) -> Fact:
    return facts.of(op.operands[0])


def _select(facts: Facts, op: Select) -> Fact:
    return _join(facts.of(op.x), facts.of(op.y))


def _reduce(facts: Facts, op: Reduce) -> Fact:
    if op.kind in ("min", "max"):
        return facts.of(op.x)
    if op.kind.startswith("arg"):
        return Fact(0, max(0, op.x.tile.shape[op.axis] - 1), 1)
    return unknown(op.result.tile.dtype)


def _cast(facts: Facts, op: Cast) -> Fact:
    source = op.x.tile.dtype
    if source.is_bool:
        return Fact(0, 1, 1)
    if not source.is_int:
        return unknown(op.dtype)
    fact = facts.of(op.x)
    inside = op.dtype.min_value <= fact.low and fact.high <= op.dtype.max_value
    return fact if inside else unknown(op.dtype)


def _binary(facts: Facts, op: Binary) -> Fact:
    a, b = facts.of(op.lhs), facts.of(op.rhs)
    rule = _RULES.get(op.kind)
    dtype = op.result.tile.dtype
    if rule is None:
        return unknown(dtype)
    fact = rule(a, b)
    inside = fact is not None and dtype.min_value <= fact.low and fact.high <= dtype.max_value
    if fact is not None and inside:
        return fact
    # Wrapping keeps divisors that are powers of two.
    divisor = 1 if fact is None or not fact.divisor else fact.divisor & -fact.divisor
    full = unknown(dtype)
    return Fact(full.low, full.high, min(divisor, 1 << 16) or 1)


def overflows(kind: str, a: Fact, b: Fact, dtype: DType) -> bool:
    """Whether a sum, difference or product of values with these facts may be outside of the type."""
    fact = {"add": _add, "sub": _sub, "mul": _mul}[kind](a, b)
    return fact.low < dtype.min_value or fact.high > dtype.max_value


def _add(a: Fact, b: Fact) -> Fact:
    return Fact(a.low + b.low, a.high + b.high, math.gcd(a.divisor, b.divisor))


def _sub(a: Fact, b: Fact) -> Fact:
    return Fact(a.low - b.high, a.high - b.low, math.gcd(a.divisor, b.divisor))


def _mul(a: Fact, b: Fact) -> Fact:
    corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return Fact(min(corners), max(corners), a.divisor * b.divisor)


def _floordiv(a: Fact, b: Fact) -> Fact | None:
    if not b.is_constant or b.low <= 0:
        return Fact(0, a.high, 1) if a.low >= 0 and b.low >= 0 else None  # by 0: 0
    divisor = a.divisor // b.low if a.divisor % b.low == 0 else 1
    return Fact(a.low // b.low, a.high // b.low, divisor)


def _mod(a: Fact, b: Fact) -> Fact | None:
    divisor = math.gcd(a.divisor, b.divisor)
    if b.low < 1:  # by 0: the dividend
        return Fact(0, a.high, divisor) if b.low == 0 and a.low >= 0 else None
    if b.is_constant and a.low >= 0 and a.high < b.low:
        return a
    if b.is_constant and a.divisor % b.low == 0:
        return constant_fact(0)
    high = min(a.high, b.high - 1) if a.low >= 0 else b.high - 1
    return Fact(0, high, divisor)


def _min(a: Fact, b: Fact) -> Fact:
    return Fact(min(a.low, b.low), min(a.high, b.high), math.gcd(a.divisor, b.divisor))


def _max(a: Fact, b: Fact) -> Fact:
    return Fact(max(a.low, b.low), max(a.high, b.high), math.gcd(a.divisor, b.divisor))


def _shl(a: Fact, b: Fact) -> Fact | None:
    return _mul(a, constant_fact(1 << b.low)) if b.is_constant and 0 <= b.low < 63 else None


def _shr(a: Fact, b: Fact) -> Fact | None:
    return _floordiv(a, constant_fact(1 << b.low)) if b.is_constant and 0 <= b.low < 63 else None


def _and(a: Fact, b: Fact) -> Fact | None:
    if a.low >= 0 and b.low >= 0:
        return Fact(0, min(a.high, b.high), 1)
    if b.low >= 0:
        return Fact(0, b.high, 1)
    return Fact(0, a.high, 1) if a.low >= 0 else None


def _or(a: Fact, b: Fact) -> Fact | None:
    if a.low < 0 or b.low < 0:
        return None
    bits = max(a.high, b.high).bit_length()
    return Fact(max(a.low, b.low), (1 << bits) - 1, 1)


_RULES: dict[str, Callable[[Fact, Fact], Fact | None]] = {
    "add": _add, "sub": _sub, "mul": _mul, "floordiv": _floordiv, "mod": _mod, "min": _min, "max": _max,
    "shl": _shl, "shr": _shr, "and": _and, "or": _or, "xor": lambda a, b: _or(Fact(0, a.high), Fact(0, b.high))
    if a.low >= 0 and b.low >= 0 else None,
}
_TRANSFER: dict[type[Operation], Callable[[Facts, Operation], Fact]] = {
    CoreIndex: _core_index,  # type: ignore[dict-item]
    Const: _const, Dim: _dim, Stride: _stride, GridIndex: _grid_index, GridSize: _grid_size, Iota: _iota,  # type: ignore[dict-item]
    Broadcast: _same, Reshape: _same, Transpose: _same, Slice: _same, ConvertLayout: _same, Select: _select,  # type: ignore[dict-item]
    Reduce: _reduce, Cast: _cast, Binary: _binary, PartStart: _part_edge, PartStop: _part_edge,  # type: ignore[dict-item]
}


def kernel_facts(module: Module) -> Iterator[tuple[Function, Facts]]:
    """Each kernel of a module with its facts, computed as the caller comes to it."""
    grids = _grids(module.launch) if module.launch is not None else {}
    for function in module.kernels:
        yield function, Facts(function, grids.get(function.name, ()))


def _grids(launch: Function) -> dict[str, tuple[Fact, ...]]:
    """Facts of the grid's extents of each kernel, by its name, over all launches of it."""
    from tilus.ir.ops import Launch

    facts = Facts(launch)
    grids: dict[str, tuple[Fact, ...]] = {}
    for op in launch.walk():
        if isinstance(op, Launch):
            grid = tuple(facts.of(e) for e in op.grid)
            before = grids.get(op.kernel, grid)
            grids[op.kernel] = tuple(_join(a, b) for a, b in zip(before, grid, strict=True))
    return grids
