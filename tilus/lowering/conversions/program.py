"""Straight-line programs over 32-bit registers: what register conversions are made of.

A register holds 32 bits, two f16 or bf16 (the lower first), four bytes or one f32. Every operation is an instruction of
a GPU, and constants are operands, so that the cost of a program is about the number of its operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tilus.records import field, record

if TYPE_CHECKING:
    import numpy as np

Half = Literal["f16", "bf16"]
Kind = Literal["input", "const", "lop3", "funnel", "prmt", "mad", "fma", "widen"]
MASK = 0xFFFFFFFF
ONE = {"f16": 0x3C003C00, "bf16": 0x3F803F80}
"""A pair of ones."""
NEGATIVE_ZERO = 0x80008000
"""A pair of -0: ``a * b + -0`` is the product, zeros with their sign."""

TRUTH = {"a": 0xF0, "b": 0xCC, "c": 0xAA}
"""The operands of a function of three bits as columns of its truth table: LOP3's immediate is the function of these."""
AND = TRUTH["a"] & TRUTH["b"]
AND_OR = TRUTH["a"] & TRUTH["b"] | TRUTH["c"]
AND_XOR = TRUTH["a"] & TRUTH["b"] ^ TRUTH["c"]
XOR = TRUTH["a"] ^ TRUTH["b"]
SELECT = TRUTH["a"] & ~TRUTH["c"] & 0xFF | TRUTH["b"] & TRUTH["c"]
"""``c ? b : a``, bit by bit."""


@record(frozen=True, slots=True)
class Node:
    """One operation. ``operands`` are numbers of registers; ``detail`` is

    ========  ==========================================================================
    input     the number of the word
    const     the bits
    lop3      the truth table, as ``lop3.b32`` has it
    funnel    how far ``operands[1]:operands[0]`` is shifted to the right, 1 to 31
    prmt      the selector, as ``prmt.b32`` has it; -1 where it is the third operand
    mad       0: ``a * b + c`` modulo 2^32
    fma       0 for pairs of f16, 1 for pairs of bf16: ``a * b + c`` with one rounding
    widen     which half, 0 or 1: an f16 as an f32
    ========  ==========================================================================
    """

    kind: Kind
    operands: tuple[int, ...]
    detail: int


@record(eq=False)
class Program:
    """Nodes in order; equal ones are made once.

    Attributes:
        bits: of an element in the input, where elements lie one after another from bit 0 of word 0 on.
        inputs: words of a group of elements.
        outputs: the registers of the result.
        order: the elements that they hold, register after register, from the low bits of each.
    """

    bits: int
    inputs: int
    nodes: list[Node] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    order: tuple[int, ...] = ()
    _known: dict[Node, int] = field(default_factory=dict, repr=False)

    @property
    def elements(self) -> int:
        """Elements of a group."""
        return self.inputs * 32 // self.bits

    @property
    def cost(self) -> int:
        """Instructions that the outputs need. A PRMT by a register of two constants counts twice: only the second can
        be part of the instruction, and ptxas moves the first one to a register each time, in loops as well (seen for
        sm_75 to sm_120), unless it is zero."""
        nodes = [self.nodes[i] for i in self.needed()]
        moved = sum(n.kind == "prmt" and n.detail < 0 and self.nodes[n.operands[0]].detail != 0 for n in nodes)
        return moved + sum(n.kind not in ("input", "const") for n in nodes)

    def needed(self, outputs: list[int] | None = None) -> list[int]:
        """The nodes that outputs (all of them for None) depend on, in order."""
        found: set[int] = set()
        stack = list(self.outputs if outputs is None else outputs)
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack += self.nodes[node].operands
        return sorted(found)

    # -- nodes

    def add(self, kind: Kind, operands: tuple[int, ...] = (), detail: int = 0) -> int:
        node = Node(kind, operands, detail)
        found = self._known.get(node)
        if found is None:
            found = self._known[node] = len(self.nodes)
            self.nodes.append(node)
        return found

    def const(self, bits: int) -> int:
        return self.add("const", detail=bits & MASK)

    def word(self, index: int) -> int:
        return self.add("input", detail=index)

    def both_and(self, a: int, mask: int) -> int:
        return a if mask == MASK else self.add("lop3", (a, self.const(mask), self.const(0)), AND)

    def and_or(self, a: int, mask: int, bits: int) -> int:
        return self.add("lop3", (a, self.const(mask), self.const(bits)), AND_OR) if bits else self.both_and(a, mask)

    def and_xor(self, a: int, mask: int, bits: int) -> int:
        return self.add("lop3", (a, self.const(mask), self.const(bits)), AND_XOR)

    def xor(self, a: int, bits: int) -> int:
        return a if bits == 0 else self.add("lop3", (a, self.const(bits), self.const(0)), XOR)

    def select(self, a: int, b: int, mask: int) -> int:
        """The bits of ``b`` where ``mask`` has ones, else those of ``a``."""
        return a if a == b else self.add("lop3", (a, b, self.const(mask)), SELECT)

    def funnel(self, low: int, high: int, by: int) -> int:
        """``high:low >> by``; a rotation where both are one word."""
        by %= 32
        return self.add("funnel", (low, high), by) if by else low

    def rotate(self, a: int, by: int) -> int:
        """To the right."""
        return self.funnel(a, a, by)

    def prmt(self, a: int, b: int, selector: int) -> int:
        return self.add("prmt", (a, b), selector)

    def bytes_of(self, chosen: list[tuple[int, int]]) -> int | None:
        """A register of four bytes, each a node and the number of the byte in it. None where they are of more than two
        nodes."""
        nodes = list(dict.fromkeys(n for n, _ in chosen))
        if len(nodes) > 2:
            return None
        if len(nodes) == 1 and [i for _, i in chosen] == [0, 1, 2, 3]:
            return nodes[0]
        selector = sum((4 * nodes.index(n) + i) << 4 * k for k, (n, i) in enumerate(chosen))
        return self.prmt(nodes[0], nodes[-1], selector)

    def mad(self, a: int, factor: int, c: int) -> int:
        return self.add("mad", (a, self.const(factor), c))

    def plus(self, a: int, number: int) -> int:
        return self.add("mad", (a, self.const(1), self.const(number)))

    def fma(self, half: Half, a: int, b: int, c: int) -> int:
        return self.add("fma", (a, b, c), int(half == "bf16"))

    def times(self, half: Half, a: int, bits: int) -> int:
        """A product with a pair of constants, given by their bits."""
        return a if bits == ONE[half] else self.fma(half, a, self.const(bits), self.const(NEGATIVE_ZERO))

    def widen(self, a: int, which: int) -> int:
        return self.add("widen", (a,), which)

    # -- numbers

    def evaluate(self, words: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The output registers, as columns, for rows of input words (u32)."""
        import numpy as np

        from tilus.lowering.conversions.instructions import EVALUATE

        held: dict[int, Any] = {}
        with np.errstate(all="ignore"):
            for i in self.needed():
                node = self.nodes[i]
                if node.kind == "input":
                    held[i] = words[:, node.detail]
                elif node.kind == "const":
                    held[i] = np.full(len(words), node.detail, np.uint32)
                else:
                    held[i] = EVALUATE[node.kind](node.detail, *(held[n] for n in node.operands))
        return np.stack([held[i] for i in self.outputs], axis=1)
