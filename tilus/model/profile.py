"""The profile of a call: what the model says of each of its launches, by line of the source."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from pathlib import Path

from tilus.model.boards import Board
from tilus.model.kernel import KernelModel
from tilus.model.roofline import Roof, roof_of
from tilus.model.sample import Sample
from tilus.model.sass import Program
from tilus.model.steps import REASONS
from tilus.records import field, record
from tilus.runtime.files import write_whole
from tilus.targets import Target


@record(frozen=True)
class LineProfile:
    """One line of the source, or one instruction where the code has no lines.

    Attributes:
        file, number, text: the line.
        instructions: how many instructions it has become.
        issued: its share of all instructions that are issued.
        waited: its share of the cycles that warps wait.
        reasons: of these cycles, the share of each reason.
    """

    file: str
    number: int
    text: str
    instructions: int
    issued: float
    waited: float
    reasons: dict[str, float]


@record(frozen=True)
class LaunchProfile:
    """One launch."""

    program: Program
    sample: Sample
    model: KernelModel
    target: Target
    board: Board

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def threads(self) -> int:
        x, y, z = self.sample.launch.block
        return x * y * z

    def roof(self) -> Roof:
        model = self.model
        return roof_of(self.program, model.executed, self.board, self.target.arch, memory_bytes=model.memory_bytes,
                       l2_bytes=model.l2_bytes, seconds=model.seconds)

    def lines(self) -> list[LineProfile]:
        """The lines, those first at which warps wait most."""
        timing, executed = self.model.timing, self.model.executed
        groups: dict[tuple[str, int], list[int]] = {}
        for number, instruction in enumerate(self.program.instructions):
            if number in executed:
                groups.setdefault(instruction.line or ("", instruction.address), []).append(number)
        total = sum(executed.values()) or 1.0
        waits = {n: [cycles * executed[n] / timing.issues[n] for cycles in timing.waits[n]]
                 for n in executed if n in timing.waits}
        waited = sum(map(sum, waits.values())) or 1.0
        found = []
        for (file, line), numbers in groups.items():
            columns = [sum(waits[n][r] for n in numbers if n in waits) for r in range(len(REASONS))]
            own = sum(columns)
            text = self.program.instructions[numbers[0]].text if not file else linecache.getline(file, line).strip()
            found.append(LineProfile(
                file, line, text, len(numbers), sum(executed[n] for n in numbers) / total, own / waited,
                {reason: c / own for reason, c in zip(REASONS, columns, strict=True) if own and c}))
        return sorted(found, key=lambda line: -(line.waited + line.issued))

    def warps_by_registers(self) -> list[tuple[int, int]]:
        """How many warps a multiprocessor holds, by registers of a thread."""
        return [(r, self._resident(r, self.model.shared))
                for r in range(16, self.target.max_registers_per_thread + 1, 8)]

    def warps_by_shared(self) -> list[tuple[int, int]]:
        """How many warps a multiprocessor holds, by bytes of shared memory of a block."""
        return [(s, self._resident(self.model.registers, s))
                for s in range(0, self.target.shared_per_block_optin + 1, 1024)]

    def _resident(self, registers: int, shared: int) -> int:
        return self.target.resident_blocks(self.threads, registers, shared) * -(-self.threads // 32)


@record
class Profile:
    """What the cost model says of a call. Every figure is the model's: nothing has been measured.

    ``print`` shows it as tables; ``html()`` is one page with pictures, which notebooks show.

    Attributes:
        title: the kernel and its arguments.
        launches: in order.
    """

    title: str
    launches: list[LaunchProfile] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of all launches, one after the other, by the model."""
        return sum(launch.model.seconds for launch in self.launches)

    @property
    def bottleneck(self) -> str:
        """What limits the launch that takes longest."""
        return max(self.launches, key=lambda launch: launch.model.seconds).model.bottleneck if self.launches else ""

    def __iter__(self) -> Iterator[LaunchProfile]:
        return iter(self.launches)

    def __str__(self) -> str:
        from tilus.model.report.text import profile_text

        return profile_text(self)

    def html(self) -> str:
        """One page without references to anything else: roofline, time line, waits by line, occupancy."""
        from tilus.model.report.page import profile_page

        return profile_page(self)

    def save(self, path: str | Path) -> None:
        """Write the page to a file. Raises UserError (E0804) where it cannot be written; what stood there stays."""
        write_whole(Path(path), self.html().encode())

    def _repr_html_(self) -> str:
        return self.html()


__all__ = ["LaunchProfile", "LineProfile", "Profile"]
