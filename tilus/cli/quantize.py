"""``tilus quantize``: the matrices of a file of weights as codes of a narrow type."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tilus.diagnostics import UserError

if TYPE_CHECKING:
    from tilus.quantization.formats import QuantFormat
    from tilus.quantization.models import Outcome, Plan

FORMATS = ("mxfp4", "mxfp6e3m2", "mxfp6e2m3", "mxfp8e5m2", "mxfp8e4m3", "mxint8", "nvfp4", "qlora")


@click.command("quantize")
@click.argument("file", type=click.Path(dir_okay=False, path_type=pathlib.Path))
@click.option("--type", "type_", required=True, metavar="TYPE",
              help=f"The codes: u4, i3, nf4, f6e3m2, …; or a format: {', '.join(FORMATS)}.")
@click.option("--group", type=click.IntRange(min=1), default=None,
              help="How many elements along k share a scale. By default all of a column; of formats as they have it.")
@click.option("--asymmetric", is_flag=True, help="Zero points for integers.")
@click.option("--axis", type=click.IntRange(0, 1), default=None,
              help="Which dimension of matrices is k: 0 of (k, n), 1 of PyTorch's (n, k). By default 1 of .safetensors "
                   "and 0 of .npz.")
@click.option("--only", multiple=True, metavar="PATTERN", help="Tensors with such names: '*.mlp.*'.")
@click.option("--skip", multiple=True, metavar="PATTERN", help="No tensors with such names: 'lm_head*'.")
@click.option("--gptq", "samples", type=click.Path(dir_okay=False, path_type=pathlib.Path), default=None,
              metavar="FILE.npz", help="Inputs (…, k) of tensors by their names (with or without .weight), or their "
                                       "second moments as NAME.moments: GPTQ for these, others are rounded.")
@click.option("--act-order", is_flag=True, help="GPTQ takes rows by decreasing inputs.")
@click.option("--damp", type=float, default=0.01, show_default=True, help="GPTQ's damping.")
@click.option("--prepack", nargs=2, default=None, metavar="for TARGET",
              help="Codes in the order of the products of kernels_zoo/quantized on sm_80, ….")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=pathlib.Path),
              help="A .safetensors or .npz file, for tl.load_weights.")
def command(file: pathlib.Path, type_: str, group: int | None, asymmetric: bool, axis: int | None,
            only: tuple[str, ...], skip: tuple[str, ...], samples: pathlib.Path | None, act_order: bool, damp: float,
            prepack: tuple[str, str] | None, output: pathlib.Path) -> None:
    """Quantise the matrices of a .safetensors or .npz file. Layers of checkpoints that are quantised already (GPTQ,
    AWQ, compressed-tensors) keep their codes. What comes out is (k, n) with groups along k, as the kernels take it.

    \b
    Examples:
      tilus quantize model.safetensors --type u4 --group 128 -o quantised.safetensors
      tilus quantize model.safetensors --type u3 --group 128 --gptq inputs.npz --skip 'lm_head*' -o out.safetensors
      tilus quantize weights.npz --type mxfp4 --prepack for sm_80 -o out.npz
    """
    from tilus.cli.weights import suffixed
    from tilus.quantization.models import Plan

    suffixed(output, ".safetensors", ".npz")
    format = _format(type_, group, asymmetric)
    finish = _finish(prepack)
    weights = _read(file)
    inputs = None if samples is None else _samples(samples, weights)
    turned = file.suffix == ".safetensors" if axis is None else axis == 1
    plan = Plan(format, turned, only, skip, inputs, act_order, damp)
    outcomes, data = _quantised(weights, plan, finish, output, file)
    from tilus.cli.output import write_output
    from tilus.quantization.quantized import Quantized

    plain = not any(isinstance(w, Quantized) for w in weights.values())
    if plain and all(o.error is None for o in outcomes):
        why = "".join(f"; {o.name!r}: {o.how}" for o in outcomes[:3])
        raise UserError.at("E0804", f"nothing of {str(file)!r} would be quantised{why}",
                           help="matrices are, whose k is a multiple of --group, and which --only and --skip let pass")
    write_output(output, data)
    _show(outcomes)
    click.echo(f"wrote {output}, {len(data):,} bytes")


def _format(type_: str, group: int | None, asymmetric: bool) -> QuantFormat:
    from dataclasses import replace

    from tilus.cli.formats import element_type
    from tilus.quantization import formats

    try:
        if type_ in FORMATS:
            found: QuantFormat = getattr(formats, type_)
        else:
            found = formats.QuantFormat(element_type(type_, "--type"))
        given: dict[str, Any] = {"symmetric": False} if asymmetric else {}
        if group is not None:
            given["group"] = group
        return replace(found, **given)
    except (TypeError, ValueError) as error:
        raise UserError.at("E0804", f"--type {type_}: {error}") from None


def _finish(prepack: tuple[str, str] | None) -> Callable[[Any], Any]:
    if prepack is None:
        return lambda q: q
    word, target = prepack
    if word != "for":
        raise click.UsageError(f"--prepack is followed by 'for' and a target, not by {word!r}: --prepack for sm_80")
    from tilus.quantization.models import prepacked_for
    from tilus.targets import get_target

    get_target(target)
    return prepacked_for(target)


def _read(file: pathlib.Path) -> dict[str, Any]:
    from tilus.quantization.weights import load_weights

    try:
        return load_weights(file)
    except OSError as error:
        raise UserError.at("E0804", f"cannot read {str(file)!r}: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError.at("E0804", f"{str(file)!r}: {error}",
                           help="weights are read from .safetensors and .npz files") from None


def _samples(file: pathlib.Path, weights: dict[str, Any]) -> dict[str, Any]:
    from tilus.quantization.files import read_npz
    from tilus.quantization.models import check_samples

    try:
        found = read_npz(file)
        check_samples(found, weights)
    except OSError as error:
        raise UserError.at("E0804", f"cannot read {str(file)!r}: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError.at("E0804", f"{str(file)!r}: {error}") from None
    return found


def _quantised(weights: dict[str, Any], plan: Plan, finish: Callable[[Any], Any], output: pathlib.Path,
               file: pathlib.Path) -> tuple[list[Outcome], bytes]:
    """The outcomes, and the file that is to be written; with a bar that shows how far it is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from tilus.quantization.files import weights_bytes
    from tilus.quantization.models import quantize_all

    outcomes: list[Outcome] = []
    console = Console(stderr=True)
    columns = (TextColumn("quantising"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(weights))

        def report(outcome: Outcome) -> None:
            outcomes.append(outcome)
            progress.update(task, advance=1, description=outcome.name)

        try:
            return outcomes, weights_bytes(output, quantize_all(weights, plan, finish, report))
        except (ValueError, TypeError) as error:
            raise UserError.at("E0804", f"{str(file)!r}: {error}") from None


def _show(outcomes: list[Outcome]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("tensor", "how", "bytes", "after", "error", "of outputs")
    for side in ("bytes", "after", "error", "of outputs"):
        next(c for c in table.columns if c.header == side).justify = "right"
    for o in outcomes:
        errors = ("" if e is None else f"{e:.2e}" for e in (o.error, o.output_error))
        table.add_row(escape(o.name), o.how, f"{o.before:,}", f"{o.after:,}", *errors)
    if len(outcomes) > 1:
        table.add_section()
        table.add_row("all", "", f"{sum(o.before for o in outcomes):,}", f"{sum(o.after for o in outcomes):,}", "", "")
    console = Console()
    Console(width=None if console.is_terminal else 120).print(table)
