"""C expressions for elements and cells of thread-level values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tilus.codegen.cuda.cells import Cells, c_type
from tilus.codegen.ptx_names import PTX_SCOPES
from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.literals import encode_float, integer_bits, rounded
from tilus.ir.ops import Binary, Bitcast, Cast, Compare, Fma, MulHi, Philox, Select, Unary
from tilus.ir.ops.simt import ApproxUnary, PrintThread, PtrAtomic

if TYPE_CHECKING:
    from tilus.codegen.cuda.emitter import _KernelPrinter

_UNARY_F32 = {
    "sqrt": "__fsqrt_rn",
    "floor": "floorf",
    "ceil": "ceilf",
    "round": "rintf",
    "trunc": "truncf",
    "abs": "fabsf",
}
_UNARY_F64 = {
    "sqrt": "__dsqrt_rn",
    "floor": "floor",
    "ceil": "ceil",
    "round": "rint",
    "trunc": "trunc",
    "abs": "fabs",
}
_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^"}
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def is_half(dtype: DType) -> bool:
    return dtype.name in ("f16", "bf16")


# -- literals and packing


def literal(value: int | float | bool, dtype: DType) -> str:
    """A C literal of an element."""
    if dtype.is_bool:
        return "true" if value else "false"
    if dtype.is_int:
        return _integer(int(value), dtype)
    if dtype.bits < 32 and dtype.name != "tf32":
        return f"({c_type(dtype)})0x{encode_float(value, dtype):0{dtype.bits // 4}x}"
    value = rounded(value, dtype)
    double = dtype.bits == 64
    if math.isnan(value):
        return "__longlong_as_double(0x7ff8000000000000LL)" if double else "__int_as_float(0x7fc00000)"
    if math.isinf(value):
        sign = "" if value > 0 else "-"
        infinity = "__longlong_as_double(0x7ff0000000000000LL)" if double else "__int_as_float(0x7f800000)"
        return f"{sign}{infinity}"
    return _decimal(value) if double else f"{_decimal(value)}f"


def _decimal(value: float) -> str:
    text = repr(value)
    return text if any(c in text for c in ".en") else text + ".0"


def _integer(value: int, dtype: DType) -> str:
    if dtype.bits == 64:
        if value == dtype.min_value and dtype.kind == "int":
            return "(-9223372036854775807LL - 1)"
        return f"{value}{'LL' if dtype.kind == 'int' else 'ULL'}"
    if dtype.bits == 32:
        if value == -(1 << 31):
            return "(-2147483647 - 1)"
        return f"{value}{'' if dtype.kind == 'int' else 'u'}"
    return f"({c_type(dtype)}){value}"


def packed_literal(value: int | float | bool, dtype: DType, per: int) -> str:
    bits = integer_bits(value, dtype) & ((1 << dtype.bits) - 1)
    word = 0
    for i in range(per):
        word |= bits << (i * dtype.bits)
    return f"0x{word:08x}u"


def pack(printer: _KernelPrinter, dtype: DType, elements: list[str]) -> str:
    """A 32-bit cell of narrow elements."""
    mask = (1 << dtype.bits) - 1
    parts = []
    for i, text in enumerate(elements):
        word = f"((unsigned)({text}) & 0x{mask:x}u)"
        parts.append(word if not i else f"({word} << {i * dtype.bits})")
    return " | ".join(parts)


def from_word(word: str, cells: Cells) -> str:
    """A 32-bit word as a cell."""
    if cells.per > 1 or cells.ctype in ("unsigned", "int"):
        return word
    return f"__uint_as_float({word})"


def to_word(name: str, cells: Cells) -> str:
    if cells.per > 1:
        return name
    return f"__float_as_uint({name})" if cells.ctype == "float" else f"(unsigned)({name})"


def shared_suffix(cells: Cells) -> str:
    """The suffix of the shared-memory helpers for a cell."""
    if cells.per > 1:
        return "u32"
    return {"float": "f32", "double": "f64"}.get(cells.ctype) or f"u{max(8, cells.dtype.bits)}"


def mma_operand(name: str, cells: Cells, constraint: str) -> str:
    if constraint == "r" and cells.ctype == "float":
        return f"__float_as_uint({name})"
    return name


def shuffle_cell(function: str, name: str, lane: str, cells: Cells) -> str:
    ctype = cells.ctype
    if ctype in ("unsigned", "int", "float", "double", "long long", "unsigned long long"):
        return f"{function}(0xffffffffu, {name}, {lane})"
    return f"({ctype}){function}(0xffffffffu, (unsigned)({name}), {lane})"


# -- elementwise


def packed(printer: _KernelPrinter, op: Operation) -> list[str] | None:
    """Expressions of whole cells, where the operation works on pairs at once; else None."""
    result = op.results[0]
    if isinstance(op, Binary) and op.lhs.tile.dtype.name == "f16" and op.kind in ("add", "sub", "mul"):
        a, b = (printer.cells[v] for v in (op.lhs, op.rhs))
        if a.per == 2:
            function = printer.need(f"f16x2_{op.kind}")
            return [f"{function}({x}, {y})" for x, y in zip(a.names, b.names, strict=True)]
    if isinstance(op, Fma) and op.a.tile.dtype.name == "f16":
        cells = [printer.cells[v] for v in (op.a, op.b, op.c)]
        if cells[0].per == 2:
            function = printer.need("f16x2_fma")
            return [f"{function}({', '.join(n)})" for n in zip(*(c.names for c in cells), strict=True)]
    if (
        isinstance(op, Cast)
        and is_half(op.dtype)
        and result.tile.size % 2 == 0
        and result.tile.shape
        and op.rounding == "rn"
    ):
        source = printer.cells[op.x]
        if source.dtype.name == "f32":
            function = printer.need(f"pack_{op.dtype}")
            return [f"{function}({source.element(i)}, {source.element(i + 1)})" for i in range(0, source.count, 2)]
    if isinstance(op, Bitcast) and printer.cells[op.x].per > 1:
        return list(printer.cells[op.x].names)
    return None


def element(printer: _KernelPrinter, op: Operation, index: int) -> str:
    """The expression of one element of an elementwise operation's result."""
    operands = [printer.cells[v].element(index) for v in op.operands]
    if isinstance(op, Unary):
        return _unary(printer, op.kind, operands[0], op.x.tile.dtype)
    if isinstance(op, Binary):
        return _binary(printer, op, operands)
    if isinstance(op, Compare):
        x, y = (_wide(printer, t, op.lhs.tile.dtype) for t in operands)
        return f"({x} {_COMPARE[op.kind]} {y})"
    if isinstance(op, Select):
        return f"({operands[0]} ? {operands[1]} : {operands[2]})"
    if isinstance(op, Cast):
        return cast(printer, operands[0], op.x.tile.dtype, op.dtype, op.rounding, op)
    if isinstance(op, Bitcast):
        return _bitcast(operands[0], op.x.tile.dtype, op.dtype)
    if isinstance(op, Fma):
        return _fma(printer, op, operands)
    if isinstance(op, MulHi):
        suffix = {"i32": "__mulhi", "u32": "__umulhi", "i64": "__mul64hi", "u64": "__umul64hi"}
        return f"{suffix[op.lhs.tile.dtype.name]}({operands[0]}, {operands[1]})"
    assert isinstance(op, ApproxUnary)
    return f"{printer.need('approx_' + op.kind + ('_ftz' if op.ftz else ''))}({operands[0]})"


