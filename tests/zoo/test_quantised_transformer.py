"""A small decoder quantised by the command line, and the parts it is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import empty, normal, relative_error, run, wide
from kernels_zoo.quantized import embedding, mlp
from kernels_zoo.quantized.transformer import Decoder, Shape, random_weights, reference_logits
from tests.cli.test_prepack import tilus
from tests.zoo.turns import ROUTES, by_turns

ENGINES = ["interpret", "cpu", *ROUTES]


@pytest.fixture(scope="module")
def dense() -> dict[str, Any]:
    return random_weights(Shape())


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize(("type_", "options"), [
    ("u4", ("--group", 64)), ("u3", ("--group", 64, "--asymmetric")), ("nf4", ("--group", 64)), ("mxfp4", ()),
    pytest.param("nvfp4", (), marks=pytest.mark.slow), ("u4", ("--group", 128, "--gptq", "x.npz")),
], ids=str)
def test_decoder(type_: str, options: tuple[Any, ...], dense: dict[str, Any], tmp_path: Path,
                 monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits are those of the numbers that the codes stand for."""
    monkeypatch.chdir(tmp_path)
    np.savez("model.npz", **dense)
    rng = np.random.default_rng(2)
    np.savez("x.npz", **{"layers.0.q": rng.standard_normal((300, 256)), "head": rng.standard_normal((300, 256))})
    assert tilus("quantize", "model.npz", "--type", type_, *options, "--skip", "embedding", "-o", "q.npz") == 0
    weights, shape = tl.load_weights("q.npz"), Shape()
    quantised = {name for name, w in weights.items() if isinstance(w, tl.Quantized)}
    assert quantised == {name for name, w in dense.items() if w.ndim == 2 and name != "embedding"}
    ids = rng.integers(0, shape.vocabulary, 37)
    numbers = {name: tl.dequantize(w) if name in quantised else w for name, w in weights.items()}
    found = Decoder(weights, shape).logits(ids)
    assert relative_error(found, reference_logits(numbers, shape, ids)) <= 5e-3
    assert relative_error(found, reference_logits(dense, shape, ids)) <= 0.7  # random weights, four bits and less


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize(("wtype", "engine"), by_turns([tl.u4, tl.i3, tl.nf4], ENGINES, 3))
def test_gate_and_up(wtype: tl.DType, engine: str) -> None:
    for shape in mlp.SHAPES[:3]:
        case = mlp.case(shape, wtype=wtype)
        assert run(mlp.gate_and_up, case, engine) <= case.tolerance, shape


@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80"])
def test_mlp_takes_two_launches(engine: str) -> None:
    rng = np.random.default_rng(0)
    gate, up, down = (tl.quantize(rng.standard_normal(s, np.float32) * 0.1, tl.u4, group=128)
                      for s in ((256, 128), (256, 128), (128, 256)))
    x, hidden, y = normal(rng, (5, 256), tl.f16), empty((5, 128), tl.f16), empty((5, 256), tl.f16)
    with tl.engine(engine):
        mlp.forward(x, mlp.Mlp(gate, up, down, "cpu" if engine == "cpu" else "sm_80"), hidden, y)
    left, right = (wide(x) @ wide(tl.dequantize(q)) for q in (gate, up))
    expected = (left / (1 + np.exp(-left)) * right) @ wide(tl.dequantize(down))
    assert relative_error(y, expected) <= 3e-3


@pytest.mark.parametrize(("wtype", "engine"), by_turns([tl.u4, tl.i3, tl.nf4], ENGINES, 3))
def test_embedding(wtype: tl.DType, engine: str) -> None:
    for shape in embedding.SHAPES:
        case = embedding.case(shape, wtype=wtype)
        assert run(embedding.embedding_lookup, case, engine) <= case.tolerance, shape


def test_mistakes() -> None:
    one, other = (tl.quantize(np.ones((64, 8), np.float32), t, group=32) for t in (tl.u4, tl.i4))
    with pytest.raises(ValueError, match="have one format"):
        mlp.Mlp(one, other, one, "cpu")


def test_ids_outside() -> None:
    q = tl.quantize(np.ones((4, 32), np.float32), tl.u4, group=32, axis=1)
    y = np.ones((3, 32), np.float32)
    embedding.embedding_lookup.on("cpu")(np.array([-1, 4, 2], np.int32), q.values, q.scales, y, zero=float(q.zeros))
    assert not y[:2].any()
    np.testing.assert_array_equal(y[2], tl.dequantize(q)[2])
