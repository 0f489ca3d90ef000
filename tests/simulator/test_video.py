"""Video instructions against their definition in Python integers."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulator.test_instructions import INTS, each, s32, text, verify
from tilus import simulator
from tilus.diagnostics import UserError
from tilus.runtime.toolchains.ptxas import assemble
from tilus.targets import get_target


def part(x: int, bits: int, at: int, signed: bool) -> int:
    v = x >> bits * at & ((1 << bits) - 1)
    return v - (1 << bits) if signed and v >> bits - 1 else v


def clip(x: int, bits: int, signed: bool) -> int:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return max(low, min(high, x))


def lanes(function: Callable[[int, int], int], count: int, a: list[int], b: list[int], signs: tuple[bool, bool], saturate: bool | None = None, mask: str = "",
          total: bool = False) -> Callable[[int, int, int], int]:
    """A SIMD instruction: parts of {y, x} for each lane, lowest first; ``saturate`` is the signedness of the result."""
    bits = 32 // count

    def fn(x: int, y: int, z: int) -> int:
        both, result, added = x | y << 32, z, s32(z) if saturate else z
        for i in range(count):
            if mask and str(i) not in mask:
                continue
            v = function(part(both, bits, a[i], signs[0]), part(both, bits, b[i], signs[1]))
            v = v if saturate is None else clip(v, bits, saturate)
            added += v
            result = result & ~(((1 << bits) - 1) << bits * i) | (v & ((1 << bits) - 1)) << bits * i
        return added if total else result

    return fn


LOW, HIGH = [0, 1, 2, 3], [4, 5, 6, 7]
U, S = (False, False), (True, True)
ROWS: list[tuple[str, Callable[[int, int, int], int]]] = [
    ("vadd.u32.u32.u32 %d, %a.b1, %b.h1;", lambda a, b, c: part(a, 8, 1, False) + part(b, 16, 1, False)),
    ("vadd.s32.s32.u32.sat %d, %a, %b;", lambda a, b, c: clip(s32(a) + b, 32, True)),
    ("vsub.s32.s32.s32.sat.min %d, %a.b3, %b.b0, %c;", lambda a, b, c: min(part(a, 8, 3, True) - part(b, 8, 0, True), s32(c))),
    ("vabsdiff.u32.u32.u32.add %d, %a.h0, %b.h1, %c;", lambda a, b, c: abs(part(a, 16, 0, False) - part(b, 16, 1, False)) + c),
    ("vmin.u32.s32.s32.max %d, %a, %b, %c;", lambda a, b, c: max(min(s32(a), s32(b)) & 0xFFFFFFFF, c)),
    ("vmax.s32.s32.s32.sat %d.b2, %a.h1, %b.h0, %c;", lambda a, b, c: c & ~0xFF0000 | (clip(max(part(a, 16, 1, True), part(b, 16, 0, True)), 8, True) & 255) << 16),
    ("vshl.u32.u32.u32.sat.clamp %d, %a.b0, %b.b1;", lambda a, b, c: clip(part(a, 8, 0, False) << min(part(b, 8, 1, False), 32), 32, False)),
    ("vshr.s32.s32.u32.wrap.add %d, %a, %b, %c;", lambda a, b, c: (s32(a) >> (b & 31)) + c),
    ("vset.s32.u32.lt.add %d, %a.b0, %b.b0, %c;", lambda a, b, c: (part(a, 8, 0, True) < part(b, 8, 0, False)) + c),
    ("vset.u32.u32.ge %d.h1, %a, %b, %c;", lambda a, b, c: c & 0xFFFF | (a >= b) << 16),
    ("vmad.s32.s32.s32.sat %d, %a.h1, -%b.h0, %c;", lambda a, b, c: clip(-part(a, 16, 1, True) * part(b, 16, 0, True) + s32(c), 32, True)),
    ("vmad.u32.u32.u32.po.shr7 %d, %a.h0, %b.h1, %c;", lambda a, b, c: part(a, 16, 0, False) * part(b, 16, 1, False) + 1 + c >> 7),
    ("vmad.u32.u32.u32.shr15 %d, %a.b3, %b.h1, %c;", lambda a, b, c: part(a, 8, 3, False) * part(b, 16, 1, False) + c >> 15),
    ("vadd4.u32.u32.u32 %d, %a, %b, %c;", lanes(lambda x, y: x + y, 4, LOW, HIGH, U)), ("vsub4.s32.s32.s32.sat %d, %a, %b, %c;", lanes(lambda x, y: x - y, 4, LOW, HIGH, S, True)),
    ("vadd2.u32.u32.u32.sat %d, %a, %b, %c;", lanes(lambda x, y: x + y, 2, [0, 1], [2, 3], U, False)), ("vsub2.s32.s32.u32 %d.h1, %a, %b, %c;", lanes(lambda x, y: x - y, 2, [0, 1], [2, 3], (True, False), None, "1")),
    ("vabsdiff4.u32.u32.u32.add %d, %a, %b, %c;", lanes(lambda x, y: abs(x - y), 4, LOW, HIGH, U, None, "", True)),
    ("vabsdiff2.s32.s32.s32.sat %d, %a, %b, %c;", lanes(lambda x, y: abs(x - y), 2, [0, 1], [2, 3], S, True)),
    ("vavrg4.u32.u32.u32 %d, %a, %b, %c;", lanes(lambda x, y: x + y + 1 >> 1, 4, LOW, HIGH, U)), ("vavrg2.u32.u32.u32.add %d, %a, %b, %c;", lanes(lambda x, y: x + y + 1 >> 1, 2, [0, 1], [2, 3], U, None, "", True)),
    ("vmin4.s32.s32.s32 %d.b310, %a, %b, %c;", lanes(min, 4, LOW, HIGH, S, None, "310")), ("vmax4.u32.u32.u32 %d, %a.b7501, %b.b6543, %c;", lanes(max, 4, [1, 0, 5, 7], [3, 4, 5, 6], U)),
    ("vmin2.u32.u32.u32 %d, %a.h31, %b.h02, %c;", lanes(min, 2, [1, 3], [2, 0], U)), ("vmax2.s32.s32.s32.add %d.h0, %a, %b, %c;", lanes(max, 2, [0, 1], [2, 3], S, True, "0", True)),
    ("vset4.u32.u32.gt.add %d, %a, %b, %c;", lanes(lambda x, y: int(x > y), 4, LOW, HIGH, U, None, "", True)), ("vset2.s32.s32.le %d, %a, %b, %c;", lanes(lambda x, y: int(x <= y), 2, [0, 1], [2, 3], S)),
]


@pytest.mark.parametrize(("line", "definition"), ROWS, ids=[row[0].split(" ")[0] for row in ROWS])
def test_video_instruction(line: str, definition: Callable[[int, int, int], int]) -> None:
    verify(line, INTS, each(definition), 0)


@pytest.mark.slow
@pytest.mark.parametrize("line", [row[0] for row in ROWS])
def test_assembler_accepts_it(line: str) -> None:
    assemble(text(line), get_target("sm_80"))


@pytest.mark.parametrize("line", ["vadd.u32.u32.u32 %d, %a.b7, %b;", "vadd4.u32.u32.u32 %d, %a.h10, %b, %c;", "vadd.u32.u32.u32.add %d, %a, %b;"])
def test_wrong_parts_are_errors(line: str) -> None:
    with pytest.raises(UserError):
        simulator.launch(text(line), "k", 1, 64, [INTS[0].copy()] * 5)