def _wide(printer: _KernelPrinter, text: str, dtype: DType) -> str:
    """A 16-bit float as float; others as they are."""
    return f"{printer.need(f'{dtype}_to_f32')}({text})" if is_half(dtype) else text


def _narrow(printer: _KernelPrinter, text: str, dtype: DType) -> str:
    return f"{printer.need(f'f32_to_{dtype}')}({text})" if is_half(dtype) else text


def _wrapped(text: str, dtype: DType) -> str:
    """Integer arithmetic below 32 bits is done in int and wrapped."""
    return f"({c_type(dtype)})({text})" if dtype.is_int and dtype.bits < 32 else text


def _unary(printer: _KernelPrinter, kind: str, x: str, dtype: DType) -> str:
    if dtype.is_bool:
        return f"!{x}"
    if dtype.is_int:
        if kind == "neg":
            return _wrapped(
                f"-{x}"
                if dtype.kind == "uint" or dtype.bits < 32
                else f"({c_type(dtype)})(0u - ({_unsigned(dtype)}){x})",
                dtype,
            )
        if kind == "abs":
            return (
                x
                if dtype.kind == "uint"
                else _wrapped(f"({x} < 0 ? ({c_type(dtype)})(0u - ({_unsigned(dtype)}){x}) : {x})", dtype)
            )
        if kind == "not":
            return _wrapped(f"~{x}", dtype)
        word = f"({_unsigned(dtype)}){x}"
        if kind == "popcount":
            return f"({c_type(dtype)})__popcll({word})" if dtype.bits == 64 else f"({c_type(dtype)})__popc({word})"
        if dtype.bits == 64:
            return f"({c_type(dtype)})__clzll((long long){x})"
        return f"({c_type(dtype)})(__clz((int)({word})) - {32 - dtype.bits})"
    wide = _wide(printer, x, dtype)
    double = dtype.bits == 64
    if kind == "isnan":
        return f"({wide} != {wide})"
    limit = literal(float("inf"), dtype if not is_half(dtype) else _f32())
    fabs = "fabs" if double else "fabsf"
    if kind == "isinf":
        return f"({fabs}({wide}) == {limit})"
    if kind == "isfinite":
        return f"({fabs}({wide}) < {limit})"
    if kind == "neg":
        if is_half(dtype):
            return f"(unsigned short)({x} ^ 0x8000)"
        return f"-{wide}"
    one = "1.0" if double else "1.0f"
    if kind == "rcp":
        result = f"({one} / {wide})"
    else:
        result = f"{(_UNARY_F64 if double else _UNARY_F32)[kind]}({wide})"
    return _narrow(printer, result, dtype)


