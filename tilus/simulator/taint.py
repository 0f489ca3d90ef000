"""Registers whose value is not what the program means: undefined ones, and those that ``tcgen05.ld`` may still write.

Loading what was never written is no fault, and neither is computing with it: the result is undefined as well. Its use
is a fault: as an address, as a condition, in a store to global memory, in an atomic or an asynchronous operation.
Stored to shared or local memory it makes these undefined again. Operations have a second step with this bookkeeping,
which runs from the first such value on until the last is gone.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tilus.simulator.flow import reads_and_writes, registers_of
from tilus.simulator.resolved import Const, Mem, Op, Reg, Resolved, Vec

if TYPE_CHECKING:
    from tilus.simulator.machine import Array, Batch, Group, Run

UNDEFINED, LOADING = 1, 2
REASONS = np.uint8(UNDEFINED | LOADING)
_QUARTERS = (16, 32, 64, 128)       # the quarters of an undefined register that are known, lowest first
Key: TypeAlias = tuple[int, int]
_LANEWISE = {"alu", "move", "logic", "compare", "convert", "float", "half", "integer", "special", "video", "stable"}
# Conversions that keep the low part of a register, and how many such parts it has.
_NARROWED = {f"cvt.{to}{bits}.{of}{wide}": wide // bits for to in "us" for of in "us" for bits, wide in
             ((32, 64), (16, 64), (16, 32))}
_HANDLED = {"load", "store", "matrix-load", "matrix-store", "shuffle", "tcgen05-load", "tcgen05-store"}


class Taint:
    """For registers that hold such values, a row with the reasons of each lane, and the operation they come from."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.rows: dict[Key, Array] = {}
        self.origins: dict[Key, Op] = {}
        self.active = False

    def reset(self) -> None:
        self.rows.clear()
        self.origins.clear()
        self.active = False

    # -- rows

    def of(self, items: Sequence[Resolved]) -> Array | None:
        """The reasons of the lanes that any register of these operands has; None where none has any."""
        found: Array | None = None
        for item in items:
            for reg in registers_of(item):
                row = self.rows.get((reg.bits, reg.index))
                if row is not None:
                    found = row & REASONS if found is None else found | row & REASONS
        return found

    def _part(self, item: Resolved, place: int, count: int) -> Array | None:
        """The reasons of one of ``count`` equal parts of a register."""
        row = self.rows.get((item.bits, item.index)) if isinstance(item, Reg) else None
        if row is None:
            return None if isinstance(item, Reg) else self.of([item])
        mask = _quarters(place, count)
        return np.where(row & mask == mask, row & np.uint8(LOADING), row & REASONS)

    def _packed(self, items: Sequence[Resolved]) -> Array | None:
        """The reasons of a register made of parts, with the parts that are known."""
        result = self.of(items)
        if result is None:
            return None
        for place, item in enumerate(items):
            row = self.of([item])
            known = result & UNDEFINED != 0 if row is None else (result & UNDEFINED != 0) & (row & UNDEFINED == 0)
            result |= known * _quarters(place, len(items))
        return result

    def _moved_parts(self, op: Op) -> list[Array | None]:
        """The reasons of each register that ``mov`` writes: it packs, unpacks, or moves all that is known."""
        target, source = op.operands[:2]
        if isinstance(target, Vec):
            return [self._part(source, place, len(target.items))
                    for place, item in enumerate(target.items) if registers_of(item)]
        if isinstance(source, Vec):
            return [self._packed(source.items)]
        return [self.rows.get((source.bits, source.index)) if isinstance(source, Reg) else self.of([source])]

    def put(self, reg: Resolved, lanes: Array | None, reasons: Array | int, origin: Op) -> None:
        """Lanes (None: all) of a register now hold a value with these reasons, 0 for a good one."""
        if not isinstance(reg, Reg):
            return
        key = (reg.bits, reg.index)
        row = self.rows.get(key)
        if row is None:
            if not np.any(reasons):
                return
            row = self.rows[key] = np.zeros(self.batch.lanes, np.uint8)
        row[slice(None) if lanes is None else lanes] = reasons
        if np.any(reasons):
            self.origins[key] = origin
            self.active = True
        elif not row.any():
            self._drop(key)

    def _drop(self, key: Key) -> None:
        del self.rows[key]
        self.active = bool(self.rows)

    def loaded(self, op: Op, items: Sequence[Resolved], lanes: Array | None, undefined: Array | None) -> None:
        """A load wrote these registers; ``undefined`` says, (n,) or (n, registers), what was never written."""
        for i, item in enumerate(items):
            if undefined is None:
                self.put(item, lanes, 0, op)
            else:
                column = undefined if undefined.ndim == 1 else undefined[:, i]
                self.put(item, lanes, column.astype(np.uint8) * np.uint8(UNDEFINED), op)

    def undefined_in(self, items: Sequence[Resolved], lanes: Array | None) -> Array | None:
        """Which values of a store, (n, registers), are undefined; None where none is."""
        pick = slice(None) if lanes is None else lanes
        columns = [self.of([item]) for item in items]
        if all(column is None for column in columns):
            return None
        count = self.batch.lanes if lanes is None else lanes.size
        table = np.stack([np.zeros(count, bool) if column is None else (column[pick] & UNDEFINED) != 0
                          for column in columns], axis=1)
        return table if table.any() else None

    def moved(self, op: Op, target: Resolved, source: Resolved, index: Array, g: Group) -> None:
        """Lanes took a register's value from the lanes ``index``."""
        found = self.of([source])
        lanes = g.lanes()
        self.put(target, lanes, 0 if found is None else found[index][lanes], self._origin(source, op))

    def _origin(self, item: Resolved, otherwise: Op) -> Op:
        return next((self.origins[reg.bits, reg.index] for reg in registers_of(item)
                     if (reg.bits, reg.index) in self.origins), otherwise)

    def arrived(self, mask: Array) -> None:
        """Lanes waited for their loads of tensor memory."""
        for key in list(self.rows):
            row = self.rows[key]
            row[mask] &= np.uint8(0xFF ^ LOADING)
            if not row.any():
                self._drop(key)

    # -- faults

    def report(self, op: Op, regs: Sequence[Reg], mask: Array, how: str, reasons: int = UNDEFINED | LOADING) -> None:
        """Lanes use registers in a way that matters outside of registers; ``reasons`` are those that count."""
        for reg in regs:
            row = self.rows.get((reg.bits, reg.index))
            if row is None:
                continue
            used = row * mask & np.uint8(reasons)
            origin = self.origins[reg.bits, reg.index]
            undefined, loading = (used & UNDEFINED) != 0, (used & LOADING) != 0
            if undefined.any() and self.batch.launch.checks.uninitialised:
                self.batch.fault("uninitialised", f"{_source(origin, reg)} is read before it is written, by "
                                 f"{origin.opcode} at line {origin.line}, and the value, in register {reg.name}, {how}",
                                 op, int(np.argmax(undefined)), count=int(undefined.sum()), cause=origin)
            if loading.any() and self.batch.launch.checks.asynchronous:
                # The ISA forbids it; assemblers are known to keep the order of a load and what uses its registers.
                self.batch.fault("async", f"register {reg.name} of {origin.opcode} at line {origin.line}, which may "
                                 f"not have written it, {how} before tcgen05.wait::ld", op, int(np.argmax(loading)),
                                 count=int(loading.sum()), cause=origin, level="formal")

    def decides(self, op: Op, g: Group) -> None:
        """A branch of these lanes depends on its predicate or index."""
        regs = [reg for item in (op.predicate, *op.operands) if item is not None for reg in registers_of(item)]
        self.report(op, regs, g.mask, "decides a branch")

    # -- operations

    def track(self, op: Op, inner: Run) -> Run:
        """The operation with the bookkeeping of its registers."""
        assert op.form is not None
        kind = op.form.kind
        guard = op.predicate
        reads, writes = reads_and_writes(op)
        data = [reg for reg in reads if reg is not guard]
        addresses = [reg for item in op.operands for mem in _memories(item) for reg in registers_of(mem)]

        def run(g: Group) -> None:
            part = g
            if guard is not None:
                self.report(op, [guard], g.mask, "decides whether an operation is executed")
                chosen = g.restrict(self.batch.regs[1][guard.index], guard.negated)
                if chosen is None:
                    return
                part = chosen
            if kind in _HANDLED:
                self.report(op, addresses, part.mask, "is used as an address")
                inner(g)
                return
            found = self._result(op, kind, data, part)
            inner(g)
            self._written(op, writes, data, found, part)

        return run

    def _result(self, op: Op, kind: str, data: list[Reg], g: Group) -> Array | list[Array | None] | None:
        """The reasons that the results of an operation have: one row for all, or one for each."""
        if not any((reg.bits, reg.index) in self.rows for reg in data):
            return None
        if op.opcode.startswith("mov."):
            return self._moved_parts(op)
        if kind == "mma":
            return self._product(op)
        if kind == "vote":
            found = self.of(data)
            return None if found is None else np.repeat(
                np.bitwise_or.reduce((found * g.mask).reshape(-1, 32), axis=1), 32)
        if kind not in _LANEWISE:
            self.report(op, data, g.mask, f"is an operand of {op.opcode}")
            return None
        if kind != "move":
            self.report(op, data, g.mask, "is computed with", LOADING)
        if op.opcode.startswith("selp"):
            return self._selected(op)
        if op.opcode in _NARROWED:
            return self._part(op.operands[1], 0, _NARROWED[op.opcode])
        kept = self._kept_quarters(op)
        if kept is not None:
            return kept
        if op.opcode.startswith(("and.", "or.")) or op.fields.get("bool") in ("and", "or"):
            return self._decided(op)
        return self.of(data)

    def _kept_quarters(self, op: Op) -> Array | None:
        """Of masks, exclusive ors, shifts and byte permutations by constants: what their results have."""
        name, _, type_ = op.opcode.rpartition(".")
        last = op.operands[-1]
        if len(op.operands) < 3 or not isinstance(last, Const) or type_[0] not in "bus" \
                or type_[1:] not in ("16", "32", "64"):
            return None
        value, quarter = int(last.value), int(type_[1:]) // 4
        if op.opcode == "prmt.b32":
            low, high = (self._missing(item) for item in op.operands[1:3])
            both, result = low | high << np.uint8(4), np.zeros_like(low)
            for i in range(4):
                result |= (both >> np.uint8(value >> (4 * i) & 7) & np.uint8(1)) << np.uint8(i)
        elif len(op.operands) == 3 and name == "and":
            mask = sum(1 << i for i in range(4) if value >> (i * quarter) & ((1 << quarter) - 1))
            result = self._missing(op.operands[1]) & np.uint8(mask)
        elif len(op.operands) == 3 and name == "xor":
            result = self._missing(op.operands[1])
        elif len(op.operands) == 3 and name in ("shl", "shr") and type_[0] != "s" and value % quarter == 0:
            by, missing = np.uint8(min(4, value // quarter)), self._missing(op.operands[1])
            result = (missing << by if name == "shl" else missing >> by) & np.uint8(15)
        else:
            return None
        loading = self.of(op.operands[1:-1])
        waits = np.uint8(0) if loading is None else loading & np.uint8(LOADING)
        return np.where(result != 0, np.uint8(UNDEFINED) | (~result & np.uint8(15)) << np.uint8(4), np.uint8(0)) | waits

    def _missing(self, item: Resolved) -> Array:
        """A bit for each quarter of a register that is undefined, lowest first."""
        row = self.rows.get((item.bits, item.index)) if isinstance(item, Reg) else None
        if row is None:
            return np.zeros(self.batch.lanes, np.uint8)
        return np.where(row & UNDEFINED != 0, ~row >> np.uint8(4), np.uint8(0)) & np.uint8(15)

    def _selected(self, op: Op) -> Array | None:
        chosen = op.operands[3]
        assert isinstance(chosen, Reg)
        zero = np.zeros(self.batch.lanes, np.uint8)
        first, second, predicate = (self.of([item]) for item in op.operands[1:4])
        condition = self.batch.regs[1][chosen.index]
        picked = np.where(~condition if chosen.negated else condition, zero if first is None else first,
                          zero if second is None else second)
        return picked if predicate is None else picked | predicate

    def _decided(self, op: Op) -> Array | None:
        """A conjunction with what is known to be zero is zero, whatever the other side is; a disjunction likewise."""
        joined = op.fields.get("bool")
        absorbs = op.opcode.startswith("and.") or joined == "and"
        sides = [op.operands[-1:], op.operands[1:-1]] if joined else [op.operands[1:2], op.operands[2:3]]
        found = [self.of(side) for side in sides]
        result: Array | None = None
        for own, other, items in ((found[0], found[1], sides[1]), (found[1], found[0], sides[0])):
            if own is None:
                continue
            decided = self._absorbing(items, absorbs) if len(items) == 1 else None
            if decided is not None:
                own = np.where(decided & (True if other is None else other == 0), np.uint8(0), own)
            result = own if result is None else result | own
        return result

    def _absorbing(self, items: Sequence[Resolved], zero: bool) -> Array | None:
        """In which lanes an operand is zero, or all ones."""
        (item,) = items
        if isinstance(item, Const):
            return np.full(self.batch.lanes, item.value == (0 if zero else -1))
        if not isinstance(item, Reg) or item.bits == 128:
            return None
        row = self.batch.regs[item.bits][item.index]
        value = ~row if item.negated else row
        return value == 0 if zero else value == np.iinfo(row.dtype).max if row.dtype != bool else value

    def _product(self, op: Op) -> Array | None:
        """A warp's product: an undefined row of A makes its row undefined, a column of B its column."""
        a, b, c = (self.of([item]) for item in op.operands[1:4])
        rest = self.of(op.operands[4:])
        result = np.zeros((self.batch.warps, 8, 4), np.uint8)
        if not op.opcode.startswith("mma") or ("m8n8k4.row.col.f64" not in op.opcode and "m8n8k4" in op.opcode):
            both = [row for row in (a, b, c, rest) if row is not None]
            return np.repeat(np.bitwise_or.reduce(np.stack(both).reshape(len(both), -1, 32), axis=(0, 2)), 32)
        if a is not None:
            result |= np.bitwise_or.reduce(a.reshape(-1, 8, 4), axis=2)[:, :, None]
        if b is not None:
            columns = np.bitwise_or.reduce(b.reshape(-1, 8, 4), axis=2).reshape(-1, 4, 2)
            result |= np.bitwise_or.reduce(columns, axis=2)[:, None, :]
        if c is not None:
            result |= c.reshape(-1, 8, 4)
        if rest is not None:
            result |= np.bitwise_or.reduce(rest.reshape(-1, 32), axis=1)[:, None, None]
        return result.reshape(-1)

    def _written(self, op: Op, writes: list[Reg], data: list[Reg], found: Array | list[Array | None] | None,
                 g: Group) -> None:
        origin = next((self.origins[reg.bits, reg.index] for reg in data if (reg.bits, reg.index) in self.origins), op)
        results = found if isinstance(found, list) else [found] * len(writes)
        for reg, reasons in zip(writes, results, strict=True):
            row = self.rows.get((reg.bits, reg.index))
            if row is not None and (row * g.mask & LOADING).any() and self.batch.launch.checks.asynchronous \
                    and reg not in data:
                self.report(op, [reg], g.mask, "is written by another operation", LOADING)
            if row is None and reasons is None:
                continue
            lanes = g.idx
            self.put(reg, lanes, 0 if reasons is None else reasons if lanes is None else reasons[lanes], origin)


def _source(origin: Op, reg: Reg) -> str:
    """What an operation read that was never written."""
    if origin.opcode.startswith("tcgen05.ld"):
        return "tensor memory"
    if not origin.opcode.startswith("ld"):
        return f"register {reg.name}"
    return "local memory" if ".local" in origin.opcode or ".param" in origin.opcode else "shared memory"


def _quarters(place: int, count: int) -> np.uint8:
    """The bits for one of ``count`` equal parts; none where a part is less than a quarter."""
    return np.uint8(sum(_QUARTERS[place * 4 // count:(place + 1) * 4 // count]))


def _memories(item: Resolved) -> list[Mem]:
    if isinstance(item, Mem):
        return [item]
    return [mem for part in item.items for mem in _memories(part)] if isinstance(item, Vec) else []
