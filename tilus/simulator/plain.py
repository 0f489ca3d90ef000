"""A second, deliberately plain execution path: one thread at a time, Python integers and fractions.

It covers the scalar ISA and the warp collectives, shares only the decoder with the fast path, and serves to check it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from tilus.diagnostics import Span, UnsupportedError
from tilus.simulator import decode as decoding
from tilus.simulator.arguments import pack_arguments
from tilus.simulator.layout import GLOBAL_BASE, GUARD
from tilus.simulator.operations import load_operations
from tilus.simulator.parser import parse
from tilus.simulator.plain_integer import INTEGER
from tilus.simulator.plain_numbers import (
    FORMATS,
    Number,
    compare_floats,
    compare_integers,
    convert_to_float,
    float_operation,
    float_to_integer,
    signed,
    to_bits,
    to_float,
    unsigned,
)
from tilus.simulator.resolved import Both, Const, Decoded, Mem, Op, Reg, Resolved, Sink, Special, Symbol, Vec
from tilus.simulator.syntax import TYPE_BITS, type_bits

PACKED = {"f16x2": "f16", "bf16x2": "bf16", "f32x2": "f32", "u16x2": "u16", "s16x2": "s16"}


class Thread:
    """One thread's registers and place."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.regs: dict[tuple[int, int], int] = {}
        self.carry = 0
        self.local = bytearray()


