"""What the model of GPUs says of variants before they are compiled, beside what it says once it reads their code.

    python -m benchmarks.ranking before [--target sm_80]

For each kernel the rank correlation of the two, how much slower than the best variant the guess is (both by the model
that reads code), and how long it takes. Nothing is run.
"""

from __future__ import annotations

import functools
import itertools
import random
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.fused.mlp import mlp
from kernels_zoo.fused.softmax import softmax as fused_softmax
from kernels_zoo.gemm.matmul import matmul
from kernels_zoo.normalization.layer_norm import layer_norm
from kernels_zoo.normalization.softmax import softmax
from kernels_zoo.quantized.matmul import case as quantized_case
from kernels_zoo.quantized.matmul import quantized_matmul
from tilus.diagnostics import TilusError
from tilus.model.gpu import board_for, model_call
from tilus.model.tiles.call import estimate
from tilus.runtime.compile import compile_specialisation
from tilus.runtime.jit import Prepared
from tilus.targets import get_target
from tilus.tuning.ranking import modelled_engine

SAMPLED = 40
"""Variants of a space that are compared."""


@dataclass(frozen=True)
class Space:
    """A call and the variants of it that are compared."""

    name: str
    kernel: Any
    arguments: Callable[[], tuple[Any, ...]]
    variants: tuple[dict[str, Any], ...]
    constants: Callable[[], dict[str, Any]] = dict

    def prepared(self, target: str, variant: dict[str, Any]) -> Prepared:
        engine = modelled_engine(get_target(target))
        assert engine is not None
        found: Prepared = self.kernel.prepared(engine.name, self.arguments(), {**self.constants(), **variant})
        return found


def product(**values: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for chosen in itertools.product(*values.values()):
        yield dict(zip(values, chosen, strict=True))


def sampled(variants: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    found = list(variants)
    return tuple(random.Random(0).sample(found, min(SAMPLED, len(found))))


def halves(*shapes: tuple[int, ...]) -> tuple[np.ndarray[Any, Any], ...]:
    return tuple(np.empty(shape, np.float16) for shape in shapes)


def matmul_variants() -> Iterator[dict[str, Any]]:
    for v in product(BM=(32, 64, 128, 256), BN=(32, 64, 128, 256), BK=(16, 32, 64), stages=(2, 3, 4), warps=(4, 8)):
        if 256 <= v["BM"] * v["BN"] // v["warps"] <= 8192 and 2 * v["stages"] * v["BK"] * (v["BM"] + v["BN"]) <= 98304:
            yield v


def attention_variants() -> Iterator[dict[str, Any]]:
    for v in product(BM=(32, 64, 128), BN=(32, 64, 128), stages=(1, 2, 3), warps=(4, 8), causal=(False, True)):
        if v["BM"] // v["warps"] >= 8:
            yield v


@functools.cache
def quantized_arguments() -> Any:
    return quantized_case((256, 4096, 4096))


@functools.cache
def spaces() -> tuple[Space, ...]:
    rows = (4096, 4096)
    attention = (2, 2048, 16, 64)
    return (
        Space("matmul 2048³", matmul, lambda: halves(*[(2048, 2048)] * 3), sampled(matmul_variants())),
        Space("attention, length 2048", flash_attention_forward,
              lambda: (*halves(*[attention] * 4), np.empty((2, 16, 2048), np.float32)), sampled(attention_variants())),
        Space("softmax 4096²", softmax, lambda: halves(rows, rows),
              sampled(product(BM=(1, 2, 4), BN=(256, 512, 1024, 2048, 4096)))),
        Space("layer norm 4096²", layer_norm, lambda: halves(rows, (4096,), (4096,), rows),
              sampled(product(BM=(1, 2, 4), BN=(256, 512, 1024, 2048, 4096)))),
        Space("quantised matmul 256 × 4096 × 4096", quantized_matmul, lambda: tuple(quantized_arguments().arguments),
              sampled(product(BM=(32, 64, 128), BN=(64, 128), BK=(32, 64), stages=(2, 3), warps=(4, 8))),
              lambda: dict(quantized_arguments().constants)),
        Space("fused mlp 1024 × 4096 × 1024", mlp, lambda: halves((1024, 1024), (1024, 4096), (4096,)),
              sampled(product(BM=(32, 64, 128), BN=(64, 128), BK=(32, 64), stages=(2, 3), warps=(4, 8)))),
        Space("fused softmax 4096²", fused_softmax, lambda: halves(rows),
              sampled(product(BM=(1, 2, 4), BN=(256, 512, 1024, 2048), warps=(2, 4, 8)))),
    )


def by_code(space: Space, target: str, variant: dict[str, Any]) -> list[Any]:
    """The profiles of a variant's launches, from its machine code. Raises TilusError where it does not compile."""
    found = space.prepared(target, variant)
    compiled = compile_specialisation(found.specialisation, target)
    return model_call(compiled, found.call.arguments, board_for(get_target(target)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Pair:
    """A variant's seconds before it is compiled, and from its code."""

    variant: dict[str, Any]
    before: float
    by_code: float
    took: float


def pairs_of(space: Space, target: str) -> list[Pair]:
    """The variants that both know: those that do not compile are left out, and so are those that cannot be launched."""
    record = get_target(target)
    found = []
    for variant in space.variants:
        try:
            started = time.perf_counter()
            before = estimate(space.prepared(target, variant), record, board_for(record))
            took = time.perf_counter() - started
            seconds = sum(profile.model.seconds for profile in by_code(space, target, variant))
        except TilusError:
            continue
        if before.seconds < float("inf"):
            found.append(Pair(variant, before.seconds, seconds, took))
    return found


def ranks(values: list[float]) -> np.ndarray[Any, Any]:
    """The places in order; those that agree to four digits share theirs."""
    rounded = np.round(np.asarray(values) / min(values), 4)
    _, inverse, counts = np.unique(rounded, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts + 1) / 2)[inverse])


def spearman(one: list[float], other: list[float]) -> float:
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def compare(target: str, console: Console) -> None:
    """Print the table of a target."""
    table = Table("calls", "variants", "Spearman", "guess behind the best", "ratio", "spread", "ms a variant",
                  title=f"before compiling, beside the model that reads code, {target} (model)")
    for space in spaces():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pairs = pairs_of(space, target)
        if len(pairs) < 3:
            continue
        before, code = [p.before for p in pairs], [p.by_code for p in pairs]
        ratios = np.asarray(before) / np.asarray(code)
        guess = min(pairs, key=lambda p: p.before)
        table.add_row(space.name, str(len(pairs)), f"{spearman(before, code):.2f}",
                      f"{guess.by_code / min(code) - 1:.1%}", f"{np.median(ratios):.2f}",
                      f"{np.exp(np.std(np.log(ratios))):.2f}", f"{1e3 * np.median([p.took for p in pairs]):.0f}")
    console.print(table)


__all__ = ["compare"]
