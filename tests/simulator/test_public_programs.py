"""Programs in the style of public CUDA C++: right values, and no false alarm."""

from __future__ import annotations

import numpy as np
import pytest

from tests.simulator.public_programs import PROGRAMS, Program, available, compiled
from tilus import simulator

pytestmark = pytest.mark.skipif(not available(), reason="nvcc, a host compiler or the headers of CCCL are missing")


def check(program: Program, arch: str) -> None:
    args, results = program.make()
    wanted = [np.array(value) for _, value in results]
    report = simulator.launch(compiled(program.arch, program.quick, arch), program.name, program.grid, program.block,
                              args, collect=True, max_steps=2_000_000, **program.options)
    assert not report.errors, "\n".join(report.fault_lines())
    for (found, _), value in zip(results, wanted, strict=True):
        np.testing.assert_allclose(found, value, rtol=program.tolerance, atol=program.tolerance)


@pytest.mark.sweep(keep=6)
@pytest.mark.parametrize("program", [pytest.param(p, id=p.name, marks=() if p.quick else pytest.mark.slow)
                                     for p in PROGRAMS])
def test_values_and_no_faults(program: Program) -> None:
    check(program, program.arch)


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_compiled_for_a_later_device(program: Program) -> None:
    """What nvcc makes of them for sm_100a: other instructions, and other paths through the headers."""
    check(program, "sm_100a")


def test_there_are_enough() -> None:
    assert len({program.name for program in PROGRAMS}) == len(PROGRAMS) >= 60
