"""``tilus layout``: evaluate a layout expression and draw it."""

from __future__ import annotations

import pathlib

import click

from tilus.cli.output import is_standard_output, write_output


@click.command("layout")
@click.argument("expression", metavar="EXPR")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=pathlib.Path),
              help="Also draw it into this file; '-': only draw it, to standard output.")
@click.option("--threads", "threads_only", is_flag=True, help="Show the threads only, without their registers.")
@click.option("--no-draw", is_flag=True, help="Print the canonical expression and the summary only.")
def command(expression: str, svg: pathlib.Path | None, threads_only: bool, no_draw: bool) -> None:
    """Evaluate a layout expression and draw it: each cell shows the thread and the register that hold the element,
    or the offset in shared memory.

    \b
    Examples:
      tilus layout 'spatial(8, 4).local(1, 2)'
      tilus layout 'mma(m16n8k16, 16).a' --svg a.svg
      tilus layout 'row_major(8, 64).swizzle(3, 3, 3)'
    """
    from tilus.layouts.draw import draw_svg, draw_text, summary
    from tilus.layouts.parse import parse_layout

    layout = parse_layout(expression)
    if svg is not None and is_standard_output(svg):
        write_output(svg, draw_svg(layout, threads_only))
        return
    click.echo(str(layout))
    click.echo(summary(layout))
    if not no_draw:
        click.echo()
        click.echo(draw_text(layout, threads_only))
    if svg is not None:
        write_output(svg, draw_svg(layout, threads_only))
        click.echo(f"wrote {svg}")
