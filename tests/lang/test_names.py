"""Names that are fine in Python and words of C++, or something else in generated code."""

import numpy as np
import pytest

import tilus as tl
from tilus.runtime.nvidia.header import c_header


@tl.jit
def explicit(template: tl.f32["N"], namespace: tl.f32["N"], double: tl.i32, B: int = 128):
    i = tl.grid(tl.cdiv(template.shape[0], B))
    typename = tl.load(template, i * B, B)
    floordiv = typename // 2.0
    for mutable in range(double):
        floordiv += mutable + 1
    tl.store(namespace, i * B, floordiv)


@tl.jit
def größe(länge: tl.f32["N"], B: int = 128):
    i = tl.grid(tl.cdiv(länge.shape[0], B))
    übrig = tl.load(länge, i * B, B)
    tl.store(länge, i * B, übrig + 1.0)


@tl.jit
def min(x: tl.f32["N"], B: int = 128):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    tl.store(x, i * B, tl.minimum(tl.load(x, i * B, B), 0.0))


ENGINES = ("interpret", "cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx")


@pytest.mark.parametrize("engine", ENGINES)
def test_words_of_cpp(engine):
    x, y = np.arange(200, dtype=np.float32), np.zeros(200, np.float32)
    explicit.on(engine)(x, y, 3)
    np.testing.assert_array_equal(y, x // 2 + 6)


@pytest.mark.parametrize("engine", ENGINES)
def test_letters_beyond_ascii(engine):
    x = np.zeros(100, np.float32)
    größe.on(engine)(x)
    assert (x == 1).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_functions_of_the_device(engine):
    x = np.linspace(-1, 1, 100, dtype=np.float32)
    min.on(engine)(x)
    assert x.max() == 0


@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize("kernel", [explicit, größe, min], ids=lambda k: k.__name__)
def test_header(kernel, via):
    """The header loads the symbol that the cubin has."""
    compiled = kernel.compile("sm_80", via)
    header = c_header(compiled, "k.cubin")
    symbol = compiled.metadata["kernel"]
    assert f'"{symbol}")' in header
    assert symbol.encode() in compiled.cubin
    assert header.isascii()
