"""Arguments of a call: what kind of array each is, what may be assumed of it, and whether it fits the parameters."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import Diagnostic, Label, Span, UserError
from tilus.diagnostics.frames import caller_span
from tilus.ir.annotations import ArrayAnnotation
from tilus.ir.core import Parameter
from tilus.ir.dtypes import NAMED, DType
from tilus.ir.strides import WHOLE, contiguous_strides, divisor_of
from tilus.lang.signature import dim_value
from tilus.runtime import arrays
from tilus.runtime.arrays import HOST, ArrayArgument, Refused
from tilus.runtime.recognise import as_array

if TYPE_CHECKING:
    pass  # loaded by the first call on an array, not by a compilation

SMALL_BYTES = 1 << 31
SMALL_EXTENT = 1 << 30
WORD_BYTES = 4
"""What GPUs change single packed elements in."""


def describe_array(name: str, annotation: ArrayAnnotation, constants: dict[str, Any],
                   argument: ArrayArgument) -> Parameter:
    """What a specialisation assumes of an array argument."""
    declared = tuple(dim_value(d, constants) for d in annotation.dims)
    shape, strides = argument.shape, argument.strides
    usual = arrays.contiguous(shape)
    contiguous = argument.is_contiguous
    known: tuple[int | None, ...]
    if contiguous:
        strides, known = usual, contiguous_strides(declared)
    else:
        known = tuple(s if s in (0, 1) else None for s in strides)
    low, high = argument.extent_bytes()
    # Neither bytes nor, of narrower ones, elements are too many to be counted in 32 bits.
    small = (high - low) * 8 < SMALL_BYTES * min(8, argument.dtype.packed_bits) and max(shape, default=0) < SMALL_EXTENT
    bits = argument.dtype.packed_bits
    return Parameter(
        name, "array", annotation.dims, declared, known, contiguous,
        tuple(divisor_of(n, bits) if stride == 1 else _whole(n) for n, stride in zip(shape, strides, strict=True)),
        tuple(divisor_of(stride, bits) for stride in strides), aligned=argument.address % 16 == 0, small=small,
        prepacked=bool(argument.format),
    )


def coarsened(parameter: Parameter) -> Parameter:
    """What kernels assume where they are not the better for what is a multiple of less than 16."""
    return replace(parameter, shape_divisors=tuple(map(_whole, parameter.shape_divisors)),
                   strides_divisors=tuple(map(_whole, parameter.strides_divisors)))


def _whole(number: int) -> int:
    return 1 if number % WHOLE else WHOLE


def take_array(name: str, value: Any, declared: Span | None) -> ArrayArgument | None:
    """The array that an argument is; None where it is none. Raises UserError (E0601) where kernels do not take it."""
    try:
        return as_array(value)
    except TypeError as error:
        help = error.help.format(name=name) if isinstance(error, Refused) and error.help else None
        raise call_error("E0601", f"{name!r}: {error}", help=help, declared=declared) from None


def check_array(name: str, annotation: ArrayAnnotation, argument: ArrayArgument) -> tuple[str, str | None] | None:
    """Why an array does not fit its annotation, if so, and how to mend it."""
    dtype = annotation.dtype
    if argument.dtype is not dtype:
        return f"{name!r} holds {argument.dtype}, but the parameter is {annotation}", _conversion(name, dtype, argument)
    if len(argument.shape) != annotation.rank:
        return f"{name!r} has rank {len(argument.shape)}, but the parameter is {annotation}", None
    if argument.format:
        return None
    size = dtype.itemsize if dtype.packed_bits in (8, 16, 32, 64) else 1 if argument.kind == HOST else WORD_BYTES
    if argument.address % size:
        return (f"{name!r} is misaligned: its address is no multiple of {size} bytes",
                f"pass a copy: `{name}.{'clone' if is_torch(argument.owner) else 'copy'}()`")
    return None


def _conversion(name: str, dtype: DType, argument: ArrayArgument) -> str | None:
    """How to convert an array to an element type."""
    written = f"tl.{dtype}" if dtype in NAMED else "dtype"
    nothing = (f"pass numbers as `tl.pack({name}, {written})`, bytes with packed elements as "
               f"`tl.packed({name}, {written}, shape)`")
    if _numpy_name(dtype) is None:
        return nothing
    if argument.is_packed:
        return f"convert it: `tl.unpack({name}, {_numpy_name(dtype)})`"
    if is_torch(argument.owner):
        from tilus.runtime.torch_arrays import torch_name

        known = torch_name(dtype)
        return f"convert it: `{name}.to(torch.{known})`" if known else nothing
    return f"convert it: `{name}.astype({_numpy_name(dtype)})`" if argument.kind == HOST else None


def is_torch(owner: Any) -> bool:
    """Whether it is a tensor of torch, which has then been imported by whoever made it."""
    return is_torch_class(type(owner))


def is_torch_class(kind: type) -> bool:
    """Whether it is a class of torch's tensors."""
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(kind, getattr(torch, "Tensor", ()))


