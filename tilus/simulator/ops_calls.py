"""System calls of device code: vprintf, assertions, and their helpers."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import re
import struct

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.layout import GLOBAL_BASE, LOCAL_WINDOW
from tilus.simulator.machine import Array, Binder, Group, Op, Run
from tilus.simulator.resolved import Resolved, Symbol
from tilus.simulator.schedule import KernelAborted

_LINES = 4096
_SPEC = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?(?:hh|h|ll|l|z|t)?([diouxXcsfFeEgGaAp%])")


def call_argument(b: Binder, op: Op, item: Resolved, lane: int, size: int) -> int:
    """A call argument of one lane: a parameter variable in local memory, or a register."""
    if isinstance(item, Symbol):
        local = b.batch.local
        start = int(local.base[lane]) + item.address
        return int.from_bytes(local.views.data[start:start + size].tobytes(), "little")
    row = b.src(op, item, "b64" if size == 8 else "b32")
    return int(row[lane if row.size > 1 else 0])


def _bytes_at(b: Binder, address: int, lane: int, count: int) -> bytes:
    if LOCAL_WINDOW <= address < LOCAL_WINDOW + (1 << 32):
        local = b.batch.local
        start = int(local.base[lane]) + address - LOCAL_WINDOW
        return bytes(local.views.data[start:start + count].tobytes())
    start = address - GLOBAL_BASE
    data = b.launch.memory.views.data
    if not 0 <= start < data.size:
        return b""
    return bytes(data[start:start + count].tobytes())


def _string(b: Binder, address: int, lane: int) -> str:
    return _bytes_at(b, address, lane, 4096).split(b"\0", 1)[0].decode("utf-8", "replace")


@instr("call.vprintf", writes=0, kind="call")
def vprintf(b: Binder, op: Op) -> Run:
    count = int(op.data) if isinstance(op.data, int) else 0
    results, arguments = op.operands[:count], op.operands[count:]
    if len(arguments) != 2:
        raise b.error(f"{len(arguments)} arguments instead of a format and a buffer", op)

    def run(g: Group) -> None:
        for lane in g.lanes():
            if len(b.launch.printed) >= _LINES:
                break
            text = _string(b, call_argument(b, op, arguments[0], int(lane), 8), int(lane))
            buffer = call_argument(b, op, arguments[1], int(lane), 8)
            b.launch.printed.append(_format(b, text, buffer, int(lane)))
        _set_results(b, results, g, 1)

    return run


def _set_results(b: Binder, results: tuple[Resolved, ...], g: Group, value: int) -> None:
    local = b.batch.local
    for item in results:
        if isinstance(item, Symbol):
            where: Array = local.base[g.lanes()] + item.address
            local.views.store(where, 4, 1, np.full(where.size, value, np.uint32))
            if local.written is not None:
                local.written[where[:, None] + np.arange(4)] = True


def _format(b: Binder, text: str, buffer: int, lane: int) -> str:
    position = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal position
        kind, spec = match.group(1), match.group(0)
        if kind == "%":
            return "%"
        long = "ll" in spec or "l" in spec or "z" in spec or "t" in spec or kind in "sfFeEgGaAp"
        size = 8 if long else 4
        position = (position + size - 1) // size * size
        raw = _bytes_at(b, buffer + position, lane, size)
        position += size
        bare = re.sub(r"hh|h|ll|l|z|t", "", spec[:-1])
        if kind in "fFeEgGaA":
            number = struct.unpack("<d", raw)[0]
            return number.hex() if kind in "aA" else (bare + kind) % number
        integer = int.from_bytes(raw, "little", signed=kind in "di")
        if kind == "s":
            return (bare + "s") % _string(b, integer, lane)
        if kind == "p":
            return hex(integer)
        if kind == "c":
            return chr(integer & 255)
        return (bare + ("d" if kind in "diu" else kind)) % integer

    return _SPEC.sub(replace, text)


@instr("call.__assertfail", "call.__assert_fail", writes=0, kind="call")
def assertfail(b: Binder, op: Op) -> Run:
    count = int(op.data) if isinstance(op.data, int) else 0
    arguments = op.operands[count:]
    if not arguments:
        raise b.error("no arguments", op)

    def run(g: Group) -> None:
        lane = int(g.lanes()[0])
        message = _string(b, call_argument(b, op, arguments[0], lane, 8), lane)
        file = _string(b, call_argument(b, op, arguments[1], lane, 8), lane) if len(arguments) > 1 else "?"
        line = call_argument(b, op, arguments[2], lane, 4) if len(arguments) > 2 else 0
        b.batch.fault("assert", f"assertion `{message}` failed at {file}:{line}", op, lane, count=g.count)
        raise KernelAborted

    return run


@instr("call.(nowhere)", writes=0, kind="call")
def nowhere(b: Binder, op: Op) -> Run:
    """A call through a register that holds no function of the call's prototype."""
    row = b.src(op, op.operands[0], "b64")

    def run(g: Group) -> None:
        lane = int(g.lanes()[0])
        b.batch.fault("value", f"call of {int(row[lane]):#x}, which is no function of the call's prototype", op, lane,
                      count=g.count)
        raise KernelAborted

    return run
