"""Spaces: the variants of a kernel that tuning chooses from."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tilus.diagnostics import Span, UserError
from tilus.lang.constants import constant_key
from tilus.tuning.config import shown
from tilus.tuning.constraints import Constraint, Predicate
from tilus.tuning.domain import Domain
from tilus.tuning.enumerate import Columns
from tilus.tuning.system import System, Where, read_constraints, rows_of
from tilus.tuning.text import one_line

Variant = dict[str, Any]
"""Values of compile-time parameters."""
MOST_COUNTED = 1 << 22
"""Samples of larger spaces are drawn and tried."""
SHOWN_VALUES = 12


class Space:
    """A set of variants: values for some parameters, under constraints.

    Iterating gives the variants as dictionaries, the first parameter varying slowest and each in the order of its
    values; ``len`` counts them, ``in`` tells whether a variant is one. Constraints that speak of numbers which are not
    known (yet: the extents of arrays, the limits of a target) are left out; :meth:`at` gives those numbers.

    Attributes:
        parameters: for each parameter its values.
        constraints: all constraints, those left out too.
        given: numbers that constraints may speak of.
    """

    def __init__(self, parameters: Mapping[str, Sequence[Any]], constraints: Sequence[Constraint],
                 given: Mapping[str, int], span: Span | None) -> None:
        self.parameters = {name: tuple(values) for name, values in parameters.items()}
        self.constraints, self.given, self.span = tuple(constraints), dict(given), span

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.parameters)

    @functools.cached_property
    def active(self) -> tuple[Constraint, ...]:
        """The constraints about which everything is known."""
        known = {*self.parameters, *self.given}
        return tuple(c for c in self.constraints if c.names <= known)

    @functools.cached_property
    def mentioned(self) -> frozenset[str]:
        """What constraints speak of."""
        return frozenset().union(*(c.names for c in self.constraints))

    # -- variants

    def __iter__(self) -> Iterator[Variant]:
        raise NotImplementedError

    def __len__(self) -> int:
        return self._size

    @functools.cached_property
    def _size(self) -> int:
        raise NotImplementedError

    def __contains__(self, variant: object) -> bool:
        raise NotImplementedError

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def first(self) -> Variant:
        """The first variant. Raises UserError (E1104), which says which constraints leave none, where there is none."""
        found = next(iter(self), None)
        if found is None:
            raise self.emptiness()
        return found

    def emptiness(self) -> UserError:
        raise NotImplementedError

    def sample(self, count: int, seed: int = 0) -> list[Variant]:
        """So many different variants, all equally likely, or all there are in random order; the same ones for a
        seed."""
        order = random.Random(seed)
        chosen = order.sample(range(len(self)), min(count, len(self)))
        found = dict(self._numbered(sorted(chosen)))
        return [found[number] for number in chosen]

    def _numbered(self, numbers: Sequence[int]) -> Iterator[tuple[int, Variant]]:
        """Variants by their ascending numbers."""
        wanted = iter(numbers)
        number = next(wanted, None)
        for place, variant in enumerate(self):
            if place == number:
                yield place, variant
                number = next(wanted, None)
            if number is None:
                return

    def neighbours(self, variant: Variant) -> Iterator[Variant]:
        """The variants that are one step away: one parameter has the next value, or the one before, with which there is
        a variant."""
        for name, values in self.parameters.items():
            if name not in variant:
                continue
            place = values.index(variant[name])
            for others in (values[place + 1:], reversed(values[:place])):
                moved = ({**variant, name: value} for value in others)
                yield from (v for v in [next((v for v in moved if v in self), None)] if v is not None)

    # -- smaller spaces

    def at(self, span: Span | None = None, /, **given: int) -> Space:
        """The variants for given numbers, such as the extents of arrays (``M=4096``) and the limits of a target."""
        raise NotImplementedError

    def fixed(self, span: Span | None = None, /, **values: Any) -> Space:
        """The variants of which some parameters have given values, which need not be among those of the space."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<Space of {', '.join(self.parameters)}>"

    def __str__(self) -> str:
        width = max((len(name) for name in (*self.parameters, "where")), default=0) + 2
        lines = [f"{len(self)} variant{'' if len(self) == 1 else 's'}"]
        for name, values in self.parameters.items():
            lines.append(f"  {name:{width}}{_shortened(values)}")
        for place, constraint in enumerate(self.constraints):
            unknown = ", ".join(sorted(constraint.names - {*self.parameters, *self.given}))
            note = f"  (open: {unknown})" if unknown else ""
            lines.append(f"  {'' if place else 'where':{width}}{one_line(constraint.text)}{note}")
        if self.given:
            lines.append(f"  {'given':{width}}{shown(self.given)}")
        return "\n".join(lines)


