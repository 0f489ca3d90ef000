"""Spaces: iteration, size, membership, samples, neighbours, printing."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import tilus as tl
from tilus.tuning.space import GridSpace, ListSpace, Space

ROOT = Path(__file__).parents[2]
VALUES: dict[str, list[Any]] = {
    "BM": [128, 64, 256], "stages": [4, 2, 3], "dtype": [tl.f16, tl.bf16], "fast": [True, False]}
ALL = [dict(zip(VALUES, row, strict=True)) for row in itertools.product(*VALUES.values())]


def wanted(v: dict[str, Any]) -> bool:
    fits = v["BM"] * v["stages"] <= 512
    return fits and (v["dtype"] is tl.f16 or v["BM"] > 64) and (not v["fast"] or v["stages"] > 2)


@pytest.fixture
def space() -> Space:
    return GridSpace.of(VALUES, ["BM * stages <= 512", lambda dtype, BM: dtype is tl.f16 or BM > 64,
                                 "fast == 0 | stages > 2"])


def test_variants_come_in_the_order_of_the_values(space: Space) -> None:
    assert list(space) == [v for v in ALL if wanted(v)]
    assert len(space) == len(list(space))
    assert space.first() == next(iter(space))


def test_membership(space: Space) -> None:
    assert [v in space for v in ALL] == [wanted(v) for v in ALL]
    assert {"BM": 128} not in space
    assert {**ALL[0], "BM": 96} not in space
    assert {**ALL[0], "other": 1} not in space


def test_samples_are_different_variants_and_the_same_for_a_seed(space: Space) -> None:
    found = space.sample(5, seed=3)
    assert found == space.sample(5, seed=3) != space.sample(5, seed=4)
    assert all(v in space for v in found)
    assert len({tuple(v.values()) for v in found}) == 5
    everything = space.sample(1000)
    assert sorted(map(str, everything)) == sorted(map(str, space))


def test_every_variant_is_as_likely() -> None:
    space = GridSpace.of({"a": [1, 2, 3], "b": [1, 2]}, "a != 2 | b == 1")
    counts = Counter(str(v) for seed in range(500) for v in space.sample(1, seed))
    assert len(counts) == len(space) == 5
    assert all(60 < n < 140 for n in counts.values())


def test_samples_of_large_spaces() -> None:
    space = GridSpace.of({name: range(1, 33) for name in "abcdef"}, "a * b == 64 | c + d <= e + f")
    found = space.sample(200, seed=1)
    assert len({tuple(v.values()) for v in found}) == 200
    assert all(v in space for v in found)
    few = GridSpace.of({name: range(1, 33) for name in "abcde"}, "a + b + c + d + e <= 6")
    assert len(few.sample(100)) == len(few) == 6


def test_neighbours_differ_in_one_parameter(space: Space) -> None:
    for variant in space:
        found = list(space.neighbours(variant))
        assert found
        for other in found:
            assert other in space
            (name,) = [n for n in variant if variant[n] != other[n]]
            low, high = sorted(VALUES[name].index(v[name]) for v in (variant, other))
            assert not any({**variant, name: value} in space for value in VALUES[name][low + 1:high])
            assert variant in list(space.neighbours(other))


def test_numbers_that_are_not_known_leave_constraints_open() -> None:
    space = GridSpace.of({"BM": [64, 128]}, "BM <= M; BM * regs <= 4096", known=["M", "regs"])
    assert len(space) == 2
    assert list(space.at(M=64)) == [{"BM": 64}]
    assert list(space.at(M=128).at(regs=64)) == [{"BM": 64}]
    assert "(open: M)" in str(space)
    assert "open" not in str(space.at(M=64, regs=1))


def test_fixed_values_need_not_be_in_the_space() -> None:
    space = GridSpace.of({"BM": [64, 128], "BN": [64, 96]}, "BM <= BN")
    assert list(space.fixed(BM=80)) == [{"BM": 80, "BN": 96}]
    configs = ListSpace.of([{"BM": 64, "BN": 64}, {"BM": 128, "BN": 64}])
    assert list(configs.fixed(BM=128)) == [{"BM": 128, "BN": 64}]
    assert list(configs.fixed(BM=80)) == [{"BM": 80, "BN": 64}]


def test_configurations() -> None:
    configs = [{"BM": 64, "warps": 4}, {"BM": 128}, {"BM": 256, "warps": 8}]
    space = ListSpace.of(configs, "BM * warps <= 1024", known=["warps"], given={"warps": 4})
    assert list(space) == configs[:2]
    assert len(space) == 2
    assert configs[0] in space
    assert configs[2] not in space
    assert space.sample(2, seed=1) != configs
    assert list(ListSpace.of(configs).neighbours(configs[0])) == []


def test_neighbours_of_configurations() -> None:
    configs = [{"a": a, "b": b} for a in (1, 2, 4) for b in (1, 2) if a * b != 2]
    assert list(ListSpace.of(configs).neighbours({"a": 1, "b": 1})) == [{"a": 4, "b": 1}]


def test_one_and_true_are_two_values() -> None:
    space = GridSpace.of({"n": [1, True, 2.0]}, lambda n: n is not True)
    assert [type(v["n"]) for v in space] == [int, float]


def test_spaces_do_without_numpy_until_there_is_much_to_enumerate() -> None:
    code = """
import sys
from tilus.tuning.space import GridSpace
space = GridSpace.of({"a": range(1, 100), "b": range(1, 100), "c": range(1, 100)}, "a * b == 990; b < c; c % 7 == 3")
print(space.first(), "numpy" in sys.modules, "lark" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout == "{'a': 11, 'b': 90, 'c': 94} False False\n"


def test_printing() -> None:
    space = GridSpace.of({"BM": [64, 128], "n": range(1, 40)}, "BM * n <= 256")
    assert str(space) == ("6 variants\n"
                          "  BM     64, 128\n"
                          "  n      1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …, 39\n"
                          "  where  BM * n <= 256")


def test_a_configuration_is_a_mapping() -> None:
    config = tl.Config(BM=64, stages=2)
    assert dict(config) == {"BM": 64, "stages": 2}
    assert config == {"BM": 64, "stages": 2}
    assert repr(config) == "Config(BM=64, stages=2)"
    assert len({config, tl.Config(stages=2, BM=64)}) == 1
