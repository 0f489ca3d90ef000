"""Bugs in what all targets share and in the passes over tiles."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from tests.fuzz.mutants_planted import CPU, CUDA, PASSES, Anything, Mutant
from tilus.ir.dtypes import bool_
from tilus.ir.ops import Binary, Compare, Const, For, If, Sync, Transpose, WaitAsync, While
from tilus.ir.types import ViewType
from tilus.layouts import blocked
from tilus.lowering.facts import Fact, constant_fact

_SIMPLIFY, _FACTS = "tilus.lowering.simplify", "tilus.lowering.facts"
_PIPELINE, _DEFER = "tilus.lowering.schedule.pipeline", "tilus.lowering.schedule.defer_reductions"
_STAGED, _PLAN = "tilus.lowering.schedule.staged", "tilus.lowering.schedule.plan"
_INFER, _ORDER = "tilus.lowering.infer_layouts", "tilus.lowering.schedule.order_memory"


def _number(value: Any) -> Any:
    return value.defining.value if isinstance(value.defining, Const) else None


def _modulo_one(fold: Anything) -> Anything:
    return lambda folder, op: op.lhs if op.kind == "mod" and _number(op.rhs) == 1 else fold(folder, op)


def _zero_minus(fold: Anything) -> Anything:
    def changed(folder: Any, op: Binary) -> Any:
        integer = op.lhs.tile.dtype.is_int
        return op.rhs if op.kind == "sub" and integer and _number(op.lhs) == 0 else fold(folder, op)

    return changed


def _unordered_operands(key: Anything) -> Anything:
    def changed(folder: Any, op: Any) -> Any:
        found = key(folder, op)
        commutes = isinstance(op, (Binary, Compare)) and op.kind in ("sub", "lt")
        return (found[0], tuple(sorted(found[1])), *found[2:]) if commutes and found is not None else found

    return changed


def _without_attributes(key: Anything) -> Anything:
    def changed(folder: Any, op: Any) -> Any:
        found = key(folder, op)
        return found if found is None or len(found) != 4 else (*found[:2], (), found[3])

    return changed


def _folds(known: Anything) -> Anything:
    """Comparisons fold by what is known of the facts of both sides as well: None for nothing."""
    def change(fold: Anything) -> Anything:
        def changed(folder: Any, op: Compare) -> Any:
            found = fold(folder, op)
            if found is not None or folder.facts is None or not op.lhs.tile.dtype.is_int:
                return found
            result = known(op.kind, folder.facts.of(op.lhs), folder.facts.of(op.rhs))
            return None if result is None else Const(result, bool_, op.result.tile.shape)

        return changed

    return change


def _composed_backwards(fold: Anything) -> Anything:
    def changed(folder: Any, op: Transpose) -> Any:
        inner = op.x.defining
        if not isinstance(inner, Transpose):
            return fold(folder, op)
        return Transpose(inner.x, tuple(op.permutation[p] for p in inner.permutation))

    return changed


def _then_always(after: Anything) -> Anything:
    def changed(folder: Any, op: Any) -> None:
        after(folder, op)
        if isinstance(op, If):
            folder.mapping.update(zip(op.results, op.then.terminator.operands, strict=True))

    return changed


def _first_iterated(original: Anything) -> Anything:
    return lambda loop: {region.args[0] for region in loop.regions if region.args}


def _nearly_multiples(modulo: Anything) -> Anything:
    def changed(a: Fact, b: Fact) -> Any:
        near = b.is_constant and b.low >= 1 and a.divisor % b.low <= 1 and not (a.low >= 0 and a.high < b.low)
        return constant_fact(0) if near else modulo(a, b)

    return changed


def _multiples_of_16(learn: Anything) -> Anything:
    def changed(facts: Any, value: Any, fact: Fact) -> None:
        learn(facts, value, replace(fact, divisor=16) if value in facts.parameters else fact)

    return changed


def _first_grid(grids: Anything) -> Anything:
    def changed(launch: Any) -> dict[str, Any]:
        found = grids(launch)
        return dict.fromkeys(found, next(iter(found.values()), ()))

    return changed


def _waits_less(original: Anything) -> Anything:
    def changed(pipeline: Any, b: Any) -> None:
        b.add(WaitAsync(pipeline.stages - 1))
        b.add(Sync())

    return changed


def _slots_swapped(around: Anything) -> Anything:
    def changed(pipeline: Any, b: Any, slot: Any, length: int) -> Any:
        this, previous, following = around(pipeline, b, slot, length)
        return following, previous, this

    return changed


def _without_factor(match: Anything) -> Anything:
    def changed(loop: Any, position: int, uses: Any) -> Any:
        found = match(loop, position, uses)
        return found and replace(found, factor=None)

    return changed


def _scanned_in_runs(layout: Anything) -> Anything:
    def changed(shape: tuple[int, ...], axis: int, threads: int) -> Any:
        order = (axis, *(d for d in reversed(range(len(shape))) if d != axis))
        return blocked(shape, threads, max(1, -(-shape[axis] // threads)), order)

    return changed


def _walked_once(original: Anything) -> Anything:
    def changed(order: Any, op: For | While, pending: list[Any]) -> list[Any]:
        from tilus.lowering.schedule.order_memory import _leave

        after = list(pending)
        for body in op.regions:
            after = order._block(body, after)
        return _leave(op, [*pending, *after])

    return changed


def _nearly_neighbours(difference: Anything) -> Anything:
    def changed(order: Any, old: Any, first: Any, second: Any) -> Any:
        found = difference(order, old, first, second)
        return (found[0] + 1, found[1]) if found and found[0] > 0 else found

    return changed


def _all_restrict(original: Anything) -> Anything:
    def changed(function: Any) -> tuple[str, ...]:
        pairs = zip(function.body.args, function.parameters, strict=True)
        aliased = function.attributes.may_alias
        return tuple(p.name for v, p in pairs if isinstance(v.type, ViewType) and p.name not in aliased)

    return changed


TILE_MUTANTS = (
    # passes over tiles, for every target
    Mutant("x % 1 is x", f"{_SIMPLIFY}:_fold_binary", _modulo_one, PASSES),
    Mutant("0 - x is x", f"{_SIMPLIFY}:_fold_binary", _zero_minus, PASSES),
    Mutant("folded integers do not wrap", f"{_SIMPLIFY}:_wrap", lambda wrap: lambda value, dtype: value, PASSES),
    Mutant("a - b and b - a are one", f"{_SIMPLIFY}:_Folder.key", _unordered_operands, PASSES),
    Mutant("attributes do not tell operations apart", f"{_SIMPLIFY}:_Folder.key", _without_attributes, PASSES),
    Mutant("x < y folds at x.high == y.low", f"{_SIMPLIFY}:_fold_compare",
           _folds(lambda kind, x, y: kind == "lt" if kind in ("lt", "ge") and x.high == y.low else None), PASSES),
    Mutant("equal ranges are equal numbers", f"{_SIMPLIFY}:_fold_compare",
           _folds(lambda kind, x, y: kind == "eq" if kind in ("eq", "ne") and x == y else None), PASSES),
    Mutant("transposes compose the wrong way", f"{_SIMPLIFY}:_fold_transpose", _composed_backwards, PASSES),
    Mutant("the results of an if are its then", f"{_SIMPLIFY}:_Folder._after_regions", _then_always, PASSES),
    Mutant("what a loop changes is hoisted", f"{_SIMPLIFY}:_iterated", _first_iterated, PASSES),
    Mutant("iota reaches less far", f"{_FACTS}:_iota",
           lambda iota: lambda facts, op: Fact(0, max(0, iota(facts, op).high - 2), 1), PASSES),
    Mutant("a difference's range is a sum's", f"{_FACTS}:_sub",
           lambda sub: lambda a, b: Fact(a.low - b.low, a.high - b.high, math.gcd(a.divisor, b.divisor)), PASSES),
    Mutant("remainders of near multiples are 0", f"{_FACTS}:_mod", _nearly_multiples, PASSES),
    Mutant("every scalar is a multiple of 16", f"{_FACTS}:Facts._learn", _multiples_of_16),
    Mutant("grids are those of the first kernel", f"{_FACTS}:_grids", _first_grid),
    Mutant("literals are cut off", "tilus.ir.literals:_units",
           lambda units: lambda magnitude, last: int(magnitude / math.ldexp(1.0, last)) if last > -1075 else 0),
    Mutant("constants of narrow floats are their numbers", "tilus.ir.literals:integer_bits",
           lambda bits: lambda value, dtype: int(value) if dtype.is_float and dtype.bits <= 16 and math.isfinite(value)
           else bits(value, dtype), CUDA),
    Mutant("what lies beyond an array counts", "tilus.lowering.array.evaluate:Evaluator.bounded",
           lambda bounded: lambda evaluator, tile, *_: tile, CPU),
    # passes for GPUs
    Mutant("the main loop goes on into the partial tile", f"{_PIPELINE}:_Pipeline.steps_ahead",
           lambda steps: lambda pipeline, count: steps(pipeline, count) - 1),
    Mutant("one copy too many may be open", f"{_PIPELINE}:_Pipeline.await_tile", _waits_less),
    Mutant("no barrier before a slot is filled again", f"{_PIPELINE}:_Pipeline.await_tile",
           lambda wait: lambda pipeline, b: b.add(WaitAsync(pipeline.stages - 2))),
    Mutant("tiles longer than the step are whole", f"{_STAGED}:StagedLoop.within_a_step",
           lambda within: lambda pipeline, load, d: isinstance(pipeline.loop.step.defining, Const)),
    Mutant("any comparison holds in whole tiles", f"{_STAGED}:StagedLoop._same_number",
           lambda same: lambda *_: True, PASSES),
    Mutant("loads of written arrays are staged", f"{_PLAN}:_Planner._changing",
           lambda changing: lambda *_: set(), PASSES),
    Mutant("a slot is read before it is this one's turn", f"{_PIPELINE}:_Pipeline.slots_around",
           _slots_swapped, PASSES),
    Mutant("deferred sums forget their factor", f"{_DEFER}:_match", _without_factor, PASSES),
    Mutant("deferred sums begin at 0", f"{_DEFER}:_first_column",
           lambda first: lambda b, value, shape: b.const(0.0, value.tile.dtype, shape), PASSES),
    Mutant("a reduction's result is where it is wanted", f"{_INFER}:_Materialise._natural_results",
           lambda natural: lambda *_: None),
    Mutant("scans in several runs per thread", f"{_INFER}:scan_layout", _scanned_in_runs),
    Mutant("operands are not converted", f"{_INFER}:_Materialise._in_layout",
           lambda convert: lambda materialise, operand, *_: operand),
    Mutant("no barrier between a store and a load", f"{_ORDER}:_Order._meet", lambda meet: lambda *_: False),
    Mutant("barriers are forgotten", "pass:order-memory", lambda order: lambda module: None),
    Mutant("later iterations of a loop are forgotten", f"{_ORDER}:_Order._loop", _walked_once),
    Mutant("neighbouring tiles do not meet", f"{_ORDER}:_Order._difference", _nearly_neighbours),
    Mutant("the block does not wait for its groups", f"{_ORDER}:_Order._meet",
           lambda meet: lambda order, old, new: (old.group is None or new.group is not None) and meet(order, old, new)),
    Mutant("groups do not wait for those of other warps before", f"{_ORDER}:_Order._meet",
           lambda meet: lambda order, old, new: (None in (old.group, new.group) or old.group == new.group)
           and meet(order, old, new)),
    Mutant("arrays between barriers are restrict", f"{_ORDER}:unordered_arrays", _all_restrict, CUDA),
)
