"""``tilus simulate``: execute a kernel of a PTX file on a simulated GPU."""

from __future__ import annotations

import math
import pathlib
import sys
from typing import Any

import click

from tilus.cli.loading import parse_extents

MOST_BYTES = 1 << 34
CHECKS = ("uninitialised", "race", "global_race", "asynchronous", "sync", "bounds", "barrier")


def _saved_array(path: pathlib.Path) -> Any:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        raise click.BadParameter(f"{path}: cannot be read as a .npy file ({problem})") from None


def _zeros(text: str) -> Any:
    """``f4:64x64``: zeros of a NumPy type and shape."""
    import numpy as np

    dtype, found, shape = text.partition(":")
    if not found:
        raise click.BadParameter(f"zeros:{text}: write zeros:DTYPE:SHAPE, as zeros:f4:64x64")
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise click.BadParameter(f"zeros:{text}: NumPy has no type {dtype!r}") from None
    sizes = parse_extents(shape)
    count = math.prod(sizes)
    if min(sizes) < 0 or count * kind.itemsize > MOST_BYTES:
        raise click.BadParameter(f"zeros:{text}: at most {MOST_BYTES >> 30} GiB of positive extents")
    return np.zeros(sizes, kind)


def _argument(text: str) -> tuple[str, Any, pathlib.Path | None]:
    """``name=value``: a .npy file becomes an array (changed in place), ``zeros:f4:128`` a new one, a .npz file
    of prepacked weights their bytes; else a number."""
    name, found, value = text.partition("=")
    if not found or not value:
        raise click.BadParameter(f"{text!r}: write an argument as name=value")
    if value.endswith(".npy"):
        return name, _saved_array(pathlib.Path(value)), pathlib.Path(value)
    if pathlib.Path(value.partition(":")[0]).suffix == ".npz":
        from tilus.cli.weights import ArrayFile

        return name, ArrayFile(value, True).prepacked().bytes, None
    if value.startswith("zeros:"):
        return name, _zeros(value.removeprefix("zeros:")), None
    try:
        if value.startswith("hex:"):
            return name, bytes.fromhex(value.removeprefix("hex:")), None
    except ValueError:
        raise click.BadParameter(f"{value!r}: write bytes as hex:0123abcd") from None
    for kind in (lambda v: int(v, 0), float):
        try:
            return name, kind(value), None
        except ValueError:
            pass
    raise click.BadParameter(f"{value!r} is neither a number, a .npy or .npz file, zeros:DTYPE:SHAPE nor hex:BYTES")


def _arguments(texts: tuple[str, ...]) -> list[tuple[str, Any, pathlib.Path | None]]:
    parsed = [_argument(text) for text in texts]
    names = [name for name, _, _ in parsed]
    for name in names:
        if names.count(name) > 1:
            raise click.BadParameter(f"argument {name!r} is given twice")
    return parsed


def _checks(every: bool, wanted: tuple[str, ...], unwanted: tuple[str, ...]) -> Any:
    if wanted and unwanted:
        raise click.UsageError("give --check or --no-check, not both")
    if wanted:
        return wanted
    if unwanted:
        from tilus.simulator import Checks

        return Checks(**dict.fromkeys(unwanted, False))
    return every


def _tell(ended: int, blocks: int, steps: int) -> None:
    click.echo(f"{ended} of {blocks} blocks, {steps} instructions", err=True)


@click.command("simulate")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path))
@click.option("--entry", help="The kernel; not needed where the file has one.")
@click.option("--grid", default="1", show_default=True, help="Blocks, as 4,2.")
@click.option("--block", default="32", show_default=True, help="Threads of a block, as 32,8.")
@click.option("--cluster", help="Blocks of a cluster, as 2,1.")
@click.option("--arg", "arguments", multiple=True, metavar="NAME=VALUE",
              help="A parameter by name or by its number from 0 on: a number, FILE.npy, zeros:f4:64x64, hex:… for a "
                   "struct's bytes, or FILE.npz[:NAME] of `tilus prepack`.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE",
              help="Contents of a variable of the module, such as a __constant__ array: FILE.npy or zeros:f4:8.")
