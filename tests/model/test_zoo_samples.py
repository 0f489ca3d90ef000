"""Every kernel of the zoo by both routes: counts are those of the PTX simulator, and no opcode is unknown."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.model.test_sample import kernel_of, samples, totals
from tests.zoo.test_zoo import KERNELS, dtypes_of, size_of, variants
from tilus.model.emulate.code import steps_of, unknown_opcodes
from tilus.model.sass import parse_sass
from tilus.runtime.compile import compile_specialisation
from tilus.runtime.toolchains.binutils import disassemble

TARGETS = ["sm_75", "sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120a"]
TOO_LARGE = {("quantized.matmul_int8", "sm_75")}
"""It needs more shared memory than the target has."""
SEMAPHORES = ("gemm.matmul_split_k",)
"""How often blocks of these look at a semaphore nobody knows."""


@pytest.mark.slow
@pytest.mark.parametrize("route", ["ptx", "cuda"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KERNELS)
def test_all_opcodes_are_known(name: str, target: str, route: str) -> None:
    if (name, target) in TOO_LARGE:
        return
    compiled = kernel_of(name).compile(target, route)
    for program in parse_sass(disassemble(compiled.cubin, ("-c", "-hex"))).values():
        assert unknown_opcodes(steps_of(program)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("route", ["ptx", "cuda"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90a", "sm_120a"])
@pytest.mark.parametrize("name", [n for n in KERNELS if n not in SEMAPHORES])
def test_counters_are_those_of_the_simulator(name: str, target: str, route: str) -> None:
    """Sectors agree. Wavefronts do too, but where ptxas leaves loads out under a guard, or makes one of several: then
    there are fewer."""
    module: Any = importlib.import_module(f"kernels_zoo.{name}")
    ran = 0
    for keywords in variants(name):
        for shape in [s for s in module.SHAPES if all(s)][:4]:
            case = module.case(shape, dtypes_of(name)[-1], **keywords)
            if size_of(case) > 40_000:
                continue
            call = kernel_of(name).prepared(f"simulate:{target}:{route}", tuple(case.arguments), case.constants)
            runner = call.compile()
            runner.run(call.call.arguments)
            compiled = compile_specialisation(call.specialisation, target, route)
            for sample, report in zip(samples(compiled, call.call.arguments), runner.reports, strict=True):
                sectors, wavefronts = totals(sample)
                assert sectors == report.global_sectors, (shape, keywords)
                fewest = (0.99 if name != "reduction.row_sum" else 0.85) * report.shared_wavefronts
                assert fewest <= wavefronts <= report.shared_wavefronts, (shape, keywords)
                ran += 1
    assert ran >= 2
