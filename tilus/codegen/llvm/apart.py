"""Branches of the host's functions that are functions of modules of their own, compiled when they first run.

The main module has the table :data:`TABLE`: first the address of a function that fills in a place of the table, then
the addresses of those that have been compiled, or null. That function is told how often it has been called for nothing
before, as it is where a signal comes. A branch's function takes the values that the branch uses, and says whether the
function around it is to end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # kernels from the cache do without
    from tilus.codegen.llvm.text import Emitter, ModuleText
    from tilus.ir.core import Block, Function, Value

TABLE = "apart"
"""The table of a main module."""
ENTRY = "run"
"""The function of a branch's module."""


class Modules:
    """The text of a main module in the making, and those of its branches; the functions there are, by name.
    ``divided``: branches that may be are modules of their own."""

    def __init__(self, main: ModuleText, functions: Mapping[str, Function], *, divided: bool) -> None:
        self.functions = functions
        self.main = main
        self.divided = divided
        self.branches: list[str] = []

    def finish(self) -> str:
        """The main module's text."""
        if self.branches:
            size = 1 + len(self.branches)
            self.main.definitions.append(f"@{TABLE} = dso_local global [{size} x ptr] zeroinitializer, align 16")
        return str(self.main)


def free_values(region: Block) -> list[Value]:
    """What a region uses and does not define, in order of use."""
    found: dict[Value, None] = {}
    inside: set[Value] = set()

    def walk(block: Block) -> None:
        inside.update(block.args)
        for op in block.ops:
            for value in op.operands:
                if value not in inside:
                    found[value] = None
            for region in op.regions:
                walk(region)
            inside.update(op.results)

    walk(region)
    return list(found)


def call_branch(e: Emitter, place: int, arguments: str, leave: Callable[[], None]) -> None:
    """Call the function at a place of the table, which is compiled if it has not been; ``leave`` ends the function
    around the call."""
    find, call, end, go_on = (e.new_label(stem) for stem in ("find", "call", "leave", "stay"))
    slot = e.op(f"getelementptr ptr, ptr @{TABLE}, i64 {place}")
    there = e.op(f"load atomic ptr, ptr {slot} acquire, align 8")
    before = e.label
    missing = e.op(f"icmp eq ptr {there}, null")
    e.do(f"br i1 {missing}, label %{find}, label %{call}")
    e.start(find)
    resolve = e.op(f"load ptr, ptr @{TABLE}, align 8")
    again, ask = e.fresh(), e.new_label("ask")
    e.do(f"br label %{ask}")
    e.start(ask)
    times = e.op(f"phi i64 [ 0, %{find} ], [ {again}, %{ask} ]")
    e.do(f"call void {resolve}(ptr @{TABLE}, i64 {place}, i64 {times}) cold")
    found = e.op(f"load atomic ptr, ptr {slot} acquire, align 8")
    e.do(f"{again} = add i64 {times}, 1")
    none = e.op(f"icmp eq ptr {found}, null")
    e.do(f"br i1 {none}, label %{ask}, label %{call}")
    e.start(call)
    callee = e.op(f"phi ptr [ {there}, %{before} ], [ {found}, %{ask} ]")
    ends = e.op(f"call i1 {callee}({arguments})")
    e.do(f"br i1 {ends}, label %{end}, label %{go_on}")
    e.start(end)
    leave()
    e.start(go_on)


__all__ = ["ENTRY", "TABLE", "Modules", "call_branch", "free_values"]
