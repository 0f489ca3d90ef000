"""Every kernel of the zoo by both GPU routes, executed and checked by the simulator, against its float64 reference."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from kernels_zoo.checking import run
from tests.zoo.test_zoo import KERNELS

LARGEST = 3_000_000
"""Product of the extents of the largest shape that is run by default."""


def shapes_of(name: str) -> list[tuple[int, ...]]:
    shapes = importlib.import_module(f"kernels_zoo.{name}").SHAPES
    return [s for s in shapes if np.prod([max(1, n) for n in s], dtype=float) <= LARGEST]


def check(name: str, shape: tuple[int, ...], engine: str) -> None:
    module = importlib.import_module(f"kernels_zoo.{name}")
    case = module.case(shape)
    assert run(getattr(module, KERNELS[name]), case, engine) <= case.tolerance, (shape, engine)


@pytest.mark.parametrize("route", ["cuda", "ptx"])
@pytest.mark.parametrize("name", KERNELS)
def test_small_shape(name: str, route: str) -> None:
    """One shape that is neither empty nor the largest, on sm_80, with every check of the simulator on."""
    shape = sorted(shapes_of(name), key=np.prod)[-1]
    check(name, shape, f"simulate:sm_80:{route}")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_70", "sm_75", "sm_80", "sm_90a", "sm_120a"])
@pytest.mark.parametrize("route", ["cuda", "ptx"])
@pytest.mark.parametrize("name", KERNELS)
def test_all_shapes(name: str, route: str, target: str) -> None:
    for shape in shapes_of(name):
        check(name, shape, f"simulate:{target}:{route}")
