"""Paths, trip counts and accesses of kernels of the zoo, against numbers worked out by hand and the PTX simulator."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import tilus as tl
from tests.zoo.test_zoo import KERNELS
from tilus.model.launch import launches_of
from tilus.model.paths import LoopRun
from tilus.model.sample import Sample, take_sample
from tilus.model.sass import parse_sass
from tilus.runtime.compile import compile_specialisation
from tilus.runtime.toolchains.binutils import disassemble
from tilus.targets import get_target

L2 = 40 << 20


def samples(compiled: Any, arguments: Any, wave: int | None = None) -> list[Sample]:
    """Of all kernels of a call."""
    found = []
    for code, launch in launches_of(compiled, arguments):
        target, facts = get_target(code.target), code.launches[launch.program]
        program = parse_sass(disassemble(code.cubin, ("-c", "-hex")))[launch.program]
        resident = target.resident_blocks(facts.threads, facts.registers, facts.dynamic_shared_bytes)
        found.append(take_sample(program, launch, target, wave_blocks=wave or target.sm_count * resident, l2_bytes=L2))
    return found


def kernel_of(name: str) -> Any:
    return getattr(importlib.import_module(f"kernels_zoo.{name}"), KERNELS[name])


def zoo(name: str, target: str, arguments: dict[str, Any], via: str = "ptx", **constants: Any) -> list[Sample]:
    return samples(kernel_of(name).compile(target, via, **constants), arguments)


def totals(sample: Sample) -> tuple[float, float]:
    """Sectors of global memory and wavefronts in shared memory of a whole launch."""
    sectors = wavefronts = 0.0
    for access in sample.accesses.values():
        requests = sample.executions.get(access.instruction, 0.0) * access.requests
        sectors += requests * access.sectors if access.space == "global" else 0.0
        wavefronts += requests * access.wavefronts
    return round(sectors, 6), round(wavefronts, 6)


def runs(sample: Sample, block: int = 0, warp: int = 0) -> list[LoopRun]:
    """The loops that a warp enters, outermost ones."""
    return [part for part in sample.blocks[block].warps[warp] if isinstance(part, LoopRun)]


@pytest.mark.parametrize("target", ["sm_80", "sm_90a", "sm_120a"])
def test_iterations_of_a_pipelined_product(target: str) -> None:
    """Three stages of 32 along K: two are loaded before the main loop, whose iterations are unrolled by three, and
    drained after it."""
    sample, = zoo("gemm.matmul", target, {"a": (512, 4096), "b": (4096, 512), "c": (512, 512)})
    main, drain = runs(sample)
    assert (main.count, drain.count) == (42, 2)  # (4096 - 64) // 96, and the two stages that are left
    assert len(main.iterations) >= 3
    assert sum(block.weight for block in sample.blocks) == 16
    assert sample.unknown_opcodes == frozenset()
    assert sample.assumed == ()
    assert {name: work.tolist() for name, work in sample.block_work.items()} == {
        main.first: [42] * 16, drain.first: [2] * 16}


def test_traffic_of_a_small_product() -> None:
    """What fits into L2 is read once, and asked for by every block of a row or column of the grid."""
    sample, = zoo("gemm.matmul", "sm_80", {"a": (512, 4096), "b": (4096, 512), "c": (512, 512)})
    size = 512 * 4096 * 2
    assert sample.traffic.requested_bytes == pytest.approx(
        {"a": 4 * size, "b": 4 * size, "c": 512 * 512 * 2})
    assert sample.traffic.dram_bytes == pytest.approx({"a": size, "b": size})
    assert sample.traffic.written_bytes == {"c": 512 * 512 * 2}


@pytest.mark.parametrize("target", ["sm_80", "sm_120a"])
def test_vectors(target: str) -> None:
    n = 1 << 22
    sample, = zoo("elementwise.vector_add", target, {"x": (n,), "y": (n,), "z": (n,)})
    assert sample.traffic.dram_bytes == {"x": 4 * n, "y": 4 * n}
    assert sample.traffic.written_bytes == {"z": 4 * n}
    assert {a.sectors for a in sample.accesses.values()} == {16.0}


def test_rows_longer_than_a_tile() -> None:
    sample, = zoo("normalization.softmax", "sm_80", {"x": (1000, 10_000), "y": (1000, 10_000)})
    assert {run.count for run in runs(sample)} <= {9, 10}
    assert sample.traffic.requested_bytes["x"] == 2 * 1000 * 10_000 * 4
    assert sample.traffic.dram_bytes["x"] >= 1000 * 10_000 * 4


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("route", ["ptx", "cuda"])
@pytest.mark.parametrize(("name", "shape"), [
    ("elementwise.vector_add", (1025,)), ("data_movement.transpose", (63, 65)), ("normalization.softmax", (9, 1025)),
    ("gemm.matmul", (128, 128, 64)), ("attention.flash_attention", (1, 65, 191, 2, 2, 59)),
], ids=str)
def test_counters_are_those_of_the_simulator(name: str, shape: tuple[int, ...], route: str) -> None:
    module = importlib.import_module(f"kernels_zoo.{name}")
    case = module.case(shape, tl.f16 if name.startswith(("gemm", "attention")) else tl.f32)
    compare(kernel_of(name), case, "sm_80", route)


def compare(kernel: Any, case: Any, target: str, route: str) -> None:
    """Sectors and wavefronts of each kernel of a call, by the model, which reads machine code, and by the simulator,
    which reads PTX: the code may have a few accesses to shared memory less."""
    call = kernel.prepared(f"simulate:{target}:{route}", tuple(case.arguments), case.constants)
    runner = call.compile()
    runner.run(call.call.arguments)
    compiled = compile_specialisation(call.specialisation, target, route)
    found = [totals(s) for s in samples(compiled, call.call.arguments)]
    assert [sectors for sectors, _ in found] == [report.global_sectors for report in runner.reports]
    for (_, wavefronts), report in zip(found, runner.reports, strict=True):
        assert 0.98 * report.shared_wavefronts <= wavefronts <= report.shared_wavefronts


def test_large_arrays_take_no_memory() -> None:
    sample, = zoo("elementwise.vector_add", "sm_80", dict.fromkeys("xyz", (1 << 28,)))
    assert sample.traffic.dram_bytes["x"] == 1 << 30
    assert len(sample.block_numbers) == 4096
