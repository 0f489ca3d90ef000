"""``tilus prepack``: weights in the order in which a kernel reads them."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import click

from tilus.diagnostics import UserError

if TYPE_CHECKING:
    from tilus.cli.weights import ArrayFile
    from tilus.runtime.prepacked_array import PrepackedArray


@click.command("prepack")
@click.argument("weights", metavar="FILE[:NAME]")
@click.option("--for", "kernel", required=True, metavar="KERNEL",
              help="FILE.py[:KERNEL]; or what says a format: the .json beside a cubin (FILE.json:PARAMETER), a .npz of "
                   "this command, or the text itself.")
@click.option("--parameter", default=None, metavar="NAME", help="Of the kernel, where several could be meant.")
@click.option("--target", default="sm_80", show_default=True, help="What the kernel runs on: sm_70 to sm_120a, or cpu.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A compile-time parameter of the kernel.")
@click.option("--type", "type_", default=None, metavar="TYPE",
              help="The element type (u4, f6e3m2, nf4): numbers become it as by tl.pack. By default the file's own.")
@click.option("--shape", default=None, metavar="KxN",
              help="The file has the bytes of packed elements of --type, of these extents.")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=pathlib.Path),
              help="A .npz file: the bytes, their header as NAME.header, and the other arrays of FILE.")
def command(weights: str, kernel: str, parameter: str | None, target: str, settings: tuple[str, ...], type_: str | None,
            shape: str | None, output: pathlib.Path) -> None:
    """Put the weights of a .npy or .npz file into the order in which a kernel reads them (tl.prepack).

    tl.prepacked(file["NAME"], str(file["NAME.header"])) is the array again; `tilus layout --prepacked FILE` shows the
    order.

    \b
    Examples:
      tilus prepack w.npy --type u4 --for kernel.py:product --set BK=64 -o packed.npz
      tilus prepack quantised.npz:w --type u4 --shape 4096x11008 --for product.json:w -o packed.npz
    """
    from tilus.cli.weights import ArrayFile, suffixed

    suffixed(output, ".npz")
    file = ArrayFile(weights, False)
    given = _elements(file, type_, shape)
    made = _prepacked(given, kernel, parameter, target, settings)
    file.write(output, made.bytes, made.header)
    click.echo(f"{file.name}: {made}")
    click.echo(f"wrote {output}")


def _elements(file: ArrayFile, type_: str | None, shape: str | None) -> Any:
    """The weights as packed elements, or as the array itself."""
    from tilus.cli.formats import element_type
    from tilus.cli.loading import parse_extents
    from tilus.runtime.packed import pack, packed

    if type_ is None:
        if shape is not None:
            raise click.UsageError("--shape is of packed elements: say their --type")
        return file.array
    dtype = element_type(type_, "--type")
    try:
        return pack(file.array, dtype) if shape is None else packed(file.array, dtype, parse_extents(shape))
    except (TypeError, ValueError) as error:
        raise UserError.at("E0804", f"{file.name!r} of {str(file.path)!r}: {error}") from None


def _prepacked(weights: Any, kernel: str, parameter: str | None, target: str,
               settings: tuple[str, ...]) -> PrepackedArray:
    from tilus.cli.formats import find_format, split_file
    from tilus.cli.loading import find_kernel, parse_settings
    from tilus.runtime.prepacked import prepack

    place = split_file(kernel)
    format = None if place is not None and place[0].suffix == ".py" else find_format(kernel)
    if format is not None:
        if parameter or settings:
            raise click.UsageError("--parameter and --set are of kernels: a format says all")
        return prepack(weights, format=format)
    return prepack(weights, find_kernel(kernel), parameter=parameter, target=target, **parse_settings(settings))