class Plain:
    """Executes one block of a decoded kernel."""

    def __init__(self, decoded: Decoded, path: str, threads: int, memory: bytearray) -> None:
        self.decoded, self.path, self.threads, self.memory = decoded, path, threads, memory
        self.shared = bytearray(decoded.shared_bytes)
        self.exchange: dict[int, dict[int, tuple[Op, dict[str, int]]]] = {}

    def run(self) -> None:
        warps = [
            [Thread(n) for n in range(start, min(start + 32, self.threads))] for start in range(0, self.threads, 32)
        ]
        for warp in warps:
            self._run_warp(warp)

    def _run_warp(self, warp: list[Thread]) -> None:
        """Run each lane to its next collective; then serve the collective for the lanes that wait at one place."""
        lanes = {t.number % 32: self._run(t) for t in warp}
        waiting: dict[int, tuple[Op, dict[str, int]]] = {}
        answers: dict[int, dict[str, int]] = {}
        while lanes:
            for lane in sorted(lanes):
                if lane in waiting:
                    continue
                try:
                    waiting[lane] = lanes[lane].send(answers.pop(lane)) if lane in answers else next(lanes[lane])
                except StopIteration:
                    del lanes[lane]
            for lane, answer in self._serve(waiting, lanes).items():
                answers[lane] = answer
                del waiting[lane]

    def _serve(self, waiting: dict[int, tuple[Op, dict[str, int]]], lanes: dict[int, Any]) -> dict[int, dict[str, int]]:
        answers: dict[int, dict[str, int]] = {}
        for op in {id(op): op for op, _ in waiting.values()}.values():
            here = {lane: data for lane, (other, data) in waiting.items() if other is op}
            for mask in {data["mask"] for data in here.values()}:
                members = {lane: data for lane, data in here.items() if data["mask"] == mask}
                if all(lane in members for lane in lanes if mask >> lane & 1):
                    for lane in members:
                        answers[lane] = collective(op, lane, members)
        if waiting and not answers and len(waiting) == len(lanes):
            raise UnsupportedError.at("E1004", "lanes wait for each other at different collectives", Span(self.path, 1))
        return answers

    # -- one thread

    def _run(self, t: Thread) -> Generator[tuple[Op, dict[str, int]], dict[str, int], None]:
        t.local = bytearray(self.decoded.local_bytes)
        position, ops = 0, self.decoded.ops
        while position < len(ops):
            op = ops[position]
            position += 1
            if op.predicate is not None and bool(t.regs.get((1, op.predicate.index), 0)) == op.predicate.negated:
                continue
            name = op.opcode.split(".", 1)[0]
            if op.opcode == "bra":
                position = self.decoded.labels[op.targets[0]]
            elif op.opcode == "brx":
                position = self.decoded.labels[op.targets[self.read(t, op.operands[0], 32)]]
            elif op.opcode == "exit":
                return
            elif name == "elect":
                self._accept(t, op, (yield op, {"mask": self.read(t, op.operands[-1], 32), "value": 0}))
            elif name in ("shfl", "vote", "match", "redux"):
                answer = yield op, self._request(t, op)
                self._accept(t, op, answer)
            else:
                self._execute(t, op, name)

    def read(self, t: Thread, item: Resolved, bits: int) -> int:
        """An operand's bits."""
        if isinstance(item, Reg):
            return unsigned(t.regs.get((item.bits, item.index), 0), bits)
        if isinstance(item, Const):
            if isinstance(item.value, float):
                return to_bits(
                    item.value if bits == 64 else float(np.float32(item.value)), {32: "f32", 64: "f64"}[bits]
                )
            return unsigned(item.value, bits)
        if isinstance(item, Symbol):
            return unsigned(item.address, bits)
        if isinstance(item, Special):
            return {"%tid.x": t.number, "%laneid": t.number % 32, "%ntid.x": self.threads}.get(item.name, 0)
        raise UnsupportedError.at("E1002", "the plain path cannot read this operand", Span(self.path, 1))

    def write(self, t: Thread, item: Resolved, value: int) -> None:
        if isinstance(item, Reg):
            t.regs[item.bits, item.index] = unsigned(value, item.bits)

    def _request(self, t: Thread, op: Op) -> dict[str, int]:
        items = op.operands
        data = {"mask": self.read(t, items[-1], 32)}
        bits = 64 if op.fields.get("t") == "b64" else 32
        if op.opcode.startswith("vote"):
            row = items[1]
            value = self.read(t, row, 1)
            data["value"] = value ^ int(isinstance(row, Reg) and row.negated)
        else:
            data["value"] = self.read(t, items[1], bits)
        if op.opcode.startswith("shfl"):
            data["amount"], data["control"] = self.read(t, items[2], 32), self.read(t, items[3], 32)
        return data

    def _accept(self, t: Thread, op: Op, answer: dict[str, int]) -> None:
        target = op.operands[0]
        if isinstance(target, Both):
            self.write(t, target.first, answer["value"])
            self.write(t, target.second, answer["flag"])
        else:
            self.write(t, target, answer["value"])

    def _execute(self, t: Thread, op: Op, name: str) -> None:
        kind = str(op.fields.get("t") or _fixed_type(op))
        if name == "mov":
            self._move(t, op, kind)
        elif name in ("ld", "st"):
            self._memory(t, op, name, kind)
        elif name == "setp":
            self._compare(t, op, kind)
        elif name == "cvt":
            self._convert(t, op)
        elif name in ("cvta",):
            self.write(t, op.operands[0], self.read(t, op.operands[1], 64))
        elif name in ("set", "testp", "slct"):
            self._choose(t, op, name, kind)
        elif kind in PACKED:
            self._packed(t, op, name, PACKED[kind])
        elif ".cc" in op.opcode or name in ("addc", "subc", "madc"):
            self._carry(t, op, name, kind)
        elif kind in FORMATS and name != "selp":
            self.write(t, op.operands[0], self._float(t, op, name, kind))
        else:
            self.write(t, op.operands[0], self._integer(t, op, name, kind))

    def _move(self, t: Thread, op: Op, kind: str) -> None:
        target, source = op.operands
        bits = type_bits(kind)
        if isinstance(target, Vec):
            value = self.read(t, source, bits)
            part = bits // len(target.items)
            for i, item in enumerate(target.items):
                if not isinstance(item, Sink):
                    self.write(t, item, unsigned(value >> part * i, part))
        elif isinstance(source, Vec):
            part = bits // len(source.items)
            self.write(t, target, sum(self.read(t, item, part) << part * i for i, item in enumerate(source.items)))
        else:
            self.write(t, target, self.read(t, source, bits))

    def _memory(self, t: Thread, op: Op, name: str, kind: str) -> None:
        position = 1 if name == "ld" else 0
        mem, other = op.operands[position], op.operands[1 - position]
        assert isinstance(mem, Mem)
        address = self.read(t, mem.base, 64) + mem.offset
        space = str(op.fields.get("ss") or "global")
        store = {"shared": self.shared, "local": t.local}.get(space, self.memory)
        if store is self.memory:
            address -= GLOBAL_BASE
        items = other.items if isinstance(other, Vec) else (other,)
        size = type_bits(kind) // 8
        for i, item in enumerate(items):
            where = address + i * size
            if name == "st":
                store[where:where + size] = self.read(t, item, 8 * size).to_bytes(size, "little")
            else:
                value = int.from_bytes(store[where:where + size], "little")
                self.write(t, item, signed(value, 8 * size) if kind[0] == "s" else value)

    def _compare(self, t: Thread, op: Op, kind: str) -> None:
        result = self._relation([self.read(t, item, type_bits(kind)) for item in op.operands[1:3]], kind, op)
        extra = None
        if op.fields["bool"]:
            item = op.operands[3]
            extra = bool(self.read(t, item, 1)) != (isinstance(item, Reg) and item.negated)
        target = op.operands[0]
        for item, value in ((target.first, result), (target.second, not result)) if isinstance(target, Both) else \
                ((target, result),):
            if extra is not None:
                value = {"and": value and extra, "or": value or extra, "xor": value != extra}[str(op.fields["bool"])]
            self.write(t, item, int(value))

    def _choose(self, t: Thread, op: Op, name: str, kind: str) -> None:
        """set, testp and slct."""
        target, *items = op.operands
        bits = type_bits(kind)
        raw = [self.read(t, item, bits) for item in items[:2]]
        if name == "testp":
            value = to_float(raw[0], kind)
            least = math.ldexp(1.0, FORMATS[kind][1])
            found = {"finite": math.isfinite(value), "infinite": math.isinf(value), "number": not math.isnan(value),
                     "notanumber": math.isnan(value), "normal": math.isfinite(value) and abs(value) >= least,
                     "subnormal": 0 < abs(value) < least}
            self.write(t, target, int(found[str(op.fields["mode"])]))
            return
        if name == "slct":
            chooser = self.read(t, items[2], 32)
            negative = self._value(chooser, "f32", op) < 0 or math.isnan(to_float(chooser, "f32")) \
                if op.fields["tc"] == "f32" else bool(chooser >> 31)
            self.write(t, target, raw[1 if negative else 0])
            return
        result = self._relation(raw, kind, op)
        if op.fields["bool"]:
            item = items[2]
            extra = bool(self.read(t, item, 1)) != (isinstance(item, Reg) and item.negated)
            result = {"and": result and extra, "or": result or extra, "xor": result != extra}[str(op.fields["bool"])]
        td = str(op.fields["td"])
        one = to_bits(1.0, td) if td in FORMATS else (1 << type_bits(td)) - 1
        self.write(t, target, one if result else 0)

    def _relation(self, raw: Sequence[int], kind: str, op: Op) -> bool:
        relation, bits = str(op.fields["cmp"]), type_bits(kind)
        if kind in FORMATS:
            return compare_floats(self._value(raw[0], kind, op), self._value(raw[1], kind, op), relation)
        if kind[0] == "s":
            return compare_integers(signed(raw[0], bits), signed(raw[1], bits), relation)
        return compare_integers(raw[0], raw[1], relation)

    def _packed(self, t: Thread, op: Op, name: str, kind: str) -> None:
        """The same operation on each half."""
        bits = type_bits(kind)
        whole = [self.read(t, item, 2 * bits) for item in op.operands[1:]]
        result = 0
        for half in range(2):
            raw = [unsigned(word >> bits * half, bits) for word in whole]
            if kind in FORMATS:
                value = self._arithmetic(raw, op, name, kind)
            else:
                values = [signed(v, bits) if kind[0] == "s" else v for v in raw]
                value = INTEGER[name](op, values, raw, bits)
            result |= unsigned(value, bits) << bits * half
        self.write(t, op.operands[0], result)

    def _value(self, bits: int, kind: str, op: Op) -> float:
        value = to_float(bits, kind)
        if ".ftz" in op.opcode and kind == "f32" and abs(value) < 2.0 ** -126:
            return math.copysign(0.0, value)
        return value

    def _float(self, t: Thread, op: Op, name: str, kind: str) -> int:
        bits = type_bits(kind)
        return self._arithmetic([self.read(t, item, bits) for item in op.operands[1:]], op, name, kind)

    def _arithmetic(self, raw: Sequence[int], op: Op, name: str, kind: str) -> int:
        """The bits of a float operation on the bits of its operands."""
        top = 1 << type_bits(kind) - 1
        args = [self._value(word, kind, op) for word in raw]
        mode = str(op.fields.get("r") or "rn")
        if name == "copysign":
            return raw[1] & ~top | raw[0] & top
        if name in ("abs", "neg"):
            if ".ftz" not in op.opcode:
                return raw[0] & ~top if name == "abs" else raw[0] ^ top
            return to_bits(abs(args[0]) if name == "abs" else -args[0], kind)
        result = float_operation(name, args, kind, mode, op.opcode)
        if ".ftz" in op.opcode and kind == "f32" and abs(result) < 2.0 ** -126:
            result = math.copysign(0.0, result)
        if ".sat" in op.opcode:
            result = 0.0 if math.isnan(result) else min(max(result, 0.0), 1.0) + 0.0
        if ".relu" in op.opcode and not math.isnan(result):
            result = max(result, 0.0) + 0.0
        return to_bits(result, kind)

    def _convert(self, t: Thread, op: Op) -> None:
        td, ts, mode = str(op.fields["td"]), str(op.fields["ts"]), op.fields["r"]
        raw = self.read(t, op.operands[1], type_bits(ts))
        bits = type_bits(td)
        if ts in FORMATS:
            value: Number = self._value(raw, ts, op)
        else:
            value = signed(raw, type_bits(ts)) if ts[0] == "s" else raw
        if td in FORMATS:
            self.write(t, op.operands[0], convert_to_float(value, td, ts, mode, op.opcode, raw))
            return
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if td[0] == "s" else (0, (1 << bits) - 1)
        if isinstance(value, float):
            result = float_to_integer(value, str(mode), low, high, bits)
        else:
            result = min(max(value, low), high) if op.fields["sat"] else value
        self.write(t, op.operands[0], signed(result, bits) if td[0] == "s" else unsigned(result, bits))

    def _carry(self, t: Thread, op: Op, name: str, kind: str) -> None:
        bits = type_bits(kind)
        values = [self.read(t, item, bits) for item in op.operands[1:]]
        incoming = t.carry if name in ("addc", "subc", "madc") else 0
        if name in ("sub", "subc"):
            total = values[0] - values[1] - (1 - t.carry if name == "subc" else 0)
            carry = int(total >= 0)
        else:
            if name in ("mad", "madc"):
                x, y = ((signed(v, bits) if kind[0] == "s" else v) for v in values[:2])
                product = x * y >> (bits if op.fields["mode"] == "hi" else 0)
                values = [unsigned(product, bits), values[2]]
            total = values[0] + values[1] + incoming
            carry = total >> bits
        self.write(t, op.operands[0], total)
        if ".cc" in op.opcode:
            t.carry = carry

    def _integer(self, t: Thread, op: Op, name: str, kind: str) -> int:
        bits = type_bits(kind)
        function = INTEGER.get(name)
        if function is None:
            raise UnsupportedError.at("E1002", f"the plain path has no {op.opcode!r} (line {op.line})",
                                      Span(self.path, op.line))
        if name == "selp":
            item = op.operands[3]
            chosen = bool(self.read(t, item, 1)) != (isinstance(item, Reg) and item.negated)
            return self.read(t, op.operands[1 if chosen else 2], bits)
        raw = [self.read(t, item, bits if i < 3 and bits > 1 else 32 if bits > 1 else 1)
               for i, item in enumerate(op.operands[1:])]
        if name in ("shl", "shr", "bfe", "bfi", "shf", "szext", "mad"):
            wide = [bits] * 4
            start = {"bfe": 1, "bfi": 2, "shl": 1, "shr": 1, "szext": 1}.get(name, 4)
            wide[start:] = [32] * (4 - start)
            if name == "mad" and op.fields["mode"] == "wide":
                wide[2] = 2 * bits
            raw = [self.read(t, item, wide[i]) for i, item in enumerate(op.operands[1:])]
        values = [signed(v, bits) if kind[0] == "s" and type_bits(kind) == bits else v for v in raw]
        return function(op, values, raw, bits)


