"""The launch function of a module for the host: grid, workspaces, and the loop that a core runs over blocks.

Two functions come out. ``launch(arguments, runtime)`` evaluates the launch function over packed arguments and gives
0 or the number of the check that failed plus one. ``run_KERNEL(state, frame)`` takes blocks from the launch's counter
until none is left; the pool runs it on every core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tilus.diagnostics import Diagnostic, Label
from tilus.ir.attributes import Attributes
from tilus.ir.core import Block, Function, Module, Value
from tilus.ir.dtypes import i32, i64, u8
from tilus.ir.ops import (
    Alloca,
    Binary,
    Cast,
    Const,
    Dim,
    Dot,
    GridSync,
    Launch,
    NamedBarrier,
    PtrLoad,
    PtrStore,
    WaitUntil,
    While,
    Workspace,
    Yield,
)
from tilus.ir.ops.simd import (
    AtomicFence,
    CallFunction,
    CallPointer,
    FunctionAddress,
    IntToPtr,
    PtrToInt,
)
from tilus.ir.ops.thread import AtomicLoad, PtrAtomic
from tilus.ir.types import PointerType, TileType
from tilus.lowering.cpu.crowding import Crowd, dominates, ends_by_itself, is_better_alone, is_shared
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.kept_operands import MEMO_STRIDE, MEMOS_OF_DOT, PANELS_KEPT, count_memos, may_group
from tilus.lowering.cpu.kept_tiles import forget as forget_tiles
from tilus.lowering.cpu.kept_tiles import kept_dots
from tilus.lowering.cpu.launch_function import LaunchFunction
from tilus.lowering.cpu.narrow_vectors import vector_bits
from tilus.lowering.cpu.neighbours import FOLLOWING, blocks_together, memory_words, products, shared_axis
from tilus.lowering.cpu.neighbours import forget as forget_neighbours
from tilus.lowering.cpu.nest import SHORT
from tilus.lowering.cpu.parts import parts_of_blocks
from tilus.lowering.cpu.state import (
    LONE_ATOMICS,
    NO_ATOMICS,
    RUNTIME_ALLOCATE,
    RUNTIME_COOPERATE,
    RUNTIME_FREE,
    RUNTIME_POOL,
    RUNTIME_RUN,
    RUNTIME_THREADS,
    RUNTIME_WORDS,
    SHARED_ATOMICS,
    STATE_ALONE,
    STATE_ARGUMENTS,
    STATE_ARRIVED,
    STATE_ATOMICS,
    STATE_CHUNK,
    STATE_ERROR,
    STATE_GRID0,
    STATE_GRID1,
    STATE_GRID2,
    STATE_NEXT,
    STATE_PARTS,
    STATE_RUNTIME,
    STATE_TOGETHER,
    STATE_TOTAL,
    STATE_WAITS,
    STATE_WORDS,
    call_runtime,
    pause_if_due,
    tick_seen,
)
from tilus.lowering.cpu.values import Machine, Number
from tilus.lowering.cpu.wide_blocks import STRIP_BYTES, WideKernel, strip_bytes
from tilus.lowering.cpu.work import MUCH, UNKNOWN, Sum, Work


def lower_launch(module: Module, frame_bytes: int, checks: list[Diagnostic], machine: Machine,
                 together: Mapping[str, WideKernel]) -> list[Function]:
    """The functions described above; assertions of the launch are appended to ``checks``. ``together`` has kernels'
    second versions, by the names of the first."""
    launch = module.launch
    assert launch is not None
    functions: list[Function] = []
    for kernel in module.kernels:
        functions += _cooperative_runner(kernel, frame_bytes) if is_cooperative(kernel) else \
            [_runner(kernel, together.get(kernel.name), vector_bits(kernel, machine))]
    functions.append(_Launcher(module, launch, frame_bytes, checks, machine, together).run())
    return functions


def is_cooperative(kernel: Function) -> bool:
    """Whether the blocks of a kernel run as tasks that can be suspended, since they wait for each other."""
    return kernel.attributes.cooperative or any(isinstance(op, GridSync) for op in kernel.walk())


def _waits(kernel: Function) -> bool:
    """Whether blocks, or groups of them, wait for anything."""
    return any(isinstance(op, (WaitUntil, GridSync, NamedBarrier)) for op in kernel.walk())


def _cooperative_runner(kernel: Function, frame_bytes: int) -> list[Function]:
    """``run_KERNEL(state, frame)`` hands the blocks to the runtime, which gives each a stack and a frame of its own and
    calls ``enter_KERNEL(state, frame, index)`` there."""
    body = Block([PointerType(i64), PointerType(u8, "local"), TileType(i64)], ["state", "frame", "index"])
    c = Cursor(body)
    state, frame, index = body.args
    _forget_memos(c, kernel, frame)
    extents = [c.b.add(PtrLoad(c.offset(state, STATE_GRID0 + i))).result for i in range(2)]
    arguments = c.b.add(IntToPtr(c.b.add(PtrLoad(c.offset(state, STATE_ARGUMENTS))).result, i64)).result
    _call_block(c, kernel, arguments, frame, state, index, extents)
    c.b.add(Yield(()))
    enter = Function(f"enter_{kernel.name}", body, (), Attributes(linkage="internal"), kernel.span)
    body = Block([PointerType(i64), PointerType(u8, "local")], ["state", "frame"])
    c = Cursor(body)
    state = body.args[0]
    address = c.b.add(FunctionAddress(f"enter_{kernel.name}")).result
    call_runtime(c, state, RUNTIME_COOPERATE, (state, state, address, c.const(frame_bytes), c.const(0)))
    c.b.add(Yield(()))
    return [enter, Function(f"run_{kernel.name}", body, (), Attributes(linkage="internal"), kernel.span)]


def _forget_memos(c: Cursor, kernel: Function, frame: Value) -> None:
    """What another launch has left in the memories of packed panels is of no use."""
    for memo in range(count_memos(kernel) * MEMOS_OF_DOT):
        key = c.as_pointer(c.offset(frame, memo * MEMO_STRIDE), i64)
        c.b.add(PtrStore(key, c.const(0)))
    forget_neighbours(c, _neighbour_memories(c, kernel, frame))
    shared = 8 * memory_words(kernel) * len(list(products(kernel))) if shared_axis(kernel) is not None else 0
    first = count_memos(kernel) * MEMOS_OF_DOT * MEMO_STRIDE + shared
    forget_tiles(c, dots_that_keep(kernel), c.as_pointer(c.offset(frame, first), i64))


def dots_that_keep(kernel: Function) -> list[Dot]:
    """The dots whose tiles of B a core keeps packed; none where each block has a frame of its own."""
    return [] if is_cooperative(kernel) else kept_dots(kernel)


def _neighbour_memories(c: Cursor, kernel: Function, frame: Value) -> list[Value]:
    """The memories of products that blocks side by side share: they lie behind the others."""
    if shared_axis(kernel) is None:
        return []
    first, size = count_memos(kernel) * MEMOS_OF_DOT * MEMO_STRIDE, 8 * memory_words(kernel)
    return [c.as_pointer(c.offset(frame, first + n * size), i64) for n in range(len(list(products(kernel))))]


def _follow(c: Cursor, memories: list[Value], axis: int, index: Value, stop: Number, state: Value) -> None:
    """Say how many of the blocks that come next lie side by side with this one along an axis: those that the core has
    taken, where the grid has no other axis and blocks are not divided."""
    others: Number = c.b.add(PtrLoad(c.offset(state, STATE_PARTS))).result
    for other, word in enumerate((STATE_GRID0, STATE_GRID1, STATE_GRID2)):
        if other != axis:
            others = c.mul(others, c.b.add(PtrLoad(c.offset(state, word))).result)
    following = c.select(c.compare("eq", others, 1), c.sub(c.sub(stop, index), 1), 0)
    for memory in memories:
        c.b.add(PtrStore(c.offset(memory, FOLLOWING), c.value(following)))


def _call_block(c: Cursor, kernel: Function, arguments: Value, frame: Value, state: Value, index: Value,
                extents: Sequence[Value]) -> None:
    c.b.add(CallFunction(f"block_{kernel.name}", (arguments, frame, state, *_block_at(c, index, extents))))


def _block_at(c: Cursor, index: Value, extents: Sequence[Value]) -> list[Value]:
    """The coordinates of a block in the grid."""
    b0, rest = c.arith("rem", index, extents[0]), c.arith("quo", index, extents[0])
    return [b0, c.arith("rem", rest, extents[1]), c.arith("quo", rest, extents[1])]


def _grouped_block_at(c: Cursor, index: Value, extents: Sequence[Value]) -> list[Value]:
    """The coordinates of a block where those of a few columns of the grid go together, row by row."""
    rows, columns = extents
    place, plane = (c.arith(kind, index, c.mul(rows, columns)) for kind in ("rem", "quo"))
    first = c.mul(c.arith("quo", place, c.mul(rows, PANELS_KEPT)), PANELS_KEPT)
    width = c.min(c.sub(columns, first), PANELS_KEPT)
    within = c.sub(place, c.mul(first, rows))
    return [c.arith("quo", within, width), c.value(c.add(first, c.arith("rem", within, width))), plane]


def is_grouped(kernel: Function) -> bool:
    """Whether blocks of some columns of the grid go together, which they do not where they wait for earlier ones, or
    where those of a column share tiles."""
    waits = any(isinstance(op, (WaitUntil, GridSync)) for op in kernel.walk())
    return may_group(kernel) and not waits and not is_cooperative(kernel) and not dots_that_keep(kernel)


def _next_block(c: Cursor, at: Sequence[Value], extents: Sequence[Value]) -> list[Value]:
    """Those of the block after it."""
    b0, b1, b2 = at
    following = c.value(c.add(b0, 1))
    ends = c.compare("eq", following, extents[0])
    row = c.select(ends, c.add(b1, 1), b1)
    plane = c.compare("eq", row, extents[1])
    return [c.select(ends, 0, following), c.select(plane, 0, row), c.select(plane, c.add(b2, 1), b2)]


def _runner(kernel: Function, wide: WideKernel | None, bits: int) -> Function:
    """``run_KERNEL(state, frame)``: blocks, or their parts, in increasing order, or in groups, a chunk at a time;
    several blocks together by a second version of the kernel where the state says so."""
    body = Block([PointerType(i64), PointerType(u8, "local")], ["state", "frame"])
    c = Cursor(body)
    state, frame = body.args

    def word(index: int) -> Value:
        return c.b.add(PtrLoad(c.offset(state, index))).result

    chunk, total = word(STATE_CHUNK), word(STATE_TOTAL)
    _forget_memos(c, kernel, frame)
    counter = c.offset(state, STATE_NEXT)
    first = c.b.add(PtrAtomic("add", counter, chunk)).result
    arguments = c.b.add(IntToPtr(word(STATE_ARGUMENTS), i64)).result
    extents = [word(STATE_GRID0), word(STATE_GRID1)]

    grouped, axis = is_grouped(kernel), shared_axis(kernel)
    memories = _neighbour_memories(c, kernel, frame)
    parts = word(STATE_PARTS) if kernel.attributes.parts else None
    stepping = not grouped and parts is None
    reached: list[Number] = []

    def block(index: Value, at: list[Value]) -> list[Value]:
        if axis is not None:
            _follow(c, memories, axis, index, reached[0], state)
        part = []
        if parts is not None:
            index, part = c.arith("quo", index, parts), [c.arith("rem", index, parts)]
        if not stepping:
            at = (_grouped_block_at if grouped else _block_at)(c, index, extents)
        c.b.add(CallFunction(f"block_{kernel.name}", (arguments, frame, state, *at, *part)))
        return _next_block(c, at, extents) if stepping else []

    seen = tick_seen(c, state)
    before, after = Block([TileType(i64)]), Block([TileType(i64)])
    outer = c.enter(before)
    c.b.add(Yield((c.compare("lt", before.args[0], total),)))
    c.leave(outer)
    outer = c.enter(after)
    start, stop = after.args[0], c.min(c.add(after.args[0], chunk), total)
    if wide is not None:
        start = _run_together(c, wide, word(STATE_TOGETHER), start, stop, (arguments, frame, state))
    at = _block_at(c, start, extents) if stepping else []
    reached.append(stop)
    c.loop(start, stop, 1, at, block)
    pause_if_due(c, state, seen, None)
    error = c.b.add(AtomicLoad(c.as_pointer(c.offset(state, STATE_ERROR), i64), "relaxed")).result
    following = c.b.add(PtrAtomic("add", counter, chunk)).result
    c.b.add(Yield((c.select(c.compare("eq", error, 0), following, total),)))
    c.leave(outer)
    c.b.add(While((first,), before, after))
    c.b.add(AtomicFence())  # streaming stores are ordered by nothing else
    c.b.add(Yield(()))
    return Function(f"run_{kernel.name}", body, (), Attributes(linkage="internal", vector_bits=bits), kernel.span)


def _run_together(c: Cursor, wide: WideKernel, wanted: Value, start: Value, stop: Number, given: tuple[Value, ...]
                  ) -> Value:
    """Whole groups of the blocks from ``start`` on, which begin with a group; gives the first block that is left."""
    first = c.arith("quo", start, wide.blocks)
    end = c.select(c.compare("ne", wanted, 0), c.arith("quo", stop, wide.blocks), first)
    zero = c.const(0)

    def group(index: Value, _: list[Value]) -> None:
        c.b.add(CallFunction(f"block_{wide.kernel.name}", (*given, index, zero, zero)))

    c.loop(first, end, 1, [], group)
    return c.value(c.select(c.compare("gt", end, first), c.mul(end, wide.blocks), start))


ASSUMED_TRIPS = 16
"""Those of loops that nothing is known of, where parts of a block are compared."""
GROUPS = 4
"""Of blocks that are taken together: how many there have to be for each thread, and a core takes at a time at most."""
STRIPS = 2
"""How many there have to be where they read strips of arrays, which are few in a launch; one of the longer strips."""
_FOLLOWED = ("add", "sub", "mul", "min", "max")


def _rounded_up(c: Cursor, a: Number, b: Number) -> Value:
    """``a / b`` for numbers that are not negative."""
    return c.arith("floordiv", c.add(a, c.sub(b, 1)), b)


class _Launcher(LaunchFunction):
    def __init__(self, module: Module, launch: Function, frame_bytes: int, checks: list[Diagnostic],
                 machine: Machine, wide: Mapping[str, WideKernel]) -> None:
        super().__init__(launch, Block([PointerType(i64), PointerType(i64)], ["arguments", "runtime"]), checks)
        self.module = module
        self.machine = machine
        self.wide = wide
        self.frame_bytes = frame_bytes
        self.workspaces: list[Value] = []

    def run(self) -> Function:
        self.evaluate()
        for pointer in self.workspaces:
            self.call(RUNTIME_FREE, (pointer,))
        self.c.b.add(Yield((self.status,)))
        return Function("launch", self.body, (), Attributes(noalias=(0,)), self.launch.span)

    def call(self, which: int, args: tuple[Value, ...], *returns: TileType | PointerType) -> Value | None:
        c = self.c
        address = c.b.add(PtrLoad(c.offset(self.body.args[1], which))).result
        op = c.b.add(CallPointer(c.b.add(IntToPtr(address, i64)).result, args, returns))
        return op.result if returns else None

    def resident(self) -> Value:
        return self.c.cast(self.threads(), i32)

    def workspace(self, op: Workspace) -> None:
        """Memory for it; the launch fails where there is none."""
        c = self.c
        extents: list[Number] = [self.values[e] for e in op.extents]
        strides, size = self.contiguous(extents)
        size_bytes = c.arith("floordiv", c.add(c.mul(size, max(8, op.dtype.bits)), 7), 8)
        zero = c.const(1 if op.zero else 0)
        pointer = self.call(RUNTIME_ALLOCATE, (c.value(size_bytes), zero), TileType(i64))
        assert pointer is not None
        self.words[op.result] = [pointer, *extents, *strides]
        self.workspaces.append(pointer)
        missing = Diagnostic("E0606", "there is no memory for a workspace", (Label(op.span),) if op.span.known else ())
        self.require(c.compare("ne", pointer, 0), missing)

    def start(self, op: Launch) -> None:
        """Pack the kernel's arguments and run its blocks on the pool, unless something failed before."""
        c, state_words = self.c, STATE_WORDS
        slots = sum(len(self.words[a]) if a in self.words else 1 for a in op.args)
        packed = c.b.add(Alloca(i64, max(1, slots), 16)).result
        slot = 0
        for argument in op.args:
            if argument in self.words:
                for word in self.words[argument]:
                    self.store(packed, slot, c.value(word))
                    slot += 1
            else:
                self.store(packed, slot, self.values[argument])
                slot += 1
        state = c.b.add(Alloca(i64, state_words, 64)).result
        grid, total = self.grid(op)
        address = c.b.add(PtrToInt(packed)).result
        atomics, work = self.atomics(op, self.work(op, total))
        together = self.together(op, total)
        parts = parts_of_blocks(c, self.module.kernel(op.kernel), total, work, self.threads)
        total = c.mul(total, parts)
        entries: dict[int, Number] = {
            STATE_NEXT: 0, STATE_TOTAL: total, STATE_GRID0: grid[0], STATE_GRID1: grid[1], STATE_GRID2: grid[2],
            STATE_ARGUMENTS: address, STATE_ERROR: 0, STATE_CHUNK: self.chunk(op, total, grid, together),
            STATE_RUNTIME: c.b.add(PtrToInt(self.body.args[1])).result, STATE_ARRIVED: 0,
            STATE_WAITS: int(_waits(self.module.kernel(op.kernel))), STATE_ATOMICS: atomics, STATE_ALONE: 0,
            STATE_TOGETHER: together, STATE_PARTS: parts,
            **dict.fromkeys(RUNTIME_WORDS, 0),
        }
        for index, entry in entries.items():
            self.store(state, index, c.value(entry))
        runner = c.b.add(FunctionAddress(f"run_{op.kernel}")).result
        pool = c.b.add(PtrLoad(c.offset(self.body.args[1], RUNTIME_POOL))).result
        frame = c.const(self.frame_bytes)
        runs = c.b.add(Binary("and", c.compare("gt", total, 0), c.compare("eq", self.status, 0))).result

        def go() -> list[Value]:
            self.call(RUNTIME_RUN, (pool, runner, state, c.value(total), frame, c.value(work)))
            return [c.b.add(PtrLoad(c.offset(state, STATE_ERROR))).result]

        self.status = c.branch(runs, go, lambda: [self.status])[0]

    def work(self, op: Launch, total: Number) -> Number:
        """The work of all blocks; more than any where blocks wait for others, which have to run then."""
        kernel = self.module.kernel(op.kernel)
        if is_cooperative(kernel):
            return UNKNOWN
        c = self.c
        each = Sum(c, self._known(op, kernel), Work(c, self.machine.vector_bytes)).of(kernel.body)
        return UNKNOWN if each == UNKNOWN else c.mul(c.min(total, MUCH), each)

    def atomics(self, op: Launch, work: Number) -> tuple[Number, Number]:
        """What the state says of atomics, and the work of the launch: none where it had better stay on one thread."""
        c, kernel = self.c, self.module.kernel(op.kernel)
        if not any(map(is_shared, kernel.walk())):
            return NO_ATOMICS, work
        if _waits(kernel) or is_cooperative(kernel) or not ends_by_itself(kernel):
            return SHARED_ATOMICS, work
        known, crowd = self._known(op, kernel), Crowd(c, self._elements(op, kernel))
        beside, meeting, apart = (
            Sum(c, known, each, ASSUMED_TRIPS).of(kernel.body)
            for each in (Work(c, self.machine.vector_bytes, atomics=False), crowd.meeting, crowd.apart))
        matters = dominates(c, beside, meeting, apart)
        threads = self.threads()
        stays = c.both(matters, is_better_alone(c, threads, beside, meeting, apart))
        assert stays is not None
        return c.select(matters, LONE_ATOMICS, SHARED_ATOMICS), c.select(stays, 0, work)

    def _elements(self, op: Launch, kernel: Function) -> Callable[[Value], Number | None]:
        """How many elements arrays have that a kernel gets, up to MUCH."""
        given = dict(zip(kernel.body.args, op.args, strict=True))

        def count(array: Value) -> Number | None:
            words = self.words.get(given[array]) if array in given else None
            if words is None:
                return None
            total: Number = 1
            for extent in words[1 : 1 + len(words) // 2]:
                total = self.c.min(self.c.mul(total, self.c.min(extent, MUCH)), MUCH)
            return total

        return count

    def _known(self, op: Launch, kernel: Function) -> Callable[[Value], Number | None]:
        """What values of a kernel are that follow from its arguments by sums and products; None for others."""
        c, given = self.c, dict(zip(kernel.body.args, op.args, strict=True))

        def find(value: Value) -> Value | None:
            made = value.owner
            if value in given:
                return self.values.get(given[value])
            if isinstance(made, Const) and value.tile.is_scalar:
                return c.const(made.value, made.dtype)
            if isinstance(made, Dim):
                words = self.words.get(given[made.view]) if made.view in given else None
                return None if words is None else c.value(words[1 + made.axis])
            if isinstance(made, Cast) or (isinstance(made, Binary) and made.kind in _FOLLOWED):
                operands = [find(v) for v in made.operands]
                known = [v for v in operands if v is not None]
                return c.b.add(made.on(known)).result if len(known) == len(operands) else None
            return None

        def number(value: Value) -> Number | None:
            if not value.tile.is_scalar or not value.tile.dtype.is_int:
                return None
            found = find(value)
            return None if found is None else c.number(c.cast(found, i64))

        return number

    def together(self, op: Launch, total: Number) -> Number:
        """How many blocks are taken together: where rows are short, or blocks read strips, and there are groups enough
        for all threads."""
        wide = self.wide.get(op.kernel)
        if wide is None:
            return 0
        c, known = self.c, self._known(op, self.module.kernel(op.kernel))
        given = dict(zip(self.module.kernel(op.kernel).body.args, op.args, strict=True))
        groups = STRIPS * STRIP_BYTES // strip_bytes(self.machine) if wide.strips else GROUPS
        holds: Value | None = c.compare("ge", total, c.mul(self.threads(), groups * wide.blocks))
        for view, d in wide.short:
            holds = c.both(holds, c.compare("le", self.words[given[view]][1 + d], SHORT))
        for loop in wide.once:
            start, stop, step = (known(v) for v in (loop.start, loop.stop, loop.step))
            assert start is not None
            assert stop is not None
            assert step is not None
            holds = c.both(holds, c.both(c.compare("lt", start, stop), c.compare("le", stop, c.add(start, step))))
        assert holds is not None
        return c.select(holds, wide.blocks, 0)

    def threads(self) -> Value:
        return self.c.b.add(PtrLoad(self.c.offset(self.body.args[1], RUNTIME_THREADS))).result

    def chunk(self, op: Launch, total: Number, grid: Sequence[Number], together: Number) -> Number:
        """Blocks, or parts of them, that a core takes at a time: a sixteenth of its share, up to 64, or some whole
        groups of them, or as many as share products. One where blocks wait for others: those are on their way then."""
        if any(isinstance(inner, WaitUntil) for inner in self.module.kernel(op.kernel).walk()):
            return 1
        c = self.c
        threads = self.threads()
        share = c.arith("floordiv", total, c.mul(threads, 16))
        chunk = c.max(c.min(share, 64), 1)
        wide, axis = self.wide.get(op.kernel), shared_axis(self.module.kernel(op.kernel))
        if wide is not None:
            groups = c.max(c.arith("quo", c.min(share, GROUPS * wide.blocks), wide.blocks), 1)
            return c.select(c.compare("ne", together, 0), c.mul(groups, wide.blocks), chunk)
        if axis is None:
            return chunk
        rounds = _rounded_up(c, total, c.mul(threads, blocks_together(self.machine)))
        shared = _rounded_up(c, total, c.max(c.mul(rounds, threads), 1))
        return c.select(c.compare("eq", grid[axis], total), c.max(chunk, shared), chunk)