def _f32() -> DType:
    from tilus.ir.dtypes import f32

    return f32


def _unsigned(dtype: DType) -> str:
    return {8: "unsigned char", 16: "unsigned short", 32: "unsigned", 64: "unsigned long long"}[dtype.bits]


def _binary(printer: _KernelPrinter, op: Binary, operands: list[str]) -> str:
    dtype, kind = op.lhs.tile.dtype, op.kind
    x, y = operands
    if dtype.is_bool:
        if kind in ("min", "max"):
            kind = "and" if kind == "min" else "or"
        return f"({x} {_INFIX[kind]} {y})"
    if dtype.is_int:
        return _wrapped(_integer_binary(printer, kind, x, y, dtype), dtype)
    x, y = _wide(printer, x, dtype), _wide(printer, y, dtype)
    double = dtype.bits == 64
    if kind in ("add", "sub", "mul") and not op.contract and not is_half(dtype):
        stem = {"add": "add", "sub": "sub", "mul": "mul"}[kind]
        text = f"__{'d' if double else 'f'}{stem}_rn({x}, {y})"
    elif kind in _INFIX:
        text = f"({x} {_INFIX[kind]} {y})"
    elif kind in ("min", "max"):
        text = f"f{kind}{'' if double else 'f'}({x}, {y})"
    elif kind == "floordiv":
        text = f"floor{'' if double else 'f'}({x} / {y})"
    elif kind == "mod":
        f = "" if double else "f"
        text = f"({x} - floor{f}({x} / {y}) * {y})"
    else:
        text = f"{kind}{'' if double else 'f'}({x}, {y})"
    return _narrow(printer, text, dtype)


def _integer_binary(printer: _KernelPrinter, kind: str, x: str, y: str, dtype: DType) -> str:
    ctype = c_type(dtype)
    if kind in ("add", "sub", "mul") and dtype.kind == "int" and dtype.bits >= 32:
        if dtype.bits == 32 and kind != "mul":
            return f"({x} {_INFIX[kind]} {y})"
        word = _unsigned(dtype)
        return f"({ctype})(({word}){x} {_INFIX[kind]} ({word}){y})"
    if kind in _INFIX:
        return f"({x} {_INFIX[kind]} {y})"
    if kind in ("min", "max"):
        return f"({x} {'<' if kind == 'min' else '>'} {y} ? {x} : {y})"
    if kind in ("shl", "shr"):
        amount = y.removesuffix("u")
        if amount.isdigit() and int(amount) < dtype.bits:
            return f"({x} {'<<' if kind == 'shl' else '>>'} {amount})"
        return f"{printer.need('shift_left' if kind == 'shl' else 'shift_right')}<{ctype}>({x}, {y})"
    if dtype.kind == "uint" and _nonzero_literal(y):
        return f"({x} {'/' if kind == 'floordiv' else '%'} {y})"
    return f"{printer.need('floordiv' if kind == 'floordiv' else 'floormod')}<{ctype}>({x}, {y})"


