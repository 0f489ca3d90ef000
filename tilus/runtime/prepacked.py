"""``tl.prepack``, ``tl.unprepack`` and ``tl.prepacked``: weights in the order in which a kernel wants to read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tilus.diagnostics.entry import public_function
from tilus.ir.prepacked import PrepackedFormat, format_for, parse_format, parse_header
from tilus.runtime.arguments import call_error
from tilus.runtime.arrays import HOST, ArrayArgument
from tilus.runtime.packed_array import PackedArray
from tilus.runtime.prepacked_array import PrepackedArray, over_bytes

if TYPE_CHECKING:

    from tilus.layouts import RegisterLayout
    from tilus.runtime.jit import JitFunction


@public_function
def prepack(weights: Any, /, for_: Any = None, *, parameter: str | None = None,
            target: str | None = None, layout: RegisterLayout | None = None,
            format: str | PrepackedFormat | None = None, **constants: Any) -> PrepackedArray:
    """Put weights into the order in which a kernel reads them: each thread's elements of a tile side by side, so that
    it reads 128 bits at once, and as the shortest conversion in registers wants to have them.

    The kernel is compiled as far as it takes to know that order. It is written as for an array that lies row by row: it
    loads tiles of one shape, at multiples of that shape. It then runs with the array that this gives.

    Args:
        weights: a packed array, what ``tl.quantize`` gives (its codes), or a NumPy array of a type of whole bytes, in
            host memory, of rank 2 or more. The last two dimensions are cut into tiles; zeros fill up those at the end.
        for_: the kernel. Of an autotuned one the variant with the given ``constants``; what a search has found is given
            by ``**result.variant``.
        parameter: which of its parameters the weights are for, if several could be.
        target: the target that it runs on (``"sm_80"``, ``"cpu"``); by default that of the engine which a call would
            take.
        layout: instead of ``for_``, the layout of a tile among the threads: such as a kernel gives to ``tl.view``.
        format: instead of ``for_``, the ``format`` of another array, or its text: such as the C header of a compiled
            kernel has it.
        constants: the kernel's compile-time parameters, as in ``kernel.compile``.

    Raises:
        UserError: E0305 where the kernel does not read the parameter as a prepacked array can be read, E0601 and E0604
            where arguments do not fit, and the errors of compiling the kernel.
    """
    array = _weights(weights)
    if sum(given is not None for given in (for_, layout, format)) != 1:
        raise call_error("E0604", "tl.prepack takes either the kernel, for_=, or a layout= or format=")
    if for_ is not None:
        format = _format_of(for_, array, parameter, target, constants)
    elif layout is not None:
        format = format_for(array.dtype, layout)
    else:
        assert format is not None
        format = _given_format(format, array)
    if len(array.shape) < 2 or len(format.tile) != 2:
        raise call_error("E0601", f"weights of rank {len(array.shape)} in tiles of rank {len(format.tile)}: prepacked "
                                  "arrays have tiles of rank 2 in their last two dimensions")
    from tilus.runtime.prepacking import prepacked_bytes

    return over_bytes(prepacked_bytes(array, format), format, array.shape)


@public_function
def unprepack(array: PrepackedArray) -> PackedArray:
    """A prepacked array in host memory as a packed one, row by row, with the same elements; over new memory.

    Raises:
        TypeError: it is not prepacked, or not in host memory.
    """
    if not isinstance(array, PrepackedArray):
        raise TypeError(f"tl.unprepack takes a prepacked array, not {type(array).__name__}")
    from tilus.runtime.packed import packed
    from tilus.runtime.prepacking import row_major_bytes

    return packed(row_major_bytes(array.bytes, array.format, array.shape), array.dtype, array.shape)


@public_function
def prepacked(bytes_like: Any, header: str) -> PrepackedArray:
    """Bytes as the prepacked array that ``header`` describes, such as they have been read from a file or moved to a
    GPU. Nothing is copied.

    Args:
        bytes_like: contiguous memory, as ``tl.packed`` takes.
        header: the ``header`` of the array that the bytes are from.

    Raises:
        TypeError: it is no array or buffer, or not contiguous.
        ValueError: the header is none, or there is another number of bytes.
    """
    return over_bytes(bytes_like, *parse_header(header))


def _given_format(format: str | PrepackedFormat, array: ArrayArgument) -> PrepackedFormat:
    if isinstance(format, str):
        try:
            format = parse_format(format)
        except ValueError as error:
            raise call_error("E0601", f"format={error}") from None
    if format.dtype is not array.dtype:
        raise call_error("E0601", f"the format is one of {format.dtype}, and the weights are {array.dtype}")
    return format


def _weights(weights: Any) -> ArrayArgument:
    from tilus.runtime.recognise import as_array

    if isinstance(weights, PrepackedArray):
        raise call_error("E0601", "the weights are prepacked already", help="tl.unprepack gives them row by row")
    codes = getattr(weights, "values", None)
    if isinstance(codes, PackedArray):  # what tl.quantize gives
        weights = codes
    found = as_array(weights)
    if found is None or found.kind != HOST or found.array is None:
        raise call_error("E0601", "tl.prepack takes a packed array or a NumPy array in host memory",
                         help="pack numbers by `tl.pack(weights, dtype)`, or quantise them by `tl.quantize`")
    if found.dtype.is_bool:
        raise call_error("E0601", "tl.prepack does not take bool", help="pack it: `tl.pack(weights, tl.u1)`")
    return found


def _format_of(kernel: JitFunction, array: ArrayArgument, parameter: str | None, target: str | None,
               constants: Mapping[str, Any]) -> PrepackedFormat:
    """The format that a kernel chooses for a parameter."""
    from tilus.runtime.jit import JitFunction

    if not isinstance(getattr(kernel, "kernel", kernel), JitFunction):  # an autotuned one has the one that it tunes
        raise call_error("E0601", f"for_= is a kernel of @tl.jit, not {type(kernel).__name__}")
    name = parameter or _parameter_for(kernel, array, constants)
    found = kernel.formats(target, {name: array.dtype}, dict(constants))
    if name not in found:
        raise call_error("E0305", f"{kernel.__name__} loads no tiles of {name!r}")
    return parse_format(found[name])


def _parameter_for(kernel: JitFunction, array: ArrayArgument, constants: Mapping[str, Any]) -> str:
    """The one array parameter of the element type and rank of the weights."""
    names = kernel.array_parameters(array.dtype, len(array.shape), dict(constants))
    if len(names) != 1:
        found = f"several of {array.dtype}: {', '.join(names)}" if names else f"none of {array.dtype}"
        raise call_error("E0604", f"{kernel.__name__} has not one array parameter for the weights, but {found}",
                         help="say which: tl.prepack(weights, for_=kernel, parameter=\"w\")")
    return names[0]


__all__ = ["PrepackedArray", "prepack", "prepacked", "unprepack"]
