"""What Python prints of a user's error: the user's frames and the message, in few lines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest

import tilus as tl

PACKAGE = os.path.dirname(tl.__file__)
SOURCE = '''\
import numpy as np, tilus as tl
def helper(t):
    return t + missing
@tl.jit
def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32 = 3):
    tl.grid(1)
    for i in range(n):
        tl.store(y, 0, helper(tl.load(x, 0, 64)))
@tl.fuse
def fused(x):
    return tl.map(helper, x)
class Model:
    @tl.jit
    def method(self, x: tl.f32["N"]):
        tl.store(x, 0, missing)
z = np.zeros(64, "f4")
'''
CALLS = {
    "call": ("kernel(z, z.copy())", "E0102"),
    "interpret": ('kernel.on("interpret")(z, z.copy())', "E0102"),
    "arguments": ("kernel(z)", "E0604"),
    "engine": ('kernel.on("nonsense")(z, z)', "E0506"),
    "context": ('with tl.engine("nonsense"): kernel(z, z)', "E0506"),
    "compile": ('kernel.compile("sm_80")', "E0102"),
    "explain": ("kernel.explain(z, z.copy())", "E0102"),
    "fused": ("fused(z)", "E0115"),
    "fused_out": ("fused(z, out=3, BM=0)", "E0601"),
    "method": ("Model().method(z)", "E0102"),
    "decorator": ("tl.jit(3)", "E0111"),
    "in_a_kernel": ("tl.load(z, 0, 4)", "E0107"),
}


def printed(*command: str, **environment: str) -> str:
    path = os.pathsep.join((os.path.dirname(PACKAGE), os.environ.get("PYTHONPATH", "")))  # before an installed one
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path, **environment})
    assert done.returncode == 1
    return done.stderr


def is_short(text: str, code: str) -> None:
    assert f"error[{code}]" in text
    assert "^" in text
    assert PACKAGE not in text, text
    assert len(text.splitlines()) <= 15, text


@pytest.mark.sweep(keep=8)
@pytest.mark.parametrize("call", CALLS)
def test_in_a_script(call: str, tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(f"{SOURCE}\n{CALLS[call][0]}\n")
    is_short(printed(str(path)), CALLS[call][1])


def test_of_a_command() -> None:
    is_short(printed("-c", f"{SOURCE}\nkernel(z, z.copy())\n"), "E0102")


def test_everything_where_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(f"{SOURCE}\nkernel(z, z.copy())\n")
    assert PACKAGE in printed(str(path), TILUS_TRACEBACK="full")


def test_frames_of_the_python_engine(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(f'{SOURCE}\nkernel.on("python")(z, z.copy())\n')
    text = printed(str(path))
    assert "NameError: name 'missing' is not defined" in text
    assert "return t + missing" in text
    assert PACKAGE not in text


def test_in_a_notebook() -> None:
    shell_module = pytest.importorskip("IPython.core.interactiveshell")
    shell = shell_module.InteractiveShell.instance()
    shell.run_cell(SOURCE)
    result = shell.run_cell("kernel(z, z.copy())")
    error = result.error_in_exec
    text = "\n".join(shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__))
    text = re.sub("\x1b\\[[0-9;]*m", "", text)
    assert "E0102" in text
    assert PACKAGE not in text
    assert len([line for line in text.splitlines() if line.strip()]) <= 15


def test_the_user_s_frames_are_kept() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, missing)

    def inner() -> None:
        kernel(np.zeros(4, np.float32))

    with pytest.raises(tl.UserError) as caught:
        inner()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names == ["test_the_user_s_frames_are_kept", "inner", "kernel"]
