"""Kernels with products are divided: the matrix core does those, its vector cores the rest.

Both sides have the control flow and the scalars of the kernel. A product is followed by a :class:`Send` where vectors
need it, and a tile that vectors compute by one where a product does; the other side has a :class:`Receive` in its
place.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilus.diagnostics import Span
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.dtypes import bf16, f16, f32
from tilus.ir.ops import Assume, Binary, Cast, Const, Dot, For, If, Load, PermuteView, Store, Subview, Transpose, Yield
from tilus.ir.ops.cores import Receive, Send, Side
from tilus.ir.rewriter import erase_dead, find_users, replace_values
from tilus.ir.types import TileType
from tilus.lowering.ascend.accumulators import Accumulator, accumulators, is_zero
from tilus.records import record
from tilus.targets.ascend import CROSS_FLAGS, SLOTS

Users = dict[Value, list[Operation]]


def split_sides(module: Module) -> None:
    """Divide the kernels that have products, in place."""
    for function in module.kernels:
        if any(isinstance(op, Dot) for op in function.walk()):
            separate_sums(function)
            _split(function)


# -- accumulators


def separate_sums(function: Function) -> None:
    """Accumulators that nothing but products touch stay with those; other sums are vectors' work."""
    for accumulator in accumulators(function.body, from_zero=False):
        if not is_zero(accumulator.loop.init[accumulator.index]):
            _begin_with_zeros(accumulator, function)
    kept = {id(op) for accumulator in accumulators(function.body) for op in accumulator.products}
    for block in _blocks(function.body):
        ops: list[Operation] = []
        for op in block.ops:
            ops.append(op)
            if isinstance(op, Dot) and not is_zero(op.accumulator) and id(op) not in kept:
                _separate(op, ops, block)
        block.ops = ops


def _begin_with_zeros(accumulator: Accumulator, function: Function) -> None:
    """What a sum begins with is added after the loop."""
    loop, index = accumulator.loop, accumulator.index
    result, init = accumulator.result, loop.init[index]
    block = next(b for b in _blocks(function.body) if loop in b.ops)
    zero = _zero(loop, result)
    loop.init = tuple(zero.result if n == index else v for n, v in enumerate(loop.init))
    total = Binary("add", init, result, span=loop.span)
    replace_values(function.body, {result: total.result})
    total.rhs = result
    total.result.name, result.name = result.name, ""
    at = block.ops.index(loop)
    block.ops[at:at + 1] = [zero, loop, total]


def _zero(like: Operation, value: Value) -> Const:
    dtype = value.tile.dtype
    return Const(0.0 if dtype.is_float else 0, dtype, value.tile.shape, span=like.span)


def _separate(op: Dot, ops: list[Operation], block: Block) -> None:
    zero = _zero(op, op.result)
    total = Binary("add", op.accumulator, op.result, span=op.span)
    for other in block.walk():
        if other is not total:
            other.map_operands(lambda v: total.result if v is op.result else v)
    total.result.name, op.result.name = op.result.name, ""
    op.accumulator = zero.result
    ops.insert(len(ops) - 1, zero)
    ops.append(total)


def _blocks(block: Block) -> list[Block]:
    return [block, *(inner for op in block.ops for region in op.regions for inner in _blocks(region))]


# -- sides


@record(eq=False)
class _Work:
    """Which operations are the matrix core's: products (those of ``kept`` stay accumulators of a loop), the loads of
    their operands, and stores of results that take no more than a conversion."""

    products: set[Value]
    kept: set[Value]
    loads: set[Value]
    stores: set[Operation]


def _split(function: Function) -> None:
    users = find_users(function)
    work = _matrix_work(function, users)
    sides = []
    for kind, other in (("cube", False), ("vector", True)):
        mapping: dict[Value, Value] = {}
        body = Block()
        body.ops = [op.clone(mapping) for op in function.body.ops]
        twin = {id(a): b for a, b in zip(_walk(function.body.ops), _walk(body.ops), strict=True)}
        _edit(function, body, work, users, mapping, twin, vector=other)
        _prune(body)
        sides.append(Side(kind, body, span=function.span))
    if not any(isinstance(op, (Send, Receive)) for side in sides for op in side.walk()) and not _stores(sides[1]):
        sides = sides[:1]
    function.body.ops = [*sides, Yield()]


