"""Random CUDA C over integers, and what it computes: each value is the address of a store."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilus.model.emulate.code import steps_of, unknown_opcodes
from tilus.model.emulate.lanes import lanes_of
from tilus.model.emulate.machine import Machine, Routine
from tilus.model.emulate.memory import MemoryAccess
from tilus.model.emulate.slices import slice_of
from tilus.model.emulate.state import Observer, State
from tilus.model.flow import flow_of
from tilus.model.launch import ArrayAt, Launch, parameter_bytes
from tilus.model.sass import Program, parse_sass
from tilus.runtime.cubin import constant_banks, read_cubin
from tilus.runtime.toolchains.binutils import disassemble
from tilus.runtime.toolchains.nvrtc import compile_cuda
from tilus.targets import get_target

BASE = 0x7000_0000_0000
TYPES = {"int": (32, True), "unsigned": (32, False), "long long": (64, True), "unsigned long long": (64, False),
         "short": (16, True), "unsigned char": (8, False)}


def wrap(value: int, type_: str) -> int:
    bits, signed = TYPES[type_]
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> bits - 1 else value


class Node:
    """An expression: its type, its text, and its value for one thread."""

    def __init__(self, type_: str, text: str, value: Callable[[dict[str, int]], int]) -> None:
        self.type, self.text, self.value = type_, text, value


def common(a: str, b: str) -> str:
    """The type in which two numbers meet."""
    a, b = (t if TYPES[t][0] >= 32 else "int" for t in (a, b))
    if TYPES[a][0] != TYPES[b][0]:
        return a if TYPES[a][0] > TYPES[b][0] else b
    return a if not TYPES[a][1] else b


def leaf(r: random.Random, names: dict[str, str]) -> Node:
    if r.random() < 0.3:
        type_ = r.choice(list(TYPES)[:4])
        bits, signed = TYPES[type_]
        number = r.choice([1, 2, 3, 5, 7, 10, 31, 255, r.getrandbits(bits - 1), r.getrandbits(12)])
        suffix = "" if type_ == "int" else "u" if type_ == "unsigned" else "ll" if signed else "ull"
        return Node(type_, f"{number}{suffix}", lambda env: number)
    name = r.choice(list(names))
    return Node(names[name], name, lambda env: env[name])


def cast(r: random.Random, a: Node) -> Node:
    type_ = r.choice(list(TYPES))
    return Node(type_, f"({type_})({a.text})", lambda env: wrap(a.value(env), type_))


def expression(r: random.Random, names: dict[str, str], depth: int) -> Node:
    if depth == 0:
        return leaf(r, names)
    a, b = expression(r, names, depth - 1), expression(r, names, r.randrange(depth))
    kind = r.choice(["+", "-", "*", "*", "/", "%", "&", "|", "^", "<<", ">>", "min", "?", "cast", "divc", "neg"])
    if kind == "cast":
        return cast(r, a)
    if kind == "neg":
        type_ = common(a.type, "int")
        return Node(type_, f"-({type_})({a.text})", lambda env: wrap(-a.value(env), type_))
    if kind in ("<<", ">>"):
        type_ = common(a.type, "unsigned") if kind == "<<" else common(a.type, "int")
        mask = TYPES[type_][0] - 1
        shift = r.random() < 0.5
        amount = r.randrange(mask + 1)
        text = str(amount) if shift else f"(({b.text}) & {mask})"

        def shifted(env: dict[str, int]) -> int:
            n = amount if shift else b.value(env) & mask
            value = wrap(a.value(env), type_)
            return wrap(value << n if kind == "<<" else value >> n, type_)

        return Node(type_, f"(({type_})({a.text}) {kind} {text})", shifted)
    type_ = common(a.type, b.type)
    if TYPES[type_][1] and kind in ("+", "-", "*"):  # signed overflow is undefined
        type_ = "unsigned" if TYPES[type_][0] == 32 else "unsigned long long"
    x, y = f"({type_})({a.text})", f"({type_})({b.text})"

    def pair(env: dict[str, int]) -> tuple[int, int]:
        return wrap(a.value(env), type_), wrap(b.value(env), type_)

    if kind in ("/", "%", "divc"):
        unsigned = "unsigned" if TYPES[type_][0] == 32 else "unsigned long long"
        type_ = r.choice([type_, unsigned])
        constant = r.choice([3, 7, 10, 641, 1000003])
        signed = TYPES[type_][1]
        divisor = str(constant) if kind == "divc" else f"(({type_})({b.text}) | ({type_})1)"
        guarded = f"({type_})({a.text})"
        if signed:  # no INT_MIN / -1
            guarded = f"(({guarded}) >> 1)"

        def divided(env: dict[str, int]) -> int:
            p, q = wrap(a.value(env), type_), constant if kind == "divc" else wrap(b.value(env), type_) | 1
            p = p >> 1 if signed else p
            quotient = abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1)
            return wrap(quotient if kind != "%" else p - quotient * q, type_)

        return Node(type_, f"({guarded} {'%' if kind == '%' else '/'} {divisor})", divided)
    if kind == "min":
        sign = r.choice("<>")
        return Node(type_, f"({x} {sign} {y} ? {x} : {y})",
                    lambda env: (min if sign == "<" else max)(pair(env)))
    if kind == "?":
        compare = r.choice(["<", "<=", "==", "!=", ">", ">="])
        c = expression(r, names, 1)
        chosen = common(c.type, type_)

        def select(env: dict[str, int]) -> int:
            p, q = pair(env)
            holds = {"<": p < q, "<=": p <= q, "==": p == q, "!=": p != q, ">": p > q, ">=": p >= q}[compare]
            return wrap(c.value(env) if holds else q, chosen)

        return Node(chosen, f"({x} {compare} {y} ? ({chosen})({c.text}) : ({chosen}){y})", select)
    apply: dict[str, Callable[[int, int], int]] = {
        "+": int.__add__, "-": int.__sub__, "*": int.__mul__, "&": int.__and__, "|": int.__or__, "^": int.__xor__}
    return Node(type_, f"({x} {kind} {y})", lambda env: wrap(apply[kind](*pair(env)), type_))


NAMES = {"t": "int", "x": "unsigned", "y": "long long", "a": "int", "b": "unsigned", "c": "long long",
         "d": "unsigned long long"}


class Stores(Observer):
    """The addresses that stores write, in order, over (blocks, warps, lanes)."""

    def __init__(self) -> None:
        self.found: list[tuple[Any, Any, Any]] = []

    def touch(self, number: int, access: MemoryAccess, state: State) -> None:
        if access.writes and access.space == "global":
            address, known = access.address.read(state)
            self.found.append((np.broadcast_to(address, state.lanes.shape), known,
                               np.broadcast_to(state.active, state.lanes.shape)))


def compile_program(source: str, target: str, name: str = "k",
                    max_registers: int | None = None) -> tuple[Program, bytes]:
    """A kernel of CUDA C, and its cubin."""
    cubin = compile_cuda(source, get_target(target), max_registers=max_registers).cubin
    return parse_sass(disassemble(cubin, ("-c", "-hex")))[name], cubin


def launch_of(cubin: bytes, grid: int, block: int, values: Sequence[tuple[Any, str]], name: str = "k",
              arrays: tuple[ArrayAt, ...] = (), shared: int = 0) -> Launch:
    """One launch along x with parameters of given types."""
    places = [(p.offset, p.size) for p in read_cubin(cubin).kernels[name].parameters]
    return Launch(name, (grid, 1, 1), (block, 1, 1), shared, parameter_bytes(places, values), arrays,
                  constants=constant_banks(cubin, name))


def execute(program: Program, launch: Launch, target: str, observer: Observer) -> Machine:
    """All threads of all blocks, with everything that addresses depend on."""
    flow, steps = flow_of(program), steps_of(program)
    unknown = unknown_opcodes(steps)
    assert unknown == set(), [i.text for i in program.instructions if i.opcode in {u.split(".")[0] for u in unknown}]
    everything = slice_of(program, flow, steps, lambda step: step.memory is not None)
    control = slice_of(program, flow, steps, lambda step: False)
    state = State(launch, get_target(target).arch, lanes_of(launch, range(launch.blocks)))
    state.observer = observer
    machine = Machine(Routine(program, flow, steps, program.index()), everything, state, control)
    machine.run()
    return machine


def check(seed: int, target: str, count: int = 8, depth: int = 4) -> None:
    """Random expressions have, for each thread, the values that Python computes."""
    r = random.Random(seed)
    nodes = [expression(r, NAMES, depth) for _ in range(count)]
    stores = "".join(
        f"  v = (unsigned long long)({node.text}); p[(unsigned)v] = 1; p[(unsigned)(v >> 32)] = 1;\n" for node in nodes)
    source = ('extern "C" __global__ void k(volatile unsigned char* p, int a, unsigned b, long long c,\n'
              "                             unsigned long long d) {\n"
              "  int t = threadIdx.x; unsigned x = t * 2654435761u; long long y = (long long)x * (t - 20) * 77777;\n"
              "  unsigned long long v;\n" + stores + "}\n")
    given = {"a": wrap(r.getrandbits(32), "int"), "b": r.getrandbits(r.choice([8, 32])),
             "c": wrap(r.getrandbits(64), "long long"), "d": r.getrandbits(r.choice([40, 64]))}
    program, cubin = compile_program(source, target)
    values = [(BASE, "pointer"), (given["a"], "i32"), (given["b"], "u32"), (given["c"], "i64"), (given["d"], "u64")]
    launch = launch_of(cubin, 1, 64, values)
    seen = Stores()
    execute(program, launch, target, seen)
    got = np.zeros((2 * count, 64), np.uint64)
    rows = np.zeros(64, int)  # each thread's stores are in order; some may be where others are not
    for address, known, active in seen.found:
        assert known is True or (known | ~active).all(), source
        lanes = np.flatnonzero(active.reshape(-1))
        got[rows[lanes], lanes] = address.reshape(-1)[lanes] - np.uint64(BASE)
        rows[lanes] += 1
    assert (rows == 2 * count).all(), source
    for t in range(64):
        x = t * 2654435761 & 0xFFFFFFFF
        env = {**given, "t": t, "x": x, "y": wrap(x * (t - 20) * 77777, "long long")}
        for n, node in enumerate(nodes):
            value = node.value(env) & 0xFFFF_FFFF_FFFF_FFFF
            want = (value & 0xFFFF_FFFF, value >> 32)
            have = (int(got[2 * n, t]), int(got[2 * n + 1, t]))
            assert have == want, (target, seed, node.text, node.type, env, have, want)
