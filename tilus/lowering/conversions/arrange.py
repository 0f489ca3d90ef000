"""What is done with the halves that a program gives: put in order, widened to f32, f32 narrowed to bf16."""

from __future__ import annotations

from tilus.lowering.conversions.program import Program


def in_order(p: Program, per: int) -> Program:
    """The program with its elements, ``per`` in a register (4 or 2), in order: PRMT puts them together."""
    if p.order == tuple(range(p.elements)) or per == 1:
        return _sorted_registers(p) if per == 1 else p
    where = {element: divmod(k, per) for k, element in enumerate(p.order)}
    size = 4 // per
    outputs = []
    for start in range(0, p.elements, per):
        chosen = []
        for element in range(start, start + per):
            register, at = where[element]
            chosen += [(p.outputs[register], at * size + byte) for byte in range(size)]
        outputs.append(_gathered(p, chosen))
    p.outputs, p.order = outputs, tuple(range(p.elements))
    return p


def _sorted_registers(p: Program) -> Program:
    p.outputs = [p.outputs[p.order.index(i)] for i in range(p.elements)]
    p.order = tuple(range(p.elements))
    return p


def _gathered(p: Program, chosen: list[tuple[int, int]]) -> int:
    """Four bytes from any number of registers, from one more at a time."""
    nodes = list(dict.fromkeys(n for n, _ in chosen))
    gathered = nodes[0]
    places = [i if n == gathered else None for n, i in chosen]
    if len(nodes) == 1:
        found = p.bytes_of(chosen)
        assert found is not None
        return found
    for node in nodes[1:]:
        picks = []
        for k, (n, i) in enumerate(chosen):
            held = places[k]
            picks.append((node, i) if n == node else (gathered, held if held is not None else 0))
        found = p.bytes_of(picks)
        assert found is not None
        gathered = found
        places = [k if places[k] is not None or chosen[k][0] == node else None for k in range(4)]
    return gathered


def widened(p: Program, half: str) -> Program:
    """One f32 in each register: a bf16 is the upper half of one, an f16 is converted."""
    outputs: list[int] = []
    for register in p.outputs:
        if half == "f16":
            outputs += [p.widen(register, 0), p.widen(register, 1)]
        else:
            outputs += [p.prmt(register, p.const(0), 0x1044), p.both_and(register, 0xFFFF0000)]
    p.outputs = outputs
    return p


def narrowed(p: Program) -> Program:
    """f32 that a bf16 holds exactly, as pairs of their upper halves."""
    p.outputs = [p.prmt(low, high, 0x7632) for low, high in zip(p.outputs[::2], p.outputs[1::2], strict=True)]
    return p
