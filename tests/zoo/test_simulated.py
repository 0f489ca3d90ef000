"""Every kernel of the zoo by both GPU routes, executed and checked by the simulator, against its float64 reference."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import relative_error, run
from tests.zoo.test_zoo import KERNELS, dtypes_of, variants

FUSED = {"fused.mlp": "mlp", "fused.softmax": "softmax"}
ALL = {**KERNELS, **FUSED}
TARGETS = ("sm_70", "sm_75", "sm_80", "sm_90a", "sm_120a")
LARGEST = 3_000_000
"""Product of the extents of the largest shape that is run by default."""
SMALLER = 150_000
"""And of the largest of the variants in other types, which say little new about sizes."""
TILES = {
    "gemm.matmul": {"BM": 64, "BN": 64, "stages": 2}, "gemm.matmul_explicit": {"BM": 64, "BN": 64, "stages": 2},
    "gemm.matmul_split_k": {"BM": 32, "BN": 32}, "gemm.batched_matmul": {"BM": 32, "BN": 32},
    "attention.flash_attention": {"BM": 32, "BN": 32}, "attention.flash_attention_backward": {"BM": 32, "BN": 32},
    "attention.bias_gradient": {"BM": 32, "BN": 32},
    "quantized.matmul": {"BM": 16, "BN": 64, "stages": 2}, "quantized.matmul_int8": {"BM": 16, "BN": 64, "stages": 2},
}
"""Tiles of the variants: f32 tiles of the default sizes don't fit the 64 KiB of shared memory of sm_75."""


def shapes_of(name: str, limit: float = float("inf")) -> list[tuple[int, ...]]:
    shapes = importlib.import_module(f"kernels_zoo.{name}").SHAPES
    return [s for s in shapes if np.prod([max(1, n) for n in s], dtype=float) <= limit]


@functools.lru_cache(maxsize=64)
def interpreted(name: str, shape: tuple[int, ...], dtype: tl.DType | None,
                keywords: tuple[tuple[str, Any], ...]) -> Any:
    """Outputs of the interpreter."""
    module = importlib.import_module(f"kernels_zoo.{name}")
    case = module.case(shape, *([dtype] if dtype else []), **dict(keywords))
    run(getattr(module, ALL[name]), case, "interpret")
    return case.outputs


def check(name: str, shape: tuple[int, ...], engine: str, dtype: tl.DType | None = None, **keywords: Any) -> None:
    """The simulated outputs against the reference and against the interpreter; a check that fires is an exception."""
    module = importlib.import_module(f"kernels_zoo.{name}")
    case = module.case(shape, *([dtype] if dtype else []), **keywords)
    tiles = TILES.get(name, {}) if dtype else {}
    assert run(getattr(module, ALL[name]), case, engine, **tiles) <= case.tolerance, (shape, engine, dtype, keywords)
    plain = interpreted(name, shape, dtype, tuple(keywords.items()))
    for output, other in zip(case.outputs, plain, strict=True):
        assert relative_error(output, other.astype(np.float64)) <= case.tolerance, (shape, engine, dtype, keywords)


@pytest.mark.sweep(keep=12)
@pytest.mark.parametrize("route", ["cuda", "ptx"])
@pytest.mark.parametrize("name", ALL)
def test_small_shape(name: str, route: str) -> None:
    """One shape that is neither empty nor the largest, on sm_80, with every check of the simulator on."""
    shape = sorted(shapes_of(name, LARGEST), key=np.prod)[-1]
    check(name, shape, f"simulate:sm_80:{route}")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("route", ["cuda", "ptx"])
@pytest.mark.parametrize("name", ALL)
def test_all_shapes(name: str, route: str, target: str) -> None:
    for shape in shapes_of(name):
        check(name, shape, f"simulate:{target}:{route}")


VARIANTS = [(name, dtype, keywords) for name in KERNELS for dtype in dtypes_of(name) for keywords in variants(name)]
VARIANTS += [(name, dtype, {}) for name in FUSED for dtype in (tl.f32, tl.f16, tl.bf16)]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("route", ["cuda", "ptx"])
@pytest.mark.parametrize(("name", "dtype", "keywords"), VARIANTS, ids=str)
def test_variants(name: str, dtype: tl.DType, keywords: dict[str, Any], route: str, target: str) -> None:
    """Every type that a kernel takes, and causal attention."""
    for shape in shapes_of(name, SMALLER):
        check(name, shape, f"simulate:{target}:{route}", dtype, **keywords)