def _stores(side: Side) -> bool:
    return any(not isinstance(op, (Yield, Const)) and op.effects() and not all(
        e.kind in ("read", "alloc", "assume") for e in op.effects()) for op in side.body.walk())


def _walk(ops: Sequence[Operation]) -> list[Operation]:
    return [inner for op in ops for inner in op.walk()]


def _matrix_work(function: Function, users: Users) -> _Work:
    products: set[Value] = set()
    kept: set[Value] = set()
    stores: set[Operation] = set()
    loads: set[Value] = set()
    for op in function.walk():
        if isinstance(op, Dot):
            products.add(op.result)
    for accumulator in accumulators(function.body):
        kept |= accumulator.values
        products |= {*accumulator.values, accumulator.result}
    for op in function.walk():
        if isinstance(op, Dot):
            for operand in (op.a, op.b):
                source = operand
                while isinstance(source.defining, Transpose):
                    source = source.defining.x
                if isinstance(source.defining, Load) and _plain(source.defining):
                    loads.add(source)
        elif isinstance(op, Store) and op.mask is None and _result_of(op.value) in products and _convertible(op) and (
                _stride(function, op.view, op.value.tile.rank - 1) == 1):
            stores.add(op)
    return _Work(products, kept, loads, stores)


def _plain(op: Load) -> bool:
    """Whether the matrix core can load it: zeros beyond the array."""
    return op.mask is None and (op.other is None or is_zero(op.other)) and op.result.tile.rank == 2


def _result_of(value: Value) -> Value:
    return value.defining.x if isinstance(value.defining, Cast) else value


def _stride(function: Function, view: Value, axis: int) -> int | None:
    """The stride of a view along an axis, where it is known."""
    op = view.defining
    if isinstance(op, PermuteView):
        return _stride(function, op.view, op.permutation[axis])
    if isinstance(op, Subview):
        kept = [d for d in range(op.view.view.rank) if d not in op.dropped]
        return _stride(function, op.view, kept[axis])
    for value, parameter in zip(function.body.args, function.parameters, strict=False):
        if value is view:
            return parameter.strides[axis] if parameter.strides else None
    return None


def _convertible(op: Store) -> bool:
    source = _result_of(op.value).tile.dtype
    return source is op.value.tile.dtype or (source is f32 and op.value.tile.dtype in (f16, bf16))


def _edit(function: Function, body: Block, work: _Work, users: Users, mapping: dict[Value, Value],
          twin: dict[int, Operation], *, vector: bool) -> None:
    """Put sends and receives into a copy of the kernel, and take out what the other side does."""
    channels = _channels(function, work, users)
    after: dict[int, list[Operation]] = {}
    replaced: dict[Value, Value] = {}
    gone: set[int] = set()
    numbers = _numbers(function, channels)
    if 2 * SLOTS * len(set(numbers)) > CROSS_FLAGS:
        numbers = _fewest(channels)
    for (value, from_vector), number in zip(channels, numbers, strict=True):
        mine = mapping[value]
        place, span = _place(value, mine, twin)
        if from_vector == vector:
            after.setdefault(place, []).append(Send(mine, number, span=span))
        else:
            got = Receive(number, value.tile.dtype, value.tile.shape, span=span)
            got.result.name = value.name
            after.setdefault(place, []).append(got)
            replaced[mine] = got.result
    for op in function.walk():
        mine_op = twin[id(op)]
        others = isinstance(op, Store) and (op in work.stores) == vector
        both = isinstance(op, (Store, Load)) or (isinstance(op, Assume) and _of_scalars(op.condition))
        if others or (op.effects() and not vector and not both):
            gone.add(id(mine_op))
    _rewrite(body, after, gone)
    if vector:  # sums of the matrix core go through as they were
        replaced.update((mapping[op.result], mapping[op.accumulator]) for op in function.walk()
                        if isinstance(op, Dot) and op.result in work.kept)
    for op in body.walk():
        if not isinstance(op, Send):
            op.map_operands(lambda v: _resolved(v, replaced))


