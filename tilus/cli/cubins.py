"""Launches of the kernels in a cubin file, as options describe them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import UserError
from tilus.records import record

if TYPE_CHECKING:
    from tilus.model.gpu import SentKernel
    from tilus.model.launch import Launch
    from tilus.targets import Target


@record(frozen=True)
class Asked:
    """What the options say of launches: extents and values for cubins of our own, all else for others."""

    shapes: Sequence[str]
    settings: Sequence[str]
    grid: str | None
    block: str | None
    shared: int
    arguments: Sequence[str]

    @property
    def by_hand(self) -> bool:
        return bool(self.grid or self.block or self.arguments)


def launches_in(text: str, asked: Asked) -> tuple[Target, bytes, list[Launch]]:
    """The launches of ``FILE.cubin[:KERNEL]``: with ``--grid`` as the options say, else of the call for which a cubin
    of our own has its launch function in the file beside it.

    Raises:
        UserError: E0804, the file is not there or is none, or the options do not fit it.
    """
    from tilus.runtime.cubin import read_cubin
    from tilus.targets import get_target

    file, _, name = text.partition(":") if not Path(text).is_file() else (text, "", "")
    path = Path(file)
    cubin = _read(path)
    kernels = read_cubin(cubin)
    beside = path.with_suffix(".json")
    if asked.by_hand or not beside.is_file():
        target = get_target(f"sm_{kernels.arch}")
        return target, cubin, [_by_hand(path, cubin, name, asked)]
    known = _described(beside)
    target = get_target(known["target"])
    return target, cubin, _of_call(beside, known, target, cubin, asked)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError.at("E0804", f"cannot read {str(path)!r}: {error.strerror}") from error


def _described(path: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(_read(path))
        assert {"target", "kernel", "kernels", "module"} <= known.keys()
    except (ValueError, AssertionError):
        raise UserError.at("E0804", f"{str(path)!r} does not describe a cubin's launches",
                           help="compile it again, or give --grid, --block and --arg") from None
    return known


def _of_call(path: Path, known: Mapping[str, Any], target: Target, cubin: bytes, asked: Asked) -> list[Launch]:
    from tilus.cli.calls import extent
    from tilus.cli.loading import parse_settings
    from tilus.model.launch import launches_of

    kernel = _kernel(known, target, cubin)
    launch = kernel.launch_module.launch
    assert launch is not None
    extents, values = dict(map(extent, asked.shapes)), parse_settings(tuple(asked.settings))
    arguments: dict[str, Any] = {}
    for parameter in launch.parameters:
        if parameter.kind == "array":
            arguments[parameter.name] = _shape(parameter.name, parameter.dims, extents, known["constants"])
        elif parameter.name in values:
            arguments[parameter.name] = values[parameter.name]
        else:
            raise UserError.at("E0804", f"there is no value of {parameter.name!r}", help=f"--set {parameter.name}=1")
    return [found for _, found in launches_of(kernel, arguments)]


def _kernel(known: Mapping[str, Any], target: Target, cubin: bytes) -> SentKernel:
    from tilus.ir.parser import parse_module
    from tilus.model.gpu import SentKernel
    from tilus.runtime.nvidia.launch_facts import facts_in

    return SentKernel(known["kernel"], target, parse_module(known["module"]), facts_in(known), cubin)


def _shape(name: str, dims: Sequence[str | int], extents: Mapping[str, int], constants: Mapping[str, Any]) -> Any:
    from tilus.lang.signature import dim_value

    found = []
    numbers = {n: v for n, v in constants.items() if isinstance(v, int)} | dict(extents)
    for dim in dims:
        value = dim if isinstance(dim, int) else dim_value(dim, numbers)
        if value is None:
            raise UserError.at("E0804", f"there is no extent of {dim}, a dimension of {name!r}",
                               help=f"--shape {dim}=4096")
        found.append(int(value))
    return tuple(found)


def _by_hand(path: Path, cubin: bytes, name: str, asked: Asked) -> Launch:
    from tilus.model.launch import Allocator, ArrayAt, Launch
    from tilus.runtime.cubin import read_cubin

    kernels = read_cubin(cubin).kernels
    if not name and len(kernels) == 1:
        name = next(iter(kernels))
    if name not in kernels:
        raise UserError.at("E0804", f"{str(path)!r} has {'no kernel ' + repr(name) if name else 'several kernels'}",
                           help=f"name one: FILE.cubin:KERNEL, with {', '.join(kernels)}")
    info = kernels[name]
    if asked.grid is None:
        raise UserError.at("E0804", f"nothing says with which grid {name!r} is launched",
                           help="--grid 128,1,1 --block 256 --arg 4096 --arg f32[4096,4096]")
    if len(asked.arguments) != len(info.parameters):
        raise UserError.at("E0804", f"{name!r} has {len(info.parameters)} parameters, not {len(asked.arguments)}",
                           help="give --arg for each, in order: numbers, or arrays as f32[4096,4096]")
    memory, arrays = Allocator(), []
    packed = bytearray(info.parameter_bytes)
    for number, (text, place) in enumerate(zip(asked.arguments, info.parameters, strict=True)):
        value = _value(text)
        if isinstance(value, tuple):
            bits, count = value
            size = -(-bits * count // 8)
            arrays.append(ArrayAt(f"argument {number}", memory.take(size), size, bits))
            value = arrays[-1].address
        packed[place.offset:place.offset + place.size] = _bytes(value, place.size)
    return Launch(name, _three(asked.grid, "--grid"), _three(asked.block or str(info.max_threads or 1), "--block"),
                  info.shared + asked.shared, bytes(packed), tuple(arrays))


def _value(text: str) -> int | float | tuple[int, int]:
    """A number, or an array's bits of an element and elements."""
    from tilus.ir.dtypes import parse_dtype

    match = re.fullmatch(r"(\w+)\[([\d,x ]+)\]", text)
    try:
        if match is not None:
            extents = [int(n) for n in match[2].replace("x", ",").split(",") if n.strip()]
            return parse_dtype(match[1]).packed_bits, math.prod(extents)
        return int(text, 0)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise UserError.at("E0804", f"--arg takes a number or an array, not {text!r}",
                           help="--arg 4096 --arg 0.5 --arg f32[4096,4096]") from None


def _bytes(value: int | float, size: int) -> bytes:
    import struct

    if isinstance(value, float):
        return struct.pack("<d" if size == 8 else "<f", value)
    return (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def _three(text: str, option: str) -> tuple[int, int, int]:
    parts = [part for part in re.split(r"[,x]", text) if part.strip()]
    if not 1 <= len(parts) <= 3 or not all(part.strip().isdecimal() for part in parts):
        raise UserError.at("E0804", f"{option} takes up to three numbers, not {text!r}", help=f"{option} 128,1,1")
    x, y, z = (*map(int, parts), 1, 1)[:3]
    return x, y, z


__all__ = ["Asked", "launches_in"]
