"""Which machine instructions elementwise operations become, by what the lowering makes of them.

Operations that the target's emitters do not spell are expanded by the compiler's own rules (``lowering/legalise``), and
conversions of small types by its sequences (``lowering/conversions``): there is no second table of them. What ptxas
makes of divisions and square roots is from its code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tilus.diagnostics import UserError
from tilus.ir.core import REGISTRY, Block, Module, Operation
from tilus.ir.core import Function as IrFunction
from tilus.ir.dtypes import DType, f32, i32, u32
from tilus.ir.ops import Binary, Bitcast, Broadcast, Cast, Compare, Const, Fma, Map, MulHi, Select, Unary, Yield
from tilus.ir.types import TileType
from tilus.lowering.legalise import NVIDIA, legalise
from tilus.model.pipes import Use, use_of
from tilus.model.sass import NO_BARRIER, Instruction

Count = Mapping[str, float]
"""Instructions of a warp for an element of each of its threads, by opcode and modifiers (``IMAD.WIDE``)."""

FREE: Count = {}
APPROXIMATIONS: dict[str, Count] = {
    "exp2": {"MUFU": 1}, "log2": {"MUFU": 1}, "rcp": {"MUFU": 1}, "rsqrt": {"MUFU": 1}, "sqrt": {"MUFU": 1},
    "sin": {"MUFU": 1, "FMUL": 1}, "cos": {"MUFU": 1, "FMUL": 1}, "tanh": {"MUFU": 1},
    "exp": {"MUFU": 1, "FMUL": 1}, "log": {"MUFU": 1, "FMUL": 1}, "sigmoid": {"MUFU": 2, "FMUL": 1, "FADD": 1},
}
"""The hardware's approximations of f32 functions (``lowering/simt/lower.py: approximate_unary``)."""
_DIVISION: Count = {"MUFU": 1, "FFMA": 6, "FCHK": 1, "MOV": 1}
_ROOT: Count = {"MUFU": 1, "FFMA": 4, "FMUL": 2, "IADD3": 1}
_DOUBLE_DIVISION: Count = {"MUFU": 1, "DFMA": 8, "DMUL": 1, "FSETP": 1}
_QUOTIENT: Count = {"I2F": 1, "MUFU": 1, "F2I": 1, "IMAD": 5, "ISETP": 3, "IADD3": 4, "IABS": 2, "LOP3": 1}
_LOGIC = frozenset({"and", "or", "xor", "not"})
_SHIFTS = frozenset({"shl", "shr", "lsl", "lsr", "asr"})


@lru_cache(maxsize=512)
def use(name: str, arch: int, half_rate: bool = False) -> Use:
    """The pipe of an instruction that is named by its opcode and modifiers (``HMMA.16816.F32``)."""
    opcode, *modifiers = name.split(".")
    made = Instruction(0, opcode, tuple(modifiers), None, (), None, 0, False, NO_BARRIER, NO_BARRIER, 0, 0, name)
    return use_of(made, arch, half_rate=half_rate)


def instructions(op: Operation, target: str) -> Count:
    """Of an elementwise operation."""
    if isinstance(op, Map):
        return _of_block(op.body, target)
    types = tuple(v.tile.dtype for v in op.operands)
    attributes = tuple((name, getattr(op, name)) for name in op.ATTRIBUTE_FIELDS)
    return _counted(op.NAME, types, attributes, target)


@lru_cache(maxsize=4096)
def _counted(name: str, types: tuple[DType, ...], attributes: tuple[tuple[str, Any], ...], target: str) -> Count:
    """Of an operation on scalars of these types. Indices, which have 64 bits in the tile language, are taken to have
    32, as nearly all do once their ranges are known."""
    kind, body = REGISTRY[name], Block([TileType(_register(t)) for t in types])
    fields: dict[str, Any] = dict(attributes)
    fields.update(zip((field for field, _ in kind.OPERAND_FIELDS), body.args, strict=True))
    if kind is Cast:
        fields["dtype"] = _register(fields["dtype"])
        found = _conversion(types[0], fields["dtype"])
        if found is not None:
            return found
    if kind is Unary and fields["approximate"]:
        approximation = APPROXIMATIONS.get(fields["kind"])
        if approximation is not None:
            return _with_widening(approximation, types[0])
    try:
        op = kind(**fields)
        body.ops = [op, Yield(tuple(op.results))]
        legalise(NVIDIA)(Module([IrFunction("operation", body, ())], None, "thread", frozenset(), target))
    except UserError:  # what cannot be compiled is refused there
        return {"IADD3": 1}
    return _of_block(body, target)


