"""How a prepacked array lies in memory: tile after tile, each in the order in which threads hold its elements."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cached_property

from tilus.ir.codebooks import zero_code
from tilus.ir.dtypes import DType, parse_dtype
from tilus.layouts import RegisterLayout, local
from tilus.layouts.packed import byte_layout, pieces_of
from tilus.records import record

FORM = "tilus prepacked 1"


@record(frozen=True)
class PrepackedFormat:
    """The order of the elements of an array that is read in tiles.

    The last two dimensions of the array are cut into tiles, which follow one another column by column: a block that
    walks along the rows, as those of a matrix product do, reads bytes one after another. Tiles at the end are filled
    up. Of a tile each thread of ``layout`` has its elements side by side: local n of a group of ``len(order)``
    is at place ``order[n]`` of the group (in order where ``order`` is empty). A thread's bytes lie in pieces of
    ``piece`` bytes, and the same pieces of all threads one after another, so that threads read neighbouring pieces.

    A kernel may load several tiles of a column at once; the format is that of the least tile (:func:`least`), so that
    it does not depend on how many.

    Attributes:
        dtype: the element type.
        layout: of a tile, over the threads of a block; threads that hold the same elements read the same bytes.
        piece: bytes.
        order: of the elements within a group of locals.
        flip: the bits of each code that are flipped in memory, so that bytes of 0 hold the elements of a load beyond
            the array: of codebooks whose code 0 is not that of 0.
    """

    dtype: DType
    layout: RegisterLayout
    piece: int
    order: tuple[int, ...] = ()
    flip: int = 0

    @property
    def tile(self) -> tuple[int, ...]:
        """The extents of a tile."""
        return self.layout.shape

    @property
    def tile_bytes(self) -> int:
        return self.layout.size * self.dtype.packed_bits // 8

    @cached_property
    def bytes(self) -> RegisterLayout:
        """Which byte of a tile each thread holds, and where among its own: a layout of rank 1."""
        return byte_layout(self.layout, self.dtype.packed_bits, self.piece)

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """How many tiles there are along rows and columns of an array, its last two dimensions."""
        rows, columns = (math.ceil(n / t) for n, t in zip(shape[-2:], self.tile, strict=True))
        return rows, columns

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """The bytes that an array takes."""
        return math.prod(shape[:-2]) * math.prod(self.grid(shape)) * self.tile_bytes

    def __str__(self) -> str:
        """As text that :func:`parse_format` reads; equal formats have one text."""
        return json.dumps({"form": FORM, "dtype": self.dtype.name, "layout": str(self.layout), "piece": self.piece,
                           "order": list(self.order), "flip": self.flip})

    def describe(self) -> str:
        """In a few words, for messages."""
        rows, columns = self.tile
        return f"{self.dtype} in tiles of {rows}×{columns} for {self.layout.num_threads} threads ({self.layout})"


def format_for(dtype: DType, layout: RegisterLayout, order: tuple[int, ...] = ()) -> PrepackedFormat:
    """The format with the widest pieces, 16 bytes at most. Raises UserError (E0403) where a thread's elements fill no
    whole bytes."""
    return PrepackedFormat(dtype, layout, pieces_of(layout, dtype.packed_bits), order, zero_code(dtype))


def least(format: PrepackedFormat) -> PrepackedFormat:
    """The format of the least tile of which a number, one below another, lie as the tile of ``format`` does."""
    layout, width = format.layout, format.dtype.packed_bits
    if not layout.local_modes:
        return format
    outer = layout.local_modes[0]
    if outer.dim != 0 or outer.size * outer.stride != layout.shape[0]:
        return format
    for count in range(outer.size, 1, -1):
        if outer.size % count:
            continue
        inner = layout.left_divide(local(count, *(1,) * (layout.rank - 1)))
        own = inner.num_locals * width
        if own % (8 * format.piece) == 0 and inner.num_locals % max(1, len(format.order)) == 0:
            return replace(format, layout=inner)
    return format


WORD_BITS = 32


def word_layout(rows: int, columns: int, lanes: int, depth: int) -> RegisterLayout:
    """A tile for the lanes of a CPU: each has every so many-th element of a row, ``depth`` rows of each at a time."""
    return local(rows // depth, columns // lanes).local(depth, 1).spatial(1, lanes)


def byte_order(bits: int) -> tuple[int, ...]:
    """Where in a word of 32 bits as many elements as fill it are, so that shifts and one mask give bytes of four
    neighbours: of element n, byte ``n % 4`` has it, above those of the elements before."""
    per_byte = 8 // bits
    order = tuple(n % 4 * per_byte + n // 4 for n in range(WORD_BITS // bits))
    return () if bits == 8 else order


def parse_format(text: str) -> PrepackedFormat:
    """The inverse of ``str``. Raises ValueError where the text is no format."""
    from tilus.layouts.parse import parse_layout

    try:
        fields = json.loads(text)
        known = fields.get("form") == FORM
    except (ValueError, AttributeError):
        known = False
    if not known:
        raise ValueError(f"{text[:80]!r} is not the format of a prepacked array")
    layout = parse_layout(fields["layout"])
    assert isinstance(layout, RegisterLayout)
    return PrepackedFormat(parse_dtype(fields["dtype"]), layout, int(fields["piece"]), tuple(fields["order"]),
                           int(fields["flip"]))


def header_of(format: PrepackedFormat, shape: tuple[int, ...]) -> str:
    """Format and extents of an array as text."""
    return json.dumps({"shape": list(shape), "format": json.loads(str(format))})


def parse_header(text: str) -> tuple[PrepackedFormat, tuple[int, ...]]:
    """The inverse of :func:`header_of`. Raises ValueError where the text is no header."""
    try:
        fields = json.loads(text)
        return parse_format(json.dumps(fields["format"])), tuple(int(n) for n in fields["shape"])
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{text[:80]!r} is not the header of a prepacked array") from None


__all__ = ["PrepackedFormat", "byte_order", "format_for", "header_of", "least", "parse_format", "parse_header",
           "word_layout"]
