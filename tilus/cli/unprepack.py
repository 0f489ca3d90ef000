"""``tilus unprepack``: prepacked weights row by row again."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tilus.runtime.packed_array import PackedArray


@click.command("unprepack")
@click.argument("weights", metavar="FILE[:NAME]")
@click.option("--numbers", default=None, metavar="TYPE", help="Write what the elements stand for, as f32 or f64.")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=pathlib.Path),
              help="A .npy file, or a .npz with the other arrays of FILE.")
def command(weights: str, numbers: str | None, output: pathlib.Path) -> None:
    """Put weights of a .npz file of `tilus prepack` back, row by row: integers and floats that NumPy has as arrays,
    packed elements of other types as their bytes.

    \b
    Examples:
      tilus unprepack packed.npz -o bytes.npy
      tilus unprepack packed.npz:w --numbers f32 -o w.npy
    """
    from tilus.cli.weights import ArrayFile, suffixed
    from tilus.runtime.prepacked import unprepack

    suffixed(output, ".npy", ".npz")
    file = ArrayFile(weights, True)
    rows = unprepack(file.prepacked())
    array = _array(rows, numbers)
    file.write(output, array)
    dims = ", ".join(map(str, rows.shape))
    bytes_ = "" if array.shape == rows.shape else f", packed in {array.size} bytes"
    click.echo(f"{file.name}: {numbers or rows.dtype}[{dims}] row by row{bytes_}")
    click.echo(f"wrote {output}")


def _array(rows: PackedArray, numbers: str | None) -> Any:
    from tilus.cli.formats import element_type
    from tilus.runtime.packed import unpack
    from tilus.runtime.packed_array import is_held

    if numbers is not None:
        dtype = element_type(numbers, "--numbers")
        if not is_held(dtype):
            raise click.UsageError(f"--numbers {numbers}: NumPy has no array of it")
        return unpack(rows, dtype.numpy)
    if is_held(rows.dtype) and rows.dtype.numpy.isbuiltin == 1:
        return rows.base.view(rows.dtype.numpy).reshape(rows.shape)
    return rows.base
