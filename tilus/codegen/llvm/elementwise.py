"""Elementwise operations as LLVM instructions, for the host and NVPTX: on scalars (``count`` 0) and vectors alike.

Types are those that LLVM computes in natively: integers of 8 to 64 bits, f32, f64, and f16 and bf16 as far as the
target has them; the others are legalised beforehand (``lowering/legalise``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilus.codegen.llvm.text import Emitter
from tilus.ir.core import Operation
from tilus.ir.dtypes import DType
from tilus.ir.ops import Binary, Bitcast, Cast, Compare, Fma, MulHi, Select, Unary
from tilus.ir.types import PointerType

_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_INTEGER_OPS = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor", "shl": "shl",
                "lsl": "shl", "lsr": "lshr", "asr": "ashr"}
_BY_SIGN = {"quo": "div", "rem": "rem", "min": "min", "max": "max"}
_COMPARE_FLOAT = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
_COMPARE_SIGNED = {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge"}
_COMPARE_UNSIGNED = {"eq": "eq", "ne": "ne", "lt": "ult", "le": "ule", "gt": "ugt", "ge": "uge"}
_NATIVE_UNARY = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "roundeven", "sqrt": "sqrt",
                 "abs": "fabs"}


def flags(count: int) -> str:
    """The type of a bool, or of a vector of them."""
    return f"<{count} x i1>" if count else "i1"


def _binary(e: Emitter, op: Binary, count: int, operands: list[str]) -> str:
    dtype, kind = op.lhs.tile.dtype, op.kind
    a, b = operands
    ty = e.types.vector(dtype, count)
    if dtype.is_float:
        if kind in _FLOAT_OPS:
            contract = "contract " if op.contract and kind != "div" else ""
            return e.op(f"{_FLOAT_OPS[kind]} {contract}{ty} {a}, {b}")
        name = kind if kind == "copysign" else f"{kind}num"
        return e.intrinsic(f"llvm.{name}.{e.suffix(dtype, count)}", ty, [(ty, a), (ty, b)])
    sign = "s" if dtype.kind == "int" else "u"
    if kind in ("min", "max"):
        return e.intrinsic(f"llvm.{sign}{kind}.{e.suffix(dtype, count)}", ty, [(ty, a), (ty, b)])
    if kind == "shr":
        kind = "asr" if sign == "s" else "lsr"
    name = f"{sign}{_BY_SIGN[kind]}" if kind in _BY_SIGN else _INTEGER_OPS[kind]
    return e.op(f"{name} {ty} {a}, {b}")


def _compare(e: Emitter, op: Compare, count: int, operands: list[str]) -> str:
    dtype, kind = op.lhs.tile.dtype, op.kind
    a, b = operands
    ty = e.types.vector(dtype, count)
    if dtype.is_float and dtype.is_arithmetic:
        return e.op(f"fcmp {_COMPARE_FLOAT[kind]} {ty} {a}, {b}")
    table = _COMPARE_SIGNED if dtype.kind == "int" else _COMPARE_UNSIGNED
    return e.op(f"icmp {table[kind]} {ty} {a}, {b}")


def _select(e: Emitter, op: Select, count: int, operands: list[str]) -> str:
    condition, x, y = operands
    pointers = isinstance(op.x.type, PointerType)
    ty = e.types.type(op.x.type) if pointers else e.types.vector(op.x.tile.dtype, count)
    return e.op(f"select {flags(count)} {condition}, {ty} {x}, {ty} {y}")


def _bitcast(e: Emitter, op: Bitcast, count: int, operands: list[str]) -> str:
    (x,), source = operands, op.x.tile.dtype
    old, new = e.types.vector(source, count), e.types.vector(op.dtype, count)
    if old != new:
        return e.op(f"bitcast {old} {x} to {new}")
    whole = source.is_bool or source.bits in (8, 16, 32, 64)
    return x if whole else _wrap(e, op.dtype, count, x, new)


def _unary(e: Emitter, op: Unary, count: int, operands: list[str]) -> str:
    dtype, kind = op.x.tile.dtype, op.kind
    (x,) = operands
    ty = e.types.vector(dtype, count)
    suffix = e.suffix(dtype, count)
    if kind == "neg":
        return e.op(f"fneg {ty} {x}") if dtype.is_float else \
            e.op(f"sub {ty} {e.types.constant(0, dtype, count)}, {x}")
    if kind == "not":
        return e.op(f"xor {ty} {x}, {e.types.constant(True if dtype.is_bool else -1, dtype, count)}"
                    if dtype.is_bool or dtype.kind == "int" else
                    f"xor {ty} {x}, {e.types.constant(dtype.max_value, dtype, count)}")
    if kind == "abs" and dtype.is_int:
        return x if dtype.kind == "uint" else e.intrinsic(f"llvm.abs.{suffix}", ty, [(ty, x), ("i1", "false")])
    if kind in _NATIVE_UNARY:
        return e.intrinsic(f"llvm.{_NATIVE_UNARY[kind]}.{suffix}", ty, [(ty, x)])
    if kind == "popcount":
        return e.intrinsic(f"llvm.ctpop.{suffix}", ty, [(ty, x)])
    if kind == "clz":
        return e.intrinsic(f"llvm.ctlz.{suffix}", ty, [(ty, x), ("i1", "false")])
    if kind == "isnan":
        return e.op(f"fcmp uno {ty} {x}, {x}")
    if kind in ("isinf", "isfinite"):
        magnitude = e.intrinsic(f"llvm.fabs.{suffix}", ty, [(ty, x)])
        infinity = e.types.constant(float("inf"), dtype, count)
        return e.op(f"fcmp {'oeq' if kind == 'isinf' else 'olt'} {ty} {magnitude}, {infinity}")
    raise ValueError(f"no instruction for {kind} of {dtype}")


def _fma(e: Emitter, op: Fma, count: int, operands: list[str]) -> str:
    dtype = op.a.tile.dtype
    ty = e.types.vector(dtype, count)
    return e.intrinsic(f"llvm.fma.{e.suffix(dtype, count)}", ty, [(ty, x) for x in operands])


def _mulhi(e: Emitter, op: MulHi, count: int, operands: list[str]) -> str:
    """The upper half of an integer product, by way of the double-width type."""
    dtype, bits = op.lhs.tile.dtype, op.lhs.tile.dtype.bits
    narrow = e.types.vector(dtype, count)
    wide = f"<{count} x i{2 * bits}>" if count else f"i{2 * bits}"
    extend = "sext" if dtype.kind == "int" else "zext"
    x, y = (e.op(f"{extend} {narrow} {v} to {wide}") for v in operands)
    product = e.op(f"mul {wide} {x}, {y}")
    shift = f"splat (i{2 * bits} {bits})" if count else str(bits)
    high = e.op(f"lshr {wide} {product}, {shift}")
    return e.op(f"trunc {wide} {high} to {narrow}")


def _cast(e: Emitter, op: Cast, count: int, operands: list[str]) -> str:
    """Between integers of any width in their containers, native floats and from bool; to nearest even, saturating from
    float to integer with NaN to 0."""
    (x,), source, target = operands, op.x.tile.dtype, op.dtype
    old, new = e.types.vector(source, count), e.types.vector(target, count)
    if source.is_bool:
        return e.op(f"zext {old} {x} to {new}")
    if source.is_float and target.is_float:
        return e.op(f"{'fpext' if target.bits > source.bits else 'fptrunc'} {old} {x} to {new}")
    if source.is_float:
        return _float_to_integer(e, source, target, count, x, old, new)
    if target.is_float:
        return e.op(f"{'sitofp' if source.kind == 'int' else 'uitofp'} {old} {x} to {new}")
    return _integer_to_integer(e, source, target, count, x, old, new)


def _float_to_integer(e: Emitter, source: DType, target: DType, count: int, x: str, old: str, new: str) -> str:
    name = f"llvm.fpto{'s' if target.kind == 'int' else 'u'}i.sat.{e.suffix(target, count)}.{e.suffix(source, count)}"
    if target.bits in (8, 16, 32, 64):
        return e.intrinsic(name, new, [(old, x)])
    exact = f"<{count} x i{target.bits}>" if count else f"i{target.bits}"
    mangled = f"v{count}i{target.bits}" if count else f"i{target.bits}"
    name = f"llvm.fpto{'s' if target.kind == 'int' else 'u'}i.sat.{mangled}.{e.suffix(source, count)}"
    narrow = e.intrinsic(name, exact, [(old, x)])
    return e.op(f"{'sext' if target.kind == 'int' else 'zext'} {exact} {narrow} to {new}")


def _integer_to_integer(e: Emitter, source: DType, target: DType, count: int, x: str, old: str, new: str) -> str:
    width = {t: int(e.types.element(t)[1:]) for t in (source, target)}
    if width[source] > width[target]:
        x = e.op(f"trunc {old} {x} to {new}")
    elif width[source] < width[target]:
        x = e.op(f"{'sext' if source.kind == 'int' else 'zext'} {old} {x} to {new}")
    contained = source.bits < target.bits or (source.bits == target.bits and source.kind == target.kind)
    if target.bits == width[target] or (contained and not (source.kind == "int" and target.kind == "uint")):
        return x
    return _wrap(e, target, count, x, new)


def _wrap(e: Emitter, dtype: DType, count: int, x: str, ty: str) -> str:
    """Reduce a container to the ``dtype.bits`` low bits, extended by the sign of signed types."""
    width = int(e.types.element(dtype)[1:])
    shift = f"splat (i{width} {width - dtype.bits})" if count else str(width - dtype.bits)
    raised = e.op(f"shl {ty} {x}, {shift}")
    return e.op(f"{'ashr' if dtype.kind == 'int' else 'lshr'} {ty} {raised}, {shift}")


def splat(e: Emitter, dtype: DType, count: int, x: str) -> str:
    """A vector of ``count`` copies of a scalar."""
    if not count:
        return x
    ty, element = e.types.vector(dtype, count), e.types.element(dtype)
    one = e.op(f"insertelement {ty} poison, {element} {x}, i64 0")
    return e.op(f"shufflevector {ty} {one}, {ty} poison, <{count} x i32> zeroinitializer")


def lane_numbers(e: Emitter, dtype: DType, count: int) -> str:
    """The vector 0, 1, 2 …"""
    element = e.types.element(dtype)
    return f"<{', '.join(f'{element} {e.types.constant(i, dtype)}' for i in range(count))}>"


def index_list(indices: tuple[int, ...]) -> str:
    """The mask operand of a shufflevector."""
    return f"<{len(indices)} x i32> <{', '.join(f'i32 {i}' for i in indices)}>"


APPLY: dict[type[Operation], Callable[[Emitter, Any, int, list[str]], str]] = {
    Binary: _binary, Bitcast: _bitcast, Cast: _cast, Compare: _compare, Fma: _fma, MulHi: _mulhi, Select: _select,
    Unary: _unary,
}
"""By class, from the operation, the number of lanes and the operands to the result."""

__all__ = ["APPLY", "flags", "index_list", "lane_numbers", "splat"]
