"""Missing barriers and waits are found when a kernel is compiled: the same that the interpreter finds when it runs."""

from __future__ import annotations

import linecache
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.gemm.matmul import matmul
from tests.lowering import hazard_kernels
from tests.lowering.test_order_memory import recurrence
from tilus.diagnostics import CheckError, Diagnostic, InternalError, TilusWarning, render
from tilus.ir.core import Block, Module
from tilus.ir.ops import Sync, WaitAsync
from tilus.lowering.hazards import find_hazards, verify_barriers
from tilus.lowering.pipelines import GPU_TILE_PASSES
from tilus.targets import get_target

GOLDEN = Path(__file__).parent / "golden_hazards"


def arrays() -> tuple[np.ndarray, np.ndarray]:
    return np.arange(256, dtype=np.float32), np.zeros(256, np.float32)


def hazards(kernel: Any, **constants: Any) -> list[Diagnostic]:
    specialisation = kernel.assume("contiguous", constants)
    return find_hazards(specialisation.trace(get_target("sm_80")))


def name_of(kernel: Any) -> str:
    return str(kernel.__name__)


@pytest.mark.filterwarnings("ignore::tilus.diagnostics.TilusWarning")
@pytest.mark.parametrize("kernel", hazard_kernels.CODES, ids=name_of)
def test_planted(kernel: Any) -> None:
    """Found, told as in the golden file, and the interpreter stops at it too."""
    found = hazards(kernel, fault=True)
    assert found[0].code == hazard_kernels.CODES[kernel]
    text = "\n\n".join(map(render, found)).replace(str(Path(__file__).parent) + os.sep, "") + "\n"
    path = GOLDEN / f"{kernel.__name__}.txt"
    if os.environ.get("TILUS_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
    # The interpreter does not follow reads after atomics.
    engine = "simulate:sm_80" if kernel is hazard_kernels.counter else "interpret"
    with pytest.raises(CheckError) as caught:
        kernel.on(engine)(*arrays(), fault=True)
    error = caught.value.diagnostics[0]
    assert error.code in ("E0701", "E0706")
    assert error.span in [d.span for d in found]


@pytest.mark.parametrize("kernel", [*hazard_kernels.CODES, *hazard_kernels.CLEAN], ids=name_of)
def test_clean(kernel: Any) -> None:
    """Nothing is said of the twin without the fault, which the interpreter runs."""
    assert hazards(kernel) == []
    kernel.on("interpret")(*arrays())


def test_no_golden_file_is_left_over() -> None:
    assert {p.stem for p in GOLDEN.glob("*.txt")} == {k.__name__ for k in hazard_kernels.CODES}


def test_a_warning_once_at_the_line_of_the_call() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]) -> None:
        tl.grid(1)
        s = tl.shared((64,), tl.f32)
        tl.store(s, 0, tl.load(x, 0, 64))
        tl.store(y, 0, tl.load(s))

    x, y = arrays()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            kernel(x, y)
        with tl.engine("simulate:sm_80"), pytest.raises(CheckError):
            kernel(x, y)
    assert [(w.category, w.filename) for w in caught] == [(TilusWarning, __file__)]
    assert "W0707" in str(caught[0].message)
    assert linecache.getline(__file__, caught[0].lineno).strip() == "kernel(x, y)"


# -- the compiler's own barriers


def scheduled(kernel: Any) -> Module:
    module: Module = kernel.assume("divisible", {}).trace(get_target("sm_80"))
    module.target = "sm_80"
    for name, run in GPU_TILE_PASSES:
        if name != "verify-barriers":
            run(module)
    return module


def without(block: Block, unwanted: Callable[[Any], bool]) -> bool:
    """Remove the first such operation, the innermost blocks first."""
    for op in block.ops:
        if any(without(region, unwanted) for region in op.regions):
            return True
    for at, op in enumerate(block.ops):
        if unwanted(op):
            del block.ops[at]
            return True
    return False


@pytest.mark.parametrize("unwanted", [Sync, WaitAsync], ids=["barrier", "wait"])
def test_a_ring_is_verified(unwanted: type) -> None:
    module = scheduled(matmul)
    verify_barriers(module)
    assert without(module.kernels[0].body, lambda op: isinstance(op, unwanted))
    with pytest.raises(InternalError, match="a barrier is missing"):
        verify_barriers(module)


def test_global_memory_is_verified() -> None:
    module = scheduled(recurrence)
    verify_barriers(module)
    while without(module.kernels[0].body, lambda op: isinstance(op, Sync)):
        pass
    with pytest.raises(InternalError, match="a barrier is missing"):
        verify_barriers(module)
