"""Simplification at any level: constant folding, identities, common subexpressions, invariant code, dead code."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import (
    Alloca,
    Binary,
    Broadcast,
    Cast,
    Compare,
    Const,
    Dim,
    For,
    Groups,
    If,
    PtrAdd,
    PtrLoad,
    Reshape,
    Select,
    Stride,
    Transpose,
    Unary,
    While,
)
from tilus.ir.ops.arith import COMMUTATIVE
from tilus.ir.ops.simt import CallEach
from tilus.ir.rewriter import erase_dead, is_pure
from tilus.ir.types import TileType
from tilus.lowering.assumptions import conditions
from tilus.lowering.facts import Facts, kernel_facts

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
}


def simplify(module: Module) -> None:
    """Simplify every kernel of a module, in place."""
    if module.level == "tile":
        for function, facts in kernel_facts(module):
            simplify_function(function, facts)
    else:
        for function in module.kernels:
            simplify_function(function)


def simplify_function(function: Function, facts: Facts | None = None) -> None:
    """Fold, share and hoist within a function, in place; ``facts`` also fold comparisons that always hold."""
    _Folder(facts, function).run(function.body)
    if hoist_invariants(function.body):
        _Folder(facts, function).run(function.body)  # what loops had in common is now side by side
    erase_dead(function)


class _Folder:
    """One forward walk: each operation is folded, or replaced by an equal one that dominates it."""

    def __init__(self, facts: Facts | None, function: Function) -> None:
        self.facts = facts
        self.promised = conditions(function.body)
        self.mapping: dict[Value, Value] = {}
        self.available: dict[Any, tuple[Value, ...]] = {}
        self.names: dict[Value, tuple[Any, ...]] = {}
        for value, parameter in zip(function.body.args, function.parameters, strict=False):
            if parameter.kind == "array":
                self.names[value] = parameter.dims

    def resolve(self, value: Value) -> Value:
        while value in self.mapping:
            value = self.mapping[value]
        return value

    def run(self, block: Block) -> None:
        ops: list[Operation] = []
        added: list[Any] = []
        for op in block.ops:
            op.map_operands(self.resolve)
            folded = self.fold(op, ops, added)
            if folded is not None:
                for old, new in zip(op.results, folded, strict=True):
                    self.mapping[old] = new
                    if not new.name:
                        new.name = old.name
                continue
            key = self.key(op, block)
            if key is not None:
                found = self.available.get(key)
                if found is not None:
                    self.mapping.update(zip(op.results, found, strict=True))
                    continue
                self.available[key] = op.results
                added.append(key)
            ops.append(op)
            outside = self.available
            if isinstance(op, Groups):  # tiles are of the threads that compute them
                self.available = {k: v for k, v in outside.items() if not any(map(_is_tile, v))}
            elif isinstance(op, CallEach):  # nothing from outside is there
                self.available = {}
            for region in op.regions:
                self.run(region)
            self.available = outside
            self._after_regions(op)
        block.ops = ops
        for key in added:
            del self.available[key]

    def _after_regions(self, op: Operation) -> None:
        """Results of an `if` that are the same in both branches, or are its condition."""
        if isinstance(op, If):
            then, orelse = op.then.terminator.operands, op.orelse.terminator.operands
            for result, a, b in zip(op.results, then, orelse, strict=True):
                if a is b:
                    self.mapping[result] = a
                elif _constant(a) is True and _constant(b) is False:
                    self.mapping[result] = op.condition
        elif isinstance(op, For):
            for result, init, arg, last in zip(op.results, op.init, op.carried, op.body.terminator.operands,
                                               strict=True):
                if last is arg:
                    self.mapping[result] = init

    def key(self, op: Operation, block: Block | None = None) -> Any:
        """What operations have in common that give the same; None for those that may not. Of memory that nobody writes
        the same is loaded once in a block, but not kept in registers for blocks within it."""
        if isinstance(op, PtrLoad) and op.read_only and block is not None:
            attributes = tuple(getattr(op, n) for n in op.ATTRIBUTE_FIELDS)
            return (PtrLoad, id(block), id(op.pointer), id(op.predicate), id(op.other), attributes)
        if op.regions or op.effects() or not op.results or isinstance(op, Alloca):
            return None
        if isinstance(op, Dim) and op.view in self.names:
            return (Dim, self.names[op.view][op.axis])
        operands = tuple(map(id, op.operands))
        if isinstance(op, (Binary, Compare)) and op.kind in COMMUTATIVE:
            operands = tuple(sorted(operands))
        attributes = tuple(_hashable(getattr(op, n)) for n in op.ATTRIBUTE_FIELDS)
        return (type(op), operands, attributes, op.results[0].type)

    def fold(self, op: Operation, ops: list[Operation], added: list[Any]) -> tuple[Value, ...] | None:
        rule = _FOLDS.get(type(op))
        if rule is None:
            return None
        result = rule(self, op)
        if result is None:
            return None
        if isinstance(result, Value):
            return (result,)
        result.result.type = op.result.type  # its layout too, once there are layouts
        key = self.key(result)
        found = self.available.get(key)
        if found is not None:
            return found
        if not result.span.known:
            result.span = op.span
        ops.append(result)
        if key is not None:
            self.available[key] = result.results
            added.append(key)
        return result.results


def _is_tile(value: Value) -> bool:
    return isinstance(value.type, TileType) and bool(value.tile.shape)


def _hashable(value: Any) -> Any:
    if isinstance(value, float):
        return (value, math.copysign(1.0, value), "float")
    return (value, type(value).__name__) if isinstance(value, (bool, int)) else value


def _constant(value: Value) -> Any:
    op = value.defining
    return op.value if isinstance(op, Const) else None


def _wrap(value: int, dtype: DType) -> int:
    value &= (1 << dtype.bits) - 1
    return value - (1 << dtype.bits) if dtype.kind == "int" and value >> (dtype.bits - 1) else value


_INTEGER: dict[str, Callable[[int, int], int]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "min": min, "max": max, "and": operator.and_,
    "or": operator.or_, "xor": operator.xor,
    "floordiv": lambda a, b: a // b if b else 0, "mod": lambda a, b: a % b if b else a,
}


def _fold_binary(folder: _Folder, op: Binary) -> Operation | Value | None:
    dtype = op.result.tile.dtype
    a, b = _constant(op.lhs), _constant(op.rhs)
    shape = op.result.tile.shape
    if dtype.is_bool:
        return _fold_logic(op, a, b)
    if not dtype.is_int:
        return None
    if a is not None and b is not None and op.kind in _INTEGER:
        return Const(_wrap(_INTEGER[op.kind](int(a), int(b)), dtype), dtype, shape)
    if b == 0 and op.kind in ("add", "sub", "or", "xor", "shl", "shr"):
        return op.lhs
    if a == 0 and op.kind in ("add", "or", "xor"):
        return op.rhs
    if b == 1 and op.kind in ("mul", "floordiv"):
        return op.lhs
    if a == 1 and op.kind == "mul":
        return op.rhs
    if 0 in (a, b) and op.kind in ("mul", "and"):
        return Const(0, dtype, shape)
    if b == 1 and op.kind == "mod":
        return Const(0, dtype, shape)
    if a is not None and b is None and op.kind in ("add", "mul"):
        return Binary(op.kind, op.rhs, op.lhs, op.contract, span=op.span)
    return None


def _fold_logic(op: Binary, a: Any, b: Any) -> Value | None:
    for constant, other in ((a, op.rhs), (b, op.lhs)):
        if constant is None:
            continue
        this = op.lhs if other is op.rhs else op.rhs
        if op.kind == "and":
            return other if constant else this
        if op.kind == "or":
            return this if constant else other
        if op.kind == "xor" and not constant:
            return other
    return op.lhs if op.lhs is op.rhs and op.kind in ("and", "or") else None


def _fold_compare(folder: _Folder, op: Compare) -> Operation | Value | None:
    a, b = _constant(op.lhs), _constant(op.rhs)
    shape = op.result.tile.shape
    from tilus.ir.dtypes import bool_

    if a is not None and b is not None:
        return Const(_COMPARE[op.kind](a, b), bool_, shape)
    if folder.facts is None or not op.lhs.tile.dtype.is_int or op.result in folder.promised:
        return None  # what tl.assume says is kept as it is: the facts know it from there
    x, y = folder.facts.of(op.lhs), folder.facts.of(op.rhs)
    known: bool | None = None
    if op.kind in ("lt", "ge"):
        known = True if x.high < y.low else (False if x.low >= y.high else None)
        known = known if known is None or op.kind == "lt" else not known
    elif op.kind in ("gt", "le"):
        known = True if x.low > y.high else (False if x.high <= y.low else None)
        known = known if known is None or op.kind == "gt" else not known
    elif x.high < y.low or y.high < x.low:
        known = op.kind == "ne"
    elif x.is_constant and x == y:
        known = op.kind == "eq"
    return None if known is None else Const(known, bool_, shape)


def _fold_unary(folder: _Folder, op: Unary) -> Operation | Value | None:
    inner = op.x.defining
    if op.kind in ("not", "neg") and isinstance(inner, Unary) and inner.kind == op.kind:
        return inner.x
    constant = _constant(op.x)
    if op.kind == "not" and isinstance(constant, bool):
        return Const(not constant, op.result.tile.dtype, op.result.tile.shape)
    return None


def _fold_select(folder: _Folder, op: Select) -> Value | None:
    condition = _constant(op.condition)
    if isinstance(condition, bool):
        return op.x if condition else op.y
    return op.x if op.x is op.y else None


def _fold_cast(folder: _Folder, op: Cast) -> Operation | Value | None:
    source, target = op.x.tile.dtype, op.dtype
    if source is target:
        return op.x
    constant = _constant(op.x)
    if constant is None:
        return None
    if target.is_int and (source.is_int or source.is_bool):
        return Const(_wrap(int(constant), target), target, op.result.tile.shape)
    exact = target.is_float and target.is_arithmetic and target.mantissa < 1024
    if exact and (source.is_int or source.is_bool) and abs(int(constant)) <= 1 << (target.mantissa + 1):
        if target.name == "f16" and abs(int(constant)) > 2048:
            return None
        return Const(float(constant), target, op.result.tile.shape)
    every = source.is_float and target.is_float and source.is_arithmetic and target.is_arithmetic
    if every and constant in (0.0, 1.0, -1.0, 0.5, 2.0):  # which not every type for storage has
        return Const(constant, target, op.result.tile.shape)
    return None


def _fold_broadcast(folder: _Folder, op: Broadcast) -> Operation | Value | None:
    if op.x.tile.shape == op.shape:
        return op.x
    constant = _constant(op.x)
    return None if constant is None else Const(constant, op.x.tile.dtype, op.shape)


def _fold_reshape(folder: _Folder, op: Reshape) -> Operation | Value | None:
    if op.x.tile.shape == op.shape:
        return op.x
    inner = op.x.defining
    if isinstance(inner, Const):
        return Const(inner.value, inner.dtype, op.shape)
    if isinstance(inner, Reshape):
        return inner.x if inner.x.tile.shape == op.shape else Reshape(inner.x, op.shape, span=op.span)
    return None


def _fold_transpose(folder: _Folder, op: Transpose) -> Operation | Value | None:
    if op.permutation == tuple(range(len(op.permutation))):
        return op.x
    inner = op.x.defining
    if isinstance(inner, Const):
        return Const(inner.value, inner.dtype, op.result.tile.shape)
    if isinstance(inner, Transpose):
        composed = tuple(inner.permutation[p] for p in op.permutation)
        return inner.x if composed == tuple(range(len(composed))) else Transpose(inner.x, composed, span=op.span)
    return None


def _fold_dim(folder: _Folder, op: Dim | Stride) -> Operation | None:
    from tilus.ir.dtypes import i64

    if isinstance(op, Dim):
        known = op.view.view.shape[op.axis]
        return None if known is None else Const(known, i64)
    return None


def _fold_ptr_add(folder: _Folder, op: PtrAdd) -> Operation | Value | None:
    if op.offset is not None:
        constant = _constant(op.offset)
        if constant is None:
            return None
        total = op.constant + int(constant)
        return PtrAdd(op.pointer, None, total, span=op.span) if total else op.pointer
    if op.constant == 0:
        return op.pointer
    inner = op.pointer.defining
    if isinstance(inner, PtrAdd):
        if inner.offset is None:
            return PtrAdd(inner.pointer, None, inner.constant + op.constant, span=op.span)
    return None


_FOLDS: dict[type[Operation], Callable[[_Folder, Any], Operation | Value | None]] = {
    Binary: _fold_binary, Compare: _fold_compare, Unary: _fold_unary, Select: _fold_select, Cast: _fold_cast,
    Broadcast: _fold_broadcast, Reshape: _fold_reshape, Transpose: _fold_transpose, Dim: _fold_dim,
    PtrAdd: _fold_ptr_add,
}


def hoist_invariants(block: Block) -> bool:
    """Move pure operations without regions out of loops in which none of their operands is defined; whether there were
    any. Divisions are total here, so executing one that the loop might skip is harmless."""
    ops: list[Operation] = []
    moved = False
    for op in block.ops:
        for region in op.regions:
            moved |= hoist_invariants(region)
        if isinstance(op, (For, While)):
            hoisted = _extract_invariants(op)
            moved |= bool(hoisted)
            ops.extend(hoisted)
        ops.append(op)
    block.ops = ops
    return moved


def _iterated(loop: For | While) -> set[Value]:
    """What each iteration is given: the index and the carried values."""
    return {value for region in loop.regions for value in region.args}


def _extract_invariants(loop: For | While) -> list[Operation]:
    inside = _iterated(loop)
    hoisted: list[Operation] = []
    for region in loop.regions:
        kept: list[Operation] = []
        for op in region.ops:
            movable = not op.TERMINATOR and not op.regions and is_pure(op) and bool(op.results)
            if movable and not any(v in inside for v in op.operands):
                hoisted.append(op)
                continue
            kept.append(op)
            for inner in op.walk():
                inside.update(inner.results)
                for nested in inner.regions:
                    inside.update(nested.args)
        region.ops = kept
    return hoisted
