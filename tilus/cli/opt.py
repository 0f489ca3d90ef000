"""``tilus opt``: passes over textual IR."""

from __future__ import annotations

import pathlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tilus.cli.output import write_output
from tilus.diagnostics import UserError

if TYPE_CHECKING:
    from tilus.lowering.pipelines import Pipeline


@click.command("opt")
@click.argument("file", required=False, type=click.Path(path_type=pathlib.Path, allow_dash=True))
@click.option("--passes", default="", metavar="A,B", help="Passes by name, in order; --list names them.")
@click.option("--target", default="", help="The target, where the module names none.")
@click.option("--lower", is_flag=True, help="All passes of the target that remain, to a thread-level module.")
@click.option("--dump", is_flag=True, help="Print the module after every pass, to standard error.")
@click.option("--time", "timed", is_flag=True, help="Print how long each pass took, to standard error.")
@click.option("--locations", is_flag=True, help="Print the place in the source of every operation.")
@click.option("--no-verify", is_flag=True, help="Do not verify the module before and after every pass.")
@click.option("--list", "listed", is_flag=True, help="List the passes and exit.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=pathlib.Path))
def command(file: pathlib.Path | None, passes: str, target: str, lower: bool, dump: bool, timed: bool, locations: bool,
            no_verify: bool, listed: bool, output: pathlib.Path | None) -> None:
    """Read a module from FILE ('-': standard input), run passes over it, and print it.

    \b
    Examples:
      tilus compile kernels_zoo/gemm/matmul.py --emit tile | tilus opt - --passes simplify
      tilus opt matmul.tile --target sm_80 --lower --time
      tilus opt --list
    """
    from tilus.ir.parser import parse_module
    from tilus.ir.printer import print_module
    from tilus.ir.verifier import verify_module

    known: dict[str, Callable[[Any], Any]] = all_passes()
    if listed:
        for name in known:
            click.echo(name)
        return
    if file is None:
        raise UserError.at("E0804", "tilus opt takes a file, or '-' for standard input")
    chosen = [name for name in passes.split(",") if name]
    for name in chosen:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, 1)
            raise UserError.at("E0803", f"there is no pass {name!r}",
                               help=f"did you mean {near[0]!r}?" if near else f"passes: {', '.join(known)}")
    if str(file) == "-":
        text = sys.stdin.read()
    elif file.is_file():
        text = file.read_text(encoding="utf-8")
    else:
        raise UserError.at("E0804", f"there is no file {str(file)!r}")
    module = parse_module(text, str(file))
    module.target = target or module.target
    if not no_verify:
        verify_module(module)
    if lower:
        chosen = [*chosen, *remaining(module)]
    for name in chosen:
        start = time.perf_counter()
        module = run_pass(name, module)
        if timed:
            click.echo(f"{(time.perf_counter() - start) * 1e3:9.2f} ms  {name}", err=True)
        if not no_verify:
            verify_module(module, name)
        if dump:
            click.echo(f"// after {name}\n{print_module(module, locations=locations)}", err=True)
    result = print_module(module, locations=locations)
    if output is None:
        click.echo(result, nl=False)
    else:
        write_output(output, result)


ARRAY_PASSES = ("unify-symbols", "tile-arrays")


def pipelines() -> list[Pipeline]:
    """Those of all targets, GPUs' first."""
    from tilus.backends import backends

    found = dict.fromkeys(backend.pipeline(t) for backend in backends() for t in backend.targets)
    return sorted(found, key=lambda pipeline: -len(pipeline.names))


def all_passes() -> dict[str, Callable[[Any], Any]]:
    """Every pass by name, in the order of the pipelines."""
    from tilus.lowering.array import tile_arrays, unify_symbols

    passes: dict[str, Callable[[Any], Any]] = dict(zip(ARRAY_PASSES, (unify_symbols, tile_arrays), strict=True))
    for pipeline in pipelines():
        for name, function in (*pipeline.tile, pipeline.lowering, *pipeline.thread):
            passes.setdefault(name, function)
    return passes


def remaining(module: Any) -> list[str]:
    """The passes of its target that a module has yet to go through."""
    from tilus.backends import backend_of
    from tilus.targets import get_target

    if not module.target:
        raise UserError.at("E0804", "lowering needs a target", help="--target sm_80")
    target = get_target(module.target)
    pipeline = backend_of(target).pipeline(target)
    if module.level == "thread":
        return list(dict(pipeline.thread))
    after = [pipeline.lowering[0], *dict(pipeline.thread)]
    if "layouts" in module.form:
        return after
    return [*(ARRAY_PASSES if module.level == "array" else ()), *pipeline.names]


def stage_of(name: str) -> str:
    """The level of the modules that a pass takes."""
    if name in ARRAY_PASSES:
        return "array"
    return "thread" if any(name in dict(pipeline.thread) for pipeline in pipelines()) else "tile"


def _before(name: str, wanted: str, level: str) -> str:
    order = ("array", "tile", "thread")
    if order.index(wanted) < order.index(level):
        return "start from an earlier stage"
    if wanted == "tile":
        return f"run {ARRAY_PASSES[-1]} before it, or --lower for all passes"
    lowerings = " or ".join(p.lowering[0] for p in pipelines() if name in dict(p.thread))
    return f"run {lowerings} before it, or --lower for all passes"


def pass_of(name: str, target: str) -> Callable[[Any], Any]:
    """The pass of a name; of several, that of a target's pipeline."""
    from tilus.backends import backend_of
    from tilus.targets import get_target

    if target:
        found = get_target(target)
        pipeline = backend_of(found).pipeline(found)
        own = dict((*pipeline.tile, pipeline.lowering, *pipeline.thread))
        if name in own:
            return own[name]
    return all_passes()[name]


def run_pass(name: str, module: Any) -> Any:
    """Run one pass, of several the one of the target. What it raises that is no message of ours is an internal error,
    with a file that reproduces it."""
    import tempfile

    from tilus.diagnostics import InternalError, TilusError
    from tilus.ir.printer import print_module

    wanted = stage_of(name)
    if module.level != wanted:
        raise UserError.at("E0804", f"the pass {name} takes a module of level {wanted!r}, and this is of level "
                                    f"{module.level!r}", help=_before(name, wanted, module.level))
    lowered = next((p for p in pipelines() if p.lowering[0] == name), None)
    if lowered is not None and "infer-layouts" in dict(lowered.tile) and "layouts" not in module.form:
        raise UserError.at("E0804", f"the pass {name} takes a module whose tiles have layouts",
                           help="run the passes up to infer-layouts before it, or --lower for all of them")
    if lowered is not None and not module.target:
        raise UserError.at("E0804", "lowering needs a target", help="--target sm_80")
    before = print_module(module, locations=True)
    function = pass_of(name, module.target)
    try:
        return function(module) or module
    except TilusError:
        raise
    except Exception as error:
        with tempfile.NamedTemporaryFile("w", prefix="tilus-reproducer-", suffix=".tile", delete=False) as report:
            report.write(f"// tilus opt {report.name} --target {module.target} --passes {name}\n{before}")
        raise InternalError.at("E0999", f"the pass {name} failed: {type(error).__name__}: {error}",
                               help=f"this is a bug in tilus; {report.name} reproduces it") from error
