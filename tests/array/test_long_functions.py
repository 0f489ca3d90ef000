"""Fused functions of many operations, reductions and kernels."""

import linecache
from typing import Any

import numpy as np
import pytest


def fused(lines: list[str], parameters: str = "x") -> Any:
    """A fused function with these lines as its body."""
    body = "".join(f"    {line}\n" for line in lines)
    source = f"import tilus as tl\n@tl.fuse\ndef f({parameters}):\n{body}"
    file = f"<fused {hash(source)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    names: dict[str, Any] = {}
    exec(compile(source, file, "exec"), names)
    return names["f"]


X = (np.arange(24 * 40, dtype=np.float32).reshape(24, 40) % 17) / 16
ENGINES = ("cpu", "interpret", "simulate:sm_80:ptx")


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ENGINES)
def test_elementwise(engine: str) -> None:
    n = 600
    out = fused(["v = x"] + ["v = v * 0.5 + x"] * n + ["return v"]).on(engine)(X)
    np.testing.assert_allclose(out, 2 * X, rtol=1e-5)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ENGINES)
def test_values_used_twice_below_a_reduction(engine: str) -> None:
    """Each step doubles the number of ways to the first one."""
    out = fused(["v = x * 0.5"] + ["v = v * 0.5 + v * v * 0.5"] * 200 + ["return tl.sum(v, axis=1)"]).on(engine)(X)
    v = X.astype(np.float64) * 0.5
    for _ in range(200):
        v = v * 0.5 + v * v * 0.5
    np.testing.assert_allclose(out, v.sum(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("end", ["v", "tl.sum(v, axis=1)"])
def test_values_read_at_two_places_in_each_step(end: str) -> None:
    """Each step doubles the number of places at which the first one is needed."""
    n = 24
    out = fused(["v = x", *["v = tl.pad(v[:, 1:], ((0, 0), (0, 1))) * 0.5 + v * 0.5"] * n, f"return {end}"])(X)
    v = X.astype(np.float64)
    for _ in range(n):
        v = np.pad(v[:, 1:], ((0, 0), (0, 1))) * 0.5 + v * 0.5
    np.testing.assert_allclose(out, v if end == "v" else v.sum(1), rtol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_movements(engine: str) -> None:
    out = fused(["v = x"] + ["v = v.T + 1.0"] * 401 + ["return v"]).on(engine)(X)
    np.testing.assert_allclose(out, X.T + 401, rtol=1e-5)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("axes", [(1,), (0, 1)], ids=["rows", "by turns"])
def test_chains_of_reductions(engine: str, axes: tuple[int, ...]) -> None:
    n = 16 if engine.startswith("simulate") else 30
    lines = [f"v = v * v - tl.mean(v, axis={axes[i % len(axes)]}, keepdims=True)" for i in range(n)]
    out = fused(["v = x * 0.5", *lines, "return v"]).on(engine)(X)
    v = X.astype(np.float64) * 0.5
    for i in range(n):
        v = v * v - v.mean(axes[i % len(axes)], keepdims=True)
    np.testing.assert_allclose(out, v, rtol=1e-3, atol=1e-5)


def test_long_chains_of_reductions_are_several_kernels() -> None:
    lines = ["v = v - tl.mean(v, axis=1, keepdims=True)"] * 30
    function = fused(["v = x", *lines, "return v"])
    text = function.explain(X)
    (kernels,) = [line for line in text.splitlines() if line.startswith("kernels: ")]
    assert 2 <= len(kernels.split(",")) <= 4
    one = fused(["v = x", *lines[:8], "return v"]).explain(X)
    assert "kernels: f\n" in one


@pytest.mark.parametrize("engine", ["cpu", "interpret"])
def test_layers(engine: str) -> None:
    function = fused(["v = x"] + ["v = tl.relu(v @ w)"] * 25 + ["return v"], "x, w")
    out = function.on(engine)(X, np.eye(40, dtype=np.float32))
    np.testing.assert_allclose(out, X, rtol=1e-5)


@pytest.mark.slow
def test_ten_thousand_operations() -> None:
    out = fused(["v = x"] + ["v = v * 0.5 + x"] * 5000 + ["return v"]).on("cpu")(X)
    np.testing.assert_allclose(out, 2 * X, rtol=1e-5)
