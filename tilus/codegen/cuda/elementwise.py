"""Elementwise operations as C expressions, an element or a cell at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilus.codegen.cells import elements_of
from tilus.codegen.cuda.conversions import convert, narrow, widened
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
    if a.dtype.name != "f16" or a.per != 2 or op.kind not in ("add", "sub", "mul"):
        return None
    return [k.pure(ptx.half_pairs(op.kind), a=x, b=y) for x, y in zip(a.names, b.names, strict=True)]


def _packed_fma(k: KernelPrinter, op: Fma) -> list[str] | None:
    cells = [k.cells[v] for v in op.operands]
    if cells[0].dtype.name != "f16" or cells[0].per != 2:
        return None
    words = zip(*(c.names for c in cells), strict=True)
    return [k.pure(ptx.half_pairs("fma"), a=a, b=b, c=c) for a, b, c in words]


def _packed_cast(k: KernelPrinter, op: Cast) -> list[str] | None:
    x, count = k.cells[op.x], elements_of(op.x)
    if op.dtype.name not in ("f16", "bf16") or x.dtype is not f32 or count % 2 or op.rounding != "rn":
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
    x, y = (widened(k, t, op.lhs.tile.dtype) for t in operands)
    return infix(_COMPARISONS[op.kind], x, y)


def _fma(k: KernelPrinter, op: Fma, operands: list[str]) -> str:
    dtype = op.a.tile.dtype
    a, b, c = operands
    if dtype.name == "f16":
        return cast("unsigned short", k.pure(ptx.half_pairs("fma"), a=a, b=b, c=c))
    if dtype.name == "bf16":
        # The product of two bf16 is exact in f32, and the sum in f64; one rounding is left.
        a, b, c = (widened(k, t, dtype) for t in operands)
        return narrow(k, f"__fmaf_rn({a}, {b}, {c})", dtype)
    return f"{'fma' if dtype.bits == 64 else '__fmaf_rn'}({a}, {b}, {c})"


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
    return convert(k, operands[0], op.x.tile.dtype, op.dtype, op.rounding, op)


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
    if kind == "neg" and dtype.bits == 16:
        return cast("unsigned short", infix("^", x, "0x8000"))
    wide = widened(k, x, dtype)
    if kind == "neg":
        return prefix("-", wide)
    if kind == "isnan":
        wide = k.named(wide, "double" if double else "float")
        return infix("!=", wide, wide)
    if kind in ("isinf", "isfinite"):
        limit = literal(float("inf"), dtype if double else f32)
        return infix("==" if kind == "isinf" else "<", f"{_FUNCTIONS['abs'][double]}({wide})", limit)
    if kind == "rcp":
        return narrow(k, infix("/", literal(1.0, dtype if double else f32), wide), dtype)
    return narrow(k, f"{_FUNCTIONS[kind][double]}({wide})", dtype)


# -- binary


def _binary(k: KernelPrinter, op: Binary, operands: list[str]) -> str:
    dtype, kind = op.lhs.tile.dtype, op.kind
    x, y = operands
    if dtype.is_bool:
        return infix(_INFIX[{"min": "and", "max": "or"}.get(kind, kind)], x, y)
    if dtype.is_int:
        return _wrapped(_integer_binary(k, kind, x, y, dtype), dtype)
    return narrow(k, _float_binary(op, widened(k, x, dtype), widened(k, y, dtype), dtype), dtype)


def _float_binary(op: Binary, x: str, y: str, dtype: DType) -> str:
    kind, double = op.kind, dtype.bits == 64
    if kind in ("add", "sub", "mul") and not op.contract and dtype.bits > 16:
        return f"__{'d' if double else 'f'}{kind}_rn({x}, {y})"
    if kind in _INFIX:
        return infix(_INFIX[kind], x, y)
    stem = f"f{kind}" if kind in ("min", "max") else kind
    return f"{stem}{'' if double else 'f'}({x}, {y})"


def _wrapped(text: str, dtype: DType) -> str:
    """Integer arithmetic below 32 bits is done in int and wrapped."""
    return cast(c_type(dtype), text) if dtype.is_int and dtype.bits < 32 else text


def _integer_binary(k: KernelPrinter, kind: str, x: str, y: str, dtype: DType) -> str:
    ctype = c_type(dtype)
    if kind in ("add", "sub", "mul") and dtype.name == "i64":
        # Told that they do not overflow, NVRTC makes code of these that takes more registers.
        return wrapping(_INFIX[kind], ctype, unsigned_type(dtype), x, y)
    if kind == "mul" and dtype.name == "u16":  # products of int may overflow
        return infix("*", cast("unsigned", x), y)
    if kind == "add" and dtype.name == "i32" and y.startswith("-") and small_literal(y[1:]) is not None:
        return infix("-", x, y[1:])
    if kind in _INFIX:
        return infix(_INFIX[kind], x, y)
    if kind in ("min", "max"):
        return f"{kind}({x}, {y})"
    number = small_literal(y)
    if kind in ("shl", "shr"):
        if number is not None and number < dtype.bits:
            return infix("<<" if kind == "shl" else ">>", x, str(number))
        return f"{k.need('shift_left' if kind == 'shl' else 'shift_right')}<{ctype}>({x}, {y})"
    if dtype.kind == "uint" and number:
        return infix("/" if kind == "floordiv" else "%", x, y)
    return f"{k.need('floordiv' if kind == 'floordiv' else 'floormod')}<{ctype}>({x}, {y})"


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^"}


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
        k.define(op.result, [k.pure(instruction, x=half) for name in cells.names
                             for half in (name, infix(">>", name, "16"))])


HANDLERS: Handlers = {**dict.fromkeys(_ELEMENT, elementwise), CvtFp8: cvt_fp8}
