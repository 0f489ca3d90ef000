"""Integer scalars as linear forms, and the windows of arrays that accesses cover.

What is no sum of values times constants is an atom of its own: a value, or a remainder, a quotient or another function
of forms, so that equal expressions are equal atoms.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import TypeAlias

from tilus.ir.core import Operation, Value
from tilus.ir.families import AsyncCopy, DerivedView
from tilus.ir.ops import (
    Atomic,
    Binary,
    Cast,
    Const,
    CopyAsync,
    Gather,
    Load,
    PermuteView,
    Scatter,
    Store,
    Subview,
)
from tilus.records import record

Atom: TypeAlias = Hashable
"""A Value, or a tuple of an operation's name and its operands, Forms among them."""


@record(frozen=True)
class Form:
    """``constant`` plus a sum of atoms times coefficients."""

    constant: int
    terms: frozenset[tuple[Atom, int]] = frozenset()

    @classmethod
    def atom(cls, atom: Atom) -> Form:
        return cls(0, frozenset({(atom, 1)}))

    def plus(self, other: Form, factor: int = 1) -> Form:
        if not other.terms:
            return Form(self.constant + factor * other.constant, self.terms)
        total = dict(self.terms)
        for atom, coefficient in other.terms:
            total[atom] = total.get(atom, 0) + factor * coefficient
        terms = frozenset((a, c) for a, c in total.items() if c)
        return Form(self.constant + factor * other.constant, terms)

    def times(self, factor: int) -> Form:
        terms = frozenset((a, c * factor) for a, c in self.terms) if factor else frozenset()
        return Form(self.constant * factor, terms)

    def remainder(self, divisor: int) -> Form:
        """Modulo a positive number."""
        terms = frozenset((a, c % divisor) for a, c in self.terms if c % divisor)
        rest = Form(self.constant % divisor, terms)
        return Form.atom(("mod", rest, divisor)) if terms else rest

    def quotient(self, divisor: int) -> Form:
        """Floor division by a positive number."""
        whole = frozenset((a, c // divisor) for a, c in self.terms if c % divisor == 0)
        rest = Form(self.constant % divisor, frozenset((a, c) for a, c in self.terms if c % divisor))
        exact = Form(self.constant // divisor, whole)
        return exact.plus(Form.atom(("floordiv", rest, divisor))) if rest.terms else exact

    def values(self) -> Iterator[Value]:
        """The values that it depends on."""
        for atom, _ in self.terms:
            yield from _values(atom)


def _values(atom: Atom) -> Iterator[Value]:
    if isinstance(atom, Value):
        yield atom
    elif isinstance(atom, Form):
        yield from atom.values()
    elif isinstance(atom, tuple):
        for part in atom:
            yield from _values(part)


def form_of(value: Value) -> Form:
    """An integer scalar in terms of what computes it."""
    op = value.defining
    found = None if op is None else combined(op, form_of)
    return Form.atom(value) if found is None else found


def combined(op: Operation, form: Callable[[Value], Form]) -> Form | None:
    """What an operation makes of its operands' forms; None where that is no form of them."""
    if isinstance(op, Const):
        return Form(int(op.value)) if op.dtype.is_int else None
    if isinstance(op, Cast):
        source = op.x.tile.dtype
        held = op.dtype.kind == "int" and source.is_int and source.bits + (source.kind == "uint") <= op.dtype.bits
        return form(op.x) if held else None
    if not isinstance(op, Binary):
        return None
    if op.kind in ("add", "sub"):
        return form(op.lhs).plus(form(op.rhs), 1 if op.kind == "add" else -1)
    if op.kind == "mul":
        for factor, other in ((op.rhs, op.lhs), (op.lhs, op.rhs)):
            known = form(factor)
            if not known.terms:
                return form(other).times(known.constant)
    if op.kind in ("mod", "floordiv"):
        divisor = form(op.rhs)
        if not divisor.terms and divisor.constant > 0:
            x = form(op.lhs)
            return x.remainder(divisor.constant) if op.kind == "mod" else x.quotient(divisor.constant)
    return None


Window: TypeAlias = tuple[tuple[Form, int], ...]
"""Per dimension of an array the first index and the extent."""


def root_of(view: Value) -> Value:
    """The array that a view is a part of."""
    while isinstance(view.defining, DerivedView):
        view = view.defining.view
    return view


def shape_of(op: Load | Store | AsyncCopy) -> tuple[int, ...]:
    """The shape of the tile that is moved."""
    if isinstance(op, AsyncCopy):
        return tuple(d or 0 for d in op.destination.view.shape)
    return op.shape if isinstance(op, Load) else op.value.tile.shape


def window_of(op: Operation, view: Value, form: Callable[[Value], Form] = form_of) -> Window | None:
    """The part of the whole array that an access through a view covers; None where the indices are run-time tiles."""
    if isinstance(op, AsyncCopy) and view is op.destination:
        place = [(Form(0), n) for n in shape_of(op)]
    elif isinstance(op, (Load, Store, CopyAsync)):
        place = [(form(o), n) for o, n in zip(op.offsets, shape_of(op) or (1,) * len(op.offsets), strict=True)]
    elif isinstance(op, (Gather, Scatter, Atomic)) and all(i.tile.is_scalar for i in op.indices):
        place = [(form(i), 1) for i in op.indices]
    else:
        return None
    while view.defining is not None:
        maker = view.defining
        if isinstance(maker, Subview):
            kept = iter(place)
            starts = [form(s) for s in maker.starts]
            place = [(s, 1) if d in maker.dropped else _shifted(next(kept), s) for d, s in enumerate(starts)]
            view = maker.view
        elif isinstance(maker, PermuteView):
            turned = dict(zip(maker.permutation, place, strict=True))
            place = [turned[d] for d in range(len(place))]
            view = maker.view
        else:
            return None if view.view.space == "global" else tuple(place)
    return tuple(place)


def _shifted(place: tuple[Form, int], start: Form) -> tuple[Form, int]:
    return place[0].plus(start), place[1]
