"""Faults that a simulated kernel commits, and which checks look for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import CheckError, Diagnostic, Label, Span, UserError

if TYPE_CHECKING:
    from tilus.simulator.resolved import Op, Place

CODES = {
    "bounds": "E0703", "align": "E0703", "readonly": "E0703",
    "uninitialised": "E0702", "race": "E0701", "global-race": "E0701",
    "async": "E0706", "proxy": "E0706",
    "sync": "E0705", "deadlock": "E0705", "barrier": "E0705",
    "assert": "E0704", "trap": "E0704", "limit": "E1004", "value": "E1004",
}


@dataclass(frozen=True)
class Checks:
    """Which checks run; each field's comment says what it looks at.

    ``bounds`` and ``barrier`` stay on unless they are switched off here: the simulator must look at them anyway, and
    off they are merely not reported. A kernel that cannot go on, or that ends itself, always is.
    """

    uninitialised: bool = True   # use of undefined values, in registers, shared, local and tensor memory
    race: bool = True            # shared and tensor memory, barriers, clusters
    global_race: bool = True     # global memory
    asynchronous: bool = True    # data used before its wait, proxy fences
    sync: bool = True            # lanes missing at warp-wide operations
    bounds: bool = True          # accesses outside of memory, misaligned ones, writes to read-only arrays
    barrier: bool = True         # thread counts and phases of barriers
    global_limit: int = 1 << 28  # bytes of global memory above which global_race, which takes 13 times as many, is off

    @classmethod
    def of(cls, value: bool | Checks | Iterable[str]) -> Checks:
        """``True``: all, ``False``: none, or the names of those wanted; ``bounds`` and ``barrier`` always."""
        if isinstance(value, Checks):
            return value
        names = check_names()
        if isinstance(value, bool):
            return cls(**{name: value for name in names if name not in _STANDING})
        wanted = {str(name).replace("-", "_") for name in value}
        if wanted - set(names):
            raise UserError.at("E1003", f"unknown check {sorted(wanted - set(names))[0]!r}; known: {', '.join(names)}")
        return cls(**{name: name in wanted for name in names if name not in _STANDING})

    @property
    def unreported(self) -> set[str]:
        """Kinds of faults that are not reported."""
        return set() if self.bounds and self.barrier else {
            kind for name, kinds in _STANDING.items() if not getattr(self, name) for kind in kinds}


_STANDING = {"bounds": ("bounds", "align", "readonly"), "barrier": ("barrier",)}


def check_names() -> list[str]:
    """Names of the switches."""
    return [f.name for f in fields(Checks) if f.name != "global_limit"]


@dataclass(frozen=True)
class Other:
    """The other side of a race: what it does, where, and which thread.

    ``rank`` is that of another block in the cluster, ``block`` its coordinates in the grid.
    """

    verb: str
    op: Op | None
    thread: int
    rank: int | None = None
    block: tuple[int, int, int] | None = None

    def text(self) -> str:
        """``thread 3 of the block writes at line 12 (k.cu:5)``."""
        where = f"block {self.block}" if self.block is not None else "the block" if self.rank is None else \
            f"block {self.rank} of the cluster"
        at = ""
        if self.op is not None:
            source = self.op.source[0] if self.op.source else None
            at = f" at line {self.op.line}" + (f" ({source.file}:{source.line})" if source is not None else "")
        return f"thread {self.thread} of {where} {self.verb}{at}"


@dataclass
class Fault:
    """One kind of fault at one line: where it was first seen and how often.

    Attributes:
        callers: the places that called the function in which it is.
        other: the other side of a race.
        cause: where the value was read that is used here.
        level: ``error``, or ``formal`` for what the ISA forbids and the hardware is known to tolerate.
    """

    check: str
    message: str
    line: int
    source: Place | None
    block: tuple[int, int, int] | None = None
    thread: tuple[int, int, int] | None = None
    address: int | None = None
    count: int = 1
    callers: tuple[Place, ...] = ()
    other: Other | None = None
    cause: Place | None = None
    level: str = "error"

    def text(self, path: str) -> str:
        """One line for the report."""
        where = f"{path}:{self.line}" if self.line > 0 else path
        source = f" ({self.source.file}:{self.source.line})" if self.source is not None else ""
        details = [f"block {self.block}, thread {self.thread}"] if self.block is not None else []
        details += [f"address {self.address:#x}"] if self.address is not None else []
        details += [f"{self.count} times"] if self.count > 1 else []
        details += [f"called at {place.file}:{place.line}" for place in self.callers]
        kind = "fault" if self.level == "error" else self.level
        detail = f" [{'; '.join(details)}]" if details else ""
        return f"{kind}: {where}{source}: {self.check}: {self.message}{detail}"

    def diagnostic(self, path: str) -> Diagnostic:
        labels, notes = [], []
        if self.cause is not None and self.source is not None:
            labels.append(Label(_span(self.cause), "read here"))
        if self.source is not None:
            labels.append(Label(_span(self.source), f"{self.check} fault" if self.cause is None else "used here"))
            labels += [Label(_span(place), "called here") for place in self.callers]
        elif self.line > 0:
            labels.append(Label(Span(path, self.line), f"{self.check} fault"))
        if self.block is not None:
            at = f", address {self.address:#x}" if self.address is not None else ""
            notes.append(f"block {self.block}, thread {self.thread}{at}")
        if self.count > 1:
            notes.append(f"seen {self.count} times")
        where = f" (PTX line {self.line})" if self.line > 0 else ""
        return Diagnostic(CODES[self.check], self.message + where, tuple(labels), None, tuple(notes))

    def to_dict(self) -> dict[str, Any]:
        return {"check": self.check, "code": CODES[self.check], "level": self.level, "message": self.message,
                "line": self.line,
                "source": list(self.source[:2]) if self.source else None,
                "callers": [list(place[:2]) for place in self.callers], "block": self.block, "thread": self.thread,
                "address": self.address, "count": self.count}


def _span(place: Place) -> Span:
    if not place.column:
        return Span.of_line(place.file, place.line)
    return Span(place.file, place.line, place.column - 1, place.line, place.column)


@dataclass
class FaultLog:
    """Collects faults, one entry for each check and line. What happens in ``skipped_files`` is told as of the line that
    called it."""

    entries: dict[tuple[str, str, int], Fault] = field(default_factory=dict)
    limit: int = 200
    dropped: int = 0
    unreported: set[str] = field(default_factory=set)
    skipped_files: frozenset[str] = frozenset()

    def add(self, check: str, message: str, op: Op | None, *, block: tuple[int, int, int] | None = None,
            thread: tuple[int, int, int] | None = None, address: int | None = None, count: int = 1,
            other: Other | None = None, cause: Op | None = None, level: str = "error") -> None:
        """Note a fault. Faults of one ``cause``, an operation that they all follow from, are one."""
        if check in self.unreported:
            return
        line = op.line if op is not None else 0
        key = (check, level, -cause.line if cause is not None else line)
        known = self.entries.get(key)
        if known is not None:
            known.count += count
            return
        if len(self.entries) >= self.limit:
            self.dropped += 1
        else:
            places = self._places(op)
            read = self._places(cause)
            self.entries[key] = Fault(check, message, line, places[0] if places else None, block, thread, address,
                                      count, tuple(places[1:]), other,
                                      read[0] if read else None, level)

    def _places(self, op: Op | None) -> list[Place]:
        return [p for p in op.source if p.file not in self.skipped_files] if op is not None else []


LEVELS = ("error", "formal")


def raise_if_faulty(faults: Iterable[Fault], path: str, levels: Sequence[str] = ("error",)) -> None:
    """Raise the faults of these levels as one CheckError, if there are any. A line of the source may be many of the
    PTX: it is told once."""
    told: dict[tuple[str, Place | int], Fault] = {}
    for fault in faults:
        if fault.level not in levels:
            continue
        key = (fault.check, fault.source or fault.line)
        known = told.get(key)
        told[key] = fault if known is None else replace(known, count=known.count + fault.count)
    if told:
        raise CheckError([fault.diagnostic(path) for fault in told.values()])
