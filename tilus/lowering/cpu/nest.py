"""Loop nests over tiles: one dimension by vectors, the others by scalars; versions for tiles all in bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import Binary, Gather, Load, PtrStore, Slice
from tilus.ir.ops.simd import ScatterStore
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.cost import HEAVY_COST
from tilus.lowering.cpu.evaluate import buffer_pointer, leaves
from tilus.lowering.cpu.movements import source_dims
from tilus.lowering.cpu.values import ZERO, Buffer, Coord, Coords, Lazy, Number, Window

Body = Callable[[Coords], None]


def vector_lanes(self: BlockLowering, values: Sequence[Value], extent: int) -> int:
    """How many elements of the vector dimension an iteration takes: a few registers' worth."""
    widest, cost = 1, 0
    for value in values:
        for rep, _ in leaves(self, value, (None,) * value.tile.rank):
            if isinstance(rep, Lazy):
                cost = max(cost, rep.cost)
                for v in (*rep.op.results, *rep.op.operands):
                    if v not in self.views and not v.tile.is_scalar:
                        widest = max(widest, _compute_bytes(v))
            else:
                widest = max(widest, container_bytes(rep.dtype))
        widest = max(widest, _compute_bytes(value))
    registers = 4 if cost < HEAVY_COST else 2
    lanes = max(1, registers * self.machine.vector_bytes // widest)
    while lanes > 1 and lanes // 2 >= extent:
        lanes //= 2
    return lanes


def _compute_bytes(value: Value) -> int:
    """Bytes of an element while it is computed with: 16-bit floats are widened, index tiles count little."""
    dtype = value.tile.dtype
    if dtype.is_float and dtype.bits <= 16:
        return 4
    return container_bytes(dtype)


def vector_dim(self: BlockLowering, shape: tuple[int, ...], values: Sequence[Value],
               targets: Sequence[tuple[int | Value, ...]] = ()) -> int:
    """The dimension to run by vectors: the one along which most memory is contiguous, the last among equals.
    ``targets`` are the strides of what is written."""
    candidates = [d for d, n in enumerate(shape) if n > 1]
    if len(candidates) <= 1:
        return candidates[0] if candidates else max(0, len(shape) - 1)
    score = dict.fromkeys(candidates, 0.0)

    def account(strides: Sequence[object], dims: Sequence[int | None], weight: float) -> None:
        for stride, dim in zip(strides, dims, strict=True):
            if dim in score and stride == 1:
                score[dim] += weight

    for strides in targets:
        account(strides, range(len(shape)), 1.5)
    for value in values:
        for rep, dims in leaves(self, value, tuple(range(len(shape)))):
            if isinstance(rep, Buffer):
                account(rep.strides, dims, 1.0)
            elif rep.window is not None and rep.window.shape:
                account(rep.window.strides, dims, 1.0)
    wide = 2 * self.machine.vector_bytes // 4
    for d in candidates:
        score[d] += 0.01 * d + (0 if shape[d] >= wide else -1.25 if shape[d] < 4 else -0.5)
    return max(candidates, key=lambda d: score[d])


def nest(self: BlockLowering, shape: tuple[int, ...], vector: int, lanes: int, body: Body,
         stops: Sequence[Number] | None = None) -> None:
    """Run ``body`` over all elements of ``shape``, ``lanes`` at a time along ``vector``; up to ``stops``, if given: of
    what is beyond them only what is in one vector with what is not."""
    if any(n == 0 for n in shape):
        return
    coords: list[Coord] = [ZERO] * len(shape)
    outer = [d for d in range(len(shape)) if d != vector]

    def descend(level: int) -> None:
        if level < len(outer):
            d = outer[level]
            if shape[d] == 1:
                descend(level + 1)
                return

            def step(index: Value, _: list[Value]) -> list[Value]:
                coords[d] = Coord(index)
                descend(level + 1)
                return []

            self.c.loop(0, shape[d] if stops is None else stops[d], 1, [], step)
            coords[d] = ZERO
            return
        if not shape or shape[vector] == 1:
            body(tuple(coords))
            return
        limit = shape[vector] if stops is None else stops[vector]
        for start, stop, width in vector_pieces(shape[vector], lanes):
            _along(self, coords, vector, start, stop, width, limit, body)

    descend(0)


def vector_pieces(extent: int, lanes: int) -> list[tuple[int, int, int]]:
    """(start, stop, width): a main part of whole vectors, then a rest by halves."""
    main = extent // lanes * lanes
    pieces = [(0, main, lanes)] if main else []
    start = main
    while start < extent:
        width = 1 << ((extent - start).bit_length() - 1)
        pieces.append((start, start + width, width))
        start += width
    return pieces


def _along(self: BlockLowering, coords: list[Coord], vector: int, start: int, stop: int, width: int, limit: Number,
           body: Body) -> None:
    saved, self.lanes = self.lanes, width if width > 1 else 0
    if stop - start == width and (start == 0 or isinstance(limit, int)):
        coords[vector] = Coord(None, start, width > 1)
        body(tuple(coords))
    else:
        def step(index: Value, _: list[Value]) -> list[Value]:
            coords[vector] = Coord(index, 0, width > 1)
            body(tuple(coords))
            return []

        self.c.loop(start, self.c.min(stop, limit), width, [], step)
    coords[vector] = ZERO
    self.lanes = saved


def windows_of(self: BlockLowering, values: Sequence[Value]) -> list[Window]:
    """The windows that the evaluation of ``values`` loads from and that may be partly out of bounds."""
    found: dict[Window, None] = {}
    for value in values:
        if value.tile.is_scalar:
            continue
        for rep, _ in leaves(self, value, (None,) * value.tile.rank):
            if isinstance(rep, Lazy) and rep.window is not None and rep.window.full is not None:
                found[rep.window] = None
    return [w for w in found if w not in self.full_windows]


def versions(self: BlockLowering, windows: Sequence[Window], emit: Callable[[], Sequence[Value]]) -> list[Value]:
    """Emit code twice: without bounds checks for when all windows are full, and with them."""
    checked = list(dict.fromkeys(w for w in windows if w.full is not None and w not in self.full_windows))
    condition: Value | None = None
    for window in checked:
        condition = self.c.both(condition, window.full)
    if condition is None:
        return list(emit())

    def fast() -> Sequence[Value]:
        self.full_windows.update(checked)
        result = emit()
        self.full_windows.difference_update(checked)
        return result

    return self.c.branch(condition, fast, emit)


def store_buffer(self: BlockLowering, target: Buffer, coords: Coords, value: Value) -> None:
    c = self.c
    pointer = buffer_pointer(self, target, coords)
    lanes = self.lanes_of(coords)
    stride = next((s for x, s in zip(coords, target.strides, strict=True) if x.vector), 0)
    value = c.splat(value, lanes)
    if not lanes or stride == 1:
        c.b.add(PtrStore(pointer, value))
        return
    indices = c.b.add(Binary("mul", c.lane_numbers(i64, lanes), c.const(stride, i64, lanes))).result
    c.b.add(ScatterStore(pointer, indices, value))


def elementwise_over(self: BlockLowering, value: Value, home: object) -> bool:
    """Whether every read of ``home`` (a buffer, or the root of a view) below ``value`` is of the element that is
    being computed."""
    identity = tuple(range(value.tile.rank))
    stack: list[tuple[Value, tuple[int | None, ...]]] = [(value, identity)]
    seen = set()
    while stack:
        current, dims = stack.pop()
        if current.tile.is_scalar or (current, dims) in seen:
            continue
        seen.add((current, dims))
        rep = self.reps[current]
        if isinstance(rep, Buffer):
            if rep is home and dims != identity:
                return False
            continue
        if home not in rep.roots:
            continue
        if isinstance(rep.op, (Slice, Gather, Load)):
            return False
        stack.extend((o, source_dims(rep.op, o, dims)) for o in rep.op.operands if o not in self.views)
    return True
