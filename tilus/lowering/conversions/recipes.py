"""The ways to convert a type, by name, and their programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from tilus.ir.dtypes import DType, bf16, f16, f32, float_, i8, integer, nf4, ternary, u8
from tilus.lowering.conversions import arrange, floats, integers, lookup
from tilus.lowering.conversions.program import Half, Program

TARGETS = (f16, bf16, f32)
"""Of every source; integers are converted to bytes too."""
LOOKUPS = ("eight", "sum", "select")


def per_register(target: DType) -> int:
    return 32 // target.bits


def sources() -> list[DType]:
    """Every type of 8 bits or less: integers, and floats with and without a sign of all specials. Of codebooks those
    that have a name; the ways to others are the same."""
    whole = [integer(bits, signed) for bits in range(1, 9) for signed in (False, True)]
    return whole + [nf4, ternary] + [float_(e, bits - signed - e, specials, signed=signed)
                    for bits in range(3, 9) for signed in (True, False) for e in range(1, bits + 1 - signed)
                    for specials in ("finite", "fn", "ieee")]


def targets_of(source: DType) -> tuple[DType, ...]:
    return (*TARGETS, i8 if source.kind == "int" else u8) if source.is_int else TARGETS


def recipes(source: DType, target: DType) -> Iterator[str]:
    """The names of the ways to a target, for :func:`build`."""
    if target.bits == 8:
        yield "i8"
        return
    halves = [h for h in ("f16", "bf16") if target is f32 or h == target.name]
    for half in halves:
        for way in _ways(source):
            yield f"{half} {way}"
    if target is bf16:
        for way in _ways(source):
            yield f"f16 {way}"


def _ways(source: DType) -> Iterator[str]:
    if source.is_int:
        yield from integers.RECIPES
    elif source.is_float:
        yield from _ways_of_float(source)
    if source.bits <= 4:
        yield from (f"lookup {way}" for way in LOOKUPS)


def _ways_of_float(source: DType) -> Iterator[str]:
    specials = {"finite": ["plain"], "fn": ["plain", "fill", "overflow"], "ieee": ["plain", "fill"]}
    for way in floats.PLACED:
        for how in specials[source.specials]:
            yield f"{way} {how}"
    if source.specials != "finite":
        yield "rotations carry"


def build(source: DType, target: DType, recipe: str, ordered: bool, less: int = 0) -> Program | None:
    """The program of a recipe, for integers also of their difference from ``less``; None where it does not apply."""
    half, _, way = recipe.partition(" ")
    p = integers.to_bytes(source, less) if recipe == "i8" else _halves(source, cast(Half, half), way, less)
    if p is None:
        return None
    if target is bf16 and half == "f16":
        arrange.narrowed(arrange.widened(p, half))
    if target is f32:
        arrange.widened(p, half)
    return arrange.in_order(p, per_register(target)) if ordered else p


def _halves(source: DType, half: Half, way: str, less: int) -> Program | None:
    placed, _, specials = way.partition(" ")
    if placed == "lookup":
        return lookup.build(source, half, specials)
    if not source.is_float:
        return integers.RECIPES[way](source, half, less)
    return floats.build(source, half, placed, specials)
