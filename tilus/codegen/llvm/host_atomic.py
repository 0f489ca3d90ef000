"""Atomic operations of the host."""

from __future__ import annotations

from tilus.codegen.llvm import arith
from tilus.codegen.llvm.text import Emitter
from tilus.ir.dtypes import DType

_RMW = {"and": "and", "or": "or", "xor": "xor", "exchange": "xchg"}


def emit_atomic(e: Emitter, kind: str, dtype: DType, pointer: str, value: str, compare: str | None,
                order: str) -> str:
    """The atomic on one element; gives the operand text of the old value."""
    ty = e.types.element(dtype)
    size = dtype.itemsize
    if kind == "load":
        return e.op(f"load atomic {ty}, ptr {pointer} {'acquire' if 'acq' in order else 'monotonic'}, align {size}")
    if dtype.is_int and kind in ("add", "min", "max", *_RMW):
        name = _RMW.get(kind) or (kind if kind == "add" else ("" if dtype.kind == "int" else "u") + kind)
        return e.op(f"atomicrmw {name} ptr {pointer}, {ty} {value} {order}")
    bits = f"i{8 * size}"
    if kind in ("exchange", "cas"):
        new = _to_bits(e, ty, value, bits)
        if kind == "exchange":
            return _from_bits(e, ty, e.op(f"atomicrmw xchg ptr {pointer}, {bits} {new} {order}"), bits)
        assert compare is not None
        pair = e.op(f"cmpxchg ptr {pointer}, {bits} {_to_bits(e, ty, compare, bits)}, {bits} {new} {order} "
                    f"{'acquire' if 'acq' in order else 'monotonic'}")
        return _from_bits(e, ty, e.op(f"extractvalue {{ {bits}, i1 }} {pair}, 0"), bits)
    return _float_loop(e, kind, dtype, pointer, value, order, bits)


def _float_loop(e: Emitter, kind: str, dtype: DType, pointer: str, value: str, order: str, bits: str) -> str:
    """Compare-and-swap until nobody came in between."""
    from tilus.codegen.llvm.host import _narrow_bf16, _widen_bf16

    ty = e.types.element(dtype)
    entry, loop, end = e.label, e.new_label("cas"), e.new_label("end")
    first = e.op(f"load atomic {bits}, ptr {pointer} monotonic, align {dtype.itemsize}")
    e.do(f"br label %{loop}")
    e.start(loop)
    phi = e.reserve()
    seen = e.fresh()
    if dtype.bits == 16:
        def widen(x: str) -> str:
            return _widen_bf16(e, 0, x) if ty == "i16" else e.op(f"fpext half {x} to float")

        old = widen(_from_bits(e, ty, seen, bits))
        total = e.op(f"fadd float {old}, {widen(value)}")
        new = _narrow_bf16(e, 0, total) if ty == "i16" else e.op(f"fptrunc float {total} to half")
    else:
        new = arith.binary(e, kind, dtype, 0, _from_bits(e, ty, seen, bits), value)
    pair = e.op(f"cmpxchg ptr {pointer}, {bits} {seen}, {bits} {_to_bits(e, ty, new, bits)} {order} "
                f"{'acquire' if 'acq' in order else 'monotonic'}")
    again = e.op(f"extractvalue {{ {bits}, i1 }} {pair}, 0")
    done = e.op(f"extractvalue {{ {bits}, i1 }} {pair}, 1")
    e.lines[phi] = f"  {seen} = phi {bits} [ {first}, %{entry} ], [ {again}, %{e.label} ]"
    e.do(f"br i1 {done}, label %{end}, label %{loop}")
    e.start(end)
    return _from_bits(e, ty, seen, bits)


def _to_bits(e: Emitter, ty: str, value: str, bits: str) -> str:
    return value if ty == bits else e.op(f"bitcast {ty} {value} to {bits}")


def _from_bits(e: Emitter, ty: str, value: str, bits: str) -> str:
    return value if ty == bits else e.op(f"bitcast {bits} {value} to {ty}")
