from __future__ import annotations

import pytest

from tilus.cli import doctor
from tilus.cli.doctor import Absent, Check, Status, checks, perform
from tilus.cli.main import main
from tilus.diagnostics import ToolchainError
from tilus.targets import TARGETS
from tilus.twin import compiler


def test_the_toolchain_works(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["doctor"])
    out = capsys.readouterr().out
    assert caught.value.code == 0
    for name, target in TARGETS.items():
        assert not target.is_cuda or f"NVRTC: {name}" in out
    assert "failed" not in out


def test_every_cuda_target_is_checked_by_both_routes():
    names = {check.name for check in checks()}
    for target in TARGETS.values():
        if target.is_cuda:
            assert {f"NVRTC: {target}", f"LLVM, ptxas: {target}"} <= names


def raising(error: Exception):
    def run() -> str:
        raise error

    return run


def test_outcomes():
    missing = ToolchainError.at("E0901", "nvcc is not installed", help="pip install it")
    broken = ToolchainError.at("E0902", "nvcc failed", notes=["its log"])
    assert perform(Check("x", lambda: "fine")).status is Status.WORKS
    assert perform(Check("x", raising(Absent("none")))).status is Status.ABSENT
    assert perform(Check("x", raising(missing), optional=True)).status is Status.ABSENT
    assert perform(Check("x", raising(missing))).status is Status.FAILED
    assert perform(Check("x", raising(broken), optional=True)).status is Status.FAILED
    assert perform(Check("x", raising(OSError("disk")))).detail == "OSError: disk"
    assert perform(Check("x", raising(broken))).detail == "nvcc failed its log"


def test_a_failure_ends_with_1_and_its_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(doctor, "checks", lambda: iter([Check("good", lambda: "[cuda]"),
                                                        Check("bad", raising(OSError("disk")))]))
    with pytest.raises(SystemExit) as caught:
        main(["doctor"])
    captured = capsys.readouterr()
    assert caught.value.code == 1
    assert captured.err == "Error: not working: bad\n"
    assert "OSError: disk" in captured.out
    assert "[cuda]" in captured.out


def test_the_compiler_of_the_twin_is_optional(monkeypatch: pytest.MonkeyPatch):
    check = next(check for check in checks() if "twin" in check.name)
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiler.find_compiler.cache_clear()
    outcome = perform(check)
    compiler.find_compiler.cache_clear()
    assert outcome.status is Status.ABSENT
    assert "no-such-compiler" in outcome.detail