def _of_scalars(value: Value) -> bool:
    """Whether a value is computed from scalars, with nothing read from memory."""
    maker = value.defining
    if maker is None or not isinstance(value.type, TileType):
        return True
    return value.tile.is_scalar and not maker.effects() and not maker.regions and all(map(_of_scalars, maker.operands))


def _resolved(value: Value, replaced: dict[Value, Value]) -> Value:
    while value in replaced:
        value = replaced[value]
    return value


def _place(value: Value, mine: Value, twin: dict[int, Operation]) -> tuple[int, Span]:
    """What a value's copy comes after: the operation that makes it, or the beginning of its block."""
    if isinstance(value.owner, Operation):
        return id(twin[id(value.owner)]), value.owner.span
    block = mine.owner
    assert isinstance(block, Block)
    return id(block), block.ops[0].span


def _rewrite(block: Block, after: dict[int, list[Operation]], gone: set[int]) -> None:
    ops: list[Operation] = list(after.get(id(block), []))
    for op in block.ops:
        for region in op.regions:
            _rewrite(region, after, gone)
        if id(op) not in gone:
            ops.append(op)
        ops += after.get(id(op), [])
    block.ops = ops


def _channels(function: Function, work: _Work, users: Users) -> list[tuple[Value, bool]]:
    """The tiles that go from one side to the other, and whether they come from vectors, in the kernel's order."""
    channels: list[tuple[Value, bool]] = []
    for op in function.walk():
        for value in (*op.results, *(arg for region in op.regions for arg in region.args)):
            if not isinstance(value.type, TileType) or not value.type.shape:
                continue
            used = users.get(value, [])
            if value in work.products:
                if any(not _matrix_use(value, user, work, users) for user in used):
                    channels.append((value, False))
            elif not _from_loads(value, work) and any(isinstance(u, Dot) and value in (u.a, u.b) for u in used):
                channels.append((value, True))
    return channels


def _numbers(function: Function, channels: Sequence[tuple[Value, bool]]) -> list[int]:
    """The channels' numbers: tiles that are alike share one where they are of loops that follow each other."""
    paths = _paths(function.body, ())
    numbers: list[int] = []
    for n, (value, from_vector) in enumerate(channels):
        path = paths[value]
        shared = [numbers[m] for m, (other, direction) in enumerate(channels[:n])
                  if direction == from_vector and other.tile == value.tile and _follow(paths[other], path)
                  and all(_follow(paths[v], path) for (v, _), k in zip(channels[:n], numbers, strict=True)
                          if k == numbers[m])]
        numbers.append(shared[0] if shared else max(numbers, default=-1) + 1)
    return numbers


def _fewest(channels: Sequence[tuple[Value, bool]]) -> list[int]:
    """One for all tiles that are alike: both sides send and receive them in the kernel's order."""
    kinds = [(value.tile, from_vector) for value, from_vector in channels]
    return [list(dict.fromkeys(kinds)).index(kind) for kind in kinds]


def _paths(block: Block, path: tuple[int, ...]) -> dict[Value, tuple[int, ...]]:
    """For each value the places of the operations that it lies in, outermost first."""
    found: dict[Value, tuple[int, ...]] = {}
    for place, op in enumerate(block.ops):
        found.update((r, path) for r in op.results)
        for region in op.regions:
            found.update((arg, (*path, place)) for arg in region.args)
            found.update(_paths(region, (*path, place)))
    return found


