"""Integer and bit operations of the plain path, on Python integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.simulator.plain_numbers import signed, unsigned
from tilus.simulator.resolved import Op


def _truncated(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _permute(raw: Sequence[int], mode: str | None) -> int:
    pool = (raw[1] << 32 | raw[0]).to_bytes(8, "little")
    if mode is not None:
        k = raw[2] & 3
        chosen = {"f4e": [k + i for i in range(4)], "b4e": [(k - i) & 7 for i in range(4)], "rc8": [k] * 4,
                  "ecl": [max(i, k) for i in range(4)], "ecr": [min(i, k) for i in range(4)],
                  "rc16": [2 * (k & 1) + i % 2 for i in range(4)]}[mode]
        return sum(pool[place] << 8 * i for i, place in enumerate(chosen))
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


def _highest(op: Op, v: int, bits: int) -> int:
    place = (~v if v < 0 else v).bit_length() - 1
    return (bits - 1 - place if ".shiftamt" in op.opcode and place >= 0 else place) & 0xFFFFFFFF


def _multiply_24(op: Op, v: Sequence[int], raw: Sequence[int]) -> int:
    x, y = (signed(w << 8, 32) >> 8 if op.fields["t"] == "s32" else w & 0xFFFFFF for w in raw[:2])
    return x * y >> (16 if op.fields["mode"] == "hi" else 0)


def _halves_dot(op: Op, raw: Sequence[int]) -> int:
    """Two 16-bit numbers by two bytes of the low or high half."""
    second = raw[1] >> (16 if op.fields["mode"] == "hi" else 0)
    x = [signed(raw[0] >> 16 * i, 16) if op.fields["ta"] == "s32" else unsigned(raw[0] >> 16 * i, 16) for i in range(2)]
    y = [signed(second >> 8 * i, 8) if op.fields["tb"] == "s32" else unsigned(second >> 8 * i, 8) for i in range(2)]
    return raw[2] + x[0] * y[0] + x[1] * y[1]


def _mask_of(op: Op, raw: Sequence[int]) -> int:
    """bmsk: ones from a position on, so many."""
    start, width = (raw[0] & 31, raw[1] & 31) if op.fields["mode"] == "wrap" else (min(raw[0], 32), min(raw[1], 32))
    return ((1 << width) - 1) << start


def _extend(op: Op, raw: Sequence[int]) -> int:
    """szext: the low bits, extended by sign or zeros."""
    count = raw[1] & 31 if op.fields["mode"] == "wrap" else min(raw[1], 32)
    low = unsigned(raw[0], count)
    return signed(low, count) if op.fields["t"] == "s32" and count else low


def _clamped(value: int, op: Op, bits: int) -> int:
    if ".sat" in op.opcode:
        return min(max(value, -1 << 31), (1 << 31) - 1)
    return max(value, 0) if ".relu" in op.opcode else value


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
    "mad": lambda op, v, r, n: _clamped(_multiply(op, v, n) + signed(r[2], 32), op, n) if ".sat" in op.opcode else
    _multiply(op, v, n) + r[2],
    "div": lambda op, v, r, n: _truncated(v[0], v[1]) if v[1] else -1,
    "rem": lambda op, v, r, n: v[0] - _truncated(v[0], v[1]) * v[1] if v[1] else v[0],
    "min": lambda op, v, r, n: _clamped(min(v[0], v[1]), op, n),
    "max": lambda op, v, r, n: _clamped(max(v[0], v[1]), op, n),
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
    "prmt": lambda op, v, r, n: _permute(r, op.fields.get("mode")),
    "bfe": lambda op, v, r, n: _extract(v, r, n, str(op.fields["t"])[0] == "s"),
    "bfi": lambda op, v, r, n: _insert(r, n),
    "popc": lambda op, v, r, n: bin(r[0]).count("1"),
    "clz": lambda op, v, r, n: n - r[0].bit_length(),
    "brev": lambda op, v, r, n: int(f"{r[0]:0{n}b}"[::-1], 2),
    "bfind": lambda op, v, r, n: _highest(op, v[0], n),
    "sad": lambda op, v, r, n: v[2] + abs(v[0] - v[1]),
    "dp4a": lambda op, v, r, n: _bytes_dot(op, r),
    "dp2a": lambda op, v, r, n: _halves_dot(op, r),
    "mul24": lambda op, v, r, n: _multiply_24(op, v, r),
    "mad24": lambda op, v, r, n: _multiply_24(op, v, r) + r[2],
    "bmsk": lambda op, v, r, n: _mask_of(op, r),
    "szext": lambda op, v, r, n: _extend(op, r),
    "selp": lambda op, v, r, n: 0,
}
