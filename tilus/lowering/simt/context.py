"""The state of lowering one kernel to a GPU thread: what each tile-level value has become."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence

from tilus.diagnostics import UNKNOWN_SPAN, Span
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.dtypes import DType, bool_, i32, i64, u8, u32
from tilus.ir.ops import (
    Binary,
    Broadcast,
    Cast,
    Compare,
    Const,
    Dot,
    Extract,
    For,
    GridIndex,
    Pack,
    PtrAdd,
    PtrCast,
    Shuffle,
    While,
    Yield,
)
from tilus.ir.ops.simt import SharedBase, SpecialRegister
from tilus.ir.types import PointerType, TileType
from tilus.layouts import RegisterLayout
from tilus.layouts.shared import SharedLayout, Swizzle
from tilus.lowering.facts import Facts
from tilus.lowering.simt import bits
from tilus.lowering.simt.bits import register_type
from tilus.lowering.spare_registers import is_crowded
from tilus.records import field, record
from tilus.targets import Target


@record(slots=True)
class GlobalView:
    """A view of global memory: where it begins, and extents and strides in elements (ints where constant).

    ``lows`` are first valid indices, where they are not 0."""

    pointer: Value
    extents: list[Value | int]
    strides: list[Value | int]
    lows: list[Value | None]


@record(slots=True)
class SharedView:
    """A view of shared memory: the address of its allocation, the layout from the view's start, which lies
    ``constant`` elements and ``moving`` elements (a run-time i32, a multiple of ``step``) after it. ``inner`` is a
    run-time start that ``swizzle``, the allocation's, sees: it is added before swizzling (a part's layout has only the
    bits of it that offsets within the part reach)."""

    pointer: Value
    layout: SharedLayout
    shape: tuple[int, ...]
    constant: int = 0
    moving: Value | None = None
    step: int = 0
    inner: Value | None = None
    swizzle: Swizzle | None = None


class DeferredLoads:
    """A tile in shared memory whose loads are issued one by one, as their fragments are needed.

    ``load(i)`` issues load ``i``, which fills ``width`` locals from ``i * width`` on.
    """

    def __init__(self, load: Callable[[int], Value], instructions: int, width: int) -> None:
        self.load, self.instructions, self.width = load, instructions, width
        self._loaded: dict[int, Value] = {}

    def part(self, index: int) -> Value:
        found = self._loaded.get(index)
        if found is None:
            found = self._loaded[index] = self.load(index)
        return found

    def all(self) -> list[Value]:
        return [self.part(i) for i in range(self.instructions)]


@record
class Thread:
    """Lowers one function. ``values`` maps tile-level scalars and tiles to thread-level values, ``views`` views;
    ``loops`` counts the loops around the operation that is being lowered, ``phase`` the loops that came before it."""

    function: Function
    facts: Facts
    target: Target
    block: Block = field(default_factory=Block)
    span: Span = UNKNOWN_SPAN
    values: dict[Value, Value] = field(default_factory=dict)
    dense: dict[Value, Value] = field(default_factory=dict)
    """The words of tiles whose elements fill no register."""
    unordered: dict[Value, Value] = field(default_factory=dict)
    """The words of tiles of prepacked arrays, whose elements lie in the order of a conversion."""
    remade: dict[tuple[str, Value], tuple[Block, Value]] = field(default_factory=dict)
    """Words as codes and codes as words, and the block in which they have become that."""
    enclosing: list[Block] = field(default_factory=list)
    """The blocks around the one that is being lowered."""
    views: dict[Value, GlobalView | SharedView] = field(default_factory=dict)
    shared_offsets: dict[object, int] = field(default_factory=dict)
    in_shared: dict[Value, SharedView] = field(default_factory=dict)
    deferrable: dict[Operation, Dot] = field(default_factory=dict)
    in_place: set[Value] = field(default_factory=set)
    deferred: dict[Value, DeferredLoads] = field(default_factory=dict)
    fresh_shared: set[Operation] = field(default_factory=set)
    round_bytes: int = 0
    first_warp: int = 0
    warps: int = 4
    in_group: bool = False
    group_barriers: dict[tuple[int, int], int] = field(default_factory=dict)
    loops: int = 0
    phase: int = 0
    branches: int = 0
    prologue: dict[object, Value] = field(default_factory=dict)
    prologue_ops: list[Operation] = field(default_factory=list)
    after_loops: dict[object, Value] = field(default_factory=dict)
    grid: dict[str, Value] = field(default_factory=dict)
    """The arguments that say how blocks are numbered, where they are launched in groups or folded into one axis."""

    def __post_init__(self) -> None:
        self.top = self.block

    @functools.cached_property
    def compares_differences(self) -> bool:
        """Whether index tiles are compared by differences: beside products only where registers are short, since ptxas
        takes more instructions for loops without masks then."""
        return is_crowded(self.function) or not any(isinstance(op, Dot) for op in self.function.walk())

    @property
    def threads(self) -> int:
        return self.warps * self.target.warp_size

    # -- emission

    def emit(self, op: Operation) -> Value:
        """Append an operation; gives its first result."""
        if not op.span.known:
            op.span = self.span
        self.block.ops.append(op)
        return op.results[0] if op.results else _NOTHING

    def const(self, value: int | float | bool, dtype: DType = i32, count: int = 0) -> Value:
        return self.emit(Const(value, dtype, (count,) if count else ()))

    def binary(self, kind: str, x: Value, y: Value | int) -> Value:
        """Integer arithmetic on scalars of one type; ``y`` may be a constant. The trivial cases emit nothing."""
        if isinstance(y, int):
            if (y == 0 and kind in ("add", "sub", "xor", "or")) or (y == 1 and kind in ("mul", "floordiv")):
                return x
            y = self.const(y, x.tile.dtype)
        return self.emit(Binary(kind, x, y))

    def product(self, x: Value | int, y: Value | int) -> Value | int:
        """Of extents, any of which may be known."""
        if isinstance(x, int):
            x, y = y, x
        if isinstance(x, int):
            return x * y if isinstance(y, int) else self.binary("mul", y, x)
        if isinstance(y, int):
            return self.binary("mul", x, y)
        return self.emit(Binary("mul", *self.same_width(x, y)))

    def wrapping(self, kind: str, x: Value, y: Value) -> Value:
        """``x KIND y`` of any numbers: sums, differences and products of i32 that overflow C leaves undefined."""
        if x.tile.dtype is not i32 or kind not in ("add", "sub", "mul"):
            return self.emit(Binary(kind, x, y))
        unsigned = [self.emit(Cast(v, u32)) for v in (x, y)]
        return self.emit(Cast(self.emit(Binary(kind, *unsigned)), i32))

    def compare(self, kind: str, x: Value, y: Value | int) -> Value:
        if isinstance(y, int):
            y = self.const(y, x.tile.dtype)
        x, y = self.same_width(x, y)
        return self.emit(Compare(kind, x, y))

    def same_width(self, x: Value, y: Value) -> tuple[Value, Value]:
        """Both operands in the wider of their types."""
        if x.tile.dtype is y.tile.dtype:
            return x, y
        return self.widen(x, i64), self.widen(y, i64)

    def widen(self, x: Value, dtype: DType) -> Value:
        """``x`` in the registers of another type."""
        dtype = register_type(dtype)
        return x if x.tile.dtype is dtype else self.emit(Cast(x, dtype))

    def both(self, x: Value | None, y: Value | None) -> Value | None:
        """The conjunction of two predicates, None standing for true."""
        if x is None or y is None:
            return y if x is None else x
        return self.emit(Binary("and", x, y))

    def extract(self, vector: Value, index: int) -> Value:
        """Element ``index`` of a vector; the value itself where it is a scalar."""
        if vector.tile.is_scalar:
            return vector
        maker = vector.defining
        if isinstance(maker, Pack) and all(p.tile.is_scalar for p in maker.parts):
            return maker.parts[index]
        return self.emit(Extract(vector, index))

    def take(self, vector: Value, indices: Sequence[int]) -> Value:
        """Elements of a vector, as a vector."""
        wanted = tuple(indices)
        if wanted == tuple(range(vector.tile.size)):
            return vector
        return self.emit(Shuffle(vector, wanted))

    def pack(self, parts: Sequence[Value]) -> Value:
        if len(parts) == 1 and not parts[0].tile.is_scalar:
            return parts[0]
        return self.emit(Pack(tuple(parts)))

    def splat(self, value: Value, count: int) -> Value:
        return self.emit(Broadcast(value, (count,)))

    def at_entry(self, key: object, build: Callable[[], Value]) -> Value:
        """A value that depends on the thread only, computed once at the kernel's beginning; after a loop once more,
        so that it takes no register in the loop."""
        if not self.phase:
            return self.in_prologue(key, build)
        found = self.after_loops.get(key)
        if found is None:
            # What holds the current block is appended to the top once its regions are complete.
            outer, self.block = self.block, self.top
            found = self.after_loops[key] = build()
            self.block = outer
        return found

    def in_prologue(self, key: object, build: Callable[[], Value]) -> Value:
        found = self.prologue.get(key)
        if found is None:
            outer, self.block = self.block, Block()
            found = self.prologue[key] = build()
            self.prologue_ops += self.block.ops
            self.block = outer
        return found

    # -- threads

    def special(self, register: str) -> Value:
        return self.at_entry(register, lambda: self.emit(SpecialRegister(register, self.phase)))

    def grid_index(self, value: Value) -> Value:
        """The block's index that a tile-level ``GridIndex`` gives."""
        assert isinstance(value.defining, GridIndex)
        axis, dtype = value.defining.axis, self.element_type(value)
        return self.at_entry(("block", axis, dtype), lambda: self.widen(self.block_number(axis), dtype))

    def block_number(self, axis: int) -> Value:
        """The block's number along an axis of the grid, i32; what is launched: ``lowering/schedule/raster.py``."""
        if self.function.attributes.folded:
            return self._folded_number(axis)
        number = self.special(f"ctaid.{'xyz'[axis]}")
        if not self.grid or axis == 1:
            return number
        group, rank = self.special("ctaid.z"), self.function.attributes.grid_rank
        if rank == 2:
            return self.binary("add", self.binary("mul", group, self.special("nctaid.x")), number)
        quotient = self.at_entry("outermost", lambda: self._divide(group, self.grid["grid.groups"]))
        if axis == 2:
            return quotient
        group = self.binary("sub", group, self.binary("mul", quotient, self.grid["grid.groups"]))
        return self.binary("add", self.binary("mul", group, self.special("nctaid.x")), number)

    def _folded_number(self, axis: int) -> Value:
        """The digits of the block's number in its order."""
        number = self.special("ctaid.x")
        for before, extent in enumerate(self.grid.values()):
            quotient = self.at_entry(("folded", before), lambda x=number, y=extent: self._divide(x, y))  # type: ignore[misc]
            if axis == before:
                return self.binary("sub", number, self.binary("mul", quotient, extent))
            number = quotient
        return number

    def _folded_size(self, axis: int) -> Value:
        extents = list(self.grid.values())
        if axis < len(extents):
            return extents[axis]
        size = self.special("nctaid.x")
        for before, extent in enumerate(extents):
            size = self.at_entry(("folded size", before), lambda x=size, y=extent: self._divide(x, y))  # type: ignore[misc]
        return size

    def _divide(self, x: Value, y: Value) -> Value:
        return self.emit(Cast(self.emit(Binary("floordiv", self.emit(Cast(x, u32)), self.emit(Cast(y, u32)))), i32))

    def grid_size(self, axis: int) -> Value:
        """The number of blocks along an axis of the grid, i32."""
        if self.function.attributes.folded:
            return self._folded_size(axis)
        if not self.grid or axis == 1:
            return self.special(f"nctaid.{'xyz'[axis]}")
        if axis == 0:
            return self.grid["grid.x"]
        return self.at_entry("outer", lambda: self._divide(self.special("nctaid.z"), self.grid["grid.groups"]))

    def loop_begins(self) -> None:
        self.loops += 1

    def loop_ends(self) -> None:
        self.loops -= 1
        if not self.loops:
            self.begin_phase(self.phase + 1)

    def begin_phase(self, phase: int) -> None:
        """From here on, what depends on the thread only is computed again from special registers read again."""
        self.phase = phase
        self.after_loops.clear()

    @contextlib.contextmanager
    def branch(self, region: Block, lowered: Block) -> Iterator[None]:
        """While a branch is lowered. What depends on the thread only is computed in it after its loops, rather than
        before the branch; so it is, after the branch, for what comes then."""
        outer, self.block = self.block, lowered
        if self.loops or not any(isinstance(op, (For, While)) for op in region.walk()):
            yield
            self.block = outer
            return
        top, self.top = self.top, lowered
        phase, before = self.phase, dict(self.after_loops)
        yield
        self.block, self.top = outer, top
        self.branches = max(self.branches, self.phase)
        self.phase, self.after_loops = phase, before

    def branches_end(self) -> None:
        """After all branches of an operation."""
        if self.branches > self.phase:
            self.begin_phase(self.branches)

    def tid(self) -> Value:
        """The thread's number within its group, i32."""
        if not self.first_warp:
            return self.special("tid")
        first = self.first_warp * self.target.warp_size
        return self.at_entry(("tid", first), lambda: self.binary("sub", self.special("tid"), first))

    def thread_index(self, layout: RegisterLayout, dim: int) -> Value | None:
        """The thread part of the index along ``dim``, i32; None where it is 0."""
        terms = layout.thread_terms(dim)
        if not terms:
            return None
        count = layout.num_threads
        return self.at_entry((self.first_warp, count, terms), lambda: self._sum_terms(terms, count))

    def _sum_terms(self, terms: Sequence[tuple[int, int, int]], count: int) -> Value:
        total: Value | None = None
        for divisor, modulus, multiplier in terms:
            part = self.digit(divisor, modulus, count)
            part = self.binary("mul", part, multiplier)
            total = part if total is None else self.binary("add", total, part)
        assert total is not None
        return total

    def digit(self, divisor: int, modulus: int, count: int) -> Value:
        """``tid // divisor % modulus`` where there are ``count`` threads."""

        def build() -> Value:
            value = self.tid()
            if divisor > 1:
                value = self.unsigned("floordiv", value, divisor)
            if divisor * modulus < count:
                value = self.unsigned("mod", value, modulus)
            return value

        return self.at_entry(("digit", self.first_warp, divisor, modulus, count), build)

    def unsigned(self, kind: str, x: Value, y: int) -> Value:
        """Floor division or remainder of a non-negative i32 by a positive constant."""
        if y & (y - 1) == 0:
            if kind == "floordiv":
                return self.binary("shr", x, y.bit_length() - 1) if y > 1 else x
            return self.binary("and", x, y - 1)
        wide = self.emit(Cast(x, u32))
        return self.emit(Cast(self.emit(Binary(kind, wide, self.const(y, u32))), i32))

    def first_replica(self, layout: RegisterLayout) -> Value | None:
        """Whether this thread is the first holder of its elements; None where it always is."""
        predicate: Value | None = None
        for divisor, size in layout.replica_terms:
            digit = self.digit(divisor, size, layout.num_threads)
            predicate = self.both(predicate, self.at_entry(
                ("replica", self.first_warp, divisor, size, layout.num_threads),
                lambda digit=digit: self.compare("eq", digit, 0)))  # type: ignore[misc]
        return predicate

    # -- pointers

    def move(self, pointer: Value, offset: Value | None, constant: int = 0) -> Value:
        if offset is None and not constant:
            return pointer
        return self.emit(PtrAdd(pointer, offset, constant))

    def pointer_as(self, pointer: Value, dtype: DType) -> Value:
        assert isinstance(pointer.type, PointerType)
        return pointer if pointer.type.dtype is dtype else self.emit(PtrCast(pointer, dtype))

    def shared_pointer(self, offset: int, dtype: DType) -> Value:
        def build() -> Value:
            if bits.is_narrow(dtype):
                return self.emit(PtrCast(self.emit(SharedBase(offset, u8)), dtype))
            return self.emit(SharedBase(offset, dtype))

        return self.in_prologue(("shared", offset, dtype), build)

    # -- what tile-level values have become

    def value(self, value: Value) -> Value:
        """What a tile-level value has become; a tile whose loads were put off is loaded now."""
        if self.phase and isinstance(value.defining, GridIndex):
            return self.grid_index(value)  # read again, so that it takes no register in the loops
        found = self.values.get(value)
        if found is None:
            words = self.dense.get(value)
            if words is not None:
                count = locals_of(value) if value.tile.shape else 0
                return self._remade("codes", value, lambda: bits.unpacked(self, words, value.tile.dtype, count))
            found = self.pack(self.deferred[value].all())
            self.set(value, found)
        return found

    def words(self, value: Value) -> Value:
        """A tile (or scalar) whose elements fill no register as words of 32 bits, in which they are dense."""
        found = self.dense.get(value)
        if found is None:
            codes = self.value(value)
            found = self._remade("words", value, lambda: bits.packed(self, codes, value.tile.dtype.bits))
        return found

    def _remade(self, form: str, value: Value, make: Callable[[], Value]) -> Value:
        """Another form of a value, made once in a block and those that it encloses."""
        block, found = self.remade.get((form, value), (None, None))
        if found is None or not (block is self.block or any(block is b for b in self.enclosing)):
            found = make()
            if not found.name:
                found.name = value.name
            self.remade[form, value] = self.block, found
        return found

    def set_words(self, value: Value, words: Value) -> None:
        """What such a tile has become, as words."""
        self.dense[value] = words
        if not words.name:
            words.name = value.name

    def scalar_as(self, value: Value, dtype: DType) -> Value:
        """A tile-level integer scalar in a given width."""
        return self.widen(self.values[value], dtype)

    def set(self, value: Value, lowered: Value) -> None:
        self.values[value] = lowered
        if not lowered.name:
            lowered.name = value.name

    def element_type(self, value: Value) -> DType:
        """The thread-level element type: i64 is narrowed where the facts allow."""
        dtype = value.tile.dtype
        if dtype is i64 and self.facts.of(value).fits(32):
            return i32
        return register_type(dtype)

    def thread_type(self, value: Value) -> TileType:
        return TileType(self.element_type(value), (locals_of(value),) if value.tile.shape else ())


def locals_of(value: Value) -> int:
    """How many registers each thread has of a tile."""
    layout = value.tile.layout
    assert layout is not None
    return layout.num_locals


def layout_of(value: Value) -> RegisterLayout:
    layout = value.tile.layout
    assert layout is not None
    return layout


def finish_block(thread: Thread, block: Block, values: Sequence[Value]) -> None:
    block.ops.append(Yield(tuple(values), span=thread.span))


_NOTHING = Value(TileType(bool_))
