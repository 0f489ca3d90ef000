"""What a run of the twin tells: findings, counters, and an estimate of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tilus.twin.chips import Chip

# In the order of the runtime's counters.
COUNTERS = ("GM-UB bytes", "UB-GM bytes", "GM-L1 bytes", "GM-L0 bytes", "L1-L0A bytes", "L1-L0B bytes", "L1-BT bytes",
            "L0C-GM bytes", "L0C-L1 bytes", "vector calls", "vector repeats", "cube fractals", "cube MACs",
            "cross-core flags", "scalar accesses", "instructions")
PIPES = ("S", "V", "M", "MTE1", "MTE2", "MTE3", "FIX")
# A pipe that works for this part of the time bounds it.
BOUND = 0.6
# More findings than these say little more.
MOST_FINDINGS = 20


class Finding(NamedTuple):
    """One thing that is wrong with a kernel, at a call on a line of its source.

    ``core`` is the first core that did it, ``times`` how often it happened.
    """

    kind: str
    call: str
    line: int
    core: str
    text: str
    times: int
    source: str

    def __str__(self) -> str:
        times = f", {self.times} times" if self.times > 1 else ""
        where = f"line {self.line}: {self.call}" if self.line else self.call
        shown = f"\n    {self.source.strip()}" if self.source.strip() else ""
        return f"{where} [{self.kind}, {self.core}{times}]: {self.text}{shown}"


class TwinError(Exception):
    """A kernel does what the hardware does not allow, or what its result depends on by chance."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, self.findings)))


class Report(NamedTuple):
    """A run without findings.

    ``counters`` are sums over all cores. ``cycles`` is an estimate by published rates; ``busy`` has for each kind of
    core the most cycles that any one's pipe worked, ``worked`` those in which some pipe of it did; ``pipeline_cycles``
    is when the last pipe of all is done, without regard to the memory behind the L2; ``bottleneck`` names what bounds
    the time; ``seconds`` is at the chip's clock.
    """

    chip: Chip
    counters: Mapping[str, int]
    cycles: float
    pipeline_cycles: float
    busy: Mapping[str, Mapping[str, float]]
    worked: Mapping[str, float]
    bottleneck: str
    seconds: float

    def __str__(self) -> str:
        lines = [(f"{self.chip.name}: {self.cycles:,.0f} cycles, {self.seconds * 1e6:,.2f} us, "
                 f"bound by {self.bottleneck}")]
        for side, pipes in self.busy.items():
            busy = {pipe: 100 * cycles / max(self.cycles, 1) for pipe, cycles in pipes.items() if cycles}
            shares = ", ".join(f"{pipe} {share:.0f} %" for pipe, share in busy.items())
            if shares:
                lines.append(f"  {side}: {shares}; some pipe {100 * self.worked[side] / max(self.cycles, 1):.0f} %")
        lines += [f"  {name}: {value:,}" for name, value in self.counters.items() if value]
        return "\n".join(lines)


def findings_of(result: Mapping[str, Any], source: Sequence[str]) -> list[Finding]:
    """The findings of a run, by line; ``source`` is the kernel's, by lines."""
    found = []
    for item in result["findings"]:
        line = item["line"]
        text = source[line - 1] if 0 < line <= len(source) else ""
        found.append(Finding(item["kind"], item["call"], line, item["core"], item["text"], item["count"], text))
    return sorted(found, key=lambda finding: finding.line)[:MOST_FINDINGS]


def report_of(result: Mapping[str, Any], chip: Chip) -> Report:
    """What was measured. Bytes that are touched pass between memory and L2 once, by the share of the cores that run."""
    counts = dict(zip(COUNTERS, result["counters"], strict=True))
    busy = {side: dict(zip(PIPES, result[f"busy_{side.lower()}"], strict=True)) for side in ("AIC", "AIV")}
    worked = dict(zip(("AIC", "AIV"), result["worked"], strict=True))
    bandwidth = chip.memory_bandwidth * result["ai_cores"] / chip.cube_cores
    memory = (result["gm_read"] + result["gm_written"]) / bandwidth * chip.clock
    cycles = max(result["end"], memory)
    longest, pipe = max((worked, f"{side} {pipe}") for side, pipes in busy.items() for pipe, worked in pipes.items())
    if memory >= result["end"]:
        bottleneck = "memory"
    else:
        bottleneck = pipe if longest >= BOUND * cycles else f"waiting ({pipe} is the busiest)"
    return Report(chip, counts, cycles, result["end"], busy, worked, bottleneck, cycles / chip.clock)


__all__ = ["COUNTERS", "MOST_FINDINGS", "PIPES", "Finding", "Report", "TwinError", "findings_of", "report_of"]
