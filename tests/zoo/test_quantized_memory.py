"""How the quantised products read their weights: bytes, widths, sectors, bank conflicts, spills."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import tilus as tl
from kernels_zoo.quantized import matmul as zoo
from tests.zoo.test_quantized import Problem

LOC = re.compile(r"\s*\.loc\s.*inlined_at \d+ (\d+)|\s*\.loc\s+\d+\s+(\d+)")
N, K = 256, 1024
LANES, VECTOR = 32, 16


def line_of_the_weights() -> int:
    lines, first = inspect.getsourcelines(zoo.weights_tile)
    return first + next(i for i, line in enumerate(lines) if "tl.load(w," in line)


def source_line(ptx: list[str], line: int) -> int:
    """The line of the source that an instruction of the PTX comes from."""
    for text in reversed(ptx[: line - 1]):
        found = LOC.match(text)
        if found:
            return int(found[1] or found[2])
    return 0


def simulated(wtype: tl.DType, m: int, route: str) -> tuple[Any, list[Any]]:
    """The report of a product, and the counts of the instructions that read weights."""
    p = Problem(m, N, K, wtype)
    engine = f"simulate:sm_80:{route}"
    with tl.engine(engine):
        zoo.multiply(p.x, zoo.Weights(p.q), p.y)
    assert p.error() <= p.tolerance
    kernel = zoo.quantized_matmul_split_k
    runner = next(s.runners[engine] for s in reversed(kernel._specialisations.values())
                  if s.constants["wtype"] is wtype and engine in s.runners)
    report, ptx = runner.reports[0], runner.kernel.ptx.splitlines()
    weights = line_of_the_weights()
    return report, [site for site in report.sites if source_line(ptx, site.line) == weights]


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("route", ["ptx", "cuda"])
@pytest.mark.parametrize("m", [1, 16])
@pytest.mark.parametrize("bits", range(1, 9))
def test_weights_are_read_once_by_128_bits(bits: int, m: int, route: str) -> None:
    wtype = tl.integer(bits, False)
    report, sites = simulated(wtype, m, route)
    assert sum(site.bytes for site in sites if site.space == "global") == N * K * bits // 8
    assert {site.space for site in sites} == {"global", "shared"}
    for site in sites:
        assert site.bytes == site.requests * LANES * VECTOR, site
        assert site.units == site.ideal, site
    assert report.bank_conflicts == 0


@pytest.mark.parametrize("bits", range(1, 9))
def test_nothing_spills(bits: int) -> None:
    wtype = tl.integer(bits, False)
    compiled = zoo.quantized_matmul_split_k.compile(
        "sm_80", prepacked=("w",), wtype=wtype, zeros=None, bias=None, zero=float(2 ** (bits - 1)))
    assert compiled.metadata["spill_stores"] == compiled.metadata["spill_loads"] == 0