def _numpy_name(dtype: DType) -> str | None:
    try:
        name = dtype.numpy.name
    except TypeError:
        return None
    return f"ml_dtypes.{name}" if dtype.name == "bf16" or dtype.name.startswith("f8") else f"np.{name}"


def check_written(name: str, given: Mapping[str, ArrayArgument], may_alias: Collection[str],
                  declared: Span | None) -> None:
    """That an array which is written can be, and shares no memory with another one, nor within itself, unless
    ``may_alias`` names them. Raises UserError (E0303, E0603)."""
    array = given[name]
    if not array.writable:
        raise call_error("E0303", f"{name!r} is read-only, but the kernel writes it", declared=declared,
                         help=f"pass an array that can be written: `{name}.copy()`")
    if name not in may_alias and arrays.overlaps_itself(array.shape, array.strides):
        raise call_error("E0603", f"{name!r} is written, and some of its elements are one in memory", declared=declared,
                         help=f"pass a copy, or declare `tl.may_alias({name})` in the kernel")
    for other, second in given.items():
        if other != name and not (name in may_alias and other in may_alias) and arrays.overlap(array, second):
            raise call_error("E0603", f"{name!r} is written and overlaps {other!r}", declared=declared,
                             help=f"pass a copy, or declare `tl.may_alias({name}, {other})` in the kernel")


def mark_written(written: Sequence[ArrayArgument]) -> None:
    """Tell the libraries that keep track of it that arrays have been changed."""
    for argument in written:
        if is_torch(argument.owner):
            from tilus.runtime.torch_arrays import mark_written

            mark_written(argument.owner)


def check_dims(arrays: Sequence[tuple[str, ArrayAnnotation, ArrayArgument]], constants: dict[str, Any]) -> str | None:
    """Which named dimensions do not agree, if any."""
    seen: dict[str, tuple[int, str]] = {
        n: (v, f"{n}={v}") for n, v in constants.items() if isinstance(v, int) and not isinstance(v, bool)
    }
    expressions = []
    for name, annotation, argument in arrays:
        for axis, (dim, extent) in enumerate(zip(annotation.dims, argument.shape, strict=True)):
            place = f"{name}.shape[{axis}] = {extent}"
            if isinstance(dim, int):
                if extent != dim:
                    return f"{place}, but the parameter is {annotation}"
            elif dim.isidentifier():
                before = seen.setdefault(dim, (extent, place))
                if before[0] != extent:
                    return f"dimension {dim!r} has two values: {before[1]} and {place}"
            else:
                expressions.append((dim, extent, place))
    names = {n: v for n, (v, _) in seen.items()}
    for dim, extent, place in expressions:
        expected = dim_value(dim, names)
        if expected is None:
            return f"dimension {dim!r} cannot be computed from the other dimensions"
        if expected != extent:
            return f"dimension {dim!r} is {expected}, but {place}"
    return None


def call_error(code: str, message: str, *, help: str | None = None, declared: Span | None = None,
               note: str = "declared here") -> UserError:
    """An error at the user's call, with the parameter's declaration."""
    labels = []
    span = caller_span()
    if span is not None:
        labels.append(Label(span))
    if declared is not None and declared.known:
        labels.append(Label(declared, note))
    return UserError(Diagnostic(code, message, tuple(labels), help))
