"""Random forms of attention at random extents, forward and backward: on the CPU, and some on other engines."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention import variants
from kernels_zoo.attention.flash_attention import flash_attention
from kernels_zoo.attention.flash_attention_backward import flash_attention_backward
from kernels_zoo.attention.forms import Form
from kernels_zoo.checking import wide
from tests.zoo.test_attention_backward import as_exact_as_plain
from tests.zoo.test_attention_backward_forms import outputs_gradient, tiles_of
from tests.zoo.test_attention_forms import band, dropped
from tests.zoo.test_attention_variants import check, operands, positions

LENGTHS = (0, 1, 2, 17, 31, 63, 64, 65, 97, 127, 128, 129, 131)


def random_form(draw: random.Random, sq: int, sk: int, h: int) -> tuple[Form, dict[str, Any], Any]:
    """A form, what it means, and the derivative of its scores."""
    meaning: dict[str, Any] = {}
    left, right = draw.choice([(-1, -1), (-1, 0), (5, 0), (40, 10), (0, 0), (-1, 3), (70, -1)])
    settings: dict[str, Any] = {"left": left, "right": right}
    if draw.random() < 0.3:
        settings["sinks"] = np.linspace(-1, 1, h).astype(np.float32)
        meaning["sinks"] = wide(settings["sinks"])
    if draw.random() < 0.3:
        settings.update(dropout=0.25, seed=draw.randrange(2**40))
    kind, slope = draw.choice(["plain", "cap", "alibi"]), None
    if kind == "cap":
        settings["score"] = variants.Softcap(2.0)
        meaning["edit"] = lambda s: 2 * np.tanh(s / 2)
        slope = lambda s: 1 - np.tanh(s / 2) ** 2  # noqa: E731
    elif kind == "alibi":
        slopes = 2.0 ** -np.arange(1, h + 1, dtype=np.float32)
        distance = np.abs(np.subtract(*positions(sq, sk)))
        settings.update(score=variants.alibi, arrays=(slopes,))
        meaning["edit"] = lambda s: s - wide(slopes)[:, None, None] * distance
    form = Form(**settings)
    return form, {**meaning, "seen": band(form, sq, sk)}, slope


def run_random(seed: int, engine: str, most: int) -> None:
    draw = random.Random(seed)
    lengths = [n for n in LENGTHS if n <= most]
    sq, sk, hk = draw.choice(lengths), draw.choice(lengths), draw.choice([1, 2])
    d, e = draw.choice([16, 24, 40, 59]), draw.choice([0, 0, 16, 33])
    shape = (draw.choice([1, 2]), sq, sk, hk * draw.choice([1, 2, 3]), hk, d)
    form, meaning, slope = random_form(draw, sq, sk, shape[3])
    q, k, v = operands(shape, draw.choice([tl.f16, tl.bf16]), e)
    if form.dropout:
        meaning["weights"] = dropped(form, shape)
    o, lse = flash_attention(q, k, v, form, engine=engine, **tiles_of(engine))
    check((o, lse), q, k, v, **meaning)
    do = outputs_gradient(q, v)
    found = flash_attention_backward(q, k, v, o, lse, do, form, engine=engine, **tiles_of(engine))
    as_exact_as_plain(found, q, k, v, do, slope=slope, **meaning)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_on_the_cpu(seed: int) -> None:
    run_random(seed, "cpu", 131)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["interpret", "simulate:sm_80:ptx", "simulate:sm_80:cuda", "simulate:sm_90a:ptx"])
@pytest.mark.parametrize("seed", range(100, 106))
def test_elsewhere(seed: int, engine: str) -> None:
    run_random(seed, engine, 65)
