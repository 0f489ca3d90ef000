"""Elementwise operations as C expressions, an element or a cell at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilus.codegen.cells import elements_of
from tilus.codegen.cuda.kernel import Handlers, KernelPrinter
from tilus.codegen.cuda.literals import literal, small_literal
from tilus.codegen.cuda.syntax import cast, choice, infix, prefix, wrapping
from tilus.codegen.cuda.types import c_type, unsigned_type
from tilus.codegen.ptx import arith as ptx
from tilus.codegen.ptx.names import PTX_TYPES
from tilus.ir.core import Operation
from tilus.ir.dtypes import DType, f32
from tilus.ir.ops import Binary, Bitcast, Cast, Compare, Fma, MulHi, Select, Unary
from tilus.ir.ops.simt import ApproxUnary, CvtFp8
from tilus.targets import Feature

Maker = Callable[[KernelPrinter, Any, list[str]], str]


def elementwise(k: KernelPrinter, op: Operation) -> None:
    """Whole cells where an instruction works on pairs, else element by element."""
    result = op.results[0]
    whole = _PACKED.get(type(op))
    packed = whole(k, op) if whole is not None and result.tile.shape else None
    if packed is not None:
        k.define(result, packed)
        return
    make = _ELEMENT[type(op)]
    cells = [k.cells[v] for v in op.operands]
    k.bind_elements(result, [make(k, op, [k.element(c, i) for c in cells]) for i in range(max(1, result.tile.size))])


# -- pairs in a cell


def _packed_binary(k: KernelPrinter, op: Binary) -> list[str] | None:
    a, b = k.cells[op.lhs], k.cells[op.rhs]
    if not a.dtype.is_float or a.per != 2:
        return None
    instruction = ptx.half_pairs(op.kind, a.dtype.name)
    return [k.pure(instruction, a=x, b=y) for x, y in zip(a.names, b.names, strict=True)]


def _packed_fma(k: KernelPrinter, op: Fma) -> list[str] | None:
    cells = [k.cells[v] for v in op.operands]
    if cells[0].per != 2:
        return None
    instruction = ptx.half_pairs("fma", cells[0].dtype.name)
    return [k.pure(instruction, a=a, b=b, c=c) for a, b, c in zip(*(c.names for c in cells), strict=True)]


def _packed_cast(k: KernelPrinter, op: Cast) -> list[str] | None:
    x, count = k.cells[op.x], elements_of(op.x)
    if op.dtype.name not in ("f16", "bf16") or x.dtype is not f32 or count % 2:
        return None
    elements = [k.element(x, i) for i in range(count)]
    pairs = zip(elements[::2], elements[1::2], strict=True)
    if k.target.has(Feature.CVT_BF16):
        return [k.pure(ptx.f32_pair(op.dtype.name), high=high, low=low) for low, high in pairs]
    return [f"{k.need(f'pack_{op.dtype}')}({low}, {high})" for low, high in pairs]


def _packed_bitcast(k: KernelPrinter, op: Bitcast) -> list[str] | None:
    cells = k.cells[op.x]
    return list(cells.names) if cells.per > 1 else None


_PACKED: dict[type[Operation], Callable[[KernelPrinter, Any], list[str] | None]] = {
    Binary: _packed_binary, Fma: _packed_fma, Cast: _packed_cast, Bitcast: _packed_bitcast,
}


# -- one element


def _select(k: KernelPrinter, op: Select, operands: list[str]) -> str:
    return choice(*operands)


def _compare(k: KernelPrinter, op: Compare, operands: list[str]) -> str:
    return infix(_COMPARISONS[op.kind], *operands)


def _fma(k: KernelPrinter, op: Fma, operands: list[str]) -> str:
    dtype = op.a.tile.dtype
    if dtype.bits == 16:
        return _half(k, "fma", dtype, *operands)
    return f"{'fma' if dtype.bits == 64 else '__fmaf_rn'}({', '.join(operands)})"


def _half(k: KernelPrinter, kind: str, dtype: DType, *operands: str) -> str:
    """Arithmetic on one 16-bit float: on the lower half of registers for two."""
    pair = k.pure(ptx.half_pairs(kind, dtype.name), **dict(zip("abc", operands, strict=False)))
    return cast("unsigned short", pair)


def _mulhi(k: KernelPrinter, op: MulHi, operands: list[str]) -> str:
    return f"{_MULHI[op.lhs.tile.dtype.name]}({', '.join(operands)})"


def _approximation(k: KernelPrinter, op: ApproxUnary, operands: list[str]) -> str:
    return k.pure(ptx.approx_unary(op.kind, op.ftz), x=operands[0])


def _bitcast(k: KernelPrinter, op: Bitcast, operands: list[str]) -> str:
    (x,), source, target = operands, op.x.tile.dtype, op.dtype
    if source.bits < 32 or source.is_float == target.is_float:
        return cast(c_type(target), x)
    if source.bits == 32:
        number = target if source.is_float else source
        stem = "int" if number.kind == "int" else "uint"
        return f"__float_as_{stem}({x})" if source.is_float else f"__{stem}_as_float({x})"
    if source.is_float:
        return cast(c_type(target), f"__double_as_longlong({x})")
    return f"__longlong_as_double({x})"


def _cast(k: KernelPrinter, op: Cast, operands: list[str]) -> str:
    (x,), source, target = operands, op.x.tile.dtype, op.dtype
    instruction = _CONVERSIONS.get((source.name, target.name)) or ptx.conversion(op)
    if instruction is not None:
        result = k.pure(instruction, x=x)
        return cast(c_type(target), result) if target.is_int else result
    return _saturated(k, x, source, target) if source.is_float and target.is_int else cast(c_type(target), x)


def _saturated(k: KernelPrinter, x: str, source: DType, target: DType) -> str:
    """``cvt.rzi`` saturates; from f32 to 32 bits it gives 0 for NaN."""
    stem = "double" if source.bits == 64 else "float"
    if source.bits == 32 and target.bits == 32:
        return f"__{stem}2{_TO_INTEGER[target.name]}_rz({x})"
    x = k.named(x, stem)
    return choice(infix("!=", x, x), "0", f"__{stem}2{_TO_INTEGER[target.name]}_rz({x})")


_CONVERSIONS = {("f16", "f32"): ptx.F16_TO_F32, ("f32", "f16"): ptx.F32_TO_F16, ("f64", "f16"): ptx.F64_TO_F16,
                ("f32", "bf16"): ptx.F32_TO_BF16}
_TO_INTEGER = {"i32": "int", "u32": "uint", "i64": "ll", "u64": "ull"}
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_MULHI = {"i32": "__mulhi", "u32": "__umulhi", "i64": "__mul64hi", "u64": "__umul64hi"}


# -- unary


def _unary(k: KernelPrinter, op: Unary, operands: list[str]) -> str:
    dtype, x = op.x.tile.dtype, operands[0]
    if dtype.is_bool:
        return prefix("!", x)
    if dtype.is_int and op.kind == "abs":
        return _magnitude(k, x, dtype)
    return _INTEGER_UNARY[op.kind](x, dtype) if dtype.is_int else _float_unary(k, op.kind, x, dtype)


def _negated(x: str, dtype: DType) -> str:
    if dtype.kind == "uint" or dtype.bits < 32:
        return _wrapped(prefix("-", x), dtype)
    return cast(c_type(dtype), infix("-", "0u", cast(unsigned_type(dtype), x)))


def _magnitude(k: KernelPrinter, x: str, dtype: DType) -> str:
    if dtype.kind == "uint":
        return x
    x = k.named(x, c_type(dtype))
    negated = cast(c_type(dtype), infix("-", "0u", cast(unsigned_type(dtype), x)))
    return _wrapped(choice(infix("<", x, "0"), negated, x), dtype)


def _popcount(x: str, dtype: DType) -> str:
    return f"__popc{'ll' if dtype.bits == 64 else ''}({cast(unsigned_type(dtype), x)})"


def _leading_zeros(x: str, dtype: DType) -> str:
    if dtype.bits == 64:
        return f"__clzll({x})"
    return infix("-", f"__clz({cast(unsigned_type(dtype), x)})", str(32 - dtype.bits))


_INTEGER_UNARY: dict[str, Callable[[str, DType], str]] = {
    "neg": _negated, "not": lambda x, dtype: _wrapped(prefix("~", x), dtype),
    "popcount": lambda x, dtype: cast(c_type(dtype), _popcount(x, dtype)),
    "clz": lambda x, dtype: cast(c_type(dtype), _leading_zeros(x, dtype)),
}
_FUNCTIONS = {"sqrt": ("__fsqrt_rn", "__dsqrt_rn"), "floor": ("floorf", "floor"), "ceil": ("ceilf", "ceil"),
              "round": ("rintf", "rint"), "trunc": ("truncf", "trunc"), "abs": ("fabsf", "fabs")}
"""Of f32 and of f64."""


def _float_unary(k: KernelPrinter, kind: str, x: str, dtype: DType) -> str:
    double = dtype.bits == 64
    if kind == "neg":
        return prefix("-", x)
    if kind == "isnan":
        x = k.named(x, c_type(dtype))
        return infix("!=", x, x)
    if kind in ("isinf", "isfinite"):
        limit = literal(float("inf"), dtype)
        return infix("==" if kind == "isinf" else "<", f"{_FUNCTIONS['abs'][double]}({x})", limit)
    return f"{_FUNCTIONS[kind][double]}({x})"


# -- binary


def _binary(k: KernelPrinter, op: Binary, operands: list[str]) -> str:
    dtype, kind = op.lhs.tile.dtype, op.kind
    x, y = operands
    if dtype.is_bool:
        return infix(_INFIX[kind], x, y)
    if dtype.is_int:
        return _wrapped(_integer_binary(kind, x, y, dtype), dtype)
    return _half(k, kind, dtype, x, y) if dtype.bits == 16 else _float_binary(op, x, y, dtype)


def _float_binary(op: Binary, x: str, y: str, dtype: DType) -> str:
    kind, double = op.kind, dtype.bits == 64
    if kind in ("add", "sub", "mul") and not op.contract:
        return f"__{'d' if double else 'f'}{kind}_rn({x}, {y})"
    if kind in _INFIX:
        return infix(_INFIX[kind], x, y)
    stem = f"f{kind}" if kind in ("min", "max") else kind
    return f"{stem}{'' if double else 'f'}({x}, {y})"


def _wrapped(text: str, dtype: DType) -> str:
    """Integer arithmetic below 32 bits is done in int and wrapped."""
    return cast(c_type(dtype), text) if dtype.is_int and dtype.bits < 32 else text


def _integer_binary(kind: str, x: str, y: str, dtype: DType) -> str:
    ctype = c_type(dtype)
    if kind in ("add", "sub", "mul") and dtype.name == "i64":
        # Told that they do not overflow, NVRTC makes code of these that takes more registers.
        return wrapping(_INFIX[kind], ctype, unsigned_type(dtype), x, y)
    if kind == "mul" and dtype.name == "u16":  # products of int may overflow
        return infix("*", cast("unsigned", x), y)
    if kind == "add" and dtype.name == "i32" and y.startswith("-") and small_literal(y[1:]) is not None:
        return infix("-", x, y[1:])
    return f"{kind}({x}, {y})" if kind in ("min", "max") else infix(_INFIX[kind], x, y)


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^", "quo": "/", "rem": "%",
          "shl": "<<", "shr": ">>", "lsl": "<<", "lsr": ">>", "asr": ">>"}


_ELEMENT: dict[type[Operation], Maker] = {
    Unary: _unary, Binary: _binary, Compare: _compare, Select: _select, Cast: _cast, Bitcast: _bitcast, Fma: _fma,
    MulHi: _mulhi, ApproxUnary: _approximation,
}


# -- 8-bit floats


def cvt_fp8(k: KernelPrinter, op: CvtFp8) -> None:
    """Two at a time, and four to a cell where there are as many."""
    cells, count = k.cells[op.x], elements_of(op.x)
    to_bytes = op.x.tile.dtype is f32
    x = [k.element(cells, i) for i in range(max(1, count))]
    if to_bytes:
        instruction = ptx.f32_to_bytes(PTX_TYPES[op.dtype.name])
    else:
        instruction = ptx.bytes_to_f16(PTX_TYPES[cells.dtype.name])
    if not (count and count % 4 == 0):
        single = [k.pure(instruction, high="0.0f", low=e) if to_bytes else k.pure(instruction, x=e) for e in x]
        k.bind_elements(op.result, [cast(c_type(op.dtype), e) for e in single])
    elif to_bytes:
        pairs = [k.pure(instruction, high=high, low=low) for low, high in zip(x[::2], x[1::2], strict=True)]
        k.define(op.result, [infix("|", low, infix("<<", high, "16"))
                             for low, high in zip(pairs[::2], pairs[1::2], strict=True)])
    else:
        word, names = ptx.word_to_f16(PTX_TYPES[cells.dtype.name]), list(cells.names)
        made = k.declare(op.result)
        for i, name in enumerate(names):
            k.line(f"{k.call(word, {'x': [name]}, made[2 * i : 2 * i + 2], 'unsigned')};")


HANDLERS: Handlers = {**dict.fromkeys(_ELEMENT, elementwise), CvtFp8: cvt_fp8}