def _register(dtype: DType) -> DType:
    return {"i64": i32, "u64": u32}.get(dtype.name, dtype)


def _with_widening(count: Count, dtype: DType) -> Count:
    """Of f32 arithmetic for a narrower type: with the conversions there and back."""
    return count if dtype is f32 else {**count, "HADD2": 1, "F2FP": 0.5}


def _conversion(source: DType, target: DType) -> Count | None:
    """By the sequences for elements that are dense in registers; None where there is none."""
    if source.bits > 8 or source.is_bool or (source.bits == 8 and source.is_int and not target.is_float):
        return None
    from tilus.lowering.conversions.table import program_for

    program = program_for(source, target, True)
    return None if program is None else {"LOP3": program.cost / program.elements}


def _of_block(block: Block, target: str) -> Count:
    found: Counter[str] = Counter()
    for op in block.ops:
        for name, count in _spelled(op, target).items():
            found[name] += count  # type: ignore[assignment]
        for region in op.regions:
            if not isinstance(op, Map):
                found.update(_of_block(region, target))
    return found


def _spelled(op: Operation, target: str) -> Count:
    """Of an operation that the emitters spell."""
    if isinstance(op, (Const, Bitcast, Broadcast, Yield)) or not op.operands:
        return FREE
    dtype = op.operands[0].tile.dtype
    if isinstance(op, Binary):
        return _binary(op.kind, dtype)
    if isinstance(op, Unary):
        return _unary(op.kind, dtype)
    if isinstance(op, Fma):
        return {"DFMA": 1} if dtype.bits == 64 else {"HFMA2": 0.5} if dtype.bits == 16 else {"FFMA": 1}
    if isinstance(op, Compare):
        return {"DSETP" if dtype.bits == 64 and dtype.is_float else "FSETP" if dtype.is_float else "ISETP": 1}
    if isinstance(op, Select):
        return {"SEL": op.x.tile.dtype.bits / 32} if op.x.tile.dtype.bits >= 32 else {"SEL": 1}
    if isinstance(op, Cast):
        return _cast(op.x.tile.dtype, op.dtype)
    if isinstance(op, MulHi):
        return {"IMAD": 1}
    if op.regions or isinstance(op, Map):
        return FREE
    return {"LOP3": 1}


def _binary(kind: str, dtype: DType) -> Count:
    if dtype.is_bool:
        return {"PLOP3": 1}
    if dtype.is_float:
        if kind == "div":
            return _DIVISION if dtype.bits < 64 else _DOUBLE_DIVISION
        if dtype.bits == 64:
            return {"DMNMX" if kind in ("min", "max") else "DADD": 1}
        if dtype.bits == 16:
            return {"HMNMX2" if kind in ("min", "max") else "HADD2": 0.5}
        return {"FMNMX" if kind in ("min", "max") else "FMUL" if kind == "mul" else "FADD": 1}
    words = max(1, dtype.bits // 32)
    if kind == "mul":
        return {"IMAD": 1 if words == 1 else 4}
    if kind in ("quo", "rem"):
        return _QUOTIENT
    if kind in _LOGIC:
        return {"LOP3": words}
    return {("SHF" if kind in _SHIFTS else "IMNMX" if kind in ("min", "max") else "IADD3"): words}


def _unary(kind: str, dtype: DType) -> Count:
    if kind in ("neg", "abs"):
        return FREE if dtype.is_float else {"IADD3": 1}  # part of the instruction that uses it
    if kind == "sqrt":
        return _ROOT
    if kind in ("floor", "ceil", "round", "trunc"):
        return {"FRND": 1}
    if kind in ("isnan", "isinf", "isfinite"):
        return {"FSETP": 1}
    return {{"popcount": "POPC", "clz": "FLO"}.get(kind, "PLOP3" if dtype.is_bool else "LOP3"): 1}


def _cast(source: DType, target: DType) -> Count:
    if source.is_float and target.is_float:
        if 64 in (source.bits, target.bits):
            return {"F2F": 1}
        return {"F2FP": 0.5} if target.bits < source.bits else {"HADD2": 1} if source.name == "f16" else {"SHF": 1}
    if source.is_float:
        return {"F2I": 1}
    if target.is_float:
        return {"I2FP" if not source.is_bool and target.bits <= 32 else "SEL" if source.is_bool else "I2F": 1}
    return {"SEL": 1} if source.is_bool else FREE


__all__ = ["Count", "instructions", "use"]
