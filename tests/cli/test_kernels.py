"""``tilus run``, ``compile`` and ``opt`` as a user calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


def test_compile_of_an_autotuned_kernel(file: Path, tmp_path: Path) -> None:
    file.write_text(ADD.replace("@tl.jit", "@tl.autotune(BLOCK=[128, 512], where='BLOCK > 2 * sm_count')\n@tl.jit"))
    for target, block in (("sm_80", 512), ("sm_75", 128)):
        out = tmp_path / f"{target}.cubin"
        assert tilus("compile", f"{file}:add", "--target", target, "-o", out) == 0
        assert json.loads(out.with_suffix(".json").read_text())["constants"] == {"BLOCK": block}
    assert tilus("compile", file, "--set", "BLOCK=96") == 1


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


def test_a_dash_is_standard_output(file: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes],
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert tilus("compile", file, "-o", "-") == 0
    assert capfdbinary.readouterr().out.startswith(b"\x7fELF")
    assert tilus("compile", file, "--emit", "tile", "-o", "-") == 0
    text = capfdbinary.readouterr().out
    assert text.startswith(b"module")
    (tmp_path / "add.tile").write_bytes(text)
    assert tilus("opt", "add.tile", "--passes", "simplify", "-o", "-") == 0
    assert capfdbinary.readouterr().out.startswith(b"module")
    assert tilus("layout", "spatial(2, 2)", "--svg", "-") == 0
    assert capfdbinary.readouterr().out.startswith(b"<svg")
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "add.tile"])


@pytest.mark.parametrize(("stage", "marker"), [("tile", "kernel @add"), ("thread", "kernel @block_add"),
                                               ("llvm", "define internal void @block_add"), ("asm", "launch:")])
def test_stages_of_the_cpu(file: Path, stage: str, marker: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert tilus("compile", file, "--target", "cpu", "--emit", stage, "--set", "BLOCK=32") == 0
    assert marker in capfd.readouterr().out
    assert tilus("compile", file, "--target", "cpu", "--emit", "ptx") == 1
    assert "the target cpu has no stage 'ptx'" in capfd.readouterr().err
    assert tilus("compile", file, "--emit", "asm") == 1
    assert "is a stage of the back end cpu" in capfd.readouterr().err


def test_object_files(file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With one comes its header; the processor may be another one than this machine's."""
    output = tmp_path / "plus.o"
    arguments = ("compile", str(file), "--target", "cpu", "--emit", "object", "-o", str(output))
    assert tilus(*arguments, "--cpu", "neoverse-n1", "--triple", "aarch64-unknown-linux-gnu", "--name", "plus") == 0
    assert output.read_bytes()[:4] == b"\x7fELF"
    header = output.with_suffix(".h").read_text()
    assert "neoverse-n1 (aarch64-unknown-linux-gnu): link plus.o" in header
    assert "int plus_launch(" in header
    assert tilus(*arguments) == 0
    assert "int add_launch(" in output.with_suffix(".h").read_text()
    capfd.readouterr()
    assert tilus(*arguments, "--cpu", "haswel") == 1
    assert "near it: haswell" in capfd.readouterr().err
    assert tilus("compile", str(file), "--cpu", "haswell") == 1
    assert "cpu, triple and symbol are for the target 'cpu', not 'sm_80'" in capfd.readouterr().err
    assert tilus("compile", str(file), "--target", "cpu", "--cpu", "x86-64-v3", "--triple", "x86_64-linux-gnu",
                 "--emit", "asm") == 0
    assert "ymm" in capfd.readouterr().out


@pytest.mark.parametrize(("passes", "message"), [
    ("lower-to-threads", "takes a module whose tiles have layouts"),
    ("contract", "the pass contract takes a module of level 'thread', and this is of level 'tile'"),
    ("tile-arrays", "of level 'array', and this is of level 'tile'"),
    ("simplify,infer-layouts,split-vectors", "run lower-to-threads before it"),
])
def test_passes_out_of_order(file: Path, tmp_path: Path, passes: str, message: str,
                             capfd: pytest.CaptureFixture[str]) -> None:
    module = tmp_path / "add.tile"
    assert tilus("compile", file, "--emit", "tile", "-o", module) == 0
    assert tilus("opt", module, "--target", "sm_80", "--passes", passes) == 1
    error = capfd.readouterr().err
    assert message in error
    assert "E0804" in error


def test_a_setting_of_another_kind(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kinds.py"
    path.write_text(ADD.replace("BLOCK: int = 256", "BLOCK: int = 256, half: bool = False, T: tl.DType = tl.f32"))
    for setting, message in (("half=bf16", "'half' is the element type bf16, but the parameter is a compile-time bool"),
                             ("half=1", "'half' is a Python int, but"),
                             ("BLOCK=f16", "'BLOCK' is the element type f16"),
                             ("T=1", "'T' is a Python int, but the parameter is a compile-time DType")):
        assert tilus("compile", path, "--set", setting, "--emit", "tile") == 1
        assert message in capfd.readouterr().err


def test_compiling_loads_no_numpy(tmp_path: Path) -> None:
    path = tmp_path / "plain.py"
    path.write_text(ADD.split("def main")[0].replace("import numpy as np\n", ""))
    program = ("import sys\nfrom tilus.cli.main import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit as done:\n"
               "    assert not done.code\nprint('numpy' in sys.modules)")
    for options in (("--emit", "ptx"), ("--via", "cuda", "--emit", "ptx"), ("-o", str(tmp_path / "plain.cubin"))):
        done = subprocess.run([sys.executable, "-c", program, "compile", str(path), *options], capture_output=True,
                              text=True, check=True, env={**os.environ, "TILUS_CACHE_DIR": str(tmp_path / "cache")})
        assert done.stdout.splitlines()[-1] == "False"
