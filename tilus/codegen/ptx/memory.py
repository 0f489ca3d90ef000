"""Instructions that read and write memory: accesses, asynchronous copies, atomics."""

from __future__ import annotations

import functools

from tilus.codegen.ptx.instruction import Address, Described, Effects, Instruction, Registers, register_kind
from tilus.codegen.ptx.names import PTX_SCOPES
from tilus.ir.dtypes import DType
from tilus.ir.ops.simt import CpAsync
from tilus.ir.ops.thread import AtomicLoad, PtrAtomic, pointer_type

_BITWISE = frozenset({"and", "or", "xor", "exchange", "cas"})


@functools.cache
def load(space: str, kind: str, words: int, bits: int, read_only: bool = False, volatile: bool = False) -> Instruction:
    """A load of ``words`` words of ``bits`` bits, to registers of a class; ``read_only`` by the non-coherent path,
    ``volatile`` where others may write beside it at the same time."""
    vector, width = _access(words, bits)
    cache, stem = ".nc" if read_only else "", "ld.volatile" if volatile else "ld"
    return Instruction(
        _access_name(stem.replace(".", "_"), space, kind, words, bits),
        f"{stem}.{space}{cache}{vector}.{width} $result, [$pointer];",
        (Registers("result", kind, words if words > 1 else 0),), (Address("pointer", space),),
        Effects.NONE if read_only else Effects.MEMORY)


@functools.cache
def store(space: str, kind: str, words: int, bits: int) -> Instruction:
    """A store of ``words`` words of ``bits`` bits."""
    vector, width = _access(words, bits)
    return Instruction(
        _access_name("st", space, kind, words, bits), f"st.{space}{vector}.{width} [$pointer], $value;",
        (), (Address("pointer", space, written=True), Registers("value", kind, words if words > 1 else 0)))


def _access(words: int, bits: int) -> tuple[str, str]:
    return f".v{words}" if words > 1 else "", "u8" if bits == 8 else f"b{bits}"


def _access_name(stem: str, space: str, kind: str, words: int, bits: int) -> str:
    vector = f"v{words}_" if words > 1 else ""
    return f"{stem}_{space}_{vector}{'f' if kind in 'fd' else 'b'}{bits}"


def cp_async(op: CpAsync) -> Instruction:
    """``cp.async``; 16 bytes go past L1. What it takes is whether to ignore the source, or how much of it there is."""
    return _cp_async(op.bytes, op.predicate is not None, op.active is not None, op.count is not None)


@functools.cache
def _cp_async(size: int, guarded: bool, some: bool, counted: bool) -> Instruction:
    ignore = (Registers("predicate", "b", negated=True),) if guarded else ()
    count = (Registers("count", "r"),) if counted else ()
    active = (Registers("active", "b"),) if some else ()
    return Instruction(
        f"cp_async_{size}{'_if' if guarded else ''}{'_of' if counted else ''}{'_by_some' if some else ''}",
        f"{'@$active ' if some else ''}cp.async.{'cg' if size == 16 else 'ca'}.shared.global [$destination], "
        f"[$source], {size}{', $count' if counted else ''}{', $predicate' if guarded else ''};",
        (), (Address("destination", "shared", written=True), Address("source", "global"), *count, *ignore, *active))


def atomic(op: PtrAtomic) -> Instruction:
    """``atom``, or ``red`` where nothing asks for the old value, of neighbouring elements too; its predicate is not
    part of it."""
    tile, space = op.result.tile, pointer_type(op.pointer).space
    if tile.shape:
        return _vector_reduction(op.kind, tile.dtype, tile.size, op.order, op.scope, space)
    return _atomic(op.kind, tile.dtype, op.order, op.scope, space, op.discards)


@functools.cache
def _atomic(kind: str, dtype: DType, order: str, scope: str, space: str, discards: bool) -> Instruction:
    register = register_kind(dtype, bits=kind in _BITWISE)
    how = f"{'exch' if kind == 'exchange' else kind}.{_atomic_type(kind, dtype)}"
    opcode = f"{'red' if discards else 'atom'}.{order}.{PTX_SCOPES[scope]}.{space}.{how}"
    operands = [Registers(n, register) for n in (("compare", "value") if kind == "cas" else ("value",))]
    results = () if discards else (Registers("result", register),)
    text = ", ".join([*(f"${r.name}" for r in results), "[$pointer]", *(f"${o.name}" for o in operands)])
    return Instruction(opcode.replace(".", "_"), f"{opcode} {text};", results,
                       (Address("pointer", space, written=True), *operands))


@functools.cache
def _vector_reduction(kind: str, dtype: DType, count: int, order: str, scope: str, space: str) -> Instruction:
    """Of vectors of 32-bit words: f32, or pairs of 16-bit floats."""
    words = count * dtype.bits // 32
    of = f"v{words}.f32" if dtype.bits == 32 else f"noftz.v{words}.{dtype}x2" if words > 1 else f"noftz.{dtype}x2"
    opcode = f"red.{order}.{PTX_SCOPES[scope]}.{space}.{kind}.{of}"
    value = Registers("value", "f" if dtype.bits == 32 else "r", words if words > 1 else 0)
    return Instruction(opcode.replace(".", "_"), f"{opcode} [$pointer], $value;", (),
                       (Address("pointer", space, written=True), value))


def _atomic_type(kind: str, dtype: DType) -> str:
    if kind in _BITWISE:
        return f"b{dtype.bits}"
    if dtype.is_float:
        return dtype.name if dtype.bits > 16 else f"noftz.{dtype}"
    unsigned = dtype.kind == "uint" or (kind == "add" and dtype.bits == 64)
    return f"{'u' if unsigned else 's'}{dtype.bits}"


def atomic_load(op: AtomicLoad) -> Instruction:
    """``ld`` with an order."""
    dtype, space = pointer_type(op.pointer).dtype, pointer_type(op.pointer).space
    return _atomic_load(register_kind(dtype, bits=True), dtype.bits, op.order, op.scope, space)


@functools.cache
def _atomic_load(kind: str, bits: int, order: str, scope: str, space: str) -> Instruction:
    opcode = f"ld.{order}.{PTX_SCOPES[scope]}.{space}.b{bits}"
    return Instruction(opcode.replace(".", "_"), f"{opcode} $result, [$pointer];", (Registers("result", kind),),
                       (Address("pointer", space),))


DESCRIBED: Described = {CpAsync: cp_async, AtomicLoad: atomic_load}
