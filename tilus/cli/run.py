"""``tilus run``: a file's ``main()``."""

from __future__ import annotations

import contextlib
import pathlib
import sys

import click


@click.command("run", context_settings={"ignore_unknown_options": True})
@click.argument("file", type=click.Path(path_type=pathlib.Path))
@click.option("--engine", default=None, metavar="ENGINE",
              help="Where kernels run: cpu, interpret, python, cuda, simulate:sm_80[:cuda|:ptx], ascend910b.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(file: pathlib.Path, engine: str | None, arguments: tuple[str, ...]) -> None:
    """Run the main() of FILE, which finds ARGUMENTS in sys.argv.

    \b
    Examples:
      tilus run kernels_zoo/gemm/matmul.py
      tilus run kernels_zoo/elementwise/vector_add.py --engine simulate:sm_80
    """
    from tilus.cli.loading import load_file
    from tilus.diagnostics import UserError
    from tilus.runtime.jit import engine as use_engine

    module = load_file(file)
    main = getattr(module, "main", None)
    if not callable(main):
        raise UserError.at("E0804", f"{file} has no main()", help="define `def main():` that calls the kernels")
    sys.argv = [str(file), *arguments]
    with use_engine(engine) if engine else contextlib.nullcontext():
        main()
