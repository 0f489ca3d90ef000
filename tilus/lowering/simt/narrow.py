"""Types that fill no register: their elements are held as codes, in the next unsigned integer, high bits zero."""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.dtypes import DType, f64, integer, u32
from tilus.ir.ops import Binary, Bitcast, Broadcast, Cast, Const, Unpack, View
from tilus.ir.ops.words import Regroup
from tilus.lowering.legalise.codes import code_to_float, float_to_code
from tilus.lowering.simt import bits
from tilus.lowering.simt.bits import WORD, is_narrow, register_type
from tilus.lowering.simt.context import Thread, locals_of
from tilus.targets import Feature


def convert_words(thread: Thread, op: Cast, less: int = 0) -> Value | None:
    """A conversion of elements that are dense in words, or bytes in them, by the sequence of instructions that has been
    found for the types, with ``less`` subtracted from integers; None where there is none, or instructions of the
    target's own do it."""
    source, tile = op.x.tile.dtype, op.x.tile
    unordered = thread.unordered.get(op.x)
    in_words = op.x in thread.dense if is_narrow(source) else tile.shape and _is_in_bytes(thread, op)
    if not tile.shape or not (unordered is not None or in_words):
        return None
    from tilus.lowering.conversions import convert_words as by_sequence  # 5 ms that few kernels need

    b, count = Builder(thread.block, thread.span), locals_of(op.x)
    if unordered is not None:
        return by_sequence(b, unordered, source, count, op.dtype, ordered=False, less=less)
    if is_narrow(source):
        words = thread.words(op.x)
    else:
        words = thread.emit(Regroup(thread.value(op.x), u32))
    return by_sequence(b, words, source, count, op.dtype, less=less)


def convert_difference(thread: Thread, op: Binary) -> Value | None:
    """The difference of small integers, converted to floats, from a constant: in one sequence with the conversion."""
    cast, number = op.lhs.defining, _constant_of(op.rhs)
    if op.kind not in ("sub", "add") or not isinstance(cast, Cast) or number is None or not number.is_integer():
        return None
    return convert_words(thread, cast, int(number) if op.kind == "sub" else -int(number)) if number else None


def _constant_of(value: Value) -> float | None:
    """The number that all elements of a tile are, or a scalar is."""
    maker = value.defining
    while isinstance(maker, Broadcast):
        maker = maker.x.defining
    return float(maker.value) if isinstance(maker, Const) and not isinstance(maker.value, bool) else None


def _is_in_bytes(thread: Thread, op: Cast) -> bool:
    """Whether elements of 8 bits fill words, and are to be floats by other instructions than the target's own."""
    source = op.x.tile.dtype
    native = source.is_float and thread.target.has(Feature.CVT_FP8)
    return (source.bits == 8 and not source.is_bool and locals_of(op.x) % 4 == 0 and op.dtype.is_float
            and op.dtype.bits <= 32 and not native)


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
    wide = integer(register_type(dtype).bits, dtype.kind == "int")
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
    source = op.x.tile.dtype
    if is_narrow(source):
        words = thread.words(op.x)
    else:
        x = thread.value(op.x)
        x = x if source.is_bool else thread.widen(x, source)
        whole = _fills_words(source, x.tile.size) and bool(x.tile.shape)
        words = thread.emit(Regroup(x, u32)) if whole else bits.packed(thread, x, source.bits)
    _set_elements(thread, op.result, words, op.layout.num_locals)


def _set_elements(thread: Thread, result: Value, words: Value, count: int) -> None:
    """Make a tile of ``count`` elements a thread of its bits, one element after another."""
    target = result.tile.dtype
    if is_narrow(target):
        thread.set_words(result, words)
    elif _fills_words(target, count):
        thread.set(result, thread.emit(Regroup(words, target)))
    else:
        thread.set(result, thread.pack([
            _element(thread, bits.field(thread, words, n * target.bits, target.bits), target) for n in range(count)]))


def lower_unpack(thread: Thread, op: Unpack) -> None:
    """The bytes of a prepacked array are elements in the order in which they lie there."""
    x = thread.value(op.x)
    words = thread.emit(Regroup(x, u32)) if x.tile.size * 8 % WORD == 0 else bits.packed(thread, x, 8)
    if not op.order:
        _set_elements(thread, op.result, words, locals_of(op.result))
        return
    thread.unordered[op.result] = words  # of which conversions alone are users (lowering/prepacked.py)


def _fills_words(dtype: DType, count: int) -> bool:
    """Whether elements that registers hold as they are fill words."""
    return not dtype.is_bool and dtype.bits in (8, 16, 32) and count * dtype.bits % WORD == 0


def _element(thread: Thread, code: Value, target: DType) -> Value:
    if target.is_bool:
        return thread.compare("ne", code, 0)
    x = thread.widen(code, integer(target.bits, signed=False))
    return x if x.tile.dtype is target else thread.emit(Bitcast(x, target))
