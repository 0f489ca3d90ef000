"""Drawings of layouts: a table for the terminal, an SVG. Rank 1 and 2 directly; higher ranks slice by slice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from xml.sax.saxutils import escape

from tilus.layouts.modes import undefined
from tilus.layouts.register import RegisterLayout
from tilus.layouts.shared import SharedLayout

AnyLayout = RegisterLayout | SharedLayout
Cell = Callable[[tuple[int, ...]], tuple[str, int]]
"""The text of an element and its colour class: the thread, or the bank's group."""

_MAX_CELLS = 65536


def draw_text(layout: AnyLayout, cell: Cell | None = None, width: int = 0) -> str:
    """A table with a cell per element.

    Args:
        layout: what is drawn.
        cell: what stands in a cell; by default what :func:`places` says.
        width: characters of a line; wider tables are cut into bands of columns, one below the other. 0: no limit.
    """
    cell = _cells(layout, cell)
    blocks = []
    for title, rows in _slices(layout.shape):
        texts = [[cell(index)[0] for index in row] for row in rows]
        blocks.append((title + "\n" if title else "") + _grid(texts, width))
    return "\n\n".join(blocks)


def draw_svg(layout: AnyLayout, cell: Cell | None = None, caption: str = "") -> str:
    """The same table as an SVG document; cells of one thread (or one 16th of the offsets' period) share a colour.
    ``caption`` says what the cells are."""
    cell = _cells(layout, cell)
    parts: list[str] = []
    y = 24
    if caption:
        parts.append(f'<text x="6" y="30" class="h">{escape(caption)}</text>')
        y += 16
    widest = 0
    for title, rows in _slices(layout.shape):
        cells = [[cell(index) for index in row] for row in rows]
        width = 12 + 7 * max(len(text) for row in cells for text, _ in row)
        if title:
            parts.append(f'<text x="34" y="{y}" class="h">{escape(title)}</text>')
            y += 12
        y += 14
        for j in range(len(cells[0])):
            parts.append(f'<text x="{34 + j * width + width // 2}" y="{y - 4}" class="h m">{j}</text>')
        for i, row in enumerate(cells):
            parts.append(f'<text x="28" y="{y + 15}" class="h e">{i}</text>')
            for j, (text, group) in enumerate(row):
                x = 34 + j * width
                parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="22" fill="{_color(group)}"/>')
                parts.append(f'<text x="{x + width // 2}" y="{y + 15}" class="m">{escape(text)}</text>')
            y += 22
        widest = max(widest, 34 + width * len(cells[0]))
        y += 20
    style = ("text{font:11px monospace;fill:#222}.h{fill:#777}.m{text-anchor:middle}.e{text-anchor:end}"
             "rect{stroke:#fff;stroke-width:1}")
    widest = max(widest, 34 + 7 * max(len(str(layout)), len(caption)))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{widest + 10}" '
            f'height="{y}"><title>{escape(str(layout))}</title><style>{style}</style>'
            f'<text x="6" y="14">{escape(str(layout))}</text>{"".join(parts)}</svg>\n')


def summary(layout: AnyLayout) -> str:
    """One line: shape, threads and registers, or the elements of shared memory."""
    shape = " × ".join(map(str, layout.shape)) or "scalar"
    if isinstance(layout, SharedLayout):
        swizzle = f", swizzle{layout.swizzle}" if layout.swizzle is not None else ""
        return f"{shape}: {layout.size} elements of shared memory{swizzle}"
    copies = f", {layout.replication} holders of each element" if layout.is_replicated else ""
    return f"{shape}: {layout.num_threads} threads × {layout.num_locals} registers{copies}"


def places(layout: AnyLayout, threads_only: bool = False) -> Cell:
    """``thread:register`` (all holders of a replicated element) of the element at an index, or its offset."""
    if isinstance(layout, SharedLayout):
        shared = layout

        def offset(index: tuple[int, ...]) -> tuple[str, int]:
            value = shared.offset(index)
            return str(value), value // 8

        return offset
    register = layout

    def holder(index: tuple[int, ...]) -> tuple[str, int]:
        threads = register.threads_of(index)
        names = ranges(threads)
        return names if threads_only else f"{names}:{register.local_of(index)}", threads[0]

    return holder


def _cells(layout: AnyLayout, cell: Cell | None) -> Cell:
    size = math.prod(layout.shape)
    if size > _MAX_CELLS:
        raise undefined(f"a layout of {size} elements is too large to draw", help="draw a slice of it")
    return cell or places(layout)


def ranges(numbers: tuple[int, ...]) -> str:
    """``0-3,8`` for 0, 1, 2, 3, 8."""
    parts = []
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ",".join(parts)


def _slices(shape: tuple[int, ...]) -> Iterator[tuple[str, list[list[tuple[int, ...]]]]]:
    """Titles and rows of indices of each two-dimensional slice."""
    rows, columns = (1, 1, *shape)[-2:]
    for outer in itertools.product(*map(range, shape[:-2])):
        title = f"[{', '.join(map(str, outer))}, :, :]" if outer else ""
        yield title, [[((*outer, i, j))[-len(shape):] if shape else () for j in range(columns)] for i in range(rows)]


def _grid(texts: list[list[str]], limit: int) -> str:
    """Rows of cells with their numbers; where a line would have more than ``limit`` characters, in bands."""
    columns = len(texts[0])
    width = max(len(text) for row in texts for text in row)
    width = max(width, len(str(columns - 1)))
    margin = len(str(len(texts) - 1))
    band = _band(columns, width, limit - margin - 3) if limit else columns
    return "\n\n".join(_band_text(texts, range(first, min(first + band, columns)), width, margin)
                       for first in range(0, columns, band))


def _band(columns: int, width: int, room: int) -> int:
    """How many columns go side by side: as many as fit, by eights where they do, so that bands begin at round
    numbers."""
    fit = max(1, room // (width + 1))
    if fit >= columns:
        return columns
    return fit - fit % 8 if fit >= 8 else 1 << fit.bit_length() - 1


def _band_text(texts: list[list[str]], columns: range, width: int, margin: int) -> str:
    lines = [" " * margin + " │ " + " ".join(f"{j:>{width}}" for j in columns)]
    lines.append("─" * (margin + 1) + "┼" + "─" * ((width + 1) * len(columns) + 1))
    lines += [f"{i:>{margin}} │ " + " ".join(f"{row[j]:>{width}}" for j in columns) for i, row in enumerate(texts)]
    return "\n".join(lines)


def _color(group: int) -> str:
    """Pale colours; neighbours differ (multiples of the golden angle)."""
    return f"hsl({group * 137 % 360},55%,{82 + group % 3 * 4}%)"
