"""Faults that a simulated kernel commits, and which checks look for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import CheckError, Diagnostic, Label, Span, UserError

if TYPE_CHECKING:
    from tilus.simulator.resolved import Op

CODES = {
    "bounds": "E0703", "align": "E0703", "readonly": "E0703",
    "uninitialised": "E0702", "race": "E0701", "global-race": "E0701",
    "async": "E0706", "proxy": "E0706",
    "sync": "E0705", "deadlock": "E0705", "barrier": "E0705",
    "assert": "E0704", "trap": "E0704", "limit": "E1004", "value": "E1004",
}


@dataclass(frozen=True)
class Checks:
    """Which checks run; each field's comment says what it costs in time on a matmul and on attention.

    ``bounds`` and ``barrier`` stay on unless they are switched off here: the simulator must look at them anyway, and
    off they are merely not reported. A kernel that cannot go on, or that ends itself, always is.
    """

    uninitialised: bool = True   # 7 to 28 %: registers that may be unwritten, shared and local memory
    race: bool = True            # 40 to 58 %: shared memory
    global_race: bool = True     # 40 %: global memory
    asynchronous: bool = True    # 10 to 16 %: data used before its wait, proxy fences
    sync: bool = True            # below 1 %: lanes missing at warp-wide operations
    bounds: bool = True          # nothing: accesses outside of memory, misaligned ones, writes to read-only arrays
    barrier: bool = True         # nothing: thread counts and phases of barriers
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


@dataclass
class Fault:
    """One kind of fault at one line: where it was first seen and how often."""

    check: str
    message: str
    line: int
    source: tuple[str, int] | None
    block: tuple[int, int, int] | None = None
    thread: tuple[int, int, int] | None = None
    address: int | None = None
    count: int = 1

    def text(self, path: str) -> str:
        """One line for the report."""
        where = f"{path}:{self.line}" if self.line > 0 else path
        source = f" ({self.source[0]}:{self.source[1]})" if self.source is not None else ""
        details = [f"block {self.block}, thread {self.thread}"] if self.block is not None else []
        details += [f"address {self.address:#x}"] if self.address is not None else []
        details += [f"{self.count} times"] if self.count > 1 else []
        return f"fault: {where}{source}: {self.check}: {self.message}" + (f" [{'; '.join(details)}]" if details else "")

    def diagnostic(self, path: str) -> Diagnostic:
        labels = [Label(Span(path, self.line), f"{self.check} fault")] if self.line > 0 else []
        notes = []
        if self.source is not None:
            notes.append(f"from {self.source[0]}:{self.source[1]}")
        if self.block is not None:
            at = f", address {self.address:#x}" if self.address is not None else ""
            notes.append(f"block {self.block}, thread {self.thread}{at}")
        if self.count > 1:
            notes.append(f"seen {self.count} times")
        where = f" (PTX line {self.line})" if self.line > 0 else ""
        return Diagnostic(CODES[self.check], self.message + where, tuple(labels), None, tuple(notes))

    def to_dict(self) -> dict[str, Any]:
        return {"check": self.check, "code": CODES[self.check], "message": self.message, "line": self.line,
                "source": list(self.source) if self.source else None, "block": self.block, "thread": self.thread,
                "address": self.address, "count": self.count}


@dataclass
class FaultLog:
    """Collects faults, one entry for each check and line."""

    entries: dict[tuple[str, int], Fault] = field(default_factory=dict)
    limit: int = 200
    unreported: set[str] = field(default_factory=set)

    def add(self, check: str, message: str, op: Op | None, *, block: tuple[int, int, int] | None = None,
            thread: tuple[int, int, int] | None = None, address: int | None = None, count: int = 1) -> None:
        if check in self.unreported:
            return
        key = (check, op.line if op is not None else 0)
        known = self.entries.get(key)
        if known is not None:
            known.count += count
            return
        if len(self.entries) < self.limit:
            self.entries[key] = Fault(check, message, key[1], op.source if op is not None else None, block, thread,
                                      address, count)

    def error(self, path: str) -> CheckError | None:
        """All faults as one error, or None."""
        if not self.entries:
            return None
        return CheckError([fault.diagnostic(path) for fault in self.entries.values()])
