"""``tilus compile``: a kernel's cubin, or any stage before it."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import click

from tilus.cli.output import is_standard_output, write_output
from tilus.diagnostics import UserError
from tilus.targets import DEFAULT_ROUTE

if TYPE_CHECKING:
    from tilus.runtime.compile import CompiledKernel

STAGES = ("cubin", "ptx", "cuda", "llvm", "thread", "tile", "sass", "asm")


@click.command("compile")
@click.argument("kernel", metavar="FILE[:KERNEL]")
@click.option("--target", default="sm_80", show_default=True, help="sm_70 to sm_120a, or cpu.")
@click.option("--via", default=DEFAULT_ROUTE, show_default=True, type=click.Choice(["cuda", "ptx"]),
              help="Through CUDA C and NVRTC, or through LLVM's PTX and ptxas.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A compile-time parameter.")
@click.option("--assume", default="divisible", show_default=True,
              type=click.Choice(["divisible", "contiguous", "strided"]),
              help="Of the arrays: extents multiples of 16; any extents; any strides but the last.")
@click.option("--emit", default=None, type=click.Choice(STAGES),
              help="The stage to write: cubin by default; for the target cpu tile, thread, llvm or asm (the default).")
@click.option("--line-info", is_flag=True, help="Put the lines of the source into the PTX and the cubin.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=pathlib.Path),
              help="Where to; '-' for standard output, as nothing is for text.")
def command(kernel: str, target: str, via: str, settings: tuple[str, ...], assume: str, emit: str | None,
            line_info: bool, output: pathlib.Path | None) -> None:
    """Compile a kernel for a GPU that need not be there, and show the resources it takes.

    With a cubin come a .json of its signature and a .h that loads and launches it; its launch function checks what
    the cubin assumes of the arrays (--assume) and gives CUDA_ERROR_INVALID_VALUE for others.

    \b
    Examples:
      tilus compile kernels_zoo/gemm/matmul.py:matmul --target sm_80 -o matmul.cubin
      tilus compile kernels_zoo/gemm/matmul.py --set BM=64 --set warps=2 --emit cuda
    """
    from tilus.cli.loading import find_kernel, parse_settings

    found = find_kernel(kernel)
    known = parse_settings(settings)
    if target == "cpu":
        _write_text(_cpu_text(found, assume, known, emit or "asm"), output)
        return
    if emit == "asm":
        raise UserError.at("E0804", "the stage 'asm' is of the target cpu", help="--emit sass, or --target cpu")
    compiled: CompiledKernel = found.compile(target, via, assume=assume, line_info=line_info, **known)
    if emit is None or emit == "cubin":
        if output is not None and is_standard_output(output):
            write_output(output, compiled.cubin)
            return
        _write_cubin(output or pathlib.Path(f"{compiled.name}.{compiled.target}.cubin"), compiled)
    else:
        _write_text(compiled.sass() if emit == "sass" else getattr(compiled, emit), output)
        if output is None or is_standard_output(output):
            return
    _show(compiled)


def _cpu_text(found: Any, assume: str, known: dict[str, Any], stage: str) -> str:
    from tilus.runtime.cpu.stages import STAGES as CPU_STAGES
    from tilus.runtime.cpu.stages import stage_text
    from tilus.runtime.fuse import FusedFunction

    if stage not in CPU_STAGES:
        raise UserError.at("E0804", f"the target cpu has no stage {stage!r}", help=f"--emit {', '.join(CPU_STAGES)}")
    if isinstance(found, FusedFunction):
        return stage_text(found.program("cpu", known).kernel.assume(assume, {}), stage)
    return stage_text(found.assume(assume, known), stage)


def _write_text(text: str, output: pathlib.Path | None) -> None:
    if output is None:
        click.echo(text.rstrip("\n"))
        return
    write_output(output, text)
    if not is_standard_output(output):
        click.echo(f"wrote {output}")


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
