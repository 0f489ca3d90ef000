"""``tilus profile``: what the cost model says of a call on a GPU that need not be there."""

from __future__ import annotations

import pathlib
from typing import Any

import click


@click.command("profile")
@click.argument("kernel", metavar="FILE[:KERNEL]")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=EXTENT", help="The extent of a dimension.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE",
              help="A scalar, a compile-time parameter, the element type of an array (a=bf16), or the type of an array "
                   "without annotation (x=f32[128,64]).")
@click.option("--target", default="sm_80", show_default=True, help="sm_75 to sm_120a.")
@click.option("--board", default=None, help="The board that is modelled; by default the one of the target.")
@click.option("--via", default=None, metavar="ROUTE", help="ptx (the default) or cuda.")
@click.option("--explain", is_flag=True, help="Show the formulas behind the figures, with numbers.")
@click.option("--html", "page", type=click.Path(dir_okay=False, path_type=pathlib.Path), metavar="FILE",
              help="Write a page with pictures: roofline, time line, waits by line of the source, occupancy.")
def command(kernel: str, shapes: tuple[str, ...], settings: tuple[str, ...], target: str, board: str | None,
            via: str | None, explain: bool, page: pathlib.Path | None) -> None:
    """Show where the time of a kernel goes, by a model that reads its machine code. Nothing is run.

    \b
    Examples:
      tilus profile kernel.py:matmul --shape M=4096 --shape N=4096 --shape K=4096 --target sm_90a
      tilus profile kernel.py --shape N=1000000 --board L40S --target sm_89 --html profile.html
    """
    from rich.console import Console

    from tilus.cli.calls import call_of
    from tilus.cli.loading import find_kernel
    from tilus.model.profiling import profile
    from tilus.model.report.text import parts

    function = find_kernel(kernel)
    args, kwargs = call_of(function, shapes, settings, contents=False)
    options: dict[str, Any] = {"target": target, "board": board, "via": via}
    found = profile(function, *args, **options, **kwargs)
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


__all__ = ["command"]
