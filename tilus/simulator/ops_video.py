"""Video instructions: arithmetic on bytes and halves of registers, with saturation, a second operation or a merge."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Const, Op, Predicated, Reg
from tilus.simulator.resolved import Part

_TYPES = "td:u32|s32 ta:u32|s32 tb:u32|s32"
_SECOND: dict[str, Callable[[Array, Array], Array]] = {"add": np.add, "min": np.minimum, "max": np.maximum}
_COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}
_BASIC: dict[str, Callable[[Array, Array], Array]] = {
    "vadd": np.add, "vsub": np.subtract, "vabsdiff": lambda x, y: np.abs(x - y), "vmin": np.minimum, "vmax": np.maximum,
    "vavrg": lambda x, y: (x + y + 1) >> 1}


def _part(b: Binder, op: Op, item: Any) -> tuple[Array, str, bool]:
    """A source as raw 32-bit words, its selector, and whether it is negated."""
    if isinstance(item, Part):
        return b.row(item.reg), item.selector, item.reg.minus
    if isinstance(item, Reg) and item.bits == 32:
        return b.row(item), "", item.minus
    if isinstance(item, Const):
        return b.src(op, item, "b32"), "", False
    raise b.error("a register of 32 bits, or a part of one, is expected", op)


def _extend(words: Array, kind: str, bits: int, position: int) -> Array:
    """Bits of the words, sign- or zero-extended to 64 bits."""
    value = words.astype(np.int64) >> bits * position & ((1 << bits) - 1)
    return np.where(value >> bits - 1, value - (1 << bits), value) if kind[0] == "s" else value


def _one(words: Array, kind: str, selector: str, b: Binder, op: Op) -> Array:
    if not re.fullmatch(r"b[0-3]|h[01]|", selector):
        raise b.error(f"bad selector .{selector}", op)
    bits = {"b": 8, "h": 16}.get(selector[:1], 32)
    return _extend(words, kind, bits, int(selector[1:] or 0))


def _saturate(value: Array, kind: str, bits: int) -> Array:
    if kind[0] == "s":
        return np.clip(value, -(1 << bits - 1), (1 << bits - 1) - 1)
    return np.clip(value, 0, (1 << bits) - 1)


def _scalar(b: Binder, op: Op, kinds: tuple[str, str, str], compute: Callable[[Array, Array], Array]) -> Predicated:
    """d = sat(compute(a, b)), then the second operation with c, or a merge into c."""
    kd, ka, kb = kinds
    d, a, bb, *rest = b.need(op, 3, 4)
    words_a, select_a, _ = _part(b, op, a)
    words_b, select_b, _ = _part(b, op, bb)
    saturating, second = op.fields.get("sat") is not None, op.fields.get("second")
    merge = d.selector if isinstance(d, Part) else ""
    if bool(rest) != (second is not None or bool(merge)):
        raise b.error(f"{len(op.operands)} operands", op)
    target = b.dst(op, d.reg if isinstance(d, Part) else d, "b32")
    third = _part(b, op, rest[0])[0] if rest else np.zeros(1, np.uint32)
    bits = {"b": 8, "h": 16}.get(merge[:1], 32)

    def fn(x: Array, y: Array, z: Array) -> Array:
        value = compute(_one(x, ka, select_a, b, op), _one(y, kb, select_b, b, op))
        value = _saturate(value, kd, bits) if saturating else value
        if second is not None:
            low = _extend(value & 0xFFFFFFFF, kd, 32, 0)
            value = _SECOND[second](low, _extend(z, kd, 32, 0))
        elif merge:
            shift = bits * int(merge[1:])
            mask = (1 << bits) - 1
            value = z.astype(np.int64) & ~(mask << shift) | (value & mask) << shift
        return (value & 0xFFFFFFFF).astype(np.uint32)

    _one(np.zeros(1, np.uint32), ka, select_a, b, op)
    _one(np.zeros(1, np.uint32), kb, select_b, b, op)
    return b.alu(op, fn, target, words_a, words_b, third)


@instr(*[f"{name} {_TYPES} ?sat ?second:add|min|max" for name in ("vadd", "vsub", "vabsdiff", "vmin", "vmax")],
       kind="video")
def scalar(b: Binder, op: Op) -> Predicated:
    f = op.fields
    return _scalar(b, op, (str(f["td"]), str(f["ta"]), str(f["tb"])), _BASIC[op.opcode.split(".")[0]])


@instr("vshl td:u32|s32 ta:u32|s32 =u32 ?sat mode:clamp|wrap ?second:add|min|max",
       "vshr td:u32|s32 ta:u32|s32 =u32 ?sat mode:clamp|wrap ?second:add|min|max", kind="video")
def shift(b: Binder, op: Op) -> Predicated:
    left, wrap = op.opcode.startswith("vshl"), op.fields["mode"] == "wrap"

    def fn(x: Array, y: Array) -> Array:
        amount = y & 31 if wrap else np.minimum(y, 32)
        return x << np.minimum(amount, 31) if left and wrap else x << amount if left else x >> amount

    return _scalar(b, op, (str(op.fields["td"]), str(op.fields["ta"]), "u32"), fn)


@instr("vset ta:u32|s32 tb:u32|s32 cmp:eq|ne|lt|le|gt|ge ?second:add|min|max", kind="video")
def compare(b: Binder, op: Op) -> Predicated:
    function = _COMPARE[str(op.fields["cmp"])]
    kinds = ("u32", str(op.fields["ta"]), str(op.fields["tb"]))
    return _scalar(b, op, kinds, lambda x, y: function(x, y).astype(np.int64))


@instr(f"vmad {_TYPES} ?po ?sat ?scale:shr7|shr15", kind="video")
def multiply_add(b: Binder, op: Op) -> Predicated:
    f = op.fields
    kd, ka, kb = str(f["td"]), str(f["ta"]), str(f["tb"])
    d, *sources = b.need(op, 4)
    (words_a, select_a, minus_a), (words_b, select_b, minus_b), (words_c, _, minus_c) = (
        _part(b, op, item) for item in sources)
    shift = {"shr7": 7, "shr15": 15}.get(str(f["scale"]), 0)
    signed_c = "s32" if ka[0] == "s" or kb[0] == "s" or minus_a or minus_b or minus_c else "u32"

    def fn(x: Array, y: Array, z: Array) -> Array:
        product = _one(x, ka, select_a, b, op) * _one(y, kb, select_b, b, op)
        third = _extend(z, signed_c, 32, 0)
        if f["po"] is not None:
            product = product + 1
        else:
            product = -product if minus_a != minus_b else product
            third = -third if minus_c else third
        value = (product + third) >> shift
        value = _saturate(value, kd, 32) if f["sat"] is not None else value
        return (value & 0xFFFFFFFF).astype(np.uint32)

    return b.alu(op, fn, b.dst(op, d, "b32"), words_a, words_b, words_c)


def _lanes(selector: str, count: int, default: tuple[int, ...], b: Binder, op: Op) -> tuple[int, ...]:
    """Which of the parts of {b, a} each lane takes, lowest lane first."""
    if not selector:
        return default
    letter = "b" if count == 4 else "h"
    numbers = tuple(int(c) for c in reversed(selector[1:]))
    if selector[0] != letter or len(numbers) != count or max(numbers) >= 2 * count:
        raise b.error(f"bad selector .{selector}", op)
    return numbers


def _simd(b: Binder, op: Op, kinds: tuple[str, str, str], count: int, compute: Callable[[Array, Array], Array]
          ) -> Predicated:
    kd, ka, kb = kinds
    d, a, bb, c = b.need(op, 4)
    words_a, select_a, _ = _part(b, op, a)
    words_b, select_b, _ = _part(b, op, bb)
    words_c = _part(b, op, c)[0]
    bits = 32 // count
    of_a = _lanes(select_a, count, tuple(range(count)), b, op)
    of_b = _lanes(select_b, count, tuple(range(count, 2 * count)), b, op)
    chosen = tuple(int(x) for x in d.selector[1:]) if isinstance(d, Part) else tuple(range(count))
    if max(chosen) >= count:
        raise b.error("the mask names a part that does not exist", op)
    saturating, accumulating = op.fields.get("sat") is not None, op.fields.get("second") is not None

    def fn(x: Array, y: Array, z: Array) -> Array:
        def lane(kind: str, number: int) -> Array:
            return _extend(x if number < count else y, kind, bits, number % count)

        total = _extend(z, kd, 32, 0)
        for i in chosen:
            value = compute(lane(ka, of_a[i]), lane(kb, of_b[i]))
            value = _saturate(value, kd, bits) if saturating else value
            if accumulating:
                total = total + value
            else:
                mask = ((1 << bits) - 1) << bits * i
                total = total & ~mask | value << bits * i & mask
        return (total & 0xFFFFFFFF).astype(np.uint32)

    return b.alu(op, fn, b.dst(op, d.reg if isinstance(d, Part) else d, "b32"), words_a, words_b, words_c)


_SIMD = [f"{name}{count} {_TYPES} ?sat ?second:add" for count in (2, 4)
         for name in ("vadd", "vsub", "vabsdiff", "vmin", "vmax")]


@instr(*_SIMD, "vavrg2 =u32 =u32 =u32 ?sat ?second:add", "vavrg4 =u32 =u32 =u32 ?sat ?second:add", kind="video")
def simd(b: Binder, op: Op) -> Predicated:
    f = op.fields
    name = op.opcode.split(".")[0]
    kinds = (str(f.get("td") or "u32"), str(f.get("ta") or "u32"), str(f.get("tb") or "u32"))
    return _simd(b, op, kinds, int(name[-1]), _BASIC[name[:-1]])


@instr(*[f"vset{count} ta:u32|s32 tb:u32|s32 cmp:eq|ne|lt|le|gt|ge ?second:add" for count in (2, 4)], kind="video")
def simd_compare(b: Binder, op: Op) -> Predicated:
    function = _COMPARE[str(op.fields["cmp"])]
    kinds = ("u32", str(op.fields["ta"]), str(op.fields["tb"]))
    return _simd(b, op, kinds, int(op.opcode[4]), lambda x, y: function(x, y).astype(np.int64))
