"""``tilus layout``: evaluate a layout expression and draw it."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import click

from tilus.cli.output import is_standard_output, write_output
from tilus.records import record

if TYPE_CHECKING:
    from tilus.ir.prepacked import PrepackedFormat
    from tilus.layouts.draw import AnyLayout, Cell


@record(frozen=True)
class Drawing:
    """What is drawn: a layout, and what its cells are; the lines about them."""

    layout: AnyLayout
    cell: Cell
    lines: tuple[str, ...]

    @property
    def caption(self) -> str:
        return "; ".join(self.lines[1:])


@click.command("layout")
@click.argument("expression", metavar="EXPR")
@click.option("--bits", default=None, metavar="TYPE",
              help="Show the bits of registers that hold each element of this type (u4, f6e3m2, nf4) or width (3).")
@click.option("--prepacked", is_flag=True,
              help="Show the bits of memory in a prepacked tile of --bits; EXPR may be a format, a header, or a FILE "
                   "or FILE:NAME that has one.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=pathlib.Path),
              help="Also draw it into this file; '-': only draw it, to standard output.")
@click.option("--threads", "threads_only", is_flag=True, help="Show the threads only, without their registers.")
@click.option("--no-draw", is_flag=True, help="Print the canonical expression and the summary only.")
def command(expression: str, bits: str | None, prepacked: bool, svg: pathlib.Path | None, threads_only: bool,
            no_draw: bool) -> None:
    """Evaluate a layout expression and draw it: each cell shows the thread and the register that hold the element,
    or the offset in shared memory. In a terminal, tables that are wider are cut into bands.

    \b
    Examples:
      tilus layout 'spatial(8, 4).local(1, 2)'
      tilus layout 'mma(m16n8k16, 16).a' --svg a.svg
      tilus layout 'row_major(8, 64).swizzle(3, 3, 3)'
      tilus layout 'mma(m16n8k16, 16).b' --bits u4
      tilus layout 'mma(m16n8k16, 16).b.tile_to(64, 16)' --bits u3 --prepacked
      tilus layout --prepacked weights.npz:w
    """
    import shutil

    from tilus.layouts.draw import draw_svg, draw_text

    if threads_only and (bits or prepacked):
        raise click.UsageError("--threads shows no bits: leave it out, or --bits and --prepacked")
    drawing = _prepacked(expression, bits) if prepacked else _registers(expression, bits, threads_only)
    if svg is not None and is_standard_output(svg):
        write_output(svg, draw_svg(drawing.layout, drawing.cell, drawing.caption))
        return
    click.echo(str(drawing.layout))
    click.echo("\n".join(drawing.lines))
    if not no_draw:
        click.echo()
        click.echo(draw_text(drawing.layout, drawing.cell, shutil.get_terminal_size((0, 0)).columns))
    if svg is not None:
        write_output(svg, draw_svg(drawing.layout, drawing.cell, drawing.caption))
        click.echo(f"wrote {svg}")


def _registers(expression: str, bits: str | None, threads_only: bool) -> Drawing:
    from tilus.layouts import RegisterLayout, parse_layout
    from tilus.layouts.draw import places, summary
    from tilus.layouts.draw_bits import REGISTER_LEGEND, bits_summary, register_bits

    layout = parse_layout(expression)
    if bits is None:
        return Drawing(layout, places(layout, threads_only), (summary(layout),))
    if not isinstance(layout, RegisterLayout):
        raise click.UsageError("--bits draws register layouts; a shared layout counts elements, whatever their width")
    name, width = _width(bits)
    return Drawing(layout, register_bits(layout, width),
                   (summary(layout), bits_summary(layout, name, width), REGISTER_LEGEND))


def _prepacked(text: str, bits: str | None) -> Drawing:
    from tilus.layouts.draw import summary
    from tilus.layouts.draw_bits import MEMORY_LEGEND, memory_bits

    format = _format(text, bits)
    width = format.dtype.packed_bits
    own = format.layout.num_locals * width // 8
    order = f", groups of {len(format.order)} in the order {', '.join(map(str, format.order))}" if format.order else ""
    said = (f"{format.dtype}: a tile is {format.tile_bytes} bytes, {own} of each thread in pieces of {format.piece}"
            f"{order}" + (f", codes ^ {format.flip}" if format.flip else ""))
    return Drawing(format.layout, memory_bits(format.layout, width, format.piece, format.order),
                   (summary(format.layout), said, MEMORY_LEGEND))


def _format(text: str, bits: str | None) -> PrepackedFormat:
    from tilus.cli.formats import element_type, find_format
    from tilus.ir.prepacked import format_for
    from tilus.layouts import RegisterLayout, parse_layout

    found = find_format(text)
    if found is not None:
        if bits is not None:
            raise click.UsageError(f"--bits: the format says its type, which is {found.dtype}")
        return found
    layout = parse_layout(text)
    if not isinstance(layout, RegisterLayout):
        raise click.UsageError("--prepacked takes a register layout, of a tile among threads")
    if bits is None:
        raise click.UsageError("--prepacked takes the element type of a layout: --bits u4")
    return format_for(element_type(f"u{bits}" if bits.isdigit() else bits, "--bits"), layout)


def _width(text: str) -> tuple[str, int]:
    """An element type's name and its bits, or a number of bits."""
    from tilus.cli.formats import element_type

    if text.isdigit() and int(text):
        return f"{text} bits", int(text)
    dtype = element_type(text, "--bits")
    return dtype.name, dtype.packed_bits
