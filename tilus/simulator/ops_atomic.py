"""Atomic operations and reductions on memory."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Group, Op, Run, Sink, Vec, dtype_of
from tilus.simulator.memory import Space
from tilus.simulator.numbers import bf16_to_f32, f32_to_bf16
from tilus.simulator.ops_memory import SCOPES, address_of, part_lanes, parts_of, space_of
from tilus.simulator.syntax import type_bits

Update = Callable[..., Array]
_HEAD = f"?sem:relaxed|acquire|release|acq_rel ?scope:{SCOPES} ?ss:global|shared|shared::cta|shared::cluster"


def update_of(name: str, kind: str) -> Update:
    """The new value as a function of the old one and the operands, in the register form of the type."""
    if kind in ("f16", "bf16", "f16x2", "bf16x2"):
        return _half_update(name, kind)
    table: dict[str, Any] = {
        "add": lambda old, x: old + x, "exch": lambda old, x: x,
        "min": np.minimum if dtype_of(kind).kind != "f" else np.fmin,
        "max": np.maximum if dtype_of(kind).kind != "f" else np.fmax,
        "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
        "inc": lambda old, x: np.where(old >= x, 0, old + 1).astype(old.dtype),
        "dec": lambda old, x: np.where((old == 0) | (old > x), x, old - 1).astype(old.dtype),
        "cas": lambda old, x, y: np.where(old == x, y, old),
    }
    update: Update = table[name]
    return update


def _half_update(name: str, kind: str) -> Update:
    base = kind.removesuffix("x2")
    functions: dict[str, Any] = {"add": np.add, "min": np.fmin, "max": np.fmax, "exch": lambda old, x: x}
    function = functions[name]

    def fn(old: Array, x: Array) -> Array:
        left, right = (np.ascontiguousarray(v).view(np.uint16) for v in (old, x))
        if base == "f16":
            result = function(left.view(np.float16), right.view(np.float16)).view(np.uint16)
        else:
            result = f32_to_bf16(function(bf16_to_f32(left), bf16_to_f32(right)))
        return np.ascontiguousarray(result).view(old.dtype).reshape(old.shape)

    return fn


def ranks(offsets: Array) -> tuple[Array, Array, int]:
    """Order by address, and for each entry in that order its number among the equal addresses."""
    order = np.argsort(offsets, kind="stable")
    ordered = offsets[order]
    fresh = np.empty(ordered.size, bool)
    fresh[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=fresh[1:])
    starts = np.flatnonzero(fresh)
    rank = np.arange(ordered.size) - np.repeat(starts, np.diff(np.append(starts, ordered.size)))
    return order, rank, int(rank.max()) if rank.size else 0


def read_modify_write(space: Space, offsets: Array, kind: str, name: str, operands: list[Array]) -> Array:
    """Apply an atomic for every entry, one after the other where addresses are equal; the old values."""
    size = type_bits(kind) // 8
    dtype = dtype_of(kind)
    update = update_of(name, kind)
    memory = space.views(size, 1).view(dtype)
    index = offsets >> (size.bit_length() - 1)
    order, rank, highest = ranks(index)
    if highest == 0:
        old = memory[index]
        memory[index] = update(old, *operands)
        return np.asarray(old)
    if name == "add" and dtype.kind in "iu" and kind not in ("bf16", "f16x2", "bf16x2"):
        return _integer_sums(memory, index, operands[0], order, rank)
    old = np.empty(index.size, dtype)
    for step in range(highest + 1):
        chosen = order[rank == step]
        before = memory[index[chosen]]
        memory[index[chosen]] = update(before, *[o[chosen] for o in operands])
        old[chosen] = before
    return old


def _integer_sums(memory: Array, index: Array, values: Array, order: Array, rank: Array) -> Array:
    ordered = values[order]
    total = np.cumsum(ordered, dtype=ordered.dtype)
    before = total - ordered
    first = np.flatnonzero(rank == 0)
    lengths = np.diff(np.append(first, rank.size))
    before = before - np.repeat(before[first], lengths)
    start = memory[index[order]]
    old = np.empty_like(ordered)
    old[order] = start + before
    last = np.append(first[1:], rank.size) - 1
    memory[index[order[last]]] = (start + before + ordered)[last]
    return old


_OPS = ("op:add|min|max|inc|dec ?n:noftz ?hint:L2::cache_hint t:u32|u64|s32|s64|f32|f64|f16|f16x2|bf16|bf16x2",
        "op:and|or|xor|exch ?hint:L2::cache_hint t:b32|b64", "=cas ?hint:L2::cache_hint t:b16|b32|b64",
        "op:and|or|xor|exch|add|min|max ?hint:L2::cache_hint t:u32|u64|s32|s64")
_VECTOR = "op:add|min|max ?n:noftz ?hint:L2::cache_hint vec:v2|v4|v8 t:f32|f16|bf16|f16x2|bf16x2"


@instr(*[f"atom {_HEAD} {ops}" for ops in _OPS], *[f"red {_HEAD} {ops}" for ops in _OPS[:2]], kind="atomic")
def atom(b: Binder, op: Op) -> Run:
    kind = str(op.fields["t"])
    reduction = op.opcode.startswith("red")
    name = "cas" if ".cas." in op.opcode else str(op.fields["op"])
    operands = list(op.operands)
    target = Sink() if reduction else operands.pop(0)
    wanted = 3 if name == "cas" else 2
    if len(operands) not in (wanted, wanted + 1):
        raise b.error(f"{len(operands)} operands", op)
    sources = [b.src(op, item, kind) for item in operands[1:wanted]]
    row = None if isinstance(target, Sink) else b.dst(op, target, kind)
    return bind_atomic(b, op, operands[0], kind, name, [[s] for s in sources], [row])


@instr(f"atom {_HEAD} {_VECTOR}", f"red {_HEAD} {_VECTOR}", kind="atomic")
def atom_vector(b: Binder, op: Op) -> Run:
    kind, count = str(op.fields["t"]), int(str(op.fields["vec"])[1:])
    operands = list(op.operands)
    target: Any = Sink() if op.opcode.startswith("red") else operands.pop(0)
    source = operands[1]
    if not isinstance(source, Vec) or len(source.items) != count:
        raise b.error("a vector operand is expected", op)
    sources = [b.src(op, item, kind) for item in source.items]
    rows: list[Array | None] = [None] * count
    if isinstance(target, Vec):
        rows = [b.dst(op, item, kind) for item in target.items]
    return bind_atomic(b, op, operands[0], kind, str(op.fields["op"]), [sources], rows)


def bind_atomic(b: Binder, op: Op, mem: Any, kind: str, name: str, sources: list[list[Array]],
          rows: list[Array | None]) -> Run:
    space = space_of(b, op, mem, op.fields.get("ss"))
    address = address_of(b, op, mem)
    site = b.launch.site(op, space.name if space is not None else "generic", True, True)
    size = type_bits(kind) // 8
    count = len(rows)
    batch, launch = b.batch, b.launch
    sem = op.fields.get("sem")
    acquire, release = sem in ("acquire", "acq_rel"), sem in ("release", "acq_rel")
    wide = op.fields.get("scope") != "cta"
    polls = any(row is not None for row in rows)
    if name in ("and", "or") and not polls:
        site.keeps = name
    operand = np.dtype(f"u{size}")

    def run(g: Group) -> None:
        where = address(g)
        lanes_all = g.lanes()
        for part in parts_of(b, space, where):
            lanes = part_lanes(part, g)
            numbers = lanes_all if part.select is None else lanes_all[part.select]
            kept = np.broadcast_to(sources[0][0], (batch.lanes,))[numbers].astype(operand) if site.keeps else None
            offsets = part.space.locate(site, batch, lanes, part.address, size * count, kept)
            if launch.shadow_hooks:
                batch.order.synchronise(part.space.key, numbers, offsets, acquire=acquire, release=release, wide=wide)
            for i, row in enumerate(rows):
                values = [np.broadcast_to(s[i] if len(s) > 1 else s[0], (batch.lanes,))[numbers] for s in sources] \
                    if count == 1 else [np.broadcast_to(sources[0][i], (batch.lanes,))[numbers]]
                old = read_modify_write(part.space, offsets + i * size, kind, name, values)
                if row is not None:
                    row[numbers] = old
                after = part.space.views.load(offsets + i * size, size, 1)
                launch.progress += bool((after != old.view(after.dtype)).any())
        if polls:
            batch.poll(op, lanes_all, where)

    return run


@instr(f"atom {_HEAD} op:cas|exch ?hint:L2::cache_hint =b128", kind="atomic")
def atom_128(b: Binder, op: Op) -> Run:
    d, mem, *rest = op.operands
    name = str(op.fields["op"])
    space = space_of(b, op, mem, op.fields.get("ss"))
    address = address_of(b, op, mem)
    site = b.launch.site(op, space.name if space is not None else "generic", True, True)
    rows = [b.src(op, item, "b128") for item in rest[:2 if name == "cas" else 1]]
    target = None if isinstance(d, Sink) else b.src(op, d, "b128")

    def run(g: Group) -> None:
        lanes_all = g.lanes()
        for part in parts_of(b, space, address(g)):
            numbers = lanes_all if part.select is None else lanes_all[part.select]
            offsets = part.space.locate(site, b.batch, part_lanes(part, g), part.address, 16)
            memory = part.space.views(8, 2)
            for lane, offset in zip(numbers, offsets >> 4, strict=True):
                old = memory[offset].copy()
                if name == "exch" or (old == rows[0][lane]).all():
                    memory[offset] = rows[-1][lane]
                if target is not None:
                    target[lane] = old
        b.launch.progress += 1
        b.batch.polling[lanes_all] = True

    return run
