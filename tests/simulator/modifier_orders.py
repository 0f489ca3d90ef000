"""Asks ptxas in which orders it takes the modifiers of each instruction form, and keeps its answers.

Run ``python -m tests.simulator.modifier_orders`` after changing the forms: it collects an instruction of each form from
the tests, tries the orders of its modifiers with ptxas, and writes golden/modifier_orders.json.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tilus.runtime.toolchains.locate import locate
from tilus.simulator import decode, isa, resolved

GOLDEN = Path(__file__).parent / "golden" / "modifier_orders.json"
ROOT = Path(__file__).parents[2]
TARGETS = ("sm_100a", "sm_90a", "sm_120a")
MOST = 240
SPACES = {"shared": "S_", "dynamic": "S_", "global": "G_", "const": "C_", "local": "L_", "param": "P_", "frame": "L_"}


@dataclass(frozen=True)
class Sample:
    """An instruction of a form: its operands, and the registers that they name with their types."""

    opcode: str
    operands: tuple[str, ...]
    registers: tuple[tuple[str, str], ...]

    def statement(self, opcode: str) -> str:
        declared = " ".join(f".reg .{kind} {name};" for name, kind in self.registers)
        return f"{{ {declared} {opcode} {', '.join(self.operands)}; }}"


def orders(opcode: str) -> list[str]:
    """The opcode with its modifiers in other orders: all, or many. Words of one class keep theirs, as another order of
    types is another instruction."""
    family, *words = opcode.split(".")
    numbers = range(len(words))
    found: dict[str, None] = {}
    for order in _permutations(opcode, len(words)):
        shuffled = [words[i] for i in order]
        classes: dict[int, list[int]] = {}
        for i in order:
            kind = isa.class_of(words[i])
            if kind is not None:
                classes.setdefault(kind, []).append(i)
        if all(places == sorted(places) for places in classes.values()) and list(order) != list(numbers):
            found[".".join([family, *shuffled])] = None
    found.pop(opcode, None)
    return list(found)


def _permutations(opcode: str, count: int) -> Iterator[tuple[int, ...]]:
    if count <= 5:
        yield from itertools.permutations(range(count))
        return
    for i, j in itertools.product(range(count), repeat=2):
        order = list(range(count))
        order.insert(j, order.pop(i))
        yield tuple(order)
    rng = random.Random(opcode)
    for _ in range(MOST * 20):
        order = list(range(count))
        rng.shuffle(order)
        yield tuple(order)
        for _ in range(3):
            # A few words moved, so that classes of many words keep their order often enough.
            order = list(range(count))
            for _ in range(3):
                order.insert(rng.randrange(count), order.pop(rng.randrange(count)))
            yield tuple(order)


def tried(opcode: str) -> list[str]:
    """The orders that the golden file is about."""
    return orders(opcode)[:MOST]


def refused(statements: list[str], target: str) -> set[int]:
    """Numbers of the statements that ptxas refuses."""
    head = [".version 9.0", f".target {target}", ".address_size 64", ".global .align 16 .b8 G_[1024];",
            ".const .align 16 .b8 C_[1024];", ".visible .entry k(.param .align 64 .b8 P_[256]) {",
            ".shared .align 128 .b8 S_[1024]; .local .align 16 .b8 L_[256];"]
    wrong: set[int] = set()
    start = 0
    while start < len(statements):
        text = "\n".join([*head, *statements[start:], "ret; }"])
        log = subprocess.run([locate("ptxas-13"), f"-arch={target}", "-", "-o", "/dev/null"], input=text, text=True,
                             capture_output=True, check=False).stderr
        found = [(int(line) - 1 - len(head) + start, kind) for line, kind in
                 re.findall(r"line (\d+); (error|fatal)", log)]
        fatal = [number for number, kind in found if kind == "fatal"]
        end = min(fatal) + 1 if fatal else len(statements)
        wrong |= {number for number, _ in found if number < end}
        start = end
    return wrong


def ask(samples: list[Sample], target: str) -> dict[str, list[int] | str]:
    """For each opcode the numbers, among those tried, of the orders that ptxas refuses; "all" of them."""
    texts = [(sample, order) for sample in samples for order in tried(sample.opcode)]
    wrong = refused([sample.statement(order) for sample, order in texts], target)
    result: dict[str, list[int] | str] = {}
    at = 0
    for sample in samples:
        count = len(tried(sample.opcode))
        numbers = [i for i in range(count) if at + i in wrong]
        result[sample.opcode] = "all" if count and len(numbers) == count else numbers
        at += count
    return result


class Collector:
    """Takes down an instruction of each form that the tests decode."""

    def __init__(self) -> None:
        self.samples: dict[tuple[str, frozenset[str]], Sample] = {}

    def collect(self) -> None:
        original = decode._Decoder._instruction

        def instruction(decoder: Any, statement: Any, frame: Any) -> None:
            if statement.family not in decode.FLOW:
                self._note(decoder, statement, frame)
            original(decoder, statement, frame)

        decode._Decoder._instruction = instruction  # type: ignore[method-assign]
        try:
            pytest.main([str(ROOT / "tests" / "simulator"), "-q", "-m", "not slow", "-k",
                         "not differential and not malformed and not modifier", "-p", "no:cacheprovider"])
        finally:
            decode._Decoder._instruction = original  # type: ignore[method-assign]

    def _note(self, decoder: Any, statement: Any, frame: Any) -> None:
        opcode = isa.TABLE.ordered(statement.opcode)
        found = isa.TABLE.find(opcode) if opcode else None
        if found is None or opcode is None:
            return
        key = (found[0].spec, frozenset(name for name, value in found[1].items() if value is not None))
        if key in self.samples:
            return
        self.names: dict[tuple[int, int, str], str] = {}
        self.types: list[tuple[str, str]] = []
        operands = tuple([self._text(decoder._operand(item, frame, statement)) for item in statement.operands])
        self.samples[key] = Sample(opcode, operands, tuple(self.types))

    def _text(self, item: Any) -> str:
        if isinstance(item, resolved.Reg):
            return ("!" if item.negated else "-" if item.minus else "") + self._register(item)
        if isinstance(item, resolved.Const):
            value = item.value
            return str(value) if isinstance(value, int) else "0f" + struct.pack(">f", value).hex()
        if isinstance(item, resolved.Symbol):
            return SPACES[item.space]
        if isinstance(item, resolved.Special):
            return item.name
        if isinstance(item, resolved.Mem):
            inside = [self._text(item.base) + (f"+{item.offset}" if item.offset else ""), *map(self._text, item.extra)]
            return f"[{', '.join(inside)}]"
        if isinstance(item, resolved.Vec):
            return f"{{{', '.join(map(self._text, item.items))}}}"
        if isinstance(item, resolved.Both):
            return f"{self._text(item.first)}|{self._text(item.second)}"
        return f"{self._register(item.reg)}.{item.selector}" if isinstance(item, resolved.Part) else "_"

    def _register(self, reg: resolved.Reg) -> str:
        key = (reg.bits, reg.index, reg.name)
        if key not in self.names:
            self.names[key] = f"r{len(self.types)}"
            self.types.append((self.names[key], reg.type))
        return self.names[key]


def write() -> None:
    collector = Collector()
    collector.collect()
    rest = [sample for sample in collector.samples.values() if tried(sample.opcode)]
    golden: dict[str, Any] = {}
    for target in TARGETS:
        wrong = refused([sample.statement(sample.opcode) for sample in rest], target)
        good = [sample for i, sample in enumerate(rest) if i not in wrong]
        rest = [sample for i, sample in enumerate(rest) if i in wrong]
        answers = ask(good, target)
        golden[target] = [[s.opcode, s.operands, s.registers, answers[s.opcode]] for s in good]
    lines = [json.dumps(target) + ": [\n" + ",\n".join(json.dumps(row) for row in rows) + "]"
             for target, rows in golden.items()]
    GOLDEN.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")
    print("instructions that ptxas takes for none of the targets:", *[sample.opcode for sample in rest], sep="\n  ")


def load() -> dict[str, list[tuple[Sample, list[int]]]]:
    """Of each target the instructions, with the numbers of the tried orders that ptxas refuses."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return {target: [(Sample(opcode, tuple(operands), tuple((n, t) for n, t in registers)),
                      list(range(len(tried(opcode)))) if wrong == "all" else wrong)
                     for opcode, operands, registers, wrong in rows] for target, rows in golden.items()}


if __name__ == "__main__":
    write()
