"""Channels between the matrix core and the vector cores of a block: tiles in global memory, and flags.

A channel has slots, which its tiles take in turn. Each slot has a flag that says that its tile is there, and one that
says that it has been read; those are set once before all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tilus.diagnostics import ResourceError
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.dtypes import DType, i64
from tilus.ir.ops import Binary, Const
from tilus.ir.ops.cores import CrossSet, CrossWait, NextTurn, Receive, Send, Turn
from tilus.ir.types import PointerType, TileType
from tilus.lowering.ascend.core import Core
from tilus.records import record
from tilus.targets.ascend import CROSS_FLAGS, SLOTS


@record(eq=False, slots=True)
class Port:
    """One side's end of a channel: the turn of its slots, and where the block's tiles are."""

    channel: Channel
    turn: Turn
    base: Value
    sends: bool


@record(eq=False)
class Channel:
    """A channel for tiles of ``shape``, whose flags begin at ``number``; ``pointer`` is all blocks' memory."""

    pointer: Value
    dtype: DType
    shape: tuple[int, int]
    number: int
    slots: int

    @property
    def pitch(self) -> int:
        return self.shape[1]

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]


class Channels:
    """The channels of a kernel, whose memory is an argument each."""

    def __init__(self, body: Block, names: list[str], target: str, kernel: Function) -> None:
        self.body, self.names, self.target = body, names, target
        numbers = {op.channel for op in kernel.walk() if isinstance(op, (Send, Receive))}
        self.slots = SLOTS if 2 * SLOTS * len(numbers) <= CROSS_FLAGS else 1
        self.channels: dict[int, Channel] = {}

    def of(self, number: int, tile: TileType, op: Operation) -> Channel:
        """The channel of a number; made for the tiles of the first side that asks, which is the matrix core's."""
        found = self.channels.get(number)
        if found is None:
            if len(tile.shape) != 2:
                raise ResourceError.at("E0508", f"a tile of shape {tile.shape} does not go between the cores of "
                                                f"{self.target}", op.span, help="use tiles of two dimensions")
            slots = self.slots
            first = 2 * slots * len(self.channels)
            if first + 2 * slots > CROSS_FLAGS:
                raise ResourceError.at(
                    "E0508", f"more than {CROSS_FLAGS // 2} kinds of tiles go between the matrix core and "
                             f"the vector cores, which {self.target} has no flags for", op.span,
                    help="divide the kernel, or keep more of it on one side")
            size = slots * tile.shape[0] * tile.shape[1]
            pointer = self.body.add_arg(PointerType(tile.dtype), f"exchange{number}")
            self.names.append(f"workspace[{size}:{tile.dtype.name}]")
            found = self.channels[number] = Channel(pointer, tile.dtype, (tile.shape[0], tile.shape[1]), first, slots)
        return found


class Ports:
    """The ends of a side's channels."""

    def __init__(self, core: Core, channels: Channels, block: Value) -> None:
        self.core, self.channels, self.block = core, channels, block
        self.ports: dict[int, Port] = {}
        self.before: list[Operation] = []
        self.open: set[Port] = set()

    def port(self, number: int, tile: TileType, op: Operation, *, sends: bool) -> Port:
        found = self.ports.get(number)
        if found is None:
            channel = self.channels.of(number, tile, op)
            size = Const(channel.slots * channel.size, i64)
            base = Binary("mul", self.block, size.result)
            turn = Turn(channel.slots)
            self.before += [size, base, turn]
            found = self.ports[number] = Port(channel, turn, base.result, sends)
        return found

    def begin(self, port: Port, pipe: str) -> Value:
        """Wait for the slot whose turn it is; the place of its tile."""
        core, channel = self.core, port.channel
        if port not in self.open:
            core.append(CrossWait(pipe, channel.number + (channel.slots if port.sends else 0), port.turn.result))
        offset = core.add(core.mul(port.turn.result, channel.size), port.base)
        return core.at(channel.pointer, offset)

    def end(self, port: Port, pipe: str) -> None:
        """Say that the tile has been written, or read."""
        if port in self.open:
            return
        channel = port.channel
        self.core.append(CrossSet(pipe, channel.number + (0 if port.sends else channel.slots), port.turn.result))
        self.core.append(NextTurn(port.turn.result, channel.slots))

    @contextmanager
    def held(self, ports: list[Port], pipes: list[str]) -> Iterator[None]:
        """Tiles that several operations write or read, a part each."""
        for port, pipe in zip(ports, pipes, strict=True):
            channel = port.channel
            self.core.append(CrossWait(pipe, channel.number + (channel.slots if port.sends else 0), port.turn.result))
        self.open.update(ports)
        yield
        self.open.difference_update(ports)
        for port, pipe in zip(ports, pipes, strict=True):
            self.end(port, pipe)

    def opening(self) -> list[Operation]:
        """What comes before all: the slots can be written."""
        return [*self.before, *(CrossSet("MTE2", p.channel.number + p.channel.slots + slot)
                                for p in self.ports.values() if not p.sends for slot in range(p.channel.slots))]

    def closing(self, pipe: str) -> list[Operation]:
        """What comes after all: every tile has been read."""
        return [CrossWait(pipe, p.channel.number + p.channel.slots + slot) for p in self.ports.values() if p.sends
                for slot in range(p.channel.slots)]