def _nonzero_literal(text: str) -> bool:
    digits = text.removesuffix("u").removesuffix("ULL").removesuffix("LL")
    return digits.isdigit() and int(digits) != 0


def _fma(printer: _KernelPrinter, op: Fma, operands: list[str]) -> str:
    dtype = op.a.tile.dtype
    if dtype.bits == 64:
        return f"fma({', '.join(operands)})"
    if dtype.name == "f16":
        words = [f"(unsigned){t}" for t in operands]
        return f"(unsigned short){printer.need('f16x2_fma')}({', '.join(words)})"
    if dtype.name == "bf16":
        # The product of two bf16 is exact in f32, and the sum in f64; one rounding is left.
        a, b, c = (_wide(printer, t, dtype) for t in operands)
        return _narrow(printer, f"__fmaf_rn({a}, {b}, {c})", dtype)
    return f"__fmaf_rn({', '.join(operands)})"


def _bitcast(x: str, source: DType, target: DType) -> str:
    if source.bits == 32 and source.is_float != target.is_float:
        return (
            f"__float_as_{'int' if target.kind == 'int' else 'uint'}({x})"
            if source.is_float
            else (f"__{'int' if source.kind == 'int' else 'uint'}_as_float({x})")
        )
    if source.bits == 64 and source.is_float != target.is_float:
        return (
            f"({c_type(target)})__double_as_longlong({x})"
            if source.is_float
            else (f"__longlong_as_double((long long){x})")
        )
    return f"({c_type(target)}){x}"


def cast(printer: _KernelPrinter, x: str, source: DType, target: DType, rounding: str, op: Operation) -> str:
    """A conversion of one element; saturating from float to integer."""
    if (source.is_float and not source.is_arithmetic) or (target.is_float and not target.is_arithmetic):
        raise UnsupportedError.at("E0507", f"conversion from {source} to {target} in CUDA C", op.span)
    if target.is_bool:
        return f"({_wide(printer, x, source)} != 0)"
    if source.is_bool:
        return (
            _narrow(printer, f"({x} ? 1.0f : 0.0f)", target)
            if target.is_float and target.bits < 64
            else (f"({c_type(target)}){x}")
        )
    if source.is_int and target.is_int:
        return f"({c_type(target)}){x}"
    if source.is_int:
        if is_half(target):
            return _narrow(printer, _int_to_f32(x, source), target)
        return f"({c_type(target)}){x}"
    if target.is_int:
        return _saturate(printer, _wide(printer, x, source), source, target)
    if source.name == "f64" and target.name == "f16":
        return f"{printer.need('f64_to_f16')}({x})"
    wide = _wide(printer, x, source)
    if is_half(target):
        return _narrow(printer, f"(float){wide}" if source.bits == 64 else wide, target)
    if rounding != "rn" and source.bits == 64 and target.bits == 32:
        return f"__double2float_{ {'rz': 'rz', 'rm': 'rd', 'rp': 'ru'}[rounding] }({wide})".replace(" ", "")
    return f"({c_type(target)}){wide}"


def _int_to_f32(x: str, source: DType) -> str:
    return f"(float){x}"


def _saturate(printer: _KernelPrinter, x: str, source: DType, target: DType) -> str:
    """``cvt.rzi`` saturates to 32 and 64 bits and gives 0 for NaN where the PTX says so; narrower types clamp."""
    double = source.bits == 64
    if target.bits in (32, 64):
        stem = {"i32": "int", "u32": "uint", "i64": "ll", "u64": "ull"}[target.name]
        converted = f"__{'double' if double else 'float'}2{stem}_rz({x})"
        if not double and target.bits == 32:
            return converted  # the instruction gives 0 for NaN
        return f"(({x}) != ({x}) ? ({c_type(target)})0 : ({c_type(target)}){converted})"
    low, high = target.min_value, target.max_value
    if target.bits > 31:
        wide = f"__{'double' if double else 'float'}2ll_rz({x})"
        clamped = f"({c_type(target)})min(max({wide}, {low}ll), {high}ll)"
        return f"(({x}) != ({x}) ? ({c_type(target)})0 : {clamped})"
    wide = f"__{'double' if double else 'float'}2int_rz({x})"
    clamped = f"({c_type(target)})min(max({wide}, {low}), {high})"
    return f"(({x}) != ({x}) ? ({c_type(target)})0 : {clamped})" if double else clamped


