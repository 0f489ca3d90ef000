"""What the assemblers give back: a cubin and the resources that ptxas reports for each of its kernels."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from tilus.records import record


@record(frozen=True)
class FunctionUsage:
    """Resources of one function as ``ptxas -v`` prints them: registers of a thread, and bytes."""

    registers: int = 0
    stack: int = 0
    spill_stores: int = 0
    spill_loads: int = 0
    shared: int = 0
    local: int = 0
    constant: int = 0
    barriers: int = 0


@record(frozen=True)
class CubinResult:
    """A cubin and the tool's log, which has the usage of each function.

    ``registers``, ``stack`` and ``shared`` are the largest of any function, the spills are sums in bytes.
    """

    cubin: bytes
    log: str

    @functools.cached_property
    def functions(self) -> Mapping[str, FunctionUsage]:
        return parse_usage(self.log)

    @property
    def registers(self) -> int:
        return max((f.registers for f in self.functions.values()), default=0)

    @property
    def spill_stores(self) -> int:
        return sum(f.spill_stores for f in self.functions.values())

    @property
    def spill_loads(self) -> int:
        return sum(f.spill_loads for f in self.functions.values())

    @property
    def stack(self) -> int:
        return max((f.stack for f in self.functions.values()), default=0)

    @property
    def shared(self) -> int:
        return max((f.shared for f in self.functions.values()), default=0)


# Compiled when the first log is read; re keeps them.
_FUNCTION = r"Compiling entry function '([^']+)' for|Function properties for '?([^\s']+)"
_STACK = r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
_USED = r"Used (\d+) registers(.*)"
_AMOUNT = r"(\d+) bytes (smem|lmem|cmem\[0\])|used (\d+) barriers"
_FIELDS = {"smem": "shared", "lmem": "local", "cmem[0]": "constant"}


def parse_usage(log: str) -> dict[str, FunctionUsage]:
    """The resources in a log of ``ptxas -v`` (NVRTC's log has the same lines) by function name."""
    found: dict[str, dict[str, int]] = {}
    current: dict[str, int] = {}
    for line in log.splitlines():
        if match := re.search(_FUNCTION, line):
            current = found.setdefault(match[1] or match[2], {})
        elif match := re.search(_STACK, line):
            current.update(stack=int(match[1]), spill_stores=int(match[2]), spill_loads=int(match[3]))
        elif match := re.search(_USED, line):
            current["registers"] = int(match[1])
            for amount, unit, barriers in re.findall(_AMOUNT, match[2]):
                if barriers:
                    current["barriers"] = int(barriers)
                else:
                    current[_FIELDS[unit]] = int(amount)
    return {name: FunctionUsage(**fields) for name, fields in found.items()}
