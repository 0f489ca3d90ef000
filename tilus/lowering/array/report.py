"""What was fused, in words: the kernels, what is in memory between them and why, and what stays in registers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from tilus.ir.core import Function, Operation, Value
from tilus.ir.families import Movement
from tilus.ir.ops import Const, Iota
from tilus.ir.ops.array import Extent as ExtentOp
from tilus.ir.types import Extent, extents_of
from tilus.lowering.array.access import below_regroups
from tilus.lowering.array.partition import KernelPlan, Partition
from tilus.lowering.array.pieces import Piece
from tilus.lowering.array.types import wide


def fusion_lines(function: Function, found: Partition, named: Mapping[str, Sequence[KernelPlan]],
                 outputs: Sequence[Value], pieces: Sequence[Piece]) -> list[str]:
    """For each kernel what it writes, and what by some of its blocks; for what is written besides the outputs how much
    that is, and why; how much memory of its own all that takes; and how much would be written, but stays in
    registers."""
    written = {root for plan in found.kernels for root in plan.written}
    lines = [f"fusion: {len(named)} kernel{'s' * (len(named) != 1)}"]
    for name, plans in named.items():
        parts = [", ".join(_described(root, root in outputs) for root in plan.written) for plan in plans]
        lines.append(f"  {name} writes {'; by other blocks '.join(parts)}")
    for value in found.intermediate:
        if value in written:
            reason = found.reasons.get(value, "several kernels need it")
            lines.append(f"  in memory: {_described(value)}, {_text(_bytes([value]))} bytes: {reason}")
    if pieces:
        count = sum(len(p.users) for p in pieces)
        lines.append(f"  memory between kernels: {count} value{'s' * (count != 1)} in {len(pieces)} "
                     f"piece{'s' * (len(pieces) != 1)}, {_sizes(pieces)} bytes at most")
    inside = [r for op in function.body.ops[:-1] if _computes(op) for r in op.results
              if r.tile.shape and r not in written and below_regroups(r) not in written]
    if inside:
        lines.append(f"  in registers: {len(inside)} value{'s' * (len(inside) != 1)}, which would be "
                     f"{_text(_bytes(inside))} bytes to write and to read again")
    return lines


def _computes(op: Operation) -> bool:
    return not isinstance(op, (Movement, Const, Iota, ExtentOp))


def _described(value: Value, is_output: bool = False) -> str:
    op = value.defining
    kind = "an argument" if op is None else getattr(op, "kind", op.NAME)
    what = "an output" if is_output else value.name or kind
    if op is None or not op.span.known:
        return what
    return f"{what} ({PurePath(op.span.file).name}:{op.span.line})"


def _bytes(values: Sequence[Value]) -> Counter[tuple[Extent, ...]]:
    """Bytes by the symbols that they are multiplied by; extents that are one now count as what they were."""
    total = Counter[tuple[Extent, ...]]()
    for value in values:
        factors = [factor for n in extents_of(value.tile) for factor in str(n).split("*")]
        count = math.prod(int(n) for n in factors if n.isdecimal()) * wide(value.tile.dtype).bits // 8
        total[tuple(sorted(n for n in factors if not n.isdecimal()))] += count
    return total


def _sizes(pieces: Sequence[Piece]) -> str:
    """Of pieces of memory together; where values of several shapes share one, it has the largest one's size."""
    fixed, others = Counter[tuple[Extent, ...]](), list[str]()
    for piece in pieces:
        sizes = [_bytes([value]) for value, *_ in piece.users]
        if piece.is_of_one_shape:
            fixed += sizes[0]
        elif all(not symbols for size in sizes for symbols in size):
            fixed[()] += max(size[()] for size in sizes)
        else:
            others.append(f"max({', '.join(dict.fromkeys(map(_text, sizes)))})")
    return " + ".join([*([_text(fixed)] if fixed else []), *others])


def _text(total: Counter[tuple[Extent, ...]]) -> str:
    return " + ".join("·".join([str(count), *map(str, symbols)]) for symbols, count in total.items())


__all__ = ["fusion_lines"]
