"""``tilus``: finds the command asked for, imports only that, and shows errors as messages."""

from __future__ import annotations

import atexit
import gc
import importlib
import importlib.util
import os
import signal
import sys
import traceback
import warnings
from typing import Any, NoReturn, TextIO

import click

import tilus
from tilus._version import __version__
from tilus.diagnostics import InternalError, TilusError, render

# Summaries stand here so that listing the commands imports none of them.
COMMANDS = {
    "run": "Run a file of kernels on an engine.",
    "compile": "Compile a kernel for a target.",
    "opt": "Run passes over textual IR.",
    "quantize": "Quantise the matrices of a file of weights.",
    "prepack": "Put weights into the order in which a kernel reads them.",
    "unprepack": "Put prepacked weights back, row by row.",
    "layout": "Evaluate and draw a layout expression.",
    "tune": "Find the best variant of an autotuned kernel.",
    "profile": "Show where the time of a kernel goes, by a model.",
    "simulate": "Execute PTX on a simulated GPU.",
    "doctor": "Check the toolchain by using it.",
    "cache": "Look at, check and clear the cache of compiled kernels.",
}

EXIT_ERROR = 1
EXIT_INTERNAL = 70


class LazyGroup(click.Group):
    """A group whose commands are modules, imported when one is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if importlib.util.find_spec(f"tilus.cli.{name}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"tilus.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _die_of_interrupt()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tilus")
def cli() -> None:
    """A tile-level language and compiler for GPU and NPU kernels."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0, 1 for errors of the user, 2 for wrong usage, 70 for bugs of tilus."""
    warnings.showwarning = _show_warning
    # The process is ours: at its end the collector need not go once more through all that there is, for 30 ms.
    atexit.register(gc.freeze)
    try:
        cli.main(arguments, prog_name="tilus")
    except InternalError as error:
        show_error(error)
        sys.exit(EXIT_INTERNAL)
    except TilusError as error:
        show_error(error)
        sys.exit(EXIT_ERROR)
    except Exception as error:
        if not _is_ours(error):
            raise
        show_error(_crash(error))
        sys.exit(EXIT_INTERNAL)
    sys.exit(0)


def _die_of_interrupt() -> NoReturn:
    """End as a process does that Ctrl-C ends: at once, whatever work goes on in the background, and so that a shell
    knows."""
    click.echo("interrupted", err=True)
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    sys.exit(128 + signal.SIGINT)


def show_error(error: TilusError) -> None:
    """Print every diagnostic to standard error, in colour where that is a terminal that wants it."""
    color = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    text = "\n\n".join(render(diagnostic, color=color) for diagnostic in error.diagnostics)
    click.echo(text, err=True, color=color)


def _is_ours(error: Exception) -> bool:
    """Whether the exception was raised by tilus's own code, not by the user's that it ran."""
    innermost = traceback.extract_tb(error.__traceback__)[-1].filename
    return os.path.abspath(innermost).startswith(os.path.dirname(os.path.abspath(tilus.__file__)) + os.sep)


def _crash(error: Exception) -> InternalError:
    """The error to show for an exception that tilus did not mean to raise; writes what a report needs to a file."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", prefix="tilus-crash-", suffix=".txt", delete=False) as report:
        report.write(f"tilus {__version__}, Python {sys.version}\ncommand: {sys.argv}\n\n")
        report.write("".join(traceback.format_exception(error)))
    return InternalError.at("E0999", f"{type(error).__name__}: {error}",
                            help=f"this is a bug in tilus; please report it with {report.name}")


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int,
                  file: TextIO | None = None, line: str | None = None) -> None:
    """Warnings of tilus are whole messages already; the rest are shown in one line, as Python does."""
    own = category.__module__.split(".")[0] == "tilus"
    click.echo(str(message) if own else f"{filename}:{lineno}: {category.__name__}: {message}", err=True)
