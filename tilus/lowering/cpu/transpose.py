"""Tiles whose memory runs along another dimension than their destination's: 8×8 blocks, transposed in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.ir.core import Value
from tilus.ir.ops import Pack, Shuffle
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.evaluate import evaluate, leaves
from tilus.lowering.cpu.memory import store_window
from tilus.lowering.cpu.nest import nest, store_buffer, versions, windows_of
from tilus.lowering.cpu.values import Buffer, Coord, Coords, Lazy, Number, Window

SIDE = 8
_ROUND_1 = ((0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15))
_ROUND_2 = ((0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))
_ROUND_3 = ((0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))

Put = Callable[[Coords, Value], None]


def transpose_registers(self: BlockLowering, rows: Sequence[Value]) -> list[Value]:
    """Eight vectors of eight, transposed: two rounds within halves of 128 bits, one across."""
    b = self.c.b

    def pair(x: Value, y: Value, indices: tuple[int, ...]) -> Value:
        return b.add(Shuffle(b.add(Pack((x, y))).result, indices)).result

    t = [pair(rows[i], rows[i + 1], m) for i in range(0, 8, 2) for m in _ROUND_1]
    u: list[Value] = []
    for i in (0, 4):
        for j in (i, i + 1):
            u += [pair(t[j], t[j + 2], m) for m in _ROUND_2]
    first = [pair(u[i], u[i + 4], _ROUND_3[0]) for i in range(4)]
    return first + [pair(u[i], u[i + 4], _ROUND_3[1]) for i in range(4)]


def source_dim(self: BlockLowering, value: Value) -> int | None:
    """The dimension along which the memory below ``value`` is contiguous, if it is one only."""
    found: set[int] = set()
    for rep, dims in leaves(self, value, tuple(range(value.tile.rank))):
        strides: Sequence[Number] = ()
        if isinstance(rep, Buffer):
            strides = rep.strides
        elif isinstance(rep, Lazy) and rep.window is not None and rep.window.shape:
            if rep.window.memory.packed:
                return None
            strides = rep.window.strides
        for stride, dim in zip(strides, dims, strict=False):
            if dim is not None and isinstance(stride, int) and stride == 1 and value.tile.shape[dim] > 1:
                found.add(dim)
    return found.pop() if len(found) == 1 else None


def copy_transposed(self: BlockLowering, value: Value, shape: tuple[int, ...], along: int, across: int,
                    put: Put, origin: Coords | None = None, stops: Sequence[Number] | None = None) -> None:
    """Evaluate by vectors along dimension ``along`` and ``put`` vectors along ``across``. Blocks that are not full
    go element by element. The elements are those from ``origin`` on, where given; ``put`` counts from 0. What is from
    ``stops`` on need not be there."""
    c = self.c

    def get(coords: Coords) -> Value:
        return evaluate(self, value, coords if origin is None else _moved(self, coords, origin))

    main = tuple(n // SIDE * SIDE if d in (along, across) else n for d, n in enumerate(shape))
    reach: list[Number] = [n if stops is None else c.min(n, stops[d]) for d, n in enumerate(main)]
    saved = self.lanes

    def block(outer: Coords, i: Number, j: Number) -> None:
        self.lanes = SIDE
        coords = list(outer)

        def at(x: Number, vector: bool, r: int = 0) -> Coord:
            return Coord(None, x + r, vector) if isinstance(x, int) else Coord(x, r, vector)

        coords[along] = at(i, True)
        rows = []
        for r in range(SIDE):
            coords[across] = at(j, False, r)
            rows.append(c.splat(get(tuple(coords)), SIDE))
        coords[across] = at(j, True)
        for r, column in enumerate(transpose_registers(self, rows)):
            coords[along] = at(i, False, r)
            put(tuple(coords), column)
        self.lanes = saved

    def blocks(outer: Coords) -> None:
        def inner(i: Value, _: list[Value]) -> list[Value]:
            c.loop(0, reach[across], SIDE, [], lambda j, _: block(outer, i, j))
            return []

        c.loop(0, reach[along], SIDE, [], inner)

    others = tuple(1 if d in (along, across) else n for d, n in enumerate(shape))
    _outer_nest(self, others, blocks, reach)
    _rest(self, get, shape, main, along, across, put)


def _moved(self: BlockLowering, coords: Coords, origin: Coords) -> Coords:
    moved = []
    for x, o in zip(coords, origin, strict=True):
        base = o.base if x.base is None else x.base if o.base is None else self.c.arith("add", o.base, x.base)
        moved.append(Coord(base, x.const + o.const, x.vector, x.step))
    return tuple(moved)


def _outer_nest(self: BlockLowering, shape: tuple[int, ...], body: Callable[[Coords], None],
                stops: Sequence[Number]) -> None:
    nest(self, shape, len(shape) - 1, 1, body, stops)


def _rest(self: BlockLowering, get: Callable[[Coords], Value], shape: tuple[int, ...], main: tuple[int, ...],
          along: int, across: int, put: Put) -> None:
    """The two strips beside the full blocks."""
    strips = [(main[along], 0, shape[along] - main[along], shape[across]),
              (0, main[across], main[along], shape[across] - main[across])]
    for first, second, rows, columns in strips:
        if not rows or not columns:
            continue
        extents = tuple(rows if d == along else columns if d == across else n for d, n in enumerate(shape))
        starts = tuple(first if d == along else second if d == across else 0 for d in range(len(shape)))

        def body(coords: Coords, starts: tuple[int, ...] = starts) -> None:
            at = tuple(x.shifted(s) for x, s in zip(coords, starts, strict=True))
            put(at, get(at))

        nest(self, extents, across, 1, body)


def _worthwhile(shape: tuple[int, ...], along: int, across: int) -> bool:
    return shape[along] >= SIDE and shape[across] >= SIDE


def try_transposed(self: BlockLowering, value: Value, target: Buffer, stops: Sequence[Number]) -> bool:
    """Compute a tile up to ``stops`` into a buffer by transposed blocks, where its memory runs along another
    dimension."""
    along = source_dim(self, value)
    across = next((d for d, s in enumerate(target.strides) if s == 1 and target.shape[d] > 1), None)
    if along is None or across is None or along == across or not _worthwhile(target.shape, along, across) \
            or target.dtype.is_bool:
        return False

    def emit() -> list[Value]:
        copy_transposed(self, value, target.shape, along, across,
                        lambda coords, x: store_buffer(self, target, coords, x), stops=stops)
        return []

    versions(self, windows_of(self, [value]), emit)
    return True


def try_transposed_store(self: BlockLowering, value: Value, window: Window) -> bool:
    """Store a tile by transposed blocks, where its memory runs along another dimension than the view's."""
    if window.memory.packed or window.memory.dtype.is_bool:
        return False
    shape = value.tile.shape
    along = source_dim(self, value)
    across = next((d for d, s in enumerate(window.strides) if isinstance(s, int) and s == 1 and shape[d] > 1), None)
    if along is None or across is None or along == across or not _worthwhile(shape, along, across):
        return False

    def emit() -> list[Value]:
        copy_transposed(self, value, shape, along, across,
                        lambda coords, x: store_window(self, window, coords, x, None))
        return []

    versions(self, [window, *windows_of(self, [value])], emit)
    return True


