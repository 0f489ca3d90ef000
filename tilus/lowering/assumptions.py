"""What ``tl.assume`` promises of integers, as ranges and divisors."""

from __future__ import annotations

from collections.abc import Iterator

from tilus.ir.core import Block, Function, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import Assume, Binary, Cast, Compare, Const, Dim
from tilus.records import record

_MIRRORED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq"}


@record(frozen=True, slots=True)
class Promise:
    """A value is at least ``low``, at most ``high`` (None: not promised) and a multiple of ``divisor``."""

    low: int | None = None
    high: int | None = None
    divisor: int = 1


def promises(function: Function) -> dict[Value | str, list[Promise]]:
    """Promises by value, and by the name of a dimension of the arguments.

    A promise holds wherever its value is in scope if it stands in the block that makes the value, or at the top of the
    kernel, which all blocks of threads come by.
    """
    dims: dict[Value, tuple[str, ...]] = {
        v: tuple(map(str, p.dims)) for v, p in zip(function.body.args, function.parameters, strict=False)}
    found: dict[Value | str, list[Promise]] = {}
    for block in _blocks(function.body):
        own = {*block.args, *(r for op in block.ops for r in op.results)}
        for op in block.ops:
            if not isinstance(op, Assume):
                continue
            for value, promise in _of(op.condition):
                if block is not function.body and value not in own:
                    continue
                maker = value.defining
                known = isinstance(maker, Dim) and dims.get(maker.view)
                key: Value | str = dims[maker.view][maker.axis] if isinstance(maker, Dim) and known else value
                found.setdefault(key, []).append(promise)
    return found


def conditions(block: Block) -> set[Value]:
    """The comparisons behind all promises of a block and its regions."""
    found: set[Value] = set()
    for op in block.walk():
        if isinstance(op, Assume):
            found.update(_parts(op.condition))
    return found


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for op in block.ops:
        for region in op.regions:
            yield from _blocks(region)


def _parts(condition: Value) -> Iterator[Value]:
    """The condition and what it is a conjunction of."""
    yield condition
    maker = condition.defining
    if isinstance(maker, Binary) and maker.kind == "and":
        yield from _parts(maker.lhs)
        yield from _parts(maker.rhs)


def _of(condition: Value) -> Iterator[tuple[Value, Promise]]:
    for part in _parts(condition):
        maker = part.defining
        if not isinstance(maker, Compare) or maker.kind not in _MIRRORED or not maker.lhs.tile.dtype.is_int:
            continue
        for kind, x, y in ((maker.kind, maker.lhs, maker.rhs), (_MIRRORED[maker.kind], maker.rhs, maker.lhs)):
            bound = _constant(y)
            if bound is not None:
                yield from _comparison(kind, x, bound)


def _comparison(kind: str, x: Value, bound: int) -> Iterator[tuple[Value, Promise]]:
    low = {"ge": bound, "gt": bound + 1, "eq": bound}.get(kind)
    high = {"le": bound, "lt": bound - 1, "eq": bound}.get(kind)
    x = _narrowest(x)
    yield x, Promise(low, high)
    maker = x.defining
    if kind == "eq" and bound == 0 and isinstance(maker, Binary) and maker.kind == "mod":
        divisor = _constant(maker.rhs)
        if divisor:
            yield _narrowest(maker.lhs), Promise(divisor=abs(divisor))


def _narrowest(x: Value) -> Value:
    """The value that widening casts lead from."""
    maker = x.defining
    while isinstance(maker, Cast) and _holds(maker.dtype, maker.x.tile.dtype):
        x, maker = maker.x, maker.x.defining
    return x


def _holds(wide: DType, narrow: DType) -> bool:
    """Whether a type has all values of another."""
    return wide.kind == "int" and narrow.is_int and narrow.bits + (narrow.kind == "uint") <= wide.bits


def _constant(x: Value) -> int | None:
    maker = _narrowest(x).defining
    return int(maker.value) if isinstance(maker, Const) and maker.dtype.is_int else None
