"""Strength reduction of addresses in loops: pointers that walk along with the loop's index.

In a loop whose step does not vary, an address ``root + index * c + rest`` is carried from iteration to iteration as a
pointer that advances by ``step * c``. Addresses that differ by constants share a pointer, the constant going into the
instruction. In a body that holds several iterations (``unrolled``), an address that lies one original step after
another is made from it by one addition.
"""

from __future__ import annotations

from collections import Counter

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import Binary, Cast, Const, For, PtrAdd
from tilus.ir.types import PointerType
from tilus.lowering.slot_induction import Known, carry_slots
from tilus.lowering.spare_registers import registers_of_rows
from tilus.records import field, record

MOST_WALKERS = 8
"""Pointers into one array that an iteration may carry on."""
POINTER = 2
"""Registers of a pointer."""
Monomial = tuple[int, ...]
"""A product of loop-invariant values, by their numbers in ``_Reduction.invariants``, in order."""


@record(frozen=True)
class Polynomial:
    """A sum of integer multiples of products of loop-invariant values; ``terms`` is sorted."""

    terms: tuple[tuple[Monomial, int], ...] = ()

    @staticmethod
    def of(terms: dict[Monomial, int]) -> Polynomial:
        return Polynomial(tuple(sorted((m, c) for m, c in terms.items() if c)))

    @property
    def constant(self) -> int:
        return next((c for m, c in self.terms if not m), 0)

    @property
    def varying(self) -> Polynomial:
        """The part that is no compile-time constant."""
        return Polynomial(tuple(t for t in self.terms if t[0]))

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for m, c in other.terms:
            terms[m] = terms.get(m, 0) + c
        return Polynomial.of(terms)

    def __mul__(self, other: Polynomial) -> Polynomial:
        terms: dict[Monomial, int] = {}
        for m, c in self.terms:
            for n, d in other.terms:
                key = tuple(sorted((*m, *n)))
                terms[key] = terms.get(key, 0) + c * d
        return Polynomial.of(terms)

    def scaled(self, factor: int) -> Polynomial:
        return Polynomial.of({m: c * factor for m, c in self.terms})

    def divided(self, divisor: int) -> Polynomial | None:
        """The polynomial times ``1 / divisor``, or None where that is not whole."""
        if any(c % divisor for _, c in self.terms):
            return None
        return Polynomial(tuple((m, c // divisor) for m, c in self.terms))


def _constant(value: int) -> Polynomial:
    return Polynomial.of({(): value})


def induct_pointers(module: Module) -> None:
    """Apply the reduction to every innermost-addressed loop of a thread-level module, in place."""
    for function in module.kernels:
        _visit(function, function.body, {})


def _visit(function: Function, block: Block, known: Known) -> None:
    ops: list[Operation] = []
    for op in block.ops:
        for region in op.regions:
            _visit(function, region, known)
        if isinstance(op, For):
            ops += carry_slots(op, known)
            ops += _Reduction(op, registers_of_rows(function)).run()
        ops.append(op)
    block.ops = ops


@record(slots=True)
class _Address:
    """A pointer of the body: ``root + index * coefficient + rest``."""

    op: PtrAdd
    root: Value
    coefficient: Polynomial
    rest: Polynomial


@record
class _Walker:
    """A carried pointer: its value at the beginning of an iteration is at ``rest``'s varying part. ``latest`` has
    walked on within the body; ``last`` is beside it."""

    root: Value
    coefficient: Polynomial
    rest: Polynomial
    argument: Value
    latest: Value = field(init=False)
    latest_rest: Polynomial = field(init=False)
    last: Value = field(init=False)
    last_rest: Polynomial = field(init=False)

    def __post_init__(self) -> None:
        self.latest, self.latest_rest = self.argument, self.rest
        self.last, self.last_rest = self.argument, self.rest


class _Reduction:
    def __init__(self, loop: For, registers: int | None) -> None:
        self.loop, self.registers = loop, registers
        self.before: list[Operation] = []
        self.inside = set(loop.body.args) | {r for op in loop.body.walk() for r in op.results}
        self.invariants: dict[Value, int] = {}
        """Numbers in the order in which the body uses the values, so that equal loops become equal code."""
        self.memo: dict[Value, tuple[Polynomial, Polynomial] | None] = {}
        self.values: dict[Polynomial, Value] = {}
        self.walkers: list[_Walker] = []

    def run(self) -> list[Operation]:
        step = self._affine(self.loop.step)
        if step is None or step[0].terms:
            return []
        self.step = step[1]
        addresses = self._addresses()
        used = self._final(addresses)
        if not used:
            return []
        self._rewrite(used)
        return self.before

    # -- analysis

    def _affine(self, value: Value) -> tuple[Polynomial, Polynomial] | None:
        """``value`` as coefficient × index + rest, or None."""
        if value not in self.memo:
            self.memo[value] = self._affine_uncached(value)
        return self.memo[value]

    def _affine_uncached(self, value: Value) -> tuple[Polynomial, Polynomial] | None:
        if value is self.loop.index:
            return _constant(1), Polynomial()
        maker = value.defining
        if isinstance(maker, Const):
            return Polynomial(), _constant(int(maker.value))
        if value not in self.inside:
            return Polynomial(), self._invariant(value)
        if isinstance(maker, Cast) and maker.x.tile.dtype.is_int and maker.dtype.bits >= maker.x.tile.dtype.bits:
            return self._affine(maker.x)
        if not isinstance(maker, Binary) or maker.kind not in ("add", "sub", "mul"):
            return None
        x, y = self._affine(maker.lhs), self._affine(maker.rhs)
        if x is None or y is None:
            return None
        if maker.kind == "mul":
            if x[0].terms and y[0].terms:
                return None
            return x[0] * y[1] + y[0] * x[1], x[1] * y[1]
        sign = 1 if maker.kind == "add" else -1
        return x[0] + y[0].scaled(sign), x[1] + y[1].scaled(sign)

    def _invariant(self, value: Value) -> Polynomial:
        """An invariant, through the constant multiples and sums it is made of, so that equal parts are seen."""
        maker = value.defining
        if isinstance(maker, Const):
            return _constant(int(maker.value))
        if isinstance(maker, Cast) and maker.x.tile.dtype.is_int and maker.dtype.bits >= maker.x.tile.dtype.bits:
            return self._invariant(maker.x)
        if isinstance(maker, Binary) and maker.kind == "mul":
            for x, y in ((maker.lhs, maker.rhs), (maker.rhs, maker.lhs)):
                if isinstance(y.defining, Const):
                    return self._invariant(x).scaled(int(y.defining.value))
        return Polynomial.of({(self.invariants.setdefault(value, len(self.invariants)),): 1})

    def _addresses(self) -> dict[Value, _Address]:
        found: dict[Value, _Address] = {}
        for op in self.loop.body.ops:
            if not isinstance(op, PtrAdd):
                continue
            type_ = op.pointer.type
            if not isinstance(type_, PointerType) or type_.space != "global":
                continue
            offset = (Polynomial(), Polynomial()) if op.offset is None else self._affine(op.offset)
            if offset is None:
                continue
            inner = found.get(op.pointer)
            if inner is not None:
                root, coefficient, rest = inner.root, inner.coefficient, inner.rest
            elif op.pointer not in self.inside:
                root, coefficient, rest = op.pointer, Polynomial(), Polynomial()
            else:
                continue
            found[op.result] = _Address(op, root, coefficient + offset[0], rest + offset[1] + _constant(op.constant))
        return found

    def _final(self, addresses: dict[Value, _Address]) -> list[_Address]:
        """Addresses that move with the index and that something other than address arithmetic uses."""
        used: set[Value] = set()
        for op in self.loop.body.walk():
            for operand in op.operands:
                if operand in addresses and not (isinstance(op, PtrAdd) and op.result in addresses):
                    used.add(operand)
        return [a for v, a in addresses.items() if v in used and a.coefficient.terms]

    # -- rewriting

    def _rewrite(self, used: list[_Address]) -> None:
        loop = self.loop
        hop_of: dict[Polynomial, Polynomial | None] = {}
        self.counts = Counter((root, coefficient) for root, coefficient, _ in dict.fromkeys(
            (a.root, a.coefficient, a.rest.varying) for a in used))
        self.crowded = self._crowded()
        replacement: dict[Operation, list[Operation]] = {}
        mapping: dict[Value, Value] = {}
        for address in used:
            advance = address.coefficient * self.step
            hop = hop_of.setdefault(advance, advance.divided(loop.iterations) if loop.iterations > 1 else None)
            ops: list[Operation] = []
            pointer = self._pointer(address, hop, ops)
            constant = PtrAdd(pointer, None, address.rest.constant, span=address.op.span)
            ops.append(constant)
            mapping[address.op.result] = constant.result
            replacement[address.op] = ops
        body: list[Operation] = []
        for op in loop.body.ops:
            if op in replacement:
                body += replacement[op]
                continue
            op.map_operands(lambda v: mapping.get(v, v))
            for inner in op.walk():
                inner.map_operands(lambda v: mapping.get(v, v))
            body.append(op)
        terminator = body.pop()
        ends = []
        for walker in self.walkers:
            advance = walker.coefficient * self.step
            missing = walker.rest + advance + walker.latest_rest.scaled(-1)
            end = self._moved(walker.latest, missing, body)
            ends.append(end)
        terminator.values = (*terminator.values, *ends)  # type: ignore[attr-defined]
        body.append(terminator)
        loop.body.ops = body
        starts = tuple(self._start(w) for w in self.walkers)
        loop.init = (*loop.init, *starts)
        count = len(loop.results)
        extra = [Value(w.argument.type, "", loop, count + i) for i, w in enumerate(self.walkers)]
        loop.results = (*loop.results, *extra)

    def _pointer(self, address: _Address, hop: Polynomial | None, ops: list[Operation]) -> Value:
        """A pointer at the varying part of the address's rest."""
        wanted = address.rest.varying
        for walker in self.walkers:
            if walker.root is not address.root or walker.coefficient != address.coefficient:
                continue
            if walker.latest_rest == wanted:
                return walker.latest
            if (address.root, address.coefficient) in self.crowded:
                return self._beside(walker, wanted, ops)
            if self.loop.iterations <= 1:
                # As many additions as a walker of its own would take, in fewer registers: the difference is uniform.
                return self._moved(walker.argument, wanted + walker.rest.scaled(-1), ops)
            if hop is not None and walker.latest_rest + hop == wanted:
                walker.latest = self._moved(walker.latest, hop, ops)
                walker.latest_rest = wanted
                return walker.latest
        argument = self.loop.body.add_arg(address.root.type)
        walker = _Walker(address.root, address.coefficient, wanted, argument)
        self.walkers.append(walker)
        return argument

    def _crowded(self) -> set[tuple[Value, Polynomial]]:
        """Roots and coefficients of which so many addresses walk along that each of them having a pointer fills the
        registers: more than one array may have, or than there are registers for beside the others'."""
        walkers = {}
        for (root, coefficient), count in self.counts.items():
            hops = self.loop.iterations if coefficient.varying.terms else 1  # whose addresses lie apart
            walkers[root, coefficient] = count / hops
        found = {alike for alike, count in walkers.items() if count > MOST_WALKERS}
        if self.registers is not None and POINTER * sum(walkers.values()) > self.registers:
            # One pointer for rows whose distances are the same in all iterations: the others take one addition each.
            found.update(alike for alike in walkers if not alike[1].varying.terms)
        return found

    def _beside(self, walker: _Walker, wanted: Polynomial, ops: list[Operation]) -> Value:
        """A pointer made from the walker's own, or from the last that was, where that takes a difference that is there
        already: rows that follow each other are one stride apart."""
        first, last = (wanted + rest.scaled(-1) for rest in (walker.rest, walker.last_rest))
        if last.varying in self.values and first.varying not in self.values:
            walker.last = self._moved(walker.last, last, ops)
        else:
            walker.last = self._moved(walker.argument, first, ops)
        walker.last_rest = wanted
        return walker.last

    def _moved(self, pointer: Value, by: Polynomial, ops: list[Operation]) -> Value:
        offset = self._value(by.varying) if by.varying.terms else None
        op = PtrAdd(pointer, offset, by.constant, span=self.loop.span)
        ops.append(op)
        return op.result

    def _start(self, walker: _Walker) -> Value:
        """The pointer before the loop: the root moved by start × coefficient + rest."""
        start = self._invariant(self.loop.start)
        return self._moved(walker.root, walker.coefficient * start + walker.rest, self.before)

    def _value(self, polynomial: Polynomial) -> Value:
        """The polynomial computed before the loop, in 64 bits."""
        found = self.values.get(polynomial)
        if found is not None:
            return found
        b = Builder(Block(), self.loop.span)
        total: Value | None = None
        values = list(self.invariants)
        for monomial, coefficient in polynomial.terms:
            part: Value | None = None
            for factor in (values[number] for number in monomial):
                wide = factor if factor.tile.dtype is i64 else b.add(Cast(factor, i64)).result
                part = wide if part is None else b.binary("mul", part, wide)
            if part is None:
                part = b.const(coefficient)
            elif coefficient != 1:
                part = b.binary("mul", part, b.const(coefficient))
            total = part if total is None else b.binary("add", total, part)
        assert total is not None
        self.before += b.block.ops
        self.values[polynomial] = total
        return total
