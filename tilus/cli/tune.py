"""``tilus tune``: the best variant of an autotuned kernel for given extents."""

from __future__ import annotations

import json
import pathlib

import click

from tilus.diagnostics import UserError


@click.command("tune")
@click.argument("kernel", metavar="FILE[:KERNEL]", required=False)
@click.option("--shape", "shapes", multiple=True, metavar="NAME=EXTENT", help="The extent of a dimension.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE",
              help="A scalar, a compile-time parameter that is not to be chosen, the element type of an array "
                   "(a=bf16), or the type of an array without annotation (x=f32[128,64]).")
@click.option("--target", default=None, metavar="TARGET",
              help="What to measure on: cpu (the default), this-gpu; or what to ask a model about: sm_80.")
@click.option("--budget", default="60", show_default=True, metavar="SECONDS", help="How long to search at most.")
@click.option("--executor", default=None, metavar="dask://HOST:PORT",
              help="A cluster of Dask that compiles the variants; by default processes of this machine do.")
@click.option("--reset", multiple=True, metavar="NAME", help="An array that is set to zero before each run.")
@click.option("--strategy", default="halving", show_default=True, type=click.Choice(["halving", "guided"]),
              help="Try all variants or some by chance, or go by proposals of Optuna.")
@click.option("--fresh", is_flag=True, help="Measure all variants, also those that were measured in the last day.")
@click.option("--export", "exported", type=click.Path(dir_okay=False, path_type=pathlib.Path),
              help="Write all stored results as JSON; '-' for standard output.")
@click.option("--import", "imported", type=click.Path(dir_okay=False, path_type=pathlib.Path),
              help="Add results that --export has written, before anything else.")
def command(kernel: str | None, shapes: tuple[str, ...], settings: tuple[str, ...], target: str | None, budget: str,
            executor: str | None, reset: tuple[str, ...], fresh: bool, strategy: str,
            exported: pathlib.Path | None, imported: pathlib.Path | None) -> None:
    """Find the best variant of an autotuned kernel, on random arrays of the types that it declares, and store it:
    calls with such arrays have it from then on. Ctrl-C ends the search with what is known.

    \b
    Examples:
      tilus tune kernel.py:matmul --shape M=4096 --shape N=4096 --shape K=1024 --budget 60
      tilus tune kernel.py --shape N=1000000 --set x=bf16
      tilus tune --export results.json
    """
    if kernel is None and exported is None and imported is None:
        raise UserError.at("E0804", "there is nothing to do",
                           help="name a kernel: tilus tune FILE:KERNEL --shape M=4096")
    if imported is not None:
        _import(imported)
    if kernel is not None:
        _tune(kernel, shapes, settings, target, _seconds(budget), executor, reset, fresh, strategy)
    if exported is not None:
        from tilus.cli.output import write_output
        from tilus.tuning.store import default_store

        write_output(exported, json.dumps(default_store().export(), indent=1) + "\n")


def _tune(kernel: str, shapes: tuple[str, ...], settings: tuple[str, ...], target: str | None, budget: float,
          executor: str | None, reset: tuple[str, ...], fresh: bool,
          strategy: str) -> None:
    from tilus.cli.calls import call_of
    from tilus.cli.loading import find_kernel
    from tilus.runtime.arrays import CUDA
    from tilus.tuning.arguments import on_gpu
    from tilus.tuning.autotune import AutotunedFunction
    from tilus.tuning.tune import THIS_GPU, check_gpu

    function = find_kernel(kernel)
    if not isinstance(function, AutotunedFunction):
        raise UserError.at("E1108", f"{function.__name__} has no space of variants",
                           help="write @tl.autotune(BM=[64, 128], …) above its decorator")
    leading, arguments = call_of(function, shapes, settings)
    if target is not None and (target == THIS_GPU or target.split(":")[0] == CUDA):
        check_gpu(None)
        leading, arguments = [*map(on_gpu, leading)], {name: on_gpu(value) for name, value in arguments.items()}
    click.echo(str(function.tune(*leading, budget=budget, target=target, executor=executor, reset=reset,
                                 fresh=fresh, strategy=strategy, **arguments)))


def _seconds(text: str) -> float:
    try:
        return float(text.removesuffix("s"))
    except ValueError:
        raise UserError.at("E0804", f"--budget takes seconds, not {text!r}", help="--budget 60") from None


def _import(path: pathlib.Path) -> None:
    from tilus.tuning.store import default_store

    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError.at("E0804", f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError:
        data = None
    click.echo(f"{default_store().add(data, str(path))} results of {path}")
