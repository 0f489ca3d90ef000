"""The bits that drawings of packed tiles show hold the elements: of registers, and of what the host packs."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilus as tl
from tests.layouts.strategies import register_layouts
from tilus.ir.prepacked import PrepackedFormat, format_for
from tilus.layouts import RegisterLayout, local, parse_layout, replicated, spatial
from tilus.layouts.draw import draw_text
from tilus.layouts.draw_bits import bits_text, memory_bits, register_bits
from tilus.runtime.prepacking import prepacked_bytes


def pieces(text: str, unit: int) -> list[tuple[int, int]]:
    """First bit and width of each part of what a cell says."""
    found = []
    for part in text.split("+"):
        match = re.fullmatch(r"(\d+)(?:\.(\d+)(?:-(\d+))?)?", part)
        assert match, part
        number, low, high = match.groups()
        first = int(low or 0)
        last = unit - 1 if low is None else int(high or low)
        found.append((int(number) * unit + first, last - first + 1))
    return found


def bits_of(memory: int, text: str, unit: int) -> int:
    """The number in the bits that a cell names, the first part lowest."""
    code = shift = 0
    for first, width in pieces(text, unit):
        code |= (memory >> first & (1 << width) - 1) << shift
        shift += width
    return code


@pytest.mark.parametrize(("first", "width", "unit", "text"), [
    (0, 4, 32, "0.0-3"), (30, 3, 32, "0.30-31+1.0"), (64, 32, 32, "2"), (0, 64, 32, "0+1"), (7, 1, 8, "0.7"),
    (8, 12, 8, "1+2.0-3"), (6, 12, 8, "0.6-7+1+2.0-1")])
def test_text(first: int, width: int, unit: int, text: str) -> None:
    assert bits_text(first, width, unit) == text


@settings(max_examples=60)
@given(register_layouts(replication=True), st.integers(1, 40))
def test_registers(layout: RegisterLayout, bits: int) -> None:
    """A thread's words, made of its elements one after another, have each element where its cell says."""
    rng = np.random.default_rng(bits)
    cell = register_bits(layout, bits)
    codes = rng.integers(0, 1 << bits, layout.shape, np.uint64)
    for index in np.ndindex(*layout.shape):
        text, colour = cell(index)
        holders, _, places = text.rpartition(":")
        assert colour == layout.thread_of(index)
        for thread in expand(holders):
            words = sum(int(codes[layout.index(thread, n)]) << n * bits for n in range(layout.num_locals))
            assert bits_of(words, places, 32) == codes[index]
        assert expand(holders) == list(layout.threads_of(index))


def expand(numbers: str) -> list[int]:
    found: list[int] = []
    for part in numbers.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def formats() -> list[PrepackedFormat]:
    fragment = parse_layout("mma(m16n8k16, 16).b")
    assert isinstance(fragment, RegisterLayout)
    odd = tl.codebook("odd", [3.0, -1.5, 0.25], 5)
    found = [format_for(d, fragment.tile_to((32, 32)), order) for d, order in (
        (tl.u4, (0, 2, 1, 3)), (tl.u3, ()), (tl.nf4, (3, 2, 1, 0)), (tl.f16, ()), (tl.float(3, 2), (1, 0)), (odd, ()),
        (tl.integer(13, signed=False), (2, 0, 3, 1)))]
    found.append(PrepackedFormat(tl.u3, spatial(4, 2).local(4, 4), 2, (1, 0)))
    found.append(PrepackedFormat(tl.u5, replicated(2, 2) * spatial(2, 4).local(2, 4), 1))
    return found


@pytest.mark.parametrize("format", formats(), ids=lambda f: f"{f.dtype}:{f.piece}")
def test_memory(format: PrepackedFormat) -> None:
    """The bytes that the host packs have each element where its cell says."""
    bits = format.dtype.packed_bits
    k, n = format.tile
    rng = np.random.default_rng(bits)
    data = rng.integers(0, 256, -(-k * n * bits // 8), np.uint8)
    packed = tl.packed(data, format.dtype, (k, n))
    memory = int.from_bytes(prepacked_bytes(packed.argument, format).tobytes(), "little")
    rows = int.from_bytes(data.tobytes(), "little")
    cell = memory_bits(format.layout, bits, format.piece, format.order)
    for index in np.ndindex(k, n):
        text, colour = cell(index)
        match = re.fullmatch(r"(\d+)\.(\d+):(\d+)@(.*)", text)
        assert match
        thread, piece, place = map(int, match.groups()[:3])
        code = rows >> (index[0] * n + index[1]) * bits & (1 << bits) - 1
        assert bits_of(memory, match[4], 8) == code ^ format.flip
        assert thread == colour == format.layout.thread_of(index)
        assert piece == place * bits // 8 // format.piece
        local_ = format.layout.local_of(index)
        group = len(format.order) or 1
        assert place == local_ - local_ % group + (format.order or (0,))[local_ % group]


def test_wide_tables_are_cut_into_bands() -> None:
    layout = local(2, 20)
    whole = draw_text(layout)
    for width, band in ((44, 8), (43, 4), (24, 4), (23, 2), (9, 1), (104, 20), (103, 16)):
        text = draw_text(layout, width=width)
        bands = text.split("\n\n")
        assert len(bands) == -(-20 // band)
        assert max(map(len, text.splitlines())) <= width
        assert [c for b in bands for c in b.splitlines()[2].split("│")[1].split()] == \
            whole.splitlines()[2].split("│")[1].split()
        assert bands[-1].splitlines()[0].split("│")[1].split()[-1] == "19"
