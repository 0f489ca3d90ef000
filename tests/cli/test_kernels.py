"""``tilus run``, ``compile`` and ``opt`` as a user calls them."""

from __future__ import annotations

import json
import textwrap
import warnings
from pathlib import Path

import pytest

from tilus.cli.main import main

ADD = '''
import numpy as np
import tilus as tl


@tl.jit
def add(x: tl.f32["N"], y: tl.f32["N"], BLOCK: int = 256):
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    tl.store(y, i, tl.load(x, i, BLOCK) + 1)


def main():
    x, y = np.arange(10, dtype=np.float32), np.zeros(10, np.float32)
    add(x, y)
    print("sum", y.sum())
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "add_kernel.py"
    path.write_text(ADD)
    return path


def tilus(*arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    return int(done.value.code or 0)


@pytest.mark.parametrize("options", [(), ("--engine", "interpret"), ("--engine", "python")])
def test_run(file: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert tilus("run", file, *options) == 0
    assert capsys.readouterr().out == "sum 55.0\n"


def test_run_without_a_main(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty_kernels.py"
    path.write_text("")
    assert tilus("run", path) == 1
    assert "has no main()" in capsys.readouterr().err


def test_compile(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "add.cubin"
    assert tilus("compile", f"{file}:add", "--target", "sm_86", "--set", "BLOCK=512", "-o", out) == 0
    assert "registers" in capsys.readouterr().out
    assert out.read_bytes()[:4] == b"\x7fELF"
    metadata = json.loads(out.with_suffix(".json").read_text())
    assert (metadata["target"], metadata["constants"]) == ("sm_86", {"BLOCK": 512})
    assert "add_launch" in out.with_suffix(".h").read_text()


@pytest.mark.parametrize(("stage", "marker"), [
    ("cuda", "__global__"), ("ptx", ".entry"), ("tile", "kernel @add"), ("thread", "ptr_store"),
])
def test_emit(file: Path, stage: str, marker: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tilus("compile", file, "--emit", stage) == 0
    assert marker in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "message"), [
    (("--target", "sm_81"), "unknown target"), (("--set", "BLOKC=3"), "did you mean 'BLOCK'"),
    (("--set", "3"), "NAME="),
])
def test_compile_mistakes(file: Path, arguments: tuple[str, ...], message: str,
                          capsys: pytest.CaptureFixture[str]) -> None:
    assert tilus("compile", file, *arguments) == 1
    assert message in capsys.readouterr().err


def test_an_unknown_kernel(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tilus("compile", f"{file}:sub") == 1
    assert "kernels: add" in capsys.readouterr().err


def test_opt(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "add.tile"
    assert tilus("compile", file, "--emit", "tile", "-o", text) == 0
    capsys.readouterr()
    assert tilus("opt", text, "--passes", "simplify", "--time", "--dump") == 0
    captured = capsys.readouterr()
    assert "kernel @add" in captured.out
    assert "ms  simplify" in captured.err
    assert "// after simplify" in captured.err
    assert tilus("opt", text, "--target", "sm_80", "--lower") == 0
    assert "ptr_store" in capsys.readouterr().out


def test_opt_mistakes(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "add.tile"
    tilus("compile", file, "--emit", "tile", "-o", text)
    assert tilus("opt", text, "--passes", "simplfy") == 1
    assert "did you mean 'simplify'" in capsys.readouterr().err
    text.write_text("module {")
    assert tilus("opt", text) == 1
    assert "E0801" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--emit", "cubin"), ("--emit", "cuda"), ("--emit", "sass")])
def test_what_cannot_be_written_is_said(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                        arguments: tuple[str, ...]) -> None:
    assert tilus("compile", file, *arguments, "-o", tmp_path / "missing" / "out.bin") == 1
    error = capsys.readouterr().err
    assert error.startswith("error[E0804]: cannot write")
    assert "Traceback" not in error


def test_a_layout_that_cannot_be_drawn_into_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tilus("layout", "spatial(4, 8)", "--svg", tmp_path / "missing" / "a.svg") == 1
    assert "error[E0804]: cannot write" in capsys.readouterr().err


def test_a_file_is_replaced_as_a_whole(file: Path, tmp_path: Path) -> None:
    output = tmp_path / "add.cu"
    output.write_text("before")
    assert tilus("compile", file, "--emit", "cuda", "-o", output) == 0
    assert "__global__" in output.read_text()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_setting_that_means_nothing(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tilus("compile", file, "--set", "BLOCK=x.y") == 1
    assert "'x.y' is no number, element type or layout" in capsys.readouterr().err


def test_warnings_go_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "racy.py"
    path.write_text(textwrap.dedent("""
        import tilus as tl

        @tl.jit
        def racy(x: tl.f32["N"]):
            tl.grid(1)
            s = tl.shared((64,), tl.f32)
            tl.store(s, 0, tl.load(x, 0, 64))
            tl.store(x, 0, tl.load(s))
    """))
    with warnings.catch_warnings():
        assert tilus("compile", path, "--emit", "ptx", "--line-info") == 0
    out, err = capsys.readouterr()
    assert f'.file\t1 "{path}"' in out
    assert err.startswith("warning[W0707]: race on 's': it is read without a barrier after it was written\n")
    assert err.count("W0707") == 1
