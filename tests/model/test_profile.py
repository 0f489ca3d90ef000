"""Profiles: what ``tl.profile`` and ``tilus profile`` show."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.cli.main import main
from tilus.model.boards import BOARDS
from tilus.model.profile import Profile


@tl.jit
def matmul(a: tl.f16["M", "K"], b: tl.f16["K", "N"], c: tl.f16["M", "N"], BM: int = 64, BN: int = 64,
           stages: int = 3) -> None:
    i, j = tl.grid(tl.cdiv(a.shape[0], BM), tl.cdiv(b.shape[1], BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[1], 32, stages=stages):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, 32)), tl.load(b, (k, j * BN), (32, BN)), acc)
    tl.store(c, (i * BM, j * BN), acc.to(tl.f16))


def arrays(m: int = 1024, n: int = 1024, k: int = 1024) -> tuple[Any, ...]:
    return tuple(np.empty(shape, np.float16) for shape in ((m, k), (k, n), (m, n)))


@pytest.fixture(scope="module")
def profile() -> Profile:
    return tl.profile(matmul, *arrays(), target="sm_80")


def test_what_is_done_is_counted(profile: Profile):
    (launch,) = profile.launches
    roof = launch.roof()
    assert roof.operations["tensor"] == 2 * 1024**3
    assert launch.model.blocks == 256
    assert roof.peak == pytest.approx(312e12, rel=0.01)
    # Each array is in memory once, and L2 holds them all.
    assert launch.model.memory_bytes == pytest.approx(3 * 2 * 1024**2, rel=0.01)
    assert 0 < roof.rate < roof.peak


def test_lines_are_those_of_the_source(profile: Profile):
    (launch,) = profile.launches
    lines = {line.text: line for line in launch.lines()}
    dot = next(line for text, line in lines.items() if text.startswith("acc = tl.dot"))
    assert dot.file == __file__
    assert dot.issued > 0.5
    assert sum(line.issued for line in lines.values()) == pytest.approx(1)
    assert sum(line.waited for line in lines.values()) == pytest.approx(1)
    assert sum(dot.reasons.values()) == pytest.approx(1)


def test_text_says_whose_figures_they_are(profile: Profile):
    text = str(profile)
    assert "time (model)" in text
    assert "busy (model)" in text
    assert "acc = tl.dot" in text
    assert "A100" in text


def test_the_page_stands_alone(profile: Profile, tmp_path: Path):
    profile.save(tmp_path / "profile.html")
    page = (tmp_path / "profile.html").read_text()
    assert page.count("<svg") == 3
    for reference in ("src=", "href=\"http", "<script", "@import", "url(http"):
        assert reference not in page.replace('xlink:href="#', "")
    assert "nothing has been measured" in page
    for picture in page.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + picture[:picture.index("</svg>")] + "</svg>")
    assert profile._repr_html_() == page
    with pytest.raises(tl.UserError, match="E0804"):
        profile.save(tmp_path / "nowhere" / "profile.html")


def test_boards_and_routes_are_chosen():
    slow = tl.profile(matmul, *arrays(), target="sm_89", board="RTX 4070")
    fast = tl.profile(matmul, *arrays(), target="sm_89", board="rtx 4090", via="cuda")
    assert slow.launches[0].board is BOARDS["RTX 4070"]
    assert slow.seconds > 1.5 * fast.seconds


def test_autotuned_and_fused_functions_are_profiled():
    tuned = tl.autotune(BM=[32], BN=[64, 128])(matmul)
    assert "BM=32" in tl.profile(tuned, *arrays(256, 256, 256)).title

    @tl.fuse
    def scaled(x: tl.f32["M", "N"]):
        return x / tl.sum(x, axis=1, keepdims=True)

    found = tl.profile(scaled, np.empty((512, 1000), np.float32), target="sm_90a")
    assert found.seconds > 0
    assert found.bottleneck


@pytest.mark.parametrize(("options", "message"), [
    ({"target": "sm_81"}, "unknown target"), ({"target": "cpu"}, "profiles are of GPUs"),
    ({"board": "A101"}, "no record of a board"), ({"target": "sm_70"}, "no wheel has an nvdisasm"),
])
def test_mistakes(options: dict[str, str], message: str):
    with pytest.raises(tl.UserError, match=message):
        tl.profile(matmul, *arrays(64, 64, 64), **options)


def test_a_call_without_blocks_launches_nothing():
    found = tl.profile(matmul, *arrays(0, 64, 64))
    assert found.seconds == 0
    assert "nothing is launched" in str(found)
    assert "<h1>" in found.html()


def test_what_is_no_kernel_is_refused():
    with pytest.raises(tl.UserError, match="is no kernel"):
        tl.profile(len)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "p.html"
    with pytest.raises(SystemExit) as ended:
        main(["profile", f"{__file__}:matmul", "--shape", "M=512", "--shape", "N=512", "--shape", "K=512",
              "--target", "sm_90a", "--explain", "--html", str(page)])
    assert not ended.value.code
    out = capsys.readouterr().out
    assert "H100" in out
    assert "tensor cores" in out
    assert "t_launch" in out
    assert "W_block" in out
    assert page.read_text().startswith("<!DOCTYPE html>")


SOURCE = """extern "C" __global__ void add(const float* x, const float* y, float* z, float s, long long n) {
    long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i < n) z[i] = x[i] + s * y[i];
}"""


def run_tilus(*arguments: str) -> int:
    try:
        main(["profile", *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_cubins_of_others_are_profiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from tilus.runtime.toolchains.nvrtc import compile_cuda
    from tilus.targets import get_target

    file = tmp_path / "add.cubin"
    file.write_bytes(compile_cuda(SOURCE, get_target("sm_86")).cubin)
    n = 1 << 24
    array = ("--arg", f"f32[{n}]")
    given = (*array, *array, *array, "--arg", "0.5", "--arg", str(n))
    assert run_tilus(str(file), "--grid", str(n // 256), "--block", "256", *given) == 0
    out = capsys.readouterr().out
    assert "RTX A6000" in out
    assert "201 MB" in out  # three arrays of 4 n bytes
    for options, message in (((), "with which grid"), (("--grid", "4", "--arg", "1"), "has 5 parameters, not 1"),
                             (("--grid", "a", *given), "--grid takes up to three numbers"),
                             (("--grid", "1", *given[:-1], "n"), "--arg takes a number or an array")):
        assert run_tilus(str(file), *options) == 1
        assert message in capsys.readouterr().err
    assert run_tilus(f"{file}:sub", "--grid", "4") == 1
    assert "has no kernel 'sub'" in capsys.readouterr().err


@pytest.mark.parametrize("kernel", ["gemm/matmul_split_k.py", "gemm/matmul.py"])
def test_our_cubins_know_how_they_are_launched(kernel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "kernel.cubin"
    with pytest.raises(SystemExit):
        main(["compile", f"kernels_zoo/{kernel}", "--target", "sm_90a", "-o", str(file)])
    extents = ("--shape", "M=512", "--shape", "N=1024", "--shape", "K=2048")
    splits = ("--set", "splits=4") if "split" in kernel else ()
    assert run_tilus(str(file), *extents, *splits) == 0
    out = capsys.readouterr().out
    assert "H100" in out
    assert ("8 × 16 × 4" if splits else "4 × 8 × 1") in out
    assert run_tilus(str(file), *extents[:-1], "K") == 1
    assert "--shape takes NAME=EXTENT" in capsys.readouterr().err
    assert run_tilus(str(file), *extents[:4], *splits) == 1
    assert "there is no extent of K" in capsys.readouterr().err
    file.with_suffix(".json").write_text("{}")
    assert run_tilus(str(file), *extents) == 1
    assert "does not describe a cubin's launches" in capsys.readouterr().err
