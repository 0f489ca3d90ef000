"""How integers go along a dimension, against all of their values."""

from __future__ import annotations

import numpy as np
import pytest

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import Binary, Broadcast, Iota
from tilus.lowering.facts import Facts
from tilus.lowering.simt.runs import ALWAYS, affine

LENGTH = 64


def remainders(start: int, divisor: int) -> tuple[Function, dict[str, tuple[Value, np.ndarray]]]:
    """``start + i`` by a divisor, both constants."""
    body = Block()
    b = Builder(body)
    at = b.add(Iota((LENGTH,), 0, i64)).result
    first, by = (b.add(Broadcast(b.const(n), (LENGTH,))).result for n in (start, divisor))
    x = b.add(Binary("add", first, at)).result
    numbers = start + np.arange(LENGTH)
    found = {}
    for kind, wanted in (("mod", numbers % divisor if divisor else numbers),
                         ("floordiv", numbers // divisor if divisor else 0 * numbers)):
        found[kind] = b.add(Binary(kind, x, by)).result, wanted
        shifted = b.add(Binary("add", found[kind][0], first)).result
        found[f"{kind} + {start}"] = shifted, wanted + start
    return Function("f", body, []), found


@pytest.mark.parametrize("start", [0, 3, 8, 16, 48, -8, -5])
@pytest.mark.parametrize("divisor", [0, 1, 4, 5, 8, 12, 16, 24, 64])
def test_remainders_and_quotients(start: int, divisor: int) -> None:
    function, cases = remainders(start, divisor)
    facts = Facts(function)
    for name, (value, numbers) in cases.items():
        along = affine(facts, value, 0)
        assert along is not None, name
        run = min(along.run, LENGTH)
        for first in range(0, LENGTH, run):
            part = numbers[first : first + run]
            np.testing.assert_array_equal(part, part[0] + along.step * np.arange(len(part)))
            assert part[0] % along.divisor == 0 if along.divisor else part[0] == 0, (name, along)
    if divisor == 16 and start % 8 == 0:
        along = affine(facts, cases["mod"][0], 0)
        assert along is not None
        assert along.step == 1
        assert along.run in (8, 16, ALWAYS)
