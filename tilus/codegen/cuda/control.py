"""Loops and branches in CUDA C: what they carry is in variables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from tilus.codegen.cuda.kernel import Handlers, KernelPrinter
from tilus.codegen.cuda.syntax import prefix
from tilus.codegen.cuda.types import c_type, cell_type
from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Block, Operation, Value
from tilus.ir.ops import Const, For, If, Select, While
from tilus.ir.ops.simt import ExitIf
from tilus.ir.ops.thread import pointer_type
from tilus.ir.types import PointerType

Carried = str | list[str] | None
"""What holds a carried value: a variable of a pointer, or those of cells; nothing where nobody reads it."""


def for_loop(k: KernelPrinter, op: For) -> None:
    carried = _carry(k, op.init, op.body.args[1:], op.results)
    start = k.scalar(op.start)
    ctype = c_type(op.index.tile.dtype)
    end = k.scalar(op.stop)
    if isinstance(op.stop.defining, Select) and ctype == "int":
        end = f"{k.need('pinned_end')}({end})"
    stop, step = (k.named(text, ctype, stem) for text, stem in ((end, "stop"), (k.scalar(op.step), "step")))
    index = k.fresh(op.index.name or "i")
    constant = op.step.defining
    if isinstance(constant, Const):
        test = f"{index} {'<' if constant.value > 0 else '>'} {stop}"
    else:
        test = f"({step} > 0 ? {index} < {stop} : {index} > {stop})"
    k.line("#pragma unroll 1")
    k.line(f"for ({ctype} {index} = {start}; {test}; {index} += {step}) {{")
    k.bind(op.index, [index])
    _loop_body(k, op.body, op.body.args[1:], carried)
    k.line("}")
    _results(k, op, carried)


def while_loop(k: KernelPrinter, op: While) -> None:
    carried = _carry(k, op.init, op.before.args, op.body.args, op.results)
    k.line("while (true) {")
    for arg, names in zip(op.before.args, carried, strict=True):
        _hold(k, arg, names)
    k.nested(op.before)
    k.depth += 1
    k.line(f"if ({prefix('!', k.scalar(op.before.terminator.operands[0]))}) break;")
    k.depth -= 1
    _loop_body(k, op.body, op.body.args, carried)
    k.line("}")
    _results(k, op, carried)


def if_op(k: KernelPrinter, op: If) -> None:
    condition = k.scalar(op.condition)
    targets: list[Carried] = []
    for result in op.results:
        if isinstance(result.type, PointerType):
            raise UnsupportedError.at("E0507", "an `if` that yields a pointer", op.span)
        targets.append(k.declare(result, result.name))
    saved = Counter(k.pending)
    k.line(f"if ({condition}) {{")
    _branch(k, op.then, targets)
    if len(op.orelse.ops) > 1 or op.results:
        k.line("} else {")
        _branch(k, op.orelse, targets)
    k.line("}")
    for result in op.results:
        for n in k.cells[result].names:
            k.pending[n] = max(saved[n], k.uses[result])


def _branch(k: KernelPrinter, block: Block, targets: list[Carried]) -> None:
    k.nested(block)
    k.depth += 1
    _yield_to(k, block.terminator.operands, targets)
    k.depth -= 1


def exit_if(k: KernelPrinter, op: ExitIf) -> None:
    k.line(f"if ({k.scalar(op.condition)}) return;")


# -- carried values


def _carry(k: KernelPrinter, init: Iterable[Value], args: Sequence[Value], *others: Sequence[Value]) -> list[Carried]:
    """Variables for the carried values, initialised; ``others`` is what else they become."""
    out: list[Carried] = []
    for value, arg, *rest in zip(init, args, *others, strict=True):
        if not any(k.uses[v] for v in (arg, *rest)):
            out.append(None)
            continue
        if isinstance(value.type, PointerType):
            name = k.names.pointer(k.pointers[value][0], pointer_type(value).space == "shared", k.span)
            k.line(f"{_pointer_type(value)} {name} = {k.address(value)};")
            out.append(name)
            continue
        source = list(k.cells[value].names)
        out.append(k.declare(arg, arg.name or value.name or _stem(source[0]), source))
    return out


def _stem(variable: str) -> str:
    """What the name of a variable begins with, for the one that takes its value over; nothing of other expressions."""
    found = re.fullmatch(r"([A-Za-z_]\w*?)(?:_\d+)?(?:\[\d+\])?", variable)
    return found[1] if found is not None and variable not in ("true", "false") else ""


def _pointer_type(value: Value) -> str:
    return "unsigned" if pointer_type(value).space == "shared" else "auto"


def _hold(k: KernelPrinter, value: Value, names: Carried) -> None:
    if isinstance(names, str):
        k.pointers[value] = (names, 0)
    elif names is not None:
        k.bind(value, names)


def _loop_body(k: KernelPrinter, body: Block, args: list[Value], carried: list[Carried]) -> None:
    for arg, names in zip(args, carried, strict=True):
        if isinstance(names, list):
            for n in names:
                k.made_in[n] = id(body)
                k.pending[n] = 0
        _hold(k, arg, names)
    k.nested(body)
    k.depth += 1
    _yield_to(k, body.terminator.operands, carried)
    k.depth -= 1


def _results(k: KernelPrinter, op: Operation, carried: list[Carried]) -> None:
    for result, names in zip(op.results, carried, strict=True):
        if isinstance(names, list):
            for n in names:
                k.pending[n] = 0
            k.own(names)
        _hold(k, result, names)


def _yield_to(k: KernelPrinter, values: Sequence[Value], targets: list[Carried]) -> None:
    """Set variables to values, by way of others where one that is set is still to be read."""
    moves: list[tuple[str, str, str]] = []
    for value, names in zip(values, targets, strict=True):
        if names is None:
            continue
        if isinstance(names, str):
            text = k.address(value)
            if text == f"{names} + {k.pointers[value][1]}" and pointer_type(value).space != "shared":
                # Not earlier: moved up, the sum would need the old pointer copied for the accesses below.
                k.line(f'asm volatile("" : "+l"({names}));')
            if text != names:
                moves.append((names, text, _pointer_type(value)))
            continue
        cells = k.cells[value]
        moves += [(t, s, cell_type(cells)) for t, s in zip(names, cells.names, strict=True) if t != s]
    written = {t for t, _, _ in moves}
    if any(_mentions(s, written - {t}) for t, s, _ in moves):
        temporaries = []
        for target, source, ctype in moves:
            name = k.fresh("next")
            k.line(f"const {ctype} {name} = {source};")
            temporaries.append((target, name, ctype))
        moves = temporaries
    _plain_moves(k, moves)


def _plain_moves(k: KernelPrinter, moves: list[tuple[str, str, str]]) -> None:
    """Assignments; those of an array together, but not as a loop: NVRTC makes more code of fragments that an unrolled
    loop moves."""
    start = 0
    while start < len(moves):
        stem = _array(moves[start][0])
        stop = start + 1
        while stop < len(moves) and stem is not None and _array(moves[stop][0]) == stem:
            stop += 1
        k.assign_each([m[0] for m in moves[start:stop]], [m[1] for m in moves[start:stop]])
        start = stop


def _array(name: str) -> str | None:
    return name[: name.rindex("[")] if name.endswith("]") else None


def _mentions(text: str, names: set[str]) -> bool:
    return text in names or any(n in text for n in names if len(n) < len(text))


HANDLERS: Handlers = {For: for_loop, While: while_loop, If: if_op, ExitIf: exit_if}
