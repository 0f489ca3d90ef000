"""What a launch did: faults and counters, as text, JSON and a listing of the PTX."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tilus.simulator.faults import Fault, raise_if_faulty

if TYPE_CHECKING:
    from tilus.simulator.execution import Launch


@dataclass
class SiteCount:
    """Transactions of one memory instruction.

    ``units`` are wavefronts in shared memory and 32-byte sectors in global memory; ``ideal`` is the least that the
    bytes need.
    """

    line: int
    opcode: str
    space: str
    requests: int
    units: int
    ideal: int
    bytes: int

    @property
    def excess(self) -> int:
        return max(0, self.units - self.ideal)


@dataclass
class Report:
    """Result of a launch.

    Attributes:
        instructions: warp instructions executed, by class.
        lines: warp instructions executed, by PTX line.
        sites: transactions of each memory instruction.
        printed: lines that the kernel printed.
        notes: what was not looked at, such as checks that were off for lack of memory.
    """

    entry: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    instructions: dict[str, int] = field(default_factory=dict)
    lines: dict[int, int] = field(default_factory=dict)
    sites: list[SiteCount] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    matrix_operations: int = 0
    divergences: int = 0
    barrier_waits: int = 0
    warps: int = 0
    source: list[str] = field(default_factory=list)
    path: str = "<ptx>"

    @property
    def total_instructions(self) -> int:
        """Warp instructions of all classes."""
        return sum(self.instructions.values())

    def _sum(self, space: str, name: str) -> int:
        return sum(getattr(s, name) for s in self.sites if s.space == space)

    @property
    def shared_wavefronts(self) -> int:
        return self._sum("shared", "units")

    @property
    def bank_conflicts(self) -> int:
        """Wavefronts beyond those that the accesses need."""
        return sum(s.excess for s in self.sites if s.space == "shared")

    @property
    def global_requests(self) -> int:
        return self._sum("global", "requests")

    @property
    def global_sectors(self) -> int:
        return self._sum("global", "units")

    @property
    def sectors_per_request(self) -> float:
        requests = self.global_requests
        return self.global_sectors / requests if requests else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "entry": self.entry, "grid": self.grid, "block": self.block, "warps": self.warps,
            "instructions": self.instructions, "total_instructions": self.total_instructions,
            "matrix_operations": self.matrix_operations, "divergences": self.divergences,
            "barrier_waits": self.barrier_waits,
            "shared": {"wavefronts": self.shared_wavefronts, "bank_conflicts": self.bank_conflicts},
            "global": {"requests": self.global_requests, "sectors": self.global_sectors,
                       "bytes": self._sum("global", "bytes"), "sectors_per_request": self.sectors_per_request},
            "sites": [{"line": s.line, "opcode": s.opcode, "space": s.space, "requests": s.requests, "units": s.units,
                       "ideal": s.ideal, "bytes": s.bytes} for s in self.sites],
            "lines": {str(k): v for k, v in sorted(self.lines.items())},
            "faults": [fault.to_dict() for fault in self.faults],
            "printed": self.printed, "notes": self.notes,
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1)

    def text(self) -> str:
        """A summary to read."""
        out = [f"kernel {self.entry}  grid {self.grid}  block {self.block}  {self.warps} warps"]
        out.append(f"warp instructions  {self.total_instructions}")
        for kind, count in sorted(self.instructions.items(), key=lambda item: -item[1]):
            out.append(f"  {kind:<14} {count}")
        out.append(f"tensor-core operations  {self.matrix_operations}")
        out.append(f"shared memory  {self.shared_wavefronts} wavefronts, {self.bank_conflicts} from bank conflicts")
        out.append(f"global memory  {self.global_requests} requests, {self.global_sectors} sectors, "
                   f"{self.sectors_per_request:.2f} sectors a request, {self._sum('global', 'bytes')} bytes")
        out.append(f"divergent branches  {self.divergences}   barrier waits  {self.barrier_waits}")
        worst = sorted((s for s in self.sites if s.excess), key=lambda s: -s.excess)[:5]
        for site in worst:
            unit = "wavefronts" if site.space == "shared" else "sectors"
            out.append(f"  line {site.line}: {site.opcode}: {site.units} {unit}, {site.ideal} would do")
        out += [f"note: {note}" for note in self.notes]
        return "\n".join(out + self.fault_lines())

    @property
    def errors(self) -> list[Fault]:
        """The faults that hardware does not tolerate."""
        return [fault for fault in self.faults if fault.level == "error"]

    def raise_if_faulty(self, levels: Sequence[str] = ("error",)) -> None:
        """Raise CheckError, with a diagnostic of each line and kind of fault of these levels, where there are any."""
        raise_if_faulty(self.faults, self.path, levels)

    def fault_lines(self) -> list[str]:
        """Each fault with its PTX line, source line, block, thread and address."""
        return [fault.text(self.path) for fault in self.faults]

    __str__ = text

    def hottest(self, count: int) -> set[int]:
        """The lines that warps executed most often, with those of the most transactions beyond the needed ones."""
        executed = sorted(self.lines, key=lambda line: -self.lines[line])[:count]
        wasteful = sorted((site for site in self.sites if site.excess), key=lambda site: -site.excess)[:count]
        return {*executed, *(site.line for site in wasteful)}

    def listing(self, hot: int | None = None) -> str:
        """The PTX with, before each line, how often a warp executed it and its transactions; ``hot``: so many of the
        lines that were executed most often, and their neighbours, alone."""
        shown = {near for line in self.hottest(hot) for near in range(line - 1, line + 2)} if hot is not None else None
        sites: dict[int, list[SiteCount]] = {}
        for site in self.sites:
            sites.setdefault(site.line, []).append(site)
        out: list[str] = []
        for number, text in enumerate(self.source, 1):
            if shown is not None and number not in shown:
                if out and out[-1] != "...":
                    out.append("...")
                continue
            count = self.lines.get(number)
            note = ""
            for site in sites.get(number, []):
                unit = "wf" if site.space == "shared" else "sec"
                note += f" {site.units} {unit}" + (f" (+{site.excess})" if site.excess else "")
            out.append(f"{count if count is not None else '':>9} {note:>18} | {text}")
        return "\n".join(out)


def build_report(launch: Launch) -> Report:
    """Gather the counters of a finished launch."""
    if launch.faults.dropped:
        launch.note(f"more than {launch.faults.limit} faults: {launch.faults.dropped} reports of others are not listed")
    report = Report(launch.program.decoded.name, launch.grid, launch.block, faults=list(launch.faults.entries.values()),
                    printed=launch.printed, notes=launch.notes, matrix_operations=launch.matrix_operations,
                    divergences=launch.divergences, barrier_waits=launch.barrier_waits,
                    warps=launch.blocks * ((launch.threads + 31) // 32), source=launch.syntax.lines, path=launch.path)
    for segment in launch.program.segments:
        count = launch.executed.get(segment.index, 0)
        if not count:
            continue
        for op in segment.ops:
            kind = op.form.kind if op.form is not None else "control"
            report.instructions[kind] = report.instructions.get(kind, 0) + count
            report.lines[op.line] = report.lines.get(op.line, 0) + count
        if segment.end is not None and segment.end.line:
            report.instructions["control"] = report.instructions.get("control", 0) + count
            report.lines[segment.end.line] = report.lines.get(segment.end.line, 0) + count
    for site in launch.sites.values():
        if site.requests:
            report.sites.append(
                SiteCount(site.op.line, site.op.opcode, site.space, site.requests, site.units, site.ideal, site.bytes)
            )
    report.sites.sort(key=lambda s: s.line)
    return report
