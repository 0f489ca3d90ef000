"""``tilus profile``: what the cost model says of a call on a GPU that need not be there."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tilus.cli.cubins import Asked
    from tilus.model.profile import Profile


@click.command("profile")
@click.argument("kernel", metavar="FILE[:KERNEL]")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=EXTENT", help="The extent of a dimension.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE",
              help="A scalar, a compile-time parameter, the element type of an array (a=bf16), or the type of an array "
                   "without annotation (x=f32[128,64]).")
@click.option("--target", default=None, help="sm_75 to sm_120a (sm_80).")
@click.option("--board", default=None, help="The board that is modelled; by default the one of the target.")
@click.option("--via", default=None, metavar="ROUTE", help="ptx (the default) or cuda.")
@click.option("--grid", default=None, metavar="X,Y,Z", help="Of a cubin: how many blocks are launched.")
@click.option("--block", default=None, metavar="X,Y,Z", help="Of a cubin: threads of a block.")
@click.option("--shared", default=0, metavar="BYTES", help="Of a cubin: dynamic shared memory of a block.")
@click.option("--arg", "arguments", multiple=True, metavar="VALUE",
              help="Of a cubin: a parameter, in order: a number, or an array as f32[4096,4096].")
@click.option("--explain", is_flag=True, help="Show the formulas behind the figures, with numbers.")
@click.option("--html", "page", type=click.Path(dir_okay=False, path_type=pathlib.Path), metavar="FILE",
              help="Write a page with pictures: roofline, time line, waits by line of the source, occupancy.")
def command(kernel: str, shapes: tuple[str, ...], settings: tuple[str, ...], target: str | None, board: str | None,
            via: str | None, grid: str | None, block: str | None, shared: int, arguments: tuple[str, ...],
            explain: bool, page: pathlib.Path | None) -> None:
    """Show where the time of a kernel goes, by a model that reads its machine code. Nothing is run.

    Of a cubin that `tilus compile` has written, the .json beside it says how it is launched; of others --grid, --block
    and --arg do.

    \b
    Examples:
      tilus profile kernel.py:matmul --shape M=4096 --shape N=4096 --shape K=4096 --target sm_90a
      tilus profile matmul.cubin --shape M=4096 --shape N=4096 --shape K=4096 --html profile.html
      tilus profile sgemm.cubin --grid 256,256 --block 16,16 --arg f32[4096,4096] --arg f32[4096,4096]
    """
    from rich.console import Console

    from tilus.cli.cubins import Asked
    from tilus.model.report.text import parts

    if pathlib.Path(kernel.partition(":")[0]).suffix == ".cubin":
        found = _cubin(kernel, Asked(shapes, settings, grid, block, shared, arguments), board)
    else:
        found = _source(kernel, shapes, settings, target or "sm_80", board, via)
    console = Console()
    for part in parts(found):
        console.print(part)
    if explain:
        from tilus.model.formulas import explain as formulas

        for launch in found:
            click.echo(f"\n{launch.name} (model)\n\n{formulas(launch)}")
    if page is not None:
        from tilus.cli.output import write_output

        write_output(page, found.html())


def _source(kernel: str, shapes: tuple[str, ...], settings: tuple[str, ...], target: str, board: str | None,
            via: str | None) -> Profile:
    from tilus.cli.calls import call_of
    from tilus.cli.loading import find_kernel
    from tilus.model.profiling import profile

    function = find_kernel(kernel)
    args, kwargs = call_of(function, shapes, settings, contents=False)
    return profile(function, *args, target=target, board=board, via=via, **kwargs)


def _cubin(text: str, asked: Asked, board: str | None) -> Profile:
    from tilus.cli.cubins import launches_in
    from tilus.model.boards import get_board
    from tilus.model.gpu import board_for, model_launch
    from tilus.model.profile import Profile

    target, cubin, launches = launches_in(text, asked)
    chosen = board_for(target) if board is None else get_board(board)
    return Profile(f"{text} on {chosen.name}",
                   [model_launch(cubin, launch, target, chosen, timeline=True) for launch in launches])


__all__ = ["command"]