# -- atomics, printing, random numbers


def atomic(printer: _KernelPrinter, op: PtrAtomic) -> str:
    """The statement of an atomic operation, with ``$`` for the variable of the old value."""
    dtype = op.result.tile.dtype
    pointer = op.pointer.type
    space = getattr(pointer, "space", "global")
    scope = PTX_SCOPES[op.scope]
    names = {
        "add": "add",
        "min": "min",
        "max": "max",
        "and": "and",
        "or": "or",
        "xor": "xor",
        "exchange": "exch",
        "cas": "cas",
    }
    kind = names[op.kind]
    value, address = printer.scalar(op.value), printer.address(op.pointer)
    if kind in ("and", "or", "xor", "exch", "cas"):
        type_ = f"b{dtype.bits}"
    elif dtype.is_float:
        type_ = dtype.name if dtype.bits > 16 else f"noftz.{dtype}"
    elif kind == "add":
        type_ = f"u{dtype.bits}" if dtype.bits == 64 or dtype.kind == "uint" else f"s{dtype.bits}"
    else:
        type_ = f"{'s' if dtype.kind == 'int' else 'u'}{dtype.bits}"
    constraint = (
        {16: "h", 32: "r", 64: "l"}[dtype.bits]
        if not dtype.is_float or type_.startswith("b")
        else ({16: "h", 32: "f", 64: "d"}[dtype.bits])
    )
    operands = [value] if op.compare is None else [printer.scalar(op.compare), value]
    places = ", ".join(f"%{i + 2}" for i in range(len(operands)))
    inputs = ", ".join(f'"{constraint}"({o})' for o in operands)
    where = "r" if space == "shared" else "l"
    return (
        f'asm volatile("atom.{op.order}.{scope}.{space}.{kind}.{type_} %0, [%1], {places};" : "={constraint}"($) : '
        f'"{where}"({address}), {inputs} : "memory");'
    )


def printf_format(op: PrintThread) -> tuple[str, list[Value]]:
    pieces = op.format.replace("{{", "\0").replace("}}", "\1").split("{}")
    formats = [_printf_code(v.tile.dtype) for v in op.values]
    text = pieces[0].replace("%", "%%")
    for code, piece in zip(formats, pieces[1:], strict=True):
        text += code + piece.replace("%", "%%")
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\0", "{").replace("\1", "}")
    return text + "\\n", list(op.values)


def _printf_code(dtype: DType) -> str:
    if dtype.is_float:
        return "%g"
    return "%llu" if dtype.kind == "uint" else "%lld"


def printf_argument(printer: _KernelPrinter, value: Value) -> str:
    dtype = value.tile.dtype
    text = printer.scalar(value)
    if dtype.is_float:
        return f"(double){_wide(printer, text, dtype)}"
    return f"({'unsigned ' if dtype.kind == 'uint' else ''}long long){text}"


PHILOX = """__device__ __forceinline__ uint4 philox(unsigned long long seed, unsigned long long offset) {
  unsigned k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
  uint4 c = make_uint4((unsigned)offset, (unsigned)(offset >> 32), 0u, 0u);
#pragma unroll
  for (int r = 0; r < 10; ++r) {
    unsigned h0 = __umulhi(0xD2511F53u, c.x), l0 = 0xD2511F53u * c.x;
    unsigned h1 = __umulhi(0xCD9E8D57u, c.z), l1 = 0xCD9E8D57u * c.z;
    c = make_uint4(h1 ^ c.y ^ k0, l1, h0 ^ c.w ^ k1, l0);
    k0 += 0x9E3779B9u; k1 += 0xBB67AE85u;
  }
  return c;
}"""


def philox(printer: Any, op: Philox) -> None:
    """Four words per element."""
    printer.functions.setdefault("philox", PHILOX)
    seed, offsets = printer.scalar(op.seed), printer.cells[op.offset]
    names = []
    for i in range(max(1, op.offset.tile.size)):
        name = printer.fresh("random")
        printer.line(f"const uint4 {name} = philox({seed}, {offsets.element(i)});")
        names.append(name)
    printer.consume(op)
    for result, component in zip(op.results, "xyzw", strict=True):
        printer.bind(result, [f"{n}.{component}" for n in names])
