"""Pictures of a launch's profile, as SVG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from tilus.model.report.text import PIPES
from tilus.model.report.units import rate_text
from tilus.model.steps import REASONS

if TYPE_CHECKING:
    from tilus.model.multiprocessor import Issue
    from tilus.model.profile import LaunchProfile

COLOURS = ("#9aa5b1", "#d1495b", "#edae49", "#7b6cb2", "#00798c", "#30638e", "#8d5b4c", "#c7ceda")
"""Of the reasons, in their order."""
MOST_ROWS = 400
"""Instructions of a time line."""


def roofline(launch: LaunchProfile) -> str:
    """Operations a second over operations a byte, under what the board computes and moves."""
    roof = launch.roof()
    figure, axes = _figure(6.4, 4.2)
    peaks = {name: peak for name, peak in roof.peaks.items() if peak}
    if not peaks or not roof.memory_bytes:
        return _nothing(figure, axes, "no operations on floats, or no memory")
    low, high = min(0.1, roof.intensity / 4), max(1e3, roof.intensity * 4)
    for name, peak in peaks.items():
        axes.plot([low, high], [peak, peak], color="#30638e", linewidth=1)
        axes.annotate(f"{PIPES.get(name, name)}: {rate_text(peak, 'FLOP/s')}", (high, peak), ha="right", va="bottom",
                      fontsize=8)
    top = max(peaks.values())
    for name, bandwidth in (("memory", roof.memory_bandwidth), ("L2", roof.l2_bandwidth)):
        axes.plot([low, top / bandwidth], [low * bandwidth, top], color="#00798c", linewidth=1)
        axes.annotate(f"{name}: {rate_text(bandwidth, 'B/s')}", (low, low * bandwidth), rotation=45, fontsize=8,
                      va="bottom", transform_rotates_text=True, rotation_mode="anchor")
    axes.plot([roof.intensity], [roof.rate], "o", color="#d1495b")
    here = f"{launch.name}: {rate_text(roof.rate, 'FLOP/s')}"
    axes.annotate(here + " ", (roof.intensity, roof.rate), fontsize=9, va="top", ha="right")
    axes.set(xscale="log", yscale="log", xlabel="operations per byte of memory", ylabel="operations per second")
    return _svg(figure)


def time_line(launch: LaunchProfile) -> str:
    """One iteration of the loop that takes longest, of one warp: what each instruction waits for, and when it is
    issued."""
    found = iteration(launch)
    figure, axes = _figure(9.0, max(2.0, 0.11 * len(found) + 0.8))
    if not found:
        return _nothing(figure, axes, "no loop")
    start = found[0].time
    for row, issue in enumerate(found):
        axes.broken_barh([(issue.since - start, issue.time - issue.since)], (row - 0.4, 0.8),
                         color=COLOURS[issue.reason])
        axes.broken_barh([(issue.time - start, 1)], (row - 0.4, 0.8), color="black")
    texts = [launch.program.instructions[issue.instruction].text for issue in found]
    axes.set_yticks(range(len(found)), [text[:56] for text in texts], fontsize=5, family="monospace")
    axes.set(xlabel="cycles", ylim=(len(found), -1))
    handles = [_patch(COLOURS[r], reason) for r, reason in enumerate(REASONS) if any(i.reason == r for i in found)]
    axes.legend(handles=[*handles, _patch("black", "issue")], fontsize=7, loc="upper right")
    return _svg(figure)


def iteration(launch: LaunchProfile) -> list[Issue]:
    """The issues of a warp's last whole iteration of the loop in which most cycles are spent."""
    timing, executed = launch.model.timing, launch.model.executed
    spent = {first: period * executed.get(first, 0.0) for first, period in timing.periods.items()}
    if not spent:
        return []
    loop = max(spent, key=spent.__getitem__)
    issues = [issue for issue in timing.timeline if issue.warp == 0]
    begins = [n for n, issue in enumerate(issues) if issue.instruction == loop]
    if len(begins) < 2:
        return []
    return issues[begins[-2]:begins[-1] + 1][:MOST_ROWS]


def occupancy(launch: LaunchProfile) -> str:
    """Resident warps against registers and shared memory."""
    figure, (left, right) = _figure(9.0, 2.8, columns=2)
    left.step(*zip(*launch.warps_by_registers(), strict=True), where="post", color="#30638e")
    left.plot([launch.model.registers], [_warps(launch)], "o", color="#d1495b")
    left.set(xlabel="registers of a thread", ylabel="warps of a multiprocessor")
    right.step(*zip(*launch.warps_by_shared(), strict=True), where="post", color="#00798c")
    right.plot([launch.model.shared], [_warps(launch)], "o", color="#d1495b")
    right.set(xlabel="bytes of shared memory of a block")
    return _svg(figure)


def _warps(launch: LaunchProfile) -> int:
    return launch._resident(launch.model.registers, launch.model.shared)


def _figure(width: float, height: float, columns: int = 1) -> Any:
    # Not pyplot: that has a state, and may want a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def _patch(colour: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)


def _nothing(figure: Any, axes: Any, why: str) -> str:
    axes.text(0.5, 0.5, why, ha="center")
    axes.set_axis_off()
    return _svg(figure)


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    written = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tilus"}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    return text[text.index("<svg"):]


__all__ = ["COLOURS", "iteration", "occupancy", "roofline", "time_line"]
