"""Arithmetic with the language's semantics as LLVM instructions, for scalars (``count`` 0) and vectors alike.

Types are those that LLVM computes in natively: integers of 8 to 64 bits, f32, f64, and where the target has them f16
and bf16. Conversions of floats other than f16 and bf16 are expanded beforehand (``lowering/expand_casts.py``).
"""

from __future__ import annotations

from tilus.codegen.llvm.text import Emitter
from tilus.ir.dtypes import DType

_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_INTEGER_OPS = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_COMPARE_FLOAT = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
_COMPARE_SIGNED = {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge"}
_COMPARE_UNSIGNED = {"eq": "eq", "ne": "ne", "lt": "ult", "le": "ule", "gt": "ugt", "ge": "uge"}
_NATIVE_UNARY = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "roundeven", "sqrt": "sqrt",
                 "abs": "fabs"}


def binary(e: Emitter, kind: str, dtype: DType, count: int, a: str, b: str, *, contract: bool = False,
           constant: int | None = None, nonnegative: bool = False) -> str:
    """``a KIND b``. ``constant`` is the value of ``b`` where it is a known integer, ``nonnegative`` says that both
    operands are known to be: divisions then take their cheap form."""
    ty = e.types.vector(dtype, count)
    if dtype.is_float:
        return _float_binary(e, kind, dtype, count, ty, a, b, contract)
    if dtype.is_bool and kind in ("min", "max"):
        kind = "and" if kind == "min" else "or"
    if kind in _INTEGER_OPS:
        return e.op(f"{_INTEGER_OPS[kind]} {ty} {a}, {b}")
    if kind in ("min", "max"):
        name = f"llvm.{'s' if dtype.kind == 'int' else 'u'}{kind}.{e.suffix(dtype, count)}"
        return e.intrinsic(name, ty, [(ty, a), (ty, b)])
    if kind in ("shl", "shr"):
        return _shift(e, kind, dtype, count, ty, a, b, constant)
    if kind in ("floordiv", "mod"):
        return _division(e, kind, dtype, count, ty, a, b, constant, nonnegative)
    raise ValueError(f"no instruction for {kind} of {dtype}")


def _float_binary(e: Emitter, kind: str, dtype: DType, count: int, ty: str, a: str, b: str, contract: bool) -> str:
    if kind in _FLOAT_OPS:
        return e.op(f"{_FLOAT_OPS[kind]} {'contract ' if contract else ''}{ty} {a}, {b}")
    if kind in ("min", "max"):
        return e.intrinsic(f"llvm.{kind}num.{e.suffix(dtype, count)}", ty, [(ty, a), (ty, b)])
    if kind == "copysign":
        return e.intrinsic(f"llvm.copysign.{e.suffix(dtype, count)}", ty, [(ty, a), (ty, b)])
    raise ValueError(f"no instruction for {kind} of {dtype}")


def _shift(e: Emitter, kind: str, dtype: DType, count: int, ty: str, a: str, b: str, constant: int | None) -> str:
    """Amounts of the width or more (negative ones count as such) give 0, or the sign."""
    arithmetic = kind == "shr" and dtype.kind == "int"
    name = "shl" if kind == "shl" else "ashr" if arithmetic else "lshr"
    limit = e.types.constant(dtype.bits - 1, dtype, count)
    if constant is not None and 0 <= constant < dtype.bits:
        return e.op(f"{name} {ty} {a}, {b}")
    amount = e.intrinsic(f"llvm.umin.{e.suffix(dtype, count)}", ty, [(ty, b), (ty, limit)])
    shifted = e.op(f"{name} {ty} {a}, {amount}")
    if arithmetic:
        return shifted
    inside = e.op(f"icmp ule {ty} {b}, {limit}")
    flags = f"<{count} x i1>" if count else "i1"
    return e.op(f"select {flags} {inside}, {ty} {shifted}, {ty} {e.types.constant(0, dtype, count)}")


def _division(e: Emitter, kind: str, dtype: DType, count: int, ty: str, a: str, b: str, constant: int | None,
              nonnegative: bool) -> str:
    if constant is not None and constant > 0 and constant & (constant - 1) == 0:
        if kind == "mod":
            return e.op(f"and {ty} {a}, {e.types.constant(constant - 1, dtype, count)}")
        shift = e.types.constant(constant.bit_length() - 1, dtype, count)
        return e.op(f"{'ashr' if dtype.kind == 'int' else 'lshr'} {ty} {a}, {shift}")
    flags = f"<{count} x i1>" if count else "i1"

    def text(value: int) -> str:
        return e.types.constant(value, dtype, count)

    known = constant is not None and constant not in (0, -1)
    zero = ""
    divisor = b
    if not known:
        zero = e.op(f"icmp eq {ty} {b}, {text(0)}")
        divisor = e.op(f"select {flags} {zero}, {ty} {text(1)}, {ty} {b}")
    if dtype.kind == "uint" or nonnegative:
        result = e.op(f"{'udiv' if kind == 'floordiv' else 'urem'} {ty} {a}, {divisor}")
    else:
        result = _signed_division(e, kind, ty, flags, a, divisor, text, known)
    if known:
        return result
    otherwise = text(0) if kind == "floordiv" else a
    return e.op(f"select {flags} {zero}, {ty} {otherwise}, {ty} {result}")