def _shortened(values: Sequence[Any]) -> str:
    listed = [str(v) for v in values]
    return ", ".join(listed if len(listed) <= SHOWN_VALUES else [*listed[:SHOWN_VALUES - 2], "…", listed[-1]])


class GridSpace(Space):
    """All combinations of the values of parameters that meet the constraints."""

    @classmethod
    def of(cls, parameters: Mapping[str, Iterable[Any]], where: Where = (), *, known: Iterable[str] = (),
           given: Mapping[str, int] | None = None, span: Span | None = None) -> GridSpace:
        """The space of values and constraints, which may speak of ``known`` names too.

        Raises:
            UserError: E1101 and E1102 where a constraint is wrong.
        """
        values = {name: tuple(v) for name, v in parameters.items()}
        names = dict.fromkeys((*values, *(given or {}), *known))
        constraints = read_constraints(where, tuple(names), span)
        check_texts(values, constraints, span)
        return cls(values, constraints, given or {}, span)

    @functools.cached_property
    def codes(self) -> dict[str, tuple[int, ...]]:
        """The values as integers: themselves, or their places where they are none."""
        return {name: tuple(map(int, values)) if _are_integers(values) else tuple(range(len(values)))
                for name, values in self.parameters.items()}

    @functools.cached_property
    def _decode(self) -> dict[str, dict[int, Any]]:
        return {name: dict(zip(self.codes[name], values, strict=True)) for name, values in self.parameters.items()}

    @functools.cached_property
    def system(self) -> System:
        """The active constraints on the integers that stand for values."""
        constraints = [Predicate(c.function, c.parameters, c.text, self._decode) if isinstance(c, Predicate) else c
                       for c in self.active]
        return System.of({name: Domain.of(codes) for name, codes in self.codes.items()}, self.codes, constraints,
                         self.given, self.span)

    def _decoded(self, row: Mapping[str, int]) -> Variant:
        return {name: self._decode[name][code] for name, code in row.items()}

    def __iter__(self) -> Iterator[Variant]:
        return map(self._decoded, self.system.solutions())

    @functools.cached_property
    def _size(self) -> int:
        return self.system.count()

    def __contains__(self, variant: object) -> bool:
        if not isinstance(variant, Mapping) or set(variant) != set(self.parameters):
            return False
        if not all(variant[name] in values for name, values in self.parameters.items()):
            return False
        return {name: self.codes[name][values.index(variant[name])]
                for name, values in self.parameters.items()} in self.system

    def emptiness(self) -> UserError:
        return self.system.emptiness("no variant is left")

    def sample(self, count: int, seed: int = 0) -> list[Variant]:
        if math.prod(map(len, self.parameters.values())) > MOST_COUNTED:
            found = self._drawn(count, random.Random(seed))
            if len(found) == count:
                return found
        return super().sample(count, seed)

    def _drawn(self, count: int, order: random.Random) -> list[Variant]:
        """Combinations drawn by chance, those of them that are variants."""
        found: dict[tuple[int, ...], Variant] = {}
        for _ in range(10_000 + 100 * count):
            if len(found) == count:
                break
            row = {name: order.choice(codes) for name, codes in self.codes.items()}
            if tuple(row.values()) not in found and row in self.system:
                found[tuple(row.values())] = self._decoded(row)
        return list(found.values())

    def _numbered(self, numbers: Sequence[int]) -> Iterator[tuple[int, Variant]]:
        start, at = 0, 0
        for columns in self.system.columns():
            rows = len(next(iter(columns.values())))
            while at < len(numbers) and numbers[at] < start + rows:
                row: Columns = {n: [int(c[numbers[at] - start])] for n, c in columns.items()}
                yield numbers[at], self._decoded(next(rows_of(row)))
                at += 1
            start += rows

    def at(self, span: Span | None = None, /, **given: int) -> GridSpace:
        added = {name: number for name, number in given.items() if name not in self.parameters}
        return GridSpace(self.parameters, self.constraints, {**self.given, **added}, span or self.span)

    def fixed(self, span: Span | None = None, /, **values: Any) -> GridSpace:
        parameters = {name: (values[name],) if name in values else v for name, v in self.parameters.items()}
        return GridSpace(parameters, self.constraints, self.given, span or self.span)


