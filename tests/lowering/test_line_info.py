"""Lines of the source in PTX and cubin: there when asked for, and without any effect on the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tilus as tl
from benchmarks.gpu_code import instructions
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.elementwise.vector_add import vector_add
from kernels_zoo.gemm.matmul import matmul
from kernels_zoo.normalization.softmax import softmax
from tests.lowering import kernels
from tilus.simulator.parser import parse


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("kernel", [vector_add, softmax, matmul, flash_attention_forward],
                         ids=["vector_add", "softmax", "matmul", "attention"])
def test_lines_leave_the_code_as_it_is(kernel: Any) -> None:
    plain, lined = (kernel.compile(line_info=wanted) for wanted in (False, True))
    assert ".loc" in lined.ptx
    assert ".loc" not in plain.ptx
    assert [t for _, t in instructions(plain.sass())] == [t for _, t in instructions(lined.sass())]
    assert plain.metadata["registers"] == lined.metadata["registers"]
    assert b"debug_line" in lined.cubin
    assert b"debug_line" not in plain.cubin


def test_lines_leave_the_code_of_cuda_c_as_it_is() -> None:
    plain, lined = (softmax.compile(via="cuda", line_info=wanted) for wanted in (False, True))
    assert "#line" in lined.cuda
    assert "#line" not in plain.cuda
    assert [t for _, t in instructions(plain.sass())] == [t for _, t in instructions(lined.sass())]
    assert b"debug_line" in lined.cubin


@pytest.mark.parametrize("via", ["ptx", "cuda"])
def test_every_access_has_the_line_of_its_operation(via: str) -> None:
    compiled = kernels.explicit_shared.compile(via=via, line_info=True)
    spans = {op.NAME: op.span for op in compiled.launch_module.kernels[0].walk() if op.effects()}
    module = parse(compiled.ptx)
    found: dict[str, set[int]] = {}
    line = 0
    for statement in module.functions["explicit_shared"].body or []:
        if type(statement).__name__ == "Location":
            line = (statement.inlined_at or statement.place)[1]
        elif type(statement).__name__ == "Instruction":
            found.setdefault(statement.opcode.split(".")[0], set()).add(line)
    assert module.files[1] == __file__.replace("test_line_info", "kernels")
    assert found["cp"] <= {spans[n].line for n in ("copy_async", "commit_async", "wait_async")}
    assert spans["sync"].line in found["bar"]


@pytest.mark.parametrize("via", ["ptx", "cuda"])
def test_any_name_of_a_file(via: str, tmp_path: Path) -> None:
    """Quotes, backslashes and letters beyond ASCII."""
    from tilus.cli.loading import find_kernel

    path = tmp_path / 'ké"r\\n.py'
    path.write_text("import tilus as tl\n\n\n@tl.jit\ndef twice(x: tl.f32['N']):\n    i = tl.grid(1)\n"
                    "    tl.store(x, i, 2 * tl.load(x, i, 64))\n")
    compiled = find_kernel(f"{path}:twice").compile(via=via, line_info=True)
    assert str(path).replace('"', "'") in parse(compiled.ptx).files.values()
    assert compiled.metadata["registers"] > 0


@pytest.mark.parametrize("target", ["cpu", "ascend910b"])
def test_targets_without_lines(target: str) -> None:
    with pytest.raises(tl.UserError, match=f"line_info is for GPUs' code, not '{target}'"):
        softmax.compile(target, line_info=True)
