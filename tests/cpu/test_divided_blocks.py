"""Blocks that several cores share: the results are those of whole blocks, to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.gemm.matmul import matmul
from tests.cpu import divided_blocks as kernels
from tests.cpu.support import trace
from tilus.ir.ops import PartStart
from tilus.lowering.cpu import lower_module
from tilus.model.cpu.launches import LaunchFunction, bind

Arrays = dict[str, Any]


class Strided(NamedTuple):
    """An array as the launch function gets it, with strides in elements."""

    shape: Sequence[int]
    strides: Sequence[int]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = tl.get_num_threads()
    yield
    tl.set_num_threads(before)


def normal(*shape: int, dtype: Any = "f4", seed: int = 0) -> np.ndarray[Any, Any]:
    x = np.random.default_rng(seed).standard_normal(shape)
    return (x * 8).astype(dtype) if np.dtype(dtype).kind == "i" else x.astype(dtype)


def compare(kernel: Any, outputs: tuple[str, ...], arguments: Arrays, reference: Callable[..., Any] | None = None,
            **constants: Any) -> None:
    """Calls with some numbers of cores; and what is expected of the outputs, in f64, or the interpreter's."""
    found: dict[int, list[np.ndarray[Any, Any]]] = {}
    for threads in (1, 2, 3, 7):
        tl.set_num_threads(threads)
        given = {n: np.full_like(v, 7) if n in outputs else v for n, v in arguments.items()}
        kernel(**given, **constants)
        found[threads] = [given[n] for n in outputs]
    for several in (2, 3, 7):
        for whole, parts in zip(found[1], found[several], strict=True):
            np.testing.assert_array_equal(whole, parts)
    if reference is not None:
        expected = reference(**{n: v.astype("f8") for n, v in arguments.items() if n not in outputs})
    else:
        given = {n: np.full_like(v, 7) if n in outputs else v for n, v in arguments.items()}
        with tl.engine("interpret"):
            kernel(**given, **constants)
        expected = [given[n] for n in outputs]
    for array, right in zip(found[2], expected, strict=True):
        np.testing.assert_allclose(array.astype("f8"), right.astype("f8"), 2e-2 if array.itemsize <= 2 else 1e-4, 1e-3)


def parts(function: Any, arguments: Arrays, threads: int) -> int:
    """Into how many parts the launch of a call divides each block."""
    module, given = trace(function, arguments)
    functions = {f.name: f for f in lower_module(module).functions}
    assert module.launch is not None
    described = [Strided(x.shape, [s // x.itemsize for s in x.strides]) if isinstance(x, np.ndarray) else x
                 for x in given]
    memory = bind([v.type for v in module.launch.body.args], described, threads)
    return LaunchFunction(functions["launch"], memory).run()[0].parts


def product(a: Any, b: Any) -> list[Any]:
    return [a @ b]


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", ["f4", "f2", tl.bf16.numpy])
@pytest.mark.parametrize(("m", "n", "k"), [(128, 128, 64), (127, 90, 33), (25, 128, 70), (130, 40, 16), (9, 300, 40)])
@pytest.mark.parametrize("turned", ["", "ab"])
def test_products(m: int, n: int, k: int, dtype: Any, turned: str) -> None:
    a = normal(k, m, dtype=dtype).T if "a" in turned else normal(m, k, dtype=dtype)
    b = normal(n, k, dtype=dtype, seed=1).T if "b" in turned else normal(k, n, dtype=dtype, seed=1)
    compare(matmul, ("c",), {"a": a, "b": b, "c": np.empty((m, n), dtype)}, product)


def test_how_many_parts() -> None:
    """As many as give cores the same to do, as far as there are rows and work for that."""
    def of(blocks: int, threads: int, k: int = 128) -> int:
        m = 96 * blocks
        return parts(kernels.epilogue, {"a": normal(m, k), "b": normal(k, 112), "bias": normal(112),
                                        "c": normal(m, 112), "top": normal(m)}, threads)

    assert [of(1, threads) for threads in (1, 2, 3, 7, 64)] == [1, 2, 3, 7, 8]
    assert [of(blocks, 2) for blocks in (2, 3, 4, 9)] == [1, 2, 1, 2]
    assert [of(5, 8), of(9, 8), of(1, 64, k=1)] == [3, 4, 7]


def test_explain() -> None:
    tl.set_num_threads(2)
    text = matmul.explain(normal(128, 64), normal(64, 128), normal(128, 128), engine="cpu")
    assert "kernel matmul: 1 block (1), each in 2 parts, on 2 threads" in text


def test_epilogue() -> None:
    def expected(a: Any, b: Any, bias: Any) -> list[Any]:
        x = a @ b + bias
        e = np.exp(x - x.max(1, keepdims=True))
        return [e / e.sum(1, keepdims=True), x.max(1)]

    kernel = tl.jit(kernels.epilogue)
    for m, n, k in ((96, 112, 64), (83, 97, 50), (200, 20, 33)):
        compare(kernel, ("c", "top"), {"a": normal(m, k), "b": normal(k, n), "bias": normal(n), "c": normal(m, n),
                                       "top": normal(m)}, expected)


def test_few_rows() -> None:
    kernel = tl.jit(kernels.few_rows)
    for m, n, k in ((16, 256, 64), (1, 250, 100), (7, 300, 90), (17, 100, 32)):
        compare(kernel, ("c",), {"a": normal(m, k), "b": normal(k, n), "c": normal(m, n)},
                lambda a, b: [np.maximum(a @ b, 0)])
    given = {"a": normal(16, 1024), "b": normal(1024, 256), "c": normal(16, 256)}
    assert parts(kernels.few_rows, given, 4) == 4


def test_tiles_by_rows_and_as_they_are() -> None:
    def expected(x: Any) -> list[Any]:
        return [np.tril(x @ x.T), np.tril(x @ x.T) @ x]

    kernel = tl.jit(kernels.both)
    for m, k in ((64, 64), (50, 33)):
        compare(kernel, ("c", "y"), {"x": normal(m, k), "c": normal(m, m), "y": normal(m, k)}, expected)
    assert parts(kernels.both, {n: normal(64, 64) for n in "xcy"}, 4) > 1


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal: bool) -> None:
    kernel = tl.jit(kernels.attention)
    for m, n in ((64, 64), (50, 75)):
        q, k, v = (normal(rows, 64, dtype="f2", seed=rows) for rows in (m, n, n))
        compare(kernel, ("o",), {"q": q, "k": k, "v": v, "o": q.copy()}, causal=causal)
    assert parts(kernels.attention, {"q": q, "k": k, "v": v, "o": q.copy(), "causal": causal}, 2) == 2


def test_elementwise() -> None:
    kernel = tl.jit(kernels.elementwise)
    for m, n in ((128, 128), (100, 77), (33, 200)):
        x = normal(m, n)
        compare(kernel, ("y",), {"x": x, "y": normal(n, m), "seed": 3})
    assert parts(kernels.elementwise, {"x": normal(128, 128), "y": normal(128, 128), "seed": 3}, 2) == 2


@pytest.mark.parametrize("function", kernels.REFUSED, ids=lambda f: f.__name__)
def test_one_core(function: Any) -> None:
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    shapes = {"c": (64,)} if function is kernels.columns else {}
    given = {n: normal(*shapes.get(n, (64, 64))) for n in names if not n.startswith("B")}
    kernel = trace(function, given)[0].kernels[0]
    assert not kernel.attributes.parts
    assert not any(isinstance(op, PartStart) for op in kernel.walk())