class ListSpace(Space):
    """Whole configurations, those of them that meet the constraints. A configuration need not name every parameter."""

    def __init__(self, configs: Sequence[Variant], constraints: Sequence[Constraint], given: Mapping[str, int],
                 span: Span | None) -> None:
        values: dict[str, list[Any]] = {}
        for config in configs:
            for name, value in config.items():
                listed = values.setdefault(name, [])
                if value not in listed:
                    listed.append(value)
        ordered = {name: tuple(sorted(v)) if _are_integers(v) else tuple(v) for name, v in values.items()}
        super().__init__(ordered, constraints, given, span)
        self.configs = [dict(config) for config in configs]

    @classmethod
    def of(cls, configs: Sequence[Variant], where: Where = (), *, known: Iterable[str] = (),
           given: Mapping[str, int] | None = None, span: Span | None = None) -> ListSpace:
        """The space of configurations and constraints; ``given`` counts where a configuration says nothing. Raises
        UserError as :meth:`GridSpace.of`."""
        self = cls(configs, (), given or {}, span)
        self.constraints = read_constraints(where, tuple(dict.fromkeys((*self.parameters, *known))), span)
        check_texts(self.parameters, self.constraints, span)
        return self

    def _meets(self, config: Variant) -> bool:
        """Whether it meets the constraints that speak of nothing else than what it has and what is given."""
        env = {**self.given, **config}
        return all(c.holds(env) for c in self.constraints if c.names <= set(env))

    def __iter__(self) -> Iterator[Variant]:
        return (dict(config) for config in self.configs if self._meets(config))

    @functools.cached_property
    def _size(self) -> int:
        return sum(map(self._meets, self.configs))

    def __contains__(self, variant: object) -> bool:
        return isinstance(variant, Mapping) and dict(variant) in self.configs and self._meets(dict(variant))

    def emptiness(self) -> UserError:
        notes = []
        for config in self.configs[:SHOWN_VALUES]:
            env = {**self.given, **config}
            broken = next((c.text for c in self.constraints if c.names <= set(env) and not c.holds(env)), None)
            notes.append(f"`{one_line(broken or '')}` excludes {shown(config)}")
        return UserError.at("E1104", "no variant is left", self.span, notes=notes)

    def at(self, span: Span | None = None, /, **given: int) -> ListSpace:
        return ListSpace(self.configs, self.constraints, {**self.given, **given}, span or self.span)

    def fixed(self, span: Span | None = None, /, **values: Any) -> ListSpace:
        """As of others; where no configuration has these values, all of them with these values instead."""
        same = [c for c in self.configs if all(c.get(name, value) == value for name, value in values.items())]
        configs: list[Variant] = []
        for config in same or self.configs:
            changed = {**config, **values}
            if changed not in configs:
                configs.append(changed)
        return ListSpace(configs, self.constraints, self.given, span or self.span)


def variant_key(variant: Mapping[str, Any]) -> Any:
    """What two variants have in common where they are the same one."""
    return constant_key(tuple(sorted(variant.items(), key=lambda item: item[0])))


def _are_integers(values: Sequence[Any]) -> bool:
    """Whether they are integers and bools, of which no two are equal, as 1 and True are."""
    return all(isinstance(v, int) for v in values) and len(set(values)) == len(values)


def check_texts(parameters: Mapping[str, Sequence[Any]], constraints: Iterable[Constraint], span: Span | None) -> None:
    """Raise UserError (E1102) where a text speaks of a parameter whose values are no integers."""
    for constraint in constraints:
        if isinstance(constraint, Predicate):
            continue
        for name in sorted(constraint.names):
            values = parameters.get(name, ())
            if not _are_integers(values):
                wrong = next((v for v in values if not isinstance(v, int)), True)
                message = f"`{one_line(constraint.text)}` speaks of {name!r}, which has values that are no integers: "
                raise UserError.at("E1102", f"{message}{wrong!r}", span,
                                   help=f"write a function: `where=lambda {name}: …`")


__all__ = ["GridSpace", "ListSpace", "Space", "Variant", "variant_key"]
