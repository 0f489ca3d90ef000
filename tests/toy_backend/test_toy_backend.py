"""A back end is added by one registration: everything else reads the records."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tilus as tl
from tests.toy_backend import backend as toy
from tilus.backends import Backend, register, unregister
from tilus.cli.main import main
from tilus.cli.opt import all_passes
from tilus.targets import TARGETS

ROOT = Path(__file__).parents[2]
needs_compiler = pytest.mark.skipif(toy.COMPILER is None, reason="there is no C compiler")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register(toy.BACKEND)
    yield
    unregister("c")


@tl.jit
def row_sums(x: tl.f32["M", "N"], y: tl.f32["M"], BN: int = 32):
    row = tl.grid(x.shape[0])
    total = tl.zeros((1, BN), tl.f32)
    for j in tl.range(0, x.shape[1], BN):
        total += tl.exp(tl.load(x, (row, j), (1, BN), other=-float("inf")))
    tl.store(y, row, tl.sum(total, axis=1))


@tl.fuse
def softmax(x):
    e = tl.exp(x - tl.max(x, axis=1, keepdims=True))
    return e / tl.sum(e, axis=1, keepdims=True)


@needs_compiler
def test_kernels_run() -> None:
    x = np.random.default_rng(0).standard_normal((5, 77)).astype(np.float32)
    exponentials = np.exp(x.astype(np.float64))
    y = np.zeros(5, np.float32)
    row_sums.on("c")(x, y)
    np.testing.assert_allclose(y, exponentials.sum(1), rtol=1e-5)
    np.testing.assert_allclose(softmax.on("c")(x), exponentials / exponentials.sum(1, keepdims=True), rtol=1e-5)


def test_compilation() -> None:
    compiled = softmax.compile("c", x=tl.f32["M", "N"])
    assert (compiled.target, compiled.via) == ("c", "text")
    assert "void softmax(float *v0" in compiled.stage("c")
    assert "kernel @softmax" in compiled.tile
    with pytest.raises(tl.UserError, match="the target c has no stage 'ptx'"):
        compiled.stage("ptx")
    with pytest.raises(tl.UserError, match="via is 'text' for c, not 'ptx'"):
        softmax.compile("c", "ptx", x=tl.f32["M", "N"])
    assert "passes: simplify, mark-as-scalar-code" in softmax.explain(target="c", x=tl.f32["M", "N"])


def test_what_it_lacks() -> None:
    @tl.fuse
    def product(x, w):
        return x @ w

    with pytest.raises(tl.UserError, match="the toy back end has no dot"):
        product.compile("c", x=tl.f32["M", "K"], w=tl.f32["K", "N"])


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def tilus(*arguments: object) -> str:
        with pytest.raises(SystemExit) as end:
            main([str(a) for a in arguments])
        assert end.value.code == 0
        return capsys.readouterr().out

    file, code, tile = tmp_path / "kernel.py", tmp_path / "copy.c", tmp_path / "copy.tile"
    file.write_text("import tilus as tl\n@tl.jit\ndef copy(x: tl.f32['N'], y: tl.f32['N']):\n"
                    "    i = tl.grid(tl.cdiv(x.shape[0], 8))\n    tl.store(y, i * 8, tl.load(x, i * 8, 8))\n")
    tilus("compile", file, "--target", "c", "-o", code)
    assert "void copy(" in code.read_text()
    tilus("compile", file, "--target", "c", "--emit", "tile", "-o", tile)
    assert "kernel @copy" in tilus("opt", tile, "--target", "c", "--lower")
    assert "mark-as-scalar-code" in tilus("opt", "--list")


def test_names_are_taken_once() -> None:
    with pytest.raises(ValueError, match="there is a back end 'c' already"):
        register(toy.BACKEND)
    for engines in ({"cpu": toy.CEngine}, {"simulate": toy.CEngine}):
        with pytest.raises(ValueError, match="there is an engine"):
            register(Backend("d", (), lambda target: toy.PIPELINE, toy.BACKEND.routes, "c", toy.BACKEND.tiles, engines))
    with pytest.raises(ValueError, match="there is a target 'cpu' already"):
        register(Backend("cpu2", (TARGETS["cpu"],), lambda target: toy.PIPELINE, toy.BACKEND.routes, "c",
                         toy.BACKEND.tiles))


def test_nothing_else_knows_it() -> None:
    """Neither the package nor its passes name the toy; without registration it is not there."""
    assert "mark-as-scalar-code" in all_passes()
    code = "import tilus as tl\nfrom tilus.targets import TARGETS\nassert 'c' not in TARGETS"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    for path in (ROOT / "tilus").rglob("*.py"):
        assert "toy" not in path.read_text()
