"""``tilus simulate`` on the PTX of a stranger."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.simulator.cuda import to_ptx_with_lines
from tilus.cli.simulate import CHECKS, command
from tilus.diagnostics import TilusError
from tilus.simulator.faults import check_names

SOURCE = """__constant__ float weights[4];
extern "C" __global__ void saxpy(float a, const float* x, float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i] + y[i];
}
extern "C" __global__ void past(float* x, int n) {
  x[threadIdx.x] = n;
}
extern "C" __global__ void column(float* x) {
  __shared__ float s[32][32];
  s[threadIdx.x][0] = x[threadIdx.x]; __syncthreads();
  x[threadIdx.x] = s[31 - threadIdx.x][0] + weights[threadIdx.x % 4];
}
struct P { float scale; int pad; float* out; };
extern "C" __global__ void structured(P p) { p.out[threadIdx.x] = p.scale * threadIdx.x; }
"""
SAXPY = ("--entry", "saxpy", "--block", "128")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("k.ptx").write_text(to_ptx_with_lines(SOURCE))
    np.save("x.npy", np.arange(100, dtype="f4"))
    np.save("y.npy", np.ones(100, "f4"))
    np.save("w.npy", np.array([1, 2, 3, 4], "f4"))
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(command, words)


def arguments(**given: str) -> list[str]:
    values = {"0": "2.5", "1": "x.npy", "2": "y.npy", "3": "100", **{k[1:]: v for k, v in given.items()}}
    return [word for name, value in values.items() for word in ("--arg", f"{name}={value}")]


@pytest.mark.usefixtures("folder")
def test_arrays_are_read_and_saved() -> None:
    done = run("k.ptx", *SAXPY, *arguments(), "--save")
    assert done.exit_code == 0, done.output
    assert "39 sectors" in done.output
    np.testing.assert_array_equal(np.load("y.npy"), 2.5 * np.arange(100) + 1)
    np.testing.assert_array_equal(np.load("x.npy"), np.arange(100))


@pytest.mark.usefixtures("folder")
def test_report_names_line_source_thread_and_address() -> None:
    done = run("k.ptx", "--entry", "past", "--block", "128", "--arg", "0=x.npy", "--arg", "1=3")
    assert done.exit_code == 1
    fault = next(line for line in done.output.split("\n") if line.startswith("fault: "))
    assert "k.ptx:" in fault
    assert "kernel.cu:7)" in fault
    assert "byte 400 of argument past_param_0, which has 400 bytes" in fault
    assert "thread (100, 0, 0); address 0x" in fault
    again = run("k.ptx", "--entry", "past", "--block", "128", "--arg", "0=x.npy", "--arg", "1=3", "--json")
    assert json.loads(again.output)["faults"][0]["thread"] == [100, 0, 0]


@pytest.mark.usefixtures("folder")
def test_listing_and_constants() -> None:
    done = run("k.ptx", "--entry", "column", "--arg", "0=x.npy", "--set", "weights=w.npy", "--listing", "--save")
    assert done.exit_code == 0, done.output
    assert sum("32 wf (+31) |" in line for line in done.output.split("\n")) == 2
    np.testing.assert_array_equal(np.load("x.npy")[:32], 31 - np.arange(32) + np.tile([1, 2, 3, 4], 8))


@pytest.mark.usefixtures("folder")
def test_one_check_alone() -> None:
    words = ("k.ptx", "--entry", "column", "--arg", "0=x.npy", "--json")
    text = Path("k.ptx").read_text()
    Path("k.ptx").write_text(text.replace("bar.sync", "// bar.sync"))
    assert [f["check"] for f in json.loads(run(*words).output)["faults"]] == ["race"]
    assert [f["check"] for f in json.loads(run(*words, "--check", "race").output)["faults"]] == ["race"]
    for off in (("--no-check", "race"), ("--check", "sync"), ("--no-checks",)):
        assert not json.loads(run(*words, *off).output)["faults"]


@pytest.mark.usefixtures("folder")
def test_bounds_are_a_switch_too() -> None:
    words = ("k.ptx", "--entry", "past", "--block", "128", "--arg", "0=x.npy", "--arg", "1=3", "--json")
    assert [f["check"] for f in json.loads(run(*words, "--no-checks").output)["faults"]] == ["bounds"]
    assert not json.loads(run(*words, "--no-check", "bounds").output)["faults"]
    assert tuple(check_names()) == CHECKS


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("words", "named"), [
    (["k.ptx"], "choose a kernel with --entry: saxpy, past, column, structured"),
    (["k.ptx", "--entry", "nothing"], "no entry 'nothing'"),
    (["k.ptx", *SAXPY], "argument 'saxpy_param_0' is missing"),
    (["k.ptx", *SAXPY, *arguments(), "--arg", "5=1"], "no parameter '5'"),
    (["k.ptx", *SAXPY, *arguments(), "--arg", "0=1"], "'0' is given twice"),
    (["k.ptx", *SAXPY, *arguments(_0="x.npy")], "of type .f32 takes no array"),
    (["k.ptx", *SAXPY, *arguments(_3="99.5")], "of type .u32 takes no float: 99.5"),
    (["k.ptx", *SAXPY, *arguments(_3="99999999999")], "99999999999 does not fit"),
    (["k.ptx", *SAXPY, *arguments(_1="missing.npy")], "cannot be read as a .npy file"),
    (["k.ptx", *SAXPY, *arguments(_1="k.ptx")], "neither a number"),
    (["k.ptx", *SAXPY, *arguments(_1="zeros:f9:10")], "NumPy has no type 'f9'"),
    (["k.ptx", *SAXPY, *arguments(_1="zeros:f4")], "write zeros:DTYPE:SHAPE"),
    (["k.ptx", *SAXPY, *arguments(_1="zeros:f4:99999999999")], "at most 16 GiB"),
    (["k.ptx", *SAXPY, *arguments(), "--grid", "0"], "positive numbers are expected"),
    (["k.ptx", *SAXPY, *arguments(), "--grid", "2147483647,65535"], "at most 268435456"),
    (["k.ptx", *SAXPY, *arguments(), "--grid", "a"], "write extents as 4,2"),
    (["k.ptx", *SAXPY, *arguments(), "--shared", "-5"], "-5 is not in the range"),
    (["k.ptx", *SAXPY, *arguments(), "--shared", "999999"], "needs 999999 bytes of shared memory"),
    (["k.ptx", *SAXPY, *arguments(), "--cluster", "3", "--grid", "4"], "not a multiple of cluster"),
    (["k.ptx", *SAXPY, *arguments(), "--set", "nothing=w.npy"], "no variable 'nothing'"),
    (["k.ptx", *SAXPY, *arguments(), "--set", "weights=x.npy"], "at most 16 bytes"),
    (["k.ptx", "--entry", "structured", "--arg", "0=hex:00"], "has 16 bytes, not 1"),
    (["k.ptx", "--entry", "structured", "--arg", "0=5"], "is a struct: give its 16 bytes"),
    (["bytes.ptx"], "malformed PTX"), (["empty.ptx"], "no .version directive"), (["absent.ptx"], "does not exist"),
])
def test_mistakes_are_named(words: list[str], named: str) -> None:
    Path("bytes.ptx").write_bytes(bytes(range(256)) * 4)
    Path("empty.ptx").write_bytes(b"")
    done = run(*words)
    assert done.exit_code != 0
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, TilusError), done.exception
    assert named in done.output + str(done.exception)