def _signed_division(e: Emitter, kind: str, ty: str, flags: str, a: str, b: str, text: object, known: bool) -> str:
    """Floor division of signed integers, b not 0. Division by -1 is done as negation, since it may overflow."""
    assert callable(text)
    divisor, minus = b, ""
    if not known:
        minus = e.op(f"icmp eq {ty} {b}, {text(-1)}")
        divisor = e.op(f"select {flags} {minus}, {ty} {text(1)}, {ty} {b}")
    quotient = e.op(f"sdiv {ty} {a}, {divisor}")
    product = e.op(f"mul {ty} {quotient}, {divisor}")
    remainder = e.op(f"sub {ty} {a}, {product}")
    signs = e.op(f"xor {ty} {remainder}, {divisor}")
    differ = e.op(f"icmp slt {ty} {signs}, {text(0)}")
    inexact = e.op(f"icmp ne {ty} {remainder}, {text(0)}")
    adjust = e.op(f"and {flags} {differ}, {inexact}")
    if kind == "floordiv":
        lower = e.op(f"sub {ty} {quotient}, {text(1)}")
        result = e.op(f"select {flags} {adjust}, {ty} {lower}, {ty} {quotient}")
        if known:
            return result
        negated = e.op(f"sub {ty} {text(0)}, {a}")
        return e.op(f"select {flags} {minus}, {ty} {negated}, {ty} {result}")
    raised = e.op(f"add {ty} {remainder}, {divisor}")
    result = e.op(f"select {flags} {adjust}, {ty} {raised}, {ty} {remainder}")
    return result if known else e.op(f"select {flags} {minus}, {ty} {text(0)}, {ty} {result}")


def compare(e: Emitter, kind: str, dtype: DType, count: int, a: str, b: str) -> str:
    ty = e.types.vector(dtype, count)
    if dtype.is_float and e.types.element(dtype) in ("half", "bfloat", "float", "double"):
        return e.op(f"fcmp {_COMPARE_FLOAT[kind]} {ty} {a}, {b}")
    table = _COMPARE_SIGNED if dtype.kind == "int" else _COMPARE_UNSIGNED
    return e.op(f"icmp {table[kind]} {ty} {a}, {b}")


def unary(e: Emitter, kind: str, dtype: DType, count: int, x: str) -> str:
    """The unary operations that LLVM does natively on every target."""
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


def fma(e: Emitter, dtype: DType, count: int, a: str, b: str, c: str) -> str:
    ty = e.types.vector(dtype, count)
    return e.intrinsic(f"llvm.fma.{e.suffix(dtype, count)}", ty, [(ty, a), (ty, b), (ty, c)])


def mulhi(e: Emitter, dtype: DType, count: int, a: str, b: str) -> str:
    """The upper half of an integer product, by way of the double-width type."""
    bits = dtype.bits
    narrow = e.types.vector(dtype, count)
    wide = f"<{count} x i{2 * bits}>" if count else f"i{2 * bits}"
    extend = "sext" if dtype.kind == "int" else "zext"
    x, y = (e.op(f"{extend} {narrow} {v} to {wide}") for v in (a, b))
    product = e.op(f"mul {wide} {x}, {y}")
    shift = f"splat (i{2 * bits} {bits})" if count else str(bits)
    high = e.op(f"lshr {wide} {product}, {shift}")
    return e.op(f"trunc {wide} {high} to {narrow}")


def cast(e: Emitter, source: DType, target: DType, count: int, x: str) -> str:
    """Conversion between bool, integers of any width in their containers, and native floats, to nearest even;
    saturating from float to integer with NaN to 0."""
    if source is target:
        return x
    old, new = e.types.vector(source, count), e.types.vector(target, count)
    if target.is_bool:
        zero = e.types.constant(0, source, count)
        return e.op(f"fcmp une {old} {x}, {zero}" if source.is_float else f"icmp ne {old} {x}, {zero}")
    if source.is_bool:
        return e.op(f"uitofp {old} {x} to {new}" if target.is_float else f"zext {old} {x} to {new}")
    if source.is_float:
        if target.is_float:
            return e.op(f"{'fpext' if target.bits > source.bits else 'fptrunc'} {old} {x} to {new}")
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
    return wrap(e, target, count, x, new)


def wrap(e: Emitter, dtype: DType, count: int, x: str, ty: str) -> str:
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


__all__ = ["binary", "cast", "compare", "fma", "index_list", "lane_numbers", "mulhi", "splat", "unary", "wrap"]
