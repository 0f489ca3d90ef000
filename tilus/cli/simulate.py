"""``tilus simulate``: execute a kernel of a PTX file on a simulated GPU."""

from __future__ import annotations

import pathlib
from typing import Any

import click


def _extents(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r}: write extents as 4,2 or 4x2") from None


def _argument(text: str) -> tuple[str, Any, pathlib.Path | None]:
    """``name=value``: a .npy file becomes an array (changed in place), ``zeros:f4:128`` a new one, else a number."""
    import numpy as np

    name, found, value = text.partition("=")
    if not found or not value:
        raise click.BadParameter(f"{text!r}: write an argument as name=value")
    if value.endswith(".npy"):
        path = pathlib.Path(value)
        return name, np.load(path), path
    if value.startswith("zeros:"):
        _, dtype, shape = value.split(":")
        return name, np.zeros(_extents(shape), dtype), None
    try:
        return name, int(value, 0), None
    except ValueError:
        pass
    try:
        return name, float(value), None
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a number, a .npy file nor zeros:DTYPE:SHAPE") from None


@click.command("simulate")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path))
@click.option("--entry", help="The kernel; not needed where the file has one.")
@click.option("--grid", default="1", show_default=True, help="Blocks, as 4,2.")
@click.option("--block", default="32", show_default=True, help="Threads of a block, as 32,8.")
@click.option("--cluster", help="Blocks of a cluster, as 2,1.")
@click.option("--arg", "arguments", multiple=True, metavar="NAME=VALUE",
              help="A parameter by name or number: a number, FILE.npy or zeros:f4:64x64.")
@click.option("--shared", default=0, help="Dynamic shared memory, bytes.")
@click.option("--checks/--no-checks", default=True, help="Look for races, missing waits and uninitialised reads.")
@click.option("--counters/--no-counters", default=True, help="Count memory transactions.")
@click.option("--seed", type=int, help="Complete asynchronous copies at random moments.")
@click.option("--save/--no-save", default=False, help="Write changed arrays back to their .npy files.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--listing", is_flag=True, help="Print the PTX with counts for each line.")
def command(
    file: pathlib.Path,
    entry: str | None,
    grid: str,
    block: str,
    cluster: str | None,
    arguments: tuple[str, ...],
    shared: int,
    checks: bool,
    counters: bool,
    seed: int | None,
    save: bool,
    as_json: bool,
    listing: bool,
) -> None:
    """Execute a kernel of the PTX file FILE on a simulated GPU, check it and count what it does.

    \b
    Example:
      tilus simulate vadd.ptx --grid 8 --block 128 --arg 0=a.npy --arg 1=b.npy --arg 2=c.npy --arg 3=1000 --save
    """
    import numpy as np

    from tilus import simulator
    from tilus.diagnostics import UserError

    module = simulator.load(file.read_text(encoding="utf-8"), str(file))
    if entry is None:
        if len(module.entries) != 1:
            raise UserError.at(
                "E0804", f"choose a kernel with --entry: {', '.join(module.entries) or 'the file has none'}"
            )
        entry = module.entries[0]
    parsed = [_argument(text) for text in arguments]
    report = module.launch(entry, _extents(grid), _extents(block), {name: value for name, value, _ in parsed},
                           shared_bytes=shared, cluster=_extents(cluster) if cluster else None, checks=checks,
                           counters=counters, seed=seed, collect=True)
    for line in report.printed:
        click.echo(line, nl=False)
    click.echo(report.to_json() if as_json else report.listing() if listing else report.text())
    if save:
        for _, value, path in parsed:
            if path is not None:
                np.save(path, value)
    if report.faults:
        raise SystemExit(1)
