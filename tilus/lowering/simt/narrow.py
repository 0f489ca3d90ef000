"""Types that fill no register: their elements are held as codes, in the next unsigned integer, high bits zero."""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.dtypes import DType, f64, integer, u32, u64
from tilus.ir.ops import Binary, Bitcast, Cast, Const, View
from tilus.lowering.legalise.codes import code_to_float, float_to_code
from tilus.lowering.simt.context import Thread, register_type

WORD = 32


def is_narrow(dtype: DType) -> bool:
    return register_type(dtype) is not dtype


def convert(thread: Thread, x: Value, source: DType, target: DType, rounding: str) -> Value:
    """A conversion from or to a narrow type, of values in registers."""
    b = Builder(thread.block, thread.span)
    number = _number(b, x, source) if is_narrow(source) else x
    if not is_narrow(target):
        return number if number.tile.dtype is target else b.add(Cast(number, target, rounding)).result
    if not target.is_int:
        return _to(b, float_to_code(b, number, target, rounding), register_type(target))
    return _to(b, _integer_code(b, number, target, rounding), register_type(target))


def constant(thread: Thread, value: int | float, dtype: DType, count: int) -> Value:
    """A constant of a narrow type, from the number."""
    if dtype.is_int:
        return thread.const(int(value) & ((1 << dtype.bits) - 1), register_type(dtype), count)
    b = Builder(thread.block, thread.span)
    return _to(b, float_to_code(b, thread.const(float(value), f64, count), dtype, "rn"), register_type(dtype))


def _to(b: Builder, x: Value, dtype: DType) -> Value:
    return x if x.tile.dtype is dtype else b.add(Cast(x, dtype)).result


def _constant(b: Builder, value: int, like: Value) -> Value:
    return b.add(Const(value, like.tile.dtype, like.tile.shape)).result


def _number(b: Builder, code: Value, dtype: DType) -> Value:
    """The number that a code stands for, in an arithmetic type that holds all of them."""
    if not dtype.is_int:
        return code_to_float(b, code, dtype)
    wide = integer(WORD if dtype.bits <= WORD else 64, dtype.kind == "int")
    x = _to(b, code, wide)
    if dtype.kind == "uint":
        return x
    shift = _constant(b, wide.bits - dtype.bits, x)
    return b.binary("shr", b.binary("shl", x, shift), shift)


def _integer_code(b: Builder, number: Value, dtype: DType, rounding: str) -> Value:
    """Floats saturate, integers wrap."""
    signed = dtype.kind == "int"
    wide = integer(WORD if dtype.bits < WORD else 64, signed)
    if number.tile.dtype.is_float:
        x = b.add(Cast(number, wide, rounding)).result
        x = b.binary("min", x, _constant(b, dtype.max_value, x))
        x = b.binary("max", x, _constant(b, dtype.min_value, x))
    else:
        x = _to(b, number, wide)
    return b.binary("and", x, _constant(b, (1 << dtype.bits) - 1, x))


def lower_view(thread: Thread, op: View) -> None:
    """Each thread's bits, element after element, in words of 32 bits, and the new elements out of those."""
    x = thread.value(op.x)
    source, target = op.x.tile.dtype, op.dtype
    if source.is_bool or not is_narrow(source):
        x = thread.widen(x, source)
    elements = [_code_of(thread, thread.extract(x, n), source) for n in range(x.tile.size)]
    words = _words(thread, elements, source.bits)
    count = op.layout.num_locals
    parts = [_from_code(thread, _field(thread, words, n * target.bits, target.bits), target) for n in range(count)]
    thread.set(op.result, thread.pack(parts))


def _code_of(thread: Thread, x: Value, dtype: DType) -> Value:
    """The bits of one element, in u32 (u64 for more than 32)."""
    if dtype.is_bool:
        return thread.emit(Cast(x, u32))
    unsigned = integer(register_type(dtype).bits, signed=False)
    code = x if x.tile.dtype is unsigned else thread.emit(Bitcast(x, unsigned))
    return thread.widen(code, u32 if dtype.bits <= WORD else u64)


def _from_code(thread: Thread, code: Value, dtype: DType) -> Value:
    if dtype.is_bool:
        return thread.compare("ne", code, 0)
    held = register_type(dtype)
    x = thread.widen(code, integer(held.bits, signed=False))
    return x if x.tile.dtype is held else thread.emit(Bitcast(x, held))


def _words(thread: Thread, elements: list[Value], bits: int) -> list[Value]:
    """The elements' bits one after another, in u32."""
    words: list[Value | None] = [None] * -(-len(elements) * bits // WORD)

    def put(at: int, part: Value, width: int) -> None:
        place, shift = divmod(at, WORD)
        shifted = thread.binary("shl", part, shift) if shift else part
        before = words[place]
        words[place] = shifted if before is None else thread.emit(Binary("or", before, shifted))
        if shift + width > WORD:
            words[place + 1] = thread.binary("shr", part, WORD - shift)

    for n, code in enumerate(elements):
        at = n * bits
        if bits > WORD:
            put(at, thread.emit(Cast(code, u32)), WORD)
            put(at + WORD, thread.emit(Cast(thread.binary("shr", code, WORD), u32)), bits - WORD)
        else:
            put(at, code, bits)
    return [w if w is not None else thread.const(0, u32) for w in words]


def _field(thread: Thread, words: list[Value], at: int, bits: int) -> Value:
    """``bits`` bits from bit ``at`` on: u32, or u64 for more than 32."""
    if bits > WORD:
        low, high = _field(thread, words, at, WORD), _field(thread, words, at + WORD, bits - WORD)
        upper = thread.binary("shl", thread.emit(Cast(high, u64)), WORD)
        return thread.emit(Binary("or", thread.emit(Cast(low, u64)), upper))
    first, shift = divmod(at, WORD)
    value = thread.binary("shr", words[first], shift) if shift else words[first]
    if shift + bits > WORD:
        value = thread.emit(Binary("or", value, thread.binary("shl", words[first + 1], WORD - shift)))
    return value if bits == WORD else thread.binary("and", value, (1 << bits) - 1)
