"""Convolutions of whole arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilus.lang.context import current
from tilus.lang.values import Tile, fail

Numbers = int | Sequence[int]


def convolution(x: Tile, w: Tile, bias: Tile | None = None, *, stride: Numbers = 1,
                padding: int | Sequence[int | tuple[int, int]] = 0, dilation: Numbers = 1, groups: int = 1,
                transposed: bool = False, output_padding: Numbers = 0) -> Tile:
    """The convolution of whole arrays, in a fused function: images ``x`` of shape (n, channels, …) with one to three
    dimensions behind, weights ``w`` of shape (channels of the result, channels / groups, …), a ``bias`` for each
    channel of the result. ``stride``, ``dilation`` and ``padding`` (zeros before and behind, or a pair) are numbers for
    all dimensions of the image or one for each. Weights are not turned, as everywhere in deep learning.

    ``transposed`` gives images whose convolution has the shape of ``x`` (its gradient): ``w`` is of shape (channels,
    channels of the result / groups, …), and ``output_padding`` is added to the extents of the result.

    Operands are floats of one type after promotion; products are summed in f32 (f64 for f64). Raises UserError (E0107,
    E0201, E0202) for other shapes, types and numbers.
    """
    if current().level != "array":
        raise fail("E0115", "tl.convolution is for whole arrays, in a function of @tl.fuse",
                   help="in a kernel: loads or gathers at the indices of windows, and tl.dot")
    from tilus.lang import array_convolutions as arrays
    from tilus.lang import transposed_convolutions
    from tilus.lang.array_sizes import combined

    x, w, bias = _operands(x, w, bias)
    rank = len(x.shape) - 2
    strides, dilations, more = (_each(rank, numbers, what, least) for numbers, what, least in (
        (stride, "stride", 1), (dilation, "dilation", 1), (output_padding, "output_padding", 0)))
    pads = _pads(rank, padding)
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise fail("E0107", f"groups of a convolution are a positive number, not {groups!r}")
    if any(more) and not transposed:
        raise fail("E0107", "output_padding is for transposed convolutions")
    _check_channels(x, w, bias, groups, transposed)
    sizes = w.shape[2:]
    given = zip(x.shape[2:], sizes, strides, pads, dilations, more, strict=True)
    out = tuple(arrays.transposed_extent(n, k, s, p, d, e) if transposed else arrays.convolved_extent(n, k, s, p, d)
                for n, k, s, p, d, e in given)
    channels = combined("mul", w.shape[1], groups) if transposed else w.shape[0]
    geometry = arrays.Geometry(sizes, strides, tuple(low for low, _ in pads), dilations, channels, out, groups)
    function = transposed_convolutions.transposed if transposed else arrays.convolved
    found: Tile = function(x, w, bias, geometry)
    return found


def _operands(x: Any, w: Any, bias: Any) -> tuple[Tile, Tile, Tile | None]:
    from tilus.lang.array_operations import of_one_type

    for operand, name in ((x, "image"), (w, "weights"), *([] if bias is None else [(bias, "bias")])):
        if not isinstance(operand, Tile):
            raise fail("E0201", f"the {name} of a convolution: an array, not a Python {type(operand).__name__}")
    if len(x.shape) not in (3, 4, 5) or len(w.shape) != len(x.shape):
        raise fail("E0202", f"a convolution of images of shape {x.shape} by weights of shape {w.shape}",
                   help="both have two dimensions for images and channels, and one to three behind")
    x, w = of_one_type(x, w, "a convolution")
    if not x.dtype.is_float:
        raise fail("E0201", f"a convolution of {x.dtype}", help="convert the operands to a type of floats with `.to`")
    return x, w, bias


def _each(rank: int, given: Any, what: str, least: int) -> tuple[int, ...]:
    found = tuple(given) if isinstance(given, (tuple, list)) else (given,) * rank
    if len(found) != rank or any(isinstance(n, bool) or not isinstance(n, int) or n < least for n in found):
        raise fail("E0107", f"{what} of a convolution is {given!r}, not a number from {least} on for each of {rank} "
                            f"dimension{'s' if rank > 1 else ''}")
    return found


def _pads(rank: int, given: Any) -> tuple[tuple[int, int], ...]:
    found = list(given) if isinstance(given, (tuple, list)) else [given] * rank
    pairs = [tuple(p) if isinstance(p, (tuple, list)) else (p, p) for p in found]
    if len(pairs) != rank or any(len(p) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in p)
                                 for p in pairs):
        raise fail("E0107", f"padding of a convolution is {given!r}, not a number from 0 on, or a pair of them, for "
                            f"each of {rank} dimension{'s' if rank > 1 else ''}")
    return tuple((p[0], p[1]) for p in pairs)


def _check_channels(x: Tile, w: Tile, bias: Tile | None, groups: int, transposed: bool) -> None:
    """That the channels of images, weights and groups fit together, as far as they are known."""
    ours, rows, columns = x.shape[1], w.shape[0], w.shape[1]
    expected = rows if transposed else columns * groups if isinstance(columns, int) else columns
    if isinstance(ours, int) and isinstance(expected, int) and ours != expected:
        raise fail("E0202", f"images of {ours} channels, but weights for {expected}")
    if isinstance(rows, int) and rows % groups:
        raise fail("E0202", f"{rows} channels are not {groups} groups of like size")
    results = columns * groups if transposed and isinstance(columns, int) else None if transposed else rows
    if bias is not None and (len(bias.shape) != 1 or (isinstance(results, int) and isinstance(bias.shape[0], int)
                                                      and bias.shape[0] not in (results,))):
        raise fail("E0202", f"a bias of shape {bias.shape} for {results} channels")


__all__ = ["convolution"]
