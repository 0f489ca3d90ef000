"""What launching a kernel takes, as it stands in the metadata of what has been compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tilus.diagnostics import UserError
from tilus.ir.core import Function
from tilus.ir.types import PointerType
from tilus.records import record
from tilus.runtime.arguments import call_error
from tilus.targets import Target


@record
class LaunchFacts:
    """Of one kernel.

    Attributes:
        threads, warps: of a block.
        dynamic_shared_bytes: of a block.
        raster, folded: how blocks are numbered (``lowering/schedule/raster.py``).
        max_registers: the limit that the user has set.
        cooperative: whether all blocks have to be resident at once.
        arguments: name (``a``, ``a.shape[0]``) and type (``pointer``, ``i32``) of each.
        registers: of a thread, once that is known.
        formats: in which order the elements of prepacked arrays lie, by parameter (``ir/prepacked.py``).
    """

    threads: int
    warps: int
    dynamic_shared_bytes: int
    raster: int
    folded: bool
    max_registers: int | None
    cooperative: bool
    arguments: tuple[tuple[str, str], ...]
    registers: int = 0
    formats: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For the metadata: lists for tuples, as JSON gives them back."""
        return {**asdict(self), "arguments": [list(a) for a in self.arguments],
                "formats": [list(f) for f in self.formats]}


def facts_of(kernel: Function, target: Target) -> LaunchFacts:
    """What launching a thread-level kernel takes."""
    attributes = kernel.attributes
    types = ("pointer" if isinstance(value.type, PointerType) else value.tile.dtype.name for value in kernel.body.args)
    return LaunchFacts(
        threads=target.warp_size * attributes.warps, warps=attributes.warps,
        dynamic_shared_bytes=attributes.shared_bytes, raster=attributes.raster or 0, folded=attributes.folded,
        max_registers=attributes.max_registers, cooperative=attributes.cooperative,
        arguments=tuple(zip(attributes.arguments, types, strict=True)), formats=attributes.formats)


def facts_in(metadata: Mapping[str, Any]) -> dict[str, LaunchFacts]:
    """Of each kernel that something compiled has."""
    return {name: LaunchFacts(**{**facts, "arguments": tuple((n, t) for n, t in facts["arguments"]),
                                 "formats": tuple((n, f) for n, f in facts["formats"])})
            for name, facts in metadata["kernels"].items()}


def formats_of(launches: Mapping[str, LaunchFacts]) -> dict[str, str]:
    """The formats of the prepacked arrays of all kernels."""
    return {name: text for facts in launches.values() for name, text in facts.formats}


def not_resident(name: str, blocks: int, resident: int) -> UserError:
    """The error where the blocks of a cooperative launch cannot all run at once."""
    return call_error("E0606", f"{name} is cooperative, but the device holds {resident} of its {blocks} blocks at once",
                      help="size the grid by tl.resident_blocks()")


__all__ = ["LaunchFacts", "facts_in", "facts_of", "formats_of", "not_resident"]
