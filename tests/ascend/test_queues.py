"""Queues between the pipes of vector cores, for kernels that ask for them."""

from __future__ import annotations

import importlib
import re
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import run
from tests.ascend.by_queues import apart, asking_for_queues
from tests.ascend.test_kernels import CASES, KERNELS, is_quick
from tilus.diagnostics import UserError
from tilus.ir.dtypes import DType

QUICK = ("elementwise.vector_add", "normalization.softmax", "rnn.lstm")


def check(name: str, dtype: DType, variant: dict[str, Any], buffers: int, orders: tuple[str, ...],
          shapes: slice = slice(None)) -> None:
    module = importlib.import_module(f"kernels_zoo.{name}")
    kernel = apart(getattr(module, KERNELS[name]))
    with asking_for_queues(buffers):
        for n, shape in enumerate(module.SHAPES[shapes]):
            for order in orders if len(orders) > 3 else orders[n % len(orders):][:1]:
                case = module.case(shape, dtype, **variant)
                assert run(kernel, case, f"ascend910b:{order}") <= case.tolerance, (shape, order)


@pytest.mark.parametrize(("name", "dtype", "variant"), [
    pytest.param(*case, marks=() if is_quick(*case) and case[0] in QUICK else pytest.mark.slow) for case in CASES],
    ids=str)
def test_zoo(name: str, dtype: DType, variant: dict[str, Any]) -> None:
    check(name, dtype, variant, 2, ("late", "random:1", "early"), slice(None, None, 3))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype", "variant"), [case for case in CASES if is_quick(*case)], ids=str)
def test_orders(name: str, dtype: DType, variant: dict[str, Any]) -> None:
    check(name, dtype, variant, 2, ("late", "early", "program", *(f"random:{seed}" for seed in range(20))),
          slice(None, None, 3))


@pytest.mark.slow
@pytest.mark.parametrize("buffers", [1, 3])
@pytest.mark.parametrize(("name", "dtype", "variant"), [case for case in CASES if is_quick(*case)], ids=str)
def test_buffers(name: str, dtype: DType, variant: dict[str, Any], buffers: int) -> None:
    check(name, dtype, variant, buffers, ("late", "random:1", "early"))


@tl.jit
def scaled(x: tl.f32["M", "N"], y: tl.f32["M", "N"], z: tl.f32["M", "N"], BN: int = 512, queues: int = 2) -> None:
    tl.block(queues=queues)
    M, N = x.shape
    i, j = tl.grid(M, tl.cdiv(N, BN))
    tl.store(z, (i, j * BN), tl.load(x, (i, j * BN), (1, BN)) * tl.load(y, (i, j * BN), (1, BN)) + 1.0)


def text_of(kernel: tl.JitFunction, **constants: Any) -> str:
    text: str = kernel.compile(target="ascend910b", assume="contiguous", **constants).ascendc
    return text


def test_emitted() -> None:
    """Every buffer goes its way: from AllocTensor by EnQue and DeQue to FreeTensor; queues alone order the pipes."""
    text = text_of(scaled, queues=3)
    assert re.findall(r"TQue<TPosition::(\w+), 1> (\w+);", text) == [
        ("VECIN", "xTileQueue"), ("VECIN", "yTileQueue"), ("VECOUT", "zTileQueue")]
    assert "pipe.InitBuffer(xTileQueue, 3, 2048);" in text
    steps = re.findall(r"xTileQueue\.(\w+)[<(]", text)
    assert steps == ["AllocTensor", "EnQue", "DeQue", "FreeTensor"]
    assert "SetFlag" not in text
    assert "InitSocState" not in text
    assert "TQue" not in text_of(scaled, queues=0)


@tl.jit
def added(a: tl.f32["N"], b: tl.f32["N"], c: tl.f32["N"], d: tl.f32["N"], e: tl.f32["N"], z: tl.f32["N"],
          B: int = 256, queues: int = 2) -> None:
    tl.block(queues=queues)
    i = tl.grid(tl.cdiv(z.shape[0], B)) * B
    total = tl.load(a, (i,), (B,))
    for one in (b, c, d, e):
        total = total + tl.load(one, (i,), (B,))
    tl.store(z, (i,), total)


@tl.jit
def added_from_many(x: tl.f32[12, "N"], z: tl.f32["N"], B: int = 256, queues: int = 2) -> None:
    tl.block(queues=queues)
    i = tl.grid(tl.cdiv(z.shape[0], B)) * B
    total = tl.zeros((1, B), tl.f32)
    for n in tl.static_range(12):
        total = total + tl.load(x, (n, i), (1, B)) * (n + 1.0)
    tl.store(z, (i,), total.reshape((B,)))


def test_few_events() -> None:
    """More buffers than events: some queues have fewer; more queues than events: the rest of the tiles have flags."""
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal((5, 1000), np.float32)
    assert sorted(re.findall(r"InitBuffer\(\w+Queue\w*, (\d)", text_of(added))) == ["1", "1", "2", "2", "2", "2"]
    assert text_of(added_from_many).count("TQue<TPosition::VECIN") == 6
    assert "AllocEventID<HardEvent::MTE2_V>" in text_of(added_from_many)
    x = rng.standard_normal((12, 1000), np.float32)
    factors = np.arange(1, 13, dtype=np.float64)
    for order in ("late", "early", "random:3"):
        z = np.zeros(1000, np.float32)
        added.on(f"ascend910b:{order}")(*arrays, z)
        np.testing.assert_allclose(z, arrays.sum(0, dtype=np.float64), rtol=0, atol=1e-5)
        added_from_many.on(f"ascend910b:{order}")(x, z)
        np.testing.assert_allclose(z, factors @ x, rtol=0, atol=1e-4)


def test_little_memory() -> None:
    """Tiles of which two of each do not fit have one buffer each; what does not fit at all is told."""
    assert "pipe.InitBuffer(xTileQueue, 1, " in text_of(scaled, BN=15 * 1024)
    with pytest.raises(UserError, match="E0508") as caught:
        text_of(scaled, BN=32 * 1024)
    assert "queues" in str(caught.value)


def test_wrong_number() -> None:
    with pytest.raises(UserError, match="E0504") as caught:
        text_of(scaled, queues=9)
    assert "a queue has 1 to 8 buffers" in str(caught.value)


def test_elsewhere() -> None:
    """Other engines have no use for queues."""
    x, y = np.random.default_rng(1).standard_normal((2, 3, 700), np.float32)
    for engine in ("cpu", "interpret"):
        z = np.zeros_like(x)
        scaled.on(engine)(x, y, z)
        np.testing.assert_allclose(z, x.astype(np.float64) * y + 1, rtol=0, atol=1e-6)
