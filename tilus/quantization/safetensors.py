"""Files of safetensors: eight bytes that say how long the header is, the header in JSON, and the tensors' bytes."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tilus.ir.dtypes import bf16, f8e4m3fn, f8e5m2, f8e8m0fnu
from tilus.quantization.groups import Array
from tilus.records import record

LONGEST_HEADER = 100_000_000
METADATA = "__metadata__"
TYPES: dict[str, Any] = {
    "BOOL": np.dtype(bool), "U8": np.dtype(np.uint8), "I8": np.dtype(np.int8), "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16), "U32": np.dtype(np.uint32), "I32": np.dtype(np.int32), "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64), "F16": np.dtype(np.float16), "F32": np.dtype(np.float32), "F64": np.dtype(np.float64),
    "BF16": bf16.numpy, "F8_E4M3": f8e4m3fn.numpy, "F8_E5M2": f8e5m2.numpy, "F8_E8M0": f8e8m0fnu.numpy,
}


@record(frozen=True)
class Place:
    """Where a tensor's bytes are, counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_safetensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors of a file, which are read as they are touched and cannot be written, and its metadata.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is none of safetensors, damaged, or has tensors of types that NumPy and ml_dtypes lack.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise ValueError("it is shorter than the length of a header")
        (length,) = struct.unpack("<Q", start)
        if length > min(LONGEST_HEADER, size - 8):
            raise ValueError(f"its header would have {length} bytes, of {size - 8} that follow")
        places, metadata = _parsed(file.read(length))
    _check_places(places, size - 8 - length)
    memory = np.memmap(path, np.uint8, "r", 8 + length) if size > 8 + length else np.zeros(0, np.uint8)
    return {name: memory[p.begin : p.end].view(TYPES[p.dtype]).reshape(p.shape) for name, p in places.items()}, metadata


def _parsed(header: bytes) -> tuple[dict[str, Place], dict[str, str]]:
    """The tensors' places and the metadata. Raises ValueError."""
    if not header.startswith(b"{"):
        raise ValueError("its header is no JSON object")
    try:
        entries = json.loads(header.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"its header is no JSON ({error})") from None
    metadata = entries.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"its {METADATA} is not an object of strings")
    return {name: _place(name, entry) for name, entry in entries.items()}, metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its header names something twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"its header has {text} for a number")


def _place(name: str, entry: Any) -> Place:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name!r} has no type, shape and offsets, or more than these")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in TYPES if isinstance(dtype, str) else True:
        raise ValueError(f"tensor {name!r} is of type {dtype!r}, which is not one of {', '.join(TYPES)}")
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 1 << 62 for n in shape) or len(shape) > 32:
        raise ValueError(f"tensor {name!r} has the shape {shape!r}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(n) is int and n >= 0 for n in offsets):
        raise ValueError(f"tensor {name!r} has the offsets {offsets!r}")
    place = Place(dtype, tuple(shape), *offsets)
    if place.end - place.begin != math.prod(shape) * TYPES[dtype].itemsize:
        raise ValueError(f"tensor {name!r}, {dtype} {shape}, has {place.end - place.begin} bytes")
    return place


def _check_places(places: Mapping[str, Place], size: int) -> None:
    """Tensors lie one behind another and fill the file. Raises ValueError."""
    at = 0
    for name, place in sorted(places.items(), key=lambda item: (item[1].begin, item[1].end)):
        if place.begin != at:
            raise ValueError(f"tensor {name!r} begins at byte {place.begin}, where {at} would follow")
        at = place.end
    if at != size:
        raise ValueError(f"its tensors take {at} bytes, of which there are {size}")


def safetensors_bytes(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """A file of arrays, those of wide elements first, so that all lie aligned.

    Raises:
        TypeError: an array's type is none of the format's.
    """
    names = {dtype: name for name, dtype in TYPES.items()}
    for name, array in arrays.items():
        if array.dtype not in names:
            raise TypeError(f"{name!r} is of {array.dtype}, which files of safetensors lack")
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for name, array in ordered:
        end = at + array.nbytes
        header[name] = {"dtype": names[array.dtype], "shape": list(array.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *(np.ascontiguousarray(a).tobytes() for _, a in ordered)])


__all__ = ["read_safetensors", "safetensors_bytes"]
