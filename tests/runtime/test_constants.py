"""Compile-time values that compare equal and differ are told apart by every plan and cache."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import math
import struct
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.lang.constants import constant_key


class Mode(enum.IntEnum):
    ONE = 1


class Kind(enum.Enum):
    ONE = 1


@dataclasses.dataclass(frozen=True)
class Config:
    scale: Any
    other: Any = ()


NAN, OTHER_NAN = math.nan, struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]
GROUPS: list[tuple[Any, ...]] = [
    (0.0, -0.0, 0, False), (1, 1.0, True, Mode.ONE, np.int32(1), np.float32(1), Kind.ONE), (NAN, OTHER_NAN),
    ((1,), (1.0,), (True,), [1]), (((0.0,), 1), ((-0.0,), 1)), (Config(0.0), Config(-0.0), Config(0)),
    (Config(1, (1,)), Config(1, (1.0,))), (frozenset({1}), frozenset({1.0}), frozenset({True})),
    (decimal.Decimal("1.0"), decimal.Decimal("1.00"), 1), (complex(0.0, 0.0), complex(0.0, -0.0)), ("1", b"1", 1),
    (tl.f32, tl.i32, np.float32),
]


@pytest.mark.parametrize("values", GROUPS, ids=str)
def test_keys(values: tuple[Any, ...]) -> None:
    assert len({constant_key(v) for v in values}) == len(values)
    assert [constant_key(v) for v in values] == [constant_key(v) for v in values]


def test_a_nan_is_itself() -> None:
    assert constant_key(float("nan")) == constant_key(float("nan"))


def test_values_without_a_hash_are_refused() -> None:
    @dataclasses.dataclass
    class Loose:
        x: int

    for value in (Loose(1), ({},), {1}):
        with pytest.raises(TypeError):
            hash(constant_key(value))


@tl.jit
def sign(y: tl.f64["N"], c: float):
    tl.grid(1)
    tl.store(y, 0, 1.0 / tl.full((1,), c, tl.f64))


@tl.jit
def kind(y: tl.f64["N"], c: object, d: tuple = ()):
    tl.grid(1)
    v = d[0] if d else c
    y[0] = 1.0 if isinstance(v, bool) else 2.0 if isinstance(v, int) else 3.0


@tl.jit
def of_config(y: tl.f64["N"], c: Config):
    tl.grid(1)
    tl.store(y, 0, tl.where(tl.load(y, 0, 1) == 0.0, 1.0 / tl.full((1,), c.scale, tl.f64), 0.0))


@pytest.mark.parametrize("engine", ["cpu", "interpret", "python", "simulate:sm_80:ptx", "simulate:sm_80:cuda"])
def test_calls(engine: str) -> None:
    y = np.zeros(1)
    for c in (0.0, -0.0, 0.0, -0.0):
        sign.on(engine)(y, c)
        assert y[0] == math.copysign(math.inf, c)
        y[0] = 0.0
        of_config.on(engine)(y, Config(c))
        assert y[0] == math.copysign(math.inf, c)
    for c, want in ((1, 2.0), (1.0, 3.0), (True, 1.0), (1, 2.0), (0, 2.0), (0.0, 3.0), (False, 1.0)):
        kind.on(engine)(y, c)
        assert y[0] == want
        kind.on(engine)(y, None, (c,))
        assert y[0] == want


def test_fused_functions() -> None:
    @tl.fuse
    def divided(x, c=1.0):
        return x / c if isinstance(c, float) else x * 10

    x = np.ones(2, np.float32)
    for c in (0.0, -0.0, 0.0):
        assert divided(x, c).tolist() == [math.copysign(math.inf, c)] * 2
    assert divided(x, 1).tolist() == [10, 10]
    assert divided(x, 1.0).tolist() == [1, 1]
    assert divided(x, c=True).tolist() == [10, 10]


def test_a_branch_keeps_the_sign_of_a_zero() -> None:
    @tl.jit
    def chosen(y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        z = 0.0
        if n > 1:
            z = -0.0
        y[0] = 1.0 / tl.full((1,), z, tl.f32)[0]

    y = np.zeros(1, np.float32)
    for engine in ("python", "interpret", "cpu"):
        for n, want in ((2, -math.inf), (1, math.inf)):
            chosen.on(engine)(y, n)
            assert y[0] == want, engine
