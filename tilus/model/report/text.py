"""A profile as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tilus.model.report.units import bytes_text, rate_text, time_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tilus.model.profile import LaunchProfile, Profile

LINES = 12
"""How many lines of the source a table has."""
SHOWN = 0.005
"""Shares below are left out."""
PIPES = {
    "issue": "issue slots", "tensor": "tensor cores", "fma": "f32 multiply-adds", "fma heavy": "integer multiply-adds",
    "half": "f16 arithmetic", "alu": "integer arithmetic", "slow": "special functions", "double": "f64 arithmetic",
    "shuffle": "shuffles", "uniform": "uniform datapath", "constant": "constants", "memory": "L1 and shared memory",
    "L2": "L2 bandwidth", "DRAM": "memory bandwidth",
}
"""What pipes and resources are called."""


def profile_text(profile: Profile) -> str:
    """All of a profile, as wide as the terminal."""
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), width=Console().width)
    for part in parts(profile):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()


def parts(profile: Profile) -> list[RenderableType]:
    """What a terminal shows of a profile."""
    from rich.text import Text

    total = f"model: {time_text(profile.seconds)} in all" if len(profile.launches) > 1 else ""
    found: list[RenderableType] = [Text(f"{profile.title}  {total}".rstrip(), style="bold")]
    if not profile.launches:
        found.append(Text("nothing is launched: there are no blocks"))
    for launch in profile.launches:
        found += [_summary(launch), _busy(launch), _lines(launch)]
        found += [Text(f"assumed: {text}", style="dim") for text in launch.model.assumed]
    return found


def facts(launch: LaunchProfile) -> list[tuple[str, str]]:
    """What a launch is, by name."""
    model, roof = launch.model, launch.roof()
    x, y, z = launch.sample.launch.grid
    warps = model.resident * -(-launch.threads // 32)
    rows = [
        ("time (model)", time_text(model.seconds)), ("limited by", model.bottleneck),
        ("board", f"{launch.board.name}, {launch.target.name}"),
        ("grid", f"{x} × {y} × {z} blocks of {launch.threads} threads"),
        ("registers, shared memory", f"{model.registers} a thread, {bytes_text(model.shared)} a block"),
        ("resident", f"{model.resident} blocks ({warps} warps) a multiprocessor, {model.waves:.2f} waves"),
        ("memory", f"{bytes_text(model.memory_bytes)}, {rate_text(model.memory_bytes / model.seconds, 'B/s')}"),
        ("L2", f"{bytes_text(model.l2_bytes)}, {rate_text(model.l2_bytes / model.seconds, 'B/s')}"),
    ]
    if roof.total:
        pipe = max(roof.operations, key=roof.operations.__getitem__)
        share = f"{roof.rate / roof.peak:.0%} of the peak of {PIPES.get(pipe, pipe)}"
        rows.append(("operations", f"{rate_text(roof.rate, 'FLOP/s')}, {share}"))
    return rows


def _summary(launch: LaunchProfile) -> RenderableType:
    from rich.table import Table

    table = Table(title=launch.name, title_justify="left", show_header=False, box=None)
    for name, value in facts(launch):
        table.add_row(name, value)
    return table


def _busy(launch: LaunchProfile) -> RenderableType:
    from rich.columns import Columns

    model = launch.model
    busy = {PIPES.get(name, name): share for name, share in model.busy.items()}
    return Columns([_bars("busy (model)", busy), _bars("warps wait for (model)", model.waits)], padding=(0, 4))


def _bars(title: str, shares: Mapping[str, float]) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False, box=None)
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        if share >= SHOWN:
            table.add_row(name, ProgressBar(total=1.0, completed=min(1.0, share), width=16), f"{share:.0%}")
    return table


def _lines(launch: LaunchProfile) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="lines at which warps wait (model)", title_justify="left")
    for name in ("line", "source", "instructions", "issued", "waited", "for"):
        table.add_column(name, justify="right" if name in ("line", "instructions", "issued", "waited") else "left")
    for line in launch.lines()[:LINES]:
        reason = max(line.reasons, key=line.reasons.__getitem__) if line.reasons else ""
        where = str(line.number) if line.file else f"{line.number:04x}"
        table.add_row(where, Text(line.text, overflow="ellipsis", no_wrap=True), str(line.instructions),
                      f"{line.issued:.0%}", f"{line.waited:.0%}", reason)
    return table


__all__ = ["PIPES", "facts", "parts", "profile_text"]
