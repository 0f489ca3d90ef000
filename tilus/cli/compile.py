"""``tilus compile``: a kernel's cubin, or any stage before it."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import click

from tilus.cli.output import write_output
from tilus.targets import DEFAULT_ROUTE

if TYPE_CHECKING:
    from tilus.runtime.compile import CompiledKernel

STAGES = ("cubin", "ptx", "cuda", "llvm", "thread", "tile", "sass")


@click.command("compile")
@click.argument("kernel", metavar="FILE[:KERNEL]")
@click.option("--target", default="sm_80", show_default=True, help="sm_70 to sm_120a.")
@click.option("--via", default=DEFAULT_ROUTE, show_default=True, type=click.Choice(["cuda", "ptx"]),
              help="Through CUDA C and NVRTC, or through LLVM's PTX and ptxas.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A compile-time parameter.")
@click.option("--assume", default="divisible", show_default=True,
              type=click.Choice(["divisible", "contiguous", "strided"]),
              help="Of the arrays: extents multiples of 16; any extents; any strides but the last.")
@click.option("--emit", default="cubin", show_default=True, type=click.Choice(STAGES), help="The stage to write.")
@click.option("--line-info", is_flag=True, help="Put the lines of the source into the PTX and the cubin.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=pathlib.Path),
              help="Where to; '-' or nothing for standard output (text stages).")
def command(kernel: str, target: str, via: str, settings: tuple[str, ...], assume: str, emit: str, line_info: bool,
            output: pathlib.Path | None) -> None:
    """Compile a kernel for a GPU that need not be there, and show the resources it takes.

    With a cubin come a .json of its signature and a .h that loads and launches it.

    \b
    Examples:
      tilus compile kernels_zoo/gemm/matmul.py:matmul --target sm_80 -o matmul.cubin
      tilus compile kernels_zoo/gemm/matmul.py --set BM=64 --set warps=2 --emit cuda
    """
    from tilus.cli.loading import find_kernel, parse_settings

    found = find_kernel(kernel)
    compiled: CompiledKernel = found.compile(target, via, assume=assume, line_info=line_info,
                                          **parse_settings(settings))
    if emit == "cubin":
        path = output or pathlib.Path(f"{compiled.name}.{compiled.target}.cubin")
        _write_cubin(path, compiled)
    else:
        text = compiled.sass() if emit == "sass" else getattr(compiled, emit)
        if output is None or str(output) == "-":
            click.echo(text.rstrip("\n"))
            return
        write_output(output, text)
        click.echo(f"wrote {output}")
    _show(compiled)


def _write_cubin(path: pathlib.Path, compiled: CompiledKernel) -> None:
    from tilus.runtime.compile import metadata_json
    from tilus.runtime.header import c_header

    write_output(path, compiled.cubin)
    write_output(path.with_suffix(".json"), metadata_json(compiled))
    write_output(path.with_suffix(".h"), c_header(compiled, path.name))
    click.echo(f"wrote {path}, {path.with_suffix('.json')}, {path.with_suffix('.h')}")


def _show(compiled: CompiledKernel) -> None:
    from rich.console import Console
    from rich.table import Table

    m = compiled.metadata
    table = Table(title=f"{compiled.name} on {compiled.target}, via {compiled.via}", title_justify="left")
    for heading in ("registers", "shared", "threads", "spilled", "reloaded", "local", "code"):
        table.add_column(heading, justify="right")
    table.add_row(str(m["registers"]), f"{m['shared_bytes']:,} B", str(m["threads"]),
                  f"{m['spill_stores']} B", f"{m['spill_loads']} B", f"{m['local_bytes']} B",
                  f"{len(compiled.cubin):,} B")
    Console().print(table)
