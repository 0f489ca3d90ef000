"""Loops and branches over tiles: what they carry has a place in the buffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Block, Value
from tilus.ir.dtypes import bool_
from tilus.ir.families import Elementwise
from tilus.ir.ops import Broadcast, For, If, Reshape, Select, While, Yield
from tilus.ir.ops.cores import Receive, Send, Strips
from tilus.ir.types import TileType
from tilus.lowering.ascend import units
from tilus.lowering.ascend.channels import Port
from tilus.lowering.ascend.elementwise import words
from tilus.lowering.ascend.lazy import LAZY, constant, one_number
from tilus.lowering.ascend.tiles import Form, Tile

if TYPE_CHECKING:
    from tilus.lowering.ascend.vector import Vector


def lower_for(vector: Vector, op: For) -> None:
    core = vector.core
    scalars = [vector.is_scalar(v) for v in op.carried]
    kept = [n for n, scalar in enumerate(scalars) if scalar]
    places = {n: _placed(vector, op.carried[n], init) for n, init in enumerate(op.init) if not scalars[n]}
    bounds = [vector.scalar(v) for v in (op.start, op.stop, op.step)]
    body = Block([op.index.type, *(op.carried[n].type for n in kept)],
                 [op.index.name, *(op.carried[n].name for n in kept)])
    loop = For(*bounds, tuple(vector.scalar(op.init[n]) for n in kept), body)
    vector.scalars[op.index] = body.args[0]
    vector.scalars.update(zip((op.carried[n] for n in kept), body.args[1:], strict=True))
    with core.within(body), vector.made_here():
        _body(vector, op.body, op.carried, places, kept)
    loop.span = op.span
    core.block.ops.append(loop)
    for n, result in zip(kept, loop.results, strict=True):
        vector.scalars[op.results[n]] = result
    for n, tile in places.items():
        vector.tiles[op.results[n]] = tile


def _body(vector: Vector, block: Block, carried: Sequence[Value], places: dict[int, Tile], kept: list[int]) -> None:
    yields = block.terminator.operands
    for n, tile in places.items():
        if _may_be_made_in_place(block, carried[n], yields[n], yields):
            vector.wanted[yields[n]] = tile.tensor
    for inner in block.ops[:-1]:
        vector.operation(inner)
    vector.core.span = block.terminator.span
    _assign(vector, [(places[n], yields[n]) for n in places])
    vector.core.append(Yield(tuple(vector.scalar(yields[n]) for n in kept)))


def _placed(vector: Vector, arg: Value, init: Value) -> Tile:
    """Room for a carried tile, with the value that it begins with."""
    tile = vector.room(vector.narrow(arg), vector.form(arg))
    tile.tensor.name = arg.name
    number = constant(init)
    scalar = one_number(vector, init) if number is None else None
    if number is not None or scalar is not None:
        vector.fill(tile, number if scalar is None else scalar)  # type: ignore[arg-type]
    else:
        _copy(vector, tile, vector.tile(init))
    vector.tiles[arg] = tile
    return tile


def _copy(vector: Vector, to: Tile, source: Tile) -> None:
    if to.tensor is source.tensor:
        return
    source = vector.as_type(source, to.dtype)
    if to.dtype is bool_:
        (a, size), (b, _) = words(vector, to), words(vector, source)
        units.copy(vector.core, a, b, size)
    else:
        units.copy(vector.core, to.tensor, source.tensor, to.form.size)


def _assign(vector: Vector, pairs: list[tuple[Tile, Value]]) -> None:
    """Give places their next values, all at once: what is read from another place is copied before that changes."""
    places = {tile.tensor for tile, _ in pairs}
    sources: list[tuple[Tile, Tile]] = []
    for to, value in pairs:
        source = vector.tile(value)
        if source.tensor is not to.tensor and source.tensor in places:
            aside = vector.room(source.dtype, source.form)
            _copy(vector, aside, source)
            source = aside
        sources.append((to, source))
    for to, source in sources:
        _copy(vector, to, source)


def _may_be_made_in_place(block: Block, carried: Value, value: Value, yields: Sequence[Value]) -> bool:
    """Whether what computes the next value may write where the carried one is: nothing reads that later, and what
    reads it at the same time does so element by element."""
    maker = value.defining
    if maker is None or maker not in block.ops or not isinstance(maker, (Elementwise, Strips)):
        return False
    if isinstance(maker, Select) and (maker.x is not carried or carried.tile.dtype.bits < 16):
        return False
    if list(yields).count(value) > 1 or carried in yields:
        return False
    at = block.ops.index(maker)
    spread = _spread_of(block, carried)
    for position, op in enumerate(block.ops):
        for inner in op.walk():
            used = [o for o in inner.operands if o is carried or o in spread]
            if not used or isinstance(inner, (Broadcast, Reshape)):
                continue
            if position > at or (position == at and any(o is not carried for o in used)):
                return False
    return True


def _spread_of(block: Block, value: Value) -> set[Value]:
    """What is the value in another form, without having been computed yet."""
    found = {value}
    for op in block.walk():
        if isinstance(op, (Broadcast, Reshape)) and op.x in found:
            found.add(op.result)
    return found - {value}


def lower_if(vector: Vector, op: If) -> None:
    core = vector.core
    scalars = [vector.is_scalar(r) for r in op.results]
    condition = vector.scalar(op.condition)
    places = [None if scalar else _branch_place(vector, op, n) for n, scalar in enumerate(scalars)]
    before = dict(vector.tiles)
    blocks = []
    for block in (op.then, op.orelse):
        into = Block()
        with core.within(into):
            yields = block.terminator.operands
            for n, (place, value) in enumerate(zip(places, yields, strict=True)):
                kept = op.orelse.terminator.operands[n]
                if place is not None and vector.tiles.get(kept) is place and _may_be_made_in_place(
                        block, kept, value, yields):
                    vector.wanted[value] = place.tensor
            for inner in block.ops[:-1]:
                vector.operation(inner)
            _assign(vector, [(p, v) for p, v in zip(places, yields, strict=True) if p is not None])
            core.append(Yield(tuple(vector.scalar(v) for v, s in zip(yields, scalars, strict=True) if s)))
        blocks.append(into)
        vector.tiles = dict(before)
    made = If(condition, *blocks)
    core.span = op.span
    core.append(made)
    results = iter(made.results)
    for result, place in zip(op.results, places, strict=True):
        if place is None:
            vector.scalars[result] = next(results)
        else:
            vector.tiles[result] = place


def _branch_place(vector: Vector, op: If, n: int) -> Tile:
    """Where a result is: where a carried tile is that the other branch leaves as it is, if nothing else uses that."""
    kept = op.orelse.terminator.operands[n]
    tile = vector.tiles.get(kept)
    if tile is not None and kept not in vector.scalars and not isinstance(kept.defining, LAZY):
        inside = {id(inner) for region in op.regions for inner in region.walk()}
        if all(id(user) in inside for user in vector.users.get(kept, ())):
            return tile
    return vector.room(vector.narrow(op.results[n]), vector.form(op.results[n]))


def lower_while(vector: Vector, op: While) -> None:
    core = vector.core
    scalars = [vector.is_scalar(v) for v in op.body.args]
    kept = [n for n, s in enumerate(scalars) if s]
    places = {n: _placed(vector, op.body.args[n], init) for n, init in enumerate(op.init) if not scalars[n]}
    for n, tile in places.items():
        vector.tiles[op.before.args[n]] = tile
    types: list[TileType] = [op.init[n].tile for n in kept]
    before, body = Block(types), Block(types)
    for block, args in ((before, op.before.args), (body, op.body.args)):
        vector.scalars.update(zip((args[n] for n in kept), block.args, strict=True))
    with core.within(before), vector.made_here():
        for inner in op.before.ops[:-1]:
            vector.operation(inner)
        core.append(Yield((vector.scalar(op.before.terminator.operands[0]),)))
    with core.within(body), vector.made_here():
        _body(vector, op.body, op.body.args, places, kept)
    made = While(tuple(vector.scalar(op.init[n]) for n in kept), before, body)
    core.append(made)
    vector.scalars.update(zip((op.results[n] for n in kept), made.results, strict=True))
    vector.tiles.update((op.results[n], tile) for n, tile in places.items())




def lower_strips(vector: Vector, op: Strips) -> None:
    """A loop over strips: those of carried tiles are where they lie, or copies of them."""
    core = vector.core
    sources = [vector.tile(v) for v in op.inputs]
    places = []
    for result in op.results:
        places.append(vector.new(result))
    ports, pipes = _ports(vector, op)
    with vector.ports.held(ports, pipes), core.loop(0, op.count, 1, "strip") as strip, vector.made_here():
        vector.scalars[op.body.args[0]] = strip
        for arg, source in zip(op.body.args[1:], sources, strict=True):
            vector.tiles[arg] = _strip_of(vector, source, vector.form(arg), strip)
        yields = op.body.terminator.operands
        windows = [_window(vector, place, vector.form(v), strip) for place, v in zip(places, yields, strict=True)]
        for place, value, window in zip(places, yields, windows, strict=True):
            inputs = [a for a, s in zip(op.body.args[1:], sources, strict=True) if s.tensor is place.tensor]
            if window is not None and inputs and _may_be_made_in_place(op.body, inputs[0], value, yields):
                vector.wanted[value] = window
        for inner in op.body.ops[:-1]:
            vector.operation(inner)
        core.span = op.span
        for place, value in zip(places, yields, strict=True):
            _keep_strip(vector, place, value, strip)


def _ports(vector: Vector, op: Strips) -> tuple[list[Port], list[str]]:
    ports, pipes = [], []
    for inner in op.body.ops:
        if isinstance(inner, (Send, Receive)):
            tile = inner.value.tile if isinstance(inner, Send) else inner.result.tile
            ports.append(vector.ports.port(inner.channel, tile, inner, sends=isinstance(inner, Send)))
            pipes.append("MTE3" if isinstance(inner, Send) else "MTE2")
    return ports, pipes


def _window(vector: Vector, whole: Tile, form: Form, strip: Value) -> Value | None:
    """A strip's rows where they lie; None where they do not begin at blocks."""
    if whole.dtype is bool_ or (form.pitch != whole.form.pitch if form.rows > 1 else form.pitch != form.columns):
        return None
    return vector.core.part(whole.tensor, size=form.size, offset=vector.core.mul(strip, form.size))


def _strip_of(vector: Vector, whole: Tile, form: Form, strip: Value) -> Tile:
    window = _window(vector, whole, form, strip)
    if window is None:
        raise UnsupportedError.at("E0507", "a tile's rows cannot be taken in strips", vector.core.span,
                                  help="use tiles whose extents are multiples of 32")
    return Tile(window, whole.dtype, form)


def _keep_strip(vector: Vector, place: Tile, value: Value, strip: Value) -> None:
    core, tile = vector.core, vector.as_type(vector.tile(value), place.dtype)
    wanted = vector.wanted.get(value)
    if wanted is not None and tile.tensor is wanted:
        return
    count = tile.form.size
    units.copy(core, core.part(place.tensor, size=count, offset=core.mul(strip, count)), tile.tensor, count)
