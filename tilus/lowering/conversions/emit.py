"""Programs as operations at thread level."""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.dtypes import DType, bf16, f16, f32, i8, u32
from tilus.ir.ops import Binary, Cast, Const, Extract, Fma, Pack
from tilus.ir.ops.words import BytePermute, FunnelShift, Lop3, Regroup
from tilus.lowering.conversions.integers import MANTISSA
from tilus.lowering.conversions.program import AND, NEGATIVE_ZERO, ONE, XOR, Node, Program
from tilus.lowering.conversions.table import program_for

WORD = 32
_BITWISE = {AND: "and", XOR: "xor"}
"""Functions of two bits."""


def convert_words(b: Builder, words: Value, source: DType, count: int, target: DType, *,
                  ordered: bool = True, less: int = 0) -> Value | None:
    """``count`` dense elements in registers as a vector of ``target``, by the sequence of the table.

    Args:
        words: a vector of u32; element i of ``source`` is at bits [i b, (i + 1) b) of the words one after another,
            from the lowest of the first. The bits beyond are ignored.
        target: f16, bf16 or f32; of integers also i8 and u8.
        ordered: whether element i of the result is element i. Otherwise it is element ``order_for(...)[i]``, which
            takes fewer instructions; ``count`` has to be a multiple of :func:`group_of`.
        less: of integers, what is subtracted from each on the way, where the target has all differences.

    Returns:
        The numbers, exactly as the language's casts give them; None where there is no sequence.
    """
    p = program_for(source, target, ordered, less) if not less or holds_difference(source, target, less) else None
    per = WORD // target.bits
    if p is None or count % per or (not ordered and count % p.elements):
        return None
    parts: list[Value] = []
    for first in range(0, count, p.elements):
        here = min(p.elements, count - first)
        start = first * source.bits // WORD
        held = [_word(b, words, start + i) for i in range(-(-here * source.bits // WORD))]
        parts += Emitter(b, p, held).run(p.outputs[: here // per])
    return b.add(Regroup(b.add(Pack(tuple(parts))).result, target)).result


def holds_difference(source: DType, target: DType, less: int) -> bool:
    """Whether a target holds the differences of all integers of a type from ``less``: 16-bit floats also what sequences
    make of them on the way, 2^m + less and sixteenths of it."""
    if target is i8 and source.is_int and source.bits < 8:
        return source.max_value - less < 128 and source.min_value - less >= -128 and 0 <= less < 128
    width = target.mantissa if target.bits == 16 else MANTISSA["bf16"]
    return source.is_int and target.is_float and abs(less) <= 1 << source.bits <= 1 << width


def group_of(source: DType, target: DType) -> int:
    """How many elements a sequence takes at a time; 0 where there is none."""
    p = program_for(source, target, False)
    return p.elements if p is not None else 0


def order_for(source: DType, target: DType, count: int) -> tuple[int, ...] | None:
    """The elements that the shorter sequence of ``convert_words(..., ordered=False)`` gives, one after another: to have
    element j at place i of its result, memory holds it at place ``order_for(...)[i]``. None where there is no
    sequence, or ``count`` is no multiple of its group."""
    p = program_for(source, target, False)
    if p is None or count % p.elements:
        return None
    return tuple(first + i for first in range(0, count, p.elements) for i in p.order)


def _word(b: Builder, words: Value, index: int) -> Value:
    """One word, as a vector of one."""
    return b.add(Pack((b.add(Extract(words, index)).result,))).result


class Emitter:
    """Emits the nodes of a program that outputs need, on one group of words; those that are missing are zero."""

    def __init__(self, b: Builder, p: Program, words: list[Value]) -> None:
        self.b, self.p, self.words = b, p, words
        self.values: dict[int, Value] = {}
        self.pairs: dict[tuple[int, DType], Value] = {}

    def run(self, outputs: list[int]) -> list[Value]:
        for i in self.p.needed(outputs):
            self.values[i] = self._node(self.p.nodes[i])
        return [self.values[i] for i in outputs]

    def _node(self, node: Node) -> Value:
        if node.kind == "input":
            return self.words[node.detail] if node.detail < len(self.words) else self._const(0)
        if node.kind == "const":
            return self._const(node.detail)
        if node.kind == "fma":
            return self._fma(node)
        if node.kind == "widen":
            half = self.b.add(Extract(self._pair(node.operands[0], f16), node.detail)).result
            number = self.b.add(Cast(half, f32)).result
            return self.b.add(Regroup(self.b.add(Pack((number,))).result, u32)).result
        x = [self.values[i] for i in node.operands]
        if node.kind == "lop3":
            if node.detail in _BITWISE:
                return self.b.add(Binary(_BITWISE[node.detail], x[0], x[1])).result
            return self.b.add(Lop3(x[0], x[1], x[2], node.detail)).result
        if node.kind == "funnel":
            return self.b.add(FunnelShift(x[0], x[1], node.detail)).result
        if node.kind == "prmt":
            return self.b.add(BytePermute(x[0], x[1], max(node.detail, 0), *x[2:])).result
        product = x[0] if self._bits(node.operands[1]) == 1 else self.b.add(Binary("mul", x[0], x[1])).result
        return self.b.add(Binary("add", product, x[2])).result

    def _fma(self, node: Node) -> Value:
        """Products and sums of f16 as such; of bf16 the oldest targets have the fused ones only."""
        dtype = bf16 if node.detail else f16
        x, y, z = (self._pair(i, dtype) for i in node.operands)
        if dtype is f16 and self._bits(node.operands[1]) == ONE["f16"]:
            result = self.b.add(Binary("add", x, z, False)).result
        elif dtype is f16 and self._bits(node.operands[2]) == NEGATIVE_ZERO:
            result = self.b.add(Binary("mul", x, y, False)).result
        else:
            result = self.b.add(Fma(x, y, z)).result
        return self.b.add(Regroup(result, u32)).result

    def _pair(self, node: int, dtype: DType) -> Value:
        found = self.pairs.get((node, dtype))
        if found is None:
            found = self.pairs[node, dtype] = self.b.add(Regroup(self.values[node], dtype)).result
        return found

    def _bits(self, node: int) -> int | None:
        n = self.p.nodes[node]
        return n.detail if n.kind == "const" else None

    def _const(self, bits: int) -> Value:
        return self.b.add(Const(bits, u32, (1,))).result