def _follow(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two values lie in loops of which neither is in the other."""
    return a[:len(b)] != b and b[:len(a)] != a


def _from_loads(value: Value, work: _Work) -> bool:
    source = value
    while isinstance(source.defining, Transpose):
        source = source.defining.x
    return source in work.loads


def _matrix_use(value: Value, user: Operation, work: _Work, users: Users) -> bool:
    """Whether a use of a product is the matrix core's own."""
    if isinstance(user, Dot):
        return user.accumulator is value and value not in (user.a, user.b)
    if isinstance(user, Cast):
        return bool(users.get(user.result)) and all(u in work.stores for u in users[user.result])
    if isinstance(user, (Yield, For)):
        return value in work.kept
    return user in work.stores


# -- what a side does not need


def _prune(body: Block) -> None:
    """Take out what nothing uses, carried values of loops included."""
    holder = Function("side", body, ())
    while True:
        _skip_unchanged(body)
        removed = erase_dead(holder) + _prune_loops(body)
        users = find_users(holder)
        removed += sum(_prune_branch(op, users) for op in body.walk() if isinstance(op, If))
        if not removed:
            return


def _skip_unchanged(body: Block) -> None:
    """What loops and branches hand through as it is, is used as it was before them."""
    same: dict[Value, Value] = {}
    for op in body.walk():
        if isinstance(op, For):
            for init, arg, value, result in zip(op.init, op.carried, op.body.terminator.operands, op.results,
                                                strict=True):
                if value is arg:
                    same[arg] = same[result] = init
        elif isinstance(op, If):
            for x, y, result in zip(op.then.terminator.operands, op.orelse.terminator.operands, op.results,
                                    strict=True):
                if x is y:
                    same[result] = x
    replace_values(body, same)


def _prune_loops(body: Block) -> int:
    """Carried values that serve only to compute their own next ones, in loops of any depth."""
    live, dropped = _live(body), 0
    begun: dict[Value, Value] = {}
    for op in body.walk():
        if isinstance(op, For):
            keep = [n for n in range(len(op.init)) if op.results[n] in live or op.carried[n] in live]
            gone = [n for n in range(len(op.init)) if n not in keep]
            begun.update((value, op.init[n]) for n in gone for value in (op.carried[n], op.results[n]))
            dropped += len(gone)
            if gone:
                _keep_carried(op, keep)
    replace_values(body, begun)                                    # of what is itself not used
    return dropped


def _keep_carried(loop: For, keep: Sequence[int]) -> None:
    terminator = loop.body.terminator
    assert isinstance(terminator, Yield)
    terminator.values = tuple(terminator.values[n] for n in keep)
    loop.init = tuple(loop.init[n] for n in keep)
    loop.body.args = [loop.body.args[0], *(loop.carried[n] for n in keep)]
    loop.results = tuple(loop.results[n] for n in keep)
    for values in (loop.body.args, loop.results):
        for index, value in enumerate(values):
            value.index = index


def _prune_branch(branch: If, users: Users) -> int:
    keep = [n for n, result in enumerate(branch.results) if users.get(result)]
    dropped = len(branch.results) - len(keep)
    if dropped:
        for block in (branch.then, branch.orelse):
            terminator = block.terminator
            assert isinstance(terminator, Yield)
            terminator.values = tuple(terminator.values[n] for n in keep)
        branch.results = tuple(branch.results[n] for n in keep)
        for index, result in enumerate(branch.results):
            result.index = index
    return dropped


def _live(body: Block) -> set[Value]:
    """The values that reach an effect."""
    live: set[Value] = set()
    waiting: list[Value] = []
    ways = {value: sources for op in body.walk() for value, sources in _ways(op)}
    for op in body.walk():
        if isinstance(op, For):
            waiting += [op.start, op.stop, op.step]
        elif isinstance(op, If):
            waiting.append(op.condition)
        elif op.regions or any(e.kind not in ("read", "alloc") for e in op.effects()):
            waiting += [*op.operands, *(v for region in op.regions for v in region.terminator.operands)]
    while waiting:
        value = waiting.pop()
        if value not in live:
            live.add(value)
            waiting += ways.get(value, ())
    return live


def _ways(op: Operation) -> list[tuple[Value, Sequence[Value]]]:
    """What an operation's values are computed from."""
    if isinstance(op, For):
        pairs = list(zip(op.init, op.body.terminator.operands, strict=True))
        return [*zip(op.results, pairs, strict=True), *zip(op.carried, pairs, strict=True)]
    if isinstance(op, If):
        return list(zip(op.results, zip(op.then.terminator.operands, op.orelse.terminator.operands, strict=True),
                        strict=True))
    return [(result, op.operands) for result in op.results]
