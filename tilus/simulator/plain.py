"""A second, deliberately plain execution path: one thread at a time, Python integers and fractions.

It covers the scalar ISA and the warp collectives, shares only the decoder with the fast path, and serves to check it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Generator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tilus.diagnostics import Span, UnsupportedError
from tilus.simulator import decode as decoding
from tilus.simulator.arguments import pack_arguments
from tilus.simulator.layout import GLOBAL_BASE, GUARD
from tilus.simulator.operations import load_operations
from tilus.simulator.parser import parse
from tilus.simulator.resolved import Both, Const, Decoded, Mem, Op, Reg, Resolved, Sink, Special, Symbol, Vec
from tilus.simulator.syntax import type_bits

Number = int | float
_FORMAT = {
    "f16": (11, -14, "<e", 16),
    "bf16": (8, -126, "", 16),
    "f32": (24, -126, "<f", 32),
    "f64": (53, -1022, "<d", 64),
}


def unsigned(value: int, bits: int) -> int:
    return value & ((1 << bits) - 1)


def signed(value: int, bits: int) -> int:
    value = unsigned(value, bits)
    return value - (1 << bits) if value >> (bits - 1) else value


def to_float(bits: int, kind: str) -> float:
    """The value of a register's bits."""
    if kind == "bf16":
        return float(struct.unpack("<f", struct.pack("<I", bits << 16))[0])
    _, _, code, width = _FORMAT[kind]
    return float(struct.unpack(code, bits.to_bytes(width // 8, "little"))[0])


def to_bits(value: float, kind: str) -> int:
    """Bits of a value that the type represents exactly."""
    if kind == "bf16":
        return int(struct.unpack("<I", struct.pack("<f", value))[0]) >> 16
    _, _, code, width = _FORMAT[kind]
    return int.from_bytes(struct.pack(code, value), "little")


def round_exact(value: Fraction | float, kind: str, mode: str = "rn", zero_sign: float = 1.0) -> float:
    """Round an exact value to a type; ``zero_sign`` gives the sign of an exact zero."""
    if isinstance(value, float):
        return value
    if value == 0:
        return math.copysign(0.0, zero_sign)
    precision, emin, _, _ = _FORMAT[kind]
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    quantum = Fraction(2) ** (max(exponent, emin) - precision + 1)
    scaled = value / quantum
    floor = math.floor(scaled)
    rest = scaled - floor
    if mode == "rn":
        chosen = floor + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and floor % 2 == 1))
    elif mode == "rz":
        chosen = floor if value > 0 or rest == 0 else floor + 1
    elif mode == "rm":
        chosen = floor
    else:
        chosen = floor + (rest > 0)
    result = chosen * quantum
    largest = (2 - Fraction(2) ** (1 - precision)) * Fraction(2) ** (-emin + 1)
    if abs(result) > largest:
        stays = mode == "rz" or (mode == "rm" and value > 0) or (mode == "rp" and value < 0)
        return math.copysign(float(largest) if stays else math.inf, 1 if value > 0 else -1)
    return float(result) if result else math.copysign(0.0, 1 if value > 0 else -1)


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
        kind = str(op.fields.get("t") or "b32")
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
        elif ".cc" in op.opcode or name in ("addc", "subc", "madc"):
            self._carry(t, op, name, kind)
        elif kind in _FORMAT and name != "selp":
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
        bits, relation = type_bits(kind), str(op.fields["cmp"])
        a, b = self.read(t, op.operands[1], bits), self.read(t, op.operands[2], bits)
        if kind in _FORMAT:
            result = compare_floats(self._value(a, kind, op), self._value(b, kind, op), relation)
        elif kind[0] == "s":
            result = compare_integers(signed(a, bits), signed(b, bits), relation)
        else:
            result = compare_integers(a, b, relation)
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

    def _value(self, bits: int, kind: str, op: Op) -> float:
        value = to_float(bits, kind)
        if ".ftz" in op.opcode and kind == "f32" and abs(value) < 2.0 ** -126:
            return math.copysign(0.0, value)
        return value

    def _float(self, t: Thread, op: Op, name: str, kind: str) -> int:
        bits = type_bits(kind)
        args = [self._value(self.read(t, item, bits), kind, op) for item in op.operands[1:]]
        mode = str(op.fields.get("r") or "rn")
        if name in ("abs", "neg"):
            raw = self.read(t, op.operands[1], bits)
            top = 1 << bits - 1
            if ".ftz" not in op.opcode:
                return raw & ~top if name == "abs" else raw ^ top
            return to_bits(abs(args[0]) if name == "abs" else -args[0], kind)
        result = float_operation(name, args, kind, mode, op.opcode)
        if ".ftz" in op.opcode and kind == "f32" and abs(result) < 2.0 ** -126:
            result = math.copysign(0.0, result)
        if ".sat" in op.opcode:
            result = 0.0 if math.isnan(result) else min(max(result, 0.0), 1.0) + 0.0
        return to_bits(result, kind)

    def _convert(self, t: Thread, op: Op) -> None:
        td, ts, mode = str(op.fields["td"]), str(op.fields["ts"]), op.fields["r"]
        raw = self.read(t, op.operands[1], type_bits(ts))
        bits = type_bits(td)
        if ts in _FORMAT:
            value: Number = self._value(raw, ts, op)
        else:
            value = signed(raw, type_bits(ts)) if ts[0] == "s" else raw
        if td in _FORMAT:
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


REDUCE: dict[str, Callable[[int, int], int]] = {
    "add": lambda x, y: x + y, "min": lambda x, y: min(x, y), "max": lambda x, y: max(x, y), "and": lambda x, y: x & y,
    "or": lambda x, y: x | y, "xor": lambda x, y: x ^ y,
}
TO_INTEGER: dict[str, Callable[[Fraction], int]] = {
    "rni": round,
    "rzi": math.trunc,
    "rmi": math.floor,
    "rpi": math.ceil,
}


def collective(op: Op, lane: int, members: dict[int, dict[str, int]]) -> dict[str, int]:
    """What a lane receives from a collective of the member lanes."""
    own = members[lane]
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


def compare_integers(a: int, b: int, relation: str) -> bool:
    return {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b, "lo": a < b, "ls": a <= b,
            "hi": a > b, "hs": a >= b}[relation]


def compare_floats(a: float, b: float, relation: str) -> bool:
    nan = math.isnan(a) or math.isnan(b)
    if relation in ("num", "nan"):
        return nan == (relation == "nan")
    unordered = relation.endswith("u")
    return unordered if nan else compare_integers_like(a, b, relation[:-1] if unordered else relation)


def compare_integers_like(a: float, b: float, relation: str) -> bool:
    return {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}[relation]


def float_operation(name: str, args: Sequence[float], kind: str, mode: str, opcode: str) -> float:
    """add, sub, mul, fma, div, sqrt, rcp, min and max with one rounding."""
    if name in ("min", "max"):
        return extremum(name, args[0], args[1], ".NaN" in opcode)
    if name == "rcp":
        name, args = "div", [1.0, args[0]]
    if name == "sub":
        name, args = "add", [args[0], -args[1]]
    if name == "add":
        name, args = "fma", [args[0], 1.0, args[1]]
    if any(not math.isfinite(a) for a in args) or (name == "div" and args[1] == 0) or (name == "sqrt" and args[0] <= 0):
        return special_case(name, args)
    x = [Fraction(a) for a in args]
    if name == "mul":
        return round_exact(x[0] * x[1], kind, mode, math.copysign(1, args[0]) * math.copysign(1, args[1]))
    if name in ("fma", "mad"):
        product = math.copysign(1, args[0]) * math.copysign(1, args[1])
        addend = math.copysign(1, args[2])
        sign = product if product == addend else (-1.0 if mode == "rm" else 1.0)
        return round_exact(x[0] * x[1] + x[2], kind, mode, sign)
    if name == "div":
        return round_exact(x[0] / x[1], kind, mode, math.copysign(1, args[0]) * math.copysign(1, args[1]))
    shift = 1300
    scaled = x[0] * Fraction(4) ** shift
    root = math.isqrt(math.floor(scaled))
    exact = root * root == scaled
    return round_exact(Fraction(2 * root + (0 if exact else 1), 2) / Fraction(2) ** shift, kind, mode)


def special_case(name: str, args: Sequence[float]) -> float:
    """Results that involve infinities, NaN, or division by zero."""
    with np.errstate(all="ignore"):
        x = [np.float64(a) for a in args]
        if name == "mul":
            return float(x[0] * x[1])
        if name in ("fma", "mad"):
            return float(x[0] * x[1] + x[2])
        return float(x[0] / x[1]) if name == "div" else float(np.sqrt(x[0]))


def extremum(name: str, a: float, b: float, nan: bool) -> float:
    if math.isnan(a) or math.isnan(b):
        return math.nan if nan or (math.isnan(a) and math.isnan(b)) else (b if math.isnan(a) else a)
    key = (a, math.copysign(1, a)), (b, math.copysign(1, b))
    return (min(key) if name == "min" else max(key))[0] if a != b else \
        math.copysign(a, (min if name == "min" else max)(math.copysign(1, a), math.copysign(1, b)))


def convert_to_float(value: Number, td: str, ts: str, mode: str | None, opcode: str, raw: int) -> int:
    """Bits of a conversion's result."""
    if isinstance(value, float) and not math.isfinite(value):
        if ".sat" in opcode:
            return to_bits(1.0 if value > 0 else 0.0, td)
        return to_bits(value, td) if td != ts else raw
    if mode in ("rni", "rzi", "rmi", "rpi"):
        number = Fraction(value)
        rounded = TO_INTEGER[mode](number)
        result = round_exact(Fraction(rounded), td, "rn", math.copysign(1, value))
    else:
        result = round_exact(Fraction(value), td, mode or "rn", math.copysign(1, value))
    if ".sat" in opcode:
        result = min(max(result, 0.0), 1.0) + 0.0
    if ".ftz" in opcode and td == "f32" and abs(result) < 2.0 ** -126:
        result = math.copysign(0.0, result)
    return to_bits(result, td)


def float_to_integer(value: float, mode: str, low: int, high: int, bits: int) -> int:
    if math.isnan(value):
        return 1 << 63 if bits == 64 else 0
    if math.isinf(value):
        return high if value > 0 else low
    rounded = TO_INTEGER[mode](Fraction(value))
    return min(max(int(rounded), low), high)


def _truncated(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _permute(raw: Sequence[int]) -> int:
    pool = (raw[1] << 32 | raw[0]).to_bytes(8, "little")
    result = 0
    for i in range(4):
        nibble = raw[2] >> 4 * i & 15
        byte = pool[nibble & 7]
        result |= ((255 if byte & 128 else 0) if nibble & 8 else byte) << 8 * i
    return result


def _extract(values: Sequence[int], raw: Sequence[int], bits: int, sign: bool) -> int:
    position, length = raw[1] & 255, raw[2] & 255
    if length == 0:
        return 0
    result = raw[0] >> position & ((1 << length) - 1)
    top = raw[0] >> min(position + length - 1, bits - 1) & 1
    if sign and top:
        kept = max(0, min(length, bits - position))
        result |= -1 << kept
    return result


def _insert(raw: Sequence[int], bits: int) -> int:
    position, length = raw[2] & 255, min(raw[3] & 255, bits)
    mask = unsigned(((1 << length) - 1) << position, bits)
    return (raw[1] & ~mask) | (raw[0] << position & mask)


def _funnel(op: Op, raw: Sequence[int]) -> int:
    amount = min(raw[2], 32) if op.fields["mode"] == "clamp" else raw[2] & 31
    full = raw[1] << 32 | raw[0]
    return full << amount >> 32 if op.fields["way"] == "l" else full >> amount


def _multiply(op: Op, v: Sequence[int], bits: int) -> int:
    return v[0] * v[1] >> (bits if op.fields["mode"] == "hi" else 0)


def _lop3(raw: Sequence[int]) -> int:
    return sum(
        (raw[3] >> ((raw[0] >> i & 1) * 4 + (raw[1] >> i & 1) * 2 + (raw[2] >> i & 1)) & 1) << i for i in range(32)
    )


def _highest(v: int, bits: int) -> int:
    return ((~v if v < 0 else v).bit_length() - 1) & 0xFFFFFFFF


def _bytes_dot(op: Op, raw: Sequence[int]) -> int:
    def split(value: int, kind: str) -> list[int]:
        return [(b - 256 if kind == "s32" and b > 127 else b) for b in value.to_bytes(4, "little")]

    return raw[2] + sum(x * y for x, y in zip(split(raw[0], str(op.fields["ta"])), split(raw[1], str(op.fields["tb"])),
                                              strict=True))


Integer = Callable[[Op, Sequence[int], Sequence[int], int], int]
INTEGER: dict[str, Integer] = {
    "add": lambda op, v, r, n: min(max(v[0] + v[1], -1 << 31), (1 << 31) - 1) if ".sat" in op.opcode else v[0] + v[1],
    "sub": lambda op, v, r, n: min(max(v[0] - v[1], -1 << 31), (1 << 31) - 1) if ".sat" in op.opcode else v[0] - v[1],
    "mul": lambda op, v, r, n: _multiply(op, v, n),
    "mad": lambda op, v, r, n: _multiply(op, v, n) + r[2],
    "div": lambda op, v, r, n: _truncated(v[0], v[1]) if v[1] else -1,
    "rem": lambda op, v, r, n: v[0] - _truncated(v[0], v[1]) * v[1] if v[1] else v[0],
    "min": lambda op, v, r, n: min(v[0], v[1]),
    "max": lambda op, v, r, n: max(v[0], v[1]),
    "abs": lambda op, v, r, n: abs(v[0]),
    "neg": lambda op, v, r, n: -v[0],
    "and": lambda op, v, r, n: r[0] & r[1],
    "or": lambda op, v, r, n: r[0] | r[1],
    "xor": lambda op, v, r, n: r[0] ^ r[1],
    "not": lambda op, v, r, n: ~r[0],
    "cnot": lambda op, v, r, n: int(r[0] == 0),
    "shl": lambda op, v, r, n: r[0] << min(r[1], n),
    "shr": lambda op, v, r, n: v[0] >> min(r[1], n),
    "shf": lambda op, v, r, n: _funnel(op, r),
    "lop3": lambda op, v, r, n: _lop3(r),
    "prmt": lambda op, v, r, n: _permute(r),
    "bfe": lambda op, v, r, n: _extract(v, r, n, str(op.fields["t"])[0] == "s"),
    "bfi": lambda op, v, r, n: _insert(r, n),
    "popc": lambda op, v, r, n: bin(r[0]).count("1"),
    "clz": lambda op, v, r, n: n - r[0].bit_length(),
    "brev": lambda op, v, r, n: int(f"{r[0]:0{n}b}"[::-1], 2),
    "bfind": lambda op, v, r, n: _highest(v[0], n),
    "sad": lambda op, v, r, n: v[2] + abs(v[0] - v[1]),
    "dp4a": lambda op, v, r, n: _bytes_dot(op, r),
    "selp": lambda op, v, r, n: 0,
}


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
