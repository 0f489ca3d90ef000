"""``tilus compile``: a kernel's cubin or object file, or any stage before it."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import click

from tilus.cli.output import is_standard_output, write_output
from tilus.diagnostics import UserError

if TYPE_CHECKING:
    from tilus.runtime.compile import Compiled


@click.command("compile")
@click.argument("kernel", metavar="FILE[:KERNEL]")
@click.option("--target", default="sm_80", show_default=True, help="sm_70 to sm_120a, ascend910b, or cpu.")
@click.option("--via", default=None, metavar="ROUTE",
              help="For GPUs ptx (the default: LLVM's PTX and ptxas) or cuda (CUDA C and NVRTC).")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A compile-time parameter.")
@click.option("--prepacked", multiple=True, metavar="NAME",
              help="An array whose elements lie in the order of `tilus prepack`; may be repeated.")
@click.option("--assume", default="divisible", show_default=True,
              type=click.Choice(["divisible", "contiguous", "strided"]),
              help="Of the arrays: extents multiples of 16; any extents; any strides but the last.")
@click.option("--emit", default=None, metavar="STAGE",
              help="The stage to write: tile, thread, llvm, cuda, ptx, sass or cubin (the default); for the target cpu "
                   "tile, thread, llvm, object or asm (the default); for ascend910b tile, thread or ascendc (the "
                   "default).")
@click.option("--cpu", default=None, metavar="NAME",
              help="For the target cpu, the processor as clang -mcpu has it: x86-64-v3, znver4, neoverse-n1; aarch64 "
                   "for the least one of that architecture; native, this machine's, by default.")
@click.option("--triple", default=None, metavar="TRIPLE",
              help="For the target cpu, architecture, vendor and system: aarch64-unknown-linux-gnu.")
@click.option("--name", "symbol", default=None, metavar="NAME",
              help="What the names in an object file and its header begin with; the kernel's name by default.")
@click.option("--line-info", is_flag=True, help="Put the lines of the source into the PTX and the cubin.")
@click.option("-o", "--output", type=click.Path(path_type=pathlib.Path),
              help="Where to; '-' for standard output, as nothing is for text. For Ascend C a folder (a name without "
                   "an ending) gets a project.")
def command(kernel: str, target: str, via: str | None, settings: tuple[str, ...],
            prepacked: tuple[str, ...], assume: str, emit: str | None, cpu: str | None, triple: str | None,
            symbol: str | None, line_info: bool, output: pathlib.Path | None) -> None:
    """Compile a kernel for a GPU or a processor that need not be there, and show the resources it takes.

    With a cubin come a .json of its signature and a .h that loads and launches it; its launch function checks what
    the cubin assumes of the arrays (--assume) and gives CUDA_ERROR_INVALID_VALUE for others. Both say in which format
    the kernel reads prepacked arrays.

    With an object file (--target cpu --emit object) comes a .h that checks its arguments and calls it from C, on the
    calling thread or on threads that the program has; --cpu names another processor than this machine's.

    For ascend910b, -o FOLDER writes Ascend C, a .h that checks arguments and launches it through AscendCL, an example,
    CMakeLists.txt and README.md; -o FILE.cpp the kernels alone.

    \b
    Examples:
      tilus compile kernels_zoo/gemm/matmul.py:matmul --target sm_80 -o matmul.cubin
      tilus compile kernels_zoo/gemm/matmul.py --set BM=64 --set warps=2 --emit cuda
      tilus compile kernel.py:product --prepacked w -o product.cubin
      tilus compile kernel.py:product --target cpu --cpu x86-64-v3 --emit object -o product.o
      tilus compile kernels_zoo/gemm/matmul.py:matmul --target ascend910b --emit ascendc -o matmul
    """
    from tilus.backends import backend_of
    from tilus.cli.loading import find_kernel, parse_settings
    from tilus.runtime.compile import no_stage
    from tilus.runtime.fuse import FusedFunction
    from tilus.targets import get_target

    found = find_kernel(kernel)
    record = get_target(target)
    backend = backend_of(record)
    stage = emit or backend.emitted
    if stage not in backend.stages:
        raise no_stage(backend, record, stage)
    if prepacked and isinstance(found, FusedFunction):
        raise UserError.at("E0804", f"--prepacked: {found.__name__} is a fused function, whose arrays lie row by row")
    options = {"prepacked": prepacked, "cpu": cpu, "triple": triple, "symbol": symbol}
    given = {name: value for name, value in options.items() if value}
    compiled: Compiled = found.compile(target, via, assume=assume, line_info=line_info, **given,
                                       **parse_settings(settings))
    if output is not None and _is_folder(output) and stage == backend.emitted and compiled.has_project:
        click.echo(f"wrote {', '.join(map(str, compiled.save(output)))}")
        _show(compiled)
        return
    if output is not None and output.is_dir():
        raise UserError.at("E0804", f"-o: {output} is a folder, and {stage} for {target} is a file")
    made = compiled.stage(stage)
    if isinstance(made, bytes):
        if output is not None and is_standard_output(output):
            write_output(output, made)
            return
        _write_code(output or _default_path(compiled, stage), made, compiled)
    else:
        _write_text(made, output)
        if output is None or is_standard_output(output):
            return
    _show(compiled)


def _is_folder(path: pathlib.Path) -> bool:
    return path.is_dir() or not (path.suffix or path.exists() or is_standard_output(path))


def _default_path(compiled: Compiled, stage: str) -> pathlib.Path:
    return pathlib.Path(f"{compiled.name}.o" if stage == "object" else f"{compiled.name}.{compiled.target}.{stage}")


def _write_text(text: str, output: pathlib.Path | None) -> None:
    if output is None:
        click.echo(text.rstrip("\n"))
        return
    write_output(output, text)
    if not is_standard_output(output):
        click.echo(f"wrote {output}")


def _write_code(path: pathlib.Path, code: bytes, compiled: Compiled) -> None:
    files = {path: code, **{path.with_suffix(end): data for end, data in compiled.files(path.name).items()}}
    for file, data in files.items():
        write_output(file, data)
    click.echo(f"wrote {', '.join(map(str, files))}")


def _show(compiled: Compiled) -> None:
    from rich.console import Console
    from rich.table import Table

    resources = compiled.resources()
    if not resources:
        return
    table = Table(title=f"{compiled.name} on {compiled.target}, via {compiled.via}", title_justify="left")
    for heading in resources:
        table.add_column(heading, justify="right")
    table.add_row(*resources.values())
    Console().print(table)