def _fixed_type(op: Op) -> str:
    """The type of an instruction that has only one."""
    return next((word for word in reversed(op.opcode.split(".")) if word in TYPE_BITS), "b32")


REDUCE: dict[str, Callable[[int, int], int]] = {
    "add": lambda x, y: x + y, "min": lambda x, y: min(x, y), "max": lambda x, y: max(x, y), "and": lambda x, y: x & y,
    "or": lambda x, y: x | y, "xor": lambda x, y: x ^ y,
}


def collective(op: Op, lane: int, members: dict[int, dict[str, int]]) -> dict[str, int]:
    """What a lane receives from a collective of the member lanes."""
    own = members[lane]
    if op.opcode.startswith("elect"):
        lowest = min(other for other in members if own["mask"] >> other & 1)
        return {"value": lowest, "flag": int(lane == lowest)}
    values = {other: data["value"] for other, data in members.items() if own["mask"] >> other & 1}
    if op.opcode.startswith("shfl"):
        amount, control = own["amount"] & 31, own["control"]
        clamp, segment = control & 31, control >> 8 & 31
        top, low = (lane & segment) | (clamp & ~segment & 31), lane & segment
        mode = op.fields["mode"]
        source = {"up": lane - amount, "down": lane + amount, "bfly": lane ^ amount,
                  "idx": low | (amount & ~segment & 31)}[str(mode)]
        inside = source >= top if mode == "up" else source <= top
        return {"value": members[source if inside else lane]["value"], "flag": int(inside)}
    if op.opcode.startswith("vote"):
        ballot = sum(1 << other for other, v in values.items() if v)
        mode = op.fields["mode"]
        if mode == "ballot":
            return {"value": ballot}
        every, some = all(values.values()), any(values.values())
        return {"value": int({"all": every, "any": some, "uni": every or not some}[str(mode)])}
    if op.opcode.startswith("match"):
        same = sum(1 << other for other, v in values.items() if v == own["value"])
        whole = sum(1 << other for other in values)
        if op.fields["mode"] == "any":
            return {"value": same}
        return {"value": whole if same == whole else 0, "flag": int(same == whole)}
    numbers = [signed(v, 32) if op.fields.get("t") == "s32" else v for v in values.values()]
    result = numbers[0]
    for v in numbers[1:]:
        result = REDUCE[str(op.fields["op"])](result, v)
    return {"value": unsigned(result, 32)}


def run(ptx: str, entry: str, threads: int, args: Sequence[Any]) -> None:
    """Run one block of a kernel; arrays are changed in place.

    Raises:
        UserError: as the fast path, and E1002 for instructions outside of the scalar ISA and the collectives.
    """
    load_operations()
    module = parse(ptx)
    decoded = decoding.decode(module, entry)
    values = pack_arguments(decoded, args, {})
    memory = np.zeros(values.place(decoded.placement.end) + GUARD, np.uint8)
    parameters = values.parameter_bytes()
    memory[GUARD:GUARD + parameters.size] = parameters
    values.copy_in(memory)
    data = bytearray(memory.tobytes())
    Plain(decoded, module.path, threads, data).run()
    values.copy_back(np.frombuffer(bytes(data), np.uint8))
