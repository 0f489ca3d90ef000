"""Fusion: which values of an array-level function are written to memory, and which kernel writes them.

Everything is fused into its consumers but what :class:`_Partition` materialises:

* operands of a contraction that hold a reduction or another contraction, functions, or several arrays, which would be
  done again for every tile, unless one tile has all rows or columns that they are multiplied with;
* a contraction that a reduction, or more than one place, reads: contractions are done once; and one whose rows or
  columns are dropped (products of vectors);
* what an access reads of a reduction or contraction, or, where windows overlap, of functions that take long; windows
  of which the rows and the columns of a contraction are along one dimension;
* what is read under another shape, or at indices that are computed, and scans;
* the parts of a reduction to one number;
* what a long chain of reductions has come to;
* reductions next to a contraction that they do not depend on, reductions to a single number that more work follows,
  and reductions along another dimension than the kernel's other ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

from tilus.ir.core import Function, Operation, Value
from tilus.ir.families import Elementwise, Movement
from tilus.ir.ops import Broadcast, Const, Iota, Reduce, Scan, Transpose, Unary
from tilus.ir.ops.arith import FLOAT_UNARY
from tilus.ir.ops.array import (
    AffineAccess,
    Attend,
    Contract,
    Deposit,
    Deposited,
    Greatest,
    Lookup,
    MergeRuns,
    PartialReduce,
    Regroup,
    Sort,
)
from tilus.ir.types import Extent, extents_of
from tilus.lowering.array.access import Axes, Axis, accesses_below, below_regroups, operand_axes, source_axes, strip
from tilus.lowering.array.walks import walk_of
from tilus.records import field, record

Heavy: TypeAlias = Reduce | Contract | Attend
PRODUCTS = (Contract, Attend)
ORDERING = (Sort, MergeRuns, Greatest)
"""What has kernels of its own."""
_WHY_REDUCED = "it is a product that is reduced, or the end of a long chain of reductions"
ONE_TILE = 128
"""Rows or columns of a product that one tile has."""
MOST_ACCESSES = 16
"""Elements that are read for one that is reduced."""
LONGEST_CHAIN = 12
"""Reductions of which each needs the one before that a kernel does: each computes all below it anew."""


@record(eq=False)
class KernelPlan:
    """One kernel: the values it writes (of one shape), which dimensions of them it walks within a block, and which are
    the rows and the columns of the contractions in it. ``reduced`` are written as well, which have one element for all
    along those dimensions."""

    roots: list[Value]
    looped: tuple[int, ...] = ()
    reduced: list[Value] = field(default_factory=list)
    product: tuple[int, int] | None = None
    reduces: list[Reduce] = field(default_factory=list)
    transposes: bool = False
    functions: bool = False
    reads: set[Value] = field(default_factory=set)
    heavy: set[Value] = field(default_factory=set)

    @property
    def written(self) -> list[Value]:
        return [*self.roots, *self.reduced]


@record(eq=False)
class Demands:
    """What computing a root needs: reductions and contractions, with the coordinates they are needed at, and the loads.

    ``outer`` are the demands outside of any reduction, ``online`` the dimensions of keys that attention walks along."""

    heavy: list[tuple[Heavy, Axes]] = field(default_factory=list)
    outer: list[tuple[Heavy, Axes]] = field(default_factory=list)
    loads: set[Value] = field(default_factory=set)
    online: set[Axis] = field(default_factory=set)
    transposes: bool = False
    functions: bool = False


@record(frozen=True)
class Partition:
    """Kernels in an order in which they can run, the values that they write to memory besides the outputs, and why
    those (and outputs that others read) are there."""

    kernels: list[KernelPlan]
    intermediate: list[Value]
    reasons: dict[Value, str]


def partition(function: Function, outputs: Sequence[Value], bounds: Mapping[str, int]) -> Partition:
    """The kernels that write ``outputs``; ``bounds`` are what symbols do not exceed, where that is known."""
    return _Partition(function, outputs, bounds).run()


class _Reads:
    """How many accesses computing one element of a value takes, where what an access reads is computed at each place
    anew: a chain in which each step has two shifts of the one before takes two to the power of its length."""

    def __init__(self) -> None:
        self.first: dict[Value, frozenset[AffineAccess]] = {}  # accesses below a value, without those below them
        self.below: dict[AffineAccess, int] = {}

    def of(self, value: Value, stored: Collection[Value]) -> int:
        return sum(self.below[access] for access in self._first(value, stored))

    def add(self, op: Operation, stored: Collection[Value]) -> None:
        """After what its operands are computed from."""
        if isinstance(op, AffineAccess):
            self.below[op] = 1 + self.of(op.x, stored)
            first = frozenset([op])
        else:
            first = frozenset[AffineAccess]().union(*(self._first(v, stored) for v in op.operands))
        self.first.update((result, first) for result in op.results)

    def _first(self, value: Value, stored: Collection[Value]) -> frozenset[AffineAccess]:
        return frozenset() if strip(value) in stored else self.first.get(value, frozenset())


class _Partition:
    def __init__(self, function: Function, outputs: Sequence[Value], bounds: Mapping[str, int]) -> None:
        self.function, self.bounds = function, bounds
        self.order = {r: i for i, op in enumerate(function.body.ops) for r in op.results}
        self.before: dict[Value, list[Value]] = {}  # of what shares memory with others: what has to be there before
        for op in function.walk():
            if isinstance(op, Regroup):
                source = below_regroups(op.x)
                self.before[op.result] = [source, *self.before.get(source, ())]
            elif isinstance(op, Deposited):
                self.before[op.result] = [op.x, op.deposit]
        self.leaves = {*function.body.args, *self.before}
        self.outputs = list(dict.fromkeys(outputs))
        self.stored: set[Value] = set()
        self.reasons: dict[Value, str] = {}

    def _keep(self, reason: str, *values: Value) -> None:
        self.stored.update(values)
        for value in values:
            self.reasons.setdefault(value, reason)

    def _keep_if(self, reason: str, value: Value | None) -> None:
        if value is not None:
            self._keep(reason, value)

    def run(self) -> Partition:
        shared = [x for values in self.before.values() for x in values if x not in self.leaves]
        self._keep("it is read or written under another shape, or in place", *shared)
        for op in self.function.walk():
            if isinstance(op, Lookup) and op.x not in self.leaves:
                self._keep("it is read at computed indices", op.x)
            if isinstance(op, (Scan, *ORDERING)):
                self._keep(f"a {op.NAME} goes along all of a row", op.result)
        self._forward()
        while True:
            roots = sorted(self.stored | set(self.outputs), key=lambda v: self.order.get(v, -1))
            plans = [self._plan(root) for root in roots]
            complete = [p for p in plans if p is not None]
            if len(complete) < len(plans):
                continue
            kernels = self._merge(complete)
            again = _done_twice(kernels) - self.stored
            if not again:
                return Partition(kernels, [v for v in roots if v not in self.outputs], self.reasons)
            self._keep("several kernels need it", *again)

    def _forward(self) -> None:
        """Materialise by what each operation reads; ``inside`` has the contractions and reductions fused into a value
        and not hidden in another one."""
        inside: dict[Value, frozenset[Heavy]] = {}
        depth: dict[Value, int] = {}  # reductions one upon the other below a value
        reads = _Reads()

        def of(value: Value) -> frozenset[Heavy]:
            return frozenset() if value in self.stored else inside.get(value, frozenset())

        for op in self.function.body.ops[:-1]:
            if isinstance(op, Contract):
                rows, columns = extents_of(op.a.tile)[-2], extents_of(op.b.tile)[-1]
                for operand, own, other in ((op.a, rows, columns), (op.b, columns, rows)):
                    if of(operand):
                        self._keep("a product would compute its sums again for every tile", strip(operand))
                    elif own != 1 and not _is_one_tile(other) and self._is_worth_keeping(operand):
                        self._keep("a product would compute it again for every tile", strip(operand))
                    else:
                        rank = operand.tile.rank
                        self._keep_if("rows and columns of a product are along one of its dimensions",
                                      self._meeting(operand, (rank - 2, rank - 1)))
                inside[op.result] = frozenset([op])
            elif isinstance(op, Attend):
                if any(not isinstance(h, Contract) for h in of(op.scores)):
                    self._keep("scores hold sums", strip(op.scores))
                if of(op.values):
                    self._keep("attention would compute its sums again for every tile", strip(op.values))
                inside[op.result] = frozenset([op])
            elif isinstance(op, Reduce):
                if any(isinstance(h, PRODUCTS) for h in of(op.x)) or depth.get(op.x, 0) >= LONGEST_CHAIN:
                    self._keep(_WHY_REDUCED, strip(op.x))
                elif accesses_below([op.x], self.stored.__contains__) > MOST_ACCESSES:
                    self._keep("a reduction would read many elements for each", strip(op.x))
                inside[op.result] = frozenset([op])
            elif isinstance(op, PartialReduce):
                if any(isinstance(h, PRODUCTS) for h in of(op.x)) or depth.get(op.x, 0) >= LONGEST_CHAIN:
                    self._keep(_WHY_REDUCED, strip(op.x))
                self._keep("a reduction to one number is done in parts", op.result)
            elif isinstance(op, (Sort, Greatest)):
                if of(op.x):
                    self._keep("what is sorted holds sums", strip(op.x))
            elif isinstance(op, AffineAccess):
                if (of(op.x) or (_overlaps(op) and self._takes_long(op.x))
                        or reads.of(op.x, self.stored) > MOST_ACCESSES):
                    self._keep("slices or windows would compute its elements again", strip(op.x))
                inside[op.result] = frozenset()
            else:
                union = frozenset[Heavy]().union(*(of(v) for v in op.operands))
                if any(isinstance(h, PRODUCTS) for h in union):
                    self._keep("a reduction is beside a product",
                               *(h.result for h in union if isinstance(h, Reduce)))
                    union = frozenset(h for h in union if isinstance(h, PRODUCTS))
                for result in op.results:
                    inside[result] = union
            reads.add(op, self.stored)
            below = max((0 if strip(v) in self.stored else depth.get(v, 0) for v in op.operands), default=0)
            depth.update((result, below + isinstance(op, Reduce)) for result in op.results)

    def _meeting(self, value: Value, tiled: Collection[int]) -> Value | None:
        """The access below ``value``, with tiles along those of its dimensions, of which two tiles are along one
        dimension of what it reads; None if there is none."""
        axes = tuple(Axis(n, 2 if d in tiled else 0) for d, n in enumerate(extents_of(value.tile)))
        waiting: list[tuple[Value, Axes]] = [(value, axes)]
        seen: set[tuple[Value, tuple[int, ...]]] = set()
        while waiting:
            current, at = waiting.pop()
            op, key = current.defining, (current, tuple(axis.size for axis in at))
            if key in seen or current in self.leaves or current in self.stored - {value} or op is None:
                continue
            seen.add(key)
            if isinstance(op, (Reduce, Contract, Attend, PartialReduce)):
                continue
            if isinstance(op, AffineAccess) and any(sum(at[axis].size > 1 for axis, _ in terms) > 1
                                                    for terms in op.terms):
                return current
            waiting += operand_axes(op, at, lambda op, at: source_axes(op, at, lambda start, along: None))
        return None

    def _is_worth_keeping(self, value: Value) -> bool:
        """Whether it takes longer to compute a value than to read it: by functions, or from several values as large."""
        waiting, seen = [strip(value)], set[Value]()
        while waiting:
            current = waiting.pop()
            op = current.defining
            if current in seen or current in self.stored or current in self.leaves or op is None:
                continue
            seen.add(current)
            large = {operand for operand in op.operands if _is_large(operand)}
            if (isinstance(op, Unary) and op.kind in FLOAT_UNARY) or (isinstance(op, Elementwise) and len(large) > 1):
                return True
            waiting += large
        return False

    def _takes_long(self, value: Value) -> bool:
        """Whether there are functions to be computed between a value and memory."""
        waiting, seen = [value], set[Value]()
        while waiting:
            current = waiting.pop()
            op = current.defining
            if current in seen or current in self.stored or op is None:
                continue
            seen.add(current)
            if isinstance(op, Unary) and op.kind in FLOAT_UNARY:
                return True
            waiting += op.operands
        return False

    def demands(self, root: Value, axes: Axes) -> Demands:
        found = Demands()
        seen: set[tuple[Value, Axes, bool]] = set()
        inner: dict[tuple[Heavy, Axes], Axes] = {}

        sources: dict[tuple[AffineAccess, Axes], Axes] = {}

        def source(op: AffineAccess, at: Axes) -> Axes:
            if (op, at) not in sources:
                sources[op, at] = source_axes(op, at, lambda start, along: None)
            return sources[op, at]

        waiting = [(root, axes, True)]
        while waiting:
            value, at, outer = waiting.pop()
            if (value, at, outer) in seen:
                continue
            seen.add((value, at, outer))
            if value in self.leaves or (value in self.stored and value is not root):
                found.loads.add(value)
                found.loads.update(self.before.get(value, ()))
                continue
            op = value.defining
            assert op is not None
            if isinstance(op, (Reduce, Contract, Attend)):
                if (op, at) not in found.heavy:
                    found.heavy.append((op, at))
                if outer:
                    found.outer.append((op, at))
                below, outer = list(heavy_axes(op, at, inner)), False
                if isinstance(op, Attend):
                    found.online.update(inner[op, at])
            elif isinstance(op, PartialReduce):
                below, outer = [(op.x, tuple(Axis(n, 1) for n in extents_of(op.x.tile)))], False
            else:
                found.transposes |= isinstance(op, Transpose)
                found.functions |= isinstance(op, Unary) and op.kind in FLOAT_UNARY
                below = operand_axes(op, at, source)
                if isinstance(op, (Lookup, Deposit)):
                    below = [*below, (op.x, tuple(Axis(n, 0) for n in extents_of(op.x.tile)))]
            waiting.extend((operand, there, outer) for operand, there in reversed(below))
        return found

    def _plan(self, root: Value) -> KernelPlan | None:
        """How to compute a root; None where something more has to be materialised first."""
        extents = extents_of(root.tile)
        axes = tuple(Axis(n, 1) for n in extents)
        found = self.demands(root, axes)
        needed = {axis for axis in axes if axis.extent != 1}
        missing: Value | None = None
        looped: set[Axis] = set()
        places: dict[Contract | Attend, Axes] = {}
        product: tuple[int, int] | None = None
        for op, at in found.heavy:
            if not isinstance(op, PRODUCTS) or found.online.intersection(at):
                continue
            dims = {axis: d for d, axis in enumerate(axes)}
            here = (dims[at[-2]], dims[at[-1]]) if at[-2] in dims and at[-1] in dims else None
            if places.setdefault(op, at) != at or here is None or (product is not None and here != product):
                missing = op.result
            product = product or here
        if isinstance(root.defining, Scan) and axes[root.defining.axis] in needed:
            looped.add(axes[root.defining.axis])
        if isinstance(root.defining, MergeRuns) or (isinstance(root.defining, Greatest) and not root.defining.run):
            looped.add(axes[-1])
        for op, at in found.outer:
            if op.result is root:
                continue
            free = needed - set(at)
            if isinstance(op, PRODUCTS):
                missing = op.result if free else missing
            elif (free and not needed & set(at)) or (free and looped and free != looped):
                missing = op.result
            else:
                looped |= free
        if missing is None and product is not None and not isinstance(root.defining, PRODUCTS):
            missing = self._meeting(root, product)
        if missing is not None:
            self._keep("what reads it is computed along other dimensions", missing)
            return None
        return KernelPlan([root], tuple(d for d, axis in enumerate(axes) if axis in looped), [], product,
                          [op for op, _ in found.heavy if isinstance(op, Reduce)], found.transposes,
                          found.functions, found.loads, {op.result for op, _ in found.heavy})

    def _merge(self, plans: list[KernelPlan]) -> list[KernelPlan]:
        """Put roots that are independent and share iteration space and loops into one kernel, and with those what is
        reduced along the loops."""
        kernels: list[KernelPlan] = []
        for plan in plans:
            host = next((k for k in kernels if self._fits(k, plan, kernels)), None)
            if host is not None:
                host.roots += plan.roots
            else:
                walks = ((k, walk_of(k, plan, self.bounds)) for k in kernels if not self._waits(k, plan, kernels))
                host, walk = next(((k, walk) for k, walk in walks if walk is not None), (None, None))
                if host is None or walk is None:
                    kernels.append(plan)
                    continue
                host.roots, host.reduced, host.looped = walk
            host.reduces += [r for r in plan.reduces if r not in host.reduces]
            host.transposes |= plan.transposes
            host.functions |= plan.functions
            host.reads |= plan.reads
            host.heavy |= plan.heavy
        return kernels

    def _fits(self, kernel: KernelPlan, plan: KernelPlan, kernels: list[KernelPlan]) -> bool:
        if any(isinstance(root.defining, ORDERING) for root in (*kernel.roots, *plan.roots)):
            return False
        if (kernel.looped, kernel.product) != (plan.looped, plan.product):
            return False
        if bool(kernel.reduces) != bool(plan.reduces) and not plan.looped:
            return False
        if self._extents(kernel) != self._extents(plan):
            return False
        if len({op.reverse for root in (*kernel.roots, *plan.roots) if isinstance(op := root.defining, Scan)}) > 1:
            return False
        return not self._waits(kernel, plan, kernels)

    def _waits(self, kernel: KernelPlan, plan: KernelPlan, kernels: list[KernelPlan]) -> bool:
        """Whether a newcomer reads what a kernel or one of those after it writes."""
        later = {root for k in kernels[kernels.index(kernel) :] for root in k.written}
        return bool(later & plan.reads)

    def _extents(self, plan: KernelPlan) -> tuple[Extent, ...]:
        return extents_of(plan.roots[0].tile)


def _is_one_tile(extent: Extent) -> bool:
    return isinstance(extent, int) and extent <= ONE_TILE


def _is_large(value: Value) -> bool:
    """Whether a value has elements of its own: not those of a smaller one, nor what follows from their places."""
    while isinstance(value.defining, Movement) and not isinstance(value.defining, Broadcast):
        value = value.defining.x
    return not isinstance(value.defining, (Broadcast, Const, Iota))


def _overlaps(op: Operation) -> bool:
    """Whether an access reads elements for several of its own."""
    return isinstance(op, AffineAccess) and any(len(terms) > 1 for terms in op.terms)


def _done_twice(kernels: list[KernelPlan]) -> set[Value]:
    """Reductions and contractions that several kernels would compute."""
    seen: set[Value] = set()
    again: set[Value] = set()
    for kernel in kernels:
        again |= seen & kernel.heavy
        seen |= kernel.heavy
    return again


def heavy_axes(op: Heavy, axes: Axes, inner: dict[tuple[Heavy, Axes], Axes]
               ) -> Iterator[tuple[Value, Axes]]:
    """The operands of a reduction or contraction with their coordinates; ``inner`` keeps the axes summed over."""
    if isinstance(op, Reduce):
        (axis,) = inner.setdefault((op, axes), (Axis(extents_of(op.x.tile)[op.axis], 1),))
        yield op.x, (*axes[: op.axis], axis, *axes[op.axis :])
        return
    if isinstance(op, Attend):
        (j,) = inner.setdefault((op, axes), (Axis(extents_of(op.scores.tile)[-1], 1),))
        yield op.scores, (*axes[:-1], j)
        yield op.values, (*axes[:-2], j, axes[-1])
        return
    extents = extents_of(op.a.tile)
    *summed, k = inner.setdefault((op, axes), tuple(Axis(n, 1) for n in (*extents[op.batch : -2], extents[-1])))
    yield op.a, (*axes[: op.batch], *summed, axes[-2], k)
    yield op.b, (*axes[: op.batch], *summed, k, axes[-1])
