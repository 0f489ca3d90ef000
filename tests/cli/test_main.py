from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import click
import pytest

from tilus.cli import main as main_module
from tilus.diagnostics import InternalError, Span, UserError

ROOT = Path(__file__).parents[2]


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main_module.main(list(arguments))
    return int(caught.value.code or 0)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """Installs a command ``opt`` that raises what it is given."""

    def install(error: Exception) -> None:
        @click.command("opt")
        def command() -> None:
            raise error

        monkeypatch.setitem(sys.modules, "tilus.cli.opt", types.SimpleNamespace(command=command))
        monkeypatch.setattr(main_module.LazyGroup, "list_commands", lambda self, context: ["opt"])

    return install


def test_version(capsys: pytest.CaptureFixture[str]):
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"tilus, version {main_module.__version__}\n"


def test_help_lists_what_there_is_and_imports_none_of_it():
    code = """
import sys
from tilus.cli.main import main
try:
    main(["--help"])
except SystemExit:
    pass
assert not any(name in sys.modules for name in ("rich", "llvmlite", "lark", "sympy", "tilus.runtime.toolchains"))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert "doctor" in done.stdout
    assert "cache" in done.stdout


def test_every_command_is_there_and_has_help(capsys: pytest.CaptureFixture[str]):
    context = click.Context(main_module.cli)
    for name in main_module.cli.list_commands(context):
        assert exit_code(name, "--help") == 0
        assert "Usage: tilus" in capsys.readouterr().out


def test_unknown_commands_are_wrong_usage(capsys: pytest.CaptureFixture[str]):
    assert exit_code("no-such-command") == 2
    assert "No such command 'no-such-command'" in capsys.readouterr().err


def test_a_users_error_is_rendered(failing, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = tmp_path / "kernel.py"
    source.write_text("x = tl.lod(a)\n")
    failing(UserError.at("E0102", "undefined name", Span(str(source), 1, 4, 1, 10), help="did you mean load?"))
    assert exit_code("opt") == 1
    error = capsys.readouterr().err
    assert "error[E0102]: undefined name" in error
    assert "    ^^^^^^" in error
    assert "did you mean load?" in error
    assert "Traceback" not in error
    assert "\033" not in error


def test_colour_on_a_terminal_unless_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    error = UserError.at("E0102", "undefined name")
    main_module.show_error(error)
    assert "\033[31m" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    main_module.show_error(error)
    assert "\033" not in capsys.readouterr().err


def test_every_diagnostic_is_shown(failing, capsys: pytest.CaptureFixture[str]):
    two = [UserError.at(code, f"message of {code}").diagnostics[0] for code in ("E0101", "E0102")]
    failing(UserError(two))
    assert exit_code("opt") == 1
    error = capsys.readouterr().err
    assert "message of E0101" in error
    assert "message of E0102" in error


def test_an_internal_error_has_its_own_status(failing, capsys: pytest.CaptureFixture[str]):
    failing(InternalError.at("E0999", "the verifier failed", notes=["reproducer: /tmp/r.mlir"]))
    assert exit_code("opt") == 70
    assert "reproducer: /tmp/r.mlir" in capsys.readouterr().err


def test_a_crash_of_tilus_leaves_a_report(failing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                          capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(main_module, "_is_ours", lambda error: True)
    failing(KeyError("oops"))
    assert exit_code("opt") == 70
    (report,) = tmp_path.glob("tilus-crash-*.txt")
    assert "KeyError: 'oops'" in report.read_text()
    error = capsys.readouterr().err
    assert "error[E0999]: KeyError: 'oops'" in error
    assert str(report) in error


def test_an_exception_of_the_users_code_is_pythons_to_show(failing):
    failing(ZeroDivisionError())  # raised here, outside the package
    with pytest.raises(ZeroDivisionError):
        main_module.main(["opt"])


def test_whose_exception_it_is():
    from tilus.runtime.cubin import _string

    def catch(action) -> Exception:
        try:
            action()
        except Exception as error:
            return error
        raise AssertionError

    assert main_module._is_ours(catch(lambda: _string(b"", 0)))
    assert not main_module._is_ours(catch(lambda: 1 // 0))


def test_the_module_runs():
    done = subprocess.run([sys.executable, "-m", "tilus.cli", "cache", "path"], cwd=ROOT, text=True,
                          capture_output=True, check=True, env={**os.environ, "TILUS_CACHE_DIR": "/tmp/elsewhere"})
    assert done.stdout == "/tmp/elsewhere\n"
