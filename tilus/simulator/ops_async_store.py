"""Stores and reductions that signal an mbarrier, and multimem operations.

There is one device here, so a multimem address stands for the memory it points to: ``ld_reduce`` reads it, ``st`` and
``red`` write it.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Group, Op, Run, Vec, dtype_of
from tilus.simulator.mbarrier import barriers_of
from tilus.simulator.ops_atomic import bind_atomic, read_modify_write
from tilus.simulator.ops_bulk import Copier
from tilus.simulator.ops_memory import SCOPES, address_of
from tilus.simulator.ops_memory import ld as load
from tilus.simulator.ops_memory import st as store
from tilus.simulator.syntax import type_bits

_BYTES = "=shared::cluster =mbarrier::complete_tx::bytes"


@instr(f"st.async ?weak {_BYTES} ?vec:v2|v4 t:b32|b64|u32|u64|s32|s64|f32|f64",
       f"red.async ?sem:relaxed ?scope:cluster {_BYTES} op:inc|dec|add|min|max|and|or|xor t:u32|s32|u64|b32",
       writes=0, kind="async-store")
def store_async(b: Binder, op: Op) -> Run:
    mem, source, bar = b.need(op, 3)
    kind = str(op.fields["t"])
    size = type_bits(kind) // 8
    items = source.items if isinstance(source, Vec) else (source,)
    vec = op.fields.get("vec")
    if len(items) != (int(vec[1:]) if vec else 1):
        raise b.error(f"{len(items)} registers", op)
    values = [b.src(op, item, kind) for item in items]
    address, barrier = address_of(b, op, mem), address_of(b, op, bar)
    c = Copier(b, op)
    name = op.fields.get("op")

    def run(g: Group) -> None:
        space, shadow = b.batch.shared, b.batch.shared.shadow
        for i, lane in enumerate(g.lanes().tolist()):
            start = int(address(g)[i])
            c.align(lane, start, size * len(items), "shared address")
            offset = c.shared(lane, start, size * len(items))
            target = c.shared(lane, int(barrier(g)[i]), 8)
            c.signals(lane, target)
            if offset // space.stride != target // space.stride:
                b.batch.fault("value", "the mbarrier is not in the block whose shared memory is written", op, lane)
            where = offset + np.arange(len(items)) * size
            data = np.array([row[lane if row.size > 1 else 0] for row in values], dtype_of(kind))
            if shadow is not None and name is None:
                shadow.bulk_issue(op, lane, where, size)

            def finish(where: Array = where, data: Array = data, lane: int = lane, target: int = target) -> None:
                if name is not None:
                    read_modify_write(space, where, kind, name, [data])
                else:
                    space.views.store(where, size, 1, data.view(f"u{size}"))
                    if shadow is not None:
                        shadow.bulk_done(op, lane, where, size, target)
                barriers_of(b.batch).update(target, op, lane, complete=size * len(items))

            b.batch.queue.issue_bulk(target, lane, finish)
        b.launch.progress += 1

    return run


_FLOATS = "f16|f16x2|bf16|bf16x2|e4m3|e5m2|e4m3x4|e5m2x4|f32|f64"
_SUM = f"op:min|max|add|and|or|xor ?acc:acc::f32|acc::f16 ?vec:v2|v4|v8 t:b32|b64|u32|u64|s32|s64|{_FLOATS}"


@instr(f"multimem.ld_reduce ?weak ?ss:global {_SUM}",
       f"multimem.ld_reduce sem:relaxed|acquire scope:{SCOPES} ?ss:global {_SUM}", kind="load")
def multimem_load(b: Binder, op: Op) -> Run:
    return load(b, _plain(op))


@instr(f"multimem.st ?weak ?ss:global ?vec:v2|v4|v8 t:b32|b64|u32|u64|s32|s64|{_FLOATS}",
       f"multimem.st sem:relaxed|release scope:{SCOPES} ?ss:global ?vec:v2|v4|v8 t:b32|b64|u32|u64|s32|s64|{_FLOATS}",
       writes=0, kind="store")
def multimem_store(b: Binder, op: Op) -> Run:
    return store(b, _plain(op))


@instr(f"multimem.red ?sem:relaxed|release ?scope:{SCOPES} ?ss:global op:min|max|add|and|or|xor ?vec:v2|v4|v8 "
       "t:b32|b64|u32|u64|s32|s64|f16|f16x2|bf16|bf16x2|f32|f64", writes=0, kind="atomic")
def multimem_red(b: Binder, op: Op) -> Run:
    mem, source = b.need(op, 2)
    kind = str(op.fields["t"])
    items: tuple[Any, ...] = source.items if isinstance(source, Vec) else (source,)
    sources = [[b.src(op, item, kind) for item in items]]
    op.fields.setdefault("ss", "global")
    return bind_atomic(b, op, mem, kind, str(op.fields["op"]), sources, [None] * len(items))


def _plain(op: Op) -> Op:
    """The operation with the fields of a plain load or store of global memory, packed types as bits."""
    fields = dict(op.fields)
    fields["ss"] = "global"
    kind = str(fields["t"])
    if kind not in ("u32", "u64", "s32", "s64", "f32", "f64"):
        fields["t"] = f"b{max(8, type_bits(kind))}"
    return Op(op.opcode, op.form, fields, op.operands, op.predicate, op.line, op.source, op.targets, op.data)


