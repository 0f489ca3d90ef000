"""``tilus tune``: random arguments, the table, results that travel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tilus as tl
from tests.cli.test_kernels import tilus
from tilus.tuning import store
from tilus.tuning.arguments import made_up_arguments, random_array

KERNELS = '''
import tilus as tl


@tl.autotune(BLOCK=[64, 128, 256])
@tl.jit
def scale(x: tl.f32["N"] | tl.f16["N"], y: tl.f32["2*N"], s: tl.f32, bias: tl.f32["N"] | None = None, BLOCK: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    tl.store(y, i, tl.load(x, i, BLOCK).to(tl.f32) * s)


@tl.autotune(BM=[16, 32], BN=[32])
@tl.fuse
def add(x, y: tl.i8["N"]):
    return x + y


@tl.jit
def plain(x: tl.f32["N"]):
    tl.grid(1)
'''


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TILUS_CACHE_DIR", str(tmp_path / "cache"))
    store.default_store.cache_clear()
    path = tmp_path / "tuned_kernels.py"
    path.write_text(KERNELS)
    yield path
    store.default_store.cache_clear()


def test_a_search_and_its_results(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results.json"
    assert tilus("tune", f"{file}:scale", "--shape", "N=1000", "--set", "s=2.0", "--set", "x=f16", "--budget", "30s",
                 "--export", results) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("scale on cpu for x_0=1024, y_0=2048" if "x_0" in shown else "scale on cpu for N=1024")
    assert "3 variants in" in shown
    data = json.loads(results.read_text())
    assert len(data["results"]) == 3
    assert json.loads(data["results"][0]["key"])["dtypes"] == {"x": "f16", "y": "f32"}
    monkeypatch.setenv("TILUS_CACHE_DIR", str(tmp_path / "other"))
    store.default_store.cache_clear()
    assert tilus("tune", "--import", results) == 0
    assert capsys.readouterr().out == f"3 results of {results}\n"
    assert store.default_store().export() == data


def test_a_target_that_is_not_here(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tilus("tune", f"{file}:scale", "--shape", "N=1000", "--set", "s=2.0", "--target", "sm_80") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("scale on sm_80 for")
    assert "the untuned one by the model" in shown
    assert "µs" in shown


def test_fused_functions_and_arrays_without_annotation(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tilus("tune", f"{file}:add", "--shape", "N=50", "--set", "x=i8[30,50]", "--budget", "30") == 0
    assert "2 variants in" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "message"), [
    ((), "there is nothing to do"),
    (("FILE:plain",), "E1108"),
    (("FILE:scale",), "there is no extent of N, a dimension of 'x'"),
    (("FILE:scale", "--shape", "N=4"), "there is no value of 's'"),
    (("FILE:scale", "--shape", "N=4", "--shape", "M=4", "--set", "s=1.0"), "has no dimension 'M'"),
    (("FILE:scale", "--shape", "N"), "--shape takes NAME=EXTENT"),
    (("FILE:scale", "--budget", "long"), "--budget takes seconds"),
    (("FILE:scale", "--shape", "N=4", "--set", "s=1.0", "--target", "sm_70"), "E1109"),
    (("FILE:scale", "--shape", "N=4", "--set", "s=1.0", "--executor", "dask:8786"), "there is no executor 'dask:8786'"),
    (("FILE:add", "--shape", "N=4"), "--set x=f32[128,64]"),
    (("FILE:add", "--set", "x=f99[3]"), "there is no element type 'f99'"),
    (("--import", "FILE"), "E1111"),
    (("--import", "nothing.json"), "cannot read"),
])
def test_mistakes(file: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tilus("tune", *[a.replace("FILE", str(file)) for a in arguments]) == 1
    assert message in capsys.readouterr().err


def test_random_arrays() -> None:
    for dtype in (tl.f16, tl.bf16, tl.f32, tl.i8, tl.u8, tl.i32, tl.bool):
        array = random_array(dtype, (3, 40), "x")
        assert array.shape == (3, 40)
        assert array.dtype == dtype.numpy
        assert np.abs(array.astype(np.float64)).max() <= 6
    assert random_array(tl.u4, (3, 5), "x").shape == (3, 5)


@tl.autotune(BLOCK=[1])
@tl.jit
def packed_kernel(x: tl.u4["N", "N//2"], n: tl.i32, BLOCK: int, flag: bool = True) -> None:
    tl.grid(1)


def test_made_up_arguments() -> None:
    found = made_up_arguments(packed_kernel, {"N": 6, "n": 4}, {"flag": False})
    assert found["x"].shape == (6, 3)
    assert {name: value for name, value in found.items() if name != "x"} == {"n": 4, "flag": False}
