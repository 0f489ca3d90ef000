"""Fused functions against float64 NumPy, on every engine."""

from __future__ import annotations

import importlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import relative_error, run
from tests.array.functions import FUNCTIONS, mlp, softmax, two_layers

TOLERANCES = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 1e-2, "float64": 1e-12}
SIMULATED = ("simulate:sm_80", "simulate:sm_80:ptx")


def normal(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> Any:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def check(function: Any, reference: Any, arguments: Any, engine: str, **keywords: Any) -> None:
    expected = reference(*(a.astype(np.float64) for a in arguments))
    found = function.on(engine)(*arguments, **keywords)
    several = isinstance(expected, tuple)
    assert isinstance(found, tuple) == several
    for got, wanted in zip(found if several else (found,), expected if several else (expected,), strict=True):
        assert got.dtype == arguments[0].dtype
        assert got.shape == np.shape(wanted)
        assert relative_error(np.atleast_1d(got), np.atleast_1d(wanted)) <= TOLERANCES[arguments[0].dtype.name]


def kernels_of(function: Any, arguments: Any) -> list[str]:
    """The kernels that a call is."""
    function = tl.fuse(function.__wrapped__)
    function.on("interpret")(*arguments)
    program = list(function._programs.values())[-1]
    (specialisation,) = list(list(program.kernels.values())[-1]._specialisations.values())[-1:]
    return [k.name for k in specialisation.trace().kernels]


@pytest.mark.sweep(keep=9)
@pytest.mark.parametrize("engine", ["interpret", "cpu"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_against_numpy(name: str, engine: str) -> None:
    function, reference, shapes, _ = FUNCTIONS[name]
    for given in shapes:
        arguments = [normal(s, seed=i) for i, s in enumerate(given)]
        if name == "both_ways":
            arguments = [abs(a) + 1 for a in arguments]
        check(function, reference, arguments, engine)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("name", ["mlp", "softmax", "rms_norm", "layer_norm"])
def test_element_types(name: str, dtype: Any) -> None:
    function, reference, shapes, _ = FUNCTIONS[name]
    for given in shapes:
        check(function, reference, [normal(s, dtype, i) for i, s in enumerate(given)], "cpu")


@pytest.mark.parametrize("engine", SIMULATED)
@pytest.mark.parametrize("name", ["softmax", "layer_norm", "two_layers", "column_sums", "sum_of_squares",
                                  "centre_columns", "add_transposed"])
def test_simulated(name: str, engine: str) -> None:
    function, reference, shapes, _ = FUNCTIONS[name]
    small = min((s for s in shapes if all(0 not in n for n in s)), key=lambda s: sum(map(np.prod, s)))
    check(function, reference, [normal(s, seed=i) for i, s in enumerate(small)], engine)


@pytest.mark.parametrize("engine", SIMULATED)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_simulated_epilogue(dtype: Any, engine: str) -> None:
    _, reference, _, _ = FUNCTIONS["mlp"]
    check(mlp, reference, [normal(s, dtype) for s in ((33, 40), (40, 35), (35,))], engine)


@pytest.mark.parametrize("engine", SIMULATED)
def test_simulated_rows_longer_than_a_tile(engine: str) -> None:
    _, reference, _, _ = FUNCTIONS["softmax"]
    check(softmax, reference, [normal((3, 300))], engine, BN=128)


@pytest.mark.parametrize("name", [n for n, f in FUNCTIONS.items() if f[3]])
def test_number_of_kernels(name: str) -> None:
    function, _, shapes, count = FUNCTIONS[name]
    arguments = [normal(s) for s in shapes[-1]]
    assert len(kernels_of(function, arguments)) == count


def test_non_contiguous_views() -> None:
    _, reference, _, _ = FUNCTIONS["mlp"]
    check(mlp, reference, [normal((90, 40))[::2, ::-1], normal((70, 40)).T, normal((140,))[::2]], "cpu")
    _, reference, _, _ = FUNCTIONS["softmax"]
    check(softmax, reference, [normal((9, 40)).T], "cpu")
    check(softmax, reference, [np.broadcast_to(normal((1, 40)), (5, 40))], "cpu")


def test_intermediates_are_not_rounded() -> None:
    """The sum of f16 values beyond their range, and a difference that rounding would lose."""

    @tl.fuse
    def scaled(x):
        return x * 1000.0 * 0.001

    x = np.full((3, 5), 100.0, np.float16)
    np.testing.assert_array_equal(scaled(x), x)

    @tl.fuse
    def through_f16(x):
        return (x * 1000.0).to(tl.f16) * 0.001

    assert np.isinf(through_f16(x)).all()


def test_materialised_intermediates_are_not_rounded_either() -> None:
    x, w = np.full((4, 64), 100.0, np.float16), np.full((64, 64), 10.0, np.float16)
    small = np.full((64, 3), 2.0**-20, np.float16)
    expected = (np.maximum(x.astype(np.float64) @ w, 0) @ small.astype(np.float64))
    assert relative_error(two_layers(x, w, small), expected) < 2e-3


def test_the_type_of_the_output() -> None:
    @tl.fuse
    def add(x, y):
        return x + y

    @tl.fuse
    def converted(x):
        return (x + 1).to(tl.f32), x.to(tl.bf16), x > 0

    half, single = np.ones(5, np.float16), np.ones(5, np.float32)
    assert add(half, half).dtype == np.float16
    assert add(half, single).dtype == np.float32
    assert add(half, np.arange(5)).dtype == np.float16
    assert add(np.arange(5, dtype=np.int32), np.arange(5, dtype=np.int32)).dtype == np.int32
    assert [o.dtype for o in converted(half)] == [np.float32, ml_dtypes.bfloat16, np.bool_]


def test_integers_and_conditions() -> None:
    @tl.fuse
    def clipped(x, y):
        return tl.where(x > y, x % 7, -y), tl.sum(x), tl.any(x == y, axis=0)

    rng = np.random.default_rng(0)
    x, y = rng.integers(-50, 50, (33, 20), np.int32), rng.integers(-50, 50, (20,), np.int32)
    for engine in ("cpu", "interpret"):
        chosen, total, equal = clipped.on(engine)(x, y)
        np.testing.assert_array_equal(chosen, np.where(x > y, x % 7, -y))
        assert total == x.sum()
        np.testing.assert_array_equal(equal, (x == y).any(axis=0))


def test_integer_products() -> None:
    @tl.fuse
    def product(x, y):
        return x @ y

    rng = np.random.default_rng(0)
    x, y = rng.integers(-128, 128, (33, 20), np.int8), rng.integers(-128, 128, (20, 9), np.int8)
    np.testing.assert_array_equal(product(x, y), x.astype(np.int32) @ y)


def test_vectors_and_batches() -> None:
    @tl.fuse
    def product(x, y):
        return x @ y

    for a, b in (((5,), (5, 3)), ((4, 5), (5,)), ((5,), (5,)), ((2, 4, 5), (5, 3)), ((2, 1, 4, 5), (3, 5, 6))):
        check(product, np.matmul, [normal(a), normal(b)], "cpu")


@pytest.mark.parametrize("engine", ["interpret", "cpu", "simulate:sm_80"])
def test_packed_outputs(engine: str) -> None:
    @tl.fuse
    def quantised(x, w):
        y = x @ w.to(tl.f32)
        return y.to(tl.i5), (y * 0.25).to(tl.nf4), w

    x, w = np.arange(15, dtype=np.float32).reshape(3, 5) - 7, tl.pack(np.arange(35).reshape(5, 7) % 4 - 2, tl.i3)
    y = x @ tl.unpack(w)
    for found, wanted, dtype in zip(quantised.on(engine)(x, w), (y, y * 0.25, tl.unpack(w)), (tl.i5, tl.nf4, tl.i3),
                                    strict=True):
        assert found.dtype is dtype
        np.testing.assert_array_equal(tl.unpack(found), tl.unpack(tl.pack(wanted, dtype)))
    assert tl.unpack(tl.fuse(lambda a: a.T).on(engine)(w)).tolist() == tl.unpack(w).T.tolist()


def test_out() -> None:
    x = normal((7, 9))
    out = np.full((7, 9), np.nan, np.float32)
    assert softmax(x, out=out) is out
    np.testing.assert_array_equal(out, softmax(x))


def test_parameters_that_are_no_arrays() -> None:
    @tl.fuse
    def scale(x, factor: tl.f32, power=2, bias: tl.f32["N"] | None = None):
        y = factor * x**power
        return y if bias is None else y + bias

    x = normal((3, 5))
    np.testing.assert_allclose(scale(x, 1.5), 1.5 * x**2, rtol=1e-6)
    np.testing.assert_allclose(scale(x, 2.5, power=3), 2.5 * x**3, rtol=1e-6)
    np.testing.assert_allclose(scale(x, 2.5, bias=normal((5,))), 2.5 * x**2 + normal((5,)), rtol=1e-5)
    assert len(scale._programs) == 3


def test_extents_are_not_specialised() -> None:
    @tl.fuse
    def double(x):
        return x + x

    for n in (2, 3, 17, 100, 0):
        np.testing.assert_array_equal(double(normal((n, 33))), 2 * normal((n, 33)))
    assert len(double._programs) == 1


def test_extents_are_scalars_in_the_function() -> None:
    @tl.fuse
    def average(x):
        return tl.sum(x, axis=0) / x.shape[0]

    np.testing.assert_allclose(average(normal((40, 6))), normal((40, 6)).mean(0), rtol=1e-5)


def test_fused_functions_call_each_other() -> None:
    @tl.fuse
    def twice(x):
        return softmax(softmax(x))

    _, reference, _, _ = FUNCTIONS["softmax"]
    check(twice, lambda x: reference(reference(x)), [normal((5, 33))], "cpu")


def test_tile_sizes_can_be_given() -> None:
    _, reference, _, _ = FUNCTIONS["mlp"]
    arguments = [normal((33, 40)), normal((40, 35)), normal((35,))]
    check(mlp, reference, arguments, "interpret", BM=16, BN=32, BK=16, warps=1)


def test_torch() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(5, 7)
    y = softmax(x)
    assert isinstance(y, torch.Tensor)
    torch.testing.assert_close(y, torch.softmax(x, 1))


@pytest.mark.parametrize("name", ["mlp", "softmax"])
def test_zoo(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"kernels_zoo.fused.{name}")
    module.main()
    assert capsys.readouterr().out.count("(ok)") == len(module.SHAPES)
    case = module.case(module.SHAPES[3], tl.bf16)
    assert run(getattr(module, name), case, "interpret") <= case.tolerance


def test_repeated_calls() -> None:
    """The second call of a kind takes a shorter way."""

    @tl.fuse
    def combine(x, y, factor=2.0):
        return x * factor + y

    x, y, z = normal((3, 5)), normal((5,)), normal((3, 1))
    for _ in range(3):
        np.testing.assert_allclose(combine(x, y), x * 2 + y, rtol=1e-5)
        np.testing.assert_allclose(combine(x, y=z), x * 2 + z, rtol=1e-5)
        np.testing.assert_allclose(combine(y=y, x=x, factor=3.0), x * 3 + y, rtol=1e-5)
        np.testing.assert_allclose(combine(y, x, 0.5), y * 0.5 + x, rtol=1e-5)
        with pytest.raises(tl.UserError, match="E0602"):
            combine(x, normal((4,)))
