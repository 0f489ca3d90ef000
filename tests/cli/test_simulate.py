"""``tilus simulate`` on the PTX of a stranger."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import json
import re
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


CUTE = """.version 8.0
.target sm_80
.address_size 64
.visible .entry cute(.param .align 8 .b8 tensor[8], .param .u32 count) {
  .reg .b64 a, b; .reg .b32 t, n; .reg .pred p;
  ld.param.u64 a, [tensor]; ld.param.u32 n, [count]; mov.u32 t, %tid.x; setp.ge.u32 p, t, n; @p ret;
  mul.wide.u32 b, t, 4; add.u64 a, a, b; st.global.u32 [a], t; ret; }
"""


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("names", [("0", "1"), ("tensor", "count"), ("tensor", "1")])
def test_parameters_of_any_spelling_go_by_name_or_number(names: tuple[str, str]) -> None:
    Path("cute.ptx").write_text(CUTE)
    np.save("out.npy", np.zeros(2, "i4"))      # eight bytes, as the pointer has
    done = run("cute.ptx", "--arg", f"{names[0]}=out.npy", "--arg", f"{names[1]}=2", "--save")
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(np.load("out.npy"), [0, 1])
    assert "no parameter '2'" in str(run("cute.ptx", "--arg", "0=out.npy", "--arg", "1=2", "--arg", "2=5").exception)


@pytest.mark.usefixtures("folder")
def test_skipped_files_and_callers() -> None:
    source = """__device__ __forceinline__ void inner(float* x) {
x[200] = 1; }
extern "C" __global__ void k(float* x) {
inner(x); }"""
    Path("c.ptx").write_text(to_ptx_with_lines(source))
    done = run("c.ptx", "--arg", "0=zeros:f4:10")
    assert re.search(r"c.ptx:\d+ \(.*kernel.cu:2\): bounds", done.output)
    assert re.search(r"called at .*kernel.cu:4", done.output)
    file = re.findall(r"called at (.*):4", done.output)[0]
    skipped = run("c.ptx", "--arg", "0=zeros:f4:10", "--skip-file", file)
    assert "kernel.cu" not in skipped.output


@pytest.mark.usefixtures("folder")
def test_hot_lines_of_a_listing() -> None:
    whole, hot = run("k.ptx", *SAXPY, *arguments(), "--listing").output, run("k.ptx", *SAXPY, *arguments(), "--hot", "2").output
    assert len(hot.splitlines()) < 20 < len(whole.splitlines())
    assert "..." in hot.splitlines()
    assert set(hot.splitlines()) - {"..."} <= set(whole.splitlines())


@pytest.mark.usefixtures("folder")
def test_a_limit_and_progress() -> None:
    Path("e.ptx").write_text(to_ptx_with_lines('extern "C" __global__ void k(int* y) { for (unsigned i = 1; i; i += 2) y[threadIdx.x] += i; }'))
    done = run("e.ptx", "--arg", "0=zeros:i4:32", "--max-steps", "1500000", "--progress")
    assert done.exit_code == 1
    assert re.search(r"more than 1500000 instructions of these blocks, the last of them in the loop at lines \d+ to \d+ \(.*kernel.cu:1-1\)", done.output)
    assert re.search(r"0 of 1 blocks, \d+ instructions", done.output)
    assert "warp instructions       0" not in done.output


@pytest.mark.usefixtures("folder")
def test_formal_faults_and_the_exit_status() -> None:
    from tests.simulator.test_tcgen05_faults import END, FILL, ONE, TILES, launch_planted

    product = "if (t == 64) { " + ONE + " COMMIT(&bar); } TRY(&bar, 0); AFTER; LD1(v, mine); WAITLD; O[t] = v;\n"
    for order, formal in (("BEFORE; SYNC; AFTER; ", False), ("SYNC; AFTER; ", True)):
        _, source = launch_planted(TILES + FILL + order + product + END)
        Path("f.ptx").write_text(to_ptx_with_lines(source, "sm_100a"))
        words = ("f.ptx", "--block", "128", "--arg", "0=zeros:u4:128", "--arg", "1=0")
        plain, strict = run(*words), run(*words, "--strict")
        assert ("formal: " in plain.output) == formal
        assert (plain.exit_code, strict.exit_code) == (0, int(formal)), plain.output
