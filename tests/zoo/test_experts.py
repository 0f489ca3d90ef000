"""Experts with quantised weights: rows sorted by expert, tiles numbered across experts, and the whole layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import Array, empty, relative_error, run, wide
from kernels_zoo.quantized import experts as zoo
from tests.zoo.turns import ROUTES, by_turns

TYPES = [tl.u4, tl.nf4, tl.u3, tl.f6e3m2, tl.i8]


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize(("wtype", "engine"), by_turns(TYPES, ["cpu", "interpret", *ROUTES]))
def test_products(wtype: tl.DType, engine: str) -> None:
    for shape in zoo.SHAPES if engine == "cpu" else zoo.SHAPES[:2]:
        case = zoo.case(shape, wtype=wtype)
        assert run(zoo.quantized_matmul_grouped, case, engine, BM=16, BN=64) <= case.tolerance, shape


@pytest.mark.parametrize("engine", ["cpu", ROUTES[0]])
def test_zero_points(engine: str) -> None:
    case = zoo.case((30, 72, 256, 3), tl.bf16, symmetric=False)
    assert run(zoo.quantized_matmul_grouped, case, engine, BM=16, BN=64) <= case.tolerance


@pytest.mark.parametrize("counts", [[0, 0, 0], [16, 0, 17], [0, 1, 0, 0, 40], [48], [1] * 9], ids=str)
def test_which_tiles_are_whose(counts: list[int]) -> None:
    """Every row once: of experts without rows, with whole tiles and with one row more."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    rows = int(offsets[-1])

    @tl.jit
    def owners(offsets: tl.i32["offsets"], found: tl.i32["M"], BM: int = 16, most: int = 16):
        t = tl.grid(tl.cdiv(found.shape[0], BM) + offsets.shape[0] - 1)
        e, first = zoo.expert_of(offsets, t, BM, most)
        if e < offsets.shape[0] - 1:
            own = found[offsets[e] : offsets[e + 1]]
            tl.store(own, first, tl.load(own, first, BM) + 1 + e)

    found = np.zeros(rows, np.int32)
    owners.on("interpret")(offsets, found)
    np.testing.assert_array_equal(found, np.repeat(np.arange(len(counts)), counts) + 1)


def layer(x: Array, choices: Array, weights: Array, numbers: list[Array]) -> Array:
    """The whole mixture in f64."""
    gate, up, down = numbers
    y = np.zeros((len(x), down.shape[2]))
    for (t, n), e in np.ndenumerate(choices):
        left, right = x[t] @ gate[e], x[t] @ up[e]
        y[t] += weights[t, n] * ((left / (1 + np.exp(-left)) * right) @ down[e])
    return y


@pytest.mark.parametrize(("wtype", "engine"), by_turns([tl.u4, tl.nf4], ["cpu", "interpret", ROUTES[0], ROUTES[3]]))
def test_layer(wtype: tl.DType, engine: str) -> None:
    rng, (tokens, k, n, count) = np.random.default_rng(0), (13, 128, 136, 6)
    made = [tl.quantize(rng.standard_normal(shape).astype(np.float32) * 0.1, wtype, group=group, axis=1,
                        scale_dtype=tl.f16) for shape, group in (((count, k, n), 64), ((count, k, n), 64),
                                                                 ((count, n, k), -1))]
    choices = np.stack([rng.permutation(count - 2)[:2] + 1 for _ in range(tokens)])  # the first and last are idle
    weights = rng.random((tokens, 2)).astype(np.float32)
    x, y = (rng.standard_normal((tokens, k)) * 0.5).astype(np.float16), empty((tokens, k), tl.f32)
    with tl.engine(engine):
        tile: dict[str, Any] = {} if engine == "cpu" else {"BM": 16, "BN": 64}
        zoo.forward(x, zoo.Routing(choices, weights, count), zoo.Experts(*made), y, **tile)
    expected = layer(wide(x), choices, wide(weights), [wide(tl.dequantize(q)) for q in made])
    assert relative_error(y, expected) <= 2e-3


def test_routing() -> None:
    choices = np.array([[2, 0], [2, 1], [0, 2]])
    routing = zoo.Routing(choices, np.ones((3, 2)), 4)
    np.testing.assert_array_equal(routing.offsets, [0, 2, 3, 6, 6])
    np.testing.assert_array_equal(routing.tokens, [0, 2, 1, 0, 1, 2])
    np.testing.assert_array_equal(routing.tokens[routing.places], [[0, 0], [1, 1], [2, 2]])
    empty_one = zoo.Routing(np.zeros((0, 2), int), np.ones((0, 2)), 2)
    np.testing.assert_array_equal(empty_one.offsets, [0, 0, 0])


@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize("target", ["sm_80", pytest.param("sm_90a", marks=pytest.mark.slow),
                                    pytest.param("sm_120a", marks=pytest.mark.slow)])
def test_no_spills(target: str, via: str) -> None:
    for kernel in (zoo.quantized_matmul_grouped, zoo.experts_gate_and_up, zoo.experts_combine):
        optional = {} if kernel is zoo.experts_combine else {"wtype": tl.u4}
        assert kernel.compile(target, via=via, **optional).metadata["spill_stores"] == 0, kernel


def test_too_many_experts() -> None:
    case = zoo.case((7, 8, 64, 5))
    with pytest.raises(tl.UserError, match="there are more experts than `most`"):
        zoo.quantized_matmul_grouped.on("cpu")(*case.arguments, **case.constants, most=4)