@click.option("--shared", default=0, type=click.IntRange(min=0), help="Dynamic shared memory, bytes.")
@click.option("--checks/--no-checks", default=True, help="Look for races, missing waits and uninitialised reads.")
@click.option("--check", "wanted", multiple=True, type=click.Choice(CHECKS), help="Only this check; may be repeated.")
@click.option("--no-check", "unwanted", multiple=True, type=click.Choice(CHECKS), help="All checks but this one.")
@click.option("--counters/--no-counters", default=True, help="Count memory transactions.")
@click.option("--seed", type=int, help="Complete asynchronous copies at random moments.")
@click.option("--resident-blocks", type=click.IntRange(min=1),
              help="Blocks that run at once where they wait for others.")
@click.option("--stack", "stack_bytes", default=1 << 14, show_default=True, type=click.IntRange(min=0),
              help="Bytes of a thread for recursive functions.")
@click.option("--max-steps", type=click.IntRange(min=1),
              help="Instructions of blocks that run together after which to give up; the loop is named.")
@click.option("--skip-file", "skipped_files", multiple=True, metavar="FILE",
              help="Source file, as .file names it, whose faults are told at the line that called it; may be repeated.")
@click.option("--strict", is_flag=True, help="Formal faults, which hardware tolerates, make the exit status 1 too.")
@click.option("--progress/--no-progress", default=None,
              help="Tell on the standard error how far it is; by default where that is a terminal.")
@click.option("--save/--no-save", default=False, help="Write changed arrays back to their .npy files.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--listing", is_flag=True, help="Print the PTX with counts for each line.")
@click.option("--hot", type=click.IntRange(min=1), metavar="N",
              help="Of the listing, the N lines that were executed most often and those of the most excess.")
def command(
    file: pathlib.Path,
    entry: str | None,
    grid: str,
    block: str,
    cluster: str | None,
    arguments: tuple[str, ...],
    settings: tuple[str, ...],
    shared: int,
    checks: bool,
    wanted: tuple[str, ...],
    unwanted: tuple[str, ...],
    counters: bool,
    seed: int | None,
    resident_blocks: int | None,
    stack_bytes: int,
    max_steps: int | None,
    skipped_files: tuple[str, ...],
    strict: bool,
    progress: bool | None,
    save: bool,
    as_json: bool,
    listing: bool,
    hot: int | None,
) -> None:
    """Execute a kernel of the PTX file FILE on a simulated GPU, check it and count what it does.

    \b
    Example:
      tilus simulate vadd.ptx --grid 8 --block 128 --arg 0=a.npy --arg 1=b.npy --arg 2=c.npy --arg 3=1000 --save
    """
    import numpy as np

    from tilus import simulator
    from tilus.diagnostics import UserError

    module = simulator.load(file.read_bytes().decode("utf-8", "replace"), str(file))
    if entry is None:
        if len(module.entries) != 1:
            raise UserError.at(
                "E0804", f"choose a kernel with --entry: {', '.join(module.entries) or 'the file has none'}"
            )
        entry = module.entries[0]
    parsed, variables = _arguments(arguments), _arguments(settings)
    report = module.launch(entry, parse_extents(grid), parse_extents(block), {name: value for name, value, _ in parsed},
                           shared_bytes=shared, cluster=parse_extents(cluster) if cluster else None,
                           checks=_checks(checks, wanted, unwanted), counters=counters, seed=seed, collect=True,
                           resident_blocks=resident_blocks, stack_bytes=stack_bytes,
                           max_steps=max_steps or simulator.MAX_STEPS, skipped_files=skipped_files,
                           progress=_tell if progress or (progress is None and sys.stderr.isatty()) else None,
                           variables={name: value for name, value, _ in variables})
    if not as_json:
        for line in report.printed:
            click.echo(line, nl=False)
    listing = listing or hot is not None
    click.echo(report.to_json() if as_json else report.listing(hot) if listing else report.text())
    if listing and not as_json and report.faults:
        click.echo("\n".join(report.fault_lines()))
    if save:
        for _, value, path in parsed + variables:
            if path is not None:
                np.save(path, value)
    if report.faults if strict else report.errors:
        raise SystemExit(1)
