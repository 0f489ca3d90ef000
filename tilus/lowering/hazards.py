"""Hazards that are certain: accesses to the same memory with no barrier in between, found without running the kernel.

A kernel is followed symbolically. Scalars are linear forms, so that the slots of a ring are known in terms of the
loop's index; loops are followed for as many iterations as hazards across their back edges take. What cannot be decided
counts in the program's favour: accesses whose windows cannot be compared or that are masked do not meet, a barrier
under a condition holds beyond it, of two conditions only one need hold. Named barriers order all. Loops whose bounds
are run-time values run often enough.

Two uses: warnings about shared memory that the user synchronises, on the traced module, and the verification that the
barriers which the compiler inserted are enough, on the scheduled one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from tilus.diagnostics import Diagnostic, InternalError, Label, Severity
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.families import AsyncCopy
from tilus.ir.ops import (
    AllocShared,
    Binary,
    CommitAsync,
    Compare,
    Dim,
    For,
    GridSync,
    Groups,
    If,
    NamedBarrier,
    PermuteView,
    Subview,
    Sync,
    Unary,
    WaitAsync,
    WaitUntil,
    While,
)
from tilus.ir.ops.groups import Warps, executing_warps
from tilus.ir.types import TileType
from tilus.lowering.forms import Form, Window, combined, root_of, window_of
from tilus.lowering.schedule.order_memory import ONE_THREAD, Owner, owner_of
from tilus.records import record

STEPS = 20_000
"""Operations and comparisons after which a kernel is followed no further."""
ITERATIONS = 8
"""The most iterations of a loop that are followed."""


def find_hazards(module: Module) -> list[Diagnostic]:
    """Warnings about the shared memory that the user synchronises in a traced module: W0707 where a barrier is missing,
    W0708 where the wait for an asynchronous copy is."""
    found: list[Diagnostic] = []
    for function in module.kernels:
        roots = {op.result for op in function.walk() if isinstance(op, AllocShared)}
        if roots:
            found += [_warning(*pair) for pair in _Follow(function, roots).run()]
    return list(dict.fromkeys(found))


def verify_barriers(module: Module) -> None:
    """Raise InternalError where a scheduled module lacks a barrier that is the compiler's to insert: in its own rings
    of shared memory, and in global memory."""
    for function in module.kernels:
        roots = {op.result for op in function.walk() if isinstance(op, AllocShared) and op.ordered}
        roots |= _read_and_written(function)
        for old, new in _Follow(function, roots, owners=True).run() if roots else ():
            raise InternalError(Diagnostic(
                "E0999", f"a barrier is missing: {_name(new)} is {_DONE[new.kind]} after it was {_DONE[old.kind]}",
                (Label(new.op.span), Label(old.op.span))))


def _read_and_written(function: Function) -> set[Value]:
    """Arrays of global memory whose accesses could need barriers."""
    aliased = set(function.attributes.may_alias)
    kinds: dict[Value, set[str]] = {}
    for op in function.walk():
        for effect in op.effects():
            if effect.space == "global" and effect.value is not None and effect.kind in ("read", "write", "atomic"):
                kinds.setdefault(root_of(effect.value), set()).add(effect.kind)
    return {root for root, found in kinds.items() if "write" in found and len(found) > 1 and root.name not in aliased}


@record(frozen=True, eq=False)
class _Access:
    """An access, once for each time that it is followed.

    Attributes:
        kind: ``read``, ``write``, ``atomic``, or ``copy`` for what an asynchronous copy writes.
        owner: which thread has which element, where that counts.
        group: the warps of a thread group, None for the whole block; ``fork`` is the number of the execution of
            groups side by side.
        path: the branches taken that were not decided.
        moment: the iterations of the loops around it.
        number: the same for the access in several branches.
        flying: a copy that no wait has covered; ``groups`` are the commits since it was started, ``wait`` the last wait
            that left it open, and how many groups it could have left open.
        straight: there was a barrier in between, under a condition; the way around it is certain only for what follows
            in the same branch and iteration.
    """

    op: Operation
    root: Value
    kind: str
    window: Window
    owner: Owner
    group: Warps | None
    fork: int | None
    path: tuple[tuple[int, int], ...]
    moment: tuple[tuple[int, int], ...]
    number: int
    flying: bool = False
    groups: int = 0
    wait: tuple[WaitAsync, int] | None = None
    straight: bool = False


class _Enough(Exception):
    """The kernel is too long to be followed to its end."""


class _Follow:
    def __init__(self, function: Function, roots: set[Value], owners: bool = False) -> None:
        self.function, self.roots, self.owners = function, roots, owners
        waits = [op.pending for op in function.walk() if isinstance(op, WaitAsync)]
        self.iterations = min(ITERATIONS, max(3, 2 + max(waits, default=0)))
        self.rounds: dict[Operation, int] = {}
        self.forms: dict[Value, Form] = {}
        self.known: dict[Value, bool] = {}
        self.windows: dict[tuple[Operation, Value], set[Window]] = {}
        self.path: tuple[tuple[int, int], ...] = ()
        self.moment: tuple[tuple[int, int], ...] = ()
        self.group: Warps | None = None
        self.fork: int | None = None
        self.numbers = itertools.count()
        self.steps = STEPS
        self.found: dict[tuple[Operation, bool], tuple[_Access, _Access]] = {}

    def run(self) -> list[tuple[_Access, _Access]]:
        """Pairs of accesses, the earlier one first."""
        try:
            self._block(self.function.body, [])
        except _Enough:
            pass
        return list(self.found.values())

    # -- the walk: each part takes the accesses that are not ordered yet and gives those that it leaves

    def _block(self, block: Block, pending: list[_Access]) -> list[_Access]:
        for op in block.ops:
            if op.TERMINATOR:
                break
            pending = self._step(op, pending)
        return pending

    def _step(self, op: Operation, pending: list[_Access]) -> list[_Access]:
        self._spend(1)
        if isinstance(op, Sync):
            return [a for a in pending if a.flying or self.group not in (None, a.group)]
        if isinstance(op, (NamedBarrier, WaitUntil, GridSync)):
            return []
        if isinstance(op, AllocShared):
            return [a for a in pending if a.root is not op.result]
        if isinstance(op, CommitAsync):
            return [replace(a, groups=a.groups + 1) if a.flying and self.group in (None, a.group) else a
                    for a in pending]
        if isinstance(op, WaitAsync):
            return [_after_wait(a, op) if a.flying and self.group in (None, a.group) else a for a in pending]
        if isinstance(op, If):
            return self._if(op, pending)
        if isinstance(op, For):
            return self._for(op, pending)
        if isinstance(op, While):
            return self._while(op, pending)
        if isinstance(op, Groups):
            return self._groups(op, pending)
        for access in self._accesses(op):
            self._compare(access, pending)
            pending = [*pending, access]
        self._evaluate(op)
        return pending

    def _spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise _Enough

    def _groups(self, op: Groups, pending: list[_Access]) -> list[_Access]:
        everybody = self.function.attributes.warps
        self.fork = next(self.numbers)
        for body, warps in executing_warps(op, None):
            self.group = None if warps == (0, everybody) else warps  # whose barriers order all that the block has done
            pending = self._block(body, pending)
        self.group = self.fork = None
        return pending

    def _if(self, op: If, pending: list[_Access]) -> list[_Access]:
        decided = self.known.get(op.condition)
        if decided is not None:
            region = op.then if decided else op.orelse
            pending = self._block(region, pending)
            self._bind(op.results, region.terminator.operands)
            return pending
        outer, number = self.path, next(self.numbers)
        ends = []
        for branch, region in enumerate((op.then, op.orelse)):
            self.path = (*outer, (number, branch))
            ends.append({a.number: a for a in self._block(region, pending)})
        self.path = outer
        for result, x, y in zip(op.results, op.then.terminator.operands, op.orelse.terminator.operands, strict=True):
            self.known.pop(result, None)
            self.forms[result] = self._form(x) if self._form(x) == self._form(y) else self._fresh()
        return self._meet_again(pending, *ends)

    def _meet_again(self, before: list[_Access], one: dict[int, _Access],
                    two: dict[int, _Access]) -> list[_Access]:
        merged = []
        for access in before:
            x, y = one.pop(access.number, None), two.pop(access.number, None)
            if x is not None and y is not None:
                merged.append(replace(x, flying=x.flying and y.flying, groups=max(x.groups, y.groups),
                                      straight=x.straight or y.straight))
            elif (x or y) and access.path == self.path and access.moment == self.moment:
                merged.append(replace(access, straight=True))
        return [*merged, *one.values(), *two.values()]

    def _for(self, op: For, pending: list[_Access]) -> list[_Access]:
        start, stop, step = (self._form(v) for v in (op.start, op.stop, op.step))
        times = None
        if not (start.terms or stop.terms or step.terms) and step.constant:
            times = len(range(start.constant, stop.constant, step.constant))
        before, first = {a.number for a in pending}, [self._form(v) for v in op.init]
        self._bind(op.carried, op.init)
        number, outer = next(self.numbers), self.moment
        most = self._iterations(op)
        rounds = most if times is None else min(times, most)
        for i in range(rounds):
            self.moment = (*outer, (number, i))
            self.forms[op.index] = self._fresh() if step.terms and i else start.plus(step.times(i) if i else Form(0))
            pending = self._block(op.body, pending)
            self._bind(op.carried, op.body.terminator.operands)
        self.moment = outer
        last = [self._form(v) for v in op.carried]
        exact = times is not None and times <= most
        for result, x, y in zip(op.results, first, last, strict=True):
            self.known.pop(result, None)
            self.forms[result] = y if exact or x == y else self._fresh()
        return pending if exact else self._beyond(pending, before)

    def _while(self, op: While, pending: list[_Access]) -> list[_Access]:
        before = {a.number for a in pending}
        self._bind(op.before.args, op.init)
        number, outer = next(self.numbers), self.moment
        for i in range(self._iterations(op)):
            self.moment = (*outer, (number, i))
            pending = self._block(op.before, pending)
            if self.known.get(op.before.terminator.operands[0]) is False:
                break
            self._bind(op.body.args, op.before.args)
            pending = self._block(op.body, pending)
            self._bind(op.before.args, op.body.terminator.operands)
        self.moment = outer
        self._forget(op.results)
        return self._beyond(pending, before)

    def _iterations(self, op: For | While) -> int:
        """How many iterations are followed: two of a loop around loops, for what crosses its back edge."""
        found = self.rounds.get(op)
        if found is None:
            inner = sum(isinstance(i, (For, While)) for i in op.walk()) > 1
            found = self.rounds[op] = 2 if inner else self.iterations
        return found

    def _beyond(self, pending: list[_Access], before: set[int]) -> list[_Access]:
        """What comes out of a loop that may have run longer: accesses that were the same in all iterations."""
        return [a for a in pending if a.number in before or len(self.windows[a.op, a.root]) == 1]

    # -- values

    def _form(self, value: Value) -> Form:
        found = self.forms.get(value)
        return Form.atom(value) if found is None else found

    def _fresh(self) -> Form:
        return Form.atom(("unknown", next(self.numbers)))

    def _forget(self, values: Sequence[Value]) -> None:
        for value in values:
            self.known.pop(value, None)
            self.forms[value] = self._fresh()

    def _bind(self, targets: Sequence[Value], sources: Sequence[Value]) -> None:
        forms = [self._form(v) for v in sources]
        known = [self.known.get(v) for v in sources]
        for target, form, decided in zip(targets, forms, known, strict=True):
            self.forms[target] = form
            self.known.pop(target, None)
            if decided is not None:
                self.known[target] = decided

    def _evaluate(self, op: Operation) -> None:
        for result in op.results:
            if not (isinstance(result.type, TileType) and result.type.is_scalar):
                continue
            if result.type.dtype.is_bool:
                self.known.pop(result, None)
                decided = self._decide(op)
                if decided is not None:
                    self.known[result] = decided
            elif result.type.dtype.is_int:
                form = combined(op, self._form)
                self.forms[result] = self._same_or_fresh(op) if form is None else form

    def _same_or_fresh(self, op: Operation) -> Form:
        """Equal pure operations on equal scalars give one unknown."""
        if isinstance(op, Dim) and root_of(op.view) is op.view:
            return Form.atom((op.NAME, op.view, op.axis))
        scalars = all(isinstance(v.type, TileType) and v.type.is_scalar and v.type.dtype.is_int for v in op.operands)
        if op.effects() or op.regions or not scalars or len(op.results) != 1:
            return self._fresh()
        return Form.atom((op.NAME, *op.attributes.values(), *(self._form(v) for v in op.operands)))

    def _decide(self, op: Operation) -> bool | None:
        """A condition, where it can be known."""
        if isinstance(op, Compare) and op.lhs.tile.is_scalar and op.lhs.tile.dtype.is_int:
            gap = self._form(op.lhs).plus(self._form(op.rhs), -1)
            if gap.terms:
                return None
            d = gap.constant
            return {"eq": d == 0, "ne": d != 0, "lt": d < 0, "le": d <= 0, "gt": d > 0, "ge": d >= 0}[op.kind]
        if isinstance(op, Unary) and op.kind == "not":
            x = self.known.get(op.x)
            return None if x is None else not x
        if isinstance(op, Binary) and op.kind in ("and", "or"):
            decisive = op.kind == "or"
            sides = [self.known.get(op.lhs), self.known.get(op.rhs)]
            if decisive in sides:
                return decisive
            return None if None in sides else not decisive
        return None

    # -- accesses

    def _accesses(self, op: Operation) -> list[_Access]:
        found = []
        for effect in op.effects():
            view = effect.value
            if view is None or effect.kind not in ("read", "write", "atomic") or self._partial(op, view):
                continue
            root = root_of(view)
            window = window_of(op, view, self._form) if root in self.roots else None
            if window is None or any(n == 0 for _, n in window):
                continue
            copied = isinstance(op, AsyncCopy) and effect.kind == "write"
            self.windows.setdefault((op, root), set()).add(window)
            found.append(_Access(op, root, "copy" if copied else effect.kind, window,
                                 owner_of(op) if self.owners else None, self.group, self.fork, self.path, self.moment,
                                 next(self.numbers), copied))
        return found

    def _partial(self, op: Operation, view: Value) -> bool:
        """Whether an access may leave out elements of its window."""
        if getattr(op, "mask", None) is not None and not isinstance(op, AsyncCopy):
            return True
        while view.view.space == "shared" and isinstance(view.defining, (Subview, PermuteView)):
            if None in view.view.shape:
                return True
            view = view.defining.view
        return False

    def _compare(self, new: _Access, pending: list[_Access]) -> None:
        self._spend(len(pending) // 8)
        for old in pending:
            if old.root is new.root and self._hazard(old, new):
                self.found.setdefault((new.op, old.flying), (old, new))

    def _hazard(self, old: _Access, new: _Access) -> bool:
        if old.kind == new.kind and old.kind in ("read", "atomic"):
            return False
        if old.fork is not None and old.fork == new.fork and old.group != new.group:
            return False  # side by side: what orders them is not looked at
        short = min(len(old.path), len(new.path))
        if old.path[:short] != new.path[:short]:
            return False
        if old.straight and (old.path != new.path or old.moment != new.moment):
            return False
        return _overlap(old.window, new.window) and not _of_one_thread(old, new)


def _after_wait(access: _Access, op: WaitAsync) -> _Access:
    if access.groups > op.pending:
        return replace(access, flying=False)
    return replace(access, wait=(op, access.groups - 1)) if access.groups else access


def _overlap(one: Window, two: Window) -> bool:
    """Whether two windows have elements in common for certain."""
    for (first, extent), (second, width) in zip(one, two, strict=True):
        gap = second.plus(first, -1)
        if gap.terms or not -width < gap.constant < extent:
            return False
    return True


def _of_one_thread(old: _Access, new: _Access) -> bool:
    """Whether each element is accessed by the same thread both times."""
    if old.owner is None or old.owner != new.owner or old.group != new.group:
        return False
    return old.owner == ONE_THREAD or old.window == new.window


_DONE = {"read": "read", "write": "written", "atomic": "changed atomically", "copy": "copied into"}


def _name(access: _Access) -> str:
    return f"'{access.root.name}'" if access.root.name else "the array"


def _warning(old: _Access, new: _Access) -> Diagnostic:
    """What is wrong with two accesses to shared memory."""
    name = _name(new)
    again = any(x != y for x, y in zip(old.moment, new.moment, strict=False))
    before = " in an earlier iteration" if again else ""
    if old.flying:
        labels = [Label(new.op.span), Label(old.op.span, f"the copy{before}")]
        help = "call tl.wait, and tl.sync() after it, before this"
        if old.wait is not None:
            wait, allowed = old.wait
            labels.append(Label(wait.span, "the wait that leaves it open"))
            help = f"call tl.wait({allowed}) there"
        elif not old.groups:
            help = "call tl.commit() after the copy, then tl.wait and tl.sync() before this"
        message = f"{name} is {_DONE[new.kind]} while an asynchronous copy into it is in flight"
        return Diagnostic("W0708", message, _labels(*labels), help, severity=Severity.WARNING)
    message = f"race on {name}: it is {_DONE[new.kind]} without a barrier after it was {_DONE[old.kind]}{before}"
    where = "call tl.sync() between the two"
    if old.kind == "copy":
        where = "call tl.sync() after tl.wait, which waits for a thread's own copies only"
    elif again:
        where = "call tl.sync() between the two, such as at the end of the loop's body"
    pair = _labels(Label(new.op.span), Label(old.op.span, f"{_DONE[old.kind]} here"))
    return Diagnostic("W0707", message, pair, where, severity=Severity.WARNING)


def _labels(*labels: Label) -> tuple[Label, ...]:
    return tuple(label for label in labels if label.span.known)
