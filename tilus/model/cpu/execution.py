"""How often the regions of lowered code run: its control flow, with the numbers of a call.

Loops whose bounds and branches do not depend on their own index are done once, with a weight; of the others a few
iterations stand for all. Where a number comes out of data, so that it is not known, branches count half each and loops
run :data:`ASSUMED_TRIPS` times; :attr:`Execution.assumed` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilus.ir.core import Operation, Value
from tilus.ir.ops import Compare, For, If, PtrLoad, PtrStore, While
from tilus.ir.ops.thread import Alloca
from tilus.model.cpu.analysis import LOCAL, Analysis, Region
from tilus.model.cpu.numbers import Number
from tilus.model.sampled import ASSUMED_TRIPS, sampled
from tilus.records import field, record

FOLLOWED = 4
"""Iterations of a ``while`` that are followed; then its condition is taken to go on as it did."""


@record
class Execution:
    """Numbers and memory of a function that is followed.

    Attributes:
        shallow: loops are left out.
        counts: how often each region of the analysis has run.
        assumed: what was not known, in words.
    """

    analysis: Analysis
    memory: dict[int, Number]
    shallow: bool = False
    counts: dict[Region, float] = field(default_factory=dict)
    assumed: set[str] = field(default_factory=set)
    env: dict[Value, Number] = field(default_factory=dict)
    locals: int = 0

    def block(self, numbers: Mapping[int, Number], weight: float) -> None:
        """Follow one block; ``numbers`` are the function's arguments by place."""
        self.locals = LOCAL + (1 << 30)
        self.env = {a: numbers.get(i) for i, a in enumerate(self.analysis.function.body.args)}
        self._run(self.analysis.body, weight)

    def _run(self, region: Region, weight: float) -> None:
        self.counts[region] = self.counts.get(region, 0.0) + weight
        env = self.env
        get = env.get
        for op, rule, operands in region.program:
            if rule is not None:
                env[op.results[0]] = rule(op, [get(v) for v in operands])
                continue
            kind = type(op)
            if kind is For:
                self._for(op, weight)  # type: ignore[arg-type]
            elif kind is If:
                self._if(op, weight)  # type: ignore[arg-type]
            elif kind is While:
                self._while(op, weight)  # type: ignore[arg-type]
            else:
                self._memory(op)

    def _memory(self, op: Operation) -> None:
        env = self.env
        if isinstance(op, PtrLoad):
            env[op.result] = None if op.count else self.memory.get(env.get(op.pointer))  # type: ignore[arg-type]
        elif isinstance(op, PtrStore):
            address = env.get(op.pointer)
            if address is not None:
                self.memory[address] = env.get(op.value)
        elif isinstance(op, Alloca):
            env[op.result] = self.locals
            self.locals += 1 << 12

    def _inner(self, block: object) -> Region:
        return self.analysis.regions[block]  # type: ignore[index]

    def _for(self, op: For, weight: float) -> None:
        env, body = self.env, self._inner(op.body)
        start, stop, step = (env.get(v) for v in (op.start, op.stop, op.step))
        if start is not None and stop is not None and step:
            trips = max(0, -((start - stop) // step))
        else:
            trips, start, step = ASSUMED_TRIPS, start or 0, step or 1
            self.assumed.add(f"loops whose bounds are data run {ASSUMED_TRIPS} times")
        carried = self.analysis.carried[op]
        for value, first, _, _ in carried:
            env[value] = env.get(first)
        if trips and not self.shallow:
            for iteration, share in sampled(trips) if body.varies else [(0, float(trips))]:
                env[op.index] = start + iteration * step
                self._run(body, weight * share)
                if carried:
                    env.update([(value, env.get(last)) for value, _, last, _ in carried])
        for value, _, _, result in carried:
            env[result] = env.get(value)

    def _if(self, op: If, weight: float) -> None:
        env, condition = self.env, self.env.get(op.condition)
        if condition is None:
            self.assumed.add("branches on data are taken every other time")
            for branch in (op.then, op.orelse):
                self._run(self._inner(branch), weight / 2)
            env.update(dict.fromkeys(op.results))
            return
        branch = op.then if condition else op.orelse
        self._run(self._inner(branch), weight)
        env.update((r, env.get(v)) for r, v in zip(op.results, branch.terminator.operands, strict=False))

    def _while(self, op: While, weight: float) -> None:
        env, before, body = self.env, self._inner(op.before), self._inner(op.body)
        env.update((a, env.get(i)) for a, i in zip(op.before.args, op.init, strict=True))
        distance: list[int | None] = []
        trips = 0
        while True:
            self._run(before, weight)
            condition = env.get(op.before.terminator.operands[0])
            if condition is None:
                self._assume(op, body, weight)
                break
            if not condition:
                break
            distance.append(self._distance(op))
            left = _iterations_left(distance) if trips == FOLLOWED else 0
            env.update((b, env.get(a)) for b, a in zip(op.body.args, op.before.args, strict=True))
            self._run(body, weight * (left or 1))
            env.update([(a, env.get(v)) for a, v in
                        zip(op.before.args, op.body.terminator.operands, strict=True)])
            trips += 1
            if trips > FOLLOWED:
                if not left:
                    self._assume(op, body, weight)
                break
        env.update((r, env.get(a)) for r, a in zip(op.results, op.before.args, strict=True))

    def _assume(self, op: While, body: Region, weight: float) -> None:
        self.assumed.add(f"loops that end by data run {ASSUMED_TRIPS} times")
        self.env.update((b, self.env.get(a)) for b, a in zip(op.body.args, op.before.args, strict=True))
        self._run(body, weight * ASSUMED_TRIPS)

    def _distance(self, op: While) -> int | None:
        """How far what the condition compares is apart."""
        compare = op.before.terminator.operands[0].defining
        if not isinstance(compare, Compare):
            return None
        a, b = self.env.get(compare.lhs), self.env.get(compare.rhs)
        return b - a if isinstance(a, int) and isinstance(b, int) else None


def _iterations_left(distance: Sequence[int | None]) -> int:
    """From the distance on that is the last one, if it goes on to change by as much; 0 where that is not so."""
    last, before = distance[-1], distance[-2]
    if last is None or before is None or abs(last) >= abs(before):
        return 0
    return -(-abs(last) // abs(last - before))


__all__ = ["Execution"]
