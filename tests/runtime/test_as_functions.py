"""Kernels and fused functions behave as the functions that they are made of."""

from __future__ import annotations

import copy
import inspect
import pickle
import pydoc
import re

import numpy as np
import pytest

import tilus as tl


@tl.jit
def scaled(x: tl.f32["N"], y: tl.f32["N"], factor: tl.f32 = 2.0, BLOCK: int = 64):
    """Multiplies by ``factor``."""
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK))
    tl.store(y, i * BLOCK, tl.load(x, i * BLOCK, BLOCK) * factor)


@tl.fuse
def total(x, axis: int = 0):
    """The sum along an axis."""
    return tl.sum(x, axis)


class Layer:
    weight = 3

    @tl.fuse
    def forward(self, x):
        return x * self.weight

    @tl.jit
    def run(self, x: tl.f32["N"]):
        """Does nothing."""
        tl.grid(1)


@pytest.mark.parametrize("function", [scaled, total, Layer.run])
def test_copies_and_pickles(function: object) -> None:
    assert copy.copy(function) is function
    assert copy.deepcopy({"k": [function]})["k"][0] is function
    for protocol in range(4, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(function, protocol)) is function


def test_a_kernel_of_a_function_is_pickled_as_its_functions_are() -> None:
    @tl.jit
    def local(x: tl.f32["N"]):
        tl.grid(1)

    with pytest.raises((pickle.PicklingError, AttributeError), match="local"):
        pickle.dumps(local)


def test_signature_and_help() -> None:
    assert str(inspect.signature(scaled)) == str(inspect.signature(scaled.function))
    assert list(inspect.signature(total).parameters) == ["x", "axis"]
    assert list(inspect.signature(Layer().run).parameters) == ["x"]
    text = re.sub(".\b", "", pydoc.render_doc(scaled))
    assert "scaled(x: \"tl.f32['N']\"" in text
    assert "Multiplies by ``factor``." in text
    assert "Methods defined here" not in text
    text = re.sub(".\b", "", pydoc.render_doc(total))
    assert "total(x, axis: 'int' = 0)" in text
    assert "The sum along an axis." in text


def test_fused_methods() -> None:
    x = np.ones(2, np.float32)
    layer = Layer()
    for engine in ("cpu", "interpret"):
        layer.weight = 3
        assert layer.forward.on(engine)(x).tolist() == [3, 3]
        layer.weight = 4
        assert layer.forward.on(engine)(x).tolist() == [4, 4]
    assert layer.forward(x).tolist() == [4, 4]
    assert layer.forward.compile("sm_80", x=tl.f32["N"]).cubin


def test_version() -> None:
    assert re.fullmatch(r"\d+\.\d+.*", tl.__version__)


def test_explain_takes_arrays() -> None:
    text = total.explain(np.ones((4, 5), np.float32), axis=1)
    assert "f32" in text
    assert "kernels:" in text
    assert total.explain(x=tl.f32["M", "N"], axis=1).count("kernels:") == 1
    assert "BLOCK=64" in scaled.explain(np.ones(4, np.float32), np.ones(4, np.float32))
