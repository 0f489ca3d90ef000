"""Code of a module that is there once, in a function of its own: what is rarely run and long, where it stands in many
places. LLVM takes time in proportion to the length of the code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.ir.attributes import Attributes
from tilus.ir.core import Block, Function, Value
from tilus.ir.ops import Yield
from tilus.ir.ops.simd import CallFunction
from tilus.ir.types import Type
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.emit import Cursor

Body = Callable[[Cursor, list[Value]], Sequence[Value]]


def call_shared(self: BlockLowering, name: str, arguments: Sequence[Value], returns: Sequence[Type], body: Body
                ) -> Sequence[Value]:
    """Call the module's function of that name, which ``body`` makes of a cursor and the parameters if there is none
    yet; gives its result, of which there is at most one. The name says all that the code depends on besides the types
    of the parameters."""
    functions = self.program.functions
    if not any(function.name == name for function in functions):
        block = Block([v.type for v in arguments])
        cursor = Cursor(block)
        cursor.b.add(Yield(tuple(body(cursor, list(block.args)))))
        functions.append(Function(name, block, (), Attributes(linkage="internal", rare=True), self.kernel.span))
    return self.c.b.add(CallFunction(name, tuple(arguments), tuple(returns))).results


__all__ = ["call_shared"]
